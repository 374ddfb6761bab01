//! The examples, each by itself over memory.

use std::process::Command;

/// What an example prints. `cargo test` has built it.
fn output(name: &str, arguments: &[&str]) -> String {
    let tests = std::env::current_exe().unwrap();
    let examples = tests.parent().unwrap().parent().unwrap().join("examples");
    let run = Command::new(examples.join(name)).args(arguments).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&run.stderr));
    text
}

#[test]
fn axum_hello() {
    let text = output("axum_hello", &[]);
    assert!(
        text.contains("GET /hello/netstack: Hello, netstack!") && text.contains("GET /whoami: 10.9.0.1:"),
        "{text}"
    );
}

#[test]
fn hyper_client() {
    let text = output("hyper_client", &[]);
    assert_eq!(text.matches("200 OK: Hello over TLS").count(), 10, "{text}");
    // One as a rule; two where a busy machine returns the first one to the pool too late for the second request.
    // Without a pool there would be ten.
    let (_, connections) = text.trim_end().rsplit_once("connections for 10 requests: ").expect(&text);
    assert!((1..=5).contains(&connections.parse().unwrap()), "{text}");
}

#[test]
fn websocket_echo() {
    assert!(output("websocket_echo", &[]).ends_with("5 bytes came back\n100000 bytes came back\n"));
}

#[test]
fn quinn_echo() {
    assert!(output("quinn_echo", &[]).starts_with("5 bytes came back\n4194304 bytes came back\n"));
}

#[test]
fn tonic_greeter() {
    assert_eq!(output("tonic_greeter", &[]), "Hello Ada at 10.9.0.1\nHello Grace at 10.9.0.1\n");
}

#[test]
fn ssh_echo() {
    assert_eq!(output("ssh_echo", &[]), "5 bytes came back\n3145728 bytes came back\n");
}

/// What an example prints that needs a server of the machine, or none where that is not installed.
fn output_of_client(name: &str) -> Option<String> {
    let text = output(name, &[]);
    if text.starts_with("SKIPPED") {
        eprint!("{name}: {text}");
        return None;
    }
    Some(text)
}

#[test]
fn redis_ping() {
    if let Some(text) = output_of_client("redis_ping") {
        assert_eq!(text.matches(": PONG, and 1048576 bytes came back\n").count(), 2, "{text}");
    }
}

#[test]
fn postgres_query() {
    if let Some(text) = output_of_client("postgres_query") {
        assert_eq!(text.matches(": 20000 rows\n").count(), 2, "{text}");
    }
}

#[test]
fn raft_partition() {
    let (one, again) =
        (output("raft_partition", &["--seeds", "3"]), output("raft_partition", &["--seeds", "3"]));
    assert_eq!(one.matches("entries in all three logs").count(), 3, "{one}");
    assert_eq!(one, again, "the same seeds, the same story");
}
