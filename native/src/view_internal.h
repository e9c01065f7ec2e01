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
    uint64_t index;
    vs_segment *pinned;
    vs_base *base;
    vs_volume_state state;
    pthread_mutex_t stat_mu; /* guards state.data_bytes until it is known */
};

/* The segment that a run of data lies in; NULL: none of the view's. Not for runs of the base. */
vs_segment *vs_view_segment(const vs_view *v, const vs_stack_run *run);

/* Write what the view's maps hold to file: data as data, zeros as zeros, holes are left alone; then sync. */
int vs_view_apply(vs_view *v, vs_store *s, int file);

#endif
