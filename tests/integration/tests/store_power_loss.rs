//! The power goes: the disk is copied as it is in one moment, and what was answered for before that is on the copy.
//!
//! The store's file system is ext4 in a file of an xfs, whose clone of that file is one moment's state: what the kernel had
//! not written to the disk by then is lost, as it would be. (By hand, that the test can fail: with the system calls that
//! sync made to do nothing, `strace -f -e inject=fsync,fdatasync,syncfs:retval=0`, it does at the first copies.)

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dhow_integration_tests::registry::{noise, tar};
use dhow_integration_tests::{Disk, Ran, Sandbox, program, ran};

/// So many times the power goes; DHOW_POWER_LOSSES for more.
const LOSSES: u64 = 6;

/// Runs `dhow` over a store that is not the sandbox's own.
fn dhow_at(root: &Path, state: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(program("dhow"));
    command
        .env("DHOW_ROOT", root)
        .env("DHOW_STATE", state)
        .args(args);
    ran(command, b"")
}

/// What was answered for: names and the ids that they stand for.
type Promised = Mutex<BTreeMap<String, String>>;

/// Makes, names and removes images until it is told to end.
fn work(sandbox: &Sandbox, worker: u64, promised: &Promised, ends: &AtomicBool) {
    let promise = |name: &str, id: Option<&str>| {
        let mut promised = promised.lock().expect("the promises");
        match id {
            Some(id) => promised.insert(name.to_owned(), id.to_owned()),
            None => promised.remove(name),
        };
    };
    for round in 0.. {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        let layer = tar("file", &noise(worker << 32 | round, 200_000));
        let path = sandbox.write(&format!("layer{worker}.tar"), layer);
        let name = format!("w{worker}:{}", round % 5);
        // Who is about to change what a name stands for promises neither.
        promise(&name, None);
        let path = path.to_str().expect("a path");
        let id = sandbox.dhow(["import", path, &name]).ok();
        promise(&name, Some(&id));
        let alias = format!("alias{worker}:{}", round % 3);
        promise(&alias, None);
        sandbox.dhow(["tag", &name, &alias]).ok();
        promise(&alias, Some(&id));
        if round % 4 == 3 {
            let gone = format!("w{worker}:{}", (round + 2) % 5);
            promise(&gone, None);
            sandbox.dhow(["rmi", "-f", &gone]).ok();
        }
    }
}

#[test]
fn what_was_answered_for_outlives_the_power() {
    let losses = std::env::var("DHOW_POWER_LOSSES").ok();
    let losses = losses.map_or(LOSSES, |text| text.parse().expect("DHOW_POWER_LOSSES"));
    let sandbox = Sandbox::new();
    let outer = Disk::make(
        "xfs",
        1024,
        &sandbox.path("outer.img"),
        &sandbox.path("outer"),
    );
    let image = outer.path().join("disk.img");
    let root = Disk::make("ext4", 128, &image, &sandbox.path("root"));
    sandbox.dhow(["images"]).ok();

    let promised = Promised::default();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let (sandbox, promised, ends) = (&sandbox, &promised, &ends);
            scope.spawn(move || work(sandbox, worker, promised, ends));
        }
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for loss in 0..losses {
                std::thread::sleep(Duration::from_millis(150 + loss * 37 % 200));
                lose_power(&sandbox, &image, &promised);
            }
        }));
        ends.store(true, Ordering::Relaxed);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
    drop(root);
    drop(outer);
}

/// Copies the disk as it is now and looks for what was promised before.
fn lose_power(sandbox: &Sandbox, image: &Path, promised: &Promised) {
    let before = promised.lock().expect("the promises").clone();
    let copy = image.with_extension("copy");
    let cloned = Command::new("cp")
        .arg("--reflink=always")
        .args([image, &copy])
        .status();
    assert!(cloned.expect("cp").success());
    // What was withdrawn meanwhile may be there or not.
    let after = promised.lock().expect("the promises").clone();
    {
        let disk = Disk::attach(&copy, &sandbox.path("after"));
        let state = sandbox.path("after-state");
        let dhow = |args: &[&str]| dhow_at(disk.path(), &state, args);
        for (name, id) in &before {
            if after.get(name) == Some(id) {
                let found = dhow(&["images", "-q", "--no-trunc", name]).ok();
                assert_eq!(&found, id, "{name}");
                dhow(&["save", "-o", "/dev/null", name]).ok();
            }
        }
        assert_eq!(dhow(&["system", "check"]).ok(), "0 damaged, 0 left");
        // And it is a store to go on with.
        dhow(&["system", "prune", "--force"]).ok();
    }
    fs_err::remove_file(copy).expect("remove the copy");
}
