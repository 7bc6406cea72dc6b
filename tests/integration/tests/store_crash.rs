//! Whatever is killed whenever: every name stands for a whole image, and what was left behind is collected.

use std::process::Stdio;
use std::time::Duration;

use dhow_integration_tests::Sandbox;

/// So many times something is killed.
const KILLS: u64 = 60;

/// A row of numbers that looks random and is the same each time.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Starts `dhow` and kills it after so long, unless it has ended by then.
fn killed_after(sandbox: &Sandbox, args: &[&str], time: Duration) {
    let mut child = sandbox
        .command(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start dhow");
    std::thread::sleep(time);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

/// Every name's image can be read to its last byte.
fn assert_whole(sandbox: &Sandbox) {
    let names = sandbox.dhow(["images", "--format", "json"]).ok();
    for line in names.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let id = row["ID"].as_str().expect("an id");
        sandbox.dhow(["save", "-o", "/dev/null", id]).ok();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_whole_images() {
    let sandbox = Sandbox::new();
    let tar = sandbox.busybox_tar();
    let tar = tar.to_str().expect("a path");
    sandbox.dhow(["import", tar, "base"]).ok();
    let archive = sandbox.path("base.tar");
    let archive = archive.to_str().expect("a path");
    sandbox.dhow(["save", "-o", archive, "base"]).ok();

    let mut random = 0x9e37_79b9_7f4a_7c15;
    for round in 0..KILLS {
        let change = format!("LABEL round={round}");
        let args: &[&str] = match round % 5 {
            0 => &["import", tar, "other", "-c", &change],
            1 => &["tag", "base", "localhost:5000/deep/name/for:it"],
            2 => &["rmi", "-f", "other"],
            3 => &["rmi", "-f", "localhost:5000/deep/name/for:it"],
            _ => &["load", "-q", "-i", archive],
        };
        let time = Duration::from_micros(next(&mut random) % 30_000);
        killed_after(&sandbox, args, time);
        assert_whole(&sandbox);
    }
    let ids = sandbox.dhow(["images", "-q", "--no-trunc"]).ok();
    for id in ids.lines() {
        sandbox.dhow(["rmi", "-f", id]).ok();
    }
    // Temporary files and parts may stay for as long as somebody might go on with them; all else is gone.
    for directory in ["trees", "layers", "blobs/sha256", "leases", "tags"] {
        let path = sandbox.path("root").join(directory);
        let left: Vec<_> = fs_err::read_dir(path)
            .expect("list")
            .map(|entry| entry.expect("entry").path())
            .collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    let sandbox = Sandbox::new();
    let tar = sandbox.busybox_tar();
    let tar = tar.to_str().expect("a path");
    sandbox.dhow(["import", tar, "base"]).ok();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for round in 0..5 {
                    let name = format!("w{worker}:r{round}");
                    let change = format!("LABEL at={name}");
                    sandbox.dhow(["import", tar, &name, "-c", &change]).ok();
                    sandbox.dhow(["inspect", &name]).ok();
                    sandbox.dhow(["tag", "base", &format!("t{worker}")]).ok();
                    sandbox.dhow(["rmi", &name]).ok();
                }
            });
        }
    });
    assert_whole(&sandbox);
    let names = sandbox.dhow(["images"]).ok();
    assert_eq!(names.lines().count(), 1 + 1 + 4, "{names}");
}
