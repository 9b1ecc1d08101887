//! Logs, metrics and health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::prelude::*;

use crate::Tasks;
use crate::config::{LogFormat, TelemetryConfig};

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

/// Says whether the daemon can do its work now; `/ready` shows it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Ready, or not any more.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts logging to standard error. `VIDI_LOG` in the environment wins over the configuration.
pub fn start_logs(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let text = std::env::var("VIDI_LOG").unwrap_or_else(|_| config.log.clone());
    let filter =
        EnvFilter::try_new(&text).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

/// Serves `/metrics`, `/live` and `/ready` where the configuration says, or at `default_port` on
/// loopback.
pub async fn start_metrics(
    tasks: &Tasks,
    config: &TelemetryConfig,
    default_port: u16,
    readiness: Readiness,
) -> Result<(), TelemetryError> {
    let handle = PrometheusBuilder::new().install_recorder().map_err(|_| TelemetryError::Twice)?;
    let address = config.listen.unwrap_or_else(|| ([127, 0, 0, 1], default_port).into());
    let listener = crate::transport::bind(address).await?;
    info!(%address, "metrics and health are served");
    let router = router(handle, readiness);
    let stop = tasks.stop_token();
    let _serving = tasks.spawn("metrics", async move {
        let server = axum::serve(listener, router);
        server.with_graceful_shutdown(stop.cancelled_owned()).await
    });
    Ok(())
}

fn router(handle: PrometheusHandle, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(move || std::future::ready(handle.render())))
        .route("/live", get(|| std::future::ready("live\n")))
        .route(
            "/ready",
            get(move || {
                std::future::ready(if readiness.get() {
                    (StatusCode::OK, "ready\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                })
            }),
        )
}
