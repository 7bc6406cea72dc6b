//! `dhow build`: what comes out of a Dockerfile.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use dhow_integration_tests::Sandbox;
use dhow_integration_tests::registry::Registry;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

#[test]
fn stages_variables_and_settings() {
    let sandbox = sandbox();
    sandbox.write("context/src/a", "a\n");
    sandbox.dockerfile(
        r#"
ARG BASE=busybox
FROM ${BASE} AS build
ARG GREETING=hello
ENV WHERE=/srv PATH=/bin:/usr/bin
WORKDIR $WHERE/app
COPY src/ .
USER nobody
RUN id -un > /tmp/user
USER root
SHELL ["/bin/ash", "-e", "-c"]
RUN false; echo not reached || true
"#,
    );
    // The second shell stops at the first failure.
    let said = sandbox.build([]).fails(1);
    assert!(said.contains("Dockerfile:12: RUN false"), "{said}");
    assert!(said.contains("exit status 1"), "{said}");
    sandbox.dockerfile(
        r#"
ARG BASE=busybox
FROM ${BASE} AS build
ARG GREETING=hello
ARG NOTHING
ENV WHERE=/srv
WORKDIR $WHERE/app
WORKDIR deeper
COPY src/ .
RUN echo "$GREETING ${NOTHING-unset} $(pwd) $HOME" > /greeting
USER nobody
RUN id -un > /tmp/user
RUN ["/bin/busybox", "touch", "/tmp/$WHERE"]
FROM busybox AS never
RUN false
FROM scratch
MAINTAINER Somebody
COPY --from=build /greeting /tmp/user /
COPY --from=0 /srv /srv
ENV A=1 B="two words"
ENV C $A and $B
LABEL one=1 "two words"='2 "2"'
EXPOSE 80 8000-8001/udp
VOLUME /data ["/x"]
USER 1:2
STOPSIGNAL SIGINT
WORKDIR /srv
ENTRYPOINT ["/bin/sh"]
CMD echo hi
"#,
    );
    sandbox
        .build([
            "-t",
            "app",
            "--build-arg",
            "GREETING=hi",
            "--label",
            "three=3",
        ])
        .ok();
    assert_eq!(
        sandbox.text_of("app", "greeting"),
        "hi unset /srv/app/deeper /root"
    );
    assert_eq!(sandbox.text_of("app", "user"), "nobody");
    assert_eq!(sandbox.text_of("app", "srv/app/deeper/a"), "a");
    let config = sandbox.config_of("app");
    assert_eq!(config["Env"][3], "C=1 and two words", "{config}");
    assert_eq!(config["Labels"]["two words"], "2 \"2\"", "{config}");
    assert_eq!(config["Labels"]["three"], "3", "{config}");
    assert!(config["ExposedPorts"]["8001/udp"].is_object(), "{config}");
    assert!(config["Volumes"]["/data"].is_object(), "{config}");
    assert_eq!(config["User"], "1:2", "{config}");
    assert_eq!(config["StopSignal"], "SIGINT", "{config}");
    assert_eq!(config["WorkingDir"], "/srv", "{config}");
    assert_eq!(config["Cmd"][2], "echo hi", "{config}");
}

#[test]
fn the_same_layer_may_come_again() {
    let sandbox = sandbox();
    // None of these changes anything, and whatever makes a file makes the same one.
    let make = "touch -d @5 /a && touch -d @5 /";
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN true\nRUN :\nRUN {make}\nRUN rm /a && touch -d @5 /\nRUN test ! -e /a\n\
         RUN : && {make}\nRUN test -f /a && true\nRUN test -f /a\n"
    ));
    sandbox.build(["-q", "-t", "again"]).ok();
    let said = sandbox.dhow(["inspect", "again"]).ok();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let layers = said[0]["RootFS"]["Layers"].as_array().unwrap();
    let distinct: std::collections::HashSet<String> =
        layers.iter().map(ToString::to_string).collect();
    assert!(distinct.len() < layers.len(), "{layers:?}");
    assert_eq!(sandbox.text_of("again", "a"), "");
    sandbox
        .dhow(["run", "--rm", "again", "test", "-f", "/a"])
        .ok();
    let registry = Registry::embedded();
    let name = format!("{}/again", registry.address());
    sandbox.dhow(["tag", "again", &name]).ok();
    sandbox.dhow(["push", &name]).ok();
    let other = Sandbox::new();
    other.dhow(["pull", &name]).ok();
    other.dhow(["run", "--rm", &name, "test", "-f", "/a"]).ok();
}

#[test]
fn arguments_are_known_where_they_are_declared() {
    let sandbox = sandbox();
    sandbox.dockerfile(
        "ARG GLOBAL=g\nFROM busybox AS one\nARG OWN=o\nRUN echo \"1:$GLOBAL-$OWN-\" > /a\nARG GLOBAL\nENV OWN=env\n\
         RUN echo \"2:$GLOBAL-$OWN-$TARGETARCH-\" >> /a\nFROM one\nARG TARGETARCH\n\
         RUN echo \"3:$GLOBAL-$OWN-${TARGETARCH:+arch}-\" >> /a\n",
    );
    let said = sandbox.build(["-t", "a", "--build-arg", "OTHER=1"]).stderr;
    assert!(said.contains("no ARG declares OTHER"), "{said}");
    assert_eq!(sandbox.text_of("a", "a"), "1:-o-\n2:g-env--\n3:g-env-arch-");
}

#[test]
fn a_new_entrypoint_drops_the_bases_command() {
    let sandbox = sandbox();
    sandbox.dockerfile("FROM scratch AS base\nCMD [\"old\"]\nFROM base\nENTRYPOINT [\"x\"]\n");
    sandbox.build(["-t", "a"]).ok();
    assert!(sandbox.config_of("a")["Cmd"].is_null());
    sandbox.dockerfile(
        "FROM scratch AS base\nCMD [\"old\"]\nFROM base\nCMD [\"new\"]\nENTRYPOINT [\"x\"]\n",
    );
    sandbox.build(["-t", "a"]).ok();
    assert_eq!(sandbox.config_of("a")["Cmd"][0], "new");
}

#[test]
fn the_search_path_can_be_added_to() {
    let sandbox = sandbox();
    sandbox.dockerfile(
        "FROM busybox\nENV PATH=$PATH:/more\nRUN mkdir /more && ln -s /bin/busybox /more/touch2 && echo $PATH > /path\n",
    );
    sandbox.build(["-t", "a"]).ok();
    assert_eq!(
        sandbox.text_of("a", "path"),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/more"
    );
}

#[test]
fn a_base_is_pulled_when_the_store_lacks_it() {
    let registry = Registry::embedded();
    let name = format!("{}/team/base:1", registry.address());
    let owner = sandbox();
    owner.dhow(["tag", "busybox", &name]).ok();
    owner.dhow(["push", &name]).ok();
    let sandbox = Sandbox::new();
    sandbox.dockerfile(&format!(
        "ARG WHERE={name}\nFROM $WHERE AS a\nRUN echo pulled > /a\nFROM scratch\nCOPY --from=a /a /\nCOPY --from={name} /etc/passwd /\n"
    ));
    sandbox.build(["-t", "a"]).ok();
    sandbox.dhow(["tag", &name, "busybox"]).ok();
    assert_eq!(sandbox.text_of("a", "a"), "pulled");
    let said = sandbox.build(["--pull", "-t", "a"]).stderr;
    assert!(said.contains("0 steps run"), "{said}");
}

#[test]
fn builds_share_a_store_at_the_same_time() {
    let sandbox = sandbox();
    sandbox.dockerfile("FROM busybox\nARG N\nRUN echo shared > /s\nRUN echo $N > /n\n");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let (tag, arg) = (format!("n{number}"), format!("N={number}"));
                sandbox.build(["-q", "-t", &tag, "--build-arg", &arg]).ok();
            });
        }
    });
    for number in 0..4 {
        let text = sandbox.text_of(&format!("n{number}"), "n");
        assert_eq!(text, number.to_string());
    }
}

#[test]
fn here_documents() {
    let sandbox = sandbox();
    sandbox.dockerfile(
        "FROM busybox\nENV X=x\nCOPY <<A <<'B' /d/\n$X\\$\nA\n$X\nB\nRUN <<EOF\nset -e\necho one > /one\necho $X >> /one\nEOF\nRUN cat <<-E > /two\n\tin\n\tE\n",
    );
    sandbox.build(["-t", "a"]).ok();
    assert_eq!(sandbox.text_of("a", "d/A"), "x$");
    assert_eq!(sandbox.text_of("a", "d/B"), "$X");
    assert_eq!(sandbox.text_of("a", "one"), "one\nx");
    assert_eq!(sandbox.text_of("a", "two"), "in");
}

#[test]
fn a_step_sees_the_hosts_names_and_leaves_nothing_of_them() {
    let sandbox = sandbox();
    sandbox.dockerfile(
        "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/\n\
         RUN [\"/bin/busybox\", \"sed\", \"s/^/seen:/\", \"/etc/resolv.conf\", \"/etc/hosts\"]\n",
    );
    let said = sandbox.build(["-t", "a"]).stderr;
    let own = fs_err::read_to_string("/etc/hosts").unwrap();
    let line = own.lines().find(|line| !line.is_empty()).unwrap();
    assert!(said.contains(&format!("seen:{line}")), "{said}");
    let files = sandbox.files_of("a");
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    assert_eq!(
        files,
        [
            ". directory 755 0:0",
            "./bin directory 755 0:0",
            "./bin/busybox regular file 755 0:0"
        ]
    );
}

#[test]
fn a_step_without_a_network_has_none() {
    let sandbox = sandbox();
    sandbox.dockerfile("FROM busybox\nRUN --network=none cat /proc/net/dev | grep -c :\n");
    let said = sandbox.build([]).stderr;
    assert!(said.contains("] 1\n"), "{said}");
}

#[test]
fn the_plan_is_printed_and_nothing_runs() {
    let sandbox = sandbox();
    sandbox.dockerfile("FROM busybox AS a\nRUN touch /x\nFROM a\nWORKDIR /w\nCOPY nothing y/\n");
    let plan = sandbox.build(["--plan"]).ok();
    for part in [
        "a: from docker.io/library/busybox",
        "RUN touch /x",
        "context: nothing -> /w/y/",
    ] {
        assert!(plan.contains(part), "{plan}");
    }
    let plan = sandbox.build(["--plan=json"]).ok();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(
        plan["stages"][1]["steps"][0]["action"]["directory"]["path"],
        "/w"
    );
    let plan = sandbox.build(["--plan", "--target", "a"]).ok();
    assert!(!plan.contains("/w"), "{plan}");
}

#[test]
fn standard_input_and_other_files_and_ids() {
    let sandbox = sandbox();
    sandbox.write("context/x", "x");
    let other = sandbox.write("other.Dockerfile", "FROM scratch\nCOPY x /\n");
    sandbox.write("other.Dockerfile.dockerignore", "x\n");
    let other = other.to_str().unwrap();
    let said = sandbox.build(["-f", other]).fails(125);
    assert!(
        said.contains("other.Dockerfile.dockerignore leaves it out"),
        "{said}"
    );
    let mut command = sandbox.command(["build", "-q", "-f", "-"]);
    let file = sandbox.path("id");
    command
        .arg("--iidfile")
        .arg(&file)
        .arg(sandbox.path("context"));
    let ran = dhow_integration_tests::ran(command, b"FROM scratch\nCOPY x /\n");
    assert_eq!(ran.stderr, "");
    let id = ran.ok();
    assert_eq!(fs_err::read_to_string(file).unwrap(), id);
    assert_eq!(sandbox.files_of(&id).len(), 2);
}
