//! Where physical machines may be: who puts one on menus names an address, and the gateway dials it from
//! a place in the network that such a person need not have.

use std::net::IpAddr;
use std::str::FromStr;

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

/// The networks in which machines are dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Only these; none: all but the gateway's own machine, its links and those that are no machine.
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether a machine at this address is dialled.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if !self.0.is_empty() {
            return self.0.iter().any(|network| network.contains(address));
        }
        let is_local = match address {
            IpAddr::V4(four) => four.is_link_local() || four.is_broadcast(),
            IpAddr::V6(six) => six.is_unicast_link_local(),
        };
        !(is_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.first, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        // None of the bits: everything.
        (own ^ other).checked_shr(width - self.bits).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no network, as \"10.20.0.0/16\" or \"2001:db8::/32\"");
        let (first, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (first, bits): (IpAddr, u32) =
            (first.parse().map_err(|_no| wrong())?, bits.parse().map_err(|_no| wrong())?);
        let width = if first.is_ipv4() { 32 } else { 128 };
        if width < bits { Err(wrong()) } else { Ok(Self { first, bits }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(networks: &[&str], address: &str) -> bool {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Networks::new(networks).allow(address.parse().unwrap())
    }

    #[test]
    fn where_nothing_is_said_the_gateways_own_machine_and_links_are_out_of_reach() {
        for address in ["10.0.0.7", "192.168.1.2", "203.0.113.9", "2001:db8::7", "fd00::1"] {
            assert!(allowed(&[], address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!allowed(&[], address), "{address}");
        }
    }

    #[test]
    fn what_is_said_counts_and_nothing_else() {
        assert!(
            allowed(&["10.20.0.0/16"], "10.20.255.1") && !allowed(&["10.20.0.0/16"], "10.21.0.1")
        );
        assert!(!allowed(&["10.20.0.0/16"], "2001:db8::1"));
        assert!(allowed(&["10.20.0.0/16", "2001:db8::/32"], "2001:db8:9::1"));
        assert!(
            allowed(&["10.0.0.7/32"], "::ffff:10.0.0.7") && !allowed(&["10.0.0.7/32"], "10.0.0.8")
        );
        assert!(allowed(&["0.0.0.0/0", "::/0"], "127.0.0.1") && allowed(&["::/0"], "::1"));
        for wrong in
            ["", "10.0.0.0", "10.0.0.0/33", "::/129", "lab/8", "10.0.0.0/-1", "10.0.0.0/ 8"]
        {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
