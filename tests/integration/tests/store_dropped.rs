//! Blobs that a registry holds are dropped and come back, and pulls repair what is damaged.

use std::path::{Path, PathBuf};

use dhow_integration_tests::registry::{Registry, noise, sha256, tar};
use dhow_integration_tests::{Ran, Sandbox};

fn layers() -> Vec<Vec<u8>> {
    let file = |at: u64| tar(&format!("file{at}"), &noise(at + 7, 300_000));
    (0..3).map(file).collect()
}

/// A sandbox that has pulled an image of another program's layers from a registry, and the image's name.
fn pulled(registry: &Registry) -> (Sandbox, String) {
    registry.push_image("team/app", "1", &layers());
    let name = format!("{}/team/app:1", registry.address());
    let sandbox = Sandbox::new();
    sandbox.dhow(["pull", "-q", &name]).ok();
    (sandbox, name)
}

/// A sandbox whose busybox, imported there, is in a registry under the name that is given back.
fn pushed(registry: &Registry) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let name = format!("{}/busybox:1", registry.address());
    sandbox.dhow(["tag", "busybox", &name]).ok();
    sandbox.dhow(["push", "-q", &name]).ok();
    sandbox.dhow(["rmi", "busybox"]).ok();
    (sandbox, name)
}

fn entries(sandbox: &Sandbox, directory: &str) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(sandbox.path("root").join(directory)).expect("list");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

fn drop_blobs(sandbox: &Sandbox) -> String {
    sandbox.dhow(["image", "prune", "--blobs", "-f"]).ok()
}

#[test]
fn what_a_registry_has_is_dropped_and_comes_back_bit_for_bit() {
    let (home, other) = (Registry::embedded(), Registry::embedded());
    let (sandbox, name) = pulled(&home);
    let digest = home
        .get("/v2/team/app/manifests/1")
        .expect(200)
        .body
        .clone();
    let said = drop_blobs(&sandbox);
    assert!(
        said.starts_with(
            "Dropped 3 compressed blobs that registries hold\nTotal reclaimed space: 90"
        ),
        "{said}"
    );
    // The manifest and the config stay.
    assert_eq!(entries(&sandbox, "blobs/sha256").len(), 2);
    sandbox.assert_whole();
    let shown = sandbox.dhow(["system", "df"]).ok();
    assert!(
        shown.contains("3 compressed blobs of layers not kept here"),
        "{shown}"
    );
    assert!(drop_blobs(&sandbox).starts_with("Dropped 0 "));
    // A collection leaves it like that, and so does a pull.
    sandbox.dhow(["system", "prune", "-f"]).ok();
    let said = sandbox.dhow(["pull", &name]).ok();
    assert!(said.contains("Image is up to date"), "{said}");
    home.push_image(
        "team/app",
        "2",
        &[layers(), vec![tar("top", b"top")]].concat(),
    );
    let next = format!("{}/team/app:2", home.address());
    let said = sandbox.dhow(["pull", &next]).ok();
    assert!(said.contains("; 3 of 4 layers were here already"), "{said}");
    // The same registry needs none of them.
    let beside = format!("{}/team/beside:1", home.address());
    sandbox.dhow(["tag", &name, &beside]).ok();
    sandbox.dhow(["push", "-q", &beside]).ok();
    assert!(!sandbox.blob(&layers()[0]).exists());
    // Another one gets them from the first.
    let elsewhere = format!("{}/copy:1", other.address());
    sandbox.dhow(["tag", &name, &elsewhere]).ok();
    sandbox.dhow(["push", "-q", &elsewhere]).ok();
    assert_eq!(other.get("/v2/copy/manifests/1").expect(200).body, digest);
    for layer in layers() {
        let path = format!("/v2/copy/blobs/{}", sha256(&layer));
        assert!(other.get(&path).expect(200).body == layer);
        assert!(sandbox.blob(&layer).exists());
    }
    sandbox.assert_whole();
    // An archive needs them, too.
    drop_blobs(&sandbox);
    let archive = sandbox.path("app.oci");
    let archive = archive.to_str().expect("a path");
    sandbox.dhow(["save", "-o", archive, &name]).ok();
    let reader = Sandbox::new();
    reader.dhow(["load", "-q", "-i", archive]).ok();
    assert!(layers().iter().all(|layer| reader.blob(layer).exists()));
    reader.assert_whole();
    // So does a layout.
    drop_blobs(&sandbox);
    let layout = sandbox.path("layout");
    let (from, to) = (format!("store:{name}"), format!("oci:{}", layout.display()));
    sandbox.dhow(["image", "copy", "-q", &from, &to]).ok();
    for layer in layers() {
        let hex = sha256(&layer).replace("sha256:", "");
        let copied = fs_err::read(layout.join("blobs/sha256").join(hex)).expect("a blob");
        assert!(copied == layer);
    }
    // Who has the bytes at hand gives them back.
    drop_blobs(&sandbox);
    sandbox.dhow(["load", "-q", "-i", archive]).ok();
    assert!(layers().iter().all(|layer| sandbox.blob(layer).exists()));
}

#[test]
fn what_is_built_on_a_dropped_image_is_pushed_with_its_blobs() {
    let (home, other) = (Registry::embedded(), Registry::embedded());
    let (sandbox, name) = pulled(&home);
    drop_blobs(&sandbox);
    sandbox.write(
        "context/Dockerfile",
        format!("FROM {name}\nLABEL a=b\nCOPY new /new\n"),
    );
    sandbox.write("context/new", "new");
    let context = sandbox.path("context");
    let context = context.to_str().expect("a path");
    let built = format!("{}/built:1", other.address());
    sandbox.dhow(["build", "-q", "-t", &built, context]).ok();
    sandbox.dhow(["push", "-q", &built]).ok();
    for layer in layers() {
        let path = format!("/v2/built/blobs/{}", sha256(&layer));
        assert!(other.get(&path).expect(200).body == layer);
    }
    sandbox.assert_whole();
    // A tree that was taken out is made again from a blob that comes back, though no registry has the image by this name.
    sandbox.dhow(["tag", &built, "only.here:1"]).ok();
    drop_blobs(&sandbox);
    let lost = sha256(&layers()[1]).replace(':', "-");
    for record in entries(&sandbox, "layers") {
        if record.to_string_lossy().contains(&lost) {
            fs_err::remove_file(record).expect("remove");
        }
    }
    sandbox.dhow(["create", "only.here:1", "/new"]).ok();
    assert!(sandbox.blob(&layers()[1]).exists());
    sandbox.assert_whole();
}

#[test]
fn a_copy_within_the_store_needs_no_blobs() {
    let home = Registry::embedded();
    let (sandbox, name) = pulled(&home);
    drop_blobs(&sandbox);
    let from = format!("store:{name}");
    let copied = sandbox.dhow(["image", "copy", "-q", &from, "store:again:1"]);
    copied.ok();
    let id = |name: &str| sandbox.dhow(["inspect", "--format", "{{.Id}}", name]).ok();
    assert_eq!(id("again:1"), id(&name));
    assert!(layers().iter().all(|layer| !sandbox.blob(layer).exists()));
    sandbox.assert_whole();
}

#[test]
fn what_no_registry_has_any_more_is_named() {
    let mut home = Registry::embedded();
    let (sandbox, name) = pulled(&home);
    drop_blobs(&sandbox);
    let lost = sha256(&layers()[1]);
    let path = format!("/v2/team/app/blobs/{lost}");
    home.ask("DELETE", &path, &[], b"").expect(202);
    let save = |sandbox: &Sandbox| sandbox.dhow(["save", "-o", "/dev/null", &name]);
    let error = save(&sandbox).fails(125);
    let place = format!("{}/team/app", home.address());
    assert!(
        error.contains(&format!(
            "blob {lost} is not in the store, and it cannot be had again from {place}"
        )),
        "{error}"
    );
    home.stop();
    let error = save(&sandbox).fails(125);
    assert!(error.contains("no registry answers"), "{error}");
    // What was dropped is no damage, wherever the registry is.
    sandbox.assert_whole();
}

#[test]
fn a_tar_comes_from_the_tree_where_that_is_its_form() {
    let mut home = Registry::embedded();
    let (sandbox, name) = pushed(&home);
    let id = sandbox.dhow(["inspect", "--format", "{{.Id}}", &name]).ok();
    assert!(drop_blobs(&sandbox).starts_with("Dropped 1 compressed blob "));
    home.stop();
    let archive = sandbox.path("busybox.tar");
    let archive = archive.to_str().expect("a path");
    sandbox
        .dhow(["save", "--format", "docker-archive", "-o", archive, &name])
        .ok();
    let reader = Sandbox::new();
    reader.dhow(["load", "-q", "-i", archive]).ok();
    assert_eq!(
        reader.dhow(["inspect", "--format", "{{.Id}}", &name]).ok(),
        id
    );
    sandbox.dhow(["run", "--rm", &name, "true"]).ok();
    // The registry's own compression is not replaced by another one.
    sandbox.dhow(["save", "-o", "/dev/null", &name]).fails(125);
}

#[test]
fn blobs_stay_that_no_registry_has_or_that_have_no_tree() {
    let sandbox = Sandbox::new();
    let archive = Sandbox::new();
    archive.import_busybox();
    let path = archive.path("busybox.oci");
    let path = path.to_str().expect("a path");
    archive.dhow(["save", "-o", path, "busybox"]).ok();
    sandbox.dhow(["load", "-q", "-i", path]).ok();
    assert!(drop_blobs(&sandbox).starts_with("Dropped 0 "));
    let home = Registry::embedded();
    let (sandbox, _name) = pulled(&home);
    for record in entries(&sandbox, "layers") {
        fs_err::remove_file(record).expect("remove");
    }
    assert!(drop_blobs(&sandbox).starts_with("Dropped 0 "));
}

/// Pulls, and expects that this mends the image.
#[track_caller]
fn mended_by_pull(sandbox: &Sandbox, name: &str) -> Ran {
    let ran = sandbox.dhow(["pull", name]);
    assert!(
        ran.stderr.contains("not whole here") || ran.stdout.contains("Downloaded"),
        "{ran:?}"
    );
    assert_eq!(ran.status, 0, "{ran:?}");
    sandbox.assert_whole();
    ran
}

fn truncate(path: &Path) {
    let file = fs_err::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("open");
    file.set_len(100).expect("truncate");
}

#[test]
fn a_pull_mends_what_is_missing_or_cut_off() {
    let home = Registry::embedded();
    let (sandbox, name) = pulled(&home);
    let first = &layers()[0];
    // A tree is made again from its blob.
    let tree = entries(&sandbox, "trees").pop().expect("a tree");
    fs_err::remove_dir_all(tree).expect("remove");
    mended_by_pull(&sandbox, &name);
    // A blob of the wrong size is fetched again.
    truncate(&sandbox.blob(first));
    mended_by_pull(&sandbox, &name);
    // Both at once, and all at once.
    truncate(&sandbox.blob(first));
    for tree in entries(&sandbox, "trees") {
        fs_err::remove_dir_all(tree).expect("remove");
    }
    mended_by_pull(&sandbox, &name);
    // A blob with other bytes is found bad when its tree is to be made.
    let mut bytes = first.clone();
    bytes[1000] ^= 1;
    fs_err::write(sandbox.blob(first), bytes).expect("write");
    for record in entries(&sandbox, "layers") {
        fs_err::remove_file(record).expect("remove");
    }
    mended_by_pull(&sandbox, &name);
    // The documents.
    for layer in layers() {
        assert!(sandbox.blob(&layer).exists());
    }
    for path in entries(&sandbox, "blobs/sha256") {
        if fs_err::metadata(&path).expect("metadata").len() < 10_000 {
            fs_err::write(&path, "{}").expect("write");
            mended_by_pull(&sandbox, &name);
        }
    }
    // Without its blob and its tree, what is used next is fetched.
    drop_blobs(&sandbox);
    for tree in entries(&sandbox, "trees") {
        fs_err::remove_dir_all(tree).expect("remove");
    }
    let checked = sandbox.dhow(["system", "check"]);
    assert_eq!(checked.status, 1);
    let remedy = format!("`dhow pull {name}` fetches it again");
    assert!(checked.stdout.contains(&remedy), "{}", checked.stdout);
    mended_by_pull(&sandbox, &name);
}

#[test]
fn a_damaged_tree_is_replaced_and_whom_it_carries_is_not_disturbed() {
    let home = Registry::embedded();
    let (sandbox, name) = pushed(&home);
    drop_blobs(&sandbox);
    let _end = sandbox.removed_at_end("old");
    sandbox
        .dhow(["run", "-d", "--name", "old", &name, "sleep", "1000"])
        .ok();
    let trees = entries(&sandbox, "trees");
    let tree = trees.first().expect("a tree");
    let passwd = fs_err::read_to_string(tree.join("fs/etc/passwd")).expect("read");
    fs_err::write(tree.join("fs/etc/passwd"), "changed\n").expect("write");
    let said = sandbox.dhow(["system", "check"]);
    assert_eq!(said.status, 1);
    let said = sandbox.dhow(["system", "check", "--repair"]).ok();
    assert!(said.contains("1 damaged, 0 left"), "{said}");
    assert!(
        said.contains(&format!("(taken out); `dhow pull {name}` fetches it again")),
        "{said}"
    );
    // The next use of the image fetches it by itself.
    let ran = sandbox.dhow(["run", "--rm", &name, "cat", "/etc/passwd"]);
    assert!(
        ran.stderr
            .contains("is damaged here; fetching what it lacks"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), passwd.trim_end());
    assert_eq!(
        sandbox.dhow(["exec", "old", "cat", "/etc/passwd"]).ok(),
        "changed"
    );
    sandbox.assert_whole();
    sandbox.dhow(["rm", "-f", "old"]).ok();
    sandbox.dhow(["system", "prune", "-f"]).ok();
    assert_eq!(entries(&sandbox, "trees").len(), 1);
}

#[test]
fn an_image_that_is_mended_keeps_its_other_platforms() {
    let home = Registry::embedded();
    let image = |name: &str| {
        vec![
            tar("shared", &noise(3, 30_000)),
            tar(name, &noise(4, 30_000)),
        ]
    };
    let platforms = [("s390x", image("s390x")), ("amd64", image("amd64"))];
    let (index, digest) = home.push_index("app", "1", &platforms);
    let name = format!("{}/app:1", home.address());
    let sandbox = Sandbox::new();
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    let shown = || {
        let format = "{{.Architecture}} {{.Index.digest}}";
        sandbox.dhow(["inspect", "-f", format, &name]).ok()
    };
    let kept = format!("amd64 {digest}");
    assert_eq!(shown(), kept);
    let parsed: serde_json::Value = serde_json::from_slice(&index).expect("an index");
    let of_digest = |digest: &serde_json::Value| {
        let hex = digest.as_str().expect("a digest").replace("sha256:", "");
        sandbox.path("root/blobs/sha256").join(hex)
    };
    let manifests = parsed["manifests"].as_array().expect("manifests");
    let mut parts = vec![sandbox.blob(&index), sandbox.blob(&image("s390x")[1])];
    for manifest in manifests {
        let path = of_digest(&manifest["digest"]);
        let bytes = fs_err::read(&path).expect("a manifest");
        let document: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        parts.extend([path, of_digest(&document["config"]["digest"])]);
    }
    // Whatever of it is gone or has other bytes, a plain pull brings it back, and the name stands for all platforms still.
    for path in &parts {
        let bytes = fs_err::read(path).expect("a part");
        fs_err::remove_file(path).expect("remove");
        mended_by_pull(&sandbox, &name);
        assert_eq!(shown(), kept);
        assert!(fs_err::read(path).expect("a part") == bytes, "{path:?}");
        let mut other = bytes.clone();
        other[0] ^= 1;
        fs_err::write(path, &other).expect("write");
        sandbox.dhow(["system", "check", "--repair"]);
        mended_by_pull(&sandbox, &name);
        assert_eq!(shown(), kept);
        assert!(fs_err::read(path).expect("a part") == bytes, "{path:?}");
    }
    // So it is where the registry has something newer under the name for others, but the same image for this machine.
    let newer = [("riscv64", image("riscv64")), ("amd64", image("amd64"))];
    home.push_index("app", "1", &newer);
    fs_err::remove_file(&parts[1]).expect("remove");
    let (registry, id) = (home.address(), digest.as_str());
    home.ask(
        "PUT",
        &format!("/v2/app/manifests/{id}"),
        &[("Content-Type", dhow_integration_tests::registry::INDEX)],
        &index,
    )
    .expect(201);
    mended_by_pull(&sandbox, &name);
    assert_eq!(shown(), kept, "{registry}");
    // And where a tree is missing, all platforms are no reason to call it whole.
    for tree in entries(&sandbox, "trees") {
        fs_err::remove_dir_all(tree).expect("remove");
    }
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    sandbox.assert_whole();
}
