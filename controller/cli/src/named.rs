//! What is meant by a name on the command line, and what of it an update changes.

use anyhow::bail;
use prost_types::FieldMask;
use tonic::{Code, Response, Status};

use crate::failure::Failure;
use crate::output::short;

/// Shortest beginning of an id that is taken for it.
const ID_CHARS_MIN: usize = 4;

/// The resource that is meant, where it is named whole: nobody else's list is needed to find it.
pub(crate) fn whole_name(tenant: &str, collection: &str, wanted: &str) -> Option<String> {
    if wanted.starts_with("tenants/") {
        return Some(wanted.to_owned());
    }
    // The long form only: the beginning of an id has another meaning.
    let is_id = wanted.contains('-') && wanted.parse::<uuid::Uuid>().is_ok();
    is_id.then(|| format!("tenants/{tenant}/{collection}/{wanted}"))
}

/// What was asked for by name, if it is there: a display name may look like one.
pub(crate) fn there<T>(answer: Result<Response<T>, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(found) => Ok(Some(found.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// The one of `all` that is meant by its name, the beginning of its id, or its display name; `names` gives
/// name and display name.
pub(crate) fn pick<T>(
    kind: &str,
    mut all: Vec<T>,
    wanted: &str,
    names: impl Fn(&T) -> (&str, &str),
) -> anyhow::Result<T> {
    all.retain(|one| {
        let (name, display_name) = names(one);
        let begins = ID_CHARS_MIN <= wanted.len() && short(name).starts_with(wanted);
        name == wanted || begins || display_name == wanted
    });
    match (all.pop(), all.len()) {
        (Some(one), 0) => Ok(one),
        (Some(_), more) => bail!("\"{wanted}\" fits {} {kind}s: give the whole id", more + 1),
        (None, _) => Err(Failure::NotThere(format!(
            "there is no {kind} \"{wanted}\", or it is not yours: vidictl {kind} list shows all"
        ))
        .into()),
    }
}

/// The mask of an update: which of its fields were given; `options` says what could have been.
pub(crate) fn mask<const N: usize>(
    fields: [(&str, bool); N],
    options: &str,
) -> anyhow::Result<FieldMask> {
    let given = fields.into_iter().filter(|(_, given)| *given);
    let paths: Vec<String> = given.map(|(path, _)| path.to_owned()).collect();
    if paths.is_empty() {
        bail!("nothing to change: give {options}");
    }
    Ok(FieldMask { paths })
}

#[cfg(test)]
mod tests {
    use vidi_proto::v1::Desktop;

    use super::*;

    #[test]
    fn what_is_named_whole_is_asked_for_by_its_name() {
        let whole = |wanted: &str| whole_name("t", "desktops", wanted);
        let id = "0198c1a2-0000-7000-8000-000000000001";
        let name = format!("tenants/t/desktops/{id}");
        assert_eq!(whole(id).as_ref(), Some(&name));
        assert_eq!(whole(&name), Some(name));
        for other in ["0198c1a2", "Ana's desktop", "", "0198c1a2000070008000000000000001"] {
            assert_eq!(whole(other), None, "{other}");
        }
        assert_eq!(there(Err::<Response<()>, _>(Status::not_found("no"))).unwrap(), None);
        assert!(there(Err::<Response<()>, _>(Status::unavailable("no"))).is_err());
    }

    #[test]
    fn a_desktop_is_found_by_what_fits_only_one() {
        let desktop = |id: &str, display_name: &str| Desktop {
            name: format!("tenants/default/desktops/{id}"),
            display_name: display_name.to_owned(),
            ..Desktop::default()
        };
        let all = vec![
            desktop("0190aaaa-1", "Office"),
            desktop("0190aaaa-2", "Office"),
            desktop("0190bbbb-3", "Lab"),
        ];
        let found = |wanted: &str| {
            pick("desktop", all.clone(), wanted, |one| (&one.name, &one.display_name))
                .map(|one| short(&one.name))
                .ok()
        };
        assert_eq!(found("Lab").as_deref(), Some("0190bbbb-3"));
        assert_eq!(found("0190bb").as_deref(), Some("0190bbbb-3"));
        assert_eq!(found("0190aaaa-2").as_deref(), Some("0190aaaa-2"));
        assert_eq!(found("Office"), None);
        assert_eq!(found("019"), None);
        assert_eq!(found("none"), None);
    }
}
