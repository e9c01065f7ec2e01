/* beneath.c: see beneath.h. */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DIRECTORY = O_PATH | O_DIRECTORY };

static int is_dot_dot(const char *part, size_t length) {
    return length == 2 && part[0] == '.' && part[1] == '.';
}

static int is_well_formed(const char *path) {
    for (;;) {
        size_t length = strcspn(path, "/");
        if (length == 0 || length > NAME_MAX || is_dot_dot(path, length)) return 0;
        if (path[length] == '\0') return 1;
        path += length + 1;
    }
}

/* Without O_NOFOLLOW, which would have O_PATH open a symlink itself and O_DIRECTORY say ENOTDIR of it: this way it is always ELOOP. */
static int open_in_one_step(int dir_fd, const char *path, int flags, unsigned int mode) {
    const struct open_how how = {
        .flags = (unsigned int)(flags | O_CLOEXEC),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    do fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : (int)fd;
}

/* A symlink is ELOOP whatever the flags: with O_DIRECTORY the kernel says ENOTDIR, with O_PATH it opens the symlink itself. */
static int open_in(int dir_fd, const char *name, int flags, unsigned int mode) {
    struct stat found;
    int fd;
    do fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    int r = fd < 0 ? -errno : fd;
    if (r == -ENOTDIR && fstatat(dir_fd, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(found.st_mode)) return -ELOOP;
    if (r >= 0 && flags & O_PATH && fstat(fd, &found) == 0 && S_ISLNK(found.st_mode)) {
        close(fd);
        return -ELOOP;
    }
    return r;
}

static int open_by_components(int dir_fd, const char *path, int flags, unsigned int mode) {
    int dir = open_in(dir_fd, ".", DIRECTORY, 0);
    for (;;) {
        size_t length = strcspn(path, "/");
        char part[NAME_MAX + 1];
        memcpy(part, path, length);
        part[length] = '\0';
        if (dir < 0) return dir;
        int is_last = path[length] == '\0';
        int next = open_in(dir, part, is_last ? flags : DIRECTORY, mode);
        close(dir);
        if (is_last) return next;
        dir = next;
        path += length + 1;
    }
}

/* EPERM: what sandboxes say of a call that they do not know; if it is meant, the other way says it again. */
static int open_somehow(int dir_fd, const char *path, int flags, unsigned int mode) {
    int fd = open_in_one_step(dir_fd, path, flags, mode);
    return fd == -ENOSYS || fd == -EPERM ? open_by_components(dir_fd, path, flags, mode) : fd;
}

/* The umask is the caller's: neither may it open what we make to others, nor may it close it to ourselves. */
static int set_mode(int fd, unsigned int mode) {
    struct stat made;
    if (fstat(fd, &made) < 0) return -errno;
    return (made.st_mode & 07777) == mode || fchmod(fd, mode) == 0 ? 0 : -errno;
}

int vs_open_beneath(int dir_fd, const char *path, int flags, unsigned int mode) {
    if (!is_well_formed(path)) return -EINVAL;
    int fd = open_somehow(dir_fd, path, flags, mode);
    int r = fd >= 0 && flags & O_CREAT ? set_mode(fd, mode) : 0;
    if (r < 0) close(fd);
    return r < 0 ? r : fd;
}

int vs_open_parent_beneath(int dir_fd, const char *path, const char **name) {
    if (!is_well_formed(path)) return -EINVAL;
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash) return open_somehow(dir_fd, ".", DIRECTORY, 0);
    char parent[PATH_MAX];
    size_t length = (size_t)(slash - path);
    if (length >= sizeof parent) return -ENAMETOOLONG;
    memcpy(parent, path, length);
    parent[length] = '\0';
    return open_somehow(dir_fd, parent, DIRECTORY, 0);
}
