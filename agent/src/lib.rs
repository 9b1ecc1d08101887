//! A host's two daemons: the agent, which makes desktops what the controller wants, and the relay,
//! which gateways reach.
//!
//! ```text
//!  controller ◀── rpc::controller_link ── reconcile ──▶ hypervisor, volumes
//!                        │                    └─ plan(model) → steps; ports::Journal
//!                        │ policy
//!                  rpc::relay_door ◀─ relay.sock ─▶ rpc::agent_line
//!                                                        │ policy, certificate, SPICE sockets
//!  gateway ──mTLS──────────────────────────────▶ rpc::relay_service
//! ```

pub mod adapters;
pub mod config;
pub mod doctor;
pub mod join;
pub mod model;
pub mod plan;
pub mod ports;
pub mod reconcile;
pub mod records;
pub mod rpc;
pub mod telemetry;
