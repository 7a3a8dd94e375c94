//! What a tool's failure means: is the input to blame, and which line; somebody else's lock; or this host.
//!
//! The tools tell it in words only. Exit status 4 alone means nothing: it is "the xtables lock is held" of the legacy tools, and of the nf_tables
//! ones "the kernel refused a rule" as well as "you must be root". All messages below were provoked from 1.8.9, both variants.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::RefusalKind;

/// Words of a tool that waited for another one, or that another one overtook.
const BUSY: [&str; 3] = ["Resource temporarily unavailable", "holding the xtables lock", "Interrupted system call"];

/// Words of a tool that may not.
const NO_PRIVILEGE: [&str; 2] = ["you must be root", "Permission denied"];

/// Words of a tool whose kernel side is not there. `TABLE_ADD`: the first thing nf_tables needs for a family that the kernel was built without.
const NO_KERNEL_SUPPORT: [&str; 7] = [
    "Failed to initialize nft",
    "Could not fetch rule set generation id",
    "unable to initialize table",
    "can't initialize",
    "do you need to insmod",
    "The kernel doesn't support the ebtables",
    "TABLE_ADD failed",
];

/// Words of a tool that this host starves, or that is too old for the options we give it.
const OTHER_TROUBLE: [&str; 5] =
    ["Cannot allocate memory", "Out of memory", "No buffer space available", "unrecognized option '--", "invalid option -- "];

/// What a tool's failure to read or write rules is owed to, beyond the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It may not: `CAP_NET_ADMIN` is missing, in the user namespace that owns the network namespace.
    Privilege,
    /// The kernel has no such tables.
    Kernel,
    /// Memory, or a tool that does not know our options.
    Host,
}

/// Judges a failed restore.
pub(super) fn classify(status: ExitStatus, words: &str) -> RefusalKind {
    if BUSY.iter().any(|phrase| words.contains(phrase)) {
        return RefusalKind::Busy;
    }
    // A tool that crashed may have crashed over one rule, so that leaving rules out is worth a try; one that was killed was killed by somebody.
    if let Some(signal) = status.signal() {
        let crashed = [libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL].contains(&signal);
        return if crashed { RefusalKind::Input(None) } else { RefusalKind::Environment };
    }
    if cause(words).is_some() {
        return RefusalKind::Environment;
    }
    RefusalKind::Input(named_line(words))
}

/// What a tool's words say about this host, if anything.
pub(super) fn cause(words: &str) -> Option<Cause> {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    if says(&NO_PRIVILEGE) {
        return Some(Cause::Privilege);
    }
    if says(&NO_KERNEL_SUPPORT) {
        return Some(Cause::Kernel);
    }
    says(&OTHER_TROUBLE).then_some(Cause::Host)
}

/// The words on one line, without how to get help with a command line that nobody typed, and with the one thing added that they leave open.
pub(super) fn explain(words: &str) -> String {
    let idle = |line: &&str| line.is_empty() || line.starts_with("Try `") || line.starts_with("Error occurred at line: ");
    let mut said = words.lines().map(str::trim).filter(|line| !idle(line)).collect::<Vec<_>>().join("; ");
    if cause(words) == Some(Cause::Privilege) {
        said.push_str("; bridgeward needs CAP_NET_ADMIN");
    }
    said
}

/// How a tool ended, for people: `exit status 2`, `killed by signal 11`.
pub(super) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The input line that a tool names, from 1. It may be that of `COMMIT`: the nf_tables tools find out only there that a jump's chain is
/// missing, and the legacy ones everything that the kernel objects to.
fn named_line(words: &str) -> Option<usize> {
    // `Error occurred at line: 2`, after a message that quotes the input.
    if let Some((_, number)) = words.rsplit_once("Error occurred at line: ") {
        return leading_number(number);
    }
    // `iptables-restore: line 3 failed: ...`, `line 4: CHAIN_DEL failed (...)`, `COMMIT expected at line 3`, `Can't set policy ... line 2: ...`
    words
        .match_indices("line ")
        .filter(|&(at, _)| at == 0 || words[..at].ends_with([' ', '\n']))
        .find_map(|(at, word)| leading_number(&words[at + word.len()..]))
}

fn leading_number(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).map_or(text, |end| &text[..end]);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `wait` encodes it.
    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn input(line: usize) -> RefusalKind {
        RefusalKind::Input(Some(line))
    }

    #[test]
    fn the_line_is_found_in_every_spelling() {
        let usage = "\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.";
        let cases = [
            (2, format!("iptables-nft-restore v1.8.9 (nf_tables): Set nope doesn't exist.\n\nError occurred at line: 2{usage}"), 2),
            (2, format!("iptables-restore v1.8.9 (legacy): unknown option \"--frob\"\nError occurred at line: 17{usage}"), 17),
            (2, format!("iptables-restore v1.8.9 (nf_tables): host/network `line 9' not found\nError occurred at line: 3{usage}"), 3),
            (2, format!("Bad argument `garbage'\nError occurred at line: 2{usage}"), 2),
            (2, format!("ebtables-restore v1.8.9 (nf_tables): Chain 'NOSUCH' does not exist\nError occurred at line: 5{usage}"), 5),
            (1, "iptables-nft-restore: line 3 failed: No chain/target/match by that name.".to_owned(), 3),
            (1, "iptables-restore: line 12 failed".to_owned(), 12),
            (1, "iptables-restore: COMMIT expected at line 3".to_owned(), 3),
            (1, "iptables-restore v1.8.9 (legacy): Can't set policy `b' on `a' line 2: Bad built-in chain name".to_owned(), 2),
            (4, "iptables-nft-restore v1.8.9 (nf_tables): \nline 2: RULE_APPEND failed (Invalid argument): rule in chain INPUT".to_owned(), 2),
            (4, "ebtables-restore v1.8.9 (nf_tables): \nline 4: CHAIN_DEL failed (Device or resource busy): chain X".to_owned(), 4),
            (4, "x (nf_tables): \nline 6: RULE_APPEND failed (Too many links): rule in chain M\nline 7: RULE_APPEND failed (Too many links): rule in chain L".to_owned(), 6),
        ];
        for (status, words, line) in cases {
            assert_eq!(classify(exit(status), &words), input(line), "{words}");
        }
    }

    #[test]
    fn a_refusal_that_names_no_line_is_still_the_inputs_fault() {
        let words = "ebtables-restore v1.8.9 (nf_tables): ebtables-restore: final implicit COMMIT failed";
        assert_eq!(classify(exit(1), words), RefusalKind::Input(None));
        assert_eq!(classify(exit(1), "the deadline 5 passed, newline 6"), RefusalKind::Input(None));
    }

    #[test]
    fn a_held_lock_is_worth_a_retry() {
        let words = "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 1s.";
        assert_eq!(classify(exit(4), words), RefusalKind::Busy);
        assert_eq!(
            classify(
                exit(4),
                "Another app is currently holding the xtables lock; still 1s 0us time ahead to have a chance to grab the lock..."
            ),
            RefusalKind::Busy
        );
    }

    #[test]
    fn the_input_is_not_blamed_for_the_host() {
        let cases = [
            (
                4,
                "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)",
                Cause::Privilege,
            ),
            (4, "Fatal: can't open lock file /run/xtables.lock: Permission denied", Cause::Privilege),
            (
                2,
                "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'filter'\nError occurred at line: 1",
                Cause::Kernel,
            ),
            (255, "The kernel doesn't support the ebtables 'nat' table.", Cause::Kernel),
            (1, "ebtables-restore: unrecognized option '--wait'\nUsage: ebtables-restore [ --verbose ] [ --noflush ]", Cause::Host),
        ];
        for (status, words, expected) in cases {
            assert_eq!(cause(words), Some(expected), "{words}");
            assert_eq!(classify(exit(status), words), RefusalKind::Environment, "{words}");
        }
    }

    #[test]
    fn a_crash_may_be_the_inputs_fault_and_a_kill_is_not() {
        assert_eq!(classify(ExitStatus::from_raw(libc::SIGSEGV), ""), RefusalKind::Input(None));
        assert_eq!(classify(ExitStatus::from_raw(libc::SIGKILL), ""), RefusalKind::Environment);
    }

    #[test]
    fn missing_privilege_is_named() {
        assert!(explain("x: Permission denied (you must be root)").ends_with("needs CAP_NET_ADMIN"));
        assert_eq!(explain("x: no"), "x: no");
    }

    #[test]
    fn what_helps_nobody_is_left_out() {
        let words =
            "x v1.8.9 (nf_tables): Set nope doesn't exist.\n\nError occurred at line: 2\nTry `x -h' or 'x --help' for more information.";
        assert_eq!(explain(words), "x v1.8.9 (nf_tables): Set nope doesn't exist.");
    }
}
