//! `GET /branding/{tenant}` and `GET /branding/{tenant}/logo`: how the pages look to a tenant's people, before
//! they have signed in, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use tracing::debug;
use vidi_kit::Clock;
use vidi_kit::ids::TenantId;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::{Branding, GetBrandingRequest};

use crate::adapters::controller::Controller;

/// What was asked for is good for this long, ms: strangers may ask as often as they like.
const KEPT_MS: i64 = 10_000;
/// Tenants of which it is kept; who asks for others has all forgotten.
const KEPT_MAX: usize = 256;
/// Largest logo that is passed on, in bytes; as the contract says.
const LOGO_BYTES_MAX: usize = 64 * 1024;
/// The tenant of those who name none.
const TENANT_DEFAULT: &str = "default";

/// What is known of tenants' brandings.
#[derive(Debug, Default)]
pub struct Brandings {
    kept: Mutex<BTreeMap<TenantId, (i64, Arc<Branding>)>>,
}

/// What the page reads.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    accent: &'a str,
    accent_dark: &'a str,
    logo: bool,
}

/// The rest of a path below `/branding`.
pub fn rest_of(path: &str) -> Option<&str> {
    path.strip_prefix("/branding").filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Brandings {
    /// Answers a request for this path.
    pub async fn answer(
        &self,
        controller: &Controller,
        clock: &Clock,
        (method, rest): (&Method, &str),
    ) -> Response {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, "this path takes GET only\n").into_response();
        }
        let mut parts = rest.trim_start_matches('/').split('/');
        let tenant = parts.next().filter(|tenant| !tenant.is_empty()).unwrap_or(TENANT_DEFAULT);
        let nothing = || (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
        let Ok(tenant) = tenant.parse::<TenantId>() else { return nothing() };
        let logo = match (parts.next(), parts.next()) {
            (None, None) => false,
            (Some("logo"), None) => true,
            _ => return nothing(),
        };
        let branding = self.of(controller, clock.now_ms(), tenant).await;
        if logo && branding.logo.is_empty() {
            return nothing();
        }
        let (kind, body) = if logo {
            ("image/png", Body::from(branding.logo.clone()))
        } else {
            let shown = Shown {
                name: &branding.product_name,
                accent: &branding.accent,
                accent_dark: &branding.accent_dark,
                logo: !branding.logo.is_empty(),
            };
            ("application/json", Body::from(serde_json::to_vec(&shown).unwrap_or_default()))
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let age = HeaderValue::from_static("public, max-age=10");
        response.headers_mut().insert(CACHE_CONTROL, age);
        response
    }

    /// What is known, or what the controller says; while it says nothing, what was known last, or nothing.
    async fn of(&self, controller: &Controller, now_ms: i64, tenant: TenantId) -> Arc<Branding> {
        let known = self.kept().get(&tenant).cloned();
        if let Some((at_ms, branding)) = &known
            && now_ms.saturating_sub(*at_ms) < KEPT_MS
        {
            return Arc::clone(branding);
        }
        let Ok(channel) = controller.channel() else { return known.unwrap_or_default().1 };
        let request = GetBrandingRequest { name: format!("tenants/{tenant}") };
        let branding = match GatewayLinkClient::new(channel).show_branding(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                debug!(%status, %tenant, "The branding is not known");
                return known.unwrap_or_default().1;
            }
        };
        let large = LOGO_BYTES_MAX < branding.logo.len();
        let logo = if large { Vec::new() } else { branding.logo };
        let branding = Arc::new(Branding { logo, ..branding });
        let mut kept = self.kept();
        if KEPT_MAX <= kept.len() {
            kept.clear();
        }
        kept.insert(tenant, (now_ms, Arc::clone(&branding)));
        branding
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<TenantId, (i64, Arc<Branding>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_it_are_its_own() {
        assert_eq!(rest_of("/branding"), Some(""));
        assert_eq!(rest_of("/branding/school/logo"), Some("/school/logo"));
        assert_eq!(rest_of("/brandings"), None);
        assert_eq!(rest_of("/"), None);
    }
}
