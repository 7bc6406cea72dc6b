//! Whatever is killed whenever: every name stands for a whole image, and what was left behind is collected.

use std::process::Stdio;
use std::time::Duration;

use dhow_integration_tests::Sandbox;
use dhow_integration_tests::registry::{Registry, noise, tar};

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
    sandbox.swept();
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

/// What one of several processes does to the store in a round, told by a random number.
fn act<'a>(number: u64, archive: &'a str, names: &'a [String; 3], many: &'a str) -> Vec<&'a str> {
    let name = names[usize::try_from(number / 11).unwrap_or(0) % 3].as_str();
    match number % 11 {
        0 | 1 => vec!["pull", "-q", name],
        2 => vec!["load", "-q", "-i", archive],
        3 => vec!["rmi", "-f", name],
        4 => vec!["rmi", "-f", "base"],
        5 => vec!["image", "prune", "--force"],
        6 => vec!["system", "prune", "--force"],
        7 => vec!["pull", "-q", "--all-platforms", many],
        8 => vec!["image", "copy", "-q", "-a", many, "store:copied"],
        9 => vec!["image", "copy", "-q", name, "store:copied"],
        _ => vec!["push", "-q", name],
    }
}

/// Three at a time, each killed after a random time or left to end: what a living one says to have done is done, and nobody's end
/// takes from another. DHOW_KILLS for more rounds.
#[test]
fn kills_beside_living_processes_leave_whole_images() {
    let rounds = std::env::var("DHOW_KILLS").ok();
    let rounds = rounds.map_or(KILLS, |text| text.parse().expect("DHOW_KILLS"));
    let sandbox = Sandbox::new();
    let registry = Registry::embedded();
    let shared = tar("shared", &noise(1, 600_000));
    for tag in 0..3 {
        let own = tar("own", &noise(10 + tag, 900_000));
        registry.push_image("app", &tag.to_string(), &[shared.clone(), own]);
    }
    let own = |number: u64| tar("own", &noise(20 + number, 400_000));
    let platforms = [
        ("amd64", vec![shared.clone(), own(0)]),
        ("arm64", vec![shared, own(1)]),
    ];
    registry.push_index("many", "1", &platforms);
    let many = format!("{}/many:1", registry.address());
    let names = [0, 1, 2].map(|tag| format!("{}/app:{tag}", registry.address()));
    let base = sandbox.busybox_tar();
    let base = base.to_str().expect("a path");
    sandbox.dhow(["import", base, "base"]).ok();
    let archive = sandbox.path("base.tar");
    let archive = archive.to_str().expect("a path");
    sandbox.dhow(["save", "-o", archive, "base"]).ok();

    let mut random = 0x2545_f491_4f6c_dd1d;
    for _ in 0..rounds {
        let mut plan = Vec::new();
        for _ in 0..3 {
            let words = act(next(&mut random), archive, &names, &many);
            let time = Duration::from_micros(next(&mut random) % 60_000);
            // Every third is left alone.
            plan.push((
                words,
                (!next(&mut random).is_multiple_of(3)).then_some(time),
            ));
        }
        std::thread::scope(|scope| {
            for (words, time) in &plan {
                let sandbox = &sandbox;
                scope.spawn(move || match time {
                    Some(time) => killed_after(sandbox, words, *time),
                    None => {
                        let said = sandbox.dhow(words);
                        // What is to be pushed may just not be there, or be taken away meanwhile.
                        let may_fail = words[0] == "push";
                        assert!(said.status == 0 || may_fail, "{words:?}: {said:?}");
                    }
                });
            }
        });
        assert_whole(&sandbox);
    }
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    let ids = sandbox.dhow(["images", "-q", "--no-trunc"]).ok();
    for id in ids.lines() {
        sandbox.dhow(["rmi", "-f", id]).ok();
    }
    sandbox.dhow(["system", "prune", "--force"]).ok();
    for directory in ["trees", "layers", "blobs/sha256", "leases", "tags"] {
        let left = fs_err::read_dir(sandbox.path("root").join(directory)).expect("list");
        let left: Vec<_> = left.map(|entry| entry.expect("entry").path()).collect();
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
