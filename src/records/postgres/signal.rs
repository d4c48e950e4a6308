//! A signal tells at once that somebody has written: by `LISTEN`, on a connection of its own.
//!
//! Nothing rests on it. A pool that hands each transaction to another connection takes a `LISTEN` and never tells of
//! anything; so it is tried, by a message of our own, and where none comes, a look is due twice a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::trouble::Trouble;
use super::worker::{Access, Worker};
use super::{Place, tls};

/// What the tables' triggers name.
const CHANNEL: &str = "skep";

/// Between two looks where nobody tells.
const UNTOLD: Duration = Duration::from_millis(500);

/// Between two looks where somebody does.
const TOLD: Duration = Duration::from_secs(10);

/// How long a message of our own may take to come back.
const ECHO: Duration = Duration::from_secs(5);

/// How often it is tried whether messages still come.
const TRY_EVERY: Duration = Duration::from_secs(30);

/// Before another try to listen, where one failed; and where a pool keeps messages back, which it goes on doing.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(600));

/// Tells that somebody has written. Ends when the last clone is dropped.
#[derive(Clone)]
pub struct Signal {
    state: Arc<State>,
    _listener: Option<Arc<Listener>>,
}

#[derive(Default)]
struct State {
    changed: Notify,
    /// Whether messages come.
    is_told: AtomicBool,
}

struct Listener(tokio::task::JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Signal {
    /// Nobody tells.
    pub fn none() -> Self {
        Self { state: Arc::default(), _listener: None }
    }

    /// Listens from now on to what others than that worker change.
    pub fn listen(place: &Place, worker: Worker) -> Result<Self, String> {
        let (tls, state) = (tls::connector(&place.address)?, Arc::<State>::default());
        let ear = Ear { address: place.address.clone(), tls, worker, state: Arc::clone(&state) };
        let listener = Arc::new(Listener(tokio::spawn(ear.run())));
        Ok(Self { state, _listener: Some(listener) })
    }

    /// Returns when it is worth looking.
    pub async fn wait(&self) {
        let pause = if self.state.is_told.load(Ordering::Relaxed) { TOLD } else { UNTOLD };
        let _ = timeout(pause, self.state.changed.notified()).await;
    }
}

struct Ear {
    address: Address,
    tls: MakeRustlsConnect,
    worker: Worker,
    state: Arc<State>,
}

impl Ear {
    async fn run(self) {
        loop {
            let outcome = self.listen().await;
            let was_told = self.state.is_told.swap(false, Ordering::Relaxed);
            // What was written meanwhile told nobody.
            self.state.changed.notify_one();
            match outcome {
                Ok(()) if !was_told => {
                    tracing::info!("the database's pool keeps notifications back; skep looks twice a second instead");
                    sleep(AGAIN.1).await;
                }
                Ok(()) => {}
                Err(error) => tracing::debug!("cannot listen for changes: {error}"),
            }
            sleep(AGAIN.0).await;
        }
    }

    /// Listens until messages stop coming, though the connection is there.
    async fn listen(&self) -> Result<(), Trouble> {
        let silent = |_| Trouble::Unreachable("the server did not answer in time".to_owned());
        let (client, mut connection) =
            timeout(ECHO * 2, self.address.config.connect(self.tls.clone())).await.map_err(silent)??;
        let (changed, echoes) = (Arc::clone(&self.state), Arc::new(Notify::new()));
        let (echoed, writer) = (Arc::clone(&echoes), self.worker.writer().to_owned());
        let echo = format!("{writer} listens");
        let ears = async move {
            let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                let AsyncMessage::Notification(told) = message else { continue };
                match told.payload() {
                    own if own == writer => {}
                    own if own == echo => echoed.notify_one(),
                    // Another one's echo.
                    other if other.ends_with(" listens") => {}
                    _ => changed.changed.notify_one(),
                }
            }
        };
        tokio::select! {
            // Whether messages come is not known then: it is tried again soon.
            () = ears => Err(Trouble::Unreachable("the connection has ended".to_owned())),
            outcome = self.keep_trying(&client, &echoes) => outcome,
        }
    }

    async fn keep_trying(&self, client: &Client, echoes: &Notify) -> Result<(), Trouble> {
        let silent = |_| Trouble::Unreachable("the server did not answer in time".to_owned());
        timeout(ECHO * 2, client.batch_execute(&format!("LISTEN {CHANNEL}"))).await.map_err(silent)??;
        loop {
            let since = Instant::now();
            // From another connection: a pool may hand one's own messages to oneself alone.
            let echo = format!("{} listens", self.worker.writer());
            let told = self.worker.run(Access::Beat, "try whether notifications come", move |t| {
                Box::pin(async move {
                    t.query("SELECT pg_notify($1, $2)", &[(&CHANNEL, Type::TEXT), (&echo, Type::TEXT)]).await.map(drop)
                })
            });
            told.await.map_err(|error| Trouble::Unreachable(error.to_string()))?;
            if timeout(ECHO, echoes.notified()).await.is_err() {
                return Ok(());
            }
            if !self.state.is_told.swap(true, Ordering::Relaxed) {
                self.state.changed.notify_one();
            }
            sleep(TRY_EVERY.saturating_sub(since.elapsed())).await;
        }
    }
}
