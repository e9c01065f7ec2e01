/* kernel_plan.c: pieces of data to runs of whole blocks.
 *
 * A block of the volume can be read where it lies if one piece holds all of it. Of any other block that holds data, a
 * copy is made (composed): where pieces begin or end inside of it, and where the volume ends inside of it, as what
 * lies behind the end must read as zeros in a page that is mapped.
 */
#include "kernel_plan.h"

#include <errno.h>
#include <stdlib.h>

#include "deadline.h"
#include "format.h"
#include "room.h"

enum { RUNS_BETWEEN_LOOKS = 65536 }; /* at the clock */

/* ---- files ---- */

static size_t slot_of(const vs_kernel_plan *p, const vs_segment *g) {
    size_t i = ((uint64_t)(uintptr_t)g * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (p->table_room - 1);
    while (p->by_segment[i] && p->sources[p->by_segment[i] - 1].segment != g) i = (i + 1) & (p->table_room - 1);
    return i;
}

static int table_grow(vs_kernel_plan *p) {
    size_t room = p->table_room ? 2 * p->table_room : 64;
    uint32_t *table = calloc(room, sizeof *table);
    if (!table) return -ENOMEM;
    free(p->by_segment);
    p->by_segment = table;
    p->table_room = room;
    for (size_t i = 0; i < p->source_count; i++) p->by_segment[slot_of(p, p->sources[i].segment)] = (uint32_t)i + 1;
    return 0;
}

/* The device of the piece's file, listed when it is first met. */
static int device_of(vs_kernel_plan *p, const vs_view_piece *piece, uint32_t *device) {
    if (2 * (p->source_count + 1) > p->table_room && table_grow(p) < 0) return -ENOMEM;
    uint32_t *slot = &p->by_segment[slot_of(p, piece->segment)];
    if (!*slot) {
        if (vs_room(&p->sources, &p->source_room, p->source_count, 1, sizeof *p->sources) < 0) return -ENOMEM;
        p->sources[p->source_count++] = (vs_kernel_source){
            .segment = piece->segment,
            .base = piece->base,
            .pinned = piece->pinned,
            .name = piece->segment ? vs_kernel_segment_name(piece->segment) : vs_kernel_base_name(piece->base),
        };
        *slot = (uint32_t)p->source_count;
    }
    *device = *slot;
    return 0;
}

/* ---- runs ---- */

static int add_run(vs_kernel_plan *p, const vs_erofs_run *run) {
    vs_erofs_run *last = p->run_count ? &p->runs[p->run_count - 1] : NULL;
    if (last && last->device == run->device && last->block + last->count == run->block && last->device_block + last->count == run->device_block) {
        last->count += run->count;
        return 0;
    }
    if (p->run_count >= p->runs_max) return -E2BIG;
    if (vs_room(&p->runs, &p->run_room, p->run_count, 1, sizeof *p->runs) < 0) return -ENOMEM;
    p->runs[p->run_count++] = *run;
    return p->run_count % RUNS_BETWEEN_LOOKS ? 0 : vs_deadline_check(p->deadline_ns);
}

/* Once for each block, whatever number of pieces meet in it. */
static int add_composed(vs_kernel_plan *p, uint64_t block) {
    if (p->composed_count && p->composed[p->composed_count - 1] == block) return 0;
    if (vs_room(&p->composed, &p->composed_room, p->composed_count, 1, sizeof *p->composed) < 0) return -ENOMEM;
    p->composed[p->composed_count] = block;
    return add_run(p, &(vs_erofs_run){block, 1, p->composed_count++, VS_KERNEL_SIDE});
}

/* Blocks [at, end) of the volume, which lie in one file side by side. */
static int add_whole(vs_kernel_plan *p, const vs_view_piece *piece, uint64_t at, uint64_t end) {
    if (at == end) return 0;
    vs_erofs_run run = {.block = at, .count = end - at};
    run.device_block = piece->block + (at - piece->offset_bytes / VS_BLOCK_BYTES);
    int code = device_of(p, piece, &run.device);
    if (code == 0) code = vs_block_set_add(&p->blocks, p->sources[run.device - 1].name, run.device_block, run.count);
    return code == 0 ? add_run(p, &run) : code;
}

/* Of a base some blocks may lie elsewhere. There a block of the image is one of the volume. */
static int add_whole_of_base(vs_kernel_plan *p, const vs_view_piece *piece, uint64_t at, uint64_t end) {
    int code = 0;
    while (code == 0 && at < end) {
        uint64_t patch = vs_base_next_patch(piece->base, at);
        code = add_whole(p, piece, at, patch < end ? patch : end);
        if (code == 0 && patch < end) code = add_composed(p, patch);
        at = patch < end ? patch + 1 : end;
    }
    return code;
}

static int add_piece(void *arg, const vs_view_piece *piece) {
    vs_kernel_plan *p = arg;
    uint64_t end = piece->offset_bytes + piece->length_bytes;
    uint64_t at = piece->offset_bytes / VS_BLOCK_BYTES, whole = (piece->offset_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES;
    uint64_t whole_end = end / VS_BLOCK_BYTES;
    int code = whole > at ? add_composed(p, at) : 0;
    if (code == 0 && whole < whole_end)
        code = piece->segment ? add_whole(p, piece, whole, whole_end) : add_whole_of_base(p, piece, whole, whole_end);
    return code == 0 && end % VS_BLOCK_BYTES ? add_composed(p, whole_end) : code;
}

int vs_kernel_plan_make(vs_kernel_plan *p, vs_view *v, uint64_t runs_max, uint64_t deadline_ns) {
    *p = (vs_kernel_plan){.view = v, .size_bytes = vs_view_size(v), .runs_max = runs_max, .deadline_ns = deadline_ns};
    return vs_view_walk(v, add_piece, p);
}

int vs_kernel_plan_number(vs_kernel_plan *p) {
    size_t devices = p->source_count + (p->composed_count != 0);
    if (devices > VS_EROFS_DEVICES_MAX) return -EFBIG;
    for (size_t i = 0; i < p->run_count; i++)
        if (p->runs[i].device == VS_KERNEL_SIDE) p->runs[i].device = (uint32_t)devices;
    return (int)devices;
}

void vs_kernel_plan_end(vs_kernel_plan *p) {
    free(p->runs);
    free(p->sources);
    free(p->by_segment);
    free(p->composed);
    vs_block_set_clear(&p->blocks);
}
