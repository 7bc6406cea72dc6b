//! The commands and their flags: runc's, of all its versions, and what is ours.

use super::flags::{Flag, Takes, Verb};

const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        takes: Takes::Nothing,
        help,
    }
}

const fn value(name: &'static str, what: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        takes: Takes::Value(what),
        help,
    }
}

impl Flag {
    const fn or(mut self, short: &'static str) -> Self {
        self.short = Some(short);
        self
    }
}

/// The flags before the command.
pub(crate) const GLOBAL: &[Flag] = &[
    switch("debug", "say more"),
    value(
        "log",
        "FILE",
        "file for the runtime's own messages (default: standard error)",
    ),
    value(
        "log-format",
        "FORMAT",
        "shape of these messages: text (default) or json",
    ),
    value(
        "root",
        "DIR",
        "directory of the containers' state (default: /run/dhow/runtime, without root $XDG_RUNTIME_DIR/dhow/runtime)",
    ),
    value(
        "criu",
        "PROGRAM",
        "the criu program, for checkpoint and restore (default: criu)",
    ),
    switch(
        "systemd-cgroup",
        "let systemd manage cgroups; cgroupsPath is then slice:prefix:name",
    ),
    value(
        "rootless",
        "WHETHER",
        "go without the cgroups that may not be made: true, false or auto (default: if not the host's root)",
    ),
    switch(
        "log-only",
        "with --log, say nothing on standard error: for callers who give that to the container",
    ),
    switch("version", "print the version").or("v"),
];

const BUNDLE: Flag = value(
    "bundle",
    "DIR",
    "directory of the bundle (default: the current one)",
)
.or("b");

/// What every process that is made can be given.
const PROCESS: &[Flag] = &[
    value(
        "console-socket",
        "SOCKET",
        "unix socket that receives the master end of the terminal",
    ),
    value(
        "pidfd-socket",
        "SOCKET",
        "unix socket that receives a descriptor of the process",
    ),
    value("pid-file", "FILE", "file to write the process id to"),
    value(
        "preserve-fds",
        "N",
        "pass N more descriptors to the container (first three + $LISTEN_FDS + N in all)",
    ),
];

/// What `create` and `run` share.
const CREATE: &[Flag] = &[
    BUNDLE,
    switch(
        "no-pivot",
        "move the root instead of pivot_root, where the host's root is a ramdisk",
    ),
    switch("no-new-keyring", "keep the caller's session keyring"),
    switch("dry-run", "print the steps and do nothing"),
];

const DETACH: Flag = switch("detach", "return when the process has begun").or("d");

const RUN: &[Flag] = &[
    DETACH,
    switch("keep", "keep the container's record after its end"),
    switch(
        "no-subreaper",
        "for runc's callers: this runtime never is a subreaper",
    ),
];

const EXEC: &[Flag] = &[
    value("cwd", "DIR", "working directory in the container"),
    value("env", "NAME=VALUE", "set a variable (can be repeated)").or("e"),
    switch("tty", "with a terminal").or("t"),
    value("user", "UID[:GID]", "user, and group").or("u"),
    value("additional-gids", "GID", "one more group (can be repeated)").or("g"),
    value("process", "FILE", "a document that describes the process").or("p"),
    DETACH,
    value("process-label", "LABEL", "SELinux label of the process"),
    value("apparmor", "PROFILE", "AppArmor profile of the process"),
    switch("no-new-privs", "no privileges can be gained"),
    switch("no-new-privileges", ""),
    value("cap", "CAP_NAME", "give a capability (can be repeated)").or("c"),
    value(
        "cgroup",
        "[CONTROLLERS:]PATH",
        "a cgroup below the container's own (can be repeated)",
    ),
    switch("ignore-paused", "go ahead in a paused container"),
];

const FORMAT: Flag = value("format", "FORMAT", "table (default) or json").or("f");

const UPDATE: &[Flag] = &[
    value(
        "resources",
        "FILE",
        "a document with limits (-: standard input), in the shape of linux.resources; the flags below are not looked at then",
    )
    .or("r"),
    value("blkio-weight", "N", "weight of its block I/O, 10 to 1000"),
    value("cpu-period", "US", "period of the CPU quota, microseconds"),
    value("cpu-quota", "US", "CPU time per period, microseconds"),
    value(
        "cpu-burst",
        "US",
        "CPU time that can be saved up beyond the quota, microseconds",
    ),
    value("cpu-share", "N", "CPU shares").or("cpu-shares"),
    value("cpu-rt-period", "US", "period of the real-time quota"),
    value("cpu-rt-runtime", "US", "real-time CPU time per period"),
    value("cpu-idle", "0|1", "1: only when nobody else wants the CPU"),
    value("cpuset-cpus", "LIST", "CPUs to use"),
    value("cpuset-mems", "LIST", "memory nodes to use"),
    value("kernel-memory", "BYTES", ""),
    value("kernel-memory-tcp", "BYTES", ""),
    value("memory", "BYTES", "memory (512m, 2g; -1: no limit)"),
    value("memory-reservation", "BYTES", "memory kept for it"),
    value("memory-swap", "BYTES", "memory and swap (-1: no limit)"),
    value("pids-limit", "N", "processes (-1: no limit)"),
    value("l3-cache-schema", "SCHEMA", "Intel RDT: schema of the L3 cache"),
    value("mem-bw-schema", "SCHEMA", "Intel RDT: schema of memory bandwidth"),
];

/// What `checkpoint` and `restore` share.
const CRIU: &[Flag] = &[
    value(
        "image-path",
        "DIR",
        "directory of criu's images (default: ./checkpoint)",
    ),
    value("work-path", "DIR", "directory of criu's log and work files"),
    switch("tcp-established", "with open TCP connections"),
    switch("ext-unix-sk", "with unix sockets that lead outside"),
    switch("shell-job", "with a terminal of the caller's"),
    switch("lazy-pages", "with memory that follows later (userfaultfd)"),
    switch("file-locks", "with file locks"),
    value(
        "manage-cgroups-mode",
        "MODE",
        "soft (default), full, strict or ignore",
    ),
    value(
        "empty-ns",
        "KIND",
        "make this namespace (network) but leave it empty",
    ),
    switch("auto-dedup", "drop what images have twice"),
];

const CHECKPOINT: &[Flag] = &[
    value(
        "parent-path",
        "DIR",
        "images of an earlier pre-dump, relative to --image-path",
    ),
    switch("leave-running", "let the container run on"),
    switch(
        "tcp-skip-in-flight",
        "without TCP connections that are not yet accepted",
    ),
    switch("link-remap", "with files that are open and unlinked"),
    value(
        "status-fd",
        "FD",
        "descriptor that gets a zero byte when pages can be asked for",
    ),
    value(
        "page-server",
        "ADDRESS:PORT",
        "where memory is sent instead of to the images",
    ),
    switch("pre-dump", "only memory, and let the container run on"),
];

const RESTORE: &[Flag] = &[
    BUNDLE,
    value(
        "console-socket",
        "SOCKET",
        "unix socket that receives the master end of the terminal",
    ),
    DETACH,
    value("pid-file", "FILE", "file to write the process id to"),
    switch(
        "no-subreaper",
        "for runc's callers: this runtime never is a subreaper",
    ),
    switch("no-pivot", "for runc's callers: criu makes the root"),
    value(
        "lsm-profile",
        "TYPE:NAME",
        "another LSM profile than it had",
    ),
    value(
        "lsm-mount-context",
        "CONTEXT",
        "another LSM mount context than it had",
    ),
];

const fn on_container(name: &'static str, about: &'static str) -> Verb {
    Verb {
        name,
        about,
        usage: "CONTAINER",
        words: (1, 1),
        passes_on: false,
        flags: &[],
    }
}

const fn with(mut verb: Verb, flags: &'static [&'static [Flag]]) -> Verb {
    verb.flags = flags;
    verb
}

/// All commands.
pub(crate) const VERBS: &[Verb] = &[
    with(
        on_container("checkpoint", "save a running container to files"),
        &[CHECKPOINT, CRIU],
    ),
    Verb {
        name: "completion",
        about: "print what completes this program's command line in a shell",
        usage: "SHELL (bash, zsh or fish)",
        words: (1, 1),
        passes_on: false,
        flags: &[],
    },
    with(
        on_container(
            "create",
            "create a container; its process waits for `start`",
        ),
        &[PROCESS, CREATE],
    ),
    with(
        on_container("delete", "remove what a container holds"),
        &[&[switch(
            "force",
            "kill it if it runs; clean up whatever is left of it",
        )
        .or("f")]],
    ),
    with(
        on_container(
            "events",
            "show what a container uses, again and again, and when it is out of memory",
        ),
        &[&[
            value("interval", "TIME", "between two looks (default: 5s)"),
            switch("stats", "show what it uses once"),
        ]],
    ),
    Verb {
        name: "exec",
        about: "execute a process in a running container",
        usage: "CONTAINER COMMAND [ARGUMENTS]  or  --process FILE CONTAINER",
        words: (1, usize::MAX),
        passes_on: true,
        flags: &[EXEC, PROCESS],
    },
    Verb {
        name: "features",
        about: "show what this runtime can do",
        usage: "",
        words: (0, 0),
        passes_on: false,
        flags: &[],
    },
    Verb {
        name: "kill",
        about: "send a signal (default: SIGTERM) to a container's process",
        usage: "CONTAINER [SIGNAL]",
        words: (1, 2),
        passes_on: false,
        flags: &[&[switch("all", "to all processes of the container").or("a")]],
    },
    Verb {
        name: "list",
        about: "show the containers under the root",
        usage: "",
        words: (0, 0),
        passes_on: false,
        flags: &[&[FORMAT, switch("quiet", "ids only").or("q")]],
    },
    Verb {
        name: "manual",
        about: "write the pages of this program's manual to a directory (.../man1)",
        usage: "DIR",
        words: (1, 1),
        passes_on: false,
        flags: &[],
    },
    on_container("pause", "stop all processes of a container where they are"),
    Verb {
        name: "ps",
        about: "show the processes of a container",
        usage: "CONTAINER [OPTIONS OF PS (default: -ef)]",
        words: (1, usize::MAX),
        passes_on: true,
        flags: &[&[FORMAT]],
    },
    with(
        on_container("restore", "go on with a container that was saved to files"),
        &[RESTORE, CRIU],
    ),
    on_container("resume", "let a paused container go on"),
    with(
        on_container("run", "create a container, start it and wait for its end"),
        &[RUN, PROCESS, CREATE],
    ),
    Verb {
        name: "spec",
        about: "write a configuration to start from",
        usage: "",
        words: (0, 0),
        passes_on: false,
        flags: &[&[
            BUNDLE,
            switch("rootless", "for a container without privileges"),
        ]],
    },
    on_container("start", "start a created container"),
    on_container("state", "show the state of a container"),
    with(
        on_container("update", "change the limits of a container"),
        &[UPDATE],
    ),
];
