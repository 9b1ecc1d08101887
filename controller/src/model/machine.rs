//! A physical machine: a desktop without an agent, reached as a SPICE server.

use std::fmt;

use vidi_kit::ids::{AppId, UserId};

use super::display_policy::DisplayPolicy;

/// A physical machine, as it is kept. Who is on it is the matter of its live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What its makers choose.
    pub settings: MachineSettings,
    /// Its id on users' menus.
    pub app_id: AppId,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
    /// Goes up by one with every change.
    pub generation: u64,
}

/// What is chosen of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSettings {
    /// For people.
    pub display_name: String,
    /// `host:port` of its SPICE server; up to 4, separated by commas.
    pub address: String,
    /// Spoken with TLS.
    pub tls: bool,
    /// PEM: what its certificate must descend from, or be itself.
    pub ca: String,
    /// What the certificate must be issued to; empty: the host of the first `address`.
    pub host_name: String,
    /// Its SPICE password; none: it asks for none.
    pub password: Option<Sealed>,
    /// Whose menu it is on; none: everybody's of the tenant.
    pub assigned_user: Option<UserId>,
    /// What passes between it and browsers.
    pub display_policy: DisplayPolicy,
}

/// A secret, wrapped by the controller's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The secret and its tag, AES-256-GCM.
    pub wrapped: Vec<u8>,
    /// 12 bytes.
    pub nonce: Vec<u8>,
}

impl Machine {
    /// Whether it is on this user's menu.
    pub fn is_for(&self, user: &UserId) -> bool {
        self.settings.assigned_user.as_ref().is_none_or(|assigned| assigned == user)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealed(..)")
    }
}
