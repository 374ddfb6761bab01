//! Congestion control by name: registered with a stack, chosen by its configuration or by a socket.

use crate::common::{connect, connected, stack};
use netstack::config::CongestionName;
use netstack::tcp::{AckSample, CongestionControl, CongestionStart};
use netstack::time::Instant;
use netstack::{Config, Stack};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A window that stays as it was when the algorithm was chosen, and counts acknowledgments.
#[derive(Debug)]
struct Frozen {
    cwnd: usize,
    acks: Arc<AtomicUsize>,
}

impl CongestionControl for Frozen {
    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.cwnd
    }

    fn set_cwnd(&mut self, _bytes: usize) {}

    fn on_ack(&mut self, ack: &AckSample) {
        assert!(ack.delivered > 0);
        self.acks.fetch_add(1, Ordering::Relaxed);
    }

    fn on_congestion(&mut self, _now: Instant) {}

    fn on_timeout(&mut self, _now: Instant, _first: bool) {}

    fn on_mss_change(&mut self, _mss: usize) {}
}

/// A factory of [`Frozen`], and the count of all acknowledgments.
fn frozen() -> (impl Fn(&CongestionStart) -> Box<dyn CongestionControl> + Send + Sync, Arc<AtomicUsize>) {
    let acks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&acks);
    let factory = move |start: &CongestionStart| -> Box<dyn CongestionControl> {
        Box::new(Frozen { cwnd: start.cwnd, acks: Arc::clone(&count) })
    };
    (factory, acks)
}

fn named(name: &str) -> Config {
    Config::default().with(|config| config.congestion = name.parse().unwrap())
}

#[tokio::test]
async fn a_name_that_is_taken_or_none_is_refused_when_the_stack_is_built() {
    for (names, reason) in [
        (&["bbr"][..], "already a congestion control `bbr`"),
        (&["mine", "mine"], "already a congestion control `mine`"),
        (&["", "mine"], "1 to 15 printable"),
        (&["sixteen_letters_"], "1 to 15 printable"),
        (&["my own"], "1 to 15 printable"),
    ] {
        let builder =
            names.iter().fold(Stack::builder(), |all, name| all.congestion_control(name, frozen().0));
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{names:?}");
        assert!(error.to_string().contains(reason), "{names:?}: {error}");
    }
}

#[tokio::test]
async fn a_configuration_that_names_none_is_refused_with_those_that_there_are() {
    let error = Stack::builder().config(named("vegas")).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let expected = "there is no congestion control `vegas`; there are `cubic`, `reno`, `bbr`";
    assert_eq!(error.to_string(), expected);
    // The order of the builder's calls does not matter.
    let builder = Stack::builder().config(named("mine")).congestion_control("mine", frozen().0);
    assert_eq!(builder.build().unwrap().tcp_socket_v4().unwrap().tcp_congestion().unwrap(), b"mine");
}

#[tokio::test]
async fn a_socket_refuses_a_name_that_its_stack_does_not_know() {
    let other = Stack::builder().congestion_control("mine", frozen().0).build().unwrap();
    other.tcp_socket_v4().unwrap().set_tcp_congestion(b"mine").unwrap();
    let stack = stack();
    let socket = stack.tcp_socket_v4().unwrap();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let (client, _server) = connect(&stack).await;
    for name in [&b"mine"[..], b"Cubic", b"\0", b"\xff\xfe"] {
        let errors = [
            socket.set_tcp_congestion(name),
            listener.set_tcp_congestion(name),
            client.set_tcp_congestion(name),
        ];
        for error in errors.map(Result::unwrap_err) {
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(libc::ENOENT)));
        }
    }
    assert_eq!(client.set_tcp_congestion(b"").unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(client.tcp_congestion().unwrap(), b"cubic", "it stays as it was");
    client.set_tcp_congestion(b"reno\0").unwrap();
    assert_eq!(client.tcp_congestion().unwrap(), b"reno");
}

#[tokio::test]
async fn a_registered_algorithm_controls_the_window() {
    let (factory, acks) = frozen();
    let stack =
        Stack::builder().congestion_control("frozen", factory).config(named("frozen")).build().unwrap();
    let (mut client, mut server) = connect(&stack).await;
    assert_eq!(client.tcp_congestion().unwrap(), b"frozen");
    let cwnd = client.tcp_info().unwrap().snd_cwnd;
    let sent = vec![7; 1 << 20];
    let mut received = vec![0; sent.len()];
    let (write, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut received));
    write.unwrap();
    read.unwrap();
    assert!(received == sent);
    assert_eq!(client.tcp_info().unwrap().snd_cwnd, cwnd, "ten segments, of the 64 KiB of loopback");
    assert!(acks.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn an_accepted_connection_inherits_the_choice_of_its_listener() {
    let stack = Stack::builder().congestion_control("frozen", frozen().0).build().unwrap();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    for name in ["reno", "frozen", "bbr"] {
        listener.set_tcp_congestion(name.as_bytes()).unwrap();
        let (client, server) = crate::common::join(&stack, &listener).await;
        assert_eq!(server.tcp_congestion().unwrap(), name.as_bytes());
        assert_eq!(client.tcp_congestion().unwrap(), b"cubic");
    }
}

#[tokio::test]
async fn a_running_connection_keeps_its_window_when_the_algorithm_changes() {
    let (_stack, mut client, mut server) = connected().await;
    let names = CongestionName::BUILT_IN;
    for name in names.iter().cycle().skip(1).take(2 * names.len()) {
        let mut buf = [0; 10_000];
        client.write_all(&buf).await.unwrap();
        server.read_exact(&mut buf).await.unwrap();
        let before = client.tcp_info().unwrap();
        client.set_tcp_congestion(name.as_str().as_bytes()).unwrap();
        let after = client.tcp_info().unwrap();
        assert_eq!(after.snd_cwnd, before.snd_cwnd, "{name}");
        // BBR has no threshold, and what follows it knows none.
        if *name != CongestionName::BBR {
            assert_eq!(after.snd_ssthresh, before.snd_ssthresh, "{name}");
        }
    }
}
