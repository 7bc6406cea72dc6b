//! `dhow login` and `dhow logout`, and what is told to whom: against Debian's registry with passwords, tokens and TLS.

use std::os::unix::fs::PermissionsExt as _;

use dhow_integration_tests::certificates::Authority;
use dhow_integration_tests::registry::Registry;
use dhow_integration_tests::token_server::TokenServer;
use dhow_integration_tests::{Ran, Sandbox, ran, write_program};

/// A place with an image, whose logins are in `docker/` and `run/`.
struct Person {
    sandbox: Sandbox,
}

impl Person {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.import_busybox();
        Self { sandbox }
    }

    fn with_input(&self, args: &[&str], environment: &[(&str, &str)], input: &str) -> Ran {
        let mut command = self.sandbox.command(args);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env_remove("REGISTRY_AUTH_FILE")
            .env("DOCKER_CONFIG", self.sandbox.path("docker"))
            .env("XDG_RUNTIME_DIR", self.sandbox.path("run"))
            .env("XDG_CONFIG_HOME", self.sandbox.path("config"))
            .env(
                "PATH",
                format!("{}:{path}", self.sandbox.path("bin").display()),
            )
            .envs(environment.iter().copied());
        ran(command, input.as_bytes())
    }

    fn dhow(&self, args: &[&str]) -> Ran {
        self.with_input(args, &[], "")
    }

    fn log_in(&self, server: &str, password: &str) -> Ran {
        self.with_input(
            &["login", "-u", "me", "--password-stdin", server],
            &[],
            password,
        )
    }

    fn config(&self) -> serde_json::Value {
        let text = fs_err::read(self.sandbox.path("docker/config.json")).expect("config.json");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn tag(&self, name: &str) {
        self.dhow(&["tag", "busybox", name]).ok();
    }
}

#[test]
fn logging_in_lets_push_and_logging_out_does_not() {
    let registry = Registry::debian_with_password();
    let address = registry.address().to_string();
    let person = Person::new();
    let name = format!("{address}/app:1");
    person.tag(&name);
    person.sandbox.write(
        "docker/config.json",
        "{\n\t\"psFormat\": \"x\",\n\t\"auths\": {}\n}",
    );
    person.dhow(&["push", "-q", &name]).fails(125);
    let wrong = person.log_in(&address, "wrong").fails(125);
    assert!(
        wrong.contains("does not accept") && wrong.contains(&address),
        "{wrong}"
    );
    person.dhow(&["push", "-q", &name]).fails(125);

    let done = person.log_in(&address, "secret\n");
    assert!(
        done.stderr.contains("stored unencrypted in"),
        "{}",
        done.stderr
    );
    assert_eq!(done.ok(), "Login Succeeded");
    let config = person.config();
    assert_eq!(config["psFormat"], "x");
    // me:secret.
    assert_eq!(config["auths"][&address]["auth"], "bWU6c2VjcmV0");
    let path = person.sandbox.path("docker/config.json");
    let mode = fs_err::metadata(path)
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    person.dhow(&["push", "-q", &name]).ok();
    let again = person.dhow(&["login", &address]).ok();
    assert_eq!(
        again,
        "Authenticating with existing credentials...\nLogin Succeeded"
    );

    let out = person.dhow(&["logout", &address]).ok();
    assert_eq!(out, format!("Removing login credentials for {address}"));
    assert_eq!(person.config()["auths"], serde_json::json!({}));
    person.dhow(&["pull", "-q", &name]).fails(125);
    let out = person.dhow(&["logout", &address]).ok();
    assert_eq!(out, format!("Not logged in to {address}"));
}

#[test]
fn what_docker_and_skopeo_keep_is_understood_and_the_other_way() {
    let registry = Registry::debian_with_password();
    let address = registry.address().to_string();
    let person = Person::new();
    let file = person.sandbox.path("auth.json").display().to_string();
    let environment = [("REGISTRY_AUTH_FILE", file.as_str())];
    let login = ["login", "-u", "me", "--password-stdin", &address];
    person.with_input(&login, &environment, "secret").ok();
    // skopeo reads what dhow wrote, and writes what dhow reads.
    let skopeo = |args: &[&str]| -> Ran {
        let mut command = std::process::Command::new("skopeo");
        command.args(args).env("REGISTRY_AUTH_FILE", &file);
        ran(command, b"secret")
    };
    skopeo(&["login", "--get-login", "--tls-verify=false", &address]).ok();
    let name = format!("{address}/app:1");
    person.tag(&name);
    person
        .with_input(&["push", "-q", &name], &environment, "")
        .ok();
    skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok();
    skopeo(&["logout", &address]).ok();
    person
        .with_input(&["pull", "-q", &name], &environment, "")
        .fails(125);
    skopeo(&[
        "login",
        "--tls-verify=false",
        "-u",
        "me",
        "--password-stdin",
        &address,
    ])
    .ok();
    person
        .with_input(&["pull", "-q", &name], &environment, "")
        .ok();
    let out = person
        .with_input(&["logout", "--all"], &environment, "")
        .ok();
    assert_eq!(out, format!("Removing login credentials for {address}"));
}

#[test]
fn a_helper_keeps_lists_and_forgets() {
    let registry = Registry::debian_with_password();
    let address = registry.address().to_string();
    let person = Person::new();
    let kept = person.sandbox.path("kept");
    fs_err::create_dir(&kept).expect("create");
    // The whole protocol: a file per registry.
    let script = format!(
        r#"#!/bin/sh
cd {} || exit 2
echo "$1" >> ../calls
case $1 in
store) cat > new; url=$(sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' new); mv new "$(echo "$url" | tr / _)" ;;
get) f=$(tr / _); [ -f "$f" ] || {{ echo 'credentials not found in native keychain'; exit 1; }}; cat "$f" ;;
erase) rm "$(tr / _)" ;;
list) printf '{{'; sep=; for f in *; do [ -f "$f" ] && printf '%s"%s":"me"' "$sep" "$f" && sep=,; done; printf '}}' ;;
esac
"#,
        kept.display()
    );
    let helper = person.sandbox.path("bin/docker-credential-files");
    write_program(&helper, &script);
    person
        .sandbox
        .write("docker/config.json", r#"{"credsStore":"files"}"#);
    let done = person.log_in(&address, "secret");
    assert!(!done.stderr.contains("WARNING"), "{}", done.stderr);
    done.ok();
    let config = person.config();
    assert_eq!(config["auths"][&address], serde_json::json!({}));
    assert_eq!(config["credsStore"], "files");
    let text = fs_err::read_to_string(kept.join(&address)).expect("kept");
    assert!(
        text.contains(r#""Username":"me","Secret":"secret""#),
        "{text}"
    );
    let name = format!("{address}/app:1");
    person.tag(&name);
    person.dhow(&["push", "-q", &name]).ok();
    person.dhow(&["logout", &address]).ok();
    assert!(!kept.join(&address).exists());
    person.dhow(&["pull", "-q", &name]).fails(125);
    // One for this registry alone, and all that it has.
    let own = serde_json::json!({ "credHelpers": { &address: "files" } });
    person.sandbox.write("docker/config.json", own.to_string());
    person.log_in(&address, "secret").ok();
    person.dhow(&["pull", "-q", &name]).ok();
    let out = person.dhow(&["logout", "--all"]).ok();
    assert_eq!(out, format!("Removing login credentials for {address}"));
    assert!(!kept.join(&address).exists());
    // A helper that fails is named with what it says.
    write_program(&helper, "#!/bin/sh\necho it is locked; exit 3\n");
    let failed = person.dhow(&["pull", "-q", &name]).fails(125);
    assert!(
        failed.contains("docker-credential-files get") && failed.contains("it is locked"),
        "{failed}"
    );
}

#[test]
fn a_part_of_a_registry_has_its_own_login() {
    let registry = Registry::debian_with_password();
    let address = registry.address().to_string();
    let person = Person::new();
    let file = person.sandbox.path("auth.json").display().to_string();
    let environment = [("REGISTRY_AUTH_FILE", file.as_str())];
    let part = format!("{address}/team");
    let login = ["login", "-u", "me", "--password-stdin", &part];
    person.with_input(&login, &environment, "secret").ok();
    for (repository, allowed) in [("team/app", true), ("other/app", false)] {
        let name = format!("{address}/{repository}:1");
        person.tag(&name);
        let pushed = person.with_input(&["push", "-q", &name], &environment, "");
        match allowed {
            true => drop(pushed.ok()),
            false => drop(pushed.fails(125)),
        }
    }
    let refused = person.log_in(&part, "secret").fails(125);
    assert!(refused.contains("--authfile"), "{refused}");
}

#[test]
fn tokens_are_had_renewed_and_kept() {
    let sandbox = Sandbox::new();
    let server = TokenServer::start(Authority::new(&sandbox), 300);
    let registry = Registry::debian_configured(Sandbox::new(), &server.configuration());
    let address = registry.address().to_string();
    let person = Person::new();
    person.log_in(&address, "wrong").fails(125);
    person.log_in(&address, "secret").ok();
    let entry = person.config()["auths"][&address].clone();
    assert_eq!(entry["identitytoken"], "identity-0");
    assert!(
        !entry.to_string().contains("bWU6c2VjcmV0"),
        "the password is kept: {entry}"
    );
    let name = format!("{address}/app:1");
    person.tag(&name);
    person.dhow(&["push", "-q", &name]).ok();
    let asked = server.seen().pop().expect("a request");
    assert_eq!(
        (asked.method.as_str(), asked.with_password),
        ("POST", false)
    );
    assert_eq!(asked.all("scope"), ["repository:app:pull,push"]);
    // The identity token that came with the answer has taken the place of the one that was used up.
    assert_eq!(
        person.config()["auths"][&address]["identitytoken"],
        "identity-1"
    );
    // Mounting takes a token for both repositories.
    let second = format!("{address}/second:1");
    person.tag(&second);
    let pushed = person.dhow(&["push", &second]);
    assert!(
        pushed.stderr.contains("mounted from app"),
        "{}",
        pushed.stderr
    );
    pushed.ok();
    let scopes: Vec<String> = server
        .seen()
        .iter()
        .map(|asked| asked.all("scope").join(" "))
        .collect();
    let both = "repository:second:pull,push repository:app:pull";
    assert!(scopes.iter().any(|scope| scope == both), "{scopes:?}");
    let other = Person::new();
    other.dhow(&["pull", "-q", &name]).fails(125);
}

#[test]
fn an_authority_is_trusted_where_it_is_named() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox);
    let (certificate, key) = authority.issue("server");
    let tls = format!(
        "{{certificate: {}, key: {}}}",
        certificate.display(),
        key.display()
    );
    let registry = Registry::debian_over_tls(Sandbox::new(), &tls);
    let address = registry.address().to_string();
    let person = Person::new();
    let name = format!("{address}/app:1");
    person.tag(&name);
    let unknown = person.dhow(&["push", "-q", &name]).fails(125);
    assert!(
        unknown.contains("is not trusted") && unknown.contains("ca.crt"),
        "{unknown}"
    );
    person
        .dhow(&["push", "-q", "--tls-verify=false", &name])
        .ok();
    let directories = person.sandbox.path("certs.d");
    let into = format!("certs.d/{address}/ca.crt");
    person
        .sandbox
        .write(&into, fs_err::read(authority.certificate()).expect("read"));
    let directories = directories.display().to_string();
    let environment = [("DHOW_CERTS_D", directories.as_str())];
    person
        .with_input(&["pull", "-q", &name], &environment, "")
        .ok();
    let own = format!("{directories}/{address}");
    person.dhow(&["pull", "-q", "--cert-dir", &own, &name]).ok();
    // By the name that the certificate has too.
    let local = name.replace("127.0.0.1", "localhost");
    person
        .dhow(&["pull", "-q", "--cert-dir", &own, &local])
        .ok();
}

#[test]
fn a_registry_that_wants_to_know_the_client_is_shown_a_certificate() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox);
    let (certificate, key) = authority.issue("server");
    let tls = format!(
        "{{certificate: {}, key: {}, clientcas: [{}]}}",
        certificate.display(),
        key.display(),
        authority.certificate().display()
    );
    let registry = Registry::debian_over_tls(Sandbox::new(), &tls);
    let address = registry.address().to_string();
    let person = Person::new();
    let name = format!("{address}/app:1");
    person.tag(&name);
    let file = |to: &str, from: &std::path::Path| {
        person
            .sandbox
            .write(&format!("certs/{to}"), fs_err::read(from).expect("read"));
    };
    file("ca.crt", &authority.certificate());
    let certs = person.sandbox.path("certs").display().to_string();
    person
        .dhow(&["push", "-q", "--cert-dir", &certs, &name])
        .fails(125);
    let (certificate, key) = authority.issue("client");
    file("client.cert", &certificate);
    let missing = person
        .dhow(&["push", "-q", "--cert-dir", &certs, &name])
        .fails(125);
    assert!(missing.contains("client.key"), "{missing}");
    file("client.key", &key);
    person
        .dhow(&["push", "-q", "--cert-dir", &certs, &name])
        .ok();
}

#[test]
fn mistakes_at_logging_in_are_told() {
    let person = Person::new();
    let said = person
        .dhow(&["login", "-u", "me", "-p", "a", "--password-stdin", "a.org"])
        .fails(125);
    assert!(said.contains("--password-stdin"), "{said}");
    let said = person
        .dhow(&["login", "--password-stdin", "a.org"])
        .fails(125);
    assert!(said.contains("--username"), "{said}");
    let said = person.dhow(&["login", "a.org"]).fails(125);
    assert!(said.contains("non TTY"), "{said}");
    person.sandbox.write("docker/config.json", "{");
    let said = person.dhow(&["logout", "a.org"]).fails(125);
    assert!(said.contains("config.json"), "{said}");
}
