/* fault_shim.c: see fault_shim.h. */
#include "fault_shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MEMORY, STORAGE };

static struct {
    _Atomic int armed;
    int mode;
    uint64_t n, seed;
    _Atomic uint64_t calls;
    _Atomic int kind; /* of the call that was struck */
    _Atomic(const char *) struck;
    _Atomic int64_t allocations, mappings;
} shim;

static void unsynced_clear(void);

void fault_arm(uint64_t n, int mode, uint64_t seed) {
    shim.mode = mode;
    shim.n = n;
    shim.seed = seed;
    atomic_store(&shim.calls, 0);
    atomic_store(&shim.struck, NULL);
    unsynced_clear();
    atomic_store(&shim.armed, 1);
}

uint64_t fault_disarm(void) {
    atomic_store(&shim.armed, 0);
    return atomic_load(&shim.calls);
}

const char *fault_struck(void) {
    return atomic_load(&shim.struck);
}

int64_t fault_allocations(void) {
    return atomic_load(&shim.allocations);
}

int64_t fault_mappings(void) {
    return atomic_load(&shim.mappings);
}

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* The errno that this call fails with, one of errors (0 ends the list); 0: it does not fail. */
static int due(int kind, const char *name, const int *errors) {
    if (!atomic_load_explicit(&shim.armed, memory_order_acquire)) return 0;
    uint64_t n = atomic_fetch_add(&shim.calls, 1);
    if (shim.mode == FAULT_NONE || n < shim.n) return 0;
    if (n == shim.n) {
        atomic_store(&shim.kind, kind);
        atomic_store(&shim.struck, name);
    } else if (shim.mode == FAULT_ONCE || kind != atomic_load(&shim.kind) || !atomic_load(&shim.struck)) {
        return 0;
    }
    int count = 0;
    while (errors[count]) count++;
    return errors[mix(shim.seed + shim.n) % (unsigned)count];
}

#define ERRORS(...) ((const int[]){__VA_ARGS__, 0})

/* A function of the C library that may fail: type, name, (parameters), (arguments), what it returns when it does, kind, errors. */
#define FALLIBLE(type, name, parameters, arguments, failed, kind, ...)                \
    type __real_##name parameters;                                                    \
    type __wrap_##name parameters;                                                    \
    type __wrap_##name parameters {                                                   \
        int error = due(kind, #name, ERRORS(__VA_ARGS__));                            \
        if (error == 0) return __real_##name arguments;                               \
        errno = error;                                                                \
        return failed;                                                                \
    }

/* ---- memory ---- */

static void *counted(void *p) {
    if (p) atomic_fetch_add(&shim.allocations, 1);
    return p;
}

#define ALLOCATING(name, parameters, arguments)                                       \
    void *__real_##name parameters;                                                   \
    void *__wrap_##name parameters;                                                   \
    void *__wrap_##name parameters {                                                  \
        if (due(MEMORY, #name, ERRORS(ENOMEM)) == 0) return counted(__real_##name arguments); \
        errno = ENOMEM;                                                               \
        return NULL;                                                                  \
    }

ALLOCATING(malloc, (size_t n), (n))
ALLOCATING(calloc, (size_t n, size_t each), (n, each))
ALLOCATING(aligned_alloc, (size_t alignment, size_t n), (alignment, n))

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n) {
    if (due(MEMORY, "realloc", ERRORS(ENOMEM))) {
        errno = ENOMEM;
        return NULL;
    }
    void *grown = __real_realloc(p, n);
    return p ? grown : counted(grown);
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p) {
    if (p) atomic_fetch_sub(&shim.allocations, 1);
    __real_free(p);
}

EVP_MD_CTX *__real_EVP_MD_CTX_new(void);
EVP_MD_CTX *__wrap_EVP_MD_CTX_new(void);
EVP_MD_CTX *__wrap_EVP_MD_CTX_new(void) {
    return due(MEMORY, "EVP_MD_CTX_new", ERRORS(ENOMEM)) ? NULL : counted(__real_EVP_MD_CTX_new());
}

void __real_EVP_MD_CTX_free(EVP_MD_CTX *c);
void __wrap_EVP_MD_CTX_free(EVP_MD_CTX *c);
void __wrap_EVP_MD_CTX_free(EVP_MD_CTX *c) {
    if (c) atomic_fetch_sub(&shim.allocations, 1);
    __real_EVP_MD_CTX_free(c);
}

FALLIBLE(int, EVP_DigestInit_ex, (EVP_MD_CTX *c, const EVP_MD *t, ENGINE *e), (c, t, e), 0, MEMORY, ENOMEM)
FALLIBLE(int, EVP_DigestUpdate, (EVP_MD_CTX *c, const void *p, size_t n), (c, p, n), 0, MEMORY, ENOMEM)
FALLIBLE(int, EVP_MD_CTX_copy_ex, (EVP_MD_CTX *to, const EVP_MD_CTX *from), (to, from), 0, MEMORY, ENOMEM)
FALLIBLE(int, EVP_DigestFinal_ex, (EVP_MD_CTX *c, unsigned char *out, unsigned *n), (c, out, n), 0, MEMORY, ENOMEM)

void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    int error = due(MEMORY, "mmap", ERRORS(ENOMEM));
    void *p = error ? MAP_FAILED : __real_mmap(at, n, protection, flags, fd, offset);
    if (p != MAP_FAILED) atomic_fetch_add(&shim.mappings, 1);
    if (error) errno = error;
    return p;
}

int __real_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n) {
    atomic_fetch_sub(&shim.mappings, 1);
    return __real_munmap(at, n);
}

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg) {
    int error = due(MEMORY, "pthread_create", ERRORS(EAGAIN));
    return error ? error : __real_pthread_create(t, a, f, arg);
}

FALLIBLE(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, MEMORY, EMFILE, ENOMEM)
FALLIBLE(int, eventfd, (unsigned value, int flags), (value, flags), -1, MEMORY, EMFILE)
FALLIBLE(int, pipe2, (int fds[2], int flags), (fds, flags), -1, MEMORY, EMFILE)
FALLIBLE(int, socketpair, (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds), -1, MEMORY, EMFILE)

/* ---- files ---- */

int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    int error = due(STORAGE, "openat", flags & O_CREAT ? ERRORS(ENOSPC, EIO, EDQUOT, EMFILE) : ERRORS(EIO, EMFILE, ENFILE, ENOMEM));
    if (error == 0) return __real_openat(dir, path, flags, mode);
    errno = error;
    return -1;
}

/* The core opens by openat2, which the C library has no name for. Six words are passed on, whatever the call makes of them. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long words[6];
    va_list given;
    va_start(given, number);
    for (int i = 0; i < 6; i++) words[i] = va_arg(given, long);
    va_end(given);
    if (number == SYS_openat2) {
        const struct open_how *how = (const struct open_how *)words[2];
        int error = due(STORAGE, "openat2", how->flags & O_CREAT ? ERRORS(ENOSPC, EIO, EDQUOT, EMFILE) : ERRORS(EIO, EMFILE, ENFILE, ENOMEM));
        if (error != 0) {
            errno = error;
            return -1;
        }
    }
    return __real_syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __real_pread(int fd, void *p, size_t n, off_t at);
int __real_fstat(int fd, struct stat *st);

/* What stood where something was written and not synced, oldest first. What finds no room is forgotten, and so never lost. */
enum { UNSYNCED_MAX = 4096, UNSYNCED_BYTES = 16 << 20 };

static struct {
    pthread_mutex_t mu;
    int count;
    size_t used;
    struct {
        ino_t file;
        off_t at;
        size_t n, before; /* before: where its bytes are */
    } writes[UNSYNCED_MAX];
    uint8_t bytes[UNSYNCED_BYTES];
} unsynced = {.mu = PTHREAD_MUTEX_INITIALIZER};

static void unsynced_clear(void) {
    pthread_mutex_lock(&unsynced.mu);
    unsynced.count = 0;
    unsynced.used = 0;
    pthread_mutex_unlock(&unsynced.mu);
}

static void writing(int fd, size_t n, off_t at) {
    struct stat st;
    if (!atomic_load(&shim.armed) || shim.mode == FAULT_NONE || __real_fstat(fd, &st) < 0) return;
    pthread_mutex_lock(&unsynced.mu);
    if (unsynced.count < UNSYNCED_MAX && n <= UNSYNCED_BYTES - unsynced.used) {
        uint8_t *before = unsynced.bytes + unsynced.used;
        ssize_t got = __real_pread(fd, before, n, at);
        memset(before + (got < 0 ? 0 : got), 0, n - (size_t)(got < 0 ? 0 : got));
        unsynced.writes[unsynced.count].file = st.st_ino;
        unsynced.writes[unsynced.count].at = at;
        unsynced.writes[unsynced.count].n = n;
        unsynced.writes[unsynced.count++].before = unsynced.used;
        unsynced.used += n;
    }
    pthread_mutex_unlock(&unsynced.mu);
}

/* The file was synced, or could not be: then what was written is lost. */
static void synced(int fd, int lost) {
    struct stat st;
    if (!atomic_load(&shim.armed) || shim.mode == FAULT_NONE || __real_fstat(fd, &st) < 0) return;
    pthread_mutex_lock(&unsynced.mu);
    for (int i = unsynced.count - 1; i >= 0; i--) {
        if (unsynced.writes[i].file != st.st_ino) continue;
        if (lost) __real_pwrite(fd, unsynced.bytes + unsynced.writes[i].before, unsynced.writes[i].n, unsynced.writes[i].at);
        unsynced.writes[i].file = 0;
    }
    pthread_mutex_unlock(&unsynced.mu);
}

#define SYNCING(name)                                                \
    int __real_##name(int fd);                                       \
    int __wrap_##name(int fd);                                       \
    int __wrap_##name(int fd) {                                      \
        int error = due(STORAGE, #name, ERRORS(EIO, ENOSPC, EDQUOT)); \
        int r = error ? -1 : __real_##name(fd);                      \
        synced(fd, r < 0);                                           \
        if (error) errno = error;                                    \
        return r;                                                    \
    }

SYNCING(fsync)
SYNCING(fdatasync)

/* A write that fails may have written a part: whoever goes on after it must not believe the file to be as it was. */
static void tear(int fd, const struct iovec *part, off_t at) {
    if (mix(shim.seed ^ shim.n) % 2) __real_pwrite(fd, part->iov_base, part->iov_len / 2, at);
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at) {
    writing(fd, n, at);
    int error = due(STORAGE, "pwrite", ERRORS(EIO, ENOSPC, EDQUOT));
    if (error == 0) return __real_pwrite(fd, p, n, at);
    tear(fd, &(struct iovec){(void *)(uintptr_t)p, n}, at);
    errno = error;
    return -1;
}

ssize_t __real_pwritev(int fd, const struct iovec *parts, int count, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    size_t n = 0;
    for (int i = 0; i < count; i++) n += parts[i].iov_len;
    writing(fd, n, at);
    int error = due(STORAGE, "pwritev", ERRORS(EIO, ENOSPC, EDQUOT));
    if (error == 0) return __real_pwritev(fd, parts, count, at);
    tear(fd, parts, at);
    errno = error;
    return -1;
}

FALLIBLE(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), -1, STORAGE, EIO)
FALLIBLE(ssize_t, preadv2, (int fd, const struct iovec *parts, int count, off_t at, int flags), (fd, parts, count, at, flags), -1, STORAGE, EIO)
FALLIBLE(int, ftruncate, (int fd, off_t size), (fd, size), -1, STORAGE, EIO, ENOSPC)
FALLIBLE(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), -1, STORAGE, ENOSPC, EIO, EOPNOTSUPP)
FALLIBLE(int, renameat, (int from, const char *a, int to, const char *b), (from, a, to, b), -1, STORAGE, EIO, ENOSPC)
FALLIBLE(int, unlinkat, (int dir, const char *name, int flags), (dir, name, flags), -1, STORAGE, EIO, EROFS)
FALLIBLE(int, fstat, (int fd, struct stat *st), (fd, st), -1, STORAGE, EIO)
FALLIBLE(ssize_t, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags), -1, STORAGE, EIO)
FALLIBLE(DIR *, fdopendir, (int fd), (fd), NULL, STORAGE, ENOMEM)
FALLIBLE(struct dirent *, readdir, (DIR *d), (d), NULL, STORAGE, EIO)
