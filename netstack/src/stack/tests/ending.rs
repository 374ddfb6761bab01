//! Closing, and what ends connections otherwise.

use super::{SECOND, assert_empty, to_host_1};
use crate::buffer::PacketBuf;
use crate::device::{Capabilities, Device, Link, LinkConfig, Readiness, RxMeta, TxPacket};
use crate::ip::fragment;
use crate::readiness::Events;
use crate::stack::testing::{Cable, LinkSpec, Net, Socket, Verdict, address};
use crate::stack::{DriverHook, Family, Interface, QueueId};
use crate::tcp::State;
use crate::time::{Duration, Instant};
use crate::wire::{IcmpMessage, IpMeta, emit_icmp};
use std::io;
#[cfg(unix)]
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn a_full_device_delays_and_loses_nothing() {
    for offloads in [false, true] {
        let link = LinkSpec { queue: 1, offloads, delay: Duration::from_millis(1), ..LinkSpec::default() };
        let mut net = Net::pair(30, link);
        let (client, server) = net.connected();
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 253) as u8).collect();
        let received = net.transfer(&client, &server, &bytes, 100 * SECOND);
        assert!(received == bytes);
        assert!(net.engine(0).counters().device_full > 0);
        net.close(client);
        net.close(server);
        net.run_for(100 * SECOND);
        assert_empty(net.engine(0));
        assert_empty(net.engine(1));
    }
}

#[test]
fn a_device_that_is_gone_fails_every_socket_of_its_interface() {
    let mut net = Net::pair(31, LinkSpec::default());
    let listener = net.listen(0, 80, 8);
    let inside = net.connect(0, "127.0.0.1:80".parse().unwrap()).unwrap();
    net.settle();
    let (client, _server) = net.connected();
    let opening = net.connect(0, to_host_1(9)).unwrap();
    net.cable.pull();
    // A write finds it out.
    let _ = net.write(&client, b"into the void");
    let error = net.read(&client).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert_eq!(net.read(&client).unwrap(), b"", "the error is reported once");
    assert_eq!(net.write(&client, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(opening.events.take().contains(Events::ERROR));
    assert!(opening.cell.connect_result().unwrap().is_err());
    assert_eq!(net.connect(0, to_host_1(80)).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(net.state(&inside), State::Established, "loopback goes on");
    assert_eq!(net.engine(0).tcp().connections(), 2, "its two ends");
    assert!(net.accept(0, &listener).is_ok());
}

#[test]
fn what_was_received_before_the_device_went_can_be_read() {
    let mut net = Net::pair(34, LinkSpec::default());
    let (client, server) = net.connected();
    net.write(&server, b"promised").unwrap();
    net.run_for(SECOND);
    net.cable.pull();
    net.settle();
    assert_eq!(net.read(&client).unwrap(), b"promised", "it was acknowledged");
    assert_eq!(net.read(&client).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(net.read(&client).unwrap(), b"");
}

/// Connections whose SYNs find a device full that stays so, and its queue.
fn held_up(net: &Net) -> (Vec<Socket>, QueueId) {
    let sockets: Vec<_> = (0..4).map(|_| net.connect(0, to_host_1(80)).unwrap()).collect();
    let queue = net.engine(0).core().queues().next().unwrap();
    assert!(net.engine(0).has_waiting(queue));
    (sockets, queue)
}

#[test]
fn what_ends_does_not_wait_for_a_full_device_any_more() {
    let link = LinkSpec { queue: 1, ..LinkSpec::default() };
    let mut net = Net::pair(36, link);
    let (sockets, queue) = held_up(&net);
    net.cable.pull();
    net.settle();
    assert!(!net.engine(0).has_waiting(queue), "the device is gone");
    drop(sockets);

    let net = Net::pair(37, link);
    let (_sockets, queue) = held_up(&net);
    net.engine(0).fail_all(net.now, &io::Error::other("shut down"));
    assert!(!net.engine(0).has_waiting(queue), "the stack is shut down");

    let net = Net::pair(38, link);
    let (sockets, queue) = held_up(&net);
    let cells: Vec<_> = sockets.iter().map(|socket| Arc::downgrade(&socket.cell)).collect();
    sockets.into_iter().for_each(|socket| net.close(socket));
    assert!(!net.engine(0).has_waiting(queue), "the application has given up");
    assert!(cells.iter().all(|cell| cell.upgrade().is_none()), "nothing keeps them");
}

#[test]
fn a_device_error_while_receiving_wakes_readers() {
    let mut net = Net::pair(32, LinkSpec::default());
    let (client, _server) = net.connected();
    let _ = client.events.take();
    net.cable.pull();
    net.settle();
    let told = client.events.take();
    assert!(told.contains(Events::READABLE | Events::WRITABLE | Events::ERROR));
    assert_eq!(net.engine(0).tcp().connections(), 0);
    assert_eq!(net.engine(0).tcp().armed_deadlines(), 0);
}

/// As getsockopt(2) reports them of a socket whose connection was reset.
#[test]
fn options_that_were_set_on_a_connection_outlive_it() {
    let mut net = Net::pair(34, LinkSpec::default());
    let (client, _server) = net.connected();
    let engine = Arc::clone(net.engine(0));
    engine.with_tcp(net.now, |tcp, turn| {
        tcp.with_options(turn, &client.cell, |options| options.nodelay = true)
    });
    net.cable.pull();
    net.settle();
    assert!(engine.tcp().options(&client.cell).nodelay);
    engine.with_tcp(net.now, |tcp, turn| tcp.with_options(turn, &client.cell, |options| options.cork = true));
    let options = engine.tcp().options(&client.cell);
    assert!(options.nodelay && options.cork);
}

#[test]
fn shutting_the_stack_down_resets_all_and_refuses_the_rest() {
    let mut net = Net::pair(33, LinkSpec::default());
    let listener = net.listen(0, 80, 8);
    let (client, server) = net.connected();
    let gone = io::Error::other("the stack was shut down");
    net.engine(0).fail_all(net.now, &gone);
    for _ in 0..2 {
        assert_eq!(net.read(&client).unwrap_err().to_string(), "the stack was shut down");
        assert_eq!(net.accept(0, &listener).unwrap_err().to_string(), "the stack was shut down");
        assert_eq!(net.connect(0, to_host_1(80)).unwrap_err().to_string(), "the stack was shut down");
    }
    net.settle();
    net.run_for(SECOND);
    assert_eq!(net.read(&server).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    assert_empty(net.engine(0));
}

#[test]
fn a_short_rto_does_not_shorten_the_patience_for_an_orphan() {
    let mut net = Net::pair_with(39, LinkSpec::default(), |_, config| {
        config.rto_min = Duration::from_millis(5);
    });
    let (client, server) = net.connected();
    assert_eq!(net.transfer(&client, &server, b"before", SECOND), b"before");
    net.cable.set_filter(|_| Verdict::Drop);
    net.write(&client, b"after").unwrap();
    net.close(client);
    net.run_for(20 * SECOND);
    net.cable.clear_filter();
    net.run_for(40 * SECOND);
    assert_eq!(net.read_available(&server), (b"after".to_vec(), true));
}

#[test]
fn a_short_rto_does_not_shorten_the_probing_of_a_closed_window() {
    let mut net = Net::pair_with(40, LinkSpec::default(), |host, config| {
        config.rto_min = Duration::from_millis(5);
        if host == 1 {
            (config.recv_buffer_initial, config.recv_buffer_max) = (8 << 10, 8 << 10);
        }
    });
    let (client, server) = net.connected();
    let data: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    let mut written = 0;
    while let Ok(n) = net.write(&client, &data[written..]) {
        written += n;
        if written == data.len() {
            break;
        }
    }
    net.close(client);
    net.run_for(SECOND / 10);
    net.cable.set_filter(|_| Verdict::Drop);
    let mut read = net.read_available(&server).0;
    assert!(read.len() < written, "the window is closed");
    net.run_for(30 * SECOND);
    net.cable.clear_filter();
    for _ in 0..600 {
        net.run_for(SECOND / 10);
        read.extend(net.read_available(&server).0);
    }
    assert_eq!(read.len(), written);
    assert!(read == data[..written]);
}

#[test]
fn too_many_orphans_are_reset() {
    let mut net = Net::pair_with(34, LinkSpec::default(), |_, config| config.max_orphans = 1);
    let (first, _one) = net.connected();
    let (second, two) = net.connected();
    net.close(first);
    net.close(second);
    net.run_for(SECOND);
    assert_eq!(net.engine(0).counters().abort_on_memory, 1);
    assert_eq!(net.read(&two).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
}

#[test]
fn time_wait_is_skipped_beyond_its_limit() {
    let mut net = Net::pair_with(35, LinkSpec::default(), |_, config| config.max_time_wait = 2);
    let listener = net.listen(1, 80, 8);
    for _ in 0..3 {
        let (client, server) = net.connected_to(&listener);
        net.close(client);
        net.run_for(SECOND);
        net.close(server);
        net.run_for(SECOND);
    }
    assert_eq!((net.engine(0).tcp().time_waits(), net.engine(0).counters().time_wait_overflow), (2, 1));
    net.run_for(60 * SECOND);
    assert_empty(net.engine(0));
}

#[test]
fn time_wait_has_its_own_length_after_a_record_in_fin_wait_2() {
    let mut net = Net::pair_with(44, LinkSpec::default(), |_, config| config.time_wait = SECOND);
    let (client, server) = net.connected();
    net.close(client);
    net.run_for(5 * SECOND);
    assert_eq!(net.engine(0).tcp().time_waits(), 1, "in FIN-WAIT-2, for 60 s");
    net.close(server);
    net.run_for(2 * SECOND);
    assert_empty(net.engine(0));
}

#[test]
fn written_bytes_survive_the_handle() {
    let mut net = Net::pair(36, LinkSpec::default());
    let (client, server) = net.connected();
    let bytes = vec![9; 10_000];
    assert_eq!(net.write(&client, &bytes).unwrap(), bytes.len());
    assert!(!net.engine(0).is_drained());
    net.close(client);
    assert_eq!(net.engine(0).tcp().orphans(), 1);
    net.run_for(SECOND);
    assert!(net.engine(0).is_drained());
    assert!(net.read_available(&server) == (bytes, true));
}

#[test]
fn a_thousand_connections_leave_nothing() {
    let mut net = Net::pair(37, LinkSpec { offloads: true, ..LinkSpec::default() });
    let listener = net.listen(1, 80, 2000);
    let clients: Vec<_> = (0..1000).map(|_| net.connect(0, to_host_1(80)).unwrap()).collect();
    net.run_for(SECOND);
    let servers: Vec<_> = (0..1000).map(|_| net.accept(1, &listener).unwrap()).collect();
    clients.iter().for_each(|client| assert_eq!(net.write(client, b"x").unwrap(), 1));
    net.run_for(SECOND);
    servers.iter().for_each(|server| assert_eq!(net.read(server).unwrap(), b"x"));
    clients.into_iter().chain(servers).for_each(|socket| net.close(socket));
    net.run_for(100 * SECOND);
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    assert_empty(net.engine(0));
    assert_empty(net.engine(1));
}

#[test]
fn a_connection_in_time_wait_answers_with_the_options_of_its_packets() {
    let mut net = Net::pair(61, LinkSpec::default());
    let (client, server) = net.connected();
    client.cell.change_packets(|packets| {
        packets.set_tos(0x10);
        (packets.mark, packets.priority) = (7, 5);
    });
    net.close(client);
    net.run_for(SECOND);
    net.close(server);
    net.run_for(SECOND);
    assert_eq!(net.engine(0).tcp().time_waits(), 1);
    let fin = net.cable.take_trace().into_iter().rfind(|packet| packet.from == 1).expect("the server's FIN");
    assert!(fin.segment().is_fin());
    net.cable.inject(net.now, 0, &fin.bytes);
    net.settle();
    let answers = net.cable.take_trace();
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.mark, answer.ip.traffic_class, answer.from), ((7, 5), 0x10, 0));
}

#[test]
fn a_reset_behind_data_that_was_dropped_counts_once_a_challenge_is_answered() {
    // As under memory pressure, where the window of what is acknowledged and that of what is in flight differ.
    let left_open = |rate: u32| {
        let mut net = Net::pair_with(62, LinkSpec::default(), |_, config| {
            (config.reset_rate, config.reset_burst) = (rate, rate);
        });
        let listener = net.listen(1, 80, 64);
        let pairs: Vec<_> = (0..40).map(|_| net.connected_to(&listener)).collect();
        net.cable.set_filter(|packet| {
            let text = packet.tcp.as_ref().is_some_and(|(.., payload)| !payload.is_empty());
            if packet.from == 0 && text { Verdict::Drop } else { Verdict::Pass }
        });
        let mut servers = Vec::new();
        for (client, server) in pairs {
            net.write(&client, &[1; 1000]).unwrap();
            net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
            servers.push(server);
        }
        net.run_for(100 * SECOND);
        servers.iter().filter(|server| net.state(server) == State::Established).count()
    };
    assert_eq!(left_open(10_000), 0);
    // The other end has nothing to send, so it hears nothing more of it: as where a reset was lost.
    assert!(left_open(10) > 20, "the limit of resets is for answers to challenges, too");
}

#[derive(Default)]
struct Hook {
    deadlines: AtomicUsize,
    pending: AtomicUsize,
}

impl DriverHook for Hook {
    fn deadline_moved(&self) {
        self.deadlines.fetch_add(1, Ordering::Relaxed);
    }
    fn waiting(&self, _: QueueId) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_driver_is_told_what_it_cannot_know() {
    let mut net = Net::pair(38, LinkSpec { queue: 1, ..LinkSpec::default() });
    let hook = Arc::new(Hook::default());
    net.engine(0).core().set_driver_hook(Arc::clone(&hook) as _);
    assert_eq!(net.engine(0).next_deadline(), None);
    let (client, _server) = net.connected();
    assert!(hook.deadlines.load(Ordering::Relaxed) > 0, "the timer of the SYN");
    net.run_for(SECOND);
    let before = hook.pending.load(Ordering::Relaxed);
    net.write(&client, &[1; 5000]).unwrap();
    assert_eq!(hook.pending.load(Ordering::Relaxed), before + 1, "one packet fits on the cable");
    let told = hook.deadlines.load(Ordering::Relaxed);
    let _ = net.engine(0).next_deadline();
    net.write(&client, &[1; 10]).unwrap();
    assert_eq!(hook.deadlines.load(Ordering::Relaxed), told, "no earlier than the driver knows");
}

#[test]
fn the_driver_is_told_when_fragments_time_out() {
    let mut net = Net::pair(39, LinkSpec::default());
    let hook = Arc::new(Hook::default());
    net.engine(1).core().set_driver_hook(Arc::clone(&hook) as _);
    let told = || hook.deadlines.load(Ordering::Relaxed);
    let ip = IpMeta::new(address(0, Family::V4), address(1, Family::V4), 64);
    let mut packet = Vec::new();
    emit_icmp(&mut packet, &ip, &IcmpMessage { kind: 8, code: 0, word: [0; 4], body: &[1; 2000] });
    let mut fragments = Vec::new();
    fragment(&packet, 1280, 7, |piece| fragments.push(piece.to_vec()));
    net.cable.inject(net.now, 1, &fragments[0]);
    net.settle();
    let due = net.engine(1).next_deadline();
    assert_eq!(
        (told(), due),
        (1, Some(net.now + Duration::from_secs(30))),
        "nothing else would wake it then"
    );
    // What is due later than the driver knows is none of its concern.
    fragment(&packet, 1280, 8, |piece| fragments.push(piece.to_vec()));
    net.cable.inject(net.now + SECOND, 1, &fragments[2]);
    net.run_for(SECOND);
    assert_eq!((told(), net.engine(1).next_deadline()), (1, due));
}

/// A device that takes every packet and is waited for by a descriptor, as a TUN is.
#[cfg(unix)]
struct OnDescriptor(std::fs::File);

#[cfg(unix)]
impl Device for OnDescriptor {
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

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, _: &TxPacket<'_>) -> io::Result<()> {
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Fd(self.0.as_fd())
    }
}

#[cfg(unix)]
#[test]
fn the_driver_is_told_of_a_packet_that_a_link_holds_back_over_a_descriptor() {
    let told = |delay| {
        let device = Arc::new(OnDescriptor(std::fs::File::open("/dev/null").unwrap()));
        let slow = LinkConfig { delay, ..LinkConfig::default() };
        let link = Arc::new(Link::new(device, LinkConfig::default(), slow));
        let net = Net::alone(40, vec![Interface::new(link).address("10.0.0.1/24")]);
        let hook = Arc::new(Hook::default());
        net.engine(0).core().set_driver_hook(Arc::clone(&hook) as _);
        let _client = net.connect(0, to_host_1(80)).unwrap();
        hook.pending.load(Ordering::Relaxed)
    };
    assert_eq!(told(Duration::from_millis(5)), 1, "nothing else wakes it for the deadline of the link");
    assert_eq!(told(Duration::ZERO), 0, "nothing is held back");
}

#[test]
fn interfaces_that_cannot_work_are_refused_in_words() {
    use crate::config::Config;
    use crate::stack::{Engine, Interface};
    let error = |change: fn(Interface) -> Interface, mtu: usize| {
        let device = Cable::new(LinkSpec { mtu, ..LinkSpec::default() }).end(0);
        Engine::new(Config::default(), vec![change(Interface::new(device))]).unwrap_err().to_string()
    };
    assert!(error(|i| i.address("10.0.0.300/24"), 1500).contains("10.0.0.300"));
    assert!(error(|i| i.gateway("nowhere"), 1500).contains("nowhere"));
    assert!(error(|i| i.address("224.0.0.1/24"), 1500).contains("not the address of a host"));
    assert!(error(|i| i.address("127.0.0.1/8"), 1500).contains("two interfaces"));
    assert!(error(|i| i.address("fd00::1/64"), 1000).contains("1280"));
    // One takes the place of the loopback; two cannot.
    let twice = ["lo", "lo"].map(|name| Interface::new(Cable::new(LinkSpec::default()).end(0)).name(name));
    let error = Engine::new(Config::default(), twice.into()).unwrap_err().to_string();
    assert!(error.contains("called `lo`"), "{error}");
    let net = Net::pair(39, LinkSpec::default());
    assert_eq!(net.engine(0).core().interface_index("lo"), Some(1));
    assert_eq!(net.engine(0).core().interface_name(0), "net0");
    let mut socket = net.socket(0, Family::V4);
    let error = socket.ip.bind_device(net.engine(0).core(), Some("eth9")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn a_congestion_control_is_chosen_from_the_registry_of_the_engine() {
    use crate::config::Config;
    use crate::stack::{Engine, EngineSetup, Unconnected};
    use crate::tcp::CongestionRegistry;
    let mut congestion = CongestionRegistry::default();
    let reno = congestion.choose("reno").unwrap();
    congestion.register("mine", move |start| reno.start(start)).unwrap();
    let setup = EngineSetup { congestion, ..EngineSetup::default() };
    let named = |name: &str| Config { congestion: name.parse().unwrap(), ..Config::default() };
    let engine = Engine::with_setup(named("mine"), Vec::new(), setup.clone()).unwrap();
    let mut socket = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
    assert_eq!(socket.options.congestion.name(), "mine");
    assert!(socket.options.set_congestion(b"yours").is_err());
    socket.options.set_congestion(b"bbr").unwrap();
    assert_eq!(socket.options.congestion.name(), "bbr");
    let error = Engine::with_setup(named("yours"), Vec::new(), setup).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().ends_with("there are `cubic`, `reno`, `bbr`, `mine`"), "{error}");
}
