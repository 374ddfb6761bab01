//! Kernel sockets whose calls try again instead of waiting, at both ends of a round trip with `--busy-poll`.

use crate::clock;
use crate::services::ECHO;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How long a call tries.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts between two looks at the clock.
const ATTEMPTS_PER_LOOK: u32 = 4096;

/// A stream that never sleeps for want of bytes or of room.
#[derive(Debug)]
pub struct Polled(TcpStream);

impl Polled {
    /// From now on nobody waits for `stream`.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(stream))
    }
}

impl Read for Polled {
    /// # Errors
    /// Those of the stream, and [`io::ErrorKind::TimedOut`] after 10 s.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        again(|| self.0.read(buf))
    }
}

impl Write for Polled {
    /// # Errors
    /// Those of the stream, and [`io::ErrorKind::TimedOut`] after 10 s.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        again(|| self.0.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Calls until it need not wait.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let begin = clock::now();
    loop {
        for _ in 0..ATTEMPTS_PER_LOOK {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
                result => return result,
            }
        }
        if clock::now() - begin > TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Returns everything on all connections of `listener`, each with a thread of its own that never sleeps. A connection
/// without a byte for 10 s is closed, so that nothing spins for a client that has forgotten it.
pub(crate) fn echo(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        thread::Builder::new().name("echo".to_owned()).spawn(move || echo_on(Polled::new(stream)?))?;
    }
}

fn echo_on(mut stream: Polled) -> io::Result<()> {
    let mut buf = vec![0; ECHO];
    loop {
        let len = stream.read(&mut buf)?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..len])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_echo_returns_what_comes_until_the_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        thread::spawn(move || echo(&listener));
        let mut client = Polled::new(TcpStream::connect(to).unwrap()).unwrap();
        let message = [7; 100_000];
        let mut back = vec![0; message.len()];
        for _ in 0..3 {
            client.write_all(&message).unwrap();
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, message);
        }
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut back).unwrap(), 0);
    }
}
