//! A hand-over is how a daemon takes the place of another one on its host: the sockets pass from process to process with all
//! that waits in their queues, then the lease and the lock, and no caller notices.
//!
//! The new one accepts nobody before it serves all that the old one serves, and the old one goes on accepting until then; so
//! one that cannot begin costs nothing but a line in the log. Afterwards the old one answers whoever is still connected to
//! it, follows what the new one does as any daemon that stands by, and ends with its last connection.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::manager;
use super::passing::{receive, send};
use super::term::Seat;
use crate::gateway::{RouteState, Routes};
use crate::installation::Installation;

/// How long the new daemon may take to serve what the old one serves. What runs is only found and probed, not started.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long the old daemon may take to finish the step that it is at. The new one serves meanwhile.
pub(super) const YOURS_WITHIN: Duration = Duration::from_secs(60);

/// How much longer the one of the two waits whose word on what has come of it is not the better one.
pub(super) const LONGER: Duration = Duration::from_secs(10);

/// How long one may take to say what is not waited for.
pub(super) const SAID_WITHIN: Duration = Duration::from_secs(5);

/// How long a daemon that has ended may take to let go of its lock.
const FREE_WITHIN: Duration = Duration::from_secs(2);

/// Between two looks at what is served.
const LOOK: Duration = Duration::from_millis(50);

/// What somebody wants of the daemon whose place it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wish {
    /// To take its place.
    TakeOver,
    /// To have it start the program anew, and give its place to that.
    Upgrade,
}

/// What the old daemon gives away before it leaves; its sockets come with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// Its process.
    pub(super) pid: u32,
    /// The APIs that it serves.
    pub(super) serving: BTreeSet<String>,
}

/// The new daemon serves, and accepts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Its process.
    pub(super) pid: u32,
}

/// Nothing is reconciled by the old daemon any more; its lock comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Yours {}

/// The new daemon has what there was to take: the old one may go.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Taken {}

/// What came of an upgrade: the new daemon's process, or why there is none.
pub(super) type Outcome = Result<u32, String>;

/// Speaks to whoever holds the place; `None` where nobody does.
pub(super) async fn knock(door: &Path, wish: Wish) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(door).await {
        Ok(mut stream) => {
            send(&mut stream, &wish, &[]).await?;
            Ok(Some(stream))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is this one's where the old one ends: its state folder, its seat, and what is told that callers may come.
pub(super) type At<'a> = (&'a Installation, &'a Seat, &'a Notify);

/// The daemon whose place this one takes, while it still serves.
pub(super) struct Predecessor {
    stream: UnixStream,
    offer: Offer,
    listeners: Vec<TcpListener>,
    /// Until when it waits.
    deadline: Instant,
}

impl Predecessor {
    /// Finds the daemon that is at work in this state folder; `None` where none is.
    ///
    /// # Errors
    /// Where it does not answer as one would.
    pub(super) async fn find(installation: &Installation) -> anyhow::Result<Option<Self>> {
        let asked = async {
            let Some(stream) = knock(&installation.door(), Wish::TakeOver).await? else { return Ok(None) };
            let (offer, open) = receive::<Offer>(&stream).await?;
            let listeners = open.into_iter().map(TcpListener::from).collect();
            let deadline = Instant::now() + READY_WITHIN;
            Ok::<_, io::Error>(Some(Self { stream, offer, listeners, deadline }))
        };
        let asked = tokio::time::timeout(YOURS_WITHIN, asked).await.unwrap_or(Err(ErrorKind::TimedOut.into()));
        asked.context("the daemon at work does not give its place away; end it, and start this one without --take-over")
    }

    /// Its socket at an address. Port 0 is any port, as it is when one is opened.
    pub(super) fn listener(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let is_wanted = |listener: &TcpListener| {
            let is =
                |there: SocketAddr| there.ip() == wanted.ip() && (wanted.port() == 0 || there.port() == wanted.port());
            listener.local_addr().is_ok_and(is)
        };
        let place = self.listeners.iter().position(is_wanted)?;
        Some(self.listeners.remove(place))
    }

    /// Does what has to be done before this process serves. Where the old one ends meanwhile, its `installation` is nobody's
    /// any more: it is forgotten, `open` is told that callers may come, and the lock is for the `seat`.
    ///
    /// # Errors
    /// Where it has not ended, and waits no longer.
    pub(super) async fn beside<T>(
        before: &mut Option<Self>,
        (installation, seat, open): At<'_>,
        doing: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        let mut doing = Box::pin(doing);
        if let Some(predecessor) = before {
            tokio::select! {
                biased;
                () = predecessor.closed() => {}
                () = tokio::time::sleep_until(predecessor.deadline + LONGER) => {}
                done = &mut doing => return Ok(done),
            }
            predecessor.expect_end(installation, seat).await?;
            *before = None;
            open.notify_one();
            manager::ready();
        }
        Ok(doing.await)
    }

    /// Returns when the other end has been closed. It says nothing before this process is ready.
    async fn closed(&self) {
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Takes the lock of one that has ended, without a hand-over.
    async fn expect_end(&self, installation: &Installation, seat: &Seat) -> anyhow::Result<()> {
        let pid = self.offer.pid;
        let deadline = Instant::now() + FREE_WITHIN;
        while !seat.has_lock() {
            match installation.try_lock()? {
                Some(lock) => seat.put(lock),
                None if Instant::now() > deadline => {
                    bail!("process {pid} goes on serving, and waits for this one no longer")
                }
                None => tokio::time::sleep(LOOK).await,
            }
        }
        tracing::warn!("process {pid} has ended before it gave its place away; this daemon begins as ever");
        Ok(())
    }

    /// Waits until this process serves whatever that one serves, or that one has ended.
    ///
    /// # Errors
    /// Where that does not come about, with what is missing.
    pub(super) async fn wait_for(before: &mut Option<Self>, at: At<'_>, routes: &Routes) -> anyhow::Result<()> {
        if let Some(before) = before {
            before.is_equalled_by(routes).await?;
        }
        Self::beside(before, at, std::future::ready(())).await
    }

    async fn is_equalled_by(&self, routes: &Routes) -> anyhow::Result<()> {
        let serves = |id: &String| {
            routes
                .get(id)
                .is_some_and(|route| matches!(route.state, RouteState::Serving { .. } | RouteState::Suspended))
        };
        let mut missing: Vec<&String> = self.offer.serving.iter().collect();
        loop {
            missing.retain(|id| !serves(id));
            let Some(first) = missing.first() else { return Ok(()) };
            if Instant::now() > self.deadline {
                bail!(
                    "process {} goes on serving: {} of the APIs that it serves cannot be served here, {first} among them",
                    self.offer.pid,
                    missing.len()
                );
            }
            tokio::select! { () = self.closed() => return Ok(()), () = tokio::time::sleep(LOOK) => {} }
        }
    }

    /// Says that callers are accepted here, and takes what is left: the right to reconcile, and the lock.
    pub(super) async fn succeed(mut self, installation: &Installation, seat: &Seat) {
        // Those that this one does not listen at.
        self.listeners.clear();
        let ready = Ready { pid: std::process::id() };
        let given = async {
            send(&mut self.stream, &ready, &[]).await?;
            receive::<Yours>(&self.stream).await
        };
        match tokio::time::timeout(YOURS_WITHIN, given).await {
            Ok(Ok((Yours {}, open))) => {
                if let Some(lock) = open.into_iter().next() {
                    seat.put(installation.receive(lock));
                }
                // It has heard it, or has ended.
                let _ = tokio::time::timeout(SAID_WITHIN, send(&mut self.stream, &Taken {}, &[])).await;
                tracing::info!("took over from process {}", self.offer.pid);
            }
            // Where it has ended the lock is free; where it has not, it goes on reconciling.
            _ => tracing::warn!("process {} does not let go; this daemon serves, and stands by", self.offer.pid),
        }
    }
}

/// What the old daemon says it gives away.
pub(super) async fn offer(stream: &mut UnixStream, routes: &Routes, listeners: &[TcpListener]) -> io::Result<()> {
    let table = routes.table();
    let serving = table.iter().filter(|(_, route)| matches!(route.state, RouteState::Serving { .. }));
    let offer = Offer { pid: std::process::id(), serving: serving.map(|(id, _)| id.to_string()).collect() };
    let open: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    send(stream, &offer, &open).await
}
