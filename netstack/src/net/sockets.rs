//! What a [`Stack`] does for its sockets: methods that call the constructors of the socket types.
//!
//! They stand apart from the type because the sockets are above it: each socket holds its stack.

use crate::net::echo::EchoForwarder;
use crate::net::interface::{InterfaceHandle, Monitor};
use crate::net::lookup::{ToSocketAddrs, resolve};
use crate::net::stack::Stack;
use crate::net::tcp::{TcpForwarder, TcpForwarderConfig, TcpListener, TcpSocket, TcpStream};
use crate::net::udp::{UdpForwarder, UdpForwarderConfig, UdpSocket};
use crate::stack::{Interface, InterfaceInfo, RouteInfo, SocketInfo};
use std::io;
use std::net::SocketAddr;

/// Interfaces.
impl Stack {
    /// A handle to the interface `name`, to change its addresses, routes, MTU and state.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn interface(&self, name: &str) -> io::Result<InterfaceHandle> {
        InterfaceHandle::of(self, name)
    }

    /// Takes one more interface into use while the stack runs. [`InterfaceHandle::remove`] removes it, as any other.
    ///
    /// # Errors
    /// `EEXIST` if there is an interface of this name or with one of its addresses; [`io::ErrorKind::InvalidInput`] if
    /// the interface cannot work, as [`StackBuilder::build`](crate::StackBuilder::build); `ENOSPC` once the stack had
    /// some four thousand interfaces in its life, since none gets the number of another;
    /// [`io::ErrorKind::Unsupported`] if the time of the stack's runtime is paused and the device waits on a file
    /// descriptor; an error if the stack has ended.
    ///
    /// # Examples
    /// ```
    /// use netstack::device::{Pair, PairConfig};
    /// use netstack::{Interface, Stack};
    /// use std::sync::Arc;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = Stack::builder().build()?;
    /// let (device, _vm) = Pair::new(PairConfig::default());
    /// let vm7 = stack.add_interface(Interface::new(Arc::new(device)).name("vm7").address("10.7.0.1/24"))?;
    /// assert_eq!(stack.routes().last().unwrap().to_string(), "10.7.0.0/24 src 10.7.0.1 dev vm7");
    /// vm7.remove()?;
    /// assert_eq!(stack.interface("vm7").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_interface(&self, interface: Interface) -> io::Result<InterfaceHandle> {
        InterfaceHandle::add_to(self, interface)
    }

    /// All interfaces, with their addresses: `ip addr`.
    pub fn interfaces(&self) -> Vec<InterfaceInfo> {
        self.engine().core().all_interfaces()
    }

    /// All routes: `ip route`.
    pub fn routes(&self) -> Vec<RouteInfo> {
        self.engine().core().all_routes()
    }

    /// All sockets, of TCP, UDP, ping and raw sockets in this order: `ss -tuwanoi`, line by line if they are
    /// printed.
    pub fn sockets(&self) -> Vec<SocketInfo> {
        let engine = self.engine();
        let mut rows = engine.tcp().sockets(self.now());
        rows.extend(engine.udp().socket_infos());
        rows.extend(engine.raw().socket_infos());
        rows
    }

    /// Watches the interfaces: `ip monitor`.
    pub fn monitor(&self) -> Monitor {
        Monitor::of(self)
    }
}

/// Sockets.
impl Stack {
    /// Opens a connection on this stack: [`TcpStream::connect_on`].
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpStream> {
        TcpStream::connect_on(self, addr).await
    }

    /// Listens on this stack: [`TcpListener::bind_on`].
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn listen<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpListener> {
        TcpListener::bind_on(self, addr).await
    }

    /// Takes every SYN for which this stack has no listener, whatever its destination is, before it is
    /// answered: [`TcpForwarder::start_on`].
    ///
    /// # Errors
    /// As [`TcpForwarder::start_on`].
    pub fn tcp_forwarder(&self, config: TcpForwarderConfig) -> io::Result<TcpForwarder> {
        TcpForwarder::start_on(self, config)
    }

    /// Takes every datagram for which this stack has no socket, whatever its destination is:
    /// [`UdpForwarder::start_on`].
    ///
    /// # Errors
    /// As [`UdpForwarder::start_on`].
    pub fn udp_forwarder(&self, config: UdpForwarderConfig) -> io::Result<UdpForwarder> {
        UdpForwarder::start_on(self, config)
    }

    /// Takes the echo requests to addresses that an interface accepts for others:
    /// [`EchoForwarder::start_on`].
    ///
    /// # Errors
    /// As [`EchoForwarder::start_on`].
    pub fn echo_forwarder(&self) -> io::Result<EchoForwarder> {
        EchoForwarder::start_on(self)
    }

    /// A new IPv4 socket of this stack: [`TcpSocket::new_v4_on`].
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn tcp_socket_v4(&self) -> io::Result<TcpSocket> {
        TcpSocket::new_v4_on(self)
    }

    /// A new IPv6 socket of this stack: [`TcpSocket::new_v6_on`].
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn tcp_socket_v6(&self) -> io::Result<TcpSocket> {
        TcpSocket::new_v6_on(self)
    }

    /// Binds a UDP socket on this stack: [`UdpSocket::bind_on`].
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub async fn udp_socket<A: ToSocketAddrs>(&self, addr: A) -> io::Result<UdpSocket> {
        UdpSocket::bind_on(self, addr).await
    }

    /// Resolves a name in the same way as the sockets of this stack, by its
    /// [resolver](crate::StackBuilder::resolver).
    ///
    /// # Errors
    /// As [`lookup_host`](crate::net::lookup_host).
    pub async fn lookup_host<T: ToSocketAddrs>(
        &self,
        host: T,
    ) -> io::Result<impl Iterator<Item = SocketAddr>> {
        let target = host.to_target();
        Ok(resolve(self.core().resolver(), target).await?.into_iter())
    }
}
