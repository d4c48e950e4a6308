//! An ear hears when somebody changes the host's packet filter: the kernel tells of each change of nftables, which is what `iptables`
//! changes today. So nobody has to run a program every other second to find out that nothing has changed.

use std::io;
use std::os::unix::net::UnixDatagram as Datagrams;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;

use super::program;
use crate::engine::docker::host;

/// The group that is told of changes of tables, chains and rules: `NFNLGRP_NFTABLES`, the seventh, of `linux/netfilter/nfnetlink.h`.
const CHANGES: u32 = 1 << 6;

/// Hears of changes of the packet filter.
#[derive(Debug)]
pub struct Ear(
    /// Of another family than it says, and read in the same way.
    UnixDatagram,
);

impl Ear {
    /// `None` where changes may go unheard: with an `iptables` of the older kind, of which the kernel tells nobody, and in a container,
    /// which hears its own.
    pub(super) async fn open() -> Option<Self> {
        if host::has_door() || !program::makes_nftables().await {
            return None;
        }
        let open = || -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
            bind(&socket, &SocketAddrNetlink::new(0, CHANGES))?;
            UnixDatagram::from_std(Datagrams::from(socket)).map(Self)
        };
        open().inspect_err(|error| tracing::debug!(%error, "changes of the firewall are not heard")).ok()
    }

    /// Waits for a change, and forgets all that has been told until now.
    ///
    /// # Errors
    /// Where nothing can be heard any more.
    pub async fn hears(&self) -> io::Result<()> {
        let mut told = [0; 4096];
        match self.0.recv(&mut told).await {
            Err(error) if !is_overflow(&error) => Err(error),
            _ => {
                while self.0.try_recv(&mut told).is_ok_and(|length| length > 0) {}
                Ok(())
            }
        }
    }
}

/// Whether more was told than there was room for, so that something has changed all the same.
fn is_overflow(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOBUFS)
}
