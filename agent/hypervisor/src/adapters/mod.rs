//! One real thing behind each port; libvirt has a folder of its own.

pub mod linux_host;
pub mod local_volumes;
mod qcow2;
