// Starts a runtime as an engine does, without a shell's time between.
//
// usage: drive life RUNTIME BUNDLE ID [FLAG]...   RUNTIME FLAG... create, start, the end of its process, delete
//        drive many COUNT AT-A-TIME COMMAND...    the command so often; % in an argument is the number of the turn
//        drive peak COMMAND...                    the largest resident size (KiB) of a process of the command's
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 64
extern char **environ;

static void fail(const char *what) {
    fprintf(stderr, "drive: %s: %s\n", what, strerror(errno));
    exit(125);
}

static pid_t begin(char **command) {
    pid_t pid;
    errno = posix_spawnp(&pid, command[0], NULL, NULL, command, environ);
    if (errno)
        fail(command[0]);
    return pid;
}

static int end_of(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            fail("wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void need(char **command) {
    int status = end_of(begin(command));
    if (status) {
        fprintf(stderr, "drive: %s ended with %d\n", command[0], status);
        exit(125);
    }
}

static void await_end(const char *file) {
    char text[32] = "";
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        fail(file);
    close(fd);
    int pidfd = syscall(SYS_pidfd_open, atoi(text), 0);
    // It may have ended and been reaped already.
    if (pidfd >= 0) {
        struct pollfd wait = {.fd = pidfd, .events = POLLIN};
        if (poll(&wait, 1, 10000) != 1)
            fail("the container's process does not end");
        close(pidfd);
    }
    unlink(file);
}

static int life(char **args, int count) {
    char *runtime = args[0], *bundle = args[1], *id = args[2], file[600];
    char *command[MOST];
    int flags = 0;
    snprintf(file, sizeof file, "%s/%s.pid", bundle, id);
    command[flags++] = runtime;
    for (int i = 3; i < count && flags < MOST - 8; i++)
        command[flags++] = args[i];
    char **verb = command + flags;
    verb[0] = "create", verb[1] = "--bundle", verb[2] = bundle, verb[3] = "--pid-file", verb[4] = file, verb[5] = id;
    verb[6] = NULL;
    need(command);
    verb[0] = "start", verb[1] = id, verb[2] = NULL;
    need(command);
    await_end(file);
    verb[0] = "delete";
    need(command);
    return 0;
}

// The command with a number for each %.
static char **numbered(char **args, int count, int number) {
    char **command = calloc(count + 1, sizeof *command);
    for (int i = 0; i < count; i++) {
        const char *mark = strchr(args[i], '%');
        command[i] = args[i];
        if (mark && asprintf(&command[i], "%.*s%d%s", (int)(mark - args[i]), args[i], number, mark + 1) < 0)
            fail("memory");
    }
    return command;
}

static int many(int turns, int at_a_time, char **args, int count) {
    int begun = 0, running = 0, failed = 0;
    while (begun < turns || running) {
        while (begun < turns && running < at_a_time) {
            begin(numbered(args, count, begun++));
            running++;
        }
        int status;
        if (waitpid(-1, &status, 0) < 0)
            fail("wait");
        running--;
        failed += status != 0;
    }
    if (failed)
        fprintf(stderr, "drive: %d of %d failed\n", failed, turns);
    return failed ? 125 : 0;
}

static int peak(char **args) {
    struct rusage usage;
    need(args);
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("%ld\n", usage.ru_maxrss);
    return 0;
}

int main(int argc, char **argv) {
    // What a runtime leaves behind ends here.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (argc > 4 && !strcmp(argv[1], "life"))
        return life(argv + 2, argc - 2);
    if (argc > 4 && !strcmp(argv[1], "many"))
        return many(atoi(argv[2]), atoi(argv[3]), argv + 4, argc - 4);
    if (argc > 2 && !strcmp(argv[1], "peak"))
        return peak(argv + 2);
    fprintf(stderr, "usage: drive life RUNTIME BUNDLE ID [FLAG]... | many COUNT AT-A-TIME COMMAND... | peak COMMAND...\n");
    return 125;
}
