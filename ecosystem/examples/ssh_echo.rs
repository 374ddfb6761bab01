//! SSH of russh in both roles.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example ssh_echo            a client over a link in memory
//! cargo build -p netstack-ecosystem --example ssh_echo
//! unshare -rn sh -c 'target/debug/examples/ssh_echo --tun & sleep 1; echo hello | ssh -T -o StrictHostKeyChecking=no \
//!     -o UserKnownHostsFile=/dev/null anyone@10.9.0.2; kill $!'
//! ```
//!
//! The server lets everybody in, and its shell sends back what it reads. russh takes any stream.

use netstack::Stack;
use netstack::net::TcpListener;
use netstack_ecosystem::daemon::random;
use netstack_ecosystem::place::{Failure, Place, SERVER};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey, PublicKeyOrCertificate};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, Disconnect, client};
use std::sync::Arc;

/// The server's side of a connection.
struct Shell;

impl server::Handler for Shell {
    type Error = Failure;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Failure> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        reply.accept().await;
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Failure> {
        Ok(session.channel_success(channel)?)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), Failure> {
        Ok(session.channel_success(channel)?)
    }

    // Here and not in a task with the `Channel`: what comes waits for such a task, and what it sends for what comes.
    async fn data(&mut self, channel: ChannelId, said: &[u8], session: &mut Session) -> Result<(), Failure> {
        Ok(session.data(channel, said.to_vec())?)
    }

    async fn channel_eof(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Failure> {
        session.exit_status_request(channel, 0)?;
        session.eof(channel)?;
        Ok(session.close(channel)?)
    }
}

async fn serve(listener: TcpListener, key: PrivateKey) -> std::io::Result<()> {
    let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        let config = config.clone();
        // What goes wrong with one client is told to that client.
        tokio::spawn(async move { server::run_stream(config, stream, Shell).await?.await });
    }
}

/// A client that knows the server's key.
struct Known(PublicKey);

impl client::Handler for Known {
    type Error = Failure;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        Ok(
            matches!(shown, PublicKeyOrCertificate::PublicKey { key, .. } if key.key_data() == self.0.key_data()),
        )
    }
}

/// Sends `said` to the shell of the server, and returns what it sends back.
async fn ask(stack: &Stack, key: PublicKey, said: &'static [u8]) -> Result<Vec<u8>, Failure> {
    let stream = stack.connect("server.test:22").await?;
    let mut session = client::connect_stream(Arc::default(), stream, Known(key)).await?;
    if !session.authenticate_none("anyone").await?.success() {
        return Err("the server lets nobody in".into());
    }
    let channel = session.channel_open_session().await?;
    channel.request_shell(true).await?;
    let (mut from, to) = channel.split();
    // At the same time, or both ends would wait for room.
    let saying = tokio::spawn(async move {
        to.data(said).await?;
        to.eof().await
    });
    let mut heard = Vec::new();
    while let Some(message) = from.wait().await {
        if let ChannelMsg::Data { data } = message {
            heard.extend_from_slice(&data);
        }
    }
    saying.await??;
    session.disconnect(Disconnect::ByApplication, "done", "en").await?;
    Ok(heard)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&random()?));
    let public = key.public_key().clone();
    let serving = tokio::spawn(serve(place.server.listen((SERVER, 22)).await?, key));
    let Some(stack) = place.client else {
        println!("ssh -T anyone@{SERVER}");
        return Ok(serving.await??);
    };
    static LONG: [u8; 3 << 20] = [7; 3 << 20];
    for said in [b"hello".as_slice(), &LONG] {
        let heard = ask(&stack, public.clone(), said).await?;
        if heard != said {
            return Err("something else came back".into());
        }
        println!("{} bytes came back", heard.len());
    }
    Ok(())
}
