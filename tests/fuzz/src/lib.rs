//! What the fuzz targets share: inputs that are lists of messages, and servers that have linked.
//!
//! Every input is a list of records, `u16 kind, u16 length, body`, read without any way to be wrong;
//! a target turns each into a message with sound headers, so that no input is spent on those. The
//! targets' own mutator changes the list record by record, bodies by libFuzzer's own mutations.

use std::sync::LazyLock;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rsa::pkcs8::EncodePublicKey;
use rsa::{BigUint, RsaPublicKey};
use vidi_display::protocol::{BrowserHello, ViewerMessage, decode};
use vidi_spice::{LinkSetup, Password, TicketSeed};

/// `u16 kind, u16 length` before each body.
const HEADER_BYTES: usize = 4;
/// Most changes that one mutation makes.
const CHANGES_MAX: usize = 4;
/// What a body may grow by in one change.
const GROWTH_BYTES: usize = 64;

/// `SPICE_MSG_MAIN_INIT`
const MAIN_INIT: u16 = 103;
/// `SPICE_MSG_MAIN_AGENT_DATA`
const MAIN_AGENT_DATA: u16 = 109;
/// `VD_AGENT_MAX_DATA_SIZE`
const AGENT_CHUNK_BYTES: usize = 2048;

/// One record of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is; each target says what its kinds mean.
    pub kind: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Record {
    /// Appends the record as [`records`] reads it; what is beyond 65,535 bytes is left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.body.len()).unwrap_or(u16::MAX);
        out.extend(self.kind.to_le_bytes());
        out.extend(length.to_le_bytes());
        out.extend(self.body.iter().take(length.into()));
    }
}

/// The records of an input; the last one's length may be a lie.
pub fn records(mut input: &[u8]) -> impl Iterator<Item = Record> {
    std::iter::from_fn(move || {
        let (&[kind_low, kind_high, low, high], rest) =
            input.split_first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        input = rest;
        Some(Record { kind: u16::from_le_bytes([kind_low, kind_high]), body: body.to_vec() })
    })
}

/// A message with its mini header (`spice.proto`: `u16 type, u32 size`).
pub fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&kind.to_le_bytes()[..], &size.to_le_bytes(), body].concat()
}

/// `SPICE_MSG_MAIN_INIT` of a guest with an agent that may be sent many messages.
pub fn main_init() -> Vec<u8> {
    let words = [1_u32, 1, 3, 2, 1, 1 << 20, 0, 0];
    message(MAIN_INIT, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
}

/// A message of the agent in the guest, as messages of the main channel (`vd_agent.h`,
/// `VDAgentMessage`: protocol u32, type u32, opaque u64, size u32).
pub fn agent_says(kind: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let head = [1_u32, kind, 0, 0, size];
    let mut whole: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
    whole.extend(body);
    whole.chunks(AGENT_CHUNK_BYTES).flat_map(|chunk| message(MAIN_AGENT_DATA, chunk)).collect()
}

/// What a server says until a channel is open: its reply with a key, and that the ticket is good.
pub static LINKED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = public_key();
    let mut reply = b"REDQ".to_vec();
    let words = |values: &[u32]| values.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>();
    let size = u32::try_from(4 + key.len() + 12 + 8).unwrap_or_default();
    let offset = u32::try_from(4 + key.len() + 12).unwrap_or_default();
    reply.extend(words(&[2, 2, size, 0]));
    reply.extend(&key);
    // One common word (authentication, mini headers), one of the channel: everything there is.
    reply.extend(words(&[1, 1, offset, 0b1011, u32::MAX, 0]));
    reply
});

/// The DER of an RSA-1024 key; nobody has its other half.
fn public_key() -> Vec<u8> {
    let modulus = BigUint::from_bytes_be(&[0xd5; 128]);
    let key = RsaPublicKey::new(modulus, BigUint::from(65_537_u32));
    key.ok()
        .and_then(|key| key.to_public_key_der().ok())
        .map(|der| der.into_vec())
        .unwrap_or_default()
}

/// What a channel links with.
pub fn setup() -> LinkSetup {
    LinkSetup {
        channel_id: 0,
        connection_id: 1,
        password: Password::new("secret").unwrap_or_default(),
        seed: TicketSeed::generate(&mut StdRng::seed_from_u64(7)),
    }
}

/// A browser's hello that claims every ability, with a cache of 1 MiB and a window of 100 x 80.
pub fn hello() -> BrowserHello {
    let body: [u8; 12] = [1, 0, 0xff, 0xff, 0, 0, 16, 0, 100, 0, 80, 0];
    let record = [&[65, 0, 0, 0, 12, 0, 0, 0][..], &body].concat();
    match decode(&record).as_deref() {
        Ok([ViewerMessage::Hello(hello)]) => *hello,
        other => unreachable!("the hello is sound: {other:?}"),
    }
}

/// Changes an input record by record; the number of bytes that `data` then holds.
pub fn mutate(data: &mut [u8], size: usize, size_max: usize, seed: u32) -> usize {
    let mut random = StdRng::seed_from_u64(seed.into());
    let mut list: Vec<Record> = records(data.get(..size).unwrap_or_default()).collect();
    for _change in 0..random.random_range(1..=CHANGES_MAX) {
        change(&mut list, &mut random);
    }
    let mut out = Vec::with_capacity(size_max);
    for record in &list {
        if out.len() + HEADER_BYTES + record.body.len() > size_max {
            break;
        }
        record.write(&mut out);
    }
    if let Some(place) = data.get_mut(..out.len()) {
        place.copy_from_slice(&out);
    }
    out.len()
}

fn change(list: &mut Vec<Record>, random: &mut StdRng) {
    if list.is_empty() {
        list.push(Record {
            kind: random.random(),
            body: vec![0; random.random_range(0..GROWTH_BYTES)],
        });
    }
    let (one, other) = (random.random_range(0..list.len()), random.random_range(0..list.len()));
    match random.random_range(0..12) {
        0 if list.len() > 1 => {
            list.remove(one);
        }
        1 => {
            let copy = list.get(one).cloned();
            list.splice(other..other, copy);
        }
        2 => list.swap(one, other),
        3 => {
            let tail = list.get(other).map(|it| it.body.clone()).unwrap_or_default();
            if let Some(record) = list.get_mut(one) {
                let (at, from) = (place(&record.body, random), place(&tail, random));
                record.body.truncate(at);
                record.body.extend(tail.iter().skip(from));
            }
        }
        4 => {
            if let Some(record) = list.get_mut(one) {
                record.kind ^= 1 << random.random_range(0..16);
            }
        }
        5 => {
            if let Some(record) = list.get_mut(one) {
                record.kind = record.kind.wrapping_add_signed(random.random_range(-3..=3));
            }
        }
        6 | 7 => {
            if let Some(record) = list.get_mut(one) {
                set_number(&mut record.body, random);
            }
        }
        _ => {
            if let Some(record) = list.get_mut(one) {
                let length = record.body.len();
                record.body.resize(length + GROWTH_BYTES, 0);
                let length =
                    libfuzzer_sys::fuzzer_mutate(&mut record.body, length, length + GROWTH_BYTES);
                record.body.truncate(length);
            }
        }
    }
}

fn place(body: &[u8], random: &mut StdRng) -> usize {
    random.random_range(0..=body.len())
}

/// Writes a number that is a likely size, offset or limit of this body.
fn set_number(body: &mut [u8], random: &mut StdRng) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let value = match random.random_range(0..6) {
        0 => random.random_range(0..=length),
        1 => length,
        2 => random.random_range(0..20),
        3 => u32::MAX - random.random_range(0..3),
        4 => 1 << random.random_range(0..32),
        _ => random.random_range(0..1 << 16),
    };
    let at = place(body, random);
    let width = if random.random() { 4 } else { 2 };
    for (byte, value) in body.iter_mut().skip(at).zip(value.to_le_bytes().into_iter().take(width)) {
        *byte = value;
    }
}
