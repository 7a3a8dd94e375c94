//! What the soak is made of, by number and variant: state files, taps, and the rules of somebody else.

/// Somebody else's chain, as `iptables-save` prints it.
pub(super) fn acme() -> String {
    let rules = (0..20).fold(String::new(), |all, number| all + &format!("-A ACME -s 198.51.100.{number}/32 -j DROP\n"));
    format!("*filter\n:ACME - [0:0]\n{rules}COMMIT\n")
}

pub(super) fn network(number: u64, variant: u64) -> String {
    let mode = ["nat", "route", "open", "nat"][usize::try_from(variant).expect("few")];
    let port = if variant == 3 { "<nat><port start='1024' end='2048'/></nat>" } else { "" };
    format!(
        "<network><name>lab{number}</name><bridge name='br-lab{number}'/><forward mode='{mode}'>{port}</forward>
        <ip address='10.4{number}.0.1' prefix='24'><dhcp><range start='10.4{number}.0.9' end='10.4{number}.0.99'/></dhcp></ip>
        <ip family='ipv6' address='fd4{number}::1' prefix='64'/></network>"
    )
}

pub(super) fn filter(number: u64, variant: u64) -> String {
    let ports = (0..=variant).fold(String::new(), |all, port| {
        all + &format!("<rule action='accept' direction='in'><tcp dstportstart='{}'/></rule>", 440 + port + number * 10)
    });
    format!(
        "<filter name='filter{number}' chain='root'><filterref filter='clean-traffic'/>{ports}
        <rule action='drop' direction='in'><all/></rule><rule action='drop' direction='in'><all-ipv6/></rule></filter>"
    )
}

/// A tenth of the guests is matched to a tap by its address, a tenth learns; those have taps that come and go.
pub(super) fn guest(number: u64, filter: u64, variant: u64) -> String {
    let ip = format!("<parameter name='IP' value='10.4{}.{}.{}'/>", number % 3, variant, number % 250 + 2);
    let mac = format!("52:54:00:40:{:02x}:{:02x}", number >> 8, number & 255);
    match number % 10 {
        0 => format!(
            "<interface type='bridge'><mac address='{mac}'/><source bridge='br-lab0'/><filterref filter='filter{filter}'>{ip}</filterref></interface>"
        ),
        1 => format!(
            "<interface type='bridge'><mac address='{mac}'/><source bridge='br-lab0'/><target dev='{}'/><filterref filter='filter{filter}'/></interface>",
            device(number)
        ),
        _ => format!(
            "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1{number:03}</uuid></owner>
            <portdev name='{}'/><mac address='{mac}'/><filterref filter='filter{filter}'>{ip}</filterref></filterbinding>",
            device(number)
        ),
    }
}

pub(super) fn device(number: u64) -> String {
    format!("vnet{number}")
}

pub(super) fn tap_script(number: u64) -> String {
    let device = device(number);
    format!("ip tuntap add {device} mode tap; ip link set {device} address fe:54:00:40:{:02x}:{:02x} up", number >> 8, number & 255)
}
