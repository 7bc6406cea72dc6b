//! The container's program: where it is, where it begins, and becoming it.

use std::collections::HashSet;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use dhow_sys::exec::StringArray;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Doing, Init, StepError};
use crate::error::Kind;

const SIGPIPE: u32 = 13;

/// Where the program is.
#[derive(Debug)]
pub(super) struct Found {
    path: String,
}

/// Goes to the working directory and sees that it is inside the container's root: a descriptor leaked from the host
/// (/proc/self/fd/7) would lead out of it.
pub(super) fn change_directory(path: &Path) -> Result<(), StepError> {
    let what = || {
        format!(
            "chdir to cwd ({:?}) set in config.json failed",
            path.display()
        )
    };
    rustix::process::chdir(path).doing(what)?;
    if path == Path::new("/") {
        return Ok(());
    }
    let now = rustix::process::getcwd(Vec::new()).doing(what)?;
    if now.to_bytes().first() == Some(&b'/') {
        return Ok(());
    }
    Err(StepError::other(
        "current working directory is outside of container mount namespace root -- possible container breakout detected",
    ))
}

fn not_found(message: String, errno: Errno) -> StepError {
    StepError {
        step: String::new(),
        message,
        errno: Some(errno),
        kind: match errno {
            Errno::NOENT | Errno::NOTDIR => Kind::CommandNotFound,
            _ => Kind::CommandNotExecutable,
        },
    }
}

/// Whether a path is a file that somebody may execute.
fn executable(path: &str) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(CWD, path, rustix::fs::AtFlags::empty())?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file && stat.st_mode & 0o111 != 0 {
        Ok(())
    } else {
        Err(Errno::ACCESS)
    }
}

/// Finds the program: a name with a slash as it is, else along the container's own PATH.
fn find(name: &str, env: &[String]) -> Result<Found, StepError> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(Found {
                path: name.to_owned(),
            }),
            Err(errno @ Errno::ACCESS) => Err(not_found(
                format!("exec: {name:?}: permission denied"),
                errno,
            )),
            Err(errno) => Err(not_found(
                format!("exec: {name:?}: stat {name}: {}", plain(errno)),
                errno,
            )),
        };
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH="));
    let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut denied = false;
    // The empty name would be the directories themselves.
    let dirs = path.split(':').filter(|_| !name.is_empty());
    for dir in dirs {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = format!("{dir}/{name}");
        match executable(&candidate) {
            Ok(()) => return Ok(Found { path: candidate }),
            Err(errno) => denied |= errno == Errno::ACCESS,
        }
    }
    if denied {
        return Err(not_found(
            format!("exec: {name:?}: permission denied"),
            Errno::ACCESS,
        ));
    }
    Err(not_found(
        format!("exec: {name:?}: executable file not found in $PATH"),
        Errno::NOENT,
    ))
}

/// The system's answer in the words that callers look for in runc's messages.
fn plain(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        errno => errno.to_string(),
    }
}

/// The home directory of a user, from the container's own /etc/passwd.
fn home_of(uid: u32) -> Option<String> {
    const LARGEST: u64 = 1 << 20;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open("/etc/passwd", flags, Mode::empty()).ok()?;
    // Whatever it is, it neither makes this process wait nor takes for ever.
    let text = std::fs::File::from(file).take(LARGEST);
    for line in BufReader::new(text).split(b'\n') {
        let line = String::from_utf8_lossy(&line.ok()?).into_owned();
        let fields: Vec<&str> = line.split(':').collect();
        if fields.len() >= 6 && fields[2].parse() == Ok(uid) {
            return Some(fields[5].to_owned());
        }
    }
    None
}

/// Of variables of one name the last: programs take the first that they find, which is the one to be replaced.
fn keep_last(env: &mut Vec<String>) {
    let mut seen = HashSet::new();
    let mut last: Vec<bool> = env
        .iter()
        .rev()
        .map(|pair| seen.insert(pair.split('=').next().unwrap_or_default()))
        .collect();
    env.retain(|_| last.pop().unwrap_or(true));
}

fn strings(of: &[String]) -> Result<Vec<CString>, StepError> {
    of.iter()
        .map(|text| {
            CString::new(text.as_str())
                .map_err(|_| StepError::other("an argument or a variable holds a zero byte"))
        })
        .collect()
}

impl Init {
    /// Finds the program, and the user's home for the environment that does not name it.
    pub(super) fn find_program(&mut self, name: &str) -> Result<(), StepError> {
        let env = &mut self.resources.env;
        keep_last(env);
        if !env
            .iter()
            .any(|pair| pair.starts_with("HOME=") && pair.len() > 5)
        {
            let own = || rustix::process::getuid().as_raw();
            let home = home_of(self.uid.unwrap_or_else(own)).filter(|home| !home.is_empty());
            env.retain(|pair| !pair.starts_with("HOME="));
            env.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
        }
        self.program = Some(find(name, env)?);
        Ok(())
    }

    /// Becomes the program.
    pub(super) fn execute(&mut self) -> Result<(), StepError> {
        let found = self.program.take();
        let found = found.ok_or_else(|| StepError::other("the program was not looked for"))?;
        let args = StringArray::new(strings(&self.resources.args)?);
        let env = StringArray::new(strings(&self.resources.env)?);
        let path = CString::new(found.path.as_str())
            .map_err(|_| StepError::other("the program's path holds a zero byte"))?;
        // What was ignored when the command began, and what this program ignores itself: a broken pipe.
        dhow_sys::signal::reset_ignored(crate::procfs::own().ignored | 1 << (SIGPIPE - 1));
        let errno = dhow_sys::exec::execve(&path, &args, &env);
        Err(not_found(
            format!("exec {}: {}", found.path, plain(errno)),
            errno,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::keep_last;

    #[test]
    fn the_last_variable_of_a_name_stays_at_its_place() {
        let mut env = ["A=1", "B=2", "A=3", "C=", "B=x=y"]
            .map(str::to_owned)
            .to_vec();
        keep_last(&mut env);
        assert_eq!(env, ["A=3", "C=", "B=x=y"]);
    }
}
