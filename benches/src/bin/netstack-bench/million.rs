//! The command `million`: very many connections in memory.

use clap::Args;
use netstack_benches::million::Crowd;
use netstack_benches::process;
use netstack_benches::report::{Provenance, number};
use netstack_benches::stats::median;
use std::io;
use std::time::Duration;

/// The connections with which the many are compared.
const FEW: usize = 1_000;
/// Echoes over few connections, so that there is something to measure.
const FEW_ROUNDS: usize = 99;
/// Echoes over each of the many.
const MANY_ROUNDS: usize = 3;

/// The options of `million`.
#[derive(Debug, Args)]
pub(crate) struct Million {
    /// Connections.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(FEW as i64..=5_000_000))]
    connections: u32,
}

impl Million {
    pub(crate) fn run(&self) -> io::Result<()> {
        println!("{}", Provenance::new());
        let before = process::own_resident()?;
        let mut crowd = Crowd::new()?;
        let few = measure(&mut crowd, FEW, FEW_ROUNDS, before)?;
        let connections = self.connections as usize;
        if connections > FEW {
            let many = measure(&mut crowd, connections, MANY_ROUNDS, before)?;
            println!("time per echo: {:.2} × that with {}", many / few, number(FEW as f64));
        }
        // To close them all takes as long as to open them, and says nothing.
        std::process::exit(0);
    }
}

/// Opens connections until there are as many, and prints what they take. Returns the microseconds of an echo.
fn measure(crowd: &mut Crowd, connections: usize, rounds: usize, before: u64) -> io::Result<f64> {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / connections as f64;
    let opened = crowd.grow(connections)?;
    let echoes = (0..rounds).map(|_| crowd.echo().map(each)).collect::<io::Result<Vec<_>>>()?;
    let (echo, resident) = (median(&echoes), process::own_resident()?);
    println!(
        "{:>9} connections: opened in {:.2} s; resident {} MiB, {} bytes each with both ends and their tasks; \
         {echo:.2} µs for an echo",
        number(connections as f64),
        opened.as_secs_f64(),
        number((resident >> 20) as f64),
        number(resident.saturating_sub(before) as f64 / connections as f64),
    );
    Ok(echo)
}
