//! What `dhow pull`, `push`, `load` and `save` tell while they work: to people, to a terminal, and to programs.

use std::process::{Command, Stdio};

use dhow_integration_tests::registry::{Registry, noise, tar};
use dhow_integration_tests::{Ran, Sandbox};
use serde_json::Value;

const SIZE: usize = 3_000_000;

fn layers() -> Vec<Vec<u8>> {
    let file = |at: u64| tar(&format!("file{at}"), &noise(at + 1, SIZE));
    (0..3).map(file).collect()
}

/// A line of JSON for each event.
#[track_caller]
fn events(text: &str) -> Vec<Value> {
    let event = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(event).collect()
}

/// The events of each part: the first says its size, the last byte is told of, and the outcome ends it.
#[track_caller]
fn check_parts(events: &[Value], what: &str, outcome: &str, parts: usize) {
    let ended: Vec<&Value> = events
        .iter()
        .filter(|event| event["status"] == outcome && event["id"].is_string())
        .collect();
    assert_eq!(ended.len(), parts, "{events:?}");
    for end in ended {
        let of_part = |event: &&Value| event["id"] == end["id"] && event["status"] == what;
        let moving: Vec<&Value> = events.iter().filter(of_part).collect();
        let (first, last) = (moving[0], moving[moving.len() - 1]);
        let (first, last) = (&first["progressDetail"], &last["progressDetail"]);
        assert_eq!(first["current"], 0, "{events:?}");
        assert!(first["total"].as_u64().is_some_and(|total| total > 0));
        assert_eq!(last["current"], last["total"], "{events:?}");
        assert_eq!(end["progressDetail"], serde_json::json!({}));
    }
}

#[track_caller]
fn told(ran: &Ran) -> Vec<Value> {
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
    events(&ran.stdout)
}

#[test]
fn programs_are_told_of_each_event_in_json() {
    let registry = Registry::embedded();
    registry.push_image("app", "1", &layers()[..2]);
    registry.push_image("app", "2", &layers());
    let sandbox = Sandbox::new();
    let name = |tag: &str| format!("{}/app:{tag}", registry.address());
    let pulled = told(&sandbox.dhow(["pull", "--format", "json", &name("1")]));
    check_parts(&pulled, "pulling", "pulled", 2);

    // What was there already is told with what it saved.
    let pulled = told(&sandbox.dhow(["pull", "--format=json", &name("2")]));
    check_parts(&pulled, "pulling", "pulled", 1);
    let there = pulled
        .iter()
        .filter(|event| event["status"] == "already there");
    assert_eq!(there.count(), 2, "{pulled:?}");
    let last = &pulled.last().expect("an event")["aux"];
    assert_eq!(last["Name"], name("2"));
    assert_eq!(
        (&last["LayersPresent"], &last["LayersReceived"]),
        (&2.into(), &1.into())
    );
    assert!(
        last["Saved"]
            .as_u64()
            .is_some_and(|saved| saved > 2 * SIZE as u64),
        "{last}"
    );
    assert!(
        last["Digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );

    let third = format!("{}/other:3", Registry::debian().address());
    let archive = sandbox.path("app.tar");
    let archive = archive.to_str().expect("a path");
    let saved = told(&sandbox.dhow(["save", "--progress=json", "-o", archive, &name("2")]));
    check_parts(&saved, "saving", "saved", 3);
    let piped = sandbox.dhow(["save", "--progress=json", &name("2")]);
    check_parts(&events(&piped.stderr), "saving", "saved", 3);

    let other = Sandbox::new();
    let loaded = told(&other.dhow(["load", "--format=json", "-i", archive]));
    check_parts(&loaded, "loading", "loaded", 3);
    assert_eq!(loaded.last().expect("an event")["aux"]["Name"], name("2"));

    let failed = other.dhow(["push", "--format=json", &third]);
    let said = events(&failed.stdout);
    assert!(
        said[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("no such image")),
        "{said:?}"
    );
    assert_eq!(said[0]["error"], said[0]["errorDetail"]["message"]);
    assert!(failed.fails(125).starts_with("dhow: "));
}

#[test]
fn a_push_tells_programs_what_it_sent() {
    let registry = Registry::embedded();
    let source = Registry::embedded();
    source.push_image("app", "1", &layers());
    let from = format!("{}/app:1", source.address());
    let to = format!("{}/app:1", registry.address());
    let sandbox = Sandbox::new();
    sandbox.dhow(["pull", "-q", &from]).ok();
    sandbox.dhow(["tag", &from, &to]).ok();
    let pushed = told(&sandbox.dhow(["push", "--format=json", &to]));
    // The config is a part, too.
    check_parts(&pushed, "pushing", "pushed", 4);
    let aux = &pushed.last().expect("an event")["aux"];
    assert!(
        aux["Sent"]
            .as_u64()
            .is_some_and(|sent| sent > 3 * SIZE as u64),
        "{aux}"
    );
    assert_eq!(aux["Tag"], "1");
    let again = told(&sandbox.dhow(["push", "--format=json", &to]));
    assert_eq!((again.len(), &again[0]["aux"]["Sent"]), (1, &0.into()));
}

#[test]
fn lines_tell_size_and_rate_of_what_moved() {
    let registry = Registry::embedded();
    registry.push_image("app", "1", &layers());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    let pulled = sandbox.dhow(["pull", &name]);
    let moved = pulled
        .stderr
        .lines()
        .filter(|line| line.contains(": pulled (3.0 MB, ") && line.ends_with("B/s)"));
    assert_eq!(moved.count(), 3, "{}", pulled.stderr);
    let archive = sandbox.path("app.tar");
    let archive = archive.to_str().expect("a path");
    let saved = sandbox.dhow(["save", "-o", archive, &name]);
    assert_eq!(
        saved.stderr.matches(": saved (").count(),
        3,
        "{}",
        saved.stderr
    );
    let quiet = sandbox.dhow(["save", "-q", "-o", archive, &name]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let both = sandbox.dhow(["pull", "-q", "--format=json", &name]);
    assert!(both.fails(125).contains("--format"));
}

#[test]
fn on_a_terminal_lines_are_redrawn_with_bytes_rate_and_time_left() {
    let registry = Registry::embedded();
    registry.push_image("app", "1", &layers());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    let pull = sandbox.command(["pull", &name]);
    let program = pull.get_program().to_str().expect("a path");
    // script(1) gives it a terminal.
    let mut script = Command::new("script");
    script
        .args([
            "-qefc",
            &format!("stty columns 120; {program} pull {name}"),
            "/dev/null",
        ])
        .envs(
            pull.get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let ran = Ran::from(script.output().expect("script (package bsdutils)"));
    let seen = ran.ok();
    assert!(seen.contains(": pulling ["), "{seen}");
    assert!(seen.contains("B/s, ") && seen.contains(" left"), "{seen}");
    assert!(seen.contains("/3.00 MB"), "{seen}");
    // A line goes back up to those that are redrawn.
    assert!(
        seen.contains("\u{1b}[1A") || seen.contains("\u{1b}[2A"),
        "{seen:?}"
    );
    assert_eq!(
        seen.matches(": pulled (3.00 MB in ").count() % 3,
        0,
        "{seen}"
    );
    assert!(seen.contains(": pulled (3.00 MB in "), "{seen}");
}
