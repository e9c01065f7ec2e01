/* branch_sync.c: syncs of one volume of a branch.
 *
 * Writes go on meanwhile: what they do is not this sync's. Only when data and log are on the medium, and the log has a note of it, is what
 * waited for that given to the disk and to later writes.
 */
#include <errno.h>

#include "branch_internal.h"
#include "format.h"

enum { TRIM_SLOTS_MIN = 256, LIVE_EXTENT_BYTES = VS_BRANCH_RECORD_HEAD };

typedef struct vs_branch_volume_state volume_state;

static int latch(volume_state *v, int r) {
    pthread_mutex_lock(&v->write_mu);
    if (!v->failed) v->failed = r == -ENOSPC ? r : -EIO;
    r = v->failed;
    pthread_mutex_unlock(&v->write_mu);
    return r;
}

/* write_mu held. A log most of which is of no use any more is written anew. That it cannot be is no harm: it is tried again later. */
static int log_shorten(volume_state *v) {
    vs_branch_layer *l = vs_branch_last(v);
    uint64_t live = vs_extent_map_count(l->map) * LIVE_EXTENT_BYTES + l->blocks * (VS_BRANCH_ENTRY + 1);
    if (l->log.end_bytes < v->rewrite_at_bytes || l->log.end_bytes < 2 * live) return 0;
    v->rewrite_at_bytes = l->log.end_bytes + l->log.end_bytes / 2;
    int broken, r = l->log.store->sync(l->log.store, l->data);
    if (r < 0) return r;
    if (vs_branch_layer_rewrite(l, &broken) < 0) return broken ? -EIO : 0;
    v->rewrite_at_bytes = v->branch->options.rewrite_bytes;
    v->noted_changes = v->changes;
    return 0;
}

/* sync_mu held. What waited is free: first for the disk, then for later writes. */
static int slots_free(volume_state *v) {
    vs_branch_layer *l = vs_branch_last(v);
    vs_store *s = l->log.store;
    v->reuse++;
    pthread_mutex_lock(&v->write_mu);
    uint64_t before = l->slots.end;
    vs_branch_slots_sync_end(&l->slots);
    uint64_t end = l->slots.end;
    if (end < before && (end == 0 || before - end >= TRIM_SLOTS_MIN)) s->truncate(s, l->data, end * VS_BLOCK_BYTES);
    pthread_mutex_unlock(&v->write_mu);
    for (size_t i = 0; i < l->slots.syncing; i++) {
        pthread_mutex_lock(&v->write_mu); /* the array may move */
        vs_slot_run run = l->slots.waiting[i];
        pthread_mutex_unlock(&v->write_mu);
        if (run.count) s->zero(s, l->data, (uint64_t)(run.first - 1) * VS_BLOCK_BYTES, (uint64_t)run.count * VS_BLOCK_BYTES);
    }
    pthread_mutex_lock(&v->write_mu);
    vs_branch_slots_punched(&l->slots);
    int r = log_shorten(v);
    pthread_mutex_unlock(&v->write_mu);
    return r;
}

/* sync_mu held. Tell of the sync in the log. That the disk has no room for it is no harm: an opening finds the same without. */
static int synced_note(volume_state *v, uint64_t through, uint64_t changes) {
    vs_branch_layer *l = vs_branch_last(v);
    uint8_t record[VS_BRANCH_RECORD_HEAD];
    int broken = 0;
    pthread_mutex_lock(&v->write_mu);
    size_t n = vs_branch_record_put(&l->log, &(vs_branch_record){.seq = l->log.seq + 1, .first = through, .type = VS_BRANCH_SYNCED}, record);
    int r = vs_branch_log_append(&l->log, record, n, l->log.seq + 1, &broken);
    if (!broken) v->synced_changes = changes;
    if (r == 0) v->noted_changes = changes;
    pthread_mutex_unlock(&v->write_mu);
    return broken ? r : 0;
}

static int files_sync(const vs_branch_layer *l) {
    int r = l->log.store->sync(l->log.store, l->data);
    return r == 0 ? l->log.store->sync(l->log.store, l->log.file) : r;
}

/* sync_mu held. */
static int sync_once(volume_state *v) {
    vs_branch_layer *l = vs_branch_last(v);
    pthread_mutex_lock(&v->write_mu);
    uint64_t through = l->log.seq, changes = v->changes;
    int r = v->failed, nothing = changes == v->synced_changes;
    if (r == 0 && !nothing) {
        vs_branch_slots_sync_begin(&l->slots);
        v->unsynced_bytes = v->begun_bytes = 0;
    }
    pthread_mutex_unlock(&v->write_mu);
    if (r < 0 || nothing) return r;
    r = files_sync(l);
    if (r == 0) r = synced_note(v, through, changes);
    if (r == 0) r = slots_free(v);
    return r < 0 ? latch(v, r) : 0;
}

int vs_branch_volume_sync(volume_state *v) {
    pthread_mutex_lock(&v->write_mu);
    uint64_t wanted = v->changes;
    pthread_mutex_unlock(&v->write_mu);
    pthread_mutex_lock(&v->sync_mu);
    pthread_mutex_lock(&v->write_mu);
    int r = v->failed, done = v->synced_changes >= wanted;
    pthread_mutex_unlock(&v->write_mu);
    if (r == 0 && !done) r = sync_once(v);
    pthread_mutex_unlock(&v->sync_mu);
    return r;
}

int vs_branch_volume_end(volume_state *v) {
    int r = vs_branch_volume_sync(v);
    vs_branch_layer *l = vs_branch_last(v);
    if (r < 0 || l->log.file < 0) return r;
    if (v->noted_changes != v->changes && (r = synced_note(v, l->log.seq, v->changes)) < 0) return latch(v, r);
    if (v->noted_changes != v->changes) return -ENOSPC;
    r = l->log.store->sync(l->log.store, l->log.file);
    return r < 0 ? latch(v, r) : 0;
}
