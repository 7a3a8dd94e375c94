//! The command line: exit codes, what goes where, and what needs neither root nor a kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::fixture::{self, FILTER, NETWORK, guest};
use crate::rules;
use crate::world::World;

/// The example that comes with the program.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/state");

#[test]
fn the_example_state_has_no_fault_not_even_a_warning() {
    let answer = World::new().bridgeward(&["check", "--strict", "--state", EXAMPLE]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(!answer.stderr.contains("warning"), "{answer}");
}

#[test]
fn an_empty_state_says_how_to_begin() {
    let world = World::new();
    for command in ["check", "diff", "apply"] {
        let answer = world.bridgeward(&[command]);
        assert_eq!(answer.code, Some(0), "{answer}");
        for words in ["no file that ends in `.xml` in ", "/usr/share/doc/bridgeward/state"] {
            assert!(answer.stderr.contains(words), "`{words}` is missing: {answer}");
        }
    }
    let filled = fixture::world().bridgeward(&["check"]);
    assert!(!filled.stderr.contains("no file"), "{filled}");
}

#[test]
fn check_shows_all_faults_of_all_files_with_their_places() {
    let world = fixture::world();
    world.write("a.xml", "<network>\n  <name>a</name>\n  <forward mode='natt'/>\n</network>\n");
    world.write("b.xml", "<filter name='b'>\n  <rule action='acept' direction='in'/>\n</filter>\n");
    let answer = world.bridgeward(&["check"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    for place in ["a.xml:3:18", "b.xml:2:17"] {
        assert!(answer.stderr.contains(place), "`{place}` is not named: {answer}");
    }
}

#[test]
fn diff_and_dry_run_change_nothing_and_exit_1_then_0() {
    let world = fixture::world();
    for arguments in [&["diff"][..], &["diff", "--stat"], &["diff", "--format", "json"], &["apply", "--dry-run"]] {
        let answer = world.bridgeward(arguments);
        assert_eq!(answer.code, Some(1), "{answer}");
        assert!(!answer.stdout.is_empty(), "{answer}");
        assert!(!world.save_all().contains("-A "), "{answer}\n{}", world.save_all());
    }
    world.apply();
    for arguments in [&["diff"][..], &["diff", "--stat"], &["diff", "--format", "json"]] {
        assert_eq!(world.bridgeward(arguments).code, Some(0), "{arguments:?}");
    }
}

#[test]
fn diff_names_the_xml_behind_every_rule() {
    let answer = fixture::world().bridgeward(&["diff"]);
    for words in ["lab.xml:", "web.xml:", "-i br-lab -o br-lab -j ACCEPT", "FO-vnet0", "libvirt-I-vnet0"] {
        assert!(answer.stdout.contains(words), "`{words}` is missing: {answer}");
    }
}

#[test]
fn json_is_one_versioned_document() {
    let world = fixture::world();
    for arguments in [&["diff", "--format", "json"][..], &["render", "--format", "json"], &["check", "--format", "json"]] {
        let answer = world.bridgeward(arguments);
        let document: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(document["v"], 1, "{answer}");
    }
}

#[test]
fn what_render_prints_is_what_apply_installs() {
    let (applied, rendered) = (World::new(), World::new());
    let answer = applied.bridgeward(&["apply", "--state", EXAMPLE]);
    assert_eq!(answer.code, Some(0), "{answer}");
    for (family, tool) in [("ipv4", "iptables"), ("ipv6", "ip6tables"), ("bridge", "ebtables")] {
        let answer = rendered.bridgeward(&["render", "--state", EXAMPLE, "--family", family]);
        assert_eq!(answer.code, Some(0), "{answer}");
        let input = rendered.scratch(tool);
        fs::write(&input, &answer.stdout).expect("the scratch directory takes files");
        rendered.sh(&format!("{tool}-restore <{}", input.display()));
    }
    let read = |world: &World| rules::normal(rules::parse(&world.save_all()));
    assert_eq!(rules::difference(&read(&applied), &read(&rendered)), "");
    let synced = rendered.bridgeward(&["diff", "--state", EXAMPLE]);
    assert_eq!(synced.code, Some(0), "{synced}");
}

#[test]
fn the_order_and_the_names_of_files_do_not_matter() {
    let (forwards, backwards) = (World::new(), World::new());
    let files = [NETWORK.to_owned(), FILTER.to_owned(), guest(0, "web"), guest(1, "clean-traffic")];
    for (number, text) in files.iter().enumerate() {
        forwards.write(&format!("{number}.xml"), text);
        backwards.write(&format!("{}.xml", 9 - number), text);
    }
    let render = |world: &World| world.bridgeward(&["render"]).stdout;
    assert!(render(&forwards).contains("FO-vnet0"));
    assert_eq!(render(&forwards), render(&backwards));
}

#[test]
fn saved_rules_are_compared_without_root_and_without_a_kernel() {
    let world = fixture::world();
    world.apply();
    let mut observed = vec!["diff".to_owned()];
    for tool in ["iptables", "ip6tables", "ebtables"] {
        let file = world.scratch(&format!("{tool}.save"));
        fs::write(&file, world.sh(&format!("{tool}-save"))).expect("the scratch directory takes files");
        observed.extend(["--observed".to_owned(), file.display().to_string()]);
    }
    let program = world.scratch("bridgeward");
    fs::copy(env!("CARGO_BIN_EXE_bridgeward"), &program).expect("the program can be copied");
    fs::set_permissions(world.scratch(""), fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    let nobody = |arguments: &str| {
        let command = format!(
            "BRIDGEWARD_STATE={} setpriv --reuid=65534 --regid=65534 --clear-groups {} {arguments} 2>&1 && code=0 || code=$?; echo \"exit code $code\"",
            world.state().display(),
            program.display()
        );
        world.sh(&command)
    };
    let answer = nobody(&observed.join(" "));
    assert!(answer.ends_with("exit code 0\n"), "{answer}");
    world.delete("vnet0.xml");
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    let answer = nobody(&observed.join(" "));
    assert!(answer.contains("libvirt-I-vnet1") && answer.ends_with("exit code 1\n"), "{answer}");
    let answer = nobody("render");
    assert!(answer.contains("libvirt-I-vnet1") && answer.ends_with("exit code 0\n"), "{answer}");
}

#[test]
fn a_state_directory_that_is_missing_is_trouble_and_deletes_nothing() {
    let world = fixture::world();
    world.apply();
    let good = world.save_all();
    for command in ["check", "render", "diff", "apply"] {
        let answer = world.bridgeward(&[command, "--state", "/nowhere/at/all"]);
        assert_eq!(answer.code, Some(2), "{answer}");
        assert_eq!(answer.stderr.matches("No such file").count(), 1, "the cause is told once: {answer}");
        assert!(answer.stderr.contains("/nowhere/at/all") && answer.stderr.contains("help: create it"), "{answer}");
    }
    assert_eq!(world.save_all(), good);
}

#[test]
fn a_tool_that_is_missing_is_trouble_and_is_named() {
    let world = fixture::world();
    // A search path with everything but ebtables.
    world
        .sh("mkdir some; for tool in /usr/sbin/* /usr/bin/* /sbin/* /bin/*; do ln -sf $tool some/; done 2>/dev/null; rm -f some/ebtables*");
    let path = world.scratch("some").display().to_string();
    let answer = world.bridgeward_with(&[("PATH", &path)], &["apply"]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("ebtables"), "{answer}");
}

#[test]
fn an_unknown_key_in_the_configuration_is_shown_with_a_caret() {
    let world = fixture::world();
    let config = world.scratch("bridgeward.toml");
    fs::write(&config, "strict = false\nqirks = \"fixed\"\n").expect("the scratch directory takes files");
    let answer = world.bridgeward(&["check", "--config", &config.display().to_string()]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("bridgeward.toml:2:1") && answer.stderr.contains('^'), "{answer}");
}

#[test]
fn the_shipped_configuration_is_read() {
    let world = fixture::world();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/bridgeward.toml");
    let answer = world.bridgeward(&["check", "--config", shipped]);
    assert_eq!(answer.code, Some(0), "{answer}");
}

#[test]
fn purge_leaves_an_empty_host_empty() {
    let world = World::new();
    let before = world.save_all();
    let applied = world.bridgeward(&["apply", "--state", EXAMPLE]);
    assert_eq!(applied.code, Some(0), "{applied}");
    let purged = world.bridgeward(&["purge"]);
    assert_eq!(purged.code, Some(0), "{purged}");
    let after = world.save_all();
    let left: Vec<&str> =
        after.lines().filter(|line| line.starts_with("-A") || line.contains("ibvirt") || line.contains("LIBVIRT")).collect();
    assert_eq!(left, Vec::<&str>::new(), "before:\n{before}");
}

#[test]
fn a_purge_that_cannot_see_the_rules_does_not_say_that_they_are_gone() {
    let world = fixture::world();
    world.apply();
    let program = world.scratch("bridgeward");
    fs::copy(env!("CARGO_BIN_EXE_bridgeward"), &program).expect("the program can be copied");
    fs::set_permissions(world.scratch(""), fs::Permissions::from_mode(0o777)).expect("the directory is ours");
    let answer = world.sh(&format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups {} --state state --run-dir own purge 2>&1 && code=0 || code=$?; echo \"exit code $code\"",
        program.display()
    ));
    assert!(answer.contains("rules cannot be read") && answer.ends_with("exit code 2\n"), "{answer}");
}

#[test]
fn applies_at_the_same_time_wait_for_each_other() {
    let world = fixture::world();
    let program = env!("CARGO_BIN_EXE_bridgeward");
    let state = world.state().display().to_string();
    let answers = world
        .sh(&format!("for number in 1 2 3 4 5 6; do ( {program} apply --state {state} >/dev/null; echo \"exit code $?\" ) & done; wait"));
    assert_eq!(answers, "exit code 0\n".repeat(6));
    world.assert_in_sync();
}

#[test]
fn what_is_no_file_is_a_fault_and_is_never_waited_for() {
    let world = fixture::world();
    world.sh("mkfifo state/pipe.xml; ln -s . state/loop; ln -s nowhere.xml state/dangling.xml; mkdir state/directory.xml");
    let answer = world.bridgeward(&["check"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stderr.contains("pipe.xml:1:1") && !answer.stderr.contains("loop"), "{answer}");
}

#[test]
fn filter_list_names_every_filter_and_its_users() {
    let world = fixture::world();
    let answer = world.bridgeward(&["filter", "list"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    let line = |name: &str| answer.stdout.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{answer}"));
    assert!(line("web").contains("web.xml:1") && line("web").ends_with("interface vnet0"), "{answer}");
    assert!(line("clean-traffic").contains("<stock>") && line("clean-traffic").ends_with("filter web"), "{answer}");
    world.write("broken.xml", "<filter name='broken'><rule action='fly'/></filter>");
    let answer = world.bridgeward(&["filter", "list", "--format", "json"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    let document: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert_eq!(document["v"], 1);
    let filters = document["filters"].as_array().expect("a list");
    let named = |name: &str| filters.iter().find(|filter| filter["name"] == name).unwrap_or_else(|| panic!("no {name}: {answer}"));
    assert_eq!((&named("web")["used_by"]["interfaces"][0], &named("web")["stock"]), (&"vnet0".into(), &false.into()));
    assert_eq!((&named("broken")["broken"], &named("allow-arp")["stock"]), (&true.into(), &true.into()));
}

#[test]
fn filter_show_prints_what_can_be_read_again() {
    let world = fixture::world();
    for name in ["clean-traffic", "web"] {
        let answer = world.bridgeward(&["filter", "show", name]);
        assert_eq!(answer.code, Some(0), "{answer}");
        assert!(answer.stdout.starts_with("<!-- ") && answer.stdout.contains(&format!("<filter name='{name}'")), "{answer}");
        let copy = World::new();
        copy.write("copy.xml", &answer.stdout);
        assert_eq!(copy.bridgeward(&["check"]).code, Some(0), "{answer}");
    }
    world.write("declared.xml", "<?xml version='1.0'?>\n<filter name='declared'/>\n");
    let answer = world.bridgeward(&["filter", "show", "declared"]);
    assert!(answer.stdout.starts_with("<?xml version='1.0'?>\n<!-- "), "{answer}");
}

#[test]
fn filter_show_draws_in_both_notations() {
    let world = fixture::world();
    for (notation, head, jump) in [("dot", "digraph \"web\" {", "label=\"all frames\""), ("mermaid", "flowchart TB", "|\"all frames\"|")] {
        let answer = world.bridgeward(&["filter", "show", "web", "--graph", notation]);
        assert_eq!(answer.code, Some(0), "{answer}");
        assert!(answer.stdout.starts_with(head) && answer.stdout.contains(jump), "{answer}");
        assert!(answer.stdout.contains("500: accept in tcp dstportstart=443 (web)"), "{answer}");
    }
}

#[test]
fn a_filter_that_is_not_there_is_said_with_the_nearest_name() {
    let world = fixture::world();
    let answer = world.bridgeward(&["filter", "show", "clean-trafic"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer}");
    assert!(answer.stderr.contains("did you mean `clean-traffic`?"), "{answer}");
    world.write("broken.xml", "<filter name='broken'><rule action='fly'/></filter>");
    let answer = world.bridgeward(&["filter", "show", "broken"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer}");
    assert!(answer.stderr.contains("broken.xml:1"), "{answer}");
}

#[test]
fn only_check_remarks_on_rules_that_are_right_and_hardly_meant() {
    let world = fixture::world();
    world.write(
        "web.xml",
        &FILTER.replace("<rule action='accept'", "<rule action='drop' direction='in' priority='1'><all/></rule><rule action='accept'"),
    );
    let answer = world.bridgeward(&["check"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(answer.stderr.contains("warning[unreachable-rule]"), "{answer}");
    assert_eq!(world.bridgeward(&["check", "--strict"]).code, Some(1));
    assert!(!world.bridgeward(&["render"]).stderr.contains("unreachable-rule"));
}

#[test]
fn help_and_version_go_to_stdout_and_nonsense_is_refused() {
    let world = World::new();
    for argument in ["--help", "--version"] {
        let answer = world.bridgeward(&[argument]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer}");
        assert!(answer.stdout.contains("bridgeward"), "{answer}");
    }
    let answer = world.bridgeward(&["fly"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{answer}");
}

#[test]
fn a_path_where_none_belongs_is_answered_with_the_option_for_it() {
    let answer = World::new().bridgeward(&["diff", "./state"]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("--state ./state"), "{answer}");
}

#[test]
fn a_time_that_cannot_be_polled_at_is_refused_by_the_command_line_too() {
    let world = World::new();
    for time in ["0s", "50ms", "9years", "10"] {
        let answer = world.bridgeward(&["run", "--poll", time]);
        assert_eq!(answer.code, Some(2), "{answer}");
        assert!(answer.stderr.contains("--poll"), "{answer}");
    }
}

#[test]
fn a_closed_pipe_is_success() {
    let world = World::new();
    let binary = env!("CARGO_BIN_EXE_bridgeward");
    let codes = world.sh(&format!("{binary} render --state {EXAMPLE} | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}"));
    assert_eq!(codes, "0\n");
}
