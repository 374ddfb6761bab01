//! A Redis server that does not know of netstack, and a client crate that does not either.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example redis_ping            over a link in memory
//! cargo build -p netstack-ecosystem --example redis_ping
//! REDISCLI_AUTH=secret unshare -rn sh -c 'target/debug/examples/redis_ping --tun & sleep 2; redis-cli -h 10.9.0.2 ping; kill $!'
//! ```
//!
//! It starts a server of its own where `redis-server` is installed. A `Bridge` makes that a server on a stack. A client reaches it
//! over a stack in two ways: the crate `redis` takes any stream; where a crate insists on the sockets of the kernel, it connects
//! to a second `Bridge`.

use netstack::bridge::Bridge;
use netstack_ecosystem::daemon::Daemon;
use netstack_ecosystem::place::{Failure, Place, SERVER, until_signal};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisConnectionInfo, cmd};
use std::time::Duration;

/// The port of the server on its stack.
const PORT: u16 = 6379;

/// The crate waits half a second for an answer, which a busy machine can take.
fn unhurried() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)))
}

/// Writes a value and reads it again.
async fn ask(mut connection: MultiplexedConnection, way: &str) -> Result<(), Failure> {
    let pong: String = cmd("PING").query_async(&mut connection).await?;
    let value = vec![7u8; 1 << 20];
    () = cmd("SET").arg("key").arg(&value[..]).query_async(&mut connection).await?;
    let read: Vec<u8> = cmd("GET").arg("key").query_async(&mut connection).await?;
    if read != value {
        return Err("another value came back".into());
    }
    println!("{way}: {pong}, and {} bytes came back", read.len());
    Ok(())
}

/// A connection of the crate over a stream of a stack.
async fn over(stream: netstack::net::TcpStream, password: &str) -> Result<MultiplexedConnection, Failure> {
    let settings = RedisConnectionInfo::default().set_password(password);
    let (connection, driver) = MultiplexedConnection::new_with_config(&settings, stream, unhurried()).await?;
    tokio::spawn(driver);
    Ok(connection)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    until_signal(run()).await
}

async fn run() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let Some(redis) = Daemon::redis(place.kernel()).await? else {
        println!("SKIPPED: redis-server is not installed");
        return Ok(());
    };
    let _served = Bridge::to_kernel(&place.server, (SERVER, PORT), redis.address()).await?;
    match &place.client {
        Some(client) => {
            let stream = client.connect(("server.test", PORT)).await?;
            ask(over(stream, redis.password()).await?, "a stream of the stack").await?;
            let bridge = Bridge::to_stack(client, ("server.test", PORT)).await?;
            let url = format!("redis://:{}@{}/", redis.password(), bridge.local_addr());
            let connection =
                Client::open(url)?.get_multiplexed_async_connection_with_config(&unhurried()).await?;
            ask(connection, "a socket of the kernel").await?;
        }
        None => {
            let stream = place.server.connect(redis.address()).await?;
            ask(over(stream, redis.password()).await?, "over TUN").await?;
            println!("REDISCLI_AUTH={} redis-cli -h {SERVER}", redis.password());
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}
