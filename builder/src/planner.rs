//! A Dockerfile and what a person asked for to a plan.

use dhow_dockerfile::{
    Add, ArgDeclaration, CommandLine, Copy, Dockerfile, DockerfileError, Instruction,
    InstructionKind, Pair, Run, RunNetwork, Span, Stage, Transfer, Word, nearest,
};
use dhow_image::{ImageReference, Platform};
use oci_spec::image::Config;

use crate::arguments::{Given, Scope};
use crate::plan::{
    Action, Base, BaseImage, BuildPlan, CopyStep, InlineFile, Origin, PlannedStage, RunStep, Step,
};
use crate::{BuildError, BuildOptions, settings};

/// The shell of a `RUN` in shell form.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Finds an image: its layers and configuration.
pub(crate) type FindImage<'a> = dyn FnMut(&str, &ImageReference) -> Result<FoundImage, Box<dyn std::error::Error + Send + Sync>>
    + 'a;

/// An image that was found.
pub(crate) struct FoundImage {
    pub(crate) base: BaseImage,
    pub(crate) config: Config,
}

/// Makes a plan.
pub(crate) struct Planner<'a> {
    dockerfile: &'a Dockerfile,
    options: &'a BuildOptions,
    given: Given<'a>,
    global: Scope,
    find: &'a mut FindImage<'a>,
    planned: Vec<PlannedStage>,
    /// By the stage's number: where in `planned` it is, and what a stage that starts from it inherits.
    done: Vec<Option<(usize, Inherited)>>,
}

/// What a stage hands on to those that start from it.
#[derive(Clone)]
struct Inherited {
    config: Config,
    args: Scope,
    shell: Vec<String>,
    author: Option<String>,
}

/// A stage in the making.
struct Draft {
    inherited: Inherited,
    /// This stage has said `CMD` itself.
    own_command: bool,
    steps: Vec<Step>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(
        dockerfile: &'a Dockerfile,
        options: &'a BuildOptions,
        find: &'a mut FindImage<'a>,
    ) -> Self {
        Self {
            dockerfile,
            options,
            given: Given::new(&options.args, &options.platform),
            global: Scope::default(),
            find,
            planned: Vec::new(),
            done: dockerfile.stages.iter().map(|_| None).collect(),
        }
    }

    pub(crate) fn plan(mut self) -> Result<BuildPlan, BuildError> {
        let host = Platform::host();
        if !self.options.platform.accepts(&host) {
            return Err(BuildError::Refused(format!(
                "this machine is {host} and cannot build for {}; leave --platform out",
                self.options.platform
            )));
        }
        for declared in &self.dockerfile.args {
            let value = self.declared(declared, &self.global, None)?;
            self.global.declare(&declared.name.text, value);
        }
        let target = self.target()?;
        self.stage(target)?;
        if let Some(stage) = self.planned.last_mut() {
            for (name, value) in &self.options.labels {
                settings::set_label(&mut stage.config, name, value);
            }
        }
        Ok(BuildPlan {
            dockerfile: self.dockerfile.source.name().to_owned(),
            platform: self.options.platform.clone(),
            unused_args: self.given.unused(),
            stages: self.planned,
        })
    }

    fn target(&self) -> Result<usize, BuildError> {
        let stages = &self.dockerfile.stages;
        let Some(target) = &self.options.target else {
            return Ok(stages.len() - 1);
        };
        let names = || stages.iter().filter_map(name_of);
        stages
            .iter()
            .position(|stage| name_of(stage).is_some_and(|n| n.eq_ignore_ascii_case(target)))
            .or_else(|| target.parse().ok().filter(|index| *index < stages.len()))
            .ok_or_else(|| {
                let hint = match nearest(target, names()) {
                    Some(near) => format!("did you mean {near}?"),
                    None if names().next().is_none() => "no stage has a name".into(),
                    None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
                };
                BuildError::Refused(format!(
                    "{} has no stage {target:?}; {hint}",
                    self.dockerfile.source.name()
                ))
            })
    }

    fn error(
        &self,
        span: Span,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> DockerfileError {
        self.dockerfile.source.error(span, message, expected)
    }

    /// The value of a declared argument: the person's, the default, or the one declared before the first stage.
    fn declared(
        &self,
        declared: &ArgDeclaration,
        scope: &Scope,
        config: Option<&Config>,
    ) -> Result<Option<String>, DockerfileError> {
        let name = &declared.name.text;
        if let Some(value) = self.given.value(name) {
            return Ok(Some(value));
        }
        match &declared.default {
            Some(default) => {
                let variables = |name: &str| self.variable(name, scope, config);
                self.dockerfile.expand(default, &variables).map(Some)
            }
            None => Ok(self.global.get(name).or_else(|| self.given.platform(name))),
        }
    }

    /// A variable's value: an image's environment before an argument. Before the first stage the platforms are known too.
    fn variable(&self, name: &str, scope: &Scope, config: Option<&Config>) -> Option<String> {
        match config {
            Some(config) => settings::env(config, name).or_else(|| scope.get(name)),
            None => scope.get(name).or_else(|| self.given.platform(name)),
        }
    }

    /// Plans a stage and those that it needs; gives its place in the plan.
    fn stage(&mut self, index: usize) -> Result<usize, BuildError> {
        if let Some((place, _)) = &self.done[index] {
            return Ok(*place);
        }
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        let (base, inherited) = self.base(stage)?;
        let mut draft = Draft {
            inherited,
            own_command: false,
            steps: Vec::new(),
        };
        for instruction in &stage.instructions {
            self.instruction(index, instruction, &mut draft)?;
        }
        self.planned.push(PlannedStage {
            index,
            name: name_of(stage).map(str::to_owned),
            base,
            line: stage.from.span.start.line,
            steps: draft.steps,
            config: draft.inherited.config.clone(),
            author: draft.inherited.author.clone(),
        });
        let place = self.planned.len() - 1;
        self.done[index] = Some((place, draft.inherited));
        Ok(place)
    }

    fn base(&mut self, stage: &Stage) -> Result<(Base, Inherited), BuildError> {
        let from = &stage.from;
        if let Some(word) = &from.platform {
            self.check_platform(word)?;
        }
        let name = {
            let variables = |name: &str| self.variable(name, &self.global, None);
            self.dockerfile.expand(&from.image, &variables)?
        };
        if name.is_empty() {
            return Err(self
                .error(
                    from.image.span,
                    format!("{} is empty", from.image),
                    "expected an image; ARGs for FROM stand before the first FROM",
                )
                .into());
        }
        let fresh = |config| Inherited {
            config,
            args: Scope::default(),
            shell: SHELL.map(str::to_owned).into(),
            author: None,
        };
        if name == "scratch" {
            return Ok((Base::Scratch, fresh(Config::default())));
        }
        let earlier = self.dockerfile.stages[..stage.index]
            .iter()
            .find(|other| name_of(other).is_some_and(|n| n.eq_ignore_ascii_case(&name)));
        if let Some(other) = earlier {
            let place = self.stage(other.index)?;
            let inherited = self.done[other.index]
                .clone()
                .map(|(_, inherited)| inherited);
            return Ok((
                Base::Stage(place),
                inherited.unwrap_or_else(|| fresh(Config::default())),
            ));
        }
        let found = self.image(&name, from.image.span)?;
        Ok((Base::Image(found.base), fresh(found.config)))
    }

    fn check_platform(&self, word: &Word) -> Result<(), BuildError> {
        let variables = |name: &str| self.variable(name, &self.global, None);
        let text = self.dockerfile.expand(word, &variables)?;
        let wanted: Platform = text.parse().map_err(|error| {
            self.error(word.span, format!("{error}"), "expected OS/ARCHITECTURE")
        })?;
        if !wanted.accepts(&Platform::host()) {
            return Err(self
                .error(
                    word.span,
                    format!("this machine cannot run what is built for {wanted}"),
                    format!("expected {}, or no --platform", Platform::host()),
                )
                .into());
        }
        Ok(())
    }

    fn image(&mut self, name: &str, span: Span) -> Result<FoundImage, DockerfileError> {
        let reference: ImageReference = name.parse().map_err(|error| {
            self.error(
                span,
                format!("{error}"),
                "expected an image such as debian:12, or the name of an earlier stage",
            )
        })?;
        (self.find)(name, &reference).map_err(|error| {
            let stages = self.dockerfile.stages.iter().filter_map(name_of);
            let expected = match nearest(name, stages) {
                Some(stage) => format!("did you mean the stage {stage}?"),
                None => "expected an image of the store or a registry, or an earlier stage".into(),
            };
            self.error(span, one_line(error.as_ref()), expected)
        })
    }

    fn instruction(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        draft: &mut Draft,
    ) -> Result<(), BuildError> {
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
            InstructionKind::Volume(words) => {
                for word in words {
                    let path = self.expand(word, draft)?;
                    if path.is_empty() {
                        return Err(self
                            .error(word.span, "the volume has no path", "expected a directory")
                            .into());
                    }
                    settings::add_volume(&mut draft.inherited.config, &path);
                }
            }
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
            InstructionKind::Stopsignal(word) => {
                let signal = self.expand(word, draft)?;
                if !settings::is_signal(&signal) {
                    return Err(self
                        .error(
                            word.span,
                            format!("{signal:?} is no signal"),
                            "expected a name such as SIGTERM, or a number",
                        )
                        .into());
                }
                draft.inherited.config.set_stop_signal(Some(signal));
            }
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

    /// What `--from` names: an earlier stage by name or number, or an image.
    fn origin(&mut self, stage: usize, word: &Word) -> Result<Origin, BuildError> {
        let text = word.text.trim_matches('"').to_owned();
        let stages = &self.dockerfile.stages;
        let named = stages
            .iter()
            .position(|other| name_of(other).is_some_and(|n| n.eq_ignore_ascii_case(&text)))
            .or_else(|| text.parse().ok());
        match named {
            Some(index) if index < stage => Ok(Origin::Stage(self.stage(index)?)),
            Some(index) if index < stages.len() => Err(self
                .error(
                    word.span,
                    format!("the stage {text} does not stand before this one"),
                    "expected an earlier stage or an image",
                )
                .into()),
            Some(_) if text.bytes().all(|b| b.is_ascii_digit()) => Err(self
                .error(
                    word.span,
                    format!("there is no stage {text}; stages are counted from 0"),
                    "expected an earlier stage or an image",
                )
                .into()),
            _ => Ok(Origin::Image(self.image(&text, word.span)?.base)),
        }
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

fn name_of(stage: &Stage) -> Option<&str> {
    stage.from.name.as_ref().map(|word| word.text.as_str())
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

/// An error and its causes in one line.
fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}
