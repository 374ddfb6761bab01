//! The examples with `--tun`, each in a network of its own: clients on the sockets of the kernel.

use netstack_ecosystem::page;
use netstack_tun::netns::isolated;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tokio::net::TcpStream;

/// A running example, which is ended when this is dropped.
struct Example(Child);

impl Example {
    /// Starts it, and waits until it says where it serves. None if it is not to be had here.
    fn start(name: &str, variables: &[(&str, &str)]) -> Option<Self> {
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
        let mut command = Command::new(program);
        let child = command.arg("--tun").envs(variables.iter().copied()).stdout(Stdio::piped()).spawn();
        let mut example = Self(child.unwrap());
        let mut said = BufReader::new(example.0.stdout.take().unwrap()).lines();
        let begin = said.find_map(|line| Some(line.unwrap()).filter(|line| !line.starts_with("over TUN: ")));
        let line = begin.unwrap_or_default();
        if line.starts_with("SKIPPED") {
            eprintln!("{name}: {line}");
            return None;
        }
        assert!(line.contains("10.9.0.2"), "{name}: {line}");
        Some(example)
    }

    fn new(name: &str) -> Self {
        Self::start(name, &[]).expect("it needs nothing")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // With the chance to end what it has started.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// What a program prints. None if it is not installed.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env("PGPASSWORD", "secret").env("REDISCLI_AUTH", "secret");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
        Err(err) => panic!("{program}: {err}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program need not read all of it.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    Some(output)
}

/// The same as text.
fn text(program: &str, arguments: &[&str]) -> Option<String> {
    run(program, arguments, &[]).map(|output| String::from_utf8(output.stdout).unwrap())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn axum_hello() {
    isolated("axum_hello", || {
        let _example = Example::new("axum_hello");
        let Some(whoami) = text("curl", &["-sS", "http://10.9.0.2/whoami"]) else { return };
        assert!(whoami.starts_with("10.9.0.1:"), "{whoami}");
        assert_eq!(text("curl", &["-sS", "http://10.9.0.2/page"]).unwrap(), page::html());
        for number in [0, 1, 23] {
            let image = run("curl", &["-sS", &format!("http://10.9.0.2/image/{number}")], &[]).unwrap();
            assert!(image.stdout == page::image(number), "image {number}");
        }
        let many = "http://10.9.0.2/hello/[1-2000]";
        text("curl", &["-sS", "--fail", "--parallel", "--parallel-max", "50", "-o", "/dev/null", many]);
        if let Some(wrk) = text("wrk", &["-t2", "-c100", "-d1s", "http://10.9.0.2/"]) {
            assert!(!wrk.contains("Socket errors") && !wrk.contains("Non-2xx"), "{wrk}");
        }
    });
}

#[test]
fn hyper_client() {
    isolated("hyper_client", || {
        let _example = Example::new("hyper_client");
        if let Some(said) = text("curl", &["-sSk", "https://10.9.0.2/"]) {
            assert_eq!(said, "Hello over TLS\n");
        }
    });
}

#[test]
fn tonic_greeter() {
    isolated("tonic_greeter", || {
        let _example = Example::new("tonic_greeter");
        block_on(async {
            let channel =
                tonic::transport::Endpoint::from_static("http://10.9.0.2:50051").connect().await.unwrap();
            let greeting = netstack_ecosystem::greeter::greet(channel, "Ada").await.unwrap();
            assert_eq!(greeting, "Hello Ada at 10.9.0.1");
        });
    });
}

#[test]
fn websocket_echo() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    isolated("websocket_echo", || {
        let _example = Example::new("websocket_echo");
        block_on(async {
            let stream = TcpStream::connect("10.9.0.2:80").await.unwrap();
            let (mut socket, _) = tokio_tungstenite::client_async("ws://10.9.0.2/", stream).await.unwrap();
            let message = Message::binary(vec![7; 1 << 20]);
            socket.send(message.clone()).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap() == message);
        });
    });
}

#[test]
fn quinn_echo() {
    isolated("quinn_echo", || {
        let _example = Example::new("quinn_echo");
        block_on(async {
            let tls = rustls::ClientConfig::builder_with_provider(Arc::new(any_certificate::provider()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(any_certificate::AnyCertificate))
                .with_no_client_auth();
            let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
            let endpoint = quinn::Endpoint::client("10.9.0.1:0".parse().unwrap()).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(crypto));
            let connecting = endpoint.connect_with(config, "10.9.0.2:443".parse().unwrap(), "server.test");
            let (mut send, mut receive) = connecting.unwrap().await.unwrap().open_bi().await.unwrap();
            let said = vec![7; 4 << 20];
            send.write_all(&said).await.unwrap();
            send.finish().unwrap();
            assert!(receive.read_to_end(said.len()).await.unwrap() == said);
        });
    });
}

/// The example makes its certificate when it starts.
mod any_certificate {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    pub(super) fn provider() -> CryptoProvider {
        rustls::crypto::ring::default_provider()
    }

    #[derive(Debug)]
    pub(super) struct AnyCertificate;

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls13_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    }
}

#[test]
fn ssh_echo() {
    isolated("ssh_echo", || {
        let _example = Example::new("ssh_echo");
        let said: Vec<u8> = (0..1_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let options =
            ["-T", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
        let arguments = [&options[..], &["anyone@10.9.0.2"]].concat();
        if let Some(output) = run("ssh", &arguments, &said) {
            assert!(output.stdout == said, "{} bytes of {}", output.stdout.len(), said.len());
        }
    });
}

#[test]
fn redis_ping() {
    isolated("redis_ping", || {
        let Some(_example) = Example::start("redis_ping", &[("REDISCLI_AUTH", "secret")]) else { return };
        if let Some(said) = text("redis-cli", &["-h", "10.9.0.2", "ping"]) {
            assert_eq!(said, "PONG\n");
        }
    });
}

#[test]
fn postgres_query() {
    isolated("postgres_query", || {
        let Some(_example) = Example::start("postgres_query", &[("PGPASSWORD", "secret")]) else { return };
        let query = "SELECT sum(n) FROM generate_series(1, 1000) AS n";
        let arguments = ["-h", "10.9.0.2", "-U", "netstack", "-At", "-c", query, "postgres"];
        if let Some(said) = text("psql", &arguments) {
            assert_eq!(said, "500500\n");
        }
    });
}
