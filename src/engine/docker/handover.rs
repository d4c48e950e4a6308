//! Handing over gives an instance its secrets: over the standard input of its first process, once it has started.
//!
//! The engine passes that on and keeps it nowhere: it is in no image, no label and no log, and looking at the container
//! shows none of it. The first process writes the secrets into memory that only the app's user can read, and becomes the
//! app. Whoever else starts the container hands nothing over, so it ends, and the reconciler starts another.

use std::collections::HashMap;
use std::pin::Pin;

use bollard::container::AttachContainerResults;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::Docker;
use super::call::{Fault, QUICK};
use super::hardening::UID;
use crate::engine::EngineError;
use crate::secrets::Opened;
use crate::tree::SecretsAs;

/// Where the files are.
const FOLDER: &str = "/run/secrets";

/// What the folder holds at most, in bytes. Files take whole pages.
const SIZE: u32 = 1 << 20;

/// Becomes the app, with its secrets. Its first argument is how they are given, the others are the app's.
///
/// Says nothing of what it reads. Without packages (`-S`), so that it is quick, and so that only the app's own process
/// has anything to do with them.
const FIRST: &str = r#"
import json, os, signal, sys
def end(*_):
    os.write(2, b"skep: the secrets did not come; this container is only for skep to start\n")
    os._exit(78)
signal.signal(signal.SIGALRM, end)
signal.alarm(10)
try:
    given = open(0, "rb", closefd=False)
    length = int(given.readline())
    text = given.read(length)
    secrets = json.loads(text) if len(text) == length else end()
except Exception:
    end()
os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
for name, value in secrets.items():
    file = os.open("/run/secrets/" + name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    os.write(file, value.encode())
    os.close(file)
if sys.argv[1] == "env":
    os.environ.update(secrets)
signal.alarm(0)
os.execv(sys.executable, [sys.executable] + sys.argv[2:])
"#;

/// A way into a container's first process.
pub(super) struct Handover(Pin<Box<dyn AsyncWrite + Send>>);

/// Has a container wait for its secrets before it becomes the app.
pub(super) fn expect_secrets(body: &mut ContainerCreateBody, given: SecretsAs) {
    let given = match given {
        SecretsAs::Files => "files",
        SecretsAs::Env => "env",
    };
    let first = ["-I", "-S", "-c", FIRST, given].map(ToOwned::to_owned);
    let app = body.cmd.take().unwrap_or_default();
    body.cmd = Some(first.into_iter().chain(app).collect());
    body.open_stdin = Some(true);
    body.stdin_once = Some(true);
    let options = format!("rw,noexec,nosuid,nodev,mode=0700,uid={UID},gid={UID},size={SIZE}");
    let host = body.host_config.get_or_insert_default();
    host.tmpfs.get_or_insert_with(HashMap::new).insert(FOLDER.to_owned(), options);
}

impl Docker {
    /// Opens the way, before the container starts.
    pub(super) async fn prepare_handover(&self, id: &str) -> Result<Handover, Fault> {
        let options = AttachContainerOptionsBuilder::default().stdin(true).stream(true).build();
        let attach = |client: bollard::Docker| async move { client.attach_container(id, Some(options)).await };
        let AttachContainerResults { input, .. } = self.call("reach into a container", QUICK, attach).await?;
        Ok(Handover(input))
    }
}

impl Handover {
    /// Hands secrets over, once the container has started.
    ///
    /// # Errors
    /// Where the engine does not take them; without a word of what they are.
    pub(super) async fn give(mut self, secrets: &Opened) -> Result<(), EngineError> {
        let json = secrets.json();
        let length = format!("{}\n", json.len());
        let write = async {
            self.0.write_all(length.as_bytes()).await?;
            self.0.write_all(&json).await?;
            self.0.shutdown().await
        };
        let action = "hand secrets over to a container";
        match tokio::time::timeout(QUICK, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(EngineError::Refused { action, cause: error.kind().to_string() }),
            Err(_) => Err(EngineError::Timeout(QUICK, action)),
        }
    }
}
