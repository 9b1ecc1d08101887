//! The types of the gateway's records that others than their writers name.

/// The size of the view; what was drawn before is void.
pub const SIZE: u8 = 2;
/// One colour.
pub(crate) const FILL: u8 = 3;
/// Pixels that the browser already has.
pub(crate) const COPY: u8 = 4;
/// Plain pixels.
pub(crate) const RAW: u8 = 5;
/// Encoded pixels.
pub(crate) const IMAGE: u8 = 6;
/// A consistent picture is complete.
pub const FRAME_END: u8 = 7;
/// How the session is, with a text for people.
pub const STATUS: u8 = 12;
/// Tiles that are to be drawn from memory.
pub(crate) const RECALL: u8 = 17;
/// A picture of a video region.
pub(crate) const VIDEO: u8 = 18;
/// The open frame shows more than one moment of the guest's picture.
pub(crate) const PARTIAL: u8 = 29;
