/* kept_ground.h: a store whose calls can be counted, failed and made the last thing that a process does. */
#ifndef VS_TESTS_KEPT_GROUND_H
#define VS_TESTS_KEPT_GROUND_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "journal_ground.h"

static vs_store kept_below; /* the functions of the store as it was */
static atomic_long kept_calls_left = -1;

/* The process dies before the call that it has no more left for. */
static inline void kept_step(void) {
    if (atomic_load(&kept_calls_left) < 0) return;
    if (atomic_fetch_sub(&kept_calls_left, 1) == 0) raise(SIGKILL);
}

static inline int kept_write(vs_store *s, int file, uint64_t at, const struct iovec *parts, int count) {
    kept_step();
    return kept_below.write(s, file, at, parts, count);
}

static inline int kept_sync(vs_store *s, int file) {
    kept_step();
    return kept_below.sync(s, file);
}

static inline int kept_truncate(vs_store *s, int file, uint64_t size_bytes) {
    kept_step();
    return kept_below.truncate(s, file, size_bytes);
}

static inline int kept_rename(vs_store *s, const char *from, const char *to) {
    kept_step();
    return kept_below.rename(s, from, to);
}

static inline int kept_sync_dir(vs_store *s, const char *path) {
    kept_step();
    return kept_below.sync_dir(s, path);
}

static inline vs_store *kept_store(void) {
    vs_store *s = ground_make();
    kept_below = *s;
    s->write = kept_write;
    s->sync = kept_sync;
    s->truncate = kept_truncate;
    s->rename = kept_rename;
    s->sync_dir = kept_sync_dir;
    return s;
}

static inline int kept_open(vs_store *s, vs_keep *keep, uint64_t segment_bytes, uint64_t batch_bytes, vs_journal **out) {
    vs_journal_options o = {.owner = 1, .segment_bytes = segment_bytes, .batch_bytes = batch_bytes, .keep = keep};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    return vs_journal_open(s, &o, out);
}

static inline vs_keep *kept_map(int fd) {
    vs_keep *k;
    CHECK_EQ(vs_keep_open(fd, &k), 0);
    return k;
}

/* Run body(arg) in a process of its own, which it does not return from but by dying of SIGKILL, or with status 0. 1: it was killed. */
static inline int kept_child(void (*body)(void *), void *arg) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body(arg);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    int killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    CHECK(killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return killed;
}

#endif
