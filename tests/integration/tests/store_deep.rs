//! Images of as many layers as the kernel stacks, and of one more.

use std::ffi::OsStr;

use dhow_integration_tests::registry::{self, Registry};
use dhow_integration_tests::{Sandbox, base_image};
use serde_json::json;

/// What the kernel stacks.
const DEEPEST: usize = 500;

/// An archive in Docker's form: busybox, and above it one small layer after the other up to this number.
fn deep_archive(name: &str, layers: usize) -> Vec<u8> {
    let busybox = fs_err::read(base_image("busybox")).expect("busybox");
    let small =
        (1..layers).map(|at| registry::tar(&format!("deep/file{at}"), at.to_string().as_bytes()));
    let contents: Vec<Vec<u8>> = [busybox].into_iter().chain(small).collect();
    let diff_ids: Vec<String> = contents
        .iter()
        .map(|layer| registry::sha256(layer))
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let files: Vec<String> = (0..layers).map(|at| format!("{at}.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": files}]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).expect("append");
    };
    for (file, content) in files.iter().zip(&contents) {
        append(file, content);
    }
    append("config.json", config.to_string().as_bytes());
    append("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().expect("the archive")
}

fn load(sandbox: &Sandbox, name: &str, layers: usize) {
    let archive = sandbox.write("archive.tar", deep_archive(name, layers));
    sandbox
        .dhow([
            OsStr::new("load"),
            "-q".as_ref(),
            "-i".as_ref(),
            archive.as_os_str(),
        ])
        .ok();
    fs_err::remove_file(archive).expect("remove");
}

fn build(sandbox: &Sandbox, name: &str, dockerfile: &str) -> dhow_integration_tests::Ran {
    let file = sandbox.write("context/Dockerfile", dockerfile);
    let context = file.parent().expect("a parent").to_owned();
    sandbox.dhow([
        OsStr::new("build"),
        "-q".as_ref(),
        "-t".as_ref(),
        name.as_ref(),
        context.as_os_str(),
    ])
}

#[test]
fn an_image_of_five_hundred_layers_runs_and_is_built_on() {
    let sandbox = Sandbox::new();
    load(&sandbox, "deep", DEEPEST - 1);
    // The topmost of them, and one from each end of what is below.
    let count = "ls /deep | wc -l; cat /deep/file1 /deep/file250";
    let seen = sandbox
        .dhow([
            "run",
            "--rm",
            "--network",
            "none",
            "deep",
            "sh",
            "-c",
            count,
        ])
        .ok();
    assert_eq!(seen, format!("{}\n1250", DEEPEST - 2));
    // With a user namespace of its own, the owners in all of them are mapped at once.
    let owners = "echo more >>/deep/file250; rm /deep/file3; stat -c %u /deep/* | sort | uniq -c | tr -s ' '";
    let mapped = [
        "run",
        "--rm",
        "--uidmap",
        "0:300000:65536",
        "deep",
        "sh",
        "-c",
        owners,
    ];
    assert_eq!(
        sandbox.dhow(mapped).ok().trim(),
        format!("{} 0", DEEPEST - 3)
    );
    build(
        &sandbox,
        "deepest",
        "FROM deep\nRUN rm /deep/file1 && echo new >/deep/new\n",
    )
    .ok();
    let layers = sandbox
        .dhow(["inspect", "--format", "{{json .RootFS.Layers}}", "deepest"])
        .ok();
    assert_eq!(layers.matches("sha256:").count(), DEEPEST, "{layers}");
    // It can be written to, also where lower layers have something.
    let write = "echo more >>/deep/new; rm /deep/file2; cat /deep/new; ls /deep | wc -l";
    let seen = sandbox
        .dhow([
            "run",
            "--rm",
            "--network",
            "none",
            "deepest",
            "sh",
            "-c",
            write,
        ])
        .ok();
    assert_eq!(seen, format!("new\nmore\n{}", DEEPEST - 3));
    let said = build(&sandbox, "deeper", "FROM deepest\nRUN true\n").fails(125);
    assert!(said.contains("501 layers are too many"), "{said}");
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

#[test]
fn more_layers_than_the_kernel_stacks_can_be_kept_and_moved_but_not_run() {
    let sandbox = Sandbox::new();
    load(&sandbox, "deep", DEEPEST + 1);
    let said = sandbox
        .dhow(["run", "--rm", "--network", "none", "deep", "true"])
        .fails(125);
    assert!(
        said.contains(
            "501 layers are too many for a root file system: the kernel stacks at most 500"
        ),
        "{said}"
    );
    assert_eq!(sandbox.dhow(["ps", "-aq"]).ok(), "");
    let registry = Registry::embedded();
    let name = format!("{}/deep:1", registry.address());
    sandbox.dhow(["tag", "deep", &name]).ok();
    sandbox.dhow(["push", "-q", &name]).ok();
    // Layers side by side that all take their directory from far below need no more descriptors than a process has.
    let other = Sandbox::new();
    other.dhow(["pull", "-q", &name]).ok();
    assert_eq!(other.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}
