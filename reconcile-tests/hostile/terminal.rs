//! Names and comments that would act on a terminal: C1 control characters, and those that turn the direction of text. Nothing that people read holds one of them raw;
//! JSON holds the names themselves, in its own escapes.

use bridgeward::diagnostic::visible::is_unruly;
use serde_json::Value;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::World;

const NETWORK_NAME: &str = "lab\u{9b}2J\u{202e}\u{2066}\u{7f}\u{2028}x";
const FILTER_NAME: &str = "web\u{202e}\u{200f}";
const GUEST_NAME: &str = "vm\u{9b}31m\u{202e}";

/// A world in which everything has such a name, with a broken file and a warning.
fn evil() -> World {
    let world = World::new();
    world.write("lab.xml", &NETWORK.replace("lab</name>", &format!("{NETWORK_NAME}</name>")));
    let commented = FILTER.replace("<tcp dstportstart='443'/>", "<tcp dstportstart='443' comment='a\u{202e}b'/>");
    world.write("web.xml", &commented.replace("name='web'", &format!("name='{FILTER_NAME}'")));
    world.write("vnet0.xml", &guest(0, FILTER_NAME).replace("vm0", GUEST_NAME));
    world.write("vnet1.xml", &guest(1, "no\u{202e}such\u{9b}filter").replace("vm1", GUEST_NAME));
    world.write("dup.xml", &NETWORK.replace("lab</name>", &format!("{NETWORK_NAME}</name>")).replace("br-lab", "br\u{9b}\u{202e}"));
    world.write("odd.xml", "<network \u{202e}='\u{9b}'><name>a\u{9b}\u{202e}</name><na\u{202e}me/></network>");
    world.write("bi\u{202e}di.xml", "<filter name='x\u{202e}'><rule action='\u{202e}\u{9b}' direction='in'/></filter>");
    world
}

fn assert_tame(what: &str, text: &str) {
    let unruly = |letter: char| is_unruly(letter) && !matches!(letter, '\n' | '\t');
    let at = text.char_indices().find(|(_, letter)| unruly(*letter));
    assert!(at.is_none(), "{what} holds {at:?} of {text:?}");
}

#[test]
fn no_name_and_no_comment_acts_on_a_terminal() {
    let world = evil();
    world.bridgeward(&["apply"]);
    world.write(
        "lab2.xml",
        &NETWORK.replace("lab</name>", "other\u{202e}\u{9b}</name>").replace("br-lab", "br-two").replace("10.40.", "10.42."),
    );
    let shown: [&[&str]; 17] = [
        &["check", "-v"],
        &["diff"],
        &["diff", "--stat"],
        &["network", "list"],
        &["network", "show", "none\u{9b}\u{202e}"],
        &["filter", "list"],
        &["filter", "show", FILTER_NAME, "--graph", "svg"],
        &["filter", "show", FILTER_NAME, "--graph", "mermaid"],
        &["interface", "list"],
        &["interface", "show", "vnet0"],
        &["interface", "show", "vnet1"],
        &["graph"],
        &["graph", "--format", "svg"],
        &["graph", "--format", "mermaid"],
        &["--state", "no\u{9b}\u{202e}such", "check"],
        &["apply", "--dry-run"],
        &["apply"],
    ];
    for words in shown {
        let answer = world.bridgeward(words);
        assert!(!answer.stdout.is_empty() || !answer.stderr.is_empty(), "{answer}");
        assert_tame(&format!("{words:?} on stdout"), &answer.stdout);
        assert_tame(&format!("{words:?} on stderr"), &answer.stderr);
    }
}

#[test]
fn json_holds_the_names_themselves_in_its_own_escapes() {
    let world = evil();
    for words in [&["network", "list"][..], &["filter", "list"], &["interface", "list"], &["check"], &["render"], &["diff"]] {
        let answer = world.bridgeward(&[words, &["--format", "json"]].concat());
        assert_tame(&format!("{words:?}"), &answer.stdout);
        let document: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|fault| panic!("{fault}: {answer}"));
        let named =
            |list: &str, name: &str| document[list].as_array().is_some_and(|rows| rows.iter().any(|row| row.to_string().contains(name)));
        assert!(
            words != ["network", "list"] || named("networks", NETWORK_NAME.trim_matches('x').split('\u{7f}').next().expect("a part")),
            "{answer}"
        );
        assert!(words != ["filter", "list"] || named("filters", FILTER_NAME), "{answer}");
    }
}

/// What is data is printed byte for byte where a program reads it, and tame on a terminal.
#[test]
fn data_is_tame_on_a_terminal_and_exact_in_a_pipe() {
    let world = evil();
    let program = env!("CARGO_BIN_EXE_bridgeward");
    for (words, part) in [("render", "a\u{202e}b"), (&*format!("filter show '{FILTER_NAME}'"), "a\u{202e}b")] {
        let command = format!("{program} --state state {words}");
        let piped = world.sh(&format!("{command} 2>/dev/null || true"));
        assert!(piped.contains(part), "{piped}");
        world.sh(&format!(
            "cat >show.sh <<'END'\n{command} 2>/dev/null\nEND\nscript -qc 'bash show.sh' typed </dev/null >/dev/null || true"
        ));
        let typed =
            std::fs::read_to_string(world.scratch("typed")).expect("`script` writes it (Debian package bsdutils)").replace('\r', "");
        assert!(typed.contains("a\\u{202e}b"), "{typed}");
        assert_tame(words, &typed);
    }
}

#[test]
fn status_logs_and_metrics_hold_no_name_that_acts_on_a_terminal() {
    for log in ["text", "json"] {
        let world = evil();
        let config = world.scratch("bridgeward.toml");
        let metrics = world.scratch("bridgeward.prom");
        let text = format!("log = \"{log}\"\n[metrics]\ntextfile = {:?}\n", metrics.display().to_string());
        std::fs::write(&config, text).expect("the scratch directory takes files");
        let mut daemon = world.run(&["--config", &config.display().to_string()]);
        daemon.wait_until("the first pass", || world.save("iptables").contains("br-lab") || world.save_all().contains("vnet0"));
        world.write("lab.xml", "<network");
        daemon.wait_until_log("never");
        world.sh("iptables -F");
        daemon.wait_until_log("drift repaired");
        let status = world.bridgeward(&["status"]);
        assert!(status.stdout.contains("vnet0"), "{status}");
        assert_tame("status", &status.stdout);
        let json = world.bridgeward(&["status", "--format", "json"]);
        assert_tame("status as JSON", &json.stdout);
        serde_json::from_str::<Value>(&json.stdout).unwrap_or_else(|fault| panic!("{fault}: {json}"));
        assert_tame(log, &daemon.log());
        if log == "json" {
            daemon
                .log()
                .lines()
                .for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap_or_else(|fault| panic!("{fault}: {line}"))));
        }
        assert_tame("metrics", &std::fs::read_to_string(&metrics).expect("they are written"));
    }
}
