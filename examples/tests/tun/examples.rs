//! The examples as programs: they do what they say, and refuse what they cannot do.

use crate::common::{self, KERNEL, STACK};
use crate::programs::{Inetd, example};
use netstack_examples::pattern::Pattern;
use netstack_examples::transfer::{self, Payload};
use netstack_examples::{kernel, services};
use netstack_tun::netns::{Namespace, isolated};
use netstack_tun::{Cidr, interface};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs an example to its end: its status, standard output and standard error.
pub(crate) fn run(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(example(name)).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn echo_compares_and_measures() {
    let (status, out, err) = run("echo", &["--size", "4", "--round-trips", "100"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("netstack  IPv4 ") && out.contains("kernel    IPv4 "), "{out}");
    assert!(out.ends_with("every byte came back as it was sent\n"), "{out}");
}

#[test]
fn tls_rides_in_the_syn() {
    let (status, out, err) = run("s08_tls_fast_open", &[]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with("every row as expected\n"), "{out}");
}

#[test]
fn echo_in_memory() {
    let (status, out, err) = run("echo", &["--memory", "--size", "4", "--round-trips", "100"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("in memory, as asked") && out.contains("netstack  IPv6 "), "{out}");
}

#[test]
fn nothing_is_lost_when_main_returns() {
    isolated("examples::nothing_is_lost_when_main_returns", || {
        let (status, out, err) = run("exit_drain", &[]);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
        assert_eq!(out.matches("every byte as written").count(), 2, "{out}");
    });
}

#[test]
fn the_queues_of_a_listener_and_a_proxy_keep_their_claims() {
    isolated("examples::the_queues_of_a_listener_and_a_proxy_keep_their_claims", || {
        let folder = std::env::temp_dir().join(format!("netstack-tour-{}", std::process::id()));
        for name in ["s13_queues", "proxy_accept"] {
            for arguments in [&["--quiet"][..], &["--quiet", "--memory"]] {
                let arguments = [arguments, &["--out", folder.to_str().unwrap()]].concat();
                let (status, out, err) = run(name, &arguments);
                assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
                assert!(out.contains(" claims held, 0 failed"), "{out}");
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    });
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    isolated("examples::bad_input_is_one_line_and_leaves_nothing", || {
        let inetd = Inetd::start(&[]);
        let directory = std::env::temp_dir();
        let capture = directory.join(format!("netstack-{}.pcapng", std::process::id()));
        let capture = capture.to_str().unwrap();
        let cases: &[(&[&str], &str)] = &[
            (&["--frob"], "unexpected argument '--frob'"),
            (&[], "required arguments were not provided: --tun <NAME> --address <CIDR>"),
            (&["--tun", "a", "--address", "10.1.0.300/24"], "10.1.0.300/24"),
            (&["--tun", "a", "--address", "10.1.0.2/24", "--impair", "delay=5"], "'delay': '5' is no time"),
            (&["--tun", "a", "--address", "10.1.0.2/24", "--config", "a=b"], "no setting `a`"),
            (&["--tun", "a", "--address", "10.1.0.2/24", "--port-base", "65535"], "not in 0..=65516"),
            (&["--tun", "a", "--address", "127.0.0.1/8"], "already in use by this machine's kernel"),
            (&["--tun", "a", "--address", "224.0.0.1/4"], "cannot be the address of a host"),
            (
                &["--tun", "a", "--address", "10.1.0.2/24", "--peer", "127.0.0.1/8"],
                "already in use on another interface",
            ),
            (
                &["--tun", "a", "--address", "10.1.0.2/24", "--address", "10.1.0.2/24"],
                "given to the stack twice",
            ),
            (
                &["--tun", "a", "--address", "10.1.0.2/24", "--pcap", "/no/such/file"],
                "cannot write the capture",
            ),
            (&["--tun", "tun0", "--address", "10.1.0.2/24", "--pcap", capture], "in use by another process"),
            (&["--tun", "lo", "--address", "10.1.0.2/24"], "not a TUN device"),
        ];
        for (arguments, expected) in cases {
            let (status, out, err) = run("inetd", arguments);
            assert!(status.is_some_and(|status| status != 0), "{arguments:?}: {status:?}");
            assert_eq!(out, "", "{arguments:?}");
            assert!(err.starts_with("error: ") && err.contains(expected), "{arguments:?}: {err}");
            assert!(err.ends_with('\n') && err.lines().count() == 1, "{arguments:?}: {err}");
            assert!(!interface::exists("a").unwrap(), "{arguments:?}");
        }
        assert!(!std::path::Path::new(capture).exists());
        inetd.stop();
        assert!(!interface::exists("tun0").unwrap());
    });
}

#[test]
fn a_capture_and_several_queues() {
    isolated("examples::a_capture_and_several_queues", || {
        let capture = std::env::temp_dir().join(format!("netstack-{}.pcapng", std::process::id()));
        let inetd =
            Inetd::start(&["--queues", "2", "--port-base", "1000", "--pcap", capture.to_str().unwrap()]);
        common::runtime().block_on(async {
            for _ in 0..4 {
                let (stream, _) =
                    kernel::connect(common::at(common::Family::V4.stack(), 1007)).await.unwrap();
                transfer::echo(
                    stream.into_split().into(),
                    Payload { pattern: Pattern::new(9), len: 100_000 },
                )
                .await
                .unwrap();
            }
        });
        inetd.stop();
        let bytes = std::fs::read(&capture).unwrap();
        std::fs::remove_file(&capture).unwrap();
        // A section header block (draft-ietf-opsawg-pcapng §4.1), and all that was carried.
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert!(bytes.len() > 2 * 4 * 100_000, "{}", bytes.len());
    });
}

/// Two hosts, both of the kernel, 40 ms apart.
#[test]
fn wire_joins_two_kernels() {
    isolated("examples::wire_joins_two_kernels", || {
        let (left, right) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        // The descriptors by which another process of ours can find the namespaces.
        let path = |namespace: &Namespace| {
            use std::os::fd::{AsFd, AsRawFd};
            format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
        };
        let mut wire = Command::new(example("wire"))
            .args(["--left", "left", "--left-netns", &path(&left)])
            .args(["--right", "right", "--right-netns", &path(&right)])
            .args(["--impair", "delay=20ms"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(wire.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("joined left and right"), "{line}");
        for (namespace, name, address) in [(&left, "left", KERNEL[0]), (&right, "right", STACK[0])] {
            let cidr: Cidr = format!("{address}/24").parse().unwrap();
            namespace
                .run(|| interface::up(name).and_then(|()| interface::add_address(name, cidr)))
                .unwrap()
                .unwrap();
        }
        let address = common::at(STACK[0].parse().unwrap(), 7);
        std::thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let right = &right;
            scope.spawn(move || {
                right.run(|| {
                    common::runtime().block_on(async {
                        let listener = kernel::listen(address).unwrap();
                        ready.send(()).unwrap();
                        let (stream, _) = listener.accept().await.unwrap();
                        services::echo(stream).await.unwrap();
                    });
                })
            });
            is_ready.recv().unwrap();
            let took = left.run(|| {
                common::runtime().block_on(async {
                    let start = Instant::now();
                    let (stream, _) = kernel::connect(address).await.unwrap();
                    let handshake = start.elapsed();
                    transfer::echo(
                        stream.into_split().into(),
                        Payload { pattern: Pattern::new(2), len: 100_000 },
                    )
                    .await
                    .unwrap();
                    handshake
                })
            });
            let took = took.unwrap();
            assert!(took >= Duration::from_millis(40), "a round trip of {took:?}");
        });
        wire.kill().unwrap();
        wire.wait().unwrap();
    });
}
