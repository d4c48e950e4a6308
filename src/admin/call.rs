//! A call is what a path and a method below the control surface ask for.

use http::Method;

use crate::tree::ApiId;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Root,
    Health,
    Metrics,
    Catalog,
    OpenApi,
    Apply,
    Deployments,
    Deployment(ApiId),
    Stop(ApiId),
    Start(ApiId),
    Reload(ApiId),
    ReloadAll,
    CleanUp,
    Diagnostics(ApiId),
    Plan,
    PlanOf,
    Events,
    Logs(ApiId),
    History(ApiId),
    Holds,
    Hold(ApiId),
    Release(ApiId),
    Keys,
    MakeKey,
    RotateKey(String),
    RevokeKey(String),
    Usage,
    Pull,
    PullNow(Option<String>),
    Adopt,
    StopPredecessor(ApiId),
}

/// The methods that anything here knows.
const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::DELETE];

impl Call {
    /// What `method` asks of `path`; a question about heads is one about the whole.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        // As it was sent: what is not exactly one of these paths is none, and so never less guarded than it looks.
        let words: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let id = |word: &str| ApiId::new(word).ok();
        let is_key = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let key = |word: &str| is_key(word).then(|| word.to_owned());
        let is_name = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        Some(match (method.as_str(), &words[..]) {
            ("GET", [""]) => Self::Root,
            ("GET", ["health"]) => Self::Health,
            ("GET", ["openapi.json"]) => Self::Catalog,
            ("GET", ["metrics"]) => Self::Metrics,
            ("GET", ["api", "diagnostics", word]) => Self::Diagnostics(id(word)?),
            ("GET", ["admin", "openapi.json"]) => Self::OpenApi,
            ("POST", ["admin", "apply"]) => Self::Apply,
            ("GET", ["admin", "deployments"]) => Self::Deployments,
            ("GET", ["admin", "deployment", word]) => Self::Deployment(id(word)?),
            ("POST", ["admin", "deployment", word, "stop"]) => Self::Stop(id(word)?),
            ("POST", ["admin", "deployment", word, "start"]) => Self::Start(id(word)?),
            ("POST", ["admin", "reload"]) => Self::ReloadAll,
            ("POST", ["admin", "reload", word]) => Self::Reload(id(word)?),
            ("POST", ["admin", "cleanup"]) => Self::CleanUp,
            ("GET", ["admin", "plan"]) => Self::Plan,
            ("POST", ["admin", "plan"]) => Self::PlanOf,
            ("GET", ["admin", "events"]) => Self::Events,
            ("GET", ["admin", "logs", word]) => Self::Logs(id(word)?),
            ("GET", ["admin", "history", word]) => Self::History(id(word)?),
            ("GET", ["admin", "usage"]) => Self::Usage,
            ("GET", ["admin", "pull"]) => Self::Pull,
            ("POST", ["admin", "pull"]) => Self::PullNow(None),
            ("POST", ["admin", "pull", word]) if is_name(word) => Self::PullNow(Some((*word).to_owned())),
            ("GET", ["admin", "adopt"]) => Self::Adopt,
            ("POST", ["admin", "adopt", word, "stop"]) => Self::StopPredecessor(id(word)?),
            ("GET", ["admin", "holds"]) => Self::Holds,
            ("PUT", ["admin", "holds", word]) => Self::Hold(id(word)?),
            ("DELETE", ["admin", "holds", word]) => Self::Release(id(word)?),
            ("GET", ["admin", "keys"]) => Self::Keys,
            ("POST", ["admin", "keys"]) => Self::MakeKey,
            ("POST", ["admin", "keys", word, "rotate"]) => Self::RotateKey(key(word)?),
            ("DELETE", ["admin", "keys", word]) => Self::RevokeKey(key(word)?),
            _ => return None,
        })
    }

    /// The methods that a path knows, as `Allow` has them; empty where there is no such path.
    pub(super) fn allowed(path: &str) -> String {
        let known = METHODS.iter().filter(|method| Self::of(method, path).is_some());
        known.map(Method::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Whether anybody may ask, without the admin key.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Root | Self::Health | Self::Catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_are_told_apart() {
        let id = ApiId::new("hello").unwrap();
        assert_eq!(Call::of(&Method::HEAD, "/"), Some(Call::Root));
        assert_eq!(Call::of(&Method::POST, "/admin/deployment/hello/stop"), Some(Call::Stop(id.clone())));
        assert_eq!(Call::of(&Method::GET, "/admin/deployment/hello/stop"), None);
        assert_eq!(Call::of(&Method::GET, "/admin/deployment/hello/"), None);
        assert_eq!(Call::of(&Method::GET, "/admin/deployment/NOT%20one"), None);
        assert_eq!(Call::allowed("/admin/holds/hello"), "PUT, DELETE");
        assert_eq!(Call::of(&Method::DELETE, "/admin/keys/k_3f9a1c7e"), Some(Call::RevokeKey("k_3f9a1c7e".to_owned())));
        assert_eq!(Call::of(&Method::POST, "/admin/keys//rotate"), None);
        for path in ["//admin/keys", "///admin/keys", "/admin//keys", "//", "admin/keys", "/Admin/keys", "/admin/keys/"]
        {
            assert_eq!(Call::of(&Method::GET, path), None, "{path}");
        }
        assert_eq!(Call::allowed("/admin/keys"), "GET, POST");
        assert_eq!(Call::allowed("/admin/nothing"), "");
    }
}
