//! Networks let a caller in, or not, by its address alone, before anything else is asked of it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::tree::RouteSettings;

/// Whether whoever is at that address may call. A caller of IPv4 is one, also on a socket that speaks both.
pub(super) fn let_in(settings: &RouteSettings, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
    !is_in(&settings.deny) && (settings.allow.is_empty() || is_in(&settings.allow))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Spec;

    #[test]
    fn who_is_denied_is_out_and_where_some_are_allowed_all_others_are() {
        let settings = |allow: &[&str], deny: &[&str]| {
            let read = |networks: &[&str]| networks.iter().map(|text| text.parse().unwrap()).collect();
            RouteSettings { allow: read(allow), deny: read(deny), ..Spec::built_in("a").route }
        };
        let inner = settings(&["10.0.0.0/8", "2001:db8::/32"], &["10.1.0.0/16", "2001:db8:1::1/128"]);
        for (settings, address, is_let_in) in [
            (&settings(&[], &[]), "10.0.0.1", true),
            (&settings(&[], &["10.0.0.0/8"]), "10.0.0.1", false),
            (&settings(&[], &["10.0.0.0/8"]), "11.0.0.1", true),
            (&settings(&[], &["::/0"]), "::ffff:10.0.0.1", true),
            (&settings(&["0.0.0.0/0"], &[]), "::1", false),
            (&inner, "10.0.0.1", true),
            (&inner, "::ffff:10.0.0.1", true),
            (&inner, "10.1.0.1", false),
            (&inner, "::ffff:10.1.0.1", false),
            (&inner, "192.0.2.1", false),
            (&inner, "2001:db8:1::2", true),
            (&inner, "2001:db8:1::1", false),
            (&inner, "2001:db9::1", false),
        ] {
            assert_eq!(let_in(settings, address.parse().unwrap()), is_let_in, "{address} {settings:?}");
        }
    }
}
