//! Changes of many desktops.

use vidi_proto::v1::batch_service_client::BatchServiceClient;
use vidi_proto::v1::{
    BatchMessageDesktopsRequest, BatchRestartDesktopsRequest, BatchStartDesktopsRequest,
    BatchStopDesktopsRequest, DesktopFilter,
};

use crate::arguments::{BatchArguments, BatchCommand, Global, Yes};
use crate::ask::confirm;
use crate::connect::connect;
use crate::operations::follow;
use crate::pools::pool_name;

/// Begins one, and follows it.
pub(crate) async fn batch(global: &Global, command: BatchCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = BatchServiceClient::new(api.clone());
    let parent = format!("tenants/{}", global.tenant);
    let request_id = uuid::Uuid::new_v4().to_string();
    let (operation, wait) = match command {
        BatchCommand::Start(batch) => {
            let request = BatchStartDesktopsRequest {
                parent,
                filter: Some(filter(global, &batch)),
                at_a_time: batch.at_a_time,
                request_id,
                validate_only: batch.dry_run,
            };
            (client.batch_start_desktops(request).await?, batch.wait)
        }
        BatchCommand::Stop { batch, force, yes } => {
            ask(yes, &batch, "Sessions on these desktops end.")?;
            let request = BatchStopDesktopsRequest {
                parent,
                filter: Some(filter(global, &batch)),
                at_a_time: batch.at_a_time,
                request_id,
                validate_only: batch.dry_run,
                force,
            };
            (client.batch_stop_desktops(request).await?, batch.wait)
        }
        BatchCommand::Restart { batch, force, yes } => {
            ask(yes, &batch, "What is open on these desktops is closed.")?;
            let request = BatchRestartDesktopsRequest {
                parent,
                filter: Some(filter(global, &batch)),
                at_a_time: batch.at_a_time,
                request_id,
                validate_only: batch.dry_run,
                force,
            };
            (client.batch_restart_desktops(request).await?, batch.wait)
        }
        BatchCommand::Message { text, batch } => {
            let request = BatchMessageDesktopsRequest {
                parent,
                filter: Some(filter(global, &batch)),
                request_id,
                validate_only: batch.dry_run,
                text,
            };
            (client.batch_message_desktops(request).await?, batch.wait)
        }
    };
    follow(global, api, operation.into_inner(), wait).await
}

/// Nothing is lost by a question how many there are.
fn ask(yes: Yes, batch: &BatchArguments, what_is_lost: &str) -> anyhow::Result<()> {
    if batch.dry_run { Ok(()) } else { confirm(yes, what_is_lost) }
}

fn filter(global: &Global, batch: &BatchArguments) -> DesktopFilter {
    let parent = format!("tenants/{}", global.tenant);
    let named = |kind: &str, id: &Option<String>| {
        id.as_ref().map(|id| format!("{parent}/{kind}/{id}")).unwrap_or_default()
    };
    DesktopFilter {
        pool: batch.pool.as_ref().map(|pool| pool_name(global, pool)).unwrap_or_default(),
        template: named("templates", &batch.template),
        template_digest: String::new(),
        user: named("users", &batch.user),
        host: batch.host.as_ref().map(|host| format!("hosts/{host}")).unwrap_or_default(),
        desktops: batch.desktop.iter().map(|id| format!("{parent}/desktops/{id}")).collect(),
        running: None,
        in_use: if batch.used || batch.idle { Some(batch.used) } else { None },
    }
}
