//! Resource names: `tenants/{t}/users/{u}` and the like, taken apart and put together.

use std::str::FromStr;

use tonic::Status;
use vidi_kit::ids::{IdError, TenantId};

use super::status::invalid_field;

/// The ids of a name whose fixed parts are `parts`: `split("name", "tenants/a/users/b", ["tenants",
/// "users"])` gives `["a", "b"]`.
pub fn split<'a, const N: usize>(
    field: &str,
    name: &'a str,
    parts: [&str; N],
) -> Result<[&'a str; N], Status> {
    let shape = || parts.map(|part| format!("{part}/{{id}}")).join("/");
    let wrong = || invalid_field(field, &format!("it has the form {}", shape()));
    let mut ids = [""; N];
    let mut rest = name.split('/');
    for (id, part) in ids.iter_mut().zip(parts) {
        if rest.next() != Some(part) {
            return Err(wrong());
        }
        *id = rest.next().filter(|id| !id.is_empty()).ok_or_else(wrong)?;
    }
    if rest.next().is_some() { Err(wrong()) } else { Ok(ids) }
}

/// An id, or a refusal that names the field.
pub fn id<T: FromStr<Err = IdError>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: IdError| invalid_field(field, &error.to_string()))
}

/// The tenant of `tenants/{t}`.
pub fn tenant(field: &str, name: &str) -> Result<TenantId, Status> {
    let [tenant] = split(field, name, ["tenants"])?;
    id(field, tenant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_another_shape_is_refused_with_its_field() {
        assert_eq!(split("name", "tenants/a/users/b", ["tenants", "users"]).unwrap(), ["a", "b"]);
        for wrong in [
            "",
            "tenants",
            "tenants/",
            "tenants/a",
            "tenants/a/users/",
            "users/a/tenants/b",
            "tenants/a/users/b/c",
            "/tenants/a/users/b",
        ] {
            let status = split("parent", wrong, ["tenants", "users"]).expect_err(wrong);
            assert!(status.message().contains("parent"), "{}", status.message());
        }
        assert!(tenant("parent", "tenants/Not-Lower").is_err());
    }
}
