//! `dhow push`, `dhow pull` and `dhow registry serve` as people use them, and `skopeo` beside them.

use std::process::{Command, Stdio};

use dhow_integration_tests::registry::{Registry, noise, sha256, tar};
use dhow_integration_tests::{ClosedPort, Gate, Ran, Sandbox, write_program};

fn layers() -> Vec<Vec<u8>> {
    let file = |at: u64| tar(&format!("file{at}"), &noise(at + 1, 500_000));
    (0..4).map(file).collect()
}

/// Runs a program to its end.
fn run(program: &str, args: &[&str]) -> Ran {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("package {program}: {error}"))
        .into()
}

#[track_caller]
fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().expect("a line")
}

#[test]
fn an_image_goes_to_every_registry_and_comes_back() {
    for registry in [Registry::embedded(), Registry::debian()] {
        let sandbox = Sandbox::new();
        sandbox.import_busybox();
        let id = sandbox
            .dhow(["inspect", "--format", "{{.Id}}", "busybox"])
            .ok();
        let name = format!("{}/team/app:1.2", registry.address());
        sandbox.dhow(["tag", "busybox", &name]).ok();
        let pushed = sandbox.dhow(["push", &name]);
        assert!(pushed.stderr.contains(": pushed"), "{}", pushed.stderr);
        let said = pushed.ok();
        let mut lines = said.lines().rev();
        let count = lines.next().expect("a line");
        assert!(
            count.starts_with("Sent ") && count.ends_with(" in 8 requests"),
            "{count}"
        );
        let digest_line = lines.next().expect("a line");
        assert!(
            digest_line.starts_with("1.2: digest: sha256:"),
            "{digest_line}"
        );
        let digest = digest_line.split(' ').nth(2).expect("a digest").to_owned();

        let other = Sandbox::new();
        let pulled = other.dhow(["pull", &name]);
        assert!(pulled.stderr.contains(": pulled"), "{}", pulled.stderr);
        let said = pulled.ok();
        assert!(
            said.starts_with(&format!(
                "Digest: {digest}\nStatus: Downloaded newer image for {name}\n"
            )),
            "{said}"
        );
        assert_eq!(last_line(&said), name);
        assert_eq!(
            other.dhow(["inspect", "--format", "{{.Id}}", &name]).ok(),
            id
        );
        let again = other.dhow(["pull", &name]).ok();
        assert!(
            again.contains(&format!("Status: Image is up to date for {name}")),
            "{again}"
        );
        // What came can go on to another repository, bit for bit.
        let third = format!("{}/other:1", registry.address());
        other.dhow(["tag", &name, &third]).ok();
        let pushed = other.dhow(["push", &third]);
        assert!(
            pushed.stderr.contains(": mounted from team/app"),
            "{}",
            pushed.stderr
        );
        assert!(pushed.ok().contains(&format!("1: digest: {digest} ")));
    }
}

#[test]
fn a_push_sends_only_what_the_registry_lacks() {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let name = |tag: &str| format!("{}/app:{tag}", registry.address());
    for tag in ["1", "2"] {
        sandbox.dhow(["tag", "busybox", &name(tag)]).ok();
    }
    let first = sandbox.dhow(["push", &name("1")]).ok();
    assert!(first.contains("Sent "), "{first}");
    let repeated = sandbox.dhow(["push", &name("1")]).ok();
    assert_eq!(
        last_line(&repeated),
        "The registry has this image under this name already; sent 0 B in 1 request"
    );
    let second = sandbox.dhow(["push", &name("2")]);
    assert!(
        second.stderr.contains(": already there"),
        "{}",
        second.stderr
    );
    assert!(!second.stderr.contains(": pushed"), "{}", second.stderr);
    // The tag, a look for the layer and the config, the manifest.
    assert!(last_line(&second.ok()).ends_with(" in 4 requests"));
    let quiet = sandbox.dhow(["push", "--quiet", &name("1")]);
    assert_eq!(
        (quiet.stdout.trim_end(), quiet.stderr.as_str()),
        (name("1").as_str(), "")
    );
}

#[test]
fn a_changed_push_asks_only_for_what_is_new_unless_the_registry_lost_the_rest() {
    let source = Registry::embedded();
    let mut all: Vec<_> = (0..40)
        .map(|at| tar(&format!("file{at}"), b"content"))
        .collect();
    let sandbox = Sandbox::new();
    for tag in ["1", "2", "3"] {
        all[39] = tar("top", tag.as_bytes());
        source.push_image("app", tag, &all);
        let name = format!("{}/app:{tag}", source.address());
        sandbox.dhow(["pull", "-q", &name]).ok();
    }
    for target in [Registry::embedded(), Registry::debian()] {
        let name = format!("{}/app:latest", target.address());
        let push = |tag: &str| {
            let pulled = format!("{}/app:{tag}", source.address());
            sandbox.dhow(["tag", &pulled, &name]).ok();
            sandbox.dhow(["push", &name])
        };
        push("1").ok();
        // The tag; look, begin and send for the layer and the config; the manifest.
        let changed = push("2").ok();
        assert!(last_line(&changed).ends_with(" in 8 requests"), "{changed}");
        let lost = format!("/v2/app/blobs/{}", sha256(&all[7]));
        target.ask("DELETE", &lost, &[], b"").expect(202);
        let repaired = push("3");
        let note = "may not have all that its older version of";
        assert!(repaired.stderr.contains(note), "{}", repaired.stderr);
        repaired.ok();
        target.get(&lost).expect(200);
    }
}

#[test]
fn a_pull_fetches_only_what_the_store_lacks() {
    let registry = Registry::embedded();
    let all = layers();
    registry.push_image("app", "1", &all[..3]);
    registry.push_image("app", "2", &all);
    let sandbox = Sandbox::new();
    let name = |tag: &str| format!("{}/app:{tag}", registry.address());
    sandbox.dhow(["pull", &name("1")]).ok();
    let pulled = sandbox.dhow(["pull", &name("2")]);
    assert_eq!(
        pulled.stderr.matches(": already there").count(),
        3,
        "{}",
        pulled.stderr
    );
    assert_eq!(
        pulled.stderr.matches(": pulled").count(),
        1,
        "{}",
        pulled.stderr
    );
    let said = pulled.ok();
    assert!(
        said.contains("3 of 4 layers were here already, which saved 1.5 MB"),
        "{said}"
    );
    let quiet = sandbox.dhow(["pull", "-q", &name("2")]);
    assert_eq!(
        (quiet.stdout.trim_end(), quiet.stderr.as_str()),
        (name("2").as_str(), "")
    );
}

#[test]
fn an_image_can_have_a_layer_twice_and_none_at_all() {
    let registry = Registry::embedded();
    let (first, second) = (tar("first", b"1"), tar("second", b"2"));
    let twice = [first.clone(), second, first.clone(), first];
    registry.push_image("app", "twice", &twice);
    registry.push_image("app", "none", &[]);
    let sandbox = Sandbox::new();
    for tag in ["twice", "none"] {
        let name = format!("{}/app:{tag}", registry.address());
        sandbox.dhow(["pull", "-q", &name]).ok();
        let target = Registry::debian();
        let copy = format!("{}/copy:{tag}", target.address());
        sandbox.dhow(["tag", &name, &copy]).ok();
        sandbox.dhow(["push", "-q", &copy]).ok();
        let manifest = |registry: &Registry, repository: &str| {
            let path = format!("/v2/{repository}/manifests/{tag}");
            let accept = [("Accept", dhow_integration_tests::registry::MANIFEST)];
            registry.ask("GET", &path, &accept, b"").expect(200).text()
        };
        let layers = |manifest: String| manifest.matches("image.layer").count();
        let expected = if tag == "twice" { 4 } else { 0 };
        assert_eq!(layers(manifest(&registry, "app")), expected);
        assert_eq!(layers(manifest(&target, "copy")), expected);
    }
}

#[test]
fn an_image_is_pulled_by_digest_and_for_a_platform() {
    let registry = Registry::embedded();
    let digest = registry.push_image("app", "1", &layers()[..1]);
    let sandbox = Sandbox::new();
    let name = format!("{}/app@{digest}", registry.address());
    sandbox.dhow(["pull", &name]).ok();
    sandbox.dhow(["inspect", &name]).ok();
    let manifest = registry.get("/v2/app/manifests/1").body;
    let mut entry = dhow_integration_tests::registry::descriptor(
        dhow_integration_tests::registry::MANIFEST,
        &manifest,
    );
    entry["platform"] = serde_json::json!({ "os": "linux", "architecture": "riscv64" });
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": dhow_integration_tests::registry::INDEX,
        "manifests": [entry],
    })
    .to_string();
    let kind = [("Content-Type", dhow_integration_tests::registry::INDEX)];
    registry
        .ask("PUT", "/v2/app/manifests/all", &kind, index.as_bytes())
        .expect(201);
    let name = format!("{}/app:all", registry.address());
    let refused = sandbox.dhow(["pull", &name]).fails(125);
    assert!(refused.contains("it is for linux/riscv64"), "{refused}");
    let pulled = sandbox
        .dhow(["pull", "--platform", "linux/riscv64", &name])
        .ok();
    assert!(
        pulled.contains(&format!("Digest: {}", sha256(index.as_bytes()))),
        "{pulled}"
    );
    let again = sandbox
        .dhow(["pull", "--platform", "linux/riscv64", &name])
        .ok();
    assert!(again.contains("up to date"), "{again}");
}

#[test]
fn every_mistake_is_one_line_that_says_what_to_do() {
    let registry = Registry::embedded();
    let nobody = ClosedPort::new();
    let sandbox = Sandbox::new();
    let there = registry.address();
    let closed = format!("{nobody}/app");
    for (args, says) in [
        (vec!["pull", &closed], "no registry answers at"),
        (vec!["pull", &format!("{there}/none")], "does not have it"),
        (vec!["pull", "localhost/UPPER"], "lower case"),
        (
            vec!["pull", "registry.invalid/app"],
            "no machine has the name",
        ),
        (
            vec!["pull", "--platform", "linux", "app"],
            "OS/ARCHITECTURE",
        ),
        (vec!["push", &closed], "no such image"),
        (
            vec!["registry", "serve", "--addr", &there.to_string()],
            "choose one with --addr",
        ),
        (
            vec!["registry", "serve", "--addr", "nonsense"],
            "listening at nonsense",
        ),
    ] {
        let said = sandbox.dhow(&args).fails(125);
        assert!(said.contains(says), "{args:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{args:?}: {said}");
    }
    let root = registry.path("root");
    let second = Command::new(dhow_integration_tests::program("dhow"))
        .arg("--root")
        .arg(&root)
        .args(["registry", "serve", "--addr", "127.0.0.1:0"])
        .output()
        .expect("start dhow");
    let said = Ran::from(second).fails(125);
    assert!(said.contains("another registry serves"), "{said}");
}

#[test]
fn a_blob_that_rots_in_the_registry_is_not_taken() {
    let registry = Registry::embedded();
    let all = layers();
    registry.push_image("app", "1", &all);
    let hex = sha256(&all[2]).replace("sha256:", "");
    let path = registry.path("root/registry/blobs/sha256").join(hex);
    let mut rotten = all[2].clone();
    rotten[100_000] ^= 1;
    fs_err::write(&path, rotten).expect("write");
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    let said = sandbox.dhow(["pull", "-q", &name]).fails(125);
    assert!(said.contains("digest"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
    // Once it is whole again, so is the pull.
    fs_err::write(&path, &all[2]).expect("write");
    sandbox.dhow(["pull", "-q", &name]).ok();
}

/// How many bytes of blobs that are still coming a store has.
fn kept_of_parts(sandbox: &Sandbox) -> u64 {
    let Ok(parts) = fs_err::read_dir(sandbox.path("root/ingest")) else {
        return 0;
    };
    let sizes = parts.filter_map(|part| Some(part.ok()?.metadata().ok()?.len()));
    sizes.sum()
}

#[test]
fn a_killed_push_leaves_no_tag_and_the_next_succeeds() {
    let mut registry = Registry::embedded();
    let layer = tar("file", &noise(9, 8_000_000));
    registry.push_image("source", "1", std::slice::from_ref(&layer));
    let sandbox = Sandbox::new();
    let source = format!("{}/source:1", registry.address());
    sandbox.dhow(["pull", "-q", &source]).ok();
    let target = Registry::embedded();
    let (address, gate) = Gate::before(target.address(), 5_000_000);
    let name = format!("{address}/app:1");
    sandbox.dhow(["tag", &source, &name]).ok();
    gate.kill_when_stalled(sandbox.command(["push", "-q", &name]), || true);
    target.get("/v2/app/manifests/1").expect(404);
    target
        .get(&format!("/v2/app/blobs/{}", sha256(&layer)))
        .expect(404);
    gate.open();
    sandbox.dhow(["push", "-q", &name]).ok();
    target.get("/v2/app/manifests/1").expect(200);
    // A registry that is killed has all that it said it has.
    registry.kill_and_restart();
    let source = format!("{}/source:1", registry.address());
    Sandbox::new().dhow(["pull", "-q", &source]).ok();
}

#[test]
fn a_killed_pull_leaves_no_image_and_the_next_goes_on() {
    let registry = Registry::embedded();
    let layer = tar("file", &noise(9, 8_000_000));
    registry.push_image("app", "1", std::slice::from_ref(&layer));
    let (address, gate) = Gate::before(registry.address(), 5_000_000);
    let sandbox = Sandbox::new();
    let name = format!("{address}/app:1");
    // What came through lies in the kernel's buffers until dhow has written it down.
    gate.kill_when_stalled(sandbox.command(["pull", "-q", &name]), || {
        kept_of_parts(&sandbox) > 4_500_000
    });
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
    gate.open();
    let said = sandbox.dhow(["pull", &name]).ok();
    let received = said
        .lines()
        .find(|line| line.starts_with("Received "))
        .expect("a count");
    let received: f64 = received
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(received < 4.0, "{said}");
    sandbox.dhow(["inspect", &name]).ok();
}

#[test]
fn a_registry_with_a_password_is_told_it() {
    let registry = Registry::debian_with_password();
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let address = registry.address();
    let name = format!("{address}/app:1");
    sandbox.dhow(["tag", "busybox", &name]).ok();
    let config = sandbox.path("docker");
    let dhow = |args: [&str; 3]| -> Ran {
        let mut command = sandbox.command(args);
        command.env("DOCKER_CONFIG", &config);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", sandbox.path("bin").display()));
        command.output().expect("start dhow").into()
    };
    let denied = dhow(["push", "-q", &name]).fails(125);
    assert!(denied.contains("denies access"), "{denied}");
    assert!(denied.contains("dhow login"), "{denied}");
    // me:wrong, then me:secret.
    let entry = |auth: &str| format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"{auth}\"}}}}}}");
    sandbox.write("docker/config.json", entry("bWU6d3Jvbmc="));
    dhow(["push", "-q", &name]).fails(125);
    sandbox.write("docker/config.json", entry("bWU6c2VjcmV0"));
    dhow(["push", "-q", &name]).ok();
    // A helper that keeps the password instead.
    write_program(
        sandbox.path("bin/docker-credential-test"),
        &format!(
            "#!/bin/sh\nread -r name\n[ \"$1 $name\" = 'get {address}' ] || exit 1\necho '{{\"Username\":\"me\",\"Secret\":\"secret\"}}'\n"
        ),
    );
    sandbox.write("docker/config.json", "{\"credsStore\":\"test\"}");
    dhow(["pull", "-q", &name]).ok();
}

#[test]
fn skopeo_copies_out_of_the_embedded_registry_and_into_it() {
    let registry = Registry::embedded();
    let address = registry.address();
    registry.push_image("app", "1", &layers());
    let dir = registry.path("layout").display().to_string();
    let from = format!("docker://{address}/app:1");
    let layout = format!("oci:{dir}:1");
    run(
        "skopeo",
        &["copy", "--src-tls-verify=false", &from, &layout],
    )
    .ok();
    let into = format!("docker://{address}/copied/deep/down:2");
    run(
        "skopeo",
        &["copy", "--dest-tls-verify=false", &layout, &into],
    )
    .ok();
    let docker = format!("docker://{address}/app:docker");
    let convert = [
        "copy",
        "--dest-tls-verify=false",
        "--format",
        "v2s2",
        &layout,
        &docker,
    ];
    run("skopeo", &convert).ok();
    let tags = run(
        "skopeo",
        &[
            "list-tags",
            "--tls-verify=false",
            &format!("docker://{address}/app"),
        ],
    )
    .ok();
    assert!(
        tags.contains("\"1\"") && tags.contains("\"docker\""),
        "{tags}"
    );
    // Docker's own media types are as good as OCI's.
    let sandbox = Sandbox::new();
    for name in ["copied/deep/down:2", "app:docker"] {
        sandbox
            .dhow(["pull", "-q", &format!("{address}/{name}")])
            .ok();
    }
}

#[test]
fn skopeo_takes_what_dhow_pushed() {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let name = format!("{}/busybox:1", registry.address());
    sandbox.dhow(["tag", "busybox", &name]).ok();
    sandbox.dhow(["push", "-q", &name]).ok();
    let layout = format!("oci:{}:1", sandbox.path("layout").display());
    run(
        "skopeo",
        &[
            "copy",
            "--src-tls-verify=false",
            &format!("docker://{name}"),
            &layout,
        ],
    )
    .ok();
}
