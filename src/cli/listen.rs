//! Where a daemon listens: for callers, and for whoever controls it, at one address or at two.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::hand_over::Predecessor;
use crate::admin::Surface;
use crate::gateway::{Gateway, Handler, Keys, Leaving, Limits, Routes, Tls};
use crate::settings::{GatewaySettings, Settings, TlsFiles};

/// For how long an address may be taken. A daemon that was killed while it began another program, as to look at the firewall,
/// leaves its sockets with that one for a moment.
const TAKEN: Duration = Duration::from_secs(1);

/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// The sockets of a daemon, open before anything else is done.
pub(super) struct Listeners {
    callers: TcpListener,
    /// Where the control surface has an address of its own.
    control: Option<TcpListener>,
    /// Where callers come.
    pub address: SocketAddr,
    /// Where the control surface answers.
    pub control_address: SocketAddr,
}

impl Listeners {
    /// Takes those of the daemon `before` at the same addresses, else those that the service manager has opened, and opens
    /// what is left.
    ///
    /// # Errors
    /// Where an address is taken, or is none of this host's.
    pub(super) async fn open(settings: &Settings, mut before: Option<&mut Predecessor>) -> anyhow::Result<Self> {
        let mut passed = Passed(ListenFd::from_env());
        let mut get = async |place, address, variable| {
            if let Some(listener) = before.as_mut().and_then(|before| before.listener(address)) {
                return at_work(listener);
            }
            match passed.take(place)? {
                Some(listener) => at_work(listener),
                None => bind(address, variable).await,
            }
        };
        let callers = get(0, settings.listen, "SKEP_LISTEN").await?;
        let control = match settings.admin_listen {
            Some(address) => Some(get(1, address, "SKEP_ADMIN_LISTEN").await?),
            None => None,
        };
        if control.is_none() && passed.0.len() > 1 {
            bail!(
                "the service manager passes a second socket, which is for the control surface; set SKEP_ADMIN_LISTEN to \
                 its address too"
            );
        }
        let address = callers.local_addr()?;
        let control_address = control.as_ref().map_or(Ok(address), TcpListener::local_addr)?;
        Ok(Self { callers, control, address, control_address })
    }

    /// Copies of them, for a daemon that takes this one's place.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub(super) fn copies(&self) -> std::io::Result<Vec<std::net::TcpListener>> {
        let copy = |listener: &TcpListener| socket2::SockRef::from(listener).try_clone().map(Into::into);
        [Some(&self.callers), self.control.as_ref()].into_iter().flatten().map(copy).collect()
    }

    /// Puts behind each what answers there: `gateway` to callers, and `surface` to whoever controls.
    ///
    /// # Errors
    /// Where the certificate cannot be used.
    pub(super) fn open_to(
        self,
        settings: &Settings,
        gateway: Gateway,
        surface: Arc<Surface>,
        leaving: Leaving,
    ) -> anyhow::Result<Doors> {
        let gateway = gateway.until(leaving.clone());
        let Some(control) = self.control else {
            let (gateway, surface) = (Arc::new(gateway), Arc::new(surface));
            return Ok(Doors { callers: (gateway, self.callers, surface), control: None });
        };
        // It knows no API: the address is for whoever controls, and perhaps in reach of nobody else.
        let own = gateway_of(settings, Arc::default(), Arc::default())?.until(leaving);
        let front = Arc::new(Arc::clone(&surface).front());
        Ok(Doors {
            callers: (Arc::new(gateway), self.callers, front),
            control: Some((Arc::new(own), control, Arc::new(surface))),
        })
    }
}

/// A socket, what speaks HTTP there, and what answers all that is not for an API.
type Door = (Arc<Gateway>, TcpListener, Arc<dyn Handler>);

/// Where a daemon answers.
pub(super) struct Doors {
    callers: Door,
    control: Option<Door>,
}

impl Doors {
    /// Serves until `stop`, and then what has begun.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let serve = |(gateway, listener, other): Door| gateway.serve(listener, other, stop.clone());
        match self.control {
            Some(control) => {
                tokio::join!(serve(self.callers), serve(control));
            }
            None => serve(self.callers).await,
        }
    }
}

/// The sockets that the service manager has opened: systemd's protocol, `sd_listen_fds`(3).
struct Passed(ListenFd);

impl Passed {
    fn take(&mut self, place: usize) -> anyhow::Result<Option<std::net::TcpListener>> {
        if self.0.len() <= place {
            return Ok(None);
        }
        let listener = self.0.take_tcp_listener(place);
        let listener = listener.with_context(|| format!("socket {place} of the service manager is not for TCP"))?;
        if let Some(listener) = &listener {
            // It is not for programs that skep starts, which may outlive it.
            fcntl_setfd(listener, FdFlags::CLOEXEC)?;
        }
        Ok(listener)
    }
}

/// A socket that somebody else has opened, as ours.
fn at_work(listener: std::net::TcpListener) -> anyhow::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    let deadline = Instant::now() + TAKEN;
    let listener = loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            listener => break listener,
        }
    };
    listener.with_context(|| format!("cannot listen on {address}; set {variable} to another address"))
}

/// A gateway, as the settings have it.
pub(super) fn gateway_of(settings: &Settings, routes: Arc<Routes>, keys: Arc<Keys>) -> anyhow::Result<Gateway> {
    let GatewaySettings { tls, connections, connections_per_address } = &settings.gateway;
    let (connections, connections_per_address) = (*connections as usize, *connections_per_address as usize);
    let gateway = Gateway::new(routes, keys, Limits { connections, connections_per_address, ..Limits::default() });
    Ok(match tls {
        Some(TlsFiles { certificate, key }) => {
            gateway.with_tls(Tls::load(certificate, key).context("cannot speak TLS; see gateway.tls")?)
        }
        None => gateway,
    })
}
