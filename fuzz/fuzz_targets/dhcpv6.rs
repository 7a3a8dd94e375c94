//! No bytes make `learn::dhcpv6::decode` panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

include!("decoders.rs");

fuzz_target!(|bytes: &[u8]| {
    let _ = learn::dhcpv6::decode(bytes);
});
