//! The life of images, snapshots and root file systems in one store, with real mounts. As root only: it mounts overlays.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use dhow_image::{DiffId, Digest, ImageReference, Platform};
use dhow_image_store::{Image, ImportConfig, Lease, Store, enter_private_mounts};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn store() -> (tempfile::TempDir, Store) {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("root")).unwrap();
    (place, store)
}

fn tar_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(if name.ends_with('/') { 0o1777 } else { 0o644 });
        header.set_mtime(1_000_000);
        header.set_entry_type(if name.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn import(store: &Store, lease: &Lease, entries: &[(&str, &[u8])]) -> Image {
    let config = ImportConfig {
        config: oci_spec::image::Config::default(),
        platform: Platform::host(),
        created: None,
        message: None,
    };
    let tar = tar_of(entries);
    store.import(lease, tar.as_slice(), config).unwrap()
}

fn reference(text: &str) -> ImageReference {
    text.parse().unwrap()
}

#[test]
fn a_snapshot_becomes_a_layer_where_it_stands() {
    if !is_root() {
        return;
    }
    enter_private_mounts().unwrap();
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let base = import(
        &store,
        &lease,
        &[
            ("tmp/", b""),
            ("etc/a", b"a"),
            ("etc/b", b"b"),
            ("opt/x/y", b"y"),
        ],
    );
    let mut snapshot = lease.snapshot(base.diff_ids()).unwrap();
    let root = snapshot.mount().unwrap().to_owned();
    assert_eq!(root.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    std::fs::write(root.join("etc/a"), "changed").unwrap();
    std::fs::remove_file(root.join("etc/b")).unwrap();
    std::fs::remove_dir_all(root.join("opt/x")).unwrap();
    std::fs::create_dir(root.join("opt/x")).unwrap();
    std::fs::create_dir_all(root.join("new/deep")).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("new/socket")).unwrap();
    symlink("a", root.join("etc/link")).unwrap();
    let layer = snapshot.commit().unwrap();
    let mut layers = base.diff_ids().to_vec();
    layers.push(layer.diff_id().clone());
    let image = lease.commit_image(base.config(), &layers).unwrap();
    store.tag(&reference("built"), image.descriptor()).unwrap();
    drop(lease);

    let image = store.find("built").unwrap();
    let root_fs = store.root_fs(&image, "c1").unwrap();
    let target = store.root().join("containers/c1/root");
    std::fs::create_dir(&target).unwrap();
    root_fs.mount(&target, None).unwrap();
    assert_eq!(
        std::fs::read_to_string(target.join("etc/link")).unwrap(),
        "changed"
    );
    assert!(!target.join("etc/b").exists());
    assert_eq!(std::fs::read_dir(target.join("opt/x")).unwrap().count(), 0);
    assert!(target.join("new/deep").is_dir() && !target.join("new/socket").exists());
    assert_eq!(
        target.join("tmp").metadata().unwrap().mode() & 0o7777,
        0o1777
    );
    std::fs::write(target.join("written"), "here").unwrap();
    assert!(root_fs.upper().join("written").exists());
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();

    // In use by a container, so only force removes the name; the trees stay as long as the container.
    let error = store.untag("built", false).unwrap_err().to_string();
    assert!(error.contains("c1") && error.contains("-f"), "{error}");
    store.untag("built", true).unwrap();
    store.sweep().unwrap();
    assert!(store.find("built").is_err());
    store
        .find_root_fs("c1")
        .unwrap()
        .unwrap()
        .mount(&target, None)
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(target.join("written")).unwrap(),
        "here"
    );
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
    std::fs::remove_dir(&target).unwrap();
    store.remove_root_fs("c1").unwrap();
    store.remove_root_fs("c1").unwrap();
    store.collect().unwrap();
    assert_nothing_left(&store);
}

fn assert_nothing_left(store: &Store) {
    for directory in [
        "blobs/sha256",
        "layers",
        "trees",
        "tags",
        "containers",
        "leases",
        "tmp",
    ] {
        let left: Vec<_> = std::fs::read_dir(store.root().join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
}

#[test]
fn what_a_lease_names_is_not_collected() {
    if !is_root() {
        return;
    }
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let image = import(&store, &lease, &[("a", b"a")]);
    store.collect().unwrap();
    store.tag(&reference("kept"), image.descriptor()).unwrap();
    drop(lease);
    store.collect().unwrap();
    let found = store.find("kept").unwrap();
    assert_eq!(found.id(), image.id());
    assert_eq!(store.find(image.id().short()).unwrap().id(), image.id());
    assert_eq!(
        store.find(&image.id().to_string()).unwrap().id(),
        image.id()
    );
    assert!(found.size() > 1024);
    let removed = store.untag(image.id().short(), false).unwrap();
    let swept = store.sweep().unwrap().unwrap();
    assert_eq!(swept.trees, 1);
    assert_eq!(removed.untagged, [reference("kept")]);
    assert_eq!(removed.deleted, [image.id().clone()]);
    assert_nothing_left(&store);
}

#[test]
fn the_cache_keeps_layers_until_it_is_pruned() {
    if !is_root() {
        return;
    }
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let layer: DiffId = import(&store, &lease, &[("a", b"a")]).diff_ids()[0].clone();
    let key = Digest::of(b"step");
    assert_eq!(lease.cached(&key).unwrap(), None);
    store.remember(&key, &layer).unwrap();
    drop(lease);
    store.collect().unwrap();
    let cached = || store.lease().unwrap().cached(&key).unwrap();
    assert_eq!(cached(), Some(layer));
    store.prune().unwrap();
    assert_eq!(cached(), None);
    assert_nothing_left(&store);
}

#[test]
fn a_layer_is_used_before_it_is_durable_and_durable_when_its_lease_is_gone() {
    if !is_root() {
        return;
    }
    enter_private_mounts().unwrap();
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let mut layers = vec![import(&store, &lease, &[("a", b"a")]).diff_ids()[0].clone()];
    for step in 0..20 {
        let mut snapshot = lease.snapshot(&layers).unwrap();
        let root = snapshot.mount().unwrap();
        for below in 0..step {
            assert!(root.join(format!("step-{below}")).exists());
        }
        std::fs::write(root.join(format!("step-{step}")), [step]).unwrap();
        let layer = snapshot.commit().unwrap().diff_id().clone();
        let key = Digest::of(&[step]);
        store.remember(&key, &layer).unwrap();
        assert_eq!(lease.cached(&key).unwrap(), Some(layer.clone()));
        layers.push(layer);
    }
    drop(lease);
    // A build that has failed later on keeps what its steps made.
    let lease = store.lease().unwrap();
    for (step, layer) in (0..20u8).zip(&layers[1..]) {
        let key = Digest::of(&[step]);
        assert_eq!(lease.cached(&key).unwrap().as_ref(), Some(layer));
    }
    let image = lease
        .commit_image(&dhow_image::ImageConfiguration::default(), &layers)
        .unwrap();
    assert_eq!(image.diff_ids(), layers);
}

#[test]
fn three_hundred_layers_are_mounted() {
    if !is_root() {
        return;
    }
    enter_private_mounts().unwrap();
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let mut layers = Vec::new();
    for i in 0..300 {
        let name = format!("f{i}");
        layers.extend_from_slice(import(&store, &lease, &[(&name, b"x")]).diff_ids());
    }
    let mut snapshot = lease.snapshot(&layers).unwrap();
    let root = snapshot.mount().unwrap();
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 300);
}

#[test]
fn an_identical_import_is_kept_once() {
    if !is_root() {
        return;
    }
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let one = import(&store, &lease, &[("a", b"a"), ("b", b"b")]);
    let other = import(&store, &lease, &[("b", b"b"), ("./a", b"a")]);
    assert_eq!(one.id(), other.id());
    assert_eq!(count(&store.root().join("trees")), 1);
}

/// All of the above once more, where this process is root of a user namespace only.
#[test]
fn the_same_holds_in_a_user_namespace() {
    let run = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--skip", "the_same_holds", "--skip", "three_hundred"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    if said.contains("unshare:") {
        // This machine allows no user namespaces; there is nothing to hold.
        return;
    }
    assert!(
        run.status.success(),
        "{}{said}",
        String::from_utf8_lossy(&run.stdout)
    );
}

fn count(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

#[test]
fn a_damaged_import_leaves_nothing() {
    if !is_root() {
        return;
    }
    let (_place, store) = store();
    let lease = store.lease().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar_of(&[("a", &[7; 100_000])])).unwrap();
    let mut gz = gz.finish().unwrap();
    gz.truncate(gz.len() / 2);
    let config = ImportConfig {
        config: oci_spec::image::Config::default(),
        platform: Platform::host(),
        created: None,
        message: None,
    };
    store.import(&lease, gz.as_slice(), config).unwrap_err();
    assert_eq!(count(&store.root().join("trees")), 0);
    let mode = store
        .root()
        .join("trees")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}
