//! gRPC-Web: the pages' calls, passed on to the controller with the caller's own token.

pub mod grpc_web;
