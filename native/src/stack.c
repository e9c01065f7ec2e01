/* stack.c: the overlay resolver.
 *
 * For an offset each layer answers with the first extent that ends behind it. The first layer (from the top) whose extent covers
 * the offset has the byte; extents of layers above that begin later cut the run short. A cursor remembers each layer's
 * answer: while offsets ascend it stays right up to the extent's end, so a walk or a large read searches each layer once.
 *
 *   offset:  0        4        8        12
 *   top      .........[AAAA]............
 *   below    [bbbbbbbbbbbbbbbbbb]......       run at 0 -> b, cut at A; at 4 -> A; at 8 -> b; then a hole
 */
#include "stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

int vs_stack_push(vs_stack *s, const vs_layer *layer) {
    int r = vs_room(&s->layers, &s->room, s->count, 1, sizeof *s->layers);
    if (r == 0) s->layers[s->count++] = *layer;
    return r;
}

void vs_stack_clear(vs_stack *s) {
    free(s->layers);
    memset(s, 0, sizeof *s);
}

int vs_cursor_init(vs_cursor *c, const vs_stack *s) {
    c->stack = s;
    c->begun = 0;
    c->at = c->inline_at;
    if (s->count > sizeof c->inline_at / sizeof c->inline_at[0]) {
        c->at = malloc(s->count * sizeof *c->at);
        if (!c->at) return -ENOMEM;
    }
    return 0;
}

void vs_cursor_end(vs_cursor *c) {
    if (c->at != c->inline_at) free(c->at);
}

static void row_load(const vs_packed *t, uint64_t row, vs_cursor_at *a) {
    uint64_t v[2];
    a->row = row;
    if (row >= t->rows) {
        a->offset_bytes = a->end_bytes = UINT64_MAX;
        return;
    }
    vs_packed_first(t, row, 2, v);
    a->offset_bytes = v[0];
    a->end_bytes = v[0] + v[1];
}

/* The first extent that ends after offset_bytes. row: the last that begins at or before it, or VS_PACKED_NONE. */
static void packed_found(const vs_packed *t, uint64_t row, uint64_t offset_bytes, vs_cursor_at *a) {
    row_load(t, row == VS_PACKED_NONE ? 0 : row, a);
    if (offset_bytes >= a->end_bytes) row_load(t, a->row + 1, a);
}

/* The same, where offset_bytes is not below what *a answered before. */
static void packed_go_on(const vs_packed *t, uint64_t offset_bytes, vs_cursor_at *a) {
    for (int hops = 0; hops < 4; hops++) { /* it is often the next */
        row_load(t, a->row + 1, a);
        if (offset_bytes < a->end_bytes) return;
    }
    uint64_t row;
    vs_packed_find_le(&t, 1, offset_bytes, &row);
    packed_found(t, row, offset_bytes, a);
}

static void memory_find(const vs_extent_map *m, uint64_t offset_bytes, vs_cursor_at *a) {
    vs_extent e;
    if (vs_extent_map_find(m, offset_bytes, &e))
        *a = (vs_cursor_at){0, e.offset_bytes, e.offset_bytes + e.length_bytes, e.block};
    else
        *a = (vs_cursor_at){0, UINT64_MAX, UINT64_MAX, 0};
}

/* Search the next few layers that were never asked. */
static void layers_begin(vs_cursor *c, uint64_t offset_bytes) {
    const vs_layer *layers = c->stack->layers + c->begun;
    const vs_packed *tables[VS_PACKED_AT_ONCE];
    uint64_t rows[VS_PACKED_AT_ONCE];
    size_t n = c->stack->count - c->begun < VS_PACKED_AT_ONCE ? c->stack->count - c->begun : VS_PACKED_AT_ONCE;
    int packed = 0;
    for (size_t i = 0; i < n; i++)
        if (!layers[i].memory) tables[packed++] = &layers[i].packed;
    vs_packed_find_le(tables, packed, offset_bytes, rows);
    packed = 0;
    for (size_t i = 0; i < n; i++) {
        if (layers[i].memory) memory_find(layers[i].memory, offset_bytes, &c->at[c->begun + i]);
        else packed_found(&layers[i].packed, rows[packed++], offset_bytes, &c->at[c->begun + i]);
    }
    c->begun += n;
}

static const vs_cursor_at *layer_seek(vs_cursor *c, size_t i, uint64_t offset_bytes) {
    vs_cursor_at *a = &c->at[i];
    const vs_layer *layer = &c->stack->layers[i];
    if (i >= c->begun) layers_begin(c, offset_bytes);
    if (offset_bytes < a->end_bytes) return a;
    if (layer->memory) memory_find(layer->memory, offset_bytes, a);
    else packed_go_on(&layer->packed, offset_bytes, a);
    return a;
}

/* The layer's extent *a has the byte at offset_bytes. */
static void run_place(const vs_layer *layer, const vs_cursor_at *a, vs_stack_run *out) {
    uint64_t row[4] = {0, 0, 0, a->block};
    if (!layer->memory) vs_packed_row(&layer->packed, a->row, row);
    out->kind = row[3] ? VS_STACK_DATA : VS_STACK_ZERO;
    out->base = layer->base;
    out->ordinal = layer->first_ordinal + row[2];
    /* Byte x of a base image is byte x of the volume: nothing that a row says can change that. */
    out->block = layer->base ? out->offset_bytes / 4096 : row[3] + (out->offset_bytes / 4096 - a->offset_bytes / 4096);
}

void vs_stack_run_at(vs_cursor *c, uint64_t offset_bytes, uint64_t end_bytes, vs_stack_run *out) {
    *out = (vs_stack_run){.offset_bytes = offset_bytes, .kind = VS_STACK_HOLE};
    for (size_t i = 0; i < c->stack->count; i++) {
        const vs_cursor_at *a = layer_seek(c, i, offset_bytes);
        if (offset_bytes < a->offset_bytes) {
            if (a->offset_bytes < end_bytes) end_bytes = a->offset_bytes;
            continue;
        }
        if (a->end_bytes < end_bytes) end_bytes = a->end_bytes;
        run_place(&c->stack->layers[i], a, out);
        break;
    }
    out->length_bytes = end_bytes - offset_bytes;
}

int vs_stack_data_bytes(const vs_stack *s, uint64_t from, uint64_t to, uint64_t *bytes) {
    vs_cursor c;
    vs_stack_run run;
    int r = vs_cursor_init(&c, s);
    if (r < 0) return r;
    *bytes = 0;
    for (uint64_t at = from; at < to; at += run.length_bytes) {
        vs_stack_run_at(&c, at, to, &run);
        if (run.kind == VS_STACK_DATA) *bytes += run.length_bytes;
    }
    vs_cursor_end(&c);
    return 0;
}
