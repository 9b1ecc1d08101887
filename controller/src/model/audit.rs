//! The audit log: who asked for what and what came of it, in blocks of which each has the hash of the one
//! before.
//!
//! ```text
//!  block n: previous ◀── sha256(previous in hex, line feed, n, line feed, text) ──▶ block n+1: previous
//!           text: a line for each call, its fields apart by tabs
//! ```

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::world::World;

/// Longest field of an entry, in bytes: a resource's name is below.
pub const FIELD_BYTES_MAX: usize = 200;
/// What the log may take in memory and in the store, in bytes of text: some 400,000 calls.
pub const AUDIT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Beside its text a block takes about as many bytes.
const BLOCK_BYTES: u64 = 150;
const FIELDS: usize = 9;

/// One call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was decided, ms since the epoch.
    pub at_ms: i64,
    /// `tenants/{t}/users/{u}`, `root` or `daemon`.
    pub who: String,
    /// From where it came; empty: from this machine.
    pub address: String,
    /// Such as `PoolService/CreatePool`.
    pub method: String,
    /// The resource that it was about; empty: not known.
    pub target: String,
    /// What was asked for, where target and method do not say it.
    pub detail: String,
    /// `OK`, or the reason of the refusal.
    pub outcome: String,
    /// So many alike, one after the other.
    pub count: u32,
    /// Of the request; empty: it had none.
    pub trace: String,
}

/// What was recorded in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditBlock {
    /// Of the block before; zeros for the first.
    pub previous: [u8; 32],
    /// Of this one.
    pub sha256: [u8; 32],
    /// A line for each entry.
    pub text: String,
}

/// Both ends of what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditHead {
    /// Of the newest block; 0: there is none.
    pub number: u64,
    /// Its hash.
    pub sha256: [u8; 32],
    /// Of the newest block that was dropped; 0: none was.
    pub base_number: u64,
    /// Its hash.
    pub base_sha256: [u8; 32],
}

/// What was approved of a call.
pub const OK: &str = "OK";

impl AuditEntry {
    /// Whether it says the same as another but for its time.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.who, &self.method, &self.target) == (&other.who, &other.method, &other.target)
            && (&self.address, &self.detail, &self.outcome)
                == (&other.address, &other.detail, &other.outcome)
    }

    /// Whether it concerns a tenant: by what it was about, or, where that is nobody's, by who asked. What
    /// people of one tenant do to another, or to hosts, is not the first one's to know.
    pub fn concerns(&self, tenant: &str) -> bool {
        let is_nobodys = self.target.is_empty() || self.target.starts_with("operations/");
        let mut parts = if is_nobodys { &self.who } else { &self.target }.split('/');
        parts.next() == Some("tenants") && parts.next() == Some(tenant)
    }

    fn write(&self, text: &mut String) {
        let at_ms = self.at_ms;
        let fields = [&self.who, &self.address, &self.method, &self.target, &self.detail];
        let _fits = write!(text, "{at_ms}");
        for field in fields.into_iter().chain([&self.outcome]) {
            text.push('\t');
            push_field(text, field);
        }
        let _fits = write!(text, "\t{}\t", self.count);
        push_field(text, &self.trace);
        text.push('\n');
    }

    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let fields: [&str; FIELDS] = fields.try_into().ok()?;
        let [at_ms, who, address, method, target, detail, outcome, count, trace] = fields;
        Some(Self {
            at_ms: at_ms.parse().ok()?,
            who: who.to_owned(),
            address: address.to_owned(),
            method: method.to_owned(),
            target: target.to_owned(),
            detail: detail.to_owned(),
            outcome: outcome.to_owned(),
            count: count.parse().ok()?,
            trace: trace.to_owned(),
        })
    }
}

/// Whatever people typed stays one field of one line.
fn push_field(text: &mut String, field: &str) {
    let mut left = FIELD_BYTES_MAX;
    for letter in field.chars() {
        if left < letter.len_utf8() {
            break;
        }
        left -= letter.len_utf8();
        text.push(if letter.is_control() { ' ' } else { letter });
    }
}

impl AuditBlock {
    /// The block that follows a head.
    pub fn behind(head: &AuditHead, entries: &[AuditEntry]) -> (u64, Self) {
        let mut text = String::new();
        entries.iter().for_each(|entry| entry.write(&mut text));
        let (number, previous) = (head.number + 1, head.sha256);
        let sha256 = hash(&previous, number, &text);
        (number, Self { previous, sha256, text })
    }

    /// Whether its hash is that of what it says.
    pub fn is_whole(&self, number: u64) -> bool {
        self.sha256 == hash(&self.previous, number, &self.text)
    }

    /// What it says, oldest first; a line that cannot be read is left out.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = AuditEntry> {
        self.text.lines().filter_map(AuditEntry::read)
    }

    /// What it takes, bytes.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.text.len()).unwrap_or(u64::MAX).saturating_add(BLOCK_BYTES)
    }
}

fn hash(previous: &[u8; 32], number: u64, text: &str) -> [u8; 32] {
    let mut told = String::with_capacity(64 + 22);
    for byte in previous {
        let _fits = write!(told, "{byte:02x}");
    }
    let _fits = write!(told, "\n{number}\n");
    Sha256::new().chain_update(told).chain_update(text).finalize().into()
}

impl World {
    pub(super) fn put_audit(&mut self, number: u64, block: AuditBlock) {
        self.audit_bytes += block.bytes();
        if let Some(old) = self.audit.insert(number, block) {
            self.audit_bytes = self.audit_bytes.saturating_sub(old.bytes());
        }
    }

    pub(super) fn delete_audit(&mut self, number: u64) {
        if let Some(old) = self.audit.remove(&number) {
            self.audit_bytes = self.audit_bytes.saturating_sub(old.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(detail: &str) -> AuditEntry {
        AuditEntry {
            at_ms: 7,
            who: "tenants/t/users/ana".to_owned(),
            method: "PoolService/CreatePool".to_owned(),
            target: "tenants/t/pools/lab".to_owned(),
            detail: detail.to_owned(),
            outcome: OK.to_owned(),
            count: 1,
            ..AuditEntry::default()
        }
    }

    #[test]
    fn what_is_recorded_is_read_again_and_stays_one_line() {
        let long = "é".repeat(FIELD_BYTES_MAX);
        let entries = [entry("a\tb\nc"), entry(&long)];
        let (number, block) = AuditBlock::behind(&AuditHead::default(), &entries);
        let read: Vec<AuditEntry> = block.entries().collect();
        assert_eq!((number, read[0].detail.as_str()), (1, "a b c"));
        assert_eq!(read[1], entry(&"é".repeat(FIELD_BYTES_MAX / 2)));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn the_hash_is_the_documented_one_and_every_change_breaks_it() {
        let head = AuditHead { number: 4, sha256: [0xab; 32], ..AuditHead::default() };
        let (number, block) = AuditBlock::behind(&head, &[entry("x")]);
        let told = format!("{}\n5\n{}", "ab".repeat(32), block.text);
        assert_eq!(block.sha256, <[u8; 32]>::from(Sha256::digest(told)));
        assert!(block.is_whole(number) && !block.is_whole(number + 1));
        let text = block.text.replace("lab", "law");
        assert!(!AuditBlock { text, ..block.clone() }.is_whole(number));
        assert!(!AuditBlock { previous: [0; 32], ..block }.is_whole(number));
    }

    #[test]
    fn it_concerns_the_tenant_of_its_target_and_where_there_is_none_of_who_asked() {
        for (target, tenant) in [("", "t"), ("operations/1", "t"), ("tenants/tt/users/a", "tt")] {
            let one = AuditEntry { target: target.to_owned(), ..entry("") };
            assert_eq!(["t", "tt"].map(|name| one.concerns(name)), [tenant == "t", tenant == "tt"]);
        }
        let one = AuditEntry { target: "hosts/h".to_owned(), ..entry("") };
        assert!(!one.concerns("t") && !one.concerns("hosts"), "an operator did it");
        let root = AuditEntry { who: "root".to_owned(), ..entry("") };
        assert!(root.concerns("t") && !root.concerns("pools"));
    }
}
