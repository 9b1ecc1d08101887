//! Identifiers: parsed at the edge into types that cannot be wrong.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a valid {kind}: {rule}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// From a UUID.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// A new one, never used before (UUID version 7, RFC 9562).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Takes the hyphenated lower-case form only, so that one thing has one name.
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text)
                    .ok()
                    .filter(|id| id.hyphenated().to_string() == text)
                    .map(Self)
                    .ok_or_else(|| IdError {
                        kind: $kind,
                        text: shorten(text),
                        rule: "a hyphenated lower-case UUID is expected",
                    })
            }
        }
    };
}

/// Ids that are texts: copies share theirs, since keys of maps are made of them all the time.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $bytes_max:literal, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Eq)]
        pub struct $name(Arc<str>);

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl Ord for $name {
            /// As the texts. A search among a hundred thousand keys of one tenant compares it with itself.
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    return Ordering::Equal;
                }
                self.0.cmp(&other.0)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(char) -> bool = $allowed;
                let plain = !text.is_empty()
                    && text.len() <= $bytes_max
                    && text.chars().all(allowed)
                    && text.starts_with(|first: char| first.is_ascii_alphanumeric());
                if plain {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { kind: $kind, text: shorten(text), rule: $rule })
                }
            }
        }
    };
}

uuid_id!(
    /// A desktop; also the UUID of its domain in libvirt.
    DesktopId,
    "desktop id"
);
uuid_id!(
    /// A physical machine. No desktop of the installation has the same UUID.
    MachineId,
    "machine id"
);
uuid_id!(
    /// A session.
    SessionId,
    "session id"
);
uuid_id!(
    /// A long-running operation.
    OperationId,
    "operation id"
);
uuid_id!(
    /// A roll-out of a template's version.
    RolloutId,
    "roll-out id"
);
uuid_id!(
    /// One installation of Vidi.
    InstallationId,
    "installation id"
);
text_id!(
    /// A tenant.
    TenantId, "tenant id", 40, dns_char, "1 to 40 of a-z, 0-9 and dash are expected"
);
text_id!(
    /// A group of users within its tenant.
    GroupId, "group id", 40, dns_char, "1 to 40 of a-z, 0-9 and dash are expected"
);
text_id!(
    /// A template within its tenant.
    TemplateId, "template id", 40, dns_char, "1 to 40 of a-z, 0-9 and dash are expected"
);
text_id!(
    /// An entry on users' menus within its tenant.
    AppId, "app id", 63, dns_char, "1 to 63 of a-z, 0-9 and dash are expected"
);
text_id!(
    /// A KVM machine with an agent.
    HostId, "host id", 63, dns_char, "1 to 63 of a-z, 0-9 and dash are expected"
);
text_id!(
    /// An edge gateway.
    GatewayId, "gateway id", 63, dns_char, "1 to 63 of a-z, 0-9 and dash are expected"
);
text_id!(
    /// A user within a tenant.
    UserId, "user id", 64, user_char, "1 to 64 of a-z, 0-9, dot, dash and underscore are expected"
);

/// A pool within its tenant. It is small and of one size, so that it is copied like the ids that are
/// numbers: what a session is on may name one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId {
    /// INVARIANT: 1 to 40 of a-z, 0-9 and dash, the first a letter; then zeros only.
    letters: [u8; Self::BYTES_MAX],
}

impl PoolId {
    const BYTES_MAX: usize = 40;
    /// Before every pool of a tenant in the order of ids; it is no pool's.
    pub const LEAST: Self = Self { letters: [0; Self::BYTES_MAX] };

    /// The text.
    pub fn as_str(&self) -> &str {
        let end = self.letters.iter().position(|letter| *letter == 0);
        let (text, _) = self.letters.split_at(end.unwrap_or(Self::BYTES_MAX));
        str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for PoolId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let plain = text.chars().all(dns_char)
            && text.starts_with(|first: char| first.is_ascii_lowercase());
        let mut letters = [0; Self::BYTES_MAX];
        match letters.get_mut(..text.len()).filter(|_| plain) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Ok(Self { letters })
            }
            None => Err(IdError {
                kind: "pool id",
                text: shorten(text),
                rule: "1 to 40 of a-z, 0-9 and dash are expected, the first a letter",
            }),
        }
    }
}

/// One request of a person and all that follows from it: ties log lines of all daemons together.
///
/// INVARIANT: not 0, which W3C Trace Context (section 3.2.2.3) forbids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// A new one, random.
    pub fn generate() -> Self {
        Self(Uuid::new_v4().as_u128())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for TraceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let plain = text.len() == 32 && text.bytes().all(hex);
        let number = plain.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.filter(|number| *number != 0).map(Self).ok_or_else(|| IdError {
            kind: "trace id",
            text: shorten(text),
            rule: "32 of 0-9 and a-f are expected, not all 0",
        })
    }
}

fn dns_char(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
}

fn user_char(letter: char) -> bool {
    dns_char(letter) || letter == '.' || letter == '_'
}

/// A hostile name must not fill a log line.
fn shorten(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = DesktopId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<DesktopId>().is_err());
        assert!("nobody".parse::<DesktopId>().is_err());
    }

    #[test]
    fn a_trace_has_one_spelling_and_is_never_nothing() {
        let trace = TraceId::generate();
        assert_eq!(trace.to_string().parse(), Ok(trace));
        let long = "1".repeat(33);
        for wrong in ["", &"0".repeat(32), &"A".repeat(32), &"+".repeat(32), &"1".repeat(31), &long]
        {
            assert!(wrong.parse::<TraceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pool_id_begins_with_a_letter_and_sorts_as_its_text() {
        let longest = "z".repeat(40);
        let mut texts = ["office-2", "a", "office", "office-10", &longest];
        let mut ids = texts.map(|text| text.parse::<PoolId>().unwrap());
        texts.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids.map(|id| id.to_string()), texts);
        assert!(ids.iter().all(|id| PoolId::LEAST < *id));
        for wrong in ["", "-x", "2x", "a/b", "A", "ä", "a_b", &"a".repeat(41), "a\0"] {
            assert!(wrong.parse::<PoolId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_text_id_keeps_to_its_letters_and_length() {
        let ana = "ana.garcia_2".parse::<UserId>().unwrap();
        assert_eq!(ana.as_str().as_ptr(), ana.clone().as_str().as_ptr(), "copies share the text");
        let [other, ben] = ["ana.garcia_2", "ben"].map(|text| text.parse::<UserId>().unwrap());
        assert_ne!(ana.as_str().as_ptr(), other.as_str().as_ptr());
        assert_eq!((ana == other, ana.cmp(&other)), (true, Ordering::Equal));
        assert_eq!((ana == ben, ana.cmp(&ben)), (false, Ordering::Less));
        for wrong in ["", "-x", "a/b", "A", "ä", &"a".repeat(65)] {
            assert!(wrong.parse::<UserId>().is_err(), "{wrong}");
        }
    }
}
