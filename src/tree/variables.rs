//! Rules for the environment variables that an `api.yaml` may set.

/// The longest value in bytes. Linux takes 128 KiB for one variable; a value of that size belongs in a file.
pub const MAX_VALUE: usize = 32 * 1024;

/// The most variables of one API.
pub const MAX_COUNT: usize = 200;

/// Whether a name can be an environment variable: `[A-Za-z_][A-Za-z0-9_]*`, 128 characters at most.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    name.len() <= 128
        && characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|next| next.is_ascii_alphanumeric() || next == '_')
}

/// Why an API may not set a variable; `None` where it may.
#[must_use]
pub fn reserved(name: &str) -> Option<&'static str> {
    match name {
        "API_ID" => Some("skep sets it to the id of the API"),
        "PORT" | "HOST" => Some("skep decides where the app listens"),
        "ROOT_PATH" | "UVICORN_ROOT_PATH" => Some("skep sets the prefix that the gateway serves the app under"),
        "PATH" | "HOME" | "TMPDIR" => Some("skep sets it to what is in the image"),
        "VIRTUAL_ENV" | "IFS" | "ENV" | "BASH_ENV" => Some("it changes which programs run"),
        "SSL_CERT_FILE" | "SSL_CERT_DIR" | "REQUESTS_CA_BUNDLE" | "CURL_CA_BUNDLE" => {
            Some("skep sets it from `build.ca_bundle` in skep.yaml")
        }
        _ if name.starts_with("LD_") => Some("it changes which code every program in the container loads"),
        _ if name.starts_with("PYTHON")
            && !matches!(name, "PYTHONHASHSEED" | "PYTHONWARNINGS" | "PYTHONASYNCIODEBUG") =>
        {
            Some("it changes which code the interpreter loads")
        }
        _ if name.starts_with("UVICORN_") => Some("skep starts uvicorn with settings of its own"),
        _ if name.starts_with("UV_") || name.starts_with("PIP_") => {
            Some("it is a setting of the installer, which apps do not run")
        }
        _ if name.starts_with("SKEP_") => Some("names that begin with SKEP_ are skep's own"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_the_shell() {
        for name in ["A", "_", "LOG_LEVEL", "a1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1A", "A-B", "A=B", "A\0", "É", "A B", &"A".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_changes_the_code_that_runs_is_reserved() {
        for name in ["API_ID", "PYTHONPATH", "LD_PRELOAD", "UV_INDEX_URL", "PIP_CONFIG_FILE", "SKEP_X"] {
            assert!(reserved(name).is_some(), "{name}");
        }
        for name in ["LOG_LEVEL", "PYTHONHASHSEED", "DATABASE_URL", "TZ"] {
            assert_eq!(reserved(name), None, "{name}");
        }
    }
}
