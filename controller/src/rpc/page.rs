//! Pages of lists: their size, and tokens that name the last element and the query it belongs to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::Status;

use super::caller::token_sha256;
use super::status::{invalid_field, page_token_invalid};

/// Elements in a page when nothing is asked for; as the contract says.
const SIZE_DEFAULT: usize = 100;
/// Elements in a page at most; as the contract says.
const SIZE_MAX: usize = 1_000;
/// Longest token that is looked at, in bytes; ours are below 250.
const TOKEN_BYTES_MAX: usize = 512;

/// What a list request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Elements behind this one; none: from the first.
    pub after: Option<String>,
    /// So many elements.
    pub size: usize,
    mark: String,
}

impl Query {
    /// The list of `kind` under `parent`. A size of 0 means the default, a larger one than the most
    /// is cut, and a token of another list is refused.
    pub fn new(kind: &str, parent: &str, page_size: i32, page_token: &str) -> Result<Self, Status> {
        let size = match usize::try_from(page_size) {
            Ok(0) => SIZE_DEFAULT,
            Ok(asked) => asked.min(SIZE_MAX),
            Err(_negative) => return Err(invalid_field("page_size", "it is not negative")),
        };
        let mark = token_sha256(&format!("{kind} of {parent}")).chars().take(12).collect();
        let mut query = Self { after: None, size, mark };
        if !page_token.is_empty() {
            query.after = Some(query.read(page_token).ok_or_else(page_token_invalid)?);
        }
        Ok(query)
    }

    fn read(&self, token: &str) -> Option<String> {
        if TOKEN_BYTES_MAX < token.len() {
            return None;
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (mark, name) = text.split_once('|')?;
        (mark == self.mark).then(|| name.to_owned())
    }

    /// The token of the next page; empty when `found`, of which one more than `size` was looked for,
    /// has no further one.
    pub fn next<T>(&self, found: &[T], name: impl Fn(&T) -> String) -> String {
        match found.get(self.size.saturating_sub(1)) {
            Some(last) if self.size < found.len() => self.token(&name(last)),
            Some(_) | None => String::new(),
        }
    }

    /// The token of a page behind this element.
    pub fn token(&self, name: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}|{name}", self.mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_behind_the_last_element_of_its_own_list_only() {
        let first = Query::new("users", "tenants/a", 2, "").unwrap();
        assert_eq!((first.size, first.after.as_deref()), (2, None));
        let token = first.next(&["x", "y", "z"], |name| (*name).to_owned());
        assert_eq!(first.next(&["x", "y"], |name| (*name).to_owned()), "");
        let second = Query::new("users", "tenants/a", 2, &token).unwrap();
        assert_eq!(second.after.as_deref(), Some("y"));
        for (kind, parent) in [("hosts", "tenants/a"), ("users", "tenants/b")] {
            assert!(Query::new(kind, parent, 2, &token).is_err(), "{kind} {parent}");
        }
        for wrong in ["x", "eA", &"A".repeat(600)] {
            assert!(Query::new("users", "tenants/a", 2, wrong).is_err(), "{wrong}");
        }
        assert!(Query::new("users", "", -1, "").is_err());
        assert_eq!(Query::new("users", "", i32::MAX, "").unwrap().size, SIZE_MAX);
    }
}
