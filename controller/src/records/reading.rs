//! What the store kept, as the model.

use prost::Message;
use vidi_proto::store::v1 as stored;
use vidi_proto::v1 as wire;

use super::{DIGEST_PREFIX, RecordError, SCHEMA, kind_to_stored, rollouts, schedule};
use crate::contract::{
    cause_from_wire, display_policy_from_wire, manifest_from_wire, policy_from_wire,
    power_from_wire,
};
use crate::model::forecast::Forecast;
use crate::model::schedule::{Schedule, Zone};
use crate::model::{
    Allocation, DesktopSpec, DesktopStatus, DisplayPolicy, EnrollToken, Host, Installation,
    Machine, MachineSettings, Operation, OperationError, OperationKind, Place, Pool, PoolKind,
    PoolSettings, PoolUsers, Power, Presence, Reason, ReleasePolicy, Request, Row, Sealed, Session,
    SignIn, Suspension, Template, TemplateVersion, UsageInterval, UsageKey, UsageKind, User,
};

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
        ["template", tenant, id] => {
            let one: stored::Template = read.message()?;
            let one = Template {
                display_name: one.display_name,
                latest_digest: one.latest_digest,
                create_ms: one.create_ms,
                publish_ms: one.publish_ms,
                published_before: one.published_before,
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
        ["machine", tenant, id] => Row::Machine(read.id(tenant)?, read.id(id)?, read.machine()?),
        ["pool", tenant, id] => Row::Pool(read.id(tenant)?, read.id(id)?, read.pool()?),
        ["forecast", tenant, id] => {
            Row::Forecast(read.id(tenant)?, read.id(id)?, Box::new(read.forecast()?))
        }
        ["operation", id] => Row::Operation(read.id(id)?, read.operation()?),
        ["batch", id] => {
            let one = rollouts::batch_from_stored(read.message()?);
            Row::Batch(read.id(id)?, Box::new(one.ok_or_else(|| read.error("batch"))?))
        }
        ["rollout", tenant, id] => {
            let one = rollouts::rollout_from_stored(read.message()?);
            let one = one.ok_or_else(|| read.error("roll-out"))?;
            Row::Rollout(read.id(tenant)?, read.id(id)?, Box::new(one))
        }
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
        ["meta", "restored"] => return read.restored(),
        parts => return read.of_tenancy(parts),
    }))
}

/// One stored entry, while it is read.
pub(super) struct Reader<'a> {
    key: &'a str,
    value: &'a [u8],
}

impl Reader<'_> {
    pub(super) fn error(&self, what: impl ToString) -> RecordError {
        RecordError { key: self.key.to_owned(), what: what.to_string() }
    }

    pub(super) fn message<M: Message + Default>(&self) -> Result<M, RecordError> {
        M::decode(self.value).map_err(|error| self.error(error))
    }

    pub(super) fn id<T: std::str::FromStr<Err = vidi_kit::ids::IdError>>(
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
            failure_domain: one.failure_domain,
            labels: one.labels.into_iter().collect(),
        })
    }

    fn installation(&self) -> Result<Installation, RecordError> {
        let one: stored::Installation = self.message()?;
        if one.schema != SCHEMA {
            return Err(self.error(format!("schema {} instead of {SCHEMA}", one.schema)));
        }
        Ok(Installation { id: self.id(&one.id)?, create_ms: one.create_ms })
    }

    pub(super) fn sign_in(&self) -> Result<SignIn, RecordError> {
        let one: stored::SignIn = self.message()?;
        Ok(SignIn {
            tenant: self.id(&one.tenant)?,
            user: self.id(&one.user)?,
            create_ms: one.create_ms,
            expire_ms: one.expire_ms,
        })
    }

    pub(super) fn enroll_token(&self) -> Result<EnrollToken, RecordError> {
        let stored::EnrollToken { role, id, expire_ms, used } = self.message()?;
        Ok(EnrollToken { role, id, expire_ms, used })
    }

    pub(super) fn user(&self) -> Result<User, RecordError> {
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

    /// No row: it only tells whether there is all of a backup.
    fn restored(&self) -> Result<Option<Row>, RecordError> {
        let one: stored::Restored = self.message()?;
        let part = || self.error("a backup was restored only in part: restore it again");
        one.finished.then_some(None).ok_or_else(part)
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
            display_policy: self.display_policy(&one.display_policy)?,
            trace: self.maybe_id(&one.trace)?,
            pool: self.maybe_id(&one.pool)?,
            restored: one.restored,
        })
    }

    fn display_policy(&self, bytes: &[u8]) -> Result<DisplayPolicy, RecordError> {
        let policy = wire::DisplayPolicy::decode(bytes).map_err(|error| self.error(error))?;
        display_policy_from_wire(&policy).map_err(|field| self.error(field))
    }

    fn policy(&self, number: u32) -> Result<ReleasePolicy, RecordError> {
        known(number).map(policy_from_wire).ok_or_else(|| self.error("release policy"))
    }

    fn usage(&self) -> Result<(i64, UsageKind, UsageInterval), RecordError> {
        let one: stored::UsageInterval = self.message()?;
        let kind = UsageKind::ALL.into_iter().find(|kind| kind_to_stored(*kind) == one.kind);
        let interval = UsageInterval {
            user: self.maybe_id(&one.user)?,
            display_name: one.display_name,
            end_ms: (one.end_ms != 0).then_some(one.end_ms),
            session: self.maybe_id(&one.session)?,
            machine: one.machine,
        };
        Ok((one.start_ms, kind.ok_or_else(|| self.error("kind"))?, interval))
    }

    fn status(&self) -> Result<DesktopStatus, RecordError> {
        let one: stored::DesktopStatus = self.message()?;
        let power = known(one.power).and_then(|power| power_from_wire(power, &one.reason));
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
            let code = known(one.end_cause).unwrap_or_default();
            let cause = cause_from_wire(code, one.away_secs, one.end_reason);
            (Presence::Ended(cause), one.end_ms)
        } else if one.epoch == 0 {
            (Presence::Opening, one.create_ms)
        } else {
            (Presence::Disconnected(now_ms), now_ms)
        };
        let pool = self.maybe_id(&one.pool)?;
        Ok(Session {
            user: self.id(&one.user)?,
            place: match (self.maybe_id(&one.machine)?, pool) {
                (Some(machine), _) => Place::Machine(machine),
                (None, Some(pool)) if one.desktop.is_empty() => Place::Pool(pool),
                (None, _) => Place::Desktop(self.id(&one.desktop)?),
            },
            pool,
            epoch: one.epoch,
            gateway: self.maybe_id(&one.gateway)?,
            create_ms: one.create_ms,
            since_ms,
            sought_ms: 0,
            presence,
            trace: self.maybe_id(&one.trace)?,
            problem: String::new(),
            notices: one.notices.into_iter().map(rollouts::notice_from_stored).collect(),
        })
    }

    fn machine(&self) -> Result<Machine, RecordError> {
        let one: stored::Machine = self.message()?;
        let sealed = Sealed { wrapped: one.wrapped_password, nonce: one.nonce };
        Ok(Machine {
            settings: MachineSettings {
                display_name: one.display_name,
                address: one.address,
                tls: one.tls,
                ca: one.ca,
                host_name: one.host_name,
                password: (!sealed.wrapped.is_empty()).then_some(sealed),
                assigned_user: self.maybe_id(&one.assigned_user)?,
                display_policy: self.display_policy(&one.display_policy)?,
            },
            app_id: self.id(&one.app_id)?,
            create_ms: one.create_ms,
            generation: one.generation,
        })
    }

    fn pool(&self) -> Result<Pool, RecordError> {
        let one: stored::Pool = self.message()?;
        let kind = match known(one.kind) {
            Some(wire::PoolKind::Floating) => PoolKind::Floating,
            Some(wire::PoolKind::Dedicated) => PoolKind::Dedicated,
            Some(wire::PoolKind::Unspecified) | None => return Err(self.error("kind")),
        };
        let users = if one.everyone {
            PoolUsers::Everyone
        } else {
            let users = one.users.iter().map(|user| self.id(user));
            PoolUsers::Listed(users.collect::<Result<_, _>>()?)
        };
        let settings = PoolSettings {
            display_name: one.display_name,
            template: self.id(&one.template)?,
            kind,
            min_spare: one.min_spare,
            max_desktops: one.max_desktops,
            users,
            disconnect_secs: (one.disconnect_secs != 0).then_some(one.disconnect_secs),
            max_session_secs: (one.max_session_secs != 0).then_some(one.max_session_secs),
            idle_secs: (one.idle_secs != 0).then_some(one.idle_secs),
            user_sessions_max: (one.user_sessions_max != 0).then_some(one.user_sessions_max),
            schedule: Schedule {
                zone: Zone::kept(one.time_zone),
                rules: schedule::rules_from_stored(&one.schedule)
                    .ok_or_else(|| self.error("schedule"))?,
            },
            forecast: one.forecast,
            release_policy: self.policy(one.release_policy)?,
            display_policy: self.display_policy(&one.display_policy)?,
        };
        settings.check().map_err(|(field, rule)| self.error(format!("{field}: {rule}")))?;
        let (since_ms, reason) = (one.suspended_ms, one.suspended_reason);
        Ok(Pool {
            settings,
            app_id: self.id(&one.app_id)?,
            create_ms: one.create_ms,
            generation: one.generation,
            deleting: one.deleting,
            suspended: (since_ms != 0).then_some(Suspension { since_ms, reason }),
            failures_ms: one.failures_ms,
            pin: rollouts::pin_from_stored(one.pin_digest, one.pin_ms),
            trial: rollouts::trial_from_stored(one.trial).ok_or_else(|| self.error("trial"))?,
        })
    }

    fn forecast(&self) -> Result<Forecast, RecordError> {
        let one: stored::Forecast = self.message()?;
        Forecast::of_parts(one.learned, &one.means).ok_or_else(|| self.error("means"))
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
            user: self.maybe_id(&one.user)?,
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

/// The value of a wire enum; none for a number that this program does not know.
fn known<T: TryFrom<i32>>(number: u32) -> Option<T> {
    T::try_from(i32::try_from(number).ok()?).ok()
}
