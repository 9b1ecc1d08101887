//! Reaches a desktop by the relay of its host: one mTLS HTTP/2 connection per attached session, one
//! stream per channel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use vidi_kit::Tasks;
use vidi_kit::tls::IdentityReceiver;
use vidi_kit::transport::{connect_tls, describe};
use vidi_proto::v1::relay_client::RelayClient;
use vidi_proto::v1::{AttachRequest, ChannelRequest};

use crate::error::GatewayError;
use crate::ports::{Attachment, CHUNKS_MAX, ChannelPipe, RelayTicket};

/// The relay answers an attach within the time it waits for the session to become known to it.
const ATTACH_SECS_MAX: Duration = Duration::from_secs(10);
/// Largest message from a relay: its chunks are at most 256 KiB.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest piece of one message to a relay.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Dials relays with the gateway's own certificate.
#[derive(Debug)]
pub struct RelayDial {
    identity: IdentityReceiver,
    tasks: Tasks,
}

impl RelayDial {
    /// With the certificate of the gateway; its tasks end with `tasks`.
    pub fn new(identity: IdentityReceiver, tasks: Tasks) -> Self {
        Self { identity, tasks }
    }

    /// Attaches the session to which the ticket's grant belongs.
    pub async fn attach(&self, ticket: &RelayTicket) -> Result<Box<dyn Attachment>, GatewayError> {
        let identity = Arc::clone(&self.identity.borrow());
        let channel = connect_tls(&ticket.address, &ticket.name, identity.client_config()?)
            .await
            .map_err(|error| GatewayError::HostAway(describe(&error)))?;
        let client = RelayClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = AttachRequest { grant: ticket.grant.clone() };
        let relay_says = |status: tonic::Status| GatewayError::Relay(status.message().to_owned());
        let mut attaching = client.clone();
        let attached = tokio::time::timeout(ATTACH_SECS_MAX, attaching.attach(request))
            .await
            .map_err(|_elapsed| GatewayError::HostAway("its relay is silent".to_owned()))?;
        let mut events = attached.map_err(relay_says)?.into_inner();
        let first = tokio::time::timeout(ATTACH_SECS_MAX, events.message())
            .await
            .map_err(|_elapsed| GatewayError::HostAway("its relay is silent".to_owned()))?;
        first.map_err(relay_says)?;

        let (ended, ended_receiver) = watch::channel(None);
        let tasks = self.tasks.child();
        let stop = tasks.stop_token();
        let _watching = tasks.spawn("relay-attachment", async move {
            let reason = loop {
                // Cancel-safe: at the stop the stream is dropped, which is the detachment.
                let event = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    event = events.message() => event,
                };
                match event {
                    Ok(Some(_event)) => {}
                    Ok(None) => break "the relay ended the attachment".to_owned(),
                    Err(status) => break status.message().to_owned(),
                }
            };
            ended.send_replace(Some(reason));
        });
        Ok(Box::new(RelayAttachment { client, ended: ended_receiver, tasks }))
    }
}

#[derive(Debug)]
struct RelayAttachment {
    client: RelayClient<Channel>,
    ended: watch::Receiver<Option<String>>,
    tasks: Tasks,
}

impl Drop for RelayAttachment {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

#[async_trait]
impl Attachment for RelayAttachment {
    async fn open(&self) -> Result<ChannelPipe, GatewayError> {
        self.open_channel(false).await
    }

    async fn open_onward(&self) -> Result<ChannelPipe, GatewayError> {
        self.open_channel(true).await
    }

    async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_closed) => "the connection to the relay is gone".to_owned(),
        }
    }
}

impl RelayAttachment {
    async fn open_channel(&self, onward: bool) -> Result<ChannelPipe, GatewayError> {
        let (send, outgoing) = mpsc::channel::<Bytes>(CHUNKS_MAX);
        let (incoming, receive) = mpsc::channel::<Bytes>(CHUNKS_MAX);
        let opening = ChannelRequest { data: Bytes::new(), onward };
        let cut = ReceiverStream::new(outgoing).flat_map(|bytes| stream::iter(chunks(bytes)));
        let following = cut.map(|data| ChannelRequest { data, onward: false });
        let requests = stream::once(std::future::ready(opening)).chain(following);
        let mut stream = self
            .client
            .clone()
            .channel(requests)
            .await
            .map_err(|status| GatewayError::Relay(status.message().to_owned()))?
            .into_inner();
        let stop = self.tasks.stop_token();
        let _pumping = self.tasks.spawn("relay-channel", async move {
            loop {
                // Cancel-safe: what `message` has not returned stays in the stream, which ends here.
                let message = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    message = stream.message() => message,
                };
                let Ok(Some(message)) = message else { return };
                if incoming.send(message.data).await.is_err() {
                    return;
                }
            }
        });
        Ok(ChannelPipe { receive, send })
    }
}

/// Cuts what is to be sent into messages that a relay takes.
pub fn chunks(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        Some(bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_and_in_order() {
        let bytes = Bytes::from((0..=255_u8).cycle().take(600 << 10).collect::<Vec<_>>());
        let cut: Vec<Bytes> = chunks(bytes.clone()).collect();
        assert!(cut.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX));
        assert_eq!(cut.concat(), bytes);
    }
}
