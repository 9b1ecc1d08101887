//! Log lines on standard error: for people, or as flat JSON objects for jq and log stores.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use crate::clock::boottime_ms;
use crate::config::{LogFormat, TelemetryConfig};
use crate::telemetry::TelemetryError;

/// Starts logging to standard error. `VIDI_LOG` in the environment wins over the configuration.
pub fn start_logs(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let text = std::env::var("VIDI_LOG").unwrap_or_else(|_| config.log.clone());
    let filter =
        EnvFilter::try_new(&text).map_err(|error| TelemetryError::Filter(error.to_string()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).try_init(),
        LogFormat::Json => {
            let layer = layer.with_ansi(false).fmt_fields(JsonFields::new());
            registry.with(layer.event_format(FlatJson)).try_init()
        }
    }
    .map_err(|_| TelemetryError::Twice)
}

/// Tells seldom what strangers can bring about without end: the counters have all of it.
#[derive(Debug, Default)]
pub struct Seldom(AtomicI64);

impl Seldom {
    /// Not told yet.
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Whether it is to be told now: at most once a minute.
    pub fn is_due(&self) -> bool {
        const PERIOD_MS: i64 = 60_000;
        let (last, now) = (self.0.load(Ordering::Relaxed), boottime_ms());
        let due = last == 0 || PERIOD_MS <= now.saturating_sub(last);
        due && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// One object a line: `timestamp`, `level`, `target`, `message`, and beside them every field of the
/// event and of the spans around it; what is nearer to the event wins.
#[derive(Clone, Copy, Debug)]
pub struct FlatJson;

/// What a field may not be named: these say where and when.
const RESERVED: [&str; 3] = ["timestamp", "level", "target"];

impl<S, N> FormatEvent<S, N> for FlatJson
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let Some(kept) = extensions.get::<FormattedFields<N>>() else { continue };
            if let Ok(Value::Object(mut more)) = serde_json::from_str(&kept.fields) {
                fields.append(&mut more);
            }
        }
        event.record(&mut Fields(&mut fields));
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let message = fields.remove("message").unwrap_or_else(|| Value::from(""));
        write!(
            writer,
            r#"{{"timestamp":"{timestamp}","level":"{}","target":"{}","message":{message}"#,
            event.metadata().level(),
            event.metadata().target(),
        )?;
        for (name, value) in fields.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
            write!(writer, ",{}:{value}", Value::from(name.as_str()))?;
        }
        writeln!(writer, "}}")
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn line(log: impl FnOnce()) -> Value {
        let kept = Kept::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(kept.clone()).with_ansi(false);
        let layer = layer.fmt_fields(JsonFields::new()).event_format(FlatJson);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = kept.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_comes_in_crowds_is_told_once() {
        let seldom = Seldom::new();
        assert_eq!((0..1_000).filter(|_| seldom.is_due()).count(), 1);
    }

    #[test]
    fn fields_of_event_and_spans_stand_side_by_side_and_the_nearest_wins() {
        let line = line(|| {
            let outer = tracing::info_span!("rpc", trace = "abc", method = "Open", level = "no");
            let _outer = outer.enter();
            let inner =
                tracing::info_span!("inner", method = "Inner", user = tracing::field::Empty);
            inner.record("user", "ana");
            let _inner = inner.enter();
            tracing::info!(desktop = %"d1", count = 3, ready = true, "A \"quoted\"\nline");
        });
        for (name, value) in [
            ("trace", Value::from("abc")),
            ("method", "Inner".into()),
            ("user", "ana".into()),
            ("desktop", "d1".into()),
            ("count", 3.into()),
            ("ready", true.into()),
            ("message", "A \"quoted\"\nline".into()),
            ("level", "INFO".into()),
        ] {
            assert_eq!(line[name], value, "{name} in {line}");
        }
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
