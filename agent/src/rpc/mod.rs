//! Both ends of the links: controller and agent, agent and relay, relay and gateway.

pub mod agent_line;
pub mod channel;
pub mod controller_link;
pub mod frames;
pub mod image_source;
pub mod relay_door;
pub mod relay_service;
pub mod wire;
