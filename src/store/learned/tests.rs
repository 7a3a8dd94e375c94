//! The file of learned addresses: what survives a restart, a reboot, and a mishap.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::backend::namespace;

const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

fn sample() -> Learned {
    let claimant = |anchor, method| Claimant { anchor, mac: MAC, filter: "clean-traffic".into(), method };
    let lease =
        |last: u8, until| Finding { address: IpAddr::from([10, 0, 0, last]), source: Source::Lease(IpAddr::from([10, 0, 0, 1])), until };
    let used = Finding { address: "2001:db8::1".parse().expect("an address"), source: Source::Use, until: Until::Forever };
    let device = DeviceName::new("vnet0").expect("a name");
    let servers = vec!["10.0.0.1".parse().expect("an address"), "10.0.0.2".parse().expect("an address")];
    Learned(BTreeMap::from([
        (
            claimant(Anchor::Owner(Uuid::from_u128(7)), Method::Dhcp(servers)),
            Knowledge { findings: vec![lease(9, Until::Second(100)), lease(8, Until::Forever)], first: Some(IpAddr::from([10, 0, 0, 9])) },
        ),
        (claimant(Anchor::Device(device), Method::Any), Knowledge { findings: vec![used], first: None }),
        (claimant(Anchor::Address, Method::Dhcp(Vec::new())), Knowledge { findings: vec![lease(7, Until::Second(5))], first: None }),
    ]))
}

fn open(root: &tempfile::TempDir) -> LearnedStore {
    LearnedStore::open(&root.path().join("learned"), namespace::identity().expect("proc is mounted")).expect("it can be made")
}

fn file(store: &LearnedStore) -> PathBuf {
    store.path.join(FILE)
}

#[test]
fn what_is_saved_is_found_again_by_owner_and_reader() {
    let root = tempfile::tempdir().expect("a directory");
    let store = open(&root);
    assert_eq!(store.load().expect("it is readable"), Found::Nothing);
    assert_eq!(store.save(&sample()).expect("it is ours"), Saved::Written);
    assert_eq!(store.save(&sample()).expect("it is ours"), Saved::Unchanged);
    assert_eq!(store.load().expect("it is readable"), Found::Addresses(sample()));
    assert_eq!(peek(&root.path().join("learned"), &store.identity), Ok(sample()));
    let mode = fs::metadata(file(&store)).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_reader_makes_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let place = root.path().join("learned");
    assert_eq!(peek(&place, &namespace::identity().expect("proc is mounted")), Ok(Learned::default()));
    assert!(!place.exists());
}

#[test]
fn a_corrupt_file_is_moved_aside_with_the_reason_and_a_fresh_start_is_made() {
    let root = tempfile::tempdir().expect("a directory");
    let store = open(&root);
    store.save(&sample()).expect("it is ours");
    let whole = fs::read_to_string(file(&store)).expect("it is text");
    let broken = [
        whole[..whole.len() / 2].to_owned(),
        String::new(),
        whole.replace("\"version\": 1", "\"version\": 99"),
        whole.replace("52:54:00:01:02:03", "52:54"),
        whole.replace("10.0.0.9", "10.0.0.999"),
        whole.replace("dhcp 10.0.0.1", "dhpc 10.0.0.1"),
        whole.replace("\"mac\"", "\"extra\": 1, \"mac\""),
    ];
    for text in &broken {
        fs::write(file(&store), text).expect("it is ours");
        assert!(peek(&root.path().join("learned"), &store.identity).expect_err("it is corrupt").contains("is corrupt"), "{text}");
        let Found::Corrupt { reason, moved_to } = store.load().expect("it can be moved") else { panic!("taken for whole: {text}") };
        assert!(!reason.is_empty() && moved_to.exists(), "{reason}");
        assert_eq!(store.load().expect("it is gone"), Found::Nothing);
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let root = tempfile::tempdir().expect("a directory");
    let store = open(&root);
    let hole = fs::File::create(file(&store)).expect("it is ours");
    hole.set_len(LARGEST + 1).expect("a hole costs nothing");
    assert!(peek(&root.path().join("learned"), &store.identity).is_err());
    assert!(matches!(store.load().expect("it can be moved"), Found::Corrupt { .. }));
}

#[test]
fn another_boot_is_another_namespace_except_for_the_host_itself() {
    let identity = |boot: &str, namespace: &str| -> Identity {
        let mut identity = namespace::identity().expect("proc is mounted");
        boot.clone_into(&mut identity.boot_id);
        identity.namespace = namespace::NamespaceId::named(namespace);
        identity
    };
    let bytes = write(&sample(), &identity("one", "cookie-77"));
    assert_eq!(parse(&bytes, &identity("one", "cookie-77")), Ok(Some(sample())));
    assert_eq!(parse(&bytes, &identity("two", "cookie-77")), Ok(None));
    assert_eq!(parse(&bytes, &identity("one", "cookie-78")), Ok(None));
    let bytes = write(&sample(), &identity("one", HOST));
    assert_eq!(parse(&bytes, &identity("two", HOST)), Ok(Some(sample())));
}

#[test]
fn what_earlier_boots_left_is_swept_and_nothing_else() {
    let root = tempfile::tempdir().expect("a directory");
    let store = open(&root);
    store.save(&sample()).expect("it is ours");
    let beside = |name: &str, boot: &str| {
        let directory = root.path().join("learned").join(name);
        fs::create_dir(&directory).expect("it is ours");
        let text = format!("{{\"version\": 1, \"boot_id\": \"{boot}\", \"namespace\": \"{name}\", \"guests\": []}}");
        fs::write(directory.join(FILE), text).expect("it is ours");
        directory
    };
    let old = beside("cookie-900001", "an earlier one");
    let host = beside(HOST, "an earlier one");
    let living = beside("cookie-900002", &store.identity.boot_id);
    store.sweep();
    assert!(!old.exists() && host.exists() && living.exists() && file(&store).exists());
}
