/* directory.h: the files that make up a journal at one time: its segments in order, and the merged maps that were made for them.
 *
 * A compaction puts one segment in the place of many, and does not change a directory: it makes the next one. Whoever opened a view on the old one
 * goes on with it. A directory only grows at its end, by segments that were appended.
 *
 * Segments are counted by index (each file once) and found by ordinal (a compacted segment stands for many of them).
 *
 * Threads: what grows, and its maps, belong to the journal's state lock. A segment that was there when a view took its reference is found
 * without the lock: chunks never move, and their slots are filled before anybody can ask for them. References may be dropped anywhere.
 * Lifetime: a directory has one reference of each of its segments and maps; the last reference to it frees them.
 */
#ifndef VS_DIRECTORY_H
#define VS_DIRECTORY_H

#include <stdatomic.h>

#include "merged_map.h"
#include "segment.h"

enum { VS_DIRECTORY_CHUNK = 4096, VS_DIRECTORY_CHUNKS = 1024, VS_MERGE_LEVELS = 7 };

typedef struct vs_slots {
    vs_segment **chunks[VS_DIRECTORY_CHUNKS];
} vs_slots;

typedef struct vs_directory {
    _Atomic int refs;
    uint64_t generation;        /* the greatest of its segments'; 0: none is compacted */
    uint64_t base_floor;        /* the greatest of its segments' */
    uint64_t until_seqno;       /* the greatest of its segments'; 0: none is compacted */
    uint64_t count, ordinals;   /* segments, and ordinals that they stand for: [0, ordinals) */
    vs_slots by_index, by_ordinal;
    vs_merged_map **maps;       /* loaded ones, sorted by count, then first ordinal */
    size_t map_count, map_room;
    uint64_t merge_next[VS_MERGE_LEVELS]; /* per level: groups before this ordinal have their map */
} vs_directory;

int vs_directory_new(vs_directory **out);
vs_directory *vs_directory_ref(vs_directory *d);
void vs_directory_unref(vs_directory *d); /* NULL is allowed */

/* Append a segment that begins where the last one ends; takes its reference over, also on failure. */
int vs_directory_add(vs_directory *d, vs_segment *g);

/* Take the last segment off; the caller gets its reference. Only while nobody else has the directory. */
vs_segment *vs_directory_drop_last(vs_directory *d);

/* The same directory with one segment in the place of those at indexes [from, to], which it stands for; takes g's reference over when
 * it succeeds. Maps of groups that do not touch it go along. */
int vs_directory_replace(const vs_directory *d, uint64_t from, uint64_t to, vs_segment *g, vs_directory **out);

static inline vs_segment *vs_directory_at(const vs_directory *d, uint64_t index) {
    return d->by_index.chunks[index / VS_DIRECTORY_CHUNK][index % VS_DIRECTORY_CHUNK];
}

static inline vs_segment *vs_directory_last(const vs_directory *d) {
    return vs_directory_at(d, d->count - 1);
}

/* Which base a volume that stands needs at every point of the directory: records up to this one may be in it alone. 0: none, or the one it began with. */
static inline uint64_t vs_directory_base_needed(const vs_directory *d, const vs_volume_state *v) {
    return !v->removed && v->added_seqno <= d->base_floor ? d->base_floor : 0;
}

/* The segment that stands for an ordinal below d->ordinals. */
static inline vs_segment *vs_directory_of_ordinal(const vs_directory *d, uint64_t ordinal) {
    return d->by_ordinal.chunks[ordinal / VS_DIRECTORY_CHUNK][ordinal % VS_DIRECTORY_CHUNK];
}

/* Index of the segment that stands for an ordinal below d->ordinals. */
uint64_t vs_directory_index_of(const vs_directory *d, uint64_t ordinal);

/* Index of the segment that holds seqno (first_seqno <= seqno <= last); UINT64_MAX: none. */
uint64_t vs_directory_find(const vs_directory *d, uint64_t seqno);

/* Is all there that the point at seqno shows of the segments before index, which holds it? A compaction drops what no root shows: it may show at points
 * behind the compacted segment and before the next root (until_seqno). What is in the segment itself: points.h. */
int vs_directory_is_whole(const vs_directory *d, uint64_t index, uint64_t seqno);

/* The greatest generation among the segments that stand for [first, first + count); 0: none of them is compacted. */
uint64_t vs_directory_group_generation(const vs_directory *d, uint64_t first, uint64_t count);

#endif
