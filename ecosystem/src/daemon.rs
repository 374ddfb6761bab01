//! Server programs of the machine, for the examples that talk to them. Each has a port, a directory and a password of its
//! own, and is over when its [`Daemon`] is dropped.

use crate::place::Failure;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(30);

/// The user of the databases of [`Daemon::postgres`].
pub const POSTGRES_USER: &str = "netstack";

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    password: String,
    process: Process,
    /// Removed after the server is over: fields are dropped after `drop`.
    _directory: TempDir,
}

#[derive(Debug)]
enum Process {
    /// Killed when it is dropped.
    Child { _child: Child },
    /// Ended by this command.
    Background { stop: std::process::Command },
}

impl Daemon {
    /// A Redis server on a free port of `host`. None where `redis-server` is not installed.
    ///
    /// Its password is that of the variable `REDISCLI_AUTH`, which `redis-cli` knows, or a random one.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn redis(host: Ipv4Addr) -> Result<Option<Self>, Failure> {
        let Some(program) = find("redis-server") else { return Ok(None) };
        let directory = tempfile::tempdir()?;
        let (address, password) = (free_port(host)?, password("REDISCLI_AUTH")?);
        let log = directory.path().join("log");
        let mut child = Command::new(program)
            // Settings from standard input: everybody can read a command line.
            .arg("-")
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(File::create(&log)?)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let settings = format!(
            "bind {}\nport {}\nrequirepass {password}\nsave \"\"\nappendonly no\n",
            address.ip(),
            address.port()
        );
        child.stdin.take().expect("it is piped").write_all(settings.as_bytes()).await?;
        let begin = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if child.try_wait()?.is_some() || begin.elapsed() > START {
                return Err(failed("redis-server", &log));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Some(Self { address, password, process: Process::Child { _child: child }, _directory: directory }))
    }

    /// A PostgreSQL server on a free port of `host`, with an empty database `postgres`. None where it is not installed.
    ///
    /// The password of the user [`POSTGRES_USER`] is that of the variable `PGPASSWORD`, which `psql` knows, or a random
    /// one.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn postgres(host: Ipv4Addr) -> Result<Option<Self>, Failure> {
        let (Some(initdb), Some(pg_ctl)) = (find("initdb"), find("pg_ctl")) else { return Ok(None) };
        let directory = tempfile::tempdir()?;
        let (address, password) = (free_port(host)?, password("PGPASSWORD")?);
        let path = |name: &str| directory.path().join(name);
        fs::write(path("password"), &password)?;
        let mut command = not_as_root(&initdb)?;
        command.args([
            "--auth=scram-sha-256",
            "--no-sync",
            "--no-locale",
            "--encoding=UTF8",
            "-U",
            POSTGRES_USER,
        ]);
        command.arg("-D").arg(path("data")).arg("--pwfile").arg(path("password"));
        run("initdb", command, &path("log")).await?;
        let hosts = path("data").join("pg_hba.conf");
        let rules = fs::read_to_string(&hosts)?;
        // The stack is another host to the server.
        fs::write(&hosts, format!("{rules}host all all 10.9.0.0/24 scram-sha-256\n"))?;

        let mut command = not_as_root(&pg_ctl)?;
        command.args(["start", "--wait", "--silent", "--timeout=30", "-o"]).arg(format!(
            "-p {} -h {} -c unix_socket_directories='' -c fsync=off",
            address.port(),
            address.ip()
        ));
        command.arg("-D").arg(path("data")).arg("-l").arg(path("server-log"));
        let mut stop = not_as_root(&pg_ctl)?;
        stop.args(["stop", "--wait", "--silent", "--mode=immediate", "-D"]).arg(path("data"));
        // It is stopped even if it has not started in time.
        let process = Process::Background { stop: stop.into_std() };
        let log = path("server-log");
        let daemon = Self { address, password, process, _directory: directory };
        run("pg_ctl", command, &log).await?;
        Ok(Some(daemon))
    }

    /// Where it takes connections.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Process::Background { stop } = &mut self.process {
            // If that fails, nothing else can be done about it here.
            let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// Where a program is: in `PATH`, or with the newest of Debian's PostgreSQL servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    env::split_paths(&path)
        .chain(versions.into_iter().rev())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn free_port(host: Ipv4Addr) -> io::Result<SocketAddr> {
    TcpListener::bind((host, 0))?.local_addr()
}

/// The password in a variable, or a random one.
fn password(variable: &str) -> io::Result<String> {
    if let Ok(password) = env::var(variable) {
        return Ok(password);
    }
    Ok(random()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random bytes of the system.
///
/// # Errors
/// If it has none.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// PostgreSQL refuses to run as root, and root of a user namespace is root to it. Root is somebody else in a user
/// namespace of its own, to which the same files belong.
fn not_as_root(program: &Path) -> io::Result<Command> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("unshare");
    command.args(["--map-user=65534", "--map-group=65534", "--"]).arg(program);
    Ok(command)
}

/// Runs a command to its end. It may leave a process behind.
async fn run(name: &str, mut command: Command, log: &Path) -> Result<(), Failure> {
    command.kill_on_drop(true);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status().await?;
    if status.success() { Ok(()) } else { Err(failed(name, log)) }
}

fn failed(name: &str, log: &Path) -> Failure {
    let log = fs::read_to_string(log).unwrap_or_default();
    format!("{name} has failed\n{log}").into()
}
