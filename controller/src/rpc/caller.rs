//! Who calls: from the token, the certificate or the local process's user.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tonic::{Request, Status};
use vidi_kit::ids::{TenantId, UserId};
use vidi_kit::tls::Role;
use vidi_kit::transport::{Peer, PeerInfo};

use super::forward::{FORWARDED, OF_ROOT};
use super::status::{not_allowed, signed_out};
use crate::model::{Refusal, World};

/// Role of the installation: hosts, tenants, everything.
pub const OPERATOR: &str = "operator";
/// Role of the installation: sees hosts and all tenants, changes nothing.
pub const INSTALLATION_AUDITOR: &str = "installation-auditor";
/// Role of a tenant: its users, templates and desktops.
pub const ADMIN: &str = "admin";
/// Role of a tenant: sees users, makes, starts, stops and destroys desktops.
pub const HELPDESK: &str = "helpdesk";
/// Role of a tenant: sees.
pub const AUDITOR: &str = "auditor";
/// Role of a tenant: uses desktops.
pub const USER: &str = "user";
/// Every role there is.
pub const ROLES: [&str; 6] = [OPERATOR, INSTALLATION_AUDITOR, ADMIN, HELPDESK, AUDITOR, USER];
/// Those of them that hold in every tenant; only an operator gives them.
pub const INSTALLATION_ROLES: [&str; 2] = [OPERATOR, INSTALLATION_AUDITOR];

/// Longest `authorization` header that is looked at, in bytes; ours are 50.
const AUTHORIZATION_BYTES_MAX: usize = 512;
/// Longest sign-in token that a gateway passes on, in bytes; ours have 43.
const TOKEN_BYTES_MAX: usize = 256;
const ROOT_UID: u32 = 0;

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody that is known.
    Anonymous,
    /// Somebody whose token is not good, or not any more.
    SignedOut,
    /// root on the local socket: the installation's operator.
    Root,
    /// Another user of this machine, on the local socket.
    Local {
        /// The user's number.
        uid: u32,
    },
    /// A daemon, by its certificate.
    Daemon {
        /// Its role.
        role: Role,
        /// Its id within the role.
        id: String,
    },
    /// A person, by the token of a sign-in.
    User(SignedIn),
}

/// A person who has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The user's tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// The user's roles now.
    pub roles: Vec<String>,
    /// Which sign-in.
    pub token_sha256: String,
}

impl Caller {
    /// Who sent a request that passed the authorization layer.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        // A request without one did not come through the layer: nobody may do anything.
        request.extensions().get::<Self>().cloned().ok_or_else(signed_out)
    }

    /// By token, else by connection.
    pub fn find(peer: Option<&PeerInfo>, headers: &HeaderMap, world: &World, now_ms: i64) -> Self {
        match bearer(headers) {
            Bearer::Token(token) => return Self::by_token(&token, world, now_ms),
            Bearer::Malformed => return Self::SignedOut,
            Bearer::None => {}
        }
        match peer.map(|info| &info.peer) {
            None | Some(Peer::Anonymous) => Self::Anonymous,
            // Another controller has seen that it is root: it does not lead, and passes this on.
            Some(Peer::Daemon { role: Role::Controller, .. })
                if headers.get(FORWARDED).is_some_and(|of| of == OF_ROOT) =>
            {
                Self::Root
            }
            Some(Peer::Daemon { role, id }) => Self::Daemon { role: *role, id: id.clone() },
            Some(Peer::Local { uid: ROOT_UID }) => Self::Root,
            Some(Peer::Local { uid }) => Self::Local { uid: *uid },
        }
    }

    fn by_token(token: &str, world: &World, now_ms: i64) -> Self {
        let token_sha256 = token_sha256(token);
        let Some((sign_in, user)) = world.signed_in(&token_sha256, now_ms) else {
            return Self::SignedOut;
        };
        Self::User(SignedIn {
            tenant: sign_in.tenant.clone(),
            user: sign_in.user.clone(),
            roles: world.roles_of(&sign_in.tenant, &sign_in.user, user),
            token_sha256,
        })
    }

    /// Runs the installation.
    pub fn is_operator(&self) -> bool {
        match self {
            Self::Root => true,
            Self::User(who) => who.has(OPERATOR),
            Self::Anonymous | Self::SignedOut | Self::Local { .. } | Self::Daemon { .. } => false,
        }
    }

    /// Is this user.
    pub fn is_user(&self, tenant: &TenantId, user: &UserId) -> bool {
        matches!(self, Self::User(who) if who.tenant == *tenant && who.user == *user)
    }

    /// The person, or a refusal: daemons and root are none.
    pub fn person(&self) -> Result<&SignedIn, Status> {
        match self {
            Self::User(who) => Ok(who),
            Self::Anonymous | Self::SignedOut => Err(signed_out()),
            Self::Root | Self::Local { .. } | Self::Daemon { .. } => Err(not_allowed()),
        }
    }

    /// The daemon's id, or a refusal when it is none of this role.
    pub fn daemon(&self, wanted: Role) -> Result<&str, Status> {
        match self {
            Self::Daemon { role, id } if *role == wanted => Ok(id),
            _ => Err(not_allowed()),
        }
    }
}

impl SignedIn {
    /// Has a role.
    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|one| one == role)
    }
}

/// What is stored of a token or of an enrolment secret: its SHA-256, hex.
pub fn token_sha256(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is stored of a sign-in's token that a gateway passes on.
pub(super) fn sign_in_hash(token: &str) -> Result<String, Refusal> {
    let good = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    good.then(|| token_sha256(token)).ok_or(Refusal::SignedOut)
}

enum Bearer {
    None,
    Malformed,
    Token(String),
}

fn bearer(headers: &HeaderMap) -> Bearer {
    let Some(value) = headers.get(AUTHORIZATION) else { return Bearer::None };
    let token = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= AUTHORIZATION_BYTES_MAX)
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        Some(token) if !token.is_empty() => Bearer::Token(token.to_owned()),
        Some(_) | None => Bearer::Malformed,
    }
}

/// The role that a local user's daemon may enrol for, by the names that the packages make.
pub fn daemon_roles_of(uid: u32) -> &'static [Role] {
    // Read each time: another package may bring its user while this process runs.
    if uid == ROOT_UID {
        &[Role::Agent, Role::Relay, Role::Gateway]
    } else if uid_of("vidi-agent") == Some(uid) {
        &[Role::Agent, Role::Relay]
    } else if uid_of("vidi-gateway") == Some(uid) {
        &[Role::Gateway]
    } else {
        &[]
    }
}

/// From passwd(5): `name:password:uid:...`.
fn uid_of(user: &str) -> Option<u32> {
    uid_in(&std::fs::read_to_string("/etc/passwd").ok()?, user)
}

fn uid_in(passwd: &str, user: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_authorization_header_is_never_taken_as_none() {
        for wrong in ["", "Bearer", "Bearer ", "Basic abc", &format!("Bearer {}", "x".repeat(600))]
        {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, wrong.parse().unwrap());
            let caller = Caller::find(None, &headers, &World::default(), 0);
            assert_eq!(caller, Caller::SignedOut, "{wrong}");
        }
        let nobody = Caller::find(None, &HeaderMap::new(), &World::default(), 0);
        assert_eq!(nobody, Caller::Anonymous);
    }

    #[test]
    fn only_a_controller_is_believed_that_root_calls() {
        let find = |role, of: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED, of.parse().unwrap());
            let peer = Peer::Daemon { role, id: "d".to_owned() };
            let info = PeerInfo { peer, address: None, connection: 1, certified_ms: 0 };
            Caller::find(Some(&info), &headers, &World::default(), 0)
        };
        assert_eq!(find(Role::Controller, "root"), Caller::Root);
        for (role, of) in [
            (Role::Controller, "person"),
            (Role::Gateway, "root"),
            (Role::Agent, "root"),
            (Role::Relay, "root"),
        ] {
            assert_eq!(find(role, of), Caller::Daemon { role, id: "d".to_owned() }, "{role} {of}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, "root".parse().unwrap());
        assert_eq!(Caller::find(None, &headers, &World::default(), 0), Caller::Anonymous);
    }

    #[test]
    fn a_users_number_is_read_from_its_own_line() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nvidi-agent-2:x:7:7::/:/x\n\
                      vidi-agent:x:998:998::/:/usr/sbin/nologin\nbroken\n";
        assert_eq!(uid_in(passwd, "vidi-agent"), Some(998));
        assert_eq!(uid_in(passwd, "vidi-gateway"), None);
        assert_eq!(uid_in(passwd, "broken"), None);
    }
}
