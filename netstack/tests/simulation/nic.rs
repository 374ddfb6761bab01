//! The device of a host: a ring of packets to send, one of packets received, and what is wrong with it.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::stack::{Batch, Engine, QueueId};
use netstack::time::Instant;
use netstack::wire::complete_checksum;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use crate::idle::Idle;
use crate::packet::Packet;
use crate::rng::Rng;

/// Calls of a device without time passing that no sound driver makes.
const MOST_CALLS: u64 = 200_000;

/// A packet with what its device says of it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Payload bytes of each segment, of a super-segment.
    pub(crate) gso_size: Option<u16>,
    pub(crate) checksum_verified: bool,
}

/// What is wrong with a device at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ills {
    pub(crate) full: bool,
    pub(crate) fickle: bool,
    pub(crate) lossy: bool,
    pub(crate) interrupted: bool,
    pub(crate) gone: bool,
}

/// What a device needs to know.
pub(crate) struct NicSetup {
    pub(crate) mtu: usize,
    pub(crate) offloads: bool,
    pub(crate) ring: usize,
    pub(crate) receive_ring: usize,
    /// In so many of a thousand cases a packet comes while its connection is locked.
    pub(crate) ambush: u64,
    pub(crate) rng: Rng,
}

pub(crate) struct Nic {
    setup: NicSetup,
    state: Mutex<State>,
    signal: Signal,
    /// The stack that it belongs to.
    engine: OnceLock<Weak<Engine>>,
    idle: Arc<Idle>,
}

struct State {
    send: VecDeque<Frame>,
    receive: VecDeque<Frame>,
    /// Packets that come at the worst moment, if there is one: while their connection is locked.
    lurking: VecDeque<Frame>,
    /// Packets that came at that moment are in here until their batch ends.
    batch: Option<Batch>,
    ills: Ills,
    /// The MTU of the interface, which may be smaller than that of the device.
    mtu: usize,
    /// A transmission was refused since it was last said that there is room.
    refused: bool,
    /// It was said that there is room.
    room_again: bool,
    rng: Rng,
    /// Calls since time last passed, and of all time.
    calls: u64,
    all_calls: u64,
    /// What the device is used for against its rules.
    misuse: Option<String>,
    /// Packets that came while their connection was locked.
    ambushed: u64,
    /// The time of the last call, by the stack's clock.
    now: Instant,
}

impl Nic {
    pub(crate) fn new(setup: NicSetup, idle: Arc<Idle>) -> Arc<Self> {
        let state = State {
            send: VecDeque::new(),
            receive: VecDeque::new(),
            lurking: VecDeque::new(),
            batch: None,
            ills: Ills::default(),
            mtu: setup.mtu,
            refused: false,
            room_again: false,
            rng: setup.rng.clone(),
            calls: 0,
            all_calls: 0,
            misuse: None,
            ambushed: 0,
            now: Instant::ZERO,
        };
        Arc::new(Self {
            setup,
            state: Mutex::new(state),
            signal: Signal::new(),
            engine: OnceLock::new(),
            idle,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock of a device")
    }

    /// Names the stack that the device belongs to.
    pub(crate) fn belongs_to(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine));
    }

    /// A packet arrives. False if there is no room for it.
    pub(crate) fn arrive(&self, frame: Frame) -> bool {
        let mut state = self.state();
        if state.receive.len() + state.lurking.len() >= self.setup.receive_ring {
            return false;
        }
        // Packets stay in order: what comes behind one that lurks lurks, too.
        let ambush = self.setup.ambush;
        if !state.lurking.is_empty() || state.rng.chance(ambush) {
            state.lurking.push_back(frame);
        } else {
            state.receive.push_back(frame);
        }
        drop(state);
        self.signal.raise_readable();
        true
    }

    /// The moment has passed for packets that lurk. Whether there were any.
    pub(crate) fn end_ambush(&self) -> bool {
        let mut state = self.state();
        let State { receive, lurking, .. } = &mut *state;
        let any = !lurking.is_empty();
        receive.append(lurking);
        drop(state);
        if any {
            self.signal.raise_readable();
        }
        any
    }

    /// Takes the next packet out of the ring to send it.
    pub(crate) fn take(&self) -> Option<Frame> {
        let mut state = self.state();
        if state.ills.full || state.ills.fickle {
            return None;
        }
        let frame = state.send.pop_front()?;
        let room = state.refused && state.send.len() <= self.setup.ring / 2;
        state.room_again |= room;
        if room {
            state.refused = false;
        }
        drop(state);
        if room {
            self.signal.raise_writable();
        }
        Some(frame)
    }

    /// Whether the stack was told since the last call that there is room.
    pub(crate) fn has_room_again(&self) -> bool {
        std::mem::take(&mut self.state().room_again)
    }

    pub(crate) fn has_to_send(&self) -> bool {
        !self.state().send.is_empty()
    }

    /// Changes what is wrong.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Ills)) {
        change(&mut self.state().ills);
        self.signal.raise_readable();
        self.signal.raise_writable();
    }

    /// The interface has this MTU from now on.
    pub(crate) fn set_mtu(&self, mtu: usize) {
        self.state().mtu = mtu;
    }

    /// The host was switched off: nothing of its packets is left.
    pub(crate) fn unplug(&self) {
        let mut state = self.state();
        state.send.clear();
        state.receive.clear();
        state.lurking.clear();
        state.ills = Ills { lossy: true, ..Ills::default() };
    }

    /// Time passes. Returns what the device was used for against its rules, and how often it was called.
    pub(crate) fn tick(&self) -> (Option<String>, u64) {
        let mut state = self.state();
        state.calls = 0;
        (state.misuse.take(), state.all_calls)
    }

    /// Packets that came while their connection was locked.
    pub(crate) fn ambushed(&self) -> u64 {
        self.state().ambushed
    }

    fn count(&self, state: &mut State, now: Instant) {
        state.now = now;
        state.calls += 1;
        state.all_calls += 1;
        if state.calls == MOST_CALLS {
            state.misuse = Some(format!("busy loop: the device is called {MOST_CALLS} times at one time"));
            self.idle.interrupt();
        }
    }

    /// The packet as it leaves, with a complete checksum.
    fn build(&self, state: &mut State, packet: &TxPacket<'_>) -> Frame {
        let NicSetup { offloads, .. } = self.setup;
        let mtu = state.mtu;
        let on_wire = packet.gso.map_or(packet.len(), |gso| {
            packet.len().min(usize::from(gso.header_len) + usize::from(gso.size))
        });
        if on_wire > mtu || ((packet.gso.is_some() || packet.checksum.is_some()) && !offloads) {
            let what = format!("a packet of {on_wire} bytes with {:?} is given to a device", packet.gso);
            state.misuse.get_or_insert(format!("{what} of MTU {mtu} with offloads {offloads}"));
        }
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        if packet.checksum.is_some() {
            complete_checksum(&mut bytes);
        }
        Frame { bytes, gso_size: packet.gso.map(|gso| gso.size), checksum_verified: false }
    }

    /// A packet of the connection that transmits `sent`, and is locked, comes in on another thread, which
    /// leaves it in the backlog.
    fn ambush(&self, now: Instant, sent: &Frame) {
        let Some(engine) = self.engine.get().and_then(Weak::upgrade) else { return };
        loop {
            let (frame, mut batch) = {
                let mut state = self.state();
                let comes = state.lurking.front().is_some_and(|frame| answers(&frame.bytes, &sent.bytes));
                if !comes {
                    return;
                }
                let frame = state.lurking.pop_front().expect("it lurks");
                state.ambushed += 1;
                (frame, state.batch.take().unwrap_or_default())
            };
            let mut buf = engine.core().pool().take();
            let meta = fill(&mut buf, &frame);
            engine.on_packet(now, QueueId { interface: 0, queue: 0 }, buf, meta, &mut batch);
            self.state().batch = Some(batch);
        }
    }
}

/// Whether both packets are of one established connection, in opposite directions, and the second one
/// carries data: it was sent with the connection locked.
fn answers(packet: &[u8], sent: &[u8]) -> bool {
    let (Some(packet), Some(sent)) = (Packet::parse(packet), Packet::parse(sent)) else { return false };
    sent.payload_len > 0
        && !(sent.is_syn() || sent.is_rst() || packet.is_syn())
        && (packet.from, packet.to) == (sent.to, sent.from)
}

fn fill(buf: &mut PacketBuf, frame: &Frame) -> RxMeta {
    let len = frame.bytes.len();
    buf.bytes_mut()[..len].copy_from_slice(&frame.bytes);
    RxMeta { len, checksum_verified: frame.checksum_verified, gso_size: frame.gso_size }
}

impl Device for Nic {
    fn capabilities(&self) -> Capabilities {
        let NicSetup { mtu, offloads, .. } = self.setup;
        Capabilities {
            mtu,
            queues: 1,
            checksum_offload: offloads,
            segmentation_offload: offloads,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, now: Instant, _: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let mut state = self.state();
        self.count(&mut state, now);
        if state.ills.gone {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if state.ills.interrupted && state.rng.chance(500) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let frame = state.receive.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        drop(state);
        Ok(fill(buf, &frame))
    }

    fn transmit(&self, now: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let frame = {
            let mut state = self.state();
            self.count(&mut state, now);
            if state.ills.gone {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if state.ills.lossy && state.rng.chance(300) {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            if state.send.len() >= self.setup.ring {
                state.refused = true;
                drop(state);
                if self.state().ills.fickle {
                    self.signal.raise_writable();
                }
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let frame = self.build(&mut state, packet);
            let ambush = (!state.lurking.is_empty()).then(|| frame.clone());
            state.send.push_back(frame);
            ambush
        };
        if let Some(frame) = frame {
            self.ambush(now, &frame);
        }
        Ok(())
    }

    fn flush(&self, _: usize) {
        let (batch, now) = {
            let mut state = self.state();
            (state.batch.take(), state.now)
        };
        if let (Some(mut batch), Some(engine)) = (batch, self.engine.get().and_then(Weak::upgrade)) {
            engine.end_batch(now, &mut batch);
            batch.deliver(&engine);
        }
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}
