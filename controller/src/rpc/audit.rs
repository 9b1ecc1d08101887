//! The audit log, listed and shown as it is chained.

use tonic::{Request, Response, Status};
use vidi_proto::v1::audit_service_server::AuditService;
use vidi_proto::v1::{
    AuditBlock, AuditEntry, ListAuditBlocksRequest, ListAuditBlocksResponse, ListAuditRequest,
    ListAuditResponse,
};

use super::Parts;
use super::authorization::Access;
use super::names;
use super::page::Query;
use super::status::invalid_field;
use super::usage::millis;
use super::users::timestamp;
use crate::model::World;
use crate::model::audit::{self, OK};

/// Text that one answer looks through, in bytes: who looks for what is seldom gets short pages.
const SEARCHED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Text of the blocks of one answer, in bytes: messages are at most 4 MiB.
const SHOWN_BYTES_MAX: u64 = 1024 * 1024;

/// The service.
#[derive(Debug)]
pub struct AuditRpc {
    parts: Parts,
}

impl AuditRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }
}

#[tonic::async_trait]
impl AuditService for AuditRpc {
    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let world = self.parts.handle.world();
        let wanted = Wanted::of(&access, &world, asked)?;
        let question =
            ListAuditRequest { page_size: 0, page_token: String::new(), ..asked.clone() };
        let query =
            Query::new("audit", &format!("{question:?}"), asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(place_of).transpose()?;
        let (entries, next) = found(&world, &wanted, after, query.size);
        let next_page_token = next.map(|(block, line)| query.token(&format!("{block}.{line}")));
        let entries = entries.into_iter().map(|(block, entry)| on_wire(block, entry)).collect();
        let next_page_token = next_page_token.unwrap_or_default();
        Ok(Response::new(ListAuditResponse { entries, next_page_token }))
    }

    async fn list_audit_blocks(
        &self,
        request: Request<ListAuditBlocksRequest>,
    ) -> Result<Response<ListAuditBlocksResponse>, Status> {
        let asked = request.get_ref();
        let query = Query::new("audit blocks", "", asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| {
            after.parse::<u64>().map_err(|_| invalid_field("page_token", "it is one of ours"))
        });
        let after = after.transpose()?;
        let world = self.parts.handle.world();
        let start = after.as_ref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let (mut blocks, mut bytes, mut more) = (Vec::new(), 0, false);
        for (number, block) in world.audit.from(start) {
            if query.size <= blocks.len() || SHOWN_BYTES_MAX < bytes {
                more = true;
                break;
            }
            bytes += block.bytes();
            blocks.push(AuditBlock {
                number: *number,
                previous_sha256: block.previous.to_vec(),
                sha256: block.sha256.to_vec(),
                text: block.text.clone(),
            });
        }
        let last = blocks.last().filter(|_| more).map(|block| block.number.to_string());
        let head = world.audit_head;
        Ok(Response::new(ListAuditBlocksResponse {
            blocks,
            next_page_token: last.map(|last| query.token(&last)).unwrap_or_default(),
            head_number: head.number,
            head_sha256: head.sha256.to_vec(),
            base_number: head.base_number,
            base_sha256: head.base_sha256.to_vec(),
        }))
    }
}

/// Which entries are asked for.
struct Wanted {
    tenant: Option<String>,
    who: String,
    method: String,
    target: String,
    refused_only: bool,
    /// From, and before, ms since the epoch.
    span: (i64, i64),
}

impl Wanted {
    fn of(access: &Access, world: &World, asked: &ListAuditRequest) -> Result<Self, Status> {
        let tenant = if asked.parent.is_empty() {
            if !access.everywhere() {
                return Err(invalid_field(
                    "parent",
                    "tenants/{t} is expected of who does not see all",
                ));
            }
            None
        } else {
            let tenant = names::tenant("parent", &asked.parent)?;
            // What was done to a tenant that is gone is there for those who run the installation.
            if !access.everywhere() {
                access.check_tenant(world, &tenant)?;
            }
            Some(tenant.to_string())
        };
        let start_ms = asked.start_time.map(|time| millis("start_time", time)).transpose()?;
        let end_ms = asked.end_time.map(|time| millis("end_time", time)).transpose()?;
        Ok(Self {
            tenant,
            who: asked.who.clone(),
            method: asked.method.clone(),
            target: asked.target.clone(),
            refused_only: asked.refused_only,
            span: (start_ms.unwrap_or(i64::MIN), end_ms.unwrap_or(i64::MAX)),
        })
    }

    fn takes(&self, entry: &audit::AuditEntry) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| entry.concerns(tenant))
            && (self.who.is_empty() || self.who == entry.who)
            && entry.method.contains(&self.method)
            && entry.target.starts_with(&self.target)
            && !(self.refused_only && entry.outcome == OK)
            && (self.span.0..self.span.1).contains(&entry.at_ms)
    }
}

/// A block and a line of it, counted from 0.
type Place = (u64, usize);

/// Entries before a place, newest first, and where to go on.
fn found(
    world: &World,
    wanted: &Wanted,
    after: Option<Place>,
    size: usize,
) -> (Vec<(u64, audit::AuditEntry)>, Option<Place>) {
    let mut entries = Vec::new();
    let mut searched = 0;
    let newest = world.audit_head.number;
    let mut number = after.map_or(newest, |(block, _)| block.min(newest));
    while let Some(block) = world.audit.get(&number) {
        if SEARCHED_BYTES_MAX < searched {
            return (entries, Some((number, usize::MAX)));
        }
        searched += block.bytes();
        let before = after.filter(|(at, _)| *at == number).map_or(usize::MAX, |(_, line)| line);
        let lines: Vec<_> =
            block.entries().enumerate().take_while(|(at, _)| *at < before).collect();
        for (line, entry) in lines.into_iter().rev().filter(|(_, entry)| wanted.takes(entry)) {
            entries.push((number, entry));
            if size <= entries.len() {
                return (entries, Some((number, line)));
            }
        }
        number = number.saturating_sub(1);
    }
    (entries, None)
}

fn place_of(text: &str) -> Result<Place, Status> {
    let place = text
        .split_once('.')
        .and_then(|(block, line)| Some((block.parse::<u64>().ok()?, line.parse::<usize>().ok()?)));
    place.ok_or_else(|| invalid_field("page_token", "it is one of ours"))
}

fn on_wire(block: u64, entry: audit::AuditEntry) -> AuditEntry {
    AuditEntry {
        time: Some(timestamp(entry.at_ms)),
        who: entry.who,
        address: entry.address,
        method: entry.method,
        target: entry.target,
        detail: entry.detail,
        outcome: entry.outcome,
        count: entry.count,
        trace: entry.trace,
        block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Row;
    use crate::model::audit::{AuditBlock, AuditHead};

    fn world(blocks: u64) -> World {
        let mut world = World::default();
        for number in 1..=blocks {
            let entry = |which: &str| audit::AuditEntry {
                at_ms: i64::try_from(number).unwrap(),
                who: format!("tenants/{which}/users/ana"),
                detail: format!("{number}{which}"),
                outcome: if which == "b" { "NOT_ALLOWED" } else { OK }.to_owned(),
                ..audit::AuditEntry::default()
            };
            let (number, block) = AuditBlock::behind(&world.audit_head, &[entry("a"), entry("b")]);
            let head = AuditHead { number, sha256: block.sha256, ..world.audit_head };
            world.put(Row::Audit(number, block));
            world.put(Row::AuditHead(head));
        }
        world
    }

    fn anything() -> Wanted {
        Wanted {
            tenant: None,
            who: String::new(),
            method: String::new(),
            target: String::new(),
            refused_only: false,
            span: (i64::MIN, i64::MAX),
        }
    }

    fn all(world: &World, wanted: &Wanted, size: usize) -> Vec<String> {
        let (mut told, mut after) = (Vec::new(), None);
        loop {
            let (entries, next) = found(world, wanted, after, size);
            assert!(entries.len() <= size);
            told.extend(entries.into_iter().map(|(_, entry)| entry.detail));
            match next {
                Some(next) => after = Some(next),
                None => return told,
            }
        }
    }

    #[test]
    fn pages_of_any_size_give_all_entries_newest_first() {
        let world = world(3);
        let expected = ["3b", "3a", "2b", "2a", "1b", "1a"];
        for size in 1..8 {
            assert_eq!(all(&world, &anything(), size), expected, "{size}");
        }
    }

    #[test]
    fn a_filter_takes_what_it_names() {
        let world = world(2);
        let of_tenant = Wanted { tenant: Some("a".to_owned()), ..anything() };
        assert_eq!(all(&world, &of_tenant, 9), ["2a", "1a"]);
        assert_eq!(all(&world, &Wanted { refused_only: true, ..anything() }, 9), ["2b", "1b"]);
        assert_eq!(all(&world, &Wanted { span: (2, 3), ..anything() }, 9), ["2b", "2a"]);
        let who = "tenants/b/users/ana".to_owned();
        assert_eq!(all(&world, &Wanted { who, ..anything() }, 9), ["2b", "1b"]);
    }
}
