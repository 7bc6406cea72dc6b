//! A user without privileges, whom this machine knows only in an enclosure: with ids in /etc/subuid and /etc/subgid, a home and a
//! runtime directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Bundle, Enclosure, Ran, Sandbox, copy_program, program, ran};

/// The user, and who he may be in user namespaces of his.
pub struct Stranger<'a> {
    sandbox: &'a Sandbox,
    enclosure: Enclosure,
}

impl<'a> Stranger<'a> {
    /// His user and group id.
    pub const ID: u32 = 70_001;
    /// The first of the ids that he may map.
    pub const FIRST: u32 = 2_000_000;
    /// How many they are.
    pub const COUNT: u32 = 65_536;

    /// Lets him into a place, where he gets a home (`home`), a runtime directory (`run`) and a `dhow-runtime`.
    ///
    /// # Panics
    /// When that cannot be.
    pub fn new(sandbox: &'a Sandbox) -> Self {
        let here = sandbox.path("");
        fs_err::set_permissions(&here, PermissionsExt::from_mode(0o755)).expect("the place");
        let enclosure = Enclosure::new(&here);
        let (id, first, count) = (Self::ID, Self::FIRST, Self::COUNT);
        let more = [
            (
                "passwd",
                format!(
                    "stranger:x:{id}:{id}::{}:/bin/sh\n",
                    sandbox.path("home").display()
                ),
            ),
            ("group", format!("stranger:x:{id}:\n")),
            ("subuid", format!("stranger:{first}:{count}\n")),
            ("subgid", format!("stranger:{first}:{count}\n")),
        ];
        for (name, line) in more {
            let known =
                fs_err::read_to_string(Path::new("/etc").join(name)).expect("package uidmap");
            let own = sandbox.write(&format!("etc-{name}"), known + &line);
            let bind = format!("mount --bind {} /etc/{name}", own.display());
            enclosure.shell(&bind).ok();
        }
        copy_program(program("dhow-runtime"), sandbox.path("dhow-runtime"));
        let stranger = Self { sandbox, enclosure };
        for name in ["home", "run"] {
            let dir = sandbox.path(name);
            fs_err::create_dir(&dir).expect("create");
            fs_err::set_permissions(&dir, PermissionsExt::from_mode(0o700)).expect("mode");
            stranger.give(&dir);
        }
        stranger
    }

    /// What root does in the enclosure.
    pub fn enclosure(&self) -> &Enclosure {
        &self.enclosure
    }

    /// His copy of the runtime.
    pub fn runtime(&self) -> PathBuf {
        self.sandbox.path("dhow-runtime")
    }

    /// Makes a file or directory, with all in it, his.
    ///
    /// # Panics
    /// When it cannot be given.
    pub fn give(&self, path: &Path) {
        let id = Self::ID;
        let mut command = Command::new("chown");
        command.args(["-hR", &format!("{id}:{id}")]).arg(path);
        ran(command, b"").ok();
    }

    /// The words before a command of his, which begins in `dir`.
    pub(crate) fn words(&self, dir: &Path) -> Vec<OsString> {
        let id = Self::ID.to_string();
        let variable = |name: &str, path: PathBuf| {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(path);
            word
        };
        let command = self.enclosure.command("env");
        let mut words = vec![command.get_program().to_owned()];
        words.extend(command.get_args().map(OsStr::to_owned));
        words.extend(["-i", "-C"].map(OsString::from));
        words.push(dir.into());
        words.push("PATH=/usr/bin:/bin:/usr/sbin:/sbin".into());
        words.push(variable("HOME", self.sandbox.path("home")));
        words.push(variable("XDG_RUNTIME_DIR", self.sandbox.path("run")));
        words.extend(["setpriv", "--reuid", &id, "--regid", &id].map(OsString::from));
        words.extend(["--clear-groups", "--inh-caps=-all"].map(OsString::from));
        words
    }

    /// A command of his in the home.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let words = self.words(&self.sandbox.path("home"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// Runs a shell script of his to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Ran {
        let mut command = self.command("sh");
        command.args(["-c", script]);
        ran(command, b"")
    }

    /// A bundle of his, from the runtime's template for who has no privileges, whose program is `sh -c SCRIPT`; the records are in his
    /// runtime directory.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn bundle(&self, script: &str) -> Bundle {
        let mut bundle = self.sandbox.bundle(script);
        let dir = bundle.path("");
        fs_err::remove_file(bundle.path("config.json")).expect("config.json");
        self.give(&dir);
        let root = self.sandbox.path("run/dhow/runtime");
        bundle.hand_over(self.words(&dir), self.runtime(), root);
        bundle.runtime(["spec", "--rootless"]).ok();
        bundle.read_config(script);
        bundle
    }
}
