//! Every journal remembers the same; the one on disk also survives damage.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap or index is a failed test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use vidi_agent::adapters::journal::SledJournal;
use vidi_agent::adapters::memory_journal::MemoryJournal;
use vidi_agent::model::record::{Failure, Record};
use vidi_agent::model::wanted::{Image, Readiness, Template, TemplateBoot, Wanted, Wish};
use vidi_agent::ports::{Journal, Journaled};
use vidi_hypervisor::{ImageDigest, Video};
use vidi_kit::ids::DesktopId;

fn image(byte: u8) -> Image {
    Image { digest: ImageDigest::from_bytes(&[byte; 32]), size_bytes: u64::from(byte) }
}

fn wanted(id: DesktopId, wish: Wish) -> Wanted {
    let boot =
        TemplateBoot { kernel: image(2), initrd: image(3), cmdline: "console=ttyS0".to_owned() };
    let template = Template {
        digest: "sha256:1".to_owned(),
        disk: image(1),
        boot: Some(boot),
        memory_mib: 256,
        vcpus: 2,
        video: Video::Virtio,
        readiness: Readiness::Agent,
        sound: true,
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok();
    Wanted {
        id,
        generation: 4,
        wish,
        title: "Ana's desktop".to_owned(),
        trace,
        template: Ok(template),
    }
}

fn record() -> Record {
    let failure = Failure { generation: 4, reason: "no memory".to_owned() };
    Record {
        generation: 4,
        start_count: 3,
        started_generation: 2,
        started: 2,
        started_boot: uuid::Uuid::from_u128(9),
        begun_start: 3,
        ready_start: 1,
        unready_start: 2,
        guest_off_start: 2,
        unwanted_ends: 1,
        counted_start: 1,
        failure: Some(failure),
    }
}

/// The contract; `reopen` gives the same journal again.
async fn contract(reopen: impl Fn() -> Box<dyn Journal>) {
    let ids: Vec<DesktopId> = (0..3).map(|_| DesktopId::generate()).collect();
    let journal = reopen();
    assert_eq!(journal.load().await.unwrap(), Journaled::default());
    let wishes = [Wish::On, Wish::Off, Wish::OffNow];
    let set: BTreeMap<_, _> =
        ids.iter().zip(wishes).map(|(id, wish)| (*id, wanted(*id, wish))).collect();
    journal.save_wanted(&set).await.unwrap();
    for id in &ids {
        journal.save_record(*id, &record()).await.unwrap();
    }
    journal.save_record(ids[0], &Record::default()).await.unwrap();
    journal.remove_record(ids[2]).await.unwrap();
    journal.remove_record(ids[2]).await.unwrap();
    drop(journal);
    let journal = reopen();
    let expected = Journaled {
        wanted: Some(set),
        records: BTreeMap::from([(ids[0], Record::default()), (ids[1], record())]),
        damage: Vec::new(),
    };
    assert_eq!(journal.load().await.unwrap(), expected);
    journal.save_wanted(&BTreeMap::new()).await.unwrap();
    assert_eq!(journal.load().await.unwrap().wanted, Some(BTreeMap::new()));
}

#[tokio::test]
async fn a_journal_in_memory_remembers() {
    let journal = MemoryJournal::default();
    contract(|| Box::new(journal.clone())).await;
}

#[tokio::test]
async fn a_journal_in_sled_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    contract(|| Box::new(SledJournal::open(&path).unwrap())).await;
}

/// Overwrites the middle of sled's file.
fn damage(folder: &Path, from: usize) {
    let file = folder.join("db");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len().min(from + 4_096);
    bytes[from..end].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_journal_is_told_of_and_begun_anew_and_never_panics() {
    for from in [0, 16, 64, 200, 1_000] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = SledJournal::open(&path).unwrap();
        for _ in 0..5 {
            journal.save_record(DesktopId::generate(), &record()).await.unwrap();
        }
        drop(journal);
        damage(&path, from);
        let journal = SledJournal::open(&path).unwrap();
        let journaled = journal.load().await.unwrap();
        assert!(
            journaled.records.len() == 5 || !journaled.damage.is_empty(),
            "at {from}: lost {} records without a word",
            5 - journaled.records.len()
        );
        let id = DesktopId::generate();
        journal.save_record(id, &record()).await.unwrap();
        assert!(journal.load().await.unwrap().records.contains_key(&id), "at {from}");
    }
    // A file of somebody else in its place.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    std::fs::write(&path, "not a journal").unwrap();
    let journal = SledJournal::open(&path).unwrap();
    assert_eq!(journal.load().await.unwrap().damage.len(), 1);
}
