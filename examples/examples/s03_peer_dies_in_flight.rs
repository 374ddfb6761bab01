//! S3: the peer dies while data is in flight. How long does the sender try?
//!
//! ```text
//! cargo run -p netstack-examples --example s03_peer_dies_in_flight
//! ```
//!
//! The retransmission timeout (RTO) doubles with each retransmission, up to 120 s. The limit is not
//! a number of retransmissions: `tcp_retries2` (15) represents the *time* that this number of
//! doublings takes from the minimum timeout of 200 ms on, which is 924.6 s. The connection is
//! aborted at the first timeout at which this time has passed since the first retransmission. With
//! an initial timeout of 201 ms that takes 15 retransmissions and 925.6 s, with one of 1 s it takes
//! 13 and 967 s. A tail loss probe (RFC 8985 §7) precedes all of them. It is not a timeout and
//! doubles nothing, and the times count from it.
//!
//! (The minimum timeout is 200 ms *plus the round-trip time*: Linux uses at least 200 ms for the
//! variation.)
//!
//! The quarter of an hour passes in virtual time. Against Linux the limit is `tcp_retries2` = 3 on
//! both sides, which represents 200 + 400 + 800 + 1,600 ms, and both must follow the same rule.

use netstack_examples::tour::{self, Net, Peer, Segs, Side, Tour, errno};
use netstack_tun::netns;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

const PORT: u16 = 80;
const MESSAGE: &[u8] = b"are you still there?";
const RTO_MIN: Duration = Duration::from_millis(200);
const RTO_MAX: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let question = "S3: The peer dies while data is in flight. How long does the sender try?";
    tour::main("s03_peer_dies_in_flight", question, |tour| {
        let millis = Duration::from_millis;
        // The first round-trip sample R makes the timeout R + max(200 ms, 4 · R/2) (RFC 6298 §2.2).
        quarter_of_an_hour(tour, "rto_201ms", [millis(1), millis(0)], Rule { tries: 15, millis: 925_623 })?;
        quarter_of_an_hour(tour, "rto_1s", [millis(167), millis(167)], Rule { tries: 13, millis: 967_254 })?;
        three_retries(tour, "linux_tries", Peer::Kernel(Side::Left))?;
        three_retries(tour, "netstack_tries", Peer::Kernel(Side::Right))
    })
}

/// What the rule predicts.
struct Rule {
    /// Retransmissions by timeout.
    tries: usize,
    /// Milliseconds from the start of the first timeout until the connection is given up.
    millis: u64,
}

/// With the default of `tcp_retries2`, over a path with these delays.
fn quarter_of_an_hour(
    tour: &mut Tour,
    name: &str,
    [there, back]: [Duration; 2],
    Rule { tries, millis }: Rule,
) -> io::Result<()> {
    let title = format!("tcp_retries2 = 15, a round trip of {} ms", (there + back).as_millis());
    let scene = tour.scene(name, &title, Peer::Netstack).delays(there, back).run(die_in_flight)?;
    let Death { error, rto, end } = scene.value;
    let sent = transmissions(&scene.segments);
    // RFC 6298 §2.2, and Linux's floor of 200 ms for the variation: R + max(200 ms, 4 · R/2).
    let sample = (there + back) + RTO_MIN.max((there + back) * 2);
    tour.equal("the timeout is the round trip and at least 200 ms", &rto.as_millis(), &sample.as_millis());
    let (probes, retransmissions) = follows_the_rule(tour, &sent, end, rto, model(15));
    for (index, at) in sent.iter().enumerate().skip(1) {
        let what = if index <= probes {
            "tail loss probe".to_owned()
        } else {
            format!("retransmission {}", index - probes)
        };
        tour.says(format!("{what:<17} after {:>7.3} s", (*at - sent[0]).as_secs_f64()));
    }
    tour.equal(format!("{tries} retransmissions by timeout"), &retransmissions, &tries);
    tour.equal("read fails", &error.as_deref(), &Some("ETIMEDOUT"));
    // From the start of the first timeout.
    let (expected, slack) = (Duration::from_millis(millis), Duration::from_millis(20));
    let what = if probes == 0 { "data" } else { "probe" };
    let claim = format!("{:.1} s after the {what} was sent", expected.as_secs_f64());
    tour.at(claim, end - sent[probes], expected, slack);
    Ok(())
}

/// With `tcp_retries2` = 3, against Linux.
fn three_retries(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    if tour.has_kernel() {
        netns::sysctl("net.ipv4.tcp_retries2", "3")?;
    }
    let scene = tour.scene(name, "tcp_retries2 = 3: 3 s", peer).config(|config| config.retries2 = 3);
    let scene = scene.run(die_in_flight)?;
    let Death { error, rto, end } = scene.value;
    let sent = transmissions(&scene.segments);
    follows_the_rule(tour, &sent, end, rto, model(3));
    tour.equal("read fails", &error.as_deref(), &Some("ETIMEDOUT"));
    // The timeout at about 3 s comes a moment too early, so it takes the next one.
    let (expected, slack) = (Duration::from_millis(6_200), Duration::from_millis(700));
    tour.at("about 6.4 s after the data was sent", end - sent[0], expected, slack);
    Ok(())
}

/// The time that `retries` represents: this number of doublings, and the wait after the last of
/// them.
fn model(retries: u32) -> Duration {
    (0..=retries).map(|doublings| RTO_MIN.saturating_mul(1 << doublings).min(RTO_MAX)).sum()
}

/// Claims that the timeouts doubled, and that the end came at the first of them that was `limit`
/// after the first. Returns the numbers of probes and of retransmissions by timeout.
fn follows_the_rule(
    tour: &mut Tour,
    sent: &[Duration],
    end: Duration,
    rto: Duration,
    limit: Duration,
) -> (usize, usize) {
    // A probe is sent no later than the timeout, which is restarted then, so that the first wait is
    // not doubled.
    let waits: Vec<_> =
        sent.windows(2).map(|pair| pair[1] - pair[0]).chain([end - sent[sent.len() - 1]]).collect();
    let probes = usize::from(waits.len() > 1 && waits[1] < rto * 3 / 2);
    let timeouts = &waits[probes..];
    let doubles = timeouts.windows(2).all(|pair| {
        let expected = (pair[0] * 2).min(RTO_MAX);
        // Timers of the kernel are coarse.
        pair[1].abs_diff(expected) <= expected / 8
    });
    tour.claim("each timeout is twice the one before, up to 120 s", doubles && timeouts.len() > 2);
    let (first, last) = (sent[1 + probes], sent[sent.len() - 1]);
    tour.claim(
        format!(
            "the end is the first timeout at least {:.1} s after the first retransmission",
            limit.as_secs_f64()
        ),
        end - first >= limit && last - first < limit,
    );
    (probes, sent.len() - 1 - probes)
}

/// The end of the sender's connection.
struct Death {
    error: Option<String>,
    /// Its timeout when it sent the data; 200 ms for the kernel, whose value is not read here.
    rto: Duration,
    end: Duration,
}

/// Opens a connection; the server loses power; the client writes and waits for the end.
async fn die_in_flight(net: &Net) -> io::Result<Death> {
    let (mut client, _server) = net.connect(PORT).await?;
    if net.right.is_kernel() {
        // The kernel's host has to stay on, so the cable is pulled instead.
        net.wire.set_down(true);
    } else {
        net.right.power_off().await;
    }
    client.write(MESSAGE).await?;
    let rto = client.netstack().and_then(|stream| stream.tcp_info().ok()).map_or(RTO_MIN, |info| info.rto);
    let error = client.read(1).await.err().map(|error| errno(&error));
    let end = net.wire.now();
    net.wire.cut();
    Ok(Death { error, rto, end })
}

/// When the data was sent and retransmitted.
fn transmissions(segments: &Segs) -> Vec<Duration> {
    segments.iter().filter(|seg| seg.len() == MESSAGE.len()).map(|seg| seg.sent).collect()
}
