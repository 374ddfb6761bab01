//! Datagrams that arrive in one thread while another one ends the flow that they are for.

use super::forwarding::{SETTINGS, from_to, net, start};
use crate::stack::testing::receive;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const COUNT: usize = 50_000;
/// Datagrams that wait at most, which is what a flow has room for.
const WAITING: usize = 4;
/// Looks at the other thread after which it has stopped to take datagrams. It has nothing else to do, and gets the
/// processor if somebody else has it.
const LOOKS: usize = 1_000_000;

#[test]
fn none_is_lost_to_a_flow_that_ends_when_it_has_no_other() {
    let net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let (engine, now) = (Arc::clone(net.engine(1)), net.now);
    let total = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&total);
    let driver = std::thread::spawn(move || {
        let packet = from_to((Ipv4Addr::new(10, 0, 0, 1), 5), (Ipv4Addr::new(1, 2, 3, 4), 53), b"?");
        for given in 0..COUNT {
            let is_behind = |_: &usize| given - seen.load(Ordering::Relaxed) >= WAITING;
            if (0..LOOKS).take_while(is_behind).inspect(|_| std::thread::yield_now()).count() == LOOKS {
                return;
            }
            receive(&engine, now, &packet);
        }
    });
    loop {
        let is_over = driver.is_finished();
        if forwarder.recv(&net).is_ok() {
            total.fetch_add(1, Ordering::Relaxed);
        } else if is_over {
            break;
        }
    }
    driver.join().unwrap();
    assert_eq!(total.load(Ordering::Relaxed), COUNT);
}
