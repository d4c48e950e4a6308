//! The part of the settings that belongs to one host: environment variables.

use std::net::{IpAddr, SocketAddr};

use super::file::check_index_url;
use super::records::is_postgres;
use super::{DatabaseUrl, Dial, JwtSecret, Settings, TlsFiles};
use crate::tree::Diagnostic;
use crate::tree::diagnostic::{ENVIRONMENT, code};
use crate::tree::suggest;

/// The fewest characters of an admin key: what is shorter can be guessed over the network.
const MIN_ADMIN_KEY: usize = 16;

/// The fewest characters of a secret that signs tokens: with HS256, 256 bits (RFC 7518, section 3.2).
const MIN_JWT_SECRET: usize = 32;

/// Lays environment variables over settings. One that is empty counts as not set.
pub(super) fn lay_over(
    settings: &mut Settings,
    environment: impl Fn(&str) -> Option<String>,
    findings: &mut Vec<Diagnostic>,
) {
    let get = |name: &str| environment(name).filter(|value| !value.is_empty());
    let mut bad = |name: &str, message: &str, hint: &str| {
        let finding = Diagnostic::error(code::BAD_ENVIRONMENT, ENVIRONMENT, format!("{name}: {message}"), hint);
        findings.push(finding);
    };
    if let Some(value) = get("SKEP_LISTEN") {
        match listen(&value) {
            Some(address) => settings.listen = address,
            None => bad("SKEP_LISTEN", "this is no address to listen on", "write it as in 127.0.0.1:8663 or :8663"),
        }
    }
    if let Some(value) = get("SKEP_ADMIN_LISTEN") {
        let hint = "write it as in 127.0.0.1:8664 or :8664";
        match listen(&value) {
            None => bad("SKEP_ADMIN_LISTEN", "this is no address to listen on", hint),
            Some(address) if address == settings.listen && address.port() != 0 => {
                bad("SKEP_ADMIN_LISTEN", "the gateway listens there", "leave it away, or take another port");
            }
            Some(address) => settings.admin_listen = Some(address),
        }
    }
    if let Some(value) = get("SKEP_STATE_DIR") {
        settings.state = value.into();
    }
    let admin_keys = [get("ADMIN_API_KEY"), get("SKEP_ADMIN_KEY")];
    match admin_keys {
        [Some(one), Some(other)] if one != other => {
            bad("SKEP_ADMIN_KEY", "ADMIN_API_KEY is set too, to something else", "set one of them");
        }
        [Some(key), _] | [_, Some(key)] => {
            if key.len() < MIN_ADMIN_KEY {
                bad("SKEP_ADMIN_KEY", "an admin key has at least 16 characters", "make one: openssl rand -hex 32");
            } else if !key.chars().all(|c| c.is_ascii_graphic()) {
                let message = "an admin key is made of visible ASCII characters, since it travels in a header";
                bad("SKEP_ADMIN_KEY", message, "make one: openssl rand -hex 32");
            } else {
                settings.admin_key = Some(key);
            }
        }
        [None, None] => {}
    }
    match [get("SKEP_DB_URL"), get("SUPABASE_DB_URL")] {
        [Some(one), Some(other)] if one != other => {
            bad("SKEP_DB_URL", "SUPABASE_DB_URL is set too, to something else", "set one of them");
        }
        [Some(url), _] | [_, Some(url)] if !is_postgres(&url) => {
            let hint = "write it as in postgres://user:password@host:5432/postgres";
            bad(
                "SKEP_DB_URL",
                "skep keeps records in PostgreSQL only, and this is the address of something else",
                hint,
            );
        }
        [Some(url), _] | [_, Some(url)] => settings.records.url = Some(DatabaseUrl(url)),
        [None, None] => {}
    }
    match (get("SKEP_TLS_CERTIFICATE"), get("SKEP_TLS_KEY")) {
        (Some(certificate), Some(key)) => {
            settings.gateway.tls = Some(TlsFiles { certificate: certificate.into(), key: key.into() });
        }
        (None, None) => {}
        (Some(_), None) => bad("SKEP_TLS_CERTIFICATE", "a certificate needs its key", "set SKEP_TLS_KEY too"),
        (None, Some(_)) => bad("SKEP_TLS_KEY", "a key needs its certificate", "set SKEP_TLS_CERTIFICATE too"),
    }
    if let Some(value) = get("SKEP_JWT_SECRET") {
        if value.len() < MIN_JWT_SECRET {
            let message = "what signs tokens has at least 32 characters: whoever guesses it signs them too";
            bad("SKEP_JWT_SECRET", message, "take the one of the issuer; a new one: openssl rand -hex 32");
        } else {
            settings.jwt.secret = Some(JwtSecret(value));
        }
    }
    if let Some(value) = get("SKEP_INDEX_URL") {
        match check_index_url(&value) {
            Ok(()) => settings.build.index_url = Some(value),
            Err(message) => bad("SKEP_INDEX_URL", message, "write it as in https://index.example/simple"),
        }
    }
    if let Some(value) = get("SKEP_DIAL") {
        match value.as_str() {
            "auto" => settings.engine.dial = Dial::Auto,
            "address" => settings.engine.dial = Dial::Address,
            "loopback" => settings.engine.dial = Dial::Loopback,
            word => {
                let message = format!("{:?} is no way to dial", suggest::shorten(word));
                bad("SKEP_DIAL", &message, &suggest::hint(word, &["auto", "address", "loopback"]));
            }
        }
    }
    if let Some(value) = get("DOCKER_HOST") {
        if ["unix://", "tcp://", "http://"].iter().any(|scheme| value.starts_with(scheme)) {
            settings.engine.host = Some(value);
        } else {
            let hint = "write it as in unix:///var/run/docker.sock or tcp://127.0.0.1:2375";
            bad("DOCKER_HOST", "skep reaches engines by unix:// and tcp:// only", hint);
        }
    }
}

/// An address and a port; the address may be left out, for all of the host's.
fn listen(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port.parse().ok()?)),
        None => text.replace("localhost:", "127.0.0.1:").parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Settings, Vec<Diagnostic>> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let (settings, findings) = Settings::settle(Path::new("/srv"), b"", get);
        if findings.is_empty() { Ok(settings) } else { Err(findings) }
    }

    #[test]
    fn every_variable_is_taken() {
        let settings = load(&[
            ("SKEP_LISTEN", ":9000"),
            ("SKEP_ADMIN_LISTEN", "localhost:9001"),
            ("SKEP_STATE_DIR", "/var/lib/skep"),
            ("ADMIN_API_KEY", "0123456789abcdef"),
            ("SKEP_INDEX_URL", "https://user:secret@index.test/simple"),
            ("SKEP_DIAL", "loopback"),
            ("SKEP_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("DOCKER_HOST", "unix:///run/docker.sock"),
            ("SUPABASE_DB_URL", "postgres://me:secret@db.test/postgres"),
            ("SKEP_TLS_CERTIFICATE", "/etc/tls.crt"),
            ("SKEP_TLS_KEY", "/etc/tls.key"),
        ])
        .unwrap();
        let files = TlsFiles { certificate: "/etc/tls.crt".into(), key: "/etc/tls.key".into() };
        assert_eq!(settings.gateway.tls, Some(files));
        assert_eq!(settings.listen.to_string(), "0.0.0.0:9000");
        assert_eq!(settings.admin_listen.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9001"));
        assert_eq!(settings.state, Path::new("/var/lib/skep"));
        assert_eq!(settings.admin_key.as_deref(), Some("0123456789abcdef"));
        assert_eq!(settings.build.index_url.as_deref(), Some("https://user:secret@index.test/simple"));
        assert!(!format!("{settings:?}").contains("me:secret"));
        assert!(settings.jwt.secret.is_some_and(|secret| secret.0.starts_with("0123")));
        assert!(settings.records.url.is_some_and(|url| url.0.starts_with("postgres://")));
        assert_eq!(settings.engine.dial, Dial::Loopback);
        assert_eq!(settings.engine.host.as_deref(), Some("unix:///run/docker.sock"));
    }

    #[test]
    fn an_empty_variable_is_none() {
        assert_eq!(load(&[("SKEP_LISTEN", "")]).unwrap(), Settings::built_in(Path::new("/srv")));
    }

    #[test]
    fn what_cannot_be_is_refused_and_no_secret_repeated() {
        let findings = load(&[
            ("SKEP_LISTEN", "8663"),
            ("SKEP_ADMIN_LISTEN", "127.0.0.1:8663"),
            ("SKEP_ADMIN_KEY", "hunter2"),
            ("SKEP_JWT_SECRET", "hunter2"),
            ("SKEP_INDEX_URL", "ftp://user:secret@index.test"),
            ("SKEP_DIAL", "loopbak"),
            ("DOCKER_HOST", "ssh://host"),
            ("SKEP_DB_URL", "mysql://user:secret@db.test/skep"),
            ("SKEP_TLS_KEY", "/etc/tls.key"),
        ])
        .unwrap_err();
        assert_eq!(findings.len(), 9);
        let text = format!("{findings:?}");
        assert!(!text.contains("hunter2") && !text.contains("secret"), "{text}");
        assert!(text.contains("did you mean `loopback`?"), "{text}");
    }

    #[test]
    fn two_admin_keys_must_agree() {
        let (one, other) = ("0123456789abcdef", "fedcba9876543210");
        assert!(load(&[("ADMIN_API_KEY", one), ("SKEP_ADMIN_KEY", one)]).is_ok());
        assert!(load(&[("ADMIN_API_KEY", one), ("SKEP_ADMIN_KEY", other)]).is_err());
    }
}
