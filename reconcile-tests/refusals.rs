//! What a tool refuses stays out alone: the guest behind it is closed or keeps what it had, everybody else gets their rules.

use crate::fixture::guest;
use crate::world::{Answer, World};

/// A filter whose rule the tool refuses as long as there is no set of that name.
const WITH_SET: &str = "<filter name='friends' chain='root'>
  <rule action='accept' direction='in'>
    <all ipset='acme-friends' ipsetflags='src'/>
  </rule>
</filter>
";

/// The root chains of a guest that may neither send nor receive.
fn is_closed(world: &World, device: &str) -> bool {
    let save = world.save("ebtables");
    let names_it = |line: &str| line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == device);
    let about: Vec<&str> = save.lines().filter(|line| line.starts_with("-A") && names_it(line)).collect();
    about
        == [
            format!("-A PREROUTING -i {device} -j libvirt-I-{device}"),
            format!("-A POSTROUTING -o {device} -j libvirt-O-{device}"),
            format!("-A libvirt-I-{device} -j DROP"),
            format!("-A libvirt-O-{device} -j DROP"),
        ]
}

/// A refusal shows the XML, not only the tool's words.
fn assert_names(answer: &Answer, place: &str) {
    assert!(answer.stdout.contains(place), "`{place}` is not named:\n{answer}");
}

#[test]
fn one_refused_binding_among_a_hundred_is_closed_and_the_others_are_in() {
    let world = World::new();
    world.write("friends.xml", WITH_SET);
    for number in 0..100 {
        let filter = if number == 57 { "friends" } else { "clean-traffic" };
        world.write(&format!("vnet{number}.xml"), &guest(number, filter).replace("10.40.0.1", "10.40.1."));
    }
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_names(&answer, "friends.xml:");
    assert_names(&answer, "vnet57");
    let save = world.save("ebtables");
    for number in (0..100).filter(|number| *number != 57) {
        let rule = format!("-A I-vnet{number}-ipv4-ip -p IPv4 --ip-src 10.40.1.{number} -j RETURN");
        assert!(save.contains(&rule), "vnet{number} lacks its rules:\n{answer}");
    }
    assert!(is_closed(&world, "vnet57"), "{save}");
    assert!(!world.save("iptables").contains("vnet57"), "{}", world.save("iptables"));

    world.sh("ipset create acme-friends hash:ip");
    world.apply();
    world.assert_in_sync();
    assert!(world.save("iptables").contains("--match-set acme-friends"), "{}", world.save("iptables"));
    assert!(!world.save("ebtables").contains("vnet57"), "the guest has no layer-2 rules: {}", world.save("ebtables"));
}

#[test]
fn several_refused_bindings_are_all_found() {
    let world = World::new();
    world.write("friends.xml", WITH_SET);
    for number in 0..12 {
        let filter = if number % 4 == 1 { "friends" } else { "clean-traffic" };
        world.write(&format!("vnet{number}.xml"), &guest(number, filter).replace("10.40.0.1", "10.40.1."));
    }
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    for number in 0..12 {
        let device = format!("vnet{number}");
        assert_eq!(is_closed(&world, &device), number % 4 == 1, "{device}: {answer}\n{}", world.save("ebtables"));
    }
}

#[test]
fn a_guest_whose_new_rules_are_refused_keeps_the_old_ones() {
    let world = World::new();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    world.apply();
    let good = world.save_all();
    world.write("friends.xml", &WITH_SET.replace("<rule", "<filterref filter='clean-traffic'/>\n  <rule"));
    world.write("vnet0.xml", &guest(0, "friends"));
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_names(&answer, "friends.xml:");
    let rules = |text: &str| text.lines().filter(|line| line.contains("vnet")).collect::<Vec<_>>().join("\n");
    assert_eq!(rules(&world.save_all()), rules(&good), "{answer}");
}

#[test]
fn a_refused_binding_does_not_stop_the_daemon_from_serving_the_others() {
    let world = World::new();
    world.write("friends.xml", WITH_SET);
    world.write("vnet0.xml", &guest(0, "friends"));
    let mut daemon = world.run(&[]);
    daemon.wait_until("the refused guest to be closed", || is_closed(&world, "vnet0"));
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    daemon.wait_until("the other guest", || world.save("ebtables").contains("--ip-src 10.40.0.11"));
    assert!(is_closed(&world, "vnet0"), "{}", world.save("ebtables"));
}

#[test]
fn a_refused_rule_of_a_filter_that_many_share_is_found_in_few_tries() {
    let world = World::new();
    world.write("friends.xml", WITH_SET);
    let with_address = WITH_SET.replace("friends", "acquainted").replace("<all", "<all srcipaddr='$IP'");
    world.write("acquainted.xml", &with_address);
    let filters = ["friends", "acquainted", "clean-traffic"];
    for number in 0..90 {
        let file = guest(number, filters[number % 3]).replace("10.40.0.1", "10.40.1.");
        world.write(&format!("vnet{number}.xml"), &file);
    }
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    for number in 0..90 {
        let device = format!("vnet{number}");
        assert_eq!(is_closed(&world, &device), filters[number % 3] != "clean-traffic", "{device}: {answer}");
    }
    let refusals = answer.stdout.matches("refuses a rule of it").count();
    assert!((2..10).contains(&refusals), "{refusals} refusals: {answer}");
    assert!(answer.stdout.contains("whose filter this one shares"), "{answer}");
}

#[test]
fn guests_that_are_each_refused_a_rule_of_their_own_are_all_found() {
    let world = World::new();
    world.write("own.xml", &WITH_SET.replace("friends", "own").replace("acme-own", "$SET"));
    for number in 0..40 {
        let set = if number % 10 == 9 { "there".to_owned() } else { format!("missing{number}") };
        let file = guest(number, "own").replace("10.40.0.1", "10.40.1.");
        let parameter = format!("<parameter name='SET' value='{set}'/></filterref>");
        world.write(&format!("vnet{number}.xml"), &file.replace("</filterref>", &parameter));
    }
    world.sh("ipset create there hash:ip");
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    for number in 0..40 {
        assert_eq!(is_closed(&world, &format!("vnet{number}")), number % 10 != 9, "{number}: {answer}");
    }
    assert_eq!(world.save("iptables").matches("--match-set there").count(), 3 * 4, "{}", world.save("iptables"));
}
