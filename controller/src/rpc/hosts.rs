//! Hosts, and the tokens with which daemons of other machines enrol.

use std::ops::Bound;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{DesktopId, GatewayId, HostId};
use vidi_kit::tls::Role;
use vidi_proto::v1::host_service_server::HostService;
use vidi_proto::v1::{
    Capacity, CordonHostRequest, CreateEnrollTokenRequest, CreateEnrollTokenResponse,
    DeleteHostRequest, DeleteHostResponse, DrainHostRequest, EnrollTokenContents,
    ExplainPlacementRequest, ExplainPlacementResponse, GetCapacityRequest, GetHostRequest, Host,
    HostRule, ListHostRulesRequest, ListHostRulesResponse, ListHostsRequest, ListHostsResponse,
    RemoveUnknownDesktopRequest, SetHostRuleRequest, SimulatePoolRequest, SimulatePoolResponse,
    UncordonHostRequest, UpdateHostRequest,
};

use super::caller::token_sha256;
use super::names::{self, id};
use super::page::Query;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::{Parts, host_rules, placement, wire};
use crate::model::{Change, EnrollToken};

/// A token is good for an hour: long enough to carry it to another machine.
const TOKEN_LIFE_MS: i64 = 60 * 60 * 1_000;
const SECRET_BYTES: usize = 32;

/// The service. Only operators reach it; the authorization layer saw to that.
#[derive(Debug)]
pub struct HostsRpc {
    parts: Parts,
}

impl HostsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    /// Has a host changed and answers it.
    async fn change(&self, host: HostId, change: Change) -> Result<Response<Host>, Status> {
        self.parts.handle.change(change).await?;
        info!(%host, "What is wanted of a host has changed");
        let world = self.parts.handle.world();
        let one = world.hosts.get(&host).ok_or_else(|| not_found("host", host.as_str()))?;
        Ok(Response::new(wire::host(&world, &host, one)))
    }
}

fn host_id(name: &str) -> Result<HostId, Status> {
    let [host] = names::split("name", name, ["hosts"])?;
    id("name", host)
}

#[tonic::async_trait]
impl HostService for HostsRpc {
    async fn get_host(&self, request: Request<GetHostRequest>) -> Result<Response<Host>, Status> {
        let host = host_id(&request.get_ref().name)?;
        let world = self.parts.handle.world();
        let one = world.hosts.get(&host).ok_or_else(|| not_found("host", host.as_str()))?;
        Ok(Response::new(wire::host(&world, &host, one)))
    }

    async fn list_hosts(
        &self,
        request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        let asked = request.get_ref();
        let query = Query::new("hosts", "", asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| id::<HostId>("page_token", after));
        let after = after.transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let world = self.parts.handle.world();
        let found: Vec<_> = world.hosts.from(start).take(query.size + 1).collect();
        let next_page_token = query.next(&found, |(host, _)| host.to_string());
        let hosts = found
            .into_iter()
            .take(query.size)
            .map(|(host, one)| wire::host(&world, host, one))
            .collect();
        Ok(Response::new(ListHostsResponse { hosts, next_page_token }))
    }

    async fn update_host(
        &self,
        request: Request<UpdateHostRequest>,
    ) -> Result<Response<Host>, Status> {
        let UpdateHostRequest { host, update_mask } = request.into_inner();
        let asked = host.ok_or_else(|| invalid_field("host", "a host is expected"))?;
        let host = host_id(&asked.name)?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        let (failure_domain, labels) = placement::fields(asked.spec.unwrap_or_default(), &paths)?;
        let etag = asked.etag;
        self.change(host.clone(), Change::UpdateHost { host, etag, failure_domain, labels }).await
    }

    async fn set_host_rule(
        &self,
        request: Request<SetHostRuleRequest>,
    ) -> Result<Response<HostRule>, Status> {
        let rule = request.into_inner().rule;
        let rule = rule.ok_or_else(|| invalid_field("rule", "a rule is expected"))?;
        let (tenant, target) = host_rules::target("rule.target", &rule.target)?;
        let labels = placement::checked_labels("rule.labels", rule.labels.clone())?;
        self.parts.handle.change(Change::SetHostRule { tenant, target, labels }).await?;
        info!(target = rule.target, labels = ?rule.labels, "Host rule set");
        Ok(Response::new(rule))
    }

    async fn list_host_rules(
        &self,
        request: Request<ListHostRulesRequest>,
    ) -> Result<Response<ListHostRulesResponse>, Status> {
        host_rules::list(&self.parts.handle.world(), request.get_ref()).map(Response::new)
    }

    async fn get_capacity(
        &self,
        _request: Request<GetCapacityRequest>,
    ) -> Result<Response<Capacity>, Status> {
        Ok(Response::new(placement::capacity(&self.parts.handle.world())))
    }

    async fn explain_placement(
        &self,
        request: Request<ExplainPlacementRequest>,
    ) -> Result<Response<ExplainPlacementResponse>, Status> {
        placement::explain(&self.parts.handle.world(), request.get_ref()).map(Response::new)
    }

    async fn simulate_pool(
        &self,
        request: Request<SimulatePoolRequest>,
    ) -> Result<Response<SimulatePoolResponse>, Status> {
        let (world, asked) = (self.parts.handle.world(), request.into_inner());
        // It takes as long as thousands of decisions: not where others wait for their turn.
        let work = tokio::task::spawn_blocking(move || placement::simulate(&world, &asked));
        let done = work.await.map_err(|_ended| Status::internal("the simulation ended early"))?;
        done.map(Response::new)
    }

    async fn cordon_host(
        &self,
        request: Request<CordonHostRequest>,
    ) -> Result<Response<Host>, Status> {
        let CordonHostRequest { name, etag } = request.into_inner();
        let host = host_id(&name)?;
        self.change(host.clone(), Change::CordonHost { host, etag }).await
    }

    async fn uncordon_host(
        &self,
        request: Request<UncordonHostRequest>,
    ) -> Result<Response<Host>, Status> {
        let UncordonHostRequest { name, etag } = request.into_inner();
        let host = host_id(&name)?;
        self.change(host.clone(), Change::UncordonHost { host, etag }).await
    }

    async fn drain_host(
        &self,
        request: Request<DrainHostRequest>,
    ) -> Result<Response<Host>, Status> {
        let DrainHostRequest { name, etag, stop_in_use } = request.into_inner();
        let host = host_id(&name)?;
        self.change(host.clone(), Change::DrainHost { host, etag, stop_in_use }).await
    }

    async fn delete_host(
        &self,
        request: Request<DeleteHostRequest>,
    ) -> Result<Response<DeleteHostResponse>, Status> {
        let DeleteHostRequest { name, etag } = request.into_inner();
        let host = host_id(&name)?;
        self.parts.handle.change(Change::DeleteHost { host: host.clone(), etag }).await?;
        info!(%host, "Host removed");
        Ok(Response::new(DeleteHostResponse {}))
    }

    async fn remove_unknown_desktop(
        &self,
        request: Request<RemoveUnknownDesktopRequest>,
    ) -> Result<Response<Host>, Status> {
        let RemoveUnknownDesktopRequest { name, desktop } = request.into_inner();
        let (host, desktop) = (host_id(&name)?, id::<DesktopId>("desktop", &desktop)?);
        info!(%host, %desktop, "An unknown desktop is to be removed");
        self.change(host.clone(), Change::RemoveUnknownDesktop { host, desktop }).await
    }

    async fn create_enroll_token(
        &self,
        request: Request<CreateEnrollTokenRequest>,
    ) -> Result<Response<CreateEnrollTokenResponse>, Status> {
        let CreateEnrollTokenRequest { role, id: daemon } = request.into_inner();
        let role = [Role::Agent, Role::Gateway]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(|| invalid_field("role", "agent or gateway is expected"))?;
        if !daemon.is_empty() {
            match role {
                Role::Gateway => drop(id::<GatewayId>("id", &daemon)?),
                Role::Agent | Role::Relay | Role::Controller => drop(id::<HostId>("id", &daemon)?),
            }
        }
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
        let expire_ms = self.parts.clock.now_ms() + TOKEN_LIFE_MS;
        let record = EnrollToken {
            role: role.as_str().to_owned(),
            id: daemon.clone(),
            expire_ms,
            used: false,
        };
        let secret_sha256 = token_sha256(&secret);
        self.parts.handle.change(Change::CreateEnrollToken { secret_sha256, record }).await?;
        info!(%role, daemon, "Enrolment token made");
        let token = vidi_kit::enroll::encode_token(&EnrollTokenContents {
            secret,
            addresses: self.parts.addresses.clone(),
            cas: self.parts.authority.cas(),
            role: role.as_str().to_owned(),
            id: daemon,
        });
        let expire_time = Some(timestamp(expire_ms));
        Ok(Response::new(CreateEnrollTokenResponse { token, expire_time }))
    }
}
