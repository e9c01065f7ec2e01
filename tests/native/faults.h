/* faults.h: the C library as it is on a bad day.
 *
 * Test programs are linked with --wrap: calls of malloc, calloc, realloc, pread, preadv2, pwritev, fsync, fdatasync, fallocate and syscall in the core and in
 * the test come here first. Without orders they are passed on. Threads: orders are given while one thread runs; counting is atomic.
 */
#ifndef VS_TESTS_FAULTS_H
#define VS_TESTS_FAULTS_H

#include <stddef.h>

/* Let `good` further allocations succeed and fail all after them. Negative: no failures (as at the start). */
void faults_fail_allocations(long good);

/* Has an allocation failed since that order? */
int faults_allocation_failed(void);

/* Move at most piece_bytes in one pread, preadv2 or pwritev, and answer every second call with EINTR. 0: off. */
void faults_split_io(size_t piece_bytes);

/* Fail fsync and fdatasync with EIO, or stop doing so. */
void faults_fail_syncs(int yes);

/* Refuse fallocate with EOPNOTSUPP: once for each call of this many, from the next on. */
void faults_refuse_fallocate(int calls);

/* From now on openat2 is a call that the kernel does not know (ENOSYS), or that a sandbox does not let through (EPERM). 0: off. */
void faults_refuse_openat2(int code);

#endif
