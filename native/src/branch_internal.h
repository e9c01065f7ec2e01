/* branch_internal.h: what the parts of a branch share.
 *
 *   branch.c          volumes, holding and freezing
 *   branch_file.c     open files
 *   branch_read.c     bytes, kinds of runs, checks
 *   branch_write.c    writes, zeros
 *   branch_sync.c     syncs
 *   branch_layer.c    a layer's map; branch_recovery.c: reading it from its files; branch_log.c, branch_slots.c: what it is made of
 *
 * Locks of a volume, in the order they are taken: sync_mu (one sync at a time, held over it), write_mu (one write at a time, held over its I/O), mu (the maps,
 * never held over I/O, but by a reader whom syncs have overtaken again and again). branch->mu stands alone.
 */
#ifndef VS_BRANCH_INTERNAL_H
#define VS_BRANCH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "branch.h"
#include "branch_layer.h"

typedef struct vs_branch_volume_state {
    vs_branch *branch;
    uint32_t id;
    uint64_t size_bytes;
    vs_view *below; /* NULL: zeros */
    vs_branch_layer *layers[VS_BRANCH_LAYERS_MAX]; /* oldest first; the last one is written to */
    int layer_count;
    pthread_mutex_t sync_mu, write_mu, mu;
    /* write_mu */
    uint8_t *edges;           /* two blocks: the first and the last one of a write, where it does not fill them */
    uint8_t *records;         /* room for the records of one change */
    uint64_t unsynced_bytes;
    uint64_t begun_bytes; /* of them: the disk has begun to write so many */
    uint64_t changes, synced_changes, noted_changes; /* made; on the medium; and the log says so */
    uint64_t rewrite_at_bytes; /* of the log: from there on it is looked whether to write it anew */
    int failed; /* -errno: takes no more writes */
    _Atomic uint64_t reuse; /* counts the syncs after which slots of the last layer may have got another content */
} vs_branch_volume_state;

struct vs_branch {
    vs_store *store;
    uint8_t uuid[16];
    vs_branch_options options;
    vs_branch_volume_state **volumes;
    size_t volume_count, volume_room;
    _Atomic uint64_t used_blocks; /* what the quota is for */
    _Atomic uint32_t files;
    pthread_mutex_t mu; /* guards held, inside */
    pthread_cond_t changed;
    int held, inside; /* writes and syncs that are under way */
};

enum { VS_BRANCH_PIECE_BYTES = 1 << 20 };

/* On a store, without a journal: for tests too. uuid: 16 bytes. */
int vs_branch_open_on(vs_store *s, const uint8_t *uuid, const vs_branch_options *o, vs_branch **out);

vs_branch_volume_state *vs_branch_find(const vs_branch *b, uint32_t volume); /* NULL: it has none */

static inline vs_branch_layer *vs_branch_last(const vs_branch_volume_state *v) {
    return v->layers[v->layer_count - 1];
}

/* Around all that changes something: a branch that is held lets nobody in. */
void vs_branch_enter(vs_branch *b);
void vs_branch_leave(vs_branch *b);

/* Whole blocks into buf; what is behind the end of the volume is zeros. */
int vs_branch_blocks_read(vs_branch_volume_state *v, uint64_t first, uint64_t count, uint8_t *buf);
int64_t vs_branch_volume_read(vs_branch_volume_state *v, uint64_t offset_bytes, void *buf, uint64_t length_bytes);
int64_t vs_branch_volume_seek(vs_branch_volume_state *v, uint64_t offset_bytes, int whence);

int64_t vs_branch_volume_write(vs_branch_volume_state *v, uint64_t offset_bytes, const void *buf, uint64_t length_bytes);
int vs_branch_volume_zero(vs_branch_volume_state *v, uint64_t offset_bytes, uint64_t length_bytes);
int vs_branch_volume_sync(vs_branch_volume_state *v);
/* The branch is held. Sync, and have on the medium also what tells of it: so a layer ends that is not written to any more. */
int vs_branch_volume_end(vs_branch_volume_state *v);

#endif
