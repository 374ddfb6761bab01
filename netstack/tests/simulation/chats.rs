//! What was said by datagrams, and what of it has arrived and was received.
//!
//! Datagrams may be lost on their way. But what a host sends is what its application said, to where it said it, and
//! once; what arrives sound at a host that works is received, as often as it arrives; and what is received is
//! what was said.

use crate::apps::{address, place_of};
use crate::packet::{Datagram, checksums_hold};
use crate::plan::{Chat, Fault, FaultKind, Plan};
use crate::rng::{Rng, mix};
use netstack::config::MemoryBudget;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

/// Before a datagram's content: a mark, its chat, its number, and which way it goes.
const HEADER: usize = 4 + 2 + 4 + 1;
const MARK: [u8; 4] = *b"CHAT";

/// Bytes that are unread at most in a socket that is not read for a while, without any of them being dropped.
const MOST_UNREAD: u64 = 60_000;

/// From the client to the server, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

/// Which datagram it is: its chat, its number in it, and its way.
pub(crate) type Id = (usize, u32, Way);

/// How often something happened to one datagram.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    said: u32,
    left: u32,
    arrived: u32,
    received: u32,
}

#[derive(Debug)]
struct Record {
    chat: Chat,
    /// Why what arrives may not be received.
    excuse: Option<&'static str>,
    /// Datagrams may leave as fragments, which are not counted.
    in_pieces: bool,
    /// The client has said all.
    over: bool,
    there: Vec<Count>,
    back: Vec<Count>,
}

pub(crate) struct Chats {
    seed: u64,
    records: Mutex<Vec<Record>>,
}

/// Why a fault makes hosts lose datagrams that have arrived, or not send them.
fn excuse_of(fault: &Fault) -> Option<&'static str> {
    Some(match fault.kind {
        FaultKind::Reboot { .. } => "its host is switched off",
        FaultKind::Pause { .. } => "its host does not run",
        FaultKind::ClockJump { .. } => "its host's clock jumps",
        FaultKind::Lossy { .. } => "its device loses packets",
        FaultKind::Gone { .. } => "its device is gone",
        FaultKind::Squeeze { .. } => "its host has no memory",
        FaultKind::Down { .. } => "its interface is down",
        FaultKind::Unaddressed { .. } => "its interface has no address",
        FaultKind::Closed { .. } => "its interface takes nothing for others",
        FaultKind::Outage { .. }
        | FaultKind::Storm { .. }
        | FaultKind::Mtu { .. }
        | FaultKind::Full { .. }
        | FaultKind::Fickle { .. }
        | FaultKind::Interrupted { .. }
        | FaultKind::SmallMtu { .. } => return None,
    })
}

impl Chats {
    pub(crate) fn new(plan: &Plan) -> Self {
        let record = |chat: &Chat| {
            let concerns = |host| [chat.client, chat.server].contains(&host);
            let faults = plan.faults.iter().filter(|fault| fault.kind.host().is_some_and(concerns));
            let little = [chat.client, chat.server]
                .iter()
                .any(|host| plan.hosts[*host].config.memory != Some(MemoryBudget::UNLIMITED));
            let excuse = faults.filter_map(excuse_of).next();
            let excuse = excuse.or(little.then_some("its host has little memory"));
            let excuse =
                excuse.or((u64::from(chat.datagrams) * chat.size > MOST_UNREAD).then_some("they are many"));
            Record {
                chat: chat.clone(),
                excuse,
                // Every MTU that there is takes these.
                in_pieces: chat.size > 1_200,
                over: false,
                there: vec![Count::default(); chat.datagrams as usize],
                back: vec![Count::default(); chat.datagrams as usize],
            }
        };
        Self { seed: plan.seed, records: Mutex::new(plan.chats.iter().map(record).collect()) }
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().expect("no panic under the lock of the chats")
    }

    /// A datagram of a chat.
    pub(crate) fn datagram(&self, chat: &Chat, number: u32, way: Way) -> Vec<u8> {
        let of = mix((chat.number as u64) << 40 ^ u64::from(number) << 1 ^ way as u64);
        let mut rng = Rng::new(self.seed, of);
        let len = rng.range(HEADER as u64..=chat.size.max(HEADER as u64)) as usize;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend(MARK);
        bytes.extend((chat.number as u16).to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.push(way as u8);
        bytes.extend((HEADER..len).map(|_| rng.next() as u8));
        bytes
    }

    /// Which datagram it is, if it is of a chat; what is wrong with it, if something is.
    fn read(&self, records: &[Record], bytes: &[u8]) -> Option<Result<Id, String>> {
        let number = usize::from(u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?));
        let which = u32::from_be_bytes(bytes.get(6..10)?.try_into().ok()?);
        let way = if *bytes.get(10)? == 0 { Way::There } else { Way::Back };
        let record = records.iter().find(|record| record.chat.number == number)?;
        let is_known = bytes.starts_with(&MARK) && (which as usize) < record.there.len();
        let sound = is_known && self.datagram(&record.chat, which, way) == bytes;
        Some(if sound {
            Ok((number, which, way))
        } else {
            Err(format!("chat {number}: datagram {which} {way:?} is not what was said"))
        })
    }

    /// An application has sent a datagram.
    pub(crate) fn said(&self, id: Id) {
        count(&mut self.records(), id).said += 1;
    }

    /// An application has received `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn received(&self, bytes: &[u8]) -> Result<Id, String> {
        let mut records = self.records();
        let id =
            self.read(&records, bytes).unwrap_or_else(|| Err(format!("{} bytes of nobody", bytes.len())))?;
        let in_pieces = record(&mut records, id).in_pieces;
        let count = count(&mut records, id);
        count.received += 1;
        if count.received > count.arrived && !in_pieces {
            return Err(format!("datagram {id:?} is received more often than it arrived: {count:?}"));
        }
        Ok(id)
    }

    /// A packet leaves a host.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn leaves(&self, bytes: &[u8]) -> Result<(), String> {
        let Some(datagram) = Datagram::parse(bytes) else { return Ok(()) };
        let mut records = self.records();
        let Some(read) = self.read(&records, &bytes[datagram.payload.clone()]) else { return Ok(()) };
        let id = read?;
        if !checksums_hold(bytes) {
            return Err(format!("wire: datagram {id:?} has a wrong checksum"));
        }
        let chat = &record(&mut records, id).chat;
        let server =
            SocketAddr::new(place_of(chat.server, chat.door, (chat.number, 0), chat.v6), chat.port());
        let client = address(chat.client, chat.v6);
        let (from, to) = match id.2 {
            Way::There => (datagram.from, datagram.to),
            Way::Back => (datagram.to, datagram.from),
        };
        if (from.ip(), to) != (client, server) {
            return Err(format!("wire: datagram {id:?} goes from {} to {}", datagram.from, datagram.to));
        }
        let received = record(&mut records, id).there[id.1 as usize].received;
        let count = count(&mut records, id);
        count.left += 1;
        // What arrived twice is answered twice.
        let most = if id.2 == Way::There { 1 } else { received };
        if count.left > most {
            return Err(format!("wire: datagram {id:?} is sent more often than it was said: {count:?}"));
        }
        Ok(())
    }

    /// A packet arrives at its host as it was sent.
    pub(crate) fn arrives(&self, bytes: &[u8]) {
        let Some(datagram) = Datagram::parse(bytes) else { return };
        let mut records = self.records();
        if let Some(Ok(id)) = self.read(&records, &bytes[datagram.payload]) {
            count(&mut records, id).arrived += 1;
        }
    }

    /// Whether an operation of a chat may fail.
    pub(crate) fn excuse(&self, number: usize) -> Option<&'static str> {
        self.records().iter().find(|record| record.chat.number == number).and_then(|record| record.excuse)
    }

    /// The client of a chat has said all.
    pub(crate) fn over(&self, number: usize) {
        record(&mut self.records(), (number, 0, Way::There)).over = true;
    }

    /// The chats that are not over, and those of which something that was said has not left yet.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let records = self.records();
        let open = records.iter().filter(|record| !record.is_over());
        open.map(|record| format!("{record:?}")).collect()
    }

    /// Nobody waits any more for chats that may fail.
    pub(crate) fn give_up(&self) {
        for record in self.records().iter_mut().filter(|record| record.excuse.is_some()) {
            record.over = true;
        }
    }

    /// What is missing at the end.
    pub(crate) fn check_complete(&self) -> Result<(), String> {
        for record in self.records().iter().filter(|record| record.excuse.is_none() && !record.in_pieces) {
            for (way, counts) in [(Way::There, &record.there), (Way::Back, &record.back)] {
                let lost = counts.iter().enumerate().find(|(_, count)| count.received != count.arrived);
                if let Some((number, count)) = lost {
                    return Err(format!(
                        "datagram {number} {way:?} of {:?} is missing: {count:?}",
                        record.chat
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Record {
    fn is_over(&self) -> bool {
        let gone = self.there.iter().chain(&self.back).all(|count| count.left == count.said);
        self.over && (gone || self.excuse.is_some() || self.in_pieces)
    }
}

fn record(records: &mut [Record], id: Id) -> &mut Record {
    records.iter_mut().find(|record| record.chat.number == id.0).expect("a chat of the plan")
}

fn count(records: &mut [Record], id: Id) -> &mut Count {
    let record = record(records, id);
    let counts = if id.2 == Way::There { &mut record.there } else { &mut record.back };
    &mut counts[id.1 as usize]
}
