//! placeholder
fn main() -> std::io::Result<()> {
    let tun = netstack_tun::Tun::open(&netstack_tun::TunConfig::new(std::env::args().nth(1).unwrap()))?;
    netstack_benches::limit::run(&tun, &std::sync::atomic::AtomicBool::new(false))
}
