//! WebSockets of tungstenite, which take any stream.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example websocket_echo            a client over a link in memory
//! cargo build -p netstack-ecosystem --example websocket_echo
//! unshare -rn sh -c 'target/debug/examples/websocket_echo --tun & sleep 1; …; kill $!'
//! ```
//!
//! In place of `…` there is a client of yours, which connects to ws://10.9.0.2/: a browser, say.

use futures_util::{SinkExt, StreamExt};
use netstack::net::{TcpListener, TcpStream};
use netstack_ecosystem::place::{Failure, Place, SERVER};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

/// Sends back every message.
async fn echo(stream: TcpStream) -> Result<(), Failure> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let serving = tokio::spawn(serve(place.server.listen((SERVER, 80)).await?));
    let Some(stack) = place.client else {
        println!("ws://{SERVER}/");
        return Ok(serving.await??);
    };
    let stream = stack.connect("server.test:80").await?;
    let (mut socket, response) = client_async("ws://server.test/", stream).await?;
    println!("{}", response.status());
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        socket.send(message.clone()).await?;
        let echoed = socket.next().await.ok_or("the server has closed")??;
        if echoed != message {
            return Err("another message came back".into());
        }
        println!("{} bytes came back", echoed.len());
    }
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
