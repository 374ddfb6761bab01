//! A PostgreSQL server that does not know of netstack, and a client crate on both kinds of sockets.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example postgres_query            over a link in memory
//! cargo build -p netstack-ecosystem --example postgres_query
//! PGPASSWORD=secret unshare -rn sh -c 'target/debug/examples/postgres_query --tun & sleep 5;
//!     psql -h 10.9.0.2 -U netstack -c "SELECT 1" postgres; kill $!'
//! ```
//!
//! It starts a server of its own where PostgreSQL is installed. A `Bridge` makes that a server on a stack. A client reaches it over
//! a stack in two ways: `Config::connect_raw` takes any stream; `Config::connect`, and crates that have no such thing, make sockets
//! of the kernel, and connect to a second `Bridge`.

use netstack::Stack;
use netstack::bridge::Bridge;
use netstack_ecosystem::daemon::{Daemon, POSTGRES_USER};
use netstack_ecosystem::place::{Failure, Place, SERVER, until_signal};
use tokio_postgres::{Client, Config, NoTls};

/// The port of the server on its stack.
const PORT: u16 = 5432;

/// How many rows are asked for.
const ROWS: i64 = 20_000;

/// Asks for many rows and adds them up.
async fn ask(client: Client, way: &str) -> Result<(), Failure> {
    let rows = client.query("SELECT generate_series(1, $1::bigint)", &[&ROWS]).await?;
    let sum: i64 = rows.iter().map(|row| row.get::<_, i64>(0)).sum();
    if sum != ROWS * (ROWS + 1) / 2 {
        return Err("these are not the rows that were asked for".into());
    }
    println!("{way}: {} rows", rows.len());
    Ok(())
}

/// A client whose connection is one of a stack.
async fn over(stack: &Stack, config: &Config, server: (impl ToString, u16)) -> Result<Client, Failure> {
    let stream = stack.connect(format!("{}:{}", server.0.to_string(), server.1)).await?;
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    until_signal(run()).await
}

async fn run() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let Some(postgres) = Daemon::postgres(place.kernel()).await? else {
        println!("SKIPPED: PostgreSQL is not installed");
        return Ok(());
    };
    let mut config = Config::new();
    config.user(POSTGRES_USER).password(postgres.password()).dbname("postgres");
    let _served = Bridge::to_kernel(&place.server, (SERVER, PORT), postgres.address()).await?;
    match &place.client {
        Some(stack) => {
            ask(over(stack, &config, ("server.test", PORT)).await?, "connect_raw on a stream of the stack")
                .await?;
            let bridge = Bridge::to_stack(stack, ("server.test", PORT)).await?;
            let local = bridge.local_addr();
            config.host(local.ip().to_string()).port(local.port());
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            ask(client, "connect on a socket of the kernel").await?;
        }
        None => {
            let address = postgres.address();
            ask(over(&place.server, &config, (address.ip(), address.port())).await?, "over TUN").await?;
            println!("PGPASSWORD={} psql -h {SERVER} -U {POSTGRES_USER} postgres", postgres.password());
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}
