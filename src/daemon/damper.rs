//! How long a chain waits for its next repair, when somebody keeps undoing our repairs of it.
//!
//! A single flush is repaired at once. Two writers that each put back what the other one changed would go on for ever and as fast as they
//! can; so each repair of a chain that follows closely on the last one waits twice as long, until there is peace for a while. What somebody does to
//! any other chain is repaired at once all the same.
//!
//! What waits is the pass, not the chain: a pass that is made for any other reason repairs the chains that wait, too. Leaving them out of it would save
//! nothing and would leave guests open for longer. Passes for the sake of drift are bounded as a whole as well, for a writer that spreads over many chains.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use super::history::{self, Author};
use super::status::Moment;
use crate::backend::generation::Writer;
use crate::monitor::transaction::Touched;
use crate::reconcile::report::Edited;
use crate::ruleset::ChainId;

/// The pause after the second repair in a row; the first two wait for nothing.
const FIRST: Duration = Duration::from_millis(100);
/// No repair waits longer.
const LONGEST: Duration = Duration::from_secs(10);
/// A chain that was left alone for so long after its pause is repaired at once again.
const PEACE: Duration = Duration::from_secs(3);
/// A chain that was left alone for so long is forgotten.
const MEMORY: Duration = Duration::from_secs(10);
/// From this pause on it is worth an alarm,
const ALARM_PAUSE: Duration = Duration::from_secs(1);
/// or from so many repairs on, none of them long after the one before.
const ALARM_REPAIRS: u32 = 10;
/// At most so many passes for the sake of drift
const MOST_PASSES: usize = 30;
/// in so much time.
const WINDOW: Duration = Duration::from_secs(10);
/// So many names of programs are remembered of one fight.
const MOST_WRITERS: usize = 8;

/// Remembers the last repairs of each chain.
#[derive(Debug, Clone, Default)]
pub struct Damper {
    fights: BTreeMap<ChainId, Fight>,
    /// When the last passes for the sake of drift were made.
    passes: VecDeque<Instant>,
}

/// A chain that was repaired lately, and perhaps often.
#[derive(Debug, Clone)]
pub struct Fight {
    /// When its first repair was.
    pub since: Instant,
    /// How often it was repaired since.
    pub repairs: u32,
    /// How long after its last repair it waits for the next one.
    pub pause: Duration,
    /// Who wrote to it, by the program's name: the last process of it.
    pub writers: BTreeMap<String, u32>,
    /// What the last repair was.
    pub edited: Edited,
    /// Repairs in a row without peace between them.
    streak: u32,
    repaired: Instant,
    touched: Instant,
    /// When it became worth an alarm.
    alarm: Option<Moment>,
}

impl Damper {
    /// Takes in that somebody wrote to chains, of which those that `concerns` says can be ours; when that is to be repaired: now, outside of a fight.
    pub fn touched(&mut self, touched: &Touched, concerns: impl Fn(&ChainId) -> bool, writer: Option<&Writer>, now: Instant) -> Instant {
        if self.fights.is_empty() || touched.is_vague() {
            return now;
        }
        let mut due: Option<Instant> = None;
        for chain in touched.chains() {
            let moment = match self.fights.get_mut(&chain) {
                Some(fight) => fight.touch(writer, now),
                None if concerns(&chain) => now,
                None => continue,
            };
            due = Some(due.map_or(moment, |due| due.min(moment)));
        }
        due.unwrap_or(now)
    }

    /// The first moment after `due` at which there may be one more pass for the sake of drift.
    pub fn admit(&self, due: Instant) -> Instant {
        let oldest = self.passes.len().checked_sub(MOST_PASSES).and_then(|at| self.passes.get(at));
        oldest.map_or(due, |oldest| due.max(*oldest + WINDOW))
    }

    /// Takes in that a pass was made for the sake of drift.
    pub fn passed(&mut self, now: Instant) {
        self.passes.push_back(now);
        self.passes.drain(..self.passes.len().saturating_sub(MOST_PASSES));
    }

    /// Takes in that these chains were repaired; says which of them are fought over so that somebody should know of it.
    pub fn repaired(&mut self, chains: &BTreeMap<ChainId, Edited>, writers: &BTreeSet<Writer>, now: Instant) -> Vec<ChainId> {
        let mut alarms = Vec::new();
        for (chain, edited) in chains {
            let fight = self.fights.entry(chain.clone()).or_insert_with(|| Fight::new(edited.clone(), writers, now));
            if fight.repair(edited, now) {
                alarms.push(chain.clone());
            }
        }
        alarms
    }

    /// Forgets the chains that nobody undid for a while; says of which there was an alarm.
    pub fn forget(&mut self, now: Instant) -> Vec<ChainId> {
        let over: Vec<ChainId> =
            self.fights.iter().filter(|(_, fight)| fight.quiet(now) >= MEMORY).map(|(chain, _)| chain.clone()).collect();
        over.into_iter().filter(|chain| self.fights.remove(chain).is_some_and(|fight| fight.alarm.is_some())).collect()
    }

    /// The fights that are worth an alarm, by chain.
    pub fn alarms(&self) -> impl Iterator<Item = (&ChainId, &Fight)> {
        self.fights.iter().filter(|(_, fight)| fight.alarm.is_some())
    }

    /// One of them.
    pub fn alarm(&self, chain: &ChainId) -> Option<&Fight> {
        self.fights.get(chain).filter(|fight| fight.alarm.is_some())
    }
}

impl Fight {
    fn new(edited: Edited, writers: &BTreeSet<Writer>, now: Instant) -> Self {
        let writers = writers.iter().take(MOST_WRITERS).map(|writer| (writer.command.clone(), writer.pid)).collect();
        Self { since: now, repairs: 0, pause: Duration::ZERO, writers, edited, streak: 0, repaired: now, touched: now, alarm: None }
    }

    /// One more repair; true when it is worth an alarm for the first time.
    fn repair(&mut self, edited: &Edited, now: Instant) -> bool {
        // A touch that was heard has judged already; from there to here is our own time, which is no peace.
        if self.touched <= self.repaired {
            self.calm_down(now);
        }
        self.pause = if self.streak > 0 { LONGEST.min(FIRST.max(self.pause * 2)) } else { Duration::ZERO };
        self.streak += 1;
        self.repairs += 1;
        self.edited = edited.clone();
        self.repaired = now;
        let first = self.alarm.is_none() && (self.pause >= ALARM_PAUSE || self.repairs >= ALARM_REPAIRS);
        if first {
            self.alarm = Some(Moment::now());
        }
        first
    }

    /// How long it has been left alone though it no longer waited.
    fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.touched.max(self.repaired + self.pause))
    }

    /// After some peace the next repair is like a first one.
    fn calm_down(&mut self, now: Instant) {
        if self.quiet(now) >= PEACE {
            self.streak = 0;
            self.pause = Duration::ZERO;
        }
    }

    /// Somebody wrote to it; when that is to be repaired.
    fn touch(&mut self, writer: Option<&Writer>, now: Instant) -> Instant {
        self.calm_down(now);
        self.touched = now;
        if let Some(Writer { pid, command }) = writer
            && (self.writers.len() < MOST_WRITERS || self.writers.contains_key(command))
        {
            self.writers.insert(command.clone(), *pid);
        }
        now.max(self.repaired + self.pause)
    }

    /// As the status tells it.
    pub fn told(&self, chain: &ChainId) -> history::Fight {
        history::Fight {
            chain: chain.to_string(),
            by: self.writers.iter().map(|(command, pid)| Author { command: command.clone(), pid: *pid }).collect(),
            since: self.alarm.unwrap_or_else(Moment::now),
            repairs: self.repairs,
            pause_ms: u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX),
            open: self.edited.closes,
        }
    }

    /// Who wrote, in words.
    pub fn by(&self) -> String {
        let writers = self.writers.iter().map(|(command, pid)| Writer { pid: *pid, command: command.clone() }.to_string());
        writers.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Fight {
    /// What an alarm says after the name of the chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repaired {} times in {} s", self.repairs, (self.repaired - self.since).as_secs().max(1))?;
        if !self.pause.is_zero() {
            write!(f, ", and the next repair waits {:?}", self.pause)?;
        }
        if self.edited.closes {
            f.write_str("; until then packets pass that its rules should stop")?;
            let mut before = ", of ";
            for object in &self.edited.objects {
                write!(f, "{before}{object}")?;
                before = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{ChainName, Family, Table};

    fn chain(name: &str) -> ChainId {
        ChainId { family: Family::Ipv4, table: Table::Filter, chain: ChainName::new(name) }
    }

    fn touch(damper: &mut Damper, name: &str, now: Instant) -> Instant {
        let mut touched = Touched::default();
        touched.note(Family::Ipv4, Table::Filter, Some(ChainName::new(name)));
        damper.touched(&touched, |_| true, None, now)
    }

    fn repaired(damper: &mut Damper, name: &str, now: Instant) -> usize {
        damper.repaired(&BTreeMap::from([(chain(name), Edited::default())]), &BTreeSet::new(), now).len()
    }

    #[test]
    fn a_single_repair_never_waits_and_a_fight_slows_down_to_the_limit() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        let mut pauses = Vec::new();
        let mut alarms = Vec::new();
        for round in 0..12 {
            // Undone as soon as repaired.
            let due = touch(&mut damper, "FO-vnet0", now);
            pauses.push((due - now).as_millis());
            now = due;
            alarms.extend((repaired(&mut damper, "FO-vnet0", now) > 0).then_some(round));
        }
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(alarms, [5], "one alarm, when the pause has become long");
    }

    #[test]
    fn another_chain_does_not_wait() {
        let now = Instant::now();
        let mut damper = Damper::default();
        for _ in 0..12 {
            repaired(&mut damper, "FO-vnet0", now);
        }
        assert!(touch(&mut damper, "FO-vnet0", now) > now);
        assert_eq!(touch(&mut damper, "FO-vnet1", now), now);
    }

    #[test]
    fn after_some_peace_there_is_no_wait_and_after_more_no_alarm() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        for _ in 0..12 {
            repaired(&mut damper, "FO-vnet0", now);
        }
        // Somebody goes on writing while the chain waits: that is no peace.
        for _ in 0..100 {
            touch(&mut damper, "FO-vnet0", now);
            now += Duration::from_millis(100);
        }
        assert_eq!(repaired(&mut damper, "FO-vnet0", now), 0, "one alarm is enough");
        assert!(touch(&mut damper, "FO-vnet0", now) > now);
        now += LONGEST + PEACE;
        assert_eq!(touch(&mut damper, "FO-vnet0", now), now);
        assert_eq!(damper.forget(now), []);
        now += MEMORY;
        assert_eq!(damper.forget(now), [chain("FO-vnet0")]);
        assert_eq!(damper.alarms().count(), 0);
    }

    #[test]
    fn the_time_that_our_own_passes_take_is_no_peace() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        for _ in 0..4 {
            // Undone at once, and a host so busy that a repair takes longer than peace would.
            touch(&mut damper, "FO-vnet0", now + Duration::from_millis(1));
            now += PEACE * 2;
            repaired(&mut damper, "FO-vnet0", now);
        }
        assert_eq!(touch(&mut damper, "FO-vnet0", now) - now, FIRST * 4);
    }

    #[test]
    fn repairs_far_apart_never_wait_but_many_of_them_are_an_alarm() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        let mut alarms = 0;
        for _ in 0..12 {
            assert_eq!(touch(&mut damper, "FO-vnet0", now), now);
            alarms += repaired(&mut damper, "FO-vnet0", now);
            now += Duration::from_secs(5);
            assert_eq!(damper.forget(now), []);
        }
        assert_eq!(alarms, 1);
    }

    #[test]
    fn a_writer_that_spreads_over_many_chains_is_bounded_too() {
        let start = Instant::now();
        let mut now = start;
        let mut damper = Damper::default();
        for number in 0..300 {
            let due = touch(&mut damper, &format!("FO-vnet{number}"), now);
            now = damper.admit(due);
            damper.passed(now);
            repaired(&mut damper, &format!("FO-vnet{number}"), now);
        }
        assert_eq!(now - start, WINDOW * 9);
    }

    #[test]
    fn an_alarm_says_what_is_open_meanwhile() {
        let now = Instant::now();
        let edited = Edited { objects: BTreeSet::from([crate::model::Object::Network("lab".into())]), closes: true };
        let mut fight = Fight::new(edited.clone(), &BTreeSet::new(), now);
        for _ in 0..3 {
            fight.repair(&edited, now);
        }
        assert_eq!(
            fight.to_string(),
            "repaired 3 times in 1 s, and the next repair waits 200ms; until then packets pass that its rules should stop, of network `lab`"
        );
    }
}
