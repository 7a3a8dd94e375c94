//! Loading from real directories: which files count, what is a fault, what is a failure.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
    root
}

fn load_one(root: &TempDir) -> Loaded {
    load(&[root.path().to_owned()]).expect("it can be listed")
}

fn names(root: &TempDir, loaded: &Loaded) -> Vec<String> {
    let prefix = format!("{}/", root.path().display());
    loaded.files.iter().map(|file| file.path.strip_prefix(&prefix).expect("it lies below").to_owned()).collect()
}

fn only_fault(loaded: &Loaded) -> &Fault {
    assert_eq!((loaded.files.len(), loaded.faults.len()), (0, 1), "{loaded:?}");
    &loaded.faults[0]
}

#[test]
fn state_files_are_read_recursively_and_sorted_by_path() {
    let root = directory(&[("z.xml", b"<z/>"), ("a/b.xml", b"<b/>"), ("a.xml", b"<a/>"), ("a/c/d.xml", b"<d/>")]);
    let loaded = load_one(&root);
    assert_eq!(names(&root, &loaded), ["a.xml", "a/b.xml", "a/c/d.xml", "z.xml"]);
    assert_eq!(&*loaded.files[2].text, "<d/>");
    assert!(loaded.faults.is_empty());
}

#[test]
fn what_is_no_state_file_is_not_even_looked_at() {
    let leavings = [
        ".x.xml",
        ".x.xml.swp",
        "x.xml~",
        "#x.xml#",
        ".#x.xml",
        "#x.xml",
        "x.xml.bak",
        "x.xml.new",
        "sedAb12Cd",
        "x.XML",
        "README",
        ".git/x.xml",
    ];
    let files: Vec<(&str, &[u8])> = leavings.iter().map(|&name| (name, b"\xff\xfe not read".as_slice())).collect();
    assert_eq!(load_one(&directory(&files)), Loaded { audible: true, ..Loaded::default() });
}

#[test]
fn an_inode_is_read_once_and_shown_by_its_own_name_rather_than_a_links() {
    let root = directory(&[("net.xml", b"<network/>"), ("autostart/keep.xml", b"<network/>")]);
    symlink("../net.xml", root.path().join("autostart/net.xml")).expect("a link");
    fs::hard_link(root.path().join("net.xml"), root.path().join("other-name.xml")).expect("a link");
    assert_eq!(names(&root, &load_one(&root)), ["autostart/keep.xml", "net.xml"]);
}

#[test]
fn a_file_that_only_a_link_leads_to_is_read() {
    let outside = directory(&[("real", b"<network/>")]);
    let root = directory(&[]);
    symlink(outside.path().join("real"), root.path().join("link.xml")).expect("a link");
    assert_eq!(names(&root, &load_one(&root)), ["link.xml"]);
}

#[test]
fn directories_that_contain_themselves_end() {
    let root = directory(&[("a/x.xml", b"<x/>")]);
    symlink("..", root.path().join("a/up")).expect("a link");
    assert_eq!(names(&root, &load_one(&root)), ["a/x.xml"]);
}

#[test]
fn a_link_to_nothing_is_an_absent_file() {
    let root = directory(&[]);
    symlink("gone", root.path().join("x.xml")).expect("a link");
    assert_eq!(load_one(&root), Loaded::default());
}

#[test]
fn a_link_to_itself_is_a_fault() {
    let root = directory(&[]);
    symlink("x.xml", root.path().join("x.xml")).expect("a link");
    assert_eq!(only_fault(&load_one(&root)).code, "unreadable-file");
}

#[test]
fn a_missing_state_directory_is_a_failure_and_not_empty() {
    let root = directory(&[]);
    let failure = load(&[root.path().join("gone")]).expect_err("there is none");
    assert!(matches!(&failure, LoadFailure::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound), "{failure}");
    assert!(failure.to_string().starts_with("cannot read /"), "{failure}");
}

#[test]
fn a_given_file_is_read_whatever_its_name() {
    let root = directory(&[("saved.txt", b"<network/>")]);
    let loaded = load(&[root.path().join("saved.txt"), root.path().to_owned()]).expect("it is there");
    assert_eq!(names(&root, &loaded), ["saved.txt"]);
}

#[test]
fn a_fifo_socket_or_device_is_a_fault_and_blocks_nobody() {
    let root = directory(&[]);
    let fifo = root.path().join("fifo.xml");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a fifo");
    let device = root.path().join("zero.xml");
    let zero = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR, zero).expect("a device");
    let _listener = UnixListener::bind(root.path().join("socket.xml")).expect("a socket");
    let codes: Vec<_> = load_one(&root).faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["not-a-regular-file"; 3]);
}

#[test]
fn a_file_over_the_limit_is_a_fault_and_one_at_the_limit_is_not() {
    let full = vec![b' '; usize::try_from(FILE_LIMIT).expect("it fits")];
    assert_eq!(load_one(&directory(&[("x.xml", &full)])).files.len(), 1);
    let over = [full.as_slice(), b" "].concat();
    assert_eq!(only_fault(&load_one(&directory(&[("x.xml", &over)]))).code, "file-too-large");
}

#[test]
fn a_byte_that_is_not_utf8_is_shown_in_its_place() {
    let root = directory(&[("x.xml", b"<network>\n  <name>caf\xe9</name>\n")]);
    let loaded = load_one(&root);
    assert_eq!(only_fault(&loaded).label, "byte 0xe9 cannot stand here");
    let mut sources = Sources::default();
    let entered = loaded.faults[0].enter(FileId(7), &mut sources);
    let diagnostic = &entered.diagnostics[0];
    let position = sources.position(diagnostic.span());
    assert_eq!((position.line, position.column), (2, 12));
    assert_eq!(sources.text(diagnostic.span()), "\u{fffd}");
    assert_eq!(entered.broken[0].what, BrokenKind::Unknown);
}

#[test]
fn a_truncated_character_at_the_end_is_shown_too() {
    let loaded = load_one(&directory(&[("x.xml", b"<a/>\xe2\x82")]));
    let excerpt = only_fault(&loaded).excerpt.as_ref().expect("there is a text");
    assert_eq!((excerpt.at, excerpt.length, excerpt.text.len()), (4, 3, 7));
}

#[test]
fn utf16_is_named() {
    for bytes in [b"\xff\xfe<\0a\0".as_slice(), b"\xfe\xff\0<\0a".as_slice()] {
        assert_eq!(only_fault(&load_one(&directory(&[("x.xml", bytes)]))).code, "utf-16-file");
    }
}

#[test]
fn a_byte_order_mark_is_dropped() {
    assert_eq!(&*load_one(&directory(&[("x.xml", b"\xef\xbb\xbf<a/>")])).files[0].text, "<a/>");
}

#[test]
fn a_second_load_equals_the_first_until_a_file_changes() {
    let root = directory(&[("x.xml", b"<a/>")]);
    let first = load_one(&root);
    assert_eq!(first, load_one(&root));
    fs::write(root.path().join("x.xml"), "<b/>").expect("a file");
    let second = load_one(&root);
    assert_ne!(first, second);
    assert_ne!(first.files[0].stamp.hash, second.files[0].stamp.hash);
}

#[test]
fn what_others_may_write_is_refused_and_what_a_group_may_write_is_told() {
    let root = directory(&[("all.xml", b"<a/>"), ("group.xml", b"<a/>"), ("mine.xml", b"<a/>"), ("stranger.xml", b"<a/>")]);
    let at = |name: &str| root.path().join(name);
    fs::set_permissions(at("all.xml"), Permissions::from_mode(0o666)).expect("it is ours");
    fs::set_permissions(at("group.xml"), Permissions::from_mode(0o664)).expect("it is ours");
    chown(at("group.xml"), None, Some(1234)).expect("the tests run as root");
    chown(at("stranger.xml"), Some(1234), None).expect("the tests run as root");
    let loaded = load_one(&root);
    assert_eq!(names(&root, &loaded), ["group.xml", "mine.xml"]);
    let told = |faults: &[Fault]| faults.iter().map(|fault| (fault.code, fault.message.clone())).collect::<Vec<_>>();
    let faults = [
        ("exposed-file", "this file can be written by everybody".to_owned()),
        ("exposed-file", "this file belongs to user 1234, and not to root or to the owner of the state directory".to_owned()),
    ];
    assert_eq!(told(&loaded.faults), faults);
    assert_eq!(told(&loaded.remarks), [("group-writable", "the members of group 1234 can write this file".to_owned())]);
    let mut sources = Sources::default();
    assert_eq!(loaded.faults[0].enter(FileId(1), &mut sources).broken.len(), 1);
    assert_eq!(loaded.remarks[0].enter_remark(FileId(2), &mut sources).broken.len(), 0);
}

#[test]
fn what_only_prints_reads_what_others_may_write_and_says_so_once() {
    let root = directory(&[("a.xml", b"<a/>"), ("below/b.xml", b"<b/>"), ("c.xml", b"<c/>")]);
    for name in ["a.xml", "below", "below/b.xml"] {
        fs::set_permissions(root.path().join(name), Permissions::from_mode(0o777)).expect("it is ours");
    }
    let loaded = load_to_show(&[root.path().to_owned()]).expect("it is only looked at");
    assert_eq!(names(&root, &loaded), ["a.xml", "below/b.xml", "c.xml"]);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let told: Vec<_> = loaded.remarks.iter().map(|remark| (remark.code, &*remark.message)).collect();
    assert_eq!(told, [(EXPOSED, "this file can be written by everybody; as open are 2 more files or directories")]);
    let failure = load(&[root.path().to_owned()]).expect_err("rules are made of it");
    assert!(failure.to_string().ends_with("can be written by everybody, so nothing in it is read"), "{failure}");
}

#[test]
fn files_of_the_owner_of_the_named_directory_are_read() {
    let root = directory(&[("x.xml", b"<a/>")]);
    chown(root.path(), Some(1234), Some(1234)).expect("the tests run as root");
    chown(root.path().join("x.xml"), Some(1234), Some(1234)).expect("the tests run as root");
    assert_eq!(load_one(&root).files.len(), 1);
}

#[test]
fn a_directory_that_others_may_write_is_a_failure_and_not_empty() {
    for (exposed, mode) in [("", 0o777), ("below", 0o1777)] {
        let root = directory(&[("below/x.xml", b"<a/>")]);
        fs::set_permissions(root.path().join(exposed), Permissions::from_mode(mode)).expect("it is ours");
        let failure = load(&[root.path().to_owned()]).expect_err("everybody could put a file there");
        assert!(failure.to_string().ends_with("can be written by everybody, so nothing in it is read"), "{failure}");
    }
}

#[test]
fn a_link_is_as_good_as_its_target_and_the_way_there() {
    let outside = directory(&[("open/real.xml", b"<a/>"), ("safe/real.xml", b"<a/>"), ("safe/all.xml", b"<a/>")]);
    fs::set_permissions(outside.path().join("open"), Permissions::from_mode(0o777)).expect("it is ours");
    fs::set_permissions(outside.path().join("safe/all.xml"), Permissions::from_mode(0o666)).expect("it is ours");
    let root = directory(&[]);
    for (target, name) in [("open/real.xml", "a.xml"), ("safe/all.xml", "b.xml"), ("safe/real.xml", "c.xml"), ("/dev/zero", "d.xml")] {
        symlink(outside.path().join(target), root.path().join(name)).expect("a link");
    }
    let loaded = load_one(&root);
    assert_eq!(names(&root, &loaded), ["c.xml"]);
    let codes: Vec<_> = loaded.faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["exposed-file", "exposed-file", "not-a-regular-file"]);
    assert!(
        loaded.faults[0].message.contains("through which this link leads, can be written by everybody"),
        "{}",
        loaded.faults[0].message
    );
}

#[test]
fn a_sparse_file_of_ten_gigabytes_is_read_no_further_than_the_limit() {
    let root = directory(&[("x.xml", b"<a/>")]);
    File::options().write(true).open(root.path().join("x.xml")).and_then(|file| file.set_len(10 << 30)).expect("a sparse file");
    assert_eq!(only_fault(&load_one(&root)).code, "file-too-large");
}

#[test]
fn fifty_thousand_files_are_read() {
    let root = directory(&[]);
    for number in 0..50_000 {
        fs::write(root.path().join(format!("{number}.xml")), "<a/>").expect("a file");
    }
    assert_eq!(load_one(&root).files.len(), 50_000);
}

#[test]
fn a_file_that_did_not_change_is_not_opened_again() {
    let root = directory(&[("a.xml", b"<a/>"), ("b.xml", b"<b/>")]);
    let mut before = load_one(&root);
    before.files.iter_mut().for_each(|file| file.stamp.settled = true);
    before.files[0].text = "<as-it-was/>".into();
    let again = load_again(&[root.path().to_owned()], &before).expect("the directory is readable");
    assert_eq!(&*again.files[0].text, "<as-it-was/>", "it was read from memory");
    for changed in ["<c/>", "<longer/>"] {
        fs::write(root.path().join("a.xml"), changed).expect("a file");
        let again = load_again(&[root.path().to_owned()], &before).expect("the directory is readable");
        assert_eq!((&*again.files[0].text, &*again.files[1].text), (changed, "<b/>"));
        assert!(!again.says_the_same(&before));
    }
}

#[test]
fn a_file_that_was_just_written_is_read_again() {
    let root = directory(&[("a.xml", b"<a/>")]);
    let mut before = load_one(&root);
    assert!(!before.files[0].stamp.settled, "another change may have the same time");
    before.files[0].text = "<as-it-was/>".into();
    let again = load_again(&[root.path().to_owned()], &before).expect("the directory is readable");
    assert_eq!(&*again.files[0].text, "<a/>");
}

#[test]
fn a_file_from_memory_is_judged_as_one_that_is_read() {
    let outside = directory(&[("real.xml", b"<a/>")]);
    let root = directory(&[("all.xml", b"<a/>"), ("group.xml", b"<a/>")]);
    symlink(outside.path().join("real.xml"), root.path().join("link.xml")).expect("a link");
    let paths = [root.path().to_owned()];
    let before = load_one(&root);
    assert_eq!(before.files.len(), 3);
    fs::set_permissions(root.path().join("all.xml"), Permissions::from_mode(0o666)).expect("it is ours");
    chown(root.path().join("group.xml"), None, Some(1234)).expect("the tests run as root");
    fs::set_permissions(root.path().join("group.xml"), Permissions::from_mode(0o664)).expect("it is ours");
    fs::set_permissions(outside.path(), Permissions::from_mode(0o777)).expect("it is ours");
    let fresh = load_one(&root);
    // Their stamps as they are now: it is not the change of the mode alone that gives them away.
    let mut known = before.clone();
    for file in &mut known.files {
        let metadata = fs::metadata(&*file.path).expect("it is there");
        file.stamp = Stamp { changed: (metadata.ctime(), metadata.ctime_nsec()), settled: true, ..file.stamp };
    }
    let again = load_again(&paths, &known).expect("the directory is readable");
    assert!(again.says_the_same(&fresh), "{again:?}");
    assert_eq!((again.files.len(), again.faults.len(), again.remarks.len()), (1, 2, 1));
    assert!(!again.says_the_same(&before));
}

/// What a daemon has in memory once its files have been left alone for a while.
fn settled(root: &TempDir) -> Loaded {
    let mut before = load_one(root);
    before.files.iter_mut().for_each(|file| file.stamp.settled = true);
    load_again(&[root.path().to_owned()], &before).expect("the directory is readable")
}

#[test]
fn files_are_audible_once_they_are_settled() {
    let root = directory(&[("a.xml", b"<a/>"), ("more/b.xml", b"<b/>")]);
    assert!(!load_one(&root).audible, "a change within a tick of the clock may have been heard before the file was read");
    assert!(settled(&root).audible);
    symlink("../a.xml", root.path().join("more/a.xml")).expect("a link");
    assert!(settled(&root).audible, "it is read by its own name");
}

#[test]
fn what_can_change_unheard_is_not_audible() {
    type Make<'a> = &'a dyn Fn(&TempDir);
    let outside = directory(&[("real.xml", b"<a/>"), ("more/real.xml", b"<a/>")]);
    let unheard: [(&str, Make); 5] = [
        ("a second name", &|root| fs::hard_link(root.path().join("a.xml"), outside.path().join("other")).expect("a link")),
        ("a link to a file", &|root| symlink(outside.path().join("real.xml"), root.path().join("l.xml")).expect("a link")),
        ("a link to a directory", &|root| symlink(outside.path().join("more"), root.path().join("linked")).expect("a link")),
        ("a link to nothing", &|root| symlink(outside.path().join("later.xml"), root.path().join("l.xml")).expect("a link")),
        ("a file without a text", &|root| fs::write(root.path().join("b.xml"), b"\xff").expect("a file")),
    ];
    for (name, make) in unheard {
        let root = directory(&[("a.xml", b"<a/>")]);
        make(&root);
        assert!(!settled(&root).audible, "{name}");
    }
    let given = directory(&[("a.xml", b"<a/>")]);
    assert!(!load(&[given.path().join("a.xml")]).expect("it is there").audible, "it may be a link");
    assert!(!hearing::is_local(std::path::Path::new("/proc")), "the kernel writes it without a word");
}
