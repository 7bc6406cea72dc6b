//! Looking after the store: room, pruning, damage.

use std::path::PathBuf;

use dhow_integration_tests::{Enclosure, Sandbox, program, ran, until};

fn only_one_in(sandbox: &Sandbox, directory: &str) -> PathBuf {
    let mut entries = fs_err::read_dir(sandbox.path("root").join(directory)).expect("list");
    let path = entries.next().expect("an entry").expect("an entry").path();
    assert!(entries.next().is_none(), "{directory}");
    path
}

#[test]
fn room_is_shown_and_freed() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let tar = sandbox.busybox_tar();
    let tar = tar.to_str().expect("a path");
    sandbox.dhow(["import", tar, "-c", "ENV A=b"]).ok();
    let shown = sandbox.dhow(["system", "df"]).ok();
    let images = shown.lines().nth(1).expect("a row");
    assert!(
        images.starts_with("Images") && images.contains("(100%)"),
        "{shown}"
    );
    let said = sandbox.dhow(["system", "prune"]).fails(125);
    assert!(said.contains("--force"), "{said}");
    // The image without a name goes; the other one keeps the layer that both share.
    sandbox.dhow(["system", "prune", "-f"]).ok();
    assert_eq!(sandbox.dhow(["images"]).ok().lines().count(), 2);
    only_one_in(&sandbox, "trees");
    let said = sandbox.dhow(["system", "prune", "-af"]).ok();
    assert!(
        said.starts_with("Untagged: busybox:latest\nDeleted: sha256:"),
        "{said}"
    );
    assert!(
        said.lines().last().expect("a line").contains("MB"),
        "{said}"
    );
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
}

#[test]
fn a_changed_tree_is_found_and_made_again_from_its_blob() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    let tree = only_one_in(&sandbox, "trees");
    fs_err::write(tree.join("fs/etc/passwd"), "changed").expect("write");
    // It was never compressed, so there is nothing to make it from again.
    let ran = sandbox.dhow(["system", "check", "--repair"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stdout.contains("1 damaged, 1 left"), "{}", ran.stdout);
    // What is packed from it is not passed off as the layer that it was.
    sandbox
        .dhow(["save", "-o", "/dev/null", "busybox"])
        .fails(125);

    let from = Sandbox::new();
    from.import_busybox();
    let archive = from.path("busybox.oci");
    let archive = archive.to_str().expect("a path");
    from.dhow(["save", "-o", archive, "busybox"]).ok();
    let sandbox = Sandbox::new();
    sandbox.dhow(["load", "-q", "-i", archive]).ok();
    let tree = only_one_in(&sandbox, "trees");
    fs_err::remove_file(tree.join("fs/etc/passwd")).expect("remove");
    let said = sandbox.dhow(["system", "check", "--repair"]).ok();
    assert!(said.ends_with("1 damaged, 0 left"), "{said}");
    // The next use makes it again.
    sandbox.dhow(["load", "-q", "-i", archive]).ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

#[test]
fn a_removal_stops_at_what_is_mounted() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let create = ["run", "--name", "web", "busybox", "mkdir", "-p", "/a/b"];
    sandbox.dhow(create).ok();
    let upper = only_one_in(&sandbox, "containers").join("upper");
    let kept = sandbox.write("kept/file", "kept");
    let kept = kept.parent().expect("a directory");
    let enclosure = Enclosure::new(&sandbox.path(""));
    let remove = || {
        let mut command = enclosure.command(program("dhow"));
        command
            .env("DHOW_ROOT", sandbox.path("root"))
            .env("DHOW_STATE", sandbox.path("state"))
            .args(["rm", "web"]);
        ran(command, b"")
    };
    // In place of the tree, and within it.
    for mount in [upper.clone(), upper.join("a/b")] {
        let (mount, kept) = (mount.display(), kept.display());
        let bound = enclosure.shell(&format!("mount --bind {kept} {mount}"));
        assert_eq!(bound.status, 0, "{bound:?}");
        let said = remove().fails(125);
        assert!(
            said.contains(&format!("something is mounted on {mount}")),
            "{said}"
        );
        let seen = enclosure.shell(&format!("cat {mount}/file && umount {mount}"));
        assert_eq!(seen.ok(), "kept");
    }
    remove().ok();
    assert!(!upper.exists());
    drop(enclosure);
    until("the machine is gone", || sandbox.processes().is_empty());
    sandbox.nothing_is_left(&[]);
}
