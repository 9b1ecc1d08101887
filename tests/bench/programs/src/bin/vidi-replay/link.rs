//! The server's side of the handshake that opens a channel (`protocol.h`, `SpiceLinkHeader` to
//! `SpiceLinkEncryptedTicket`).

use std::io;

use rsa::pkcs8::EncodePublicKey;
use rsa::{Oaep, RsaPrivateKey};
use sha1::Sha1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vidi_bench::mix;

use crate::messages::Body;

/// `SpiceLinkMess` and its capabilities; spice-server takes no more.
const LINK_BYTES_MAX: u32 = 4096;
/// AUTH_SELECTION, AUTH_SPICE, MINI_HEADER
const COMMON_CAPABILITIES: u32 = 0b1011;
/// What spice-server 0.15.1 says it can on main, display and inputs. Of that nothing is asked for here but
/// compression, which the door decides.
const MAIN_CAPABILITIES: u32 = 0xf;
const DISPLAY_CAPABILITIES: u32 = 0x1052;
const INPUTS_CAPABILITIES: u32 = 1;
/// `SpiceLinkReply` up to its capabilities.
const CAPABILITIES_OFFSET: u32 = 178;

/// A key that protects nothing; spice-server makes one for each channel.
pub(crate) fn key() -> RsaPrivateKey {
    RsaPrivateKey::new(&mut Repeatable(7), 1024).unwrap()
}

/// Opens one channel; gives its kind: 1 main, 2 display, 3 inputs, 4 cursor.
pub(crate) async fn open<S>(stream: &mut S, key: &RsaPrivateKey) -> io::Result<u8>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut header = [0; 16];
    stream.read_exact(&mut header).await?;
    let size = u32::from_le_bytes(header[12..].try_into().unwrap());
    if &header[..4] != b"REDQ" || !(18..=LINK_BYTES_MAX).contains(&size) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak SPICE"));
    }
    let mut message = vec![0; size as usize];
    stream.read_exact(&mut message).await?;
    let kind = message[4];
    let public = key.to_public_key().to_public_key_der().unwrap();
    let channel = match kind {
        1 => MAIN_CAPABILITIES,
        2 => DISPLAY_CAPABILITIES,
        3 => INPUTS_CAPABILITIES,
        _ => 0,
    };
    let reply = Body::default().u32(0).bytes(public.as_bytes()).u32(1).u32(1);
    let reply = reply.u32(CAPABILITIES_OFFSET).u32(COMMON_CAPABILITIES).u32(channel).0;
    let answer = Body::default().bytes(b"REDQ").u32(2).u32(2).u32(reply.len() as u32);
    stream.write_all(&answer.bytes(&reply).0).await?;
    let mut ticket = [0; 4 + 128];
    stream.read_exact(&mut ticket).await?;
    let readable = key.decrypt(Oaep::new::<Sha1>(), &ticket[4..]).is_ok();
    // SPICE_LINK_ERR_OK or SPICE_LINK_ERR_PERMISSION_DENIED
    stream.write_u32_le(if readable { 0 } else { 7 }).await?;
    if !readable {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the ticket cannot be read"));
    }
    Ok(kind)
}

/// A generator for keys that protect nothing.
struct Repeatable(u64);

impl rsa::rand_core::RngCore for Repeatable {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }
    fn fill_bytes(&mut self, target: &mut [u8]) {
        for byte in target {
            *byte = self.next_u64() as u8;
        }
    }
    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(target);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Repeatable {}
