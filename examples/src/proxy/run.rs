//! The proxy, from its start to its end in order.

use super::buffers::Buffers;
use super::config::{PingPolicy, ProxyConfig};
use super::log::Log;
use super::tasks::Tasks;
use super::upstream::Upstream;
use super::{dns, ping, tcp, udp};
use netstack::Stack;
use netstack::config::{Config, EchoPolicy};
use netstack::net::{TcpForwarderConfig, TcpListener, UdpForwarderConfig, UdpSocket};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// What the tasks of a proxy share.
pub(super) struct Shared {
    pub(super) config: ProxyConfig,
    pub(super) log: Log,
    pub(super) buffers: Buffers,
    pub(super) connections: Semaphore,
    pub(super) counts: LiveCounts,
    /// Connections, which have time to end when the proxy does.
    pub(super) relays: Tasks,
    /// Everything else.
    pub(super) others: Tasks,
}

#[derive(Debug, Default)]
pub(super) struct LiveCounts {
    pub(super) tcp_open: AtomicU64,
    pub(super) tcp_done: AtomicU64,
    pub(super) tcp_reset: AtomicU64,
    pub(super) tcp_refused: AtomicU64,
    pub(super) tcp_over_limit: AtomicU64,
    pub(super) udp_done: AtomicU64,
    pub(super) udp_lost: AtomicU64,
    pub(super) pings: AtomicU64,
    pub(super) dns: AtomicU64,
}

/// What a proxy has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that are open.
    pub tcp_open: u64,
    /// Connections that have ended.
    pub tcp_done: u64,
    /// Of these, those that were reset by either side, or timed out.
    pub tcp_reset: u64,
    /// Clients whose destination could not be connected to.
    pub tcp_refused: u64,
    /// SYNs that came when there were as many connections as there may be.
    pub tcp_over_limit: u64,
    /// Flows of UDP that have ended, or clients with `full_cone`.
    pub udp_done: u64,
    /// Datagrams of clients that could not be passed on.
    pub udp_lost: u64,
    /// Pings that were answered by their receivers.
    pub pings: u64,
    /// Queries that were answered.
    pub dns: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tcp_open, tcp_done, tcp_reset, tcp_refused, udp_done, udp_lost, pings, dns, .. } = self;
        write!(
            f,
            "tcp: {tcp_open} open, {tcp_done} done ({tcp_reset} reset), {tcp_refused} refused; udp: {udp_done} done, \
             {udp_lost} datagrams lost; {pings} pings; {dns} queries"
        )
    }
}

/// A running proxy.
pub struct Proxy {
    stack: Stack,
    shared: Arc<Shared>,
    services: JoinSet<io::Result<()>>,
}

/// The part of the stack's settings that the proxy needs.
pub(super) fn echo_policy(config: &ProxyConfig) -> EchoPolicy {
    match (config.ping, &config.outbound.upstream) {
        (PingPolicy::Ignore, _) => EchoPolicy::Ignore,
        (PingPolicy::Forward, Upstream::Direct) => EchoPolicy::Forward,
        // SOCKS5 carries no pings, so that nobody could be asked.
        (PingPolicy::Reply, _) | (PingPolicy::Forward, Upstream::Socks5(_)) => EchoPolicy::Reply,
    }
}

impl Proxy {
    /// The settings of a stack that [`Proxy::start`] can be given.
    #[must_use]
    pub fn stack_config(config: Config, proxy: &ProxyConfig) -> Config {
        config.with(|config| config.any_ip_echo = echo_policy(proxy))
    }

    /// Starts to serve what arrives on `stack`, as tasks of the current runtime.
    ///
    /// # Errors
    /// Those of the forwarders and listeners.
    pub async fn start(stack: Stack, config: ProxyConfig, log: Log) -> io::Result<Self> {
        let forwarder =
            stack.tcp_forwarder(TcpForwarderConfig::default().max_in_flight(config.limits.connecting))?;
        let udp_config =
            UdpForwarderConfig::default().max_flows(config.limits.flows).idle_timeout(config.timeouts.udp);
        let udp_forwarder = stack.udp_forwarder(udp_config)?;
        let echo = match echo_policy(&config) {
            EchoPolicy::Forward => Some(stack.echo_forwarder()?),
            EchoPolicy::Reply | EchoPolicy::Ignore => None,
        };
        let listeners = if config.dns.is_own() {
            let udp = UdpSocket::bind_on(&stack, "[::]:53").await?;
            Some((udp, TcpListener::bind_on(&stack, "[::]:53").await?))
        } else {
            None
        };
        let connections = Semaphore::new(config.limits.connections.min(Semaphore::MAX_PERMITS));
        let by_client = config.full_cone || matches!(config.outbound.upstream, Upstream::Socks5(_));
        let shared = Arc::new(Shared {
            config,
            log,
            buffers: Buffers::default(),
            connections,
            counts: LiveCounts::default(),
            relays: Tasks::default(),
            others: Tasks::default(),
        });
        let mut services = JoinSet::new();
        let mine = || Arc::clone(&shared);
        services.spawn(tcp::serve(mine(), forwarder));
        if by_client {
            services.spawn(udp::serve_clients(mine(), udp_forwarder));
        } else {
            services.spawn(udp::serve_flows(mine(), udp_forwarder));
        }
        if let Some(echo) = echo {
            services.spawn(ping::serve(mine(), echo));
        }
        if let Some((udp, tcp)) = listeners {
            services.spawn(dns::serve_udp(mine(), udp));
            services.spawn(dns::serve_tcp(mine(), tcp));
        }
        Ok(Self { stack, shared, services })
    }

    /// Waits until a service fails, which it does if the device is gone.
    ///
    /// # Errors
    /// Always, with why.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn failed(&mut self) -> io::Result<()> {
        match self.services.join_next().await {
            Some(ended) => flatten(ended),
            None => std::future::pending().await,
        }
    }

    /// Ends in order: nobody new is served, what is open has [`Timeouts::drain`](super::Timeouts::drain) to end
    /// by itself, and what is left then is reset.
    pub async fn shutdown(mut self) -> Counts {
        self.services.shutdown().await;
        // Questions and datagrams are asked and sent again; connections are not.
        self.shared.others.end(Duration::ZERO).await;
        self.shared.relays.end(self.shared.config.timeouts.drain).await;
        self.stack.shutdown(Duration::from_secs(1)).await;
        self.counts()
    }

    /// The stack that it serves.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let counts = &self.shared.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            tcp_open: read(&counts.tcp_open),
            tcp_done: read(&counts.tcp_done),
            tcp_reset: read(&counts.tcp_reset),
            tcp_refused: read(&counts.tcp_refused),
            tcp_over_limit: read(&counts.tcp_over_limit),
            udp_done: read(&counts.udp_done),
            udp_lost: read(&counts.udp_lost),
            pings: read(&counts.pings),
            dns: read(&counts.dns),
        }
    }
}

fn flatten(ended: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    ended.unwrap_or_else(|error| Err(io::Error::other(error)))
}
