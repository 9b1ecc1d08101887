//! The fields of a desktop that its makers choose, read from the wire.

use tonic::Status;
use vidi_proto::v1 as wire;

use super::status::invalid_field;
use super::wire::check_display_name;
use crate::contract::{display_policy_from_wire, policy_from_wire};
use crate::model::{DisplayPolicy, ReleasePolicy};

/// Fields that an update can name.
const DISPLAY_NAME: &str = "display_name";
const RELEASE_POLICY: &str = "spec.release_policy";
const DISPLAY_POLICY: &str = "spec.display_policy";

/// What an update names.
#[derive(Debug)]
pub(super) struct Fields {
    /// The desktop's resource name, not yet judged.
    pub(super) name: String,
    /// As it was read; empty: whatever it is.
    pub(super) etag: String,
    /// Each: none where it stays as it is.
    pub(super) display_name: Option<String>,
    pub(super) release_policy: Option<ReleasePolicy>,
    pub(super) display_policy: Option<DisplayPolicy>,
}

/// Reads and judges what an update names.
pub(super) fn named(request: wire::UpdateDesktopRequest) -> Result<Fields, Status> {
    let wire::UpdateDesktopRequest { desktop, update_mask } = request;
    let desktop = desktop.ok_or_else(|| invalid_field("desktop", "a desktop is expected"))?;
    let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
    let known = [DISPLAY_NAME, RELEASE_POLICY, DISPLAY_POLICY];
    if let Some(wrong) = paths.iter().find(|path| !known.contains(&path.as_str())) {
        let rule = format!("\"{wrong}\" is none of {}", known.join(", "));
        return Err(invalid_field("update_mask", &rule));
    }
    let has = |path: &str| paths.is_empty() || paths.iter().any(|one| one == path);
    let spec = desktop.spec.unwrap_or_default();
    if has(DISPLAY_NAME) {
        check_display_name(&desktop.display_name)?;
        if desktop.display_name.is_empty() {
            return Err(invalid_field("desktop.display_name", "a name is expected"));
        }
    }
    Ok(Fields {
        name: desktop.name,
        etag: desktop.etag,
        display_name: has(DISPLAY_NAME).then_some(desktop.display_name),
        release_policy: has(RELEASE_POLICY)
            .then(|| release_policy(spec.release_policy))
            .transpose()?,
        display_policy: has(DISPLAY_POLICY)
            .then(|| display_policy(spec.display_policy.as_ref()))
            .transpose()?,
    })
}

/// A release policy; what says nothing is the default.
pub(super) fn release_policy(number: i32) -> Result<ReleasePolicy, Status> {
    wire::ReleasePolicy::try_from(number)
        .map(policy_from_wire)
        .map_err(|_unknown| invalid_field("release_policy", "a release policy is expected"))
}

/// A display policy that can be kept; what says nothing is the default.
pub(super) fn display_policy(
    policy: Option<&wire::DisplayPolicy>,
) -> Result<DisplayPolicy, Status> {
    let Some(policy) = policy else { return Ok(DisplayPolicy::default()) };
    let policy = display_policy_from_wire(policy).map_err(|field| {
        invalid_field(&format!("display_policy.{field}"), "a value of its enum is expected")
    })?;
    policy.check().map_err(|rule| invalid_field("display_policy.raw", rule))?;
    Ok(policy)
}
