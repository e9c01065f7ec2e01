/* stack.h: maps over maps, resolved from the top. The one resolver of views, diffs, merges and accounting.
 *
 * Threads: a stack is immutable once built; each lookup brings its own cursor. Lifetime: layers borrow their maps.
 */
#ifndef VS_STACK_H
#define VS_STACK_H

#include "extent_map.h"
#include "packed.h"

enum { VS_STACK_HOLE = 0, VS_STACK_ZERO = 1, VS_STACK_DATA = 2 };

typedef struct vs_layer {
    const vs_extent_map *memory; /* either this */
    vs_packed packed;            /* or a table: offset, length, segment, block */
    uint64_t first_ordinal;      /* of the segments that the layer's segment numbers count from */
    int base;                    /* 1: the base image's map; blocks are + 1 there */
} vs_layer;

typedef struct vs_stack {
    vs_layer *layers; /* newest first */
    size_t count, room;
} vs_stack;

/* Where each layer was last found, so that walking on costs no search. Offsets asked of one cursor must not descend. */
typedef struct vs_cursor_at {
    uint64_t row; /* in a table */
    uint64_t offset_bytes, end_bytes;
    uint64_t block; /* in memory */
} vs_cursor_at;

typedef struct vs_cursor {
    const vs_stack *stack;
    size_t begun; /* layers that were searched; those below were never asked */
    vs_cursor_at *at;
    vs_cursor_at inline_at[48];
} vs_cursor;

typedef struct vs_stack_run {
    uint64_t offset_bytes, length_bytes, ordinal, block;
    int kind, base;
} vs_stack_run;

int vs_stack_push(vs_stack *s, const vs_layer *layer);
void vs_stack_clear(vs_stack *s);

int vs_cursor_init(vs_cursor *c, const vs_stack *s);
void vs_cursor_end(vs_cursor *c);

/* The longest run from offset_bytes on that one layer answers, cut at end_bytes (> offset_bytes). */
void vs_stack_run_at(vs_cursor *c, uint64_t offset_bytes, uint64_t end_bytes, vs_stack_run *out);

/* Bytes in [from, to) that are data. */
int vs_stack_data_bytes(const vs_stack *s, uint64_t from, uint64_t to, uint64_t *bytes);

#endif
