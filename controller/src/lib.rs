//! The control plane of Vidi: one leader decides, everybody may ask.
//!
//! ```text
//!  rpc ──changes──▶ reconcile ──group commits──▶ Store (sled | memory)
//!   ▲                  │  ▲
//!   └── snapshot ──────┘  └── plan ── model
//! ```

pub mod adapters;
pub mod backup;
pub mod bootstrap;
pub mod config;
pub mod contract;
pub mod error;
pub mod model;
pub mod mutants;
pub mod plan;
pub mod ports;
pub mod reconcile;
pub mod records;
pub mod rpc;
pub mod telemetry;
