//! Texts that libvirt reads as something else than they seem to say: refused in `fixed` quirks, warned about in `libvirt` quirks.

use std::net::Ipv4Addr;

use crate::diagnostic::Diagnostic;
use crate::parse::report::Report;
use crate::parse::value::accept_classic;
use crate::source::Span;

/// Why a text is read only because libvirt reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Laxity {
    /// Hexadecimal digits without `0x`; the number they give.
    BareHex(u32),
    /// A minus sign; what libvirt's 32-bit arithmetic makes of it.
    NegativeNumber(u32),
    /// Blanks or a plus sign before a number, which is the number all the same.
    PaddedNumber(u32),
    /// Fewer than four parts, octal or hexadecimal ones; the address they give.
    ClassicIpv4(Ipv4Addr),
    /// Something behind the blank that ends an Ethernet address.
    TextAfterMac,
    /// A word that is neither a yes nor a no, which libvirt takes for the latter.
    UnknownFlag,
    /// A blank in the name of a set: `iptables-save` prints it without quotes, and `iptables-restore` cannot read that back.
    BlankInSetName,
    /// More bytes than the 255 that the kernel keeps of a comment.
    LongComment,
    /// Something behind the `]` of a variable reference.
    TextAfterIndex,
    /// A `$` alone.
    NamelessVariable,
}

impl Laxity {
    /// Tells about `text`, the value of `attribute` at `span`.
    pub(super) fn report(self, attribute: &str, text: &str, span: Span, report: &mut Report<'_>) {
        if let Self::ClassicIpv4(address) = self {
            let quirks = report.quirks();
            // The caller goes on with the address in either case.
            let _ = accept_classic(text, address, span, quirks, report.diagnostics());
            return;
        }
        report.add_lax(self.diagnostic(attribute, text, span));
    }

    fn diagnostic(self, attribute: &str, text: &str, span: Span) -> Diagnostic {
        let fault = |code, message: String, label: String| Diagnostic::error(code, message, span, label);
        match self {
            Self::BareHex(number) => fault(
                "bare-hex-number",
                format!("`{text}` is a hexadecimal number without `0x`"),
                format!("libvirt reads this as {number}"),
            )
            .help(format!("write `{number}` or `{number:#x}`")),
            Self::NegativeNumber(number) => {
                fault("negative-number", format!("`{text}` is negative"), format!("libvirt reads this as {number}"))
                    .help(format!("write `{number}` if that is meant"))
            }
            Self::PaddedNumber(number) => {
                fault("padded-number", format!("`{text}` is not digits alone"), format!("libvirt reads this as {number}"))
                    .help(format!("write `{number}`"))
            }
            Self::ClassicIpv4(address) => fault("ambiguous-ipv4-address", format!("`{text}` is `{address}`"), String::new()),
            Self::TextAfterMac => fault(
                "text-after-mac-address",
                format!("`{text}` goes on after the Ethernet address"),
                "libvirt ignores everything after the blank".into(),
            )
            .help("write the address alone"),
            Self::UnknownFlag => fault(
                "unknown-flag",
                format!("`{text}` is neither yes nor no"),
                format!("libvirt reads `{attribute}` as no here, which leaves the match out"),
            )
            .help("write `yes` or `no`, in lower case"),
            Self::BlankInSetName => fault(
                "blank-in-set-name",
                format!("the set name `{text}` contains a blank"),
                "`iptables-restore` cannot read back what `iptables-save` prints for this name".into(),
            )
            .help("rename the set with `ipset rename`"),
            Self::LongComment => fault(
                "long-comment",
                format!("the comment has {} bytes", text.len()),
                "expected at most 255 bytes; libvirt and iptables cut off the rest".into(),
            )
            .help("shorten it, or say the rest in an XML comment"),
            Self::TextAfterIndex => fault(
                "text-after-variable",
                format!("`{text}` goes on after the `]`"),
                "expected the end of the value; libvirt ignores the rest".into(),
            )
            .help("a variable is the whole value; it cannot be a part of one"),
            Self::NamelessVariable => fault(
                "nameless-variable",
                format!("`{text}` names no variable"),
                "expected a name after the `$`; nothing can give this a value".into(),
            ),
        }
    }
}
