//! The command line itself: versions, help, and mistyped words.

use dhow_integration_tests::Sandbox;

#[test]
fn version_names_the_programs_it_uses() {
    let said = Sandbox::new().dhow(["version"]).ok();
    assert!(said.starts_with("dhow version "), "{said}");
    assert!(said.contains("/dhow-runtime"), "{said}");
}

#[test]
fn an_unknown_verb_is_an_error_of_dhows_own() {
    let said = Sandbox::new().dhow(["biuld"]).fails(125);
    assert!(said.contains("biuld") && said.contains("build"), "{said}");
}

#[test]
fn manual_and_completion_know_every_verb() {
    let sandbox = Sandbox::new();
    let pages = sandbox.path("man1");
    sandbox.dhow(["manual", pages.to_str().unwrap()]).ok();
    let page = fs_err::read_to_string(pages.join("dhow.1")).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = sandbox.dhow(["completion", shell]).ok();
        for verb in ["build", "pull", "push", "run", "exec", "logs"] {
            assert!(script.contains(verb), "{shell}: {verb}");
            assert!(page.contains(verb), "dhow.1: {verb}");
            assert!(pages.join(format!("dhow-{verb}.1")).exists(), "{verb}");
        }
    }
}
