//! The firewall's program, `iptables`, run once for each question and each change.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::engine::docker::host;

/// For one run, the program's own lock included.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the program may be; an ordinary user's search path leaves out `sbin`.
const PROGRAMS: [&str; 3] = ["iptables", "/usr/sbin/iptables", "/sbin/iptables"];

/// All rules of the filter table, as `iptables -S` prints them.
pub(super) async fn list() -> Result<String, String> {
    run(&["-S"], None).await
}

/// Makes all changes of `text` at once, or none, and leaves alone what it does not name.
pub(super) async fn change(text: &str) -> Result<(), String> {
    run(&["--noflush"], Some(text)).await.map(drop)
}

/// Whether what it makes are rules of nftables: `iptables v1.8.9 (nf_tables)`.
pub(super) async fn makes_nftables() -> bool {
    run(&["-V"], None).await.is_ok_and(|version| version.contains("nf_tables"))
}

/// What a program says of the host's network.
pub(super) async fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    let asked = host::command(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(format!("{program} said: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Err(_) => Err(format!("{program} took longer than {LIMIT:?}")),
    }
}

/// Runs `iptables`, or `iptables-restore` where there is input, and gives what it printed.
async fn run(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    for program in PROGRAMS {
        let program = if input.is_some() { format!("{program}-restore") } else { program.to_owned() };
        let spawned = host::command(&program)
            .arg("-w")
            .arg("5")
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{program}: {error}")),
        };
        let talk = async {
            if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
                pipe.write_all(text.as_bytes()).await?;
            }
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(LIMIT, talk).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("{program}: {error}")),
            Err(_) => return Err(format!("{program} took longer than {LIMIT:?}")),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} said: {}", said.lines().next().unwrap_or("nothing")));
    }
    Err("there is no iptables; install it with `apt-get install iptables`".to_owned())
}
