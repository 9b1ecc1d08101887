//! Who comes to a session, as the controller knows them.

use vidi_display::protocol::Part;
use vidi_kit::trace::TraceId;

use super::terms::Terms;

/// A person who wants to look at a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// `tenants/{t}/users/{u}`.
    pub user: String,
    /// For people.
    pub name: String,
    /// Who it is to the session.
    pub part: Part,
}

/// Where another gateway is, for gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `host:port`.
    pub address: String,
    /// The DNS name that its certificate must carry.
    pub name: String,
}

/// The controller's answer about a visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The session's resource name.
    pub session: String,
    /// It is over; only its own user is told.
    pub has_ended: bool,
    /// Of the click that opened it.
    pub trace: Option<TraceId>,
    /// Who it is.
    pub visitor: Visitor,
    /// What the session's desktop or machine allows now.
    pub terms: Terms,
    /// The gateway that has it attached, where that is another than this.
    pub elsewhere: Option<Peer>,
}
