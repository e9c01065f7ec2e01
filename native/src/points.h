/* points.h: which points can be opened: of a segment as it was first written all, unless a compacted one before it lacks what they show; of a compacted
 * one those that it names.
 *
 * Threads: the journal's state lock. Errors: -errno.
 */
#ifndef VS_POINTS_H
#define VS_POINTS_H

#include "directory.h"

/* Can the point at seqno, which lies in segment `index` of d, be opened? 0; or -ERANGE with a fault that says why not. */
int vs_point_check(const vs_directory *d, uint64_t index, uint64_t seqno);

/* The first point at or after seqno that can be opened. 1: *out; 0: there is none. */
int vs_point_next(const vs_directory *d, uint64_t seqno, uint64_t *out);

/* Of a compacted segment: the time of the point at seqno. 1: found; 0: it names none. */
int vs_point_time(vs_segment *g, uint64_t seqno, uint64_t *time_ns);

/* The point of exactly that time. 0, or -ERANGE with a fault. */
int vs_point_at(vs_segment *g, uint64_t time_ns, uint64_t *seqno);

/* The fault for a point that is not there. Returns -ERANGE. */
int vs_point_gone(const vs_segment *g, uint64_t seqno);

#endif
