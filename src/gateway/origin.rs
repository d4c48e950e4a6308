//! An origin is where the requests of one connection come from, as apps are told.

use std::net::IpAddr;

use http::HeaderValue;

use super::headers::{value, value_of};
use super::server::Peer;

/// Where the requests of one connection come from. What all of them say is written down once.
#[derive(Debug)]
pub(super) struct Origin {
    /// The other end.
    pub(super) peer: Peer,
    /// It came over TLS.
    pub(super) secure: bool,
    address: HeaderValue,
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
        Self { peer, secure, address: value(&address.to_string()), forwarded }
    }

    /// For `X-Forwarded-For`.
    pub(super) fn address(&self) -> HeaderValue {
        self.address.clone()
    }

    /// For `X-Forwarded-Proto`.
    pub(super) fn scheme(&self) -> HeaderValue {
        HeaderValue::from_static(if self.secure { "https" } else { "http" })
    }

    /// For `Forwarded` (RFC 7239), for apps that read it rather than `X-Forwarded-*`.
    pub(super) fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let mut text = String::with_capacity(self.forwarded.len() + 64);
        text.push_str(&self.forwarded);
        // What is no token has to be quoted; what would end the quotes is no host.
        if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\'])) {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let quote = if !host.is_empty() && host.bytes().all(is_token) { "" } else { "\"" };
            for part in [";host=", quote, host, quote] {
                text.push_str(part);
            }
        }
        value_of(text)
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(Origin::new(at(address), secure).forwarded(host.as_ref()), expected);
        }
    }
}
