//! Groups of users.

use vidi_proto::v1::group_service_client::GroupServiceClient;
use vidi_proto::v1::{
    AddGroupMembersRequest, CreateGroupRequest, DeleteGroupRequest, GetGroupRequest, Group,
    ListGroupMembersRequest, ListGroupMembersResponse, ListGroupsRequest, ListGroupsResponse,
    RemoveGroupMembersRequest, UpdateGroupRequest,
};

use crate::arguments::{Deletion, Global, GroupCommand, GroupSettings};
use crate::ask::confirm;
use crate::connect::{Api, all_pages, connect};
use crate::named::mask;
use crate::output::{Table, done, short, show};

/// Members that one call takes, as the contract says.
const MEMBERS_PER_CALL: usize = 100;

/// Groups.
pub(crate) async fn group(global: &Global, command: GroupCommand) -> anyhow::Result<()> {
    let mut client = GroupServiceClient::new(connect(global).await?);
    let parent = format!("tenants/{}", global.tenant);
    let name = |group: &str| format!("{parent}/groups/{group}");
    match command {
        GroupCommand::Create { name: group_id, settings } => {
            let request = CreateGroupRequest {
                parent: parent.clone(),
                group_id,
                group: Some(chosen(&parent, String::new(), settings).0),
                request_id: uuid::Uuid::new_v4().to_string(),
                validate_only: false,
            };
            let group = client.create_group(request).await?.into_inner();
            show(global.output, "Group", &group, |one| table(std::slice::from_ref(one)))
        }
        GroupCommand::List => {
            let groups = all_pages(async |page_token| {
                let parent = parent.clone();
                let request = ListGroupsRequest { parent, page_size: 0, page_token };
                let page = client.list_groups(request).await?.into_inner();
                Ok((page.groups, page.next_page_token))
            })
            .await?;
            let all = ListGroupsResponse { groups, next_page_token: String::new() };
            show(global.output, "ListGroupsResponse", &all, |all| table(&all.groups))
        }
        GroupCommand::Get { name: group } => {
            let request = GetGroupRequest { name: name(&group) };
            let group = client.get_group(request).await?.into_inner();
            show(global.output, "Group", &group, |one| table(std::slice::from_ref(one)))
        }
        GroupCommand::Members { name: group } => {
            let members = all_pages(async |page_token| {
                let request =
                    ListGroupMembersRequest { name: name(&group), page_size: 0, page_token };
                let page = client.list_group_members(request).await?.into_inner();
                Ok((page.members, page.next_page_token))
            })
            .await?;
            let all = ListGroupMembersResponse { members, next_page_token: String::new() };
            show(global.output, "ListGroupMembersResponse", &all, members_table)
        }
        GroupCommand::Update { name: group, settings } => {
            let (group, fields) = chosen(&parent, name(&group), settings);
            let update_mask = Some(mask(fields, "--display-name, --role or --open")?);
            let request = UpdateGroupRequest { group: Some(group), update_mask };
            let group = client.update_group(request).await?.into_inner();
            show(global.output, "Group", &group, |one| table(std::slice::from_ref(one)))
        }
        GroupCommand::Add { name: group, users } => {
            members(&mut client, (&parent, &name(&group)), &users, true).await?;
            done(global.output, &format!("{} users are in group {group}", users.len()))
        }
        GroupCommand::Remove { name: group, users } => {
            members(&mut client, (&parent, &name(&group)), &users, false).await?;
            done(global.output, &format!("{} users are not in group {group}", users.len()))
        }
        GroupCommand::Delete(Deletion { name: group, yes }) => {
            confirm(yes, &format!("The group {group} is deleted; its members lose what it gave."))?;
            let request = DeleteGroupRequest { name: name(&group), etag: String::new() };
            client.delete_group(request).await?;
            done(global.output, &format!("group {group} deleted"))
        }
    }
}

/// The group with what was given, and which fields that are.
fn chosen(
    parent: &str,
    name: String,
    settings: GroupSettings,
) -> (Group, [(&'static str, bool); 3]) {
    let GroupSettings { display_name, role, open } = settings;
    let fields = [
        ("display_name", display_name.is_some()),
        ("roles", !role.is_empty()),
        ("opens", !open.is_empty()),
    ];
    // `--role ''` and `--open ''` take all away.
    let given = |given: Vec<String>| given.into_iter().filter(|one| !one.is_empty());
    let opens = given(open).map(|one| match one {
        one if one.starts_with("tenants/") => one,
        one if one.parse::<uuid::Uuid>().is_ok() => format!("{parent}/desktops/{one}"),
        one => format!("{parent}/pools/{one}"),
    });
    let group = Group {
        name,
        display_name: display_name.unwrap_or_default(),
        roles: given(role).collect(),
        opens: opens.collect(),
        ..Group::default()
    };
    (group, fields)
}

async fn members(
    client: &mut GroupServiceClient<Api>,
    (parent, name): (&str, &str),
    users: &[String],
    add: bool,
) -> anyhow::Result<()> {
    for some in users.chunks(MEMBERS_PER_CALL) {
        let members = some.iter().map(|user| format!("{parent}/users/{user}")).collect();
        let name = name.to_owned();
        if add {
            client.add_group_members(AddGroupMembersRequest { name, members }).await?;
        } else {
            client.remove_group_members(RemoveGroupMembersRequest { name, members }).await?;
        }
    }
    Ok(())
}

fn table(groups: &[Group]) -> Table {
    let mut table = Table::new(["GROUP", "NAME", "MEMBERS", "ROLES", "OPENS"]);
    for group in groups {
        let opens: Vec<String> = group.opens.iter().map(|name| short(name)).collect();
        table.row([
            short(&group.name),
            group.display_name.clone(),
            group.member_count.to_string(),
            group.roles.join(","),
            opens.join(","),
        ]);
    }
    table
}

fn members_table(all: &ListGroupMembersResponse) -> Table {
    let mut table = Table::new(["USER"]);
    for member in &all.members {
        table.row([short(member)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_go_by_their_ids_and_desktops_by_theirs_and_nothing_takes_all_away() {
        let check = |open: &[&str], expected: &[&str]| {
            let open = open.iter().map(|&one| one.to_owned()).collect();
            let settings = GroupSettings { display_name: None, role: Vec::new(), open };
            let (group, fields) = chosen("tenants/t", String::new(), settings);
            assert_eq!(
                (group.opens, fields[2].1),
                (expected.iter().map(|&one| one.to_owned()).collect(), true)
            );
        };
        let id = "0198c1a2-0000-7000-8000-000000000001";
        let desktop = format!("tenants/t/desktops/{id}");
        check(&["lab", id], &["tenants/t/pools/lab", &desktop]);
        check(&["tenants/u/pools/x"], &["tenants/u/pools/x"]);
        check(&[""], &[]);
    }
}
