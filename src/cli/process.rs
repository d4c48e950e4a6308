//! The process that a daemon is: what it asks of its host, and which signals end it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Prepares the process for many callers.
pub(super) fn prepare() {
    allow_many_files();
    stand_firm();
}

/// What is cancelled when the process is told to end. The first Ctrl-C or SIGTERM asks everything to end; the second does not
/// wait for it.
pub(super) fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(listen(stop.clone(), CancellationToken::new()));
    stop
}

/// Does what leaves something behind where it is cut off; `None` where the process is told to end meanwhile, for whoever asked to
/// clean up. Whoever tells it again, or later, does not wait for anything.
pub(super) async fn unless_told_to_end<T>(work: impl Future<Output = T>) -> Option<T> {
    let (stop, over) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(listen(stop.clone(), over.clone()));
    let done = stop.run_until_cancelled(work).await;
    over.cancel();
    done
}

/// Lets this process have as many files open as the host allows it: each caller is one, and each idle upstream.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

/// Asks the kernel to spare this process where memory runs out, as container engines ask for themselves: without it
/// nobody is served. Needs root; without that the kernel weighs it like any other, and it is small.
fn stand_firm() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-500") {
        tracing::debug!("the kernel weighs this process like any other where memory runs out: {error}");
    }
}

/// Cancels `stop` with the first signal, unless what it would end is `over`.
async fn listen(stop: CancellationToken, over: CancellationToken) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        tracing::error!("cannot listen for signals");
        return;
    };
    let mut is_first = true;
    loop {
        tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = terminate.recv() => {} }
        if std::mem::take(&mut is_first) && !over.is_cancelled() {
            stop.cancel();
        } else {
            // Nothing below main exits, save for this: whoever asks twice does not want to wait for anything.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
        }
    }
}
