//! From libvirt's states, numbers and errors to the port's.

use virt::error::{Error, ErrorNumber};
use virt::sys;

use crate::error::HypervisorError;
use crate::model::{DomainPower, PauseCause};
use vidi_kit::ids::DesktopId;

/// What QEMU and libvirt say when memory is short.
const NO_MEMORY_TEXTS: [&str; 3] =
    ["Cannot allocate memory", "cannot set up guest memory", "out of memory"];

/// What libvirt says of a domain that has ended, is listed no longer and is not yet forgotten
/// (`virDomainObjListAddLocked`).
const BEING_REMOVED_TEXT: &str = "already being removed";

/// A domain's state with its reason (virDomainState, virDomainPausedReason).
pub(super) fn power(state: sys::virDomainState, reason: i32) -> DomainPower {
    let reason = u32::try_from(reason).unwrap_or_default();
    match state {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => DomainPower::Running,
        sys::VIR_DOMAIN_PAUSED => match reason {
            sys::VIR_DOMAIN_PAUSED_STARTING_UP => DomainPower::Starting,
            sys::VIR_DOMAIN_PAUSED_IOERROR => DomainPower::Paused(PauseCause::IoError),
            sys::VIR_DOMAIN_PAUSED_CRASHED => DomainPower::Crashed,
            sys::VIR_DOMAIN_PAUSED_SHUTTING_DOWN => DomainPower::ShuttingDown,
            _ => DomainPower::Paused(PauseCause::External),
        },
        sys::VIR_DOMAIN_PMSUSPENDED => DomainPower::Paused(PauseCause::Guest),
        sys::VIR_DOMAIN_SHUTDOWN => DomainPower::ShuttingDown,
        sys::VIR_DOMAIN_CRASHED => DomainPower::Crashed,
        _ => DomainPower::Off,
    }
}

/// `major * 1000000 + minor * 1000 + release` as text.
pub(super) fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

/// An error of a call about one desktop.
pub(super) fn error(what: &'static str, id: DesktopId, error: &Error) -> HypervisorError {
    let text = error.message().to_owned();
    match error.code() {
        ErrorNumber::NoDomain => HypervisorError::NoDomain(id),
        ErrorNumber::NoMemory => HypervisorError::NoMemory { id, text },
        ErrorNumber::OperationInvalid
        | ErrorNumber::AgentUnresponsive
        | ErrorNumber::AgentUnsynced
        | ErrorNumber::AgentCommandTimeout
        | ErrorNumber::ResourceBusy => HypervisorError::NotNow(text),
        _ if NO_MEMORY_TEXTS.iter().any(|known| text.contains(known)) => {
            HypervisorError::NoMemory { id, text }
        }
        _ if text.contains(BEING_REMOVED_TEXT) => HypervisorError::NotNow(text),
        _ => HypervisorError::Refused { what, text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pause_that_nobody_here_made_is_external() {
        let paused = |reason: u32| power(sys::VIR_DOMAIN_PAUSED, i32::try_from(reason).unwrap());
        assert_eq!(paused(sys::VIR_DOMAIN_PAUSED_STARTING_UP), DomainPower::Starting);
        assert_eq!(paused(sys::VIR_DOMAIN_PAUSED_USER), DomainPower::Paused(PauseCause::External));
        assert_eq!(power(sys::VIR_DOMAIN_RUNNING, 1), DomainPower::Running);
        assert_eq!(power(sys::VIR_DOMAIN_SHUTOFF, 1), DomainPower::Off);
    }

    #[test]
    fn versions_are_read_by_people() {
        assert_eq!(version(7_002_022), "7.2.22");
    }
}
