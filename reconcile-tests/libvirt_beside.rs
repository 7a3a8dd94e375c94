//! A real libvirtd on the same host, with a network and a guest that our state does not name: both sides live, neither sees the
//! other's rules as its own.

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Daemon, World};

const THEIR_NETWORK: &str = "<network>
  <name>theirs</name>
  <bridge name='virbr7'/>
  <forward mode='nat'/>
  <ip address='10.77.0.1' prefix='24'/>
  <ip family='ipv6' address='fd77::1' prefix='64'/>
</network>
";

const THEIR_GUEST: &str = "<filterbinding>
  <owner><name>theirs</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1c77</uuid></owner>
  <portdev name='vnet77'/>
  <mac address='52:54:00:77:00:01'/>
  <filterref filter='their-filter'><parameter name='IP' value='10.77.0.10'/></filterref>
</filterbinding>
";

/// Everything in the kernel that is libvirt's: rules that name its devices or its subnets, in their order.
fn theirs(world: &World) -> Vec<String> {
    let marks = ["virbr7", "vnet77", "10.77.0.", "fd77:"];
    world.save_all().lines().filter(|line| marks.iter().any(|mark| line.contains(mark))).map(str::to_owned).collect()
}

/// Has libvirt create an object from XML: `net-create`, `nwfilter-define`, `nwfilter-binding-create`.
fn virsh(world: &World, command: &str, xml: &str) {
    let file = world.scratch("object.xml");
    std::fs::write(&file, xml).expect("the scratch directory takes files");
    world.sh(&format!("virsh -c qemu:///system {command} {}", file.display()));
}

/// A world in which libvirt runs a network and guards a guest.
fn with_their_objects() -> World {
    let world = World::with_libvirt();
    virsh(&world, "net-create", THEIR_NETWORK);
    virsh(&world, "nwfilter-define", &FILTER.replace("'web'", "'their-filter'"));
    world.sh("ip tuntap add vnet77 mode tap; ip link set vnet77 master virbr7 up");
    virsh(&world, "nwfilter-binding-create", THEIR_GUEST);
    assert!(theirs(&world).len() > 60, "libvirt made less than expected:\n{}", world.save_all());
    world
}

fn write_ours(world: &World) {
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
}

#[test]
fn what_libvirt_runs_beside_us_is_never_touched() {
    let world = with_their_objects();
    let before = theirs(&world);
    write_ours(&world);
    world.apply();
    world.assert_in_sync();
    assert_eq!(theirs(&world), before, "apply");

    let mut daemon = world.run(&["--poll", "1s"]);
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    daemon.wait_until("a guest of ours", || world.save("ebtables").contains("vnet1"));
    world.sh("iptables -F LIBVIRT_INP; iptables -D FORWARD -j LIBVIRT_FWX");
    daemon.wait_until("the repair", || world.in_sync());
    drop(daemon);
    let but_flushed = |rules: &[String]| rules.iter().filter(|rule| !rule.contains("LIBVIRT_INP")).cloned().collect::<Vec<_>>();
    assert_eq!(but_flushed(&theirs(&world)), but_flushed(&before), "run");

    let purged = world.bridgeward(&["purge"]);
    assert_eq!(purged.code, Some(0), "{purged}");
    assert_eq!(but_flushed(&theirs(&world)), but_flushed(&before), "purge");
    let save = world.save_all();
    for ours in ["vnet0", "vnet1", "br-lab", "10.40.0."] {
        assert!(!save.contains(ours), "purge left `{ours}`:\n{save}");
    }
}

#[test]
fn libvirt_still_creates_and_destroys_after_a_purge() {
    let world = with_their_objects();
    let before = theirs(&world);
    write_ours(&world);
    world.apply();
    let purged = world.bridgeward(&["purge"]);
    assert_eq!(purged.code, Some(0), "{purged}");
    virsh(&world, "net-create", &THEIR_NETWORK.replace("theirs", "second").replace("virbr7", "virbr8").replace("77", "78"));
    world.sh("ip tuntap add vnet78 mode tap; ip link set vnet78 master virbr8 up");
    let second = THEIR_GUEST.replace("vnet77", "vnet78").replace("c1c77", "c1c78");
    virsh(&world, "nwfilter-binding-create", &second);
    assert!(world.save_all().contains("-o virbr8"), "{}", world.save_all());
    world.sh("virsh -c qemu:///system nwfilter-binding-delete vnet78
         virsh -c qemu:///system net-destroy second");
    assert!(!world.save_all().contains("virbr8"), "{}", world.save_all());
    assert_eq!(theirs(&world), before);
}

#[test]
fn what_libvirt_adds_after_us_is_left_alone_too() {
    let world = World::with_libvirt();
    write_ours(&world);
    world.apply();
    virsh(&world, "net-create", THEIR_NETWORK);
    let before = theirs(&world);
    assert!(before.len() > 25 && world.save_all().contains("-i br-lab"), "{}", world.save_all());
    world.assert_in_sync();
    world.delete("vnet0.xml");
    world.apply();
    world.delete("lab.xml");
    world.apply();
    assert_eq!(theirs(&world), before);
    world.sh("virsh -c qemu:///system net-destroy theirs");
    assert_eq!(theirs(&world), Vec::<String>::new());
}

#[test]
fn a_network_that_libvirt_runs_is_adopted_when_our_state_names_it() {
    let world = World::with_libvirt();
    virsh(&world, "net-create", THEIR_NETWORK);
    let before = world.save_all();
    world.write("theirs.xml", THEIR_NETWORK);
    world.assert_in_sync();
    world.apply();
    assert_eq!(world.save_all(), before);
}

#[test]
fn guests_that_libvirt_binds_and_unbinds_in_a_loop_and_ours_end_as_both_want() {
    let world = with_their_objects();
    let before = theirs(&world);
    write_ours(&world);
    let mut daemon = world.run(&["--poll", "1s"]);
    daemon.wait_until("our rules", || world.in_sync());
    let file = world.scratch("loop.xml");
    std::fs::write(&file, THEIR_GUEST).expect("the scratch directory takes files");
    let virsh = "virsh -q -c qemu:///system";
    // A binding that libvirtd begins in the middle of a commit of ours may fail (its ebtables survives no other writer): nobody can wait for what has not begun.
    // Asked again it succeeds.
    let script = format!(
        "for round in $(seq 8); do
           for try in $(seq 6); do
             {virsh} nwfilter-binding-delete vnet77
             {virsh} nwfilter-binding-create {0} && continue 2
           done
           echo given up; exit 1
         done
         echo bound and unbound",
        file.display()
    );
    let _loop = world.serve("virsh", &["bash", "-c", &script]);
    let said = || std::fs::read_to_string(world.scratch("virsh.log")).expect("the loop writes it");
    // We write meanwhile, too. (Somebody who flushed rules would fail libvirt's calls by himself: its ebtables does not survive any other writer.)
    let mut rounds = 0;
    while !said().contains("bound and unbound") {
        rounds += 1;
        let address = format!("10.40.0.{}", 20 + rounds);
        world.write("vnet0.xml", &guest(0, "web").replace("10.40.0.10", &address));
        let applied = || said().contains("given up") || world.save("ebtables").contains(&format!("--ip-src {address} -j RETURN"));
        daemon.wait_until("our change", applied);
        assert!(!said().contains("given up"), "{}\n{}", said(), daemon.log());
    }
    assert!(rounds > 2, "{rounds} changes of ours");
    assert_eq!(theirs(&world), before);
    world.assert_in_sync();
    assert!(!daemon.log().contains("is held") && !daemon.log().contains("refuses"), "{}", daemon.log());
}

#[test]
fn nothing_is_written_while_a_libvirtd_runs_a_tool_until_patience_ends() {
    let world = World::new();
    // One that runs a tool from `begin` to `end`.
    world.sh("cp /bin/bash libvirtd; cp /bin/bash ebtables; mkfifo start stop");
    let script = "while cat start; do ./ebtables -c 'touch begun; cat stop; true'; done";
    let _libvirtd = world.serve("libvirtd", &["./libvirtd", "-c", script]);
    let begin = || world.sh("rm -f begun; : >start; until [ -e begun ]; do sleep 0.01; done");
    let end = || world.sh(": >stop");
    let guarded = |device: &str| world.save("ebtables").contains(device);
    let impatient = |daemon: &Daemon| daemon.log().contains("`libvirtd` is at work");
    write_ours(&world);
    let mut daemon = world.run(&["--poll", "1s"]);
    daemon.wait_until("a libvirtd at rest is not waited for", || guarded("vnet0"));
    assert!(!impatient(&daemon), "{}", daemon.log());

    begin();
    world.write("vnet1.xml", &guest(1, "web"));
    for _ in 0..20 {
        // Only on a loaded host do these looks take longer than patience.
        assert!(!guarded("vnet1") || impatient(&daemon), "written beside a tool:\n{}", daemon.log());
    }
    end();
    daemon.wait_until("its tool has ended", || guarded("vnet1"));

    begin();
    world.write("vnet2.xml", &guest(2, "web"));
    daemon.wait_until("the end of patience", || guarded("vnet2"));
    assert!(impatient(&daemon), "{}", daemon.log());
    end();
}

#[test]
fn a_guest_that_both_of_us_guard_is_left_alone_while_libvirt_writes_it() {
    let world = with_their_objects();
    world.write("theirs.xml", THEIR_NETWORK);
    world.write("their-filter.xml", &FILTER.replace("'web'", "'their-filter'"));
    world.write("vnet77.xml", THEIR_GUEST);
    let mut daemon = world.run(&["--poll", "1s"]);
    daemon.wait_until("the first pass", || world.in_sync());
    let file = world.scratch("loop.xml");
    std::fs::write(&file, THEIR_GUEST).expect("the scratch directory takes files");
    for round in 0..10 {
        world.sh(&format!(
            "virsh -q -c qemu:///system nwfilter-binding-delete vnet77
            virsh -q -c qemu:///system nwfilter-binding-create {}",
            file.display()
        ));
        if round % 3 == 2 {
            // Left alone, the guest becomes what both say it is.
            daemon.wait_until("peace", || world.in_sync());
        }
    }
    daemon.wait_until("the guest's rules", || world.in_sync());
    let save = world.save("ebtables");
    assert!(save.contains("-A I-vnet77-ipv4-ip -p IPv4 --ip-src 10.77.0.10 -j RETURN"), "{save}");
    assert!(!save.contains("libvirt-J-vnet77") && !save.contains("libvirt-P-vnet77"), "{save}");
}

#[test]
fn what_a_libvirtd_left_half_made_goes_after_a_while_and_only_of_our_guests() {
    let world = World::new();
    write_ours(&world);
    world.apply();
    let before = world.save_all();
    let left = |device: &str| {
        format!(
            "ebtables -t nat -N libvirt-J-{device}; ebtables -t nat -N J-{device}-mac
            ebtables -t nat -A libvirt-J-{device} -j J-{device}-mac; ebtables -t nat -A PREROUTING -i {device} -j libvirt-J-{device}
            iptables -N FJ-{device}; iptables -A libvirt-in -m physdev --physdev-in {device} -g FJ-{device}\n"
        )
    };
    world.sh(&(left("vnet0") + &left("vnet77")));
    let mut daemon = world.run(&["--poll", "1s"]);
    daemon.wait_until("the leftovers of our guest are gone", || !world.save_all().contains("J-vnet0"));
    let save = world.save_all();
    let theirs: Vec<&str> = save.lines().filter(|line| line.contains("vnet77")).collect();
    assert_eq!(theirs.len(), 6, "{save}");
    let ours: Vec<&str> = save.lines().filter(|line| !line.contains("vnet77")).collect();
    assert_eq!(ours, before.lines().collect::<Vec<_>>());
}
