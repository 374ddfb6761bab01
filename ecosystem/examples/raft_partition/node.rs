//! A node of Raft (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", figure 2), without
//! snapshots and changes of the cluster.

use netstack::net::{TcpListener, TcpStream};
use netstack::sim::Result;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep, timeout};

const PORT: u16 = 7000;
/// How often a leader calls its followers.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// How long a call may take.
const CALL: Duration = Duration::from_millis(100);
/// How long a client waits for a value to be agreed on.
const COMMIT_TIMEOUT: Duration = Duration::from_millis(400);

/// What survives a crash.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) term: u64,
    voted_for: Option<String>,
    log: Vec<Entry>,
    /// Entries that are agreed on. Raft need not keep it; here it is what can be looked at from outside.
    committed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    term: u64,
    value: u64,
}

impl Disk {
    pub(crate) fn committed_values(&self) -> Vec<u64> {
        self.log[..self.committed].iter().map(|entry| entry.value).collect()
    }

    fn term_at(&self, len: usize) -> u64 {
        len.checked_sub(1).and_then(|last| self.log.get(last)).map_or(0, |entry| entry.term)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    #[default]
    Follower,
    Candidate,
    Leader,
}

/// What does not survive a crash.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) role: Role,
    /// When the node stands for election, unless it hears of a leader.
    stands_at: Option<Instant>,
    /// Of each peer: entries that it has for certain, and those to begin the next call with.
    matched: Vec<usize>,
    next: Vec<usize>,
}

struct Node {
    name: &'static str,
    peers: Vec<&'static str>,
    disk: Rc<RefCell<Disk>>,
    status: Rc<RefCell<Status>>,
    chance: RefCell<u64>,
}

/// Runs a node until it crashes.
pub(crate) async fn run(
    name: &'static str,
    peers: Vec<&'static str>,
    disk: Rc<RefCell<Disk>>,
    status: Rc<RefCell<Status>>,
    chance: u64,
) -> Result {
    *status.borrow_mut() = Status::default();
    let node = Rc::new(Node { name, peers, disk, status, chance: RefCell::new(chance) });
    node.hear();
    tokio::task::spawn_local(Rc::clone(&node).lead());
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let node = Rc::clone(&node);
        tokio::task::spawn_local(async move { node.answer(stream).await });
    }
}

/// Asks all nodes until one of them says that the value is agreed on. It may be so several times.
pub(crate) async fn agree_on(nodes: &[&str], value: u64) {
    for node in nodes.iter().cycle() {
        let agreed = timeout(COMMIT_TIMEOUT + CALL, call(node, &format!("propose {value}"))).await;
        if matches!(agreed, Ok(Ok(answer)) if answer == "agreed") {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// One call, on a connection of its own.
async fn call(node: &str, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((node, PORT)).await?;
    stream.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The numbers of a message, after its first word.
fn numbers(message: &str) -> Vec<u64> {
    message.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

impl Node {
    /// A leader or a candidate was heard of: waits for the next sign of life.
    fn hear(&self) {
        let mut chance = self.chance.borrow_mut();
        *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_millis(200 + (*chance >> 33) % 200);
        self.status.borrow_mut().stands_at = Some(Instant::now() + wait);
    }

    /// Somebody is in a later term: this one is over.
    fn follow(&self, term: u64) {
        let mut disk = self.disk.borrow_mut();
        if term > disk.term {
            (disk.term, disk.voted_for) = (term, None);
            self.status.borrow_mut().role = Role::Follower;
        }
    }

    /// Stands for election in time, and calls the followers while it leads.
    async fn lead(self: Rc<Self>) {
        loop {
            let (role, stands_at) = (self.status.borrow().role, self.status.borrow().stands_at);
            if role == Role::Leader {
                (0..self.peers.len()).for_each(|peer| {
                    tokio::task::spawn_local(Rc::clone(&self).append(peer));
                });
                sleep(HEARTBEAT).await;
            } else if stands_at.is_some_and(|at| at <= Instant::now()) {
                self.stand().await;
            } else {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn stand(self: &Rc<Self>) {
        let request = {
            let mut disk = self.disk.borrow_mut();
            disk.term += 1;
            disk.voted_for = Some(self.name.to_owned());
            self.status.borrow_mut().role = Role::Candidate;
            format!("vote {} {} {} {}", self.name, disk.term, disk.log.len(), disk.term_at(disk.log.len()))
        };
        self.hear();
        let term = self.disk.borrow().term;
        let asked = self.peers.iter().map(|peer| timeout(CALL, call(peer, &request)));
        let votes = futures_util::future::join_all(asked).await;
        let mut granted = 1;
        for vote in votes.into_iter().flatten().flatten() {
            let [their_term, yes] = numbers(&vote)[..] else { continue };
            self.follow(their_term);
            granted += yes;
        }
        let mut status = self.status.borrow_mut();
        if status.role == Role::Candidate && self.disk.borrow().term == term && granted >= 2 {
            let len = self.disk.borrow().log.len();
            status.role = Role::Leader;
            status.matched = vec![0; self.peers.len()];
            status.next = vec![len; self.peers.len()];
        }
    }

    /// Sends a follower what it does not have.
    async fn append(self: Rc<Self>, peer: usize) {
        let (term, sent, request) = {
            let (disk, status) = (self.disk.borrow(), self.status.borrow());
            let before = status.next[peer].min(disk.log.len());
            let entries = disk.log[before..].iter().map(|entry| format!(" {} {}", entry.term, entry.value));
            let entries: String = entries.collect();
            let (term, last) = (disk.term, disk.term_at(before));
            let text = format!("append {term} {before} {last} {}{entries}", disk.committed);
            (term, disk.log.len(), text)
        };
        let Ok(Ok(answer)) = timeout(CALL, call(self.peers[peer], &request)).await else { return };
        let [their_term, accepted] = numbers(&answer)[..] else { return };
        self.follow(their_term);
        let mut status = self.status.borrow_mut();
        if status.role != Role::Leader || self.disk.borrow().term != term {
            return;
        }
        if accepted == 0 {
            status.next[peer] = status.next[peer].saturating_sub(1);
            return;
        }
        status.matched[peer] = status.matched[peer].max(sent);
        status.next[peer] = status.matched[peer];
        // With this node's own log, the larger one of the two others makes a majority.
        let majority = status.matched.iter().copied().max().unwrap_or(0);
        let mut disk = self.disk.borrow_mut();
        // Of this term only: figure 8 of the paper says why.
        if majority > disk.committed && disk.term_at(majority) == term {
            disk.committed = majority;
        }
    }

    async fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut request = String::new();
        stream.read_line(&mut request).await?;
        let numbers = numbers(&request);
        let mut words = request.split_whitespace();
        let answer = match (words.next(), &numbers[..]) {
            (Some("vote"), &[term, len, last]) => self.vote(words.next().unwrap_or(""), term, (last, len)),
            (Some("append"), &[term, before, last, committed, ref entries @ ..]) => {
                self.take(term, (before as usize, last), committed as usize, entries)
            }
            (Some("propose"), &[value]) => self.propose(value).await,
            _ => "what?".to_owned(),
        };
        stream.get_mut().write_all(answer.as_bytes()).await
    }

    /// Votes for a candidate whose log, by its last term and its length, is not behind.
    fn vote(&self, candidate: &str, term: u64, log: (u64, u64)) -> String {
        self.follow(term);
        let mut disk = self.disk.borrow_mut();
        let mine = (disk.term_at(disk.log.len()), disk.log.len() as u64);
        let free = disk.voted_for.as_deref().is_none_or(|other| other == candidate);
        let granted = term == disk.term && free && log >= mine;
        if granted {
            disk.voted_for = Some(candidate.to_owned());
            self.hear();
        }
        format!("{} {}", disk.term, u64::from(granted))
    }

    /// Takes the entries of a leader behind the first `before`, the last of which has the term `last`.
    fn take(&self, term: u64, (before, last): (usize, u64), committed: usize, entries: &[u64]) -> String {
        self.follow(term);
        let mut disk = self.disk.borrow_mut();
        if term < disk.term {
            return format!("{} 0", disk.term);
        }
        self.status.borrow_mut().role = Role::Follower;
        self.hear();
        if disk.log.len() < before || disk.term_at(before) != last {
            return format!("{term} 0");
        }
        for (n, entry) in entries.chunks_exact(2).enumerate() {
            let entry = Entry { term: entry[0], value: entry[1] };
            if disk.log.get(before + n) != Some(&entry) {
                disk.log.truncate(before + n);
                disk.log.push(entry);
            }
        }
        disk.committed = disk.committed.max(committed.min(before + entries.len() / 2));
        format!("{term} 1")
    }

    /// Adds a value to the log, if this is the leader, and waits until it is agreed on.
    async fn propose(&self, value: u64) -> String {
        if self.status.borrow().role != Role::Leader {
            return "another leads".to_owned();
        }
        let (term, len) = {
            let mut disk = self.disk.borrow_mut();
            let term = disk.term;
            disk.log.push(Entry { term, value });
            (term, disk.log.len())
        };
        let begin = Instant::now();
        while begin.elapsed() < COMMIT_TIMEOUT {
            let (committed, mine) = {
                let disk = self.disk.borrow();
                (disk.committed >= len, disk.term_at(len) == term)
            };
            if committed {
                return if mine { "agreed" } else { "lost" }.to_owned();
            }
            sleep(Duration::from_millis(5)).await;
        }
        "not yet".to_owned()
    }
}
