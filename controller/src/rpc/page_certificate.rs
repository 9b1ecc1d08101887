//! Certificates for the pages of gateways; the method of `GatewayLink` calls this.

use tonic::Status;
use vidi_proto::v1::{CertifyPageRequest, CertifyPageResponse};

use super::status::invalid_field;
use super::users::timestamp;
use crate::ports::Authority;

/// Names that may be asked for, in number.
const NAMES_MAX: usize = 64;

/// A certificate of the pages' CA. The caller is a gateway; the authorization layer saw to it.
pub fn certify_page(
    authority: &dyn Authority,
    request: &CertifyPageRequest,
) -> Result<CertifyPageResponse, Status> {
    if NAMES_MAX < request.names.len() {
        return Err(invalid_field("names", &format!("at most {NAMES_MAX} are allowed")));
    }
    let issued = authority.issue_page(&request.csr, &request.names)?;
    Ok(CertifyPageResponse {
        certificate: issued.certificate,
        chain: authority.page_cas(),
        expire_time: Some(timestamp(issued.not_after_ms)),
    })
}
