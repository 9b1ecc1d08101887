//! Sign-in and users.

use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::user_service_client::UserServiceClient;
use vidi_proto::v1::{
    CreateUserRequest, DeleteUserRequest, ListUsersRequest, ListUsersResponse, SetPasswordRequest,
    SignInRequest, SignOutRequest, User, WhoAmIRequest, WhoAmIResponse,
};

use crate::arguments::{Format, Global, UserCommand};
use crate::connect::{Api, connect, connect_anonymously, keep_token, read_password, token_path};
use crate::output::{Table, print, short, show};

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
        UserCommand::Delete { name: user } => {
            let request = DeleteUserRequest { name: name(&user), etag: String::new() };
            client(global).await?.delete_user(request).await?;
            done(global, &format!("user {user} deleted"))
        }
        UserCommand::SetPassword { name: user } => {
            let password = read_password(&format!("New password for {user}"))?;
            let request = SetPasswordRequest { name: name(&user), password };
            client(global).await?.set_password(request).await?;
            done(global, &format!("password of {user} set; its sign-ins have ended"))
        }
    }
}

/// A sentence for people; programs read the exit code.
pub(crate) fn done(global: &Global, sentence: &str) -> anyhow::Result<()> {
    match global.output {
        Format::Table => print(sentence),
        Format::Json => print("{}"),
    }
}

async fn client(global: &Global) -> anyhow::Result<UserServiceClient<Api>> {
    Ok(UserServiceClient::new(connect(global).await?))
}

async fn list(global: &Global) -> anyhow::Result<ListUsersResponse> {
    let mut client = client(global).await?;
    let mut all = ListUsersResponse::default();
    loop {
        let request = ListUsersRequest {
            parent: format!("tenants/{}", global.tenant),
            page_size: 0,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_users(request).await?.into_inner();
        all.users.extend(page.users);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn table(users: &[User]) -> Table {
    let mut table = Table::new(["USER", "NAME", "ROLES"]);
    for user in users {
        table.row([short(&user.name), user.display_name.clone(), user.roles.join(",")]);
    }
    table
}
