//! All ways to a desktop behind one port: the ticket says which.

use async_trait::async_trait;

use super::direct::DirectDial;
use super::relay::RelayDial;
use crate::error::GatewayError;
use crate::ports::{Attachment, Dial, Ticket, Way};

/// Takes the way that the ticket names.
#[derive(Debug)]
pub struct AnyDial {
    /// To desktops on hosts.
    pub relay: RelayDial,
    /// To physical machines.
    pub direct: DirectDial,
}

#[async_trait]
impl Dial for AnyDial {
    async fn attach(&self, ticket: &Ticket) -> Result<Box<dyn Attachment>, GatewayError> {
        match &ticket.way {
            Way::Relay(ticket) => self.relay.attach(ticket).await,
            Way::Direct(ticket) => self.direct.attach(ticket).await,
        }
    }
}
