//! Sign-in and users.

use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::user_service_client::UserServiceClient;
use vidi_proto::v1::{
    CreateUserRequest, DeleteUserRequest, ListUsersRequest, ListUsersResponse, SetPasswordRequest,
    SignInRequest, SignOutRequest, UpdateUserRequest, User, WhoAmIRequest, WhoAmIResponse,
};

use crate::arguments::{Deletion, Format, Global, UserCommand};
use crate::ask::confirm;
use crate::connect::{
    Api, all_pages, connect, connect_anonymously, keep_token, read_password, token_path,
};
use crate::named::mask;
use crate::output::{Table, done, short, show};

/// Signs in and keeps the token.
pub(crate) async fn sign_in(global: &Global, user: String) -> anyhow::Result<()> {
    let password = read_password(&format!("Password of {user}"))?;
    let mut client = SignInServiceClient::new(connect_anonymously(global).await?);
    let request = SignInRequest { tenant: global.tenant.clone(), user, password };
    let answer = client.sign_in(request).await?.into_inner();
    keep_token(global, &answer.token)?;
    show_who(global.output, &answer.who.unwrap_or_default())
}

/// Ends the sign-in and forgets the token.
pub(crate) async fn sign_out(global: &Global) -> anyhow::Result<()> {
    SignInServiceClient::new(connect(global).await?).sign_out(SignOutRequest {}).await?;
    match std::fs::remove_file(token_path(global)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says who the caller is.
pub(crate) async fn whoami(global: &Global) -> anyhow::Result<()> {
    let mut client = SignInServiceClient::new(connect(global).await?);
    show_who(global.output, &client.who_am_i(WhoAmIRequest {}).await?.into_inner())
}

fn show_who(format: Format, who: &WhoAmIResponse) -> anyhow::Result<()> {
    show(format, "WhoAmIResponse", who, |who| {
        Table::of_fields([
            ("user", who.user.clone()),
            ("name", who.display_name.clone()),
            ("roles", who.roles.join(", ")),
        ])
    })
}

/// Users.
pub(crate) async fn user(global: &Global, command: UserCommand) -> anyhow::Result<()> {
    let name = |user: &str| format!("tenants/{}/users/{user}", global.tenant);
    match command {
        UserCommand::Create { name: user_id, display_name, role } => {
            let password = read_password(&format!("Password for {user_id}"))?;
            let display_name = display_name.unwrap_or_default();
            let request = CreateUserRequest {
                parent: format!("tenants/{}", global.tenant),
                user_id,
                user: Some(User { display_name, roles: role, ..User::default() }),
                password,
                ..CreateUserRequest::default()
            };
            let user = client(global).await?.create_user(request).await?.into_inner();
            show(global.output, "User", &user, |user| table(std::slice::from_ref(user)))
        }
        UserCommand::List => {
            let users = list(global).await?;
            show(global.output, "ListUsersResponse", &users, |all| table(&all.users))
        }
        UserCommand::Update { name: user, display_name, role } => {
            let request = update(name(&user), display_name, role)?;
            let user = client(global).await?.update_user(request).await?.into_inner();
            show(global.output, "User", &user, |user| table(std::slice::from_ref(user)))
        }
        UserCommand::Delete(Deletion { name: user, yes }) => {
            confirm(yes, &format!("The user {user} is deleted and signed out everywhere."))?;
            let request = DeleteUserRequest { name: name(&user), etag: String::new() };
            client(global).await?.delete_user(request).await?;
            done(global.output, &format!("user {user} deleted"))
        }
        UserCommand::Passwd { name: user } => {
            let password = read_password(&format!("New password for {user}"))?;
            let request = SetPasswordRequest { name: name(&user), password };
            client(global).await?.set_password(request).await?;
            done(global.output, &format!("password of {user} set; its sign-ins have ended"))
        }
    }
}

/// Changes what was given, nothing else.
fn update(
    name: String,
    display_name: Option<String>,
    roles: Vec<String>,
) -> anyhow::Result<UpdateUserRequest> {
    let fields = [("display_name", display_name.is_some()), ("roles", !roles.is_empty())];
    let update_mask = Some(mask(fields, "--display-name or --role")?);
    // `--role ''` takes all roles away.
    let roles = roles.into_iter().filter(|role| !role.is_empty()).collect();
    let display_name = display_name.unwrap_or_default();
    Ok(UpdateUserRequest {
        user: Some(User { name, display_name, roles, ..User::default() }),
        update_mask,
    })
}

async fn client(global: &Global) -> anyhow::Result<UserServiceClient<Api>> {
    Ok(UserServiceClient::new(connect(global).await?))
}

async fn list(global: &Global) -> anyhow::Result<ListUsersResponse> {
    let mut client = client(global).await?;
    let users = all_pages(async |page_token| {
        let parent = format!("tenants/{}", global.tenant);
        let request = ListUsersRequest { parent, page_size: 0, page_token };
        let page = client.list_users(request).await?.into_inner();
        Ok((page.users, page.next_page_token))
    })
    .await?;
    Ok(ListUsersResponse { users, next_page_token: String::new() })
}

fn table(users: &[User]) -> Table {
    let mut table = Table::new(["USER", "NAME", "ROLES"]);
    for user in users {
        table.row([short(&user.name), user.display_name.clone(), user.roles.join(",")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_changed() {
        let asked = |display_name: Option<&str>, roles: &[&str]| {
            let roles = roles.iter().map(|&role| role.to_owned()).collect();
            update("u".to_owned(), display_name.map(str::to_owned), roles)
                .map(|it| (it.update_mask.unwrap().paths, it.user.unwrap().roles))
                .ok()
        };
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(asked(None, &[]), None);
        assert_eq!(asked(Some("Ana"), &[]), Some((words(&["display_name"]), vec![])));
        assert_eq!(asked(None, &["admin"]), Some((words(&["roles"]), words(&["admin"]))));
        assert_eq!(asked(None, &[""]), Some((words(&["roles"]), vec![])));
    }
}
