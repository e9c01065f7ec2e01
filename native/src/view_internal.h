/* view_internal.h: what the journal and kernel views need of a view. */
#ifndef VS_VIEW_INTERNAL_H
#define VS_VIEW_INTERNAL_H

#include "base.h"
#include "segment.h"
#include "store_ops.h"
#include "view.h"

/* Write what the view's maps hold to file: data as data, zeros as zeros, holes are left alone; then sync. */
int vs_view_apply(vs_view *v, vs_store *s, int file);

/* A run of data as one map has it: block of the file holds its first byte, at the same place in the block as in the volume. */
typedef struct vs_view_piece {
    uint64_t offset_bytes, length_bytes;
    uint64_t block;
    vs_segment *segment; /* NULL: it lies in the base image */
    vs_base *base;
    int pinned;          /* for vs_segment_crc */
} vs_view_piece;

/* Call each for every run of data, in order, until it returns a negative number, which is returned then. */
int vs_view_walk(vs_view *v, int (*each)(void *arg, const vs_view_piece *piece), void *arg);

uint32_t vs_view_volume(const vs_view *v);

#endif
