//! The variables of a container's process, as `run`, `create` and `exec` take them.

use std::path::PathBuf;

use anyhow::ensure;

// No doc comment: it would take the place of the verb's own.
#[derive(clap::Args)]
pub(crate) struct EnvironmentArgs {
    /// Set a variable; without a value it takes this environment's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables of a file, one NAME[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
}

impl EnvironmentArgs {
    /// The files' variables, then those of the command line. A bare name takes this environment's value, or takes the image's variable away.
    pub(crate) fn variables(&self) -> anyhow::Result<Vec<String>> {
        let mut all = Vec::new();
        for file in &self.env_file {
            for line in fs_err::read_to_string(file)?.lines() {
                let line = line.trim_start();
                if !line.is_empty() && !line.starts_with('#') {
                    all.push(variable(line)?);
                }
            }
        }
        for entry in &self.env {
            all.push(variable(entry)?);
        }
        Ok(all)
    }
}

fn variable(entry: &str) -> anyhow::Result<String> {
    let name = entry.split('=').next().unwrap_or_default();
    ensure!(
        !name.is_empty() && !name.contains(char::is_whitespace),
        "{entry:?} sets no variable; write NAME=VALUE"
    );
    if entry.contains('=') {
        return Ok(entry.to_owned());
    }
    Ok(match std::env::var(name) {
        Ok(value) => format!("{name}={value}"),
        Err(_) => name.to_owned(),
    })
}
