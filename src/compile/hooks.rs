//! The base chains that objects share, and the jumps from built-in chains into them.

use std::collections::BTreeMap;

use super::ObjectRules;
use crate::model::Object;
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, ChainName};

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

/// The base chains that these objects need, in the order in which their jumps stand in the built-in chains (design section 4, hooks):
/// INPUT libvirt-host-in, LIBVIRT_INP; FORWARD libvirt-in, libvirt-out, libvirt-in-post, LIBVIRT_FWX, LIBVIRT_FWI, LIBVIRT_FWO.
///
/// One network with rules needs all seven network chains in both families (networks.md 3.1); a guest needs the four guest chains of each
/// family that it has chains in.
pub fn base_chains(objects: &BTreeMap<Object, ObjectRules>) -> Vec<BaseChain> {
    let _ = objects;
    Vec::new()
}
