//! buildah over dhow-runtime (`--runtime`, with `--isolation oci`).

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use dhow_integration_tests::Podman;

#[test]
fn builds_a_dockerfile() {
    let tools = Podman::new();
    let text = "FROM localhost/bb\nRUN echo made >/made && id -u >>/made\nRUN grep -E 'CapEff|Seccomp:' /proc/self/status >>/made\n\
                USER nobody\nWORKDIR /w\nRUN id -u >/tmp/who\nRUN [\"/bin/sh\", \"-c\", \"exit 0\"]\nCMD [\"cat\", \"/made\", \"/tmp/who\"]\n";
    let file = tools.sandbox().write("context/Dockerfile", text);
    let context = file.parent().unwrap().to_str().unwrap();
    let bud = ["bud", "--isolation=oci", "--runtime", tools.runtime()];
    let limits = [
        "--ulimit=nofile=1024:1024",
        "--memory=64m",
        "--network=none",
    ];
    tools
        .buildah([&bud[..], &limits, &["--tag=built", context]].concat())
        .ok();
    assert_eq!(
        tools.podman(["run", "--rm", "built"]).ok(),
        "made\n0\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n65534"
    );

    let broken = tools
        .sandbox()
        .write("broken/Dockerfile", "FROM localhost/bb\nRUN exit 5\n");
    let broken = broken.parent().unwrap().to_str().unwrap();
    let said = tools.buildah([&bud[..], &limits, &[broken]].concat());
    assert!(said.stderr.contains("exit status 5"), "{said:?}");
    assert_ne!(said.status, 0);
    tools.nothing_is_left();
}

#[test]
fn runs_in_a_working_container() {
    let tools = Podman::new();
    let name = tools.buildah(["from", "localhost/bb"]).ok();
    let run = |options: &[&str], script: &str| {
        let words = [
            "run",
            "--isolation=oci",
            "--network=none",
            "--runtime",
            tools.runtime(),
        ];
        tools.buildah([&words[..], options, &[&name, "--", "sh", "-c", script]].concat())
    };
    assert_eq!(run(&[], "echo hi >/hi; id -u").ok(), "0");
    assert_eq!(run(&["--user=nobody"], "cat /hi; id -u").ok(), "hi\n65534");
    assert_eq!(
        run(&["--env=A=b", "--workingdir=/tmp"], "echo $A; pwd").ok(),
        "b\n/tmp"
    );
    assert_ne!(
        run(
            &["--cap-add=CAP_SYS_ADMIN"],
            "grep CapEff /proc/self/status"
        )
        .ok(),
        run(&[], "grep CapEff /proc/self/status").ok()
    );
    assert_eq!(
        run(
            &["--volume=/etc/passwd:/p:ro"],
            "echo >/p; test -s /p && echo whole"
        )
        .ok(),
        "whole"
    );
    assert_eq!(run(&["--terminal"], "tty").ok(), "/dev/pts/0");
    let failed = run(&[], "exit 7");
    assert_eq!(failed.status, 7, "{failed:?}");
    let words = [
        "run",
        "--isolation=oci",
        "--runtime",
        tools.runtime(),
        &name,
        "nosuch",
    ];
    let missing = tools.buildah(words);
    assert!(
        missing.stderr.contains("executable file not found"),
        "{missing:?}"
    );
    tools.buildah(["commit", &name, "kept"]).ok();
    assert_eq!(
        tools.podman(["run", "--rm", "kept", "cat", "/hi"]).ok(),
        "hi"
    );
    tools.buildah(["rm", &name]).ok();
    tools.nothing_is_left();
}
