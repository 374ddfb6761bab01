//! One contender as a process: a proxy.

#[cfg(feature = "peers")]
use super::PEER_BUFFER;
use super::lab::{CLIENT, TO_PROXY};
use super::{Forwarder, Kind, pasta, splice};
#[cfg(feature = "peers")]
use crate::peers::{ipstack, netstack_smoltcp, tcp_ip};
use crate::serve::{RuntimeKind, answer, ready, runtime};
use netstack::{Interface, Stack};
use netstack_examples::proxy::{Log, Outbound, Proxy, ProxyConfig};
use netstack_tun::{Tun, TunConfig};
use std::io;
#[cfg(feature = "peers")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
#[cfg(feature = "peers")]
use tokio::io::{AsyncRead, AsyncWrite};

/// The options of a proxy.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of its clients, where it creates its TUN device.
    pub clients: PathBuf,
    /// The MTU of the device, in bytes, if the contender has none of its own.
    pub mtu: u32,
    /// The runtime.
    pub runtime: RuntimeKind,
}

/// Serves as `forwarder` until standard input ends. `live_bytes` returns the number of heap bytes in use.
///
/// # Errors
/// Those of setting up the device and sockets, and of the device.
pub fn run(forwarder: Forwarder, options: &Options, live_bytes: fn() -> usize) -> io::Result<()> {
    if forwarder.kind == Kind::Pasta {
        return pasta::run(forwarder.mtu.unwrap_or(options.mtu), options);
    }
    thread::Builder::new().name("stdin".to_owned()).spawn(move || answer(live_bytes))?;
    let runtime = runtime(options.runtime)?;
    runtime.block_on(async {
        match forwarder.kind {
            Kind::Netstack => netstack(open(forwarder, options)?).await,
            Kind::Splice => splice::serve(ready).await,
            #[cfg(feature = "peers")]
            Kind::NetstackSmoltcp if forwarder.offload => {
                let device = || netstack_smoltcp::offload_device(TO_PROXY, CLIENT, options.mtu);
                let device = netstack_tun::netns::Namespace::open(&options.clients)?.run(device)??;
                netstack_smoltcp::serve_offload(device, Relay, ready).await
            }
            #[cfg(feature = "peers")]
            Kind::NetstackSmoltcp => netstack_smoltcp::serve(open(forwarder, options)?, Relay, ready).await,
            #[cfg(feature = "peers")]
            Kind::Ipstack => ipstack::serve(open(forwarder, options)?, Relay, ready).await,
            #[cfg(feature = "peers")]
            Kind::TcpIp => tcp_ip::serve(open(forwarder, options)?, Relay, ready).await,
            #[cfg(not(feature = "peers"))]
            Kind::NetstackSmoltcp | Kind::Ipstack | Kind::TcpIp => Err(io::ErrorKind::Unsupported.into()),
            Kind::Pasta => unreachable!("it has no runtime"),
        }
    })
}

/// The device of a contender, in the namespace of its clients.
fn open(forwarder: Forwarder, options: &Options) -> io::Result<Tun> {
    let config = TunConfig::new(TO_PROXY)
        .address(format!("{}/24", CLIENT))?
        .mtu(forwarder.mtu.unwrap_or(options.mtu))
        .offload(forwarder.offload)
        .namespace(&options.clients);
    Tun::open(&config)
}

/// The proxy of the example `tun2socks`.
async fn netstack(tun: Tun) -> io::Result<()> {
    let congestion = crate::client::congestion_control().ok();
    let config =
        ProxyConfig { outbound: Outbound { congestion, ..Outbound::default() }, ..ProxyConfig::default() };
    let interface = Interface::new(Arc::new(tun)).any_ip("0.0.0.0/0").gateway("0.0.0.0");
    let stack_config = Proxy::stack_config(netstack::Config::default(), &config);
    let stack = Stack::builder().interface(interface).config(stack_config).build()?;
    let mut proxy = Proxy::start(stack, config, Log::Off).await?;
    ready()?;
    proxy.failed().await
}

/// Passes connections on.
#[cfg(feature = "peers")]
#[derive(Clone)]
struct Relay;

#[cfg(feature = "peers")]
impl crate::services::Handler for Relay {
    /// The clients judge how it ends.
    async fn connection(
        &self,
        mut client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        to: SocketAddr,
    ) {
        if let Ok(mut upstream) = splice::connect(to).await {
            let copy = tokio::io::copy_bidirectional_with_sizes(
                &mut client,
                &mut upstream,
                PEER_BUFFER,
                PEER_BUFFER,
            );
            let _ = copy.await;
        }
    }
}
