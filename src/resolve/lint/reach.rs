//! Rules that no frame reaches, rules that match none, and checks of a guest's address that come too late.
//!
//! What goes in are the guests with their rules; what comes out are warnings, each once however many guests share a filter. A rule is
//! reported when it is of no use to any guest that has it, in no direction and for no value of its variables: a shared filter may
//! well say more than one guest needs. Rules of stock filters are never reported; whoever combines them did not write them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::order::{self, Gate, Side, Standing, Step};
use super::super::{GuestPolicy, PolicyRule, Treatment};
use super::Remarks;
use super::frames::{self, Frames};
use crate::addr::Mac;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::filter::{Action, Layer};
use crate::source::{FileId, Span};

/// How many pairs of rules are compared, all guests together: some tens of milliseconds. Rules beyond it are not judged, and leaks not told.
const COMPARISON_LIMIT: u64 = 1_000_000;

/// The code of a rule that is of no use by itself.
const NEVER_MATCHES: &str = "rule-never-matches";

/// How many rules before another one are remembered; it is not compared with later ones.
const BEFORE_LIMIT: usize = 4_096;

/// How many drops before the check are remembered; behind more, no leak is told.
const DROPS_LIMIT: usize = 64;

/// What is known about the rules of all guests.
pub(super) struct Survey<'a> {
    quirks: Quirks,
    stock: &'a BTreeSet<FileId>,
    comparisons_left: u64,
    /// By the rule's place.
    fates: BTreeMap<Span, Fate>,
    /// Rules that let frames out too early, with the check.
    leaks: BTreeMap<Span, Span>,
}

/// What becomes of a rule; the greatest of all its instances counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Its conditions exclude each other.
    Contradictory,
    /// Nothing that it matches enters this chain.
    Outside(Arc<str>),
    /// An earlier rule takes everything.
    Covered(Span),
    /// It may match something, or nobody looked.
    Live,
}

/// A rule with what it matches where it stands.
struct Instance<'a> {
    rule: &'a PolicyRule,
    frames: Frames,
}

impl<'a> Survey<'a> {
    /// Nothing known yet; rules in the files of `stock` are never reported.
    pub(super) fn new(stock: &'a BTreeSet<FileId>, quirks: Quirks) -> Self {
        Self { quirks, stock, comparisons_left: COMPARISON_LIMIT, fates: BTreeMap::new(), leaks: BTreeMap::new() }
    }

    /// Looks at one guest.
    pub(super) fn add(&mut self, guest: &GuestPolicy) {
        let Treatment::Filtered(rules) = &guest.treatment else { return };
        let standing: Vec<_> = rules.iter().map(|rule| (Standing::of(rule), &**rule)).collect();
        for side in Side::ALL {
            let root = order::link(&standing, side);
            self.walk_root(&root, side);
            if side == Side::FromGuest {
                self.check_source(&root, guest.mac);
            }
            for layer in [Layer::Ipv4, Layer::Ipv6] {
                let rules = order::network(&standing, layer);
                let mut before = Vec::new();
                self.walk(&rules, side, &Frames::default(), &mut before);
            }
        }
    }

    /// Remarks on what was seen.
    pub(super) fn finish(self, remarks: &mut Remarks) {
        for (place, fate) in self.fates {
            match fate {
                _ if self.stock.contains(&place.file) => {}
                Fate::Contradictory => remarks.add(NEVER_MATCHES, place, |code| contradictory(code, place)),
                Fate::Outside(chain) => remarks.add(NEVER_MATCHES, place, |code| outside(code, place, &chain)),
                Fate::Covered(by) => remarks.add("unreachable-rule", place, |code| unreachable(code, place, by)),
                Fate::Live => {}
            }
        }
        for (place, check) in self.leaks {
            remarks.add("late-mac-check", place, |code| late_check(code, place, check));
        }
    }

    fn walk_root(&mut self, root: &[Step<'_, &PolicyRule>], side: Side) {
        let mut before = Vec::new();
        for step in root {
            match step {
                Step::Rule(rule) => self.walk(&[rule], side, &Frames::default(), &mut before),
                Step::Jump(chain) => {
                    // What a rule of the sub-chain ends, it ends for that chain only.
                    let outer = before.len();
                    self.walk(&chain.rules, side, &Frames::through(Gate::of(chain.name)), &mut before);
                    before.truncate(outer);
                }
            }
        }
    }

    /// Judges the rules of one chain, which `gate` lets in; `before` are the final rules that stand before.
    fn walk<'r>(&mut self, rules: &[&'r PolicyRule], side: Side, gate: &Frames, before: &mut Vec<Instance<'r>>) {
        for &rule in rules {
            // A list makes thousands of rules of one; the first that is of use settles it for all.
            let known_live = self.fates.get(&rule.place) == Some(&Fate::Live);
            let is_final = rule.action != Action::Continue && before.len() < BEFORE_LIMIT;
            if known_live && !is_final {
                continue;
            }
            let Some(frames) = frames::of_rule(rule, side, self.quirks) else { continue };
            let fate = if known_live { Fate::Live } else { self.judge(rule, &frames, gate, before) };
            // What stands in a chain is compared with what stands there too: the gate need not be repeated.
            if is_final && fate == Fate::Live {
                before.push(Instance { rule, frames });
            }
            self.note(rule, fate);
        }
    }

    fn judge(&mut self, rule: &PolicyRule, frames: &Frames, gate: &Frames, before: &[Instance<'_>]) -> Fate {
        if frames.are_none() {
            return Fate::Contradictory;
        }
        let reached = frames.clone().and(gate);
        if reached.are_none() {
            return Fate::Outside(Arc::clone(&rule.chain.name));
        }
        let Some(left) = self.comparisons_left.checked_sub(before.len() as u64) else { return Fate::Live };
        self.comparisons_left = left;
        before.iter().find(|earlier| earlier.frames.cover(&reached)).map_or(Fate::Live, |earlier| Fate::Covered(earlier.rule.place))
    }

    fn note(&mut self, rule: &PolicyRule, fate: Fate) {
        match self.fates.get_mut(&rule.place) {
            Some(known) if *known < fate => *known = fate,
            Some(_) => {}
            None => {
                self.fates.insert(rule.place, fate);
            }
        }
    }

    /// Finds what lets frames of the guest's out before its Ethernet address is checked.
    fn check_source(&mut self, root: &[Step<'_, &PolicyRule>], mac: Mac) {
        let mut passage = Passage {
            foreign: Frames::not_from(mac),
            quirks: self.quirks,
            comparisons_left: self.comparisons_left,
            known: &self.leaks,
            dropped: Vec::new(),
            is_sure: true,
            leaks: BTreeSet::new(),
        };
        let check = root.iter().find_map(|step| match step {
            Step::Rule(rule) => passage.pass(&[rule], &Frames::default(), Action::Return),
            Step::Jump(chain) => passage.pass(&chain.rules, &Frames::through(Gate::of(chain.name)), Action::Accept),
        });
        self.comparisons_left = passage.comparisons_left;
        let Some(check) = check else { return };
        for leak in passage.leaks.into_iter().filter(|place| !self.stock.contains(&place.file)) {
            self.leaks.entry(leak).or_insert(check);
        }
    }
}

/// The way of frames that carry a foreign source address through what a guest's frames go through.
struct Passage<'a> {
    /// Frames from any address but the guest's.
    foreign: Frames,
    quirks: Quirks,
    comparisons_left: u64,
    /// Rules of which other guests have shown that they let some out.
    known: &'a BTreeMap<Span, Span>,
    /// Of which these are surely gone.
    dropped: Vec<Frames>,
    /// False when more may be gone, and nothing is a leak any longer.
    is_sure: bool,
    /// Rules that let some out.
    leaks: BTreeSet<Span>,
}

impl Passage<'_> {
    /// Goes through rules of one chain: the place of the one that drops every foreign frame, if all of them get there.
    ///
    /// `accept` lets frames out in every chain, `way_out` in this one. In a sub-chain `return` only goes back; but then nothing behind it
    /// is sure to see those frames.
    fn pass(&mut self, rules: &[&PolicyRule], gate: &Frames, way_out: Action) -> Option<Span> {
        let mut some_returned = false;
        for rule in rules {
            let lets_out = rule.action == Action::Accept || rule.action == way_out;
            if lets_out && (self.known.contains_key(&rule.place) || self.leaks.contains(&rule.place)) {
                continue;
            }
            let Some(frames) = frames::of_rule(rule, Side::FromGuest, self.quirks) else { continue };
            let frames = frames.and(gate);
            match rule.action {
                Action::Drop | Action::Reject if some_returned => {}
                Action::Drop | Action::Reject if frames.cover(&self.foreign) => return Some(rule.place),
                Action::Drop | Action::Reject if self.dropped.len() < DROPS_LIMIT => self.dropped.push(frames),
                Action::Drop | Action::Reject => self.is_sure = false,
                Action::Continue => {}
                Action::Accept | Action::Return if frames.name_their_source() || self.are_gone(&frames) => {}
                Action::Accept | Action::Return if lets_out => self.leaks.extend(self.is_sure.then_some(rule.place)),
                Action::Accept | Action::Return => some_returned = true,
            }
        }
        None
    }

    /// True when surely no foreign frame is left among these.
    fn are_gone(&mut self, frames: &Frames) -> bool {
        let foreign = frames.clone().and(&self.foreign);
        if foreign.are_none() {
            return true;
        }
        match self.comparisons_left.checked_sub(self.dropped.len() as u64) {
            Some(left) if self.is_sure => self.comparisons_left = left,
            _ => self.is_sure = false,
        }
        self.is_sure && self.dropped.iter().any(|dropped| dropped.cover(&foreign))
    }
}

fn contradictory(code: &'static str, place: Span) -> Diagnostic {
    Diagnostic::warning(code, "this rule can never match", place, "its conditions exclude each other")
        .help("mend the values, or remove the rule")
}

fn outside(code: &'static str, place: Span, chain: &str) -> Diagnostic {
    let gate = format!("only {} enter chain `{chain}`", Gate::of(chain));
    Diagnostic::warning(code, "this rule can never match", place, gate)
        .help("move it to a filter whose `chain` lets these frames in; the first letters of its name decide")
}

fn unreachable(code: &'static str, place: Span, by: Span) -> Diagnostic {
    Diagnostic::warning(code, "this rule is never reached", place, "everything that it could match is decided before")
        .also(by, "by this rule")
        .help("remove one of the two, or give the narrower one the lower `priority`")
}

fn late_check(code: &'static str, place: Span, check: Span) -> Diagnostic {
    let message = "this rule lets frames out before the guest's Ethernet address is checked";
    Diagnostic::warning(code, message, place, "the guest may send these frames from any address")
        .also(check, "frames from other addresses are dropped here")
        .help("add `srcmacaddr='$MAC'` to the rule, or give it a higher `priority` than the check")
}
