//! `dhow login`

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use dhow_registry_client::{Account, Client, Kept, Keychain, Proof};

use crate::registry_args::RegistryArgs;
use crate::terminal::without_echo;

/// The longest password that is read.
const LONGEST: u64 = 1 << 20;

/// Who to be, and where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The name
    #[arg(short, long)]
    username: Option<String>,
    /// The password or access token; others can see it in the list of processes
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The registry, or a part of it [default: docker.io]
    #[arg(value_name = "SERVER", default_value = "", hide_default_value = true)]
    server: Account,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keychain = args.registry.keychain();
    // The file of logins may be made by this.
    let client = Client::new(args.registry.options()?);
    if args.password.is_some() {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if args.username.is_none()
        && args.password.is_none()
        && let Some(known) = keychain.look_up(&args.server)?
    {
        println!("Authenticating with existing credentials...");
        match client.log_in(&args.server, &known) {
            Ok(proof) => return keep(&keychain, args, &proof, proof != known),
            Err(error) => eprintln!("Login did not succeed, error: {error}"),
        }
    }
    let proof = ask(args)?;
    let proof = client.log_in(&args.server, &proof)?;
    keep(&keychain, args, &proof, true)
}

fn keep(keychain: &Keychain, args: &Args, proof: &Proof, is_new: bool) -> anyhow::Result<ExitCode> {
    if is_new && let Kept::File(path) = keychain.store(&args.server, proof)? {
        eprintln!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper (credsStore) to remove this warning.\n",
            path.display()
        );
    }
    println!("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// The name and password: what was given, and what a person types.
fn ask(args: &Args) -> anyhow::Result<Proof> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => {
            needs_terminal()?;
            typed("Username: ", false)?
        }
    };
    ensure!(
        !user.trim().is_empty(),
        "a user name is needed; give it with --username"
    );
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => password.clone(),
        (None, true) => {
            let mut text = String::new();
            std::io::stdin()
                .lock()
                .take(LONGEST)
                .read_to_string(&mut text)
                .context("reading the password from standard input")?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            text.strip_suffix('\r').unwrap_or(text).to_owned()
        }
        (None, false) => {
            needs_terminal()?;
            typed("Password: ", true)?
        }
    };
    ensure!(
        !password.is_empty(),
        "a password is needed; give it with --password-stdin"
    );
    Ok(Proof::Password { user, password })
}

fn needs_terminal() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    bail!(
        "Cannot perform an interactive login from a non TTY device; give --username, and the password with --password-stdin"
    )
}

fn typed(prompt: &str, secret: bool) -> anyhow::Result<String> {
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let mut line = String::new();
    let read = || std::io::stdin().lock().read_line(&mut line);
    if secret {
        let count = without_echo(read)?;
        eprintln!();
        count?;
    } else {
        let mut read = read;
        read()?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
