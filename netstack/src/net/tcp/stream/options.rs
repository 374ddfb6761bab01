//! Options of a connection.

use super::TcpStream;
use crate::config::Config;
use crate::error::os;
use crate::ip::PacketOptions;
use crate::net::options::fast_open::fast_open_options;
use crate::net::options::ip::{HasIpOptions, IpChange, IpValues, ip_options, socket_family};
use crate::net::options::tcp::{
    ConnectionOptions, HasTcpOptions, Progress, buffer_options, change_value, ip_values, linger_option,
    tcp_options,
};
use crate::reasons::EndReason;
use crate::stack::Family;
use crate::tcp::{SocketOptions, TcpInfo};
use crate::trace::History;
use std::io;
use std::net::SocketAddr;

/// Options that only a connection has.
impl TcpStream {
    /// `IP_TTL`, of packets over IPv4. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        self.ttl_v4()
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.set_ttl_v4(ttl)
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

impl HasIpOptions for TcpStream {
    fn family(&self) -> Family {
        socket_family(self.endpoint.cell.local_addr())
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn values(&self) -> IpValues {
        let cell = &self.endpoint.cell;
        ip_values(cell.ip_options(), &self.engine().tcp().options(cell))
    }

    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        self.endpoint.cell.change_packets(change);
    }

    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()> {
        let Some(change) = change_value(self, change)? else { return Ok(()) };
        let cell = &self.endpoint.cell;
        match change {
            IpChange::ReuseAddress(on) => cell.set_reuse_address(on),
            IpChange::ReusePort(on) => cell.set_reuse_port(on),
            IpChange::OnlyV6(_) => return Err(os(libc::EINVAL)),
            IpChange::Device(name) => {
                self.engine().with_tcp(self.now(), |tcp, turn| tcp.bind_device(turn, cell, name))?;
            }
            IpChange::MtuDiscover(_) | IpChange::Foreign(..) | IpChange::Owner(_) => {}
        }
        Ok(())
    }

    fn interface_name(&self, interface: u16) -> Vec<u8> {
        self.engine().core().interface_name(interface).as_bytes().to_vec()
    }

    fn default_ttl(&self) -> u8 {
        self.engine().core().config().default_ttl
    }

    fn path_mtu(&self) -> Option<usize> {
        self.engine().tcp().path_mtu(&self.endpoint.cell)
    }
}

impl HasTcpOptions for TcpStream {
    fn config(&self) -> &Config {
        self.engine().core().config()
    }

    fn options(&self) -> io::Result<SocketOptions> {
        Ok(self.engine().tcp().options(&self.endpoint.cell))
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> io::Result<R> {
        Ok(self
            .engine()
            .with_tcp(self.now(), |tcp, turn| tcp.with_options(turn, &self.endpoint.cell, change)))
    }

    fn progress(&self) -> Progress {
        Progress::Connected
    }

    fn connection(&self) -> Option<&dyn ConnectionOptions> {
        Some(self)
    }
}

impl ConnectionOptions for TcpStream {
    fn push(&self) {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.push(turn, &self.endpoint.cell));
    }

    fn is_quick(&self) -> bool {
        self.engine().tcp().quickack(&self.endpoint.cell)
    }

    fn set_quick(&self, on: bool) {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.set_quickack(turn, &self.endpoint.cell, on));
    }

    fn mss(&self) -> io::Result<usize> {
        Ok(self.tcp_info()?.snd_mss)
    }

    fn window_limit(&self) -> Option<usize> {
        self.engine().tcp().window_limit(&self.endpoint.cell)
    }

    fn original_dst(&self) -> SocketAddr {
        self.endpoint.cell.original_dst()
    }
}

ip_options!(TcpStream, "");
tcp_options!(TcpStream);
buffer_options!(TcpStream);
linger_option!(TcpStream, #[deprecated = "as in tokio, where it can block the thread on drop"]);
fast_open_options!(TcpStream);
