//! Drawing a plan from a seed.

use super::{
    Chat, Door, Ending, Fault, FaultKind, HostPlan, Kind, PathPlan, Plan, Side, Sockets, Style, Talk,
};
use crate::rng::{Rng, mix};
use netstack::Config;
use netstack::config::{
    CongestionName, EcnNegotiation, EcnOption, Hystart, MemoryBudget, MtuDiscover, MtuProbing,
};
use std::time::Duration;

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let count = rng.pick(&[2, 2, 2, 3, 4]);
        let mut hosts: Vec<_> = (0..count).map(|host| host_plan(seed, host)).collect();
        // Some networks are as good as they can be.
        let perfect = rng.chance(150);
        let paths = (0..count)
            .map(|from| (0..count).map(|to| path_plan(seed, (from, to), perfect)).collect())
            .collect();
        let talks: Vec<_> = (0..rng.range(1..=6) as usize).map(|number| talk(seed, number, &hosts)).collect();
        let last = talks.iter().map(|talk| talk.start + talk.gap * talk.connections as u64).max();
        let faults = match rng.below(4) {
            0 => 0,
            1 => 1,
            _ => rng.range(1..=6),
        };
        let span = last.unwrap_or(0) + 2_000;
        let mut faults: Vec<_> =
            (0..faults as usize).map(|number| fault(seed, number, count, span)).collect();
        squeeze(seed, &mut hosts, &mut faults, span);
        reconfigure(seed, count, &mut faults, span);
        let chats = chats(seed, count);
        Self { seed, hosts, paths, talks, chats, faults, without: Vec::new() }
    }
}

fn host_plan(seed: u64, host: usize) -> HostPlan {
    let mut rng = Rng::new(seed, 100 + host as u64);
    let config = config(&mut rng, mix(seed ^ (host as u64) << 32));
    HostPlan {
        config,
        offloads: rng.chance(500),
        mtu: rng.pick(&[1500, 1500, 1500, 1400, 1280, 9000]),
        ring: rng.pick(&[4, 16, 64, 256, 256]),
        receive_ring: rng.pick(&[64, 256, 1024]),
        rate: rng.pick(&[None, None, Some(125_000_000), Some(12_500_000), Some(1_250_000), Some(250_000)]),
        ambush: rng.pick(&[0, 0, 100, 500]),
        singly: rng.chance(300),
        idle_flows: rng.pick(&[120_000, 120_000, 5_000, 200]),
    }
}

/// Settings of a host: most are Linux's, some are not.
fn config(rng: &mut Rng, seed: u64) -> Config {
    Config::default().with(|config| {
        config.seed = Some(seed);
        config.memory = Some(MemoryBudget::UNLIMITED);
        if rng.chance(400) {
            config.congestion =
                rng.pick(&["cubic", "reno", "bbr"]).parse::<CongestionName>().expect("a name");
        }
        config.sack = !rng.chance(150);
        config.timestamps = !rng.chance(200);
        config.window_scaling = !rng.chance(100);
        config.early_retrans = !rng.chance(100);
        config.pacing = rng.chance(100);
        config.slow_start_after_idle = !rng.chance(300);
        config.hystart = rng.pick(&[Hystart::Linux, Hystart::Linux, Hystart::Rfc9406, Hystart::Off]);
        if rng.chance(400) {
            config.ecn = rng.pick(&EcnNegotiation::ALL);
            config.ecn_option = rng.pick(&EcnOption::ALL);
            config.ecn_like_linux = rng.chance(300);
        }
        if rng.chance(300) {
            config.send_buffer_initial = rng.scale(4096..=65_536) as usize;
            config.send_buffer_max = config.send_buffer_initial.max(rng.scale(4096..=1 << 20) as usize);
        }
        if rng.chance(300) {
            config.recv_buffer_initial = rng.scale(4096..=262_144) as usize;
            config.recv_buffer_max = config.recv_buffer_initial.max(rng.scale(4096..=4 << 20) as usize);
        }
        config.initial_window = rng.pick(&[10, 10, 10, 2, 1, 32]);
        config.time_wait = Duration::from_millis(rng.pick(&[60_000, 10_000, 1_000, 100]));
        config.fin_timeout = Duration::from_secs(rng.pick(&[60, 60, 5]));
        config.rto_min = Duration::from_millis(rng.pick(&[200, 200, 200, 50, 5]));
        if rng.chance(200) {
            config.delayed_ack_min = Duration::from_millis(rng.range(1..=40));
            config.delayed_ack_max = Duration::from_millis(rng.range(40..=400));
        }
        config.mtu_probing =
            rng.pick(&[MtuProbing::Off, MtuProbing::Off, MtuProbing::BlackHole, MtuProbing::Always]);
        config.mtu_discover =
            rng.pick(&[MtuDiscover::Want, MtuDiscover::Want, MtuDiscover::Want, MtuDiscover::Dont]);
        config.mtu_expires = Duration::from_secs(rng.pick(&[600, 5]));
        config.keepalive_time = Duration::from_secs(rng.range(5..=60));
        config.keepalive_interval = Duration::from_secs(5);
        config.no_metrics_save = rng.chance(300);
        config.min_tso_segs = rng.pick(&[2, 2, 1, 4]);
        config.tso_win_divisor = rng.pick(&[3, 3, 0, 1, 10]);
        if rng.chance(100) {
            // Few ports, of which each is soon used again.
            config.port_range = 40_000..=40_063;
        }
    })
}

fn path_plan(seed: u64, (from, to): (usize, usize), perfect: bool) -> PathPlan {
    let pair = (from.min(to) * 16 + from.max(to)) as u64;
    // Delays are about the same in both directions.
    let mut both = Rng::new(seed, 200 + pair);
    let delay = both.pick(&[0, 1, 1, 1]) * both.scale(10_000..=100 * MS);
    let impaired = !perfect && both.chance(700);
    let whole = both.chance(500);
    let mut rng = Rng::new(seed, 1_000 + (from * 16 + to) as u64);
    let mut share = |chance, most| if impaired && rng.chance(chance) { rng.scale(100..=most) } else { 0 };
    PathPlan {
        delay,
        loss: share(500, 30_000),
        duplicate: share(300, 30_000),
        reorder: share(300, 50_000),
        corrupt: share(300, 10_000),
        mark: share(200, 100_000),
        jitter: share(500, 1_000_000) * 10,
        whole,
    }
}

fn talk(seed: u64, number: usize, hosts: &[HostPlan]) -> Talk {
    let mut rng = Rng::new(seed, 2_000 + number as u64);
    let client = rng.below(hosts.len() as u64) as usize;
    // Sometimes with itself.
    let server = if rng.chance(60) {
        client
    } else {
        (client + 1 + rng.below(hosts.len() as u64 - 1) as usize) % hosts.len()
    };
    let slowest = [client, server].into_iter().filter_map(|host| hosts[host].rate).min();
    // Ten seconds at the rate of the slower one.
    let most = slowest.map_or(2 << 20, |rate| (rate * 5).min(2 << 20));
    let connections = rng.pick(&[1, 1, 1, 2, 3, 8, 30]);
    let most = (most / connections).max(1);
    let kind = match rng.below(5) {
        0 | 1 => Kind::Duplex,
        2 => Kind::HalfClose,
        3 => Kind::Rounds(rng.scale(1..=50)),
        _ => Kind::Echo,
    };
    let amount = |rng: &mut Rng| if rng.chance(100) { 0 } else { rng.scale(1..=most) };
    let (up, down) = (amount(&mut rng), amount(&mut rng));
    let size = |rng: &mut Rng, bytes: u64| {
        let most = rng.scale(1..=300_000);
        // Not more than some hundred calls for each stream.
        most.max(bytes / 300 + 1)
    };
    let (write_size, read_size) = (size(&mut rng, up.max(down)), size(&mut rng, up.max(down)));
    let slow = rng.pick(&[0, 0, 0, 20, 200]);
    Talk {
        number,
        client,
        server,
        v6: rng.chance(400),
        door: if client == server { Door::Own } else { door(&mut Rng::new(seed, 6_000 + number as u64)) },
        start: rng.pick(&[0, 0, 1, 10, 1_000]) * rng.range(1..=5),
        connections: connections as usize,
        gap: rng.pick(&[0, 0, 1, 20, 500]),
        kind,
        up,
        down,
        write_size,
        read_size,
        slow,
        slow_for: rng.scale(1..=2_000) * pauses(&mut Rng::new(seed, 8_000 + number as u64)),
        cancel: rng.pick(&[0, 0, 50, 300]),
        style: rng.pick(&[Style::Borrowed, Style::Owned, Style::Ready]),
        ending: ending(&mut rng, up + down),
        sockets: sockets(&mut rng),
    }
}

/// What pauses are multiplied by: sometimes they are long enough for a connection to be put to rest.
fn pauses(rng: &mut Rng) -> u64 {
    if rng.chance(150) { 10 } else { 1 }
}

fn door(rng: &mut Rng) -> Door {
    rng.pick(&[Door::Own, Door::Own, Door::Own, Door::AnyIp, Door::Forwarder])
}

/// What is said by datagrams.
fn chats(seed: u64, hosts: usize) -> Vec<Chat> {
    let mut rng = Rng::new(seed, 7_000);
    let count = rng.pick(&[0, 1, 2, 4]);
    (0..count)
        .map(|number| {
            let mut rng = Rng::new(seed, 7_001 + number as u64);
            let client = rng.below(hosts as u64) as usize;
            Chat {
                number,
                client,
                server: (client + 1 + rng.below(hosts as u64 - 1) as usize) % hosts,
                v6: rng.chance(400),
                door: door(&mut rng),
                start: rng.pick(&[0, 0, 1, 10, 1_000]) * rng.range(1..=5),
                datagrams: rng.scale(1..=40) as u32,
                gap: rng.pick(&[0, 0, 100, 20_000, 500_000]),
                size: if rng.chance(150) { 8_000 } else { rng.scale(20..=1_200) },
                connected: rng.chance(500),
                cancel: rng.pick(&[0, 0, 50, 300]),
            }
        })
        .collect()
}

fn ending(rng: &mut Rng, bytes: u64) -> Ending {
    if rng.chance(800) {
        return Ending::Graceful;
    }
    let by = rng.pick(&[Side::Client, Side::Server]);
    Ending::Abrupt { by, after: rng.below(bytes + 1), reset: rng.chance(500) }
}

fn sockets(rng: &mut Rng) -> Sockets {
    let some = |rng: &mut Rng, chance, range| rng.chance(chance).then(|| rng.scale(range) as u32);
    Sockets {
        backlog: rng.pick(&[128, 128, 16, 1]),
        pending: rng.chance(150).then(|| rng.pick(&[0, 5, 300, 3_000])),
        fast_open: rng.chance(250),
        nodelay: rng.chance(300),
        keepalive: rng.chance(300),
        linger: rng.chance(100),
        send_buffer: some(rng, 150, 4_608..=500_000),
        receive_buffer: some(rng, 150, 2_304..=500_000),
        notsent_lowat: some(rng, 100, 1..=100_000),
    }
}

fn fault(seed: u64, number: usize, hosts: usize, span: u64) -> Fault {
    let mut rng = Rng::new(seed, 3_000 + number as u64);
    let host = rng.below(hosts as u64) as usize;
    let other = (host + 1 + rng.below(hosts as u64 - 1) as usize) % hosts;
    let kind = match rng.below(22) {
        0..=2 => FaultKind::Outage { a: host, b: other },
        3..=5 => FaultKind::Storm { from: host, to: other, path: storm(&mut rng) },
        6 | 7 => FaultKind::Mtu { a: host, b: other, mtu: rng.pick(&[1280, 1300, 1400, 1492]) },
        8 | 9 => FaultKind::Reboot { host },
        10 | 11 => FaultKind::Pause { host, clock_stands: rng.chance(500) },
        12 | 13 => FaultKind::ClockJump { host },
        14..=16 => FaultKind::Full { host },
        17 => FaultKind::Fickle { host },
        18 | 19 => FaultKind::Lossy { host },
        20 => FaultKind::Interrupted { host },
        _ => FaultKind::Gone { host },
    };
    let at = rng.below(span);
    let longest = match kind {
        FaultKind::Fickle { .. } | FaultKind::Interrupted { .. } => 300,
        FaultKind::Storm { .. } => 5_000,
        FaultKind::Mtu { .. } => 30_000,
        _ => 12_000,
    };
    Fault { number, at, until: at + rng.scale(1..=longest), kind }
}

/// In some networks the hosts have little memory, and something takes most of it at times.
fn squeeze(seed: u64, hosts: &mut [HostPlan], faults: &mut Vec<Fault>, span: u64) {
    let mut rng = Rng::new(seed, 4_000);
    if !rng.chance(400) {
        return;
    }
    let low = rng.scale(1 << 20..=4 << 20) as usize;
    let budget = MemoryBudget { low, pressure: low * 2, high: low * 4 };
    hosts.iter_mut().for_each(|host| host.config.memory = Some(budget));
    for _ in 0..rng.range(1..=4) {
        let at = rng.below(span);
        let kind = FaultKind::Squeeze { host: rng.below(hosts.len() as u64) as usize, full: rng.chance(500) };
        faults.push(Fault { number: faults.len(), at, until: at + rng.scale(1..=12_000), kind });
    }
}

/// In some networks interfaces are changed while they are in use.
fn reconfigure(seed: u64, hosts: usize, faults: &mut Vec<Fault>, span: u64) {
    let mut rng = Rng::new(seed, 4_200);
    if !rng.chance(350) {
        return;
    }
    for _ in 0..rng.range(1..=3) {
        let host = rng.below(hosts as u64) as usize;
        let kind = match rng.below(4) {
            0 => FaultKind::Down { host },
            1 => FaultKind::Unaddressed { host, v6: rng.chance(400) },
            2 => FaultKind::Closed { host },
            _ => FaultKind::SmallMtu { host, mtu: rng.pick(&[1280, 1300, 1400]) },
        };
        let at = rng.below(span);
        faults.push(Fault { number: faults.len(), at, until: at + rng.scale(1..=12_000), kind });
    }
}

/// Much worse than a path is for long.
fn storm(rng: &mut Rng) -> PathPlan {
    let mut share = |most| if rng.chance(500) { rng.scale(1_000..=most) } else { 0 };
    PathPlan {
        delay: share(200_000) * 1_000,
        jitter: share(100_000) * 1_000,
        loss: share(300_000),
        duplicate: share(300_000),
        reorder: share(500_000),
        corrupt: share(200_000),
        mark: share(500_000),
        whole: false,
    }
}
