//! The program's command line: runc's commands, flags, output and exit statuses.

mod completion;
mod criu;
mod flags;
mod help;
mod manual;
mod output;
mod requests;
mod state_root;
mod verbs;

use std::ffi::OsString;
use std::io::Write;

use dhow_runtime::commands::{self, Outcome, Runtime};
use dhow_runtime::log::LogOptions;
use dhow_runtime::{Error, Kind, log, protect};

use flags::{Given, Verb};

/// What the program says and answers with when it could not do what was asked.
struct Failure {
    message: String,
    kind: Kind,
    status: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            message: error.to_string(),
            kind: error.kind(),
            status: 1,
        }
    }
}

/// Parses, does one thing, and says how it went.
pub(crate) fn main() -> u8 {
    let protected = match enters_containers() {
        true => protect::ensure(),
        false => Ok(()),
    };
    let done = match protected {
        Ok(()) => command(),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(status) => status,
        Err(failure) => {
            log::error(&failure.message, failure.kind);
            failure.status
        }
    }
}

/// Whether this call makes a process that enters a container, as far as can be seen without parsing: parsing would be
/// done twice, since protecting the program executes it again. A word too many costs that and nothing else.
fn enters_containers() -> bool {
    let mut words = std::env::args_os().skip(1);
    let entering = ["create", "run", "exec", "restore"];
    let found = words.any(|word| entering.iter().any(|verb| word == *verb));
    found && !words.any(|word| word == "--dry-run")
}

/// Prints; a reader that went away is not our failure.
fn print(text: &str) -> Result<u8, Failure> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}

/// Reads the command line and does what it says.
fn command() -> Result<u8, Failure> {
    let mut input = std::env::args_os().skip(1).peekable();
    let global = flags::read(&mut input, &[verbs::GLOBAL], true)
        .map_err(|error| misused(&error, "dhow-runtime --help"))?;
    log::set(log_options(&global)?);
    log::check()?;
    if global.is("version") {
        return print(&help::version());
    }
    let name = input.next().or_else(|| global.words.first().cloned());
    let Some(name) = name.filter(|_| !global.is("help")) else {
        return print(&help::of_program());
    };
    if name == "help" || name == "h" {
        return match input.next() {
            Some(name) => print(&help::of_verb(verb(&name)?)),
            None => print(&help::of_program()),
        };
    }
    let verb = verb(&name)?;
    let given = read_verb(verb, &mut input)?;
    if given.is("help") {
        return print(&help::of_verb(verb));
    }
    check_count(verb, &given)?;
    let runtime = Runtime {
        root: state_root::find(&global, verb)?,
        rootless: rootless(&global)?,
    };
    dispatch(verb, &runtime, &global, &given).map_err(|error| {
        let mut failure = Failure::from(error);
        // runc's words before what went wrong, which callers show as they are.
        match verb.name {
            "create" | "run" => {
                failure.message = format!("dhow-runtime {} failed: {}", verb.name, failure.message);
            }
            "exec" => {
                failure.message = format!("exec failed: {}", failure.message);
                failure.status = 255;
            }
            _ => {}
        }
        failure
    })
}

fn misused(error: &Error, help: &str) -> Failure {
    Failure {
        message: format!("{error} (see: {help})"),
        kind: Kind::Other,
        status: 1,
    }
}

fn verb(name: &OsString) -> Result<&'static Verb, Failure> {
    let found = verbs::VERBS.iter().find(|verb| name == verb.name);
    found.ok_or_else(|| Failure {
        message: format!(
            "No help topic for '{}': there is no such command (see: dhow-runtime --help)",
            name.to_string_lossy()
        ),
        kind: Kind::Other,
        status: 3,
    })
}

fn read_verb(
    verb: &Verb,
    input: &mut std::iter::Peekable<impl Iterator<Item = OsString>>,
) -> Result<Given, Failure> {
    let help = format!("dhow-runtime {} --help", verb.name);
    let mut given =
        flags::read(input, verb.flags, verb.passes_on).map_err(|error| misused(&error, &help))?;
    given.words.extend(input);
    Ok(given)
}

fn check_count(verb: &Verb, given: &Given) -> Result<(), Failure> {
    let (least, most) = verb.words;
    let count = given.words.len();
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let how = match (least == most, count < least) {
        (true, _) => format!("exactly {least}"),
        (false, true) => format!("a minimum of {least}"),
        (false, false) => format!("a maximum of {most}"),
    };
    let error = Error::Asked(format!(
        "dhow-runtime: {:?} requires {how} argument(s)",
        verb.name
    ));
    Err(misused(
        &error,
        &format!("dhow-runtime {} --help", verb.name),
    ))
}

fn log_options(global: &Given) -> Result<LogOptions, Error> {
    let json = match global.text("log-format")?.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::Asked(format!(
                "invalid log-format: {other} (text or json)"
            )));
        }
    };
    Ok(LogOptions {
        file: global.path("log"),
        json,
        debug: global.is("debug"),
        only_file: global.is("log-only"),
    })
}

/// `--rootless`, in the words that runc takes.
fn rootless(global: &Given) -> Result<Option<bool>, Error> {
    match global.text("rootless")?.as_deref() {
        None | Some("" | "auto") => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(Error::Asked(format!(
            "invalid value for --rootless: {other:?} (true, false or auto)"
        ))),
    }
}

fn ended(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Detached => 0,
        Outcome::Ended(status) => status,
    }
}

fn dispatch(verb: &Verb, runtime: &Runtime, global: &Given, given: &Given) -> Result<u8, Error> {
    match verb.name {
        "create" => create(runtime, global, given)?,
        "run" => {
            let options = requests::create_options(global, given)?;
            return Ok(ended(commands::run(runtime, &given.id()?, &options)?));
        }
        "start" => commands::start(runtime, &given.id()?)?,
        "state" => {
            output::print_json(&output::state(&commands::state(runtime, &given.id()?)?));
        }
        "kill" => {
            let signal = requests::signal(given)?;
            commands::kill(runtime, &given.id()?, signal, given.is("all"))?;
        }
        "delete" => commands::delete(runtime, &given.id()?, given.is("force"))?,
        "exec" => {
            let options = requests::exec_options(given)?;
            return Ok(ended(commands::exec(runtime, &given.id()?, &options)?));
        }
        "ps" => {
            let as_json = requests::json(given)?;
            let pids = commands::processes(runtime, &given.id()?)?;
            output::processes(&pids, as_json, &given.words_from(1)?)?;
        }
        "list" => {
            let as_json = requests::json(given)?;
            if global.value("root").is_some() {
                requests::require_directory(&runtime.root)?;
            }
            output::list(&commands::list(runtime)?, as_json, given.is("quiet"));
        }
        "spec" => requests::write_template(given)?,
        "features" => output::print_json(&commands::features()),
        "manual" => {
            let dir = given.words.first().cloned().unwrap_or_default();
            manual::write(std::path::Path::new(&dir))?;
        }
        "completion" => {
            let shell = given.words.first().cloned().unwrap_or_default();
            let script = completion::script(&shell.to_string_lossy())?;
            // A reader that went away is not our failure.
            let _ = std::io::stdout().write_all(script.as_bytes());
        }
        "pause" => commands::pause(runtime, &given.id()?)?,
        "resume" => commands::resume(runtime, &given.id()?)?,
        "events" => events(runtime, given)?,
        "checkpoint" => {
            let options = criu::options(global, given)?;
            commands::checkpoint(runtime, &given.id()?, &options)?;
        }
        "restore" => {
            let options = criu::restore_options(global, given)?;
            return Ok(ended(commands::restore(runtime, &given.id()?, &options)?));
        }
        "update" => {
            let (limits, schemas) = (requests::limits(given)?, requests::schemas(given)?);
            commands::update(runtime, &given.id()?, &limits, schemas.as_ref())?;
        }
        other => {
            return Err(Error::Asked(format!("there is no command {other}")));
        }
    }
    Ok(0)
}

fn events(runtime: &Runtime, given: &Given) -> Result<(), Error> {
    let id = given.id()?;
    let interval = requests::interval(given)?;
    if given.is("stats") {
        let stats = commands::stats(runtime, &id)?;
        output::event(&id, &commands::Event::Stats(Box::new(stats)));
        return Ok(());
    }
    commands::events(runtime, &id, interval, |event| output::event(&id, &event))
}

fn create(runtime: &Runtime, global: &Given, given: &Given) -> Result<(), Error> {
    let options = requests::create_options(global, given)?;
    if given.is("dry-run") {
        print!("{}", commands::plan(&given.id()?, &options)?);
        return Ok(());
    }
    commands::create(runtime, &given.id()?, &options)
}
