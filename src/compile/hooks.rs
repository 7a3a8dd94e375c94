//! The base chains that objects share, and the jumps from built-in chains into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ObjectRules;
use crate::model::Object;
use crate::ruleset::chain_name::{
    GUEST_HOST_IN, GUEST_IN, GUEST_IN_POST, GUEST_OUT, LIBVIRT_FWI, LIBVIRT_FWO, LIBVIRT_FWX, LIBVIRT_INP, LIBVIRT_OUT, LIBVIRT_PRT,
};
use crate::ruleset::rule::{IpRule, IpTarget, Rule};
use crate::ruleset::{ChainId, ChainName, Family, Table, normal};

/// A chain that several objects put their blocks in, and how packets get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// The chain.
    pub id: ChainId,
    /// The built-in chain that jumps to it.
    pub parent: ChainName,
    /// The jump: unconditional.
    pub jump: Rule,
}

/// Whose blocks a base chain takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tenant {
    Network,
    Guest,
}

/// Every base chain of a family with its table and the built-in chain that jumps to it, in the order of the jumps.
///
/// FORWARD's order carries meaning: a guest's own filter judges before the network does, and what may enter a network is decided
/// before what may leave one (networks.md 3.8).
const LAYOUT: [(Tenant, Table, &str, &str); 11] = [
    (Tenant::Guest, Table::Filter, "INPUT", GUEST_HOST_IN),
    (Tenant::Network, Table::Filter, "INPUT", LIBVIRT_INP),
    (Tenant::Guest, Table::Filter, "FORWARD", GUEST_IN),
    (Tenant::Guest, Table::Filter, "FORWARD", GUEST_OUT),
    (Tenant::Guest, Table::Filter, "FORWARD", GUEST_IN_POST),
    (Tenant::Network, Table::Filter, "FORWARD", LIBVIRT_FWX),
    (Tenant::Network, Table::Filter, "FORWARD", LIBVIRT_FWI),
    (Tenant::Network, Table::Filter, "FORWARD", LIBVIRT_FWO),
    (Tenant::Network, Table::Filter, "OUTPUT", LIBVIRT_OUT),
    (Tenant::Network, Table::Nat, "POSTROUTING", LIBVIRT_PRT),
    (Tenant::Network, Table::Mangle, "POSTROUTING", LIBVIRT_PRT),
];

/// The base chains that these objects need, in the order in which their jumps stand in the built-in chains (design section 4, hooks):
/// INPUT libvirt-host-in, LIBVIRT_INP; FORWARD libvirt-in, libvirt-out, libvirt-in-post, LIBVIRT_FWX, LIBVIRT_FWI, LIBVIRT_FWO.
///
/// One network with rules needs all seven network chains in both families (networks.md 3.1); a guest needs the four guest chains of each
/// family that it has chains in.
pub fn base_chains(objects: &BTreeMap<Object, Arc<ObjectRules>>) -> Vec<BaseChain> {
    let mut chains = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let networks = objects.iter().any(|(object, rules)| matches!(object, Object::Network(_)) && !rules.shared.is_empty());
        let guests = objects.iter().any(|(object, rules)| matches!(object, Object::Interface(_)) && reaches(rules, family));
        for (tenant, table, parent, chain) in LAYOUT {
            let needed = match tenant {
                Tenant::Network => networks,
                Tenant::Guest => guests,
            };
            if needed {
                chains.push(base_chain(family, table, parent, chain));
            }
        }
    }
    chains
}

/// Whether the object has anything in this family.
fn reaches(rules: &ObjectRules, family: Family) -> bool {
    rules.chains.keys().chain(rules.shared.keys()).any(|id| id.family == family)
}

/// `-A PARENT -j CHAIN`
fn base_chain(family: Family, table: Table, parent: &str, chain: &str) -> BaseChain {
    let chain = ChainName::new(chain);
    let jump = Rule::from(normal::ip_rule(family, IpRule::new(IpTarget::Jump(chain.clone()))));
    BaseChain { id: ChainId { family, table, chain }, parent: ChainName::new(parent), jump }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_in(family: Family) -> Arc<ObjectRules> {
        let id = ChainId { family, table: Table::Filter, chain: ChainName::new("x") };
        Arc::new(ObjectRules { shared: BTreeMap::from([(id, Vec::new())]), ..ObjectRules::default() })
    }

    fn guest(name: &str) -> Object {
        Object::Interface(crate::addr::DeviceName::new(name).expect("a device name"))
    }

    fn jumps(chains: &[BaseChain], family: Family, parent: &str) -> Vec<String> {
        let here = |chain: &&BaseChain| chain.id.family == family && chain.id.table == Table::Filter && chain.parent.as_str() == parent;
        chains.iter().filter(here).map(|chain| chain.id.chain.to_string()).collect()
    }

    #[test]
    fn no_objects_need_no_base_chains() {
        assert_eq!(base_chains(&BTreeMap::new()), []);
    }

    #[test]
    fn an_open_network_needs_no_base_chains() {
        let objects = BTreeMap::from([(Object::Network("open".into()), Arc::default())]);
        assert_eq!(base_chains(&objects), []);
    }

    #[test]
    fn a_network_needs_all_its_chains_in_both_families() {
        let objects = BTreeMap::from([(Object::Network("lab".into()), rules_in(Family::Ipv4))]);
        let chains = base_chains(&objects);
        assert_eq!(chains.len(), 14);
        assert_eq!(jumps(&chains, Family::Ipv6, "FORWARD"), ["LIBVIRT_FWX", "LIBVIRT_FWI", "LIBVIRT_FWO"]);
    }

    #[test]
    fn a_guest_needs_its_chains_only_in_the_families_it_uses() {
        let objects = BTreeMap::from([(guest("vnet0"), rules_in(Family::Ipv6)), (guest("vnet1"), rules_in(Family::Bridge))]);
        let chains = base_chains(&objects);
        assert!(chains.iter().all(|chain| chain.id.family == Family::Ipv6));
        assert_eq!(jumps(&chains, Family::Ipv6, "FORWARD"), ["libvirt-in", "libvirt-out", "libvirt-in-post"]);
        assert_eq!(jumps(&chains, Family::Ipv6, "INPUT"), ["libvirt-host-in"]);
    }

    #[test]
    fn guests_are_judged_before_networks() {
        let objects = BTreeMap::from([(guest("vnet0"), rules_in(Family::Ipv4)), (Object::Network("lab".into()), rules_in(Family::Ipv4))]);
        let chains = base_chains(&objects);
        let forward = ["libvirt-in", "libvirt-out", "libvirt-in-post", "LIBVIRT_FWX", "LIBVIRT_FWI", "LIBVIRT_FWO"];
        assert_eq!(jumps(&chains, Family::Ipv4, "FORWARD"), forward);
        assert_eq!(jumps(&chains, Family::Ipv4, "INPUT"), ["libvirt-host-in", "LIBVIRT_INP"]);
    }
}
