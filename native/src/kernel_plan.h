/* kernel_plan.h: what a kernel view consists of, before anything is read: runs, the files they lie on, blocks to be put together.
 *
 * Threads: one at a time. Errors: -errno; vs_kernel_plan_end after any of them.
 */
#ifndef VS_KERNEL_PLAN_H
#define VS_KERNEL_PLAN_H

#include "block_set.h"
#include "erofs_image.h"
#include "view_internal.h"

/* A file that runs lie on; its device is its place in the list, from 1. */
typedef struct vs_kernel_source {
    vs_segment *segment; /* NULL: the base image */
    vs_base *base;
    int pinned;
    uint64_t name; /* for block sets: vs_kernel_segment_name or vs_kernel_base_name */
} vs_kernel_source;

typedef struct vs_kernel_plan {
    vs_view *view;
    uint64_t size_bytes, runs_max, deadline_ns;
    vs_erofs_run *runs; /* those of composed blocks have device VS_KERNEL_SIDE */
    size_t run_count, run_room;
    vs_kernel_source *sources;
    size_t source_count, source_room;
    uint32_t *by_segment; /* hash table of devices, 0: free */
    size_t table_room;
    uint64_t *composed; /* blocks of the volume, ascending */
    size_t composed_count, composed_room;
    vs_block_set blocks; /* of the sources, that runs lie on */
} vs_kernel_plan;

#define VS_KERNEL_SIDE UINT32_MAX

/* Of a file, not of a range: what was compared in one that was compacted since says nothing of the new one. */
static inline uint64_t vs_kernel_segment_name(const vs_segment *g) {
    return g->generation ? UINT64_C(1) << 62 | g->generation : g->first_seqno;
}

/* A block that was compared for one base says nothing of a later one's. */
static inline uint64_t vs_kernel_base_name(const vs_base *base) {
    return UINT64_C(1) << 63 | vs_base_number(base);
}

/* Fill a plan of v. -E2BIG: over runs_max runs. -ETIMEDOUT: the deadline (deadline.h) has passed. */
int vs_kernel_plan_make(vs_kernel_plan *p, vs_view *v, uint64_t runs_max, uint64_t deadline_ns);

/* Give the runs of composed blocks their device: one more, if there are any. Returns how many devices there are then, or -EFBIG. */
int vs_kernel_plan_number(vs_kernel_plan *p);
void vs_kernel_plan_end(vs_kernel_plan *p);

#endif
