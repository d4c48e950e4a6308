//! A call is one question to the engine: it has a name, a deadline, and an answer or a fault.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use bollard::errors::Error;

use super::Docker;
use crate::engine::EngineError;

/// For questions that the engine answers from memory.
pub(super) const QUICK: Duration = Duration::from_secs(15);

/// For what makes the engine work: create, start, remove, build a small image. Generous, since a host that starts a
/// hundred containers at once answers late and well.
pub(super) const WORK: Duration = Duration::from_secs(60);

/// A call that did not succeed. Turns into an [`EngineError`] by `?` where nobody looks at the status.
#[derive(Debug)]
pub(super) struct Fault {
    action: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The engine answered, with an HTTP status and a sentence.
    Answer { status: u16, message: String },
    /// It did not.
    Other(EngineError),
}

impl Fault {
    /// What the engine answered, or `None` where it did not answer.
    pub(super) fn status(&self) -> Option<u16> {
        match self.kind {
            Kind::Answer { status, .. } => Some(status),
            Kind::Other(_) => None,
        }
    }

    /// Whether the engine said that there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        self.status() == Some(404)
    }

    /// Whether the engine said any of these, whatever the case of its letters.
    pub(super) fn says(&self, any: &[&str]) -> bool {
        match &self.kind {
            Kind::Answer { message, .. } => {
                let message = message.to_lowercase();
                any.iter().any(|part| message.contains(part))
            }
            Kind::Other(_) => false,
        }
    }

    /// A fault of a call that was cut into pieces, as a stream is.
    pub(super) fn from_engine(action: &'static str, address: &str, error: Error) -> Self {
        Self { action, kind: classify(action, address, error) }
    }

    /// The deadline has passed.
    pub(super) fn timeout(action: &'static str, limit: Duration) -> Self {
        Self { action, kind: Kind::Other(EngineError::Timeout(limit, action)) }
    }
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::Answer { message, .. } => Self::Refused { action: fault.action, cause: message },
            Kind::Other(error) => error,
        }
    }
}

impl Docker {
    /// Asks the engine one thing. `action` completes the sentence "the engine was asked to …".
    pub(super) async fn call<T, F>(
        &self,
        action: &'static str,
        limit: Duration,
        ask: impl FnOnce(bollard::Docker) -> F + Send,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let client = self.client().map_err(|error| Fault { action, kind: Kind::Other(error) })?;
        match tokio::time::timeout(limit, ask(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Fault::from_engine(action, self.address(), error)),
            Err(_) => Err(Fault::timeout(action, limit)),
        }
    }
}

/// An answer is told from silence, since only the first says something about the world.
fn classify(action: &'static str, address: &str, error: Error) -> Kind {
    match error {
        Error::DockerResponseServerError { status_code, message } => Kind::Answer { status: status_code, message },
        Error::DockerStreamError { error } => Kind::Answer { status: 500, message: error },
        Error::RequestTimeoutError => Kind::Other(EngineError::Timeout(super::TRANSPORT_LIMIT, action)),
        Error::SocketNotFoundError(_)
        | Error::IOError { .. }
        | Error::HyperResponseError { .. }
        | Error::HyperLegacyError { .. } => {
            Kind::Other(EngineError::Unreachable { address: address.to_owned(), cause: with_causes(&error) })
        }
        other => Kind::Other(EngineError::Refused { action, cause: with_causes(&other) }),
    }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}
