//! Where a name is asked for: `registries.conf`, `hosts.toml`, and the error when nobody has it.

use dhow_integration_tests::registry::Registry;
use dhow_integration_tests::{ClosedPort, Ran, Sandbox, ran};

struct Person {
    sandbox: Sandbox,
}

impl Person {
    /// A person whose `registries.conf` is this, and whose image `busybox` stands in `registry` as `team/app:1`.
    fn new(conf: &str) -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("registries.conf", conf);
        Self { sandbox }
    }

    fn dhow(&self, args: &[&str]) -> Ran {
        let mut command = self.sandbox.command(args);
        command
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                self.sandbox.path("registries.conf"),
            )
            .env("DHOW_CERTS_D", self.sandbox.path("certs.d"))
            .env("DOCKER_CONFIG", self.sandbox.path("docker"));
        ran(command, b"")
    }

    fn hosts(&self, registry: &str, text: &str) {
        self.sandbox
            .write(&format!("certs.d/{registry}/hosts.toml"), text);
    }
}

/// A registry with an image under some names.
fn registry_with(names: &[&str]) -> Registry {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    for name in names {
        let name = format!("{}/{name}", registry.address());
        sandbox.dhow(["tag", "busybox", &name]).ok();
        sandbox.dhow(["push", "-q", &name]).ok();
    }
    registry
}

#[test]
fn mirrors_are_asked_in_their_order_and_the_registry_last() {
    let registry = registry_with(&["copies/team/app:1", "team/other:1"]);
    let (first, home) = (ClosedPort::new(), registry.address().to_string());
    let person = Person::new(&format!(
        r#"
        [[registry]]
        prefix = "registry.example/team"
        location = "{home}/team"
        [[registry.mirror]]
        location = "{first}/nothing"
        [[registry.mirror]]
        location = "{home}/copies/team"
        [[registry]]
        location = "blocked.example"
        blocked = true
        "#
    ));
    // The second mirror has this one, the registry itself that one, and nobody the third.
    for name in [
        "registry.example/team/app:1",
        "registry.example/team/other:1",
    ] {
        assert_eq!(person.dhow(&["pull", "-q", name]).ok(), name);
        person.dhow(&["inspect", name]).ok();
    }
    let error = person
        .dhow(&["pull", "-q", "registry.example/team/third:1"])
        .fails(125);
    for place in [
        format!("{first}/nothing/third: no registry answers"),
        format!("{home}/copies/team/third: "),
        format!("{home}/team/third: "),
    ] {
        assert!(error.contains(&place), "{place}: {error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
    let error = person.dhow(&["pull", "blocked.example/x"]).fails(125);
    assert!(error.contains("is blocked"), "{error}");
    // What is pushed goes to the registry itself.
    person
        .dhow(&[
            "tag",
            "registry.example/team/app:1",
            "registry.example/team/new:2",
        ])
        .ok();
    person
        .dhow(&["push", "-q", "registry.example/team/new:2"])
        .ok();
    registry.get("/v2/team/new/manifests/2").expect(200);
}

#[test]
fn short_names_are_looked_for_where_the_file_says() {
    let registry = registry_with(&["tool:1", "team/found:latest"]);
    let home = registry.address().to_string();
    let closed = ClosedPort::new();
    let person = Person::new(&format!(
        "unqualified-search-registries = [\"{closed}\", \"{home}\"]\n[aliases]\nfound = \"{home}/team/found\"\n",
    ));
    assert_eq!(
        person.dhow(&["pull", "-q", "tool:1"]).ok(),
        format!("{home}/tool:1")
    );
    assert_eq!(
        person.dhow(&["pull", "-q", "found"]).ok(),
        format!("{home}/team/found:latest")
    );
    let error = person.dhow(&["pull", "-q", "missing"]).fails(125);
    assert!(
        error.contains("none of the registries that are searched"),
        "{error}"
    );
    // A file of its own in the directory beside it adds to it.
    person.sandbox.write(
        "registries.conf.d/a.conf",
        format!("[aliases]\nmissing = \"{home}/tool\"\n"),
    );
    person.dhow(&["pull", "-q", "missing:1"]).ok();
    person
        .sandbox
        .write("registries.conf.d/b.conf", "[[registry]]\nlocation = 1\n");
    let error = person.dhow(&["pull", "-q", "missing:1"]).fails(125);
    assert!(error.contains("b.conf"), "{error}");
}

#[test]
fn short_names_mean_the_same_to_every_verb() {
    let registry = registry_with(&["tool:1", "team/found:latest"]);
    let (home, closed) = (registry.address().to_string(), ClosedPort::new());
    let person = Person::new(&format!(
        "unqualified-search-registries = [\"{closed}\", \"{home}\"]\n[aliases]\nfound = \"{home}/team/found\"\n"
    ));
    // What is not here is pulled from where the name is found.
    assert_eq!(
        person.dhow(&["run", "--rm", "tool:1", "echo", "hi"]).ok(),
        "hi"
    );
    let named = |name: &str| {
        person
            .dhow(&["inspect", "--format", "{{json .RepoTags}}", name])
            .ok()
    };
    assert_eq!(named("tool:1"), format!("[\"{home}/tool:1\"]"));
    person.sandbox.write(
        "context/Dockerfile",
        "FROM tool:1\nCOPY --from=found /bin/busybox /copied/busybox\nRUN /copied/busybox true\n",
    );
    let context = person.sandbox.path("context");
    let context = context.to_str().expect("a path");
    person.dhow(&["build", "-q", "-t", "own", context]).ok();
    let id = person
        .dhow(&["create", "--name", "one", "found", "true"])
        .ok();
    assert_eq!(id.len(), 64);
    person.dhow(&["rm", "one"]).ok();
    // What was built here under the very name comes before what the name could mean elsewhere.
    person.dhow(&["tag", "own", "found"]).ok();
    assert!(named("found").contains("found:latest"));
    person.dhow(&["rmi", "found"]).ok();
    // It is pushed to where it came from.
    person.dhow(&["tag", "own", &format!("{home}/tool:2")]).ok();
    assert_eq!(
        person.dhow(&["push", "-q", "tool:2"]).ok(),
        format!("{home}/tool:2")
    );
    registry.get("/v2/tool/manifests/2").expect(200);
    person.dhow(&["history", "-q", "tool:2"]).ok();
    person.dhow(&["save", "-o", "/dev/null", "tool:2"]).ok();
    let said = person.dhow(&["rmi", "tool:2"]).ok();
    assert!(said.contains(&format!("Untagged: {home}/tool:2")), "{said}");
    // Errors say what was tried.
    for words in [
        &["push", "nothing:1"][..],
        &["inspect", "nothing:1"],
        &["run", "--pull", "never", "nothing:1"],
    ] {
        let error = person.dhow(words).fails(125);
        let tried = "neither as docker.io/library/nothing:1 nor as ";
        assert!(
            error.contains(tried) && error.contains(&format!("{home}/nothing:1")),
            "{words:?}: {error}"
        );
    }
    let error = person.dhow(&["run", "nothing:1"]).fails(125);
    assert!(error.contains(&format!("{home}/nothing:1: ")), "{error}");
}

#[test]
fn containerds_layout_of_hosts_is_understood() {
    let registry = registry_with(&["team/app:1"]);
    let home = registry.address().to_string();
    let person = Person::new("");
    let closed = ClosedPort::new();
    person.hosts(
        "registry.example:5000",
        &format!(
            "server = \"http://{home}\"\n[host.\"http://{closed}\"]\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"http://{home}/v2\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\n",
        ),
    );
    let name = "registry.example:5000/team/app:1";
    person.dhow(&["pull", "-q", name]).ok();
    person
        .dhow(&["tag", name, "registry.example:5000/team/new:1"])
        .ok();
    person
        .dhow(&["push", "-q", "registry.example:5000/team/new:1"])
        .ok();
    registry.get("/v2/team/new/manifests/1").expect(200);
    person.hosts("broken.example", "[host]\nx = 1\n");
    let error = person.dhow(&["pull", "broken.example/x"]).fails(125);
    assert!(error.contains("hosts.toml"), "{error}");
}
