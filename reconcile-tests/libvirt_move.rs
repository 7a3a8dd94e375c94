//! libvirt's own directories as a state, and a host moved from libvirt to bridgeward and back: the same rules, and no moment in which
//! a guest is open.

use std::fs;

use rustix::process::Signal;

use crate::fixture::FILTER;
use crate::world::World;

/// Libvirt's directories, as an operator names them.
pub const LIBVIRT: [&str; 6] = [
    "--state=/etc/libvirt/nwfilter",
    "--state=/etc/libvirt/qemu/networks",
    "--state=/run/libvirt/network",
    "--state=/run/libvirt/nwfilter-binding",
    "--quirks=libvirt",
    "--run-dir=/run/bridgeward",
];

fn virsh(world: &World, command: &str, xml: &str) {
    let file = world.scratch("object.xml");
    fs::write(&file, xml).expect("the scratch directory takes files");
    world.sh(&format!("virsh -q -c qemu:///system {command} {}", file.display()));
}

fn network(number: usize, forward: &str) -> String {
    format!(
        "<network><name>net{number}</name>{forward}<bridge name='virbr{number}'/>\
         <ip address='10.7{number}.0.1' prefix='24'><dhcp><range start='10.7{number}.0.100' end='10.7{number}.0.200'/></dhcp></ip></network>"
    )
}

fn binding(number: usize, filter: &str) -> String {
    format!(
        "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1c{number:02}</uuid></owner>\
         <portdev name='vnet{number}'/><mac address='52:54:00:77:00:{number:02}'/>\
         <filterref filter='{filter}'><parameter name='IP' value='10.71.0.1{number:02}'/></filterref></filterbinding>"
    )
}

/// Three networks that libvirt runs and one that it does not, and guests that it guards.
fn libvirt_host(guests: usize) -> World {
    let world = World::with_libvirt();
    for (number, forward) in ["<forward mode='nat'/>", "<forward mode='route'/>", ""].iter().enumerate() {
        virsh(&world, "net-define", &network(number + 1, forward));
        world.sh(&format!("virsh -q -c qemu:///system net-start net{}", number + 1));
    }
    virsh(&world, "net-define", &network(4, ""));
    virsh(&world, "nwfilter-define", &FILTER.replace("'web'", "'their-filter'"));
    for number in 1..=guests {
        world.sh(&format!("ip link add vnet{number} type veth peer name inside{number}; ip link set vnet{number} master virbr1 up"));
        let filter = ["their-filter", "clean-traffic", "no-mac-spoofing"][number % 3];
        virsh(&world, "nwfilter-binding-create", &binding(number, filter));
    }
    world
}

/// Rules of libvirt, whatever the order of the blocks of its objects.
fn rules(world: &World) -> Vec<String> {
    let mut rules: Vec<String> = world.save_all().lines().map(str::to_owned).collect();
    rules.sort();
    rules
}

/// Ends this world's processes of a name, and nobody else's, and waits until they are gone.
pub fn stop(world: &World, name: &str, signal: Signal) {
    world.sh(&format!(
        "for process in /proc/[0-9]*; do
          if [ \"$(readlink $process/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" ] && [ \"$(cat $process/comm)\" = {name} ]; then
            kill -{} ${{process#/proc/}} || true
            while [ -e $process ] && ! grep -q '^State:.Z' $process/status; do sleep 0.1; done
          fi
        done",
        signal.as_raw()
    ));
}

#[test]
fn libvirts_own_directories_are_a_state_as_they_are() {
    let world = libvirt_host(20);
    let before = rules(&world);
    let synced = world.bridgeward(&[&["diff"][..], &LIBVIRT].concat());
    assert_eq!((synced.code, synced.stdout.as_str()), (Some(0), ""), "{synced}");

    let mut daemon = world.run_with(&[], &LIBVIRT);
    let in_sync = || world.bridgeward(&[&["diff"][..], &LIBVIRT].concat()).code == Some(0);
    world.sh("ebtables -t nat -F; ebtables -t nat -X; iptables -F; iptables -t nat -F; ip6tables -F; iptables -t mangle -F");
    daemon.wait_until("the repair", || rules(&world) == before);

    // libvirtd goes on working beside it.
    world.sh("ip link add vnet30 type veth peer name inside30; ip link set vnet30 master virbr1 up");
    virsh(&world, "nwfilter-binding-create", &binding(30, "their-filter"));
    world.sh("virsh -q -c qemu:///system net-start net4");
    virsh(&world, "nwfilter-define", &with_their_uuid(&world, &FILTER.replace("'web'", "'their-filter'").replace("443", "8443")));
    daemon.wait_until("libvirt's new objects", in_sync);
    let save = world.save_all();
    for words in ["-o virbr4", "libvirt-I-vnet30", "--dport 8443"] {
        assert!(save.contains(words), "`{words}` is missing:\n{save}");
    }
    world.sh("virsh -q -c qemu:///system nwfilter-binding-delete vnet30; virsh -q -c qemu:///system net-destroy net4");
    virsh(&world, "nwfilter-define", &with_their_uuid(&world, &FILTER.replace("'web'", "'their-filter'")));
    daemon.wait_until("everything as it was", || in_sync() && rules(&world) == before);
}

/// The filter with the UUID that libvirt gave it: a redefinition has to name it.
fn with_their_uuid(world: &World, filter: &str) -> String {
    let dump = world.sh("virsh -q -c qemu:///system nwfilter-dumpxml their-filter");
    let uuid = dump.lines().find(|line| line.contains("<uuid>")).expect("libvirt gives every filter a UUID");
    filter.replacen('>', &format!(">{}", uuid.trim()), 1)
}

/// A guest that sends from an address that is not its own, without a pause; what gets past ebtables is counted, in a table that
/// nobody else uses.
const LIE: &str = "
ip netns add liar
ip link set inside1 netns liar
ip -n liar link set inside1 address 52:54:00:77:00:01 up
ip -n liar address add 10.71.0.99/24 dev inside1
ip -n liar neighbour replace 10.71.0.1 lladdr $(ip -o link show virbr1 | grep -o 'link/ether [^ ]*' | cut -d' ' -f2) dev inside1
iptables -t raw -A PREROUTING -s 10.71.0.99
";

fn lies_that_got_through(world: &World) -> u64 {
    let counted = world.sh("iptables -t raw -L PREROUTING -v -x -n | awk '/10.71.0.99/ { print $1 }'");
    counted.trim().parse().unwrap_or_else(|_| panic!("not a number: {counted:?}"))
}

#[test]
fn a_host_is_moved_over_and_back_and_no_guest_is_open_meanwhile() {
    let world = libvirt_host(3);
    world.sh(LIE);
    let liar = world.serve("liar", &["ip", "netns", "exec", "liar", "ping", "-q", "-i", "0.005", "10.71.0.1"]);
    let before = rules(&world);

    // Over: the definitions, then the daemon, then libvirtd goes.
    let dry = world.bridgeward(&["import", "--dry-run", "--quirks", "libvirt"]);
    assert!(dry.code == Some(0) && dry.stdout.contains("networks/net1.xml"), "{dry}");
    assert_eq!(world.sh("ls state"), "");
    let imported = world.bridgeward(&["import", "--quirks", "libvirt"]);
    assert_eq!(imported.code, Some(0), "{imported}");
    assert!(imported.stderr.contains("network `net4` does not run"), "{imported}");
    let synced = world.bridgeward(&["diff", "--quirks", "libvirt"]);
    assert_eq!((synced.code, synced.stdout.as_str()), (Some(0), ""), "{synced}");
    let mut daemon = world.run(&["--quirks", "libvirt"]);
    daemon.wait_until_log("in sync");
    stop(&world, "libvirtd", Signal::TERM);
    assert_eq!(rules(&world), before, "libvirtd leaves its rules");
    world.sh("iptables -F FORWARD; ip6tables -F; iptables -t nat -F");
    daemon.wait_until("the repair without libvirtd", || rules(&world) == before);

    // And back: libvirtd comes, bridgeward goes and leaves the rules.
    let libvirtd = world.serve("libvirtd", &["libvirtd"]);
    daemon.wait_until("libvirtd", || {
        world.sh("virsh -q -c qemu:///system nwfilter-binding-list 2>/dev/null | grep -c vnet || true").trim() == "3"
    });
    daemon.wait_until("both agree", || rules(&world) == before && world.bridgeward(&["diff", "--quirks", "libvirt"]).code == Some(0));
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert_eq!(rules(&world), before);
    assert_eq!(lies_that_got_through(&world), 0, "a guest was open");

    // The guards, and they alone, kept the liar out: libvirt takes its rules away, for they are its own again.
    world.sh("virsh -q -c qemu:///system nwfilter-binding-delete vnet1; sleep 0.5");
    assert!(lies_that_got_through(&world) > 0, "the test itself sees nothing");
    drop((liar, libvirtd));
}

#[test]
fn an_import_does_not_overwrite_and_can_be_repeated() {
    let world = World::new();
    let from = world.scratch("from");
    fs::create_dir(&from).expect("the scratch directory is ours");
    let put = |name: &str, text: &str| fs::write(from.join(name), text).expect("the scratch directory takes files");
    put("theirs.xml", &format!("<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n{}", network(1, "")));
    put("web.xml", FILTER);
    put(
        "vm.xml",
        "<domain type='kvm'>\n  <name>vm</name>\n  <devices>\n    <graphics type='vnc' passwd='secret'/>\n    <interface type='bridge'>\n      \
         <mac address='52:54:00:77:00:09'/>\n      <target dev='tap9'/>\n      <filterref filter='web'><parameter name='IP' value='10.71.0.9'/></filterref>\n    \
         </interface>\n  </devices>\n</domain>\n",
    );
    let from = from.display().to_string();
    let import = |more: &[&str]| world.bridgeward(&[&["import", "--from", &from], more].concat());
    let answer = import(&[]);
    assert_eq!(answer.code, Some(0), "{answer}");
    let all = world.sh("cd state; find . -type f | sort; cat guests/vm.xml networks/net1.xml");
    assert!(all.starts_with("./filters/web.xml\n./guests/vm.xml\n./networks/net1.xml\n<domain>"), "{all}");
    assert!(!all.contains("secret") && !all.contains("WARNING"), "{all}");
    assert!(import(&[]).stderr.contains("0 files written"), "{answer}");
    put("web.xml", &FILTER.replace("443", "8443"));
    let answer = import(&[]);
    assert!(answer.code == Some(1) && answer.stderr.contains("--replace overwrites it"), "{answer}");
    let answer = import(&["--replace"]);
    assert!(answer.code == Some(0) && answer.stderr.contains("1 file written"), "{answer}");
    put("broken.xml", "<filter name='broken'><rule action='fly'/></filter>");
    let answer = import(&[]);
    assert!(answer.code == Some(1) && answer.stderr.contains("broken.xml:1") && answer.stderr.contains("nothing was written"), "{answer}");
}
