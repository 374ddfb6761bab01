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
    assert_eq!(text.matches("200 OK: Hello over TLS").count(), 3, "{text}");
    assert!(text.ends_with("1 connection for three requests\n"), "{text}");
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
fn raft_partition() {
    let (one, again) =
        (output("raft_partition", &["--seeds", "3"]), output("raft_partition", &["--seeds", "3"]));
    assert_eq!(one.matches("entries in all three logs").count(), 3, "{one}");
    assert_eq!(one, again, "the same seeds, the same story");
}
