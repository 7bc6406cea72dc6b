//! Builds in a test: a context in the sandbox, and what came out of it.

use std::ffi::{OsStr, OsString};

use crate::{Ran, Sandbox};

/// What a container of a step prints before the files of an image, so that they are found in the output.
const MARK: &str = "file:";

impl Sandbox {
    /// Writes a Dockerfile into the context `context`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn dockerfile(&self, text: &str) {
        self.write("context/Dockerfile", text);
    }

    /// Builds the context `context` with more arguments.
    ///
    /// # Panics
    /// When `dhow` cannot be started.
    pub fn build<const N: usize>(&self, args: [&str; N]) -> Ran {
        let mut all: Vec<OsString> = vec!["build".into()];
        all.extend(args.iter().map(Into::into));
        all.push(self.path("context").into());
        self.dhow(all)
    }

    /// The files of an image, one a line: `PATH KIND MODE UID:GID`, sorted by their paths. Needs the image `busybox`.
    ///
    /// # Panics
    /// When the image cannot be read.
    #[track_caller]
    pub fn files_of(&self, image: &str) -> Vec<String> {
        self.inspect_files(
            image,
            r#"find . -print0 | sort -z | xargs -0 stat -c "file:%n %F %a %u:%g""#,
        )
    }

    /// The text of a file of an image. Needs the image `busybox`.
    ///
    /// # Panics
    /// When the image has no such file.
    #[track_caller]
    pub fn text_of(&self, image: &str, path: &str) -> String {
        let command = format!("sed s/^/{MARK}/ ./{path}");
        self.inspect_files(image, &command).join("\n")
    }

    /// What a shell command says of the files of an image, which lie in its working directory; of each line that starts
    /// with `file:`, the rest.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn inspect_files(&self, image: &str, command: &str) -> Vec<String> {
        let text = format!(
            "FROM busybox\nCOPY --from={image} / /inspected/\nWORKDIR /inspected\nRUN {command}\n"
        );
        self.write("inspection/Dockerfile", text);
        let ran = self.dhow([
            OsStr::new("build"),
            OsStr::new("--no-cache"),
            self.path("inspection").as_os_str(),
        ]);
        let said = ran.stderr.clone();
        ran.ok();
        said.lines()
            .filter_map(|line| line.split_once(MARK))
            .filter(|(before, _)| before.trim_end().ends_with(']'))
            .map(|(_, file)| file.to_owned())
            .collect()
    }

    /// The configuration of an image.
    ///
    /// # Panics
    /// When there is no such image.
    #[track_caller]
    pub fn config_of(&self, image: &str) -> serde_json::Value {
        let text = self.dhow(["inspect", image]).ok();
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value[0]["Config"].clone()
    }
}
