//! The names of hosts.

use crate::net::Resolve;
use crate::sync::{Mutex, Rank};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

/// The hosts of a net by their names, and no other names.
#[derive(Debug)]
pub(super) struct Names(Mutex<BTreeMap<String, Vec<IpAddr>>>);

impl Names {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Rank::Leaf, BTreeMap::new()))
    }

    pub(super) fn insert(&self, name: &str, addresses: &[IpAddr]) {
        self.0.lock().insert(name.to_lowercase(), addresses.to_vec());
    }

    fn find(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.0.lock().get(&name.to_lowercase()).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no host `{name}`")))
    }
}

impl Resolve for Names {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        Box::pin(ready(self.find(name)))
    }
}
