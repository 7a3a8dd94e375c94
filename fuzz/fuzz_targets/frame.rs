//! No bytes make `learn::frame::decode` panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

include!("decoders.rs");

fuzz_target!(|bytes: &[u8]| {
    let _ = learn::frame::decode(bytes);
});
