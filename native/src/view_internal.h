/* view_internal.h: what the parts of a view share, and what the journal needs of it.
 *
 *   view.c       which maps a view is made of, its runs, and the open file
 *   view_read.c  its bytes
 */
#ifndef VS_VIEW_INTERNAL_H
#define VS_VIEW_INTERNAL_H

#include "journal_internal.h"
#include "view.h"

struct vs_view {
    vs_journal *journal;
    uint32_t volume;
    uint64_t since, until; /* records after since, up to until */
    int changes;           /* no base below */
    vs_stack stack;
    vs_map_list memory;
    vs_extent_map *partial; /* what the segment `index` of the point holds up to it; in memory too */
    vs_directory *directory; /* NULL: of the base alone */
    uint64_t index;    /* of the point's segment */
    uint64_t ordinals; /* up to its end */
    uint64_t leases[3]; /* bytes; 0: not taken */
    vs_segment *pinned;
    vs_base *base;
    vs_volume_state state;
    pthread_mutex_t stat_mu; /* guards state.data_bytes until it is known */
};

/* The segment that a run of data lies in; NULL: none of the view's. Not for runs of the base. */
vs_segment *vs_view_segment(const vs_view *v, const vs_stack_run *run);

/* The volume after record seqno, of records after since over its base, which has all that came before: since is its seqno. */
int vs_view_open_over_base(vs_journal *j, uint32_t volume, uint64_t since, uint64_t seqno, vs_view **out);

/* Write what the view's maps hold to file: data as data, zeros as zeros, holes are left alone; then sync. */
int vs_view_apply(vs_view *v, vs_store *s, int file);

/* A run of data as one map has it: block of the file holds its first byte, at the same place in the block as in the volume. */
typedef struct vs_view_piece {
    uint64_t offset_bytes, length_bytes;
    uint64_t block;
    vs_segment *segment; /* NULL: it lies in the base image */
    vs_base *base;
    int pinned;          /* for vs_segment_crcs */
} vs_view_piece;

/* Call each for every run of data, in order, until it returns a negative number, which is returned then. */
int vs_view_walk(vs_view *v, int (*each)(void *arg, const vs_view_piece *piece), void *arg);

uint32_t vs_view_volume(const vs_view *v);

#endif
