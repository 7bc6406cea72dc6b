//! Each folder of Dockerfile.examples is built and run as the comment at its top says.

use std::path::{Path, PathBuf};
use std::process::Command;

use dhow_integration_tests::{PATIENCE, Sandbox, ServicePort, await_page, ran};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../Dockerfile.examples")
        .join(name)
}

#[track_caller]
fn build(sandbox: &Sandbox, name: &str, context: &Path) {
    let tag = format!("example/{name}");
    let context = context.to_str().expect("a path in UTF-8");
    sandbox.dhow(["build", "-t", &tag, context]).ok();
}

/// Starts an example as a service on a free port of the host.
#[track_caller]
fn serve(sandbox: &Sandbox, name: &str) -> ServicePort {
    let port = ServicePort::new();
    let setting = format!("PORT={}", port.number());
    let image = format!("example/{name}");
    sandbox
        .dhow([
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "host",
            "-e",
            &setting,
            &image,
        ])
        .ok();
    port
}

#[test]
fn every_example_says_what_it_shows_and_is_built_here() {
    let mut found: Vec<String> = fs_err::read_dir(example(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let built = ["debian", "multi-stage", "python", "static", "web"];
    assert_eq!(found, built, "an example without a test in this file");
    for name in built {
        let text = fs_err::read_to_string(example(name).join("Dockerfile")).unwrap();
        assert!(text.starts_with("# "), "{name}: no comment at the top");
        for word in ["dhow build", "dhow run"] {
            assert!(text.contains(word), "{name}: does not show `{word}`");
        }
    }
}

#[test]
fn a_static_binary_on_scratch() {
    let sandbox = Sandbox::new();
    let context = sandbox.path("static");
    fs_err::create_dir(&context).unwrap();
    for file in ["Dockerfile", ".dockerignore", "hello.c"] {
        fs_err::copy(example("static").join(file), context.join(file)).unwrap();
    }
    let mut compile = Command::new("cc");
    compile
        .current_dir(&context)
        .args(["-static", "-Os", "-s", "-o", "hello", "hello.c"]);
    ran(compile, b"").ok();

    build(&sandbox, "static", &context);
    let said = sandbox.dhow(["run", "--rm", "example/static", "dhow"]).ok();
    assert!(
        said.starts_with("Hello, dhow, from process 1 of user 65534 on "),
        "{said}"
    );
}

#[test]
fn busybox_with_a_small_http_service() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    build(&sandbox, "web", &example("web"));
    let _web = sandbox.removed_at_end("web");
    let port = serve(&sandbox, "web");

    let page = await_page(port.number(), "/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("It sails."), "{}", page.body);
    let made = await_page(port.number(), "/made-with.txt").body;
    assert!(made.starts_with("BusyBox v"), "{made}");
    assert_eq!(await_page(port.number(), "/nowhere").status, 404);

    // It says that it serves and what it was asked, and ends at once when it is told to.
    let started = std::time::Instant::now();
    sandbox.dhow(["stop", "-t", "200", "web"]).ok();
    assert!(started.elapsed() < PATIENCE, "SIGTERM was not heard");
    let logs = sandbox.dhow(["logs", "web"]);
    assert!(
        logs.stderr.contains(&format!("on port {}", port.number())),
        "{logs:?}"
    );
    assert!(logs.stderr.contains("response:404"), "{logs:?}");
}

#[test]
fn a_debian_base_with_a_package_installed_in_it() {
    let sandbox = Sandbox::new();
    sandbox.import_debian();
    build(&sandbox, "debian", &example("debian"));
    let run = sandbox.command(["run", "--rm", "-i", "example/debian", ".masts"]);
    let said = ran(run, br#"{"ship": "dhow", "masts": 2}"#).ok();
    assert_eq!(said, "2");
}

#[test]
fn a_c_program_compiled_in_one_stage_and_copied_into_another() {
    let sandbox = Sandbox::new();
    sandbox.import_debian();
    let context = example("multi-stage");
    build(&sandbox, "multi-stage", &context);
    let said = sandbox
        .dhow(["run", "--rm", "example/multi-stage", "1000000"])
        .ok();
    assert_eq!(said, "78498 primes below 1000000");

    // The compiler stayed behind: the image has one layer, and what it weighs is the program.
    let inspected = sandbox.dhow(["inspect", "example/multi-stage"]).ok();
    assert!(!inspected.contains("apt-get"), "{inspected}");

    // The stage in the middle is only built when it is asked for, and then from the same compile stage.
    sandbox
        .dhow([
            "build",
            "--target",
            "test",
            "-t",
            "example/tested",
            context.to_str().unwrap(),
        ])
        .ok();
}

#[test]
fn a_python_web_service() {
    let sandbox = Sandbox::new();
    sandbox.import_debian();
    build(&sandbox, "python", &example("python"));
    let _python = sandbox.removed_at_end("python");
    let port = serve(&sandbox, "python");

    let answer = await_page(port.number(), "/hello/Zanzibar");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body.trim_end(),
        r#"{"hello": "Zanzibar", "from": "greeter"}"#
    );
    assert_eq!(await_page(port.number(), "/").status, 404);

    sandbox.dhow(["stop", "-t", "30", "python"]).ok();
    let logs = sandbox.dhow(["logs", "python"]);
    assert!(logs.stderr.contains("GET /hello/Zanzibar"), "{logs:?}");
    // It ended as it was asked to, not by force.
    let listed = sandbox.dhow(["ps", "-a"]).ok();
    assert!(listed.contains("Exited (0)"), "{listed}");
}
