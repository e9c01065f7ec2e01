/* plane_library.c: what plane_server.py needs of C beside the plane: volumes in memory. Built into a shared object with the plane. */
#include <stdint.h>

#include "memory_file.h"

memory_file *test_file_new(uint64_t size_bytes, int read_only);
uint64_t test_file_count(memory_file *m, int which);
uint64_t test_file_data_blocks(memory_file *m);

memory_file *test_file_new(uint64_t size_bytes, int read_only) {
    memory_file *m = memory_file_new(size_bytes);
    m->read_only = read_only;
    return m;
}

uint64_t test_file_count(memory_file *m, int which) {
    _Atomic uint64_t *counts[] = {&m->reads, &m->writes, &m->durable_writes, &m->zeros, &m->zeroed_bytes, &m->syncs, &m->releases};
    return atomic_load(counts[which]);
}

uint64_t test_file_data_blocks(memory_file *m) {
    uint64_t n = 0;
    pthread_rwlock_rdlock(&m->mu);
    for (uint64_t i = 0; i < (m->size_bytes + MEMORY_BLOCK - 1) / MEMORY_BLOCK; i++) n += m->has_data[i];
    pthread_rwlock_unlock(&m->mu);
    return n;
}
