//! Sockets that block their thread, with the names and the behaviour of `std::net`.
//!
//! They are for code without a runtime. Somebody else must drive the stack: it has a thread of its own
//! ([`Driver::Thread`](crate::Driver::Thread)), or its runtime goes on on other threads. Time-outs are of real time.
//!
//! The constructors take the current stack, as those of [`net`](crate::net) do: on a thread of one's own that is the
//! stack that was entered ([`Stack::enter`](crate::Stack::enter)) or installed
//! ([`Stack::install`](crate::Stack::install)). `connect_on` and `bind_on` name it.
//!
//! # Examples
//! ```
//! use netstack::blocking::{TcpListener, TcpStream};
//! use netstack::{Driver, Stack};
//! use std::io::{Read, Write};
//!
//! # fn main() -> std::io::Result<()> {
//! let stack = Stack::builder().driver(Driver::Thread).build()?;
//! let listener = TcpListener::bind_on(&stack, "127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let server = std::thread::spawn(move || -> std::io::Result<()> {
//!     let (mut stream, _) = listener.accept()?;
//!     std::io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
//! });
//! let mut stream = TcpStream::connect_on(&stack, addr)?;
//! stream.write_all(b"hello")?;
//! stream.shutdown(std::net::Shutdown::Write)?;
//! let mut echoed = String::new();
//! stream.read_to_string(&mut echoed)?;
//! assert_eq!(echoed, "hello");
//! server.join().unwrap()
//! # }
//! ```

mod mode;
mod tcp;
mod udp;

pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
