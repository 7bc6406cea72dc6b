//! Views of stores (`dhow registry serve --images`): what the store has dropped comes back for who pulls it, whole indexes are served, and
//! no view is taken for a registry that keeps what it serves.

use dhow_integration_tests::registry::{INDEX, MANIFEST, Registry, noise, sha256, tar};
use dhow_integration_tests::{ClosedPort, Sandbox};
use serde_json::Value;

fn layers() -> Vec<Vec<u8>> {
    let file = |at: u64| tar(&format!("file{at}"), &noise(at + 70, 200_000));
    (0..3).map(file).collect()
}

#[track_caller]
fn drops(sandbox: &Sandbox, count: u32) {
    let said = sandbox.dhow(["image", "prune", "--blobs", "-f"]).ok();
    assert!(said.starts_with(&format!("Dropped {count} ")), "{said}");
}

/// A view of a store that has pulled an image of another program's layers from `home` and dropped their blobs.
fn view_of_dropped(home: &Registry) -> Registry {
    home.push_image("app", "1", &layers());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", home.address());
    sandbox.dhow(["pull", "-q", &name]).ok();
    sandbox.dhow(["tag", &name, "team/app:1"]).ok();
    drops(&sandbox, 3);
    Registry::embedded_with(sandbox, &["--images"])
}

#[test]
fn what_the_store_has_dropped_comes_back_for_who_pulls_it() {
    let home = Registry::embedded();
    let mut view = view_of_dropped(&home);
    let first = &layers()[0];
    let path = format!("/v2/team/app/blobs/{}", sha256(first));
    // How large it is can be told without having it.
    let head = view.ask("HEAD", &path, &[], b"");
    assert_eq!(
        head.expect(200).header("content-length"),
        first.len().to_string()
    );
    assert!(!view.sandbox().blob(first).exists());
    let range = [("Range", "bytes=1000-1999")];
    let part = view.ask("GET", &path, &range, b"");
    assert!(part.expect(206).body == first[1000..2000]);
    assert!(view.sandbox().blob(first).exists());
    let other = Sandbox::new();
    let name = format!("{}/team/app:1", view.address());
    other.dhow(["pull", "-q", &name]).ok();
    assert!(layers().iter().all(|layer| other.blob(layer).exists()));
    other.assert_whole();
    view.sandbox().assert_whole();

    // What the registry has no more is unknown here, too, and where it cannot be asked that is said.
    view.restart_with(&["--images"]);
    drops(view.sandbox(), 3);
    let gone = format!("/v2/app/blobs/{}", sha256(first));
    home.ask("DELETE", &gone, &[], b"").expect(202);
    view.get(&path).expect_error(404, "BLOB_UNKNOWN");
    // Of two places that one cannot be asked matters more than that the other does not have it, whichever is asked first.
    let closed = ClosedPort::new();
    let note = view.sandbox().path("root/locations");
    let note = note.join(sha256(first).replace(':', "-"));
    let lines = [
        format!("{} app\n", home.address()),
        format!("{closed} app\n"),
    ];
    let orders = [
        lines.concat(),
        format!("{}{}", lines[1], lines[0]),
        lines[1].clone(),
    ];
    for order in orders {
        fs_err::write(&note, order).expect("write");
        let answer = view.get(&path);
        answer.expect_error(500, "UNKNOWN");
        assert!(answer.text().contains("cannot be had again from "));
        let place = format!("{closed}/app: ");
        assert!(answer.text().contains(&place), "{}", answer.text());
    }
}

#[test]
fn views_do_not_look_for_blobs_with_each_other() {
    let home = Registry::embedded();
    let view = view_of_dropped(&home);
    let layer = &layers()[1];
    let path = format!("/v2/team/app/blobs/{}", sha256(layer));
    let by_view = [("Dhow-View", "store")];
    for method in ["HEAD", "GET"] {
        view.ask(method, &path, &by_view, b"").expect(404);
    }
    assert!(!view.sandbox().blob(layer).exists());
    // A store whose note leads to its own view, which has taken the address of a registry, comes to an end with that.
    let hex = sha256(layer).replace(':', "-");
    let note = view.sandbox().path("root/locations").join(hex);
    let own = format!("{} team/app\n", view.address());
    let known = fs_err::read_to_string(&note).expect("a note");
    fs_err::write(&note, &own).expect("write");
    view.get(&path).expect_error(404, "BLOB_UNKNOWN");
    fs_err::write(&note, format!("{own}{known}")).expect("write");
    assert!(view.get(&path).expect(200).body == *layer);
}

/// A store that has an image of another program's layers from an archive, so that nothing is known of where they are.
fn loaded() -> Sandbox {
    let home = Registry::embedded();
    home.push_image("app", "1", &layers());
    let (first, sandbox) = (Sandbox::new(), Sandbox::new());
    let name = format!("{}/app:1", home.address());
    let archive = sandbox.path("app.oci").display().to_string();
    let (from, to) = (format!("docker://{name}"), format!("oci-archive:{archive}"));
    first.dhow(["image", "copy", "-q", &from, &to]).ok();
    let to = "store:team/app:1";
    let from = format!("oci-archive:{archive}");
    sandbox.dhow(["image", "copy", "-q", &from, to]).ok();
    // Its layers are unpacked, so that their blobs could go.
    sandbox
        .dhow(["create", "--name", "holder", "team/app:1", "/file0"])
        .ok();
    sandbox.dhow(["rm", "holder"]).ok();
    drops(&sandbox, 0);
    sandbox
}

#[test]
fn a_view_is_no_reason_to_drop_what_it_shows() {
    let view = Registry::embedded_with(loaded(), &["--images"]);
    let sandbox = view.sandbox();
    let host = view.address();
    let name = format!("{host}/team/app:1");
    sandbox.dhow(["pull", "-q", &name]).ok();
    drops(sandbox, 0);
    let from = format!("docker://{name}");
    sandbox
        .dhow(["image", "copy", "-q", &from, "store:copied:1"])
        .ok();
    drops(sandbox, 0);
    // It finds all blobs there, before it is refused.
    let to = format!("docker://{host}/team/app:2");
    let copied = sandbox.dhow(["image", "copy", "-q", "store:team/app:1", &to]);
    let refused = copied.fails(125);
    assert!(refused.contains("app:2"), "{refused}");
    drops(sandbox, 0);

    // Nor is the view of a store that has it from here, for either of them.
    let second = Sandbox::new();
    second.dhow(["pull", "-q", &name]).ok();
    drops(&second, 0);
    second.dhow(["tag", &name, "team/app:1"]).ok();
    let second = Registry::embedded_with(second, &["--images"]);
    let back = format!("{}/team/app:1", second.address());
    sandbox.dhow(["pull", "-q", &back]).ok();
    let all = ["pull", "-q", "--all-platforms", &back];
    sandbox.dhow(all).ok();
    drops(sandbox, 0);
    drops(second.sandbox(), 0);
    for store in [sandbox, second.sandbox()] {
        store.assert_whole();
        // All bytes are at hand.
        store.dhow(["save", "-o", "/dev/null", "team/app:1"]).ok();
        assert_eq!(notes(store), Vec::<String>::new());
    }
    // A registry of its own is one.
    let keeper = Registry::embedded();
    let kept = format!("{}/team/app:1", keeper.address());
    sandbox.dhow(["tag", "team/app:1", &kept]).ok();
    sandbox.dhow(["push", "-q", &kept]).ok();
    let place = format!("{} team/app\n", keeper.address());
    let noted = notes(sandbox);
    assert!(
        !noted.is_empty() && noted.iter().all(|note| *note == place),
        "{noted:?}"
    );
}

/// What is known of where blobs are.
fn notes(sandbox: &Sandbox) -> Vec<String> {
    let notes = fs_err::read_dir(sandbox.path("root/locations")).expect("list");
    let read = |note: fs_err::DirEntry| fs_err::read_to_string(note.path()).expect("a note");
    notes.map(|note| read(note.expect("a note"))).collect()
}

#[test]
fn images_for_several_platforms_are_served_as_a_whole() {
    let home = Registry::embedded();
    let layer = |name: &str| tar(name, &[b'x'; 20_000]);
    let platforms = [
        ("s390x", vec![layer("shared"), layer("s390x")]),
        ("amd64", vec![layer("shared"), layer("amd64")]),
        ("arm64", vec![layer("shared"), layer("arm64")]),
    ];
    let (index, digest) = home.push_index("app", "1", &platforms);
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", home.address());
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    sandbox.dhow(["tag", &name, "team/app:1"]).ok();
    // What has no tree stays: no other platform's layer has one.
    drops(&sandbox, 2);
    let view = Registry::embedded_with(sandbox, &["--images"]);
    let get = |path: &str| view.ask("GET", path, &[("Accept", INDEX)], b"");
    let served = get("/v2/team/app/manifests/1");
    assert!(served.expect(200).body == index);
    assert_eq!(served.header("content-type"), INDEX);
    assert_eq!(served.header("docker-content-digest"), digest);
    let parsed: Value = served.json();
    for entry in parsed["manifests"].as_array().expect("manifests") {
        let digest = entry["digest"].as_str().expect("a digest");
        let manifest = get(&format!("/v2/team/app/manifests/{digest}"));
        assert_eq!(sha256(&manifest.expect(200).body), digest);
        assert_eq!(manifest.header("content-type"), MANIFEST);
        let manifest = manifest.json();
        let blobs = manifest["layers"].as_array().expect("layers").iter();
        for blob in blobs.chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().expect("a digest");
            let answer = get(&format!("/v2/team/app/blobs/{digest}"));
            assert_eq!(sha256(&answer.expect(200).body), digest);
        }
    }
    let other = Sandbox::new();
    let name = format!("{}/team/app:1", view.address());
    other.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    let format = "{{.Architecture}} {{.Index.digest}}";
    let shown = other.dhow(["inspect", "-f", format, &name]).ok();
    assert_eq!(shown, format!("amd64 {digest}"));
    other.assert_whole();

    // Where a platform's only blob is gone, the one that is run is what there is.
    fs_err::remove_file(view.sandbox().blob(&layer("s390x"))).expect("remove");
    let served = get("/v2/team/app/manifests/1");
    assert_eq!(served.expect(200).header("content-type"), MANIFEST);
    let third = Sandbox::new();
    third.dhow(["pull", "-q", &name]).ok();
    third.assert_whole();
}
