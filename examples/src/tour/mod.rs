//! The experiments of the guided tour (`examples/README.md`): scenes between two hosts, which are
//! drawn as ladder diagrams from the packets on the wire, captured for Wireshark, and checked
//! against claims.
//!
//! An experiment is a program whose `main` is [`main`]:
//!
//! ```no_run
//! use netstack_examples::tour::{self, Peer, Side, Tour};
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     tour::main("hello", "S0: what does a handshake look like?", handshake)
//! }
//!
//! fn handshake(tour: &mut Tour) -> std::io::Result<()> {
//!     let scene = tour.scene("handshake", "A client connects", Peer::Kernel(Side::Left));
//!     let scene = scene.run(async |net| {
//!         let listener = net.right.listen(80)?;
//!         let (client, server) = tokio::join!(net.left.connect(net.right.at(80)), listener.accept());
//!         drop((client?, server?));
//!         Ok(())
//!     })?;
//!     tour.equal("the client begins", &scene.segments.numbers()[0], &"> SYN 0/0".to_owned());
//!     Ok(())
//! }
//! ```
//!
//! A scene against the kernel runs in real time over a TUN device in a private network namespace.
//! With `--memory`, or where the system does not permit namespaces, a second netstack takes the
//! place of the kernel, in virtual time. Then a scene is the same every time, byte for byte.

pub mod capture;
mod connections;
mod forge;
mod host;
mod ladder;
mod net;
mod recording;
mod scene;
mod segment;
mod svg;
mod tap;
mod text;

pub use forge::Forgery;
pub use host::{Host, Listener, Socket, Stream};
pub use net::{Net, Wire};
pub use scene::{Scene, SceneBuilder};
pub use segment::{Seg, Segs};
pub use text::errno;

use crate::cli;
use clap::Parser;
use netstack::wire::Flags;
use netstack_tun::netns;
use std::fmt::{Debug, Display};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// One of the two lifelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// On the left: the client, usually.
    Left,
    /// On the right.
    Right,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Left => 0,
            Self::Right => 1,
        }
    }
}

/// The peer of netstack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A second netstack, in virtual time.
    Netstack,
    /// The kernel, on this side, in real time.
    Kernel(Side),
    /// None: one netstack and its loopback, in virtual time.
    Itself,
}

/// The options of every experiment.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Folder for the diagrams (SVG) and captures (pcapng); `tour` beside the build's output if it is
    /// not given.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Let a second netstack take the place of the kernel, in virtual time.
    #[arg(long)]
    memory: bool,
    /// Change a setting of the stacks, and see which claims still hold. Can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = cli::setting)]
    config: Vec<(String, String)>,
    /// Lose every segment with these flags (FIN, RST, SYN,ACK) on the wire, and see which claims
    /// fail.
    #[arg(long, value_name = "FLAGS", value_parser = flags)]
    lose: Option<Flags>,
    /// Print the claims, and no ladders.
    #[arg(long)]
    quiet: bool,
}

fn flags(text: &str) -> Result<Flags, String> {
    let mut flags = Flags::default();
    for name in text.split(',') {
        flags = flags.with(match name {
            "FIN" => Flags::FIN,
            "SYN" => Flags::SYN,
            "RST" => Flags::RST,
            "PSH" => Flags::PSH,
            "ACK" => Flags::ACK,
            _ => return Err(format!("`{name}` is none of FIN, SYN, RST, PSH and ACK")),
        });
    }
    Ok(flags)
}

/// A running experiment.
pub struct Tour {
    /// Its name, with which its files begin.
    name: String,
    args: Args,
    out: PathBuf,
    /// Why the kernel cannot take part, if it cannot.
    refused: Option<io::Error>,
    scenes: u8,
    held: usize,
    failed: usize,
}

/// Runs an experiment, prints the results, and returns the exit status: success only if every claim
/// holds.
pub fn main(name: &str, question: &str, experiment: impl FnOnce(&mut Tour) -> io::Result<()>) -> ExitCode {
    let args: Args = cli::parse();
    let start = Instant::now();
    let mut tour = match Tour::new(name, args) {
        Ok(tour) => tour,
        Err(error) => return cli::fail(error),
    };
    println!("{question}\n");
    if let Some(refused) = &tour.refused {
        println!("the kernel cannot play here ({refused}): a second netstack does, in virtual time\n");
    }
    if let Err(error) = experiment(&mut tour) {
        return cli::fail(format!("{name}: {error}"));
    }
    let took = start.elapsed().as_secs_f64();
    println!("{name}: {} claims held, {} failed ({took:.1} s)", tour.held, tour.failed);
    println!("diagrams and captures are in {}", tour.out.display());
    if tour.failed == 0 && tour.held > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Tour {
    fn new(name: &str, args: Args) -> io::Result<Self> {
        let out = args.out.clone().unwrap_or_else(default_folder);
        std::fs::create_dir_all(&out)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", out.display())))?;
        // Before anything starts a thread.
        let refused =
            if args.memory { None } else { netns::available().and_then(|()| netns::enter_private()).err() };
        Ok(Self { name: name.to_owned(), args, out, refused, scenes: 0, held: 0, failed: 0 })
    }

    /// A scene to set up and run. The names of its files consist of that of the experiment and
    /// `name`.
    pub fn scene(&mut self, name: &str, title: &str, peer: Peer) -> SceneBuilder<'_> {
        SceneBuilder::new(self, name, title, peer)
    }

    /// Whether the kernel takes part in the scenes that are against it.
    pub fn has_kernel(&self) -> bool {
        !self.args.memory && self.refused.is_none()
    }

    /// A claim: whether it holds.
    pub fn claim(&mut self, claim: impl Display, holds: bool) {
        if holds {
            self.held += 1;
            println!("  ✓ {claim}");
        } else {
            self.failed += 1;
            println!("  ✗ {claim}");
        }
    }

    /// A claim that two values are equal; if they are not, both are printed.
    pub fn equal<T: PartialEq + Debug + ?Sized>(&mut self, claim: impl Display, seen: &T, expected: &T) {
        let holds = seen == expected;
        self.claim(claim, holds);
        if !holds {
            println!("      expected {expected:?}\n      seen     {seen:?}");
        }
    }

    /// A claim that a time is `expected`, or later by at most `slack`.
    pub fn at(&mut self, claim: impl Display, seen: Duration, expected: Duration, slack: Duration) {
        // Times of the ladder have milliseconds, and so have those of tokio.
        let holds = seen + Duration::from_millis(1) >= expected && seen <= expected + slack;
        self.claim(claim, holds);
        if !holds {
            println!("      expected {expected:?} to {:?}\n      seen     {seen:?}", expected + slack);
        }
    }

    /// Prints a remark for the reader that is not a claim.
    pub fn says(&self, text: impl Display) {
        println!("  {text}");
    }
}

/// The folder `tour` beside the profiles of the build, or else in the folder for temporary files.
fn default_folder() -> PathBuf {
    let exe = std::env::current_exe().ok();
    // …/target/debug/examples/name
    let target = exe.as_deref().and_then(|exe| {
        let folder = exe.parent()?;
        folder.ends_with("examples").then(|| folder.ancestors().nth(2)).flatten()
    });
    target.map_or_else(|| std::env::temp_dir().join("netstack-tour"), |target| target.join("tour"))
}
