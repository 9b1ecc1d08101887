//! A pool's life, with users who click at the same moment and a controller that dies at any commit.

use tonic::{Code, Status};
use vidi_controller::model::PoolStatus;
use vidi_proto::v1 as wire;

use super::{KIOSK, create, creation, delete, kiosk, open, session};
use crate::again;
use crate::stack::{Crash, Stack};

/// More commits than a life needs: the loop ends at the first life without a crash.
const COMMITS_MAX: u32 = 100;

#[tokio::test(start_paused = true)]
async fn two_who_click_at_once_get_two_desktops_wherever_the_controller_dies() {
    for after in [false, true] {
        let mut lives = 0;
        for commit in 0..COMMITS_MAX {
            let mut stack = Stack::new(Crash::At { commit, after }).await;
            live(&mut stack).await;
            lives += 1;
            if !stack.crashed() {
                break;
            }
        }
        assert!((10..COMMITS_MAX).contains(&lives), "{lives} lives");
    }
}

async fn live(stack: &mut Stack) {
    again(stack, async |stack| {
        let request_id = "r1".to_owned();
        create(stack, wire::CreatePoolRequest { request_id, ..creation("kiosk", kiosk()) }).await
    })
    .await;
    counts(stack, |seen| seen.ready == 1).await;
    let (ana, ben) = again(stack, async |stack| {
        let (ana, ben) = tokio::join!(open(stack, "ana"), open(stack, "ben"));
        Ok((ana?, ben?))
    })
    .await;
    counts(stack, |seen| seen.claimed == 2 && seen.waiting == 0).await;
    crate::invariants::check(&stack.stored_world());
    let (anas, bens) = (session(stack, &ana.name).await, session(stack, &ben.name).await);
    assert!(!anas.desktop.is_empty() && !bens.desktop.is_empty());
    assert_ne!(anas.desktop, bens.desktop);
    again(stack, async |stack| {
        let request = wire::ReleaseSessionRequest { name: anas.name.clone() };
        let user = stack.user("ana");
        let mut client = wire::session_service_client::SessionServiceClient::new(user);
        client.release_session(request).await
    })
    .await;
    counts(stack, |seen| seen.ready == 1 && seen.claimed == 1).await;
    assert!(!stack.host_has(&anas.desktop), "single use");
    crate::invariants::check(&stack.stored_world());
    again(stack, async |stack| match delete(stack, KIOSK, "", true).await {
        // It has gone with the controller that did not live to say so.
        Err(status) if status.code() == Code::NotFound => Ok(()),
        other => other,
    })
    .await;
    let gone = |stack: &Stack| stack.host_is_empty() && stack.world().pools.is_empty();
    again(stack, async |stack| stack.until(gone, "all of it is gone").await).await;
    let left = stack.stored_world();
    crate::invariants::check(&left);
    assert!(left.desktops.is_empty() && left.allocations.is_empty() && left.apps.is_empty());
    assert!(left.live_sessions.is_empty());
}

/// Waits until the counts of the pool are so, by whichever controller.
async fn counts(stack: &mut Stack, holds: impl Fn(PoolStatus) -> bool) {
    let (tenant, pool) = ("default".parse().unwrap(), "kiosk".parse().unwrap());
    let now = |stack: &Stack| {
        holds(stack.world().pool_status(&tenant, pool, vidi_kit::Clock::system().now_ms()))
    };
    again(stack, async |stack: &Stack| -> Result<(), Status> {
        stack.until(now, "the pool is as expected").await
    })
    .await;
}
