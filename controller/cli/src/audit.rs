//! The audit log: who changed what, and whether nobody changed that record.

use std::fmt::Write as _;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use vidi_proto::v1::audit_service_client::AuditServiceClient;
use vidi_proto::v1::{
    AuditBlock, AuditEntry, ListAuditBlocksRequest, ListAuditBlocksResponse, ListAuditRequest,
    ListAuditResponse,
};

use crate::arguments::{AuditCommand, AuditList, Global, Known};
use crate::connect::{Api, connect};
use crate::output::{Table, done, show};
use crate::when::moment;

/// Hash of the block before the first.
const NOTHING: [u8; 32] = [0; 32];

/// The audit log.
pub(crate) async fn audit(global: &Global, command: AuditCommand) -> anyhow::Result<()> {
    let mut client = AuditServiceClient::new(connect(global).await?);
    match command {
        AuditCommand::List(wanted) => {
            let all = ListAuditResponse {
                entries: list(&mut client, global, wanted).await?,
                next_page_token: String::new(),
            };
            show(global.output, "ListAuditResponse", &all, |all| table(&all.entries))
        }
        AuditCommand::Verify { known } => {
            let mut chain = Chain::default();
            let mut page_token = String::new();
            loop {
                let request = ListAuditBlocksRequest { page_size: 1_000, page_token };
                let page = client.list_audit_blocks(request).await?.into_inner();
                chain.follow(&page)?;
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            done(global.output, &chain.verdict(known.as_ref())?)
        }
    }
}

async fn list(
    client: &mut AuditServiceClient<Api>,
    global: &Global,
    wanted: AuditList,
) -> anyhow::Result<Vec<AuditEntry>> {
    let tenant = format!("tenants/{}", global.tenant);
    let most = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let mut request = ListAuditRequest {
        parent: if wanted.all { String::new() } else { tenant.clone() },
        who: match wanted.user {
            Some(user) if user == "root" || user.contains('/') => user,
            Some(user) => format!("{tenant}/users/{user}"),
            None => String::new(),
        },
        method: wanted.method.unwrap_or_default(),
        target: wanted.target.unwrap_or_default(),
        refused_only: wanted.refused,
        page_size: i32::try_from(most.min(1_000)).unwrap_or(1_000),
        ..ListAuditRequest::default()
    };
    let mut entries = Vec::new();
    loop {
        let page = client.list_audit(request.clone()).await?.into_inner();
        entries.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || most <= entries.len() {
            entries.truncate(most);
            return Ok(entries);
        }
    }
}

fn table(entries: &[AuditEntry]) -> Table {
    let mut table = Table::new(["TIME", "WHO", "FROM", "CALL", "ABOUT", "", "OUTCOME"]);
    for entry in entries {
        let times = if entry.count < 2 { String::new() } else { format!(" x{}", entry.count) };
        table.row([
            moment(entry.time.as_ref()),
            entry.who.clone(),
            entry.address.clone(),
            entry.method.clone(),
            entry.target.clone(),
            entry.detail.clone(),
            format!("{}{times}", entry.outcome),
        ]);
    }
    table
}

/// The chain as far as it was followed.
#[derive(Debug, Default)]
struct Chain {
    /// The block that was looked at last.
    number: u64,
    sha256: Vec<u8>,
    first: u64,
    entries: usize,
    head: (u64, Vec<u8>),
    /// The hashes of all blocks, from the first.
    hashes: Vec<Vec<u8>>,
}

impl Chain {
    fn follow(&mut self, page: &ListAuditBlocksResponse) -> anyhow::Result<()> {
        if self.first == 0 {
            self.number = page.base_number;
            self.first = page.base_number + 1;
            let dropped = page.base_number != 0;
            self.sha256 = if dropped { page.base_sha256.clone() } else { NOTHING.to_vec() };
        }
        for block in &page.blocks {
            self.add(block)?;
        }
        self.head = (page.head_number, page.head_sha256.clone());
        Ok(())
    }

    fn add(&mut self, block: &AuditBlock) -> anyhow::Result<()> {
        let number = block.number;
        // Some may have been dropped while this was asked for page by page; not in the middle.
        if number != self.number + 1 {
            bail!("the audit log is broken: block {number} follows block {}", self.number);
        }
        if block.previous_sha256 != self.sha256 {
            bail!("the audit log is broken: block {number} was not made behind the one before it");
        }
        let told = format!("{}\n{number}\n{}", hex(&block.previous_sha256), block.text);
        if *Sha256::digest(told) != *block.sha256 {
            bail!("the audit log is broken: block {number} was changed");
        }
        self.number = number;
        self.sha256.clone_from(&block.sha256);
        self.hashes.push(block.sha256.clone());
        self.entries += block.text.lines().count();
        Ok(())
    }

    /// The sentence that says that nothing is wrong.
    fn verdict(&self, known: Option<&Known>) -> anyhow::Result<String> {
        if self.number == 0 {
            return Ok("the audit log is empty".to_owned());
        }
        if (self.number, &self.sha256) != (self.head.0, &self.head.1) {
            let newest = self.head.0;
            bail!("the audit log is broken: it ends at block {} instead of {newest}", self.number);
        }
        if let Some(Known { number, sha256 }) = known {
            let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let there = at.and_then(|at| self.hashes.get(at));
            let there = there.with_context(|| {
                format!("block {number} is not kept: {} to {} are", self.first, self.number)
            })?;
            if hex(there) != *sha256 {
                bail!("the audit log is another one: block {number} has the hash {}", hex(there));
            }
        }
        Ok(format!(
            "the audit log is whole: {} calls in blocks {} to {}\nkeep this for the next time: --known {}:{}",
            self.entries,
            self.first,
            self.number,
            self.number,
            hex(&self.sha256)
        ))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _fits = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(texts: &[&str]) -> ListAuditBlocksResponse {
        let mut previous_sha256 = NOTHING.to_vec();
        let blocks = (1..).zip(texts).map(|(number, text)| {
            let told = format!("{}\n{number}\n{text}", hex(&previous_sha256));
            let sha256 = Sha256::digest(told).to_vec();
            let previous_sha256 = std::mem::replace(&mut previous_sha256, sha256.clone());
            AuditBlock { number, previous_sha256, sha256, text: (*text).to_owned() }
        });
        let blocks: Vec<AuditBlock> = blocks.collect();
        let head = blocks.last().cloned().unwrap_or_default();
        ListAuditBlocksResponse {
            blocks,
            head_number: head.number,
            head_sha256: head.sha256,
            ..ListAuditBlocksResponse::default()
        }
    }

    fn verified(page: &ListAuditBlocksResponse, known: Option<&Known>) -> Result<String, String> {
        let mut chain = Chain::default();
        let followed = chain.follow(page).and_then(|()| chain.verdict(known));
        followed.map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_log_is_known_by_its_hashes_and_every_change_is_found() {
        let good = page(&["a\n", "b\nc\n", "d\n"]);
        let told = verified(&good, None).unwrap();
        assert!(told.starts_with("the audit log is whole: 4 calls in blocks 1 to 3"), "{told}");
        let known = |number: u64, at: usize| Known { number, sha256: hex(&good.blocks[at].sha256) };
        assert!(verified(&good, Some(&known(2, 1))).is_ok());
        assert!(verified(&good, Some(&known(2, 0))).is_err());
        assert!(verified(&good, Some(&known(9, 0))).is_err());
        let mut changed = good.clone();
        changed.blocks[1].text = "b\n".to_owned();
        assert!(verified(&changed, None).unwrap_err().contains("block 2 was changed"));
        let mut cut = good.clone();
        cut.blocks.truncate(2);
        assert!(verified(&cut, None).unwrap_err().contains("ends at block 2 instead of 3"));
        let mut gap = good.clone();
        gap.blocks.remove(1);
        assert!(verified(&gap, None).is_err());
        let mut headless = good.clone();
        headless.blocks.remove(0);
        assert!(verified(&headless, None).is_err());
        // All of it made anew: only who knows a hash of before finds that out.
        let anew = page(&["a\n", "x\n", "d\n"]);
        assert!(verified(&anew, None).is_ok() && verified(&anew, Some(&known(2, 1))).is_err());
        assert_eq!(verified(&page(&[]), None).unwrap(), "the audit log is empty");
    }

    #[test]
    fn what_was_dropped_is_where_the_chain_begins() {
        let good = page(&["a\n", "b\n", "c\n"]);
        let dropped = &good.blocks[0];
        let kept = ListAuditBlocksResponse {
            blocks: good.blocks[1..].to_vec(),
            base_number: dropped.number,
            base_sha256: dropped.sha256.clone(),
            ..good.clone()
        };
        assert!(verified(&kept, None).unwrap().contains("blocks 2 to 3"));
    }
}
