/* plane_fusermount.c: the mount of an ordinary user, by fusermount3, which belongs to root and is what the system lets users mount with.
 *
 * It opens /dev/fuse as the user, mounts it with the options that a user may have (it adds nosuid and nodev itself, and refuses
 * allow_other unless /etc/fuse.conf has user_allow_other), and sends the descriptor through the socket whose number is in
 * _FUSE_COMMFD. What it has to complain of it writes to standard error, which is taken as the reason.
 *
 * fusectl's `abort` is root's. A connection of ours ends when the last descriptor of its device is closed; the threads that wait in
 * read(2) hold one, so vs_plane_stop wakes them by a signal. read_ahead_kb is root's too: the kernel's 128 KiB stand.
 */
#include "plane_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "status.h"

#define PROGRAM "fusermount3"

enum { SAID_MAX = 200, OPTIONS_MAX = 2 * VS_PLANE_PATH_MAX + 128 };

extern char **environ;

/* ---- one run of the program ---- */

typedef struct run {
    pid_t pid;
    int said_fd; /* its standard error */
    char said[SAID_MAX];
} run;

/* The environment with our variable; the strings stay the process's own. Free the array. */
static char **environment_with(char *variable) {
    size_t n = 0;
    while (environ[n]) n++;
    char **all = calloc(n + 2, sizeof *all);
    if (!all) return NULL;
    memcpy(all, environ, n * sizeof *all);
    all[n] = variable;
    return all;
}

/* comm_fd: passed on, or -1. */
static int start(run *r, char *const args[], int comm_fd) {
    int said[2];
    char variable[40];
    posix_spawn_file_actions_t actions;
    if (pipe2(said, O_CLOEXEC) != 0) return -errno;
    snprintf(variable, sizeof variable, "_FUSE_COMMFD=%d", comm_fd);
    char **environment = environment_with(variable);
    int code = environment ? -posix_spawn_file_actions_init(&actions) : -ENOMEM;
    if (code == 0) {
        code = -posix_spawn_file_actions_adddup2(&actions, said[1], STDERR_FILENO);
        /* To itself: not closed at exec. */
        if (code == 0 && comm_fd >= 0) code = -posix_spawn_file_actions_adddup2(&actions, comm_fd, comm_fd);
        if (code == 0) code = -posix_spawnp(&r->pid, PROGRAM, &actions, NULL, args, environment);
        posix_spawn_file_actions_destroy(&actions);
    }
    free(environment);
    close(said[1]);
    r->said_fd = said[0];
    if (code < 0) close(said[0]);
    return code;
}

/* Wait for its end; r->said is the first line that it wrote, without its name. 0: it says that all is well. */
static int finish(run *r) {
    size_t n = 0;
    ssize_t got;
    int status;
    char rest[256];
    do {
        got = read(r->said_fd, n < SAID_MAX - 1 ? r->said + n : rest, n < SAID_MAX - 1 ? SAID_MAX - 1 - n : sizeof rest);
        if (got > 0 && n < SAID_MAX - 1) n += (size_t)got;
    } while (got > 0 || (got < 0 && errno == EINTR));
    r->said[n] = 0;
    r->said[strcspn(r->said, "\n")] = 0;
    close(r->said_fd);
    while (waitpid(r->pid, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static const char *reason(const run *r) {
    static const char name[] = PROGRAM ": ";
    if (!r->said[0]) return PROGRAM " failed";
    return strncmp(r->said, name, sizeof name - 1) == 0 ? r->said + sizeof name - 1 : r->said;
}

static int not_there(int code, const char *doing, const char *path) {
    if (code == -ENOENT)
        return vs_fault_set(code, 0, 0, 0, 0, "%s %s without root needs " PROGRAM ", which is not installed (Debian: package fuse3)",
                            doing, path);
    return vs_fault_set(code, 0, 0, 0, 0, PROGRAM " cannot be started: %s", strerror(-code));
}

/* ---- the mount ---- */

/* Options are separated by commas; one in the name of the source is escaped. */
static int write_options(char out[OPTIONS_MAX], const vs_plane_options *o) {
    int n = snprintf(out, OPTIONS_MAX, "nosuid,nodev,noexec,default_permissions,subtype=vsnapfs%s%s,fsname=", o->read_only ? ",ro" : "",
                     o->allow_other ? ",allow_other" : "");
    for (const char *s = o->source; *s; s++) {
        if (n + 3 > OPTIONS_MAX) return -ENAMETOOLONG;
        if (*s == ',' || *s == '\\') out[n++] = '\\';
        out[n++] = *s;
    }
    out[n] = 0;
    return 0;
}

/* The descriptor that comes through the socket; -EPERM: it ended without one. */
static int receive_descriptor(int socket_fd) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int))) return -EPERM;
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int vs_plane_fusermount(const char *path, const vs_plane_options *o) {
    char options[OPTIONS_MAX], place[VS_PLANE_PATH_MAX];
    char *args[] = {PROGRAM, "-o", options, "--", place, NULL};
    int pair[2];
    run r;
    int code = write_options(options, o);
    if (code == 0 && snprintf(place, sizeof place, "%s", path) >= (int)sizeof place) code = -ENAMETOOLONG;
    if (code == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) code = -errno;
    if (code < 0) return vs_fault_set(code, 0, 0, 0, 0, "%s cannot be mounted on: %s", path, strerror(-code));
    code = start(&r, args, pair[1]);
    close(pair[1]);
    if (code < 0) {
        close(pair[0]);
        return not_there(code, "mounting on", path);
    }
    int fd = receive_descriptor(pair[0]);
    close(pair[0]);
    code = finish(&r);
    if (fd >= 0 && code == 0) return fd;
    if (fd >= 0) close(fd);
    return vs_fault_set(-EPERM, 0, 0, 0, 0, "%s cannot be mounted on: %s", path, reason(&r));
}

/* ---- and its end ---- */

int vs_plane_fusermount_detach(const char *path, int lazy) {
    char place[VS_PLANE_PATH_MAX];
    char *args[] = {PROGRAM, "-u", lazy ? "-z" : "--", lazy ? "--" : place, lazy ? place : NULL, NULL};
    run r;
    snprintf(place, sizeof place, "%s", path);
    int code = start(&r, args, -1);
    if (code < 0) return not_there(code, "unmounting", path);
    if (finish(&r) == 0) return 0;
    if (strstr(r.said, strerror(EBUSY))) return -EBUSY;
    return vs_fault_set(-EPERM, 0, 0, 0, 0, "%s cannot be unmounted: %s", path, reason(&r));
}
