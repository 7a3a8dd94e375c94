//! No bytes make `learn::dhcp::decode` panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

include!("decoders.rs");

fuzz_target!(|bytes: &[u8]| {
    let _ = learn::dhcp::decode(bytes);
});
