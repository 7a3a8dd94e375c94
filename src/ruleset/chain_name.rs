//! The names of chains: which ones libvirt's layout uses and what they belong to (nwfilter.md 3.1, networks.md 3.1).
