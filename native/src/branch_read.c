/* branch_read.c: bytes of a branch, and of what kind they are.
 *
 * A read looks up where its blocks lie, and reads them without a lock. Slots of the last layer may be given to other blocks meanwhile, but only after a
 * sync, which is counted first (`reuse`): a read that finds the count changed is done again, at last with the map locked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "branch_internal.h"
#include "codec.h"
#include "format.h"
#include "status.h"

enum { PIECES_MAX = 64, PLAN_BLOCKS_MAX = 512, TRIES = 3, CHECK_BLOCKS = 1 << 12 };

typedef enum piece_kind { BELOW, ZEROS, DATA } piece_kind;

typedef struct piece {
    piece_kind kind;
    const vs_branch_layer *layer;
    uint64_t first, count; /* blocks of the volume */
    uint64_t slot;
    int crcs; /* DATA: index in the plan's */
} piece;

typedef struct plan {
    int count, crc_count;
    uint64_t end; /* block: so far it goes */
    uint64_t reuse;
    piece pieces[PIECES_MAX];
    uint32_t crcs[PLAN_BLOCKS_MAX];
} plan;

/* ---- where blocks lie ---- */

/* mu held. What the layers [from, layer_count) hold at a block, as far as one answer goes, at most up to end. */
static piece piece_at(const vs_branch_volume_state *v, int from, uint64_t block, uint64_t end) {
    uint64_t at = block * VS_BLOCK_BYTES, limit = end * VS_BLOCK_BYTES;
    for (int i = v->layer_count - 1; i >= from; i--) {
        const vs_branch_layer *l = v->layers[i];
        vs_extent e;
        if (!vs_extent_map_find(l->map, at, &e)) continue;
        if (e.offset_bytes > at) {
            if (e.offset_bytes < limit) limit = e.offset_bytes;
            continue;
        }
        if (e.offset_bytes + e.length_bytes < limit) limit = e.offset_bytes + e.length_bytes;
        uint64_t slot = e.block ? e.block + (block - e.offset_bytes / VS_BLOCK_BYTES) : 0;
        return (piece){.kind = slot ? DATA : ZEROS, .layer = l, .first = block, .count = limit / VS_BLOCK_BYTES - block, .slot = slot};
    }
    return (piece){.kind = BELOW, .first = block, .count = limit / VS_BLOCK_BYTES - block};
}

/* mu held. */
static void plan_fill(const vs_branch_volume_state *v, plan *p, uint64_t first, uint64_t end) {
    p->count = p->crc_count = 0;
    p->reuse = v->reuse;
    for (p->end = first; p->end < end && p->count < PIECES_MAX && p->crc_count < PLAN_BLOCKS_MAX;) {
        piece *at = &p->pieces[p->count++];
        *at = piece_at(v, 0, p->end, end);
        if (at->kind == DATA) {
            if (at->count > (uint64_t)(PLAN_BLOCKS_MAX - p->crc_count)) at->count = (uint64_t)(PLAN_BLOCKS_MAX - p->crc_count);
            at->crcs = p->crc_count;
            memcpy(p->crcs + p->crc_count, at->layer->crcs + (at->slot - 1), at->count * sizeof *p->crcs);
            p->crc_count += (int)at->count;
        }
        p->end += at->count;
    }
}

/* ---- bytes ---- */

static int below_read(const vs_branch_volume_state *v, const piece *p, uint8_t *to) {
    uint64_t at = p->first * VS_BLOCK_BYTES, length = p->count * VS_BLOCK_BYTES;
    int64_t n = v->below ? vs_view_read(v->below, at, to, length) : 0;
    if (n < 0) return (int)n;
    memset(to + n, 0, length - (uint64_t)n);
    return 0;
}

/* The blocks at a slot, compared with their CRCs. */
static int slots_read(const vs_branch_layer *l, uint64_t block, uint64_t slot, uint64_t count, const uint32_t *crcs, uint8_t *to) {
    vs_store *s = l->log.store;
    int64_t n = s->read(s, l->data, (slot - 1) * VS_BLOCK_BYTES, to, count * VS_BLOCK_BYTES);
    if (n < 0 && count == 1) return vs_branch_layer_fault(l, block, slot, "a read error");
    for (uint64_t i = 0; n < 0 && i < count; i++) { /* which one? */
        int r = slots_read(l, block + i, slot + i, 1, crcs + i, to + i * VS_BLOCK_BYTES);
        if (r < 0) return r;
    }
    for (uint64_t i = 0; n >= 0 && i < count; i++) {
        if ((uint64_t)n < (i + 1) * VS_BLOCK_BYTES) return vs_branch_layer_fault(l, block + i, slot + i, "the file ends");
        if (vs_crc32c(to + i * VS_BLOCK_BYTES, VS_BLOCK_BYTES) != crcs[i])
            return vs_branch_layer_fault(l, block + i, slot + i, "a checksum that does not match");
    }
    return 0;
}

static int plan_read(const vs_branch_volume_state *v, const plan *p, uint64_t first, uint8_t *buf) {
    int r = 0;
    for (int i = 0; r == 0 && i < p->count; i++) {
        const piece *at = &p->pieces[i];
        uint8_t *to = buf + (at->first - first) * VS_BLOCK_BYTES;
        if (at->kind == ZEROS) memset(to, 0, at->count * VS_BLOCK_BYTES);
        else r = at->kind == BELOW ? below_read(v, at, to) : slots_read(at->layer, at->first, at->slot, at->count, p->crcs + at->crcs, to);
    }
    return r;
}

/* As much of [first, end) as one plan has room for: up to p->end. */
static int planned_read(vs_branch_volume_state *v, plan *p, uint64_t first, uint64_t end, uint8_t *buf) {
    for (int i = 0; i < TRIES; i++) {
        pthread_mutex_lock(&v->mu);
        plan_fill(v, p, first, end);
        pthread_mutex_unlock(&v->mu);
        int r = plan_read(v, p, first, buf);
        if (v->reuse == p->reuse) return r;
    }
    pthread_mutex_lock(&v->mu);
    plan_fill(v, p, first, end);
    int r = plan_read(v, p, first, buf);
    pthread_mutex_unlock(&v->mu);
    return r;
}

int vs_branch_blocks_read(vs_branch_volume_state *v, uint64_t first, uint64_t count, uint8_t *buf) {
    plan p;
    uint64_t end = first + count;
    int r = 0;
    for (uint64_t at = first; r == 0 && at < end; at = p.end) r = planned_read(v, &p, at, end, buf + (at - first) * VS_BLOCK_BYTES);
    return r;
}

/* A part of one block. */
static int edge_read(vs_branch_volume_state *v, uint64_t from, uint64_t to, uint8_t *buf) {
    uint8_t block[VS_BLOCK_BYTES];
    int r = vs_branch_blocks_read(v, from / VS_BLOCK_BYTES, 1, block);
    if (r == 0) memcpy(buf, block + from % VS_BLOCK_BYTES, to - from);
    return r;
}

int64_t vs_branch_volume_read(vs_branch_volume_state *v, uint64_t offset_bytes, void *buf, uint64_t length_bytes) {
    if (offset_bytes >= v->size_bytes) return 0;
    if (length_bytes > v->size_bytes - offset_bytes) length_bytes = v->size_bytes - offset_bytes;
    uint8_t *to = buf;
    uint64_t at = offset_bytes, end = offset_bytes + length_bytes;
    int r = 0;
    while (r == 0 && at < end) {
        uint64_t next = (at / VS_BLOCK_BYTES + 1) * VS_BLOCK_BYTES;
        if (at % VS_BLOCK_BYTES || next > end) {
            if (next > end) next = end;
            r = edge_read(v, at, next, to + (at - offset_bytes));
        } else {
            next = end / VS_BLOCK_BYTES * VS_BLOCK_BYTES;
            r = vs_branch_blocks_read(v, at / VS_BLOCK_BYTES, (next - at) / VS_BLOCK_BYTES, to + (at - offset_bytes));
        }
        at = next;
    }
    return r < 0 ? r : (int64_t)length_bytes;
}

/* ---- kinds ---- */

static uint64_t blocks_of(const vs_branch_volume_state *v) {
    return v->size_bytes / VS_BLOCK_BYTES + (v->size_bytes % VS_BLOCK_BYTES != 0);
}

static piece piece_locked(vs_branch_volume_state *v, uint64_t block) {
    pthread_mutex_lock(&v->mu);
    piece p = piece_at(v, 0, block, blocks_of(v));
    pthread_mutex_unlock(&v->mu);
    return p;
}

/* Is there data at an offset, and up to where is it the same? */
static int kind_at(vs_branch_volume_state *v, uint64_t offset_bytes, uint64_t *end) {
    vs_run run;
    piece p = piece_locked(v, offset_bytes / VS_BLOCK_BYTES);
    *end = (p.first + p.count) * VS_BLOCK_BYTES;
    if (*end > v->size_bytes) *end = v->size_bytes;
    if (p.kind != BELOW) return p.kind == DATA;
    int r = v->below ? vs_view_run(v->below, offset_bytes, &run) : 0;
    if (r <= 0) return r;
    if (run.offset_bytes + run.length_bytes < *end) *end = run.offset_bytes + run.length_bytes;
    return run.kind == VS_RUN_DATA;
}

int64_t vs_branch_volume_seek(vs_branch_volume_state *v, uint64_t offset_bytes, int whence) {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return -EINVAL;
    if (offset_bytes >= v->size_bytes) return -ENXIO;
    for (uint64_t at = offset_bytes, end; at < v->size_bytes; at = end) {
        int data = kind_at(v, at, &end);
        if (data < 0) return data;
        if (data == (whence == SEEK_DATA)) return (int64_t)at;
    }
    return whence == SEEK_HOLE ? (int64_t)v->size_bytes : -ENXIO;
}

int vs_branch_runs(vs_branch *b, uint32_t volume, uint64_t offset_bytes, vs_run *runs, int max, uint64_t *next) {
    vs_branch_volume_state *v = vs_branch_find(b, volume);
    if (!v) return -ENOENT;
    uint64_t at = offset_bytes;
    int n = 0;
    while (at < v->size_bytes) {
        piece p = piece_locked(v, at / VS_BLOCK_BYTES);
        uint64_t end = (p.first + p.count) * VS_BLOCK_BYTES;
        int kind = p.kind == DATA ? VS_RUN_DATA : VS_RUN_ZERO;
        if (end > v->size_bytes) end = v->size_bytes;
        vs_run *last = n ? &runs[n - 1] : NULL;
        if (p.kind != BELOW && last && last->kind == kind && last->offset_bytes + last->length_bytes == at) {
            last->length_bytes += end - at;
        } else if (p.kind != BELOW) {
            if (n == max) break;
            runs[n++] = (vs_run){.offset_bytes = at, .length_bytes = end - at, .kind = kind};
        }
        at = end;
    }
    *next = at;
    return n;
}

/* ---- checks ---- */

/* mu held. The next data of a layer from a block on, at most PLAN_BLOCKS_MAX. 0: no more. */
static int layer_next(const vs_branch_layer *l, uint64_t block, plan *p) {
    vs_extent e;
    while (vs_extent_map_find(l->map, block * VS_BLOCK_BYTES, &e)) {
        uint64_t from = e.offset_bytes / VS_BLOCK_BYTES, end = from + e.length_bytes / VS_BLOCK_BYTES, skip = block > from ? block - from : 0;
        block = end;
        if (!e.block) continue;
        uint64_t count = end - from - skip < PLAN_BLOCKS_MAX ? end - from - skip : PLAN_BLOCKS_MAX;
        p->pieces[0] = (piece){.kind = DATA, .layer = l, .first = from + skip, .count = count, .slot = e.block + skip};
        memcpy(p->crcs, l->crcs + (e.block + skip - 1), count * sizeof *p->crcs);
        return 1;
    }
    return 0;
}

/* mu held. A piece of a layer is cut to what the layers from `from` on say of its first block: 0: they hide it. */
static int is_shown(const vs_branch_volume_state *v, int from, piece *at) {
    piece above = piece_at(v, from, at->first, at->first + at->count);
    at->count = above.count;
    return above.kind == BELOW;
}

typedef enum checked { NO_MORE, HIDDEN, SHOWN } checked;

/* The next piece of any layer. */
static checked checked_next(vs_branch_volume_state *v, vs_branch_cursor *c, plan *p) {
    checked found = NO_MORE;
    pthread_mutex_lock(&v->mu);
    p->reuse = v->reuse;
    while (!found && (int)c->layer < v->layer_count) {
        if (!layer_next(v->layers[c->layer], c->block, p)) *c = (vs_branch_cursor){.layer = c->layer + 1};
        else found = is_shown(v, (int)c->layer + 1, &p->pieces[0]) ? SHOWN : HIDDEN;
    }
    pthread_mutex_unlock(&v->mu);
    return found;
}

/* The first block of a piece that does not match, with the fault set; count: all do. */
static uint64_t piece_check(const plan *p, uint8_t *block) {
    const piece *at = &p->pieces[0];
    for (uint64_t i = 0; i < at->count; i++)
        if (slots_read(at->layer, at->first + i, at->slot + i, 1, p->crcs + i, block) < 0) return i;
    return at->count;
}

int vs_branch_check(vs_branch *b, uint32_t volume, vs_branch_cursor *c, vs_fault *fault) {
    vs_branch_volume_state *v = vs_branch_find(b, volume);
    plan p;
    uint8_t block[VS_BLOCK_BYTES];
    if (!v) return -ENOENT;
    checked found;
    for (uint64_t looked = 0; (found = checked_next(v, c, &p)) != NO_MORE;) {
        const piece *at = &p.pieces[0];
        uint64_t sound = found == SHOWN ? piece_check(&p, block) : at->count;
        c->block = at->first + sound;
        if (sound < at->count) {
            if (v->reuse != p.reuse) continue; /* its slot may be another's by now: look again, at it alone */
            c->block++;
            vs_fault_last(fault);
            return 1;
        }
        looked += found == SHOWN ? sound : 1;
        if (looked >= CHECK_BLOCKS) return 2;
    }
    return 0;
}
