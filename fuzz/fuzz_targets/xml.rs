//! Any text as a state file beside the stock filters, in both quirks modes: faults that can be shown, and restore input that means what it says.
#![no_main]

#[path = "../../reconcile-tests/restore_law.rs"]
mod restore_law;

use bridgeward::model::Quirks;
use bridgeward::reconcile::compute::Reading;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for quirks in [Quirks::Fixed, Quirks::Libvirt] {
        restore_law::judge(&[("state.xml", text)], Reading { quirks, ..Reading::default() });
    }
});
