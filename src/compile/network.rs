//! A virtual network (networks.md section 3) into its blocks.
