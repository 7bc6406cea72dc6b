//! The tutorial (`make demo`) does what it says, on a machine where other containers run, and leaves nothing behind.

use std::path::Path;
use std::process::Command;

use dhow_integration_tests::{Sandbox, program, ran};

#[test]
fn the_demo_does_the_main_job_and_cleans_up() {
    let sandbox = Sandbox::new();
    let place = sandbox.path("");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo.sh");
    // Twice, since what the first leaves behind would show in the second.
    for _ in 0..2 {
        // What it says on standard error belongs between the rest, as on a terminal.
        let mut demo = Command::new("sh");
        demo.args(["-c", "exec \"$0\" \"$1\" 2>&1"])
            .arg(&script)
            .arg(program("dhow").parent().expect("a directory"))
            .env("TMPDIR", &place);
        let said = ran(demo, b"").ok();
        // In this order: two images, the second push that finds the first one's layers, a page of the second edition, its logs.
        let mut rest = said.as_str();
        for line in [
            "$ dhow build -t demo/web:1",
            "$ dhow build -t demo/web:2",
            "$ dhow push",
            "pushed",
            "$ dhow push",
            "already there",
            "$ dhow rmi",
            "$ dhow pull",
            "$ dhow run -d --name",
            "$ dhow ps",
            "It sails.",
            "The second edition.",
            "$ dhow exec web ps",
            "httpd -f -v",
            "$ dhow logs",
            "response:200",
            "$ dhow stop",
            "$ dhow rm",
            "# Done",
        ] {
            let Some((_, after)) = rest.split_once(line) else {
                panic!("not there, or not in its place: {line}\n{said}")
            };
            rest = after;
        }
        let left: Vec<_> = fs_err::read_dir(&place).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}
