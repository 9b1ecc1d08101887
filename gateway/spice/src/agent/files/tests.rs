//! Files into the guest, message for message.

use proptest::prelude::*;

use super::*;
use crate::agent::tests::{Guest, LINUX, WINDOWS};
use crate::test_support::Body;

fn offer(id: u32, name: &str, size: u64) -> FileOffer {
    FileOffer { id, name: name.to_owned(), size }
}

/// The agent says how a file is.
fn status(guest: &mut Guest, id: u32, result: u32) -> Vec<AgentEvent> {
    guest.says(11, &Body::default().u32(id).u32(result))
}

fn taken(events: &[AgentEvent]) -> Vec<FileStatus> {
    events
        .iter()
        .map(|event| match event {
            AgentEvent::File(_, status) => *status,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// An agent that waits for the bytes of file 7.
fn ready(size: u64) -> Guest {
    let mut guest = Guest::ready(LINUX);
    guest.agent.send_file(&offer(7, "a", size));
    guest.told();
    assert_eq!(status(&mut guest, 7, 0), [AgentEvent::File(7, FileStatus::Ready)]);
    guest
}

#[test]
fn a_file_is_announced_sent_and_done() {
    let mut guest = Guest::ready(LINUX);
    guest.agent.send_file(&offer(7, "Übung 1.txt", 5));
    let text = "[vdagent-file-xfer]\nname=Übung 1.txt\nsize=5\n\0";
    assert_eq!(guest.told(), [(10, Body::default().u32(7).bytes(text.as_bytes()).0)]);
    assert_eq!(guest.agent.take_file_events(), []);
    assert_eq!(status(&mut guest, 7, 0), [AgentEvent::File(7, FileStatus::Ready)]);
    assert_eq!(status(&mut guest, 7, 0), [], "ready once");
    guest.agent.file_data(7, Bytes::from_static(b"he"));
    guest.agent.file_data(7, Bytes::from_static(b"llo"));
    assert_eq!(guest.told(), [(12, Body::default().u32(7).u64(5).bytes(b"hello").0)]);
    assert_eq!(taken(&guest.agent.take_file_events()), [FileStatus::Taken(5)]);
    assert_eq!(status(&mut guest, 7, 3), [AgentEvent::File(7, FileStatus::Done)]);
    assert_eq!(status(&mut guest, 7, 3), [], "done once");
    guest.agent.cancel_file(7);
    assert_eq!(guest.told(), []);
}

#[test]
fn what_an_agent_says_of_a_file_before_it_was_told_of_it_counts_for_nothing() {
    let mut guest = Guest::ready(LINUX);
    for _again in 0..3 {
        guest.agent.send_file(&offer(7, "a", 5));
        assert_eq!(status(&mut guest, 7, 1), [], "it cannot know of it");
        assert_eq!(status(&mut guest, 7, 0), []);
        guest.agent.cancel_file(7);
    }
    assert_eq!(guest.told(), [], "and nothing of it waits");
}

#[test]
fn an_empty_file_has_one_empty_message() {
    let mut guest = ready(0);
    assert_eq!(guest.told(), [(12, Body::default().u32(7).u64(0).0)]);
    assert_eq!(taken(&guest.agent.take_file_events()), [FileStatus::Taken(0)]);
    assert_eq!(status(&mut guest, 7, 3), [AgentEvent::File(7, FileStatus::Done)]);
}

#[test]
fn a_size_beyond_four_gigabytes_is_told_in_full() {
    let mut guest = Guest::ready(LINUX);
    guest.agent.send_file(&offer(1, "big", 5_000_000_000));
    let told = guest.told();
    let text = String::from_utf8_lossy(&told[0].1[4..]).into_owned();
    assert!(text.contains("\nsize=5000000000\n"), "{text}");
}

#[test]
fn every_failure_of_the_agent_is_told() {
    let failures = [
        (1, FileFailure::Cancelled),
        (2, FileFailure::Broken),
        // Before all of it was sent it cannot be there.
        (3, FileFailure::Broken),
        (4, FileFailure::NoRoom(0)),
        (5, FileFailure::Locked),
        (6, FileFailure::NobodyThere),
        (7, FileFailure::Disabled),
        (99, FileFailure::Broken),
    ];
    for (result, failure) in failures {
        let mut guest = ready(9);
        assert_eq!(taken(&status(&mut guest, 7, result)), [FileStatus::Failed(failure)]);
        guest.agent.file_data(7, Bytes::from_static(b"x"));
        assert_eq!(guest.told(), [], "{failure:?}");
    }
    let mut guest = ready(9);
    let full = guest.says(11, &Body::default().u32(7).u32(4).u64(4096));
    assert_eq!(taken(&full), [FileStatus::Failed(FileFailure::NoRoom(4096))]);
}

#[test]
fn an_owner_that_sends_too_much_too_soon_or_too_many_is_refused() {
    let broken = [FileStatus::Failed(FileFailure::Broken)];
    let mut early = Guest::ready(LINUX);
    early.agent.send_file(&offer(7, "a", 9));
    early.agent.file_data(7, Bytes::from_static(b"x"));
    assert_eq!(taken(&early.agent.take_file_events()), broken);
    assert_eq!(early.told(), [], "the agent never heard of it");

    let mut longer = ready(3);
    longer.agent.file_data(7, Bytes::from_static(b"four"));
    assert_eq!(taken(&longer.agent.take_file_events()), broken);
    assert_eq!(longer.told(), [(11, Body::default().u32(7).u32(1).0)], "it is cancelled there");

    let window = usize::try_from(FILE_WINDOW_BYTES).unwrap();
    let mut faster = ready(u64::MAX);
    faster.agent.file_data(7, vec![1; window].into());
    assert_eq!(taken(&faster.agent.take_file_events()), []);
    faster.agent.file_data(7, Bytes::from_static(b"x"));
    assert_eq!(taken(&faster.agent.take_file_events()), broken);

    let mut guest = Guest::ready(LINUX);
    for id in 0..=4 {
        guest.agent.send_file(&offer(id, "a", 1));
    }
    let refused = guest.agent.take_file_events();
    assert_eq!(refused, [AgentEvent::File(4, FileStatus::Failed(FileFailure::TooMany))]);
}

#[test]
fn files_take_turns_and_are_paid_for_with_tokens() {
    let mut guest = Guest::ready(LINUX);
    for id in [1, 2] {
        guest.agent.send_file(&offer(id, "a", 100_000));
        guest.told();
        status(&mut guest, id, 0);
    }
    for id in [1, 2] {
        guest.agent.file_data(id, vec![0; 100_000].into());
    }
    let told = guest.told();
    let ids: Vec<u8> = told.iter().map(|(_, body)| body[0]).collect();
    assert_eq!(ids, [1, 2, 1, 2, 1, 2, 1, 2]);
    let sent: usize = told.iter().map(|(_, body)| body.len() - 12).sum();
    assert_eq!(sent, 200_000);
}

#[test]
fn an_agent_that_goes_takes_its_files_with_it() {
    let mut guest = ready(9);
    guest.agent.send_file(&offer(8, "b", 1));
    let gone = guest.agent.handle(&crate::MainEvent::AgentDisconnected(crate::Refusal::None));
    let failed = FileStatus::Failed(FileFailure::AgentGone);
    assert_eq!(gone[..2], [AgentEvent::File(7, failed), AgentEvent::File(8, failed)]);
    guest.agent.send_file(&offer(9, "c", 1));
    let refused = guest.agent.take_file_events();
    assert_eq!(refused, [AgentEvent::File(9, FileStatus::Failed(FileFailure::Disabled))]);
}

#[test]
fn an_agent_that_takes_no_files_says_so() {
    let guest = Guest::answered(LINUX | 1 << 13);
    assert!(!guest.agent.abilities().files);
    assert!(Guest::answered(LINUX).agent.abilities().files);
}

#[test]
fn names_are_harmless() {
    let name = |name: &str| harmless_name(name, false);
    assert_eq!(name("a b.txt"), "a b.txt");
    assert_eq!(name("/etc/passwd"), "passwd");
    assert_eq!(name("C:\\dir\\x.doc"), "x.doc");
    assert_eq!(name("../.."), "file");
    assert_eq!(name("x\nsize=1\0"), "xsize=1");
    assert_eq!(name(" . "), "file");
    assert_eq!(name(""), "file");
    assert_eq!(name("a:b"), "a:b");
    assert_eq!(harmless_name("a:b?", true), "a_b_");
    assert!(name(&"ü".repeat(300)).len() <= FILE_NAME_BYTES_MAX);
    // An agent of Windows is told by its line ends.
    let mut guest = Guest::ready(WINDOWS);
    guest.agent.send_file(&offer(1, "a:b", 1));
    assert!(String::from_utf8_lossy(&guest.told()[0].1).contains("name=a_b\n"));
}

proptest! {
    #[test]
    fn a_name_is_one_line_without_folders(name in any::<String>(), windows in any::<bool>()) {
        let name = harmless_name(&name, windows);
        prop_assert!(!name.is_empty() && name.len() <= FILE_NAME_BYTES_MAX);
        prop_assert!(!name.contains(['/', '\\', '\0', '\n']) && name != "." && name != "..");
        prop_assert_eq!(name.trim(), &name);
    }

    #[test]
    fn any_portions_come_whole_and_in_order(
        sizes in proptest::collection::vec(0..70_000_usize, 1..12),
        tokens in 1..40_u32,
    ) {
        let size: usize = sizes.iter().sum();
        let content: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[1]).collect();
        let mut guest = ready(u64::try_from(size).unwrap());
        guest.agent.handle(&crate::MainEvent::AgentTokens(tokens));
        let (mut arrived, mut taken_bytes, mut handed) = (Vec::new(), 0, 0);
        for portion in sizes {
            // Whoever keeps to the window is never refused.
            while usize::try_from(FILE_WINDOW_BYTES).unwrap() < handed + portion - taken_bytes {
                prop_assert!(false, "the guest takes all at once here");
            }
            guest.agent.file_data(7, Bytes::copy_from_slice(&content[handed..handed + portion]));
            handed += portion;
            for (kind, body) in guest.told() {
                prop_assert_eq!(kind, 12);
                arrived.extend_from_slice(&body[12..]);
            }
            for event in guest.agent.take_file_events() {
                let AgentEvent::File(7, FileStatus::Taken(bytes)) = event else {
                    panic!("{event:?}");
                };
                taken_bytes = usize::try_from(bytes).unwrap();
            }
            guest.agent.handle(&crate::MainEvent::AgentTokens(1000));
        }
        guest.told();
        prop_assert_eq!(taken_bytes, size);
        prop_assert!(arrived == content);
    }
}
