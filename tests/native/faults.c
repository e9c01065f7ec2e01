/* faults.c: see faults.h. The linker turns our __real_x into x and everybody's x into our __wrap_x. */
#include "faults.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *p, size_t n);
ssize_t __real_pread(int fd, void *buf, size_t n, off_t at);
ssize_t __real_preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags);
ssize_t __real_pwritev(int fd, const struct iovec *parts, int count, off_t at);
int __real_fallocate(int fd, int mode, off_t at, off_t n);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
long __real_syscall(long number, ...);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at);
ssize_t __wrap_preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at);
int __wrap_fallocate(int fd, int mode, off_t at, off_t n);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
long __wrap_syscall(long number, ...);

static atomic_long allocations_left = -1;
static atomic_int allocation_failed;
static size_t io_piece_bytes;
static atomic_uint io_calls;
static int fallocate_refusals;
static int openat2_refusal;
static int syncs_fail;

void faults_fail_allocations(long good) {
    allocations_left = good;
    allocation_failed = 0;
}

int faults_allocation_failed(void) {
    return allocation_failed;
}

void faults_split_io(size_t piece_bytes) {
    io_piece_bytes = piece_bytes;
}

void faults_refuse_fallocate(int calls) {
    fallocate_refusals = calls;
}

void faults_refuse_openat2(int code) {
    openat2_refusal = code;
}

void faults_fail_syncs(int yes) {
    syncs_fail = yes;
}

static int allocation_fails(void) {
    long left = allocations_left;
    while (left > 0 && !atomic_compare_exchange_weak(&allocations_left, &left, left - 1)) continue;
    if (left == 0) allocation_failed = 1;
    return left == 0;
}

void *__wrap_malloc(size_t n) {
    return allocation_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t each) {
    return allocation_fails() ? NULL : __real_calloc(n, each);
}

void *__wrap_realloc(void *p, size_t n) {
    return allocation_fails() ? NULL : __real_realloc(p, n);
}

static int io_is_interrupted(void) {
    if (io_piece_bytes == 0 || io_calls++ % 2 == 0) return 0;
    errno = EINTR;
    return 1;
}

ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at) {
    if (io_is_interrupted()) return -1;
    return __real_pread(fd, buf, io_piece_bytes > 0 && n > io_piece_bytes ? io_piece_bytes : n, at);
}

static struct iovec piece_of(const struct iovec *part) {
    return (struct iovec){part->iov_base, part->iov_len < io_piece_bytes ? part->iov_len : io_piece_bytes};
}

ssize_t __wrap_preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    if (io_is_interrupted()) return -1;
    if (io_piece_bytes == 0) return __real_preadv2(fd, parts, count, at, flags);
    struct iovec piece = piece_of(parts);
    return __real_preadv2(fd, &piece, 1, at, flags);
}

ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    if (io_is_interrupted()) return -1;
    if (io_piece_bytes == 0) return __real_pwritev(fd, parts, count, at);
    struct iovec piece = piece_of(parts);
    return __real_pwritev(fd, &piece, 1, at);
}

int __wrap_fallocate(int fd, int mode, off_t at, off_t n) {
    if (fallocate_refusals == 0) return __real_fallocate(fd, mode, at, n);
    fallocate_refusals--;
    errno = EOPNOTSUPP;
    return -1;
}

static int sync_fails(void) {
    if (syncs_fail) errno = EIO;
    return syncs_fail;
}

int __wrap_fsync(int fd) {
    return sync_fails() ? -1 : __real_fsync(fd);
}

int __wrap_fdatasync(int fd) {
    return sync_fails() ? -1 : __real_fdatasync(fd);
}

/* As the C library does it: six words, whatever the call makes of them. */
long __wrap_syscall(long number, ...) {
    if (number == SYS_openat2 && openat2_refusal != 0) {
        errno = openat2_refusal;
        return -1;
    }
    long words[6];
    va_list given;
    va_start(given, number);
    for (int i = 0; i < 6; i++) words[i] = va_arg(given, long);
    va_end(given);
    return __real_syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
