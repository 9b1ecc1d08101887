//! Sign-in, users and enrolment over the real server: TLS and the local socket.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use vidi_controller::adapters::images::ImageFolder;
use vidi_controller::adapters::local_directory::LocalDirectory;
use vidi_controller::adapters::memory::MemoryStore;
use vidi_controller::model::Limits;
use vidi_controller::ports::{Authority, Store};
use vidi_controller::rpc::{Parts, server};
use vidi_controller::{bootstrap, reconcile};
use vidi_kit::grant::GrantSigner;
use vidi_kit::tls::{
    CONTROLLER_NAME, CertificateName, Identity, Role, anonymous_client_config,
    generate_key_and_csr, install_provider,
};
use vidi_kit::transport::{BROWSER_ADDRESS, bind, bind_unix, connect_tls, connect_unix};
use vidi_kit::{Clock, Tasks};
use vidi_proto::v1::enroll_service_client::EnrollServiceClient;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::user_service_client::UserServiceClient;
use vidi_proto::v1::{
    CertifyPageRequest, CreateEnrollTokenRequest, CreateTenantRequest, CreateUserRequest,
    DeleteUserRequest, EnrollRequest, ListUsersRequest, RenewRequest, SetPasswordRequest,
    SignInRequest, SignInResponse, SignOutRequest, User, WhoAmIRequest,
};

const START_MS: i64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// A controller on a memory store, with real listeners.
struct Controller {
    folder: tempfile::TempDir,
    tasks: Tasks,
    clock: Clock,
    authority: Arc<dyn Authority>,
    address: String,
}

impl Controller {
    async fn start() -> Self {
        install_provider();
        let folder = tempfile::tempdir().unwrap();
        // The certificates must be good in the eyes of rustls, which asks the machine.
        let clock = Clock::system();
        let tasks = Tasks::new();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let key = folder.path().join("controller.key");
        let opened = {
            let key = bootstrap::KeyFile::Own(&key);
            bootstrap::open(store.as_ref(), &clock, key, folder.path()).await.unwrap()
        };
        let authority: Arc<dyn Authority> = Arc::new(opened);
        let identity = bootstrap::identity(&tasks, &clock, &authority, "c1").unwrap();
        let directory = Arc::new(LocalDirectory::new(Arc::clone(&store)).unwrap());
        // What expires is judged by a clock that the test moves.
        let own = reconcile::Own {
            id: "c1".to_owned(),
            address: String::new(),
            limits: Limits::default(),
            chance: vidi_kit::Chance::system(),
        };
        let judged = Clock::manual(clock.now_ms().max(START_MS));
        let shared = Arc::clone(&store);
        let handle = reconcile::start(&tasks, shared, judged.clone(), own).await.unwrap();
        let parts = Parts {
            handle,
            store,
            authority: Arc::clone(&authority),
            directory,
            clock: judged.clone(),
            tasks: tasks.clone(),
            signer: Arc::new(GrantSigner::generate().unwrap()),
            controller: "c1".to_owned(),
            addresses: vec!["controller.example:7443".to_owned()],
            images: Arc::new(ImageFolder::open(&folder.path().join("images")).unwrap()),
            forward: None,
        };
        let routes = server::routes(&parts).unwrap();
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let local = bind_unix(&folder.path().join("c.sock"), 0o666).unwrap();
        server::serve_unix(&parts, routes.clone(), local);
        server::serve_tls(&parts, routes, listener, identity);
        Self { folder, tasks, clock: judged, authority, address }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As root on the local socket; these tests run as root or their callers are refused.
    async fn local(&self) -> Channel {
        connect_unix(self.path("c.sock")).await.unwrap()
    }

    async fn anonymous(&self) -> Channel {
        let config = anonymous_client_config(&self.authority.cas()).unwrap();
        connect_tls(&self.address, CONTROLLER_NAME, config).await.unwrap()
    }

    async fn sign_in(&self, user: &str, password: &str) -> Result<SignInResponse, Status> {
        let request = SignInRequest {
            tenant: String::new(),
            user: user.to_owned(),
            password: password.to_owned(),
        };
        let mut client = SignInServiceClient::new(self.anonymous().await);
        client.sign_in(request).await.map(tonic::Response::into_inner)
    }

    fn admin_password(&self) -> String {
        let text = std::fs::read_to_string(self.path("admin-password")).unwrap();
        text.trim().to_owned()
    }

    /// Makes a user as `token`'s holder.
    async fn create_user(&self, token: &str, user: &str, roles: &[&str]) -> Result<User, Status> {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let request = CreateUserRequest {
            parent: "tenants/default".to_owned(),
            user_id: user.to_owned(),
            user: Some(User { roles, ..User::default() }),
            password: format!("password of {user}"),
            ..CreateUserRequest::default()
        };
        let mut client = UserServiceClient::new(self.anonymous().await);
        client.create_user(by(token, request)).await.map(tonic::Response::into_inner)
    }

    /// Makes a user as admin and signs it in.
    async fn signed_in(&self, admin: &str, user: &str, roles: &[&str]) -> String {
        self.create_user(admin, user, roles).await.unwrap();
        self.sign_in(user, &format!("password of {user}")).await.unwrap().token
    }

    async fn stop(self) {
        self.tasks.stop().await;
    }
}

fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn reason<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.expect_err("refused");
    let details = status.get_error_details();
    (status.code(), details.error_info().map_or_else(String::new, |info| info.reason.clone()))
}

async fn whoami(channel: Channel, token: &str) -> Result<Vec<String>, Status> {
    let mut client = SignInServiceClient::new(channel);
    client.who_am_i(by(token, WhoAmIRequest {})).await.map(|answer| answer.into_inner().roles)
}

#[tokio::test]
async fn a_sign_in_lasts_until_it_is_ended_or_expires() {
    let controller = Controller::start().await;
    let admin = controller.sign_in("admin", &controller.admin_password()).await.unwrap();
    let who = admin.who.clone().unwrap();
    assert_eq!(who.user, "tenants/default/users/admin");
    assert_eq!(who.roles, ["admin", "operator", "user"]);
    let channel = controller.anonymous().await;
    assert!(whoami(channel.clone(), &admin.token).await.is_ok());
    let second = controller.sign_in("admin", &controller.admin_password()).await.unwrap();
    assert_ne!(second.token, admin.token);
    let mut client = SignInServiceClient::new(channel.clone());
    for _ in 0..2 {
        client.sign_out(by(&admin.token, SignOutRequest {})).await.unwrap();
    }
    let signed_out = (Code::Unauthenticated, "SIGNED_OUT".to_owned());
    assert_eq!(reason(whoami(channel.clone(), &admin.token).await), signed_out);
    assert!(whoami(channel.clone(), &second.token).await.is_ok());
    controller.clock.advance(HOUR * 12);
    assert_eq!(reason(whoami(channel.clone(), &second.token).await), signed_out);
    assert_eq!(reason(whoami(channel, "made-up").await), signed_out);
    controller.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_the_same_and_guessing_is_slowed() {
    let controller = Controller::start().await;
    let bad = (Code::Unauthenticated, "BAD_CREDENTIALS".to_owned());
    for (user, password) in [
        ("admin", "wrong"),
        ("nobody", "wrong"),
        ("admin", ""),
        ("", "x"),
        ("a/b", "x"),
        ("../admin", "x"),
    ] {
        assert_eq!(reason(controller.sign_in(user, password).await), bad, "{user} {password}");
    }
    for _ in 0..4 {
        assert_eq!(reason(controller.sign_in("admin", "wrong").await), bad);
    }
    let refused = controller.sign_in("admin", &controller.admin_password()).await;
    let status = refused.expect_err("throttled");
    let wait = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(Duration::from_secs(50) < wait && wait <= Duration::from_secs(60), "{wait:?}");
    controller.clock.advance(Duration::from_secs(61));
    controller.sign_in("admin", &controller.admin_password()).await.unwrap();
    let long = controller.sign_in("admin", &"x".repeat(1_025)).await;
    assert_eq!(reason(long), (Code::InvalidArgument, "INVALID_FIELD".to_owned()));
    controller.stop().await;
}

#[tokio::test]
async fn a_gateway_says_where_a_browser_is_and_nobody_else_is_believed() {
    let controller = Controller::start().await;
    let password = controller.admin_password();
    let (request, key) = enroll("gateway", "g1", "");
    let mut local = EnrollServiceClient::new(controller.local().await);
    let answer = local.enroll(request).await.unwrap().into_inner();
    let identity = Identity::new(answer.certificate, key, answer.cas).unwrap();
    let config = identity.client_config().unwrap();
    let gateway = connect_tls(&controller.address, CONTROLLER_NAME, config).await.unwrap();
    let sign_in = async |channel: &Channel, password: &str, browser: &str| {
        let (tenant, user) = (String::new(), "admin".to_owned());
        let request = SignInRequest { tenant, user, password: password.to_owned() };
        let mut request = Request::new(request);
        request.metadata_mut().insert(BROWSER_ADDRESS, browser.parse().unwrap());
        SignInServiceClient::new(channel.clone()).sign_in(request).await
    };
    let bad = (Code::Unauthenticated, "BAD_CREDENTIALS".to_owned());
    for _ in 0..5 {
        assert_eq!(reason(sign_in(&gateway, "wrong", "198.51.100.7").await), bad);
    }
    let later = (Code::ResourceExhausted, "TRY_LATER".to_owned());
    assert_eq!(reason(sign_in(&gateway, &password, "198.51.100.7").await), later);
    // The user is not held off at home.
    sign_in(&gateway, &password, "192.0.2.1").await.unwrap();
    // Somebody else cannot take another address by saying so.
    let stranger = controller.anonymous().await;
    for index in 0..5 {
        let browser = format!("203.0.113.{index}");
        assert_eq!(reason(sign_in(&stranger, "wrong", &browser).await), bad);
    }
    assert_eq!(reason(sign_in(&stranger, &password, "203.0.113.9").await), later);
    controller.stop().await;
}

#[tokio::test]
async fn users_are_made_listed_changed_and_deleted_by_managers_only() {
    let controller = Controller::start().await;
    let admin = controller.sign_in("admin", &controller.admin_password()).await.unwrap().token;
    let ana = controller.signed_in(&admin, "ana", &["user"]).await;
    let manager = controller.signed_in(&admin, "manager", &["admin"]).await;
    let not_allowed = (Code::PermissionDenied, "NOT_ALLOWED".to_owned());
    assert_eq!(reason(controller.create_user(&ana, "eva", &[]).await), not_allowed);
    // A tenant's admin makes users, but no operators, and does not get at one's password.
    controller.create_user(&manager, "eva", &[]).await.unwrap();
    assert_eq!(reason(controller.create_user(&manager, "op", &["operator"]).await), not_allowed);
    let mut client = UserServiceClient::new(controller.anonymous().await);
    let set = |user: &str| SetPasswordRequest {
        name: format!("tenants/default/users/{user}"),
        password: "another password".to_owned(),
    };
    assert_eq!(reason(client.set_password(by(&manager, set("admin"))).await), not_allowed);
    let (tenant, field) = (Code::NotFound, Code::InvalidArgument);
    for (parent, user_id, password, code) in [
        ("tenants/other", "x", "long enough", tenant),
        ("tenant/default", "x", "long enough", field),
        ("tenants/default", "X Y", "long enough", field),
        ("tenants/default", "x", "short", field),
        ("tenants/default", "ana", "long enough", Code::AlreadyExists),
    ] {
        let request = CreateUserRequest {
            parent: parent.to_owned(),
            user_id: user_id.to_owned(),
            password: password.to_owned(),
            ..CreateUserRequest::default()
        };
        assert_eq!(
            reason(client.create_user(by(&admin, request)).await).0,
            code,
            "{parent} {user_id}"
        );
    }
    let list = |page_size, page_token: &str| {
        let parent = "tenants/default".to_owned();
        by(&manager, ListUsersRequest { parent, page_size, page_token: page_token.to_owned() })
    };
    let first = client.list_users(list(3, "")).await.unwrap().into_inner();
    let rest = client.list_users(list(3, &first.next_page_token)).await.unwrap().into_inner();
    let names: Vec<_> =
        first.users.iter().chain(&rest.users).map(|user| user.name.as_str()).collect();
    let expected =
        ["admin", "ana", "eva", "manager"].map(|id| format!("tenants/default/users/{id}"));
    assert_eq!(names, expected);
    assert_eq!(rest.next_page_token, "");
    // A new password ends the sign-ins that the old one began.
    client.set_password(by(&manager, set("ana"))).await.unwrap();
    assert!(whoami(controller.anonymous().await, &ana).await.is_err());
    assert!(controller.sign_in("ana", "password of ana").await.is_err());
    let ana = controller.sign_in("ana", "another password").await.unwrap().token;
    let delete = DeleteUserRequest { name: set("ana").name, etag: String::new() };
    client.delete_user(by(&manager, delete)).await.unwrap();
    assert!(whoami(controller.anonymous().await, &ana).await.is_err());
    controller.stop().await;
}

#[tokio::test]
async fn the_same_name_in_two_tenants_is_two_people() {
    let controller = Controller::start().await;
    let admin = controller.sign_in("admin", &controller.admin_password()).await.unwrap().token;
    let tenant = CreateTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    let mut tenants = TenantServiceClient::new(controller.anonymous().await);
    tenants.create_tenant(by(&admin, tenant)).await.unwrap();
    let mut users = UserServiceClient::new(controller.anonymous().await);
    for tenant in ["default", "acme"] {
        let request = CreateUserRequest {
            parent: format!("tenants/{tenant}"),
            user_id: "ana".to_owned(),
            password: format!("password at {tenant}"),
            user: Some(User { roles: vec!["admin".to_owned()], ..User::default() }),
            ..CreateUserRequest::default()
        };
        users.create_user(by(&admin, request)).await.unwrap();
    }
    let sign_in = async |tenant: &str, password: &str| {
        let (tenant, user, password) = (tenant.to_owned(), "ana".to_owned(), password.to_owned());
        let mut client = SignInServiceClient::new(controller.anonymous().await);
        client.sign_in(SignInRequest { tenant, user, password }).await.map(|one| one.into_inner())
    };
    let bad = (Code::Unauthenticated, "BAD_CREDENTIALS".to_owned());
    assert_eq!(reason(sign_in("acme", "password at default").await), bad);
    assert_eq!(reason(sign_in("nowhere", "password at acme").await), bad);
    let ana = sign_in("acme", "password at acme").await.unwrap();
    assert_eq!(ana.who.unwrap().user, "tenants/acme/users/ana");
    let list = |tenant: &str| {
        let parent = format!("tenants/{tenant}");
        by(&ana.token, ListUsersRequest { parent, ..Default::default() })
    };
    let own = users.list_users(list("acme")).await.unwrap().into_inner().users;
    assert_eq!(own.len(), 1);
    assert_eq!(reason(users.list_users(list("default")).await).0, Code::NotFound);
    let other = sign_in("", "password at default").await.unwrap();
    assert_eq!(other.who.unwrap().user, "tenants/default/users/ana");
    controller.stop().await;
}

fn enroll(role: &str, id: &str, secret: &str) -> (EnrollRequest, Vec<u8>) {
    let (key, csr) = generate_key_and_csr().unwrap();
    let (role, id, token_secret) = (role.to_owned(), id.to_owned(), secret.to_owned());
    (EnrollRequest { token_secret, role, id, csr }, key)
}

#[tokio::test]
async fn root_on_the_local_socket_enrols_and_manages_and_others_need_a_token() {
    let controller = Controller::start().await;
    let mut local = EnrollServiceClient::new(controller.local().await);
    let (request, key) = enroll("gateway", "g1", "");
    let answer = local.enroll(request.clone()).await.unwrap().into_inner();
    let name = CertificateName::read(&answer.certificate.clone().into()).unwrap();
    assert_eq!((name.role, name.id.as_str()), (Role::Gateway, "g1"));
    assert_eq!(name.installation, answer.installation_id);
    // Over the network nobody enrols without a token.
    let mut remote = EnrollServiceClient::new(controller.anonymous().await);
    let bad = (Code::PermissionDenied, "BAD_ENROLL_TOKEN".to_owned());
    assert_eq!(reason(remote.enroll(request).await), bad);
    let (request, _) = enroll("gateway", "g1", "made-up");
    assert_eq!(reason(remote.enroll(request).await), bad);
    for (role, id) in
        [("controller", "c9"), ("operator", "o"), ("agent", "Not/An/Id"), ("agent", "")]
    {
        let (request, _) = enroll(role, id, "");
        assert_eq!(reason(local.enroll(request).await).0, Code::InvalidArgument, "{role} {id}");
    }
    let mut damaged = enroll("agent", "h1", "").0;
    damaged.csr.truncate(50);
    assert_eq!(reason(local.enroll(damaged).await).0, Code::InvalidArgument);
    // The certificate opens mTLS, where it is renewed for the same name.
    let identity = Identity::new(answer.certificate, key, answer.cas).unwrap();
    let config = identity.client_config().unwrap();
    let channel = connect_tls(&controller.address, CONTROLLER_NAME, config).await.unwrap();
    let (_, csr) = generate_key_and_csr().unwrap();
    let renewed = EnrollServiceClient::new(channel.clone()).renew(RenewRequest { csr }).await;
    assert_eq!(renewed.unwrap().into_inner().id, "g1");
    // It gets a certificate for its page, of the CA that is used for nothing else.
    let (_, csr) = generate_key_and_csr().unwrap();
    let request = CertifyPageRequest { csr, names: vec!["vdi.example.org".to_owned()] };
    let page = GatewayLinkClient::new(channel.clone()).certify_page(request).await;
    let page = page.unwrap().into_inner();
    assert_eq!(page.chain, controller.authority.page_cas());
    assert!(CertificateName::read(&page.certificate.into()).is_err(), "it names no daemon");
    // A gateway has no rights of its own; with its user's token it has the user's.
    assert!(whoami(channel.clone(), "made-up").await.is_err());
    let mut hosts = HostServiceClient::new(channel.clone());
    let token = CreateEnrollTokenRequest { role: "agent".to_owned(), id: String::new() };
    assert_eq!(reason(hosts.create_enroll_token(token).await).0, Code::PermissionDenied);
    let admin = controller.sign_in("admin", &controller.admin_password()).await.unwrap().token;
    assert!(whoami(channel, &admin).await.is_ok());
    controller.stop().await;
}

#[tokio::test]
async fn a_token_enrols_one_daemon_of_its_role_within_its_hour() {
    let controller = Controller::start().await;
    let mut hosts = HostServiceClient::new(controller.local().await);
    let mut make = async |id: &str| {
        let request = CreateEnrollTokenRequest { role: "agent".to_owned(), id: id.to_owned() };
        let token = hosts.create_enroll_token(request).await.unwrap().into_inner().token;
        vidi_kit::enroll::decode_token(&token).unwrap()
    };
    let token = make("").await;
    assert_eq!(token.addresses, ["controller.example:7443"]);
    // The token is all that the other machine has: its CA opens the connection.
    let config = anonymous_client_config(&token.cas).unwrap();
    let channel = connect_tls(&controller.address, CONTROLLER_NAME, config).await.unwrap();
    let mut client = EnrollServiceClient::new(channel);
    let bad = (Code::PermissionDenied, "BAD_ENROLL_TOKEN".to_owned());
    let (request, _) = enroll("gateway", "h1", &token.secret);
    assert_eq!(reason(client.enroll(request).await), bad);
    let (request, _) = enroll("agent", "h1", &token.secret);
    assert_eq!(client.enroll(request.clone()).await.unwrap().into_inner().id, "h1");
    assert_eq!(reason(client.enroll(request).await), bad);
    // A token that names an id gives that one, whatever is asked for.
    let named = make("h7").await;
    let (request, _) = enroll("agent", "h1", &named.secret);
    assert_eq!(client.enroll(request).await.unwrap().into_inner().id, "h7");
    let late = make("").await;
    controller.clock.advance(HOUR + Duration::from_secs(1));
    let (request, _) = enroll("agent", "h2", &late.secret);
    assert_eq!(reason(client.enroll(request).await), bad);
    controller.stop().await;
}

#[tokio::test]
async fn reflection_is_for_those_who_are_known_and_health_for_everybody() {
    let controller = Controller::start().await;
    let call = async |channel: Channel, path: &'static str| {
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        client.unary(Request::new(()), path, codec).await.map(drop).map_err(|status| status.code())
    };
    let health = "/grpc.health.v1.Health/Check";
    assert_eq!(call(controller.anonymous().await, health).await, Ok(()));
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let refused = call(controller.anonymous().await, reflection).await;
    assert_eq!(refused, Err(Code::Unauthenticated));
    // An empty question is answered with an error of its own kind, not with a refusal.
    let known = call(controller.local().await, reflection).await;
    assert_ne!(known, Err(Code::Unauthenticated));
    assert_ne!(known, Err(Code::PermissionDenied));
    controller.stop().await;
}

#[tokio::test]
async fn a_message_over_the_limit_and_a_caller_of_another_ca_are_refused() {
    let controller = Controller::start().await;
    let huge = controller.sign_in(&"x".repeat(5 * 1024 * 1024), "x").await;
    assert_eq!(huge.expect_err("too large").code(), Code::OutOfRange);
    let other = Controller::start().await;
    let (request, key) = enroll("gateway", "g1", "");
    let mut local = EnrollServiceClient::new(other.local().await);
    let answer = local.enroll(request).await.unwrap().into_inner();
    // Its own certificate is of another installation; it trusts the right CA.
    let foreign = Identity::new(answer.certificate, key, controller.authority.cas()).unwrap();
    let config = foreign.client_config().unwrap();
    let used = async {
        let channel = connect_tls(&controller.address, CONTROLLER_NAME, config).await.ok()?;
        SignInServiceClient::new(channel).sign_out(SignOutRequest {}).await.ok()
    };
    assert!(used.await.is_none());
    // Who trusts another CA does not connect.
    let config = anonymous_client_config(&other.authority.cas()).unwrap();
    assert!(connect_tls(&controller.address, CONTROLLER_NAME, config).await.is_err());
    other.stop().await;
    controller.stop().await;
}
