/* memory_store.c: names, files and open files in small arrays. */
#include "memory_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "require.h"

enum { NAMES_MAX = 96, OPEN_MAX = 96, NAME_BYTES = 80, FIRST_FILE = 1000 };

typedef struct content {
    uint8_t *bytes;
    size_t size_bytes, room;
    int users; /* a name, open files */
} content;

typedef struct memory_store {
    vs_store base;
    pthread_mutex_t mu;
    struct {
        char name[NAME_BYTES];
        content *of; /* NULL: free */
    } names[NAMES_MAX];
    content *open[OPEN_MAX];
    int mapped;
    uint64_t clock_ns, entropy;
} memory_store;

static memory_store *lock(vs_store *s) {
    memory_store *m = (memory_store *)s;
    pthread_mutex_lock(&m->mu);
    return m;
}

static int64_t unlock(memory_store *m, int64_t result) {
    pthread_mutex_unlock(&m->mu);
    return result;
}

static void content_drop(content *c) {
    if (--c->users > 0) return;
    free(c->bytes);
    free(c);
}

static int name_find(const memory_store *m, const char *path) {
    for (int i = 0; i < NAMES_MAX; i++)
        if (m->names[i].of && strcmp(m->names[i].name, path) == 0) return i;
    return -1;
}

static content *name_make(memory_store *m, const char *path) {
    int at = 0;
    while (at < NAMES_MAX && m->names[at].of) at++;
    REQUIRE(at < NAMES_MAX && strlen(path) < NAME_BYTES, "the store's own bounds");
    content *c = calloc(1, sizeof *c);
    REQUIRE(c, "memory");
    c->users = 1;
    strcpy(m->names[at].name, path);
    m->names[at].of = c;
    return c;
}

static int name_remove(memory_store *m, const char *path) {
    int at = name_find(m, path);
    if (at < 0) return -ENOENT;
    content_drop(m->names[at].of);
    m->names[at].of = NULL;
    return 0;
}

static void content_resize(content *c, size_t size_bytes) {
    if (size_bytes > c->room) {
        c->room = size_bytes + size_bytes / 2;
        c->bytes = realloc(c->bytes, c->room);
        REQUIRE(c->bytes, "memory");
    }
    if (size_bytes > c->size_bytes) memset(c->bytes + c->size_bytes, 0, size_bytes - c->size_bytes);
    c->size_bytes = size_bytes;
}

static content *content_of(const memory_store *m, int file) {
    REQUIRE(file >= FIRST_FILE && file < FIRST_FILE + OPEN_MAX && m->open[file - FIRST_FILE], "the file is open");
    return m->open[file - FIRST_FILE];
}

static int m_open(vs_store *s, const char *path, uint32_t flags) {
    memory_store *m = lock(s);
    int at = name_find(m, path), slot = 0;
    if (flags & VS_OPEN_CREATE && at >= 0) return (int)unlock(m, -EEXIST);
    if (!(flags & VS_OPEN_CREATE) && at < 0) return (int)unlock(m, -ENOENT);
    content *c = at >= 0 ? m->names[at].of : name_make(m, path);
    while (slot < OPEN_MAX && m->open[slot]) slot++;
    REQUIRE(slot < OPEN_MAX, "the store's own bounds");
    m->open[slot] = c;
    c->users++;
    return (int)unlock(m, FIRST_FILE + slot);
}

static int m_close(vs_store *s, int file) {
    memory_store *m = lock(s);
    content_drop(content_of(m, file));
    m->open[file - FIRST_FILE] = NULL;
    return (int)unlock(m, 0);
}

static int64_t m_size(vs_store *s, int file) {
    memory_store *m = lock(s);
    return unlock(m, (int64_t)content_of(m, file)->size_bytes);
}

static size_t copy_out(const content *c, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    if (offset_bytes >= c->size_bytes) return 0;
    size_t left = c->size_bytes - (size_t)offset_bytes, n = length_bytes < left ? length_bytes : left;
    if (n) memcpy(buf, c->bytes + offset_bytes, n);
    return n;
}

static int64_t m_read(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    memory_store *m = lock(s);
    return unlock(m, (int64_t)copy_out(content_of(m, file), offset_bytes, buf, length_bytes));
}

static int64_t m_read_parts(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count, uint32_t flags) {
    memory_store *m = lock(s);
    const content *c = content_of(m, file);
    int64_t done = 0;
    (void)flags;
    for (int i = 0; i < part_count; i++) done += (int64_t)copy_out(c, offset_bytes + (uint64_t)done, parts[i].iov_base, parts[i].iov_len);
    return unlock(m, done);
}

static void m_will_need(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s, (void)file, (void)offset_bytes, (void)length_bytes;
}

static int m_files_max(vs_store *s) {
    (void)s;
    return 4; /* few, so that files are closed and opened again */
}

static int m_write(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    memory_store *m = lock(s);
    content *c = content_of(m, file);
    for (int i = 0; i < part_count; i++) {
        if (offset_bytes + parts[i].iov_len > c->size_bytes) content_resize(c, (size_t)offset_bytes + parts[i].iov_len);
        if (parts[i].iov_len) memcpy(c->bytes + offset_bytes, parts[i].iov_base, parts[i].iov_len);
        offset_bytes += parts[i].iov_len;
    }
    return (int)unlock(m, 0);
}

static int m_sync(vs_store *s, int file) {
    memory_store *m = lock(s);
    content_of(m, file);
    return (int)unlock(m, 0);
}

static void m_write_back(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s, (void)file, (void)offset_bytes, (void)length_bytes;
}

static int m_truncate(vs_store *s, int file, uint64_t size_bytes) {
    memory_store *m = lock(s);
    content_resize(content_of(m, file), (size_t)size_bytes);
    return (int)unlock(m, 0);
}

static int m_zero(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    memory_store *m = lock(s);
    content *c = content_of(m, file);
    if (offset_bytes < c->size_bytes) {
        uint64_t left = c->size_bytes - offset_bytes;
        memset(c->bytes + offset_bytes, 0, (size_t)(length_bytes < left ? length_bytes : left));
    }
    return (int)unlock(m, 0);
}

static int m_rename(vs_store *s, const char *from, const char *to) {
    memory_store *m = lock(s);
    int at = name_find(m, from);
    if (at < 0) return (int)unlock(m, -ENOENT);
    if (strcmp(from, to) != 0) name_remove(m, to);
    REQUIRE(strlen(to) < NAME_BYTES, "the store's own bounds");
    memmove(m->names[at].name, to, strlen(to) + 1);
    return (int)unlock(m, 0);
}

static int m_remove(vs_store *s, const char *path) {
    memory_store *m = lock(s);
    return (int)unlock(m, name_remove(m, path));
}

static int m_sync_dir(vs_store *s, const char *path) {
    (void)s, (void)path;
    return 0;
}

static int m_list(vs_store *s, const char *path, vs_list_fn each, void *arg) {
    memory_store *m = lock(s);
    size_t n = strlen(path);
    int r = 0;
    for (int i = 0; r == 0 && i < NAMES_MAX; i++)
        if (m->names[i].of && strncmp(m->names[i].name, path, n) == 0 && m->names[i].name[n] == '/') r = each(arg, m->names[i].name + n + 1);
    return (int)unlock(m, r);
}

static int m_map(vs_store *s, int file, uint64_t size_bytes, const void **out) {
    memory_store *m = lock(s);
    const content *c = content_of(m, file);
    if (size_bytes == 0 || size_bytes > c->size_bytes) return (int)unlock(m, -EINVAL);
    void *copy = malloc((size_t)size_bytes);
    REQUIRE(copy, "memory");
    memcpy(copy, c->bytes, (size_t)size_bytes);
    m->mapped++;
    *out = copy;
    return (int)unlock(m, 0);
}

static void m_unmap(vs_store *s, const void *base, uint64_t size_bytes) {
    memory_store *m = lock(s);
    (void)size_bytes;
    free((void *)(uintptr_t)base);
    m->mapped--;
    unlock(m, 0);
}

static uint64_t m_now_ns(vs_store *s) {
    memory_store *m = lock(s);
    return (uint64_t)unlock(m, (int64_t)(m->clock_ns += 1000));
}

static int m_entropy(vs_store *s, void *buf, size_t length_bytes) {
    memory_store *m = lock(s);
    for (size_t i = 0; i < length_bytes; i++) ((uint8_t *)buf)[i] = (uint8_t)(m->entropy++ * 37 + 1);
    return (int)unlock(m, 0);
}

static void m_destroy(vs_store *s) {
    memory_store *m = (memory_store *)s;
    for (int i = 0; i < OPEN_MAX; i++) REQUIRE(!m->open[i], "every file was closed");
    REQUIRE(m->mapped == 0, "everything was unmapped");
    for (int i = 0; i < NAMES_MAX; i++)
        if (m->names[i].of) content_drop(m->names[i].of);
    pthread_mutex_destroy(&m->mu);
    free(m);
}

vs_store *memory_store_new(void) {
    memory_store *m = calloc(1, sizeof *m);
    REQUIRE(m, "memory");
    pthread_mutex_init(&m->mu, NULL);
    m->clock_ns = UINT64_C(1600000000000000000);
    m->base = (vs_store){m_open, m_close, m_size, m_read, m_read_parts, m_will_need, m_files_max, m_write, m_sync, m_sync, m_write_back, m_truncate,
                         m_zero, m_rename, m_remove, m_sync_dir, m_list, m_map, m_unmap, m_now_ns, m_entropy, .destroy = m_destroy};
    return &m->base;
}

void memory_store_put(vs_store *s, const char *path, const void *bytes, size_t size_bytes) {
    memory_store *m = lock(s);
    name_remove(m, path);
    content *c = name_make(m, path);
    content_resize(c, size_bytes);
    if (size_bytes) memcpy(c->bytes, bytes, size_bytes);
    unlock(m, 0);
}

const uint8_t *memory_store_get(vs_store *s, const char *path, size_t *size_bytes) {
    memory_store *m = lock(s);
    int at = name_find(m, path);
    if (at >= 0) *size_bytes = m->names[at].of->size_bytes;
    const uint8_t *bytes = at >= 0 ? m->names[at].of->bytes : NULL;
    unlock(m, 0);
    return bytes;
}

void memory_store_copy(vs_store *to, vs_store *from) {
    memory_store *m = (memory_store *)from;
    for (int i = 0; i < NAMES_MAX; i++)
        if (m->names[i].of) memory_store_put(to, m->names[i].name, m->names[i].of->bytes, m->names[i].of->size_bytes);
}
