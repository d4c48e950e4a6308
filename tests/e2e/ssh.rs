//! An SSH server as it stands on every host, for git to go through.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::world::World;

/// A real SSH server, whose one key is good for one command.
pub struct Ssh {
    server: Child,
    pub folder: PathBuf,
    pub port: u16,
    pub user: String,
}

impl Ssh {
    pub fn start(world: &World, command: &str) -> Self {
        let folder = world.aside().join("ssh");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["host", "key"] {
            let file = folder.join(name);
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).status();
            assert!(made.unwrap().success());
        }
        let public = std::fs::read_to_string(folder.join("key.pub")).unwrap();
        let line = format!("restrict,command=\"{command}\" {public}");
        std::fs::write(folder.join("authorized_keys"), line).unwrap();
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            folder.display()
        );
        std::fs::write(folder.join("sshd_config"), settings).unwrap();
        // Where it puts those whom it does not trust yet; the distribution makes it when the service starts.
        let _ = std::fs::create_dir_all("/run/sshd");
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let config = folder.join("sshd_config");
        let server = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f"]).arg(config).stderr(log).spawn().unwrap();
        world.until("the SSH server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { server, folder, port, user }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
