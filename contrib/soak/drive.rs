//! What drives the soak: in every turn some files are edited, broken, mended or deleted, rules flushed, tampered with or fought over, taps come and go, and the
//! process is told to read its files again, or in the last quarter ended and started anew. What all of it should come to is kept in the directory `good`.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use super::state::{acme, device, filter, guest, network, tap_script};
use super::{Soak, daemon, sh};

const GUESTS: std::ops::Range<u64> = 180..220;

/// What may happen to the files in a turn.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Breaks,
    DeletesAndMends,
}

impl Soak {
    pub(super) fn turn(&mut self, restarts: bool) {
        self.written = false;
        let turn = if self.dice.below(3) == 0 { Turn::Breaks } else { Turn::DeletesAndMends };
        if turn == Turn::DeletesAndMends {
            for name in self.broken.clone().into_iter().filter(|name| name.starts_with("filter")) {
                self.mend(&name);
            }
        }
        if self.dice.below(20) == 0 {
            self.count("fights");
            let chain = self.some_chain();
            let undo = format!("for _ in $(seq {}); do iptables -D {chain} 1 2>/dev/null; sleep 0.1; done", 30 + self.dice.below(80));
            self.fighter = Some(Command::new("bash").args(["-c", &undo]).spawn().expect("`bash` runs"));
        }
        for _ in 0..=self.dice.below(10) {
            match self.dice.below(if restarts { 16 } else { 14 }) {
                0..=6 => self.edit(turn),
                7 | 8 => self.flush(),
                9 | 10 => self.tamper(),
                11 | 12 => self.tap(),
                13 => self.signal("HUP"),
                14 => self.restart("TERM"),
                _ => self.restart("KILL"),
            }
            if self.dice.below(3) == 0 {
                sleep(Duration::from_millis(self.dice.below(400)));
            }
        }
        if let Some(mut fighter) = self.fighter.take() {
            fighter.wait().expect("it is our child");
        }
    }

    fn edit(&mut self, turn: Turn) {
        let guests: Vec<String> = self
            .good
            .keys()
            .filter(|name| name.starts_with("vnet") && !self.broken.contains(*name) && !self.leaving.contains(*name))
            .cloned()
            .collect();
        let count = guests.len() as u64;
        let variant = self.dice.below(100);
        match self.dice.below(8) {
            0 | 1 if count < GUESTS.end => {
                let number = self.dice.below(240);
                let name = format!("vnet{number}.xml");
                if !self.good.contains_key(&name) || self.leaving.contains(&name) {
                    self.write_guest(number, variant);
                    self.count("guests added");
                }
            }
            0 | 1 if turn == Turn::DeletesAndMends && count > GUESTS.start => {
                let name = self.dice.one(&guests).expect("there are guests");
                self.delete(&name);
            }
            2 | 3 if turn == Turn::DeletesAndMends => {
                if let Some(name) = self.dice.one(&self.broken.iter().cloned().collect::<Vec<_>>()) {
                    self.mend(&name);
                } else if count > GUESTS.start {
                    let name = self.dice.one(&guests).expect("there are guests");
                    self.delete(&name);
                }
            }
            2 | 3 if !self.written && self.broken.len() < 4 => {
                let all: Vec<String> = self.good.keys().filter(|name| !self.leaving.contains(*name)).cloned().collect();
                let name = self.dice.one(&all).expect("there are files");
                self.break_file(&name);
            }
            4 => {
                let number = self.dice.below(3);
                let name = format!("lab{number}.xml");
                if !self.broken.contains(&name) {
                    self.write(&name, network(number, variant % 4));
                    self.count("networks edited");
                }
            }
            // Who is held keeps the rules that the filter had then.
            5 if turn == Turn::DeletesAndMends && self.broken.is_empty() => {
                let number = self.dice.below(3);
                self.write(&format!("filter{number}.xml"), filter(number, variant % 5));
                self.count("filters edited");
            }
            6 => {
                fs::write(self.place.join("state/.vnet1.xml.swp"), "junk").expect("the directory is ours");
                fs::write(self.place.join("state/vnet1.xml~"), "<junk").expect("the directory is ours");
                self.count("editors' leavings");
            }
            _ => {
                let name = self.dice.one(&guests).expect("there are guests");
                let number = name.trim_start_matches("vnet").trim_end_matches(".xml").parse().expect("our own name");
                self.write_guest(number, variant);
                self.count("guests edited");
            }
        }
    }

    /// Not with a filter that is broken: the guest would be held with what it had.
    fn write_guest(&mut self, number: u64, variant: u64) {
        let sound: Vec<u64> = (0..3).filter(|number| !self.broken.contains(&format!("filter{number}.xml"))).collect();
        let name = format!("vnet{number}.xml");
        let uses_broken =
            |text: &String| (0..3).any(|number| !sound.contains(&number) && text.contains(&format!("filter='filter{number}'")));
        if self.broken.contains(&name) || self.good.get(&name).is_some_and(uses_broken) {
            return;
        }
        if let Some(filter) = self.dice.one(&sound) {
            self.write(&name, guest(number, filter, variant));
        }
    }

    /// As a careful editor does it, or as a careless one.
    pub(super) fn write(&mut self, name: &str, text: String) {
        self.written = true;
        self.put(name, &text);
        fs::write(self.place.join("good").join(name), &text).expect("the directory is ours");
        self.good.insert(name.to_owned(), text);
        self.leaving.remove(name);
    }

    fn put(&mut self, name: &str, text: &str) {
        let file = self.place.join("state").join(name);
        if self.dice.below(4) == 0 {
            fs::write(file, text).expect("the directory is ours");
        } else {
            let temporary = file.with_extension("new");
            fs::write(&temporary, text).expect("the directory is ours");
            fs::rename(&temporary, file).expect("a file can be renamed in its directory");
        }
    }

    fn delete(&mut self, name: &str) {
        fs::remove_file(self.place.join("state").join(name)).expect("it is there");
        self.leaving.insert(name.to_owned());
        self.let_go();
        self.count("guests deleted");
    }

    /// What was deleted goes when nothing is broken any more.
    fn let_go(&mut self) {
        if self.broken.is_empty() {
            for name in std::mem::take(&mut self.leaving) {
                fs::remove_file(self.place.join("good").join(&name)).expect("it is there");
                self.good.remove(&name);
            }
        }
    }

    fn break_file(&mut self, name: &str) {
        let text = &self.good[name];
        let half = text[..text.len() / 2].to_owned();
        self.put(name, &half);
        self.broken.insert(name.to_owned());
        self.count("files broken");
    }

    pub(super) fn mend(&mut self, name: &str) {
        let text = self.good[name].clone();
        self.put(name, &text);
        self.broken.remove(name);
        self.let_go();
        self.count("files mended");
    }

    fn some_chain(&mut self) -> String {
        let chains = sh(&self.place, "iptables -S | sed -n 's/^-N \\(F[IO]-.*\\)/\\1/p'");
        let chains: Vec<&str> = chains.lines().collect();
        self.dice.one(&chains).unwrap_or("LIBVIRT_INP").to_owned()
    }

    fn flush(&mut self) {
        let kinds = [
            "iptables -F",
            "ip6tables -F; ip6tables -X || true",
            "ebtables -t nat -F; ebtables -t nat -X || true",
            "nft flush ruleset",
            "iptables -t nat -F; iptables -t mangle -F",
            "nft delete table bridge nat || true",
        ];
        let kind = self.dice.one(&kinds).expect("there are kinds");
        sh(&self.place, kind);
        self.neighbour();
        self.count("flushes");
    }

    fn tamper(&mut self) {
        let chain = self.some_chain();
        let kinds = [
            format!("iptables -D {chain} 1"),
            format!("iptables -I {chain} -j ACCEPT"),
            format!("iptables -A {chain} -s 192.0.2.7 -m comment --comment mine -j DROP"),
            "iptables -D FORWARD -j libvirt-in".to_owned(),
            "ip6tables -F libvirt-out".to_owned(),
            "ebtables -t nat -F PREROUTING".to_owned(),
            "ebtables -t nat -P libvirt-I-vnet7 DROP".to_owned(),
            "iptables -F ACME; iptables -D FORWARD -j ACME".to_owned(),
        ];
        let kind = self.dice.one(&kinds).expect("there are kinds");
        // What it is aimed at may just not be there.
        sh(&self.place, &format!("{{ {kind}; }} 2>/dev/null || true"));
        self.neighbour();
        self.count("rules tampered with");
    }

    /// Brings somebody else's rules back, as he would.
    pub(super) fn neighbour(&mut self) {
        sh(
            &self.place,
            &format!(
                "iptables-restore --noflush <<'END'\n{}END\niptables -C FORWARD -j ACME 2>/dev/null || iptables -I FORWARD -j ACME",
                acme()
            ),
        );
    }

    fn tap(&mut self) {
        let number = self.dice.below(24) * 10 + self.dice.below(2);
        let file = format!("{}.xml", device(number));
        if self.taps.contains(&number) {
            // Rules that go with a tap stay while something is broken.
            if self.broken.is_empty() && self.leaving.is_empty() {
                sh(&self.place, &format!("ip link del {}", device(number)));
                self.taps.remove(&number);
                self.written = true;
                self.count("taps gone");
            }
        } else if !self.broken.contains(&file) && !self.leaving.contains(&file) {
            // What a broken file says of a tap that is new, nobody knows.
            sh(&self.place, &tap_script(number));
            self.taps.insert(number);
            self.written = true;
            self.count("taps come");
        }
    }

    fn signal(&mut self, name: &str) {
        // A program that has not begun to listen is ended by a hangup, and one that has just been started may not have.
        while !catches_hangups(self.daemon.id()) {
            sleep(Duration::from_millis(5));
        }
        sh(&self.place, &format!("kill -{name} {}", self.daemon.id()));
        self.count("hangups");
    }

    fn restart(&mut self, signal: &str) {
        let _ = Command::new("kill").args([&format!("-{signal}"), &self.daemon.id().to_string()]).status();
        self.daemon.wait().expect("it is our child");
        if self.dice.below(2) == 0 {
            self.flush();
        }
        self.daemon = daemon(&self.place);
        self.count("restarts");
    }
}

/// Whether a process catches SIGHUP, the first signal; one that has ended need not.
fn catches_hangups(process: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { return true };
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_none_or(|mask| mask & 1 == 1)
}
