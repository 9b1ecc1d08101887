//! gRPC-Web: the pages' calls, passed on to the controller with the caller's own token. And the link
//! between gateways.

pub mod grpc_web;
pub mod peer;
