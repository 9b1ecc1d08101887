//! The link of one channel: what a stranger may say before a ticket lets it in.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tracing::{debug, warn};
use vidi_kit::ids::DesktopId;
use vidi_spice::{
    ChannelKind, LinkRequest, Refusal, ServerKey, TICKET_BYTES, link_refusal, offered,
};
use zeroize::Zeroizing;

use crate::http::router::Edge;
use crate::model::raw::{Claimed, Shown};
use crate::raw::set::{Opened, Refused, Set};
use crate::raw::stream::{ClientStream, Reader};
use crate::raw::{Raw, count_refused, hash};

/// A client that has not shown its ticket by then is let go.
const LINK_SECS_MAX: Duration = Duration::from_secs(10);
/// A link message of 4 KiB with its header, and the ticket: more is not listened to.
const LINK_BYTES_MAX: usize = 8 << 10;

/// What a client that has shown a ticket asked for.
struct Asked {
    request: LinkRequest,
    password: Zeroizing<Vec<u8>>,
    /// What it said after that.
    early: Bytes,
}

/// Links a client's channel with the desktop and passes its bytes until it ends.
pub(super) async fn serve(edge: &Edge, desktop: DesktopId, mut client: ClientStream) {
    let Ok(permit) = edge.raw.links.clone().try_acquire_owned() else {
        count_refused("full");
        return client.writer.close().await;
    };
    let asking = ask(&edge.raw, &mut client);
    let asked = match tokio::time::timeout(LINK_SECS_MAX, asking).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(reason)) => {
            debug!(%desktop, reason, "A SPICE client is refused");
            count_refused(reason);
            return client.writer.close().await;
        }
        Err(_elapsed) => {
            count_refused("link");
            return client.writer.close().await;
        }
    };
    drop(permit);
    match open(edge, desktop, &asked).await {
        Ok(opened) => {
            if client.writer.send(word(Refusal::None)).await {
                opened.pass(client, asked.early).await;
            }
        }
        Err(Refused { refusal, reason, text }) => {
            let channel = asked.request.kind;
            warn!(%desktop, ?channel, reason = text, "A SPICE client's channel is refused");
            count_refused(reason);
            client.writer.send(word(refusal)).await;
            client.writer.close().await;
        }
    }
}

/// The dialogue until the ticket; the error is the reason as metrics name it, and the client was told.
async fn ask(raw: &Raw, client: &mut ClientStream) -> Result<Asked, &'static str> {
    let mut input = BytesMut::new();
    let request = loop {
        match LinkRequest::read(&mut input) {
            Ok(Some(request)) => break request,
            Ok(None) => read_more(&mut client.reader, &mut input).await?,
            Err(refusal) => return refuse(client, refusal, "link").await,
        }
    };
    if !is_passed(request.kind) {
        return refuse(client, Refusal::ChannelNotAvailable, "channel").await;
    }
    // Main has no session yet; the others name theirs, which the desktop itself checks.
    if (request.kind == ChannelKind::Main) != (request.connection_id == 0) {
        return refuse(client, Refusal::BadConnectionId, "channel").await;
    }
    let key = {
        let _permit = raw.keys.acquire().await.map_err(|_closed| "full")?;
        let making = tokio::task::spawn_blocking(|| ServerKey::generate(&mut rand::rng()));
        making.await.ok().and_then(Result::ok).ok_or("link")?
    };
    if !client.writer.send(key.reply(offered(request.kind))).await {
        return Err("link");
    }
    let ticket = loop {
        match request.read_ticket(&mut input) {
            Ok(Some(ticket)) => break ticket,
            Ok(None) => read_more(&mut client.reader, &mut input).await?,
            Err(refusal) => {
                client.writer.send(word(refusal)).await;
                return Err("link");
            }
        }
    };
    let Some(password) = decrypt(key, ticket).await else {
        client.writer.send(word(Refusal::PermissionDenied)).await;
        return Err("ticket");
    };
    Ok(Asked { request, password, early: input.freeze() })
}

async fn decrypt(key: ServerKey, ticket: [u8; TICKET_BYTES]) -> Option<Zeroizing<Vec<u8>>> {
    let opening = tokio::task::spawn_blocking(move || key.open(&ticket, &mut rand::rng()));
    opening.await.ok().flatten()
}

fn word(refusal: Refusal) -> Bytes {
    Bytes::copy_from_slice(&refusal.to_wire().to_le_bytes())
}

async fn refuse<T>(
    client: &mut ClientStream,
    refusal: Refusal,
    reason: &'static str,
) -> Result<T, &'static str> {
    client.writer.send(link_refusal(refusal)).await;
    Err(reason)
}

async fn read_more(reader: &mut Reader, input: &mut BytesMut) -> Result<(), &'static str> {
    let bytes = reader.next().await.ok_or("link")?;
    if LINK_BYTES_MAX < input.len() + bytes.len() {
        return Err("link");
    }
    input.extend_from_slice(&bytes);
    Ok(())
}

/// The kinds that are passed on. Devices of the client's own machine are not.
const fn is_passed(kind: ChannelKind) -> bool {
    match kind {
        ChannelKind::Main
        | ChannelKind::Display
        | ChannelKind::Inputs
        | ChannelKind::Cursor
        | ChannelKind::Playback
        | ChannelKind::Record => true,
        ChannelKind::Smartcard
        | ChannelKind::Usbredir
        | ChannelKind::Port
        | ChannelKind::Webdav
        | ChannelKind::Other(_) => false,
    }
}

/// Opens what the ticket is good for.
async fn open(edge: &Edge, desktop: DesktopId, asked: &Asked) -> Result<Opened, Refused> {
    let hash = hash(&asked.password);
    let request = &asked.request;
    let shown = if request.kind == ChannelKind::Main { Shown::Main } else { Shown::Other };
    let now = edge.raw.now();
    let claimed = edge.raw.tickets().claim(desktop, &hash, shown, now);
    match claimed {
        None => {
            let text = "the ticket is unknown, used or older than 30 s".to_owned();
            Err(Refused { refusal: Refusal::PermissionDenied, reason: "ticket", text })
        }
        Some(Claimed::Open(set)) => set.open(request).await,
        Some(Claimed::New(owner)) => {
            let opening = Opening { edge, desktop, hash, done: false };
            let opened = Set::open_new(edge, desktop, hash, owner, request).await?;
            opening.done();
            Ok(opened)
        }
    }
}

/// Ends a ticket whose set does not come to be, also when its client leaves meanwhile.
struct Opening<'a> {
    edge: &'a Edge,
    desktop: DesktopId,
    hash: crate::model::raw::TicketHash,
    done: bool,
}

impl Opening<'_> {
    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.edge.raw.tickets().ended(self.desktop, &self.hash);
        }
    }
}
