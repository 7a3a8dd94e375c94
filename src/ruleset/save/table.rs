//! One table while it is read: its chains, which of them matter, and their rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::parse_rule;
use super::token::{Token, Tokens};
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainName, ChainRules, Family, LiveRule, Policy, Table, TableRules, chain_name};

/// A table that is being read.
pub(super) struct TableReader<'a> {
    family: Family,
    name: &'a str,
    /// `None` for a table that no part of bridgeward has to do with: it is read over.
    table: Option<Table>,
    chains: Vec<Chain<'a>>,
    by_name: HashMap<&'a str, usize>,
    /// Where the last rule went: rules of one chain stand together.
    current: usize,
    foreign_targets: BTreeSet<ChainName>,
    /// Rules by their words: many stand in chains of every guest, are read once and shared.
    known: HashMap<&'a str, Rule>,
}

struct Chain<'a> {
    name: &'a str,
    skipped: bool,
    rules: ChainRules,
}

impl<'a> TableReader<'a> {
    /// An empty table.
    pub(super) fn new(family: Family, name: &'a str) -> Self {
        Self {
            family,
            name,
            table: Table::from_name(name),
            chains: Vec::new(),
            by_name: HashMap::new(),
            current: 0,
            foreign_targets: BTreeSet::new(),
            known: HashMap::new(),
        }
    }

    /// Its name as it was printed.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// Notes that the table has this chain.
    pub(super) fn declare(&mut self, name: &'a str, policy: Option<Policy>) -> Result<(), String> {
        if self.by_name.insert(name, self.chains.len()).is_some() {
            return Err(format!("chain `{name}` stands twice in table `{}`", self.name));
        }
        let skipped = match self.table {
            Some(table) => !chain_name::is_builtin(self.family, table, name) && !chain_name::in_libvirt_name_space(name),
            None => true,
        };
        self.chains.push(Chain { name, skipped, rules: ChainRules { policy, rules: Vec::new() } });
        Ok(())
    }

    /// Adds a rule to the end of a chain that was declared; all chains that it names must have been.
    pub(super) fn append(&mut self, chain: &str, text: &'a str) -> Result<(), String> {
        if self.chains.get(self.current).is_none_or(|current| current.name != chain) {
            self.current =
                *self.by_name.get(chain).ok_or_else(|| format!("the rule is of chain `{chain}`, which table `{}` has not", self.name))?;
        }
        if self.chains[self.current].skipped {
            self.note_targets(text);
            return Ok(());
        }
        let rule = match self.rule(text) {
            // What is no chain is an extension, of whose options the tool printed none.
            LiveRule::Known(rule) if rule.destination().is_some_and(|target| !self.by_name.contains_key(target.as_str())) => {
                LiveRule::Unknown(text.into())
            }
            rule => rule,
        };
        self.chains[self.current].rules.rules.push(rule);
        Ok(())
    }

    fn rule(&mut self, text: &'a str) -> LiveRule {
        if let Some(rule) = self.known.get(text) {
            return LiveRule::Known(rule.clone());
        }
        let rule = parse_rule(self.family, text);
        if let LiveRule::Known(rule) = &rule {
            self.known.insert(text, rule.clone());
        }
        rule
    }

    /// Puts the finished table among the others.
    pub(super) fn finish(self, tables: &mut BTreeMap<Table, TableRules>) -> Result<(), String> {
        let Some(table) = self.table else { return Ok(()) };
        let chains = self.chains.into_iter().map(|chain| (ChainName::new(chain.name), chain.rules)).collect();
        if tables.insert(table, TableRules { chains, foreign_targets: self.foreign_targets }).is_some() {
            return Err(format!("table `{table}` stands twice"));
        }
        Ok(())
    }

    /// Notes the chains that a skipped rule leads to.
    fn note_targets(&mut self, text: &str) {
        let mut tokens = Tokens::new(text);
        while let Some(token) = tokens.next() {
            if !matches!(token, Token::Plain("-j" | "-g")) {
                continue;
            }
            if let Some(target) = tokens.plain().filter(|target| self.by_name.contains_key(target)) {
                self.foreign_targets.insert(ChainName::new(target));
            }
        }
    }
}
