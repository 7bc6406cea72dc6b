//! The build cache: what is not made again, and what is.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::os::unix::fs::PermissionsExt;

use dhow_integration_tests::{Ran, Sandbox};

const DOCKERFILE: &str = "FROM busybox AS a\nARG X=1\nRUN echo one > /one\nCOPY d /d\nRUN cat /d/f > /two\n\
     FROM scratch\nCOPY --from=a /two /\nLABEL x=y\n";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox.write("context/d/f", "f");
    sandbox.dockerfile(DOCKERFILE);
    sandbox
}

/// How many steps ran, and how many were known.
fn counts(ran: &Ran) -> (usize, usize) {
    let steps = ran.stderr.lines().filter(|line| {
        line.starts_with('[')
            && ["] RUN", "] COPY", "] WORKDIR"]
                .iter()
                .any(|k| line.contains(k))
    });
    (steps.count(), ran.stderr.matches("] CACHED ").count())
}

#[track_caller]
fn builds<const N: usize>(sandbox: &Sandbox, args: [&str; N], expected: (usize, usize)) -> String {
    let ran = sandbox.build(args);
    assert_eq!(counts(&ran), expected, "{}", ran.stderr);
    ran.ok()
}

#[test]
fn nothing_changed_runs_no_step_and_is_the_same_image() {
    let sandbox = sandbox();
    let first = builds(&sandbox, ["-t", "a"], (4, 0));
    assert_eq!(builds(&sandbox, ["-t", "a"], (0, 4)), first);
    // Another name for the same image, and none at all.
    assert_eq!(builds(&sandbox, ["-t", "b"], (0, 4)), first);
    assert_eq!(builds(&sandbox, [], (0, 4)), first);
    assert_eq!(
        builds(&sandbox, ["-t", "a", "--no-cache"], (4, 0)).len(),
        first.len()
    );
}

#[test]
fn times_do_not_matter_but_contents_modes_and_names_do() {
    let sandbox = sandbox();
    builds(&sandbox, ["-t", "a"], (4, 0));
    let file = sandbox.path("context/d/f");
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    builds(&sandbox, ["-t", "a"], (0, 4));
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // The copied file differs, but what is made of it does not: the last copy knows its content again.
    let ran = sandbox.build(["-t", "a"]);
    assert_eq!(counts(&ran), (2, 2), "{}", ran.stderr);
    fs_err::write(&file, "g").unwrap();
    builds(&sandbox, ["-t", "a"], (3, 1));
    assert_eq!(sandbox.text_of("a", "two"), "g");
    sandbox.write("context/d/more", "");
    assert_eq!(counts(&sandbox.build(["-t", "a"])).1, 2);
    // What no step copies does not matter.
    sandbox.write("context/other", "");
    builds(&sandbox, ["-t", "a"], (0, 4));
}

#[test]
fn arguments_matter_from_where_they_are_declared() {
    let sandbox = sandbox();
    builds(&sandbox, ["-t", "a"], (4, 0));
    let ran = sandbox.build(["-t", "a", "--build-arg", "X=2"]);
    assert!(ran.stderr.contains("] RUN echo one"), "{}", ran.stderr);
    assert!(ran.stderr.contains("] RUN cat"), "{}", ran.stderr);
    // A proxy is no part of what comes out.
    builds(
        &sandbox,
        ["-t", "a", "--build-arg", "http_proxy=http://127.0.0.1:1"],
        (0, 4),
    );
    // Nor is a setting that makes no layer.
    sandbox.dockerfile(&DOCKERFILE.replace("LABEL x=y", "LABEL x=z"));
    builds(&sandbox, ["-t", "b"], (0, 4));
    assert_eq!(sandbox.config_of("b")["Labels"]["x"], "z");
}

#[test]
fn a_changed_base_is_another_beginning() {
    let sandbox = sandbox();
    builds(&sandbox, ["-t", "a"], (4, 0));
    sandbox.write("base/Dockerfile", "FROM busybox\nRUN touch /changed\n");
    let base = sandbox.path("base");
    sandbox
        .dhow(["build", "-q", "-t", "busybox", base.to_str().unwrap()])
        .ok();
    let ran = sandbox.build(["-t", "a"]);
    assert_eq!(counts(&ran).0, 3, "{}", ran.stderr);
}
