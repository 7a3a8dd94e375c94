//! Waiting for a firewalld or a libvirtd that is at work: it is let finish before we write.
//!
//! Both run `ebtables`, which in its nf_tables variant (1.8.9) fails where anybody commits anything between its look and its commit; then the whole reload fails, and
//! firewalld stays without its rules, or a guest does not start. With its iptables backend firewalld also counts positions in chains that hold rules of ours or do not.
//! A reload empties all tables of everybody first, so guests are open until it is over, bridged ones at least: that is the price, and it has a limit.

use std::time::{Duration, Instant};

use crate::backend::neighbour::{self, Neighbour};

/// A pass does not wait longer than this; a reload takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Whoever is waited for has finished when he is idle at so many looks in a row
const LOOKS: u32 = 3;
/// so far apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// What is known of such programs in our namespace.
#[derive(Debug, Default)]
pub struct Courtesy {
    neighbours: Vec<Neighbour>,
    /// Whether there was a look for them since somebody wrote who could be a new one.
    looked: bool,
    /// The pass under way waits until then and no longer.
    until: Option<Instant>,
    /// The next one, where what it repairs has waited already.
    next: Option<Instant>,
    /// Whether it was said of the pass under way that it waits no longer.
    said: bool,
}

impl Courtesy {
    /// Takes in that a program of this name wrote rules: it may be a new neighbour, or a tool that one runs.
    pub fn hear(&mut self, command: &str) {
        if neighbour::may_be_of_one(command) {
            self.looked = false;
        }
    }

    /// Has the next pass wait until this moment and no longer.
    pub fn wait_until(&mut self, limit: Instant) {
        self.next = Some(limit);
    }

    /// A pass begins.
    pub fn begin(&mut self) {
        self.until = Some(self.next.take().unwrap_or_else(|| Instant::now() + PATIENCE));
        self.said = false;
    }

    /// Waits while a neighbour is at work, as long as the pass may.
    pub async fn give_way(&mut self) {
        let known = self.neighbours.len();
        self.neighbours.retain(Neighbour::lives);
        if !std::mem::replace(&mut self.looked, true) || self.neighbours.len() < known {
            self.neighbours = neighbour::neighbours();
        }
        if !self.must_wait() {
            return;
        }
        let mut idle = 0;
        while idle < LOOKS && self.may_wait() {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            idle = if self.must_wait() { 0 } else { idle + 1 };
        }
    }

    /// Whether a neighbour that is known is at work, and the pass may wait for it.
    pub fn must_wait(&self) -> bool {
        self.may_wait() && self.neighbours.iter().any(Neighbour::is_at_work)
    }

    /// Says, once in a pass that is about to write, that a neighbour is at work all the same.
    pub fn apologize(&mut self) {
        if self.may_wait() {
            return;
        }
        let Some(busy) = self.neighbours.iter().find(|neighbour| neighbour.is_at_work()) else { return };
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                "`{}` is at work, and the {PATIENCE:?} that a pass may wait are over: not waiting any longer; what it is doing may fail",
                busy.name()
            );
        }
    }

    fn may_wait(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}
