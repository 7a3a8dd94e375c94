//! The chain that a filter's rules live in: `chain` and `priority` of `<filter>`.
//!
//! Reference: nwfilter.md 1.1 and 1.2.

use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::filter::Chain;
use crate::parse::report::Report;
use crate::parse::visit::{Visit, with_suggestion};
use crate::parse::xml::Attribute;

/// What a chain's name may begin with, and the priority that this gives it.
const PREFIXES: [(&str, i16); 7] =
    [("mac", -800), ("vlan", -750), ("stp", STP_PRIORITY), ("arp", -500), ("rarp", -400), ("ipv4", -700), ("ipv6", -600)];

/// As libvirt documents it; libvirt 9.0 itself gives 0 (row 13 of section 8).
const STP_PRIORITY: i16 = -810;

/// Reads both attributes; `None` when the chain's name is refused.
pub(super) fn read_chain(visit: &mut Visit<'_>, report: &mut Report<'_>) -> Option<Chain> {
    let name = visit.filled_attribute("chain");
    let priority = visit.filled_attribute("priority");
    // libvirt checks the priority even where it then ignores it.
    let given = priority.and_then(|priority| read_chain_priority(priority, report));
    let Some(name) = name else {
        report_stray_priority(priority, report);
        return Some(Chain { name: "root".into(), priority: 0 });
    };
    let default = if name.value == "root" { 0 } else { default_priority(name, report)? };
    let is_default = priority.is_none();
    if is_default && default == STP_PRIORITY {
        report.add(stp_default(name, report.quirks()));
    }
    let priority = match report.quirks() {
        Quirks::Libvirt if default == STP_PRIORITY => given.unwrap_or(0),
        _ => given.unwrap_or(default),
    };
    Some(Chain { name: name.value.as_ref().into(), priority })
}

/// Reads a priority of a chain or a rule: decimal, a sign and leading blanks allowed, -1000 to 1000.
pub(super) fn parse_priority(text: &str) -> Option<i16> {
    super::literal::skip_blanks(text).parse().ok().filter(|priority| (-1000..=1000).contains(priority))
}

/// Reads the chain's priority: unlike a rule's, libvirt refuses a bad one, so both quirks do.
fn read_chain_priority(attribute: &Attribute<'_>, report: &mut Report<'_>) -> Option<i16> {
    let priority = parse_priority(&attribute.value);
    if priority.is_none() {
        let message = format!("`{}` is not a priority of a chain", attribute.value);
        report.add(Diagnostic::error(
            "invalid-chain-priority",
            message,
            attribute.value_span,
            "expected a decimal number from -1000 to 1000",
        ));
    }
    priority
}

/// Warns of a priority that looks as if it were about the filter's rules.
fn report_stray_priority(priority: Option<&Attribute<'_>>, report: &mut Report<'_>) {
    if let Some(priority) = priority {
        let message = "the priority of a filter without a `chain` is ignored";
        report.add(
            Diagnostic::warning("priority-without-chain", message, priority.name_span, "this is the priority of a chain, not of rules")
                .help("name a chain, or give each `<rule>` its `priority`"),
        );
    }
}

/// Checks the name of a chain other than `root`; gives the priority that goes with its prefix.
fn default_priority(name: &Attribute<'_>, report: &mut Report<'_>) -> Option<i16> {
    let fault = check_name(name).err();
    let default = PREFIXES.iter().find(|(prefix, _)| name.value.starts_with(prefix)).map(|&(_, priority)| priority);
    match fault {
        Some(fault) => {
            report.add(fault);
            None
        }
        None => default,
    }
}

/// Checks the characters first: a blank or a case that is off explains an unknown prefix better than the prefix does.
fn check_name(name: &Attribute<'_>) -> Result<(), Diagnostic> {
    let text = name.value.as_ref();
    let fault = |code, message: String, expected: &str| Err(Diagnostic::error(code, message, name.value_span, expected));
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if !text.bytes().all(known) {
        let message = format!("the chain name `{text}` contains a character that chains cannot have");
        return fault("invalid-chain-character", message, "expected letters, digits, `_`, `.`, `:` and `-` only");
    }
    if text.len() > 12 {
        let message = format!("the chain name `{text}` is too long");
        return fault("long-chain-name", message, "expected at most 12 characters");
    }
    if !PREFIXES.iter().any(|(prefix, _)| text.starts_with(prefix)) {
        let message = format!("the chain name `{text}` does not say which packets it is for");
        let expected = "expected `root`, or a name that begins with mac, vlan, stp, arp, rarp, ipv4 or ipv6";
        let names = PREFIXES.iter().map(|&(prefix, _)| prefix).chain(["root"]);
        return fault("unknown-chain", message, expected).map_err(|fault| with_suggestion(fault, text, names));
    }
    Ok(())
}

/// Row 13 of section 8: the same text gives two priorities, and with them two orders of jumps.
fn stp_default(name: &Attribute<'_>, quirks: Quirks) -> Diagnostic {
    let message = match quirks {
        Quirks::Fixed => format!("chain `{}` has priority {STP_PRIORITY}, where libvirt 9.0 gives it 0", name.value),
        Quirks::Libvirt => format!("chain `{}` has priority 0, though {STP_PRIORITY} is documented", name.value),
    };
    Diagnostic::note("stp-chain-priority", message, name.value_span, "no priority is given").help("write the priority to be clear")
}
