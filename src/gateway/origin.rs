//! An origin is where the requests of one connection come from, as apps are told.

use std::net::IpAddr;

use http::HeaderValue;
use http::header::FORWARDED;

use super::headers::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::outgoing::Outgoing;
use super::server::Peer;

/// Where the requests of one connection come from. What all of them say is written down once.
#[derive(Debug)]
pub(super) struct Origin {
    /// The other end.
    pub(super) peer: Peer,
    /// It came over TLS.
    pub(super) secure: bool,
    address: String,
    /// `Forwarded` as far as it is the same for each.
    forwarded: String,
}

impl Origin {
    pub(super) fn new(peer: Peer, secure: bool) -> Self {
        let address = peer.0.ip().to_canonical();
        let by = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        let scheme = if secure { "https" } else { "http" };
        let forwarded = format!("for={by};proto={scheme}");
        Self { peer, secure, address: address.to_string(), forwarded }
    }

    /// Tells an app where a request for that host has come from.
    pub(super) fn write_to(&self, head: &mut Outgoing, host: Option<&HeaderValue>) {
        let forwarded = self.forwarded.as_bytes();
        // What is no token has to be quoted; what would end the quotes is no host.
        match host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\'])) {
            Some(host) => {
                let quote: &[u8] = if is_token(host) { b"" } else { b"\"" };
                head.add(FORWARDED.as_str(), &[forwarded, b";host=", quote, host.as_bytes(), quote]);
            }
            None => head.add(FORWARDED.as_str(), &[forwarded]),
        }
        head.add(X_FORWARDED_FOR.as_str(), &[self.address.as_bytes()]);
        head.add(X_FORWARDED_PROTO.as_str(), &[if self.secure { b"https" } else { b"http" }]);
        if let Some(host) = host {
            head.add(X_FORWARDED_HOST.as_str(), &[host.as_bytes()]);
        }
    }
}

fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_token)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http::uri::PathAndQuery;

    use super::*;

    fn at(address: &str) -> Peer {
        Peer((address.parse::<IpAddr>().unwrap(), 4711).into())
    }

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        for (address, secure, host, expected) in [
            ("192.0.2.7", false, Some("skep.test"), "for=192.0.2.7;proto=http;host=skep.test"),
            ("2001:db8::1", true, Some("skep.test:81"), "for=\"[2001:db8::1]\";proto=https;host=\"skep.test:81\""),
            ("192.0.2.7", false, Some("a\";for=6.6.6.6"), "for=192.0.2.7;proto=http"),
            ("192.0.2.7", false, Some("a;for=6.6.6.6"), "for=192.0.2.7;proto=http;host=\"a;for=6.6.6.6\""),
            ("192.0.2.7", false, None, "for=192.0.2.7;proto=http"),
        ] {
            let host = host.map(HeaderValue::from_static);
            let mut head = Outgoing::new(&Method::GET, &PathAndQuery::from_static("/"));
            Origin::new(at(address), secure).write_to(&mut head, host.as_ref());
            let text = String::from_utf8(head.into_text().to_vec()).unwrap();
            assert_eq!(text.lines().nth(1), Some(&*format!("forwarded: {expected}")));
            assert_eq!(text.contains("x-forwarded-host: "), host.is_some());
        }
    }
}
