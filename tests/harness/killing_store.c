/* killing_store.c: see killing_store.h. */
#include "killing_store.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES_KNOWN = 4096, PARTS_MAX = 64 };

typedef struct killing_store {
    vs_store base; /* first: a vs_store * of ours is a killing_store * */
    vs_store *below;
    killing_orders orders;
    _Atomic(const char *) kinds[FILES_KNOWN]; /* of what is open, by file */
} killing_store;

static killing_store *mine(vs_store *s) {
    return (killing_store *)s;
}

/* ---- points ---- */

static int ends_with(const char *path, const char *end) {
    size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

static const char *kind_of_path(const char *path) {
    static const char *const kinds[][2] = {{"segment.new", "new segment"}, {"compact.new", "compacted segment"}, {"generation", "generation"}, {"leases", "leases"}, {".seg", "segment"}, {".torn", "torn tail"}, {".map", "map"},
                                           {".idx", "base index"}, {".img", "image"}, {"journal", "journal directory"},
                                           {"maps", "map directory"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (ends_with(path, kinds[i][0])) return kinds[i][1];
    return "other";
}

static const char *kind_of_file(vs_store *s, int file) {
    const char *kind = file >= 0 && file < FILES_KNOWN ? atomic_load(&mine(s)->kinds[file]) : NULL;
    return kind ? kind : "primary";
}

static _Noreturn void strike(const killing_store *k, const char *call, const char *kind, const char *when) {
    snprintf(k->orders.point, 64, "%s %s %s", when, call, kind);
    kill(getpid(), SIGKILL);
    for (;;) pause(); /* it strikes any of our threads */
}

/* Is it this call that shall kill? The others stop when it has come. */
static int called(vs_store *s) {
    const killing_orders *o = &mine(s)->orders;
    uint64_t number = atomic_fetch_add(o->calls, 1) + 1;
    while (o->at && number > o->at) pause();
    return number == o->at;
}

static int before(vs_store *s, const char *call, const char *kind) {
    int due = called(s);
    if (due && mine(s)->orders.when != KILL_AFTER) strike(mine(s), call, kind, "before");
    return due;
}

static int after(vs_store *s, int due, const char *call, const char *kind, int r) {
    if (due) strike(mine(s), call, kind, "after");
    return r;
}

/* ---- calls that change something ---- */

static int killing_open(vs_store *s, const char *path, uint32_t flags) {
    int due = flags & VS_OPEN_CREATE ? before(s, "create", kind_of_path(path)) : 0;
    int file = mine(s)->below->open(mine(s)->below, path, flags);
    if (file >= 0 && file < FILES_KNOWN) atomic_store(&mine(s)->kinds[file], kind_of_path(path));
    return after(s, due, "create", kind_of_path(path), file);
}

static int killing_close(vs_store *s, int file) {
    if (file >= 0 && file < FILES_KNOWN) atomic_store(&mine(s)->kinds[file], NULL);
    return mine(s)->below->close(mine(s)->below, file);
}

/* The first part of a write, of any length, and no more. */
static void write_some(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    struct iovec some[PARTS_MAX];
    uint64_t length = 0;
    for (int i = 0; i < part_count; i++) length += parts[i].iov_len;
    uint64_t left = length ? mine(s)->orders.seed % length : 0;
    int count = 0;
    for (int i = 0; i < part_count && count < PARTS_MAX && left > 0; i++) {
        size_t n = parts[i].iov_len < left ? parts[i].iov_len : (size_t)left;
        some[count++] = (struct iovec){parts[i].iov_base, n};
        left -= n;
    }
    mine(s)->below->write(mine(s)->below, file, offset_bytes, some, count);
}

static int killing_write(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    const char *kind = kind_of_file(s, file);
    int due = called(s);
    if (due && mine(s)->orders.when == KILL_BEFORE) strike(mine(s), "write", kind, "before");
    if (due && mine(s)->orders.when == KILL_MIDDLE) {
        write_some(s, file, offset_bytes, parts, part_count);
        strike(mine(s), "write", kind, "in");
    }
    return after(s, due, "write", kind, mine(s)->below->write(mine(s)->below, file, offset_bytes, parts, part_count));
}

static int killing_sync(vs_store *s, int file) {
    const char *kind = kind_of_file(s, file);
    int due = before(s, "sync", kind);
    return after(s, due, "sync", kind, mine(s)->below->sync(mine(s)->below, file));
}

static int killing_truncate(vs_store *s, int file, uint64_t size_bytes) {
    const char *kind = kind_of_file(s, file);
    int due = before(s, "truncate", kind);
    return after(s, due, "truncate", kind, mine(s)->below->truncate(mine(s)->below, file, size_bytes));
}

static int killing_zero(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    const char *kind = kind_of_file(s, file);
    int due = before(s, "zero", kind);
    return after(s, due, "zero", kind, mine(s)->below->zero(mine(s)->below, file, offset_bytes, length_bytes));
}

static int killing_rename(vs_store *s, const char *from, const char *to) {
    int due = before(s, "rename to", kind_of_path(to));
    return after(s, due, "rename to", kind_of_path(to), mine(s)->below->rename(mine(s)->below, from, to));
}

static int killing_remove(vs_store *s, const char *path) {
    int due = before(s, "remove", kind_of_path(path));
    return after(s, due, "remove", kind_of_path(path), mine(s)->below->remove(mine(s)->below, path));
}

static int killing_sync_dir(vs_store *s, const char *path) {
    int due = before(s, "sync", kind_of_path(path));
    return after(s, due, "sync", kind_of_path(path), mine(s)->below->sync_dir(mine(s)->below, path));
}

/* ---- calls that change nothing ---- */

static int64_t pass_size(vs_store *s, int file) {
    return mine(s)->below->size(mine(s)->below, file);
}

static int64_t pass_read(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    return mine(s)->below->read(mine(s)->below, file, offset_bytes, buf, length_bytes);
}

static int64_t pass_read_parts(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count, uint32_t flags) {
    return mine(s)->below->read_parts(mine(s)->below, file, offset_bytes, parts, part_count, flags);
}

static void pass_will_need(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    mine(s)->below->will_need(mine(s)->below, file, offset_bytes, length_bytes);
}

static int pass_files_max(vs_store *s) {
    return mine(s)->below->files_max(mine(s)->below);
}

static int pass_forget(vs_store *s, int file) {
    return mine(s)->below->forget(mine(s)->below, file);
}

static void pass_write_back(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    mine(s)->below->write_back(mine(s)->below, file, offset_bytes, length_bytes);
}

static int pass_list(vs_store *s, const char *path, vs_list_fn each, void *arg) {
    return mine(s)->below->list(mine(s)->below, path, each, arg);
}

static int pass_map(vs_store *s, int file, uint64_t size_bytes, const void **out) {
    return mine(s)->below->map(mine(s)->below, file, size_bytes, out);
}

static void pass_unmap(vs_store *s, const void *base, uint64_t size_bytes) {
    mine(s)->below->unmap(mine(s)->below, base, size_bytes);
}

static uint64_t pass_now_ns(vs_store *s) {
    return mine(s)->below->now_ns(mine(s)->below);
}

static int pass_entropy(vs_store *s, void *buf, size_t length_bytes) {
    return mine(s)->below->entropy(mine(s)->below, buf, length_bytes);
}

static int pass_lock(vs_store *s, int file, uint64_t byte) {
    return mine(s)->below->lock(mine(s)->below, file, byte);
}

static int pass_unlock(vs_store *s, int file, uint64_t byte) {
    return mine(s)->below->unlock(mine(s)->below, file, byte);
}

static int pass_locked(vs_store *s, int file, uint64_t from, uint64_t end) {
    return mine(s)->below->locked(mine(s)->below, file, from, end);
}

static void killing_destroy(vs_store *s) {
    free(s);
}

static const vs_store killing_functions = {
    .open = killing_open,
    .close = killing_close,
    .size = pass_size,
    .read = pass_read,
    .read_parts = pass_read_parts,
    .will_need = pass_will_need,
    .files_max = pass_files_max,
    .write = killing_write,
    .sync = killing_sync,
    .forget = pass_forget,
    .write_back = pass_write_back,
    .truncate = killing_truncate,
    .zero = killing_zero,
    .rename = killing_rename,
    .remove = killing_remove,
    .sync_dir = killing_sync_dir,
    .list = pass_list,
    .map = pass_map,
    .unmap = pass_unmap,
    .now_ns = pass_now_ns,
    .entropy = pass_entropy,
    .lock = pass_lock,
    .unlock = pass_unlock,
    .locked = pass_locked,
    .destroy = killing_destroy,
};

int killing_store_new(vs_store *below, const killing_orders *orders, vs_store **out) {
    killing_store *k = calloc(1, sizeof *k);
    if (!k) return -ENOMEM;
    k->base = killing_functions;
    k->below = below;
    k->orders = *orders;
    *out = &k->base;
    return 0;
}
