//! Numbers of the display channel's messages (`enums.h`).

/// `SPICE_MSG_DISPLAY_*`
pub(super) mod server {
    pub(in crate::display) const MODE: u16 = 101;
    pub(in crate::display) const MARK: u16 = 102;
    pub(in crate::display) const RESET: u16 = 103;
    pub(in crate::display) const COPY_BITS: u16 = 104;
    pub(in crate::display) const INVAL_LIST: u16 = 105;
    pub(in crate::display) const INVAL_ALL_PIXMAPS: u16 = 106;
    pub(in crate::display) const INVAL_PALETTE: u16 = 107;
    pub(in crate::display) const INVAL_ALL_PALETTES: u16 = 108;
    pub(in crate::display) const STREAM_CREATE: u16 = 122;
    pub(in crate::display) const STREAM_DATA: u16 = 123;
    pub(in crate::display) const STREAM_CLIP: u16 = 124;
    pub(in crate::display) const STREAM_DESTROY: u16 = 125;
    pub(in crate::display) const STREAM_DESTROY_ALL: u16 = 126;
    pub(in crate::display) const DRAW_FILL: u16 = 302;
    pub(in crate::display) const DRAW_OPAQUE: u16 = 303;
    pub(in crate::display) const DRAW_COPY: u16 = 304;
    pub(in crate::display) const DRAW_BLEND: u16 = 305;
    pub(in crate::display) const DRAW_BLACKNESS: u16 = 306;
    pub(in crate::display) const DRAW_WHITENESS: u16 = 307;
    pub(in crate::display) const DRAW_INVERS: u16 = 308;
    pub(in crate::display) const DRAW_ROP3: u16 = 309;
    pub(in crate::display) const DRAW_STROKE: u16 = 310;
    pub(in crate::display) const DRAW_TEXT: u16 = 311;
    pub(in crate::display) const DRAW_TRANSPARENT: u16 = 312;
    pub(in crate::display) const DRAW_ALPHA_BLEND: u16 = 313;
    pub(in crate::display) const SURFACE_CREATE: u16 = 314;
    pub(in crate::display) const SURFACE_DESTROY: u16 = 315;
    pub(in crate::display) const STREAM_DATA_SIZED: u16 = 316;
    pub(in crate::display) const MONITORS_CONFIG: u16 = 317;
    pub(in crate::display) const DRAW_COMPOSITE: u16 = 318;
    pub(in crate::display) const STREAM_ACTIVATE_REPORT: u16 = 319;
    pub(in crate::display) const GL_SCANOUT_UNIX: u16 = 320;
    pub(in crate::display) const GL_DRAW: u16 = 321;
}

/// `SPICE_MSGC_DISPLAY_*`
pub(super) mod client {
    pub(in crate::display) const INIT: u16 = 101;
    pub(crate) const PREFERRED_COMPRESSION: u16 = 103;
}
