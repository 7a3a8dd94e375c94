//! Any bytes as the output of `iptables-save` or `ip6tables-save`: whatever rule is understood is spelled so that it is understood again.
#![no_main]

use bridgeward::ruleset::{Family, LiveRule, save, words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As the backend does it: tools print foreign names byte by byte.
    let text = String::from_utf8_lossy(bytes);
    for family in [Family::Ipv4, Family::Ipv6] {
        let Ok(tables) = save::parse(family, &text) else { continue };
        for rule in tables.values().flat_map(|table| table.chains.values()).flat_map(|chain| &chain.rules) {
            let LiveRule::Known(known) = rule else { continue };
            let mut spelled = String::new();
            words::rule(family, known, &mut spelled);
            assert_eq!(save::parse_rule(family, &spelled), *rule, "{spelled}");
        }
    }
});
