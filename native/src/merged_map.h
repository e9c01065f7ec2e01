/* merged_map.h: one map for 8, 64, 512 … neighbouring sealed segments, so that a view needs a handful of maps.
 *
 * Derived: a map that is missing, damaged or of other segments is not used, and made again by vs_journal_merge_maps. Threads: lists of maps belong to
 * the journal's state lock; a loaded map is immutable and stays loaded as long as a directory has it.
 */
#ifndef VS_MERGED_MAP_H
#define VS_MERGED_MAP_H

#include <stdatomic.h>

#include "stack.h"
#include "store_ops.h"

typedef struct vs_merged_table {
    int verdict; /* 0: not checked yet, 1: sound, -1: damaged */
    vs_packed table;
} vs_merged_table;

typedef struct vs_merged_map {
    vs_store *store;
    _Atomic int refs;
    char name[48];
    uint64_t first_ordinal, count, first_seqno, last_seqno, file_bytes;
    uint64_t generation;     /* the greatest among its segments; 0: none of them is compacted */
    uint8_t last_digest[32]; /* of the chain */
    const uint8_t *mapped;
    uint32_t volumes;
    vs_merged_table *tables; /* per volume */
} vs_merged_map;

void vs_merged_map_name(uint64_t first_ordinal, uint64_t count, char name[48]);

/* Map maps/<name>, check header and directory. -EBADMSG, -EXDEV, -EPROTONOSUPPORT: not usable. */
int vs_merged_map_open(vs_store *s, const uint8_t uuid[16], uint64_t first_ordinal, uint64_t count, vs_merged_map **out);
/* With one reference. The last one that is given up closes it. */
vs_merged_map *vs_merged_map_ref(vs_merged_map *m);
void vs_merged_map_unref(vs_merged_map *m);

/* The i-th volume's id, and its table (checked at first use). 1: *out is it; 0: past the end; -EBADMSG: damaged. */
int vs_merged_map_table(vs_merged_map *m, uint32_t i, uint32_t *volume, vs_packed *out);

/* The table of one volume: 1, 0 (it has no extent here), -EBADMSG. */
int vs_merged_map_find(vs_merged_map *m, uint32_t volume, vs_packed *out);

typedef struct vs_map_table {
    uint32_t volume;
    uint8_t *bytes;
    size_t length_bytes;
    uint64_t data_bytes;
} vs_map_table;

/* Write a map under a temporary name, sync, rename; what had the name is kept as *.bad, unless it is the map of segments that were compacted since. m:
 * identity only. tables ascend by volume. */
int vs_merged_map_write(vs_store *s, const uint8_t uuid[16], const vs_merged_map *m, const vs_map_table *tables, uint32_t count);

/* Encode all runs of a stack over [0, end) that are not holes; segment numbers count from first_ordinal. */
int vs_stack_encode(const vs_stack *s, uint64_t first_ordinal, uint8_t **bytes, size_t *length_bytes, uint64_t *data_bytes);

#endif
