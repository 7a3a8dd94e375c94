//! The layer-2 rules of a guest into ebtables chains.
