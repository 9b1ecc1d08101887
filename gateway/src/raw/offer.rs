//! `POST /spice/{desktop}`: a ticket for the signed-in user, and the file that hands it to remote-viewer.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HOST, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};
use rand::Rng;
use serde::Serialize;
use tracing::info;
use vidi_kit::ids::DesktopId;

use crate::http::cookie;
use crate::http::router::Edge;
use crate::http::sign_in::failure;
use crate::model::raw::{Owner, TICKET_SECS_MAX};
use crate::raw::rights::{self, Denied};
use crate::raw::{PORT, count_refused, hash};

/// What is shown of a desktop's name in a window's title.
const TITLE_CHARS_MAX: usize = 80;
/// Bytes of a ticket.
const TICKET_BYTES: usize = 16;

/// The answer: never logged, never cached.
#[derive(Serialize)]
struct Offer {
    /// The ticket, as SPICE's password.
    password: String,
    /// It is good for so many seconds.
    expire_secs: u64,
    /// Where SPICE web clients connect.
    url: String,
    /// A file for remote-viewer.
    vv: String,
}

/// Gives a ticket.
pub(super) async fn offer(
    edge: &Edge,
    desktop: DesktopId,
    headers: &HeaderMap,
    uri: &Uri,
) -> Response {
    let authority = uri.authority().map(Authority::as_str);
    if !cookie::same_origin(headers, authority) {
        count_refused("origin");
        let text = "a ticket is given to this site's own page only\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).or(authority);
    let Some(gateway) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return (StatusCode::BAD_REQUEST, "the host is missing\n").into_response();
    };
    match issue(edge, desktop, headers, &gateway).await {
        Ok(offer) => {
            let mut response = axum::Json(offer).into_response();
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(denied) => {
            count_refused(denied.reason());
            let (code, reason) = match &denied {
                Denied::Away(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
                Denied::SignedOut => (StatusCode::UNAUTHORIZED, "SIGNED_OUT"),
                Denied::NotYours(_) | Denied::Ended => (StatusCode::NOT_FOUND, "NOT_FOUND"),
                Denied::Policy(_) => (StatusCode::FORBIDDEN, "NOT_ALLOWED"),
            };
            failure(code, reason, &denied.text())
        }
    }
}

async fn issue(
    edge: &Edge,
    desktop: DesktopId,
    headers: &HeaderMap,
    gateway: &Authority,
) -> Result<Offer, Denied> {
    let token = cookie::token(headers).ok_or(Denied::SignedOut)?;
    let policy = edge.registry.reach().policy;
    let app = rights::own_app(&edge.controller, &token, desktop, policy).await?;
    let session = rights::open_app(&edge.controller, &token, &app).await?.name;
    let mut random = [0; TICKET_BYTES];
    rand::rng().fill_bytes(&mut random);
    let password = format!("{:032x}", u128::from_be_bytes(random));
    let (hash, now) = (hash(password.as_bytes()), edge.raw.now());
    info!(%session, %desktop, "A ticket for another viewer is given");
    if !edge.raw.tickets().issue(desktop, hash, Owner { session, token }, now) {
        return Err(Denied::Away("this gateway is full; try again".to_owned()));
    }
    metrics::counter!("vidi_gateway_raw_tickets_total").increment(1);
    Ok(Offer {
        expire_secs: TICKET_SECS_MAX.as_secs(),
        url: format!("wss://{gateway}/spice/{desktop}"),
        vv: viewer_file(desktop, &password, gateway, &app.display_name),
        password,
    })
}

/// The connection file of virt-viewer. `port` and not `tls-port`: what is inside the tunnel is plain,
/// the tunnel is not.
fn viewer_file(desktop: DesktopId, password: &str, gateway: &Authority, title: &str) -> String {
    // Its own default for a proxy without a port is another one.
    let (host, port) = (gateway.host(), gateway.port_u16().unwrap_or(443));
    let title: String = title
        .chars()
        .filter(|letter| !letter.is_control())
        .take(TITLE_CHARS_MAX)
        .flat_map(|letter| if letter == '\\' { vec!['\\', '\\'] } else { vec![letter] })
        .collect();
    let lines = [
        ("type", "spice"),
        ("host", &desktop.to_string()),
        ("port", &PORT.to_string()),
        ("password", password),
        ("proxy", &format!("https://{host}:{port}")),
        ("title", title.trim()),
        ("delete-this-file", "1"),
        ("secure-attention", "ctrl+alt+end"),
        // Not passed on.
        ("enable-smartcard", "0"),
        ("enable-usbredir", "0"),
    ];
    let lines = lines.map(|(key, value)| format!("{key}={value}\n"));
    format!("[virt-viewer]\n{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_viewers_file_leads_through_the_gateway_and_a_title_adds_no_lines() {
        let desktop = DesktopId::generate();
        let file = |gateway: &str, title: &str| {
            viewer_file(desktop, "0123", &gateway.parse().unwrap(), title)
        };
        let lines = format!(
            "[virt-viewer]\ntype=spice\nhost={desktop}\nport=5900\npassword=0123\n\
             proxy=https://vidi.example:443\ntitle=Ana's desk\ndelete-this-file=1\n\
             secure-attention=ctrl+alt+end\nenable-smartcard=0\nenable-usbredir=0\n"
        );
        assert_eq!(file("vidi.example", "Ana's desk"), lines);
        let hostile = file("[::1]:8443", " a\nproxy=http://evil\\s\r");
        assert!(hostile.contains("proxy=https://[::1]:8443\ntitle=aproxy=http://evil\\\\s\n"));
        assert_eq!(hostile.lines().count(), lines.lines().count());
    }
}
