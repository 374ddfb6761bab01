//! netstack to netstack.

use super::{CHUNK, Link, QUEUE, Watch};
use crate::devices::Cable;
use ::netstack::device::{Device, Pair, PairConfig};
use ::netstack::net::{TcpListener, TcpStream};
use ::netstack::{Interface, Stack};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// Two stacks with one connection, on one thread with tokio: sockets, reactors and wake-ups included.
#[derive(Debug)]
pub struct Transfer {
    runtime: Runtime,
    sender: TcpStream,
    receiver: TcpStream,
    out: Vec<u8>,
    into: Vec<u8>,
    owned: Bytes,
    /// Kept for as long as their connection is used.
    _stacks: [Stack; 2],
}

impl Transfer {
    /// Connects two stacks. With `segmentation`, super-segments of up to 64 KiB pass unchanged, as
    /// over TUN; otherwise each packet fits the MTU.
    ///
    /// # Errors
    /// If they do not connect.
    pub fn new(link: Link, segmentation: bool) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let config = PairConfig { mtu: link.mtu, queue: QUEUE, offloads: segmentation || !link.checksums };
        let (a, b) = Pair::new(config);
        let [a, b]: [Arc<dyn Device>; 2] =
            [a, b].map(|end| Arc::new(Cable { end, segmentation }) as Arc<dyn Device>);
        let (sender, receiver, stacks) = runtime.block_on(async {
            let build =
                |device, address| Stack::builder().interface(Interface::new(device).address(address)).build();
            let (here, there) = (build(a, "10.0.0.1/24")?, build(b, "10.0.0.2/24")?);
            let listener = TcpListener::bind_on(&there, "10.0.0.2:80").await?;
            let (sender, accepted) =
                tokio::try_join!(TcpStream::connect_on(&here, "10.0.0.2:80"), listener.accept())?;
            Ok::<_, io::Error>((sender, accepted.0, [here, there]))
        })?;
        let (out, into, owned) = (vec![0x5a; CHUNK], vec![0; CHUNK], Bytes::from(vec![0x5a; CHUNK]));
        Ok(Self { runtime, sender, receiver, out, into, owned, _stacks: stacks })
    }

    /// Moves `bytes` from one application's buffer to the other's.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn run(&mut self, bytes: usize) -> io::Result<()> {
        let Self { runtime, sender, receiver, out, into, .. } = self;
        runtime.block_on(async {
            let write = async {
                let mut left = bytes;
                while left > 0 {
                    let len = left.min(out.len());
                    left -= sender.write(&out[..len]).await?;
                }
                Ok::<_, io::Error>(())
            };
            let read = async {
                let mut left = bytes;
                let mut watch = Watch::default();
                while left > 0 {
                    let n = receiver.read(into).await?;
                    watch.round(n);
                    left -= n;
                }
                Ok(())
            };
            tokio::try_join!(write, read).map(drop)
        })
    }

    /// Moves `bytes` in buffers that the sender shares and the receiver gets as they are.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn run_owned(&mut self, bytes: usize) -> io::Result<()> {
        let Self { runtime, sender, receiver, owned, .. } = self;
        runtime.block_on(async {
            let write = async {
                let mut left = bytes;
                while left > 0 {
                    let len = left.min(owned.len());
                    sender.write_all_chunks(&mut [owned.slice(..len)]).await?;
                    left -= len;
                }
                Ok::<_, io::Error>(())
            };
            let read = async {
                let mut left = bytes;
                while left > 0 {
                    let chunk = receiver.read_chunk().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    left -= chunk.len();
                }
                Ok(())
            };
            tokio::try_join!(write, read).map(drop)
        })
    }
}
