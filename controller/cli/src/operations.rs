//! Long-running changes: shown, and followed to their end.

use anyhow::bail;
use vidi_proto::v1::operation::Result as Outcome;
use vidi_proto::v1::operation_service_client::OperationServiceClient;
use vidi_proto::v1::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse,
    Operation, OperationProgress, WaitOperationRequest,
};

use crate::arguments::{Global, OperationCommand, Wait};
use crate::connect::{Api, all_pages, connect};
use crate::failure::{Failure, hint};
use crate::output::{Table, short, show};
use crate::when::since;

/// Longest wait that one request asks for; the contract allows 600.
const WAIT_SECS_MAX: u32 = 60;
/// Desktops that failed of which a table has the ids; JSON has all that the controller keeps.
const FAILURES_SHOWN_MAX: usize = 5;

/// Operations.
pub(crate) async fn operation(global: &Global, command: OperationCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = OperationServiceClient::new(api.clone());
    let name = |id: &str| format!("operations/{id}");
    match command {
        OperationCommand::List => {
            let operations = all_pages(async |page_token| {
                let request = ListOperationsRequest { page_size: 0, page_token };
                let page = client.list_operations(request).await?.into_inner();
                Ok((page.operations, page.next_page_token))
            })
            .await?;
            let all = ListOperationsResponse { operations, next_page_token: String::new() };
            show(global.output, "ListOperationsResponse", &all, |all| table(&all.operations))
        }
        OperationCommand::Get { operation } => {
            let request = GetOperationRequest { name: name(&operation) };
            let operation = client.get_operation(request).await?.into_inner();
            show(global.output, "Operation", &operation, |one| table(std::slice::from_ref(one)))
        }
        OperationCommand::Cancel { operation } => {
            let request = CancelOperationRequest { name: name(&operation) };
            let operation = client.cancel_operation(request).await?.into_inner();
            show(global.output, "Operation", &operation, |one| table(std::slice::from_ref(one)))
        }
        OperationCommand::Wait { operation, timeout } => {
            let request = GetOperationRequest { name: name(&operation) };
            let operation = client.get_operation(request).await?.into_inner();
            follow(global, api, operation, Wait { wait: true, timeout }).await
        }
    }
}

/// Shows an operation, at once or when it has ended; one that failed is an error.
pub(crate) async fn follow(
    global: &Global,
    api: Api,
    mut operation: Operation,
    wait: Wait,
) -> anyhow::Result<()> {
    let mut client = OperationServiceClient::new(api);
    let mut left_secs = if wait.wait { wait.timeout } else { 0 };
    while !operation.done && left_secs != 0 {
        let timeout_secs = left_secs.min(WAIT_SECS_MAX);
        let request = WaitOperationRequest { name: operation.name.clone(), timeout_secs };
        operation = client.wait_operation(request).await?.into_inner();
        left_secs -= timeout_secs;
    }
    show(global.output, "Operation", &operation, |one| table(std::slice::from_ref(one)))?;
    match &operation.result {
        Some(Outcome::Error(error)) => {
            let hint = hint(tonic::Code::Unknown, Some(&error.reason));
            let hint = hint.map(|hint| format!("\n{hint}")).unwrap_or_default();
            bail!("{} [{}]{hint}", error.message, error.reason)
        }
        Some(Outcome::Resource(_)) => Ok(()),
        None if wait.wait && !operation.done => Err(Failure::TimeOver(format!(
            "it still goes on after {} s: {}; to wait on: vidictl operation wait {}",
            wait.timeout,
            operation.stage,
            short(&operation.name)
        ))
        .into()),
        None => Ok(()),
    }
}

fn table(operations: &[Operation]) -> Table {
    let mut table = Table::new(["OPERATION", "KIND", "TARGET", "STATE", "BEGAN", "STAGE"]);
    for operation in operations {
        let state = match &operation.result {
            Some(Outcome::Error(error)) => format!("failed: {}", error.message),
            _ if operation.done => "done".to_owned(),
            _ => "going on".to_owned(),
        };
        let began = since(operation.create_time.as_ref());
        table.row([
            short(&operation.name),
            operation.kind.clone(),
            short(&operation.target),
            state,
            if began.is_empty() { began } else { format!("{began} ago") },
            stage(operation),
        ]);
    }
    table
}

/// Where it is; of one on many desktops with what failed.
fn stage(operation: &Operation) -> String {
    let Some(progress) = &operation.progress else { return operation.stage.clone() };
    let OperationProgress { total, done, failed, skipped, .. } = progress;
    let counts = format!("{done} of {total} done, {failed} failed, {skipped} skipped");
    let names = progress.failures.iter().map(|failure| short(&failure.target));
    let names: Vec<String> = names.take(FAILURES_SHOWN_MAX).collect();
    if names.is_empty() { counts } else { format!("{counts}: {}", names.join(" ")) }
}
