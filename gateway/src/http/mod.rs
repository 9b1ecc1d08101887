//! What browsers ask for over https, but for the display itself.

pub mod addresses;
pub mod branding;
pub mod cookie;
pub mod page_certificate;
pub mod pages;
mod recordings;
pub mod router;
pub mod server;
pub mod sign_in;
