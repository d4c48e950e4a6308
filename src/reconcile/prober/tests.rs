//! The prober against real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::tree::{Probe, Seconds, Spec};

/// Far longer than anything here may take; only there so that a mistake ends a test.
const LIMIT: Duration = Duration::from_secs(20);

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD: &[u8] = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n";

fn container() -> ContainerId {
    "c0ffee".into()
}

fn api() -> ApiId {
    ApiId::new("hello").unwrap()
}

fn health(interval: u64) -> Health {
    let built_in = Spec::built_in("hello").health;
    Health { interval: Seconds::millis(interval), timeout: Seconds::millis(400), path: "/up?deep=1".into(), ..built_in }
}

/// What an app says to the n-th probe, counted from 0.
type Script = fn(usize) -> &'static [u8];

/// An app that answers by script.
struct App {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl App {
    async fn start(script: Script) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), move |n, mut stream| async move {
            let _ = stream.write_all(script(n)).await;
        })
    }

    /// An app that does `answer` with each connection once a whole request is in.
    fn on<F: Future<Output = ()> + Send>(
        listener: TcpListener,
        answer: impl Fn(usize, TcpStream) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (answer, count) = (answer.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let request = String::from_utf8(request).unwrap().to_lowercase();
                    assert!(request.starts_with("get /up?deep=1 http/1.1\r\n"), "{request}");
                    assert!(request.contains("host: localhost\r\n") && request.contains("user-agent: skep-probe/"));
                    answer(count.fetch_add(1, Ordering::SeqCst), stream).await;
                });
            }
        });
        Self { address, asked, _task: AbortOnDropHandle::new(task) }
    }

    async fn asked_more_than(&self, times: usize) {
        let more = async {
            while self.asked.load(Ordering::SeqCst) <= times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LIMIT, more).await.expect("more probes");
    }
}

/// Waits until the reading is as wished.
async fn until(prober: &Prober, wish: impl Fn(&Readiness) -> bool) -> Readiness {
    let wait = async {
        let mut reading = prober.readiness(&container());
        while !wish(&reading) {
            reading = prober.changed(&container(), Duration::from_millis(5)).await;
            // A reading that is ready comes back at once.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reading
    };
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("still {:?}", prober.readiness(&container())))
}

fn is_failing(reading: &Readiness) -> bool {
    matches!(reading, Readiness::Failing { .. })
}

/// The reason with which an app fails that does `answer`.
async fn reason<F: Future<Output = ()> + Send>(
    answer: impl Fn(usize, TcpStream) -> F + Clone + Send + Sync + 'static,
) -> String {
    let app = App::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer);
    let prober = Prober::new();
    prober.watch(container(), api(), app.address, &health(20));
    match until(&prober, is_failing).await {
        Readiness::Failing { last, .. } => last,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_app_that_comes_up_late_is_ready_soon_after_its_first_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let prober = Prober::new();
    let mut hints = prober.hints();
    prober.watch(container(), api(), address, &health(2000));
    let refused = until(&prober, is_failing).await;
    assert!(matches!(&refused, Readiness::Failing { last, .. } if last == "connection refused"), "{refused:?}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(prober.changed(&container(), Duration::from_millis(20)).await, refused, "no news at the limit");

    let listening = Instant::now();
    let _app = App::on(TcpListener::bind(address).await.unwrap(), |_, mut stream| async move {
        let _ = stream.write_all(GOOD).await;
    });
    assert_eq!(timeout(LIMIT, prober.changed(&container(), LIMIT)).await.unwrap(), Readiness::Ready);
    println!("ready {:?} after the app began to listen, having been waited for 500 ms", listening.elapsed());
    assert_eq!(timeout(LIMIT, hints.recv()).await.unwrap().unwrap(), api());
    assert_eq!(prober.changed(&container(), LIMIT).await, Readiness::Ready, "at once");
}

#[tokio::test]
async fn any_status_below_500_is_good() {
    for answer in
        [GOOD, b"HTTP/1.1 404 No\r\n\r\n", b"HTTP/1.0 307 There\r\nlocation: /\r\n\r\n", b"HTTP/1.1 401 \r\n\r\n"]
    {
        let app = App::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), move |_, mut stream| async move {
            let _ = stream.write_all(answer).await;
        });
        let prober = Prober::new();
        prober.watch(container(), api(), app.address, &health(20));
        assert_eq!(until(&prober, |reading| *reading != Readiness::Unknown).await, Readiness::Ready);
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let says = |bytes: &'static [u8]| {
        move |_, mut stream: TcpStream| async move {
            let _ = stream.write_all(bytes).await;
        }
    };
    assert_eq!(reason(says(BAD)).await, "HTTP 500");
    assert_eq!(reason(says(b"")).await, "connection closed before an answer");
    assert_eq!(reason(says(b"HTTP/1.1 200 OK\r\ncontent-le")).await, "connection closed before an answer");
    assert_eq!(reason(says(b"220 mail.example ESMTP\r\n")).await, "an answer that is not HTTP");
    let silent = |_, stream: TcpStream| async move {
        tokio::time::sleep(LIMIT).await;
        drop(stream);
    };
    assert_eq!(reason(silent).await, "no answer within 400ms");
}

#[tokio::test]
async fn a_hostile_app_is_bounded_in_time_and_memory() {
    let headers = |_, mut stream: TcpStream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream
            .write_all(&b"x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(50))
            .await
            .is_ok()
        {}
    };
    assert_eq!(reason(headers).await, "too many or too long headers");
    let one_header = |_, mut stream: TcpStream| async move {
        let _ = stream
            .write_all(
                b"HTTP/1.1 200 OK
x: ",
            )
            .await;
        while stream.write_all(&[b'a'; 4096]).await.is_ok() {}
    };
    assert_eq!(reason(one_header).await, "too many or too long headers");
    let drip = |_, mut stream: TcpStream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(reason(drip).await, "no answer within 400ms");

    // An endless body is a good answer; it is hung up on, and the next probe comes.
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let app = App::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), move |_, mut stream| {
        let count = Arc::clone(&count);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'a'; 4096]).await.is_ok() {
                count.fetch_add(4096, Ordering::SeqCst);
            }
        }
    });
    let prober = Prober::new();
    prober.watch(container(), api(), app.address, &health(20));
    until(&prober, |reading| *reading == Readiness::Ready).await;
    app.asked_more_than(3).await;
    println!(
        "{} KiB of endless bodies left the app in 4 probes, what the kernel buffers included",
        sent.load(Ordering::SeqCst) / 1024
    );
}

#[tokio::test]
async fn one_or_two_misses_are_no_outage_and_three_are() {
    // Good, twice bad, good, then bad for good.
    let app = App::start(|n| if n == 0 || n == 3 { GOOD } else { BAD }).await;
    let prober = Prober::new();
    let mut hints = prober.hints();
    prober.watch(container(), api(), app.address, &health(30));
    app.asked_more_than(3).await;
    let reading = until(&prober, is_failing).await;
    assert!(matches!(&reading, Readiness::Failing { last, .. } if last == "HTTP 500"), "{reading:?}");
    assert!(app.asked.load(Ordering::SeqCst) >= 7);
    for _ in ["ready", "no more"] {
        assert_eq!(timeout(LIMIT, hints.recv()).await.unwrap().unwrap(), api());
    }
    assert!(hints.try_recv().is_err());
}

#[tokio::test]
async fn a_tcp_probe_wants_a_connection_and_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let prober = Prober::new();
    let health = Health { probe: Probe::Tcp, ..health(20) };
    prober.watch(container(), api(), listener.local_addr().unwrap(), &health);
    until(&prober, |reading| *reading == Readiness::Ready).await;
    drop(listener);
    until(&prober, is_failing).await;
}

#[tokio::test]
async fn settings_may_change_under_a_reading_and_an_address_may_not() {
    let (good, bad) = (App::start(|_| GOOD).await, App::start(|_| BAD).await);
    let prober = Prober::new();
    prober.watch(container(), api(), good.address, &health(10_000));
    until(&prober, |reading| *reading == Readiness::Ready).await;
    prober.watch(container(), api(), good.address, &health(10_000));
    assert_eq!(good.asked.load(Ordering::SeqCst), 1, "the same again asks nothing");
    prober.watch(container(), api(), good.address, &health(20));
    assert_eq!(prober.readiness(&container()), Readiness::Ready);
    good.asked_more_than(2).await;
    prober.watch(container(), api(), bad.address, &health(20));
    assert_eq!(prober.readiness(&container()), Readiness::Unknown);
    until(&prober, is_failing).await;
}

#[tokio::test]
async fn what_is_forgotten_is_asked_no_more() {
    let app = App::start(|_| BAD).await;
    let prober = Prober::new();
    prober.watch(container(), api(), app.address, &health(20));
    until(&prober, is_failing).await;
    assert_eq!(prober.watched(), [container()]);
    prober.forget(&container());
    assert!(prober.watched().is_empty());
    assert_eq!(prober.readiness(&container()), Readiness::Unknown);
    assert_eq!(timeout(LIMIT, prober.changed(&container(), LIMIT)).await.unwrap(), Readiness::Unknown);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = app.asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(app.asked.load(Ordering::SeqCst), asked);
}

#[tokio::test]
async fn a_thousand_instances_are_asked_and_each_task_is_slim() {
    let app = App::start(|_| GOOD).await;
    let prober = Prober::new();
    let containers: Vec<ContainerId> = (0..1000).map(|n| n.to_string().into()).collect();
    let begun = Instant::now();
    for container in &containers {
        prober.watch(Arc::clone(container), api(), app.address, &health(60_000));
    }
    for container in &containers {
        while prober.readiness(container) != Readiness::Ready {
            assert!(begun.elapsed() < LIMIT);
            prober.changed(container, LIMIT).await;
        }
    }
    println!("1,000 instances were read in {:?}", begun.elapsed());
    let asker = Asker {
        api: api(),
        target: prober.table()[&containers[0]].target.clone(),
        interval: Duration::ZERO,
        reading: watch::Sender::new(Readiness::Unknown),
        hints: prober.hints.clone(),
        at_once: Arc::clone(&prober.at_once),
        has_warned: false,
    };
    let len = size_of_val(&asker.run());
    println!("the task of an instance at rest has {len} bytes");
    assert!(len < 1024, "{len}");
}
