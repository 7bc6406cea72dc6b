// The floor of benches/runtime.sh: what a container costs the kernel. It makes the same namespaces, cgroups, mounts,
// devices, masks, filter and pivot as a runtime makes of the bench's bundle, and nothing else: it reads no
// configuration, checks nothing that it did not do itself, keeps no record, and is not safe against a hostile root.
//
// usage: floor run    ROOTFS NAME CGROUP... -- PROGRAM [ARG]...    the whole life of a container
//        floor exec   PID CGROUP... -- PROGRAM [ARG]...            a process in a container
// CGROUP is the directory of a hierarchy in which the container's own is made; that of the v2 tree begins with "2:".
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 32
#define LOCKED (MS_NOSUID | MS_NODEV | MS_NOEXEC)

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

static void need(int answer, const char *what) {
    if (answer < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
}

// A container's cgroup: its directory in each hierarchy, and what it is joined by.
struct place {
    char path[512];
    int tasks;
};
static struct place places[MOST];
static int count;
static int v2 = -1;

static void write_to(const char *directory, const char *file, const char *value) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    need(fd, path);
    need(write(fd, value, strlen(value)), path);
    close(fd);
}

static void copy_cpuset(const char *parent, const char *directory, const char *file) {
    char path[600], value[4096];
    snprintf(path, sizeof path, "%s/%s", parent, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    need(fd, path);
    ssize_t length = read(fd, value, sizeof value - 1);
    need(length, path);
    value[length] = 0;
    close(fd);
    write_to(directory, file, value);
}

static void limit_devices(const char *directory) {
    static const char *const allowed[] = {"b *:* m", "c *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                          "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
    char path[600];
    write_to(directory, "devices.deny", "a");
    snprintf(path, sizeof path, "%s/devices.allow", directory);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    need(fd, path);
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        need(write(fd, allowed[i], strlen(allowed[i])), allowed[i]);
    close(fd);
}

// Takes the hierarchies from the arguments; `make` makes the directories.
static char **take_places(char **args, const char *name, int make) {
    for (; *args && strcmp(*args, "--") && count < MOST; args++) {
        struct place *place = &places[count++];
        int is_v2 = !strncmp(*args, "2:", 2);
        const char *parent = is_v2 ? *args + 2 : *args;
        snprintf(place->path, sizeof place->path, name ? "%s/%s" : "%s", parent, name);
        if (make) {
            need(mkdir(place->path, 0755), place->path);
            if (strstr(parent, "/cpuset")) {
                copy_cpuset(parent, place->path, "cpuset.cpus");
                copy_cpuset(parent, place->path, "cpuset.mems");
            }
            if (strstr(parent, "/devices"))
                limit_devices(place->path);
        }
        char tasks[600];
        snprintf(tasks, sizeof tasks, "%s%s", place->path, is_v2 ? "" : "/tasks");
        place->tasks = open(tasks, (is_v2 ? O_RDONLY | O_DIRECTORY : O_WRONLY) | O_CLOEXEC);
        need(place->tasks, tasks);
        if (is_v2)
            v2 = place->tasks;
    }
    return *args ? args + 1 : args;
}

static void join(void) {
    for (int i = 0; i < count; i++)
        if (places[i].tasks != v2)
            need(write(places[i].tasks, "0", 1), places[i].path);
}

static pid_t clone_into(unsigned long flags, int *pidfd) {
    struct clone_args args = {.flags = flags | CLONE_PIDFD, .pidfd = (unsigned long)pidfd, .exit_signal = SIGCHLD};
    if (v2 >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = v2;
    }
    return syscall(SYS_clone3, &args, sizeof args);
}

static int await(int pidfd) {
    siginfo_t info;
    need(waitid(P_PIDFD, pidfd, &info, WEXITED), "wait");
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

// 200 instructions: as many as a usual profile becomes.
static void filter(void) {
    struct sock_filter code[200];
    code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (int i = 1; i < 199; i++)
        code[i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 10000 + i, 0, 0);
    code[199] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 200, .filter = code};
    need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

// The process as the bundle has it: limits, three capabilities, no_new_privs, a filter.
static void become(char **args) {
    static char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm",
                                "HOME=/", NULL};
    struct rlimit files = {1024, 1024};
    need(setrlimit(RLIMIT_NOFILE, &files), "rlimit");
    const unsigned keep = 1u << 5 | 1u << 10 | 1u << 29;
    for (int i = 0; i <= 40; i++)
        if (i > 31 || !(keep >> i & 1))
            need(prctl(PR_CAPBSET_DROP, i), "bounding set");
    need(syscall(SYS_setgroups, 0, NULL), "groups");
    need(syscall(SYS_setresgid, 0, 0, 0), "group");
    need(syscall(SYS_setresuid, 0, 0, 0), "user");
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    filter();
    unsigned header[2] = {0x20080522, 0}, sets[6] = {keep, keep, 0, 0, 0, 0};
    need(syscall(SYS_capset, header, sets), "capabilities");
    need(close_range(3, ~0u, CLOSE_RANGE_CLOEXEC), "descriptors");
    execve(args[0], args, env);
    need(-1, args[0]);
}

static void mask(const char *path, const char *empty) {
    struct stat found;
    if (stat(path + 1, &found))
        return;
    if (S_ISDIR(found.st_mode))
        need(empty ? mount(empty + 1, path + 1, NULL, MS_BIND, NULL)
                   : mount("tmpfs", path + 1, "tmpfs", MS_RDONLY | LOCKED, "size=0,nr_inodes=1"),
             path);
    else
        need(mount("dev/null", path + 1, NULL, MS_BIND, NULL), path);
}

static void read_only(const char *path) {
    if (mount(path + 1, path + 1, NULL, MS_BIND | MS_REC, NULL))
        return;
    struct mount_attr change = {.attr_set = MOUNT_ATTR_RDONLY};
    need(syscall(SYS_mount_setattr, AT_FDCWD, path + 1, 0x8000, &change, sizeof change), path);
}

static void device(const char *path, int major, int minor) {
    need(mknod(path, S_IFCHR | 0666, makedev(major, minor)), path);
}

// Everything below the root, which is the working directory.
static void furnish(void) {
    need(mount("proc", "proc", "proc", 0, NULL), "proc");
    need(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
    need(mkdir("dev/pts", 0755), "dev/pts");
    need(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "pts");
    need(mkdir("dev/shm", 0755), "dev/shm");
    need(mount("shm", "dev/shm", "tmpfs", LOCKED, "mode=1777,size=65536k"), "shm");
    need(mkdir("dev/mqueue", 0755), "dev/mqueue");
    need(mount("mqueue", "dev/mqueue", "mqueue", LOCKED, NULL), "mqueue");
    need(mount("sysfs", "sys", "sysfs", LOCKED | MS_RDONLY, NULL), "sysfs");
    need(mount("tmpfs", "sys/fs/cgroup", "tmpfs", 0, "mode=755"), "cgroups");
    for (int i = 0; i < count; i++) {
        char path[600];
        snprintf(path, sizeof path, "sys/fs/cgroup/%d", i);
        need(mkdir(path, 0755), path);
        need(mount(places[i].path, path, NULL, MS_BIND, NULL), path);
    }
    struct mount_attr change = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
    need(syscall(SYS_mount_setattr, AT_FDCWD, "sys/fs/cgroup", 0x8000, &change, sizeof change), "cgroups");
    device("dev/null", 1, 3);
    device("dev/zero", 1, 5);
    device("dev/full", 1, 7);
    device("dev/random", 1, 8);
    device("dev/urandom", 1, 9);
    device("dev/tty", 5, 0);
    need(symlink("/proc/self/fd", "dev/fd"), "fd");
    need(symlink("/proc/self/fd/0", "dev/stdin"), "stdin");
    need(symlink("/proc/self/fd/1", "dev/stdout"), "stdout");
    need(symlink("/proc/self/fd/2", "dev/stderr"), "stderr");
    need(symlink("pts/ptmx", "dev/ptmx"), "ptmx");
    read_only("/proc/bus");
    read_only("/proc/fs");
    read_only("/proc/irq");
    read_only("/proc/sys");
    read_only("/proc/sysrq-trigger");
    mask("/proc/acpi", NULL);
    mask("/proc/asound", "/proc/acpi");
    mask("/proc/kcore", NULL);
    mask("/proc/keys", NULL);
    mask("/proc/latency_stats", NULL);
    mask("/proc/timer_list", NULL);
    mask("/proc/timer_stats", NULL);
    mask("/proc/sched_debug", NULL);
    mask("/sys/firmware", "/proc/acpi");
    mask("/proc/scsi", "/proc/acpi");
}

static void child(const char *root, const char *name, char **args) {
    join();
    need(setsid(), "session");
    need(syscall(SYS_keyctl, 1 /* join session */, name), "keyring");
    struct ifreq request = {.ifr_name = "lo"};
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    need(ioctl(sock, SIOCSIFFLAGS, &request), "lo");
    close(sock);
    need(sethostname("floor", 5), "host name");
    umask(0);
    need(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), "cut off the mounts");
    need(mount(root, root, NULL, MS_BIND | MS_REC, NULL), root);
    need(chdir(root), root);
    furnish();
    need(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    need(umount2(".", 2), "let the host's root go");
    need(chdir("/"), "/");
    umask(022);
    become(args);
}

static int run(const char *root, const char *name, char **args) {
    int pidfd;
    args = take_places(args, name, 1);
    pid_t pid = clone_into(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET, &pidfd);
    need(pid, "clone");
    if (!pid)
        child(root, name, args);
    int status = await(pidfd);
    for (int i = 0; i < count; i++)
        need(rmdir(places[i].path), places[i].path);
    return status;
}

static int exec_in(const char *pid, char **args) {
    int pidfd, target = syscall(SYS_pidfd_open, atoi(pid), 0);
    need(target, "pidfd");
    args = take_places(args, NULL, 0);
    need(setns(target, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET), "setns");
    pid_t made = clone_into(0, &pidfd);
    need(made, "clone");
    if (!made) {
        join();
        become(args);
    }
    return await(pidfd);
}

int main(int argc, char **argv) {
    if (argc > 4 && !strcmp(argv[1], "run"))
        return run(argv[2], argv[3], argv + 4);
    if (argc > 3 && !strcmp(argv[1], "exec"))
        return exec_in(argv[2], argv + 3);
    fprintf(stderr, "usage: floor run ROOTFS NAME CGROUP... -- PROGRAM [ARG]... | exec PID CGROUP... -- PROGRAM [ARG]...\n");
    return 125;
}
