/* view_read.c: the bytes of a view, each block checked.
 *
 * A read is resolved once, with one cursor, into pieces: whole blocks that lie side by side in one file and in the volume, or a part of one
 * block. Pieces that follow each other closely in one file make a group, which is one call to the store:
 *
 *   volume    [ a0 ][ a1 ][ b0 ][ a3 ]       a: three pieces of one segment, b: of another one
 *   group a   [ a0 ][ a1 ] gap  [ a3 ]       one readv; what is in the gap is thrown away
 *   group b   [ b0 ]
 *
 * A large read asks the cache first. What is not there is asked for all at once before anything is waited for, so that a
 * read of scattered extents costs a cold disk the time of a few blocks and not of all. Nothing is asked for beyond the read: what comes
 * next is being read already, by the kernel's own read-ahead of the mount (measured: no gain).
 *
 * Wherever the call for a group does not give all of it, its blocks are read one by one: the fault names the block that fails, and a gap that
 * cannot be read harms nobody. Everything is on the stack: 120 KiB, of which a small read touches little.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "view_internal.h"

enum {
    PIECES_MAX = 256,     /* a round; a read of 1 MiB in whole blocks is one */
    RUN_PIECES = 3,       /* of one run: the end of a block, whole blocks, the beginning of a block */
    PARTIAL_MAX = 16,     /* blocks of which only a part is wanted, a round */
    PARTS_MAX = 256,      /* a call */
    GAP_BLOCKS_MAX = 4,   /* copying so many costs less than another call */
    RECENT_GROUPS = 8,    /* in which a piece looks for its neighbour */
    PROBE_BYTES = 65536,  /* reads from this size on ask the cache first */
};

typedef struct piece {
    uint64_t block;        /* in the file */
    uint64_t offset_bytes; /* of its first byte in the volume */
    uint32_t count;        /* of blocks */
    uint32_t length;       /* bytes that are wanted, where it is a part of one block */
    uint8_t *partial;      /* where that block goes; NULL: whole blocks, which go straight to the caller */
    int next;              /* of the group, -1: the last */
} piece;

typedef struct group {
    vs_segment *segment; /* NULL: the base image */
    vs_crcs crcs;
    uint64_t block, end_block;
    int first, last; /* pieces */
    int parts;
} group;

/* One round of a read. */
typedef struct gather {
    vs_view *view;
    uint64_t start_bytes; /* in the volume, of buf */
    uint8_t *buf;         /* the caller's */
    int piece_count, group_count, partial_count;
    piece pieces[PIECES_MAX];
    group groups[PIECES_MAX];
    struct iovec parts[PARTS_MAX];
    _Alignas(64) uint8_t partial[PARTIAL_MAX][VS_BLOCK_BYTES];
    uint8_t gap[GAP_BLOCKS_MAX * VS_BLOCK_BYTES];
} gather;

static void gather_clear(gather *g) {
    g->piece_count = g->group_count = g->partial_count = 0;
}

static uint8_t *piece_at(const gather *g, const piece *p) {
    return p->partial ? p->partial : g->buf + (p->offset_bytes - g->start_bytes);
}

vs_segment *vs_view_segment(const vs_view *v, const vs_stack_run *run) {
    return run->ordinal < v->ordinals ? vs_directory_of_ordinal(v->directory, run->ordinal) : NULL;
}

/* ---- what is to be read ---- */

/* The group that a piece at block of the segment continues; NULL: none. */
static group *group_near(gather *g, const vs_segment *segment, uint64_t block) {
    int oldest = g->group_count > RECENT_GROUPS ? g->group_count - RECENT_GROUPS : 0;
    for (int i = g->group_count - 1; i >= oldest; i--) {
        group *near = &g->groups[i];
        if (near->segment == segment && block >= near->end_block && block - near->end_block <= GAP_BLOCKS_MAX && near->parts + 2 <= PARTS_MAX)
            return near;
    }
    return NULL;
}

static int group_begin(gather *g, vs_segment *segment, uint64_t block, group **out) {
    group *fresh = &g->groups[g->group_count];
    *fresh = (group){.segment = segment, .block = block, .end_block = block, .first = -1, .last = -1};
    int r = segment ? vs_segment_crcs(segment, segment == g->view->pinned, &fresh->crcs) : 0;
    if (r < 0) return r;
    g->group_count++;
    *out = fresh;
    return 0;
}

static int piece_add(gather *g, vs_segment *segment, const piece *p) {
    group *to = group_near(g, segment, p->block);
    int r = to ? 0 : group_begin(g, segment, p->block, &to);
    if (r < 0) return r;
    int index = g->piece_count++;
    g->pieces[index] = *p;
    if (to->last >= 0) g->pieces[to->last].next = index;
    else to->first = index;
    to->last = index;
    to->parts += p->block > to->end_block ? 2 : 1;
    to->end_block = p->block + p->count;
    vs_crcs_prefetch(&to->crcs, p->block);
    return 0;
}

static int whole_add(gather *g, vs_segment *segment, uint64_t block, uint64_t offset_bytes, uint64_t end) {
    piece p = {.block = block, .offset_bytes = offset_bytes, .count = (uint32_t)((end - offset_bytes) / VS_BLOCK_BYTES), .next = -1};
    return piece_add(g, segment, &p);
}

static int partial_add(gather *g, vs_segment *segment, uint64_t block, uint64_t offset_bytes, uint64_t end) {
    piece p = {.block = block, .offset_bytes = offset_bytes, .count = 1, .length = (uint32_t)(end - offset_bytes), .next = -1};
    p.partial = g->partial[g->partial_count++];
    return piece_add(g, segment, &p);
}

static int run_add(gather *g, const vs_stack_run *run) {
    vs_segment *segment = run->base ? NULL : vs_view_segment(g->view, run);
    uint64_t at = run->offset_bytes, end = at + run->length_bytes, block = run->block;
    uint64_t first_whole = (at + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES * VS_BLOCK_BYTES, last_whole = end / VS_BLOCK_BYTES * VS_BLOCK_BYTES;
    int r = run->base || segment ? 0 : -EBADMSG;
    if (r == 0 && at < first_whole) {
        uint64_t to = end < first_whole ? end : first_whole;
        r = partial_add(g, segment, block++, at, to);
        at = to;
    }
    if (r == 0 && at < last_whole) {
        r = whole_add(g, segment, block, at, last_whole);
        block += (last_whole - at) / VS_BLOCK_BYTES;
        at = last_whole;
    }
    return r == 0 && at < end ? partial_add(g, segment, block, at, end) : r;
}

static int gather_has_room(const gather *g) {
    return g->piece_count + RUN_PIECES <= PIECES_MAX && g->partial_count + RUN_PIECES <= PARTIAL_MAX;
}

/* ---- reading it ---- */

static int block_fault(const gather *g, const group *of, uint64_t block, uint64_t offset_bytes, const char *what) {
    const vs_view *v = g->view;
    uint64_t segment = of->segment ? of->segment->first_seqno : 0;
    return vs_fault_set(-EBADMSG, v->volume, v->until, segment, block * VS_BLOCK_BYTES,
                        "volume %u at @%" PRIu64 ", offset %" PRIu64 ": %s in %s, position %" PRIu64, v->volume, v->until, offset_bytes, what,
                        of->segment ? of->segment->name : "the base image", block * VS_BLOCK_BYTES);
}

/* Where the i-th block of a piece begins in the volume. */
static uint64_t block_offset(const piece *p, uint32_t i) {
    return (p->offset_bytes / VS_BLOCK_BYTES + i) * VS_BLOCK_BYTES;
}

static int file_get(const gather *g, const group *of) {
    return of->segment ? vs_segment_file_get(of->segment) : vs_base_image(g->view->base);
}

static void file_put(const group *of) {
    if (of->segment) vs_segment_file_put(of->segment);
}

/* In the base's last block what is behind its end counts as zeros: an image that was growing when the machine stopped may have anything there. */
static int matches(const vs_base *base, uint64_t block, uint8_t *bytes) {
    uint64_t size = vs_base_size_bytes(base), at = block * VS_BLOCK_BYTES;
    if (size > at && size - at < VS_BLOCK_BYTES) memset(bytes + (size - at), 0, VS_BLOCK_BYTES - (size - at));
    return vs_crc32c(bytes, VS_BLOCK_BYTES) == vs_base_crc(base, block);
}

/* A block as a base has it. 1: it matches. */
static int base_block(vs_store *store, const vs_base *base, uint64_t block, uint8_t *bytes) {
    const uint8_t *patch = vs_base_patch(base, block);
    if (patch) {
        memcpy(bytes, patch, VS_BLOCK_BYTES);
    } else {
        int64_t n = store->read(store, vs_base_image(base), block * VS_BLOCK_BYTES, bytes, VS_BLOCK_BYTES);
        if (n < 0) return 0;
        memset(bytes + n, 0, VS_BLOCK_BYTES - (size_t)n);
    }
    return matches(base, block, bytes);
}

/* A block of the base is not as the view's index says. It may have been moved since, by now to a point that is not later than the view's: what the
 * view has of it from the base is the same in every later base up to there. 1: found there. */
static int base_again(const gather *g, uint64_t block, uint8_t *bytes) {
    const vs_view *v = g->view;
    vs_base *base = vs_base_ref(v->base), *later;
    int found = 0;
    while (!found && vs_journal_base_later(v->journal, v->volume, base, &later)) {
        vs_base_unref(base);
        base = later;
        if (vs_base_seqno(base) > v->until) break;
        found = base_block(v->journal->store, base, block, bytes);
    }
    vs_base_unref(base);
    return found;
}

static int base_check(const gather *g, const piece *p) {
    uint8_t *at = piece_at(g, p);
    for (uint32_t i = 0; i < p->count; i++, at += VS_BLOCK_BYTES) {
        const uint8_t *patch = vs_base_patch(g->view->base, p->block + i);
        if (patch) memcpy(at, patch, VS_BLOCK_BYTES);
        if (!matches(g->view->base, p->block + i, at) && !base_again(g, p->block + i, at)) return (int)i;
    }
    return -1;
}

/* The first block of a piece that does not match; -1: all do. */
static int piece_damaged(const gather *g, const group *of, const piece *p) {
    if (!of->segment) return base_check(g, p);
    const uint8_t *at = piece_at(g, p);
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t want = 0;
        if (!vs_crcs_get(&of->crcs, p->block + i, &want) || vs_crc32c(at + (size_t)i * VS_BLOCK_BYTES, VS_BLOCK_BYTES) != want) return (int)i;
    }
    return -1;
}

static int piece_check(const gather *g, const group *of, const piece *p) {
    int i = piece_damaged(g, of, p);
    return i < 0 ? 0 : block_fault(g, of, p->block + (uint32_t)i, block_offset(p, (uint32_t)i), "a checksum that does not match");
}

static int group_check(const gather *g, const group *of) {
    for (int i = of->first; i >= 0; i = g->pieces[i].next) {
        const piece *p = &g->pieces[i];
        int r = piece_check(g, of, p);
        if (r < 0) return r;
        if (p->partial) memcpy(g->buf + (p->offset_bytes - g->start_bytes), p->partial + p->offset_bytes % VS_BLOCK_BYTES, p->length);
    }
    return 0;
}

/* In one call. 1: all of it is there; 0: not all. */
static int group_read(gather *g, const group *of, int file, uint32_t flags) {
    vs_store *store = g->view->journal->store;
    const piece *only = &g->pieces[of->first];
    uint64_t block = of->block;
    int n = 0;
    if (of->first == of->last && !flags) { /* what most small reads are: a plain read is the quicker call */
        size_t length = (size_t)only->count * VS_BLOCK_BYTES;
        return store->read(store, file, block * VS_BLOCK_BYTES, piece_at(g, only), length) == (int64_t)length;
    }
    for (int i = of->first; i >= 0; i = g->pieces[i].next) {
        const piece *p = &g->pieces[i];
        if (p->block > block) g->parts[n++] = (struct iovec){g->gap, (p->block - block) * VS_BLOCK_BYTES};
        g->parts[n++] = (struct iovec){piece_at(g, p), (size_t)p->count * VS_BLOCK_BYTES};
        block = p->block + p->count;
    }
    int64_t bytes = store->read_parts(store, file, of->block * VS_BLOCK_BYTES, g->parts, n, flags);
    return bytes == (int64_t)((block - of->block) * VS_BLOCK_BYTES);
}

static int block_read(const gather *g, const group *of, int file, const piece *p, uint32_t i) {
    vs_store *store = g->view->journal->store;
    uint8_t *at = piece_at(g, p) + (size_t)i * VS_BLOCK_BYTES;
    uint64_t block = p->block + i, offset_bytes = block_offset(p, i);
    if (!of->segment && vs_base_patch(g->view->base, block)) return 0; /* it is not read from here */
    int64_t n = store->read(store, file, block * VS_BLOCK_BYTES, at, VS_BLOCK_BYTES);
    if (n < 0) return block_fault(g, of, block, offset_bytes, "a read error");
    if (n < VS_BLOCK_BYTES && of->segment) return block_fault(g, of, block, offset_bytes, "the file ends");
    memset(at + n, 0, VS_BLOCK_BYTES - (size_t)n); /* a base may end before its volume does */
    return 0;
}

static int group_read_by_blocks(const gather *g, const group *of, int file) {
    for (int i = of->first; i >= 0; i = g->pieces[i].next)
        for (uint32_t k = 0; k < g->pieces[i].count; k++) {
            int r = block_read(g, of, file, &g->pieces[i], k);
            if (r < 0) return r;
        }
    return 0;
}

static int group_wait(gather *g, const group *of) {
    int file = file_get(g, of);
    if (file < 0) return file;
    int r = group_read(g, of, file, 0) ? 0 : group_read_by_blocks(g, of, file);
    file_put(of);
    return r == 0 ? group_check(g, of) : r;
}

/* 1: it was in the cache, and is right; 0: it was not, and is on its way there. */
static int group_try(gather *g, const group *of) {
    vs_store *store = g->view->journal->store;
    int file = file_get(g, of);
    if (file < 0) return file;
    int there = group_read(g, of, file, VS_READ_CACHED);
    if (!there) store->will_need(store, file, of->block * VS_BLOCK_BYTES, (of->end_block - of->block) * VS_BLOCK_BYTES);
    file_put(of);
    int r = there ? group_check(g, of) : 0;
    return r < 0 ? r : there;
}

/* First all that the cache has, then the rest. */
static int gather_try(gather *g) {
    int rest = 0;
    for (int i = 0; i < g->group_count; i++) {
        int r = group_try(g, &g->groups[i]);
        if (r < 0) return r;
        if (r == 0) g->groups[rest++] = g->groups[i];
    }
    g->group_count = rest;
    return 0;
}

static int gather_read(gather *g, uint64_t length_bytes) {
    int r = g->group_count > 1 || length_bytes >= PROBE_BYTES ? gather_try(g) : 0;
    for (int i = 0; r == 0 && i < g->group_count; i++) r = group_wait(g, &g->groups[i]);
    return r;
}

int64_t vs_view_read(vs_view *v, uint64_t offset_bytes, void *buf, uint64_t length_bytes) {
    uint64_t size = v->state.size_bytes;
    if (offset_bytes >= size) return 0;
    if (length_bytes > size - offset_bytes) length_bytes = size - offset_bytes;
    uint64_t end = offset_bytes + length_bytes;
    gather g;
    vs_cursor c;
    vs_stack_run run;
    g.view = v;
    g.start_bytes = offset_bytes;
    g.buf = buf;
    int r = vs_cursor_init(&c, &v->stack);
    for (uint64_t at = offset_bytes; r == 0 && at < end;) {
        gather_clear(&g);
        for (; r == 0 && at < end && gather_has_room(&g); at += run.length_bytes) {
            vs_stack_run_at(&c, at, end, &run);
            if (run.kind == VS_STACK_DATA) r = run_add(&g, &run);
            else memset(g.buf + (at - offset_bytes), 0, run.length_bytes);
        }
        if (r == 0) r = gather_read(&g, length_bytes);
    }
    vs_cursor_end(&c);
    return r < 0 ? r : (int64_t)length_bytes;
}
