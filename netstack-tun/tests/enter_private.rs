//! A program that enters a private namespace at the beginning of `main`, as programs do.

use netstack_tun::{Tun, TunConfig, interface, netns};
use std::net::TcpListener;

fn main() {
    if let Err(err) = netns::available() {
        eprintln!("SKIPPED enter_private: {err}");
        assert!(std::env::var_os("NETSTACK_REQUIRE_NETNS").is_none_or(|value| value != "1"));
        return;
    }
    netns::enter_private().unwrap();
    assert!(interface::get("lo").unwrap().up);
    TcpListener::bind("127.0.0.1:7").expect("a private network has all ports free, and we are root");
    let tun = Tun::open(&TunConfig::new("tun0").address("10.9.0.1/24").unwrap()).unwrap();
    assert!(tun.created());
    // Threads started from here on are in the namespace.
    assert!(std::thread::spawn(|| interface::exists("tun0")).join().unwrap().unwrap());
    println!("test enter_private ... ok");
}
