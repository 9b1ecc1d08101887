//! Data and legal transitions: pure, no clock, no wire, no store.

pub mod assignment;
pub mod change;
pub mod display_policy;
pub mod fleet;
pub mod host;
pub mod lookup;
pub mod machine;
pub mod map;
pub mod pool;
pub mod pool_index;
pub mod power;
pub mod refusal;
pub mod resources;
pub mod row;
pub mod session;
pub mod usage;
pub mod world;

pub use assignment::{Assignment, AssignmentEvent, AssignmentRefusal};
pub use change::{Answer, Change, DesktopTarget, Granted, Placed, RequestKey, Way};
pub use display_policy::{ClipboardWays, DisplayPolicy, Permission, Recording};
pub use host::{GatewayLive, HostHello, HostLive, HostReport, Observed};
pub use machine::{Machine, MachineSettings, Sealed};
pub use pool::{
    Pool, PoolCounts, PoolKind, PoolSettings, PoolStatus, PoolUsers, Standing, Suspension,
};
pub use power::{Power, PowerEvent};
pub use refusal::Refusal;
pub use resources::{
    Allocation, Desktop, DesktopSpec, DesktopStatus, EnrollToken, Guest, Host, ImageFile,
    Installation, Manifest, Operation, OperationError, OperationKind, Readiness, Reason,
    ReleasePolicy, Request, SignIn, Template, TemplateVersion, Tenant, User, Video,
};
pub use row::{Key, Row, Step};
pub use session::{EndCause, Place, Presence, Session, SessionEvent};
pub use usage::{UsageInterval, UsageKey, UsageKind};
pub use world::{Limits, World};
