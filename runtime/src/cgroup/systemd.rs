//! The systemd driver: the container's cgroup is a transient scope's, made and removed by systemd, and its limits are the scope's
//! properties too.

mod anchor;
mod annotations;
mod bus;
mod message;
mod properties;

use std::path::{Path, PathBuf};
use std::time::Instant;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::{CgroupError, Request};
use crate::privilege::is_unprivileged;
use bus::{Bus, BusError, PATIENCE};
use message::{Call, Message, Writer};
use properties::Host;

pub(super) use anchor::Anchor;
pub(crate) use annotations::PREFIX as SYSTEMD_PROPERTY;
pub(super) use message::{Property, Value};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A scope, as it is kept in the container's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name (`dhow-web.scope`).
    name: String,
    /// The slice that it is in (`system.slice`).
    slice: String,
    /// Whether the user's own systemd has it.
    user: bool,
}

impl Unit {
    /// The scope of a request: cgroupsPath is `SLICE:PREFIX:NAME`, or nothing.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, CgroupError> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(CgroupError::NoSystemd);
        }
        let user = request.rootless.unwrap_or_else(is_unprivileged);
        let (slice, name) = parse(request.path, request.id)?;
        let slice = slice.unwrap_or_else(|| match user {
            true => "user.slice".to_owned(),
            false => "system.slice".to_owned(),
        });
        Ok(Self { name, slice, user })
    }

    /// Where its directory is below each hierarchy's mount.
    pub(super) fn directory(&self) -> Result<PathBuf, CgroupError> {
        let mut path = expand(&self.slice)?.join(&self.name);
        if self.user {
            // The user's systemd has a cgroup of its own, and all its units are in that.
            let mut bus = self.bus()?;
            let top = self.manager_property(&mut bus, "ControlGroup")?;
            path = Path::new(top.trim_start_matches('/')).join(path);
        }
        Ok(path)
    }

    /// Makes the scope with a process in it, and waits until it is there.
    pub(super) fn start(
        &self,
        request: &Request<'_>,
        process: u32,
        resources: Option<&LinuxResources>,
        v2: bool,
    ) -> Result<(), CgroupError> {
        if self.user && !v2 {
            return Err(CgroupError::Value {
                limit: "--systemd-cgroup without root",
                reason: "a user's systemd manages cgroups of version 2 only, and this host has version 1".to_owned(),
            });
        }
        let mut bus = self.bus()?;
        let host = self.host(&mut bus, v2)?;
        let mut wanted = self.own_properties(request.id, process, v2);
        if let Some(annotations) = request.annotations {
            wanted.extend(annotations::properties(annotations)?);
        }
        wanted.extend(oom_policy(resources, host));
        wanted.extend(properties::of(resources, true, host)?);
        let doing = || format!("start the scope {}", self.name);
        let begin = |bus: &mut Bus| {
            let mut body = Writer::default();
            body.text(&self.name);
            body.text("replace");
            body.properties(&wanted);
            // No further units.
            body.array::<()>(8, &[], |_, ()| {});
            bus.call(manager_call("StartTransientUnit", "ssa(sv)a(sa(sv))", body))
        };
        let answer = match begin(&mut bus) {
            // What is left of one that failed; systemd forgets it when asked to.
            Err(BusError::Refused { name, .. }) if name.ends_with(".UnitExists") => {
                self.reset_failed(&mut bus);
                begin(&mut bus)
            }
            other => other,
        };
        let job = answer.map_err(|error| refused(doing(), error))?;
        match self.await_job(&mut bus, &job)?.as_str() {
            "done" => Ok(()),
            result => {
                self.reset_failed(&mut bus);
                Err(CgroupError::Systemd {
                    doing: doing(),
                    answer: format!("the job ended with {result:?}"),
                })
            }
        }
    }

    fn own_properties(&self, id: &str, process: u32, v2: bool) -> Vec<Property> {
        let flag = |name: &str, flag| (name.to_owned(), Value::Flag(flag));
        let text = |name: &str, text: String| (name.to_owned(), Value::Text(text));
        vec![
            text("Description", format!("dhow container {id}")),
            text("Slice", self.slice.clone()),
            flag("Delegate", true),
            ("PIDs".to_owned(), Value::U32s(vec![process])),
            flag("MemoryAccounting", true),
            flag("CPUAccounting", true),
            flag(
                if v2 {
                    "IOAccounting"
                } else {
                    "BlockIOAccounting"
                },
                true,
            ),
            flag("TasksAccounting", true),
            flag("DefaultDependencies", false),
        ]
    }

    /// Changes its properties for what is asked, until the scope ends.
    pub(super) fn update(&self, resources: &LinuxResources, v2: bool) -> Result<(), CgroupError> {
        let mut bus = self.bus()?;
        let host = self.host(&mut bus, v2)?;
        let wanted = properties::of(Some(resources), false, host)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut body = Writer::default();
        body.text(&self.name);
        body.flag(true);
        body.properties(&wanted);
        bus.call(manager_call("SetUnitProperties", "sba(sv)", body))
            .map_err(|error| refused(format!("change the scope {}", self.name), error))?;
        Ok(())
    }

    /// Moves a process into it; for a user who may not do so by the cgroup's files.
    pub(super) fn attach(&self, process: u32) -> Result<(), CgroupError> {
        let mut bus = self.bus()?;
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("/");
        body.array(4, &[process], |w, process| w.u32(*process));
        bus.call(manager_call("AttachProcessesToUnit", "ssau", body))
            .map_err(|error| refused(format!("put process {process} into {}", self.name), error))?;
        Ok(())
    }

    /// Ends it with all its processes, and waits until it has ended; that it is gone already is no error.
    pub(super) fn stop(&self) -> Result<(), CgroupError> {
        let mut bus = self.bus()?;
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("replace");
        match bus.call(manager_call("StopUnit", "ss", body)) {
            Ok(job) => drop(self.await_job(&mut bus, &job)?),
            Err(BusError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => return Ok(()),
            Err(error) => return Err(refused(format!("stop the scope {}", self.name), error)),
        }
        self.reset_failed(&mut bus);
        Ok(())
    }

    fn bus(&self) -> Result<Bus, CgroupError> {
        Bus::open(self.user).map_err(|error| refused("reach systemd".to_owned(), error))
    }

    fn host(&self, bus: &mut Bus, v2: bool) -> Result<Host, CgroupError> {
        let text = self.manager_property(bus, "Version")?;
        // Such as `252.38-1~deb12u1`, or `v245`.
        let digits = text.trim_start_matches('v');
        let end = digits
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(digits.len());
        Ok(Host {
            v2,
            version: digits[..end].parse().unwrap_or(0),
        })
    }

    fn manager_property(&self, bus: &mut Bus, name: &str) -> Result<String, CgroupError> {
        let mut body = Writer::default();
        body.text(MANAGER);
        body.text(name);
        let call = Call {
            interface: "org.freedesktop.DBus.Properties",
            ..manager_call("Get", "ss", body)
        };
        let doing = || format!("ask systemd for its {name}");
        let answer = bus.call(call).map_err(|error| refused(doing(), error))?;
        let mut body = answer.body();
        let text = body.signature().and_then(|_| body.text());
        text.ok_or_else(|| CgroupError::Systemd {
            doing: doing(),
            answer: "it is no text".to_owned(),
        })
    }

    /// Waits for a job's end; gives its result.
    fn await_job(&self, bus: &mut Bus, job: &Message) -> Result<String, CgroupError> {
        let doing = || format!("wait for the scope {}", self.name);
        let systemd = &job.sender;
        let job = job.body().text().unwrap_or_default();
        let end = Instant::now() + PATIENCE;
        while let Some(signal) = bus.signal(end).map_err(|error| refused(doing(), error))? {
            // Anybody on a bus may send a signal to this process alone, whatever signals it has asked for.
            let is_anothers = systemd.starts_with(':') && signal.sender != *systemd;
            if signal.member != "JobRemoved" || is_anothers {
                continue;
            }
            let mut body = signal.body();
            let removed = (|| Some((body.u32()?, body.text()?, body.text()?, body.text()?)))();
            if let Some((_, path, _, result)) = removed
                && path == job
            {
                return Ok(result);
            }
        }
        Err(CgroupError::Systemd {
            doing: doing(),
            answer: format!("nothing came within {} s", PATIENCE.as_secs()),
        })
    }

    /// So that a failed scope does not stay; one that has not failed is not known any more.
    fn reset_failed(&self, bus: &mut Bus) {
        let mut body = Writer::default();
        body.text(&self.name);
        let _ = bus.call(manager_call("ResetFailedUnit", "s", body));
    }
}

/// `memory.oom.group` is systemd's OOMPolicy, which can be told only at the beginning (for scopes since 253).
fn oom_policy(resources: Option<&LinuxResources>, host: Host) -> Option<Property> {
    let unified = resources?.unified().as_ref()?;
    let policy = match unified.get("memory.oom.group")?.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    (host.v2 && host.version >= 253)
        .then(|| ("OOMPolicy".to_owned(), Value::Text(policy.to_owned())))
}

fn manager_call<'a>(member: &'a str, signature: &'a str, body: Writer) -> Call<'a> {
    Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: MANAGER,
        member,
        signature,
        body,
    }
}

fn refused(doing: String, error: BusError) -> CgroupError {
    match error {
        BusError::Connection { address, source } => CgroupError::Bus { address, source },
        BusError::Refused { name, text } => CgroupError::Systemd {
            doing,
            answer: if text.is_empty() { name } else { text },
        },
    }
}

/// The slice, if one is named, and the scope's name.
fn parse(path: Option<&Path>, id: &str) -> Result<(Option<String>, String), CgroupError> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok((None, format!("dhow-{id}.scope")));
    };
    let wrong = |reason: &str| CgroupError::Value {
        limit: "cgroupsPath",
        reason: format!("{:?} {reason}", path.display().to_string()),
    };
    let form = "is not SLICE:PREFIX:NAME, as --systemd-cgroup needs it (system.slice:docker:1234)";
    let text = path.to_str().ok_or_else(|| wrong(form))?;
    let [slice, prefix, name] = text
        .split(':')
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| wrong(form))?;
    if name.is_empty() || text.contains('/') {
        return Err(wrong(form));
    }
    if name.ends_with(".slice") {
        return Err(wrong(
            "names a slice, and a container's processes are in a scope",
        ));
    }
    let slice = (!slice.is_empty()).then(|| slice.to_owned());
    if let Some(slice) = &slice {
        expand(slice)?;
    }
    Ok((slice, format!("{prefix}-{name}.scope")))
}

/// Where a slice is: `a-b.slice` is in `a.slice`.
fn expand(slice: &str) -> Result<PathBuf, CgroupError> {
    let wrong = || CgroupError::Value {
        limit: "cgroupsPath",
        reason: format!("{slice:?} is no name of a slice"),
    };
    let name = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if name == "-" {
        return Ok(PathBuf::new());
    }
    let parts: Vec<&str> = name.split('-').collect();
    if parts
        .iter()
        .any(|part| part.is_empty() || part.contains('/'))
    {
        return Err(wrong());
    }
    Ok((1..=parts.len())
        .map(|count| format!("{}.slice", parts[..count].join("-")))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_in_each_other() {
        for (slice, path) in [
            ("system.slice", "system.slice"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
            ("-.slice", ""),
        ] {
            assert_eq!(expand(slice).unwrap(), Path::new(path));
        }
        for slice in [
            "",
            ".slice",
            "-a.slice",
            "a--b.slice",
            "a/b.slice",
            "a.scope",
        ] {
            assert!(expand(slice).is_err(), "{slice}");
        }
    }

    #[test]
    fn a_path_names_slice_prefix_and_name() {
        let parsed = |path: &str| parse(Some(Path::new(path)), "id");
        assert_eq!(
            parsed("machine.slice:libpod:abc").unwrap(),
            (
                Some("machine.slice".to_owned()),
                "libpod-abc.scope".to_owned()
            )
        );
        assert_eq!(
            parsed(":docker:x").unwrap(),
            (None, "docker-x.scope".to_owned())
        );
        assert_eq!(
            parse(None, "id").unwrap(),
            (None, "dhow-id.scope".to_owned())
        );
        for path in [
            "/a/b",
            "a.slice:b",
            "a.slice:b:",
            "a:b:c",
            "a.slice:b:../c",
            "a.slice:b:c.slice",
        ] {
            assert!(parsed(path).is_err(), "{path}");
        }
    }
}
