//! A firewalld in our network namespace, and whether it is at work.
//!
//! How long it is silent between two transactions says nothing: it is a program in Python that reads files and runs a tool after another, and a loaded host
//! stretches its pauses (to half a second, measured with 1.3.3). Its process says it: while it reloads it runs, or has a child that it waits for; else it sleeps.

use std::fs;

use super::namespace;

/// As the kernel names the process.
const NAME: &str = "firewalld";

/// Its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firewalld {
    pid: u32,
}

/// A firewalld of the calling thread's network namespace, where our process namespace lets us see it; one that may not be looked into counts as ours.
pub fn firewalld() -> Option<Firewalld> {
    namespace::processes(|name| name == NAME)
        .find(|process| process.in_own_namespace.unwrap_or(true))
        .map(|process| Firewalld { pid: process.pid })
}

impl Firewalld {
    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        self.state().is_some()
    }

    /// Whether it is doing something at this moment. Between two steps of its work it may look idle for less than a millisecond.
    pub fn is_at_work(&self) -> bool {
        let Self { pid } = self;
        let waits = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).is_ok_and(|children| !children.trim().is_empty());
        self.state().is_some_and(|state| state != 'S' || waits())
    }

    fn state(self) -> Option<char> {
        state(&fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }
}

/// The state in the text of `/proc/PID/stat`: `S` asleep, `R` running or about to, `D` waiting for a disk. `None` for another program, to which the number was given
/// since.
fn state(stat: &str) -> Option<char> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    tail.chars().next().filter(|state| name == NAME && !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_name_and_its_state() {
        assert_eq!(state("12 (firewalld) R 1 12 12 0"), Some('R'));
        assert_eq!(state("12 (firewalld) Z 1 12 12 0"), None, "dead");
        assert_eq!(state("12 (firewall) S) R 1 12 12 0"), None, "another program");
        assert_eq!(state(""), None);
    }
}
