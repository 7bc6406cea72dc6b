//! What a person is told when a build cannot be done.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use dhow_integration_tests::Sandbox;

#[track_caller]
fn mistake<const N: usize>(sandbox: &Sandbox, text: &str, args: [&str; N], status: i32) -> String {
    sandbox.dockerfile(text);
    let said = sandbox.build(args).fails(status);
    let path = sandbox.path("context").join("Dockerfile");
    said.replace(path.to_str().unwrap(), "Dockerfile")
}

#[test]
fn the_place_in_the_dockerfile_is_marked() {
    let sandbox = Sandbox::new();
    assert_eq!(
        mistake(&sandbox, "FROM scratch\nCOYP a b\n", [], 125),
        "dhow: Dockerfile:2:1: unknown instruction COYP\n  |\n2 | COYP a b\n  | ^^^^ did you mean COPY?\n"
    );
    for (text, place, message) in [
        (
            "FROM scratch\nUSER ${X:?is needed}\n",
            "2:6",
            "X: is needed",
        ),
        ("FROM scratch\nWORKDIR $X\n", "2:9", "$X is empty"),
        ("FROM $X\n", "1:6", "$X is empty"),
        (
            "FROM scratch\nCOPY a b /c\n",
            "2:10",
            "several files cannot be copied to one",
        ),
        (
            "FROM scratch\nCOPY --chmod=abc a /c\n",
            "2:14",
            "\"abc\" is no mode",
        ),
        ("FROM scratch\nEXPOSE http\n", "2:8", "\"http\" is no port"),
        (
            "FROM scratch\nSTOPSIGNAL SIGNOPE\n",
            "2:12",
            "\"SIGNOPE\" is no signal",
        ),
        (
            "FROM scratch\nCOPY --from=1 a b\n",
            "2:13",
            "there is no stage 1",
        ),
        (
            "FROM scratch\nCOPY --from=b a b\nFROM scratch AS b\nCOPY --from=0 x y\n",
            "2:13",
            "does not stand before this one",
        ),
        ("FROM Scratch\n", "1:6", "Scratch"),
        (
            "FROM --platform=linux/s390x scratch\n",
            "1:17",
            "cannot run what is built for linux/s390x",
        ),
        (
            "FROM scratch\nHEALTHCHECK CMD true\n",
            "2:1",
            "HEALTHCHECK is not supported",
        ),
        (
            "FROM scratch\nONBUILD RUN true\n",
            "2:1",
            "ONBUILD is not supported",
        ),
        (
            "FROM scratch\nRUN --mount=type=cache,target=/x true\n",
            "2:5",
            "RUN --mount is not supported",
        ),
        (
            "FROM scratch\nADD https://example.org/x /x\n",
            "2:5",
            "ADD of a URL",
        ),
    ] {
        let said = mistake(&sandbox, text, [], 125);
        let start = format!("dhow: Dockerfile:{place}: ");
        assert!(
            said.starts_with(&start) && said.contains(message),
            "{text}: {said}"
        );
        assert!(said.contains('^'), "{said}");
    }
}

#[test]
fn a_base_that_is_nowhere_is_named_with_its_line() {
    let sandbox = Sandbox::new();
    let said = mistake(
        &sandbox,
        "FROM scratch AS builder\nFROM localhost:1/nothing/here\n",
        [],
        125,
    );
    assert!(
        said.contains("dhow: Dockerfile:2:6: ") && said.contains("localhost:1"),
        "{said}"
    );
}

#[test]
fn a_failing_step_names_line_and_status() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let said = mistake(&sandbox, "FROM busybox\nRUN echo why; exit 7\n", [], 1);
    assert!(said.contains("[2/2] why\n"), "{said}");
    assert!(
        said.ends_with("dhow: Dockerfile:2: RUN echo why; exit 7 failed with exit status 7\n"),
        "{said}"
    );
    let said = mistake(&sandbox, "FROM busybox\nRUN ['/bin/true']\n", [], 1);
    assert!(
        said.contains("warning: Dockerfile:2: this looks like an array"),
        "{said}"
    );
    // Quiet, but not about a failure.
    let said = mistake(&sandbox, "FROM busybox\nRUN echo why; exit 7\n", ["-q"], 1);
    assert!(said.starts_with("why\ndhow: "), "{said}");
    let said = mistake(&sandbox, "FROM busybox\nRUN [\"/no/such\"]\n", [], 125);
    assert!(
        said.contains("Dockerfile:2: RUN [\"/no/such\"]") && said.contains("/no/such"),
        "{said}"
    );
    let said = mistake(
        &sandbox,
        "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n",
        [],
        1,
    );
    assert!(said.contains("exit status 137"), "{said}");
    let said = mistake(
        &sandbox,
        "FROM busybox\nUSER nobodyatall\nRUN true\n",
        [],
        125,
    );
    assert!(said.contains("no user \"nobodyatall\""), "{said}");
    let said = mistake(&sandbox, "FROM busybox\nCOPY Dockerfil /\n", [], 125);
    assert!(said.contains("did you mean Dockerfile?"), "{said}");
}

#[test]
fn what_is_not_supported_or_not_there_is_an_error_of_dhows_own() {
    let sandbox = Sandbox::new();
    sandbox.dockerfile("FROM scratch AS build\n");
    for (args, message) in [
        (
            vec!["build", "-"],
            "a context from standard input is not supported",
        ),
        (
            vec!["build", "https://example.org/x.git"],
            "is not on this machine",
        ),
        (
            vec!["build", "/no/such/context"],
            "the context /no/such/context is no directory",
        ),
        (vec!["build", "-t", "UPPER", "."], "UPPER"),
        (
            vec!["build", "--target", "biuld", "CONTEXT"],
            "did you mean build?",
        ),
        (
            vec!["build", "--platform", "linux/s390x", "CONTEXT"],
            "cannot build for linux/s390x",
        ),
        (vec!["build", "--label", "=x", "CONTEXT"], "has no name"),
        (vec!["build", "--netwrok", "none", "CONTEXT"], "--network"),
    ] {
        let context = sandbox.path("context");
        let args: Vec<String> = args
            .into_iter()
            .map(|arg| arg.replace("CONTEXT", context.to_str().unwrap()))
            .collect();
        let said = sandbox.dhow(&args).fails(125);
        assert!(
            said.starts_with("dhow: ") && said.contains(message),
            "{args:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    sandbox.write("context/Dockerfile", b"FROM scratch\nLABEL a=\xff\n");
    let said = sandbox.build([]).fails(125);
    assert!(said.contains("Dockerfile:2: this is no text"), "{said}");
}
