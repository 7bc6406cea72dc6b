//! dhow-runtime's command line beside runc's: the same words are understood, and the same mistakes answered with the same statuses
//! and words.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use dhow_integration_tests::{Bundle, Ran, Sandbox, program};
use serde_json::Value;

/// A call of a runtime with a root of its own, in the bundle's directory.
fn call(runtime: &str, bundle: &Bundle, args: &[&str]) -> Ran {
    let runtime = match runtime {
        "runc" => "runc".into(),
        _ => program("dhow-runtime"),
    };
    Command::new("timeout")
        .args(["--foreground", "--kill-after=1", "60"])
        .arg(runtime)
        .args(args)
        .current_dir(bundle.path(""))
        .stdin(Stdio::null())
        .output()
        .expect("start a runtime")
        .into()
}

/// The commands of runc.
const VERBS: [&str; 17] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

/// What a mistake is answered with: arguments, words in the answer, and the exit status where it is not 1.
const MISTAKES: &[(&[&str], &str)] = &[
    (&["state", "nobody"], "container does not exist"),
    (&["delete", "nobody"], "container does not exist"),
    (&["kill", "nobody"], "container does not exist"),
    (&["start", "nobody"], "container does not exist"),
    (&["ps", "nobody"], "container does not exist"),
    (&["pause", "nobody"], "container does not exist"),
    (&["resume", "nobody"], "container does not exist"),
    (&["events", "nobody"], "container does not exist"),
    (&["update", "nobody"], "container does not exist"),
    (&["exec", "nobody", "true"], "container does not exist"),
    (&["checkpoint", "nobody"], "container does not exist"),
    (&["state"], "requires exactly 1 argument"),
    (&["state", "a", "b"], "requires exactly 1 argument"),
    (&["kill"], "requires a minimum of 1 argument"),
    (
        &["kill", "a", "TERM", "c"],
        "requires a maximum of 2 argument",
    ),
    (&["exec"], "requires a minimum of 1 argument"),
    (&["list", "a"], "requires exactly 0 argument"),
    (&["state", ""], "container id cannot be empty"),
    (
        &["list", "--nonsense"],
        "flag provided but not defined: -nonsense",
    ),
    (
        &["--nonsense", "list"],
        "flag provided but not defined: -nonsense",
    ),
    (&["run", "--bundle"], "flag needs an argument: -bundle"),
    (&["nonsense"], "No help topic for 'nonsense'"),
    (&["--log-format", "xml", "list"], "invalid log-format"),
    (&["create", "--bundle", "/nonexistent", "x"], "/nonexistent"),
    (&["list", "--format", "xml"], "invalid format option"),
    (&["--log", "/nonexistent/log", "list"], "/nonexistent/log"),
];

#[test]
fn mistakes_are_answered_as_by_runc() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    for (args, words) in MISTAKES {
        let mut given = vec!["--root", "root"];
        fs_err::create_dir_all(bundle.path("root")).unwrap();
        given.extend_from_slice(args);
        let ours = call("dhow-runtime", &bundle, &given);
        let theirs = call("runc", &bundle, &given);
        assert_eq!(ours.status, theirs.status, "{args:?}: {}", ours.stderr);
        assert!(ours.stderr.contains(words), "{args:?}: {}", ours.stderr);
        assert!(
            theirs.stderr.contains(words),
            "{args:?}: runc: {}",
            theirs.stderr
        );
        // As logrus writes it: one line, with a time, a level and quoted words.
        let line = ours.stderr.lines().collect::<Vec<_>>();
        assert_eq!(line.len(), 1, "{args:?}: {}", ours.stderr);
        assert!(line[0].starts_with("time=\"20") && line[0].contains("Z\" level=error msg="));
        assert!(!ours.stderr.contains("os error"), "{}", ours.stderr);
        assert_eq!(ours.stdout, "", "{args:?}");
    }
    // By force, one that is not there is no mistake.
    for runtime in ["dhow-runtime", "runc"] {
        for force in ["--force", "-f", "-force", "--force=true"] {
            let ran = call(
                runtime,
                &bundle,
                &["--root", "root", "delete", force, "nobody"],
            );
            assert_eq!(ran.status, 0, "{runtime} {force}: {}", ran.stderr);
            assert_eq!((&*ran.stdout, &*ran.stderr), ("", ""), "{runtime}");
        }
    }
}

#[test]
fn messages_go_where_they_are_asked_to_go() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    for runtime in ["dhow-runtime", "runc"] {
        let log = bundle.path(format!("{runtime}.log"));
        let log_text = log.to_str().unwrap();
        let in_json = [
            "--root",
            "root",
            "--log",
            log_text,
            "--log-format",
            "json",
            "state",
            "nobody",
        ];
        let ran = call(runtime, &bundle, &in_json);
        assert_eq!(ran.status, 1);
        // conmon reads the words from here, podman from the log.
        assert!(
            ran.stderr.starts_with("container does not exist"),
            "{runtime}: {}",
            ran.stderr
        );
        let text = fs_err::read_to_string(&log).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "error", "{runtime}");
        let message = line["msg"].as_str().unwrap();
        assert!(
            message.starts_with("container does not exist"),
            "{runtime}: {line}"
        );
        assert!(
            line["time"].as_str().unwrap().starts_with("20"),
            "{runtime}: {line}"
        );
        // Text, appended.
        let in_text = ["--root=root", "--log", log_text, "kill", "nobody"];
        call(runtime, &bundle, &in_text);
        let text = fs_err::read_to_string(&log).unwrap();
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("time=") && last.contains("level=error msg="),
            "{runtime}: {last}"
        );
        // JSON on standard error.
        let ran = call(
            runtime,
            &bundle,
            &["--root", "root", "--log-format=json", "state", "nobody"],
        );
        let line: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!(line["level"], "error", "{runtime}");
    }
    // Who gives standard error to the container wants nothing of ours there.
    let log = bundle.path("only.log");
    let only = [
        "--log",
        log.to_str().unwrap(),
        "--log-only",
        "state",
        "nobody",
    ];
    assert_eq!(call("dhow-runtime", &bundle, &only).stderr, "");
    assert!(
        fs_err::read_to_string(&log)
            .unwrap()
            .contains("container does not exist")
    );
}

#[test]
fn flags_stand_where_runc_takes_them() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("exit 3");
    bundle.write_config();
    let dir = bundle.path("");
    let dir = dir.to_str().unwrap();
    let joined = format!("--bundle={dir}");
    let short = format!("-b={dir}");
    for args in [
        vec!["run", "--bundle", dir, "--no-pivot=false", bundle.id()],
        vec!["run", bundle.id(), "--bundle", dir],
        vec!["run", &joined, bundle.id()],
        vec!["run", &short, "--detach=false", bundle.id()],
        vec!["run", "-bundle", dir, bundle.id()],
        vec![
            "run",
            "--no-subreaper",
            "--no-new-keyring",
            "-b",
            dir,
            bundle.id(),
        ],
        vec!["run", "-b", dir, "--", bundle.id()],
    ] {
        for runtime in ["dhow-runtime", "runc"] {
            let mut all = vec!["--root", "root", "--rootless", "auto"];
            if runtime == "dhow-runtime" {
                all.extend(["--debug=false"]);
            }
            all.extend(&args);
            let ran = call(runtime, &bundle, &all);
            assert_eq!(ran.status, 3, "{runtime} {args:?}: {}", ran.stderr);
        }
    }
    // After the container, words are the command's.
    bundle.start();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let id = bundle.id();
    let said = bundle.runtime([
        "exec",
        "-e",
        "A=1",
        "--env=B=2",
        id,
        "sh",
        "-c",
        "echo $A$B $1",
        "-c",
        "-t",
    ]);
    assert_eq!(said.ok(), "12 -t");
    let said = bundle.runtime([
        "exec", "-u", "7:8", "-g", "9", "-g=10", "--cwd", "/tmp", id, "sh", "-c", "id; pwd",
    ]);
    assert_eq!(said.ok(), "uid=7 gid=8 groups=9,10\n/tmp");
    // A document that does not say who it is for is for root, as in runc.
    fs_err::write(
        bundle.path("process.json"),
        r#"{"args": ["id"], "cwd": "/", "env": ["PATH=/bin"]}"#,
    )
    .unwrap();
    let said = bundle.runtime(["exec", "--process", "process.json", id]);
    assert_eq!(said.ok(), "uid=0(root) gid=0");
    let said = bundle.runtime(["ps", "-f", "json", id]).ok();
    assert_eq!(serde_json::from_str::<Vec<i32>>(&said).unwrap().len(), 1);
    let said = bundle.runtime(["ps", id, "-eo", "pid,args"]).ok();
    assert_eq!(
        said.lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["PID", "COMMAND"]
    );
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn help_and_version_are_told() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    for args in [&["--help"][..], &["-h"], &["help"], &["h"], &[]] {
        let said = call("dhow-runtime", &bundle, args).ok();
        for verb in VERBS {
            assert!(
                said.contains(&format!("\n   {verb} ")),
                "{verb} is not in {said}"
            );
        }
    }
    for args in [&["run", "--help"][..], &["help", "run"], &["run", "-h"]] {
        let said = call("dhow-runtime", &bundle, args).ok();
        assert!(
            said.contains("--detach, -d") && said.contains("--pidfd-socket SOCKET"),
            "{said}"
        );
    }
    for args in [&["--version"][..], &["-v"]] {
        assert!(
            call("dhow-runtime", &bundle, args)
                .ok()
                .starts_with("dhow-runtime version ")
        );
    }
}

/// Every flag of runc's commands, as its own help names them, is understood here.
#[test]
fn no_flag_of_runcs_is_missing() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    let flags = |runtime: &str, verb: &str| -> Vec<String> {
        let said = call(runtime, &bundle, &[verb, "--help"]).ok();
        let options = said.split("OPTIONS:").nth(1).unwrap_or_default().to_owned();
        let words = options
            .lines()
            .filter(|line| line.trim_start().starts_with("--"));
        words
            .flat_map(|line| {
                line.split("  ")
                    .find(|part| !part.trim().is_empty())
                    .unwrap_or_default()
                    .split(", ")
            })
            .map(|flag| {
                flag.split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            })
            .filter(|flag| flag.starts_with('-'))
            .collect()
    };
    let mut seen = 0;
    for verb in VERBS {
        let ours = flags("dhow-runtime", verb);
        for flag in flags("runc", verb) {
            seen += 1;
            assert!(ours.contains(&flag), "{verb} {flag} is not in {ours:?}");
        }
    }
    assert!(seen > 60, "runc's help was not understood: {seen} flags");
}

#[test]
fn the_manual_and_the_completions_are_written() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    let dir = sandbox.path("share/man1");
    bundle
        .runtime([std::ffi::OsStr::new("manual"), dir.as_os_str()])
        .ok();
    let page = fs_err::read_to_string(dir.join("dhow-runtime-exec.1")).unwrap();
    assert!(page.starts_with(".TH dhow\\-runtime\\-exec 1 "), "{page}");
    assert!(
        page.contains("\\fB\\-\\-preserve\\-fds\\fR \\fIN\\fR"),
        "{page}"
    );
    let program = fs_err::read_to_string(dir.join("dhow-runtime.1")).unwrap();
    let help = bundle.runtime(["--help"]).ok();
    let commands = help.split("COMMANDS:\n").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines();
    let mut count = 0;
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        assert!(
            dir.join(format!("dhow-runtime-{name}.1")).is_file(),
            "{name}"
        );
        assert!(program.contains(&format!("\\-{name}\\fR(1)")), "{name}");
        count += 1;
    }
    assert!(count > 15, "{help}");
    // bash takes the script, and proposes with it.
    let script = sandbox.path("completion.bash");
    let text = bundle.runtime(["completion", "bash"]).ok();
    fs_err::write(&script, text).unwrap();
    let propose = |words: &str| {
        let ask = "source \"$1\"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _dhow_runtime; printf '%s ' \"${COMPREPLY[@]}\"";
        let mut command = std::process::Command::new("bash");
        command.args(["-c", ask, "bash"]).arg(&script).arg(words);
        Ran::from(command.output().unwrap()).ok()
    };
    assert_eq!(propose("dhow-runtime che"), "checkpoint");
    assert_eq!(propose("dhow-runtime --log che"), "");
    assert_eq!(
        propose("dhow-runtime --debug exec --pid"),
        "--pidfd-socket --pid-file"
    );
    for shell in ["zsh", "fish"] {
        let text = bundle.runtime(["completion", shell]).ok();
        assert!(text.contains("preserve-fds"), "{shell}: {text}");
    }
    let said = bundle.runtime(["completion", "csh"]).fails(1);
    assert!(said.contains("no completion for the shell"), "{said}");
}
