//! Datagrams that arrive in one thread while another one ends the flow that they are for.

use super::forwarding::{Forwarder, SETTINGS, from_to, net, start};
use crate::device::RxMeta;
use crate::stack::Batch;
use crate::stack::testing::Net;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const COUNT: usize = 50_000;
/// Datagrams that wait at most, which is what a flow has room for.
const WAITING: usize = 4;
/// Looks at the other thread after which it has stopped to take datagrams. It has nothing else to do.
const LOOKS: usize = 1_000_000;

/// Lets one thread receive datagrams, and counts those that `take` gives in this one.
fn taken(take: impl Fn(&Net, &Forwarder) -> usize) -> usize {
    let net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let (engine, now) = (Arc::clone(net.engine(1)), net.now);
    let total = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&total);
    let driver = std::thread::spawn(move || {
        let queue = engine.core().queues().next().unwrap();
        let packet = from_to((Ipv4Addr::new(10, 0, 0, 1), 5), (Ipv4Addr::new(1, 2, 3, 4), 53), b"?");
        let mut batch = Batch::new();
        for given in 0..COUNT {
            let is_behind = |_: &usize| given - seen.load(Ordering::Relaxed) >= WAITING;
            if (0..LOOKS).take_while(is_behind).inspect(|_| std::hint::spin_loop()).count() == LOOKS {
                return;
            }
            let mut buf = engine.core().pool().take();
            buf.bytes_mut()[..packet.len()].copy_from_slice(&packet);
            let meta = RxMeta { len: packet.len(), ..RxMeta::default() };
            engine.on_packet(now, queue, buf, meta, &mut batch);
            engine.end_batch(now, &mut batch);
            batch.deliver(&engine);
        }
    });
    loop {
        let is_over = driver.is_finished();
        let more = take(&net, &forwarder);
        total.fetch_add(more, Ordering::Relaxed);
        if is_over && more == 0 {
            driver.join().unwrap();
            return total.load(Ordering::Relaxed);
        }
    }
}

#[test]
fn none_is_lost_to_a_flow_that_ends_when_it_has_no_other() {
    assert_eq!(taken(|net, forwarder| usize::from(forwarder.recv(net).is_ok())), COUNT);
}
