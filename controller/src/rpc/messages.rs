//! Messages to the users of sessions.

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{DesktopId, SessionId, TenantId};
use vidi_proto::v1::message_service_server::MessageService;
use vidi_proto::v1::{MessageDesktopRequest, MessageSessionRequest, Session, UserMessage};

use super::authorization::Access;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{child, request_key, unexpected};
use super::{Caller, Parts, wire};
use crate::model::session::NOTICE_BYTES_MAX;
use crate::model::{Answer, Change, Notice, Refusal, RequestKey, World};

/// Messages that are older are not shown any more to who comes back, ms: as the contract says.
pub(super) const SHOWN_MS_MAX: i64 = 60 * 60 * 1_000;

/// The service.
#[derive(Debug)]
pub struct MessagesRpc {
    parts: Parts,
}

impl MessagesRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    async fn tell(
        &self,
        (tenant, session): (TenantId, SessionId),
        notice: Notice,
        request: Option<RequestKey>,
    ) -> Result<Response<Session>, Status> {
        let change = Change::Message { tenant, session, notice, request };
        match self.parts.handle.change(change).await? {
            Answer::Session(tenant, id) => {
                info!(%tenant, session = %id, "Message sent");
                let world = self.parts.handle.world();
                let one = world.session(&tenant, id);
                let one = one.ok_or_else(|| not_found("session", &id.to_string()))?;
                Ok(Response::new(wire::session(&world, &tenant, id, one)))
            }
            other => Err(unexpected(&other)),
        }
    }
}

#[tonic::async_trait]
impl MessageService for MessagesRpc {
    async fn message_desktop(
        &self,
        request: Request<MessageDesktopRequest>,
    ) -> Result<Response<Session>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let (tenant, id) = child::<DesktopId>("name", &asked.name, "desktops")?;
        let world = self.parts.handle.world();
        let desktop = world.desktop(&tenant, id);
        access.check(("desktop", &id.to_string()), &tenant, None)?;
        let desktop = desktop.ok_or_else(|| not_found("desktop", &id.to_string()))?;
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "MessageDesktop", &request_id, &asked)?;
        let notice = notice(&world, &access, asked.text, self.parts.clock.now_ms())?;
        let session = desktop.status.session.ok_or_else(|| Refusal::WrongState {
            kind: "desktop",
            id: id.to_string(),
            state: "not in use".to_owned(),
            remedy: "nobody would read it",
        })?;
        self.tell((tenant, session), notice, key).await
    }

    async fn message_session(
        &self,
        request: Request<MessageSessionRequest>,
    ) -> Result<Response<Session>, Status> {
        let access = Access::of(&request)?;
        let mut asked = request.into_inner();
        let (tenant, id) = child::<SessionId>("name", &asked.name, "sessions")?;
        let world = self.parts.handle.world();
        access.check(("session", &id.to_string()), &tenant, None)?;
        let request_id = std::mem::take(&mut asked.request_id);
        let key = request_key(access.caller(), "MessageSession", &request_id, &asked)?;
        let notice = notice(&world, &access, asked.text, self.parts.clock.now_ms())?;
        self.tell((tenant, id), notice, key).await
    }
}

/// A message as it is kept, if it is one.
pub(super) fn notice(
    world: &World,
    access: &Access,
    text: String,
    now_ms: i64,
) -> Result<Notice, Status> {
    if text.trim().is_empty() || NOTICE_BYTES_MAX < text.len() {
        return Err(invalid_field("text", "1 to 1,000 bytes are expected"));
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(invalid_field("text", "no control characters but line ends are allowed"));
    }
    Ok(Notice { number: 0, text, from: sender(world, access), at_ms: now_ms })
}

/// A message as a gateway shows it.
pub(super) fn on_wire(one: &Notice) -> UserMessage {
    UserMessage {
        number: one.number,
        text: one.text.clone(),
        from: one.from.clone(),
        time: Some(timestamp(one.at_ms)),
    }
}

/// Who sends a message, for people: a person's name, nobody for root.
fn sender(world: &World, access: &Access) -> String {
    match access.caller() {
        Caller::User(who) => world.user_display_name(&who.tenant, &who.user),
        Caller::Root
        | Caller::Anonymous
        | Caller::SignedOut
        | Caller::Local { .. }
        | Caller::Daemon { .. } => String::new(),
    }
}
