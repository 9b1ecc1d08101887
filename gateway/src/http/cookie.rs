//! The sign-in cookie `__Host-vidi`: the caller's opaque token, out of reach of scripts.

use http::HeaderMap;
use http::header::{COOKIE, HOST, ORIGIN};

const NAME: &str = "__Host-vidi";
/// Longest token that is looked at; ours have 43 characters.
const TOKEN_CHARS_MAX: usize = 128;

/// The token of a request's cookie; a cookie that cannot be one is as none.
pub fn token(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == NAME)
        .map(|(_, token)| token.to_owned())
        .filter(|token| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            !token.is_empty() && token.len() <= TOKEN_CHARS_MAX && token.chars().all(plain)
        })
}

/// `Set-Cookie` that keeps the token for `secs`.
pub fn set(token: &str, secs: i64) -> String {
    format!("{NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={}", secs.max(0))
}

/// `Set-Cookie` that removes it.
pub fn clear() -> String {
    format!("{NAME}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Whether the request comes from a page of this very origin: `Origin` is `https://` and the host that
/// was asked for. A request without `Origin` is not one of a page's scripts.
pub fn same_origin(headers: &HeaderMap, authority: Option<&str>) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(HOST).or(authority) else { return false };
    text(ORIGIN).and_then(|origin| origin.strip_prefix("https://")) == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let found = token(&headers(&[("cookie", "a=b; __Host-vidi=ab-C_1; c=d")]));
        assert_eq!(found.as_deref(), Some("ab-C_1"));
        assert_eq!(token(&headers(&[("cookie", "__Host-vidi=a b")])), None);
        assert_eq!(token(&headers(&[("cookie", "__Host-vidi=")])), None);
        assert_eq!(token(&headers(&[])), None);
        let long = format!("__Host-vidi={}", "a".repeat(TOKEN_CHARS_MAX + 1));
        assert_eq!(token(&headers(&[("cookie", &long)])), None);
    }

    #[test]
    fn only_the_exact_origin_is_the_same() {
        let ok = headers(&[("host", "localhost:8443"), ("origin", "https://localhost:8443")]);
        assert!(same_origin(&ok, None));
        for origin in ["https://localhost", "http://localhost:8443", "https://evil", "null"] {
            let bad = headers(&[("host", "localhost:8443"), ("origin", origin)]);
            assert!(!same_origin(&bad, None), "{origin}");
        }
        assert!(!same_origin(&headers(&[("host", "localhost:8443")]), None));
        let http2 = headers(&[("origin", "https://localhost:8443")]);
        assert!(same_origin(&http2, Some("localhost:8443")));
    }
}
