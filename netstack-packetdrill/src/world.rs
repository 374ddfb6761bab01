//! The stack under test, its clock, and the files that scripts name.

use crate::device::{Recorder, Sent, Space, reaches};
use crate::flags::{Flags, Leftovers};
use crate::poll::{Epoll, Watch};
use crate::sysctl::Sysctls;
use crate::{Call, Errno};
use netstack::buffer::PACKET_SIZE;
use netstack::config::Config;
use netstack::device::RxMeta;
use netstack::stack::{
    Batch, Cell, Counters, Engine, EngineSetup, FastOpenCache, Interface, Listener, QueueId, Unconnected,
};
use netstack::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The one queue of the one interface.
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };

/// The start of the clock: far enough from zero that no earlier time is negative.
const START: Instant = Instant::from_millis(1_000_000);

/// A number that grows whenever a command of the script has run.
fn work_of_commands() -> i64 {
    // SAFETY: all-zero bytes are a `rusage`, and the call writes to nothing else.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    usage.ru_minflt
}

/// The shortest time-out of a retransmission, `TCP_RTO_MIN` in Linux.
const RTO_MIN: Duration = Duration::from_millis(200);

/// Scripts do not depend on the random numbers, but should always get the same ones.
const SEED: u64 = 1;

/// Everything that a script can change.
pub struct World {
    flags: Flags,
    /// The system's variables before the script's init commands ran.
    before: Sysctls,
    /// The variables that the stack was built with.
    seen: Sysctls,
    /// Those that its connections go by.
    followed: Sysctls,
    /// How much the script's commands had done when the variables were last read.
    commands: i64,
    stack: Option<Stack>,
    now: Instant,
    /// When the script last had a packet line.
    last_line: Instant,
    /// When the stack sent the last packet that a line took.
    last_burst: Option<Instant>,
    leftovers: Vec<Sent>,
    /// The sequence number up to which lines of the script took data, and when the last of that
    /// data was sent, by the ports.
    taken: BTreeMap<(u16, u16), (u32, Instant)>,
    /// The sequence number up to which the stack sent data that the script did not check, by the
    /// ports.
    newest: BTreeMap<(u16, u16), u32>,
    /// The last sequence number that the script's packets acknowledge, by the ports.
    acknowledged: BTreeMap<(u16, u16), u32>,
    /// Connections that the script reset, by the ports.
    reset: BTreeSet<(u16, u16)>,
    files: BTreeMap<i32, File>,
}

struct Stack {
    engine: Arc<Engine>,
    device: Arc<Recorder>,
    out: Batch,
}

/// The file behind a descriptor.
pub enum File {
    /// A socket.
    Socket(Socket),
    /// An epoll instance.
    Epoll(Epoll),
}

/// A socket.
pub struct Socket {
    /// Its state.
    pub kind: Kind,
    /// `O_NONBLOCK`.
    pub nonblocking: bool,
    /// `SO_REUSEADDR`, for getsockopt: the stack uses it when binding only.
    pub reuse_address: bool,
    /// A connect was started, and its result was not reported yet.
    pub connecting: bool,
    /// What has happened since the last report to epoll.
    pub watch: Arc<Watch>,
}

/// The state of a socket.
pub enum Kind {
    /// Neither connected nor listening.
    Unconnected(Box<Unconnected>),
    /// Connected, connecting, or at its end.
    Connection(Arc<Cell>),
    /// Listening.
    Listener(Arc<Listener>),
}

impl Socket {
    /// A socket of this kind, blocking.
    pub fn new(kind: Kind) -> Self {
        Self { kind, nonblocking: false, reuse_address: false, connecting: false, watch: Arc::default() }
    }
}

impl World {
    /// A world without a stack yet.
    pub fn new(flags: Flags, before: Sysctls) -> Self {
        Self {
            flags,
            before,
            seen: Sysctls::default(),
            followed: Sysctls::default(),
            commands: 0,
            stack: None,
            now: START,
            last_line: START,
            last_burst: None,
            leftovers: Vec::new(),
            taken: BTreeMap::new(),
            newest: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            reset: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Builds the stack at the first call: the init commands of the script have run by then.
    ///
    /// # Errors
    /// `EINVAL` if the settings do not fit together, with the reason on standard error.
    pub fn start(&mut self) -> Call<Arc<Engine>> {
        if self.stack.is_none() {
            self.seen = Sysctls::read();
            self.followed = self.seen.clone();
            let device = Arc::new(Recorder::new(self.flags.mtu, self.flags.offloads));
            let built = self.config().and_then(|config| self.build(config, device, None));
            self.stack = Some(built.map_err(|error| {
                eprintln!("netstack-packetdrill: {error}");
                Errno::from(error)
            })?);
        }
        self.engine()
    }

    /// Applies variables that the script has changed: from then on, a new stack with these values
    /// is used, which has the cookies of the previous one. Open connections of the previous stack
    /// no longer affect the script.
    ///
    /// # Errors
    /// As [`World::start`].
    pub fn refresh(&mut self) -> Call<()> {
        let Some(stack) = &self.stack else { return Ok(()) };
        let sysctls = Sysctls::read();
        if sysctls == self.seen {
            return Ok(());
        }
        let flushed = sysctls.flushes() != self.seen.flushes();
        self.seen = sysctls;
        let cache = Arc::clone(stack.engine.tcp().fast_open_cache());
        if flushed {
            cache.clear();
        }
        let config = self.config()?;
        if config == **stack.engine.core().config() {
            return Ok(());
        }
        let device = Arc::clone(&stack.device);
        self.stack = Some(self.build(config, device, Some(cache))?);
        Ok(())
    }

    /// If a command of the script has changed variables, the connections that stand go by the new values.
    /// New sockets do after [`World::refresh`].
    pub fn follow_variables(&mut self) {
        let Some(Stack { engine, .. }) = &self.stack else { return };
        let commands = work_of_commands();
        if commands == self.commands {
            return;
        }
        self.commands = commands;
        let sysctls = Sysctls::read();
        if sysctls == self.followed {
            return;
        }
        let engine = Arc::clone(engine);
        self.followed = sysctls;
        match self.config() {
            Ok(config) => engine.with_tcp(self.now, |tcp, turn| tcp.set_config(turn, &Arc::new(config))),
            // The next socket has the same trouble, and the script fails there.
            Err(error) => eprintln!("netstack-packetdrill: {error}"),
        }
    }

    /// The variables of the namespace, then so_flags, then the variables that the script set.
    pub fn config(&self) -> std::io::Result<Config> {
        let now = Sysctls::read();
        let mut config = Config::default().with(|config| {
            config.seed = Some(SEED);
            config.loopback = false;
        });
        now.apply_all(&mut config);
        for (key, value) in &self.flags.settings {
            let set = config.set(key, value);
            set.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        }
        now.apply_changed(&self.before, &mut config);
        Ok(config)
    }

    fn build(
        &self,
        config: Config,
        device: Arc<Recorder>,
        cache: Option<Arc<FastOpenCache>>,
    ) -> std::io::Result<Stack> {
        let mut interface = Interface::new(Arc::clone(&device) as _).name("tun0");
        for address in &self.flags.local {
            let (bits, gateway) = match address {
                IpAddr::V4(_) => (32, "192.0.2.1"),
                IpAddr::V6(_) => (128, "2001:db8::1"),
            };
            interface = interface.address(&format!("{address}/{bits}")).gateway(gateway);
        }
        let setup = EngineSetup { fast_open_cache: cache, ..EngineSetup::default() };
        let engine = Engine::with_setup(config, vec![interface], setup)?;
        Ok(Stack { engine, device, out: Batch::new() })
    }

    /// The stack.
    ///
    /// # Errors
    /// `ENOTSOCK` before there was a socket.
    pub fn engine(&self) -> Call<Arc<Engine>> {
        self.stack.as_ref().map(|stack| Arc::clone(&stack.engine)).ok_or(Errno(libc::ENOTSOCK))
    }

    /// Lets connections that have sent their share in one call continue, as a driver would do at
    /// once.
    fn serve(&mut self) {
        let now = self.now;
        if let Some(Stack { engine, out, .. }) = &mut self.stack {
            while engine.has_waiting(QUEUE) {
                engine.on_writable(now, QUEUE, out);
                out.deliver(engine);
            }
        }
    }

    /// Takes the oldest packet that the stack sent, for a line of the script.
    pub fn take_sent(&mut self) -> Option<Sent> {
        self.last_line = self.now;
        self.serve();
        let sent = self.stack.as_ref()?.device.pop()?;
        if let Some(space) = Space::of(&sent.bytes) {
            let (seen, at) = self.taken.entry(space.ports).or_insert((space.end, sent.at));
            if reaches(space.end, *seen) {
                (*seen, *at) = (space.end, sent.at);
            }
        }
        self.last_burst = Some(sent.at);
        Some(sent)
    }

    /// Ends the script: the packets that exist now are those that no line of it has taken.
    pub fn end_script(&mut self) {
        self.serve();
        let mut left = self.stack.as_ref().map(|stack| stack.device.drain()).unwrap_or_default();
        match self.flags.leftovers {
            Leftovers::All => {}
            Leftovers::Late => left.retain(|packet| !self.is_accounted_for(packet)),
            Leftovers::None => left.clear(),
        }
        self.leftovers = left;
    }

    /// Whether a script that does not look at a packet reckons with it all the same: it acknowledged
    /// what is in it; the packet is the rest of a burst of which a line took a part; it is new data and
    /// the script acknowledged some without looking; it only acknowledges, on a connection that the
    /// script then reset; it is a SYN that a line took, and comes again; or it came of what the script did last, and is new data, only acknowledges, or
    /// is what the script left without an acknowledgment and comes again.
    fn is_accounted_for(&mut self, packet: &Sent) -> bool {
        let Some(space) = Space::of(&packet.bytes) else { return false };
        let data = space.start != space.end;
        let (source, destination) = space.ports;
        let back = (destination, source);
        let acknowledged = self.acknowledged.get(&back);
        let (looked, taken_at) = *self.taken.entry(space.ports).or_insert((space.start, packet.at));
        let blind = acknowledged.is_some_and(|ack| reaches(*ack, looked.wrapping_add(1)));
        let newest = self.newest.entry(space.ports).or_insert(looked);
        let new = data && reaches(space.start, *newest);
        if reaches(space.end, *newest) {
            *newest = space.end;
        }
        let acknowledged = data && acknowledged.is_some_and(|ack| reaches(*ack, space.end));
        // The last line asks for it, or the time is over, which is never shorter than Linux's.
        let again = data && (packet.at == self.last_line || packet.at >= taken_at + RTO_MIN);
        let late = packet.at >= self.last_line && (new || again || space.is_pure_ack());
        let rest = self.last_burst == Some(packet.at);
        let gone = space.is_pure_ack() && self.reset.contains(&back);
        let is_syn = space.resets_or_opens && space.ack.is_none() && data;
        let syn_again =
            is_syn && reaches(looked, space.start.wrapping_add(1)) && packet.at >= taken_at + RTO_MIN;
        syn_again || (!space.resets_or_opens && (acknowledged || (new && blind) || late || rest || gone))
    }

    /// The packets that make a script fail that is over.
    pub fn leftovers(&self) -> &[Sent] {
        &self.leftovers
    }

    /// What the stack has counted; none before there is one.
    pub fn counters(&self) -> Option<Counters> {
        self.stack.as_ref().map(|stack| stack.engine.counters())
    }

    /// When the stack wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stack.as_ref()?.engine.next_deadline()
    }

    /// Moves the clock forward, never back, and processes what is due.
    pub fn move_to(&mut self, at: Instant) {
        self.serve();
        self.now = self.now.max(at);
        let now = self.now;
        if let Some(Stack { engine, out, .. }) = &mut self.stack
            && engine.next_deadline().is_some_and(|at| at <= now)
        {
            engine.on_timer(now, out);
            out.deliver(engine);
        }
    }

    /// A packet from the script.
    ///
    /// # Errors
    /// `EMSGSIZE` if it is longer than IP allows.
    pub fn inject(&mut self, packet: &[u8]) -> Call<()> {
        if packet.len() > PACKET_SIZE {
            return Err(Errno(libc::EMSGSIZE));
        }
        self.serve();
        let now = self.now;
        self.last_line = now;
        let space = Space::of(packet);
        // A SYN takes a sequence number, and a reset none.
        if let Some(space) = space.filter(|space| space.resets_or_opens && space.start == space.end) {
            self.reset.insert(space.ports);
        }
        if let Some(Space { ports, ack: Some(ack), .. }) = space {
            let highest = self.acknowledged.entry(ports).or_insert(ack);
            if reaches(ack, *highest) {
                *highest = ack;
            }
        }
        if let Some(Stack { engine, out, .. }) = &mut self.stack {
            let mut buf = engine.core().pool().take();
            buf.bytes_mut()[..packet.len()].copy_from_slice(packet);
            let meta = RxMeta { len: packet.len(), checksum_verified: false, gso_size: None };
            engine.on_packet(now, QUEUE, buf, meta, out);
            engine.end_batch(now, out);
            out.deliver(engine);
        }
        Ok(())
    }

    /// A file.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file(&mut self, fd: i32) -> Call<&mut File> {
        self.files.get_mut(&fd).ok_or(Errno(libc::EBADF))
    }

    /// A socket.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    pub fn socket(&mut self, fd: i32) -> Call<&mut Socket> {
        match self.file(fd)? {
            File::Socket(socket) => Ok(socket),
            File::Epoll(_) => Err(Errno(libc::ENOTSOCK)),
        }
    }

    /// The connection of a socket, or `otherwise` if it has none.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`.
    pub fn connection(&mut self, fd: i32, otherwise: i32) -> Call<Arc<Cell>> {
        match &self.socket(fd)?.kind {
            Kind::Connection(cell) => Ok(Arc::clone(cell)),
            Kind::Unconnected(_) | Kind::Listener(_) => Err(Errno(otherwise)),
        }
    }

    /// Whether `fd` is a file of this world.
    pub fn has(&self, fd: i32) -> bool {
        self.files.contains_key(&fd)
    }

    /// All files.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (i32, &mut File)> {
        self.files.iter_mut().map(|(fd, file)| (*fd, file))
    }

    /// Adds a file.
    pub fn add(&mut self, fd: i32, file: File) {
        self.files.insert(fd, file);
    }

    /// Removes a file.
    pub fn remove(&mut self, fd: i32) -> Option<File> {
        self.files.remove(&fd)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sysctl::FILE_VARIABLE;
    use netstack::stack::Family;
    use netstack::tcp::TcpInfo;
    use netstack::wire::{self, ChecksumMode, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, emit_tcp};
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// A segment from the script.
    fn packet(flags: wire::Flags, seq: u32, ack: u32) -> Vec<u8> {
        let segment = Segment { window: 60_000, ..Segment::new(flags, SeqNum::new(seq), SeqNum::new(ack)) };
        let ip = IpMeta::new("192.0.2.1".parse().unwrap(), "192.168.0.1".parse().unwrap(), 64);
        let mut header = HeaderBuf::new();
        let datagram = TcpDatagram { ip: &ip, src_port: 5000, dst_port: 80, segment: &segment, payload: &[] };
        emit_tcp(&mut header, &datagram, ChecksumMode::Full);
        header.to_vec()
    }

    /// A world with a connection that the script opened, with a round trip of 10 ms.
    fn connected() -> (World, Arc<Cell>) {
        let mut world = World::new(Flags::parse("local_ip=192.168.0.1").unwrap(), Sysctls::read());
        let engine = world.start().unwrap();
        let mut socket = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
        engine.tcp().bind(engine.core(), &mut socket, "192.168.0.1:80".parse().unwrap()).unwrap();
        let listener = engine
            .with_tcp(world.now, |tcp, turn| tcp.listen(turn, socket, 8, Arc::new(Watch::default())))
            .unwrap();
        world.inject(&packet(wire::Flags::SYN, 0, 0)).unwrap();
        let syn_ack = world.take_sent().unwrap().bytes;
        let iss = u32::from_be_bytes(syn_ack[24..28].try_into().unwrap());
        world.now += Duration::from_millis(10);
        world.inject(&packet(wire::Flags::ACK, 1, iss.wrapping_add(1))).unwrap();
        let (cell, _) = engine.with_tcp(world.now, |tcp, turn| tcp.accept(turn, &listener)).unwrap();
        (world, cell)
    }

    fn info(world: &World, cell: &Cell) -> TcpInfo {
        world.engine().unwrap().with_tcp(world.now, |tcp, turn| tcp.info(turn, cell)).unwrap()
    }

    /// For other tests.
    pub(crate) fn info_of_a_connection() -> TcpInfo {
        let (world, cell) = connected();
        info(&world, &cell)
    }

    /// In a process of its own: the environment says where the variables are, and the commands of a script are
    /// the children of the process.
    #[test]
    fn connections_follow_variables_that_a_command_changes_in_mid_script() {
        if let Some(file) = std::env::var_os(FILE_VARIABLE) {
            return follows(Path::new(&file));
        }
        let file = std::env::temp_dir().join(format!("netstack-packetdrill-{}", std::process::id()));
        std::fs::write(&file, "net.ipv4.tcp_pacing_ss_ratio=200\n").unwrap();
        let name = "world::tests::connections_follow_variables_that_a_command_changes_in_mid_script";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(FILE_VARIABLE, &file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let _ = std::fs::remove_file(&file);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    fn follows(variables: &Path) {
        let (mut world, cell) = connected();
        world.follow_variables();
        let before = info(&world, &cell).pacing_rate;
        std::fs::write(variables, "net.ipv4.tcp_pacing_ss_ratio=400\n").unwrap();
        // The command that a script would have for that.
        assert!(Command::new("true").status().unwrap().success());
        world.follow_variables();
        assert_eq!(info(&world, &cell).pacing_rate, 2 * before);
    }
}
