//! Lists of images in the form that a person or a script wants them: templates, patterns, filters.

use dhow_integration_tests::Sandbox;

/// Three images: two with names and labels, one without a name.
fn store() -> Sandbox {
    let sandbox = Sandbox::new();
    let tar = sandbox.busybox_tar();
    let tar = tar.to_str().expect("a path");
    for (label, name) in [
        ("LABEL who=me a=b", "team/app:1"),
        ("LABEL who=you", "tool"),
    ] {
        sandbox.dhow(["import", "-c", label, tar, name]).ok();
    }
    sandbox.dhow(["import", "-c", "ENV A=nameless", tar]).ok();
    sandbox
}

#[track_caller]
fn listed(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let said = sandbox.dhow(format.iter().chain(arguments)).ok();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    lines.join(" ")
}

#[test]
fn images_are_listed_by_templates() {
    let sandbox = store();
    assert_eq!(
        listed(&sandbox, &[]),
        "<none>:<none> team/app:1 tool:latest"
    );
    let id = sandbox.dhow(["images", "-q", "tool"]).ok();
    let format = "table {{.ID}}\\t{{.Repository}}";
    let table = sandbox.dhow(["images", "--format", format, "tool"]).ok();
    assert_eq!(table, format!("IMAGE ID       REPOSITORY\n{id}   tool"));
    let whole = sandbox.dhow(["images", "--no-trunc", "--format", "json", "tool"]);
    let row: serde_json::Value = serde_json::from_str(&whole.ok()).expect("JSON");
    assert!(row["ID"].as_str().expect("an id").starts_with("sha256:"));
    let said = sandbox
        .dhow(["images", "--format", "{{.Nothing}}"])
        .fails(125);
    assert!(
        said.contains("there is no \"Nothing\"") && said.contains("Repository"),
        "{said}"
    );
    let said = sandbox.dhow(["images", "--format", "jsn"]).fails(125);
    assert!(said.contains("table, json, or a template"), "{said}");
    let history = ["history", "--format", "{{.Comment}}", "tool"];
    assert!(sandbox.dhow(history).ok().starts_with("Imported from"));
    let labels = "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}";
    let shown = sandbox.dhow(["inspect", "--format", labels, "team/app:1"]);
    assert_eq!(shown.ok(), "a=b who=me");
    let tag = ["inspect", "-f", "{{index .RepoTags 0}}", "tool"];
    assert_eq!(sandbox.dhow(tag).ok(), "tool:latest");
}

#[test]
fn images_are_chosen_by_patterns_and_filters() {
    let sandbox = store();
    for (arguments, names) in [
        (&["t*l"][..], "tool:latest"),
        (&["*/app"], "team/app:1"),
        (&["*:latest"], "tool:latest"),
        (&["docker.io/library/tool"], "tool:latest"),
        (&["none"], ""),
        (&["-f", "dangling=true"], "<none>:<none>"),
        (&["-f", "dangling=false"], "team/app:1 tool:latest"),
        (&["-f", "label=who"], "team/app:1 tool:latest"),
        (&["-f", "label=who=me"], "team/app:1"),
        (&["-f", "label=who", "-f", "label=a=b"], "team/app:1"),
        (&["-f", "reference=t*", "-f", "label=who"], "tool:latest"),
        (&["-f", "before=tool"], "team/app:1"),
        (&["-f", "since=tool"], "<none>:<none>"),
        (&["-f", "until=1h"], ""),
        (
            &["-f", "until=2100-01-01", "-f", "since=team/app:1"],
            "<none>:<none> tool:latest",
        ),
    ] {
        assert_eq!(listed(&sandbox, arguments), names, "{arguments:?}");
    }
    for (filter, reason) in [
        ("size=3", "is no filter"),
        ("until=soon", "is no time"),
        ("before=nobody", "no such image"),
        ("reference=UP", "lower case"),
    ] {
        let said = sandbox.dhow(["images", "-f", filter]).fails(125);
        assert!(said.contains(reason) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_removal_takes_what_its_filters_fit() {
    let sandbox = store();
    let prune = |filter: &str| {
        sandbox
            .dhow(["image", "prune", "-af", "--filter", filter])
            .ok()
    };
    prune("until=1h");
    prune("label=who=nobody");
    assert_eq!(
        listed(&sandbox, &[]),
        "<none>:<none> team/app:1 tool:latest"
    );
    let said = prune("label=who=me");
    assert!(
        said.starts_with("Untagged: team/app:1\nDeleted: sha256:"),
        "{said}"
    );
    prune("label!=who");
    assert_eq!(listed(&sandbox, &[]), "tool:latest");
    sandbox.assert_whole();
}
