//! Which domains are ours, by their metadata; what could not be asked is an error, never a "no".

use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::{convert, xml};
use crate::error::HypervisorError;
use crate::model::{DOMAIN_NAME_PREFIX, DesktopMark, DomainSpec, ObservedDomain, Ownership};
use vidi_kit::ids::{DesktopId, HostId, InstallationId};

/// Tells which domains are ours.
#[derive(Clone)]
pub(super) struct Owner {
    installation: InstallationId,
    host: HostId,
}

impl Owner {
    /// The owner of this installation's domains on this host.
    pub(super) const fn new(installation: InstallationId, host: HostId) -> Self {
        Self { installation, host }
    }

    /// What is written into a domain of ours.
    pub(super) fn mark_for(&self, spec: &DomainSpec) -> DesktopMark {
        DesktopMark::of(spec, self.installation, self.host.clone())
    }

    /// The domains that are Vidi's or look so, by id.
    pub(super) fn list(&self, domains: &[Domain]) -> Result<Vec<ObservedDomain>, Error> {
        gather(domains, |domain| self.observe(domain))
    }

    /// Refuses a domain that is not ours.
    pub(super) fn require(&self, domain: &Domain, id: DesktopId) -> Result<(), HypervisorError> {
        match self.ours(id, mark(domain)) {
            Ok(Some(_mark)) => Ok(()),
            Ok(None) => Err(HypervisorError::Foreign(id)),
            Err(error) => Err(convert::error("look whose domain it is", id, &error)),
        }
    }

    /// Asked to start what is there: fine when it is the same start.
    pub(super) fn same_start(
        &self,
        domain: &Domain,
        wanted: &DesktopMark,
    ) -> Result<(), HypervisorError> {
        let text = match self.ours(wanted.id, mark(domain)) {
            Ok(Some(found)) if found == *wanted => return Ok(()),
            Ok(Some(found)) => format!(
                "its start {} of generation {} still runs",
                found.start_count, found.generation
            ),
            Ok(None) => "a domain of another owner has its id".to_owned(),
            Err(error) => format!("whose domain has its id is not known: {}", error.message()),
        };
        Err(HypervisorError::Exists { id: wanted.id, text })
    }

    /// A mark that names this domain, this installation and this host.
    fn ours(
        &self,
        id: DesktopId,
        mark: Result<Option<DesktopMark>, Error>,
    ) -> Result<Option<DesktopMark>, Error> {
        let ours = |mark: &DesktopMark| {
            mark.id == id && mark.installation == self.installation && mark.host == self.host
        };
        Ok(mark?.filter(ours))
    }

    /// A domain that is Vidi's or looks so; none for any other.
    fn observe(&self, domain: &Domain) -> Result<Option<ObservedDomain>, Error> {
        let name = domain.get_name()?;
        let id = DesktopId::new(domain.get_uuid()?);
        let found = mark(domain)?;
        let marked = found.is_some();
        let ownership = match self.ours(id, Ok(found))? {
            Some(mark) if name == format!("{DOMAIN_NAME_PREFIX}{id}") => Ownership::Ours(mark),
            _ if marked || name.starts_with(DOMAIN_NAME_PREFIX) => Ownership::Foreign,
            _ => return Ok(None),
        };
        let (state, reason) = domain.get_state()?;
        Ok(Some(ObservedDomain { id, name, power: convert::power(state, reason), ownership }))
    }
}

/// A domain that ends while it is looked at is not there. After any other error nobody knows what
/// runs: a list without that domain would say that it does not.
fn gather<D>(
    domains: &[D],
    observe: impl Fn(&D) -> Result<Option<ObservedDomain>, Error>,
) -> Result<Vec<ObservedDomain>, Error> {
    let mut observed = Vec::with_capacity(domains.len());
    for domain in domains {
        match observe(domain) {
            Ok(found) => observed.extend(found),
            Err(error) if error.code() == ErrorNumber::NoDomain => {}
            Err(error) => return Err(error),
        }
    }
    observed.sort_unstable_by_key(|domain| domain.id);
    Ok(observed)
}

/// Vidi's metadata of a domain; none when it has none or none that can be read.
fn mark(domain: &Domain) -> Result<Option<DesktopMark>, Error> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    match domain.get_metadata(kind, Some(xml::METADATA_URI), 0) {
        Ok(text) => Ok(xml::read_mark(&text)),
        Err(error) if error.code() == ErrorNumber::NoDomainMetadata => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use virt::connect::Connect;

    use super::*;
    use crate::model::DomainPower;

    /// libvirt's own driver for tests: no daemon, no QEMU, real errors.
    fn connect() -> Connect {
        Connect::open(Some("test:///default")).unwrap()
    }

    fn domain(connect: &Connect, name: &str) -> Domain {
        let text = format!(
            "<domain type='test'><name>{name}</name><memory>1024</memory>\
             <os><type>hvm</type></os></domain>"
        );
        Domain::create_xml(connect, &text, sys::VIR_DOMAIN_NONE).unwrap()
    }

    fn owner() -> Owner {
        Owner::new(InstallationId::generate(), "host-1".parse().unwrap())
    }

    fn observed(id: DesktopId) -> ObservedDomain {
        let power = DomainPower::Running;
        ObservedDomain { id, name: format!("vidi-{id}"), power, ownership: Ownership::Foreign }
    }

    #[test]
    fn only_missing_metadata_means_not_ours() {
        let connect = connect();
        let (other, named) = (domain(&connect, "other"), domain(&connect, "vidi-looks-so"));
        assert_eq!(mark(&other).unwrap(), None);
        let listed = owner().list(&[other, named.clone()]).unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].ownership, Ownership::Foreign);
        let id = DesktopId::new(named.get_uuid().unwrap());
        assert_eq!(owner().require(&named, id), Err(HypervisorError::Foreign(id)));
        named.destroy().unwrap();
        assert_eq!(mark(&named).unwrap_err().code(), ErrorNumber::NoDomain);
        assert_eq!(owner().require(&named, id), Err(HypervisorError::NoDomain(id)));
    }

    #[test]
    fn a_domain_that_ended_meanwhile_is_left_out_and_the_others_are_listed() {
        let connect = connect();
        let (stays, ends) = (domain(&connect, "vidi-stays"), domain(&connect, "vidi-ends"));
        ends.destroy().unwrap();
        let listed = owner().list(&[ends, stays]).unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].name, "vidi-stays");
    }

    #[test]
    fn any_other_error_is_no_list_at_all() {
        let connect = connect();
        let ids = [DesktopId::generate(), DesktopId::generate(), DesktopId::generate()];
        let refused = gather(&ids, |id| match *id == ids[1] {
            true => Err(Domain::create_xml(&connect, "<no", sys::VIR_DOMAIN_NONE).unwrap_err()),
            false => Ok(Some(observed(*id))),
        });
        assert_eq!(refused.unwrap_err().code(), ErrorNumber::XmlDetail);
        let gone = DesktopId::generate();
        let listed = gather(&ids, |id| match *id == ids[1] {
            true => Err(Domain::lookup_by_uuid(&connect, gone.uuid()).unwrap_err()),
            false => Ok(Some(observed(*id))),
        });
        assert_eq!(listed.unwrap().len(), 2);
    }
}
