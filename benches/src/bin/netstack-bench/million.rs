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
            println!(
                "an echo takes {:.2} × the time and {:.2} × the processor time of one among {}",
                many.micros / few.micros,
                many.cpu_micros / few.cpu_micros,
                number(FEW as f64)
            );
        }
        // To close them all takes as long as to open them, and says nothing.
        std::process::exit(0);
    }
}

/// What an echo takes.
struct Echo {
    micros: f64,
    cpu_micros: f64,
}

/// Opens connections until there are as many, and prints what they take.
fn measure(crowd: &mut Crowd, connections: usize, rounds: usize, before: u64) -> io::Result<Echo> {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / connections as f64;
    let opened = crowd.grow(connections)?;
    let (mut times, mut cpu_times) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for _ in 0..rounds {
        let cpu = process::own_cpu_time()?;
        times.push(each(crowd.echo()?));
        cpu_times.push(each(process::own_cpu_time()?.saturating_sub(cpu)));
    }
    let echo = Echo { micros: median(&times), cpu_micros: median(&cpu_times) };
    let resident = process::own_resident()?;
    println!(
        "{:>9} connections: opened in {:.2} s; resident {} MiB, {} bytes each with both ends and their tasks; \
         {:.2} µs for an echo, {:.2} µs of processor time",
        number(connections as f64),
        opened.as_secs_f64(),
        number((resident >> 20) as f64),
        number(resident.saturating_sub(before) as f64 / connections as f64),
        echo.micros,
        echo.cpu_micros,
    );
    Ok(echo)
}
