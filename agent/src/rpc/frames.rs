//! Frames of `relay.proto` on a Unix socket: length (u32, big endian), message; a descriptor travels
//! beside its frame (SCM_RIGHTS, unix(7)).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Largest frame, in bytes: the policy of a host with 8,000 sessions.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
const HEADER_BYTES: usize = 4;
/// What one read takes at most.
const READ_BYTES: usize = 16 << 10;
/// Descriptors that came and were not taken yet; a peer that sends more is broken.
const DESCRIPTORS_MAX: usize = 64;

/// The two halves of a connection.
pub fn split(stream: UnixStream) -> (FrameReader, FrameWriter) {
    let stream = Arc::new(stream);
    let reader = FrameReader {
        stream: Arc::clone(&stream),
        buffer: BytesMut::new(),
        chunk: vec![0; READ_BYTES],
        descriptors: VecDeque::new(),
    };
    (reader, FrameWriter { stream })
}

/// Receives frames.
#[derive(Debug)]
pub struct FrameReader {
    stream: Arc<UnixStream>,
    buffer: BytesMut,
    chunk: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl FrameReader {
    /// The next message; `None` when the peer has closed between two frames. Cancel-safe: bytes that
    /// were read stay here.
    pub async fn receive<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.next_in_buffer()? {
                return Ok(Some(message));
            }
            let (bytes, descriptors) = (&mut self.chunk, &mut self.descriptors);
            let stream = &self.stream;
            let read = stream
                .async_io(Interest::READABLE, || receive_some(stream, bytes, descriptors))
                .await?;
            if DESCRIPTORS_MAX < self.descriptors.len() {
                return Err(invalid("the peer sends descriptors that nobody asked for"));
            }
            match self.chunk.get(..read) {
                Some([]) if self.buffer.is_empty() => return Ok(None),
                Some([]) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(bytes) => self.buffer.extend_from_slice(bytes),
            }
        }
    }

    /// The oldest descriptor that came and was not taken; call it for each message that carries one.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    fn next_in_buffer<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if FRAME_BYTES_MAX < length {
            return Err(invalid("the peer announces a frame above the limit"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let frame = self.buffer.split_to(length);
        M::decode(frame.freeze()).map(Some).map_err(|_| invalid("the peer sent a malformed frame"))
    }
}

/// Sends frames.
#[derive(Debug)]
pub struct FrameWriter {
    stream: Arc<UnixStream>,
}

impl FrameWriter {
    /// Sends one message, with a descriptor beside its first byte. Not cancel-safe.
    pub async fn send<M: Message>(
        &mut self,
        message: &M,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let body = message.encode_to_vec();
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= FRAME_BYTES_MAX)
            .ok_or_else(|| invalid("the message is above the limit of a frame"))?;
        let frame = [length.to_be_bytes().as_slice(), &body].concat();
        let mut rest = frame.as_slice();
        let mut descriptor = descriptor;
        while !rest.is_empty() {
            let sent = self
                .stream
                .async_io(Interest::WRITABLE, || send_some(&self.stream, rest, descriptor))
                .await?;
            descriptor = None;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

fn send_some(
    stream: &UnixStream,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(invalid("the space for a descriptor is too small"));
    }
    let parts = [IoSlice::new(bytes)];
    let sent = rustix::net::sendmsg(stream.as_fd(), &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

fn receive_some(
    stream: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let received =
        rustix::net::recvmsg(stream.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use tokio::io::AsyncWriteExt;
    use vidi_proto::v1::SpiceOpened;

    #[tokio::test]
    async fn messages_and_their_descriptors_arrive_in_order() {
        let (near, far) = UnixStream::pair().unwrap();
        let (_, mut writer) = split(near);
        let (mut reader, _) = split(far);
        let mut ends = Vec::new();
        for id in 0..3_u64 {
            let (given, kept) = std::os::unix::net::UnixStream::pair().unwrap();
            let message = SpiceOpened { id, error: "x".repeat(40_000 * (id as usize % 2)) };
            // Frames larger than one read are interleaved with ones that carry descriptors.
            let (sent, received) = tokio::join!(
                writer.send(&message, Some(given.as_fd())),
                reader.receive::<SpiceOpened>()
            );
            sent.unwrap();
            assert_eq!(received.unwrap(), Some(message));
            ends.push(kept);
        }
        for (index, mut end) in ends.into_iter().enumerate() {
            let mut stream =
                std::os::unix::net::UnixStream::from(reader.take_descriptor().expect("one each"));
            stream.write_all(&[index as u8]).unwrap();
            let mut got = [9];
            end.read_exact(&mut got).unwrap();
            assert_eq!(got, [index as u8]);
        }
        assert!(reader.take_descriptor().is_none());
    }

    #[tokio::test]
    async fn what_is_not_a_frame_is_an_error_and_an_end_between_frames_is_not() {
        for (bytes, fine) in [
            (&b""[..], true),
            (&[0, 0, 0, 0][..], false),
            (&[0, 0][..], false),
            (&[0xff, 0xff, 0xff, 0xff, 1][..], false),
            (&[0, 0, 0, 2, 0xff, 0xff][..], false),
            (&[0, 0, 0, 9, 1][..], false),
        ] {
            let (mut near, far) = UnixStream::pair().unwrap();
            near.write_all(bytes).await.unwrap();
            drop(near);
            let (mut reader, _) = split(far);
            let received = reader.receive::<SpiceOpened>().await;
            // An empty message is a message.
            let empty = bytes == [0, 0, 0, 0];
            assert_eq!(matches!(received, Ok(None)), fine, "{bytes:?}");
            assert_eq!(matches!(received, Ok(Some(_))), empty, "{bytes:?}");
        }
    }
}
