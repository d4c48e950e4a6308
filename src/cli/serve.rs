//! `skep serve`: the daemon. Serves callers, and keeps the world as the tree says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::apart::keep_apart;
use super::context::{Context, Parts};
use super::hand_over::Predecessor;
use super::listen::{Doors, Listeners, gateway_of};
use super::log::{self, LogFormat};
use super::place::Place;
use super::pulled::bring_in;
use super::refresh;
use super::term::Terms;
use super::welcome::{welcome, welcome_key};
use super::{last_words, manager, mirror, process};
use crate::admin::Surface;
use crate::callers::Callers;
use crate::engine::docker::Docker;
use crate::engine::{Base, Engine, EngineError, Progress};
use crate::gateway::{Catalog, Keys, RouteState, Routes};
use crate::installation::{Holder, InstallationError, Lock};
use crate::metrics::Metrics;
use crate::reconcile::Controller;
use crate::reconcile::routing::route;
use crate::reconcile::stand_in::StandIns;
use crate::records::Records;
use crate::records::sqlite::Sqlite;
use crate::settings::{Offline, Settings};
use crate::tree::ApiId;
use crate::usage::Writer;

/// How long callers may wait for what was running before, when a daemon starts.
const ADOPTION: Duration = Duration::from_secs(2);

/// How many times the longest time between two looks lies between two rounds of cleaning up.
const CLEAN_EVERY: u32 = 2;

/// The first and the longest pause before an engine that does not answer is asked again.
const ENGINE_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Arguments of `skep serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Environment:\n  SKEP_LISTEN        where to listen (default 127.0.0.1:8663)\n  SKEP_ADMIN_LISTEN  where the control surface listens (default: with the gateway)\n  SKEP_STATE_DIR     where to keep records, keys and the lock (default .skep)\n  SKEP_TLS_CERTIFICATE, SKEP_TLS_KEY\n                     PEM files to speak TLS with (default: plain HTTP)\n  ADMIN_API_KEY      the admin key (default: made once, and kept in the state folder)\n  SKEP_LOG           what to log, as in debug or skep=info,skep::access=info\n  OTEL_EXPORTER_OTLP_ENDPOINT, SENTRY_DSN\n                     whom to tell of requests, steps and errors (default: nobody)\n\nExamples:\n  skep serve\n  SKEP_LISTEN=:8663 skep serve --log-format json\n\nSIGUSR2 has the daemon give its place to the program that lies at its path by now, as `skep upgrade` does."
)]
pub struct Args {
    /// Make a fresh key, and print commands to try.
    #[arg(long)]
    welcome: bool,

    /// Take the place of the daemon that is at work in this state folder, without a lost request; begin as ever where none is.
    #[arg(long)]
    take_over: bool,

    /// How to write the log, on standard error.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Runs `skep serve`.
///
/// # Errors
/// Where the address is taken, a command is at work on this installation, or the records cannot be opened.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    Box::pin(serve(args, root)).await.inspect_err(last_words::say)
}

async fn serve(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let telling = log::start(args.log_format)?;
    let context = Context::open(root)?;
    process::prepare();
    let mut before = if args.take_over { Predecessor::find(&context.installation).await? } else { None };
    let takes_over = before.is_some();
    let listeners = Listeners::open(&context.settings, before.as_mut()).await?;
    let (address, control_address) = (listeners.address, listeners.control_address);
    let lock = lock(&context, control_address)?;
    let leads = lock.is_some();
    let records = context.records_to_serve().await?;

    let stop = process::stop_on_signal();

    let settings = Arc::new(context.settings.clone());
    let (routes, keys) = (Arc::new(Routes::default()), Arc::new(Keys::default()));
    let admin_key = context.installation.admin_key(&settings)?;
    let secret = if args.welcome { Some(welcome_key(&*records).await?) } else { None };
    let seen = records.version().await?;
    let callers = Arc::new(Callers::new(Arc::clone(&records), Arc::clone(&keys), Arc::clone(&settings)));
    callers.load().await?;
    expect_what_served(&*records, &routes).await?;
    let (metrics, mut tasks) = (Metrics::new()?, JoinSet::new());
    let surface = Surface::new(
        Arc::clone(&routes),
        Arc::clone(&records),
        Arc::clone(&callers),
        Catalog::new(Arc::clone(&routes), Arc::clone(&keys), Arc::clone(&callers.tokens)),
        &admin_key,
        Arc::clone(&metrics),
        telling.reporter.is_some(),
    );
    surface.set_to_end_with(stop.clone());
    bring_in(&context, &surface, &records, &metrics, &mut tasks, &stop).await;
    let place = Place::new(context.installation.clone(), listeners.copies()?, Arc::clone(&routes), lock)?;
    tasks.spawn(Arc::clone(&place).keep(stop.clone()));
    let writer = writer(&context, &metrics, &records)?;
    let gateway = gateway_of(&settings, Arc::clone(&routes), keys)?.counting(Arc::clone(&metrics));
    let gateway = gateway.tallying(writer.counter()).with_tokens(Arc::clone(&callers.tokens)).traced(telling.traces());
    let open = Arc::new(Notify::new());
    let doors = listeners.open_to(&settings, gateway, Arc::clone(&surface), place.leaving.clone())?;
    let opened = wait_to_open(Arc::clone(&open), takes_over, stop.clone());
    tasks.spawn(serve_callers(opened, doors, writer, Arc::clone(&place), stop.clone()));

    // From the first moment: a key that is made while the engine is still awaited is a key.
    tasks.spawn(refresh::refresh(Arc::clone(&records), seen, Arc::clone(&callers), Arc::clone(&surface), stop.clone()));
    tasks.spawn(callers.run(stop.clone()));

    let engine = context.engine()?;
    let Parts { world, prober, controller } =
        context.assemble(engine.clone(), Arc::clone(&records), Arc::clone(&routes), None, stop.clone());
    world.role.follow();
    // Nobody has set it before: the world has just been made.
    let _ = world.metrics.set(metrics);
    let _reporter = telling.tell_of(&world, &mut tasks, &stop);
    surface.set_to_follow(Arc::clone(&controller));
    tasks.spawn(Arc::clone(&controller).run(settings.look_every.0, prober.hints()));
    find_stand_ins(&controller, &settings, &mut tasks, &stop).await;
    let at = (&context.installation, &*place.seat, &*open);
    let base = async {
        serve_what_served(&controller, settings.records.offline, &open, takes_over).await?;
        wait_for_base(&engine, &stop).await
    };
    let Some(base) = Predecessor::beside(&mut before, at, base).await?? else { return Ok(ended(tasks).await) };
    let holder = Holder { base: Some(base.digest), ..context.holder("serve", Some(control_address)) };
    controller.set_base(base);
    tasks.spawn(keep_apart(engine, Arc::clone(&world), stop.clone()));
    tasks.spawn(Arc::clone(&controller).keep_clean(settings.look_every.0 * CLEAN_EVERY, stop.clone()));
    let begun = Arc::new(Notify::new());
    let terms = Terms {
        installation: context.installation.clone(),
        holder,
        settings: Arc::clone(&settings),
        records: Arc::clone(&records),
        world: Arc::clone(&world),
        controller: Arc::clone(&controller),
        surface: Arc::clone(&surface),
        begun: Arc::clone(&begun),
        seat: Arc::clone(&place.seat),
    };
    tasks.spawn(terms.run(stop.clone()));
    tasks.spawn(mirror::keep(Arc::clone(&records), settings.records.clone(), Arc::clone(&world), stop.clone()));

    let ids = adopt(leads.then_some(&*begun), &controller, &stop).await;
    let is_ready = Predecessor::wait_for(&mut before, at, &world.routes);
    stop.run_until_cancelled(is_ready).await.transpose()?;
    if before.is_some() {
        surface.expect_to_lead();
    }
    tracing::info!("serving {} APIs of {} on {}://{address}", ids.len(), settings.apis.display(), settings.scheme());
    open.notify_one();
    if let Some(before) = before {
        stop.run_until_cancelled(before.succeed(&context.installation, &place.seat)).await;
    }

    if let Some(secret) = secret {
        tokio::select! { () = stop.cancelled() => {} _ = controller.rested(&ids) => {} }
        if !stop.is_cancelled() {
            anstream::print!("{}", welcome(&settings, &world.routes, [address, control_address], &secret, &admin_key));
        }
    }
    until_stopped(&mut tasks, &stop).await?;
    if !place.leaving.is_so() {
        manager::stopping();
        tracing::info!("stopping; containers go on running, and the next start takes them over");
    }
    Ok(ended(tasks).await)
}

/// Returns when callers may come in.
async fn wait_to_open(open: Arc<Notify>, takes_over: bool, stop: CancellationToken) {
    if takes_over {
        // Whoever comes is served by the other daemon until this one can.
        stop.run_until_cancelled(open.notified()).await;
    } else {
        // What ran before is found, probed and routed first: a caller who comes during a restart waits, and is not
        // refused. But not for ever: with the engine away, an honest 503 is better than silence.
        let _ = tokio::time::timeout(ADOPTION, open.notified()).await;
        manager::ready();
    }
}

/// Serves callers once it is `opened`, and counts them, until `stop`; or until the last one has gone of those that came
/// before this daemon's place was given away.
async fn serve_callers(
    opened: impl Future<Output = ()>,
    doors: Doors,
    writer: Writer,
    place: Arc<Place>,
    stop: CancellationToken,
) {
    opened.await;
    writer.run_while(doors.serve(stop.clone())).await;
    if place.leaving.is_so() {
        stop.run_until_cancelled(place.given_away()).await;
        tracing::info!("the last connection from before the hand-over has ended");
        stop.cancel();
    }
}

/// Waits for the word to stop. All parts run until then: one that ended by itself leaves a daemon that only seems to work.
async fn until_stopped(tasks: &mut JoinSet<()>, stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        // First, since what is told to stop ends in the same moment.
        biased;
        () = stop.cancelled() => Ok(()),
        ended = tasks.join_next() => {
            stop.cancel();
            bail!("a part of the daemon ended by itself, which is a fault of skep's own: {ended:?}");
        }
    }
}

/// Waits until all parts have ended that were told to: callers are served to the end, and counted.
async fn ended(mut tasks: JoinSet<()>) -> ExitCode {
    while tasks.join_next().await.is_some() {}
    ExitCode::SUCCESS
}

/// What writes usage down: on a connection of its own, so that nobody else waits for it where the file is locked.
fn writer(context: &Context, metrics: &Arc<Metrics>, shared: &Arc<dyn Records>) -> anyhow::Result<Writer> {
    let records: Arc<dyn Records> = match context.settings.records.url {
        None => Arc::new(Sqlite::open(&context.installation.records())?),
        // A pool has connections for all, and what is counted waits for no other there.
        Some(_) => Arc::clone(shared),
    };
    let keep = context.settings.policy.keep_usage.0;
    Ok(Writer::new(Arc::default(), records, Some(Arc::clone(metrics)), keep))
}

/// The lock of the installation. Without it, this daemon serves callers, and stands by to take over.
fn lock(context: &Context, address: SocketAddr) -> anyhow::Result<Option<Lock>> {
    match context.installation.lock(&context.holder("serve", Some(address))) {
        Ok(lock) => Ok(Some(lock)),
        Err(InstallationError::Busy(holder)) if holder.command == "serve" => {
            let pid = holder.pid;
            tracing::info!("`skep serve` (process {pid}) reconciles; this daemon serves callers, and stands by");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The base image, as soon as the engine answers; `None` where we were told to stop first.
async fn wait_for_base(engine: &Docker, stop: &CancellationToken) -> anyhow::Result<Option<Base>> {
    let progress = Progress::new(|line| tracing::info!("base image: {line}"));
    let mut pause = ENGINE_RETRY.0;
    loop {
        let base = tokio::select! { () = stop.cancelled() => return Ok(None), base = engine.base(&progress) => base };
        match base {
            Ok(base) => return Ok(Some(base)),
            Err(error @ EngineError::Unsupported(_)) => return Err(error.into()),
            Err(error) => tracing::warn!("{error}; next try in {pause:?}"),
        }
        tokio::select! { () = stop.cancelled() => return Ok(None), () = tokio::time::sleep(pause) => {} }
        pause = (pause * 2).min(ENGINE_RETRY.1);
    }
}

/// Answers for what served when the last daemon ended that it is not ready, until it is found.
async fn expect_what_served(records: &dyn Records, routes: &Routes) -> anyhow::Result<()> {
    for (id, record) in records.each().await? {
        if let Some(served) = record.as_ref().ok().and_then(|record| record.served.as_ref()) {
            let reason = "API is not ready yet".to_owned();
            let state = if served.spec.suspend { RouteState::Suspended } else { RouteState::Unavailable { reason } };
            routes.set(&id, Some(route(&id, &served.spec, state)));
        }
    }
    Ok(())
}

/// Finds who answers for APIs that nothing of ours serves yet, where the settings say that somebody may.
async fn find_stand_ins(
    controller: &Arc<Controller>,
    settings: &Arc<Settings>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    if settings.adopt {
        let mut stand_ins = StandIns::new(Arc::clone(controller), Arc::clone(settings));
        let _ = tokio::time::timeout(ADOPTION, stand_ins.begin()).await;
        tasks.spawn(stand_ins.run(stop.clone()));
    }
}

/// Routes what served before. A base image that somebody threw away takes minutes to be made again, and callers do not wait.
async fn serve_what_served(
    controller: &Arc<Controller>,
    offline: Offline,
    open: &Notify,
    takes_over: bool,
) -> anyhow::Result<()> {
    if let Err(error) = controller.world().records.follow(&controller.world().daemon).await {
        // Whoever reconciles does not wait for one that it does not know of, so this is no way to begin; save where the
        // records may be away, since without them nobody reconciles.
        if offline == Offline::Refuse {
            return Err(error.into());
        }
        tracing::warn!("{error}; it is tried again");
    }
    if let Ok(ids) = controller.look().await
        && !takes_over
    {
        let _ = tokio::time::timeout(ADOPTION, controller.rested(&ids)).await;
        open.notify_one();
    }
    Ok(())
}

/// Gives what ran before a moment to be found; and, where this daemon leads, which it has `begun` then, what is to run.
async fn adopt(begun: Option<&Notify>, controller: &Controller, stop: &CancellationToken) -> BTreeSet<ApiId> {
    let ids = if let Some(begun) = begun {
        tokio::select! { () = stop.cancelled() => {} () = begun.notified() => {} }
        all_ids(controller)
    } else {
        controller.known()
    };
    let _ = tokio::time::timeout(ADOPTION, controller.rested(&ids)).await;
    ids
}

/// Every API of the tree.
fn all_ids(controller: &Controller) -> BTreeSet<ApiId> {
    controller.tree().map(|tree| tree.folders.keys().cloned().collect()).unwrap_or_default()
}
