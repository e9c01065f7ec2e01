/* branch_layer.c: the map of a layer, and what makes files of it. Opening is in branch_recovery.c.
 *
 * The log has what the map has: who changes the one from the other are vs_branch_layer_put and vs_branch_layer_rewrite.
 */
#include "branch_layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "format.h"
#include "room.h"
#include "status.h"

enum { REWRITE_BYTES = 1 << 16 };

int vs_branch_layer_damaged(const vs_branch_layer *l, int code, const char *suffix, const char *what) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_branch_path(path, &l->log, suffix);
    return vs_fault_set(code, l->log.volume, 0, 0, 0, "%s: %s", path, what);
}

int vs_branch_layer_fault(const vs_branch_layer *l, uint64_t block, uint64_t slot, const char *what) {
    char path[VS_BRANCH_PATH_BYTES];
    uint64_t at = (slot - 1) * VS_BLOCK_BYTES;
    vs_branch_path(path, &l->log, "data");
    return vs_fault_set(-EBADMSG, l->log.volume, 0, 0, at, "%s: %s, position %" PRIu64 ", which is offset %" PRIu64 " of volume %" PRIu32, path, what, at,
                        block * VS_BLOCK_BYTES, l->log.volume);
}

int vs_branch_layer_new(vs_store *s, const uint8_t *uuid, uint32_t id, uint32_t volume, uint64_t size_bytes, vs_branch_layer **out) {
    vs_branch_layer *l = calloc(1, sizeof *l);
    if (!l) return -ENOMEM;
    l->log = (vs_branch_log){.store = s, .uuid = uuid, .layer = id, .volume = volume, .size_bytes = size_bytes, .file = -1};
    l->data = -1;
    int r = vs_extent_map_new(&l->map);
    if (r < 0) {
        free(l);
        return r;
    }
    *out = l;
    return 0;
}

void vs_branch_layer_close(vs_branch_layer *l) {
    if (!l) return;
    vs_branch_log_close(&l->log);
    if (l->data >= 0) l->log.store->close(l->log.store, l->data);
    vs_extent_map_free(l->map);
    vs_branch_slots_free(&l->slots);
    free(l->crcs);
    free(l);
}

/* The data file is there, by name, before the log is: so a log without one is damage. */
static int data_make(vs_branch_layer *l) {
    char path[VS_BRANCH_PATH_BYTES], directory[VS_BRANCH_PATH_BYTES];
    vs_store *s = l->log.store;
    vs_branch_path(path, &l->log, "data");
    vs_branch_path(directory, &l->log, NULL);
    int r = s->remove(s, path);
    if (r < 0 && r != -ENOENT) return r;
    int file = s->open(s, path, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (file < 0) return file;
    r = s->sync_dir(s, directory);
    if (r < 0) s->close(s, file);
    else l->data = file;
    return r;
}

int vs_branch_layer_make(vs_branch_layer *l) {
    vs_branch_log fresh;
    int renamed = 0, r = l->data >= 0 ? 0 : data_make(l);
    if (r == 0) r = vs_branch_log_begin(&l->log, &fresh);
    return r == 0 ? vs_branch_log_replace(&l->log, &fresh, &renamed) : r;
}

/* ---- the map ---- */

static uint64_t at_of(uint64_t block) {
    return block * VS_BLOCK_BYTES;
}

/* What the map holds next in [block, end), cut to it, as blocks. 0: nothing. */
static int part_next(const vs_extent_map *m, uint64_t block, uint64_t end, uint64_t *first, uint64_t *count, uint64_t *slot) {
    vs_extent e;
    if (block >= end || !vs_extent_map_find(m, at_of(block), &e) || e.offset_bytes >= at_of(end)) return 0;
    uint64_t from = e.offset_bytes / VS_BLOCK_BYTES, to = from + e.length_bytes / VS_BLOCK_BYTES;
    *first = from > block ? from : block;
    *count = (to < end ? to : end) - *first;
    *slot = e.block ? e.block + (*first - from) : 0;
    return 1;
}

uint64_t vs_branch_layer_slots_in(const vs_branch_layer *l, uint64_t first, uint64_t count, size_t *runs) {
    uint64_t total = 0, at, n, slot, end = first + count;
    for (uint64_t block = first; part_next(l->map, block, end, &at, &n, &slot); block = at + n) {
        if (!slot) continue;
        total += n;
        ++*runs;
    }
    return total;
}

int vs_branch_layer_each(const vs_branch_layer *l, uint64_t first, uint64_t end, vs_branch_each_fn each, void *arg) {
    uint64_t at, n, slot;
    int r = 0;
    for (uint64_t block = first; r == 0 && part_next(l->map, block, end, &at, &n, &slot); block = at + n) r = each(arg, at, n, slot);
    return r;
}

int vs_branch_layer_zero_in(const vs_branch_layer *l, uint64_t first, uint64_t count) {
    uint64_t at, n, slot;
    return part_next(l->map, first, first + count, &at, &n, &slot) && at == first && n == count && slot == 0;
}

int vs_branch_layer_crc_reserve(vs_branch_layer *l, uint64_t slots) {
    return slots <= l->crc_room ? 0 : vs_room(&l->crcs, &l->crc_room, l->crc_room, slots - l->crc_room, sizeof *l->crcs);
}

void vs_branch_layer_give_up(vs_branch_layer *l, const vs_branch_record *r) {
    uint64_t at, n, slot, end = r->first + r->count;
    for (uint64_t block = r->first; part_next(l->map, block, end, &at, &n, &slot); block = at + n) {
        if (slot) vs_branch_slots_wait(&l->slots, (uint32_t)slot, (uint32_t)n, r->type == VS_BRANCH_ZERO);
    }
}

/* Of 64 bits, so that the one behind the greatest is not 0, which stands for zeros. */
static uint64_t entry_slot(const vs_branch_record *r, uint32_t i) {
    return vs_get32(r->entries + (size_t)i * VS_BRANCH_ENTRY);
}

/* Entries from i on whose slots are in a row, or that are all zeros. */
static uint32_t entries_in_a_row(const vs_branch_record *r, uint32_t i) {
    uint64_t slot = entry_slot(r, i);
    uint32_t n = 1;
    while (i + n < r->count && entry_slot(r, i + n) == (slot ? slot + n : 0)) n++;
    return n;
}

int vs_branch_layer_reserve(vs_branch_layer *l, const vs_branch_record *records, int count) {
    size_t puts = 0;
    for (int i = 0; i < count; i++) {
        const vs_branch_record *r = &records[i];
        if (r->type == VS_BRANCH_ZERO) puts++;
        for (uint32_t k = 0; r->type == VS_BRANCH_WRITE && k < r->count; k += entries_in_a_row(r, k)) puts++;
    }
    int status = vs_branch_layer_crc_reserve(l, l->slots.end);
    return status == 0 ? vs_extent_map_reserve(l->map, puts) : status;
}

static int extent_put(vs_branch_layer *l, uint64_t first, uint64_t count, uint64_t slot) {
    return vs_extent_map_put(l->map, &(vs_extent){at_of(first), at_of(count), slot});
}

/* Slots without a CRC: of a record that is of no use any more, whose part of the file is gone. */
static void crcs_put(vs_branch_layer *l, uint64_t slot, uint32_t n, const uint8_t *entries) {
    for (uint32_t k = 0; slot && k < n && slot + k <= l->crc_room; k++) l->crcs[slot - 1 + k] = vs_get32(entries + (size_t)k * VS_BRANCH_ENTRY + 4);
}

int vs_branch_layer_put(vs_branch_layer *l, const vs_branch_record *r) {
    size_t runs = 0;
    l->blocks -= vs_branch_layer_slots_in(l, r->first, r->count, &runs);
    if (r->type == VS_BRANCH_ZERO) return extent_put(l, r->first, r->count, 0);
    int status = 0;
    for (uint32_t i = 0, n; status == 0 && i < r->count; i += n) {
        uint64_t slot = entry_slot(r, i);
        n = entries_in_a_row(r, i);
        status = extent_put(l, r->first + i, n, slot);
        crcs_put(l, slot, n, r->entries + (size_t)i * VS_BRANCH_ENTRY);
        if (slot) l->blocks += n;
    }
    return status;
}

/* ---- the log anew ---- */

typedef struct rewriting {
    const vs_branch_layer *layer;
    vs_branch_log log;
    uint8_t *buf;
    size_t used;
} rewriting;

static int rewriting_flush(rewriting *w) {
    int broken, r = w->used ? vs_branch_log_append(&w->log, w->buf, w->used, w->log.seq, &broken) : 0;
    w->used = 0;
    return r;
}

static int rewriting_put(rewriting *w, vs_branch_record r) {
    int status = w->used + VS_BRANCH_RECORD_MAX > REWRITE_BYTES ? rewriting_flush(w) : 0;
    r.seq = ++w->log.seq;
    w->used += vs_branch_record_put(&w->log, &r, w->buf + w->used);
    return status;
}

static int rewriting_extent(void *arg, uint64_t first, uint64_t count, uint64_t slot) {
    rewriting *w = arg;
    int r = 0;
    uint8_t entries[VS_BRANCH_RECORD_BLOCKS * VS_BRANCH_ENTRY];
    for (uint64_t done = 0, n; r == 0 && done < count; done += n) {
        uint64_t max = slot ? VS_BRANCH_RECORD_BLOCKS : UINT32_MAX;
        n = count - done < max ? count - done : max;
        for (uint64_t i = 0; slot && i < n; i++) {
            vs_put32(entries + i * VS_BRANCH_ENTRY, (uint32_t)(slot + done + i));
            vs_put32(entries + i * VS_BRANCH_ENTRY + 4, w->layer->crcs[slot - 1 + done + i]);
        }
        r = rewriting_put(w, (vs_branch_record){.first = first + done, .count = (uint32_t)n, .type = slot ? VS_BRANCH_WRITE : VS_BRANCH_ZERO,
                                                .entries = entries});
    }
    return r;
}

static int rewriting_fill(rewriting *w) {
    int r = vs_branch_layer_each(w->layer, 0, VS_BRANCH_BLOCKS_MAX, rewriting_extent, w);
    if (r == 0) r = rewriting_put(w, (vs_branch_record){.first = w->log.seq, .type = VS_BRANCH_SYNCED});
    return r == 0 ? rewriting_flush(w) : r;
}

int vs_branch_layer_rewrite(vs_branch_layer *l, int *broken) {
    rewriting w = {.layer = l, .buf = malloc(REWRITE_BYTES)};
    *broken = 0;
    if (!w.buf) return -ENOMEM;
    int r = vs_branch_log_begin(&l->log, &w.log);
    if (r == 0 && (r = rewriting_fill(&w)) < 0) vs_branch_log_drop(&w.log);
    if (r == 0) r = vs_branch_log_replace(&l->log, &w.log, broken);
    free(w.buf);
    return r;
}
