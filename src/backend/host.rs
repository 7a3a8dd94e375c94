//! Facts about the host that decide whether rules do what they say: switches of the kernel, ports of bridges, rules of a tool's other variant.
//!
//! Everything is read from `/proc` and by netlink, in the network namespace of the calling thread; a tool is run only where its tables are known to be there,
//! so that looking loads no module. What cannot be read is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoBridge, InfoData, LinkAttribute, LinkInfo};

use super::generation;
use super::probe::{Tool, Variant, legacy_tables};
use super::process;
use crate::addr::DeviceName;
use crate::plan::prerequisite::{Calls, Facts, Switches};
use crate::ruleset::{Family, Table, TableRules, save};

const SWITCHES: &str = "/proc/sys";
/// Not `/proc/net`: that is the namespace of the process' first thread.
const ARPTABLES: &str = "/proc/thread-self/net/arp_tables_names";
const ROUTES_6: &str = "/proc/thread-self/net/ipv6_route";
/// The flag of a route that a router advertisement brought: `RTF_ADDRCONF`.
const ADDRCONF: u32 = 0x0004_0000;
const LIMIT: Duration = Duration::from_secs(10);

/// The values of these switches; those that are not there are left out.
pub fn switches(paths: &BTreeSet<String>) -> Switches {
    let read = |path: &String| Some((path.clone(), std::fs::read_to_string(format!("{SWITCHES}/{path}")).ok()?.trim().to_owned()));
    paths.iter().filter_map(read).collect()
}

/// Sets a switch.
///
/// # Errors
/// When it is not there or we may not.
pub fn set(path: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("{SWITCHES}/{path}"), value)
}

/// Everything else that is to be known; `tools` are those in use.
pub async fn facts(tools: impl Iterator<Item = &Tool>, paths: &BTreeSet<String>) -> Facts {
    let mut other = BTreeMap::new();
    for tool in tools {
        if let Some(tables) = other_variant(tool).await {
            other.insert(tool.family, tables);
        }
    }
    let Links { ports, calls } = links().await.unwrap_or_default();
    Facts {
        switches: Some(switches(paths)),
        other,
        ports,
        calls,
        arptables: std::fs::read_to_string(ARPTABLES).is_ok_and(|names| !names.trim().is_empty()),
        autoconfigured: autoconfigured(&std::fs::read_to_string(ROUTES_6).unwrap_or_default(), |device| {
            std::fs::read_to_string(format!("{SWITCHES}/net/ipv6/conf/{device}/accept_ra")).is_ok_and(|value| value.trim() != "2")
        }),
    }
}

/// The tables that the other variant of a tool has, if it has any and they can be read.
async fn other_variant(tool: &Tool) -> Option<BTreeMap<Table, TableRules>> {
    let suffix = match tool.variant {
        Variant::NfTables if legacy_tables(tool.family)?.is_empty() => return None,
        Variant::NfTables => "legacy",
        // The generation of a namespace in which nobody ever wrote nf_tables rules.
        Variant::Legacy if tool.family == Family::Bridge || generation::generation().ok()? <= 1 => return None,
        Variant::Legacy => "nft",
    };
    let program = process::find_program(&format!("{}-{suffix}-save", tool.family.tool()))?;
    let finished = process::run(&program, &[], b"", LIMIT).await.ok()?;
    save::parse(tool.family, &String::from_utf8_lossy(&finished.output)).ok()
}

/// What the kernel's devices say of bridges.
#[derive(Debug, Default)]
struct Links {
    /// The bridge of every device that is a port of one.
    ports: BTreeMap<DeviceName, DeviceName>,
    /// Bridges with switches of their own that are on.
    calls: BTreeMap<DeviceName, Calls>,
}

async fn links() -> Option<Links> {
    let (connection, handle, _unsolicited) = rtnetlink::new_connection().ok()?;
    let connection = tokio::spawn(connection);
    let links: Result<Vec<_>, _> = handle.link().get().execute().try_collect().await;
    connection.abort();
    let mut devices: HashMap<u32, DeviceName> = HashMap::new();
    let mut masters: Vec<(u32, u32)> = Vec::new();
    let mut bridges: Vec<(u32, Calls)> = Vec::new();
    for link in links.ok()? {
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => devices.extend(DeviceName::new(name).map(|name| (link.header.index, name))),
                LinkAttribute::Controller(master) => masters.push((link.header.index, *master)),
                LinkAttribute::LinkInfo(infos) => bridges.extend(calls(infos).map(|calls| (link.header.index, calls))),
                _ => {}
            }
        }
    }
    let pair = |(port, master): (u32, u32)| Some((devices.get(&port)?.clone(), devices.get(&master)?.clone()));
    let ports = masters.into_iter().filter_map(pair).collect();
    let calls = bridges.into_iter().filter_map(|(bridge, calls)| Some((devices.get(&bridge)?.clone(), calls))).collect();
    Some(Links { ports, calls })
}

/// The switches of a bridge's own, where any is on.
fn calls(infos: &[LinkInfo]) -> Option<Calls> {
    let attributes =
        infos.iter().find_map(|info| if let LinkInfo::Data(InfoData::Bridge(attributes)) = info { Some(attributes) } else { None })?;
    let on = |is: fn(&InfoBridge) -> bool| attributes.iter().any(is);
    let calls = Calls {
        ipv4: on(|attribute| matches!(attribute, InfoBridge::NfCallIpTables(true))),
        ipv6: on(|attribute| matches!(attribute, InfoBridge::NfCallIp6Tables(true))),
        arp: on(|attribute| matches!(attribute, InfoBridge::NfCallArpTables(true))),
    };
    (calls != Calls::default()).then_some(calls)
}

/// The devices of routes that router advertisements brought and that a forwarding host would lose (networks.md 6.2).
fn autoconfigured(routes: &str, loses: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let device = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        (flags & ADDRCONF != 0).then(|| words.get(9).map(|name| (*name).to_owned()))?
    };
    routes.lines().filter_map(device).filter(|device| loses(device)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_from_an_advertisement_is_told_by_its_flag() {
        let zero = "0".repeat(32);
        let route = |flags: &str, device: &str| format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 {flags} {device}\n");
        let routes = route("00450003", "eth0") + &route("00000001", "eth1") + &route("00450003", "eth2");
        assert_eq!(autoconfigured(&routes, |device| device != "eth2"), BTreeSet::from(["eth0".to_owned()]));
    }

    #[test]
    fn a_switch_that_is_not_there_is_left_out() {
        let paths = BTreeSet::from(["net/ipv4/ip_forward".to_owned(), "net/none".to_owned()]);
        assert_eq!(switches(&paths).keys().collect::<Vec<_>>(), ["net/ipv4/ip_forward"]);
    }
}
