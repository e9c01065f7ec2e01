/* branch_ground.h: a journal with one volume at one point, in the program's directory, and branches on it. */
#ifndef VS_TESTS_BRANCH_GROUND_H
#define VS_TESTS_BRANCH_GROUND_H

#include "branch.h"
#include "journal_ground.h"

enum { VOLUME = 1 };

typedef struct branch_ground {
    vs_store *store;
    vs_journal *journal;
    uint64_t size_bytes, seqno;
} branch_ground;

static inline void layer_directory(uint32_t layer) {
    char path[64];
    snprintf(path, sizeof path, "branches/layers/%08" PRIx32, layer);
    CHECK_EQ(mkdir(path, 0700), 0);
}

/* bytes: what the volume holds at the point, from its beginning. */
static inline void branch_ground_begin(branch_ground *g, uint64_t size_bytes, const void *bytes, size_t length_bytes) {
    g->store = ground_make();
    g->journal = ground_open(g->store, 1, 0, 0);
    g->size_bytes = size_bytes;
    CHECK_EQ(ground_volume(g->journal, size_bytes), VOLUME);
    for (size_t at = 0; at < length_bytes; at += VS_WRITE_MAX) {
        size_t n = length_bytes - at < VS_WRITE_MAX ? length_bytes - at : VS_WRITE_MAX;
        CHECK_EQ(vs_journal_write(g->journal, VOLUME, at, (const uint8_t *)bytes + at, n, NULL, NULL), 0);
    }
    ground_mark(g->journal, &g->seqno);
    CHECK_EQ(mkdir("branches", 0700), 0);
    CHECK_EQ(mkdir("branches/layers", 0700), 0);
}

static inline void branch_ground_end(branch_ground *g) {
    CHECK_EQ(vs_journal_close(g->journal), 0);
    vs_store_close(g->store);
}

/* 0 and *out, or what vs_branch_volume said. */
static inline int branch_ground_open(const branch_ground *g, const vs_branch_options *o, const uint32_t *layers, int count, vs_branch **out) {
    vs_view *below;
    CHECK_EQ(vs_branch_open(g->journal, o, out), 0);
    CHECK_EQ(vs_view_open(g->journal, VOLUME, g->seqno, &below), 0);
    int r = vs_branch_volume(*out, VOLUME, g->size_bytes, below, layers, count);
    if (r < 0) {
        vs_view_close(below);
        CHECK_EQ(vs_branch_close(*out), 0);
    }
    return r;
}

/* As it must be. */
static inline vs_branch *branch_ground_get(const branch_ground *g, uint64_t quota_bytes, const uint32_t *layers, int count) {
    vs_branch_options o = {.quota_bytes = quota_bytes, .writable = 1};
    vs_branch *b;
    CHECK_EQ(branch_ground_open(g, &o, layers, count, &b), 0);
    return b;
}

#endif
