//! Servers' bytes for unit tests.

use bytes::{BufMut, BytesMut};

use crate::link::{LinkSetup, Password, TicketSeed};

/// A server's RSA-1024 key in DER, made for these tests with a fixed seed.
pub(crate) fn key_pair() -> rsa::RsaPrivateKey {
    rsa::RsaPrivateKey::new(&mut Repeatable(0x5eed), 1024).unwrap()
}

pub(crate) fn setup() -> LinkSetup {
    use rand::SeedableRng;
    LinkSetup {
        channel_id: 0,
        connection_id: 0x0102_0304,
        password: Password::new("secret").unwrap(),
        seed: TicketSeed::generate(&mut rand::rngs::StdRng::seed_from_u64(7)),
    }
}

/// A message with its mini header.
pub(crate) fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u16_le(kind);
    out.put_u32_le(u32::try_from(body.len()).unwrap());
    out.put_slice(body);
    out.to_vec()
}

/// Bytes built field by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.put_u16_le(value);
        self
    }
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32_le(value);
        self
    }
    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64_le(value);
        self
    }
    pub(crate) fn i32s(mut self, values: &[i32]) -> Self {
        values.iter().for_each(|value| self.0.put_i32_le(*value));
        self
    }
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.put_slice(bytes);
        self
    }
}

/// A message body whose pointers lead to parts behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pointed {
    pub(crate) body: Body,
    /// Where a pointer is, and what it leads to.
    pub(crate) parts: Vec<(usize, Body)>,
}

impl Pointed {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, parts: Vec::new() }
    }
    pub(crate) fn add(mut self, add: impl FnOnce(Body) -> Body) -> Self {
        self.body = add(self.body);
        self
    }
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        self.add(|body| body.bytes(bytes))
    }
    pub(crate) fn pointer(mut self, part: Body) -> Self {
        self.parts.push((self.body.0.len(), part));
        self.add(|body| body.u32(0))
    }
    pub(crate) fn join(mut self, other: Self) -> Self {
        let start = self.body.0.len();
        self.parts.extend(other.parts.into_iter().map(|(place, part)| (start + place, part)));
        self.bytes(&other.body.0)
    }
    pub(crate) fn build(self) -> Vec<u8> {
        let mut bytes = self.body.0;
        for (place, part) in self.parts {
            let offset = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            bytes[place..place + 4].copy_from_slice(&offset);
            bytes.extend(part.0);
        }
        bytes
    }
}

/// A repeatable generator for keys that protect nothing.
pub(crate) struct Repeatable(pub(crate) u64);

impl rsa::rand_core::RngCore for Repeatable {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).unwrap()
    }
    fn next_u64(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn fill_bytes(&mut self, target: &mut [u8]) {
        for byte in target {
            *byte = self.next_u64().to_le_bytes()[0];
        }
    }
    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(target);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Repeatable {}
