//! Programs in our network namespace that write rules by running one tool after another, and whether they are at work.
//!
//! How long such a program is silent between two transactions says nothing: a loaded host stretches the pauses (firewalld 1.3.3: to half a second, measured). Its
//! process says it. A firewalld, which is a program in Python, runs while it reloads, or waits for a child; else it sleeps. A libvirtd has threads that are always
//! busy with something and may have children of other kinds; it is at work while it runs a tool.

use std::fs;

use super::namespace;

/// As the kernel names the process.
const FIREWALLD: &str = "firewalld";
/// The tools that either of them runs; the name of a variant begins with one of these.
const TOOLS: [&str; 3] = ["ebtables", "iptables", "ip6tables"];

/// Its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    pid: u32,
    name: &'static str,
}

/// Those in the calling thread's network namespace that our process namespace lets us see; one that may not be looked into counts as ours.
pub fn neighbours() -> Vec<Neighbour> {
    let firewalld = namespace::processes(|name| name == FIREWALLD)
        .filter(|process| process.in_own_namespace.unwrap_or(true))
        .map(|process| Neighbour { pid: process.pid, name: FIREWALLD });
    let libvirt = namespace::libvirt_daemons().map(|daemon| Neighbour { pid: daemon.pid, name: daemon.name });
    firewalld.chain(libvirt).collect()
}

/// Whether a program of this name that wrote rules is one of the neighbours, or may have been run by one.
pub fn may_be_of_one(name: &str) -> bool {
    name == FIREWALLD || is_tool(name)
}

fn is_tool(name: &str) -> bool {
    TOOLS.iter().any(|tool| name.starts_with(tool))
}

impl Neighbour {
    /// As the kernel names its process.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it still runs.
    pub fn lives(&self) -> bool {
        self.state().is_some()
    }

    /// Whether it is writing rules at this moment. Between two steps of its work it may look idle for less than a millisecond.
    pub fn is_at_work(&self) -> bool {
        let pid = self.pid;
        if self.name == FIREWALLD {
            let waits = || !children(pid, &pid.to_string()).is_empty();
            return self.state().is_some_and(|state| state != 'S' || waits());
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let mut children = threads.filter_map(|thread| thread.file_name().into_string().ok()).flat_map(|thread| children(pid, &thread));
        children.any(|child| comm(child).is_some_and(|name| is_tool(&name)))
    }

    fn state(self) -> Option<char> {
        state(self.name, &fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }
}

/// The name of a process.
fn comm(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// The processes that a thread started and that have not ended, or have not been waited for.
fn children(pid: u32, thread: &str) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The state in the text of `/proc/PID/stat`: `S` asleep, `R` running or about to, `D` waiting for a disk. `None` for another program, to which the number was given
/// since.
fn state(name: &str, stat: &str) -> Option<char> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, found) = head.split_once('(')?;
    tail.chars().next().filter(|state| found == name && !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_is_told_by_its_name_and_its_state() {
        assert_eq!(state(FIREWALLD, "12 (firewalld) R 1 12 12 0"), Some('R'));
        assert_eq!(state(FIREWALLD, "12 (firewalld) Z 1 12 12 0"), None, "dead");
        assert_eq!(state(FIREWALLD, "12 (firewall) S) R 1 12 12 0"), None, "another program");
        assert_eq!(state(FIREWALLD, ""), None);
    }

    #[test]
    fn a_child_is_seen_while_it_runs() {
        let own = std::process::id();
        let all = || {
            let threads = fs::read_dir(format!("/proc/{own}/task")).expect("proc is mounted");
            threads.flatten().flat_map(|thread| children(own, &thread.file_name().to_string_lossy())).collect::<Vec<_>>()
        };
        let mut child = Command::new("sleep").arg("60").spawn().expect("`sleep` runs");
        assert!(all().contains(&child.id()));
        child.kill().and_then(|()| child.wait()).expect("it is our child");
        assert!(!all().contains(&child.id()));
    }

    #[test]
    fn a_libvirtd_is_at_work_while_it_runs_a_tool_and_not_while_it_runs_something_else() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, at_work) in [("ebtables-nft", true), ("ip6tables", true), ("dnsmasq", false)] {
            let program = directory.path().join(name);
            fs::copy("/bin/sleep", &program).expect("`sleep` is there");
            // As a libvirtd does: it starts the program and waits.
            let script = format!("{} 60 & echo; wait", program.display());
            let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).process_group(0).spawn().expect("`sh` runs");
            let mut line = [0];
            shell.stdout.as_mut().expect("it is a pipe").read_exact(&mut line).expect("it says when the program is started");
            let neighbour = Neighbour { pid: shell.id(), name: "libvirtd" };
            let deadline = Instant::now() + Duration::from_secs(10);
            // Started is a little before its name is the program's.
            let named = || children(shell.id(), &shell.id().to_string()).iter().any(|child| comm(*child).as_deref() == Some(name));
            while !named() {
                assert!(Instant::now() < deadline, "{name} was not started");
            }
            assert_eq!(neighbour.is_at_work(), at_work, "{name}");
            let group = rustix::process::Pid::from_child(&shell);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("it is ours");
            shell.wait().expect("it is our child");
            assert!(!neighbour.is_at_work(), "{name} was killed");
        }
    }
}
