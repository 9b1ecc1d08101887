//! What the agent and the relay count; docs/operations.md says the same to people.

use std::time::Duration;

use tokio::sync::watch;
use vidi_kit::telemetry::{ANSWER_SECONDS, Health, Metric, START_SECONDS};

use crate::model::observed::{HostState, Power};
use crate::rpc::controller_link::ControllerLink;

/// Why the relay refuses.
pub const REFUSALS: &[&str] =
    &["certificate", "grant", "expired", "not_allowed", "replaced", "limit", "no_policy", "agent"];

const POWERS: [(Power, &str); 5] = [
    (Power::Preparing, "preparing"),
    (Power::Off, "off"),
    (Power::Starting, "starting"),
    (Power::Running, "running"),
    (Power::Failed, "failed"),
];

/// The agent's.
pub const AGENT_METRICS: &[Metric] = &[
    Metric::gauge("vidi_agent_desktops", "Desktops of this host, by power.")
        .by("power", &["preparing", "off", "starting", "running", "failed"]),
    Metric::counter("vidi_agent_starts_total", "Starts of desktops, by their end.")
        .by("result", &["started", "failed", "retried"]),
    Metric::histogram(
        "vidi_agent_start_seconds",
        START_SECONDS,
        "Until a desktop's domain runs, by libvirt's word.",
    ),
    Metric::histogram(
        "vidi_agent_ready_seconds",
        START_SECONDS,
        "Until a started desktop's guest has answered and drawn.",
    ),
    Metric::histogram(
        "vidi_agent_libvirt_call_seconds",
        ANSWER_SECONDS,
        "Calls to libvirt with their wait for a thread, by call.",
    )
    .by_any(&["call"]),
    Metric::counter("vidi_agent_libvirt_errors_total", "Calls to libvirt that failed, by call.")
        .by_any(&["call"]),
    Metric::gauge("vidi_agent_libvirt_up", "1 while libvirt lists its domains."),
    Metric::counter("vidi_agent_image_fetches_total", "Images fetched, by their end.")
        .by("result", &["fetched", "failed"]),
    Metric::counter("vidi_agent_image_fetch_bytes_total", "Bytes of images that came."),
    Metric::gauge("vidi_agent_controller_linked", "1 while the controller's link is up."),
    Metric::counter("vidi_agent_spice_sockets_total", "SPICE sockets asked for, by their end.")
        .by("result", &["opened", "refused"]),
    Metric::histogram(
        "vidi_agent_round_seconds",
        ANSWER_SECONDS,
        "Rounds of the reconciler: observe, plan, begin steps, publish.",
    ),
    Metric::gauge("vidi_agent_problems", "What is wrong with the host, as the controller is told."),
    Metric::gauge("vidi_agent_host_memory_bytes", "The host's memory.")
        .by("kind", &["total", "available"]),
    Metric::gauge("vidi_agent_images_free_bytes", "Space left for images and disks."),
];

/// The relay's.
pub const RELAY_METRICS: &[Metric] = &[
    Metric::gauge("vidi_relay_agent_connected", "1 while the agent is connected."),
    Metric::gauge("vidi_relay_attachments", "Sessions that are attached."),
    Metric::counter("vidi_relay_attaches_total", "Sessions that were attached."),
    Metric::gauge("vidi_relay_channels", "Channels that are open."),
    Metric::counter("vidi_relay_channels_total", "Channels that were opened."),
    Metric::counter("vidi_relay_bytes_total", "Bytes carried.")
        .by("direction", &["to_gateway", "to_desktop"]),
    Metric::counter(
        "vidi_relay_pictures_total",
        "Pictures that were sent in another form than the desktop's, or once more, exactly.",
    )
    .by("form", &["jpeg", "lz4", "exact"]),
    Metric::counter("vidi_relay_refusals_total", "Attachments and channels refused, by reason.")
        .by("reason", REFUSALS),
];

/// A round asks libvirt three times, each for 30 s at most, and the disk.
pub const ROUND_SECS_MAX: Duration = Duration::from_secs(180);

/// Makes the agent's `/ready` follow libvirt and the link, and sets the host's gauges whenever they
/// are read.
pub fn watch(health: &Health, link: &ControllerLink, state: &watch::Receiver<HostState>) {
    let (seen, linked) = (state.clone(), link.clone());
    health.needs("libvirt", move || {
        let state = seen.borrow();
        if state.observed && state.hypervisor_answers {
            return Ok(());
        }
        Err("the host's domains cannot be listed; what runs goes on".to_owned())
    });
    health.needs("controller", move || match linked.channel() {
        Some(_) => Ok(()),
        None => Err("there is no link; what runs goes on".to_owned()),
    });
    let (state, link) = (state.clone(), link.clone());
    health.sample(move || {
        set(&state.borrow());
        let linked = f64::from(u8::from(link.channel().is_some()));
        metrics::gauge!("vidi_agent_controller_linked").set(linked);
    });
}

fn set(state: &HostState) {
    for (power, word) in POWERS {
        let count = state.desktops.iter().filter(|one| one.power == power).count();
        metrics::gauge!("vidi_agent_desktops", "power" => word).set(count as f64);
    }
    let bytes = |mib: u64| mib as f64 * 1_048_576.0;
    let facts = &state.facts;
    for (kind, mib) in
        [("total", facts.memory_total_mib), ("available", facts.memory_available_mib)]
    {
        metrics::gauge!("vidi_agent_host_memory_bytes", "kind" => kind).set(bytes(mib));
    }
    metrics::gauge!("vidi_agent_images_free_bytes").set(bytes(state.images_free_mib));
    metrics::gauge!("vidi_agent_problems").set(state.problems.len() as f64);
    let up = f64::from(u8::from(state.hypervisor_answers));
    metrics::gauge!("vidi_agent_libvirt_up").set(up);
}
