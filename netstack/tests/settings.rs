//! Numbers at the ends of their ranges: every setting and every option of a socket at 0, 1 and the most that its type can
//! say is refused with an error that names it, or works.

#[path = "robustness/lab.rs"]
mod lab;

use lab::{Lab, Numbers, Peer, SECOND, SERVER};
use netstack::Config;
use netstack::config::FastOpenMode;
use netstack::tcp::SocketOptions;
use netstack::time::Duration;
use netstack::wire::{Flags, Options, Segment, SeqNum, Timestamps};
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a setting is given: numbers and times. Texts that are no value of its type are skipped.
const VALUES: &[&str] = &[
    "0",
    "1",
    "2",
    "127",
    "255",
    "65535",
    "4294967295",
    "18446744073709551615",
    "0s",
    "1ns",
    "1ms",
    "18446744073709551615s",
    "0-0",
    "1-1",
    "65535-65535",
    "1-65535",
];

fn offer() -> Options {
    let timestamps = Some(Timestamps { tsval: 1, tsecr: 0 });
    Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, timestamps, ..Options::default() }
}

/// Connections in both directions, data in both directions, holes, silence, and the end.
fn exercise(lab: &mut Lab, change: &dyn Fn(&mut SocketOptions)) {
    let listener = lab.listen_with(80, 4, |socket| change(&mut socket.options));
    let mut peer = Peer::hostile(80).offering(offer());
    let syn_ack = lab.answers(&peer.syn());
    if let Some((_, syn_ack)) = syn_ack.first().and_then(lab::Sent::tcp)
        && syn_ack.is_syn()
    {
        peer.snd_nxt = peer.isn + 1;
        peer.hear(&syn_ack);
        peer.say(lab, b"first");
    }
    if let Some(cell) = lab.accept(&listener) {
        let _ = lab.write(&cell, &[7; 20_000]);
        peer.hear_all(lab);
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
        let hole = Segment { seq: peer.snd_nxt + 100, ..peer.segment(Flags::ACK) };
        lab.give(&peer.packet(&hole, &[7; 100]));
        peer.say(lab, &[7; 100]);
        lab.read(&cell);
        let _ = lab.write(&cell, &[7; 20_000]);
        few(lab, 5);
        lab.engine.with_tcp(lab.now, |tcp, turn| {
            tcp.with_options(turn, &cell, |options| {
                options.keepalive = true;
                change(options);
            });
            let _ = tcp.info(turn, &cell);
        });
        let _ = lab.write(&cell, &[7; 2_000]);
        few(lab, 30);
        lab.close(&cell);
    }
    // Data in the SYN, which is cut to the size of a segment.
    let to = SocketAddr::new(Ipv4Addr::new(10, 1, 2, 4).into(), 443);
    let with_data = lab.connect_with(to, |socket| {
        (socket.options.fastopen_connect, socket.options.fastopen_no_cookie) = (true, true);
        change(&mut socket.options);
    });
    if let Ok(cell) = with_data {
        let _ = lab.write(&cell, &[7; 5_000]);
        few(lab, 3);
        lab.close(&cell);
    }
    let to = SocketAddr::new(Ipv4Addr::new(10, 1, 2, 3).into(), 443);
    if let Ok(cell) = lab.connect_with(to, |socket| change(&mut socket.options)) {
        few(lab, 4);
        let syn = lab.segments().into_iter().rfind(Segment::is_syn);
        if let Some(syn) = syn {
            let mut back =
                Peer::new((Ipv4Addr::new(10, 1, 2, 3), 443), cell.local_addr().port(), SeqNum::new(9));
            back.offer = offer();
            let mut syn_ack = Segment::new(Flags::SYN.with(Flags::ACK), back.isn, syn.seq + 1);
            syn_ack.window = 60_000;
            syn_ack.options = Options { mss: Some(1), ..Options::default() };
            lab.give(&back.packet(&syn_ack, &[]));
            let _ = lab.write(&cell, &[7; 5_000]);
            few(lab, 10);
        }
        lab.close(&cell);
    }
    // Cookies, strays, ICMP errors.
    for n in 0..20 {
        lab.give(&Peer::new((Ipv4Addr::new(10, 3, 0, 1), n + 1), 80, SeqNum::new(3)).syn());
        lab.give(&lab::udp((Ipv4Addr::new(10, 3, 0, 2).into(), 9), (SERVER.into(), 1_000 + n), b"?"));
        let stray = Peer::new((Ipv4Addr::new(10, 3, 0, 3), n + 1), 81, SeqNum::new(3));
        lab.give(&stray.packet(&stray.segment(Flags::ACK), &[]));
    }
    few(lab, 40);
    lab.sent();
}

/// So many deadlines, however near or far they are.
fn few(lab: &mut Lab, count: usize) {
    for _ in 0..count {
        let next = lab.engine.next_deadline().unwrap_or(lab.now + SECOND);
        let by = next.saturating_since(lab.now).clamp(Duration::from_nanos(1), Duration::from_secs(1 << 32));
        lab.pass_one(by);
    }
}

/// Tries a stack with these settings. The error says why there is none.
fn try_config(config: &Config) -> Result<(), String> {
    let copy = config.clone();
    match Lab::try_new(1500, |config| *config = copy.with(|config| config.seed = Some(7))) {
        Ok(mut lab) => {
            exercise(&mut lab, &|_| ());
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_setting_at_the_ends_of_its_range_works_or_is_refused_by_name() {
    let mut failures = Vec::new();
    let (mut worked, mut refused) = (0, 0);
    // Which names there are is not a matter of numbers.
    for key in Config::keys().iter().filter(|key| **key != "congestion") {
        for value in VALUES {
            let mut config = Config::default();
            if config.set(key, value).is_err() {
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| try_config(&config))) {
                Ok(Ok(())) => worked += 1,
                // The name of the setting, or of the one that it contradicts.
                Ok(Err(error))
                    if Config::keys().iter().any(|key| error.starts_with(&key[..key.len().min(9)])) =>
                {
                    refused += 1;
                }
                Ok(Err(error)) => failures.push(format!("{key}={value}: {error}")),
                Err(_) => failures.push(format!("{key}={value}: panic")),
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(worked > 200 && refused > 50, "{worked} worked and {refused} were refused");
}

#[test]
fn settings_at_the_ends_of_their_ranges_work_together_or_are_refused() {
    let mut numbers = Numbers(71);
    let mut worked = 0;
    for _ in 0..400 {
        let mut config = Config::default();
        for _ in 0..1 + numbers.below(5) {
            let key = Config::keys()[numbers.below(Config::keys().len() as u64) as usize];
            let value = VALUES[numbers.below(VALUES.len() as u64) as usize];
            let _ = config.set(key, value);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| try_config(&config)));
        let changed: Vec<_> = Config::keys()
            .iter()
            .filter(|key| config.get(key) != Config::default().get(key))
            .map(|key| format!("{key}={}", config.get(key).unwrap_or_default()))
            .collect();
        assert!(outcome.is_ok(), "{changed:?}");
        worked += usize::from(outcome.is_ok_and(|outcome| outcome.is_ok()));
    }
    assert!(worked > 50, "{worked}");
}

#[test]
fn every_option_of_a_socket_at_the_ends_of_its_range_does_no_harm() {
    const NUMBERS: [u64; 8] = [0, 1, 2, 47, 255, 65_535, u32::MAX as u64, u64::MAX];
    type Set = fn(&mut SocketOptions, u64);
    let options: &[(&str, Set)] = &[
        ("keepalive_time", |options, n| options.keepalive_time = Duration::from_nanos(n)),
        ("keepalive_time in seconds", |options, n| options.keepalive_time = Duration::from_secs(n)),
        ("keepalive_interval", |options, n| options.keepalive_interval = Duration::from_nanos(n)),
        ("keepalive_interval in seconds", |options, n| options.keepalive_interval = Duration::from_secs(n)),
        ("keepalive_retries", |options, n| options.keepalive_retries = n as u32),
        ("user_timeout", |options, n| options.user_timeout = Some(Duration::from_nanos(n))),
        ("user_timeout in seconds", |options, n| options.user_timeout = Some(Duration::from_secs(n))),
        ("linger", |options, n| options.linger = Some(Duration::from_secs(n))),
        ("linger2", |options, n| options.linger2 = Some(Duration::from_secs(n))),
        ("send_buffer_size", |options, n| options.send_buffer_size = Some(n as usize)),
        ("recv_buffer_size", |options, n| options.recv_buffer_size = Some(n as usize)),
        ("max_segment_size", |options, n| options.max_segment_size = Some(n as u16)),
        ("notsent_lowat", |options, n| options.notsent_lowat = Some(n as usize)),
        ("syn_retries", |options, n| options.syn_retries = n as u32),
        ("defer_accept", |options, n| options.defer_accept = n as u8),
        ("window_clamp", |options, n| options.window_clamp = Some(n as usize)),
        ("max_pacing_rate", |options, n| options.max_pacing_rate = Some(n)),
        ("fastopen_queue", |options, n| options.fastopen_queue = n as u32),
        ("history", |options, n| options.history = n as u32),
        ("owner", |options, n| options.owner = n as u32),
    ];
    let mut failures = Vec::new();
    for (name, set) in options {
        for number in NUMBERS {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let client = FastOpenMode::from_bits(0x7);
                exercise(&mut Lab::new(|config| config.fastopen = client), &|options| set(options, number));
            }));
            if outcome.is_err() {
                failures.push(format!("{name}={number}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_small_mtu_is_refused_with_ipv6_and_carries_tcp_over_ipv4() {
    for mtu in [0, 20, 67, 68, 1_279] {
        let with_v6 = Lab::with_interface(mtu, |_| (), |interface| interface.address("fd00::1/64"));
        let error = with_v6.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("MTU") && error.contains("1280"), "{mtu}: {error:?}");
    }
    assert!(Lab::try_new(67, |_| ()).is_err_and(|error| error.to_string().contains("68")));
    for mtu in [68, 69, 80, 88, 100, 576] {
        let mut lab = Lab::try_new(mtu, |_| ()).expect("as little as IPv4 has");
        let listener = lab.listen(80, 4);
        let (mut peer, cell) = Peer::hostile(80).offering(offer()).established(&mut lab, &listener);
        let (mut heard, mut written) = (Vec::new(), 0);
        for round in 0..400 {
            if written < 2_000 {
                written += lab.write(&cell, &[7; 50]).unwrap_or(0);
            }
            // Something is missing, so that there is a SACK block in each segment.
            let hole = Segment { seq: peer.snd_nxt + 10 + 2 * (round % 7), ..peer.segment(Flags::ACK) };
            lab.give(&peer.packet(&hole, b"x"));
            lab.pass(Duration::from_millis(50));
            heard.extend(peer.hear_all(&lab));
            lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
        }
        assert_eq!((heard.len(), written), (written, 2_000), "with an MTU of {mtu}");
        let too_long = lab.counters().drops(netstack::reasons::DropReason::PktTooBig);
        assert_eq!(too_long, 0, "packets too long for an MTU of {mtu}");
    }
}
