//! Waiting for a firewalld that is at work: it is let finish before we write.
//!
//! It runs `ebtables`, which in its nf_tables variant (1.8.9) fails where anybody commits anything between its look and its commit; then the whole reload fails, and
//! firewalld stays without its rules. With its iptables backend it also counts positions in chains that hold rules of ours or do not. A reload empties all tables of
//! everybody first, so guests are open until it is over, bridged ones at least: that is the price, and it has a limit.

use std::time::{Duration, Instant};

use crate::backend::firewalld::{self, Firewalld};

/// A pass does not wait longer than this; a reload takes a fraction of it.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// It has finished when it is idle at so many looks in a row
const LOOKS: u32 = 3;
/// so far apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// What is known of a firewalld in our namespace.
#[derive(Debug, Default)]
pub struct Courtesy {
    firewalld: Option<Firewalld>,
    /// Whether there was a look for one since somebody wrote who could be a new one.
    looked: bool,
}

impl Courtesy {
    /// Takes in that a program of this name wrote rules: it may be a new firewalld, or a tool that one runs.
    pub fn hear(&mut self, command: &str) {
        if ["firewalld", "iptables", "ip6tables", "ebtables"].iter().any(|start| command.starts_with(start)) {
            self.looked = false;
        }
    }

    /// Waits while a firewalld is at work, until this moment at most.
    pub async fn give_way(&mut self, until: Instant) {
        self.firewalld = self.firewalld.filter(Firewalld::lives);
        if self.firewalld.is_none() && !std::mem::replace(&mut self.looked, true) {
            self.firewalld = firewalld::firewalld();
        }
        if !self.must_wait(until) {
            return;
        }
        let mut idle = 0;
        while idle < LOOKS && Instant::now() < until {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            idle = if self.must_wait(until) { 0 } else { idle + 1 };
        }
    }

    /// Whether a firewalld that is known is at work, before this moment.
    pub fn must_wait(&self, until: Instant) -> bool {
        self.firewalld.is_some_and(|firewalld| firewalld.is_at_work()) && Instant::now() < until
    }
}
