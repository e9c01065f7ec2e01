/* survivors.h: which pieces of a group's records are still needed.
 *
 * A piece of a record at seqno s that is next covered at seqno t is needed by the roots in [s, t). The rows of the group are walked from the newest to the
 * oldest, over a map of each volume that says of each byte by which root it is covered next; what comes behind the group is asked of maps. Only the
 * order of seqnos among roots matters, so seqnos are counted in roots: rank(s) is the number of roots before s.
 *
 * Threads: one at a time; the directory's sealed segments do not change. The journal's state lock is taken, and given up, inside.
 */
#ifndef VS_SURVIVORS_H
#define VS_SURVIVORS_H

#include "compact_write.h"

/* Behind all roots: what is covered after the last one, or never. */
#define VS_RANK_NEVER UINT64_MAX

typedef struct vs_roots {
    const uint64_t *seqnos; /* ascending */
    uint64_t count;
} vs_roots;

/* They ascend, and are committed: 0; else -EINVAL. Takes mu. */
int vs_roots_check(vs_journal *j, const vs_roots *roots);

/* How many roots are before seqno. */
uint64_t vs_roots_before(const vs_roots *roots, uint64_t seqno);

/* What is needed of a volume's pieces from elsewhere, and of what they cover. */
typedef struct vs_survivor_volume {
    uint32_t id;
    vs_extent_map *covered; /* by the group's rows so far; block: rank + 1 + offset / 4096, so that it stays the rank where extents are cut */
    vs_stack after[2];      /* what came behind the group up to the next root, and from there up to the one after it */
    int gone[2];            /* by then the volume was removed: nothing of it shows any more */
    vs_map_list memory;
    uint64_t seqno, rank, next_rank; /* of its oldest record so far, and of the one behind that; VS_RANK_NEVER: none is known */
} vs_survivor_volume;

typedef struct vs_survivors {
    vs_journal *journal;
    vs_directory *directory;
    uint64_t from, to; /* segments, by index */
    vs_roots roots;
    uint64_t next_root; /* index of the first root behind the group; roots.count: none is */
    int next_roots;
    vs_survivor_volume *volumes; /* ascending by id */
    size_t volume_count;
} vs_survivors;

/* Begin with segments [from, to] of d (borrowed, as the roots are), all of them sealed. next_roots: of how many roots behind the group each is told
 * apart, 1 or 2; what is needed by more has VS_RANK_NEVER. The caller ends it with vs_survivors_end, also after a failure. */
int vs_survivors_begin(vs_survivors *s, vs_journal *j, vs_directory *d, uint64_t from, uint64_t to, const vs_roots *roots, int next_roots);
void vs_survivors_end(vs_survivors *s);

/* A part of a row, all of which is next covered at the same rank: it is needed by roots [first_rank, end_rank), if there is one. */
typedef struct vs_survivor_part {
    const vs_row *row;
    uint64_t segment, number; /* of the row: index of its segment in the directory, and its place there */
    uint64_t offset_bytes, length_bytes;
    uint64_t first_rank, end_rank;
    int is_last_write; /* of its volume at some root */
} vs_survivor_part;

typedef int (*vs_survivor_fn)(void *arg, const vs_survivor_part *part);

/* Call each for every part of every row, rows from the newest to the oldest, the parts of one in order, until it returns something else than 0, which is
 * returned then. -ECANCELED: after vs_journal_work_end. -EUCLEAN: the rows are not sound. */
int vs_survivors_sweep(vs_survivors *s, vs_survivor_fn each, void *arg);

#endif
