//! A Dockerfile and what a person asked for to a plan.

mod instructions;

use dhow_container_spec::DEFAULT_PATH;
use dhow_dockerfile::{ArgDeclaration, Dockerfile, DockerfileError, Span, Stage, Word, nearest};
use dhow_image::{ImageReference, Platform};
use oci_spec::image::Config;

use crate::arguments::{Given, Scope};
use crate::plan::{Base, BaseImage, BuildPlan, Origin, PlannedStage, Step};
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
    warnings: Vec<String>,
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
            warnings: Vec::new(),
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
            warnings: self.warnings,
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
            config: with_path(config),
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

fn name_of(stage: &Stage) -> Option<&str> {
    stage.from.name.as_ref().map(|word| word.text.as_str())
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

/// A configuration that says where programs are found, so that `ENV PATH=$PATH:/more` adds to something.
fn with_path(mut config: Config) -> Config {
    if settings::env(&config, "PATH").is_none() {
        let mut env = vec![format!("PATH={DEFAULT_PATH}")];
        env.extend(config.env().clone().unwrap_or_default());
        config.set_env(Some(env));
    }
    config
}
