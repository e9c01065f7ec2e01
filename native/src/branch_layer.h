/* branch_layer.h: one volume's part of one layer: its log, its data, and in memory where each block lies.
 *
 * Threads: none; the owner locks. A layer that is not written to any more does not change. Errors: -errno, with vs_fault_set where damage is.
 */
#ifndef VS_BRANCH_LAYER_H
#define VS_BRANCH_LAYER_H

#include "branch_log.h"
#include "branch_slots.h"
#include "extent_map.h"

typedef enum vs_branch_use {
    VS_BRANCH_FROZEN, /* read; it must end with all on the medium */
    VS_BRANCH_READ,   /* read; somebody may not have ended it */
    VS_BRANCH_OWNED,  /* the one that is written to */
} vs_branch_use;

typedef struct vs_branch_layer {
    vs_branch_log log; /* file -1: nothing was written yet, and there are no files */
    int data;
    vs_extent_map *map; /* in whole blocks; its blocks are slots, 0: zeros */
    uint32_t *crcs;     /* of slot n at n - 1 */
    size_t crc_room;
    uint64_t blocks;    /* that have a slot in the map */
    vs_branch_slots slots;
    int unnoted;        /* opened: all is on the medium, but the log does not say so */
} vs_branch_layer;

/* Read the layer `id` of a volume; what a crash left is cut, and (owned) synced. */
int vs_branch_layer_open(vs_store *s, const uint8_t *uuid, uint32_t id, uint32_t volume, uint64_t size_bytes, vs_branch_use use, vs_branch_layer **out);
/* An empty one, of which nothing is on the medium but the directory. */
int vs_branch_layer_new(vs_store *s, const uint8_t *uuid, uint32_t id, uint32_t volume, uint64_t size_bytes, vs_branch_layer **out);
void vs_branch_layer_close(vs_branch_layer *l); /* NULL is allowed */

/* Make its files, before the first record. */
int vs_branch_layer_make(vs_branch_layer *l);

/* Blocks in [first, first + count) that have a slot; *runs grows by the runs they lie in. */
uint64_t vs_branch_layer_slots_in(const vs_branch_layer *l, uint64_t first, uint64_t count, size_t *runs);

/* Is all of it known zeros? */
int vs_branch_layer_zero_in(const vs_branch_layer *l, uint64_t first, uint64_t count);

#define VS_BRANCH_BLOCKS_MAX (UINT64_MAX / 4096)

/* Call each for what the map holds of blocks [first, end), in order (slot 0: zeros), until it returns something else than 0, which is returned. */
typedef int (*vs_branch_each_fn)(void *arg, uint64_t first, uint64_t count, uint64_t slot);
int vs_branch_layer_each(const vs_branch_layer *l, uint64_t first, uint64_t end, vs_branch_each_fn each, void *arg);

/* Room for the CRCs of so many slots. -ENOMEM. */
int vs_branch_layer_crc_reserve(vs_branch_layer *l, uint64_t slots);
/* Room for all that putting a few records needs, whose slots are taken: it does not fail. */
int vs_branch_layer_reserve(vs_branch_layer *l, const vs_branch_record *records, int count);

/* What a record replaces waits (vs_branch_slots_reserve); then the record is put into the map, for which there is room for the CRCs of its slots. -ENOMEM: a
 * part of it is. */
void vs_branch_layer_give_up(vs_branch_layer *l, const vs_branch_record *r);
int vs_branch_layer_put(vs_branch_layer *l, const vs_branch_record *r);

/* The log anew, of what the map holds; all of the data is synced. *broken: it cannot be used any more. */
int vs_branch_layer_rewrite(vs_branch_layer *l, int *broken);

/* 0, or -EBADMSG with the fault of block i of a run: what the block of the volume is, and the slot it lies in. */
int vs_branch_layer_fault(const vs_branch_layer *l, uint64_t block, uint64_t slot, const char *what);

/* Say that the layer cannot be used. Returns code. */
int vs_branch_layer_damaged(const vs_branch_layer *l, int code, const char *suffix, const char *what);

#endif
