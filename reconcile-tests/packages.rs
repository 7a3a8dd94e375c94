//! What `make install` installs and what the packages hold, file by file, with the program as the tests have it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_bridgeward");

/// Everything with its mode, but for the guide: that is whatever `docs` holds.
const INSTALLED: &str = "
644 etc/bridgeward/bridgeward.toml
644 usr/lib/systemd/system/bridgeward.service
755 usr/sbin/bridgeward
644 usr/share/bash-completion/completions/bridgeward
644 usr/share/bridgeward/schemas/domain.rnc
644 usr/share/bridgeward/schemas/domain.rng
644 usr/share/bridgeward/schemas/filter.rnc
644 usr/share/bridgeward/schemas/filter.rng
644 usr/share/bridgeward/schemas/filterbinding.rnc
644 usr/share/bridgeward/schemas/filterbinding.rng
644 usr/share/bridgeward/schemas/interface.rnc
644 usr/share/bridgeward/schemas/interface.rng
644 usr/share/bridgeward/schemas/network.rnc
644 usr/share/bridgeward/schemas/network.rng
644 usr/share/bridgeward/schemas/types.rnc
644 usr/share/bridgeward/schemas/types.rng
644 usr/share/doc/bridgeward/50-bridgeward.conf
644 usr/share/doc/bridgeward/bridgeward.json
644 usr/share/doc/bridgeward/bridgeward.rules.yml
755 usr/share/doc/bridgeward/ifupdown/bridgeward
755 usr/share/doc/bridgeward/libvirt-hooks/network
755 usr/share/doc/bridgeward/libvirt-hooks/qemu
644 usr/share/doc/bridgeward/README.md
644 usr/share/doc/bridgeward/SECURITY.md
644 usr/share/doc/bridgeward/state/filters/dual-stack.xml
644 usr/share/doc/bridgeward/state/filters/ipv6-guard.xml
644 usr/share/doc/bridgeward/state/filters/service.xml
644 usr/share/doc/bridgeward/state/guests/build.xml
644 usr/share/doc/bridgeward/state/guests/database.xml
644 usr/share/doc/bridgeward/state/guests/mail.xml
644 usr/share/doc/bridgeward/state/guests/web.xml
644 usr/share/doc/bridgeward/state/networks/dmz.xml
644 usr/share/doc/bridgeward/state/networks/guests.xml
644 usr/share/doc/bridgeward/state/networks/storage.xml
644 usr/share/fish/vendor_completions.d/bridgeward.fish
644 usr/share/man/man5/bridgeward-state.5
644 usr/share/man/man5/bridgeward.toml.5
644 usr/share/man/man8/bridgeward.8
644 usr/share/zsh/vendor-completions/_bridgeward
";

/// The lines that a command prints; it has to succeed.
fn lines(command: &str) -> Vec<String> {
    let output = Command::new("bash").args(["-ec", command]).current_dir(ROOT).output().expect("`bash` runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("file names are ASCII").lines().map(str::to_owned).collect()
}

/// The files of a directory, as `MODE PATH`. None of them may be empty.
fn files(directory: &Path) -> BTreeSet<String> {
    let empty = lines(&format!("find {} -type f -empty", directory.display()));
    assert_eq!(empty, Vec::<String>::new());
    lines(&format!("find {} -type f -printf '%m %P\\n'", directory.display())).into_iter().collect()
}

/// What is to be installed, each path changed as a package has it.
fn expected(place: impl Fn(&str) -> String) -> BTreeSet<String> {
    let guide = lines("ls docs/*.md docs/*.svg").into_iter().map(|path| format!("644 usr/share/doc/bridgeward/{path}"));
    let all = INSTALLED.lines().filter(|line| !line.is_empty()).map(str::to_owned).chain(guide);
    all.map(|line| line.split_once(' ').map(|(mode, path)| format!("{mode} {}", place(path))).expect("mode and path")).collect()
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bridgeward-test-").tempdir().expect("a temporary directory can be made")
}

#[test]
fn make_install_puts_every_file_in_its_place_and_spares_a_configuration() {
    let directory = scratch();
    let install = format!("make -s install DESTDIR={} BINARY={PROGRAM}", directory.path().display());
    lines(&install);
    assert_eq!(files(directory.path()), expected(str::to_owned));
    let state = lines(&format!("cd {}/etc/bridgeward && find state -printf '%m %p\\n' | sort", directory.path().display()));
    assert_eq!(state, ["755 state", "755 state/filters", "755 state/guests", "755 state/networks"]);

    let configuration = directory.path().join("etc/bridgeward/bridgeward.toml");
    std::fs::write(&configuration, "strict = true\n").expect("the directory is ours");
    lines(&install);
    assert_eq!(std::fs::read_to_string(configuration).expect("the file is ours"), "strict = true\n");
}

#[test]
fn the_debian_package_holds_what_is_installed_in_debians_places() {
    let directory = scratch();
    let at = directory.path().display();
    let package = lines(&format!("contrib/debian/build-package.sh {PROGRAM} 1 {at}")).pop().expect("it prints the path");
    lines(&format!("dpkg-deb -x {package} {at}/root"));
    let place = |path: &str| match path {
        _ if path.starts_with("usr/share/man/") => format!("{path}.gz"),
        _ => path.replacen("usr/lib/", "lib/", 1),
    };
    let mut expected = expected(place);
    expected.extend(["changelog.gz", "copyright"].map(|name| format!("644 usr/share/doc/bridgeward/{name}")));
    assert_eq!(files(&directory.path().join("root")), expected);
    let depends = lines(&format!("dpkg-deb -f {package} Depends")).concat();
    for name in ["libc6", "libpcap0.8", "iptables", "ebtables", "init-system-helpers"] {
        assert!(depends.contains(name), "{name}: {depends}");
    }
    assert_eq!(lines(&format!("dpkg-deb -I {package} conffiles")), ["/etc/bridgeward/bridgeward.toml"]);
}

#[test]
fn the_rpm_package_holds_what_is_installed_in_fedoras_places() {
    let directory = scratch();
    let at = directory.path().display();
    let package = lines(&format!("contrib/rpm/build-package.sh {PROGRAM} 1 {at}")).pop().expect("it prints the path");
    let listed = lines(&format!("rpm -qp --queryformat '[%{{FILEMODES:octal}} %{{FILENAMES}}\\n]' {package}"));
    let files: BTreeSet<String> =
        listed.iter().filter_map(|line| line.strip_prefix("100")).map(|line| line.replacen(" /", " ", 1)).collect();
    let place = |path: &str| match path {
        _ if path.starts_with("usr/share/man/") => format!("{path}.gz"),
        _ => path.replace("zsh/vendor-completions", "zsh/site-functions"),
    };
    assert_eq!(files, expected(place));
    assert_eq!(lines(&format!("rpm -qpc {package}")), ["/etc/bridgeward/bridgeward.toml"]);
    assert!(listed.iter().any(|line| line == "40755 /etc/bridgeward/state"), "{listed:?}");
    let requires = lines(&format!("rpm -qp --requires {package}"));
    for name in ["iptables", "ebtables"] {
        assert!(requires.iter().any(|found| found == name), "{name}: {requires:?}");
    }
    let scripts = lines(&format!("rpm -qp --scripts {package}")).join("\n");
    for words in ["preset bridgeward.service", "disable --now bridgeward.service", "try-restart bridgeward.service"] {
        assert!(scripts.contains(words), "{words}: {scripts}");
    }
}
