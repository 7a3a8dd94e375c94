//! The monitors against the real kernel, each in a namespace of its own: what they hear, and that they know when they missed something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bridgeward::backend::generation::generation;
use bridgeward::monitor::links::{LinkMonitor, Links};
use bridgeward::monitor::rules::RuleMonitor;
use bridgeward::ruleset::{ChainId, ChainName, Family, Table};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::namespace::{in_new_namespace, sh};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the devices are these; the loopback is no Ethernet device.
async fn wait_for(links: &mut watch::Receiver<Links>, names: &[&str]) -> BTreeMap<String, u32> {
    let by_name = |links: &Links| links.iter().map(|(index, link)| (link.device.to_string(), *index)).collect::<BTreeMap<_, _>>();
    let wait = links.wait_for(|links| by_name(links).keys().map(String::as_str).eq(names.iter().copied()));
    let found = timeout(PATIENCE, wait).await.map(|found| by_name(&found.expect("the monitor lives")));
    found.unwrap_or_else(|_| panic!("{names:?} never came; there are {:?}", by_name(&links.borrow())))
}

#[test]
fn devices_are_followed_through_bridges_renames_and_rebirth() {
    in_new_namespace(async || {
        let monitor = LinkMonitor::new().await.expect("the kernel tells of devices");
        let mut links = monitor.subscribe();
        wait_for(&mut links, &[]).await;
        sh("ip tuntap add vnet0 mode tap; ip link add br0 type bridge");
        let first = wait_for(&mut links, &["br0", "vnet0"]).await;
        sh("ip link set vnet0 master br0; ip link set vnet0 up; ip link set vnet0 nomaster");
        sh("ip link add probe type bridge");
        let after = wait_for(&mut links, &["br0", "probe", "vnet0"]).await;
        assert_eq!(first["vnet0"], after["vnet0"], "a tap that leaves its bridge is not gone");
        sh("ip link set vnet0 down; ip link set vnet0 name vnet9");
        assert_eq!(wait_for(&mut links, &["br0", "probe", "vnet9"]).await["vnet9"], first["vnet0"], "a rename keeps the index");
        sh("ip link del vnet9; ip link del probe; ip tuntap add vnet9 mode tap");
        assert_ne!(wait_for(&mut links, &["br0", "vnet9"]).await["vnet9"], first["vnet0"], "another device under its name");
        sh("ip link set br0 address 02:00:00:00:00:01");
        let changed = links.wait_for(|links| links.values().any(|link| link.mac.to_string() == "02:00:00:00:00:01"));
        timeout(PATIENCE, changed).await.expect("the new address is seen").expect("the monitor lives");
    });
}

#[test]
fn a_storm_of_devices_ends_with_those_that_are_there() {
    in_new_namespace(async || {
        let monitor = LinkMonitor::new().await.expect("the kernel tells of devices");
        let mut links = monitor.subscribe();
        // Nobody receives meanwhile, for this thread waits for the script: with this many the socket overflows.
        sh("for n in $(seq 100); do echo link add d$n type veth peer name p$n; echo link set d$n up; done | ip -batch -
            for n in $(seq 2 100); do echo link del d$n; done | ip -batch -");
        wait_for(&mut links, &["d1", "p1"]).await;
    });
}

#[test]
fn a_transaction_is_heard_with_its_number_its_author_and_its_chains() {
    in_new_namespace(async || {
        sh("iptables -N mine; iptables -t nat -N mine; ebtables -t nat -N mine");
        let bell = Arc::new(Notify::new());
        let monitor = RuleMonitor::new(Arc::clone(&bell)).expect("the kernel has nf_tables");
        sh("iptables -A mine -j ACCEPT; ebtables -t nat -P mine DROP; iptables -t nat -X mine; nft add table inet firewalld; iptables -S");
        timeout(PATIENCE, bell.notified()).await.expect("it rings");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let news = monitor.take();
        let authors: Vec<String> = news.transactions.iter().map(|one| one.writer.clone().expect("the kernel names it").command).collect();
        assert_eq!(authors, ["iptables", "ebtables", "iptables", "nft"]);
        assert_eq!(news.transactions.last().map(|last| last.generation), generation().ok());
        let chain = |family, table| vec![ChainId { family, table, chain: ChainName::new("mine") }];
        let touched: Vec<Vec<ChainId>> = news.transactions.iter().map(|one| one.touched.chains().collect()).collect();
        let expected = [chain(Family::Ipv4, Table::Filter), chain(Family::Bridge, Table::Nat), chain(Family::Ipv4, Table::Nat), Vec::new()];
        assert_eq!(touched, expected);
        assert!(news.transactions[3].touched.is_empty() && !news.overflow);
    });
}

#[test]
fn a_flushed_rule_set_names_every_chain_that_it_takes() {
    in_new_namespace(async || {
        sh("iptables -N one; iptables -N two; iptables -A FORWARD -j one");
        let bell = Arc::new(Notify::new());
        let monitor = RuleMonitor::new(Arc::clone(&bell)).expect("the kernel has nf_tables");
        sh("nft flush ruleset");
        timeout(PATIENCE, bell.notified()).await.expect("it rings");
        let news = monitor.take();
        let touched: Vec<String> =
            news.transactions.iter().flat_map(|one| one.touched.chains()).map(|chain| chain.chain.to_string()).collect();
        for chain in ["FORWARD", "one", "two"] {
            assert!(touched.iter().any(|name| name == chain), "{chain} is not in {touched:?}");
        }
    });
}

#[test]
fn an_overflow_is_noticed_and_the_next_transaction_is_heard() {
    in_new_namespace(async || {
        let bell = Arc::new(Notify::new());
        let monitor = RuleMonitor::with_buffer(Arc::clone(&bell), 4096).expect("the kernel has nf_tables");
        // Nobody receives meanwhile, for this thread waits for the script.
        sh(
            "{ echo '*filter'; echo ':many - [0:0]'; seq -f '-A many -p tcp --dport %.0f -j ACCEPT' 1000; echo COMMIT; } | iptables-restore --noflush",
        );
        timeout(PATIENCE, bell.notified()).await.expect("it rings");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(monitor.take().overflow);
        sh("iptables -N after");
        timeout(PATIENCE, bell.notified()).await.expect("it rings again");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let news = monitor.take();
        assert_eq!(news.transactions.last().map(|last| last.generation), generation().ok());
        assert!(!news.overflow);
    });
}

#[test]
fn what_was_verified_is_taken_out_and_what_came_later_stays() {
    in_new_namespace(async || {
        let bell = Arc::new(Notify::new());
        let monitor = RuleMonitor::new(Arc::clone(&bell)).expect("the kernel has nf_tables");
        sh("iptables -N one");
        let verified = generation().expect("the kernel names it");
        sh("iptables -N two");
        timeout(PATIENCE, bell.notified()).await.expect("it rings");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(monitor.take_through(verified).last().map(|last| last.generation), Some(verified));
        assert_eq!(monitor.take().transactions.first().map(|first| first.generation), Some(verified + 1));
    });
}
