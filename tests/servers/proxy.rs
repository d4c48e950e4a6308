//! A way to a Postgres that is slow, falls silent, or breaks off: at a certain question, before it or before its answer.

#![allow(dead_code, reason = "each binary of tests uses what it needs")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The version that a client which wants no TLS says first (PostgreSQL, "Message Formats": `StartupMessage`).
const VERSION: u32 = 196_608;

/// Where the way breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server does not get the question.
    Before,
    /// The server has done what it was told, and the client does not hear of it.
    After,
}

/// A way to a server. Ends when it is dropped, with all connections over it.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: AtomicU16,
    /// How long each answer takes longer, in milliseconds.
    delay: AtomicU64,
    is_silent: AtomicBool,
    is_over: AtomicBool,
    /// How many questions there were.
    asked: AtomicU64,
    /// The question at which the way breaks off once.
    cut: Mutex<Option<(u64, Cut)>>,
    ways: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A way to that port of this host.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State { target: target.into(), ..State::default() });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let target = accepting.target.load(Ordering::SeqCst);
                // A server that is away refuses; so does the way to it.
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let _ = accepting.carry(client, server);
            }
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads elsewhere from now on; what is under way breaks off.
    pub fn lead_to(&self, target: u16) {
        self.state.target.store(target, Ordering::SeqCst);
        self.break_off();
    }

    /// Each answer takes so much longer from now on.
    pub fn delay(&self, by: Duration) {
        self.state.delay.store(by.as_millis().try_into().unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Carries nothing from now on, or goes on.
    pub fn silence(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Breaks off all that is under way.
    pub fn break_off(&self) {
        for way in self.state.ways.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = way.shutdown(Shutdown::Both);
        }
    }

    /// Counts questions from nought, and breaks off at one of them, once.
    pub fn count_until(&self, cut: Option<(u64, Cut)>) {
        *self.state.cut.lock().unwrap_or_else(PoisonError::into_inner) = cut;
        self.state.asked.store(0, Ordering::SeqCst);
    }

    /// How many questions there were.
    pub fn asked(&self) -> u64 {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.silence(false);
        self.break_off();
        // Wakes whoever accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn carry(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            self.ways.lock().unwrap_or_else(PoisonError::into_inner).push(end.try_clone()?);
        }
        let is_unheard = Arc::new(AtomicBool::new(false));
        let (state, unheard) = (Arc::clone(self), Arc::clone(&is_unheard));
        let (from, to) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || {
            let _ = state.carry_questions(&from, &to, &unheard);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
        let state = Arc::clone(self);
        std::thread::spawn(move || {
            let _ = state.carry_answers(&server, &client, &is_unheard);
            let _ = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
        });
        Ok(())
    }

    fn carry_questions(&self, mut client: &TcpStream, mut server: &TcpStream, unheard: &AtomicBool) -> io::Result<()> {
        let mut has_begun = false;
        loop {
            let mut message = Vec::new();
            if has_begun {
                message.resize(1, 0);
                client.read_exact(&mut message)?;
            }
            let mut length = [0; 4];
            client.read_exact(&mut length)?;
            message.extend(length);
            let (head, rest) = (message.len(), u32::from_be_bytes(length) as usize - 4);
            message.resize(head + rest, 0);
            client.read_exact(&mut message[head..])?;
            self.wait(Duration::ZERO);
            // A simple query, and the end of one that is not: what the server answers with being ready for the next.
            if has_begun && matches!(message[0], b'Q' | b'S') {
                let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((_, how)) = cut.take_if(|(at, _)| *at == number) {
                    if how == Cut::Before {
                        return Ok(());
                    }
                    unheard.store(true, Ordering::SeqCst);
                }
            }
            has_begun |= rest >= 4 && message[head..head + 4] == VERSION.to_be_bytes();
            server.write_all(&message)?;
        }
    }

    fn carry_answers(&self, mut server: &TcpStream, mut client: &TcpStream, unheard: &AtomicBool) -> io::Result<()> {
        let (mut buffer, mut end) = ([0; 16 * 1024], Vec::<u8>::new());
        loop {
            let count = server.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            if unheard.load(Ordering::SeqCst) {
                end.extend(&buffer[..count]);
                // `ReadyForQuery`: its length, and how the transaction is. Then it is done.
                if end.len() >= 6 && end[end.len() - 6..end.len() - 1] == [b'Z', 0, 0, 0, 5] {
                    return Ok(());
                }
                continue;
            }
            self.wait(Duration::from_millis(self.delay.load(Ordering::SeqCst)));
            client.write_all(&buffer[..count])?;
        }
    }

    /// Waits so long, and while nothing is to be carried.
    fn wait(&self, pause: Duration) {
        std::thread::sleep(pause);
        while self.is_silent.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
