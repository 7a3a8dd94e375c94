//! The hostile files that are too large, or too little text, to lie in the folder: each is made here, by name.
//!
//! Nothing but the standard library, so that `measure.rs` can use it, too.

use std::fmt::Write as _;

/// Files that stand in one state directory together: names and bytes.
pub type Files = Vec<(String, Vec<u8>)>;

/// How large the large ones are.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Stands for a million.
    pub million: usize,
    /// Bytes of one huge value.
    pub huge: usize,
}

/// Every case: its name and its files.
pub fn cases(scale: Scale) -> Vec<(&'static str, Files)> {
    let mut cases: Vec<(&str, Files)> = Vec::new();
    cases.extend(bytes().into_iter().map(|(name, bytes)| (name, vec![("evil.xml".to_owned(), bytes)])));
    cases.extend(texts(scale).into_iter().map(|(name, text)| (name, vec![("evil.xml".to_owned(), text.into_bytes())])));
    cases.extend([
        ("filters-in-a-ring", ring(500)),
        ("filters-two-to-the-forty", doubling(40)),
        ("filters-two-to-the-forty-without-rules", doubling_without_rules(40)),
        ("filters-too-deep", chain(200)),
        ("filters-all-include-all", complete(40)),
        ("product-of-ten-to-the-ninth", product(1_000)),
        ("product-just-below-the-limit-in-many-guests", many_products(1_500)),
        ("list-of-one-repeated-value", repeated(100_000)),
        ("addresses-given-in-two-ways", both_ways(scale.million / 25)),
        ("addresses-in-none-of-many-subnets", outside(10_000)),
        ("variables-without-a-value-in-many-guests", valueless(scale.million / 20, 1_000)),
        ("variables-that-nearly-have-a-value-in-many-guests", nearly(300)),
        ("references-to-a-filter-without-rules", to_nothing(scale.million / 10)),
        ("one-subnet-many-times", same_subnet(5_000)),
        ("one-filter-name-in-many-files", same_filter(200)),
        ("one-device-in-many-files", same_device(200)),
    ]);
    cases
}

/// Files that are no UTF-8, or whose bytes do not survive an editor.
fn bytes() -> Vec<(&'static str, Vec<u8>)> {
    let network = "<network><name>evil</name><bridge name='br-evil'/></network>\n";
    let utf16 = |mark: &[u8], order: fn(u16) -> [u8; 2]| [mark, &network.encode_utf16().flat_map(order).collect::<Vec<u8>>()].concat();
    let named = |name: &[u8]| [b"<network><name>".as_slice(), name, b"</name><bridge name='br-evil'/></network>\n"].concat();
    vec![
        ("utf-16-little-endian", utf16(&[0xff, 0xfe], u16::to_le_bytes)),
        ("utf-16-big-endian", utf16(&[0xfe, 0xff], u16::to_be_bytes)),
        ("utf-16-without-mark", utf16(&[], u16::to_le_bytes)),
        ("utf-32", network.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()),
        ("utf-8-mark-twice", [b"\xef\xbb\xbf\xef\xbb\xbf", network.as_bytes()].concat()),
        ("utf-8-mark-alone", b"\xef\xbb\xbf".to_vec()),
        ("utf-8-lone-continuation", named(b"e\x80vil")),
        ("utf-8-overlong-null", named(b"e\xc0\x80vil")),
        ("utf-8-overlong-slash", named(b"e\xc0\xafvil")),
        ("utf-8-surrogate", named(b"e\xed\xa0\x80vil")),
        ("utf-8-five-bytes", named(b"e\xf8\x88\x80\x80\x80vil")),
        ("utf-8-beyond-unicode", named(b"e\xf4\x90\x80\x80vil")),
        ("utf-8-cut-short", [network.as_bytes(), b"<!-- \xe2\x82"].concat()),
        ("latin-1", named(b"\xe9vil")),
        ("null-in-name", named(b"e\0vil")),
        ("null-first", [b"\0", network.as_bytes()].concat()),
        ("nulls-alone", vec![0; 1 << 20]),
        ("elf", [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 4096]].concat()),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xb3\xc9\x4b\x2d\x29\xcf\x2f\xca\xb6\xd3\x07\x00".to_vec()),
        ("every-byte", (0..=255).cycle().take(1 << 16).collect()),
    ]
}

/// Texts that are large or deep.
fn texts(scale: Scale) -> Vec<(&'static str, String)> {
    let Scale { million, huge } = scale;
    let (hundred_thousand, mebibyte) = (million / 10, 1 << 20);
    let in_network = |inner: &str| format!("<network><name>evil</name><bridge name='br-evil'/>{inner}</network>\n");
    vec![
        ("a-million-levels", "<a>".repeat(million)),
        ("a-million-levels-closed", ["<a>".repeat(million), "</a>".repeat(million)].concat()),
        ("network-inside-network", ["<network>".repeat(hundred_thousand), "</network>".repeat(hundred_thousand)].concat()),
        (
            "a-million-attributes",
            format!("<network{}><name>evil</name></network>\n", numbered(million * 7 / 10, |at| format!(" a{at}=''"))),
        ),
        ("a-million-equal-attributes", format!("<network{}><name>evil</name></network>\n", " a=''".repeat(million))),
        ("sixty-attributes-in-each-element", in_network(&format!("<x{}/>", numbered(60, |at| format!(" a{at}=''"))).repeat(3_200))),
        ("a-million-elements", in_network(&"<a/>".repeat(million))),
        ("a-million-comments", in_network(&"<!---->".repeat(million))),
        ("a-million-instructions", in_network(&"<?a?>".repeat(million))),
        ("a-million-sections", in_network(&"<![CDATA[]]>".repeat(million * 6 / 10))),
        ("a-million-references", format!("<network><name>{}</name></network>\n", "&amp;".repeat(million))),
        ("a-million-unknown-references", format!("<network><name>{}</name></network>\n", "&lol;".repeat(million))),
        ("a-million-ampersands", format!("<network><name>{}</name></network>\n", "& ".repeat(million))),
        ("a-million-less-than-signs", "<".repeat(million)),
        ("a-million-end-tags", in_network(&"</a>".repeat(million))),
        ("a-million-quotes", format!("<network {}", "'\"".repeat(million))),
        ("one-byte-too-large", format!("<network>{}</network>\n", " ".repeat(2 * mebibyte))),
        ("huge-attribute", format!("<network ipv6='{}'><name>evil</name></network>\n", "y".repeat(huge))),
        ("huge-network-name", format!("<network><name>{}</name><bridge name='br-evil'/></network>\n", "n".repeat(huge))),
        ("huge-element-name", format!("<{}/>\n", "n".repeat(huge))),
        ("huge-comment", in_network(&format!("<!--{}-->", "c".repeat(huge)))),
        ("huge-line-of-blanks", in_network(&" ".repeat(huge))),
        ("huge-rule-comment", rule(&format!("<tcp comment='{}'/>", "c".repeat(huge)))),
        ("huge-number", rule(&format!("<tcp dstportstart='{}'/>", "9".repeat(huge)))),
        ("huge-address", rule(&format!("<ipv6 srcipaddr='{}'/>", "1:".repeat(huge / 3)))),
        ("huge-flags", rule(&format!("<tcp flags='{}/ALL'/>", "SYN,".repeat(huge / 5)))),
        ("huge-state", rule(&format!("<tcp state='{}NEW'/>", "NEW,".repeat(huge / 5)))),
        ("huge-device", binding(&"v".repeat(huge), "clean-traffic", "")),
        ("huge-reference", binding("vnet66", &"f".repeat(huge), "")),
        ("huge-parameter", binding("vnet66", "clean-traffic", &parameter("IP", &"1".repeat(huge)))),
        ("names-that-nearly-fit", in_network(&numbered(million * 6 / 100, |at| format!("<forwarrd{at:05}/>")))),
        ("words-that-nearly-fit", rule(&format!("<arp opcode='{}'/>", "request_".repeat(5)).repeat(million * 3 / 100))),
        (
            "a-fault-in-every-rule",
            format!("<filter name='evil'>{}</filter>\n", "<rule action='evil' direction='evil'><evil/></rule>".repeat(million * 6 / 100)),
        ),
        ("a-fault-in-every-guest", domain(&"<interface><target dev='a b'/></interface>".repeat(million * 4 / 100))),
        ("a-fault-in-every-port-group", in_network(&"<portgroup/>".repeat(million * 9 / 100))),
        (
            "references-to-nothing",
            format!(
                "<filter name='evil'>{}</filter>\n",
                numbered(hundred_thousand, |at| format!("<filterref filter='clean-traffik{at}'/>"))
            ),
        ),
        (
            "a-hundred-thousand-parameters",
            binding("vnet66", "clean-traffic", &numbered(hundred_thousand, |at| parameter(&format!("P{at}"), "1"))),
        ),
        (
            "a-hundred-thousand-addresses",
            binding("vnet66", "clean-traffic", &numbered(hundred_thousand, |at| parameter("IP", &dotted(at)))),
        ),
        (
            "a-hundred-thousand-networks",
            in_network(&numbered(hundred_thousand, |at| format!("<ip address='{}' prefix='32'/>", dotted(at)))),
        ),
        (
            "a-hundred-thousand-hosts",
            in_network(&format!(
                "<ip address='10.0.0.1' prefix='8'><dhcp>{}</dhcp></ip>",
                numbered(hundred_thousand, |at| format!("<host mac='52:54:00:00:00:00' name='h' ip='{}'/>", dotted(at)))
            )),
        ),
        (
            "a-hundred-thousand-routes",
            in_network(&numbered(hundred_thousand, |at| format!("<route address='{}' prefix='32' gateway='10.0.0.1'/>", dotted(at)))),
        ),
        (
            "one-device-many-times",
            domain(&"<interface type='bridge'><target dev='vnet66'/><filterref filter='clean-traffic'/></interface>".repeat(million / 25)),
        ),
        (
            "forty-thousand-interfaces-without-device",
            domain(&numbered(million / 25, |at| {
                format!("<interface type='bridge'><mac address='{}'/><filterref filter='clean-traffic'/></interface>", mac(at))
            })),
        ),
        (
            "every-other-interface-broken",
            domain(&numbered(million / 40, |at| if at % 2 == 0 { interface(at, "") } else { interface(at, "<filterref/>") })),
        ),
        ("huge-owner-of-many-guests", {
            let guests = numbered(2_000, |at| interface(at, "<filterref filter='clean-traffic'/>"));
            domain(&guests).replace(">evil<", &format!(">{}<", "n".repeat(huge / 2)))
        }),
        ("more-guests-than-a-file-holds", domain(&numbered(4_500, |at| interface(at, "<filterref filter='clean-traffic'/>")))),
    ]
}

/// Every filter includes the next, the last one the first.
fn ring(length: usize) -> Files {
    let filter = |at: usize| filter(&format!("evil{at}"), &format!("<filterref filter='evil{}'/>", (at + 1) % length));
    (0..length).map(filter).chain([guest("evil0")]).collect()
}

/// Every filter includes the next twice: 2^depth rules from a few hundred bytes.
fn doubling(depth: usize) -> Files {
    doubling_with(depth, "<rule action='drop' direction='in'><all/></rule>")
}

/// The same without a rule at its end: nothing to count, and a walk all the same.
fn doubling_without_rules(depth: usize) -> Files {
    doubling_with(depth, "")
}

fn doubling_with(depth: usize, rules: &str) -> Files {
    let next = |at: usize| format!("<filterref filter='evil{0}'/><filterref filter='evil{0}'/>", at + 1);
    let filters = (0..depth).map(|at| filter(&format!("evil{at}"), &next(at)));
    filters.chain([filter(&format!("evil{depth}"), rules), guest("evil0")]).collect()
}

/// Every filter includes the next.
fn chain(depth: usize) -> Files {
    let filters = (0..depth).map(|at| filter(&format!("evil{at}"), &format!("<filterref filter='evil{}'/>", at + 1)));
    filters.chain([filter(&format!("evil{depth}"), ""), guest("evil0")]).collect()
}

/// Every filter includes every other and itself.
fn complete(count: usize) -> Files {
    let all: String = (0..count).fold(String::new(), |all, at| all + &format!("<filterref filter='evil{at}'/>"));
    (0..count).map(|at| filter(&format!("evil{at}"), &all)).chain([guest("evil0")]).collect()
}

/// Three lists, each walked on its own.
fn product(length: usize) -> Files {
    let rule = "<rule action='accept' direction='in'><tcp srcipaddr='$A[@1]' dstportstart='$B[@2]' srcportstart='$C[@3]'/></rule>";
    let lists = (0..length).fold(String::new(), |mut lists, at| {
        let port = (at + 1).to_string();
        lists.extend([parameter("A", &dotted(at)), parameter("B", &port), parameter("C", &port)]);
        lists
    });
    vec![filter("evil0", rule), ("guest.xml".to_owned(), binding("vnet66", "evil0", &lists).into_bytes())]
}

/// Each guest may have as many rules as this; all of them together would fill any memory.
fn many_products(guests: usize) -> Files {
    let rule = "<rule action='accept' direction='in'><tcp srcportstart='$A[@1]' dstportstart='$B[@2]'/></rule>";
    let list = |name: &str| (1..=250).fold(String::new(), |list, at| list + &parameter(name, &at.to_string()));
    let nested = format!("<filterref filter='evil1'>{}{}</filterref>", list("A"), list("B"));
    let interfaces = numbered(guests, |at| interface(at, "<filterref filter='evil0'/>"));
    vec![filter("evil0", &nested), filter("evil1", rule), ("guests.xml".to_owned(), domain(&interfaces).into_bytes())]
}

/// A long list that amounts to one value, looked at by many rules.
fn repeated(length: usize) -> Files {
    let rules = "<rule action='accept' direction='in'><tcp dstportstart='$A'/></rule>".repeat(1_000);
    let list = parameter("A", "1").repeat(length / 2);
    vec![filter("evil0", &rules), ("guest.xml".to_owned(), binding("vnet66", "evil0", &list).into_bytes())]
}

/// An interface has many addresses itself, and its parameters give it as many others.
fn both_ways(addresses: usize) -> Files {
    let own = numbered(addresses, |at| format!("<ip address='{}'/>", dotted(at)));
    let given = numbered(addresses, |at| parameter("IP", &dotted(addresses + at)));
    let filter = format!("<filterref filter='no-mac-spoofing'>{given}</filterref>");
    let interface = format!("<interface type='bridge'><mac address='{}'/><target dev='vnet66'/>{own}{filter}</interface>", mac(66));
    vec![("guest.xml".to_owned(), domain(&interface).into_bytes())]
}

/// As many addresses as there are subnets, and none fits.
fn outside(count: usize) -> Files {
    let subnet = |at: usize| format!("<ip address='{}' prefix='32'/>", dotted(2 * at));
    let network = |first: usize| {
        let subnets = numbered(1_000, |at| subnet(first + at));
        let text = format!("<network><name>evil{first}</name><bridge name='br-e{first}'/>{subnets}</network>\n");
        (format!("network{first}.xml"), text.into_bytes())
    };
    let given = numbered(count, |at| parameter("IP", &dotted(2 * at + 1)));
    let guest = ("guest.xml".to_owned(), binding("vnet66", "no-mac-spoofing", &given).into_bytes());
    (0..count).step_by(1_000).map(network).chain([guest]).collect()
}

/// Many rules that lack a value, in many guests.
fn valueless(rules: usize, guests: usize) -> Files {
    let rules = numbered(rules, |_| "<rule action='drop' direction='in'><ip srcipaddr='$A'/></rule>".to_owned());
    let guests = numbered(guests, |at| interface(at, "<filterref filter='evil0'/>"));
    vec![filter("evil0", &rules), ("guests.xml".to_owned(), domain(&guests).into_bytes())]
}

/// As many variables as are told of a guest, and as many parameters, which all could be meant.
fn nearly(guests: usize) -> Files {
    let name = |at: usize| format!("{}{at:02}", "Q".repeat(37));
    let rules = numbered(64, |at| format!("<rule action='drop' direction='in'><ip srcipaddr='${}'/></rule>", name(at)));
    let given = numbered(64, |at| parameter(&format!("{}x{at:02}", "Q".repeat(36)), "1"));
    let filterref = format!("<filterref filter='evil0'>{given}</filterref>");
    vec![filter("evil0", &rules), ("guests.xml".to_owned(), domain(&numbered(guests, |at| interface(at, &filterref))).into_bytes())]
}

/// A filter with one rule and very many references to one without, included as often.
fn to_nothing(references: usize) -> Files {
    let to = |name: &str| format!("<filterref filter='{name}'/>").repeat(references);
    let one = format!("<rule action='drop' direction='in'><all/></rule>{}", to("evil2"));
    vec![filter("evil0", &to("evil1")), filter("evil1", &one), filter("evil2", ""), guest("evil0")]
}

/// Networks that have one subnet, each again and again.
fn same_subnet(times: usize) -> Files {
    let network = |first: usize| {
        let again = numbered(1_000, |at| format!("<ip address='{}' prefix='8'/>", dotted(first + at + 1)));
        let text = format!("<network><name>evil{first}</name><bridge name='br-e{first}'/>{again}</network>\n");
        (format!("network{first}.xml"), text.into_bytes())
    };
    (0..times).step_by(1_000).map(network).collect()
}

fn same_filter(files: usize) -> Files {
    (0..files).map(|at| (format!("f{at}.xml"), filter("evil0", "").1)).chain([guest("evil0")]).collect()
}

fn same_device(files: usize) -> Files {
    (0..files).map(|at| (format!("g{at}.xml"), guest("clean-traffic").1)).collect()
}

fn numbered(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect()
}

fn filter(name: &str, inner: &str) -> (String, Vec<u8>) {
    (format!("{name}.xml"), format!("<filter name='{name}' chain='root'>{inner}</filter>\n").into_bytes())
}

fn rule(inner: &str) -> String {
    format!("<filter name='evil'><rule action='accept' direction='in'>{inner}</rule></filter>\n")
}

fn guest(filter: &str) -> (String, Vec<u8>) {
    ("guest.xml".to_owned(), binding("vnet66", filter, &parameter("IP", "10.66.0.2")).into_bytes())
}

fn binding(device: &str, filter: &str, parameters: &str) -> String {
    format!(
        "<filterbinding><owner><name>evil</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1666</uuid></owner><portdev name='{device}'/>\
         <mac address='52:54:00:66:00:01'/><filterref filter='{filter}'>{parameters}</filterref></filterbinding>\n"
    )
}

fn interface(at: usize, filter: &str) -> String {
    format!("<interface type='bridge'><mac address='{}'/><target dev='evil{at}'/>{filter}</interface>", mac(at))
}

fn domain(interfaces: &str) -> String {
    format!("<domain type='kvm'><name>evil</name><devices>{interfaces}</devices></domain>\n")
}

fn parameter(name: &str, value: &str) -> String {
    format!("<parameter name='{name}' value='{value}'/>")
}

fn dotted(at: usize) -> String {
    format!("10.{}.{}.{}", at >> 16 & 255, at >> 8 & 255, at & 255)
}

fn mac(at: usize) -> String {
    let mut mac = "52:54:00".to_owned();
    for shift in [16, 8, 0] {
        write!(mac, ":{:02x}", at >> shift & 255).expect("a string takes it");
    }
    mac
}
