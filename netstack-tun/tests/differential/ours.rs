//! netstack: an engine in virtual time, with a device in memory.

use crate::system::{Call, Flow, Observation, STATES, Settings, SocketView, System, written};
use netstack::Config;
use netstack::buffer::PacketBuf;
use netstack::config::{CongestionName, EcnNegotiation, FastOpenMode, SynCookieMode};
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::readiness::Events;
use netstack::stack::{Batch, Cell, Engine, Family, Interface, Listener, Observer, QueueId, Unconnected};
use netstack::sync::{Mutex, Rank};
use netstack::tcp::State;
use netstack::time::Instant;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

/// The one queue of the one interface.
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };
/// The clock at the beginning of a script.
const START: Instant = Instant::from_millis(1_000_000);
/// The clock moves by this much with each packet and each call: less than any timer.
const STEP: Duration = Duration::from_micros(20);

/// netstack.
pub(crate) struct Ours {
    now: Instant,
    device: Arc<Recorder>,
    engine: Arc<Engine>,
    batch: Batch,
    flow: Flow,
    receive_buffer: Option<usize>,
    listener: Option<Arc<Listener>>,
    socket: Option<Arc<Cell>>,
    written: usize,
}

impl Ours {
    /// A stack that no script has used.
    pub(crate) fn new() -> Self {
        let device = Arc::new(Recorder::new());
        let engine = engine(&device, Config::default());
        let flow = Flow { host: "10.9.0.1:2000".parse().unwrap(), peer: "10.9.0.2:1000".parse().unwrap() };
        Self {
            now: START,
            device,
            engine,
            batch: Batch::new(),
            flow,
            receive_buffer: None,
            listener: None,
            socket: None,
            written: 0,
        }
    }

    /// A socket that is bound to the host's address.
    fn bound(&self) -> io::Result<Unconnected> {
        let (core, tcp) = (self.engine.core(), self.engine.tcp());
        let family = if self.flow.host.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut socket = Unconnected::new(core, tcp, family);
        socket.ip.set_reuse_address(true);
        socket.options.recv_buffer_size = self.receive_buffer;
        tcp.bind(core, &mut socket, self.flow.host)?;
        Ok(socket)
    }

    fn socket(&self) -> io::Result<Arc<Cell>> {
        self.socket.clone().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn try_call(&mut self, call: Call) -> io::Result<usize> {
        let (engine, now) = (Arc::clone(&self.engine), self.now);
        match call {
            Call::Listen => {
                let socket = self.bound()?;
                self.listener =
                    Some(engine.with_tcp(now, |tcp, turn| tcp.listen(turn, socket, 16, Arc::new(Deaf)))?);
            }
            Call::Connect => {
                let (socket, peer) = (self.bound()?, self.flow.peer);
                self.socket =
                    Some(engine.with_tcp(now, |tcp, turn| tcp.connect(turn, socket, peer, Arc::new(Deaf)))?);
            }
            Call::Accept => {
                let listener = self.listener.as_ref().expect("a script listens before it accepts");
                let (cell, _) = engine.with_tcp(now, |tcp, turn| tcp.accept(turn, listener))?;
                self.socket = Some(cell);
            }
            Call::Write(len) => {
                let bytes: Vec<u8> = (self.written..self.written + len).map(written).collect();
                let cell = self.socket()?;
                let taken =
                    engine.with_tcp(now, |tcp, turn| tcp.write(turn, &cell, &[IoSlice::new(&bytes)]))?;
                self.written += taken;
                return Ok(taken);
            }
            Call::ShutdownWrite => {
                let cell = self.socket()?;
                engine.with_tcp(now, |tcp, turn| tcp.shutdown(turn, &cell, Shutdown::Write))?;
            }
            Call::Close => {
                if let Some(cell) = self.socket.take() {
                    engine.with_tcp(now, |tcp, turn| tcp.close(turn, &cell));
                }
            }
        }
        Ok(0)
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let cell = self.socket()?;
        self.engine.with_tcp(self.now, |tcp, turn| tcp.read(turn, &cell, &mut [IoSliceMut::new(buf)]))
    }

    fn view(&self, cell: &Arc<Cell>) -> SocketView {
        let tcp = self.engine.tcp();
        let state = state(cell.state());
        let poll = poll(cell.readiness());
        let unread = tcp.unread(cell);
        let unacked = (state != "CLOSE").then(|| tcp.unacked(cell));
        let mut data = Vec::new();
        let mut buf = vec![0; 1 << 16];
        let read_end = loop {
            match self.read(&mut buf) {
                Ok(0) => break Ok(()),
                Ok(len) => data.extend_from_slice(&buf[..len]),
                Err(err) => break Err(errno(&err)),
            }
        };
        let error = self.engine.with_tcp(self.now, |tcp, turn| tcp.take_error(turn, cell));
        SocketView { state, poll, unread, unacked, data, read_end, error: error.map(|err| errno(&err)) }
    }

    /// What a driver does next: sockets that have sent their share of one call continue.
    fn serve(&mut self) {
        let Self { now, engine, batch, .. } = self;
        batch.deliver(engine);
        while engine.has_waiting(QUEUE) {
            engine.on_writable(*now, QUEUE, batch);
            batch.deliver(engine);
        }
    }
}

impl System for Ours {
    fn begin(&mut self, settings: &Settings) -> Flow {
        let config = Config::default().with(|config| {
            config.timestamps = settings.timestamps;
            config.sack = settings.sack;
            config.window_scaling = settings.window_scaling;
            config.ecn = EcnNegotiation::ALL[usize::from(settings.ecn)];
            config.syncookies =
                if settings.cookies { SynCookieMode::Always } else { SynCookieMode::Overflow };
            config.challenge_ack_interval = Duration::from_millis(if settings.limited { 500 } else { 0 });
            config.congestion = CongestionName::RENO;
            config.recv_buffer_initial = 131_072;
            config.recv_buffer_max = 6_291_456;
            config.send_buffer_initial = 16_384;
            config.send_buffer_max = 4_194_304;
            config.no_metrics_save = true;
            config.fastopen = FastOpenMode::CLIENT;
            config.early_retrans = false;
            config.seed = Some(1);
        });
        self.listener = None;
        self.socket = None;
        self.device = Arc::new(Recorder::new());
        self.engine = engine(&self.device, config);
        self.batch = Batch::new();
        self.now = START;
        self.receive_buffer = settings.receive_buffer;
        self.written = 0;
        let (host, peer) = if settings.ipv6 {
            ("[fd09::1]:2000", "[fd09::2]:1000")
        } else {
            ("10.9.0.1:2000", "10.9.0.2:1000")
        };
        self.flow = Flow { host: host.parse().unwrap(), peer: peer.parse().unwrap() };
        self.flow
    }

    fn call(&mut self, call: Call) -> Result<usize, i32> {
        self.now += STEP;
        let result = self.try_call(call);
        self.serve();
        result.map_err(|err| errno(&err))
    }

    fn inject(&mut self, packet: &[u8]) {
        self.now += STEP;
        let mut buf = self.engine.core().pool().take();
        buf.bytes_mut()[..packet.len()].copy_from_slice(packet);
        let meta = RxMeta { len: packet.len(), ..RxMeta::default() };
        self.engine.on_packet(self.now, QUEUE, buf, meta, &mut self.batch);
        self.engine.end_batch(self.now, &mut self.batch);
        self.serve();
    }

    fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.device.sent.lock())
    }

    fn observe(&mut self) -> Observation {
        self.now += STEP;
        let socket = self.socket.clone().map(|cell| self.view(&cell));
        self.serve();
        Observation { socket }
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn engine(device: &Arc<Recorder>, config: Config) -> Arc<Engine> {
    let interface = Interface::new(Arc::clone(device) as _).name("tun0");
    let interface = interface.address("10.9.0.1/24").address("fd09::1/64");
    Engine::new(config, vec![interface]).unwrap()
}

fn errno(err: &io::Error) -> i32 {
    match err.raw_os_error() {
        Some(errno) => errno,
        None if err.kind() == io::ErrorKind::WouldBlock => libc::EAGAIN,
        None => panic!("{err} has no number"),
    }
}

fn state(state: State) -> &'static str {
    STATES[match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait | State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }]
}

fn poll(ready: Events) -> String {
    let mut names = String::new();
    for (bit, name) in [
        (Events::READABLE, "IN "),
        (Events::WRITABLE, "OUT "),
        (Events::READ_CLOSED, "RDHUP "),
        (Events::HANGUP | Events::WRITE_CLOSED, "HUP "),
        (Events::ERROR, "ERR "),
    ] {
        if ready.intersects(bit) {
            names.push_str(name);
        }
    }
    names
}

/// Nobody waits for anything here.
struct Deaf;

impl Observer for Deaf {
    fn on_ready(&self, _ready: Events) {}
}

/// Keeps what the stack sends.
struct Recorder {
    sent: Mutex<Vec<Vec<u8>>>,
    signal: Signal,
}

impl Recorder {
    fn new() -> Self {
        Self { sent: Mutex::new(Rank::Device, Vec::new()), signal: Signal::new() }
    }
}

impl Device for Recorder {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: 1500,
            queues: 1,
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, _queue: usize, _buf: &mut PacketBuf) -> io::Result<RxMeta> {
        // Packets are given to the engine directly.
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        self.sent.lock().push(bytes);
        Ok(())
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}
