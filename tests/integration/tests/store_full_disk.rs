//! A disk that is full: what cannot be done says so, what was there stays whole, and with room again all goes on.

use dhow_integration_tests::registry::{Registry, noise, tar};
use dhow_integration_tests::{Disk, Sandbox};

/// Every image can be read to its end, and nothing in the store is damaged. One image is removed, since to see whether a
/// pulled layer's tree is right it is unpacked a second time.
fn assert_whole(sandbox: &Sandbox, names: &[String]) {
    for name in names {
        sandbox.dhow(["save", "-o", "/dev/null", name]).ok();
    }
    sandbox.dhow(["rmi", &names[0]]).ok();
    sandbox.dhow(["system", "prune", "--force"]).ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

/// Does it again and again, each time under a new name, until the disk is full; gives the names that were answered for.
fn fill(
    sandbox: &Sandbox,
    what: &str,
    act: impl Fn(usize) -> (String, Vec<String>),
) -> Vec<String> {
    let mut names = Vec::new();
    for round in 0..40 {
        let (name, words) = act(round);
        let done = sandbox.dhow(&words);
        if done.status == 0 {
            names.push(name);
            continue;
        }
        let said = done.fails(125);
        assert!(said.contains("No space left on device"), "{what}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{what}: {said}");
        assert!(round > 0, "{what} never worked");
        let listed = sandbox.dhow(["images"]).ok();
        assert!(
            !listed.contains(&name.replace(':', " ")),
            "{what}: {listed}"
        );
        return names;
    }
    panic!("{what} did not fill the disk");
}

#[test]
fn a_full_disk_costs_nothing_that_was_there() {
    let sandbox = Sandbox::new();
    let registry = Registry::embedded();
    for round in 0..40 {
        let layer = tar("file", &noise(round, 3 << 20));
        registry.push_image("app", &round.to_string(), &[layer]);
        let layer = |seed| tar("file", &noise(seed + round, 3 << 19));
        let platforms = [("amd64", vec![layer(100)]), ("arm64", vec![layer(200)])];
        registry.push_index("many", &round.to_string(), &platforms);
    }
    let _disk = Disk::make("ext4", 48, &sandbox.path("disk.img"), &sandbox.path("root"));

    let text = |word: &str| word.to_owned();
    let imported = fill(&sandbox, "import", |round| {
        let layer = tar("file", &noise(1000 + round as u64, 3 << 20));
        let path = sandbox.write("layer.tar", layer);
        let name = format!("imported:{round}");
        let words = vec![text("import"), path.display().to_string(), name.clone()];
        (name, words)
    });
    assert_whole(&sandbox, &imported);
    for name in &imported[1..] {
        sandbox.dhow(["rmi", name]).ok();
    }
    sandbox.swept();

    let pulled = fill(&sandbox, "pull", |round| {
        let name = format!("{}/app:{round}", registry.address());
        (name.clone(), vec![text("pull"), text("-q"), name])
    });
    assert_whole(&sandbox, &pulled);

    // With the room of one, another one fits again.
    sandbox.dhow(["pull", "-q", &pulled[0]]).ok();
    assert_whole(&sandbox, &pulled);
    for name in &pulled[1..] {
        sandbox.dhow(["rmi", name]).ok();
    }
    sandbox.swept();

    let at = |name: &str, round: usize| format!("{}/{name}:{round}", registry.address());
    let pulled = fill(&sandbox, "pull --all-platforms", |round| {
        let name = at("many", round);
        (
            name.clone(),
            vec![text("pull"), text("-q"), text("-a"), name],
        )
    });
    assert_whole(&sandbox, &pulled);
    for name in &pulled[1..] {
        sandbox.dhow(["rmi", name]).ok();
    }
    sandbox.swept();

    for (of, flag) in [("app", "-q"), ("many", "-qa")] {
        let what = format!("image copy {flag}");
        let copied = fill(&sandbox, &what, |round| {
            let name = format!("copied/{of}:{round}");
            let words = [
                "image",
                "copy",
                flag,
                &at(of, round),
                &format!("store:{name}"),
            ];
            (name, words.map(text).to_vec())
        });
        assert_whole(&sandbox, &copied);
        for name in &copied[1..] {
            sandbox.dhow(["rmi", name]).ok();
        }
        sandbox.swept();
    }

    sandbox.write("context/Dockerfile", "FROM scratch\nCOPY file /file\n");
    let built = fill(&sandbox, "build", |round| {
        sandbox.write("context/file", noise(2000 + round as u64, 3 << 20));
        let name = format!("built:{round}");
        let context = sandbox.path("context").display().to_string();
        let words = vec![text("build"), text("-q"), text("-t"), name.clone(), context];
        (name, words)
    });
    assert_whole(&sandbox, &built);
}
