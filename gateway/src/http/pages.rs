//! The pages: built from `web/`, embedded in the binary.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use include_dir::{Dir, include_dir};

static PAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/web/dist");

/// Sent with every answer: a page may load only what this gateway serves, and nobody may frame it.
const SECURITY_HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
         connect-src 'self'; worker-src 'self'; font-src 'self'; manifest-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types svelte-trusted-html vidi",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "clipboard-read=(self), clipboard-write=(self), fullscreen=(self), microphone=(self)",
    ),
];

/// Adds the headers that every answer carries.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// The file of a path; paths of the application are answered with its one page.
pub fn page(path: &str) -> Response {
    let name = path.trim_start_matches('/');
    let application = name.is_empty()
        || name == "admin"
        || ["desktop/", "admin/"].iter().any(|view| name.starts_with(view));
    let name = if application { "index.html" } else { name };
    let Some(file) = PAGES.get_file(name) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    // Everything under assets/ has its content's hash in its name.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = Response::new(Body::from(file.contents()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_answers_its_paths_and_nothing_else_does() {
        for path in ["/", "/desktop/0198c1a2", "/admin", "/admin/hosts"] {
            let response = page(path);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        }
        for path in ["/nothing", "/../Cargo.toml", "/assets/../../Cargo.toml"] {
            assert_eq!(page(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
