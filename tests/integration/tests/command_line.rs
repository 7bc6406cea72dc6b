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
