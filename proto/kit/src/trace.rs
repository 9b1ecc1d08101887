//! One id from the click through all daemons: W3C Trace Context's `traceparent`, carried with every
//! call, and known to whatever runs on its behalf.
//!
//! ```text
//!  page ── traceparent ──▶ gateway ── traceparent ──▶ controller ── stored with what it changed
//!                            │ scope()                   │ scope()            │
//!                            ▼                           ▼                    ▼
//!                     spans and log lines: trace=<32 hex digits>      agent, relay, gateway
//! ```

use std::future::Future;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use crate::ids::TraceId;

/// The header, and the key in gRPC's metadata (Trace Context, section 3.2).
pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// Longest header that is looked at, in bytes: version 00 has 55, a later one may add to it.
const HEADER_BYTES_MAX: usize = 256;

tokio::task_local! {
    static CURRENT: TraceId;
}

/// Runs `work` on behalf of the request with this id.
pub async fn scope<F: Future>(trace: TraceId, work: F) -> F::Output {
    CURRENT.scope(trace, work).await
}

/// On whose behalf this runs; a task that was spawned has forgotten it.
pub fn current() -> Option<TraceId> {
    CURRENT.try_with(|trace| *trace).ok()
}

/// The id of a call; none when it carries none, or one that is malformed.
pub fn of(headers: &HeaderMap) -> Option<TraceId> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    if HEADER_BYTES_MAX < text.len() {
        return None;
    }
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may add parts; version 00 has none more, and ff is forbidden.
    let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let parent_known = hex(parent, 16) && parent.bytes().any(|byte| byte != b'0');
    if !known || !parent_known || !hex(flags, 2) {
        return None;
    }
    trace.parse().ok()
}

/// Puts the id into a call's headers, in place of any other.
pub fn carry(headers: &mut HeaderMap, trace: TraceId) {
    let parent: u64 = rand::random_range(1..=u64::MAX);
    let text = format!("00-{trace}-{parent:016x}-01");
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(HEADER, value);
    }
}

/// A gRPC request that carries the current id, if there is one.
pub fn carried<T>(request: impl tonic::IntoRequest<T>) -> tonic::Request<T> {
    let mut request = request.into_request();
    if let Some(trace) = current() {
        carry(request.metadata_mut().as_mut(), trace);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn header(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER, HeaderValue::try_from(text).unwrap())])
    }

    #[test]
    fn what_the_specification_allows_is_read_and_nothing_else() {
        // The example of section 3.2.3.
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(of(&header(&good)), Some(TRACE.parse().unwrap()));
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-01-what-the-future-will-be-like");
        assert_eq!(of(&header(&later)), Some(TRACE.parse().unwrap()));
        for wrong in [
            "".to_owned(),
            TRACE.to_owned(),
            format!("{good}-more"),
            good.replacen("00", "ff", 1),
            good.to_uppercase(),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-00f067aa0ba902b7-0"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-{}", "x".repeat(300)),
        ] {
            assert_eq!(of(&header(&wrong)), None, "{wrong}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_call_carries_the_id_of_the_request_it_is_made_for() {
        let trace = TraceId::generate();
        let request = scope(trace, async { carried(()) }).await;
        assert_eq!(of(request.metadata().as_ref()), Some(trace));
        assert!(current().is_none());
        assert!(carried(()).metadata().is_empty());
    }
}
