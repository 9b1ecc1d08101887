//! Data and legal transitions: pure, no clock, no wire, no store.

pub mod about;
pub mod answer;
pub mod assignment;
pub mod audit;
pub mod batch;
pub mod branding;
pub mod change;
pub mod display_policy;
pub mod fleet;
pub mod forecast;
pub mod group;
pub mod host;
pub mod host_rule;
mod indexes;
pub mod lookup;
pub mod machine;
pub mod map;
pub mod pool;
pub mod pool_index;
pub mod pool_wants;
pub mod power;
pub mod quota;
pub mod refusal;
pub mod request_key;
pub mod resources;
pub mod rollout;
pub mod row;
pub mod schedule;
pub mod session;
pub mod template;
pub mod tenant_index;
pub mod usage;
pub mod world;

pub use answer::{Answer, Granted, Placed, Way};
pub use assignment::{Assignment, AssignmentEvent, AssignmentRefusal};
pub use batch::{Batch, BatchKind, DesktopFilter, NewBatch};
pub use change::{Change, DesktopTarget, RequestKey};
pub use display_policy::{ClipboardWays, DisplayPolicy, Permission, Recording};
pub use host::{GatewayLive, HostHello, HostLive, HostReport, Observed};
pub use machine::{Machine, MachineSettings, Sealed};
pub use pool::{
    Pool, PoolCounts, PoolKind, PoolSettings, PoolStatus, PoolUsers, Standing, Suspension,
};
pub use power::{Power, PowerEvent};
pub use quota::{Quota, QuotaKind};
pub use refusal::Refusal;
pub use resources::{
    Allocation, Desktop, DesktopSpec, DesktopStatus, EnrollToken, Guest, Host, ImageFile,
    Installation, Manifest, Operation, OperationError, OperationKind, Readiness, Reason,
    ReleasePolicy, Request, SignIn, Template, TemplateVersion, Tenant, User, Video,
};
pub use rollout::{
    Pin, Rollout, RolloutChange, RolloutFailure, RolloutSettings, RolloutState, Trial, TrialPhase,
};
pub use row::{Key, Row, Step};
pub use session::{EndCause, Notice, Place, Presence, Session, SessionEvent};
pub use template::TemplateChange;
pub use usage::{UsageInterval, UsageKey, UsageKind};
pub use world::{Limits, World};
