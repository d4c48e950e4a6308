//! A place is what one daemon of a host has and another one can take: see `hand_over`. Its holder opens a door to it in the
//! state folder, which only this user and root can reach.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hand_over::{LONGER, Outcome, READY_WITHIN, Ready, SAID_WITHIN, Taken, Wish, YOURS_WITHIN, Yours, offer};
use super::passing::{receive, send};
use super::term::Seat;
use super::{last_words, manager};
use crate::engine::docker::is_in_container;
use crate::gateway::{Leaving, Routes};
use crate::installation::{Installation, Lock};

/// How long the door rests where nobody can be let in, which is when file descriptors have run out.
const REST: Duration = Duration::from_millis(200);

/// A daemon's place.
pub(super) struct Place {
    installation: Installation,
    program: PathBuf,
    /// The sockets, for as long as they are this daemon's.
    listeners: Mutex<Vec<TcpListener>>,
    routes: Arc<Routes>,
    /// Told once the place is another daemon's.
    pub(super) leaving: Leaving,
    /// What goes with it.
    pub(super) seat: Arc<Seat>,
    /// One hand-over at a time.
    turn: tokio::sync::Mutex<()>,
    /// One upgrade at a time.
    upgrading: tokio::sync::Mutex<()>,
    given_away: CancellationToken,
    /// The process whose place it is then.
    successor: OnceLock<u32>,
    /// What is being said at the door.
    talks: TaskTracker,
}

impl Place {
    /// The place of this process, which has the `lock` or stands by.
    ///
    /// # Errors
    /// Where it cannot be found out where this program lies.
    pub(super) fn new(
        installation: Installation,
        listeners: Vec<TcpListener>,
        routes: Arc<Routes>,
        lock: Option<Lock>,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            installation,
            program: program().context("cannot find this program")?,
            listeners: Mutex::new(listeners),
            routes,
            leaving: Leaving::default(),
            seat: Arc::new(Seat::new(lock)),
            turn: tokio::sync::Mutex::default(),
            upgrading: tokio::sync::Mutex::default(),
            given_away: CancellationToken::new(),
            successor: OnceLock::new(),
            talks: TaskTracker::new(),
        }))
    }

    /// Opens the door once this daemon is the one of its host, and gives the place away to whoever asks, or to a new
    /// process of its own where SIGUSR2 says so.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut door = None;
        let Ok(mut upgrades) = signal(SignalKind::user_defined2()) else {
            tracing::error!("cannot listen for signals");
            return stop.cancelled().await;
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = upgrades.recv() => {
                    let place = Arc::clone(&self);
                    // Why not, it has logged.
                    self.talks.spawn(async move { place.upgrade().await });
                }
                () = self.seat.taken(), if door.is_none() => match open(&self.installation.door()) {
                    Ok(listener) => door = Some(listener),
                    Err(error) => {
                        let door = self.installation.door();
                        tracing::warn!("no other daemon can take this one's place: {}: {error}", door.display());
                        return stop.cancelled().await;
                    }
                },
                stream = next(door.as_ref()) => {
                    let place = Arc::clone(&self);
                    self.talks.spawn(async move {
                        if let Err(error) = place.answer(stream).await {
                            tracing::warn!("a hand-over came to nothing: {error}");
                        }
                    });
                }
            }
        }
    }

    /// Returns when the place is another daemon's, and whoever asked for that knows.
    pub(super) async fn given_away(&self) {
        self.given_away.cancelled().await;
        self.talks.close();
        let _ = tokio::time::timeout(SAID_WITHIN, self.talks.wait()).await;
    }

    async fn answer(&self, mut stream: UnixStream) -> io::Result<()> {
        let wish = tokio::time::timeout(SAID_WITHIN, receive(&stream));
        let Some(wish) = self.given_away.run_until_cancelled(wish).await else { return Ok(()) };
        match wish??.0 {
            Wish::TakeOver => self.give_away(stream).await,
            Wish::Upgrade => send(&mut stream, &self.upgrade().await, &[]).await,
        }
    }

    /// Gives the place to the process at the other end, once that serves.
    async fn give_away(&self, mut stream: UnixStream) -> io::Result<()> {
        let Ok(_turn) = self.turn.try_lock() else { return Err(io::Error::other("another one is under way")) };
        if self.given_away.is_cancelled() {
            return Err(io::Error::other("the place is another daemon's already"));
        }
        let copies: io::Result<Vec<_>> = self.listeners().iter().map(TcpListener::try_clone).collect();
        offer(&mut stream, &self.routes, &copies?).await?;
        let ready = tokio::time::timeout(READY_WITHIN + LONGER, receive::<Ready>(&stream)).await;
        let (Ready { pid }, _) = ready.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
        // It may end at any moment before it says that it has everything, and then this one goes on.
        self.leaving.pause(true);
        let mut lock = None;
        let taken = async {
            lock = tokio::time::timeout(YOURS_WITHIN.saturating_sub(LONGER), self.seat.give_up()).await?;
            let passed = lock.take().and_then(|lock| lock.pass_on().ok());
            let open: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
            let told = async {
                send(&mut stream, &Yours {}, &open).await?;
                receive::<Taken>(&stream).await
            };
            let told = tokio::time::timeout(SAID_WITHIN, told).await;
            lock = passed.map(|passed| self.installation.receive(passed));
            told?.map(|_| ())
        };
        if let Err(error) = taken.await {
            self.seat.take_back(lock);
            self.leaving.pause(false);
            return Err(io::Error::other(format!("process {pid} was ready, and then did not take over: {error}")));
        }
        // What is written there is the other one's by now.
        let _ = lock.map(Lock::pass_on);
        let _ = self.successor.set(pid);
        manager::succeeded_by(pid);
        self.leaving.begin();
        self.listeners().clear();
        self.given_away.cancel();
        tracing::info!("process {pid} has taken over; this one answers who is connected to it, and then ends");
        Ok(())
    }

    /// Starts the program that lies at this one's path by now, and gives the place to it.
    async fn upgrade(&self) -> Outcome {
        let Ok(_one) = self.upgrading.try_lock() else {
            return Err("another upgrade is under way; `skep status` tells which process reconciles when it has ended"
                .to_owned());
        };
        manager::reloading();
        let outcome = self.start_successor().await;
        if let Err(cause) = &outcome {
            tracing::warn!("no upgrade: {cause}; this daemon goes on");
            // Somebody else's hand-over tells of its own end.
            let _turn = self.turn.lock().await;
            if !self.given_away.is_cancelled() {
                manager::ready();
            }
        }
        outcome
    }

    async fn start_successor(&self) -> Outcome {
        // A service manager can be told which process is the service now. A container ends with its first one.
        if is_in_container() && std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Err("the container that this daemon is in would end with it; replace the container".to_owned());
        }
        let arguments = std::env::args_os().skip(1).filter(|word| word != "--take-over" && word != "--welcome");
        let arguments: Vec<_> = arguments.chain(["--take-over".into()]).collect();
        let said = last_words::place(&self.installation.door());
        let _ = std::fs::remove_file(&said);
        let mut command = Command::new(&self.program);
        command.args(&arguments).env(last_words::PLACE, &said).env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        let mut child = command.spawn().map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let pid = child.id().unwrap_or_default();
        tracing::info!("process {pid} is to take over ({})", self.program.display());
        let ended = tokio::select! {
            biased;
            () = self.given_away.cancelled() => None,
            ended = child.wait() => Some(ended),
            () = tokio::time::sleep(READY_WITHIN + LONGER) => None,
        };
        // What is being handed over is waited for: only then it is known whose place it is.
        let _turn = self.turn.lock().await;
        if self.given_away.is_cancelled() {
            return Ok(self.successor.get().copied().unwrap_or(pid));
        }
        let Some(ended) = ended else {
            // It may have callers, and answers them first.
            if let Some(process) = Pid::from_raw(pid.cast_signed()) {
                let _ = kill_process(process, Signal::TERM);
            }
            return Err(format!(
                "process {pid} could not take over within {} s, and is told to end",
                READY_WITHIN.as_secs()
            ));
        };
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        Err(match last_words::of(&said, &self.program, &arguments).await {
            Some(words) => format!("process {pid} ended before it could serve ({how}): {words}"),
            None => {
                format!("process {pid} ended before it could serve ({how}); what it said stands in the daemon's log")
            }
        })
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<TcpListener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the door, in the place of one whose daemon is gone.
fn open(door: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(door) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(door)?;
    std::fs::set_permissions(door, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Who comes next; never anybody while the door is closed.
async fn next(door: Option<&UnixListener>) -> UnixStream {
    let Some(door) = door else { return std::future::pending().await };
    loop {
        match door.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!("whoever wants this daemon's place cannot be let in: {error}");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Where this program was started from, as it was named: a link that is set to another version is followed anew.
fn program() -> io::Result<PathBuf> {
    let itself = std::env::current_exe()?;
    let named = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidates: Vec<PathBuf> = if named.components().count() > 1 {
        vec![std::path::absolute(&named)?]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(&named)).collect()
    };
    let is_itself = |candidate: &PathBuf| candidate.canonicalize().is_ok_and(|found| found == itself);
    Ok(candidates.into_iter().find(is_itself).unwrap_or(itself))
}
