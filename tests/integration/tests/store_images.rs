//! Images from the command line: import, tag, list, inspect, save, load, remove.

use std::io::Write as _;
use std::process::{Command, Stdio};

use dhow_integration_tests::{Ran, Sandbox};
use serde_json::Value;

fn files_below(sandbox: &Sandbox, directory: &str) -> usize {
    let listed = fs_err::read_dir(sandbox.path("root").join(directory)).expect("list");
    listed.count()
}

#[test]
fn an_imported_image_is_listed_inspected_and_removed() {
    let sandbox = Sandbox::new();
    let tar = sandbox.busybox_tar();
    let tar = tar.to_str().expect("a path");
    let id = sandbox
        .dhow([
            "import",
            "-c",
            "CMD [\"sh\"]",
            "-c",
            "ENV A='b c' D=e",
            "-c",
            "EXPOSE 80",
            "-c",
            "LABEL who=me",
            "-m",
            "a word",
            tar,
            "team/app:1",
        ])
        .ok();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let short = &id["sha256:".len()..][..12];

    sandbox
        .dhow(["tag", "team/app:1", "localhost:5000/other"])
        .ok();
    let listed = sandbox.dhow(["images"]).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("REPOSITORY"), "{listed}");
    assert!(lines[0].contains("IMAGE ID") && lines[0].ends_with("SIZE"));
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(
        lines.iter().skip(1).all(|line| line.contains(short)),
        "{listed}"
    );
    assert!(lines[1].starts_with("team/app") || lines[2].starts_with("team/app"));
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), short);
    assert_eq!(
        sandbox
            .dhow(["images", "-q", "--no-trunc", "team/app"])
            .ok(),
        id
    );
    assert_eq!(sandbox.dhow(["images", "-q", "team/app:2"]).ok(), "");
    let row: Value = serde_json::from_str(
        &sandbox
            .dhow(["images", "--format", "json", "team/app"])
            .ok(),
    )
    .expect("JSON");
    assert_eq!(
        (&row["Repository"], &row["Tag"]),
        (&"team/app".into(), &"1".into())
    );

    let all: Value = serde_json::from_str(&sandbox.dhow(["inspect", short]).ok()).expect("JSON");
    assert_eq!(all[0]["Id"], id.as_str());
    assert_eq!(all[0]["Config"]["Env"], serde_json::json!(["A=b c", "D=e"]));
    assert_eq!(all[0]["Config"]["Labels"]["who"], "me");
    assert_eq!(all[0]["RepoTags"].as_array().map(Vec::len), Some(2));
    let format = "{{.Config.Cmd}} {{json .Config.ExposedPorts}}";
    let part = sandbox.dhow(["inspect", "-f", format, "team/app:1"]).ok();
    assert_eq!(part, r#"[sh] {"80/tcp":{}}"#);

    // By its id it has two names; one by one they go, and with the last one everything.
    let said = sandbox.dhow(["rmi", short]).fails(125);
    assert!(said.contains("2 names") && said.contains("-f"), "{said}");
    assert_eq!(
        sandbox.dhow(["rmi", "team/app:1"]).ok(),
        "Untagged: team/app:1"
    );
    let removed = sandbox.dhow(["rmi", short]).ok();
    assert_eq!(
        removed,
        format!("Untagged: localhost:5000/other:latest\nDeleted: {id}")
    );
    sandbox.swept();
    for directory in ["trees", "layers", "blobs/sha256", "tags", "leases", "tmp"] {
        assert_eq!(files_below(&sandbox, directory), 0, "{directory}");
    }
}

#[test]
fn mistakes_are_answered_in_one_line() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "text",
        "this is no tar at all, but long enough to be looked at".repeat(20),
    );
    let text = sandbox.path("text");
    let text = text.to_str().expect("a path");
    for (args, word) in [
        (vec!["rmi", "nosuch"], "nosuch"),
        (vec!["inspect", "nosuch"], "nosuch"),
        (vec!["tag", "nosuch", "other"], "nosuch"),
        (vec!["tag", "a", "Upper"], "Upper"),
        (vec!["save", "-o", "/dev/null", "nosuch"], "nosuch"),
        (vec!["import", "/no/such/file", "x"], "/no/such/file"),
        (vec!["import", text, "x"], "tar"),
        (vec!["import", text, "x", "-c", "RUN make"], "RUN"),
        (vec!["load", "-i", text], "archive"),
        (vec!["load", "-i", "/no/such/file"], "/no/such/file"),
    ] {
        let said = sandbox.dhow(&args).fails(125);
        assert!(said.contains(word), "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
    }
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
    for directory in ["trees", "layers", "leases", "tmp"] {
        assert_eq!(files_below(&sandbox, directory), 0, "{directory}");
    }
}

#[test]
fn a_compressed_tar_from_standard_input_is_the_same_image() {
    let sandbox = Sandbox::new();
    let tar = sandbox.busybox_tar();
    let tar_text = tar.to_str().expect("a path");
    sandbox.dhow(["import", tar_text, "plain"]).ok();
    let zipped = Command::new("gzip")
        .args(["-1", "-c"])
        .arg(&tar)
        .output()
        .expect("gzip")
        .stdout;
    let mut child = sandbox
        .command(["import", "-", "zipped"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start dhow");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(&zipped).expect("write");
    drop(stdin);
    Ran::from(child.wait_with_output().expect("wait")).ok();
    let layers = |name: &str| {
        sandbox
            .dhow(["inspect", "-f", "{{.RootFS.Layers}}", name])
            .ok()
    };
    assert_eq!(layers("plain"), layers("zipped"));
    assert_eq!(files_below(&sandbox, "trees"), 1);
}

#[test]
fn archives_go_to_other_stores_and_other_programs() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox.dhow(["tag", "busybox", "localhost:5000/bb:2"]).ok();
    let file = sandbox.path("bb.tar");
    let file = file.to_str().expect("a path");
    sandbox
        .dhow(["save", "-o", file, "busybox", "localhost:5000/bb:2"])
        .ok();
    let id = sandbox.dhow(["images", "-q", "--no-trunc"]).ok();

    let other = Sandbox::new();
    let loaded = other.dhow(["load", "-q", "-i", file]).ok();
    assert_eq!(
        loaded,
        "Loaded image: busybox:latest\nLoaded image: localhost:5000/bb:2"
    );
    assert_eq!(other.dhow(["images", "-q", "--no-trunc"]).ok(), id);
    // What is there already is not taken twice.
    other.dhow(["load", "-q", "-i", file]).ok();
    assert_eq!(files_below(&other, "trees"), 1);

    // skopeo reads the archive, and dhow reads what skopeo writes.
    let copied = sandbox.path("copied.tar");
    let copied = copied.to_str().expect("a path");
    let from = format!("oci-archive:{file}:latest");
    let run = Command::new("skopeo")
        .args([
            "copy",
            "-q",
            &from,
            &format!("oci-archive:{copied}:copied:3"),
        ])
        .output()
        .expect("package skopeo");
    Ran::from(run).ok();
    let third = Sandbox::new();
    let loaded = third.dhow(["load", "-q", "-i", copied]).ok();
    assert_eq!(loaded, "Loaded image: copied:3");
    // Its layer is compressed now, the image is the same.
    assert_eq!(third.dhow(["images", "-q", "--no-trunc"]).ok(), id);

    // A damaged archive leaves nothing.
    let mut bytes = fs_err::read(copied).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let bad = sandbox.write("bad.tar", bytes);
    let fourth = Sandbox::new();
    fourth
        .dhow(["load", "-q", "-i", bad.to_str().expect("a path")])
        .fails(125);
    assert_eq!(fourth.dhow(["images", "-q"]).ok(), "");
    assert_eq!(files_below(&fourth, "layers"), 0);
}
