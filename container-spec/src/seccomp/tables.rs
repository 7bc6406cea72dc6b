//! Which system calls are allowed, by what they are for. Names of several architectures and of old and new forms stand together.

use oci_spec::runtime::{Arch, Capability};

/// What every container may do.
pub(super) const ALLOWED: &[&str] = &[
    OPENING,
    READING_AND_WRITING,
    DIRECTORIES_AND_LINKS,
    ATTRIBUTES,
    DESCRIPTORS,
    WAITING,
    ASYNCHRONOUS,
    MEMORY,
    PROCESSES,
    OTHER_PROCESSES,
    IDENTITY,
    SIGNALS,
    SCHEDULING,
    LOCKS,
    TIME,
    SOCKETS,
    MESSAGES,
    LIMITS_AND_INFORMATION,
    CONFINEMENT,
];

const OPENING: &str = "open openat openat2 creat close close_range access faccessat faccessat2 mknod mknodat \
    name_to_handle_at memfd_create pipe pipe2";

const READING_AND_WRITING: &str = "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 \
    lseek _llseek readahead fadvise64 fadvise64_64 sendfile sendfile64 copy_file_range splice tee vmsplice \
    truncate truncate64 ftruncate ftruncate64 fallocate sync syncfs fsync fdatasync sync_file_range";

const DIRECTORIES_AND_LINKS: &str = "mkdir mkdirat rmdir getdents getdents64 chdir fchdir getcwd \
    link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2";

const ATTRIBUTES: &str = "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx \
    statfs statfs64 fstatfs fstatfs64 statmount listmount \
    chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 umask \
    utime utimes futimesat utimensat utimensat_time64 \
    getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat \
    listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat";

const DESCRIPTORS: &str = "dup dup2 dup3 fcntl fcntl64 flock ioctl \
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark";

const WAITING: &str = "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 \
    eventfd eventfd2";

/// io_uring is not among them: what it does is seen by no filter.
const ASYNCHRONOUS: &str =
    "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64";

const MEMORY: &str = "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mseal map_shadow_stack \
    mlock mlock2 mlockall munlock munlockall memfd_secret remap_file_pages pkey_alloc pkey_free pkey_mprotect";

const PROCESSES: &str = "fork vfork execve execveat exit exit_group wait4 waitid waitpid \
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid \
    prctl set_tid_address get_thread_area set_thread_area uretprobe";

/// The kernel asks for the right to look into another process; within the container that is for the container to say.
const OTHER_PROCESSES: &str =
    "ptrace process_vm_readv process_vm_writev pidfd_open pidfd_send_signal process_mrelease";

const IDENTITY: &str = "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 \
    getresuid getresuid32 getresgid getresgid32 getgroups getgroups32 \
    setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 \
    setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset";

const SIGNALS: &str = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo rt_sigaction rt_sigprocmask sigprocmask \
    rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_sigreturn sigreturn sigaltstack \
    signalfd signalfd4 pause restart_syscall";

const SCHEDULING: &str = "sched_yield sched_getparam sched_setparam sched_getscheduler sched_setscheduler \
    sched_getattr sched_setattr sched_getaffinity sched_setaffinity sched_get_priority_min sched_get_priority_max \
    sched_rr_get_interval sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getcpu";

const LOCKS: &str = "futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue get_robust_list \
    set_robust_list membarrier rseq";

/// Setting the clock is refused by the kernel without a capability, and so adjtimex can be asked for the time.
const TIME: &str = "time gettimeofday times clock_gettime clock_gettime64 clock_getres clock_getres_time64 \
    clock_nanosleep clock_nanosleep_time64 nanosleep alarm getitimer setitimer adjtimex clock_adjtime clock_adjtime64 \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64";

/// All but socket itself, whose families are chosen.
const SOCKETS: &str = "socketcall socketpair bind connect listen accept accept4 shutdown getsockname getpeername \
    getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64";

const MESSAGES: &str = "ipc msgget msgctl msgsnd msgrcv semget semctl semop semtimedop semtimedop_time64 \
    shmget shmctl shmat shmdt mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 \
    mq_timedreceive mq_timedreceive_time64";

const LIMITS_AND_INFORMATION: &str = "getrlimit ugetrlimit setrlimit prlimit64 getrusage sysinfo uname getrandom cachestat riscv_hwprobe";

/// A program may only take from itself.
const CONFINEMENT: &str =
    "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self";

/// What only some machines have.
pub(super) const BY_ARCHITECTURE: &[(&[Arch], &str)] = &[
    (&[Arch::ScmpArchX86_64], "arch_prctl modify_ldt"),
    (
        &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&[Arch::ScmpArchRiscv64], "riscv_flush_icache"),
];

/// What is allowed to who has a capability. The kernel asks for it once more.
pub(super) const BY_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    // Mounts.
    (
        Capability::SysAdmin,
        "mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick quotactl quotactl_fd",
    ),
    // Namespaces and what is in them.
    (
        Capability::SysAdmin,
        "clone clone3 unshare setns sethostname setdomainname",
    ),
    // Looking at the whole machine.
    (
        Capability::SysAdmin,
        "bpf perf_event_open fanotify_init lookup_dcookie syslog lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
    ),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
    (Capability::Syslog, "syslog"),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (
        Capability::SysModule,
        "init_module finit_module delete_module",
    ),
    (Capability::SysPacct, "acct"),
    (
        Capability::SysPtrace,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (Capability::SysRawio, "iopl ioperm"),
    (
        Capability::SysTime,
        "settimeofday stime clock_settime clock_settime64",
    ),
    (Capability::SysTtyConfig, "vhangup"),
    (
        Capability::SysNice,
        "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    ),
];
