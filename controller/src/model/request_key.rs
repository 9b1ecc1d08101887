//! What makes a repeated request the same request.

/// Makes a repeated request give the first one's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's `request_id`, 1 to 128 printable ASCII letters without '/'.
    pub id: String,
    /// SHA-256 of what is asked, the id left out.
    pub body_sha256: [u8; 32],
    /// Who asks: `tenants/{t}/users/{u}`, or empty for root.
    pub by: String,
}

impl RequestKey {
    /// Under which name it is kept: what one caller asked is nothing to another. No id has a space.
    pub fn kept_as(&self) -> String {
        let Self { id, by, .. } = self;
        if by.is_empty() { id.clone() } else { format!("{id} {}", by.replace('/', ":")) }
    }
}
