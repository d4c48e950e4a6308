//! Looks at the host itself: disks, routes, certificates, records, port, limits.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::doctor::facts::{Bundle, Port, Space, State};
use crate::doctor::{Blank, Found, certificates};
use crate::records::sqlite::examine;
use crate::settings::CaBundle;

/// Where Debian's hosts, and those like them, have the certificates that they trust.
const HOST_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The file system that a folder is on, or, where it is not there yet, the nearest one above it.
pub(super) fn space(path: &Path) -> Found<Space> {
    let failed = |error: io::Error| Blank::Failed(format!("{}: {error}", path.display()));
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let device = fs::metadata(there).map_err(failed)?.dev();
    let stat = rustix::fs::statvfs(there).map_err(|errno| failed(errno.into()))?;
    Ok(Space {
        path: path.to_owned(),
        device,
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_inodes: stat.f_favail,
        inodes: stat.f_files,
        is_read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

/// The networks that this host has routes to, the default route aside; empty where the system does not say.
pub(super) fn routes() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    table.lines().skip(1).filter_map(route).collect()
}

/// One line of that table: interface, destination, gateway, flags, count, use, metric, mask; numbers in hexadecimal, the
/// last byte of an address first.
fn route(line: &str) -> Option<String> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let (destination, mask) = (number(columns.get(1)?)?, number(columns.get(7)?)?);
    (mask != 0).then(|| format!("{}/{}", Ipv4Addr::from_bits(destination), mask.leading_ones()))
}

/// The certificates that the settings send into builds.
pub(super) fn bundle(setting: &CaBundle) -> Bundle {
    match setting {
        CaBundle::Image => Bundle::Image,
        CaBundle::Auto => match fs::read(HOST_BUNDLE) {
            Ok(bytes) => Bundle::Host { path: HOST_BUNDLE.into(), count: certificates::count(&bytes) },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bundle::NoHost,
            Err(error) => Bundle::Unreadable { path: HOST_BUNDLE.into(), cause: error.to_string() },
        },
        CaBundle::File(path) => match fs::read(path) {
            Ok(bytes) => Bundle::File { path: path.clone(), certificates: certificates::read(&bytes) },
            Err(error) => Bundle::Unreadable { path: path.clone(), cause: error.to_string() },
        },
    }
}

/// The state folder, and the records in it.
///
/// # Errors
/// Where either is there and cannot be read.
pub(super) fn state(folder: &Path) -> Result<State, String> {
    let records = folder.join("records.db");
    let is_there = |path: &Path| path.try_exists().map_err(|error| format!("{}: {error}", path.display()));
    if !is_there(folder)? {
        return Ok(State::None(folder.to_owned()));
    }
    if !is_there(&records)? {
        return Ok(State::WithoutRecords(folder.to_owned()));
    }
    let condition = examine::examine(&records).map_err(|error| error.to_string())?;
    Ok(State::Records(records, condition))
}

/// Whether the gateway could listen there. `held` is where our own daemon does.
pub(super) fn port(wanted: SocketAddr, held: Option<SocketAddr>) -> Port {
    if held.is_some_and(|held| held.port() == wanted.port()) {
        return Port::Ours(wanted);
    }
    match TcpListener::bind(wanted) {
        Ok(_) => Port::Free(wanted),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Port::Taken(wanted),
        Err(error) => Port::Refused(wanted, error.to_string()),
    }
}

/// How many files and sockets a process may open: at first, and at most.
pub(super) fn open_files() -> (Option<u64>, Option<u64>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current, limit.maximum)
}

/// Whether a program is where this process, or an administrator, would find it.
pub(super) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    folders.into_iter().any(|folder| folder.join(name).is_file())
}

/// Whether the environment names a proxy for what goes out.
pub(super) fn has_proxy() -> bool {
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let line = "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";
        assert_eq!(route(line).as_deref(), Some("172.17.0.0/16"));
        let default = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(route(default), None);
        assert_eq!(route("cut off"), None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_the_disk_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let (above, below) = (space(folder.path()).unwrap(), space(&folder.path().join("a/b")).unwrap());
        assert_eq!(above.device, below.device);
        assert!(above.size > 0 && above.free <= above.size, "{above:?}");
        assert_eq!(below.path, folder.path().join("a/b"));
    }

    #[test]
    fn a_port_is_free_taken_or_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port(address, None), Port::Taken(address));
        assert_eq!(port(address, Some(address)), Port::Ours(address));
        drop(listener);
        assert_eq!(port(address, None), Port::Free(address));
        // An address that is kept for documentation (RFC 5737), and so is no host's.
        assert!(matches!(port("192.0.2.1:8663".parse().unwrap(), None), Port::Refused(..)));
    }

    #[test]
    fn a_state_folder_is_looked_at_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(state(&path), Ok(State::None(path.clone())));
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        assert_eq!(state(&path), Ok(State::WithoutRecords(path.clone())));
        fs::write(path.join("records.db"), "no database at all, and long enough to be looked at".repeat(30)).unwrap();
        assert!(state(&path).is_err());
    }
}
