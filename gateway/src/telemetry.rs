//! What the gateway counts; docs/operations.md says the same to people.

use vidi_kit::telemetry::{ANSWER_SECONDS, Metric};

/// Why a browser is refused, or let go.
pub const REFUSALS: &[&str] = &[
    "address_connections",
    "foreign_origin",
    "not_a_websocket",
    "signed_out",
    "not_yours",
    "controller_away",
    "protocol",
    "full",
];

/// Why another viewer is refused.
const RAW_REFUSALS: &[&str] =
    &["policy", "rights", "origin", "ticket", "channel", "link", "desktop", "full", "away"];

/// Seconds until a picture: from one that is there at once to a desktop that has to boot.
const PICTURE_SECONDS: &[f64] =
    &[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Seconds of encoding one piece of a picture.
const ENCODE_SECONDS: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// What parts of pictures are sent as, by their names in `vidi_display::PictureForm`.
const PICTURE_FORMS: &[&str] =
    &["fill", "copy", "recall", "palette", "raw", "png", "webp", "jpeg", "video"];

/// All of it.
pub const METRICS: &[Metric] = &[
    Metric::gauge("vidi_gateway_controller_linked", "1 while the controller's link is up."),
    Metric::gauge("vidi_gateway_https_connections", "Browsers' connections."),
    Metric::counter("vidi_gateway_refused_total", "Browsers refused or let go, by reason.")
        .by("reason", REFUSALS),
    Metric::histogram(
        "vidi_gateway_call_seconds",
        ANSWER_SECONDS,
        "Calls of pages passed on to the controller, until their answer begins.",
    ),
    Metric::gauge("vidi_gateway_sessions", "Sessions that are held here."),
    Metric::gauge("vidi_gateway_viewers", "Browsers that look at a session."),
    Metric::counter("vidi_gateway_attaches_total", "Tries to reach a desktop, by their end.")
        .by("result", &["attached", "failed"]),
    Metric::counter(
        "vidi_gateway_reconnects_total",
        "Desktops lost while shown; each is reached again behind the veil.",
    ),
    Metric::histogram(
        "vidi_gateway_first_picture_seconds",
        PICTURE_SECONDS,
        "Until the first picture went out: from the click (OpenApp at this gateway), or from the \
         viewer's arrival.",
    )
    .by("since", &["click", "viewer"]),
    Metric::counter("vidi_gateway_websocket_bytes_total", "Bytes of display sockets' messages.")
        .by("direction", &["to_browser", "from_browser"]),
    Metric::counter("vidi_gateway_frames_total", "Whole pictures that went to browsers."),
    Metric::histogram(
        "vidi_gateway_encode_seconds",
        ENCODE_SECONDS,
        "Encoding one piece of a picture, waiting for a core not counted.",
    ),
    Metric::counter(
        "vidi_gateway_picture_parts_total",
        "Parts of pictures that went to browsers, by form; of recalls, tiles.",
    )
    .by("form", PICTURE_FORMS),
    Metric::counter("vidi_gateway_picture_bytes_total", "Bytes of these parts, by form.")
        .by("form", PICTURE_FORMS),
    Metric::gauge("vidi_gateway_video_regions", "Areas of pictures that are sent as video."),
    Metric::gauge(
        "vidi_gateway_packed_pictures",
        "Sessions whose pixels are packed, since nothing has moved there for a while.",
    ),
    Metric::counter(
        "vidi_gateway_unsupported_draws_total",
        "Drawings of guests that were not carried out.",
    ),
    Metric::counter(
        "vidi_gateway_display_waits_total",
        "Times that a guest had drawn more than a session may cost, and had to wait.",
    ),
    Metric::counter(
        "vidi_gateway_moves_total",
        "Physical machines that said that they moved, followed there or not.",
    )
    .by("outcome", &["followed", "refused"]),
    Metric::counter(
        "vidi_gateway_clipboard_bytes_total",
        "Bytes of clipboards that guests took and gave.",
    )
    .by("direction", &["to_guest", "from_guest"]),
    Metric::counter(
        "vidi_gateway_sound_packets_total",
        "Packets of guests' sound that went to browsers, or were dropped because the line was full.",
    )
    .by("result", &["sent", "dropped"]),
    Metric::counter("vidi_gateway_file_bytes_total", "Bytes of files that went into guests."),
    Metric::counter("vidi_gateway_files_total", "Files that were to go into guests, by their end.")
        .by("result", &["done", "failed", "cancelled"]),
    Metric::counter("vidi_gateway_raw_tickets_total", "Tickets given for other viewers."),
    Metric::gauge("vidi_gateway_raw_channels", "Channels of other viewers that are open."),
    Metric::counter("vidi_gateway_raw_bytes_total", "Bytes passed on for other viewers.")
        .by("direction", &["to_client", "from_client"]),
    Metric::counter("vidi_gateway_raw_refused_total", "Other viewers refused, by reason.")
        .by("reason", RAW_REFUSALS),
    Metric::counter("vidi_gateway_guests_total", "Guests of sessions, by what became of them.")
        .by("what", &["asked", "returned", "allowed", "refused", "removed"]),
    Metric::gauge("vidi_gateway_recordings", "Sessions that are being recorded."),
    Metric::counter("vidi_gateway_recorded_bytes_total", "Bytes written to recordings."),
    Metric::counter(
        "vidi_gateway_recordings_failed_total",
        "Recordings that ended before their session: its limits, or the disk.",
    ),
];
