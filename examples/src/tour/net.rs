//! The networks of the tour: two stacks in memory and virtual time, a stack and the kernel over a TUN
//! device in real time, or a stack by itself.

use super::forge::Forgery;
use super::host::{Boot, Host, Machine, Stream};
use super::recording::Recording;
use super::tap::{Place, Plug, Tap};
use super::{Peer, Side};
use netstack::buffer::Pool;
use netstack::device::{Device, Link, LinkConfig, Loopback, PairConfig, PcapTap, SnapLen};
use netstack::time::Instant;
use netstack::wire::Segment;
use netstack::{Config, Interface, Stack};
use netstack_tun::{Tun, TunConfig, netns};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// MTU of the loopback that the tour records; Linux's is 65,536.
const LOOPBACK_MTU: usize = 65_535;

/// How the network of a scene is set up.
pub(super) struct Plan<'a> {
    pub(super) peer: Peer,
    /// From left to right, and back.
    pub(super) delays: [Duration; 2],
    /// Settings of the left and the right stack.
    pub(super) configs: [Config; 2],
    pub(super) capture: &'a Path,
    /// Distinguishes the networks of one process: the third number of their addresses.
    pub(super) number: u8,
}

/// The two hosts of a scene and the wire between them.
pub struct Net {
    /// The one whose lifeline is on the left.
    pub left: Host,
    /// The one on the right.
    pub right: Host,
    /// The wire between them.
    pub wire: Wire,
}

/// The wire between the hosts, on which packets can be lost, delayed and forged.
#[derive(Clone)]
pub struct Wire {
    recording: Arc<Recording>,
    /// The taps through which packets are put on the wire: towards the left and the right host.
    towards: [Arc<Tap>; 2],
    kernel: Option<Side>,
}

impl Wire {
    /// Loses the next segment from `from` for which `matches` holds.
    pub fn lose(&self, from: Side, matches: impl Fn(&Segment) -> bool + Send + 'static) {
        self.lose_many(from, 1, matches);
    }

    /// Loses the next `count` of them.
    pub fn lose_many(&self, from: Side, count: usize, matches: impl Fn(&Segment) -> bool + Send + 'static) {
        self.recording.lose(from, count, Box::new(matches));
    }

    /// Pulls the cable, or reconnects it.
    pub fn set_down(&self, down: bool) {
        self.recording.note(if down { "the cable is pulled" } else { "the cable is back" });
        self.recording.set_down(down);
    }

    /// Writes a remark between the lifelines.
    pub fn says(&self, text: impl Into<String>) {
        self.recording.note(text);
    }

    /// Puts a segment on the wire that arrives at once, as if `from` had sent it.
    ///
    /// # Errors
    /// Those of the device.
    pub fn forge(&self, from: Side, forgery: &Forgery) -> io::Result<()> {
        let packet = forgery.packet();
        let to = from.other();
        self.recording.forged(from, &packet);
        let tap = &self.towards[to.index()];
        if self.kernel == Some(to) {
            return tap.emit(&packet);
        }
        tap.add(packet);
        Ok(())
    }

    /// Ends the scene before its body ends. What follows, such as the closing of sockets that the
    /// body drops, is neither drawn nor captured, and reaches no host.
    pub fn cut(&self) {
        self.recording.cut();
    }

    /// Time since the beginning of the scene.
    pub fn now(&self) -> Duration {
        self.recording.now()
    }

    /// The segments so far.
    pub fn segments(&self) -> super::Segs {
        super::segment::read(&self.recording.recorded().packets).segs
    }
}

impl Net {
    /// Builds the network. It must be called in the runtime of the scene.
    pub(super) fn build(plan: &Plan<'_>, recording: &Arc<Recording>) -> io::Result<Self> {
        match plan.peer {
            Peer::Netstack => in_memory(plan, recording),
            Peer::Kernel(side) => with_kernel(plan, recording, side),
            Peer::Itself => by_itself(plan, recording),
        }
    }

    /// A connection from the left host to `port` of the right one, which listens for it: the client's
    /// end and the server's.
    ///
    /// # Errors
    /// Those of the calls.
    pub async fn connect(&self, port: u16) -> io::Result<(Stream, Stream)> {
        let listener = self.right.listen(port)?;
        let (client, server) = tokio::join!(self.left.connect(self.right.at(port)), listener.accept());
        Ok((client?, server?))
    }

    /// Disconnects everything from the network, without sending anything.
    pub(super) async fn retire(&self) {
        self.left.retire().await;
        self.right.retire().await;
    }
}

/// Two stacks with an in-memory cable between them. The left host's packets are captured.
fn in_memory(plan: &Plan<'_>, recording: &Arc<Recording>) -> io::Result<Net> {
    let cable = PairConfig { offloads: false, ..PairConfig::default() };
    let [there, back] = plan.delays.map(with_delay);
    let (left, right) = Link::pair_over(cable, there, back);
    let near = |device: Link, side, captured| {
        Arc::new(Tap::new(Arc::new(device), Place::Near(side), recording, captured))
    };
    let towards = [near(left, Side::Left, true), near(right, Side::Right, false)];
    let captured = capture(Arc::clone(&towards[0]) as _, plan, Duration::ZERO)?;
    let devices: [Arc<dyn Device>; 2] = [captured, Arc::clone(&towards[1]) as _];
    let mut hosts = Vec::new();
    for (side, device) in [Side::Left, Side::Right].into_iter().zip(devices) {
        let address = IpAddr::from([10, 0, 0, 1 + side.index() as u8]);
        let config = plan.configs[side.index()].clone();
        let boot = booting(device, "tour", Some(format!("{address}/24")), config, recording);
        hosts.push(Host::netstack(side, address, recording, boot)?);
    }
    let wire = Wire { recording: Arc::clone(recording), towards, kernel: None };
    let [left, right] = <[Host; 2]>::try_from(hosts).unwrap_or_else(|_| unreachable!("two were built"));
    Ok(Net { left, right, wire })
}

/// A stack and the kernel, which is `kernel_side`. The stack's packets are captured.
fn with_kernel(plan: &Plan<'_>, recording: &Arc<Recording>, kernel_side: Side) -> io::Result<Net> {
    let side = kernel_side.other();
    let [kernel, own] = [1, 2].map(|host| IpAddr::from([10, 9, plan.number, host]));
    // Router solicitations and similar packets would only distract.
    netns::sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
    let tun =
        TunConfig::new(format!("tour{}", plan.number)).offload(false).address(format!("{kernel}/24"))?;
    let far = Arc::new(Tap::new(Arc::new(Tun::open(&tun)?), Place::Far(kernel_side), recording, false));
    let [there, back] = plan.delays.map(with_delay);
    let (ingress, egress) = if side == Side::Left { (back, there) } else { (there, back) };
    let link = Link::new(Arc::clone(&far) as _, ingress, egress);
    let near = Arc::new(Tap::new(Arc::new(link), Place::Near(side), recording, true));
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let captured = capture(Arc::clone(&near) as _, plan, since_1970)?;
    let boot =
        booting(captured, "tour", Some(format!("{own}/24")), plan.configs[side.index()].clone(), recording);
    // The kernel keeps sending to a host without power, and these packets have to be recorded.
    let own = Host::netstack(side, own, recording, boot)?.lost_packets_seen_by(Arc::clone(&near) as _);
    let kernel = Host::kernel(kernel_side, kernel, recording);
    let (left, right, towards) = match kernel_side {
        Side::Left => (kernel, own, [far, near]),
        Side::Right => (own, kernel, [near, far]),
    };
    let wire = Wire { recording: Arc::clone(recording), towards, kernel: Some(kernel_side) };
    Ok(Net { left, right, wire })
}

/// One stack with a loopback that is recorded. It is both lifelines.
fn by_itself(plan: &Plan<'_>, recording: &Arc<Recording>) -> io::Result<Net> {
    let address = IpAddr::from([127, 0, 0, 1]);
    let tap = Arc::new(Tap::new(Arc::new(Loopback::new(LOOPBACK_MTU)), Place::Loop, recording, true));
    let captured = capture(Arc::clone(&tap) as _, plan, Duration::ZERO)?;
    let boot = booting(captured, "lo", None, plan.configs[0].clone(), recording);
    let left = Host::netstack(Side::Left, address, recording, boot)?;
    let wire = Wire { recording: Arc::clone(recording), towards: [Arc::clone(&tap), tap], kernel: None };
    Ok(Net { right: left.clone(), left, wire })
}

fn with_delay(delay: Duration) -> LinkConfig {
    LinkConfig { delay, ..LinkConfig::default() }
}

/// A capture of the packets of `device`.
fn capture(device: Arc<dyn Device>, plan: &Plan<'_>, origin: Duration) -> io::Result<Arc<dyn Device>> {
    let file = File::create(plan.capture)?;
    Ok(Arc::new(PcapTap::new(device, file, SnapLen::default())?.with_origin(origin)))
}

/// How a host boots: with a new stack on the device, after packets that arrived while it was off
/// have been dropped.
fn booting(
    device: Arc<dyn Device>,
    name: &'static str,
    address: Option<String>,
    config: Config,
    recording: &Arc<Recording>,
) -> Boot {
    let recording = Arc::clone(recording);
    Box::new(move || {
        let mut buf = Pool::new().take();
        while device.receive(Instant::ZERO, 0, &mut buf).is_ok() {}
        let plug = Arc::new(Plug::new(Arc::clone(&device), &recording));
        let interface = Interface::new(Arc::clone(&plug) as _).name(name);
        let interface = match &address {
            Some(address) => interface.address(address),
            None => interface,
        };
        let stack = Stack::builder().config(config.clone()).interface(interface).build()?;
        Ok(Machine { stack, plug })
    })
}
