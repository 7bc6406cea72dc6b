//! Hostile requests to a registry that hears no network: for the fuzz target and the registry's own tests, which take this file
//! in by its path.

use std::path::Path;

use dhow_registry_server::ServerOptions;
use dhow_registry_server::trial::Conversation;

/// What stands between two requests of one input.
pub(crate) const NEXT: u8 = 0x1e;

/// A registry whose answers are looked at.
pub(crate) struct Asked(Conversation);

impl Asked {
    pub(crate) fn new(root: &Path) -> Self {
        let options = ServerOptions {
            root: root.to_owned(),
            ..ServerOptions::default()
        };
        Self(Conversation::begin(&options).expect("a registry"))
    }

    /// Asks what the input has; whatever it is, it is no fault of the server's, and is answered with a document or as asked.
    /// Says whether anything was answered with success.
    pub(crate) fn try_one(&mut self, input: &[u8]) -> bool {
        let mut taken = false;
        for request in input.split(|byte| *byte == NEXT).take(8) {
            let Some(heard) = self.0.ask(request) else {
                continue;
            };
            let body = String::from_utf8_lossy(&heard.body);
            assert!(heard.status < 500, "{}: {body}", heard.status);
            if heard.status >= 400 && !heard.body.is_empty() {
                assert!(body.starts_with("{\"errors\":[{\"code\":\""), "{body}");
            }
            taken |= heard.status < 300;
        }
        taken
    }
}
