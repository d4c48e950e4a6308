//! Where only a proxy leads out: what others are told goes by it, and its password is for nobody else.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::apps::saying;
use crate::ear::{Ear, SECRET, hook};
use crate::forge::read_head;
use crate::pull::ADMIN_KEY;
use crate::world::World;

/// `user:p@ss`, as it goes to the proxy.
const LOGIN: &str = "Proxy-Authorization: Basic dXNlcjpwQHNz";

/// A proxy that connects to one port, whatever it is asked for, whoever shows that login.
fn proxy(to: u16, asked: &Arc<Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::clone(asked);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let asked = Arc::clone(&asked);
            std::thread::spawn(move || splice(socket, to, &asked));
        }
    });
    port
}

fn splice(mut socket: TcpStream, to: u16, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let Some(lines) = read_head(&mut reader) else { return };
    let is_known = lines.iter().any(|line| line.eq_ignore_ascii_case(LOGIN));
    asked.lock().unwrap().push(format!("{} {is_known}", lines[0]));
    if !is_known {
        write!(socket, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").unwrap();
        return;
    }
    let mut behind = TcpStream::connect(("127.0.0.1", to)).unwrap();
    socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (mut there, mut back) = (behind.try_clone().unwrap(), socket.try_clone().unwrap());
    let one = std::thread::spawn(move || {
        std::io::copy(&mut reader, &mut there).map(|_| there.shutdown(std::net::Shutdown::Write))
    });
    let _ = std::io::copy(&mut behind, &mut back);
    let _ = back.shutdown(std::net::Shutdown::Both);
    let _ = one.join();
}

/// TLS in front of a port, as `hooks.test`, by an authority of its own in `ca.crt` of a folder.
fn tls(folder: &std::path::Path, to: u16) -> u16 {
    let script = "set -e; cd \"$1\"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
            -keyout ca.key -out ca.crt -addext basicConstraints=critical,CA:true
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=hooks.test -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:hooks.test\\nbasicConstraints=CA:false\\n' >ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt";
    let made = Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        crate::engine::block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut socket = acceptor.accept(socket).await.unwrap();
                    let mut behind = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut behind).await;
                });
            }
        });
    });
    port
}

#[test]
fn people_are_told_by_the_proxy_that_the_environment_names() {
    let world = World::new();
    let ear = Ear::open(hook);
    let folder = world.aside().join("tls");
    std::fs::create_dir_all(&folder).unwrap();
    let asked = Arc::default();
    let port = proxy(tls(&folder, ear.port), &asked);
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    let notified = "notifications: [{ name: bot, url: 'https://hooks.test/hook', secret: { env: HOOK_SECRET } }]\n";
    world.write("skep.yaml", &format!("{settings}{notified}"));
    let (authority, by) = (folder.join("ca.crt"), |login: &str| format!("http://{login}127.0.0.1:{port}"));
    let serve = |proxy: &str| {
        let authority = authority.to_str().unwrap();
        world.serve_with(&[
            ("ADMIN_API_KEY", ADMIN_KEY),
            ("HOOK_SECRET", SECRET),
            ("https_proxy", proxy),
            // Nobody is told by that one, and no app of ours is asked by it.
            ("http_proxy", "http://127.0.0.1:1"),
            ("SSL_CERT_FILE", authority),
        ]);
    };
    // Without a login it does not let us out, and that is said.
    world.code("hello", &saying("one"));
    serve(&by(""));
    world.until("it is said that the proxy wants a login", || {
        world.log().contains("wants a login (407); write it into https_proxy")
    });
    assert!(ear.heard().is_empty());
    world.interrupt();

    serve(&by("user:p%40ss@"));
    world.until("people are told", || ear.taken().iter().any(|heard| heard.body["type"] == "deployed"));
    ear.expect_no_faults();
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.last().map(String::as_str), Some("CONNECT hooks.test:443 HTTP/1.1 true"), "{asked:?}");
    let told = world.log() + &world.run(&["events", "-n", "100"]).expect(0).out;
    for secret in ["p%40ss", "p@ss", "dXNlcjpwQHNz"] {
        assert!(!told.contains(secret), "{secret} is in:\n{told}");
    }
}
