/* LD_PRELOAD: the n-th call on a file below a path fails, once or from then on, in a program as its users run it.
 *
 * Calls that name a file count when the name leads below the path; calls on a descriptor when that is open on such a file. Nothing is counted
 * before vsnapfs_fault_arm, which the process calls for itself; so a program that takes a second to start can be forked when it has.
 *
 * Threads: any. The shim's own look at /proc is not counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Shared with whoever forked us: how many calls there were, and which of them failed. */
typedef struct progress {
    _Atomic long calls;
    char struck[64];
} progress;

static char below[PATH_MAX];
static long fail_from = LONG_MAX, fail_until;
static int fail_errno;
static progress *seen;

void *vsnapfs_fault_progress(void);
void vsnapfs_fault_arm(const char *path, long first, int count, int error);
long vsnapfs_fault_calls(void);
const char *vsnapfs_fault_struck(void);

/* Before the fork. */
void *vsnapfs_fault_progress(void) {
    if (!seen) seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    atomic_store(&seen->calls, 0);
    seen->struck[0] = '\0';
    return seen;
}

/* In the child: calls first .. first + count - 1 fail. */
void vsnapfs_fault_arm(const char *path, long first, int count, int error) {
    fail_from = first;
    fail_until = first + count;
    fail_errno = error;
    snprintf(below, sizeof below, "%s", path);
}

long vsnapfs_fault_calls(void) {
    return atomic_load(&seen->calls);
}

const char *vsnapfs_fault_struck(void) {
    return seen->struck;
}

static int descriptor_path(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = '\0';
    return 1;
}

static int is_below(const char *path) {
    size_t n = strlen(below);
    return strncmp(path, below, n) == 0 && (path[n] == '/' || path[n] == '\0' || path[n] == ' ');
}

static int due(const char *name) {
    long n = atomic_fetch_add(&seen->calls, 1);
    if (n < fail_from || n >= fail_until) return 0;
    if (!seen->struck[0]) snprintf(seen->struck, sizeof seen->struck, "%s", name);
    errno = fail_errno;
    return 1;
}

static int fails_fd(const char *name, int fd) {
    char path[PATH_MAX];
    return below[0] && descriptor_path(fd, path) && is_below(path) && due(name);
}

static int fails_at(const char *name, int dir, const char *file) {
    char path[PATH_MAX];
    if (!below[0] || !file) return 0;
    if (file[0] == '/') return is_below(file) && due(name);
    if (dir == AT_FDCWD) return getcwd(path, sizeof path) && is_below(path) && due(name);
    return descriptor_path(dir, path) && is_below(path) && due(name);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define ON_FD(type, name, parameters, arguments) \
    type name parameters {                       \
        if (fails_fd(#name, fd)) return -1;      \
        return REAL(name) arguments;             \
    }

ON_FD(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
ON_FD(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t at), (fd, v, n, at))
ON_FD(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
ON_FD(ssize_t, pread64, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at))
ON_FD(ssize_t, preadv2, (int fd, const struct iovec *v, int n, off_t at, int flags), (fd, v, n, at, flags))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t n), (fd, n))
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n))
ON_FD(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return fails_at("renameat", to_dir, to) ? -1 : REAL(renameat)(from_dir, from, to_dir, to);
}

int rename(const char *from, const char *to) {
    return fails_at("rename", AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}

int unlinkat(int dir, const char *path, int flags) {
    return fails_at("unlinkat", dir, path) ? -1 : REAL(unlinkat)(dir, path, flags);
}

int mkdirat(int dir, const char *path, mode_t mode) {
    return fails_at("mkdirat", dir, path) ? -1 : REAL(mkdirat)(dir, path, mode);
}

int mkdir(const char *path, mode_t mode) {
    return fails_at("mkdir", AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}

#define OPENING(name, parameters, dir, arguments)                       \
    int name parameters {                                               \
        mode_t mode = 0;                                                \
        if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {      \
            va_list given;                                              \
            va_start(given, flags);                                     \
            mode = va_arg(given, mode_t);                               \
            va_end(given);                                              \
        }                                                               \
        if (fails_at(#name, dir, path)) return -1;                      \
        return REAL(name) arguments;                                    \
    }

OPENING(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENING(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPENING(openat, (int dir_fd, const char *path, int flags, ...), dir_fd, (dir_fd, path, flags, mode))
OPENING(openat64, (int dir_fd, const char *path, int flags, ...), dir_fd, (dir_fd, path, flags, mode))
