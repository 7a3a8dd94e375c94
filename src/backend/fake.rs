//! A kernel in memory, for tests: it reads restore text as the tools do, and refuses what they refuse.
//!
//! It knows nothing of plans: text goes in, save text comes out, and a rule is looked up by what [`save::parse_rule`] makes of
//! it. A table is committed whole or not at all; a jump to a chain that is not there, a second chain of one name, the deletion
//! of a rule that is not there or of a chain that is in use are refused with the line. Every rule has a counter that lives as
//! long as the rule does. Every restore moves its generation. It can be told to fail.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};

use super::{Kernel, Refusal, RefusalKind};
use crate::plan::ownership::destinations;
use crate::plan::script::Script;
use crate::ruleset::{ChainName, Family, LiveRule, Observation, Observed, Table, chain_name, save};

/// The kernel. All calls take `&self`, as those of the real one do.
#[derive(Debug, Default)]
pub struct Fake {
    state: Mutex<State>,
}

/// What it holds, and what it was told to do.
#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<Family, BTreeMap<Table, Chains>>,
    mute: BTreeMap<Family, Observation>,
    refusals: VecDeque<Refusal>,
    intruders: VecDeque<(Family, String)>,
    commits: Vec<(Family, String)>,
    calls: Vec<Call>,
    generation: u32,
}

/// What it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// To show its rules.
    Observe,
    /// To change those of a family.
    Commit(Family),
}

/// The chains of one table.
type Chains = BTreeMap<ChainName, Chain>;

#[derive(Debug, Clone, Default)]
struct Chain {
    policy: Option<String>,
    rules: Vec<Counted>,
}

/// A rule with the packets that it has seen.
#[derive(Debug, Clone)]
struct Counted {
    text: String,
    rule: LiveRule,
    packets: u64,
}

impl Fake {
    /// Feeds restore text from outside: what an administrator, or a test before it begins, does.
    ///
    /// # Errors
    /// As [`Kernel::commit`].
    pub fn feed(&self, family: Family, text: &str) -> Result<(), Refusal> {
        self.state().restore(family, text)
    }

    /// Every rule sees a packet.
    pub fn traffic(&self) {
        let mut state = self.state();
        let tables = state.tables.values_mut().flat_map(BTreeMap::values_mut);
        tables.flat_map(BTreeMap::values_mut).flat_map(|chain| &mut chain.rules).for_each(|rule| rule.packets += 1);
    }

    /// The rules of a chain with the packets that each has seen; empty when there is no such chain.
    pub fn counters(&self, family: Family, table: Table, chain: &str) -> Vec<(String, u64)> {
        let state = self.state();
        let chain = state.tables.get(&family).and_then(|tables| tables.get(&table)).and_then(|chains| chains.get(&ChainName::new(chain)));
        chain.map_or_else(Vec::new, |chain| chain.rules.iter().map(|rule| (rule.text.clone(), rule.packets)).collect())
    }

    /// What the family's `-save` prints.
    pub fn save(&self, family: Family) -> String {
        self.state().save(family)
    }

    /// The next commit of any family fails in this way and changes nothing.
    pub fn refuse_next(&self, kind: RefusalKind) {
        let (status, words) = match kind {
            RefusalKind::Input(Some(line)) => ("exit status: 1", format!("line {line} failed")),
            RefusalKind::Input(None) => ("exit status: 1", "COMMIT failed".to_owned()),
            RefusalKind::Busy => ("exit status: 4", "another app is currently holding the xtables lock".to_owned()),
            RefusalKind::Environment => ("exit status: 3", "you must be root".to_owned()),
        };
        self.state().refusals.push_back(Refusal { command: "fake-restore".into(), status: status.into(), words, kind });
    }

    /// Somebody else feeds this just before the next commit.
    pub fn intrude_next(&self, family: Family, text: &str) {
        self.state().intruders.push_back((family, text.into()));
    }

    /// From now on looking at this family gives `answer`; `None` ends that.
    pub fn answer(&self, family: Family, answer: Option<Observation>) {
        let mut state = self.state();
        match answer {
            Some(answer) => state.mute.insert(family, answer),
            None => state.mute.remove(&family),
        };
    }

    /// Every text that was committed, refused ones included, in order.
    pub fn commits(&self) -> Vec<(Family, String)> {
        self.state().commits.clone()
    }

    /// What it was asked for since the last call of this, in order.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Kernel for Fake {
    async fn observe(&self, families: &[Family]) -> Observed {
        let mut state = self.state();
        state.calls.push(Call::Observe);
        let observe = |family: Family| {
            let read = || {
                save::parse(family, &state.save(family)).map_or_else(|fault| Observation::Unreadable(fault.to_string()), Observation::Read)
            };
            (family, state.mute.get(&family).cloned().unwrap_or_else(read))
        };
        Observed { families: families.iter().map(|family| observe(*family)).collect() }
    }

    fn generation(&self) -> Option<u32> {
        Some(self.state().generation)
    }

    async fn commit(&self, family: Family, script: &Script) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.push(Call::Commit(family));
        if let Some((family, text)) = state.intruders.pop_front() {
            state.restore(family, &text)?;
        }
        state.commits.push((family, script.text.clone()));
        if let Some(refusal) = state.refusals.pop_front() {
            return Err(refusal);
        }
        state.restore(family, &script.text)
    }
}

impl State {
    fn restore(&mut self, family: Family, text: &str) -> Result<(), Refusal> {
        let mut open: Option<(Table, Chains)> = None;
        let tables = self.tables.entry(family).or_default();
        for (index, line) in text.lines().enumerate() {
            let refuse = |words: &str| Refusal {
                command: format!("{}-restore", family.tool()),
                status: "exit status: 1".into(),
                words: format!("line {}: {words}: {line}", index + 1),
                kind: RefusalKind::Input(Some(index + 1)),
            };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('*') {
                let table = Table::from_name(name).ok_or_else(|| refuse("no such table"))?;
                let chains = tables.get(&table).cloned().unwrap_or_else(|| built_in(family, table));
                open = Some((table, chains));
            } else if line == "-Z" {
                let (_, chains) = open.as_mut().ok_or_else(|| refuse("no table"))?;
                chains.values_mut().flat_map(|chain| &mut chain.rules).for_each(|rule| rule.packets = 0);
            } else if line == "COMMIT" {
                tables.extend(open.take());
                self.generation += 1;
            } else {
                let (_, chains) = open.as_mut().ok_or_else(|| refuse("no table"))?;
                run(family, chains, line).map_err(refuse)?;
            }
        }
        if let (Family::Bridge, Some(open)) = (family, open) {
            // ebtables-restore commits at the end of its input (measured with 1.8.9).
            tables.extend([open]);
            self.generation += 1;
        }
        Ok(())
    }

    fn save(&self, family: Family) -> String {
        let mut text = String::new();
        for (table, chains) in self.tables.get(&family).into_iter().flatten() {
            let built_in = |name: &ChainName| chain_name::is_builtin(family, *table, name.as_str());
            let (first, second): (Vec<_>, Vec<_>) = chains.iter().partition(|(name, _)| built_in(name));
            let chains = || first.iter().chain(&second);
            writeln!(text, "*{table}").expect(INTO_STRING);
            for (name, chain) in chains() {
                let policy = chain.policy.as_deref().unwrap_or("-");
                let counters = if family == Family::Bridge { "" } else { " [0:0]" };
                writeln!(text, ":{name} {policy}{counters}").expect(INTO_STRING);
            }
            for (name, chain) in chains() {
                for rule in &chain.rules {
                    writeln!(text, "-A {name} {}", rule.text).expect(INTO_STRING);
                }
            }
            text.push_str("COMMIT\n");
        }
        text
    }
}

const INTO_STRING: &str = "writing to a string cannot fail";

/// The chains of a table that nobody has used yet.
fn built_in(family: Family, table: Table) -> Chains {
    let names = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING"];
    let names = names.into_iter().filter(|name| chain_name::is_builtin(family, table, name));
    names.map(|name| (ChainName::new(name), Chain { policy: Some("ACCEPT".into()), rules: Vec::new() })).collect()
}

/// Runs one line on a table.
fn run(family: Family, chains: &mut Chains, line: &str) -> Result<(), &'static str> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (name, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    let user_policy = (family == Family::Bridge).then(|| "ACCEPT".to_owned());
    if let Some(declared) = command.strip_prefix(':') {
        // What stood in the chain is gone: that is what makes `:CHAIN` dangerous.
        let policy = if name == "-" { None } else { Some(name.to_owned()) };
        chains.insert(ChainName::new(declared), Chain { policy, rules: Vec::new() });
        return Ok(());
    }
    let chain = ChainName::new(name);
    if command == "-N" {
        let old = chains.insert(chain, Chain { policy: user_policy, rules: Vec::new() });
        return if old.is_some() { Err("chain exists") } else { Ok(()) };
    }
    if !chains.contains_key(&chain) {
        return Err("no such chain");
    }
    if command == "-X" {
        let referred = chains.values().flat_map(|chain| &chain.rules).any(|rule| destinations(&rule.rule).contains(&chain));
        let empty = chains.get(&chain).is_some_and(|chain| chain.rules.is_empty());
        chains.remove(&chain);
        return if empty && !referred { Ok(()) } else { Err("chain is in use") };
    }
    let added = match command {
        "-A" => Some(counted(family, argument, chains)?),
        "-I" => Some(counted(family, argument.split_once(' ').ok_or("no position")?.1, chains)?),
        _ => None,
    };
    let Some(Chain { policy, rules }) = chains.get_mut(&chain) else { return Err("no such chain") };
    match command {
        "-A" => rules.extend(added),
        "-I" => {
            let at: usize = argument.split(' ').next().and_then(|at| at.parse().ok()).ok_or("no position")?;
            if !(1..=rules.len() + 1).contains(&at) {
                return Err("index of insertion too big");
            }
            rules.splice(at - 1..at - 1, added);
        }
        "-D" => {
            let at = match argument.parse::<usize>() {
                Ok(at) => at.checked_sub(1).filter(|at| *at < rules.len()),
                Err(_) => rules.iter().position(|rule| rule.rule == save::parse_rule(family, argument)),
            };
            rules.remove(at.ok_or("no such rule")?);
        }
        "-F" => rules.clear(),
        "-P" => *policy = Some(argument.to_owned()),
        _ => return Err("unknown command"),
    }
    Ok(())
}

fn counted(family: Family, text: &str, chains: &Chains) -> Result<Counted, &'static str> {
    let rule = save::parse_rule(family, text);
    let dangles = matches!(rule, LiveRule::Known(_)) && !destinations(&rule).iter().all(|chain| chains.contains_key(chain));
    if dangles { Err("no such target chain") } else { Ok(Counted { text: text.to_owned(), rule, packets: 0 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(text: &str) -> Fake {
        let fake = Fake::default();
        fake.feed(Family::Ipv4, &format!("*filter\n{text}COMMIT\n")).expect("well-formed");
        fake
    }

    fn words(fake: &Fake, lines: &str) -> Result<(), RefusalKind> {
        fake.feed(Family::Ipv4, &format!("*filter\n{lines}COMMIT\n")).map_err(|refusal| refusal.kind)
    }

    #[test]
    fn it_refuses_what_the_tools_refuse_with_the_line() {
        let chains = "-N A\n-N B\n-A A -j B\n-A B -s 10.0.0.1/32 -j DROP\n";
        for bad in ["-N A", "-A C -j DROP", "-A A -j C", "-X B", "-D A 2", "-D A -j DROP", "-I A 3 -j DROP", "-Z A"] {
            let fake = fed(chains);
            let before = fake.save(Family::Ipv4);
            assert_eq!(words(&fake, &format!("-A A -j DROP\n-D A 2\n{bad}\n")), Err(RefusalKind::Input(Some(4))), "{bad}");
            assert_eq!(fake.save(Family::Ipv4), before, "{bad}");
        }
    }

    #[test]
    fn tables_before_the_refused_one_stay_in() {
        let fake = Fake::default();
        let text = "*nat\n-N A\nCOMMIT\n*filter\n-X A\nCOMMIT\n";
        assert_eq!(fake.feed(Family::Ipv4, text).expect_err("no such chain").kind, RefusalKind::Input(Some(5)));
        assert!(fake.save(Family::Ipv4).contains(":A - [0:0]"));
    }

    #[test]
    fn counters_live_as_long_as_their_rules() {
        let fake = fed("-A INPUT -j DROP\n-A INPUT -j ACCEPT\n");
        fake.traffic();
        words(&fake, "-D INPUT -j DROP\n-I INPUT 1 -j DROP\n").expect("well-formed");
        let counters = [("-j DROP".to_owned(), 0), ("-j ACCEPT".to_owned(), 1)];
        assert_eq!(fake.counters(Family::Ipv4, Table::Filter, "INPUT"), counters);
    }

    #[test]
    fn declaring_a_chain_again_empties_it() {
        let fake = fed("-N A\n-A A -j DROP\n");
        words(&fake, ":A - [0:0]\n").expect("well-formed");
        assert!(fake.counters(Family::Ipv4, Table::Filter, "A").is_empty());
    }

    #[tokio::test]
    async fn it_fails_and_lets_others_in_when_told_to() {
        let fake = fed("-N A\n");
        let script = Script { text: "*filter\n-A A -j DROP\nCOMMIT\n".into(), origins: Vec::new() };
        fake.refuse_next(RefusalKind::Busy);
        assert_eq!(fake.commit(Family::Ipv4, &script).await.map_err(|refusal| refusal.kind), Err(RefusalKind::Busy));
        fake.intrude_next(Family::Ipv4, "*filter\n-X A\nCOMMIT\n");
        assert_eq!(fake.commit(Family::Ipv4, &script).await.map_err(|refusal| refusal.kind), Err(RefusalKind::Input(Some(2))));
        assert_eq!(fake.commits().len(), 2);
        fake.answer(Family::Ipv4, Some(Observation::Unreadable("tainted".into())));
        let seen = fake.observe(&[Family::Ipv4]).await;
        assert_eq!(seen.families.get(&Family::Ipv4), Some(&Observation::Unreadable("tainted".into())));
    }
}
