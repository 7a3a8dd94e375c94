//! A daemon that only looks, one that only plans, and plans that are carried out exactly or not at all.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::World;

fn world() -> World {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world
}

/// Everything that bridgeward remembers in this world, locks and sockets left out.
fn remembered(world: &World) -> String {
    world.sh("cd /run/bridgeward 2>/dev/null || exit 0; find . -name '*.json*' | sort | xargs --no-run-if-empty sha256sum")
}

/// The kernel's rules, and how often they were written.
fn kernel(world: &World) -> String {
    world.save_all() + &world.sh("iptables-save -c | grep -v '^#'; ip6tables-save -c | grep -v '^#'")
}

/// A plan of what is to be done, by `diff --out`.
fn plan(world: &World) -> PathBuf {
    let path = world.scratch("plan.json");
    let answer = world.bridgeward(&["diff", "--out", &path.display().to_string()]);
    assert_eq!(answer.code, Some(1), "{answer}");
    path
}

#[test]
fn an_observer_reports_drift_and_writes_nothing() {
    let world = world();
    world.apply();
    world.sh("iptables -F FO-vnet0; ebtables -t nat -F libvirt-I-vnet0");
    let (kernel_before, record_before) = (kernel(&world), remembered(&world));
    let mut daemon = world.run(&["--mode", "observe", "--poll", "100ms"]);
    daemon.wait_until_log("the kernel is not what the files say");
    world.write("vnet1.xml", &guest(1, "web"));
    daemon.wait_until_log("interface `vnet1`: ");
    assert_eq!(kernel(&world), kernel_before, "{}", daemon.log());
    assert_eq!(remembered(&world), record_before, "{}", daemon.log());
    world.delete("vnet1.xml");
    world.sh("iptables-save >/dev/null");
    // Somebody tells it to apply: that is no observing.
    world.apply();
    daemon.wait_until_log("no longer: drift");
    world.assert_in_sync();
}

#[test]
fn an_observer_of_a_host_without_rules_makes_no_record() {
    let world = world();
    let mut daemon = world.run(&["--mode", "observe", "--poll", "100ms"]);
    daemon.wait_until_log("the kernel is not what the files say");
    assert_eq!(remembered(&world), "");
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
}

#[test]
fn a_planner_writes_what_it_would_do_and_only_that_is_done() {
    let world = world();
    let path = world.scratch("next.json");
    let config = world.scratch("bridgeward.toml");
    fs::write(&config, format!("mode = \"plan\"\nplan_file = {path:?}\nstate = [{:?}]\n", world.state())).expect("a file");
    let mut daemon = world.run_with(&[], &["--config", &config.display().to_string(), "--poll", "100ms"]);
    daemon.wait_until("the plan", || path.exists());
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
    let document: Value = serde_json::from_str(&fs::read_to_string(&path).expect("the plan")).expect("JSON");
    assert_eq!(document["plan"]["in_sync"], false, "{document:#}");
    let answer = world.bridgeward(&["apply", "--plan", &path.display().to_string()]);
    assert_eq!(answer.code, Some(0), "{answer}\n{}", daemon.log());
    assert!(world.save_all().contains("FO-vnet0"), "{answer}");
    world.assert_in_sync();
    daemon.wait_until("the plan of nothing", || fs::read_to_string(&path).is_ok_and(|text| text.contains("\"in_sync\": true")));
}

#[test]
fn a_plan_tells_of_rules_whose_file_is_gone() {
    let world = world();
    world.write("vnet1.xml", &guest(1, "web"));
    let path = world.scratch("next.json");
    let config = world.scratch("bridgeward.toml");
    let configure = |mode| {
        let text = format!("mode = \"{mode}\"\nplan_file = {path:?}\nstate = [{:?}]\n", world.state());
        fs::write(&config, text).expect("the scratch directory takes files");
    };
    configure("enforce");
    let mut daemon = world.run_with(&[], &["--config", &config.display().to_string(), "--poll", "100ms"]);
    daemon.wait_until("the rules", || world.in_sync());
    world.write("vnet1.xml", "<interface");
    daemon.wait_until_log("interface `vnet1` is held");
    world.delete("vnet0.xml");
    daemon.wait_until_log("interface `vnet0` is held");
    world.delete("web.xml");
    configure("plan");
    daemon.signal(Signal::HUP);
    daemon.wait_until("a plan", || path.exists());
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("the plan of the repair", || fs::read_to_string(&path).is_ok_and(|text| text.contains("-A FO-vnet0 ")));
}

#[test]
fn a_plan_is_carried_out_exactly() {
    let world = world();
    let path = plan(&world);
    let expected = world.bridgeward(&["diff"]).stdout;
    let document: Value = serde_json::from_str(&fs::read_to_string(&path).expect("the plan")).expect("JSON");
    let text: Vec<&str> = document["text"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    let shown: Vec<String> = expected.lines().map(|line| line.replace(&world.state().display().to_string(), "STATE")).collect();
    let kept: Vec<String> = text.iter().map(|line| line.replace(&world.state().display().to_string(), "STATE")).collect();
    assert_eq!(kept, shown);
    let answer = world.bridgeward(&["apply", "--plan", &path.display().to_string()]);
    assert_eq!(answer.code, Some(0), "{answer}");
    world.assert_in_sync();
    let again = world.bridgeward(&["apply", "--plan", &path.display().to_string()]);
    assert_eq!(again.code, Some(2), "a plan is carried out once: {again}");
}

#[test]
fn a_plan_is_refused_when_the_kernel_moved_and_says_what_did() {
    let world = world();
    world.apply();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    let path = plan(&world);
    world.sh("iptables -I FO-vnet0 -j ACCEPT; iptables -A LIBVIRT_INP -i other0 -j ACCEPT");
    let before = kernel(&world);
    let answer = world.bridgeward(&["apply", "--plan", &path.display().to_string()]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("chain iptables filter FO-vnet0 changed"), "{answer}");
    assert!(answer.stderr.contains("chain iptables filter LIBVIRT_INP changed"), "{answer}");
    assert_eq!(kernel(&world), before, "{answer}");
}

#[test]
fn a_plan_is_refused_when_files_or_settings_moved_and_says_which() {
    let world = world();
    let path = plan(&world).display().to_string();
    world.write("vnet1.xml", &guest(1, "web"));
    let answer = world.bridgeward(&["apply", "--plan", &path]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("vnet1.xml is new"), "{answer}");
    world.delete("vnet1.xml");
    let answer = world.bridgeward(&["apply", "--plan", &path, "--quirks", "libvirt"]);
    assert!(answer.stderr.contains("setting `quirks` was fixed and is libvirt"), "{answer}");
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
    // All as it was: now it may.
    assert_eq!(world.bridgeward(&["apply", "--plan", &path]).code, Some(0));
    world.assert_in_sync();
}

#[test]
fn a_plan_that_somebody_edited_is_refused() {
    let world = world();
    let path = plan(&world);
    let text = fs::read_to_string(&path).expect("the plan").replace("\"-j DROP\"", "\"-j ACCEPT\"");
    fs::write(&path, text).expect("the file is ours");
    let answer = world.bridgeward(&["apply", "--plan", &path.display().to_string()]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("the plan was edited"), "{answer}");
    fs::write(&path, "{\"v\": 9}").expect("the file is ours");
    let answer = world.bridgeward(&["apply", "--plan", &path.display().to_string()]);
    assert!(answer.code == Some(2) && answer.stderr.contains("version 9"), "{answer}");
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
}

#[test]
fn the_shape_of_a_plan_file_is_documented() {
    let world = world();
    let document: Value = serde_json::from_str(&fs::read_to_string(plan(&world)).expect("the plan")).expect("JSON");
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).expect("the document");
    let section = text.split("\n## ").find(|section| section.starts_with("plan file\n")).expect("a section on plan files");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let below = |name: &str| keys(&document[name]).into_iter().map(|key| format!("{name}.{key}")).collect::<Vec<_>>();
    let mut found = [keys(&document), below("bound_to")].concat();
    found.extend(keys(&document["bound_to"]["settings"]).into_iter().map(|key| format!("bound_to.settings.{key}")));
    found.extend(keys(&document["bound_to"]["host"]).into_iter().map(|key| format!("bound_to.host.{key}")));
    for key in found.iter().filter(|key| *key != "bound_to") {
        assert!(section.contains(&format!("`{key}`")), "`{key}` is not in docs/json.md: {found:?}");
    }
}

/// As a build machine checks things out, where everybody may write everything.
#[test]
fn what_only_prints_reads_a_checkout_that_everybody_may_write_and_apply_refuses_it() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    let config = world.scratch("bridgeward.toml");
    std::fs::write(&config, "quirks = \"fixed\"\n").expect("the scratch directory takes files");
    world.sh("chmod 0777 state; chmod 0666 state/*.xml bridgeward.toml");
    let config = config.display().to_string();
    let exposed = "can be written by everybody; as open are 2 more files or directories";
    for words in [
        &["check"][..],
        &["render"],
        &["graph"],
        &["network", "list"],
        &["network", "show", "lab"],
        &["filter", "list"],
        &["interface", "list"],
    ] {
        let answer = world.bridgeward(&[&["--config", &config], words].concat());
        assert_eq!(answer.code, Some(0), "{answer}");
        assert!(answer.stderr.contains("the configuration, which `apply` would refuse"), "{answer}");
        let tells = ["check", "render"].contains(&words[0]);
        assert!(!tells || answer.stderr.contains(exposed), "{answer}");
    }
    let diff = world.bridgeward(&["diff"]);
    assert_eq!(diff.code, Some(1), "{diff}");
    assert!(diff.stdout.contains("LIBVIRT_FWO") && diff.stderr.contains(exposed), "{diff}");
    assert!(diff.stderr.contains("`apply` refuses this state"), "{diff}");
    for words in [&["--config", &config, "diff"][..], &["apply"], &["--config", &config, "apply"]] {
        let answer = world.bridgeward(words);
        assert_eq!(answer.code, Some(2), "{answer}");
        assert!(answer.stderr.contains("can be written by everybody"), "{answer}");
    }
    assert!(!world.save_all().contains("vnet0"), "nothing was installed");
}
