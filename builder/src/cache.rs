//! What makes a step the same as one that was made before.

use dhow_image::{ChainId, DiffId, Digest};
use serde::Serialize;

use crate::plan::{Action, CopyStep, Origin, RunStep};

/// Changes when the meaning of a step changes, so that layers made by an older dhow are not taken for it.
const VERSION: u32 = 2;

/// What a step's layer depends on.
#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    /// The layers below.
    parent: Option<ChainId>,
    #[serde(flatten)]
    step: What<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum What<'a> {
    Run(&'a RunStep),
    Copy {
        step: &'a CopyStep,
        /// What stands for the files: a digest of them, or the layers that they lie in.
        content: String,
    },
    Directory {
        path: &'a str,
        user: &'a str,
    },
}

/// The key of a step that copies nothing; none for one that makes no layer.
pub(crate) fn key(below: &[DiffId], action: &Action) -> Option<Digest> {
    let step = match action {
        Action::Run(run) => What::Run(run),
        Action::Directory { path, user } => What::Directory { path, user },
        Action::Copy(_) | Action::Configure => return None,
    };
    Some(digest(below, step))
}

/// The key of a copy of files with this digest.
pub(crate) fn copy_key(below: &[DiffId], step: &CopyStep, content: &Digest) -> Digest {
    // The same files are the same wherever they come from.
    let step = CopyStep {
        origin: Origin::Context,
        ..step.clone()
    };
    let content = format!("files {content}");
    digest(
        below,
        What::Copy {
            step: &step,
            content,
        },
    )
}

/// The key of a copy out of these layers, known before anybody has looked into them.
pub(crate) fn copy_key_of_layers(below: &[DiffId], step: &CopyStep, from: &[DiffId]) -> Digest {
    let chain = ChainId::of(from).map(|chain| chain.to_string());
    let content = format!("layers {}", chain.unwrap_or_default());
    let step = CopyStep {
        origin: Origin::Context,
        ..step.clone()
    };
    digest(
        below,
        What::Copy {
            step: &step,
            content,
        },
    )
}

fn digest(below: &[DiffId], step: What<'_>) -> Digest {
    let key = Key {
        version: VERSION,
        parent: ChainId::of(below),
        step,
    };
    // These types have no value that JSON cannot hold.
    Digest::of(&serde_json::to_vec(&key).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str) -> Action {
        Action::Directory {
            path: path.into(),
            user: String::new(),
        }
    }

    #[test]
    fn keys_depend_on_what_is_done_and_on_what_lies_below() {
        let layer = DiffId(Digest::of(b"a"));
        let below = std::slice::from_ref(&layer);
        let one = key(below, &directory("/a"));
        assert!(one.is_some());
        assert_eq!(one, key(below, &directory("/a")));
        assert_ne!(one, key(below, &directory("/b")));
        assert_ne!(one, key(&[], &directory("/a")));
        assert_eq!(key(below, &Action::Configure), None);
    }
}
