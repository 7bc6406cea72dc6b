//! The instructions of a stage to steps and a configuration.

use dhow_dockerfile::{
    Add, CommandLine, Copy, DockerfileError, Instruction, InstructionKind, Pair, Run, RunNetwork,
    Span, Transfer, Word,
};
use oci_spec::image::Config;

use super::{Draft, Inherited, Planner};
use crate::plan::{Action, CopyStep, InlineFile, Origin, RunStep, Step};
use crate::{BuildError, settings};

impl Planner<'_> {
    /// Adds what one instruction does to the draft of its stage.
    pub(super) fn instruction(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        draft: &mut Draft,
    ) -> Result<(), BuildError> {
        self.warn_of_arrays(instruction);
        let mut step = Step {
            instruction: instruction.to_string(),
            line: instruction.span.start.line,
            action: Action::Configure,
            history: instruction.to_string(),
        };
        match &instruction.kind {
            InstructionKind::Run(run) => {
                let run = self.run(run, draft);
                step.history = history_of(&run, &draft.inherited);
                step.action = Action::Run(run);
            }
            InstructionKind::Copy(Copy { from, transfer }) => {
                let origin = match from {
                    Some(word) => self.origin(stage, word)?,
                    None => Origin::Context,
                };
                let copy = self.copy(transfer, origin, false, draft)?;
                step.history = copy.history("COPY");
                step.action = Action::Copy(copy);
            }
            InstructionKind::Add(Add { transfer, unpack }) => {
                let copy = self.copy(transfer, Origin::Context, *unpack, draft)?;
                step.history = copy.history("ADD");
                step.action = Action::Copy(copy);
            }
            InstructionKind::Workdir(word) => {
                let path = self.workdir(word, draft)?;
                step.history = format!("WORKDIR {path}");
                step.action = Action::Directory {
                    path,
                    user: user_of(&draft.inherited.config),
                };
            }
            kind => self.configure(kind, instruction.span, draft)?,
        }
        draft.steps.push(step);
        Ok(())
    }

    /// `CMD ['a']` is no JSON, so that a shell gets it, which is hardly ever meant.
    fn warn_of_arrays(&mut self, instruction: &Instruction) {
        let command = match &instruction.kind {
            InstructionKind::Run(run) => &run.command,
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => command,
            _ => return,
        };
        let CommandLine::Shell(line) = command else {
            return;
        };
        let inside = line.strip_prefix('[').map(str::trim_start);
        if inside.is_some_and(|rest| rest.starts_with(['"', '\''])) {
            self.warnings.push(format!(
                "{}:{}: this looks like an array but is no JSON, so the shell gets it; write it with double quotes: [\"a\", \"b\"]",
                self.dockerfile.source.name(),
                instruction.span.start.line
            ));
        }
    }

    /// The instructions that make no layer.
    fn configure(
        &self,
        kind: &InstructionKind,
        span: Span,
        draft: &mut Draft,
    ) -> Result<(), BuildError> {
        match kind {
            InstructionKind::Env(pairs) => {
                for (name, value) in self.pairs(pairs, draft)? {
                    settings::set_env(&mut draft.inherited.config, &name, &value);
                }
            }
            InstructionKind::Label(pairs) => {
                for (name, value) in self.pairs(pairs, draft)? {
                    settings::set_label(&mut draft.inherited.config, &name, &value);
                }
            }
            InstructionKind::Arg(declared) => {
                for one in declared {
                    let Inherited { config, args, .. } = &draft.inherited;
                    let value = self.declared(one, args, Some(config))?;
                    draft.inherited.args.declare(&one.name.text, value);
                }
            }
            InstructionKind::User(word) => {
                let user = self.expand(word, draft)?;
                draft.inherited.config.set_user(Some(user));
            }
            InstructionKind::Expose(words) => self.expose(words, draft)?,
            InstructionKind::Volume(words) => self.volumes(words, draft)?,
            InstructionKind::Cmd(command) => {
                let words = in_shell(command, &draft.inherited.shell);
                draft.inherited.config.set_cmd(Some(words));
                draft.own_command = true;
            }
            InstructionKind::Entrypoint(command) => {
                let words = in_shell(command, &draft.inherited.shell);
                draft.inherited.config.set_entrypoint(Some(words));
                // A command that was meant for another entrypoint is not this one's argument.
                if !draft.own_command {
                    draft.inherited.config.set_cmd(None);
                }
            }
            InstructionKind::Shell(words) => draft.inherited.shell.clone_from(words),
            InstructionKind::Stopsignal(word) => self.stop_signal(word, draft)?,
            InstructionKind::Maintainer(name) => draft.inherited.author = Some(name.clone()),
            InstructionKind::Run(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
            | InstructionKind::Workdir(_) => {
                return Err(self.error(span, "this makes a layer", "").into());
            }
        }
        Ok(())
    }

    fn volumes(&self, words: &[Word], draft: &mut Draft) -> Result<(), DockerfileError> {
        for word in words {
            let path = self.expand(word, draft)?;
            if path.is_empty() {
                return Err(self.error(
                    word.span,
                    "the volume has no path",
                    "expected a directory",
                ));
            }
            settings::add_volume(&mut draft.inherited.config, &path);
        }
        Ok(())
    }

    fn stop_signal(&self, word: &Word, draft: &mut Draft) -> Result<(), DockerfileError> {
        let signal = self.expand(word, draft)?;
        if !settings::is_signal(&signal) {
            return Err(self.error(
                word.span,
                format!("{signal:?} is no signal"),
                "expected a name such as SIGTERM, or a number",
            ));
        }
        draft.inherited.config.set_stop_signal(Some(signal));
        Ok(())
    }

    fn expose(&self, words: &[Word], draft: &mut Draft) -> Result<(), BuildError> {
        for word in words {
            let Inherited { config, args, .. } = &draft.inherited;
            let variables = |name: &str| self.variable(name, args, Some(config));
            for port in self.dockerfile.expand_words(word, &variables)? {
                settings::expose(&mut draft.inherited.config, &port).map_err(|expected| {
                    self.error(word.span, format!("{port:?} is no port"), expected)
                })?;
            }
        }
        Ok(())
    }

    fn expand(&self, word: &Word, draft: &Draft) -> Result<String, DockerfileError> {
        let Inherited { config, args, .. } = &draft.inherited;
        let variables = |name: &str| self.variable(name, args, Some(config));
        self.dockerfile.expand(word, &variables)
    }

    /// Names and values, all with the variables as they were before the instruction.
    fn pairs(
        &self,
        pairs: &[Pair],
        draft: &Draft,
    ) -> Result<Vec<(String, String)>, DockerfileError> {
        pairs
            .iter()
            .map(|pair| {
                let name = self.expand(&pair.name, draft)?;
                if name.is_empty() {
                    return Err(self.error(
                        pair.name.span,
                        "the name is empty",
                        "expected NAME=VALUE",
                    ));
                }
                Ok((name, self.expand(&pair.value, draft)?))
            })
            .collect()
    }

    fn workdir(&self, word: &Word, draft: &mut Draft) -> Result<String, DockerfileError> {
        let text = self.expand(word, draft)?;
        if text.is_empty() {
            return Err(self.error(
                word.span,
                format!("{word} is empty"),
                "expected a directory",
            ));
        }
        let path = settings::absolute(&working_dir(&draft.inherited.config), &text);
        let path = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        draft.inherited.config.set_working_dir(Some(path.clone()));
        Ok(path)
    }

    fn run(&self, run: &Run, draft: &Draft) -> RunStep {
        let Inherited {
            config,
            args,
            shell,
            ..
        } = &draft.inherited;
        let image = config.env().clone().unwrap_or_default();
        let mut env: Vec<String> = args
            .environment()
            .into_iter()
            .filter(|entry| {
                let name = entry.split('=').next().unwrap_or_default();
                settings::env(config, name).is_none()
            })
            .collect();
        env.extend(image);
        RunStep {
            command: in_shell(&run.command, shell),
            env,
            proxies: self.given.proxies(),
            user: user_of(config),
            working_dir: working_dir(config),
            network: match run.network {
                RunNetwork::Default => self.options.network,
                network => network,
            },
        }
    }

    fn copy(
        &self,
        transfer: &Transfer,
        origin: Origin,
        unpack: bool,
        draft: &Draft,
    ) -> Result<CopyStep, BuildError> {
        let expand = |word: &Word| self.expand(word, draft);
        let sources = transfer
            .sources
            .iter()
            .map(expand)
            .collect::<Result<Vec<_>, _>>()?;
        let destination_text = expand(&transfer.destination)?;
        let several = transfer.sources.len() + transfer.heredocs.len() > 1;
        let destination =
            settings::absolute(&working_dir(&draft.inherited.config), &destination_text);
        if several && !destination.ends_with('/') {
            return Err(self
                .error(
                    transfer.destination.span,
                    "several files cannot be copied to one",
                    format!("expected a directory: {destination_text}/"),
                )
                .into());
        }
        let files = transfer
            .heredocs
            .iter()
            .map(|heredoc| {
                let Inherited { config, args, .. } = &draft.inherited;
                let variables = |name: &str| self.variable(name, args, Some(config));
                Ok(InlineFile {
                    name: heredoc.name.clone(),
                    text: self.dockerfile.expand_heredoc(heredoc, &variables)?,
                })
            })
            .collect::<Result<Vec<_>, DockerfileError>>()?;
        Ok(CopyStep {
            origin,
            sources,
            files,
            destination,
            chown: transfer.chown.as_ref().map(expand).transpose()?,
            chmod: transfer
                .chmod
                .as_ref()
                .map(|word| self.mode(word, draft))
                .transpose()?,
            excludes: transfer
                .excludes
                .iter()
                .map(expand)
                .collect::<Result<_, _>>()?,
            unpack,
        })
    }

    fn mode(&self, word: &Word, draft: &Draft) -> Result<u32, DockerfileError> {
        let text = self.expand(word, draft)?;
        let octal = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| octal && *mode <= 0o7777)
            .ok_or_else(|| {
                self.error(
                    word.span,
                    format!("{text:?} is no mode"),
                    "expected octal digits such as 755",
                )
            })
    }
}

impl CopyStep {
    /// As the image's history tells it.
    fn history(&self, keyword: &str) -> String {
        let mut line = keyword.to_owned();
        if let Some(chown) = &self.chown {
            line.push_str(&format!(" --chown={chown}"));
        }
        if let Some(chmod) = self.chmod {
            line.push_str(&format!(" --chmod={chmod:o}"));
        }
        for source in &self.sources {
            line.push_str(&format!(" {source}"));
        }
        for file in &self.files {
            line.push_str(&format!(" <<{}", file.name));
        }
        format!("{line} {}", self.destination)
    }
}

fn working_dir(config: &Config) -> String {
    match config.working_dir().as_deref() {
        None | Some("") => "/".to_owned(),
        Some(dir) => dir.to_owned(),
    }
}

fn user_of(config: &Config) -> String {
    config.user().clone().unwrap_or_default()
}

fn in_shell(command: &CommandLine, shell: &[String]) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(line) => {
            let mut words = shell.to_vec();
            words.push(line.clone());
            words
        }
    }
}

/// A `RUN` as the image's history tells it, with the arguments that it could see.
fn history_of(run: &RunStep, inherited: &Inherited) -> String {
    let args = inherited.args.environment();
    let command = run.command.join(" ");
    if args.is_empty() {
        format!("RUN {command}")
    } else {
        format!("RUN |{} {} {command}", args.len(), args.join(" "))
    }
}
