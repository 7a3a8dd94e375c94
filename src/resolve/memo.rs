//! Guests as they were resolved before, for the passes after a first one: of a thousand guests, one changes.
//!
//! A guest follows from its interface, its device, the filters in its tree, what was learned for it, the quirks, and the budget that is left. Where all of these equal (whole,
//! spans included) what they were, so does the guest: its policy is taken again, and its share of the budget spent. Guests with anything to say about them
//! are always resolved anew, so that it is said again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::GuestPolicy;
use super::budget::{Budget, Share};
use super::finding::Findings;
use super::guest;
use super::includes::Library;
use super::interface::Tap;
use crate::addr::DeviceName;
use crate::model::Quirks;
use crate::model::filter::Filter;
use crate::model::interface::Interface;
use crate::model::learned::Learned;

/// What an earlier call of [`super::resolve_again`] found out.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    quirks: Quirks,
    filters: BTreeMap<Arc<str>, Filter>,
    guests: HashMap<DeviceName, Known>,
}

/// One guest, and what it followed from.
#[derive(Debug, Clone)]
struct Known {
    interface: Interface,
    /// The addresses that had been learned for it.
    addresses: Vec<IpAddr>,
    share: Share,
    policy: Arc<GuestPolicy>,
}

impl Memo {
    /// Resolves these guests, as far as they are not known from before.
    pub(super) fn guests(
        &mut self,
        taps: &[Tap<'_>],
        library: &Library<'_>,
        learned: &Learned,
        quirks: Quirks,
        findings: &mut Findings,
    ) -> Vec<Arc<GuestPolicy>> {
        let mut before = if self.quirks == quirks { std::mem::take(&mut self.guests) } else { HashMap::new() };
        let same: HashSet<&str> =
            library.whole().filter(|(name, filter)| self.filters.get(*name) == Some(*filter)).map(|(name, _)| name).collect();
        let mut same_trees: HashMap<&str, bool> = HashMap::new();
        let mut budget = Budget::default();
        let mut guests = Vec::with_capacity(taps.len());
        let mut known = HashMap::with_capacity(taps.len());
        for tap in taps {
            let file = tap.interface.span.file;
            let name = tap.interface.filter.as_ref().map_or("", |reference| &reference.filter.value);
            let same_tree = || same.contains(name) && library.tree(name).all(|name| same.contains(name));
            let same_tree = *same_trees.entry(name).or_insert_with(same_tree);
            let kept = before
                .remove(&tap.device)
                .filter(|kept| same_tree && kept.interface == *tap.interface && kept.addresses == addresses(&kept.policy, learned, quirks));
            if let Some(kept) = kept.filter(|kept| budget.grant(file, kept.share)) {
                guests.push(Arc::clone(&kept.policy));
                known.insert(tap.device.clone(), kept);
                continue;
            }
            let (found, spent) = (findings.count(), budget.spent(file));
            let Some(policy) = guest::resolve(tap, library, learned, quirks, &mut budget, findings) else { continue };
            let policy = Arc::new(policy);
            guests.push(Arc::clone(&policy));
            if findings.count() == found {
                let addresses = addresses(&policy, learned, quirks);
                let share = budget.spent(file).since(spent);
                known.insert(tap.device.clone(), Known { interface: tap.interface.clone(), addresses, share, policy });
            }
        }
        let filters = library.whole().map(|(_, filter)| (Arc::clone(&filter.name.value), filter.clone())).collect();
        *self = Self { quirks, filters, guests: known };
        guests
    }
}

/// What was learned for a guest, where its policy asks for that; whose it is does not change with what is learned.
fn addresses(policy: &GuestPolicy, learned: &Learned, quirks: Quirks) -> Vec<IpAddr> {
    let asked = policy.learned.as_ref().or_else(|| policy.learning());
    asked.map_or_else(Vec::new, |learning| learned.addresses(&learning.claimant, quirks))
}
