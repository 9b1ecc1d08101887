//! How the pages look to tenants' people, on the wire.

use tonic::Status;
use vidi_kit::ids::TenantId;
use vidi_proto::v1::{Branding, UpdateBrandingRequest};

use super::names;
use super::status::invalid_field;
use crate::model::{World, branding};

/// Fields that an update can name.
const FIELDS: [&str; 4] = ["product_name", "accent", "accent_dark", "logo"];

/// What a tenant has chosen.
pub(super) fn on_wire(world: &World, tenant: &TenantId) -> Branding {
    let chosen = world.brandings.get(tenant).map(|one| (**one).clone()).unwrap_or_default();
    let branding::Branding { product_name, accent, accent_dark, logo } = chosen;
    Branding { name: format!("tenants/{tenant}"), product_name, accent, accent_dark, logo }
}

/// What a gateway shows before anybody has signed in.
pub(super) fn shown(world: &World, name: &str) -> Result<Branding, Status> {
    Ok(on_wire(world, &names::tenant("name", name)?))
}

/// Whose branding an update changes.
pub(super) fn tenant_of(asked: &UpdateBrandingRequest) -> Result<TenantId, Status> {
    let name = asked.branding.as_ref().map(|branding| branding.name.as_str());
    names::tenant("branding.name", name.unwrap_or_default())
}

/// All of it as an update leaves it, judged.
pub(super) fn merged(
    world: &World,
    tenant: &TenantId,
    asked: UpdateBrandingRequest,
) -> Result<branding::Branding, Status> {
    let paths = asked.update_mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.iter().any(|path| !FIELDS.contains(&path.as_str())) {
        let rule = format!("{} can be changed", FIELDS.join(", "));
        return Err(invalid_field("update_mask", &rule));
    }
    let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
    let asked = asked.branding.unwrap_or_default();
    let mut after = world.brandings.get(tenant).map(|one| (**one).clone()).unwrap_or_default();
    let texts = [
        ("product_name", &mut after.product_name, asked.product_name),
        ("accent", &mut after.accent, asked.accent),
        ("accent_dark", &mut after.accent_dark, asked.accent_dark),
    ];
    for (field, to, from) in texts {
        if named(field) {
            *to = from;
        }
    }
    if named("logo") {
        after.logo = asked.logo;
    }
    after.check().map_err(|(field, rule)| invalid_field(&format!("branding.{field}"), rule))?;
    Ok(after)
}
