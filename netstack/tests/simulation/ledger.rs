//! What applications were promised and what they got, of every connection.

use crate::chats::Chats;
use crate::plan::{Ending, Plan, Side};
use crate::rng::mix;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// A connection of the plan: the number of its talk, and its own.
pub(crate) type Id = (usize, usize);

pub(crate) struct Ledger {
    pub(crate) chats: Chats,
    records: Mutex<HashMap<Id, Record>>,
    /// What must not be, and of which connection it is the failure, if it is one.
    violations: Mutex<Vec<(Option<Id>, String)>>,
    /// By host: what starts now is excused.
    down: Mutex<HashMap<usize, &'static str>>,
    /// By host: what is opened now is excused, and what is open is not. More than one may hold at once.
    cut_off: Mutex<HashMap<usize, Vec<&'static str>>>,
    closing: AtomicBool,
    /// Who waits for the end.
    waiting: Mutex<Vec<Waker>>,
    /// What each end has to tell of itself, if a report was asked for.
    histories: Mutex<Vec<String>>,
}

/// One connection.
#[derive(Debug, Default)]
struct Record {
    hosts: [usize; 2],
    started: bool,
    client: Progress,
    /// What each application of the server did that got it. Most often that is one. There can be others: the
    /// packets of a client make a connection again, with a SYN cookie or a Fast Open cookie, if they are
    /// repeated when the first one has ended, or if the server was switched off in between. That is so in
    /// Linux, too (`cookie_v4_check`; RFC 7413 §2.1).
    servings: Vec<Progress>,
    /// Its SYN carries data (Fast Open), so that a repetition of it makes a connection.
    opens_fast: bool,
    /// Why it may fail.
    excuse: Option<&'static str>,
    /// Nobody waits for it any more.
    given_up: bool,
    addresses: Option<(SocketAddr, SocketAddr)>,
    wakers: Vec<Waker>,
}

/// Who has one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Client,
    /// One of those that the server got, by its number.
    Server(usize),
}

/// What one application did with its end of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Bytes that a write has taken.
    pub(crate) written: u64,
    /// Everything was written.
    finished: bool,
    pub(crate) read: u64,
    /// It has seen the end of what it reads.
    ended: bool,
    /// It is done with the connection.
    done: bool,
    /// An operation failed, and its error was told.
    pub(crate) told: bool,
}

impl Party {
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Client => Side::Client,
            Self::Server(_) => Side::Server,
        }
    }
}

impl Record {
    fn progress(&mut self, party: Party) -> &mut Progress {
        match party {
            Party::Client => &mut self.client,
            Party::Server(number) => &mut self.servings[number],
        }
    }

    /// Those that may have written what `party` reads.
    fn peers(&self, party: Party) -> &[Progress] {
        match party {
            Party::Client => &self.servings,
            Party::Server(_) => std::slice::from_ref(&self.client),
        }
    }

    /// Whether all that was begun is done.
    fn is_over(&self) -> bool {
        self.started && self.client.done && self.is_served_to_the_end()
    }

    fn is_served_to_the_end(&self) -> bool {
        self.servings.iter().all(|serving| serving.done)
    }
}

/// The content of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content(u64);

impl Content {
    pub(crate) fn new(plan: &Plan, id: Id, from: Side) -> Self {
        let (talk, connection) = id;
        // An echo is what came in.
        let echo = plan.talks.iter().any(|it| it.number == talk && it.kind == crate::plan::Kind::Echo);
        let from = if echo { Side::Client } else { from };
        Self(mix(plan.seed ^ mix((talk * 1_000 + connection) as u64 * 2 + from as u64)))
    }

    pub(crate) fn fill(self, at: u64, bytes: &mut [u8]) {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = mix(self.0 ^ (at / 8)).to_le_bytes();
            let from = &word[(at % 8) as usize..];
            let n = from.len().min(rest.len());
            rest[..n].copy_from_slice(&from[..n]);
            rest = &mut rest[n..];
            at += n as u64;
        }
    }

    /// Where `bytes`, which should be those from `at` on, differ first.
    pub(crate) fn differs(self, at: u64, bytes: &[u8]) -> Option<u64> {
        let mut expected = vec![0; bytes.len()];
        self.fill(at, &mut expected);
        if expected == bytes {
            return None;
        }
        let first = expected.iter().zip(bytes).position(|(expected, got)| expected != got)?;
        Some(at + first as u64)
    }
}

impl Ledger {
    pub(crate) fn new(plan: &Plan) -> Arc<Self> {
        let ledger = Self {
            chats: Chats::new(plan),
            records: Mutex::default(),
            violations: Mutex::default(),
            down: Mutex::default(),
            cut_off: Mutex::default(),
            closing: AtomicBool::new(false),
            waiting: Mutex::default(),
            histories: Mutex::default(),
        };
        {
            let mut records = ledger.records();
            for talk in &plan.talks {
                for connection in 0..talk.connections {
                    // As in Linux: while its queues are full, a server may reset who thinks that it is
                    // connected.
                    let overrun = (talk.sockets.backlog as usize) < talk.connections;
                    // What a listener answers does not wait for its device, as it does not in Linux. Here those
                    // who came at once come again at once, each time.
                    let silent = plan.hosts[talk.server].ring < talk.connections;
                    let excuses = [
                        (talk.ending != Ending::Graceful, "one end is abrupt"),
                        (overrun, "the server may be overrun"),
                        (silent, "the server's device may have no room for its answers"),
                    ];
                    let record = Record {
                        hosts: [talk.client, talk.server],
                        opens_fast: talk.sockets.fast_open,
                        excuse: excuses.iter().find_map(|(is, why)| is.then_some(*why)),
                        ..Record::default()
                    };
                    records.insert((talk.number, connection), record);
                }
            }
        }
        Arc::new(ledger)
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Id, Record>> {
        self.records.lock().expect("no panic under the lock of the ledger")
    }

    fn with<R>(&self, id: Id, f: impl FnOnce(&mut Record) -> R) -> R {
        f(self.records().get_mut(&id).expect("a connection of the plan"))
    }

    /// Something happened that must not.
    pub(crate) fn violation(&self, what: String) {
        self.note(None, what);
    }

    fn note(&self, failed: Option<Id>, what: String) {
        self.violations.lock().expect("no panic under this lock").push((failed, what));
    }

    pub(crate) fn take_violation(&self) -> Option<String> {
        let mut violations = self.violations.lock().expect("no panic under this lock");
        (!violations.is_empty()).then(|| violations.remove(0).1)
    }

    /// The client of a connection starts.
    pub(crate) fn start(&self, id: Id) {
        let down = self.down.lock().expect("no panic under this lock").clone();
        let cut_off = self.cut_off.lock().expect("no panic under this lock").clone();
        self.with(id, |record| {
            record.started = true;
            let excuse = record.hosts.iter().find_map(|host| {
                down.get(host).copied().or_else(|| cut_off.get(host).and_then(|all| all.first()).copied())
            });
            record.excuse = record.excuse.or(excuse);
        });
    }

    /// The server knows which connection it has.
    pub(crate) fn begin_serving(&self, id: Id) -> Party {
        let (number, excuse) = self.with(id, |record| {
            if record.opens_fast && !record.servings.is_empty() && record.is_served_to_the_end() {
                record.excuse.get_or_insert("a repeated SYN may make it again");
            }
            record.servings.push(Progress::default());
            (record.servings.len() - 1, record.excuse)
        });
        if number > 0 && excuse.is_none() {
            self.violation(format!("connection {id:?}: the server got it twice"));
        }
        Party::Server(number)
    }

    pub(crate) fn is_known(&self, id: Id) -> bool {
        self.records().contains_key(&id)
    }

    pub(crate) fn connected(&self, id: Id, client: SocketAddr, server: SocketAddr) {
        let addresses = Some((client, server));
        let mut records = self.records();
        // A port is used again once its last connection is over, and the addresses mean the new one then.
        for record in records.values_mut().filter(|record| record.addresses == addresses) {
            record.addresses = None;
        }
        records.get_mut(&id).expect("a connection of the plan").addresses = addresses;
    }

    /// An application is done with its end of a connection.
    pub(crate) fn done(&self, id: Id, party: Party) {
        self.with(id, |record| record.progress(party).done = true);
    }

    /// From now on the connections of a host may fail, until [`Ledger::host_is_up`].
    pub(crate) fn host_is_down(&self, host: usize, why: &'static str) {
        self.down.lock().expect("no panic under this lock").insert(host, why);
        for record in self.records().values_mut() {
            let served = !record.servings.is_empty() && record.is_served_to_the_end();
            let over = record.client.done && served;
            if record.hosts.contains(&host) && record.started && !over {
                record.excuse.get_or_insert(why);
            }
        }
    }

    /// The interface of a host was changed, so that connections cannot be opened until [`Ledger::host_is_joined`].
    /// Those that are open go on afterwards.
    pub(crate) fn host_is_cut_off(&self, host: usize, why: &'static str) {
        self.cut_off.lock().expect("no panic under this lock").entry(host).or_default().push(why);
        for record in self.records().values_mut() {
            let open = record.addresses.is_some() && !record.servings.is_empty();
            if record.hosts.contains(&host) && record.started && !open {
                record.excuse.get_or_insert(why);
            }
        }
    }

    pub(crate) fn host_is_joined(&self, host: usize, why: &'static str) {
        let mut all = self.cut_off.lock().expect("no panic under this lock");
        if let Some(reasons) = all.get_mut(&host) {
            let at = reasons.iter().position(|one| *one == why);
            at.map(|at| reasons.swap_remove(at));
        }
    }

    /// A connection may fail, and may have failed since the last look for violations: where both its ends are on
    /// one host, the failure is told before the reason for it is known.
    pub(crate) fn excuse(&self, id: Id, why: &'static str) {
        self.with(id, |record| {
            record.excuse.get_or_insert(why);
        });
        self.violations.lock().expect("no panic under this lock").retain(|(failed, _)| *failed != Some(id));
    }

    pub(crate) fn host_is_up(&self, host: usize) {
        self.down.lock().expect("no panic under this lock").remove(&host);
    }

    /// The applications of a host are gone, with what they had begun, and what they would have begun.
    pub(crate) fn host_lost_its_applications(&self, host: usize, why: &'static str) {
        for record in self.records().values_mut() {
            if record.hosts[0] == host && !record.client.done {
                record.started = true;
                record.excuse.get_or_insert(why);
                record.client.done = true;
            }
            if record.hosts[1] == host {
                record.servings.iter_mut().for_each(|serving| serving.done = true);
            }
        }
    }

    /// An operation of one end failed.
    pub(crate) fn failed(&self, id: Id, party: Party, what: &str, error: &std::io::Error) {
        let (excuse, progress) = self.with(id, |record| {
            record.progress(party).told = true;
            (record.excuse, *record.progress(party))
        });
        if excuse.is_none() {
            let what = format!(
                "connection {id:?}: {party:?} cannot {what}: {error} ({:?}) after {progress:?}",
                error.kind()
            );
            self.note(Some(id), what);
        }
    }

    pub(crate) fn progress(&self, id: Id, party: Party) -> Progress {
        self.with(id, |record| *record.progress(party))
    }

    pub(crate) fn wrote(&self, id: Id, party: Party, bytes: usize) {
        self.with(id, |record| record.progress(party).written += bytes as u64);
    }

    pub(crate) fn finished(&self, id: Id, party: Party) {
        self.with(id, |record| record.progress(party).finished = true);
    }

    /// One end read `bytes`, or the end of the stream. If more than one application of the server wrote to
    /// the client, what it reads has to be what one of them wrote: all write the same.
    pub(crate) fn read(&self, id: Id, party: Party, bytes: &[u8], content: Content) {
        let problem = self.with(id, |record| {
            let progress = record.progress(party);
            let at = progress.read;
            progress.read += bytes.len() as u64;
            progress.ended |= bytes.is_empty();
            let (progress, peers) = (*progress, record.peers(party));
            if bytes.is_empty() {
                // An error is told once, as in Linux: if a writer has taken it, the reader finds the end.
                if progress.told {
                    return None;
                }
                let whole = peers.iter().any(|peer| peer.finished && peer.written == progress.read);
                return (!whole)
                    .then(|| format!("the stream ends early for the {party:?}: {progress:?} of {peers:?}"));
            }
            if peers.iter().all(|peer| progress.read > peer.written) {
                return Some(format!("the {party:?} read more than was written: {progress:?} of {peers:?}"));
            }
            let wrong = content.differs(at, bytes)?;
            Some(format!("byte {wrong} is wrong for the {party:?}"))
        });
        if let Some(problem) = problem {
            self.violation(format!("connection {id:?}: {problem}"));
        }
    }

    /// Runs what one end does, unless it is given up.
    pub(crate) async fn unless_given_up<F: Future>(&self, id: Id, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let given_up = self.with(id, |record| {
                if !record.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    record.wakers.push(cx.waker().clone());
                }
                record.given_up
            });
            if given_up { Poll::Ready(None) } else { work.as_mut().poll(cx).map(Some) }
        })
        .await
    }

    /// Runs `work` unless everything is over.
    pub(crate) async fn unless_closing<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.closing.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            let mut waiting = self.waiting.lock().expect("no panic under this lock");
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            drop(waiting);
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Whether all that was begun is done.
    pub(crate) fn is_over(&self) -> bool {
        self.records().values().all(Record::is_over) && self.chats.unfinished().is_empty()
    }

    /// The connections that are not over, sorted, and whether they are excused.
    pub(crate) fn unfinished(&self) -> Vec<(Id, bool, String)> {
        let records = self.records();
        let mut all: Vec<_> = records
            .iter()
            .filter(|(_, record)| !record.is_over())
            .map(|(id, record)| (*id, record.excuse.is_some(), format!("{record:?}")))
            .collect();
        all.sort();
        all
    }

    /// Nobody waits for this connection any more.
    pub(crate) fn give_up(&self, id: Id) {
        let wakers = self.with(id, |record| {
            record.given_up = true;
            std::mem::take(&mut record.wakers)
        });
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Listeners, and tasks that never learned which connection they have, end.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("no panic under this lock"));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// What is missing at the end.
    pub(crate) fn check_complete(&self, plan: &Plan) {
        let mut missing = Vec::new();
        for (id, record) in &*self.records() {
            let talk = plan.talks.iter().find(|talk| talk.number == id.0).expect("a talk of the plan");
            if record.excuse.is_some() {
                continue;
            }
            let (up, down) = (talk.bytes(Side::Client), talk.bytes(Side::Server));
            let is_complete = |progress: &Progress, writes: u64, reads: u64| {
                (progress.written, progress.read, progress.ended) == (writes, reads, true)
            };
            let served = record.servings.iter().any(|serving| is_complete(serving, down, up));
            if !served || !is_complete(&record.client, up, down) {
                let Record { client, servings, .. } = record;
                missing
                    .push((*id, format!("{up} bytes up and {down} down became {client:?} and {servings:?}")));
            }
        }
        missing.sort();
        if let Err(what) = self.chats.check_complete() {
            self.violation(what);
        }
        for (id, what) in missing {
            self.violation(format!("connection {id:?} is incomplete: {what}"));
        }
    }

    pub(crate) fn keep_history(&self, of: String) {
        self.histories.lock().expect("no panic under this lock").push(of);
    }

    pub(crate) fn take_histories(&self) -> Vec<String> {
        std::mem::take(&mut *self.histories.lock().expect("no panic under this lock"))
    }

    /// The addresses of connections, client first, and what they are.
    pub(crate) fn lookup(&self, from: SocketAddr, to: SocketAddr) -> Option<(Id, Side)> {
        self.records().iter().find_map(|(id, record)| match record.addresses {
            Some(ends) if ends == (from, to) => Some((*id, Side::Client)),
            Some(ends) if ends == (to, from) => Some((*id, Side::Server)),
            _ => None,
        })
    }
}
