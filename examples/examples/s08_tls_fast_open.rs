//! S8: TLS over TCP Fast Open: round trips until the first byte of the answer.
//!
//! ```text
//! cargo run -p netstack-examples --example s08_tls_fast_open
//! ```
//!
//! Two stacks in this process, with a round-trip time of 50 ms, in virtual time: the measurements
//! are exact and consist of round trips only. The handshakes of TCP and TLS overlap if the SYN
//! carries the ClientHello. With a session to resume it carries the request as well, so that the
//! answer arrives after one round trip.
//!
//! Early data and data in a SYN can reach the server twice, if an attacker replays it or a SYN is
//! duplicated. It must therefore contain idempotent requests only.
//!
//! The client uses X25519 only. The share of a post-quantum key exchange is 1184 bytes longer, and
//! the last row shows what that means for the SYN.

use netstack::device::{Link, LinkConfig};
use netstack::net::{TcpListener, TcpStream};
use netstack::{Interface, Stack};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    version,
};
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const RTT: Duration = Duration::from_millis(50);
const NAME: &str = "server.example";
const ADDRESS: &str = "10.0.0.2:443";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: server.example\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// The data that a SYN can carry over Ethernet: the MSS minus 40 bytes for options.
const SYN_ROOM: usize = 1460 - 40;
/// Bytes that the share of X25519MLKEM768 adds to a ClientHello
/// (draft-ietf-tls-ecdhe-mlkem: 1216 instead of 32).
const POST_QUANTUM: usize = 1216 - 32;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let result = runtime.and_then(|runtime| runtime.block_on(run()));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One row of the table.
struct Row {
    name: &'static str,
    version: &'static SupportedProtocolVersion,
    fast_open: bool,
    early_data: bool,
    round_trips: u32,
}

const ROWS: [Row; 5] = [
    Row { name: "TLS 1.2", version: &version::TLS12, fast_open: false, early_data: false, round_trips: 4 },
    Row { name: "TLS 1.3", version: &version::TLS13, fast_open: false, early_data: false, round_trips: 3 },
    Row {
        name: "TLS 1.3, 0-RTT",
        version: &version::TLS13,
        fast_open: false,
        early_data: true,
        round_trips: 2,
    },
    Row {
        name: "Fast Open, TLS 1.3",
        version: &version::TLS13,
        fast_open: true,
        early_data: false,
        round_trips: 2,
    },
    Row {
        name: "Fast Open, TLS 1.3, 0-RTT",
        version: &version::TLS13,
        fast_open: true,
        early_data: true,
        round_trips: 1,
    },
];

async fn run() -> io::Result<bool> {
    let (client, server) = stacks()?;
    let keys = Keys::new()?;
    let listener = server.listen(ADDRESS).await?;
    listener.set_tcp_fastopen(16)?;
    tokio::spawn(serve(listener, keys.server()?));
    println!("round trips of {RTT:?} until the first byte of the answer:");
    println!("  {:28} {:>8} {:>12} {:>12}", "", "expected", "measured", "first flight");
    let mut all_right = true;
    let mut largest = 0;
    for row in &ROWS {
        let config = Arc::new(keys.client(row)?);
        // A first connection obtains the Fast Open cookie and the session to resume.
        fetch(&client, row, &config).await?;
        let outcome = fetch(&client, row, &config).await?;
        let right = outcome.time == RTT * row.round_trips && outcome.fast_opened == row.fast_open;
        all_right &= right;
        largest = largest.max(outcome.first_flight);
        let measured = outcome.time.as_secs_f64() / RTT.as_secs_f64();
        let mark = if right { "" } else { "  NOT AS EXPECTED" };
        println!(
            "  {:28} {:>8} {measured:>12.2} {:>10} B{mark}",
            row.name, row.round_trips, outcome.first_flight
        );
    }
    let fits = largest <= SYN_ROOM;
    let with_post_quantum = largest + POST_QUANTUM;
    println!(
        "  {:28} {:>8} {:>12} {with_post_quantum:>10} B  computed: the SYN holds {SYN_ROOM} B, the rest and with it the answer waits",
        "… with X25519MLKEM768", 2, "-"
    );
    all_right &= fits && with_post_quantum > SYN_ROOM;
    println!("{}", if all_right { "every row as expected" } else { "FAILED: see above" });
    Ok(all_right)
}

/// A client and a server, a round trip apart.
fn stacks() -> io::Result<(Stack, Stack)> {
    let half = format!("delay={}ms", RTT.as_millis() / 2);
    let link: LinkConfig = half.parse().map_err(|error| io::Error::other(format!("{error}")))?;
    let (left, right) = Link::pair(link.clone(), link);
    let build = |link, address| {
        let interface = Interface::new(Arc::new(link)).address(address);
        Stack::builder().interface(interface).build()
    };
    Ok((build(left, "10.0.0.1/24")?, build(right, "10.0.0.2/24")?))
}

/// A self-signed certificate and its key.
struct Keys {
    provider: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Keys {
    fn new() -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(io::Error::other)?;
        let provider = CryptoProvider { kx_groups: vec![ring::kx_group::X25519], ..ring::default_provider() };
        Ok(Self { provider: Arc::new(provider), certificate: made.cert.der().clone(), key })
    }

    fn server(&self) -> io::Result<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(io::Error::other)?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(io::Error::other)?;
        config.max_early_data_size = 16 << 10;
        // The answer to early data is sent with the server's handshake, before the client's
        // Finished.
        config.send_half_rtt_data = true;
        Ok(Arc::new(config))
    }

    fn client(&self, row: &Row) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(io::Error::other)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[row.version])
            .map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.enable_early_data = row.early_data;
        config.resumption = if row.early_data {
            Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)))
        } else {
            Resumption::disabled()
        };
        Ok(config)
    }
}

/// The pieces of data that TLS sends, each as TLS produced it.
#[derive(Default)]
struct Flight(Vec<Vec<u8>>);

impl Write for Flight {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.extend(bufs.iter().map(|buf| buf.to_vec()));
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Flight {
    /// Writes all pieces in one vectored write, then what did not fit, and returns the number of
    /// bytes.
    async fn send(&self, stream: &mut TcpStream) -> io::Result<usize> {
        let slices: Vec<_> = self.0.iter().map(|piece| IoSlice::new(piece)).collect();
        let sent = stream.write_vectored(&slices).await?;
        let rest = self.0.concat().split_off(sent);
        stream.write_all(&rest).await?;
        Ok(sent + rest.len())
    }
}

/// The result of one fetch.
struct Outcome {
    time: Duration,
    first_flight: usize,
    fast_opened: bool,
}

async fn fetch(stack: &Stack, row: &Row, config: &Arc<ClientConfig>) -> io::Result<Outcome> {
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut asked = false;
    if let Some(mut early) = tls.early_data() {
        early.write_all(REQUEST)?;
        asked = true;
    }
    let start = Instant::now();
    let to: SocketAddr = ADDRESS.parse().map_err(io::Error::other)?;
    let socket = stack.tcp_socket_v4()?;
    socket.set_nodelay(true)?;
    socket.set_tcp_fastopen_connect(row.fast_open)?;
    let mut stream = socket.connect(to).await?;
    let (mut first_flight, mut time, mut answer) = (None, None, Vec::new());
    let mut buffer = vec![0; 16 << 10];
    loop {
        if !tls.is_handshaking() && !asked {
            tls.writer().write_all(REQUEST)?;
            asked = true;
        }
        let mut flight = Flight::default();
        while tls.wants_write() {
            tls.write_tls(&mut flight)?;
        }
        if !flight.0.is_empty() {
            let sent = flight.send(&mut stream).await?;
            first_flight.get_or_insert(sent);
        }
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        let mut received = &buffer[..n];
        while !received.is_empty() {
            tls.read_tls(&mut received)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let before = answer.len();
            answer.resize(before + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut answer[before..])?;
        }
        if !answer.is_empty() {
            time.get_or_insert(start.elapsed());
        }
    }
    if answer != ANSWER {
        return Err(io::Error::other("another answer"));
    }
    Ok(Outcome {
        time: time.unwrap_or_default(),
        first_flight: first_flight.unwrap_or_default(),
        fast_opened: stream.tcp_info()?.syn_data_acked,
    })
}

async fn serve(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let config = Arc::clone(&config);
        tokio::spawn(async move {
            if let Err(error) = answer(stream, config).await {
                eprintln!("server: {error}");
            }
        });
    }
}

/// Drives rustls directly: a ready-made acceptor returns only after the client's Finished, and
/// early data is available before that.
async fn answer(mut stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let (mut request, mut answered) = (Vec::new(), false);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let mut received = &buffer[..n];
        while !received.is_empty() {
            tls.read_tls(&mut received)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            if let Some(mut early) = tls.early_data() {
                early.read_to_end(&mut request)?;
            }
            let before = request.len();
            request.resize(before + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut request[before..])?;
        }
        if request == REQUEST && !answered {
            tls.writer().write_all(ANSWER)?;
            answered = true;
        }
        let done = answered && !tls.is_handshaking();
        if done {
            tls.send_close_notify();
        }
        let mut flight = Flight::default();
        while tls.wants_write() {
            tls.write_tls(&mut flight)?;
        }
        flight.send(&mut stream).await?;
        if done {
            stream.shutdown().await?;
        }
    }
}
