//! Wire to model and back.
//!
//! ```text
//!  TLS ──┐                                            ┌─ sign_in, users, tenants, usage, enroll
//!        ├─▶ calls ───▶ standby ────▶ authorization ──┼─ templates, desktops, hosts, sessions, operations
//!  unix ─┘   (counted) (leads here?) (who? may they?) └─ agent_link, gateway_link
//! ```
//! A service finds its [`Caller`] in the request's extensions ([`Caller::of`]) and judges only whose
//! the object is.

mod admit;
pub mod agent_link;
mod agent_news;
pub mod around;
pub mod audit;
pub mod auditing;
pub mod authorization;
pub mod batches;
mod branding;
pub mod caller;
pub mod calls;
mod desktop_fields;
mod desktop_list;
pub mod desktops;
pub mod enroll;
pub mod forward;
pub mod gateway_link;
pub mod groups;
mod host_rules;
pub mod hosts;
pub mod machines;
mod menu;
pub mod messages;
pub mod names;
pub mod operations;
pub mod page;
pub mod page_certificate;
mod placement;
mod pool_fields;
pub mod pools;
pub mod rollouts;
pub mod server;
pub mod sessions;
pub mod sign_in;
pub mod standby;
pub mod status;
pub mod store;
pub mod templates;
pub mod tenants;
pub mod throttle;
pub mod usage;
pub mod users;
mod watched;
mod watching;
pub mod wire;

use std::sync::Arc;

use vidi_kit::grant::GrantSigner;
use vidi_kit::{Clock, Tasks};

pub use caller::{Caller, SignedIn};

use crate::ports::{Authority, Directory, Images, Store};
use crate::reconcile::Handle;

/// What the services are made of; cheap to clone.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Snapshots and changes.
    pub handle: Handle,
    /// What is kept, for a backup; everything else asks the handle.
    pub store: Arc<dyn Store>,
    /// Certificates.
    pub authority: Arc<dyn Authority>,
    /// Passwords.
    pub directory: Arc<dyn Directory>,
    /// Controller time.
    pub clock: Clock,
    /// Where links and streams run.
    pub tasks: Tasks,
    /// Signs grants.
    pub signer: Arc<GrantSigner>,
    /// This controller's id.
    pub controller: String,
    /// `host:port` of controllers, for enrolment tokens.
    pub addresses: Vec<String>,
    /// The templates' files.
    pub images: Arc<dyn Images>,
    /// The way to another controller that leads; none where there is no other.
    pub forward: Option<Arc<forward::Forward>>,
}
