//! Programs that measure, as clients: iperf3 and wrk, where they are installed.

use super::checks::Checks;
use super::clients::Clients;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

/// What iperf3 is asked for, and what it is called.
const TRANSFERS: [(&str, &[&str]); 4] = [
    ("upwards", &["--bytes", "16M", "--parallel", "2"]),
    ("downwards", &["--bytes", "16M", "--parallel", "2", "--reverse"]),
    ("datagrams upwards", &["--udp", "--bitrate", "20M", "--bytes", "500K"]),
    ("datagrams downwards", &["--udp", "--bitrate", "20M", "--bytes", "500K", "--reverse"]),
];

/// Connections of wrk at a time.
const CONNECTIONS: &str = "20";

impl Clients {
    /// iperf3 in both directions with streams and datagrams, and wrk with connections that stay and ones that end. A
    /// program that is not installed is skipped.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_programs(&self, held: &mut Checks) -> io::Result<()> {
        if is_installed("iperf3") {
            for (what, arguments) in TRANSFERS {
                let clients = self.clone();
                let run = move || clients.iperf3(arguments);
                let result = tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?;
                held.expect(true, format!("iperf3, {what}: {}", result?))?;
            }
        } else {
            println!("  SKIPPED: there is no iperf3");
        }
        if is_installed("wrk") {
            for connection in ["keep-alive", "close"] {
                let clients = self.clone();
                let run = move || clients.wrk(connection);
                let result = tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?;
                held.expect(true, format!("wrk, connections that {connection}: {}", result?))?;
            }
        } else {
            println!("  SKIPPED: there is no wrk");
        }
        Ok(())
    }

    /// Runs a server and a client. Gives the line of what the receiver got.
    fn iperf3(&self, arguments: &[&str]) -> io::Result<String> {
        let mut server = Command::new("iperf3");
        server.args(["--server", "--one-off", "--forceflush"]);
        let mut server = Running(server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        let out = server.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(out).lines();
        // Its own answers to datagrams come from the first address of the host.
        let to = self.servers().host(false, 0).to_string();
        let mut line = String::new();
        while !line.contains("listening") {
            line = lines.next().ok_or_else(|| io::Error::other("the server of iperf3 has ended"))??;
        }
        let client = self.run_in_lab(Command::new("iperf3").args(["--client", &to]).args(arguments))?;
        let lines: Vec<_> = client.lines().filter(|line| line.contains("receiver")).collect();
        let [.., line] = lines[..] else { return Err(io::Error::other(client)) };
        if line.contains(" 0.00 ") {
            return Err(io::Error::other(client));
        }
        Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Asks a web server for a second. Gives the line of how much was answered.
    fn wrk(&self, connection: &str) -> io::Result<String> {
        let url = format!("http://{}/", SocketAddr::new(self.servers().host(false, 1), self.servers().web));
        let header = format!("Connection: {connection}");
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--duration", "1s", "--connections", CONNECTIONS]);
        let out = self.run_in_lab(wrk.args(["--header", &header, &url]))?;
        let answered =
            out.lines().find(|line| line.contains(" requests in ") && !line.trim().starts_with("0 "));
        match answered {
            Some(line) if !out.contains("Socket errors") && !out.contains("Non-2xx") => {
                Ok(line.trim().to_owned())
            }
            _ => Err(io::Error::other(out)),
        }
    }

    /// Runs a program among the clients, and gives what it prints.
    fn run_in_lab(&self, command: &mut Command) -> io::Result<String> {
        let Output { status, stdout, stderr } =
            self.lab().run(|| command.stdin(Stdio::null()).output())??;
        let printed = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        if status.success() { Ok(printed) } else { Err(io::Error::other(printed)) }
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A child that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // If it cannot be killed, it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
