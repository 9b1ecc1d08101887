//! What every daemon of Vidi shares: configuration, telemetry, TLS, transport, clock, tasks.
//!
//! ```text
//!  config ─▶ main ─▶ Tasks ── spawns ──▶ everything, stopped and joined at the end
//!              │
//!              ├─ enroll ─▶ Identity (watch) ─▶ tls ─▶ transport: listeners and channels
//!              └─ telemetry: logs, /metrics, /live, /ready
//! ```

pub mod backoff;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod enroll;
pub mod files;
pub mod grant;
pub mod ids;
pub mod reconcile;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod transport;

pub use backoff::Backoff;
pub use clock::Clock;
pub use tasks::Tasks;
