//! The service manager, systemd or one that speaks as it does, is told how the daemon is; where there is none, nobody is.

use sd_notify::NotifyState;

/// The daemon accepts callers, or goes on as before.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A hand-over begins.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Another process is the daemon from now on.
pub(super) fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process), NotifyState::Ready]);
}

/// The daemon ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager cannot be told: {error}");
    }
}
