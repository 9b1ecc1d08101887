//! The handshake that opens one channel (`protocol.h`, `SpiceLinkHeader` to
//! `SpiceLinkEncryptedTicket`).
//!
//! ```text
//! client: header, SpiceLinkMess, capabilities
//! server: header, SpiceLinkReply (error, RSA key), capabilities
//! client: mechanism (u32, if the server can select), ticket (128 bytes)
//! server: link error (u32)
//! ```

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPublicKey, rand_core};
use sha1::Sha1;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Refusal, SpiceError};

/// `SPICE_MAGIC`.
pub(crate) const MAGIC: [u8; 4] = *b"REDQ";
/// `SPICE_VERSION_MAJOR`; another major version is another protocol.
pub(crate) const VERSION_MAJOR: u32 = 2;
/// `SPICE_VERSION_MINOR`, of the capability era.
const VERSION_MINOR: u32 = 2;
/// `SpiceLinkHeader`: magic 4, major u32, minor u32, size u32.
pub(crate) const HEADER_BYTES: usize = 16;
/// `SpiceLinkMess`: connection u32, type u8, id u8, three u32.
pub(crate) const LINK_MESSAGE_BYTES: u32 = 18;
/// `SPICE_TICKET_PUBKEY_BYTES`: DER of a 1024-bit RSA key.
pub(crate) const PUBLIC_KEY_BYTES: usize = 162;
/// `SpiceLinkReply` without capabilities: error u32, key of 162 bytes, three u32.
pub(crate) const REPLY_BYTES: u32 = 178;
/// The reply with far more capability words than there are: the server's own limit for ours.
const REPLY_BYTES_MAX: u32 = 4096;
/// `SpiceLinkEncryptedTicket`: one RSA-1024 block.
pub const TICKET_BYTES: usize = 128;
/// `SPICE_MAX_PASSWORD_LENGTH`: with its NUL and OAEP padding it fits one block.
pub(crate) const PASSWORD_BYTES_MAX: usize = 60;
/// Random bytes of OAEP with SHA-1.
const SEED_BYTES: usize = 20;
/// `SPICE_COMMON_CAP_AUTH_SPICE`, as mechanism number.
pub(crate) const MECHANISM_SPICE: u32 = 1;

/// `SPICE_COMMON_CAP_PROTOCOL_AUTH_SELECTION`.
pub(crate) const CAPABILITY_AUTH_SELECTION: u32 = 0;
/// `SPICE_COMMON_CAP_AUTH_SPICE`.
pub(crate) const CAPABILITY_AUTH_SPICE: u32 = 1;
/// `SPICE_COMMON_CAP_MINI_HEADER`.
pub(crate) const CAPABILITY_MINI_HEADER: u32 = 3;
/// What this library can do on every channel.
pub(crate) const COMMON: Capabilities =
    Capabilities::of(&[CAPABILITY_AUTH_SELECTION, CAPABILITY_AUTH_SPICE, CAPABILITY_MINI_HEADER]);

/// Kind of a channel (`enums.h`, `SPICE_CHANNEL_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelKind {
    /// 1: session, agent, list of channels.
    Main,
    /// 2: drawing.
    Display,
    /// 3: keyboard and mouse.
    Inputs,
    /// 4: shape of the pointer.
    Cursor,
    /// 5: sound to the user.
    Playback,
    /// 6: sound from the user.
    Record,
    /// 8: smart cards.
    Smartcard,
    /// 9: USB devices.
    Usbredir,
    /// 10: a named byte stream.
    Port,
    /// 11: shared folders.
    Webdav,
    /// Any other number.
    Other(u8),
}

/// A set of capability bits (the first capability word; no channel has more than 32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u32);

/// A SPICE password, wiped from memory when dropped and never printed.
#[derive(Clone, Default)]
pub struct Password(Zeroizing<Vec<u8>>);

/// The 20 random bytes of one ticket's OAEP padding. Use one for one channel only.
pub struct TicketSeed([u8; SEED_BYTES]);

/// What a channel needs to link.
#[derive(Debug)]
pub struct LinkSetup {
    /// Number of the channel among those of its kind (`CHANNELS_LIST`), 0 for main.
    pub channel_id: u8,
    /// 0 for main; for the others the session id from its INIT.
    pub connection_id: u32,
    /// Empty when the server asks for none; then any is accepted.
    pub password: Password,
    /// Randomness for the ticket.
    pub seed: TicketSeed,
}

/// What the server told while linking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its capabilities that are common to all channels.
    pub common: Capabilities,
    /// Its capabilities of this channel.
    pub channel: Capabilities,
}

/// The client's side of the handshake.
#[derive(Debug)]
pub(crate) struct Link {
    state: State,
    password: Password,
    seed: TicketSeed,
}

#[derive(Debug)]
enum State {
    AwaitReply,
    AwaitResult(Linked),
}

impl ChannelKind {
    /// The kind with this number.
    pub const fn from_wire(number: u8) -> Self {
        match number {
            1 => Self::Main,
            2 => Self::Display,
            3 => Self::Inputs,
            4 => Self::Cursor,
            5 => Self::Playback,
            6 => Self::Record,
            8 => Self::Smartcard,
            9 => Self::Usbredir,
            10 => Self::Port,
            11 => Self::Webdav,
            other => Self::Other(other),
        }
    }

    /// The number of this kind.
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Main => 1,
            Self::Display => 2,
            Self::Inputs => 3,
            Self::Cursor => 4,
            Self::Playback => 5,
            Self::Record => 6,
            Self::Smartcard => 8,
            Self::Usbredir => 9,
            Self::Port => 10,
            Self::Webdav => 11,
            Self::Other(number) => number,
        }
    }
}

impl Capabilities {
    /// The set of these bit numbers, each below 32.
    pub const fn of(bits: &[u32]) -> Self {
        let mut word = 0;
        let mut rest = bits;
        while let [bit, tail @ ..] = rest {
            word |= 1_u32.wrapping_shl(*bit);
            rest = tail;
        }
        Self(word)
    }

    /// Whether the bit is in the set.
    pub const fn has(self, bit: u32) -> bool {
        self.0 & 1_u32.wrapping_shl(bit) != 0
    }

    /// The set of a word on the wire.
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// What is in both sets.
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either set.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as the word on the wire.
    pub const fn word(self) -> u32 {
        self.0
    }
}

impl Password {
    /// Checks the length: at most 60 bytes (`SPICE_MAX_PASSWORD_LENGTH`).
    pub fn new(password: &str) -> Result<Self, SpiceError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(SpiceError::PasswordTooLong { limit: PASSWORD_BYTES_MAX });
        }
        Ok(Self(Zeroizing::new(password.as_bytes().to_vec())))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(..)")
    }
}

impl TicketSeed {
    /// Draws a fresh seed.
    pub fn generate(random: &mut impl rand::CryptoRng) -> Self {
        let mut seed = [0; SEED_BYTES];
        random.fill_bytes(&mut seed);
        Self(seed)
    }
}

impl fmt::Debug for TicketSeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketSeed(..)")
    }
}

impl Drop for TicketSeed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Link {
    /// Starts a handshake: appends the link message to `out`.
    pub(crate) fn start(
        kind: ChannelKind,
        capabilities: Capabilities,
        setup: LinkSetup,
        out: &mut BytesMut,
    ) -> Self {
        Self::start_as(kind, (COMMON, capabilities), setup, out)
    }

    /// As [`Link::start`], with these capabilities that are common to all channels, and of the channel.
    pub(crate) fn start_as(
        kind: ChannelKind,
        (common, capabilities): (Capabilities, Capabilities),
        setup: LinkSetup,
        out: &mut BytesMut,
    ) -> Self {
        put_header(LINK_MESSAGE_BYTES + 8, out);
        out.put_u32_le(setup.connection_id);
        out.put_u8(kind.to_wire());
        out.put_u8(setup.channel_id);
        out.put_u32_le(1);
        out.put_u32_le(1);
        out.put_u32_le(LINK_MESSAGE_BYTES);
        out.put_u32_le(common.word());
        out.put_u32_le(capabilities.word());
        Self { state: State::AwaitReply, password: setup.password, seed: setup.seed }
    }

    /// Takes what it can from `input`, appends answers to `out`; `Some` when the channel is open.
    pub(crate) fn advance(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Linked>, SpiceError> {
        if matches!(self.state, State::AwaitReply) {
            let Some(size) = reply_size(input)? else { return Ok(None) };
            if input.len() < HEADER_BYTES + size {
                return Ok(None);
            }
            input.advance(HEADER_BYTES);
            let reply = input.split_to(size);
            let linked = self.answer(&reply, out)?;
            self.state = State::AwaitResult(linked);
        }
        let State::AwaitResult(linked) = self.state else { return Ok(None) };
        let Some(code) = input.first_chunk::<4>() else { return Ok(None) };
        match Refusal::from_wire(u32::from_le_bytes(*code)) {
            Refusal::None => {
                input.advance(4);
                Ok(Some(linked))
            }
            refusal => Err(SpiceError::Refused(refusal)),
        }
    }

    fn answer(&self, reply: &[u8], out: &mut BytesMut) -> Result<Linked, SpiceError> {
        let (linked, public_key) = parse_reply(reply)?;
        if !linked.common.has(CAPABILITY_MINI_HEADER) {
            return Err(SpiceError::NotSpice { problem: "it lacks mini headers; it is too old" });
        }
        let ticket = encrypt(&public_key, &self.password, &self.seed)?;
        if linked.common.has(CAPABILITY_AUTH_SELECTION) {
            if !linked.common.has(CAPABILITY_AUTH_SPICE) {
                return Err(SpiceError::NotSpice { problem: "it accepts no spice tickets" });
            }
            out.put_u32_le(MECHANISM_SPICE);
        }
        out.put_slice(&ticket);
        Ok(linked)
    }
}

/// `SpiceLinkHeader` before a body of this size.
pub(crate) fn put_header(size: u32, out: &mut BytesMut) {
    out.put_slice(&MAGIC);
    out.put_u32_le(VERSION_MAJOR);
    out.put_u32_le(VERSION_MINOR);
    out.put_u32_le(size);
}

/// Size of the reply behind the header at the front of `input`, once the header is there.
pub(crate) fn reply_size(input: &[u8]) -> Result<Option<usize>, SpiceError> {
    // A stranger on the socket is told apart by its first bytes, without waiting for a header.
    let prefix = input.len().min(MAGIC.len());
    if input.get(..prefix) != MAGIC.get(..prefix) {
        return Err(SpiceError::NotSpice { problem: "its first bytes are not REDQ" });
    }
    let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let word = |at: usize| {
        header
            .get(at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map_or(0, |four| u32::from_le_bytes(*four))
    };
    if word(4) != VERSION_MAJOR {
        return Err(SpiceError::NotSpice { problem: "its major version is not 2" });
    }
    let size = word(12);
    if !(REPLY_BYTES..=REPLY_BYTES_MAX).contains(&size) {
        return Err(SpiceError::NotSpice { problem: "the size of its link reply is out of range" });
    }
    Ok(Some(usize::try_from(size).unwrap_or(usize::MAX)))
}

/// `SpiceLinkReply`: error u32, key 162, common count u32, channel count u32, offset u32.
fn parse_reply(reply: &[u8]) -> Result<(Linked, [u8; PUBLIC_KEY_BYTES]), SpiceError> {
    const SHORT: SpiceError = SpiceError::Truncated { what: "link reply" };
    let mut fields = reply;
    let word = |fields: &mut &[u8]| fields.try_get_u32_le().map_err(|_short| SHORT);
    match Refusal::from_wire(word(&mut fields)?) {
        Refusal::None => {}
        refusal => return Err(SpiceError::Refused(refusal)),
    }
    let public_key = *fields.first_chunk::<PUBLIC_KEY_BYTES>().ok_or(SHORT)?;
    fields.advance(PUBLIC_KEY_BYTES);
    let counts = [word(&mut fields)?, word(&mut fields)?];
    let offset = usize::try_from(word(&mut fields)?).unwrap_or(usize::MAX);
    let mut words = reply.get(offset..).ok_or(SHORT)?;
    let [common, channel] = counts.map(|count| {
        let bytes = usize::try_from(count).unwrap_or(usize::MAX).checked_mul(4)?;
        let (mut set, rest) = words.split_at_checked(bytes)?;
        words = rest;
        Some(Capabilities(set.try_get_u32_le().unwrap_or(0)))
    });
    let linked = Linked { common: common.ok_or(SHORT)?, channel: channel.ok_or(SHORT)? };
    Ok((linked, public_key))
}

/// RSA-OAEP with SHA-1 and an empty label of the password and a NUL.
fn encrypt(
    public_key: &[u8],
    password: &Password,
    seed: &TicketSeed,
) -> Result<[u8; TICKET_BYTES], SpiceError> {
    let key =
        RsaPublicKey::from_public_key_der(public_key).map_err(|_der| SpiceError::BadPublicKey)?;
    if key.size() != TICKET_BYTES {
        return Err(SpiceError::BadPublicKey);
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 1));
    plain.extend_from_slice(&password.0);
    plain.push(0);
    let mut random = SeedOnce { seed: seed.0, used: 0 };
    let ticket = key
        .encrypt(&mut random, Oaep::new::<Sha1>(), &plain)
        .map_err(|_encryption| SpiceError::BadPublicKey)?;
    random.seed.zeroize();
    <[u8; TICKET_BYTES]>::try_from(ticket).map_err(|_length| SpiceError::BadPublicKey)
}

/// Gives the seed to the one place in OAEP that wants randomness, then fails.
struct SeedOnce {
    seed: [u8; SEED_BYTES],
    used: usize,
}

impl rand_core::RngCore for SeedOnce {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, target: &mut [u8]) {
        // INVARIANT: OAEP with SHA-1 takes SEED_BYTES once. More would repeat the seed.
        debug_assert!(self.used + target.len() <= SEED_BYTES, "the seed is drawn once");
        for (byte, random) in target.iter_mut().zip(self.seed.iter().cycle().skip(self.used)) {
            *byte = *random;
        }
        self.used = self.used.saturating_add(target.len()).min(SEED_BYTES);
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(target);
        Ok(())
    }
}

impl rand_core::CryptoRng for SeedOnce {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Body, key_pair, setup};
    use expect_test::{Expect, expect};
    use rsa::pkcs8::EncodePublicKey;

    const ALL: u32 = 0b1011;

    fn reply(error: u32, public_key: &[u8], common: u32) -> Vec<u8> {
        let body = Body::default().u32(error).bytes(public_key).u32(1).u32(1).u32(178);
        let body = body.u32(common).u32(0x1052).0;
        let size = u32::try_from(body.len()).unwrap();
        Body::default().bytes(b"REDQ").u32(2).u32(2).u32(size).bytes(&body).0
    }

    /// Feeds `server` to a new link; its outcome and all that the client sent after its first.
    fn run(server: &[u8]) -> (Result<Option<Linked>, SpiceError>, BytesMut) {
        let mut out = BytesMut::new();
        let mut link = Link::start(ChannelKind::Main, Capabilities::default(), setup(), &mut out);
        out.clear();
        let outcome = link.advance(&mut BytesMut::from(server), &mut out);
        (outcome, out)
    }

    fn check_error(server: &[u8], expected: Expect) {
        expected.assert_eq(&run(server).0.unwrap_err().to_string());
    }

    #[test]
    fn the_link_message_has_its_documented_bytes() {
        let mut out = BytesMut::new();
        let capabilities = Capabilities::of(&[1, 6, 8]);
        let _link = Link::start(ChannelKind::Display, capabilities, setup(), &mut out);
        let words: Vec<_> = out.chunks(4).map(|word| format!("{word:02x?}")).collect();
        expect![[r#"
            [52, 45, 44, 51]
            [02, 00, 00, 00]
            [02, 00, 00, 00]
            [1a, 00, 00, 00]
            [04, 03, 02, 01]
            [02, 00, 01, 00]
            [00, 00, 01, 00]
            [00, 00, 12, 00]
            [00, 00, 0b, 00]
            [00, 00, 42, 01]
            [00, 00]"#]]
        .assert_eq(&words.join("\n"));
    }

    #[test]
    fn the_ticket_decrypts_to_the_password_and_the_link_opens() {
        let key = key_pair();
        let der = key.to_public_key().to_public_key_der().unwrap();
        let server = [reply(0, der.as_bytes(), ALL), vec![0; 4], b"next".to_vec()].concat();
        let mut input = BytesMut::from(&server[..]);
        let mut out = BytesMut::new();
        let mut link = Link::start(ChannelKind::Main, Capabilities::default(), setup(), &mut out);
        out.clear();
        let linked = link.advance(&mut input, &mut out).unwrap().unwrap();
        assert!(linked.common.has(3) && linked.channel.has(12) && !linked.channel.has(0));
        assert_eq!(&input[..], b"next", "what follows the link is left");
        let (mechanism, ticket) = out.split_at(4);
        assert_eq!(mechanism, [1, 0, 0, 0]);
        assert_eq!(key.decrypt(Oaep::new::<Sha1>(), ticket).unwrap(), b"secret\0");

        let refused = [reply(0, der.as_bytes(), ALL), vec![7, 0, 0, 0]].concat();
        check_error(
            &refused,
            expect![
                "the spice server refused the channel: the password is wrong or has expired; ask for a new one"
            ],
        );
        for end in 0..refused.len() - 4 {
            assert_eq!(run(&refused[..end]).0, Ok(None), "cut at {end}");
        }
        check_error(
            &reply(0, der.as_bytes(), 0b0011),
            expect!["the peer is not a usable spice server: it lacks mini headers; it is too old"],
        );
    }

    #[test]
    fn servers_that_cannot_be_used_are_told_why() {
        check_error(
            b"HTTP/1.1 400",
            expect!["the peer is not a usable spice server: its first bytes are not REDQ"],
        );
        check_error(
            &reply(8, &[0; PUBLIC_KEY_BYTES], ALL),
            expect![
                "the spice server refused the channel: the session is over; open the main channel again"
            ],
        );
        check_error(
            &reply(0, &[0; PUBLIC_KEY_BYTES], ALL),
            expect!["the server's public key cannot encrypt the spice ticket"],
        );
        let mut large = reply(0, &[0; PUBLIC_KEY_BYTES], ALL);
        large[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        check_error(
            &large,
            expect![
                "the peer is not a usable spice server: the size of its link reply is out of range"
            ],
        );
        let long = Password::new(&"x".repeat(61)).unwrap_err();
        expect!["the spice password is longer than 60 bytes; set a shorter one"]
            .assert_eq(&long.to_string());
    }
}
