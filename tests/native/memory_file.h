/* memory_file.h: a volume in memory, as the data plane sees one. It counts what is asked of it, can be told to fail, and can hold
 * its answers back until it is let go.
 *
 * Threads: any. A release only counts: whoever made the file ends it.
 */
#ifndef VS_TESTS_MEMORY_FILE_H
#define VS_TESTS_MEMORY_FILE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "volume_file.h"

enum { MEMORY_BLOCK = 4096 };

typedef struct memory_file {
    vs_volume_file file; /* first: a vs_volume_file * of ours is a memory_file * */
    pthread_rwlock_t mu;
    pthread_mutex_t gate; /* held by the test: requests wait */
    uint64_t size_bytes;
    unsigned char *bytes;
    unsigned char *has_data; /* one for each block */
    _Atomic int read_only;
    _Atomic int fails_with; /* errno of every request until it is set back to 0 */
    _Atomic uint64_t entered, reads, writes, durable_writes, zeros, zeroed_bytes, syncs, releases;
} memory_file;

/* What every request does first: count itself, wait at the gate, fail when told to. */
static int memory_enter(memory_file *m, _Atomic uint64_t *count) {
    atomic_fetch_add(&m->entered, 1);
    pthread_mutex_lock(&m->gate);
    pthread_mutex_unlock(&m->gate);
    atomic_fetch_add(count, 1);
    return -atomic_load(&m->fails_with);
}

static uint64_t memory_clip(const memory_file *m, uint64_t offset, uint64_t length) {
    if (offset >= m->size_bytes) return 0;
    return length < m->size_bytes - offset ? length : m->size_bytes - offset;
}

static uint64_t memory_size(vs_volume_file *f) {
    return ((memory_file *)f)->size_bytes;
}

static int64_t memory_read(vs_volume_file *f, uint64_t offset, void *buf, size_t length) {
    memory_file *m = (memory_file *)f;
    int code = memory_enter(m, &m->reads);
    if (code < 0) return code;
    uint64_t n = memory_clip(m, offset, length);
    pthread_rwlock_rdlock(&m->mu);
    if (n) memcpy(buf, m->bytes + offset, n);
    pthread_rwlock_unlock(&m->mu);
    return (int64_t)n;
}

static int64_t memory_write(vs_volume_file *f, uint64_t offset, const void *buf, size_t length, int durable, const vs_request *q) {
    (void)q;
    memory_file *m = (memory_file *)f;
    int code = memory_enter(m, &m->writes);
    uint64_t n = memory_clip(m, offset, length);
    if (m->read_only) return -EROFS;
    if (code < 0) return code;
    if (n == 0) return -ENOSPC;
    if (durable) atomic_fetch_add(&m->durable_writes, 1);
    pthread_rwlock_wrlock(&m->mu);
    memcpy(m->bytes + offset, buf, n);
    for (uint64_t i = offset / MEMORY_BLOCK; i <= (offset + n - 1) / MEMORY_BLOCK; i++) m->has_data[i] = 1;
    pthread_rwlock_unlock(&m->mu);
    return (int64_t)n;
}

static int memory_zero(vs_volume_file *f, uint64_t offset, uint64_t length, const vs_request *q) {
    (void)q;
    memory_file *m = (memory_file *)f;
    int code = memory_enter(m, &m->zeros);
    if (m->read_only) return -EROFS;
    if (code < 0) return code;
    if (memory_clip(m, offset, length) != length) return -EINVAL; /* the plane has to clip */
    atomic_fetch_add(&m->zeroed_bytes, length);
    pthread_rwlock_wrlock(&m->mu);
    memset(m->bytes + offset, 0, length);
    uint64_t first = (offset + MEMORY_BLOCK - 1) / MEMORY_BLOCK, end = (offset + length) / MEMORY_BLOCK;
    if (first < end) memset(m->has_data + first, 0, end - first);
    pthread_rwlock_unlock(&m->mu);
    return 0;
}

static int memory_sync(vs_volume_file *f) {
    memory_file *m = (memory_file *)f;
    return memory_enter(m, &m->syncs);
}

static int64_t memory_seek(vs_volume_file *f, uint64_t offset, int whence) {
    memory_file *m = (memory_file *)f;
    unsigned char wanted = whence == SEEK_DATA;
    if (offset >= m->size_bytes) return -ENXIO;
    pthread_rwlock_rdlock(&m->mu);
    while (offset < m->size_bytes && m->has_data[offset / MEMORY_BLOCK] != wanted) offset = (offset / MEMORY_BLOCK + 1) * MEMORY_BLOCK;
    pthread_rwlock_unlock(&m->mu);
    if (offset < m->size_bytes) return (int64_t)offset;
    return wanted ? -ENXIO : (int64_t)m->size_bytes;
}

static void memory_release(vs_volume_file *f) {
    atomic_fetch_add(&((memory_file *)f)->releases, 1);
}

/* All holes. */
static inline memory_file *memory_file_new(uint64_t size_bytes) {
    memory_file *m = calloc(1, sizeof *m);
    m->file = (vs_volume_file){memory_size, memory_read, memory_write, memory_zero, memory_sync, memory_seek, memory_release};
    pthread_rwlock_init(&m->mu, NULL);
    pthread_mutex_init(&m->gate, NULL);
    m->size_bytes = size_bytes;
    m->bytes = calloc(1, size_bytes);
    m->has_data = calloc(1, size_bytes / MEMORY_BLOCK + 1);
    return m;
}

static inline void memory_file_end(memory_file *m) {
    pthread_rwlock_destroy(&m->mu);
    pthread_mutex_destroy(&m->gate);
    free(m->bytes);
    free(m->has_data);
    free(m);
}

#endif
