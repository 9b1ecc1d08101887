//! Between a relay and its agent: everything passes unchanged, but the SPICE sockets that the relay asks
//! for lead here instead of into a guest, unless the guest itself is wanted.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use tokio::net::{UnixListener, UnixStream};
use vidi_agent::rpc::frames::{FrameWriter, split};
use vidi_kit::Tasks;
use vidi_proto::v1::agent_to_relay::Message as ToRelay;
use vidi_proto::v1::relay_to_agent::Message as ToAgent;
use vidi_proto::v1::{AgentToRelay, OpenSpice, RelayToAgent, SpiceOpened};

use crate::desk::say;
use crate::messages::Images;
use crate::serve::Server;

/// Serves relays at `listen`, each with a connection of its own to the agent at `agent`.
pub(crate) async fn keep(tasks: Tasks, server: Server, listen: PathBuf, agent: PathBuf) {
    let listener = UnixListener::bind(&listen).unwrap();
    loop {
        let (relay, _address) = listener.accept().await.unwrap();
        let (server, agent, inner) = (server.clone(), agent.clone(), tasks.clone());
        let _talking = tasks.spawn("door", async move {
            if let Err(error) = pass(&inner, &server, relay, agent).await {
                say(&format!(r#"{{"event":"door","problem":"{error}"}}"#));
            }
        });
    }
}

async fn pass(tasks: &Tasks, server: &Server, relay: UnixStream, agent: PathBuf) -> io::Result<()> {
    let agent = UnixStream::connect(agent).await?;
    let ((mut from_relay, mut to_relay), (mut from_agent, mut to_agent)) =
        (split(relay), split(agent));
    loop {
        // Cancel-safe: a frame that has not come whole stays in its reader.
        tokio::select! {
            biased;
            asked = from_relay.receive::<RelayToAgent>() => match asked? {
                Some(RelayToAgent { message: Some(ToAgent::OpenSpice(open)) })
                    if !server.to_guest.load(Ordering::SeqCst) =>
                {
                    answer(tasks, server, open, &mut to_relay).await?;
                }
                Some(other) => to_agent.send(&other, None).await?,
                None => return Ok(()),
            },
            told = from_agent.receive::<AgentToRelay>() => match told? {
                Some(told) => {
                    let socket = match &told.message {
                        Some(ToRelay::SpiceOpened(opened)) if opened.error.is_empty() => {
                            from_agent.take_descriptor()
                        }
                        _ => None,
                    };
                    to_relay.send(&told, socket.as_ref().map(AsFd::as_fd)).await?;
                }
                None => return Ok(()),
            },
        }
    }
}

async fn answer(
    tasks: &Tasks,
    server: &Server,
    open: OpenSpice,
    to_relay: &mut FrameWriter,
) -> io::Result<()> {
    let (given, kept) = UnixStream::pair()?;
    let server = server.clone();
    let _serving = tasks.spawn("channel", async move { server.serve(kept, Images::Plain).await });
    let opened = SpiceOpened { id: open.id, error: String::new() };
    let message = AgentToRelay { message: Some(ToRelay::SpiceOpened(opened)) };
    to_relay.send(&message, Some(given.as_fd())).await
}
