//! What one operation costs a stack, for a count of its instructions.
//!
//! Most run on one of two engines that are joined in memory, in virtual time, without a runtime. Those whose name begins
//! with `sockets` run through sockets and a runtime. Only what is inside of [`measured`] counts: for an engine, the other engine,
//! the cable, and making the packets do not.

mod facade;
mod host;

use host::{Joined, Packet, Place};
use std::io;

/// Times that an operation is repeated, after a few times that do not count.
pub const TIMES: u64 = 64;
const WARM_UP: u64 = 16;

/// Bytes of a full segment, with timestamps.
const SEGMENT: usize = 1448;
const WRITE: usize = 64 * 1024;
/// More addresses than anybody compares one by one.
const MANY: u32 = 100_000;
/// Packets of a batch.
const BATCH: usize = 16;

/// Where a tool that counts instructions begins and ends to do so.
#[inline(never)]
pub fn measured(work: &mut dyn FnMut()) {
    work();
}

/// An operation, and what it is called.
pub type Operation = (&'static str, fn() -> io::Result<()>);

/// The operations.
pub const OPERATIONS: [Operation; 20] = [
    ("segment-in", segment_in),
    ("segment-in-and-read", segment_in_and_read),
    ("16-segments-in", segments_in),
    ("super-segment-in-and-read", super_segment_in),
    ("pure-ack-in", pure_ack_in),
    ("ack-of-a-segment-in", ack_in),
    ("segment-out", segment_out),
    ("16-segments-out", segments_out),
    ("write-64k-and-its-acks", write_and_acks),
    ("round-trip", round_trip),
    ("round-trip-any-ip", || round_trip_from(Place { any_ip: true, ..Place::A })),
    ("round-trip-100000-addresses", || round_trip_from(Place { more_addresses: MANY, ..Place::A })),
    ("round-trip-any-ip-100000-addresses", || {
        round_trip_from(Place { any_ip: true, more_addresses: MANY, ..Place::A })
    }),
    ("segment-out-of-order-in", out_of_order_in),
    ("wake-and-rest", wake_and_rest),
    ("connect-and-close", connect_and_close),
    ("syn-cookie", syn_cookie),
    ("sockets-round-trip-of-both", facade::round_trip),
    ("sockets-datagram-out", facade::datagram_out),
    ("sockets-datagram-through", facade::datagram_through),
];

/// Connections of which a random one is asked for.
pub const CONNECTIONS: usize = 5_000;

/// The operation that is for a count of cache misses, and what it is called.
pub const SCATTERED: Operation = ("pure-ack-to-one-of-many", pure_ack_to_one_of_many);

/// Runs `once` as often as is needed. It is told whether this time counts.
fn repeat(mut once: impl FnMut(bool) -> io::Result<()>) -> io::Result<()> {
    (0..WARM_UP + TIMES).try_for_each(|n| once(n >= WARM_UP))
}

/// Runs `work`, counted or not.
fn run(counts: bool, mut work: impl FnMut()) {
    if counts { measured(&mut work) } else { work() }
}

/// 1,448 bytes in order, and the end of the batch.
fn segment_in() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        net.b.write(SEGMENT)?;
        let mut packets = net.sent_to_a()?;
        run(counts, || net.a.receive(packets.drain(..)));
        net.a.read(SEGMENT)?;
        net.settle()
    })
}

fn segment_in_and_read() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        net.b.write(SEGMENT)?;
        let mut packets = net.sent_to_a()?;
        let mut result = Ok(());
        run(counts, || {
            net.a.receive(packets.drain(..));
            result = net.a.read(SEGMENT);
        });
        result?;
        net.settle()
    })
}

/// A batch of 16 segments, as a device without segmentation offload delivers them, and the read.
fn segments_in() -> io::Result<()> {
    let mut net = Joined::connected(false)?;
    repeat(|counts| {
        net.b.write(BATCH * SEGMENT)?;
        let mut packets = net.sent_to_a()?;
        let mut result = Ok(());
        run(counts, || {
            net.a.receive(packets.drain(..));
            result = net.a.read(BATCH * SEGMENT);
        });
        result?;
        net.settle()
    })
}

/// 40 segments in one packet, and the read.
fn super_segment_in() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        net.b.write(40 * SEGMENT)?;
        let mut packets = net.sent_to_a()?;
        let mut result = Ok(());
        run(counts, || {
            net.a.receive(packets.drain(..));
            result = net.a.read(40 * SEGMENT);
        });
        result?;
        net.settle()
    })
}

/// An acknowledgment that says nothing new.
fn pure_ack_in() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    let ack = acknowledgment(&mut net)?;
    repeat(|counts| {
        let mut packets = vec![ack.copy()];
        run(counts, || net.a.receive(packets.drain(..)));
        net.settle()
    })
}

/// Lets a segment be acknowledged, and gives the acknowledgment once more.
fn acknowledgment(net: &mut Joined) -> io::Result<Packet> {
    net.a.write(SEGMENT)?;
    net.b.receive(net.a.sent()?.into_iter());
    net.b.read(SEGMENT)?;
    net.later();
    net.b.on_timer();
    let mut acks = net.sent_to_a()?;
    let ack = acks.pop().ok_or_else(|| io::Error::other("no acknowledgment came"))?;
    net.a.receive(acks.into_iter().chain([ack.copy()]));
    // Once more by itself: from now on it is one that says nothing new again.
    net.a.receive([ack.copy()].into_iter());
    Ok(ack)
}

/// An acknowledgment that says nothing new, to another connection each time, all of which were last used long ago.
fn pure_ack_to_one_of_many() -> io::Result<()> {
    /// Without a common divisor with [`CONNECTIONS`].
    const STRIDE: usize = 1_877;
    let mut net = Joined::new(true, |_| {})?;
    let mut acks = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        net.a.connect(host::B)?;
        net.settle()?;
        net.b.accept()?;
        acks.push(acknowledgment(&mut net)?);
    }
    let mut place = 0;
    repeat(|counts| {
        place = (place + STRIDE) % CONNECTIONS;
        let mut packets = vec![acks[place].copy()];
        run(counts, || net.a.receive(packets.drain(..)));
        Ok(())
    })
}

/// The acknowledgment of one segment.
fn ack_in() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        net.a.write(SEGMENT)?;
        net.b.receive(net.a.sent()?.into_iter());
        net.b.read(SEGMENT)?;
        net.later();
        net.b.on_timer();
        let mut packets = net.sent_to_a()?;
        run(counts, || net.a.receive(packets.drain(..)));
        net.settle()
    })
}

fn segment_out() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        let mut result = Ok(());
        run(counts, || result = net.a.write(SEGMENT));
        result?;
        net.settle()?;
        net.b.read(SEGMENT)?;
        net.settle()
    })
}

/// 16 segments in one write, to a device without segmentation offload.
fn segments_out() -> io::Result<()> {
    let mut net = Joined::connected(false)?;
    repeat(|counts| {
        let mut result = Ok(());
        run(counts, || result = net.a.write(BATCH * SEGMENT));
        result?;
        net.settle()?;
        net.b.read_all()?;
        net.settle()
    })
}

/// A write of 64 KiB, and all acknowledgments of it.
fn write_and_acks() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        let mut result = Ok(());
        run(counts, || result = net.a.write(WRITE));
        result?;
        loop {
            net.b.receive(net.a.sent()?.into_iter());
            net.b.read_all()?;
            let mut acks = net.sent_to_a()?;
            if acks.is_empty() && net.a.unacked() == 0 {
                return Ok(());
            }
            if acks.is_empty() {
                net.later();
                net.b.on_timer();
                continue;
            }
            run(counts, || net.a.receive(acks.drain(..)));
        }
    })
}

/// One side of a round trip: a byte is received and read, and one is written.
fn round_trip() -> io::Result<()> {
    round_trip_from(Place::A)
}

fn round_trip_from(place: Place) -> io::Result<()> {
    let mut net = Joined::connected_from(true, place)?;
    repeat(|counts| {
        net.b.write(1)?;
        let mut packets = net.sent_to_a()?;
        let mut result = Ok(());
        run(counts, || {
            net.a.receive(packets.drain(..));
            result = net.a.read(1).and_then(|()| net.a.write(1));
        });
        result?;
        net.b.receive(net.a.sent()?.into_iter());
        net.b.read(1)
    })
}

/// A segment that comes before the one that precedes it.
fn out_of_order_in() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    repeat(|counts| {
        net.b.write(SEGMENT)?;
        let first = net.sent_to_a()?;
        net.b.write(SEGMENT)?;
        let mut second = net.sent_to_a()?;
        run(counts, || net.a.receive(second.drain(..)));
        net.a.receive(first.into_iter());
        net.settle()?;
        net.a.read(2 * SEGMENT)?;
        net.settle()
    })
}

/// A connection at rest is woken by one who only looks, and put to rest again.
fn wake_and_rest() -> io::Result<()> {
    let mut net = Joined::connected(true)?;
    net.b.write(SEGMENT)?;
    net.settle()?;
    net.a.read(SEGMENT)?;
    net.a.write(SEGMENT)?;
    net.settle()?;
    net.b.read(SEGMENT)?;
    net.settle()?;
    let awake = net.a.memory();
    net.rest();
    let at_rest = net.a.memory();
    if at_rest + 1_500 > awake {
        return Err(io::Error::other(format!("not at rest: {awake} and {at_rest} bytes")));
    }
    repeat(|counts| {
        run(counts, || {
            std::hint::black_box(net.a.unacked());
        });
        Ok(())
    })
}

/// A client's side of a connection from its SYN to TIME-WAIT.
fn connect_and_close() -> io::Result<()> {
    let mut net = Joined::new(true, |_| {})?;
    repeat(|counts| {
        let mut result = Ok(());
        run(counts, || result = net.a.connect(host::B));
        result?;
        pass(&mut net, counts)?;
        run(counts, || net.a.close());
        pass(&mut net, counts)?;
        net.b.accept()?;
        net.b.close();
        pass(&mut net, counts)?;
        if net.a.connections() == 0 { Ok(()) } else { Err(io::Error::other("the connection is not over")) }
    })
}

/// Lets packets pass until there are none.
fn pass(net: &mut Joined, counts: bool) -> io::Result<()> {
    loop {
        net.b.receive(net.a.sent()?.into_iter());
        let mut packets = net.sent_to_a()?;
        if packets.is_empty() {
            return Ok(());
        }
        run(counts, || net.a.receive(packets.drain(..)));
    }
}

/// A SYN that is answered with a cookie.
fn syn_cookie() -> io::Result<()> {
    let mut net = Joined::new(true, |config| config.syncookies = netstack::config::SynCookieMode::Always)?;
    net.b.connect(host::A)?;
    let syn: Packet = net.sent_to_a()?.pop().ok_or_else(|| io::Error::other("no SYN came"))?;
    net.a.listen(host::A)?;
    repeat(|counts| {
        let mut packets = vec![syn.copy()];
        run(counts, || net.a.receive(packets.drain(..)));
        net.a.sent().map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_can_be_repeated() {
        for (name, run) in OPERATIONS {
            run().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
