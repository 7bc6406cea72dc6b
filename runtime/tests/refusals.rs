//! Values of a configuration that cannot be: each is refused before anything is done, by a line that names it and says what can be.

use std::path::Path;

use dhow_runtime::commands::template;
use dhow_runtime::spec::{check, parse};
use serde_json::{Value, json};

/// What a configuration of the template with some values changed (JSON pointer, value) is refused with.
#[track_caller]
fn refusal(changes: &[(&str, Value)]) -> String {
    let mut config = template(None);
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        config.pointer_mut(parent).expect("a place")[name] = value.clone();
    }
    let text = config.to_string();
    let checked = parse(text.as_bytes(), Path::new("config.json")).and_then(|spec| check(&spec));
    checked.expect_err("a refusal").to_string()
}

#[test]
fn one_value_that_cannot_be() {
    let limit = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]);
    for (pointer, value, words) in [
        ("/ociVersion", json!(""), "ociVersion is missing"),
        (
            "/hostname",
            json!("a".repeat(65)),
            "65 bytes; the kernel takes 64",
        ),
        ("/domainname", json!("a".repeat(65)), "domainname"),
        (
            "/process/cwd",
            json!(""),
            "process.cwd \"\" is not an absolute path",
        ),
        (
            "/process/oomScoreAdj",
            json!(2000),
            "2000 is not one of -1000 to 1000",
        ),
        ("/process/oomScoreAdj", json!(-1001), "-1000 to 1000"),
        (
            "/process/env",
            json!(["A=1", "B"]),
            "\"B\" is not NAME=VALUE",
        ),
        ("/process/env", json!(["=1"]), "\"=1\" is not NAME=VALUE"),
        (
            "/process/rlimits",
            limit,
            "soft limit 2 is above the hard limit 1",
        ),
        (
            "/linux/timeOffsets",
            json!({"realtime": {"secs": 1}}),
            "monotonic and boottime",
        ),
    ] {
        let said = refusal(&[(pointer, value)]);
        assert!(said.contains(words), "{pointer}: {said}");
    }
}

/// Without a namespace of its own it would be the host's name that changes.
#[test]
fn a_name_without_a_namespace_for_it() {
    let namespaces = json!([{"type": "mount"}, {"type": "pid"}]);
    for (other, named) in [("/domainname", "/hostname"), ("/hostname", "/domainname")] {
        let said = refusal(&[
            ("/linux/namespaces", namespaces.clone()),
            (other, json!("")),
            (named, json!("example.org")),
        ]);
        let words = format!(
            "{} is set, but linux.namespaces lacks the uts namespace",
            &named[1..]
        );
        assert!(said.contains(&words), "{said}");
    }
}
