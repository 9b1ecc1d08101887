//! The tenant of a measurement: its template, its users with their sign-ins, the gateways they come by,
//! its pools and desktops.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use vidi_kit::tls::Role;
use vidi_kit::transport::{BROWSER_ADDRESS, connect_unix};
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;
use vidi_proto::v1::template_service_client::TemplateServiceClient;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::upload_template_request::Part;
use vidi_proto::v1::user_service_client::UserServiceClient;
use vidi_proto::v1::{
    CreateDesktopRequest, CreatePoolRequest, CreateTenantRequest, CreateUserRequest,
    DeletePoolRequest, Desktop, GetPoolRequest, GuestSettings, ImageFile, ListDesktopsRequest,
    ListSessionsRequest, Pool, PoolKind, Readiness, Session, SignInRequest, TemplateManifest,
    Tenant, UploadTemplateHeader, UploadTemplateRequest, User, Video,
};

use crate::agents::Common;

/// The tenant; everything of a measurement is in it.
pub(crate) const TENANT: &str = "tenants/bench";
const TENANT_ID: &str = "bench";
const TEMPLATE_ID: &str = "office";
const PASSWORD: &str = "a password of the bench";
/// A desktop of an office.
const MEMORY_MIB: u32 = 4_096;
/// As many as two machines at the edge.
const GATEWAYS: usize = 2;
/// Sign-ins and desktops that are made side by side; argon2 takes a processor each.
const AT_ONCE: usize = 8;
const PAGE_SIZE: i32 = 1_000;
/// No agent here fetches it.
const DISK: &[u8] = b"not a disk: nobody boots it";

/// Who is signed in, and by which gateways they come.
#[derive(Debug)]
pub(crate) struct People {
    common: Arc<Common>,
    /// The controller's local socket, as root.
    pub(crate) local: Channel,
    gateways: Vec<Channel>,
    tokens: Vec<String>,
    /// The app of each pool that was made.
    apps: Mutex<BTreeMap<String, String>>,
}

impl People {
    /// The tenant with its template, and the gateways.
    pub(crate) async fn new(common: &Arc<Common>) -> Self {
        let local = connect_unix(common.arguments.socket.clone()).await.unwrap();
        let mut people = Self {
            common: Arc::clone(common),
            local,
            gateways: Vec::new(),
            tokens: Vec::new(),
            apps: Mutex::default(),
        };
        people.make_tenant().await;
        for number in 0..GATEWAYS {
            let name = format!("gateway-{number}");
            let identity = common.enroll(&people.local, Role::Gateway, &name).await;
            people.gateways.push(common.connect(&identity).await.unwrap());
        }
        people
    }

    async fn make_tenant(&self) {
        let tenant = Tenant { display_name: "Bench".to_owned(), ..Tenant::default() };
        let request = CreateTenantRequest {
            tenant_id: TENANT_ID.to_owned(),
            tenant: Some(tenant),
            ..CreateTenantRequest::default()
        };
        TenantServiceClient::new(self.local.clone()).create_tenant(request).await.unwrap();
        let sha256 = Sha256::digest(DISK).iter().map(|byte| format!("{byte:02x}")).collect();
        let size_bytes = u64::try_from(DISK.len()).unwrap();
        let guest = GuestSettings {
            memory_mib: MEMORY_MIB,
            vcpus: 2,
            video: Video::Qxl.into(),
            readiness: Readiness::Agent.into(),
            sound: false,
        };
        let manifest = TemplateManifest {
            disk: Some(ImageFile { file: "disk.qcow2".to_owned(), sha256, size_bytes }),
            guest: Some(guest),
            ..TemplateManifest::default()
        };
        let header = UploadTemplateHeader {
            parent: TENANT.to_owned(),
            template_id: TEMPLATE_ID.to_owned(),
            display_name: "Office".to_owned(),
            manifest: Some(manifest),
            draft: false,
        };
        let parts = [Part::Header(header), Part::Chunk(DISK.to_vec())];
        let parts = parts.map(|part| UploadTemplateRequest { part: Some(part) });
        let mut client = TemplateServiceClient::new(self.local.clone());
        client.upload_template(tokio_stream::iter(parts)).await.unwrap();
    }

    /// Makes users and signs them in, until there are so many.
    pub(crate) async fn sign_in(&mut self, count: usize) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut signing: Vec<JoinHandle<Option<String>>> = Vec::new();
        for number in self.tokens.len()..count {
            let place = Arc::clone(&room).acquire_owned().await.unwrap();
            let (local, gateway) = (self.local.clone(), self.gateway(number));
            signing.push(self.common.tasks.spawn("sign-in", async move {
                let token = one_user(local, gateway, number).await;
                drop(place);
                token
            }));
        }
        for one in signing {
            self.tokens.push(one.await.unwrap().unwrap());
        }
    }

    /// The tasks of the measurement.
    pub(crate) fn tasks(&self) -> &vidi_kit::Tasks {
        &self.common.tasks
    }

    /// How many are signed in.
    pub(crate) fn count(&self) -> usize {
        self.tokens.len()
    }

    /// The gateway by which a user comes.
    pub(crate) fn gateway(&self, user: usize) -> Channel {
        self.gateways.get(user % GATEWAYS).unwrap().clone()
    }

    /// A request of a user's browser.
    pub(crate) fn request<T>(&self, user: usize, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.tokens.get(user).unwrap());
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request.metadata_mut().insert(BROWSER_ADDRESS, address_of(user));
        request
    }

    /// Makes a floating pool for everybody.
    pub(crate) async fn make_pool(&self, id: &str, spare: u32, most: u32) -> Result<(), Status> {
        let pool = Pool {
            template: format!("{TENANT}/templates/{TEMPLATE_ID}"),
            kind: PoolKind::Floating.into(),
            min_spare: spare,
            max_desktops: most,
            everyone: true,
            ..Pool::default()
        };
        let request = CreatePoolRequest {
            parent: TENANT.to_owned(),
            pool_id: id.to_owned(),
            pool: Some(pool),
            ..CreatePoolRequest::default()
        };
        let made = PoolServiceClient::new(self.local.clone()).create_pool(request).await?;
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        apps.insert(id.to_owned(), made.into_inner().app);
        Ok(())
    }

    /// Deletes a pool with all that is in it.
    pub(crate) async fn drop_pool(&self, id: &str) {
        let (name, force) = (format!("{TENANT}/pools/{id}"), true);
        let request = DeletePoolRequest { name, force, ..DeletePoolRequest::default() };
        PoolServiceClient::new(self.local.clone()).delete_pool(request).await.unwrap();
    }

    /// Whether the tenant has no desktop.
    pub(crate) async fn is_empty(&self) -> bool {
        let parent = TENANT.to_owned();
        let request =
            ListDesktopsRequest { parent, page_size: 1, ..ListDesktopsRequest::default() };
        let mut client = DesktopServiceClient::new(self.local.clone());
        client.list_desktops(request).await.unwrap().into_inner().desktops.is_empty()
    }

    /// The app of a pool that was made here.
    pub(crate) fn app_of(&self, id: &str) -> String {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        apps.get(id).unwrap().clone()
    }

    /// A pool as it is now.
    pub(crate) async fn pool(&self, id: &str) -> Pool {
        let name = format!("{TENANT}/pools/{id}");
        let mut client = PoolServiceClient::new(self.local.clone());
        client.get_pool(GetPoolRequest { name }).await.unwrap().into_inner()
    }

    /// Makes a desktop for each of the users, and has it started.
    pub(crate) async fn make_desktops(&self, count: usize) {
        let name = |number| format!("{TENANT}/users/{}", user_id(number));
        // Nobody's where there are not so many users.
        let user_of = |number| if number < self.count() { name(number) } else { String::new() };
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let made = Arc::new(AtomicUsize::new(0));
        let mut making = Vec::new();
        for number in 0..count {
            let place = Arc::clone(&room).acquire_owned().await.unwrap();
            let (local, made) = (self.local.clone(), Arc::clone(&made));
            let assigned_user = user_of(number);
            making.push(self.common.tasks.spawn("make", async move {
                let request = CreateDesktopRequest {
                    parent: TENANT.to_owned(),
                    template: format!("{TENANT}/templates/{TEMPLATE_ID}"),
                    assigned_user,
                    start: true,
                    ..CreateDesktopRequest::default()
                };
                DesktopServiceClient::new(local).create_desktop(request).await.unwrap();
                made.fetch_add(1, Ordering::SeqCst);
                drop(place);
            }));
        }
        for one in making {
            one.await.unwrap();
        }
        assert_eq!(made.load(Ordering::SeqCst), count, "desktops that could not be made");
    }

    /// All sessions of the tenant.
    pub(crate) async fn sessions(&self) -> Vec<Session> {
        let mut client = SessionServiceClient::new(self.local.clone());
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let parent = TENANT.to_owned();
            let request = ListSessionsRequest { parent, page_size: PAGE_SIZE, page_token };
            let page = client.list_sessions(request).await.unwrap().into_inner();
            all.extend(page.sessions);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }

    /// All desktops of the tenant.
    pub(crate) async fn desktops(&self) -> Vec<Desktop> {
        let mut client = DesktopServiceClient::new(self.local.clone());
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListDesktopsRequest {
                parent: TENANT.to_owned(),
                page_size: PAGE_SIZE,
                page_token,
                ..ListDesktopsRequest::default()
            };
            let page = client.list_desktops(request).await.unwrap().into_inner();
            all.extend(page.desktops);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }
}

/// A user's id, by number.
pub(crate) fn user_id(number: usize) -> String {
    format!("user-{number:05}")
}

/// An address of the user's own: an office behind one address would be slowed down.
fn address_of(user: usize) -> MetadataValue<tonic::metadata::Ascii> {
    let [_, _, high, low] = u32::try_from(user).unwrap().to_be_bytes();
    format!("10.1.{high}.{low}").parse().unwrap()
}

async fn one_user(local: Channel, gateway: Channel, number: usize) -> String {
    let user = user_id(number);
    let request = CreateUserRequest {
        parent: TENANT.to_owned(),
        user_id: user.clone(),
        user: Some(User { roles: vec!["user".to_owned()], ..User::default() }),
        password: PASSWORD.to_owned(),
        ..CreateUserRequest::default()
    };
    UserServiceClient::new(local).create_user(request).await.unwrap();
    let (tenant, password) = (TENANT_ID.to_owned(), PASSWORD.to_owned());
    let mut request = Request::new(SignInRequest { tenant, user, password });
    request.metadata_mut().insert(BROWSER_ADDRESS, address_of(number));
    let answer = SignInServiceClient::new(gateway).sign_in(request).await.unwrap();
    answer.into_inner().token
}
