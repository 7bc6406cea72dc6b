//! A plan as a person reads it.

use std::fmt::{self, Display, Formatter};

use dhow_dockerfile::RunNetwork;

use crate::plan::{Action, Base, BuildPlan, CopyStep, Origin, PlannedStage, RunStep};

impl Display for BuildPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} for {}", self.dockerfile, self.platform)?;
        for stage in &self.stages {
            self.stage(f, stage)?;
        }
        Ok(())
    }
}

impl BuildPlan {
    fn stage(&self, f: &mut Formatter<'_>, stage: &PlannedStage) -> fmt::Result {
        write!(f, "{}: from ", stage.title())?;
        match &stage.base {
            Base::Scratch => f.write_str("nothing")?,
            Base::Stage(position) => write!(f, "stage {}", self.stages[*position].title())?,
            Base::Image(image) => write!(
                f,
                "{} ({}, {} layers)",
                image.reference,
                image.id.short(),
                image.layers.len()
            )?,
        }
        writeln!(f, "    # line {}", stage.line)?;
        for step in &stage.steps {
            writeln!(f, "  {}    # line {}", step.title(), step.line)?;
            match &step.action {
                Action::Run(run) => write_run(f, run)?,
                Action::Copy(copy) => self.copy(f, copy)?,
                Action::Directory { path, user } => {
                    writeln!(f, "      directory {path}, owner {}", or_root(user))?;
                }
                Action::Configure => {}
            }
        }
        Ok(())
    }

    fn copy(&self, f: &mut Formatter<'_>, copy: &CopyStep) -> fmt::Result {
        let origin = match &copy.origin {
            Origin::Context => "context".to_owned(),
            Origin::Stage(position) => format!("stage {}", self.stages[*position].title()),
            Origin::Image(image) => format!("image {} ({})", image.reference, image.id.short()),
        };
        for source in &copy.sources {
            writeln!(f, "      {origin}: {source} -> {}", copy.destination)?;
        }
        for file in &copy.files {
            writeln!(
                f,
                "      text of {} bytes: {} -> {}",
                file.text.len(),
                file.name,
                copy.destination
            )?;
        }
        if let Some(chown) = &copy.chown {
            writeln!(f, "      owner {chown}")?;
        }
        if let Some(chmod) = copy.chmod {
            writeln!(f, "      mode {chmod:04o}")?;
        }
        Ok(())
    }
}

fn write_run(f: &mut Formatter<'_>, run: &RunStep) -> fmt::Result {
    writeln!(
        f,
        "      {} in {}, network {}",
        or_root(&run.user),
        run.working_dir,
        match run.network {
            RunNetwork::None => "none",
            RunNetwork::Host | RunNetwork::Default => "host",
        }
    )?;
    let command: Vec<String> = run.command.iter().map(|word| format!("{word:?}")).collect();
    writeln!(f, "      {}", command.join(" "))?;
    for variable in &run.env {
        writeln!(f, "      {variable}")?;
    }
    Ok(())
}

fn or_root(user: &str) -> &str {
    if user.is_empty() { "root" } else { user }
}
