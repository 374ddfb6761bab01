//! Namespaces, interfaces in them, and what happens where they are not permitted.

use netstack_tun::netns::{self, Isolated, Namespace, isolated, isolated_within};
use netstack_tun::{Tun, TunConfig, interface};
use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

/// Set for the cases below, which fail, when a test runs one; not under `--include-ignored`.
const CASE: &str = "NETSTACK_TUN_TEST_CASE";

#[test]
fn a_private_namespace_has_lo_and_nothing_else() {
    isolated("a_private_namespace_has_lo_and_nothing_else", || {
        let lo = interface::get("lo").unwrap();
        assert!(lo.up);
        let listener = TcpListener::bind("127.0.0.1:7").expect("we are root here");
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!interface::exists("eth0").unwrap());
        netns::sysctl("net.ipv4.ip_forward", "1").unwrap();
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
        let err = netns::sysctl("net.no.such", "1").unwrap_err();
        assert!(err.to_string().contains("net.no.such"), "{err}");
    });
}

#[test]
fn two_hosts_on_a_cable_with_a_route() {
    isolated("two_hosts_on_a_cable_with_a_route", || {
        let other = Namespace::new().unwrap();
        interface::veth_pair("here", "there").unwrap();
        assert_eq!(interface::get("here").unwrap().kind.as_deref(), Some("veth"));
        interface::move_to("there", &other).unwrap();
        assert!(!interface::exists("there").unwrap());
        interface::up("here").unwrap();
        interface::add_address("here", "10.1.0.1/24".parse().unwrap()).unwrap();
        interface::add_address("here", "fd01::1/64".parse().unwrap()).unwrap();
        let listeners = other.run(|| {
            interface::up("there").unwrap();
            interface::set_mtu("there", 1400).unwrap();
            interface::set_tx_queue_len("there", 321).unwrap();
            let seen = interface::get("there").unwrap();
            assert_eq!((seen.mtu, seen.tx_queue_len, seen.up), (1400, 321, true));
            for (name, cidr) in [
                ("there", "10.1.0.2/24"),
                ("there", "fd01::2/64"),
                ("lo", "10.2.0.1/32"),
                ("lo", "fd02::1/128"),
            ] {
                interface::add_address(name, cidr.parse().unwrap()).unwrap();
            }
            ["10.1.0.2", "fd01::2", "10.2.0.1", "fd02::1"]
                .map(|address| TcpListener::bind((address, 0)).unwrap())
        });
        interface::add_route("10.2.0.9/24".parse().unwrap(), Some("10.1.0.2".parse().unwrap()), "here")
            .unwrap();
        interface::add_route("fd02::9/64".parse().unwrap(), Some("fd01::2".parse().unwrap()), "here")
            .unwrap();
        interface::add_route("10.3.0.0/24".parse().unwrap(), None, "here").unwrap();
        for listener in listeners.unwrap() {
            let to = listener.local_addr().unwrap();
            let echo = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            });
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            echo.join().unwrap();
        }
        interface::delete("here").unwrap();
        assert!(!other.run(|| interface::exists("there")).unwrap().unwrap(), "both ends are gone");
    });
}

#[test]
fn a_device_belongs_to_the_namespace_of_the_thread_that_opens_it() {
    isolated("a_device_belongs_to_the_namespace_of_the_thread_that_opens_it", || {
        let other = Namespace::new().unwrap();
        let config = TunConfig::new("tun0").address("10.9.0.1/24").unwrap();
        let tun = other.run(|| Tun::open(&config)).unwrap().unwrap();
        assert!(!interface::exists("tun0").unwrap());
        assert!(other.run(|| interface::exists("tun0")).unwrap().unwrap());
        drop(tun);
        assert!(!other.run(|| interface::exists("tun0")).unwrap().unwrap());
    });
}

#[test]
fn errors_of_interfaces_name_them_and_have_kinds() {
    isolated("errors_of_interfaces_name_them_and_have_kinds", || {
        let cidr = "10.1.0.1/24".parse().unwrap();
        interface::add_address("lo", cidr).unwrap();
        let cases = [
            (interface::up("none"), io::ErrorKind::NotFound),
            (interface::up("a/b"), io::ErrorKind::InvalidInput),
            (interface::add_address("lo", cidr), io::ErrorKind::AlreadyExists),
            (interface::veth_pair("lo", "x"), io::ErrorKind::AlreadyExists),
            (interface::add_route(cidr, Some("::1".parse().unwrap()), "lo"), io::ErrorKind::InvalidInput),
        ];
        for (result, kind) in cases {
            let err = result.unwrap_err();
            assert_eq!(err.kind(), kind, "{err}");
            assert!(!err.to_string().contains('\n'));
        }
        interface::remove_address("lo", cidr).unwrap();
        assert!(UdpSocket::bind("10.1.0.1:0").is_err());
        interface::down("lo").unwrap();
        assert!(!interface::get("lo").unwrap().up);
    });
}

/// A copy of this program where every user may run it: a checkout may lie in a folder that only its
/// owner can enter. Removed with the value.
struct Copy(PathBuf);

impl Copy {
    fn make(case: &str) -> Self {
        let folder = env::temp_dir().join(format!("netstack-{case}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env::current_exe().unwrap(), folder.join("program")).unwrap();
        Self(folder)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Nothing can be done about a temporary file that remains.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the ignored test `case` of this program.
fn run_case(case: &str, prepare: impl FnOnce(&mut Command)) -> Output {
    let copy = Copy::make(case);
    let mut command = Command::new(copy.0.join("program"));
    command.current_dir("/");
    command.args(["--exact", case, "--include-ignored", "--nocapture"]).env(CASE, "1");
    command.env_remove("NETSTACK_ISOLATED").env_remove("NETSTACK_REQUIRE_NETNS");
    prepare(&mut command);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

#[test]
#[ignore = "run by what_a_failing_test_prints_is_passed_on"]
fn case_failing() {
    if env::var_os(CASE).is_none() {
        return;
    }
    isolated("case_failing", || panic!("the reason of the failure"));
}

#[test]
fn what_a_failing_test_prints_is_passed_on() {
    if netns::available().is_ok() {
        let output = run_case("case_failing", |_| ());
        let text = text(&output);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("the reason of the failure"), "{text}");
        assert!(text.contains("case_failing failed in its namespace"), "{text}");
    }
}

#[test]
#[ignore = "run by a_test_that_hangs_is_killed"]
fn case_hanging() {
    if env::var_os(CASE).is_none() {
        return;
    }
    isolated_within(Duration::from_millis(500), "case_hanging", || {
        println!("it waits for ever");
        loop {
            thread::park();
        }
    });
}

#[test]
fn a_test_that_hangs_is_killed() {
    if netns::available().is_ok() {
        let output = run_case("case_hanging", |_| ());
        let text = text(&output);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("it waits for ever") && text.contains("killed after 500ms"), "{text}");
    }
}

#[test]
#[ignore = "run by a_wrong_name_is_found_out"]
fn case_misnamed() {
    if env::var_os(CASE).is_none() {
        return;
    }
    isolated("case_that_is_not_there", || ());
}

#[test]
fn a_wrong_name_is_found_out() {
    if netns::available().is_ok() {
        let text = text(&run_case("case_misnamed", |_| ()));
        assert!(text.contains("there is no test case_that_is_not_there"), "{text}");
    }
}

#[test]
fn a_name_may_begin_with_the_crate() {
    let test = concat!(module_path!(), "::a_name_may_begin_with_the_crate");
    isolated(test, || assert!(interface::get("lo").unwrap().up));
}

#[test]
#[ignore = "run by where_it_is_refused_it_is_skipped_aloud, as nobody"]
fn case_refused() {
    let outcome = isolated("case_refused", || ());
    assert_eq!(outcome == Isolated::Passed, netns::available().is_ok());
}

#[test]
#[ignore = "run by an_unprivileged_open_says_what_it_needs, as nobody"]
fn case_unprivileged_open() {
    if env::var_os(CASE).is_none() {
        return;
    }
    let err = Tun::open(&TunConfig::new("tun0")).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::PermissionDenied);
    println!("{err}");
}

const NOBODY: u32 = 65_534;

fn as_nobody(command: &mut Command) {
    command.uid(NOBODY).gid(NOBODY);
}

/// Whether this process can run its program as nobody. Only root can, and not in a user namespace.
fn can_be_nobody() -> bool {
    let mut command = Command::new("/proc/self/exe");
    as_nobody(command.arg("--list"));
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
#[ignore = "run by refused_namespaces_are_reported, where there are none"]
fn case_without_namespaces() {
    if env::var_os(CASE).is_none() {
        return;
    }
    let before = fs::read_link("/proc/self/ns/net").unwrap();
    let err = netns::available().unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(fs::read_link("/proc/self/ns/net").unwrap(), before);
    println!("{err}");
}

/// The limits on namespaces are each user namespace's own, so they can be set in one.
#[test]
fn refused_namespaces_are_reported() {
    isolated("refused_namespaces_are_reported", || {
        let own_limits =
            fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().nth(2) == Some("1");
        if !own_limits {
            return;
        }
        fs::write("/proc/sys/user/max_net_namespaces", "0").unwrap();
        let output = run_case("case_without_namespaces", |_| ());
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("this system refuses a private network namespace"), "{text}");
        // An isolated test is skipped.
        let output = run_case("case_refused", |_| ());
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("SKIPPED case_refused: this system refuses")
        );
    });
}

#[test]
fn an_unprivileged_open_says_what_it_needs() {
    isolated("an_unprivileged_open_says_what_it_needs", || {
        if can_be_nobody() {
            let output = run_case("case_unprivileged_open", as_nobody);
            let text = text(&output);
            assert!(output.status.success(), "{text}");
            // Which of the two depends on the mode of /dev/net/tun.
            let closed = "no permission to open /dev/net/tun: run as root";
            let powerless =
                "creating a TUN device needs CAP_NET_ADMIN: run as root or in a private namespace";
            assert!(text.contains(closed) || text.contains(powerless), "{text}");
        }
    });
}

/// As root, so that it can be nobody. An ordinary user sees the same where `/dev/net/tun` is closed.
#[test]
fn where_it_is_refused_it_is_skipped_aloud() {
    if !can_be_nobody() {
        return;
    }
    let output = run_case("case_refused", as_nobody);
    assert!(output.status.success(), "{}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if !stderr.contains("SKIPPED") {
        return;
    }
    assert!(stderr.lines().any(|line| line.starts_with("SKIPPED case_refused: ")), "{stderr}");
    let output = run_case("case_refused", |case| as_nobody(case.env("NETSTACK_REQUIRE_NETNS", "1")));
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("NETSTACK_REQUIRE_NETNS=1 forbids it"), "{}", text(&output));
}
