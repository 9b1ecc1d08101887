//! Stored form of rows: keys and `vidi.store.v1` messages on one side, the model on the other.

use bytes::Bytes;
use prost::Message;
use vidi_proto::store::v1 as stored;
use vidi_proto::v1 as wire;

pub use crate::contract::{
    manifest_from_wire, manifest_to_wire, policy_from_wire, policy_to_wire, power_from_wire,
    power_to_wire,
};
use crate::model::{
    Allocation, DesktopSpec, DesktopStatus, EnrollToken, Host, Installation, Key, Operation,
    OperationError, OperationKind, Power, Presence, Reason, ReleasePolicy, Request, Row, Session,
    SignIn, Step, Template, TemplateVersion, Tenant, UsageInterval, UsageKey, UsageKind, User,
};
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
        Key::User(tenant, user) => format!("user/{tenant}/{user}"),
        Key::SignIn(hash) => format!("signin/{hash}"),
        Key::EnrollToken(hash) => format!("enroll/{hash}"),
        Key::Template(tenant, id) => format!("template/{tenant}/{id}"),
        Key::Version(tenant, id, digest) => {
            format!("version/{tenant}/{id}/{}", digest.trim_start_matches(DIGEST_PREFIX))
        }
        Key::Host(host) => format!("host/{host}"),
        Key::RemovedHost(host) => format!("removedhost/{host}"),
        Key::Spec(tenant, id) => format!("desktop/{tenant}/{id}/spec"),
        Key::Status(tenant, id) => format!("desktop/{tenant}/{id}/status"),
        Key::Allocation(host, id) => format!("alloc/{host}/{id}"),
        Key::Session(tenant, id) => format!("session/{tenant}/{id}"),
        Key::Operation(id) => format!("operation/{id}"),
        Key::Request(tenant, id) => format!("request/{tenant}/{id}"),
        Key::Usage(UsageKey { tenant, desktop, start_ms, kind }) => {
            let kind = kind_to_stored(*kind);
            format!("usage/{tenant}/{desktop}/{start_ms:016x}/{kind}")
        }
        Key::Alive => "meta/alive".to_owned(),
    }
}

/// A row's value in the store.
pub fn value(row: &Row) -> Bytes {
    match row {
        Row::Installation(one) => encode(&stored::Installation {
            id: one.id.to_string(),
            schema: SCHEMA,
            create_ms: one.create_ms,
        }),
        Row::GrantKey(_, public_key, create_ms) => {
            encode(&stored::GrantKey { public_key: public_key.clone(), create_ms: *create_ms })
        }
        Row::Tenant(_, one) => encode(&stored::Tenant {
            display_name: one.display_name.clone(),
            create_ms: one.create_ms,
        }),
        Row::User(_, _, one) => encode(&stored::User {
            display_name: one.display_name.clone(),
            roles: one.roles.clone(),
            password_hash: one.password_hash.clone(),
            create_ms: one.create_ms,
        }),
        Row::SignIn(_, one) => encode(&stored::SignIn {
            tenant: one.tenant.to_string(),
            user: one.user.to_string(),
            create_ms: one.create_ms,
            expire_ms: one.expire_ms,
        }),
        Row::EnrollToken(_, one) => encode(&stored::EnrollToken {
            role: one.role.clone(),
            id: one.id.clone(),
            expire_ms: one.expire_ms,
            used: one.used,
        }),
        Row::Template(_, _, one) => encode(&stored::Template {
            display_name: one.display_name.clone(),
            latest_digest: one.latest_digest.clone(),
            create_ms: one.create_ms,
        }),
        Row::Version(_, _, _, one) => encode(&stored::TemplateVersion {
            manifest: manifest_to_wire(&one.manifest).encode_to_vec(),
            create_ms: one.create_ms,
        }),
        Row::Host(_, one) => encode(&host_to_stored(one)),
        Row::RemovedHost(_, remove_ms) => encode(&stored::RemovedHost { remove_ms: *remove_ms }),
        Row::Spec(_, _, one) => encode(&spec_to_stored(one)),
        Row::Status(_, _, one) => encode(&status_to_stored(one)),
        Row::Allocation(_, _, one) => encode(&stored::Allocation {
            tenant: one.tenant.to_string(),
            memory_mib: one.memory_mib,
        }),
        Row::Session(_, _, one) => encode(&session_to_stored(one)),
        Row::Operation(_, one) => encode(&operation_to_stored(one)),
        Row::Request(_, _, one) => encode(&stored::Request {
            body_sha256: one.body_sha256.to_vec(),
            operation: one.operation.map(|id| id.to_string()).unwrap_or_default(),
            resource: one.resource.clone(),
            create_ms: one.create_ms,
            by: one.by.clone(),
        }),
        Row::Usage(key, one) => encode(&stored::UsageInterval {
            kind: kind_to_stored(key.kind),
            user: one.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            display_name: one.display_name.clone(),
            start_ms: key.start_ms,
            end_ms: one.end_ms.unwrap_or(0),
            session: one.session.map(|id| id.to_string()).unwrap_or_default(),
        }),
        Row::Alive(at_ms) => encode(&stored::Alive { at_ms: *at_ms }),
    }
}

/// The row of a stored entry; none for keys that are not rows (`pki/...`, `leader/...`). `now_ms`
/// is since when a session that was open is taken as disconnected.
pub fn row(key: &str, value: &[u8], now_ms: i64) -> Result<Option<Row>, RecordError> {
    let parts: Vec<&str> = key.split('/').collect();
    let read = Reader { key, value };
    Ok(Some(match parts.as_slice() {
        ["meta", "installation"] => Row::Installation(read.installation()?),
        ["grantkey", id] => {
            let one: stored::GrantKey = read.message()?;
            Row::GrantKey((*id).to_owned(), one.public_key, one.create_ms)
        }
        ["tenant", tenant] => {
            let one: stored::Tenant = read.message()?;
            let one = Tenant { display_name: one.display_name, create_ms: one.create_ms };
            Row::Tenant(read.id(tenant)?, one)
        }
        ["user", tenant, user] => Row::User(read.id(tenant)?, read.id(user)?, read.user()?),
        ["signin", hash] => Row::SignIn((*hash).to_owned(), read.sign_in()?),
        ["enroll", hash] => {
            let one: stored::EnrollToken = read.message()?;
            let one = EnrollToken {
                role: one.role,
                id: one.id,
                expire_ms: one.expire_ms,
                used: one.used,
            };
            Row::EnrollToken((*hash).to_owned(), one)
        }
        ["template", tenant, id] => {
            let one: stored::Template = read.message()?;
            let one = Template {
                display_name: one.display_name,
                latest_digest: one.latest_digest,
                create_ms: one.create_ms,
            };
            Row::Template(read.id(tenant)?, read.id(id)?, one)
        }
        ["version", tenant, id, digest] => {
            let digest = format!("{DIGEST_PREFIX}{digest}");
            Row::Version(read.id(tenant)?, read.id(id)?, digest, read.version()?)
        }
        ["host", host] => Row::Host(read.id(host)?, read.host()?),
        ["removedhost", host] => {
            Row::RemovedHost(read.id(host)?, read.message::<stored::RemovedHost>()?.remove_ms)
        }
        ["desktop", tenant, id, "spec"] => Row::Spec(read.id(tenant)?, read.id(id)?, read.spec()?),
        ["desktop", tenant, id, "status"] => {
            Row::Status(read.id(tenant)?, read.id(id)?, read.status()?)
        }
        ["alloc", host, id] => {
            let one: stored::Allocation = read.message()?;
            let one = Allocation { tenant: read.id(&one.tenant)?, memory_mib: one.memory_mib };
            Row::Allocation(read.id(host)?, read.id(id)?, one)
        }
        ["session", tenant, id] => {
            Row::Session(read.id(tenant)?, read.id(id)?, read.session(now_ms)?)
        }
        ["operation", id] => Row::Operation(read.id(id)?, read.operation()?),
        ["request", tenant, id] => {
            Row::Request(read.id(tenant)?, (*id).to_owned(), read.request()?)
        }
        ["usage", tenant, desktop, _, _] => {
            let (start_ms, kind, one) = read.usage()?;
            let (tenant, desktop) = (read.id(tenant)?, read.id(desktop)?);
            Row::Usage(UsageKey { tenant, desktop, start_ms, kind }, one)
        }
        ["meta", "alive"] => {
            let one: stored::Alive = read.message()?;
            Row::Alive(one.at_ms)
        }
        _ => return Ok(None),
    }))
}

const fn kind_to_stored(kind: UsageKind) -> u32 {
    match kind {
        UsageKind::Running => 1,
        UsageKind::Connected => 2,
    }
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn host_to_stored(one: &Host) -> stored::Host {
    stored::Host {
        create_ms: one.create_ms,
        cordoned: one.cordoned,
        draining: one.draining,
        stop_in_use: one.stop_in_use,
        removing: one.removing.iter().map(ToString::to_string).collect(),
    }
}

fn spec_to_stored(one: &DesktopSpec) -> stored::DesktopSpec {
    stored::DesktopSpec {
        display_name: one.display_name.clone(),
        template: one.template.to_string(),
        template_digest: one.template_digest.clone(),
        assigned_user: one.assigned_user.as_ref().map(ToString::to_string).unwrap_or_default(),
        power_on: one.power_on,
        force_off: one.force_off,
        deleting: one.deleting,
        generation: one.generation,
        create_ms: one.create_ms,
        app_id: one.app_id.to_string(),
        restarting: one.restarting,
        release_policy: u32::try_from(i32::from(policy_to_wire(one.release_policy))).unwrap_or(0),
        trace: one.trace.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn status_to_stored(one: &DesktopStatus) -> stored::DesktopStatus {
    let (power, failure) = power_to_wire(&one.power);
    stored::DesktopStatus {
        power: u32::try_from(i32::from(power)).unwrap_or(0),
        reason: if failure.is_empty() { one.reason.clone() } else { failure },
        host: one.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        session: one.session.map(|id| id.to_string()).unwrap_or_default(),
        observed_generation: one.observed_generation,
        power_since_ms: one.power_since_ms,
        acceleration: one.acceleration.clone(),
    }
}

fn session_to_stored(one: &Session) -> stored::Session {
    let (ended, end_reason, end_ms) = match &one.presence {
        Presence::Ended(reason) => (true, reason.clone(), one.since_ms),
        Presence::Opening | Presence::Connected | Presence::Disconnected(_) => {
            (false, String::new(), 0)
        }
    };
    stored::Session {
        user: one.user.to_string(),
        desktop: one.desktop.to_string(),
        epoch: one.epoch,
        gateway: one.gateway.as_ref().map(ToString::to_string).unwrap_or_default(),
        ended,
        end_reason,
        create_ms: one.create_ms,
        end_ms,
        trace: one.trace.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn operation_to_stored(one: &Operation) -> stored::Operation {
    let resource = format!("tenants/{}/desktops/{}", one.tenant, one.desktop);
    let mut record = stored::Operation {
        kind: one.kind.as_str().to_owned(),
        target: resource.clone(),
        create_ms: one.create_ms,
        generation: one.generation,
        stage: one.stage.clone(),
        ..stored::Operation::default()
    };
    if let Some((end_ms, result)) = &one.end {
        record.done = true;
        record.end_ms = *end_ms;
        match result {
            Ok(()) => record.resource = resource,
            Err(error) => {
                record.error_reason = error.reason.as_str().to_owned();
                record.error_message.clone_from(&error.message);
            }
        }
    }
    record
}

/// One stored entry, while it is read.
struct Reader<'a> {
    key: &'a str,
    value: &'a [u8],
}

impl Reader<'_> {
    fn error(&self, what: impl ToString) -> RecordError {
        RecordError { key: self.key.to_owned(), what: what.to_string() }
    }

    fn message<M: Message + Default>(&self) -> Result<M, RecordError> {
        M::decode(self.value).map_err(|error| self.error(error))
    }

    fn id<T: std::str::FromStr<Err = vidi_kit::ids::IdError>>(
        &self,
        text: &str,
    ) -> Result<T, RecordError> {
        text.parse().map_err(|error| self.error(error))
    }

    fn maybe_id<T: std::str::FromStr<Err = vidi_kit::ids::IdError>>(
        &self,
        text: &str,
    ) -> Result<Option<T>, RecordError> {
        if text.is_empty() { Ok(None) } else { self.id(text).map(Some) }
    }

    fn host(&self) -> Result<Host, RecordError> {
        let one: stored::Host = self.message()?;
        Ok(Host {
            create_ms: one.create_ms,
            cordoned: one.cordoned,
            draining: one.draining,
            stop_in_use: one.stop_in_use,
            removing: one.removing.iter().map(|id| self.id(id)).collect::<Result<_, _>>()?,
        })
    }

    fn installation(&self) -> Result<Installation, RecordError> {
        let one: stored::Installation = self.message()?;
        if one.schema != SCHEMA {
            return Err(self.error(format!("schema {} instead of {SCHEMA}", one.schema)));
        }
        Ok(Installation { id: self.id(&one.id)?, create_ms: one.create_ms })
    }

    fn sign_in(&self) -> Result<SignIn, RecordError> {
        let one: stored::SignIn = self.message()?;
        Ok(SignIn {
            tenant: self.id(&one.tenant)?,
            user: self.id(&one.user)?,
            create_ms: one.create_ms,
            expire_ms: one.expire_ms,
        })
    }

    fn user(&self) -> Result<User, RecordError> {
        let one: stored::User = self.message()?;
        Ok(User {
            display_name: one.display_name,
            roles: one.roles,
            password_hash: one.password_hash,
            create_ms: one.create_ms,
        })
    }

    fn version(&self) -> Result<TemplateVersion, RecordError> {
        let one: stored::TemplateVersion = self.message()?;
        let manifest = wire::TemplateManifest::decode(one.manifest.as_slice())
            .map_err(|error| self.error(error))?;
        let manifest = manifest_from_wire(manifest).ok_or_else(|| self.error("manifest"))?;
        Ok(TemplateVersion { manifest, create_ms: one.create_ms })
    }

    fn spec(&self) -> Result<DesktopSpec, RecordError> {
        let one: stored::DesktopSpec = self.message()?;
        Ok(DesktopSpec {
            display_name: one.display_name,
            template: self.id(&one.template)?,
            template_digest: one.template_digest,
            assigned_user: self.maybe_id(&one.assigned_user)?,
            power_on: one.power_on,
            force_off: one.force_off,
            deleting: one.deleting,
            generation: one.generation,
            create_ms: one.create_ms,
            app_id: self.id(&one.app_id)?,
            restarting: one.restarting,
            release_policy: self.policy(one.release_policy)?,
            trace: self.maybe_id(&one.trace)?,
        })
    }

    fn policy(&self, number: u32) -> Result<ReleasePolicy, RecordError> {
        let known = i32::try_from(number).ok().and_then(|number| number.try_into().ok());
        known.map(policy_from_wire).ok_or_else(|| self.error("release policy"))
    }

    fn usage(&self) -> Result<(i64, UsageKind, UsageInterval), RecordError> {
        let one: stored::UsageInterval = self.message()?;
        let kind = UsageKind::ALL.into_iter().find(|kind| kind_to_stored(*kind) == one.kind);
        let interval = UsageInterval {
            user: self.maybe_id(&one.user)?,
            display_name: one.display_name,
            end_ms: (one.end_ms != 0).then_some(one.end_ms),
            session: self.maybe_id(&one.session)?,
        };
        Ok((one.start_ms, kind.ok_or_else(|| self.error("kind"))?, interval))
    }

    fn status(&self) -> Result<DesktopStatus, RecordError> {
        let one: stored::DesktopStatus = self.message()?;
        let power = i32::try_from(one.power).ok().and_then(|number| number.try_into().ok());
        let power = power.and_then(|power| power_from_wire(power, &one.reason));
        let power = power.ok_or_else(|| self.error("power"))?;
        let reason = if matches!(power, Power::Failed(_)) { String::new() } else { one.reason };
        Ok(DesktopStatus {
            power,
            reason,
            power_since_ms: one.power_since_ms,
            host: self.maybe_id(&one.host)?,
            session: self.maybe_id(&one.session)?,
            observed_generation: one.observed_generation,
            acceleration: one.acceleration,
        })
    }

    fn session(&self, now_ms: i64) -> Result<Session, RecordError> {
        let one: stored::Session = self.message()?;
        let (presence, since_ms) = if one.ended {
            (Presence::Ended(one.end_reason), one.end_ms)
        } else if one.epoch == 0 {
            (Presence::Opening, one.create_ms)
        } else {
            (Presence::Disconnected(now_ms), now_ms)
        };
        Ok(Session {
            user: self.id(&one.user)?,
            desktop: self.id(&one.desktop)?,
            epoch: one.epoch,
            gateway: self.maybe_id(&one.gateway)?,
            create_ms: one.create_ms,
            since_ms,
            sought_ms: 0,
            presence,
            trace: self.maybe_id(&one.trace)?,
        })
    }

    fn operation(&self) -> Result<Operation, RecordError> {
        let one: stored::Operation = self.message()?;
        let parts: Vec<&str> = one.target.split('/').collect();
        let ["tenants", tenant, "desktops", desktop] = parts.as_slice() else {
            return Err(self.error("target"));
        };
        let kind = OperationKind::parse(&one.kind).ok_or_else(|| self.error("kind"))?;
        let end = if !one.done {
            None
        } else if one.error_reason.is_empty() {
            Some((one.end_ms, Ok(())))
        } else {
            let reason = Reason::parse(&one.error_reason).ok_or_else(|| self.error("reason"))?;
            Some((one.end_ms, Err(OperationError { reason, message: one.error_message })))
        };
        Ok(Operation {
            kind,
            tenant: self.id(tenant)?,
            desktop: self.id(desktop)?,
            generation: one.generation,
            stage: one.stage,
            create_ms: one.create_ms,
            end,
        })
    }

    fn request(&self) -> Result<Request, RecordError> {
        let one: stored::Request = self.message()?;
        let body = <[u8; 32]>::try_from(one.body_sha256.as_slice());
        Ok(Request {
            body_sha256: body.map_err(|error| self.error(error))?,
            operation: self.maybe_id(&one.operation)?,
            resource: one.resource,
            by: one.by,
            create_ms: one.create_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Guest, ImageFile, Manifest, Readiness, Video};

    fn session(presence: Presence, epoch: u64, since_ms: i64) -> Session {
        Session {
            user: "ana".parse().unwrap(),
            desktop: vidi_kit::ids::DesktopId::generate(),
            epoch,
            gateway: Some("edge-1".parse().unwrap()),
            create_ms: 5,
            since_ms,
            sought_ms: 0,
            presence,
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
        }
    }

    fn operation(end: Option<(i64, Result<(), OperationError>)>) -> Operation {
        Operation {
            kind: OperationKind::Stop,
            tenant: "default".parse().unwrap(),
            desktop: vidi_kit::ids::DesktopId::generate(),
            generation: 4,
            stage: "waits".to_owned(),
            create_ms: 6,
            end,
        }
    }

    #[test]
    fn every_kind_of_row_survives_its_stored_form() {
        let tenant: vidi_kit::ids::TenantId = "default".parse().unwrap();
        let desktop = vidi_kit::ids::DesktopId::generate();
        let file = ImageFile { file: "d".to_owned(), sha256: "0".repeat(64), size_bytes: 9 };
        let guest =
            Guest { memory_mib: 64, vcpus: 1, video: Video::Vga, readiness: Readiness::Agent };
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
        let spec = DesktopSpec {
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
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
        };
        let error = OperationError { reason: Reason::NoHost, message: "full".to_owned() };
        let session_id = vidi_kit::ids::SessionId::generate;
        let operation_id = vidi_kit::ids::OperationId::generate;
        let usage_key = |kind| UsageKey { tenant: tenant.clone(), desktop, start_ms: 5, kind };
        let interval = |end_ms| UsageInterval {
            user: Some("ana".parse().unwrap()),
            display_name: "Desk".to_owned(),
            end_ms,
            session: end_ms.map(|_| vidi_kit::ids::SessionId::generate()),
        };
        for row in [
            Row::GrantKey("c1".to_owned(), vec![1; 32], 3),
            Row::Version(
                tenant.clone(),
                "micro".parse().unwrap(),
                "sha256:ab".to_owned(),
                TemplateVersion { manifest, create_ms: 2 },
            ),
            Row::Spec(tenant.clone(), desktop, spec),
            Row::Status(tenant.clone(), desktop, status),
            Row::Session(tenant.clone(), session_id(), session(Presence::Opening, 0, 5)),
            Row::Session(tenant.clone(), session_id(), session(Presence::Disconnected(77), 2, 77)),
            Row::Usage(usage_key(UsageKind::Running), interval(Some(7))),
            Row::Usage(usage_key(UsageKind::Connected), interval(None)),
            Row::Alive(99),
            Row::Session(tenant, session_id(), session(Presence::Ended("left".to_owned()), 2, 9)),
            Row::Operation(operation_id(), operation(None)),
            Row::Operation(operation_id(), operation(Some((7, Ok(()))))),
            Row::Operation(operation_id(), operation(Some((7, Err(error))))),
        ] {
            let read = super::row(&key(&row.key()), &value(&row), 77).unwrap();
            assert_eq!(read, Some(row));
        }
    }

    #[test]
    fn other_keys_are_left_alone_and_damage_is_told() {
        assert_eq!(row("pki/internal", b"x", 0), Ok(None));
        assert!(row("session/default/nobody", b"", 0).is_err());
        assert!(row("host/h1", b"\xff\xff", 0).is_err());
    }
}
