//! `skep serve`: the daemon. Serves callers, and keeps the world as the tree says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::{Context, Parts};
use super::listen::{Listeners, gateway_of};
use super::log::{self, LogFormat};
use super::mirror;
use super::pulled::bring_in;
use super::term::Terms;
use crate::admin::Surface;
use crate::callers::Callers;
use crate::engine::docker::Docker;
use crate::engine::{Base, Engine, EngineError, Progress};
use crate::gateway::{Catalog, Keys, RouteState, Routes};
use crate::installation::{Holder, InstallationError, Lock};
use crate::metrics::Metrics;
use crate::reconcile::routing::route;
use crate::reconcile::stand_in::StandIns;
use crate::reconcile::{Controller, World};
use crate::records::sqlite::Sqlite;
use crate::records::{KeyScope, NewKey, Records};
use crate::report::style::{BOLD, NAME, paint};
use crate::settings::{Offline, Settings};
use crate::tree::ApiId;
use crate::usage::Writer;

/// What the key of `--welcome` is called, so that the next start can replace it.
const WELCOME_KEY: &str = "welcome";

/// How long callers may wait for what was running before, when a daemon starts.
const ADOPTION: Duration = Duration::from_secs(2);

/// How many times the longest time between two looks lies between two rounds of cleaning up.
const CLEAN_EVERY: u32 = 2;

/// How often a look is taken whether the firewall's rules are in force. Looking takes some 3 ms.
const FIREWALL_EVERY: Duration = Duration::from_secs(2);

/// How often at most somebody is told that they were not.
const FIREWALL_TOLD: Duration = Duration::from_secs(60);

/// The first and the longest pause before an engine that does not answer is asked again.
const ENGINE_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Arguments of `skep serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Environment:\n  SKEP_LISTEN        where to listen (default 127.0.0.1:8663)\n  SKEP_ADMIN_LISTEN  where the control surface listens (default: with the gateway)\n  SKEP_STATE_DIR     where to keep records, keys and the lock (default .skep)\n  SKEP_TLS_CERTIFICATE, SKEP_TLS_KEY\n                     PEM files to speak TLS with (default: plain HTTP)\n  ADMIN_API_KEY      the admin key (default: made once, and kept in the state folder)\n  SKEP_LOG           what to log, as in debug or skep=info,skep::access=info\n  OTEL_EXPORTER_OTLP_ENDPOINT, SENTRY_DSN\n                     whom to tell of requests, steps and errors (default: nobody)\n\nExamples:\n  skep serve\n  SKEP_LISTEN=:8663 skep serve --log-format json"
)]
pub struct Args {
    /// Make a fresh key, and print commands to try.
    #[arg(long)]
    welcome: bool,

    /// How to write the log, on standard error.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Runs `skep serve`.
///
/// # Errors
/// Where the address is taken, a command is at work on this installation, or the records cannot be opened.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let telling = log::start(args.log_format)?;
    let context = Context::open(root)?;
    allow_many_files();
    stand_firm();
    let listeners = Listeners::open(&context.settings).await?;
    let (address, control_address) = (listeners.address, listeners.control_address);
    let lock = lock(&context, control_address)?;
    let records = context.records_to_serve().await?;

    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));

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
    bring_in(&context, &surface, &records, &mut tasks, &stop).await;
    let writer = writer(&context, &metrics, &records)?;
    let gateway = gateway_of(&settings, Arc::clone(&routes), keys)?.counting(Arc::clone(&metrics));
    let gateway = gateway.tallying(writer.counter()).with_tokens(Arc::clone(&callers.tokens)).traced(telling.traces());
    let open = Arc::new(Notify::new());
    tasks.spawn({
        let doors = listeners.open_to(&settings, gateway, Arc::clone(&surface))?;
        let (stop, open) = (stop.clone(), Arc::clone(&open));
        async move {
            // What ran before is found, probed and routed first: a caller who comes during a restart waits, and is not
            // refused. But not for ever: with the engine away, an honest 503 is better than silence.
            let _ = tokio::time::timeout(ADOPTION, open.notified()).await;
            writer.run_while(doors.serve(stop)).await;
        }
    });

    // From the first moment: a key that is made while the engine is still awaited is a key.
    tasks.spawn(refresh(Arc::clone(&records), seen, Arc::clone(&callers), Arc::clone(&surface), stop.clone()));
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
    serve_what_served(&controller, settings.records.offline, &open).await?;
    let Some(base) = wait_for_base(&engine, &stop).await? else { return Ok(ended(tasks).await) };
    let holder = Holder { base: Some(base.digest), ..context.holder("serve", Some(control_address)) };
    controller.set_base(base);
    tasks.spawn(keep_firewall(engine, Arc::clone(&world), stop.clone()));
    tasks.spawn(Arc::clone(&controller).keep_clean(settings.look_every.0 * CLEAN_EVERY, stop.clone()));
    let (begun, leads) = (Arc::new(Notify::new()), lock.is_some());
    let terms = Terms {
        installation: context.installation.clone(),
        holder,
        settings: Arc::clone(&settings),
        records: Arc::clone(&records),
        world: Arc::clone(&world),
        controller: Arc::clone(&controller),
        surface: Arc::clone(&surface),
        begun: Arc::clone(&begun),
    };
    tasks.spawn(terms.run(lock, stop.clone()));
    tasks.spawn(mirror::keep(Arc::clone(&records), settings.records.clone(), Arc::clone(&world), stop.clone()));

    let ids = if leads {
        tokio::select! { () = stop.cancelled() => {} () = begun.notified() => {} }
        all_ids(&controller)
    } else {
        controller.known()
    };
    let _ = tokio::time::timeout(ADOPTION, controller.rested(&ids)).await;
    tracing::info!("serving {} APIs of {} on http://{address}", ids.len(), settings.apis.display());
    open.notify_one();

    if let Some(secret) = secret {
        tokio::select! { () = stop.cancelled() => {} _ = controller.rested(&ids) => {} }
        if !stop.is_cancelled() {
            anstream::print!("{}", welcome(&settings, &world.routes, [address, control_address], &secret, &admin_key));
        }
    }
    tokio::select! {
        // First, since what is told to stop ends in the same moment.
        biased;
        () = stop.cancelled() => {}
        // All of them run until they are told to stop. One that ended by itself leaves a daemon that only seems to work.
        ended = tasks.join_next() => {
            stop.cancel();
            bail!("a part of the daemon ended by itself, which is a fault of skep's own: {ended:?}");
        }
    }
    tracing::info!("stopping; containers go on running, and the next start takes them over");
    Ok(ended(tasks).await)
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

/// The first Ctrl-C or SIGTERM asks everything to end; the second does not wait for it.
async fn stop_on_signal(stop: CancellationToken) {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        tracing::error!("cannot listen for signals");
        return;
    };
    let mut count = 0;
    loop {
        tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = terminate.recv() => {} }
        count += 1;
        if count == 1 {
            stop.cancel();
        } else {
            // Nothing below main exits, save for this: whoever asks twice does not want to wait for anything.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
        }
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

/// Replaces the key that the last start with `--welcome` made.
async fn welcome_key(records: &dyn Records) -> anyhow::Result<String> {
    let now = Timestamp::now();
    for key in records.keys().await?.into_iter().filter(|key| key.name == WELCOME_KEY) {
        records.revoke_key(&key.id, now).await?;
    }
    let made = NewKey::generate(WELCOME_KEY, KeyScope::All, now);
    records.add_key(&made.key).await?;
    Ok(made.secret)
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
async fn serve_what_served(controller: &Arc<Controller>, offline: Offline, open: &Notify) -> anyhow::Result<()> {
    if let Err(error) = controller.world().records.follow(&controller.world().daemon).await {
        // Whoever reconciles does not wait for one that it does not know of, so this is no way to begin; save where the
        // records may be away, since without them nobody reconciles.
        if offline == Offline::Refuse {
            return Err(error.into());
        }
        tracing::warn!("{error}; it is tried again");
    }
    if let Ok(ids) = controller.look().await {
        let _ = tokio::time::timeout(ADOPTION, controller.rested(&ids)).await;
        open.notify_one();
    }
    Ok(())
}

/// Every API of the tree.
fn all_ids(controller: &Controller) -> BTreeSet<ApiId> {
    controller.tree().map(|tree| tree.folders.keys().cloned().collect()).unwrap_or_default()
}

/// Notices within a second what another process wrote into the records: a key, an edited row, a confirmed removal.
async fn refresh(
    records: Arc<dyn Records>,
    mut seen: u64,
    callers: Arc<Callers>,
    surface: Arc<Surface>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! { () = stop.cancelled() => return, () = records.changed() => {} }
        // Counts only what others wrote: this is the same handle as the reconciler's own.
        let Ok(version) = records.version().await else { continue };
        if version == seen {
            continue;
        }
        if let Err(error) = callers.load().await {
            tracing::warn!("{error}; the keys that are known stay in force until they can be read");
            continue;
        }
        // Remembered only now: what could not be read is read again, also when nobody writes any more.
        seen = version;
        if let Some(controller) = surface.controller()
            && let Err(error) = controller.look().await
        {
            tracing::debug!("{error}");
        }
    }
}

/// Puts our firewall rules back where somebody flushed them.
async fn keep_firewall(engine: Docker, world: Arc<World>, stop: CancellationToken) {
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(FIREWALL_EVERY) => {} }
        match engine.ensure_firewall().await {
            // Not each time, where something of the host's keeps putting its own first.
            Ok(true) if told.is_none_or(|told| told.elapsed() > FIREWALL_TOLD) => {
                told = Some(Instant::now());
                world.found("the firewall's rules were not as skep had put them; they are again").await;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// Commands to try, as they stand.
fn welcome(
    settings: &Settings,
    routes: &Routes,
    [address, control]: [SocketAddr; 2],
    secret: &str,
    admin_key: &str,
) -> String {
    let table = routes.table();
    let mut serving: Vec<&ApiId> =
        table.iter().filter(|(_, route)| matches!(route.state, RouteState::Serving { .. })).map(|(id, _)| id).collect();
    serving.sort();
    let (heading, url) = (paint("skep serves", BOLD), format!("http://{address}"));
    let mut text = format!("\n{heading} {} APIs of {}\n\n", serving.len(), settings.apis.display());
    for (label, value) in [("gateway", url.as_str()), ("caller key", secret), ("admin key", admin_key)] {
        text.push_str(&format!("  {:<11} {}\n", label, paint(value, NAME)));
    }
    text.push_str("\nTry:\n\n");
    text.push_str(&format!("  curl {url}/health\n"));
    for id in serving.iter().take(1) {
        text.push_str(&format!("  curl -H 'Authorization: Bearer {secret}' {url}/run/{id}/openapi.json\n"));
    }
    text.push_str(&format!("  curl -X POST -H 'Authorization: Bearer {admin_key}' http://{control}/admin/apply\n\n"));
    text.push_str("Change a file below apis/ and call again. Ctrl-C stops skep; containers go on running.\n\n");
    text
}
