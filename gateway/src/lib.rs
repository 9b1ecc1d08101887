//! The edge: ends TLS and SPICE, serves the pages, turns desktops into browser websockets.
//!
//! ```text
//!  browser ── https ──▶ http ──┬─ pages (embedded), /session
//!                              └─ gRPC-Web ──▶ controller, with the caller's own token
//!          ── wss ────▶ ws ──▶ reconcile::Registry ──▶ one task per session
//!                                                        │ display engine, SPICE
//!                                                        ▼
//!                                        ports::Dial ──▶ relay ──▶ QEMU
//! ```

pub mod adapters;
pub mod config;
pub mod error;
pub mod http;
pub mod model;
pub mod ports;
pub mod raw;
pub mod reconcile;
pub mod rpc;
pub mod telemetry;
pub mod ws;
