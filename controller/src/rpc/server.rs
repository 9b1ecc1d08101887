//! The listeners: TLS for everybody, a Unix socket for this machine, one stack of services behind
//! both.

use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};
use tracing::{error, info};
use vidi_kit::tls::{ClientCertificate, IdentityReceiver};
use vidi_kit::transport::{tls_incoming, unix_incoming};
use vidi_proto::v1::agent_link_server::AgentLinkServer;
use vidi_proto::v1::audit_service_server::AuditServiceServer;
use vidi_proto::v1::batch_service_server::BatchServiceServer;
use vidi_proto::v1::desktop_service_server::DesktopServiceServer;
use vidi_proto::v1::enroll_service_server::EnrollServiceServer;
use vidi_proto::v1::gateway_link_server::GatewayLinkServer;
use vidi_proto::v1::group_service_server::GroupServiceServer;
use vidi_proto::v1::host_service_server::HostServiceServer;
use vidi_proto::v1::machine_service_server::MachineServiceServer;
use vidi_proto::v1::message_service_server::MessageServiceServer;
use vidi_proto::v1::operation_service_server::OperationServiceServer;
use vidi_proto::v1::pool_service_server::PoolServiceServer;
use vidi_proto::v1::rollout_service_server::RolloutServiceServer;
use vidi_proto::v1::session_service_server::SessionServiceServer;
use vidi_proto::v1::sign_in_service_server::SignInServiceServer;
use vidi_proto::v1::store_service_server::StoreServiceServer;
use vidi_proto::v1::template_service_server::TemplateServiceServer;
use vidi_proto::v1::tenant_service_server::TenantServiceServer;
use vidi_proto::v1::usage_service_server::UsageServiceServer;
use vidi_proto::v1::user_service_server::UserServiceServer;

use super::Parts;
use super::auditing::AuditLayer;
use super::authorization::AuthorizationLayer;
use super::calls::CallLayer;
use super::enroll::EnrollRpc;
use super::sign_in::SignInRpc;
use super::standby::{StandbyLayer, report_health};
use super::users::UsersRpc;

/// Largest message either way, in bytes; the largest of ours, an agent's report, stays below 1 MiB.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests of one connection that are served side by side; a gateway brings all its users by one.
const REQUESTS_PER_CONNECTION_MAX: usize = 1_024;
/// HTTP/2 pings find dead callers this often...
const KEEPALIVE_PERIOD: Duration = Duration::from_secs(10);
/// ...and give up after this.
const KEEPALIVE_SECS_MAX: Duration = Duration::from_secs(10);
/// Header lists over this are refused, in bytes; ours have a token at most.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

macro_rules! limited {
    ($service:expr) => {
        $service
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// All services, made once: what they count is counted over all listeners.
pub fn routes(parts: &Parts) -> Result<Routes, tonic_reflection::server::Error> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    report_health(&parts.tasks, &parts.handle, health_reporter);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(vidi_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Routes::new(health)
        .add_service(reflection)
        .add_service(limited!(SignInServiceServer::new(SignInRpc::new(parts))))
        .add_service(limited!(UserServiceServer::new(UsersRpc::new(parts))))
        .add_service(limited!(TenantServiceServer::new(super::tenants::TenantsRpc::new(parts))))
        .add_service(limited!(AuditServiceServer::new(super::audit::AuditRpc::new(parts))))
        .add_service(limited!(GroupServiceServer::new(super::groups::GroupsRpc::new(parts))))
        .add_service(limited!(UsageServiceServer::new(super::usage::UsageRpc::new(parts))))
        .add_service(limited!(EnrollServiceServer::new(EnrollRpc::new(parts))))
        .add_service(limited!(HostServiceServer::new(super::hosts::HostsRpc::new(parts))))
        .add_service(limited!(TemplateServiceServer::new(super::templates::TemplatesRpc::new(
            parts
        ))))
        .add_service(limited!(DesktopServiceServer::new(super::desktops::DesktopsRpc::new(parts))))
        .add_service(limited!(MachineServiceServer::new(super::machines::MachinesRpc::new(parts))))
        .add_service(limited!(PoolServiceServer::new(super::pools::PoolsRpc::new(parts))))
        .add_service(limited!(RolloutServiceServer::new(super::rollouts::RolloutsRpc::new(parts))))
        .add_service(limited!(BatchServiceServer::new(super::batches::BatchesRpc::new(parts))))
        .add_service(limited!(MessageServiceServer::new(super::messages::MessagesRpc::new(parts))))
        .add_service(limited!(SessionServiceServer::new(super::sessions::SessionsRpc::new(parts))))
        .add_service(limited!(OperationServiceServer::new(super::operations::OperationsRpc::new(
            parts
        ))))
        .add_service(limited!(StoreServiceServer::new(super::store::StoreRpc::new(parts))))
        .add_service(limited!(AgentLinkServer::new(super::agent_link::AgentLinkRpc::new(parts))))
        .add_service(limited!(GatewayLinkServer::new(super::gateway_link::GatewayLinkRpc::new(
            parts
        )))))
}

/// Serves over TLS until the tasks stop. Callers come with a daemon's certificate or with none.
pub fn serve_tls(parts: &Parts, routes: Routes, listener: TcpListener, identity: IdentityReceiver) {
    let incoming = tls_incoming(&parts.tasks, listener, identity, ClientCertificate::Optional);
    let stop = parts.tasks.stop_token();
    let server = router(parts, routes);
    let _serving = parts.tasks.spawn("serve-tls", async move {
        let served = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
        ended("TLS", served);
    });
}

/// Serves processes of this machine until the tasks stop.
pub fn serve_unix(parts: &Parts, routes: Routes, listener: UnixListener) {
    let incoming = unix_incoming(&parts.tasks, listener);
    let stop = parts.tasks.stop_token();
    let server = router(parts, routes);
    let _serving = parts.tasks.spawn("serve-unix", async move {
        let served = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
        ended("the local socket", served);
    });
}

type Layers =
    Stack<AuthorizationLayer, Stack<AuditLayer, Stack<StandbyLayer, Stack<CallLayer, Identity>>>>;

fn router(parts: &Parts, routes: Routes) -> Router<Layers> {
    Server::builder()
        .layer(CallLayer)
        .layer(StandbyLayer::new(parts.handle.clone(), parts.clock.clone(), parts.forward.clone()))
        .layer(AuditLayer::new(parts.handle.clone(), parts.clock.clone()))
        .layer(AuthorizationLayer::new(parts.handle.watch(), parts.clock.clone()))
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_PERIOD))
        .http2_keepalive_timeout(Some(KEEPALIVE_SECS_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .add_routes(routes)
}

fn ended(listener: &'static str, served: Result<(), tonic::transport::Error>) {
    match served {
        Ok(()) => info!(listener, "No longer served"),
        Err(error) => {
            let error = vidi_kit::transport::describe(&error);
            error!(listener, error, "The listener ended");
        }
    }
}
