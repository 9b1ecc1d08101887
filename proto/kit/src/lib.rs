//! What every daemon of Vidi shares: configuration, telemetry, TLS, transport, clock, tasks.
//!
//! ```text
//!  config ─▶ main ─▶ Tasks ── spawns ──▶ everything, stopped and joined at the end
//!              │
//!              ├─ enroll ─▶ Identity (watch) ─▶ tls ─▶ transport: listeners and channels
//!              ├─ controllers: which of them is asked, and who leads
//!              ├─ logs, trace: lines with fields, one id from the click through all daemons
//!              └─ telemetry: /metrics, /live, /ready
//! ```

pub mod backoff;
pub mod chance;
pub mod clock;
pub mod commands;
pub mod config;
pub mod controllers;
pub mod daemon;
pub mod enroll;
pub mod files;
pub mod grant;
pub mod ids;
pub mod join;
pub mod logs;
pub mod process;
pub mod reconcile;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod transport;

pub use backoff::Backoff;
pub use chance::Chance;
pub use clock::Clock;
pub use tasks::Tasks;
