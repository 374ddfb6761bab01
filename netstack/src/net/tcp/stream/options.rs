//! Options of a connection.

use super::TcpStream;
use crate::config::Config;
use crate::error::os;
use crate::net::options::ip::{socket_family, traffic_class_from, ttl_from};
use crate::net::options::tcp::{HasTcpOptions, tcp_options};
use crate::reasons::EndReason;
use crate::stack::Family;
use crate::tcp::{SocketOptions, TcpInfo};
use crate::trace::History;
use std::io;

/// Options that only a connection has.
impl TcpStream {
    /// `IP_TTL`. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.endpoint.cell.ttl().into())
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.endpoint.cell.set_ttl(ttl_from(ttl)?);
        Ok(())
    }

    /// `IP_TOS`: the DSCP in the upper six bits.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv6.
    pub fn tos_v4(&self) -> io::Result<u32> {
        self.traffic_class(Family::V4)
    }

    /// Sets `IP_TOS` of packets that are sent from now on. The two ECN bits are set by TCP and are
    /// ignored here.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv6, `EINVAL` if the value does not fit into a byte.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        self.set_traffic_class(Family::V4, tos)
    }

    /// `IPV6_TCLASS`: the DSCP in the upper six bits.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv4.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        self.traffic_class(Family::V6)
    }

    /// Sets `IPV6_TCLASS` of packets that are sent from now on. The two ECN bits are set by TCP and
    /// are ignored here.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv4, `EINVAL` if the value does not fit into a byte.
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        self.set_traffic_class(Family::V6, tclass)
    }

    fn traffic_class(&self, family: Family) -> io::Result<u32> {
        self.ensure_over(family)?;
        Ok(self.endpoint.cell.traffic_class().into())
    }

    fn set_traffic_class(&self, family: Family, class: u32) -> io::Result<()> {
        self.ensure_over(family)?;
        self.endpoint.cell.set_traffic_class(traffic_class_from(class)?);
        Ok(())
    }

    /// Fails unless the packets are of this family.
    fn ensure_over(&self, family: Family) -> io::Result<()> {
        let over = if self.endpoint.cell.key().is_ipv6() { Family::V6 } else { Family::V4 };
        if over == family { Ok(()) } else { Err(os(libc::EOPNOTSUPP)) }
    }

    /// `TCP_QUICKACK`: whether acknowledgments are sent at once.
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(self.engine().tcp().quickack(&self.endpoint.cell))
    }

    /// Sets `TCP_QUICKACK`. The stack may reset it later.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.set_quickack(turn, &self.endpoint.cell, quickack));
        Ok(())
    }

    /// `TCP_QUICKACK`, with the name of socket2.
    pub fn tcp_quickack(&self) -> io::Result<bool> {
        self.quickack()
    }

    /// Sets `TCP_QUICKACK`, with the name of socket2.
    pub fn set_tcp_quickack(&self, quickack: bool) -> io::Result<()> {
        self.set_quickack(quickack)
    }

    /// `TCP_MAXSEG`: payload bytes of a full segment.
    ///
    /// # Errors
    /// As [`TcpStream::tcp_info`].
    pub fn tcp_mss(&self) -> io::Result<u32> {
        Ok(u32::try_from(self.tcp_info()?.snd_mss).unwrap_or(u32::MAX))
    }

    /// Why the connection ended, in one value that also reads as a sentence; none as long as it has not.
    ///
    /// # Examples
    /// ```
    /// use netstack::reasons::{EndReason, ResetReason};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = netstack::Stack::builder().build()?;
    /// let listener = stack.listen("127.0.0.1:0").await?;
    /// let client = stack.connect(listener.local_addr()?).await?;
    /// let (server, _) = listener.accept().await?;
    /// server.set_zero_linger()?;
    /// drop(server);
    /// while client.end_reason().is_none() {
    ///     tokio::task::yield_now().await;
    /// }
    /// assert_eq!(client.end_reason(), Some(EndReason::ResetByPeer));
    /// assert_eq!(client.end_reason().unwrap().to_string(), "reset by the peer");
    /// let of_server = stack.recent_ends()[0].reason;
    /// assert_eq!(of_server, EndReason::Reset(ResetReason::TcpAbortOnLinger));
    /// # Ok(())
    /// # }
    /// ```
    pub fn end_reason(&self) -> Option<EndReason> {
        self.endpoint.cell.end_reason()
    }

    /// The latest events of the connection, as many as [`TcpStream::set_history`] or
    /// [`Config::history`] asks for, and why it ended. Its `Display` is text, and
    /// [`History::json_lines`] is JSON.
    pub fn history(&self) -> History {
        self.endpoint.cell.history()
    }

    /// `TCP_INFO`: the state of the connection.
    ///
    /// # Errors
    /// `ENOTCONN` if the stack or the device has failed and the state of the connection is lost.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        self.engine()
            .with_tcp(self.now(), |tcp, turn| tcp.info(turn, &self.endpoint.cell))
            .ok_or_else(|| os(libc::ENOTCONN))
    }
}

impl HasTcpOptions for TcpStream {
    fn config(&self) -> &Config {
        self.engine().core().config()
    }

    fn family(&self) -> Family {
        socket_family(self.endpoint.cell.local_addr())
    }

    fn options(&self) -> SocketOptions {
        self.engine().tcp().options(&self.endpoint.cell)
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.with_options(turn, &self.endpoint.cell, change))
    }

    fn push(&self) {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.push(turn, &self.endpoint.cell));
    }
}

tcp_options!(TcpStream);
