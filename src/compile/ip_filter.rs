//! The layer-3 rules of a guest into iptables and ip6tables chains.
