//! Looking after the store: room, pruning, damage.

use std::path::PathBuf;

use dhow_integration_tests::registry::{Registry, image, sha256, tar};
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

/// A store with an image of a registry, its name, and another image.
fn with_pulled() -> (Registry, Sandbox, String) {
    let registry = Registry::embedded();
    registry.push_image("team/app", "1", &[tar("file", b"content")]);
    let sandbox = Sandbox::new();
    let name = format!("{}/team/app:1", registry.address());
    sandbox.dhow(["pull", "-q", &name]).ok();
    sandbox.import_busybox();
    (registry, sandbox, name)
}

#[test]
fn a_record_that_cannot_be_read_is_found_and_made_again() {
    let (_registry, sandbox, name) = with_pulled();
    let diff_id = sha256(&tar("file", b"content")).replace(':', "-");
    let record = sandbox.path(format!("root/layers/{diff_id}.json"));
    let good = fs_err::read_to_string(&record).expect("read");
    for bad in ["", "{\"tree\":7}"] {
        fs_err::write(&record, bad).expect("write");
        let checked = sandbox.dhow(["system", "check"]);
        assert_eq!(checked.status, 1);
        let short = &diff_id["sha256-".len()..][..12];
        let what = format!("the record of layer {short}: ");
        assert!(checked.stdout.contains(&what), "{}", checked.stdout);
        let said = sandbox.dhow(["system", "check", "--repair"]).ok();
        assert!(said.ends_with("1 damaged, 0 left"), "{said}");
        sandbox.dhow(["pull", "-q", &name]).ok();
        sandbox.assert_whole();
        // Also where nobody looked: a pull finds it.
        fs_err::write(&record, bad).expect("write");
        sandbox.dhow(["pull", "-q", &name]).ok();
        sandbox.assert_whole();
        assert_ne!(fs_err::read_to_string(&record).expect("read"), good);
    }
}

#[test]
fn the_tree_of_a_record_that_cannot_be_read_stays_where_it_is_the_only_one() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let record = only_one_in(&sandbox, "layers");
    let good = fs_err::read(&record).expect("read");
    fs_err::write(&record, "").expect("write");
    let said = sandbox.dhow(["system", "prune", "-f"]).fails(125);
    assert!(said.contains("nothing is removed"), "{said}");
    fs_err::write(&record, &good).expect("write");
    sandbox.dhow(["system", "prune", "-f"]).ok();
    sandbox.assert_whole();
    // Of no image's layer nothing is needed.
    fs_err::write(&record, "").expect("write");
    sandbox.dhow(["rmi", "busybox"]).ok();
    sandbox.dhow(["system", "prune", "-f"]).ok();
    assert!(!record.exists());
    sandbox.assert_whole();
}

#[test]
fn a_name_that_cannot_be_read_stands_in_nobodys_way() {
    let (registry, sandbox, name) = with_pulled();
    let file = format!("root/tags/{}/team/app/:1", registry.address());
    let file = sandbox.path(file);
    let good = fs_err::read_to_string(&file).expect("read");
    for bad in [String::new(), good.replace("manifest.v1", "manifesto")] {
        fs_err::write(&file, bad).expect("write");
        let listed = sandbox.dhow(["images", "--format", "{{.Repository}}"]);
        assert_eq!((listed.status, listed.stdout.trim_end()), (0, "busybox"));
        assert!(
            listed.stderr.starts_with(&format!("dhow: {name}: ")),
            "{}",
            listed.stderr
        );
        let checked = sandbox.dhow(["system", "check", "--repair"]);
        assert_eq!(checked.status, 1);
        let what = format!("the name {name}: ");
        assert!(checked.stdout.starts_with(&what), "{}", checked.stdout);
        assert!(
            checked.stdout.contains(&format!("dhow pull {name}")),
            "{}",
            checked.stdout
        );
        // What it kept is not known, so nothing goes.
        sandbox.dhow(["system", "prune", "-f"]).fails(125);
        sandbox.dhow(["tag", "busybox", "other"]).ok();
        sandbox.dhow(["rmi", "other"]).ok();
        sandbox.dhow(["pull", "-q", &name]).ok();
        sandbox.assert_whole();
        assert_eq!(fs_err::read_to_string(&file).expect("read"), good);
    }
    fs_err::write(&file, "").expect("write");
    assert_eq!(
        sandbox.dhow(["rmi", &name]).ok(),
        format!("Untagged: {name}")
    );
    sandbox.dhow(["system", "prune", "-f"]).ok();
    sandbox.assert_whole();
}

#[test]
fn an_image_without_its_documents_is_left_out_of_lists_and_removed() {
    let (registry, sandbox, name) = with_pulled();
    let (_, manifest) = image(&[tar("file", b"content")]);
    fs_err::remove_file(sandbox.blob(&manifest)).expect("remove");
    let listed = sandbox.dhow(["images", "--format", "{{.Repository}}"]);
    assert_eq!((listed.status, listed.stdout.trim_end()), (0, "busybox"));
    assert!(
        listed.stderr.starts_with(&format!("dhow: {name}: ")),
        "{}",
        listed.stderr
    );
    sandbox.dhow(["system", "df"]).ok();
    sandbox.dhow(["rmi", &name]).ok();
    sandbox.assert_whole();
    drop(registry);
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
