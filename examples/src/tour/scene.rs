//! One scene: how it is set up, run, drawn and captured.

use super::ladder::{Ladder, Lifelines};
use super::net::{Net, Plan};
use super::recording::Recording;
use super::segment::{self, Segs};
use super::{Peer, Side, Tour, capture, svg};
use netstack::Config;
use std::io;
use std::ops::AsyncFnOnce;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The seed, which makes sequence numbers, ports and cookies the same every time.
const SEED: u64 = 9293;
/// How long a scene may take in real time.
const REAL_LIMIT: Duration = Duration::from_secs(30);
/// And in virtual time.
const VIRTUAL_LIMIT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Delay of the cable in memory, one way, if the scene does not say.
const CABLE: Duration = Duration::from_millis(5);

/// A scene to be run.
#[must_use = "a scene does nothing until it is run"]
pub struct SceneBuilder<'a> {
    tour: &'a mut Tour,
    name: String,
    title: String,
    peer: Peer,
    delays: Option<[Duration; 2]>,
    names: Option<[String; 2]>,
    third: Option<(String, u16)>,
    configs: [Config; 2],
    drawn: bool,
}

/// The result of a scene.
pub struct Scene<R> {
    /// What its body returned.
    pub value: R,
    /// What was on the wire.
    pub segments: Segs,
    /// Whether it ran in virtual time: then times are exact.
    pub is_virtual: bool,
}

impl<'a> SceneBuilder<'a> {
    pub(super) fn new(tour: &'a mut Tour, name: &str, title: &str, peer: Peer) -> Self {
        let peer = match peer {
            Peer::Kernel(_) if !tour.has_kernel() => Peer::Netstack,
            other => other,
        };
        let configs = [Config::default(), Config::default()];
        Self {
            tour,
            name: name.to_owned(),
            title: title.to_owned(),
            peer,
            delays: None,
            names: None,
            third: None,
            configs,
            drawn: true,
        }
    }

    /// Sets the delay of the wire, one way. Without it a cable in memory has 5 ms and a TUN device
    /// none.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delays = Some([delay; 2]);
        self
    }

    /// Sets the delay from left to right, and back.
    pub fn delays(mut self, there: Duration, back: Duration) -> Self {
        self.delays = Some([there, back]);
        self
    }

    /// Names the lifelines; `client` and `server` if it is not called.
    pub fn names(mut self, left: &str, right: &str) -> Self {
        self.names = Some([left.to_owned(), right.to_owned()]);
        self
    }

    /// Draws a third lifeline with this name, on the right of the other two, for a server of the left host
    /// that the right host, a proxy, connects to: it has the segments to and from `port` of the left
    /// host, and the calls of [`Host::on_third_lifeline`](super::Host::on_third_lifeline).
    pub fn third(mut self, name: &str, port: u16) -> Self {
        self.third = Some((name.to_owned(), port));
        self
    }

    /// Changes the settings of both stacks.
    pub fn config(mut self, change: impl Fn(&mut Config)) -> Self {
        self.configs.iter_mut().for_each(change);
        self
    }

    /// Changes the settings of the stack on one side.
    pub fn config_of(mut self, side: Side, change: impl Fn(&mut Config)) -> Self {
        change(&mut self.configs[side.index()]);
        self
    }

    /// Omits the ladder, because the scene is long and uniform. The capture is still written.
    pub fn undrawn(mut self) -> Self {
        self.drawn = false;
        self
    }

    /// Runs the scene, prints and writes the ladder, writes the capture, and compares the two.
    ///
    /// # Errors
    /// Those of `body`, of the network and of the files.
    pub fn run<R>(mut self, body: impl AsyncFnOnce(&Net) -> io::Result<R>) -> io::Result<Scene<R>> {
        let is_virtual = !matches!(self.peer, Peer::Kernel(_));
        let stem = format!("{}_{}", self.tour.name, self.name);
        let capture = self.tour.out.join(format!("{stem}.pcapng"));
        self.settings(is_virtual)?;
        let delays = self.delays.unwrap_or([if is_virtual { CABLE } else { Duration::ZERO }; 2]);
        self.tour.scenes += 1;
        let plan = Plan {
            peer: self.peer,
            delays,
            configs: self.configs.clone(),
            capture: &capture,
            number: self.tour.scenes,
        };

        let runtime = runtime(is_virtual)?;
        let lose = self.tour.args.lose;
        let (value, recorded) = runtime.block_on(async {
            let recording = Arc::new(Recording::new());
            let net = Net::build(&plan, &recording)?;
            if let Some(flags) = lose {
                for side in [Side::Left, Side::Right] {
                    net.wire.lose_many(side, usize::MAX, move |segment| segment.flags.contains(flags));
                }
            }
            let limit = if is_virtual { VIRTUAL_LIMIT } else { REAL_LIMIT };
            let value = tokio::time::timeout(limit, body(&net)).await;
            let recorded = recording.recorded();
            net.retire().await;
            let too_long = || io::Error::new(io::ErrorKind::TimedOut, format!("not over after {limit:?}"));
            let value = value.map_err(|_| too_long())?;
            io::Result::Ok((value, recorded))
        })?;
        // The capture is complete when the last handle of the device has been dropped.
        drop(runtime);

        let traffic = segment::read(&recorded.packets);
        let ladder = Ladder::new(&self.title, self.lifelines(), &recorded, &traffic);
        let segments = traffic.segs;
        self.show(&ladder, &stem)?;
        let agrees = capture::equals(&capture, &recorded);
        let forged = segments.iter().filter(|seg| seg.forged && !seg.checksum_ok).count();
        let checked = capture::check(&capture)?;
        let value = value.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))?;
        match agrees {
            Ok(packets) => self.tour.claim(
                format!("{stem}.pcapng holds the {packets} packets of the ladder, checksums right"),
                checked.packets == packets && checked.bad_checksums <= forged,
            ),
            Err(difference) => self.tour.claim(format!("{stem}.pcapng: {difference}"), false),
        }
        Ok(Scene { value, segments, is_virtual })
    }

    /// The command line takes precedence.
    fn settings(&mut self, is_virtual: bool) -> io::Result<()> {
        for config in &mut self.configs {
            if is_virtual {
                config.seed = Some(SEED);
            }
            // Packets in flight at the end of a scene are not of interest.
            config.exit_drain = Duration::ZERO;
            for (key, value) in &self.tour.args.config {
                config.set(key, value).map_err(io::Error::other)?;
            }
        }
        // Two hosts with the same secrets could guess each other's numbers.
        if is_virtual {
            self.configs[1].seed = Some(SEED + 1);
        }
        Ok(())
    }

    fn lifelines(&self) -> Lifelines {
        let two = self.names.clone().unwrap_or_else(|| ["client".to_owned(), "server".to_owned()]);
        let [left, right] = match self.peer {
            Peer::Kernel(Side::Left) => [" (Linux)", " (netstack)"],
            Peer::Kernel(Side::Right) => [" (netstack)", " (Linux)"],
            Peer::Netstack | Peer::Itself => [""; 2],
        };
        let mut names = vec![format!("{}{left}", two[0]), format!("{}{right}", two[1])];
        names.extend(self.third.iter().map(|(name, _)| format!("{name}{left}")));
        Lifelines { names, third: self.third.as_ref().map(|(_, port)| *port) }
    }

    fn show(&self, ladder: &Ladder, stem: &str) -> io::Result<()> {
        let title = &self.title;
        let network = match self.peer {
            Peer::Netstack => "two netstacks, virtual time",
            Peer::Kernel(_) => "netstack and the Linux kernel, real time",
            Peer::Itself => "one netstack, virtual time",
        };
        println!("— {title} ({network})");
        if !self.drawn {
            return Ok(());
        }
        if !self.tour.args.quiet {
            print!("{}", ladder.to_text());
        }
        std::fs::write(self.tour.out.join(format!("{stem}.svg")), svg::draw(ladder))
    }
}

fn runtime(is_virtual: bool) -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if is_virtual {
        builder.start_paused(true);
    }
    builder.build()
}
