/* io_posix.c: the store on a directory of the operating system; the only system calls of the core on the repository's files.
 *
 * A repository may come from elsewhere, so no symlink in it is followed (beneath.h) and nothing but files is opened. O_NONBLOCK keeps an
 * open from waiting for a peer when a FIFO stands in a file's place; for files it has no effect.
 *
 * Reads, writes and truncations go on after a signal. A failed sync does not, not even after EINTR: what a second
 * one reports says nothing of the pages that the first one dropped.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "beneath.h"
#include "format.h"
#include "store_ops.h"

#define TAG "user.vsnapfs.gap"

enum { PARTS_MAX = 256, ZEROS_BYTES = 65536, FILES_MIN = 64, FILES_MAX = 4096 };

typedef struct posix_store {
    vs_store base; /* first: a vs_store * of ours is a posix_store * */
    int dir_fd;
} posix_store;

/* ---- names ---- */

static int open_parent(vs_store *s, const char *path, const char **name) {
    return vs_open_parent_beneath(((posix_store *)s)->dir_fd, path, name);
}

static int open_path(vs_store *s, const char *path, int flags) {
    return vs_open_beneath(((posix_store *)s)->dir_fd, path, flags, 0600);
}

static int posix_open(vs_store *s, const char *path, uint32_t flags) {
    static const int modes[] = {
        [VS_OPEN_READ] = O_RDONLY, [VS_OPEN_WRITE] = O_RDWR, [VS_OPEN_WRITE | VS_OPEN_CREATE] = O_RDWR | O_CREAT | O_EXCL};
    if (flags > (VS_OPEN_WRITE | VS_OPEN_CREATE) || flags == VS_OPEN_CREATE) return -EINVAL;
    int fd = open_path(s, path, modes[flags] | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return fd;
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) ? 0 : -EUCLEAN;
    if (r < 0) close(fd);
    return r < 0 ? r : fd;
}

static int posix_close(vs_store *s, int file) {
    (void)s;
    /* Linux has closed it also when it says EINTR. */
    return close(file) < 0 && errno != EINTR ? -errno : 0;
}

static int posix_rename(vs_store *s, const char *from, const char *to) {
    const char *from_name, *to_name;
    int from_dir = open_parent(s, from, &from_name);
    if (from_dir < 0) return from_dir;
    int to_dir = open_parent(s, to, &to_name);
    int r = to_dir;
    if (to_dir >= 0) {
        r = renameat(from_dir, from_name, to_dir, to_name) < 0 ? -errno : 0;
        close(to_dir);
    }
    close(from_dir);
    return r;
}

static int posix_remove(vs_store *s, const char *path) {
    const char *name;
    int dir = open_parent(s, path, &name);
    if (dir < 0) return dir;
    int r = unlinkat(dir, name, 0) < 0 ? -errno : 0;
    close(dir);
    return r;
}

static int posix_sync_dir(vs_store *s, const char *path) {
    int dir = open_path(s, path, O_RDONLY | O_DIRECTORY);
    if (dir < 0) return dir;
    int r = fsync(dir) < 0 ? -errno : 0;
    close(dir);
    return r;
}

static int list_entries(DIR *dir, vs_list_fn each, void *arg) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) return -errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        int r = each(arg, entry->d_name);
        if (r != 0) return r;
    }
}

static int posix_list(vs_store *s, const char *path, vs_list_fn each, void *arg) {
    int fd = open_path(s, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = list_entries(dir, each, arg);
    closedir(dir);
    return r;
}

/* ---- bytes ---- */

static int64_t posix_size(vs_store *s, int file) {
    (void)s;
    struct stat st;
    if (fstat(file, &st) < 0) return -errno;
    if (S_ISREG(st.st_mode)) return st.st_size;
    uint64_t bytes;
    if (!S_ISBLK(st.st_mode)) return -EINVAL;
    return ioctl(file, BLKGETSIZE64, &bytes) < 0 ? -errno : (int64_t)bytes;
}

/* The kernel's offsets are signed. */
static int range_fits(uint64_t offset_bytes, uint64_t length_bytes) {
    return length_bytes <= INT64_MAX && offset_bytes <= INT64_MAX - length_bytes;
}

static int64_t posix_read(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    (void)s;
    if (!range_fits(offset_bytes, length_bytes)) return -EINVAL;
    size_t done = 0;
    while (done < length_bytes) {
        ssize_t n = pread(file, (uint8_t *)buf + done, length_bytes - done, (off_t)(offset_bytes + done));
        if (n == 0) break;
        if (n > 0) done += (size_t)n;
        else if (errno != EINTR) return -errno;
    }
    return (int64_t)done;
}

/* What is left to write or to fill: the parts from first on, without the first one's first skip bytes. */
typedef struct parts_left {
    const struct iovec *parts;
    int count, first;
    size_t skip;
} parts_left;

static int parts_window(const parts_left *left, struct iovec window[PARTS_MAX]) {
    int n = left->count - left->first < PARTS_MAX ? left->count - left->first : PARTS_MAX;
    memcpy(window, left->parts + left->first, (size_t)n * sizeof *window);
    window[0].iov_base = (uint8_t *)window[0].iov_base + left->skip;
    window[0].iov_len -= left->skip;
    return n;
}

/* Step over n bytes that are done and over empty parts. */
static void parts_advance(parts_left *left, size_t n) {
    left->skip += n;
    while (left->first < left->count && left->skip >= left->parts[left->first].iov_len) {
        left->skip -= left->parts[left->first].iov_len;
        left->first++;
    }
}

static int posix_write(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    (void)s;
    parts_left left = {.parts = parts, .count = part_count};
    parts_advance(&left, 0);
    while (left.first < left.count) {
        struct iovec window[PARTS_MAX];
        int window_count = parts_window(&left, window);
        if (!range_fits(offset_bytes, 0)) return -EFBIG;
        ssize_t n = pwritev(file, window, window_count, (off_t)offset_bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return -EIO; /* not of a disk; going on would not end */
        offset_bytes += (size_t)n;
        parts_advance(&left, (size_t)n);
    }
    return 0;
}

/* EOPNOTSUPP: a filesystem that cannot tell what is cached. */
static ssize_t read_window(int file, const struct iovec *window, int count, uint64_t offset_bytes, uint32_t flags) {
    ssize_t n = preadv2(file, window, count, (off_t)offset_bytes, flags & VS_READ_CACHED ? RWF_NOWAIT : 0);
    return n < 0 && errno == EOPNOTSUPP && flags & VS_READ_CACHED ? preadv2(file, window, count, (off_t)offset_bytes, 0) : n;
}

static int64_t posix_read_parts(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count, uint32_t flags) {
    (void)s;
    parts_left left = {.parts = parts, .count = part_count};
    uint64_t at = offset_bytes;
    parts_advance(&left, 0);
    while (left.first < left.count) {
        struct iovec window[PARTS_MAX];
        int window_count = parts_window(&left, window);
        if (!range_fits(at, 0)) return -EINVAL;
        ssize_t n = read_window(file, window, window_count, at, flags);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && at == offset_bytes) return -errno;
        if (n <= 0) break;
        at += (size_t)n;
        parts_advance(&left, (size_t)n);
    }
    return (int64_t)(at - offset_bytes);
}

static void posix_will_need(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s;
    if (range_fits(offset_bytes, length_bytes)) posix_fadvise(file, (off_t)offset_bytes, (off_t)length_bytes, POSIX_FADV_WILLNEED);
}

static int posix_files_max(vs_store *s) {
    (void)s;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 2 < FILES_MIN) return FILES_MIN;
    return limit.rlim_cur / 2 < FILES_MAX ? (int)(limit.rlim_cur / 2) : FILES_MAX;
}

static int posix_sync(vs_store *s, int file) {
    (void)s;
    return fdatasync(file) < 0 ? -errno : 0;
}

static int posix_forget(vs_store *s, int file) {
    (void)s;
    return -posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

/* An error of the device stays with the file: the next sync reports it. */
static void posix_write_back(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s;
    sync_file_range(file, (off_t)offset_bytes, (off_t)length_bytes, SYNC_FILE_RANGE_WRITE);
}

static int posix_truncate(vs_store *s, int file, uint64_t size_bytes) {
    (void)s;
    if (!range_fits(size_bytes, 0)) return -EFBIG;
    int r;
    do r = ftruncate(file, (off_t)size_bytes);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int allocate(int file, int mode, uint64_t offset_bytes, uint64_t length_bytes) {
    int r;
    do r = fallocate(file, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset_bytes, (off_t)length_bytes);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* EINVAL: a block device, and the range is not in its blocks. EBUSY: a device whose cached pages are in use. */
static int is_no_way_here(int r) {
    return r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL || r == -EBUSY;
}

static int zero_by_allocation(int file, uint64_t offset_bytes, uint64_t length_bytes) {
    if (length_bytes == 0) return 0;
    int r = allocate(file, FALLOC_FL_PUNCH_HOLE, offset_bytes, length_bytes);
    return is_no_way_here(r) ? allocate(file, FALLOC_FL_ZERO_RANGE, offset_bytes, length_bytes) : r;
}

static int zero_by_writing(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    static const uint8_t zeros[ZEROS_BYTES];
    while (length_bytes > 0) {
        size_t n = length_bytes < sizeof zeros ? (size_t)length_bytes : sizeof zeros;
        int r = posix_write(s, file, offset_bytes, &(struct iovec){(void *)(uintptr_t)zeros, n}, 1);
        if (r < 0) return r;
        offset_bytes += n;
        length_bytes -= n;
    }
    return 0;
}

/* Edges by writing, the whole blocks between them by allocation, or by writing if that cannot be done either. */
static int zero_in_parts(vs_store *s, int file, uint64_t start, uint64_t end) {
    uint64_t inner_start = (start + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES * VS_BLOCK_BYTES;
    uint64_t inner_end = end / VS_BLOCK_BYTES * VS_BLOCK_BYTES;
    if (inner_start >= inner_end) return zero_by_writing(s, file, start, end - start);
    int r = zero_by_allocation(file, inner_start, inner_end - inner_start);
    if (is_no_way_here(r)) return zero_by_writing(s, file, start, end - start);
    if (r == 0) r = zero_by_writing(s, file, start, inner_start - start);
    return r < 0 ? r : zero_by_writing(s, file, inner_end, end - inner_end);
}

/* Never changes the size: what lies past the end reads as nothing, whichever way is taken. */
static int posix_zero(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    int64_t size = posix_size(s, file);
    if (size < 0) return (int)size;
    uint64_t end = (uint64_t)size;
    if (offset_bytes >= end || length_bytes == 0) return 0;
    if (length_bytes < end - offset_bytes) end = offset_bytes + length_bytes;
    int r = zero_by_allocation(file, offset_bytes, end - offset_bytes);
    return is_no_way_here(r) ? zero_in_parts(s, file, offset_bytes, end) : r;
}

static int posix_map(vs_store *s, int file, uint64_t size_bytes, const void **out) {
    int64_t size = posix_size(s, file);
    if (size < 0) return (int)size;
    if (size_bytes > (uint64_t)size) return -EINVAL; /* a touch past the end would be SIGBUS */
    void *p = mmap(NULL, size_bytes, PROT_READ, MAP_SHARED, file, 0);
    if (p == MAP_FAILED) return -errno;
    munlock(p, size_bytes); /* a process that locks its memory does not lock these: see memory.c */
    *out = p;
    return 0;
}

static void posix_unmap(vs_store *s, const void *base, uint64_t size_bytes) {
    (void)s;
    munmap((void *)(uintptr_t)base, size_bytes);
}

/* ---- the machine ---- */

static uint64_t posix_now_ns(vs_store *s) {
    (void)s;
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int posix_entropy(vs_store *s, void *buf, size_t length_bytes) {
    (void)s;
    size_t done = 0;
    while (done < length_bytes) {
        ssize_t n = getrandom((uint8_t *)buf + done, length_bytes - done, 0);
        if (n >= 0) done += (size_t)n;
        else if (errno != EINTR) return -errno;
    }
    return 0;
}

static int64_t posix_free_bytes(vs_store *s) {
    struct statvfs found;
    if (fstatvfs(((posix_store *)s)->dir_fd, &found) < 0) return -errno;
    return (int64_t)(found.f_bavail * found.f_frsize);
}

static int posix_tag(vs_store *s, int file, const char *text) {
    (void)s;
    int r = text ? fsetxattr(file, TAG, text, strlen(text), 0) : fremovexattr(file, TAG);
    return r < 0 ? -errno : 0;
}

static int posix_tagged(vs_store *s, int file, char *text, size_t room) {
    (void)s;
    ssize_t n = fgetxattr(file, TAG, text, room - 1);
    if (n < 0) return -errno;
    text[n] = '\0';
    return 0;
}

/* Locks of the open file, not of the process: those of two journals in one process meet as well. */
static int byte_lock(int file, int command, struct flock *l) {
    int r;
    do r = fcntl(file, command, l);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int posix_lock(vs_store *s, int file, uint64_t byte) {
    (void)s;
    return byte_lock(file, F_OFD_SETLK, &(struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1});
}

static int posix_unlock(vs_store *s, int file, uint64_t byte) {
    (void)s;
    return byte_lock(file, F_OFD_SETLK, &(struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1});
}

/* Asks what would keep an exclusive lock away, and takes none: whoever comes meanwhile is not turned away. */
static int posix_locked(vs_store *s, int file, uint64_t from, uint64_t end) {
    (void)s;
    if (from >= end) return 0;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)from, .l_len = (off_t)(end - from)};
    int r = byte_lock(file, F_OFD_GETLK, &l);
    return r < 0 ? r : l.l_type != F_UNLCK;
}

static void posix_destroy(vs_store *s) {
    free(s);
}

static const vs_store posix_functions = {
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .read = posix_read,
    .read_parts = posix_read_parts,
    .will_need = posix_will_need,
    .files_max = posix_files_max,
    .write = posix_write,
    .sync = posix_sync,
    .forget = posix_forget,
    .write_back = posix_write_back,
    .truncate = posix_truncate,
    .zero = posix_zero,
    .rename = posix_rename,
    .remove = posix_remove,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .map = posix_map,
    .unmap = posix_unmap,
    .now_ns = posix_now_ns,
    .entropy = posix_entropy,
    .free_bytes = posix_free_bytes,
    .tag = posix_tag,
    .tagged = posix_tagged,
    .lock = posix_lock,
    .unlock = posix_unlock,
    .locked = posix_locked,
    .destroy = posix_destroy,
};

int vs_store_posix(int dir_fd, vs_store **out) {
    struct stat st;
    if (fstat(dir_fd, &st) < 0) return -errno;
    if (!S_ISDIR(st.st_mode)) return -ENOTDIR;
    posix_store *p = malloc(sizeof *p);
    if (!p) return -ENOMEM;
    p->base = posix_functions;
    p->dir_fd = dir_fd;
    *out = &p->base;
    return 0;
}

void vs_store_close(vs_store *s) {
    if (s) s->destroy(s);
}

int vs_store_zero(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    return s->zero(s, file, offset_bytes, length_bytes);
}
