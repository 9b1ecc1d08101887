//! Stored form of rows: keys and `vidi.store.v1` messages on one side, the model on the other.

mod reading;
mod rollouts;
mod schedule;
mod tenancy;
mod writing;

pub use reading::row;
pub use writing::value;

use crate::model::host_rule::RuleTarget;
use crate::model::{Key, Step, UsageKey, UsageKind};
use crate::ports::Write;

/// Version of the stored form that this program reads and writes.
pub const SCHEMA: u32 = 1;
const DIGEST_PREFIX: &str = "sha256:";

/// Why a stored entry cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored entry {key} is damaged or of a newer version: {what}")]
pub struct RecordError {
    /// Its key.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

/// A step as the store takes it.
pub fn write(step: &Step) -> Write {
    match step {
        Step::Put(row) => Write::put(key(&row.key()), value(row)),
        Step::Delete(deleted) => Write::delete(key(deleted)),
    }
}

/// A row's key in the store.
pub fn key(key: &Key) -> String {
    match key {
        Key::Installation => "meta/installation".to_owned(),
        Key::GrantKey(id) => format!("grantkey/{id}"),
        Key::Tenant(tenant) => format!("tenant/{tenant}"),
        Key::Branding(tenant) => format!("branding/{tenant}"),
        Key::User(tenant, user) => format!("user/{tenant}/{user}"),
        Key::Group(tenant, group) => format!("group/{tenant}/{group}"),
        Key::Member(tenant, group, user) => format!("member/{tenant}/{group}/{user}"),
        Key::SignIn(hash) => format!("signin/{hash}"),
        Key::EnrollToken(hash) => format!("enroll/{hash}"),
        Key::Template(tenant, id) => format!("template/{tenant}/{id}"),
        Key::Version(tenant, id, digest) => {
            format!("version/{tenant}/{id}/{}", digest.trim_start_matches(DIGEST_PREFIX))
        }
        Key::Host(host) => format!("host/{host}"),
        Key::HostRule(tenant, RuleTarget::Tenant) => format!("hostrule/{tenant}"),
        Key::HostRule(tenant, RuleTarget::Template(id)) => {
            format!("hostrule/{tenant}/template/{id}")
        }
        Key::HostRule(tenant, RuleTarget::Pool(id)) => format!("hostrule/{tenant}/pool/{id}"),
        Key::RemovedHost(host) => format!("removedhost/{host}"),
        Key::Spec(tenant, id) => format!("desktop/{tenant}/{id}/spec"),
        Key::Status(tenant, id) => format!("desktop/{tenant}/{id}/status"),
        Key::Allocation(host, id) => format!("alloc/{host}/{id}"),
        Key::Session(tenant, id) => format!("session/{tenant}/{id}"),
        Key::Machine(tenant, id) => format!("machine/{tenant}/{id}"),
        Key::Pool(tenant, id) => format!("pool/{tenant}/{id}"),
        Key::Forecast(tenant, id) => format!("forecast/{tenant}/{id}"),
        Key::Operation(id) => format!("operation/{id}"),
        Key::Batch(id) => format!("batch/{id}"),
        Key::Rollout(tenant, id) => format!("rollout/{tenant}/{id}"),
        Key::Request(tenant, id) => format!("request/{tenant}/{id}"),
        Key::Usage(UsageKey { tenant, desktop, start_ms, kind }) => {
            let kind = kind_to_stored(*kind);
            format!("usage/{tenant}/{desktop}/{start_ms:016x}/{kind}")
        }
        Key::Alive => "meta/alive".to_owned(),
        Key::Audit(number) => format!("audit/{number:016x}"),
        Key::AuditHead => "meta/audit".to_owned(),
    }
}

const fn kind_to_stored(kind: UsageKind) -> u32 {
    match kind {
        UsageKind::Running => 1,
        UsageKind::Connected => 2,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::model::forecast::Forecast;
    use crate::model::schedule::{Days, Rule, Schedule, Zone};
    use crate::model::{
        ClipboardWays, DesktopSpec, DesktopStatus, DisplayPolicy, EndCause, Guest, ImageFile,
        Machine, MachineSettings, Manifest, Notice, Operation, OperationError, OperationKind,
        Permission, Pin, Place, Pool, PoolKind, PoolSettings, PoolUsers, Power, Presence,
        Readiness, Reason, Recording, ReleasePolicy, Row, Sealed, Session, Suspension,
        TemplateVersion, Trial, TrialPhase, UsageInterval, Video,
    };

    fn session(presence: Presence, epoch: u64, since_ms: i64) -> Session {
        Session {
            user: "ana".parse().unwrap(),
            place: Place::Desktop(vidi_kit::ids::DesktopId::generate()),
            pool: "office".parse().ok(),
            epoch,
            gateway: Some("edge-1".parse().unwrap()),
            create_ms: 5,
            since_ms,
            sought_ms: 0,
            presence,
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
            problem: String::new(),
            notices: vec![Notice {
                number: 3,
                text: "Lunch".to_owned(),
                from: "Ana".to_owned(),
                at_ms: 9,
            }],
        }
    }

    fn machine() -> Machine {
        Machine {
            settings: MachineSettings {
                display_name: "Lab".to_owned(),
                address: "lab.example:5900".to_owned(),
                tls: true,
                ca: "PEM".to_owned(),
                host_name: "lab".to_owned(),
                password: Some(Sealed { wrapped: vec![1; 20], nonce: vec![2; 12] }),
                assigned_user: "ana".parse().ok(),
                display_policy: DisplayPolicy { watermark: true, ..DisplayPolicy::default() },
            },
            app_id: "lab".parse().unwrap(),
            create_ms: 4,
            generation: 7,
        }
    }

    fn operation(end: Option<(i64, Result<(), OperationError>)>) -> Operation {
        Operation {
            kind: OperationKind::Stop,
            tenant: "default".parse().unwrap(),
            desktop: vidi_kit::ids::DesktopId::generate(),
            user: "ana".parse().ok(),
            generation: 4,
            stage: "waits".to_owned(),
            create_ms: 6,
            end,
        }
    }

    fn spec() -> DesktopSpec {
        DesktopSpec {
            display_name: "Desk".to_owned(),
            template: "micro".parse().unwrap(),
            template_digest: "sha256:ab".to_owned(),
            assigned_user: Some("ana".parse().unwrap()),
            power_on: true,
            force_off: true,
            deleting: true,
            generation: 8,
            create_ms: 1,
            app_id: "desk".parse().unwrap(),
            restarting: true,
            release_policy: ReleasePolicy::Delete,
            display_policy: DisplayPolicy {
                clipboard: ClipboardWays::FromGuest,
                files: Permission::Denied,
                recording: Recording::Always,
                watermark: true,
                ..DisplayPolicy::default()
            },
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
            pool: "office".parse().ok(),
            restored: true,
        }
    }

    fn trial() -> Trial {
        Trial {
            rollout: vidi_kit::ids::RolloutId::generate(),
            digest: "sha256:2".to_owned(),
            desktops_max: 2,
            beyond_need: true,
            ready_ms: 60_000,
            phase: TrialPhase::Withdrawn,
        }
    }

    fn schedule() -> Schedule {
        Schedule {
            zone: Zone::find("Europe/Rome").unwrap(),
            rules: vec![
                Rule {
                    days: Days::of([0, 4]),
                    from: "07:30".parse().unwrap(),
                    to: "18:00".parse().unwrap(),
                    min_spare: Some(0),
                    max_desktops: None,
                },
                Rule {
                    days: Days::ALL,
                    from: "00:00".parse().unwrap(),
                    to: "24:00".parse().unwrap(),
                    min_spare: None,
                    max_desktops: Some(7),
                },
            ],
        }
    }

    #[test]
    fn a_pool_and_a_session_that_waits_survive_their_stored_form() {
        let tenant: vidi_kit::ids::TenantId = "default".parse().unwrap();
        let id: vidi_kit::ids::PoolId = "office".parse().unwrap();
        let settings = PoolSettings {
            display_name: "Office".to_owned(),
            template: "micro".parse().unwrap(),
            kind: PoolKind::Dedicated,
            min_spare: 2,
            max_desktops: 9,
            users: PoolUsers::Listed(["ana", "ben"].map(|id| id.parse().unwrap()).into()),
            disconnect_secs: Some(60),
            max_session_secs: Some(3_600),
            idle_secs: Some(900),
            user_sessions_max: Some(2),
            schedule: schedule(),
            forecast: false,
            release_policy: ReleasePolicy::Keep,
            display_policy: DisplayPolicy { watermark: true, ..DisplayPolicy::default() },
        };
        let suspended = Some(Suspension { since_ms: 7, reason: "no disk".to_owned() });
        let pool = Pool {
            settings: settings.clone(),
            app_id: "office".parse().unwrap(),
            create_ms: 4,
            generation: 3,
            deleting: true,
            suspended,
            failures_ms: vec![5, 6],
            pin: Some(Pin { digest: "sha256:1".to_owned(), since_ms: 4 }),
            trial: Some(trial()),
        };
        let floating = PoolSettings {
            kind: PoolKind::Floating,
            users: PoolUsers::Everyone,
            disconnect_secs: None,
            max_session_secs: None,
            idle_secs: None,
            user_sessions_max: None,
            schedule: Schedule::default(),
            forecast: true,
            release_policy: ReleasePolicy::Delete,
            ..settings
        };
        let plain = Pool {
            settings: floating,
            suspended: None,
            deleting: false,
            failures_ms: Vec::new(),
            pin: None,
            trial: None,
            ..pool.clone()
        };
        let mut learned = Forecast::new(7);
        learned.learn(33, 40);
        let waits = Session { place: Place::Pool(id), ..session(Presence::Opening, 0, 5) };
        for row in [
            Row::Pool(tenant.clone(), id, pool),
            Row::Pool(tenant.clone(), id, plain),
            Row::Forecast(tenant.clone(), id, Box::new(learned)),
            Row::Session(tenant, vidi_kit::ids::SessionId::generate(), waits),
        ] {
            let read = super::row(&key(&row.key()), &value(&row), 7).unwrap();
            assert_eq!(read, Some(row));
        }
    }

    #[test]
    fn every_kind_of_row_survives_its_stored_form() {
        let tenant: vidi_kit::ids::TenantId = "default".parse().unwrap();
        let desktop = vidi_kit::ids::DesktopId::generate();
        let file = ImageFile { file: "d".to_owned(), sha256: "0".repeat(64), size_bytes: 9 };
        let guest = Guest {
            memory_mib: 64,
            vcpus: 1,
            video: Video::Vga,
            readiness: Readiness::Agent,
            sound: true,
        };
        let manifest = Manifest {
            disk: file.clone(),
            kernel: Some(file),
            initrd: None,
            cmdline: "quiet".to_owned(),
            guest,
        };
        let status = DesktopStatus {
            power: Power::Failed("no disk".to_owned()),
            host: Some("h1".parse().unwrap()),
            session: Some(vidi_kit::ids::SessionId::generate()),
            observed_generation: 3,
            ..DesktopStatus::default()
        };
        let error = OperationError { reason: Reason::NoHost, message: "full".to_owned() };
        let session_id = vidi_kit::ids::SessionId::generate;
        let of = |one: Session| Row::Session(tenant.clone(), session_id(), one);
        let operation_id = vidi_kit::ids::OperationId::generate;
        let usage_key = |kind| UsageKey { tenant: tenant.clone(), desktop, start_ms: 5, kind };
        let interval = |end_ms| UsageInterval {
            user: Some("ana".parse().unwrap()),
            display_name: "Desk".to_owned(),
            end_ms,
            session: end_ms.map(|_| vidi_kit::ids::SessionId::generate()),
            machine: end_ms.is_some(),
        };
        for row in [
            Row::GrantKey("c1".to_owned(), vec![1; 32], 3),
            Row::Version(
                tenant.clone(),
                "micro".parse().unwrap(),
                "sha256:ab".to_owned(),
                TemplateVersion { manifest, create_ms: 2 },
            ),
            Row::Spec(tenant.clone(), desktop, spec()),
            Row::Status(tenant.clone(), desktop, status),
            of(session(Presence::Opening, 0, 5)),
            of(session(Presence::Disconnected(77), 2, 77)),
            of(session(Presence::Ended(EndCause::Away(600)), 2, 9)),
            of(session(Presence::Ended(EndCause::NoHost), 2, 9)),
            Row::Usage(usage_key(UsageKind::Running), interval(Some(7))),
            Row::Usage(usage_key(UsageKind::Connected), interval(None)),
            Row::Alive(99),
            Row::Operation(operation_id(), operation(None)),
            Row::Operation(operation_id(), operation(Some((7, Ok(()))))),
            Row::Operation(operation_id(), operation(Some((7, Err(error))))),
        ] {
            let read = super::row(&key(&row.key()), &value(&row), 77).unwrap();
            assert_eq!(read, Some(row));
        }
    }

    #[test]
    fn a_machine_and_a_session_on_it_survive_their_stored_form() {
        let (tenant, id) = ("default".parse().unwrap(), vidi_kit::ids::MachineId::generate());
        let on_it = Session {
            place: Place::Machine(id),
            pool: None,
            ..session(Presence::Disconnected(7), 2, 7)
        };
        let session_id = vidi_kit::ids::SessionId::generate();
        let (one, other) = (machine(), machine());
        let open = MachineSettings { password: None, assigned_user: None, ..other.settings };
        for row in [
            Row::Machine(vidi_kit::ids::TenantId::clone(&tenant), id, one),
            Row::Machine(tenant.clone(), id, Machine { settings: open, ..machine() }),
            Row::Session(tenant, session_id, on_it),
        ] {
            let read = super::row(&key(&row.key()), &value(&row), 7).unwrap();
            assert_eq!(read, Some(row));
        }
    }

    #[test]
    fn an_end_of_which_no_known_cause_was_kept_is_told_in_its_own_words() {
        let id = vidi_kit::ids::SessionId::generate();
        let one = session(Presence::Ended(EndCause::SwitchedOff), 2, 9);
        let key = format!("session/default/{id}");
        let bytes = value(&Row::Session("default".parse().unwrap(), id, one.clone()));
        let mut stored = vidi_proto::store::v1::Session::decode(bytes).unwrap();
        // Before causes were kept, and of a newer program.
        for cause in [0, u32::MAX] {
            stored.end_cause = cause;
            stored.end_reason = "the moon was full".to_owned();
            let read = row(&key, &stored.encode_to_vec(), 77).unwrap();
            let told = Presence::Ended(EndCause::Told("the moon was full".to_owned()));
            let one = Session { presence: told, ..one.clone() };
            assert_eq!(read, Some(Row::Session("default".parse().unwrap(), id, one)));
        }
    }

    #[test]
    fn other_keys_are_left_alone_and_damage_is_told() {
        assert_eq!(row("pki/internal", b"x", 0), Ok(None));
        assert!(row("session/default/nobody", b"", 0).is_err());
        assert!(row("host/h1", b"\xff\xff", 0).is_err());
    }
}
