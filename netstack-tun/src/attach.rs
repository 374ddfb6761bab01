//! Creating TUN devices, attaching to existing ones, and setting them up.

use crate::config::TunConfig;
use crate::interface::{self, Interface};
use crate::netns::Namespace;
use crate::{sys, vnet};
use std::ffi::c_int;
use std::fs::File;
use std::io;

/// A device with all its queues attached and set up.
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) queues: Box<[File]>,
    pub(crate) mtu: usize,
    pub(crate) created: bool,
    /// Whether UDP datagrams are divided and combined by the kernel.
    pub(crate) udp_offload: bool,
}

/// Creates the device or attaches to it. On failure everything is as before: a device that was
/// created here is removed with its queues.
pub(crate) fn attach(config: &TunConfig) -> io::Result<Attached> {
    config.check()?;
    let Some(path) = &config.namespace else { return attach_here(config) };
    let context = |err: io::Error| {
        let text = format!("cannot enter the network namespace {}: {err}", path.display());
        io::Error::new(err.kind(), text)
    };
    Namespace::open(path).map_err(context)?.run(|| attach_here(config)).map_err(context)?
}

/// As [`attach`], in the network namespace of this thread.
fn attach_here(config: &TunConfig) -> io::Result<Attached> {
    let First { file, name, flags, created } = first_queue(config)?;
    let mut queues = vec![file];
    while queues.len() < config.queues {
        queues.push(next_queue(&name, flags)?);
    }
    for queue in &queues {
        check_framing(queue, &name, config.offload)?;
    }
    let udp_offload = set_offloads(&queues[0], config.offload).map_err(|err| {
        let text = format!("TUN device {name}: the kernel refuses the offload settings: {err}");
        io::Error::new(err.kind(), text)
    })?;
    configure(&name, config, created)?;
    let mtu = interface::get(&name)?.mtu as usize;
    Ok(Attached { name, queues: queues.into(), mtu, created, udp_offload })
}

/// Prepares a descriptor that somebody else has attached: returns the name of its interface, and whether it
/// takes super-segments of UDP, if it is a TUN device and this process may ask for it.
pub(crate) fn adopt(file: &File, offload: bool) -> io::Result<Option<(String, bool)>> {
    sys::set_nonblocking(file)?;
    // What is no TUN device but exchanges packets in the same way, or belongs to a system that lets
    // applications only read and write (Android), is what the caller says.
    let Ok((name, flags)) = sys::tun_get_iff(file) else { return Ok(None) };
    let text = match flags {
        _ if flags & libc::IFF_TUN == 0 => Some("is a TAP device"),
        _ if flags & libc::IFF_NO_PI == 0 => Some("has packet information in front of its packets"),
        _ if (flags & libc::IFF_VNET_HDR != 0) != offload && offload => Some("has no virtio header"),
        _ if (flags & libc::IFF_VNET_HDR != 0) != offload => Some("has a virtio header"),
        _ => None,
    };
    if let Some(text) = text {
        let text = format!("the descriptor of TUN device {name} {text}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let udp_offload = set_offloads(file, offload)?;
    Ok(Some((name, udp_offload)))
}

/// Opens a TUN file. The error says why a process with these rights cannot.
pub(crate) fn open_file() -> io::Result<File> {
    sys::open_tun().map_err(|err| {
        let path = sys::TUN_PATH;
        let (kind, text) = match err.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => (
                io::ErrorKind::Unsupported,
                format!("there is no {path}: load the kernel module tun (modprobe tun), or give the container {path}"),
            ),
            Some(libc::EACCES | libc::EPERM) => (
                io::ErrorKind::PermissionDenied,
                format!("no permission to open {path}: run as root, or have its mode set to 666"),
            ),
            _ => (err.kind(), format!("cannot open {path}: {err}")),
        };
        io::Error::new(kind, text)
    })
}

struct First {
    file: File,
    name: String,
    /// The flags for further queues.
    flags: c_int,
    created: bool,
}

/// Creates the device, or attaches to the existing one.
fn first_queue(config: &TunConfig) -> io::Result<First> {
    let name = &config.name;
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI;
    if config.offload {
        flags |= libc::IFF_VNET_HDR;
    }
    if config.queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let file = open_file()?;
    // IFF_TUN_EXCL creates the device or fails: no other process can create it between a look and
    // the attempt.
    match sys::tun_set_iff(&file, name, flags | libc::IFF_TUN_EXCL) {
        Ok(name) => return Ok(First { file, name, flags, created: true }),
        Err(err) if err.raw_os_error() == Some(libc::EBUSY) => {}
        Err(err) => return Err(refused(&err, name, flags)),
    }
    match sys::tun_set_iff(&file, name, flags) {
        Ok(name) => Ok(First { file, name, flags, created: false }),
        // A device that was created for several queues accepts only files with this flag, even if
        // there is only one.
        Err(err) if err.raw_os_error() == Some(libc::EINVAL) && config.queues == 1 => {
            let flags = flags | libc::IFF_MULTI_QUEUE;
            let name = sys::tun_set_iff(&file, name, flags).map_err(|err| refused(&err, name, flags))?;
            Ok(First { file, name, flags, created: false })
        }
        Err(err) => Err(refused(&err, name, flags)),
    }
}

fn next_queue(name: &str, flags: c_int) -> io::Result<File> {
    let file = open_file()?;
    sys::tun_set_iff(&file, name, flags).map_err(|err| refused(&err, name, flags))?;
    Ok(file)
}

/// Checks that packets are framed as `offload` wants it. All queues of a device share the framing,
/// and the first to attach decides it.
fn check_framing(queue: &File, name: &str, offload: bool) -> io::Result<()> {
    let (_, flags) = sys::tun_get_iff(queue)?;
    if (flags & libc::IFF_VNET_HDR != 0) != offload || flags & libc::IFF_NO_PI == 0 {
        let text = format!(
            "TUN device {name} is in use by another process {} offloads: open it likewise",
            if offload { "without" } else { "with" }
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    Ok(())
}

/// A persistent device keeps these settings from its previous user, so all of them are set. Says whether
/// the kernel divides UDP datagrams, and combines them: Linux 6.2 and later do.
fn set_offloads(queue: &File, offload: bool) -> io::Result<bool> {
    /// Missing in `libc`; the kernel takes both or none.
    const TUN_F_USO4: u32 = 0x20;
    const TUN_F_USO6: u32 = 0x40;
    if !offload {
        return sys::tun_set_offload(queue, 0).map(|()| false);
    }
    sys::tun_set_vnet_header_size(queue, vnet::HEADER_LEN as c_int)?;
    sys::tun_set_vnet_native_endian(queue)?;
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    match sys::tun_set_offload(queue, tcp | TUN_F_USO4 | TUN_F_USO6) {
        Ok(()) => Ok(true),
        // An older kernel does not know these bits.
        Err(err) if err.raw_os_error() == Some(libc::EINVAL) => {
            sys::tun_set_offload(queue, tcp).map(|()| false)
        }
        Err(err) => Err(err),
    }
}

/// Sets up the interface as `config` asks.
fn configure(name: &str, config: &TunConfig, created: bool) -> io::Result<()> {
    let before = interface::get(name)?;
    let mut added = Vec::new();
    let result = change(name, config, created, &before, &mut added);
    if result.is_err() && !created {
        // The error of the change is returned. If undoing it fails too, nothing else can be done.
        for cidr in added {
            let _ = interface::remove_address(name, cidr);
        }
        let _ = interface::set_mtu(name, before.mtu);
        let _ = interface::set_tx_queue_len(name, before.tx_queue_len);
        if !before.up {
            let _ = interface::down(name);
        }
    }
    result
}

fn change(
    name: &str,
    config: &TunConfig,
    created: bool,
    before: &Interface,
    added: &mut Vec<crate::Cidr>,
) -> io::Result<()> {
    if let Some(mtu) = config.mtu.filter(|&mtu| mtu != before.mtu) {
        interface::set_mtu(name, mtu)?;
    }
    let default = created.then_some(TunConfig::DEFAULT_TX_QUEUE_LEN);
    if let Some(packets) = config.tx_queue_len.or(default).filter(|&len| len != before.tx_queue_len) {
        interface::set_tx_queue_len(name, packets)?;
    }
    // Without addresses here, the creator of a device decides when it is up. It is brought up
    // before the addresses are added, so that each is usable at once.
    if created || (!config.addresses.is_empty() && !before.up) {
        interface::up(name)?;
    }
    for &cidr in &config.addresses {
        match interface::add_address(name, cidr) {
            Ok(()) => added.push(cidr),
            // The interface already has the address.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// Explains a refused TUNSETIFF, and what can be done.
fn refused(err: &io::Error, name: &str, flags: c_int) -> io::Error {
    let several = flags & libc::IFF_MULTI_QUEUE != 0;
    let (kind, text) = match err.raw_os_error() {
        Some(libc::EBUSY) => (
            io::ErrorKind::ResourceBusy,
            format!(
                "TUN device {name} is in use by another process (it has a single queue): stop that process, \
                 or choose another name"
            ),
        ),
        Some(libc::E2BIG) => {
            (io::ErrorKind::ResourceBusy, format!("TUN device {name} has no queue left: its limit is 256"))
        }
        Some(libc::EPERM) if interface::exists(name).unwrap_or(false) => (
            io::ErrorKind::PermissionDenied,
            format!("TUN device {name} belongs to another user: run as its owner or as root"),
        ),
        Some(libc::EPERM) => (
            io::ErrorKind::PermissionDenied,
            "creating a TUN device needs CAP_NET_ADMIN: run as root or in a private namespace \
             (netns::enter_private)"
                .to_owned(),
        ),
        Some(libc::EINVAL) => (io::ErrorKind::InvalidInput, not_attachable(name, several)),
        _ => (err.kind(), format!("TUN device {name}: {err}")),
    };
    io::Error::new(kind, text)
}

fn not_attachable(name: &str, several: bool) -> String {
    match interface::get(name).ok().map(|interface| interface.kind) {
        Some(kind) if kind.as_deref() != Some("tun") => {
            format!("the interface {name} exists and is not a TUN device: choose another name")
        }
        Some(_) if several => format!(
            "TUN device {name} exists and is a TAP device or has a single queue: use one queue, or create it with \
             multi_queue"
        ),
        _ => format!("the kernel cannot make or attach the TUN device {name}"),
    }
}
