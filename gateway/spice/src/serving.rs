//! The server's side of the handshake, for clients of others whose channels are passed on.
//!
//! ```text
//! client: header, SpiceLinkMess, capabilities   LinkRequest::read
//! server: header, SpiceLinkReply, capabilities  ServerKey::reply, or link_refusal
//! client: mechanism, ticket                     LinkRequest::read_ticket, ServerKey::open
//!                                               PassedLink: the same with the real server
//! server: link error (u32)                      Refusal::to_wire
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rsa::pkcs8::EncodePublicKey;
use rsa::{Oaep, RsaPrivateKey, rand_core};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::channel::put_mini_header;
use crate::display::{Compression, PREFERRED_COMPRESSION};
use crate::error::{Refusal, SpiceError};
pub use crate::link::TICKET_BYTES;
use crate::link::{
    CAPABILITY_AUTH_SELECTION, CAPABILITY_AUTH_SPICE, CAPABILITY_MINI_HEADER, COMMON, Capabilities,
    ChannelKind, HEADER_BYTES, LINK_MESSAGE_BYTES, Link, LinkSetup, Linked, MAGIC, MECHANISM_SPICE,
    PASSWORD_BYTES_MAX, PUBLIC_KEY_BYTES, Password, REPLY_BYTES, TicketSeed, VERSION_MAJOR,
    put_header,
};

/// Largest link message that is taken, the limit of spice-server too.
const REQUEST_BYTES_MAX: usize = 4096;
/// Bits of a key; the protocol has room for no other (`SPICE_TICKET_PUBKEY_BYTES`).
const KEY_BITS: usize = 1024;
/// What a server may send before its link is done, with what follows at once in the same piece.
const LINK_BYTES_MAX: usize = 1 << 20;

/// What a client wants opened (`SpiceLinkMess`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRequest {
    /// 0 for main; for the others the session id that main's INIT told.
    pub connection_id: u32,
    /// The channel's kind.
    pub kind: ChannelKind,
    /// Its number among those of its kind.
    pub channel_id: u8,
    /// The client's capabilities that are common to all channels.
    pub common: Capabilities,
    /// Its capabilities of this channel.
    pub channel: Capabilities,
}

/// A key for one link.
#[derive(Debug)]
pub struct ServerKey {
    key: RsaPrivateKey,
    public: [u8; PUBLIC_KEY_BYTES],
}

/// The link with the real server in a client's name; what follows is passed on.
#[derive(Debug)]
pub struct PassedLink {
    link: Link,
    input: BytesMut,
    output: BytesMut,
}

impl LinkRequest {
    /// Takes the request from the front of `input` once all of it is there.
    pub fn read(input: &mut BytesMut) -> Result<Option<Self>, Refusal> {
        // A stranger is told apart by its first bytes, without waiting for a header.
        let prefix = input.len().min(MAGIC.len());
        if input.get(..prefix) != MAGIC.get(..prefix) {
            return Err(Refusal::InvalidMagic);
        }
        let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let mut words = header.get(MAGIC.len()..).unwrap_or_default();
        let (major, _minor, size) = (words.get_u32_le(), words.get_u32_le(), words.get_u32_le());
        if major != VERSION_MAJOR {
            return Err(Refusal::VersionMismatch);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let least = usize::try_from(LINK_MESSAGE_BYTES).unwrap_or(usize::MAX);
        if !(least..=REQUEST_BYTES_MAX).contains(&size) {
            return Err(Refusal::InvalidData);
        }
        if input.len() < HEADER_BYTES + size {
            return Ok(None);
        }
        input.advance(HEADER_BYTES);
        let message = input.split_to(size);
        Self::parse(&message).map(Some).ok_or(Refusal::InvalidData)
    }

    /// What a picture's channel says before its client does, where images may be compressed: LZ, or QUIC
    /// for what looks like a photograph, which every client can read. One that wants something else says
    /// so afterwards. Without it the server would keep to what its own command line says: nothing.
    pub fn compression(&self) -> Option<Bytes> {
        let is_framed = self.common.has(CAPABILITY_MINI_HEADER);
        if self.kind != ChannelKind::Display || !is_framed {
            return None;
        }
        let mut message = BytesMut::new();
        put_mini_header(PREFERRED_COMPRESSION, 1, &mut message);
        message.put_u8(Compression::AutoLz.number());
        Some(message.freeze())
    }

    /// Connection u32, type u8, id u8, counts u32 and u32, offset u32; the words lie at the offset.
    fn parse(message: &[u8]) -> Option<Self> {
        let mut fields = message;
        let connection_id = fields.try_get_u32_le().ok()?;
        let kind = ChannelKind::from_wire(fields.try_get_u8().ok()?);
        let channel_id = fields.try_get_u8().ok()?;
        let counts = [fields.try_get_u32_le().ok()?, fields.try_get_u32_le().ok()?];
        let offset = usize::try_from(fields.try_get_u32_le().ok()?).ok()?;
        let mut words = message.get(offset..)?;
        let [common, channel] = counts.map(|count| {
            let bytes = usize::try_from(count).ok()?.checked_mul(4)?;
            let (mut set, rest) = words.split_at_checked(bytes)?;
            words = rest;
            Some(Capabilities::from_word(set.try_get_u32_le().unwrap_or(0)))
        });
        Some(Self { connection_id, kind, channel_id, common: common?, channel: channel? })
    }

    /// Takes the encrypted ticket from the front of `input` once all of it is there.
    pub fn read_ticket(&self, input: &mut BytesMut) -> Result<Option<[u8; TICKET_BYTES]>, Refusal> {
        // Who cannot select sends no mechanism.
        let selects = self.common.has(CAPABILITY_AUTH_SELECTION);
        let mechanism_bytes = if selects { 4 } else { 0 };
        if selects {
            let Some(mechanism) = input.first_chunk::<4>() else { return Ok(None) };
            if u32::from_le_bytes(*mechanism) != MECHANISM_SPICE {
                return Err(Refusal::InvalidData);
            }
        }
        let Some(ticket) = input.get(mechanism_bytes..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        let ticket = *ticket;
        input.advance(mechanism_bytes + TICKET_BYTES);
        Ok(Some(ticket))
    }
}

/// What a client is told that the server can do on a channel of this kind, before the server is asked:
/// what those of 0.14 and later do. A client that was told less than there is does without it.
pub const fn offered(kind: ChannelKind) -> Capabilities {
    match kind {
        // Semi-seamless migration, name and UUID, the agent's tokens, seamless migration.
        ChannelKind::Main => Capabilities::of(&[0, 1, 2, 3]),
        // Monitors' places, stream reports, preferred compression.
        ChannelKind::Display => Capabilities::of(&[1, 4, 6]),
        // Scan codes.
        ChannelKind::Inputs => Capabilities::of(&[0]),
        // Volume, Opus.
        ChannelKind::Playback => Capabilities::of(&[1, 3]),
        ChannelKind::Record => Capabilities::of(&[1, 2]),
        ChannelKind::Cursor
        | ChannelKind::Smartcard
        | ChannelKind::Usbredir
        | ChannelKind::Port
        | ChannelKind::Webdav
        | ChannelKind::Other(_) => Capabilities::of(&[]),
    }
}

/// The link reply that says no.
pub fn link_refusal(refusal: Refusal) -> Bytes {
    reply(refusal, &[0; PUBLIC_KEY_BYTES], &[])
}

fn reply(refusal: Refusal, key: &[u8; PUBLIC_KEY_BYTES], sets: &[Capabilities]) -> Bytes {
    let mut out = BytesMut::new();
    let words = u32::try_from(sets.len()).unwrap_or(0);
    put_header(REPLY_BYTES + 4 * words, &mut out);
    out.put_u32_le(refusal.to_wire());
    out.put_slice(key);
    // One word for what is common, one for the channel.
    out.put_u32_le(words.min(1));
    out.put_u32_le(words.saturating_sub(1));
    out.put_u32_le(REPLY_BYTES);
    for set in sets {
        out.put_u32_le(set.word());
    }
    out.freeze()
}

impl ServerKey {
    /// Makes a key: some milliseconds of a processor. It is for one link: an attacker who could tell from
    /// the time of a decryption how its padding looked (RUSTSEC-2023-0071) has one try at it, and its
    /// cipher text is the attacker's own.
    pub fn generate(random: &mut impl rand::CryptoRng) -> Result<Self, SpiceError> {
        let key = RsaPrivateKey::new(&mut Random(random), KEY_BITS)
            .map_err(|_rsa| SpiceError::BadPublicKey)?;
        let der =
            key.to_public_key().to_public_key_der().map_err(|_der| SpiceError::BadPublicKey)?;
        let public = <[u8; PUBLIC_KEY_BYTES]>::try_from(der.as_bytes())
            .map_err(|_length| SpiceError::BadPublicKey)?;
        Ok(Self { key, public })
    }

    /// The link reply to a client: it may go on, and this is what it gets.
    pub fn reply(&self, channel: Capabilities) -> Bytes {
        reply(Refusal::None, &self.public, &[COMMON, channel])
    }

    /// The password in a ticket, without its NUL; none when it does not decrypt to one.
    pub fn open(
        self,
        ticket: &[u8; TICKET_BYTES],
        random: &mut impl rand::CryptoRng,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let plain = self.key.decrypt_blinded(&mut Random(random), Oaep::new::<Sha1>(), ticket);
        let mut plain = Zeroizing::new(plain.ok()?);
        let end = plain.iter().position(|byte| *byte == 0).unwrap_or(plain.len());
        plain.truncate(end);
        (end <= PASSWORD_BYTES_MAX).then_some(plain)
    }
}

impl PassedLink {
    /// Starts the link with the server for a client that asked for this.
    pub fn start(request: &LinkRequest, password: Password, seed: TicketSeed) -> Self {
        // Who authenticates is this side; how messages are framed is the client's.
        let framing = Capabilities::of(&[CAPABILITY_MINI_HEADER]).both(request.common);
        let access = Capabilities::of(&[CAPABILITY_AUTH_SELECTION, CAPABILITY_AUTH_SPICE]);
        let common = framing.with(access);
        let LinkRequest { connection_id, kind, channel_id, channel, .. } = *request;
        let setup = LinkSetup { channel_id, connection_id, password, seed };
        let mut output = BytesMut::new();
        let link = Link::start_as(kind, (common, channel), setup, &mut output);
        Self { link, input: BytesMut::new(), output }
    }

    /// What is to be sent to the server now.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| self.output.split().freeze())
    }

    /// Takes bytes of the server; once the channel is open, what the server can do on it and the bytes
    /// that followed, which are the client's.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<(Linked, Bytes)>, SpiceError> {
        if LINK_BYTES_MAX < self.input.len() + bytes.len() {
            return Err(SpiceError::InboxFull { limit: LINK_BYTES_MAX });
        }
        self.input.extend_from_slice(bytes);
        let linked = self.link.advance(&mut self.input, &mut self.output)?;
        Ok(linked.map(|linked| (linked, self.input.split().freeze())))
    }
}

/// The `rsa` crate's own kind of randomness, from ours.
struct Random<'a, R>(&'a mut R);

impl<R: rand::CryptoRng> rand_core::RngCore for Random<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, target: &mut [u8]) {
        self.0.fill_bytes(target);
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill_bytes(target);
        Ok(())
    }
}

impl<R: rand::CryptoRng> rand_core::CryptoRng for Random<'_, R> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::test_support::Body;

    fn seed() -> TicketSeed {
        TicketSeed::generate(&mut StdRng::seed_from_u64(7))
    }

    fn request(kind: ChannelKind, connection_id: u32) -> LinkRequest {
        let channel = Capabilities::of(&[1, 12]);
        LinkRequest { connection_id, kind, channel_id: 0, common: COMMON, channel }
    }

    #[test]
    fn our_own_client_links_with_our_server_and_its_password_is_found() {
        let mut random = StdRng::seed_from_u64(11);
        let password = Password::new("secret").unwrap();
        let asked = request(ChannelKind::Display, 0x0102_0304);
        let mut client = PassedLink::start(&asked, password, seed());

        let mut input = BytesMut::new();
        for byte in client.poll_transmit().unwrap() {
            assert_eq!(LinkRequest::read(&mut input), Ok(None));
            input.put_u8(byte);
        }
        let read = LinkRequest::read(&mut input).unwrap().unwrap();
        assert_eq!(read, asked);
        assert!(input.is_empty());

        let key = ServerKey::generate(&mut random).unwrap();
        assert_eq!(client.receive(&key.reply(offered(read.kind))), Ok(None));
        input.extend_from_slice(&client.poll_transmit().unwrap());
        let ticket = read.read_ticket(&mut input).unwrap().unwrap();
        assert_eq!(key.open(&ticket, &mut random).unwrap().as_slice(), b"secret");

        let welcome = Body::default().u32(Refusal::None.to_wire()).bytes(b"first message").0;
        let (linked, rest) = client.receive(&welcome).unwrap().unwrap();
        assert!(linked.channel.has(6) && !linked.channel.has(12));
        assert_eq!(&rest[..], b"first message");
    }

    #[test]
    fn the_framing_is_the_clients() {
        for (common, framed) in [(0b1011, 0b1011), (0b0001, 0b0011), (0b0111, 0b0011)] {
            let mut asked = request(ChannelKind::Main, 0);
            asked.common = Capabilities::from_word(common);
            let mut sent = PassedLink::start(&asked, Password::default(), seed());
            let mut sent = BytesMut::from(&sent.poll_transmit().unwrap()[..]);
            assert_eq!(LinkRequest::read(&mut sent).unwrap().unwrap().common.word(), framed);
        }
    }

    #[test]
    fn a_client_that_cannot_select_sends_its_ticket_alone() {
        let mut asked = request(ChannelKind::Main, 0);
        asked.common = Capabilities::default();
        let mut input = BytesMut::from(&[5; TICKET_BYTES][..]);
        assert_eq!(asked.read_ticket(&mut input), Ok(Some([5; TICKET_BYTES])));
        asked.common = COMMON;
        let mut sasl = BytesMut::from(&[2, 0, 0, 0][..]);
        assert_eq!(asked.read_ticket(&mut sasl), Err(Refusal::InvalidData));
    }

    #[test]
    fn what_is_not_a_link_message_is_refused_by_its_number() {
        let header = |major: u32, size: u32| {
            Body::default().bytes(b"REDQ").u32(major).u32(2).u32(size).bytes(&[0; 64]).0
        };
        let far = Body::default().u32(0).u8(1).u8(0).u32(u32::MAX).u32(1).u32(18).0;
        let far = [header(2, 18)[..16].to_vec(), far].concat();
        for (bytes, refusal) in [
            (b"GET / HTTP/1.1".to_vec(), Refusal::InvalidMagic),
            (header(1, 18), Refusal::VersionMismatch),
            (header(2, 17), Refusal::InvalidData),
            (header(2, 4097), Refusal::InvalidData),
            (far, Refusal::InvalidData),
        ] {
            assert_eq!(LinkRequest::read(&mut BytesMut::from(&bytes[..])), Err(refusal));
        }
        let told = link_refusal(Refusal::ChannelNotAvailable);
        assert_eq!(told.len(), 16 + 178);
        let asked = request(ChannelKind::Usbredir, 1);
        let mut client = PassedLink::start(&asked, Password::default(), seed());
        let heard = client.receive(&told);
        assert_eq!(heard, Err(SpiceError::Refused(Refusal::ChannelNotAvailable)));
    }

    #[test]
    fn a_ticket_of_another_key_or_of_noise_has_no_password() {
        let mut random = StdRng::seed_from_u64(3);
        for noise in [[0; TICKET_BYTES], [0x41; TICKET_BYTES], [0xff; TICKET_BYTES]] {
            let key = ServerKey::generate(&mut random).unwrap();
            assert!(key.open(&noise, &mut random).is_none());
        }
    }

    proptest! {
        #[test]
        fn reading_is_total_and_never_takes_more_than_is_there(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            magic in any::<bool>(),
            size in 0_u32..200,
        ) {
            let head = Body::default().bytes(b"REDQ").u32(2).u32(2).u32(size).0;
            let bytes = if magic { [head, bytes].concat() } else { bytes };
            let mut input = BytesMut::from(&bytes[..]);
            if let Ok(Some(request)) = LinkRequest::read(&mut input) {
                let taken = bytes.len() - input.len();
                assert_eq!(taken, 16 + usize::try_from(size).unwrap());
                assert!(!matches!(request.read_ticket(&mut input), Ok(Some(_))) || 132 <= bytes.len());
            }
            let mut client = PassedLink::start(&request(ChannelKind::Main, 0), Password::default(), seed());
            drop(client.receive(&bytes));
        }
    }
}
