//! Metrics and health: `/metrics`, `/live`, `/ready`. What each daemon counts is a table in its own
//! `telemetry.rs`, and docs/operations.md says the same to people.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics::{Label, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::info;

use crate::Tasks;
use crate::clock::boottime_ms;
use crate::config::TelemetryConfig;
pub use crate::logs::start_logs;
use crate::process;

/// The runtime's own pulse, and how often samples of histograms are put into their buckets.
const PULSE_PERIOD: Duration = Duration::from_secs(1);
/// A runtime that runs nothing for this long is stuck.
const PULSE_SECS_MAX: Duration = Duration::from_secs(20);
/// Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter's text is wrong.
    #[error("[telemetry] log is not a valid filter: {0}")]
    Filter(String),
    /// Started twice in one process.
    #[error("telemetry was started twice")]
    Twice,
    /// The port cannot be had.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
}

/// One metric of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// With its unit at the end, as Prometheus' naming practices want it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// By what it is told apart; never by a desktop, a session or a user.
    pub labels: Labels,
    /// For people, one sentence.
    pub help: &'static str,
}

/// By what a metric is told apart.
#[derive(Clone, Copy, Debug)]
pub enum Labels {
    /// By nothing.
    None,
    /// By one label, of which these are all values.
    Known(&'static str, &'static [&'static str]),
    /// By these labels; a value appears with the first thing that is counted for it.
    Open(&'static [&'static str]),
}

impl Labels {
    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::None => Vec::new(),
            Self::Known(name, _) => vec![name],
            Self::Open(names) => names.to_vec(),
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many were below each of these.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus names it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metric {
    /// A counter.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels: Labels::None, help }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels: Labels::None, help }
    }

    /// A histogram with these upper bounds.
    pub const fn histogram(name: &'static str, bounds: &'static [f64], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram(bounds), labels: Labels::None, help }
    }

    /// With one label, of which these are all values.
    pub const fn by(mut self, label: &'static str, values: &'static [&'static str]) -> Self {
        self.labels = Labels::Known(label, values);
        self
    }

    /// With labels whose values are not known before.
    pub const fn by_any(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = Labels::Open(labels);
        self
    }
}

/// What every daemon tells.
pub const COMMON: &[Metric] = &[
    Metric::gauge("vidi_build_info", "Always 1; the version that runs.").by_any(&["version"]),
    Metric::counter("vidi_task_panics_total", "Panics; each ended one task alone.")
        .by_any(&["task"]),
    Metric::counter(
        "vidi_tls_handshakes_failed_total",
        "Callers whose TLS handshake failed or took too long.",
    ),
];

/// Seconds of things that a person waits for, or a daemon for another.
pub const ANSWER_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Seconds of things that take a machine's start.
pub const START_SECONDS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// Says of each metric what it is, and shows the ones whose labels are known at 0: what never
/// happened is told apart from what is not counted.
pub fn describe(metrics: &[Metric]) {
    for metric in metrics {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
        match metric.labels {
            Labels::None => begin(metric, Vec::new()),
            Labels::Open(_) => {}
            Labels::Known(label, values) => {
                for value in values {
                    begin(metric, vec![Label::new(label, *value)]);
                }
            }
        }
    }
}

fn begin(metric: &Metric, labels: Vec<Label>) {
    match metric.kind {
        Kind::Counter => metrics::counter!(metric.name, labels).absolute(0),
        Kind::Gauge => metrics::gauge!(metric.name, labels).increment(0.0),
        // It appears with all its buckets at 0.
        Kind::Histogram(_) => drop(metrics::histogram!(metric.name, labels)),
    }
}

/// One thing that a gauge counts, for as long as this lives: also when its task panics.
pub struct Counted(metrics::Gauge);

impl Counted {
    /// One more.
    pub fn by(gauge: metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;
type Sample = Box<dyn Fn() + Send + Sync>;

/// How the daemon fares: what `/live`, `/ready` and the gauges are read from. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Parts>>);

#[derive(Default)]
struct Parts {
    start: Start,
    needs: Vec<(&'static str, Check)>,
    loops: Vec<(&'static str, Pulse, Duration)>,
    samples: Vec<Sample>,
}

#[derive(Default)]
enum Start {
    #[default]
    Begun,
    At(&'static str),
    Done,
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Health {
    /// The daemon can do its work only while `check` says so; its error is for people.
    pub fn needs(
        &self,
        what: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.lock().needs.push((what, Box::new(check)));
    }

    /// What the start is waiting for now, for people.
    pub fn starts_with(&self, stage: &'static str) {
        self.lock().start = Start::At(stage);
    }

    /// Everything is wired: from now on only what it needs decides.
    pub fn started(&self) {
        self.lock().start = Start::Done;
    }

    /// A loop that has to turn: the pulse is beaten in each turn, and silence for longer than
    /// `silence_max` means that the process is stuck.
    pub fn loop_turns(&self, what: &'static str, pulse: &Pulse, silence_max: Duration) {
        pulse.beat();
        self.lock().loops.push((what, pulse.clone(), silence_max));
    }

    /// Sets gauges right before they are read.
    pub fn sample(&self, sample: impl Fn() + Send + Sync + 'static) {
        self.lock().samples.push(Box::new(sample));
    }

    /// Why the daemon is not ready; empty: it is.
    pub fn missing(&self) -> Vec<String> {
        let parts = self.lock();
        let failed = parts.needs.iter();
        let mut missing: Vec<String> = failed
            .filter_map(|(what, check)| check().err().map(|why| format!("{what}: {why}")))
            .collect();
        match parts.start {
            Start::Begun => missing.insert(0, "start: it has just begun".to_owned()),
            Start::At(stage) => missing.insert(0, format!("start: {stage}")),
            Start::Done => {}
        }
        missing
    }

    /// The loops that do not turn; empty: it lives.
    pub fn stuck(&self) -> Vec<String> {
        let parts = self.lock();
        let late = parts.loops.iter().filter_map(|(what, pulse, silence_max)| {
            let silence = pulse.silence();
            (*silence_max < silence)
                .then(|| format!("{what}: it has not turned for {} s", silence.as_secs()))
        });
        late.collect()
    }

    fn take_samples(&self) {
        for sample in &self.lock().samples {
            sample();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        // The lists only grow: they are whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of a loop's last turn.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicI64>);

impl Pulse {
    /// The loop turns.
    pub fn beat(&self) {
        self.0.store(boottime_ms(), Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let silence_ms = boottime_ms().saturating_sub(self.0.load(Ordering::Relaxed));
        Duration::from_millis(u64::try_from(silence_ms).unwrap_or(0))
    }
}

/// Serves `/metrics`, `/live` and `/ready` where the configuration says, or at `default_port` on
/// loopback. `metrics` is the daemon's own table.
pub async fn start_metrics(
    tasks: &Tasks,
    config: &TelemetryConfig,
    (default_port, metrics): (u16, &[Metric]),
    health: Health,
) -> Result<(), TelemetryError> {
    process::began();
    let mut builder = PrometheusBuilder::new();
    for metric in metrics {
        if let Kind::Histogram(bounds) = metric.kind {
            // Refused only without a bound.
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
                .map_err(|error| std::io::Error::other(error.to_string()))?;
        }
    }
    let handle = builder.install_recorder().map_err(|_| TelemetryError::Twice)?;
    describe(COMMON);
    describe(metrics);
    metrics::gauge!("vidi_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let address = config.listen.unwrap_or_else(|| ([127, 0, 0, 1], default_port).into());
    let listener = crate::transport::bind(address).await?;
    info!(%address, "Metrics and health are served");
    keep_pulse(tasks, &health, handle.clone());
    let router = router(handle, health);
    let stop = tasks.stop_token();
    let _serving = tasks.spawn("metrics", async move {
        let server = axum::serve(listener, router);
        server.with_graceful_shutdown(stop.cancelled_owned()).await
    });
    Ok(())
}

/// Shows that the runtime runs tasks; and keeps samples of histograms from piling up where nobody
/// reads them.
fn keep_pulse(tasks: &Tasks, health: &Health, handle: PrometheusHandle) {
    let pulse = Pulse::default();
    health.loop_turns("runtime", &pulse, PULSE_SECS_MAX);
    let stop = tasks.stop_token();
    let _beating = tasks.spawn("pulse", async move {
        let beating = async {
            loop {
                pulse.beat();
                handle.run_upkeep();
                tokio::time::sleep(PULSE_PERIOD).await;
            }
        };
        // Cancel-safe: nothing is held between two beats.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = beating => {}
        }
    });
}

fn router(handle: PrometheusHandle, health: Health) -> Router {
    let (alive, ready) = (health.clone(), health.clone());
    Router::new()
        .route(
            "/metrics",
            get(move || {
                health.take_samples();
                let text = handle.render() + &process::render();
                std::future::ready(([(CONTENT_TYPE, TEXT_FORMAT)], text))
            }),
        )
        .route("/live", get(move || std::future::ready(answer("live", &alive.stuck()))))
        .route("/ready", get(move || std::future::ready(answer("ready", &ready.missing()))))
}

fn answer(word: &str, problems: &[String]) -> (StatusCode, String) {
    if problems.is_empty() {
        (StatusCode::OK, format!("{word}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not {word}\n{}\n", problems.join("\n")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_ready_when_it_has_started_and_has_what_it_needs() {
        let health = Health::default();
        let link = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&link);
        health.needs("link", move || {
            if *seen.lock().unwrap() { Ok(()) } else { Err("it is down".to_owned()) }
        });
        health.starts_with("it looks around");
        let down = "link: it is down".to_owned();
        assert_eq!(health.missing(), ["start: it looks around".to_owned(), down]);
        health.started();
        assert_eq!(answer("ready", &health.missing()).1, "not ready\nlink: it is down\n");
        *link.lock().unwrap() = true;
        assert_eq!(answer("ready", &health.missing()), (StatusCode::OK, "ready\n".to_owned()));
    }

    #[test]
    fn a_loop_that_no_longer_turns_is_told() {
        let health = Health::default();
        let pulse = Pulse::default();
        health.loop_turns("owner", &pulse, Duration::from_secs(3_600));
        assert!(health.stuck().is_empty());
        pulse.0.store(boottime_ms() - 4_000_000, Ordering::Relaxed);
        assert_eq!(health.stuck(), ["owner: it has not turned for 4000 s"]);
        pulse.beat();
        assert!(health.stuck().is_empty());
    }

    #[test]
    fn what_is_counted_is_no_more_when_its_task_has_panicked() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let held = || metrics::with_local_recorder(&recorder, || metrics::gauge!("vidi_held"));
        let _one = Counted::by(held());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _another = Counted::by(held());
            std::panic::resume_unwind(Box::new("a bug"));
        }));
        assert!(panicked.is_err());
        assert!(recorder.handle().render().contains("vidi_held 1\n"));
    }

    #[test]
    fn what_is_described_is_shown_at_0_where_its_labels_are_known() {
        const METRICS: &[Metric] = &[
            Metric::counter("vidi_x_total", "Told.").by("result", &["good", "bad"]),
            Metric::histogram("vidi_y_seconds", &[0.5, 1.0], "Told."),
            Metric::gauge("vidi_z", "Told later.").by_any(&["tenant"]),
        ];
        let builder = PrometheusBuilder::new();
        let name = Matcher::Full("vidi_y_seconds".to_owned());
        let recorder = builder.set_buckets_for_metric(name, &[0.5, 1.0]).unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || describe(METRICS));
        let text = recorder.handle().render();
        for line in [
            "# HELP vidi_x_total Told.",
            "vidi_x_total{result=\"bad\"} 0",
            "vidi_x_total{result=\"good\"} 0",
            "# TYPE vidi_y_seconds histogram",
            "vidi_y_seconds_bucket{le=\"+Inf\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("vidi_z"), "{text}");
    }
}
