//! The journal's stored form ↔ model.
//!
//! ```text
//!  value = sequence (u64, big endian) | CRC-32 of all but itself (u32, big endian) | message
//! ```

use std::collections::BTreeMap;

use prost::Message;
use uuid::Uuid;
use vidi_kit::ids::DesktopId;
use vidi_proto::v1::WantedSet;

use crate::model::record::{Failure, Record};
use crate::model::wanted::Wanted;
use crate::rpc::wire::{wanted_from_wire, wanted_to_wire};

const SEQUENCE_BYTES: usize = 8;
/// What stands before the message.
pub const HEADER_BYTES: usize = 12;

/// A value that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its checksum or form is wrong")]
pub struct Damaged;

/// Seals a message with its place in the order of writes.
pub fn seal(sequence: u64, body: &[u8]) -> Vec<u8> {
    let sequence = sequence.to_be_bytes();
    [&sequence, checksum(&sequence, body).to_be_bytes().as_slice(), body].concat()
}

/// Opens what [`seal`] made.
pub fn open(value: &[u8]) -> Result<(u64, &[u8]), Damaged> {
    let (header, body) = value.split_at_checked(HEADER_BYTES).ok_or(Damaged)?;
    let (sequence, sum) = header.split_first_chunk::<SEQUENCE_BYTES>().ok_or(Damaged)?;
    if sum != checksum(sequence, body).to_be_bytes() {
        return Err(Damaged);
    }
    Ok((u64::from_be_bytes(*sequence), body))
}

fn checksum(sequence: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(sequence);
    hasher.update(body);
    hasher.finalize()
}

/// The wanted set as the link's own message.
pub fn encode_wanted(wanted: &BTreeMap<DesktopId, Wanted>) -> Vec<u8> {
    let desktops = wanted.values().map(wanted_to_wire).collect();
    // Numbers are of a connection, which ends before this is read.
    WantedSet { desktops, number: 0 }.encode_to_vec()
}

/// What [`encode_wanted`] made.
pub fn decode_wanted(body: &[u8]) -> Result<BTreeMap<DesktopId, Wanted>, Damaged> {
    let set = WantedSet::decode(body).map_err(|_| Damaged)?;
    wanted_from_wire(&set).map_err(|_| Damaged)
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(uint64, tag = "1")]
    generation: u64,
    #[prost(uint64, tag = "2")]
    start_count: u64,
    #[prost(uint64, tag = "3")]
    started_generation: u64,
    #[prost(uint64, tag = "4")]
    ready_start: u64,
    #[prost(message, tag = "5")]
    failure: Option<StoredFailure>,
    /// Since form 1; a form-0 record counted its last start as one that worked.
    #[prost(uint64, tag = "6")]
    started: u64,
    #[prost(bytes = "vec", tag = "7")]
    started_boot: Vec<u8>,
    #[prost(uint64, tag = "8")]
    guest_off_start: u64,
    #[prost(uint32, tag = "9")]
    unwanted_ends: u32,
    #[prost(uint64, tag = "10")]
    counted_start: u64,
    #[prost(uint64, tag = "11")]
    begun_start: u64,
    #[prost(uint64, tag = "12")]
    unready_start: u64,
    /// Form of this record.
    #[prost(uint32, tag = "15")]
    version: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StoredFailure {
    #[prost(uint64, tag = "1")]
    generation: u64,
    #[prost(string, tag = "2")]
    reason: String,
}

/// Form of the records that this program writes. It reads all up to this one.
const RECORD_VERSION: u32 = 1;

/// A record's message.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let failure = record.failure.as_ref();
    StoredRecord {
        generation: record.generation,
        start_count: record.start_count,
        started_generation: record.started_generation,
        ready_start: record.ready_start,
        failure: failure
            .map(|it| StoredFailure { generation: it.generation, reason: it.reason.clone() }),
        started: record.started,
        started_boot: record.started_boot.as_bytes().to_vec(),
        guest_off_start: record.guest_off_start,
        unwanted_ends: record.unwanted_ends,
        counted_start: record.counted_start,
        begun_start: record.begun_start,
        unready_start: record.unready_start,
        version: RECORD_VERSION,
    }
    .encode_to_vec()
}

/// What [`encode_record`] made.
pub fn decode_record(body: &[u8]) -> Result<Record, Damaged> {
    let stored = StoredRecord::decode(body).map_err(|_| Damaged)?;
    Ok(Record {
        generation: stored.generation,
        start_count: stored.start_count,
        started_generation: stored.started_generation,
        ready_start: stored.ready_start,
        failure: stored.failure.map(|it| Failure { generation: it.generation, reason: it.reason }),
        started: if stored.version == 0 && 0 < stored.started_generation {
            stored.start_count
        } else {
            stored.started
        },
        started_boot: Uuid::from_slice(&stored.started_boot).unwrap_or_default(),
        guest_off_start: stored.guest_off_start,
        unwanted_ends: stored.unwanted_ends,
        counted_start: stored.counted_start,
        begun_start: stored.begun_start,
        unready_start: stored.unready_start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_bit_anywhere_is_seen() {
        let failure = Failure { generation: 2, reason: "no memory".to_owned() };
        let record = Record {
            start_count: 7,
            started: 6,
            started_boot: Uuid::from_u128(5),
            unwanted_ends: 4,
            failure: Some(failure),
            ..Record::default()
        };
        let value = seal(9, &encode_record(&record));
        let (sequence, body) = open(&value).unwrap();
        assert_eq!((sequence, decode_record(body)), (9, Ok(record)));
        for index in 0..value.len() {
            let mut bent = value.clone();
            bent[index] ^= 4;
            assert_eq!(open(&bent), Err(Damaged), "byte {index}");
        }
        assert_eq!(open(&value[..5]), Err(Damaged));
    }

    #[test]
    fn a_record_of_the_first_form_is_one_of_a_desktop_that_was_started() {
        // generation 3, start_count 2, started_generation 3, ready_start 2.
        let first = [0x08, 3, 0x10, 2, 0x18, 3, 0x20, 2];
        let record = decode_record(&first).unwrap();
        assert_eq!((record.generation, record.start_count, record.ready_start), (3, 2, 2));
        assert_eq!((record.started, record.started_boot), (2, Uuid::nil()));
        assert!(!record.is_off_by_guest() && record.ends_with_last() == 1);
        // One that was never started.
        assert_eq!(decode_record(&[0x08, 3]).unwrap().started, 0);
        assert_eq!(decode_record(&encode_record(&record)), Ok(record));
    }
}
