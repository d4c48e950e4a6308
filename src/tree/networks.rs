//! Networks are the addresses from which an API may be called, or may not.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::diagnostic::code;
use super::settle::Settler;
use super::suggest::shorten;
use super::yaml::At;

/// The most networks of one list: each is looked at for each request.
const MOST: usize = 1000;

/// Takes the networks that a file names.
pub(super) fn settle(settler: &mut Settler<'_, '_>, written: &[At<String>], networks: &mut Vec<IpNet>) {
    networks.clear();
    for network in written {
        if networks.len() == MOST {
            let hint = "leave some out, or name the network that they are in";
            settler.error(code::OUT_OF_BOUNDS, network, format!("{MOST} networks are the most"), hint);
            return;
        }
        match read(&network.value) {
            Ok(known) if networks.contains(&known) => {
                settler.error(code::BAD_VALUE, network, "this network is there already", "write it once");
            }
            Ok(known) => networks.push(known),
            Err((message, hint)) => settler.error(code::BAD_VALUE, network, message, &hint),
        }
    }
}

/// Reads a network, or one address; and what is wrong with it, and what to do, where it is none.
fn read(text: &str) -> Result<IpNet, (String, String)> {
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        let message = format!("{:?} is no network and no address", shorten(text));
        (message, "write it as in 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7".to_owned())
    })?;
    let trunc = network.trunc();
    if trunc != network {
        let message = format!("{network} is an address within a network, not the network");
        return Err((message, format!("did you mean {trunc}, or {} alone?", network.addr())));
    }
    // Callers of IPv4 are known by their own addresses, on whatever socket they come.
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, length)
    {
        let message = format!("{network} is IPv4 written as IPv6");
        return Err((message, format!("write it as {}", short(v4.into()))));
    }
    Ok(network)
}

/// A network as people write it: one address without a length.
fn short(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_or_an_address_is_read() {
        for (text, network) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:0:0:0/96", "::ffff:0:0:0/96"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), network, "{text}");
        }
    }

    #[test]
    fn what_is_none_or_could_never_match_is_refused_with_what_to_write() {
        for (text, hint) in [
            ("", "write it as in 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7"),
            ("10.0.0.0/33", "write it as in 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7"),
            ("10.0.0", "write it as in 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7"),
            ("010.0.0.1", "write it as in 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7"),
            ("[::1]", "write it as in 10.0.0.0/8, 2001:db8::/32 or 203.0.113.7"),
            ("10.1.2.3/8", "did you mean 10.0.0.0/8, or 10.1.2.3 alone?"),
            ("::ffff:10.0.0.0/104", "write it as 10.0.0.0/8"),
            ("::ffff:203.0.113.7", "write it as 203.0.113.7"),
        ] {
            assert_eq!(read(text).unwrap_err().1, hint, "{text}");
        }
    }
}
