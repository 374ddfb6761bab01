//! Both ends talk, shut down and close as they like, over wires of every kind, and are told by events
//! alone when to try again: all that was accepted arrives, and both come to their end.

use super::pair::{Pair, Wire, config, pattern};
use crate::config::Config;
use crate::readiness::Events;
use crate::tcp::{State, TcpError};
use crate::time::{Duration, Instant};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;

/// The application at one end.
struct User {
    bytes: Vec<u8>,
    written: usize,
    shut: bool,
    got: Vec<u8>,
    end_of_stream: bool,
    /// What a reactor with sticky readiness would believe.
    readable: bool,
    writable: bool,
    /// When it reads and writes next.
    next: Instant,
    /// Between its turns.
    pause: Duration,
    /// Bytes of each read and write.
    portion: usize,
}

fn user(rng: &mut ChaCha8Rng, now: Instant) -> User {
    let len = [0, 1, 1_000, 30_000, 120_000][rng.random_range(0..5)];
    let portion = [1 << 20, 20_000, 1_000][rng.random_range(0..3)];
    let pause = [0, 0, 1, 50][rng.random_range(0..4)];
    User {
        bytes: pattern(len),
        written: 0,
        shut: false,
        got: Vec::new(),
        end_of_stream: false,
        readable: true,
        writable: true,
        next: now + Duration::from_millis(rng.random_range(0..100)),
        pause: Duration::from_millis(pause),
        portion,
    }
}

impl User {
    /// Does what can be done at `now`, as far as the events said.
    fn turn(&mut self, pair: &mut Pair, end: usize) {
        if pair.now < self.next {
            return;
        }
        self.next = pair.now + self.pause;
        self.write(pair, end);
        let mut to = vec![0; self.portion];
        while self.readable && !self.end_of_stream {
            let now = pair.now;
            match pair.conn(end).read(now, &mut [IoSliceMut::new(&mut to)]) {
                Ok(0) => self.end_of_stream = true,
                Ok(n) => self.got.extend_from_slice(&to[..n]),
                Err(TcpError::WouldBlock) => self.readable = false,
                Err(other) => panic!("end {end}: {other}"),
            }
            if !self.pause.is_zero() {
                break;
            }
        }
    }

    fn write(&mut self, pair: &mut Pair, end: usize) {
        while self.writable && self.written < self.bytes.len() {
            let now = pair.now;
            let to = self.bytes.len().min(self.written + self.portion);
            let bytes = &self.bytes[self.written..to];
            match pair.conn(end).write(now, &[IoSlice::new(bytes)], false) {
                Ok(n) => {
                    // What a reactor with edges does at a short write.
                    self.writable = n == bytes.len();
                    self.written += n;
                }
                Err(TcpError::WouldBlock) => self.writable = false,
                Err(other) => panic!("end {end}: {other}"),
            }
            if !self.pause.is_zero() {
                break;
            }
        }
        if self.written == self.bytes.len() && !self.shut {
            self.shut = true;
            pair.conn(end).shutdown(Shutdown::Write).expect("nobody else closed");
        }
    }

    fn listen(&mut self, pair: &mut Pair, end: usize) {
        let events = pair.conn(end).take_events();
        self.readable |= events.contains(Events::READABLE);
        self.writable |= events.contains(Events::WRITABLE);
    }

    /// Whether it waits for its own next turn rather than for an event.
    fn busy(&self) -> bool {
        (self.readable && !self.end_of_stream) || (self.writable && !self.shut)
    }
}

fn ended(pair: &Pair) -> bool {
    pair.ends.iter().all(|end| matches!(end.conn.state(), State::TimeWait | State::Closed))
}

fn a_config(rng: &mut ChaCha8Rng, early_retrans: bool) -> Arc<Config> {
    let plain = rng.random_range(0..4);
    Arc::new(Config {
        sack: plain != 0,
        early_retrans,
        timestamps: plain != 1 && plain != 0,
        window_scaling: plain != 2,
        ..(*config()).clone()
    })
}

fn set_options(pair: &mut Pair, end: usize, rng: &mut ChaCha8Rng) {
    let now = pair.now;
    let conn = pair.conn(end);
    let mut options = conn.options().clone();
    options.nodelay = rng.random();
    options.cork = rng.random_range(0..5) == 0;
    match rng.random_range(0..8) {
        0 => options.recv_buffer_size = Some(2_304),
        1 => options.recv_buffer_size = Some(20_000),
        2 => options.send_buffer_size = Some(4_608),
        3 => options.notsent_lowat = Some(2_000),
        4 => options.window_clamp = Some(1_152),
        _ => {}
    }
    conn.set_options(now, options);
}

fn run(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let bad = rng.random_range(0..3) > 0;
    let share = |rng: &mut ChaCha8Rng, most: f64| if bad { rng.random_range(0.0..most) } else { 0.0 };
    let wire = Wire {
        delay: Duration::from_millis([1, 10, 100][rng.random_range(0..3)]),
        loss: share(&mut rng, 0.2),
        reorder: share(&mut rng, 0.4),
        mark: 0.0,
        duplicate: share(&mut rng, 0.2),
        offload: [0, 20_000, 65_000][rng.random_range(0..3)],
        ..Wire::default()
    };
    // Where acknowledgments are delayed, tail loss probes are for nothing now and then.
    let (a, b) = (a_config(&mut rng, bad), a_config(&mut rng, bad));
    let mut pair = Pair::connect_with(wire, seed, &a, &b);
    set_options(&mut pair, 0, &mut rng);
    set_options(&mut pair, 1, &mut rng);
    let mut users = [user(&mut rng, pair.now), user(&mut rng, pair.now)];
    let deadline = pair.now + Duration::from_secs(900);
    let mut turns = 0;
    while !ended(&pair) || !users.iter().all(|user| user.end_of_stream) {
        turns += 1;
        let stuck = || format!("seed {seed}, {wire:?}");
        assert!(turns < 200_000, "too many turns, {}", stuck());
        for (end, user) in users.iter_mut().enumerate() {
            user.listen(&mut pair, end);
            user.turn(&mut pair, end);
        }
        pair.pump();
        for (end, user) in users.iter_mut().enumerate() {
            user.listen(&mut pair, end);
        }
        if ended(&pair) && !users.iter().any(User::busy) {
            break;
        }
        let turn = users.iter().filter(|user| user.busy()).map(|user| user.next).min();
        let Some(next) = turn.into_iter().chain(pair.next_event()).min() else {
            let [a, b] = &pair.ends;
            panic!("nothing will ever happen, {}: {:?} {:?}", stuck(), a.conn, b.conn);
        };
        assert!(next <= deadline, "{}: {:#?} {:#?}", stuck(), pair.ends[0].conn, pair.ends[1].conn);
        if turn == Some(next) {
            pair.now = pair.now.max(next);
        } else {
            pair.step();
        }
    }
    for end in 0..2 {
        let (from, to) = (&users[end], &users[1 - end]);
        assert!(to.end_of_stream, "seed {seed}: no end of stream at {}", 1 - end);
        assert!(
            to.got == from.bytes,
            "seed {seed}: {} of {} bytes from {end}",
            to.got.len(),
            from.bytes.len()
        );
        let sent_again = pair.ends[end].conn.info(pair.now).total_retrans;
        assert!(bad || sent_again == 0 || wire.loss > 0.0, "seed {seed}, {wire:?}: {sent_again} for nothing");
    }
}

#[test]
fn both_ends_talk_and_close_over_all_kinds_of_wires() {
    for seed in 0..150 {
        run(seed);
    }
}
