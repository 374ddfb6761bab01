//! Memory under stress, and over a long time. A process with a stack is looked at from another, with which it
//! shares a socket pair: no rights are needed.
//!
//! ```text
//! netstack-stress pressure          10,000 connections whose peers never read, 10,000 whose applications never
//!                                   read, a million SYNs and data out of order, under a budget of 256 MiB
//! netstack-stress soak              some seconds of opening, closing, transfers, losses and cancellations
//! netstack-stress soak --minutes 60
//! ```
//!
//! Both fail if what they hold is more than it should be: see `README.md`.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "it loads a stack from outside, in real time")]

mod latencies;
mod peers;
mod pressure;
mod server;
mod soak;
mod wire;

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Looks at the memory of a stack under stress.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything at once that takes memory, under a budget.
    Pressure {
        /// Connections whose peers never read, and as many whose applications never read.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        /// SYNs from everywhere.
        #[arg(long, default_value_t = 1_000_000)]
        syns: u32,
        /// Connections that get bytes out of order.
        #[arg(long, default_value_t = 200)]
        out_of_order: u32,
        /// The budget, in MiB.
        #[arg(long, default_value_t = 256)]
        budget: usize,
        /// What may be resident, in MiB.
        #[arg(long, default_value_t = 320)]
        resident: u64,
    },
    /// Ordinary work for a long time.
    Soak {
        /// For so many minutes.
        #[arg(long, default_value_t = 0.2)]
        minutes: f64,
        /// Lines to print.
        #[arg(long, default_value_t = 5)]
        intervals: u32,
    },
    /// The process that is looked at, for internal use.
    #[command(hide = true)]
    Serve {
        /// The budget in bytes.
        high: usize,
        /// Packets that are lost, of a million.
        loss: u32,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse().what) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("netstack-stress: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What) -> io::Result<bool> {
    if let What::Serve { high, loss } = *what {
        return server::run(Some(high), loss).map(|()| true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match *what {
            What::Pressure { connections, syns, out_of_order, budget, resident } => {
                let (high, most) = (budget << 20, resident << 20);
                pressure::run(pressure::Plan { connections, syns, out_of_order, high, most }).await
            }
            What::Soak { minutes, intervals } => {
                soak::run(Duration::from_secs_f64(minutes * 60.0), intervals).await
            }
            What::Serve { .. } => Ok(true),
        }
    })
}
