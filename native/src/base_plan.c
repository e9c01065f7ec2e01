/* base_plan.c: see base_plan.h. */
#include "base_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

enum { TOUCHED = 1, OLD = 2, NEW = 4 }; /* what a block has */

/* ---- walking ---- */

typedef struct walk {
    vs_base_plan *plan;
    int (*each)(void *arg, const vs_base_span *s);
    void *arg;
    vs_base_span pending; /* joined so far; count 0: none */
} walk;

static int span_flush(walk *w) {
    int r = w->pending.count && w->pending.kind != VS_BASE_NOTHING ? w->each(w->arg, &w->pending) : 0;
    w->pending.count = 0;
    return r;
}

static int span_join(walk *w, int kind, uint64_t block, uint64_t count) {
    if (count == 0) return 0;
    if (w->pending.count && w->pending.kind == kind) { /* blocks come without gaps */
        w->pending.count += count;
        return 0;
    }
    int r = span_flush(w);
    w->pending = (vs_base_span){kind, block, count};
    return r;
}

/* What was a patch goes into the image now: nobody reads it there by the index that has it. */
static int span_take(walk *w, int kind, uint64_t block, uint64_t count) {
    int r = 0;
    while (r == 0 && count && w->plan->old && (kind == VS_BASE_KEEP || kind == VS_BASE_PATCH)) {
        uint64_t patch = vs_base_next_patch(w->plan->old, block), before = patch - block < count ? patch - block : count;
        r = span_join(w, kind, block, before);
        if (r == 0 && before < count) r = span_join(w, VS_BASE_WRITE, patch, 1);
        uint64_t taken = before < count ? before + 1 : count;
        block += taken;
        count -= taken;
    }
    return r == 0 ? span_join(w, kind, block, count) : r;
}

static int flags_of(const vs_stack_run *run) {
    if (run->kind == VS_STACK_ZERO) return TOUCHED;
    if (run->kind == VS_STACK_HOLE) return 0;
    return run->base ? OLD : TOUCHED | NEW;
}

static int kind_of(int flags) {
    if (!(flags & TOUCHED)) return flags & OLD ? VS_BASE_KEEP : VS_BASE_NOTHING;
    if (flags & OLD) return VS_BASE_PATCH;
    return flags & NEW ? VS_BASE_WRITE : VS_BASE_PUNCH;
}

/* Where the volume ends in a block that the old base had more of, the rest of that block becomes zeros. */
static int end_flags(const vs_base_plan *p) {
    return p->old && vs_base_size_bytes(p->old) > p->state.size_bytes ? TOUCHED : 0;
}

/* A run, cut into whole blocks and parts of blocks; *flags is what the block that is not whole yet has. */
static int run_take(walk *w, const vs_stack_run *run, int *flags) {
    uint64_t at = run->offset_bytes, end = at + run->length_bytes, size = w->plan->state.size_bytes;
    int r = 0;
    while (r == 0 && at < end) {
        uint64_t block = at / VS_BLOCK_BYTES, whole = at % VS_BLOCK_BYTES ? 0 : (end - at) / VS_BLOCK_BYTES;
        if (whole) {
            r = span_take(w, kind_of(flags_of(run)), block, whole);
            at += whole * VS_BLOCK_BYTES;
            continue;
        }
        uint64_t block_end = (block + 1) * VS_BLOCK_BYTES;
        at = end < block_end ? end : block_end;
        *flags |= flags_of(run);
        if (at < block_end && at == size) *flags |= end_flags(w->plan);
        if (at < block_end && at != size) break;
        r = span_take(w, kind_of(*flags), block, 1);
        *flags = 0;
    }
    return r;
}

/* run_each, which may be NULL, gets the runs themselves. */
static int walk_blocks(vs_base_plan *p, walk *w, int (*run_each)(vs_base_plan *p, const vs_stack_run *run)) {
    vs_cursor c;
    vs_stack_run run;
    int flags = 0, r = vs_cursor_init(&c, &p->over->stack);
    if (r < 0) return r;
    for (uint64_t at = 0; r == 0 && at < p->state.size_bytes; at += run.length_bytes) {
        vs_stack_run_at(&c, at, p->state.size_bytes, &run);
        if (run_each) r = run_each(p, &run);
        if (r == 0) r = run_take(w, &run, &flags);
    }
    vs_cursor_end(&c);
    return r == 0 ? span_flush(w) : r;
}

int vs_base_plan_walk(vs_base_plan *p, int (*each)(void *arg, const vs_base_span *s), void *arg) {
    walk w = {.plan = p, .each = each, .arg = arg};
    return walk_blocks(p, &w, NULL);
}

/* ---- the plan ---- */

static int row_flush(vs_base_plan *p) {
    uint64_t row[VS_MAP_COLUMNS] = {p->row_start, p->row_end - p->row_start, 0, p->row_start / VS_BLOCK_BYTES + 1};
    if (row[1] == 0) return 0;
    p->data_bytes += row[1];
    p->row_start = p->row_end;
    return vs_packed_append(p->map, row);
}

static int plan_run(vs_base_plan *p, const vs_stack_run *run) {
    if (run->kind != VS_STACK_DATA) return 0;
    int r = run->offset_bytes == p->row_end ? 0 : row_flush(p);
    if (p->row_start == p->row_end) p->row_start = run->offset_bytes;
    p->row_end = run->offset_bytes + run->length_bytes;
    return r;
}

/* Pages of the index that checksums of blocks [block, block + count) make. Blocks ascend over the calls. */
static uint64_t pages_new(uint64_t block, uint64_t count, uint64_t *pages_end) {
    uint64_t first = block / VS_BASE_PAGE_CRCS, end = (block + count - 1) / VS_BASE_PAGE_CRCS + 1;
    if (first < *pages_end) first = *pages_end;
    if (end <= first) return 0;
    *pages_end = end;
    return end - first;
}

static int plan_span(void *arg, const vs_base_span *s) {
    vs_base_plan *p = arg;
    uint64_t bytes = s->count * VS_BLOCK_BYTES;
    if (s->kind == VS_BASE_PUNCH) return 0;
    p->data_blocks += s->count;
    p->crc_pages += pages_new(s->block, s->count, &p->crc_pages_end);
    if (s->kind == VS_BASE_WRITE) p->facts.copied_bytes += bytes;
    if (s->kind != VS_BASE_PATCH) return 0;
    p->facts.patched_bytes += bytes;
    if (vs_room(&p->patches, &p->patch_room, p->patch_count, s->count, sizeof *p->patches) < 0) return -ENOMEM;
    for (uint64_t i = 0; i < s->count; i++) p->patches[p->patch_count++] = s->block + i;
    return 0;
}

/* The blocks of an index: its header, its pages of checksums, and what stands behind them. The last of those pages may be where the map begins. */
static uint64_t index_blocks(uint64_t size_bytes, uint64_t crc_pages, uint64_t crc_pages_end, uint64_t list_end, uint64_t patches) {
    uint64_t map_page = vs_base_crc_at(vs_base_blocks_of(size_bytes)) / VS_BLOCK_BYTES;
    int shared = crc_pages && crc_pages_end == map_page; /* page i of checksums is block i + 1 of the file */
    return 1 + crc_pages - (uint64_t)shared + vs_base_blocks_of(list_end) - map_page + patches;
}

static uint64_t bytes_before(const vs_base *old) {
    const vs_packed *map = vs_base_map(old);
    uint64_t blocks = 0, blocks_end = 0, pages = 0, pages_end = 0, patches = 0, row[VS_MAP_COLUMNS];
    for (uint64_t i = 0; i < map->rows; i++) {
        vs_packed_row(map, i, row);
        uint64_t first = row[0] / VS_BLOCK_BYTES, end = vs_base_blocks_of(row[0] + row[1]);
        if (first < blocks_end) first = blocks_end;
        if (end <= first) continue;
        blocks += end - first;
        pages += pages_new(first, end - first, &pages_end);
        blocks_end = end;
    }
    for (uint64_t at = 0; (at = vs_base_next_patch(old, at)) != UINT64_MAX; at++) patches++;
    uint64_t list_end = vs_base_index_bytes(old) - patches * VS_BLOCK_BYTES;
    return (blocks + index_blocks(vs_base_size_bytes(old), pages, pages_end, list_end, patches)) * VS_BLOCK_BYTES;
}

int vs_base_plan_make(vs_base_plan *p) {
    walk w = {.plan = p, .each = plan_span, .arg = p};
    uint8_t *map;
    int r = vs_packed_writer_new(VS_MAP_COLUMNS, &p->map);
    if (r == 0) r = walk_blocks(p, &w, plan_run);
    if (r == 0) r = row_flush(p);
    if (r == 0) r = vs_packed_finish(p->map, &map, &p->index.map_bytes);
    if (r < 0) return r;
    p->index = (vs_base_index){.volume = p->volume, .size_bytes = p->state.size_bytes, .data_bytes = p->data_bytes, .seqno = p->seqno,
                               .last_write_seqno = p->state.last_write_seqno, .last_write_ns = p->state.last_write_ns, .map = map,
                               .map_bytes = p->index.map_bytes, .patches = p->patches, .patch_count = p->patch_count};
    memcpy(p->index.uuid, p->journal->options.uuid, sizeof p->index.uuid);
    uint64_t map_at = (vs_base_crc_at(vs_base_blocks_of(p->index.size_bytes)) + 7) & ~(uint64_t)7;
    uint64_t index = index_blocks(p->index.size_bytes, p->crc_pages, p->crc_pages_end, map_at + p->index.map_bytes + p->patch_count * 8, p->patch_count);
    p->facts.bytes_before = p->old ? bytes_before(p->old) : 0;
    p->facts.bytes_after = (p->data_blocks + index) * VS_BLOCK_BYTES;
    return 0;
}

void vs_base_plan_end(vs_base_plan *p) {
    if (p->over) vs_view_close(p->over);
    vs_base_unref(p->old);
    vs_packed_writer_free(p->map);
    free((void *)(uintptr_t)p->index.map);
    free(p->patches);
}
