//! getsockopt and setsockopt: each option reads or changes the corresponding field of the stack.

use crate::blocking::Adapter;
use crate::world::{Kind, World};
use crate::{Call, Errno, tcp_info};
use netstack::config::{Config, FastOpenKey, FastOpenKeys, MtuDiscover};
use netstack::ip::PacketOptions;
use netstack::stack::IpOptions;
use netstack::tcp::SocketOptions;
use netstack::time::Duration;
use std::sync::Arc;

/// Smallest buffers: `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`, before Linux's doubling.
const MIN_SEND_BUFFER: usize = 2304;
const MIN_RECV_BUFFER: usize = 1152;

/// `TCP_MIN_MSS` and `MAX_TCP_WINDOW`.
const MSS_RANGE: std::ops::RangeInclusive<i32> = 88..=32_767;

/// `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL` in seconds; `MAX_TCP_KEEPCNT`, `MAX_TCP_SYNCNT`.
const MAX_KEEPALIVE: i32 = 32_767;
const MAX_COUNT: i32 = 127;

/// The value of TCP_MAXSEG before there is a connection (`TCP_MSS_DEFAULT`).
const DEFAULT_MSS: i32 = 536;

const SO_MEMINFO: i32 = 55;
const SO_MEMINFO_FIELDS: usize = 9;
const TCP_CC_INFO: i32 = 26;

/// The values of `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`.
const MTU_DISCOVER: [(i32, MtuDiscover); 6] = [
    (libc::IP_PMTUDISC_DONT, MtuDiscover::Dont),
    (libc::IP_PMTUDISC_WANT, MtuDiscover::Want),
    (libc::IP_PMTUDISC_DO, MtuDiscover::Do),
    (libc::IP_PMTUDISC_PROBE, MtuDiscover::Probe),
    (libc::IP_PMTUDISC_INTERFACE, MtuDiscover::Interface),
    (libc::IP_PMTUDISC_OMIT, MtuDiscover::Omit),
];
const TCP_FASTOPEN_NO_COOKIE: i32 = 34;
const TCP_THIN_LINEAR_TIMEOUTS: i32 = 16;

const UNKNOWN: Errno = Errno(libc::ENOPROTOOPT);
const INVALID: Errno = Errno(libc::EINVAL);

impl Adapter {
    /// setsockopt(2).
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an option that netstack does not have; `EINVAL` for an invalid value.
    pub fn set_option(&'static self, fd: i32, level: i32, name: i32, value: &[u8]) -> Call {
        let mut guard = self.lock();
        let world = &mut guard.world;
        world.socket(fd)?;
        match level {
            libc::SOL_SOCKET => world.set_socket(fd, name, value)?,
            libc::SOL_TCP => world.set_tcp(fd, name, value)?,
            libc::SOL_IP | libc::SOL_IPV6 => world.set_ip(fd, level, name, int_or_byte(value)?)?,
            _ => return Err(UNKNOWN),
        }
        Ok(0)
    }

    /// getsockopt(2): the value.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an option that netstack does not have.
    pub fn option(&'static self, fd: i32, level: i32, name: i32) -> Call<Vec<u8>> {
        let mut guard = self.lock();
        let world = &mut guard.world;
        world.socket(fd)?;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_LINGER) => world.linger(fd),
            (libc::SOL_SOCKET, SO_MEMINFO) => world.memory(fd),
            (libc::SOL_SOCKET, _) => world.socket_option(fd, name).map(|n| n.to_ne_bytes().to_vec()),
            (libc::SOL_TCP, libc::TCP_INFO) => world.info(fd),
            // As Linux, for an algorithm without information.
            (libc::SOL_TCP, TCP_CC_INFO) => Ok(Vec::new()),
            (libc::SOL_TCP, libc::TCP_CONGESTION) => {
                let mut name = world.options(fd)?.congestion.name().as_str().as_bytes().to_vec();
                name.resize(16, 0);
                Ok(name)
            }
            (libc::SOL_TCP, _) => world.tcp_option(fd, name).map(|n| n.to_ne_bytes().to_vec()),
            (libc::SOL_IP | libc::SOL_IPV6, _) => {
                world.ip_option(fd, level, name).map(|n| n.to_ne_bytes().to_vec())
            }
            _ => Err(UNKNOWN),
        }
    }
}

fn int(value: &[u8]) -> Call {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(INVALID)
}

/// Options of IP may be given as one byte (do_ip_setsockopt of Linux).
fn int_or_byte(value: &[u8]) -> Call {
    int(value).or_else(|errno| value.first().map(|byte| i32::from(*byte)).ok_or(errno))
}

/// The keys that `TCP_FASTOPEN_KEY` sets: one, or two.
fn fast_open_keys(value: &[u8]) -> Call<Option<FastOpenKeys>> {
    match value.as_chunks() {
        ([primary], []) => Ok(Some(FastOpenKeys::new(FastOpenKey::new(*primary)))),
        ([primary, backup], []) => {
            let [primary, backup] = [primary, backup].map(|bytes| FastOpenKey::new(*bytes));
            Ok(Some(FastOpenKeys { primary, backup: Some(backup) }))
        }
        _ => Err(INVALID),
    }
}

/// The option for addresses of other hosts that a number means. Those of the two families are one.
fn foreign_addresses(level: i32, name: i32) -> Option<fn(&mut SocketOptions) -> &mut bool> {
    match (level, name) {
        (libc::SOL_IP, libc::IP_FREEBIND) | (libc::SOL_IPV6, libc::IPV6_FREEBIND) => {
            Some(|options| &mut options.freebind)
        }
        (libc::SOL_IP, libc::IP_TRANSPARENT) | (libc::SOL_IPV6, libc::IPV6_TRANSPARENT) => {
            Some(|options| &mut options.transparent)
        }
        _ => None,
    }
}

fn clamp(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

impl World {
    fn settings(&self) -> Call<Config> {
        Ok((**self.engine()?.core().config()).clone())
    }

    fn options(&mut self, fd: i32) -> Call<SocketOptions> {
        let engine = self.engine()?;
        Ok(match &self.socket(fd)?.kind {
            Kind::Unconnected(socket) => socket.options.clone(),
            Kind::Connection(cell) => engine.tcp().options(cell),
            Kind::Listener(listener) => listener.options(),
        })
    }

    fn change<R>(&mut self, fd: i32, change: impl FnOnce(&mut SocketOptions) -> R) -> Call<R> {
        let (engine, now) = (self.engine()?, self.now());
        Ok(match &mut self.socket(fd)?.kind {
            Kind::Unconnected(socket) => change(&mut socket.options),
            Kind::Connection(cell) => engine.with_tcp(now, |tcp, turn| tcp.with_options(turn, cell, change)),
            Kind::Listener(listener) => listener.with_options(change),
        })
    }

    fn change_packets(&mut self, fd: i32, change: impl FnOnce(&mut PacketOptions)) -> Call<()> {
        match &mut self.socket(fd)?.kind {
            Kind::Unconnected(socket) => change(&mut socket.ip.packets),
            Kind::Connection(cell) => cell.change_packets(change),
            Kind::Listener(listener) => listener.change_packets(change),
        }
        Ok(())
    }

    fn ip_options(&mut self, fd: i32) -> Call<IpOptions> {
        Ok(match &self.socket(fd)?.kind {
            Kind::Unconnected(socket) => socket.ip.options(),
            Kind::Connection(cell) => cell.ip_options(),
            Kind::Listener(listener) => listener.ip_options(),
        })
    }

    fn set_socket(&mut self, fd: i32, name: i32, value: &[u8]) -> Call<()> {
        if name == libc::SO_LINGER {
            let (on, seconds) = (int(value)?, int(value.get(4..).ok_or(INVALID)?)?);
            let linger = (on != 0).then(|| Duration::from_secs(seconds.max(0).unsigned_abs().into()));
            return self.change(fd, |options| options.linger = linger);
        }
        let config = self.settings()?;
        if name == libc::SO_BINDTODEVICE {
            let device = std::str::from_utf8(value).map_err(|_| INVALID)?.trim_end_matches('\0');
            let engine = self.engine()?;
            let Kind::Unconnected(socket) = &mut self.socket(fd)?.kind else { return Err(INVALID) };
            return Ok(socket.ip.bind_device(engine.core(), Some(device))?);
        }
        let value = int(value)?;
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match name {
            libc::SO_REUSEADDR => {
                let socket = self.socket(fd)?;
                socket.reuse_address = value != 0;
                if let Kind::Unconnected(socket) = &mut socket.kind {
                    socket.ip.set_reuse_address(value != 0);
                }
                Ok(())
            }
            libc::SO_REUSEPORT => match &mut self.socket(fd)?.kind {
                Kind::Unconnected(socket) => {
                    socket.ip.set_reuse_port(value != 0);
                    Ok(())
                }
                Kind::Connection(_) | Kind::Listener(_) => Err(UNKNOWN),
            },
            libc::SO_MARK | libc::SO_PRIORITY => {
                let value = value.cast_unsigned();
                let change = |packets: &mut PacketOptions| match name {
                    libc::SO_MARK => packets.mark = value,
                    _ => packets.priority = value,
                };
                self.change_packets(fd, change)
            }
            libc::SO_KEEPALIVE => self.change(fd, |options| options.keepalive = value != 0),
            libc::SO_SNDBUF => {
                let size = size.min(config.send_buffer_max).max(MIN_SEND_BUFFER);
                self.change(fd, |options| options.send_buffer_size = Some(size))
            }
            libc::SO_RCVBUF => {
                let size = size.min(config.recv_buffer_max).max(MIN_RECV_BUFFER);
                self.change(fd, |options| options.recv_buffer_size = Some(size))
            }
            _ => Err(UNKNOWN),
        }
    }

    fn socket_option(&mut self, fd: i32, name: i32) -> Call {
        let (config, options, ip) = (self.settings()?, self.options(fd)?, self.ip_options(fd)?);
        let (engine, now) = (self.engine()?, self.now());
        let socket = self.socket(fd)?;
        // Linux reports twice what was set.
        let twice = |set: Option<usize>, automatic| clamp(set.map_or(automatic, |size| size * 2));
        Ok(match name {
            libc::SO_REUSEADDR => socket.reuse_address.into(),
            libc::SO_MARK => ip.packets.mark.cast_signed(),
            libc::SO_PRIORITY => ip.packets.priority.cast_signed(),
            libc::SO_KEEPALIVE => options.keepalive.into(),
            libc::SO_SNDBUF => twice(options.send_buffer_size, config.send_buffer_initial),
            libc::SO_RCVBUF => twice(options.recv_buffer_size, config.recv_buffer_initial),
            libc::SO_TYPE => libc::SOCK_STREAM,
            libc::SO_PROTOCOL => libc::IPPROTO_TCP,
            libc::SO_ACCEPTCONN => matches!(socket.kind, Kind::Listener(_)).into(),
            libc::SO_ERROR => match &socket.kind {
                Kind::Connection(cell) => {
                    socket.connecting &= cell.connect_result().is_none();
                    engine
                        .with_tcp(now, |tcp, turn| tcp.take_error(turn, cell))
                        .map_or(0, |error| Errno::from(error).0)
                }
                Kind::Unconnected(_) | Kind::Listener(_) => 0,
            },
            _ => return Err(UNKNOWN),
        })
    }

    fn linger(&mut self, fd: i32) -> Call<Vec<u8>> {
        let linger = self.options(fd)?.linger;
        let fields = [i32::from(linger.is_some()), linger.map_or(0, seconds)];
        Ok(fields.iter().flat_map(|field| field.to_ne_bytes()).collect())
    }

    /// `SO_MEMINFO`, as far as netstack counts: what is queued and the limits.
    fn memory(&mut self, fd: i32) -> Call<Vec<u8>> {
        let engine = self.engine()?;
        let mut fields = [0u32; SO_MEMINFO_FIELDS];
        fields[1] = self.socket_option(fd, libc::SO_RCVBUF)?.unsigned_abs();
        fields[3] = self.socket_option(fd, libc::SO_SNDBUF)?.unsigned_abs();
        if let Kind::Connection(cell) = &self.socket(fd)?.kind {
            fields[0] = clamp(engine.tcp().unread(cell)).unsigned_abs();
            fields[2] = clamp(engine.tcp().unacked(cell)).unsigned_abs();
            fields[5] = clamp(engine.tcp().send_queue_cost(cell)).unsigned_abs();
        }
        Ok(fields.iter().flat_map(|field| field.to_ne_bytes()).collect())
    }

    fn info(&mut self, fd: i32) -> Call<Vec<u8>> {
        let (engine, now) = (self.engine()?, self.now());
        Ok(match &self.socket(fd)?.kind {
            Kind::Unconnected(_) => tcp_info::without_connection(netstack::tcp::State::Closed),
            Kind::Listener(_) => tcp_info::without_connection(netstack::tcp::State::Listen),
            Kind::Connection(cell) => match engine.with_tcp(now, |tcp, turn| tcp.info(turn, cell)) {
                Some(info) => tcp_info::encode(&info),
                None => tcp_info::without_connection(cell.state()),
            },
        })
    }

    fn set_tcp(&mut self, fd: i32, name: i32, value: &[u8]) -> Call<()> {
        if name == libc::TCP_CONGESTION {
            if value.is_empty() {
                return Err(INVALID);
            }
            let chosen = self.change(fd, |options| options.set_congestion(value))?;
            return chosen.map_err(|_| Errno(libc::ENOENT));
        }
        if name == libc::TCP_FASTOPEN_KEY {
            let keys = fast_open_keys(value)?.map(Arc::new);
            return self.change(fd, |options| options.fastopen_key = keys);
        }
        let value = int(value)?;
        let within =
            |max: i32| if (1..=max).contains(&value) { Ok(value.unsigned_abs()) } else { Err(INVALID) };
        let secs = || within(MAX_KEEPALIVE).map(|secs| Duration::from_secs(secs.into()));
        match name {
            libc::TCP_NODELAY => {
                self.change(fd, |options| options.nodelay = value != 0)?;
                let (engine, now) = (self.engine()?, self.now());
                if let Kind::Connection(cell) = &self.socket(fd)?.kind
                    && value != 0
                {
                    engine.with_tcp(now, |tcp, turn| tcp.push(turn, cell));
                }
                Ok(())
            }
            libc::TCP_CORK => self.change(fd, |options| options.cork = value != 0),
            libc::TCP_MAXSEG => {
                let mss = match value {
                    0 => None,
                    mss if MSS_RANGE.contains(&mss) => u16::try_from(mss).ok(),
                    _ => return Err(INVALID),
                };
                self.change(fd, |options| options.max_segment_size = mss)
            }
            libc::TCP_KEEPIDLE => {
                let time = secs()?;
                self.change(fd, |options| options.keepalive_time = time)
            }
            libc::TCP_KEEPINTVL => {
                let interval = secs()?;
                self.change(fd, |options| options.keepalive_interval = interval)
            }
            libc::TCP_KEEPCNT => {
                let retries = within(MAX_COUNT)?;
                self.change(fd, |options| options.keepalive_retries = retries)
            }
            libc::TCP_SYNCNT => {
                let retries = within(MAX_COUNT)?;
                self.change(fd, |options| options.syn_retries = retries)
            }
            libc::TCP_LINGER2 => {
                let linger = match value {
                    ..0 => Some(Duration::ZERO),
                    0 => None,
                    seconds => Some(Duration::from_secs(seconds.unsigned_abs().min(120).into())),
                };
                self.change(fd, |options| options.linger2 = linger)
            }
            libc::TCP_DEFER_ACCEPT => {
                let config = self.settings()?;
                let time = Duration::from_secs(value.max(0).unsigned_abs().into());
                self.change(fd, |options| options.set_defer_accept_time(Some(time), &config))
            }
            TCP_THIN_LINEAR_TIMEOUTS => match value {
                0 | 1 => self.change(fd, |options| options.thin_linear_timeouts = value == 1),
                _ => Err(INVALID),
            },
            libc::TCP_WINDOW_CLAMP => {
                let clamp = usize::try_from(value).ok().filter(|clamp| *clamp > 0);
                self.change(fd, |options| options.window_clamp = clamp)
            }
            libc::TCP_USER_TIMEOUT => {
                let limit = u64::try_from(value).map_err(|_| INVALID)?;
                let limit = Some(limit).filter(|limit| *limit > 0).map(Duration::from_millis);
                self.change(fd, |options| options.user_timeout = limit)
            }
            libc::TCP_NOTSENT_LOWAT => {
                let low_water = Some(value as u32 as usize).filter(|bytes| *bytes > 0);
                self.change(fd, |options| options.notsent_lowat = low_water)
            }
            libc::TCP_FASTOPEN | libc::TCP_FASTOPEN_CONNECT | TCP_FASTOPEN_NO_COOKIE => {
                self.set_fast_open(fd, name, value)
            }
            libc::TCP_QUICKACK => {
                let (engine, now) = (self.engine()?, self.now());
                if let Kind::Connection(cell) = &self.socket(fd)?.kind {
                    engine.with_tcp(now, |tcp, turn| tcp.set_quickack(turn, cell, value & 1 != 0));
                    return Ok(());
                }
                self.change(fd, |options| options.quickack = value != 0)
            }
            _ => Err(UNKNOWN),
        }
    }

    fn set_fast_open(&mut self, fd: i32, name: i32, value: i32) -> Call<()> {
        let allowed = self.fast_open_allowed()?;
        let limit = u32::try_from(value).map_err(|_| INVALID)?;
        let on = if (0..=1).contains(&value) { Ok(value != 0) } else { Err(INVALID) };
        match (name, &self.socket(fd)?.kind) {
            (_, Kind::Connection(_)) => Err(INVALID),
            (libc::TCP_FASTOPEN, _) => self.change(fd, |options| options.fastopen_queue = limit),
            (TCP_FASTOPEN_NO_COOKIE, _) => {
                let on = on?;
                self.change(fd, |options| options.fastopen_no_cookie = on)
            }
            (_, Kind::Listener(_)) => Err(INVALID),
            _ if !allowed => Err(Errno(libc::EOPNOTSUPP)),
            _ => {
                let on = on?;
                self.change(fd, |options| options.fastopen_connect = on)
            }
        }
    }

    fn tcp_option(&mut self, fd: i32, name: i32) -> Call {
        let options = self.options(fd)?;
        let config = self.settings()?;
        let (engine, now) = (self.engine()?, self.now());
        let kind = &self.socket(fd)?.kind;
        Ok(match name {
            libc::TCP_NODELAY => options.nodelay.into(),
            libc::TCP_CORK => options.cork.into(),
            libc::TCP_KEEPIDLE => seconds(options.keepalive_time),
            libc::TCP_KEEPINTVL => seconds(options.keepalive_interval),
            libc::TCP_KEEPCNT => options.keepalive_retries.cast_signed(),
            libc::TCP_SYNCNT => options.syn_retries.cast_signed(),
            libc::TCP_LINGER2 => match options.linger2 {
                Some(Duration::ZERO) => -1,
                linger => seconds(linger.unwrap_or(config.fin_timeout)),
            },
            libc::TCP_DEFER_ACCEPT => {
                options.defer_accept_time(&config).map_or(0, |time| time.as_secs() as i32)
            }
            TCP_THIN_LINEAR_TIMEOUTS => options.thin_linear_timeouts.into(),
            libc::TCP_WINDOW_CLAMP => options.window_clamp.map_or(0, clamp),
            libc::TCP_USER_TIMEOUT => {
                options.user_timeout.map_or(0, |limit| clamp(limit.as_millis() as usize))
            }
            libc::TCP_NOTSENT_LOWAT => (options.notsent_lowat.unwrap_or(0) as u32).cast_signed(),
            libc::TCP_FASTOPEN => options.fastopen_queue.cast_signed(),
            libc::TCP_FASTOPEN_CONNECT => options.fastopen_connect.into(),
            TCP_FASTOPEN_NO_COOKIE => options.fastopen_no_cookie.into(),
            libc::TCP_QUICKACK => match kind {
                Kind::Connection(cell) => engine.tcp().quickack(cell).into(),
                Kind::Unconnected(_) | Kind::Listener(_) => options.quickack.into(),
            },
            libc::TCP_MAXSEG => {
                let info = match kind {
                    Kind::Connection(cell) => engine.with_tcp(now, |tcp, turn| tcp.info(turn, cell)),
                    Kind::Unconnected(_) | Kind::Listener(_) => None,
                };
                let set = options.max_segment_size.map_or(DEFAULT_MSS, i32::from);
                info.map_or(set, |info| clamp(info.snd_mss))
            }
            _ => return Err(UNKNOWN),
        })
    }

    fn set_ip(&mut self, fd: i32, level: i32, name: i32, value: i32) -> Call<()> {
        if let (libc::SOL_IP, libc::IP_MTU_DISCOVER) | (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER) =
            (level, name)
        {
            let known = MTU_DISCOVER.iter().find(|(number, _)| *number == value);
            let (_, mtu_discover) = *known.ok_or(INVALID)?;
            return self.change(fd, |options| options.mtu_discover = mtu_discover);
        }
        if let Some(option) = foreign_addresses(level, name) {
            return self.change(fd, |options| *option(options) = value != 0);
        }
        if let Some(change) = packet_option(level, name, value)? {
            return self.change_packets(fd, change);
        }
        let socket = self.socket(fd)?;
        match (level, name) {
            (libc::SOL_IPV6, libc::IPV6_V6ONLY) => match &mut socket.kind {
                Kind::Unconnected(socket) => Ok(socket.ip.set_only_v6(value != 0)?),
                Kind::Connection(_) | Kind::Listener(_) => Err(INVALID),
            },
            _ => Err(UNKNOWN),
        }
    }

    fn ip_option(&mut self, fd: i32, level: i32, name: i32) -> Call {
        if let (libc::SOL_IP, libc::IP_MTU_DISCOVER) | (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER) =
            (level, name)
        {
            let set = self.options(fd)?.mtu_discover;
            let known = MTU_DISCOVER.iter().find(|(_, mtu_discover)| *mtu_discover == set);
            return known.map(|(number, _)| *number).ok_or(INVALID);
        }
        if let Some(option) = foreign_addresses(level, name) {
            return Ok((*option(&mut self.options(fd)?)).into());
        }
        let options = self.ip_options(fd)?;
        Ok(match (level, name) {
            (libc::SOL_IP, libc::IP_TOS) => options.packets.tos.into(),
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => options.packets.tclass.into(),
            (libc::SOL_IP, libc::IP_TTL) => options.packets.ttl.into(),
            (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS) => options.packets.hops.into(),
            (libc::SOL_IPV6, libc::IPV6_V6ONLY) => options.only_v6.into(),
            _ => return Err(UNKNOWN),
        })
    }
}

/// What setting an option for packets to `value` changes; none if it is no such option.
fn packet_option(level: i32, name: i32, value: i32) -> Call<Option<impl FnOnce(&mut PacketOptions)>> {
    let byte = u8::try_from(value).map_err(|_| INVALID);
    type Set = fn(&mut PacketOptions, u8);
    let (set, byte): (Set, _) = match (level, name) {
        (libc::SOL_IP, libc::IP_TOS) => (PacketOptions::set_tos, byte?),
        (libc::SOL_IPV6, libc::IPV6_TCLASS) => (|packets, class| packets.tclass = class, byte?),
        (libc::SOL_IP, libc::IP_TTL) if value == 0 => return Err(INVALID),
        (libc::SOL_IP, libc::IP_TTL) => (|packets, ttl| packets.ttl = ttl, byte?),
        (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS) => (|packets, hops| packets.hops = hops, byte?),
        _ => return Ok(None),
    };
    Ok(Some(move |packets: &mut PacketOptions| set(packets, byte)))
}
