//! `make demo` does what it says; it exits non-zero by itself when anything is not so.

use std::process::Command;

#[test]
fn the_demo_succeeds_from_beginning_to_end() {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/demo.sh"))
        .env("BRIDGEWARD", env!("CARGO_BIN_EXE_bridgeward"))
        .env("NO_COLOR", "1")
        .env_remove("BRIDGEWARD_STATE")
        .env_remove("BRIDGEWARD_CONFIG")
        .output()
        .expect("bash runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}[stderr]\n{stderr}", output.status);
}
