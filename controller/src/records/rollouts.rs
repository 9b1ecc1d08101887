//! Stored form of roll-outs, of what they do to pools, and of changes of many desktops.

use vidi_proto::store::v1 as stored;

use crate::model::{
    Batch, BatchKind, DesktopFilter, Notice, OperationError, Pin, Pool, Reason, Rollout,
    RolloutFailure, RolloutSettings, RolloutState, Trial, TrialPhase,
};

/// Numbers of the states in the store; those of `vidi.v1.RolloutState`.
const STATES: [(RolloutState, u32); 6] = [
    (RolloutState::Running, 1),
    (RolloutState::Paused, 2),
    (RolloutState::RollingBack, 3),
    (RolloutState::Done, 4),
    (RolloutState::RolledBack, 5),
    (RolloutState::Cancelled, 6),
];
const PHASES: [(TrialPhase, u32); 3] =
    [(TrialPhase::Open, 1), (TrialPhase::Withdrawn, 2), (TrialPhase::Left, 3)];

fn number_of<T: PartialEq + Copy, const N: usize>(all: [(T, u32); N], one: T) -> u32 {
    all.into_iter().find(|(other, _)| *other == one).map_or(0, |(_, number)| number)
}

fn of_number<T: Copy, const N: usize>(all: [(T, u32); N], number: u32) -> Option<T> {
    all.into_iter().find(|(_, other)| *other == number).map(|(one, _)| one)
}

fn some_ms(at_ms: i64) -> Option<i64> {
    (at_ms != 0).then_some(at_ms)
}

/// An id that may be missing; none where the text is no id.
fn maybe<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

fn text_of<T: ToString>(one: Option<&T>) -> String {
    one.map(ToString::to_string).unwrap_or_default()
}

pub(super) fn notice_to_stored(one: &Notice) -> stored::Notice {
    let Notice { number, text, from, at_ms } = one.clone();
    stored::Notice { number, text, from, at_ms }
}

pub(super) fn notice_from_stored(one: stored::Notice) -> Notice {
    let stored::Notice { number, text, from, at_ms } = one;
    Notice { number, text, from, at_ms }
}

pub(super) fn trial_to_stored(pool: &Pool) -> Option<stored::Trial> {
    pool.trial.as_ref().map(|one| stored::Trial {
        rollout: one.rollout.to_string(),
        digest: one.digest.clone(),
        desktops_max: one.desktops_max,
        beyond_need: one.beyond_need,
        ready_ms: one.ready_ms,
        phase: number_of(PHASES, one.phase),
    })
}

/// None where it cannot be understood.
pub(super) fn trial_from_stored(one: Option<stored::Trial>) -> Option<Option<Trial>> {
    let Some(one) = one else { return Some(None) };
    Some(Some(Trial {
        rollout: one.rollout.parse().ok()?,
        digest: one.digest,
        desktops_max: one.desktops_max,
        beyond_need: one.beyond_need,
        ready_ms: one.ready_ms,
        phase: of_number(PHASES, one.phase)?,
    }))
}

pub(super) fn pin_from_stored(digest: String, since_ms: i64) -> Option<Pin> {
    (!digest.is_empty()).then_some(Pin { digest, since_ms })
}

pub(super) fn rollout_to_stored(one: &Rollout) -> stored::Rollout {
    let failures = one.failures.iter().map(|failure| stored::RolloutFailure {
        desktop: failure.desktop.to_string(),
        reason: failure.reason.clone(),
        at_ms: failure.at_ms,
    });
    let RolloutSettings { canaries, wave_percent, ready_secs, soak_secs, failures_max } =
        one.settings;
    stored::Rollout {
        pool: one.pool.to_string(),
        template: one.template.to_string(),
        to: one.to.clone(),
        from: one.from.clone(),
        canaries,
        wave_percent,
        ready_secs,
        soak_secs,
        failures_max,
        state: number_of(STATES, one.state),
        reason: one.reason.clone(),
        step: one.step,
        healthy_ms: one.healthy_ms.unwrap_or_default(),
        failed: one.failed,
        failures: failures.collect(),
        create_ms: one.create_ms,
        end_ms: one.end_ms.unwrap_or_default(),
        generation: one.generation,
    }
}

/// None where it cannot be understood.
pub(super) fn rollout_from_stored(one: stored::Rollout) -> Option<Rollout> {
    let failures = one.failures.into_iter().map(|failure| {
        let stored::RolloutFailure { desktop, reason, at_ms } = failure;
        Some(RolloutFailure { desktop: desktop.parse().ok()?, reason, at_ms })
    });
    Some(Rollout {
        pool: one.pool.parse().ok()?,
        template: one.template.parse().ok()?,
        to: one.to,
        from: one.from,
        settings: RolloutSettings {
            canaries: one.canaries,
            wave_percent: one.wave_percent,
            ready_secs: one.ready_secs,
            soak_secs: one.soak_secs,
            failures_max: one.failures_max,
        },
        state: of_number(STATES, one.state)?,
        reason: one.reason,
        step: one.step,
        healthy_ms: some_ms(one.healthy_ms),
        failed: one.failed,
        failures: failures.collect::<Option<_>>()?,
        create_ms: one.create_ms,
        end_ms: some_ms(one.end_ms),
        generation: one.generation,
    })
}

pub(super) fn batch_to_stored(one: &Batch) -> stored::Batch {
    let (force, message) = match &one.kind {
        BatchKind::Start => (false, None),
        BatchKind::Stop { force } | BatchKind::Restart { force } => (*force, None),
        BatchKind::Message(notice) => (false, Some(notice_to_stored(notice))),
    };
    let failures = one.failures.iter().map(|(desktop, error)| stored::BatchChange {
        desktop: desktop.to_string(),
        error_reason: error.reason.as_str().to_owned(),
        error_message: error.message.clone(),
        ..stored::BatchChange::default()
    });
    let open = one.open.iter().map(|(desktop, operation)| stored::BatchChange {
        desktop: desktop.to_string(),
        operation: operation.to_string(),
        ..stored::BatchChange::default()
    });
    let filter = &one.filter;
    stored::Batch {
        kind: one.kind.as_str().to_owned(),
        force,
        message,
        tenant: one.tenant.to_string(),
        filter: Some(stored::DesktopFilter {
            pool: text_of(filter.pool.as_ref()),
            template: text_of(filter.template.as_ref()),
            template_digest: filter.template_digest.clone(),
            user: text_of(filter.user.as_ref()),
            host: text_of(filter.host.as_ref()),
            desktops: filter.desktops.iter().map(ToString::to_string).collect(),
            running: filter.running,
            in_use: filter.in_use,
        }),
        at_a_time: one.at_a_time,
        total: one.total,
        done: one.done,
        failed: one.failed,
        skipped: one.skipped,
        failures: failures.collect(),
        after: text_of(one.after.as_ref()),
        all_begun: one.all_begun,
        open: open.collect(),
        cancelled: one.cancelled,
        create_ms: one.create_ms,
        end_ms: one.end_ms.unwrap_or_default(),
    }
}

/// None where it cannot be understood.
pub(super) fn batch_from_stored(one: stored::Batch) -> Option<Batch> {
    let force = one.force;
    let kind = match one.kind.as_str() {
        "batch-start" => BatchKind::Start,
        "batch-stop" => BatchKind::Stop { force },
        "batch-restart" => BatchKind::Restart { force },
        "batch-message" => BatchKind::Message(notice_from_stored(one.message?)),
        _ => return None,
    };
    let filter = one.filter.unwrap_or_default();
    let desktops = filter.desktops.iter().map(|id| id.parse().ok());
    let failures = one.failures.into_iter().map(|change| {
        let reason = Reason::parse(&change.error_reason)?;
        let error = OperationError { reason, message: change.error_message };
        Some((change.desktop.parse().ok()?, error))
    });
    let open = one
        .open
        .iter()
        .map(|change| Some((change.desktop.parse().ok()?, change.operation.parse().ok()?)));
    Some(Batch {
        kind,
        tenant: one.tenant.parse().ok()?,
        filter: DesktopFilter {
            pool: maybe(&filter.pool)?,
            template: maybe(&filter.template)?,
            template_digest: filter.template_digest,
            user: maybe(&filter.user)?,
            host: maybe(&filter.host)?,
            desktops: desktops.collect::<Option<_>>()?,
            running: filter.running,
            in_use: filter.in_use,
        },
        at_a_time: one.at_a_time,
        total: one.total,
        done: one.done,
        failed: one.failed,
        skipped: one.skipped,
        failures: failures.collect::<Option<_>>()?,
        after: maybe(&one.after)?,
        all_begun: one.all_begun,
        open: open.collect::<Option<_>>()?,
        cancelled: one.cancelled,
        create_ms: one.create_ms,
        end_ms: some_ms(one.end_ms),
    })
}

#[cfg(test)]
mod tests {
    use vidi_kit::ids::{DesktopId, OperationId, RolloutId};

    use crate::model::Row;
    use crate::records::{key, row, value};

    use super::*;

    fn rollout(desktop: DesktopId) -> Rollout {
        Rollout {
            pool: "office".parse().unwrap(),
            template: "debian".parse().unwrap(),
            to: "sha256:2".to_owned(),
            from: "sha256:1".to_owned(),
            settings: RolloutSettings {
                canaries: 1,
                wave_percent: 2,
                ready_secs: 30,
                soak_secs: 4,
                failures_max: 5,
            },
            state: RolloutState::Running,
            reason: "waits".to_owned(),
            step: 6,
            healthy_ms: Some(7),
            failed: 8,
            failures: vec![RolloutFailure { desktop, reason: "no disk".to_owned(), at_ms: 9 }],
            create_ms: 10,
            end_ms: None,
            generation: 11,
        }
    }

    fn batch(desktop: DesktopId, kind: BatchKind, end_ms: Option<i64>) -> Batch {
        let error = OperationError { reason: Reason::WrongState, message: "no".to_owned() };
        Batch {
            kind,
            tenant: "default".parse().unwrap(),
            filter: DesktopFilter {
                pool: "office".parse().ok(),
                template: "debian".parse().ok(),
                template_digest: "sha256:1".to_owned(),
                user: "ana".parse().ok(),
                host: "h1".parse().ok(),
                desktops: vec![desktop],
                running: Some(false),
                in_use: None,
            },
            at_a_time: 1,
            total: 9,
            done: 2,
            failed: 3,
            skipped: 4,
            failures: vec![(desktop, error)],
            after: Some(desktop),
            all_begun: true,
            open: vec![(desktop, OperationId::generate())],
            cancelled: true,
            create_ms: 5,
            end_ms,
        }
    }

    #[test]
    fn roll_outs_and_batches_survive_their_stored_form() {
        let desktop = DesktopId::generate();
        let notice = Notice { number: 0, text: "Hi".to_owned(), from: "Ana".to_owned(), at_ms: 3 };
        let tenant = || "default".parse().unwrap();
        let mut rows: Vec<Row> = RolloutState::EVERY
            .into_iter()
            .map(|state| {
                let end_ms = (!state.is_open()).then_some(12);
                let one = Rollout { state, end_ms, ..rollout(desktop) };
                Row::Rollout(tenant(), RolloutId::generate(), Box::new(one))
            })
            .collect();
        for (kind, end_ms) in [
            (BatchKind::Start, None),
            (BatchKind::Stop { force: true }, Some(6)),
            (BatchKind::Restart { force: false }, None),
            (BatchKind::Message(notice), None),
        ] {
            let one = Box::new(batch(desktop, kind, end_ms));
            rows.push(Row::Batch(OperationId::generate(), one));
        }
        for one in rows {
            assert_eq!(row(&key(&one.key()), &value(&one), 7).unwrap(), Some(one));
        }
    }
}
