//! Who may pass a folder or use a file, by owner, group and mode: asked for users that we are not.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest file of users or groups that is read, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 16 << 20;

/// A user of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    uid: u32,
    groups: Vec<u32>,
}

const EXECUTE: u32 = 1;

impl User {
    /// The first of these names that the machine knows (passwd(5), group(5)).
    pub(super) fn first_of(names: &[&str]) -> Option<Self> {
        let passwd = read_accounts(Path::new("/etc/passwd"))?;
        let groups = read_accounts(Path::new("/etc/group"))?;
        names.iter().find_map(|name| Self::parse(name, &passwd, &groups))
    }

    fn parse(name: &str, passwd: &str, groups: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse::<u32>);
        let (uid, own_group) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let member_of = groups.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let group = fields.next()?.parse().ok()?;
            fields.next()?.split(',').any(|member| member == name).then_some(group)
        });
        let groups = std::iter::once(own_group).chain(member_of).collect();
        Some(Self { name: name.to_owned(), uid, groups })
    }

    /// The first folder on the way to `path`, itself included, that this user may not pass; and
    /// its mode. Access control lists are not looked at.
    pub(super) fn stopped_at(&self, path: &Path) -> io::Result<Option<(PathBuf, u32)>> {
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let metadata = std::fs::metadata(folder)?;
            if metadata.is_dir() && !self.may(EXECUTE, &metadata) {
                return Ok(Some((folder.to_owned(), metadata.mode() & 0o7777)));
            }
        }
        Ok(None)
    }

    fn may(&self, right: u32, metadata: &std::fs::Metadata) -> bool {
        let shift = if self.uid == metadata.uid() {
            6
        } else if self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        self.uid == 0 || metadata.mode() >> shift & right == right
    }
}

fn read_accounts(path: &Path) -> Option<String> {
    let fits = std::fs::metadata(path).ok()?.len() <= ACCOUNTS_BYTES_MAX;
    fits.then(|| std::fs::read_to_string(path).ok())?
}

/// `crw-rw---- root:kvm`, as ls(1) shows it.
pub(super) fn owner_and_mode(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    let name = |file: &str, id: u32| {
        let text = read_accounts(Path::new(file)).unwrap_or_default();
        let found = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
        });
        found.unwrap_or_else(|| id.to_string())
    };
    let (user, group) = (name("/etc/passwd", metadata.uid()), name("/etc/group", metadata.gid()));
    Ok(format!("{:04o} {user}:{group}", metadata.mode() & 0o7777))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nqemu:x:64055:108:,,,:/:/bin/false\n";
    const GROUP: &str = "kvm:x:108:\nvidi:x:999:someone,qemu\nother:x:7:qemux\n";

    #[test]
    fn a_user_has_its_own_group_and_those_that_name_it() {
        let user = User::parse("qemu", PASSWD, GROUP).unwrap();
        assert_eq!((user.uid, user.groups.as_slice()), (64_055, [108, 999].as_slice()));
        assert_eq!(User::parse("nobody", PASSWD, GROUP), None);
    }

    #[test]
    fn the_folder_that_stops_a_user_is_named() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("images/deep");
        std::fs::create_dir_all(&inner).unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(top.path(), 0o755);
        set(&inner, 0o711);
        let stranger = User { name: "x".to_owned(), uid: 4_000_000, groups: vec![4_000_000] };
        set(inner.parent().unwrap(), 0o700);
        let (folder, mode) = stranger.stopped_at(&inner).unwrap().unwrap();
        assert_eq!((folder.as_path(), mode), (inner.parent().unwrap(), 0o700));
        set(inner.parent().unwrap(), 0o711);
        assert_eq!(stranger.stopped_at(&inner).unwrap(), None);
        let metadata = std::fs::metadata(&inner).unwrap();
        let owner = User { name: "o".to_owned(), uid: metadata.uid(), groups: vec![] };
        set(&inner, 0o700);
        assert_eq!(owner.stopped_at(&inner).unwrap(), None);
    }
}
