/* commit.c: how batches get from memory into the journal, and from there onto the primaries.
 *
 *   append    -> filling batch (memory)                       answered (append.c)
 *   lead      -> payload, descriptors, fdatasync              committed: the journal has it
 *             -> written to its primary                       written: the batch's memory is free again
 *   volume    -> fdatasync of that primary                    then the answer (ack = both)
 *
 * Group commit: whoever needs the journal on disk and finds nobody at it becomes the leader. It takes the filled batch and writes it while others
 * fill the other one. A primary is synced without leadership, by the first that needs it for all who do, so that the next batch goes to
 * the journal meanwhile, and primaries of several volumes are synced side by side.
 *
 * One thread belongs to the owner. It writes out what piles up before the batch is full, so that who only writes need not wait for the
 * disk, and syncs primaries that nobody waits for, so that a later open has little to apply.
 *
 * A failed write or sync of the journal is final: `failed` is set and stays. What the file holds after it is unknown until a recovery
 * has read it again.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"

enum { EARLY_PART = 4, PIECE_BYTES = 1 << 20, AHEAD_BYTES = 1 << 20, AHEAD_PART = 8, SMALL_BYTES = 256 << 10 };

/* ---- leadership ---- */

/* mu held: is there enough in the filling batch to write it out before it is full? */
static int early_due(const vs_journal *j) {
    return !j->leading && !j->lead_wanted && !j->failed && j->batch[j->filling].payload_blocks * VS_BLOCK_BYTES >= j->options.batch_bytes / EARLY_PART;
}

void vs_journal_work_tell(vs_journal *j) {
    if (early_due(j)) pthread_cond_signal(&j->work);
}

void vs_journal_lead_begin(vs_journal *j) {
    j->lead_wanted++; /* else the owner's thread could lead round after round */
    while (j->leading) pthread_cond_wait(&j->changed, &j->mu);
    j->lead_wanted--;
    j->leading = 1;
}

void vs_journal_lead_end(vs_journal *j) {
    j->leading = 0;
    pthread_cond_broadcast(&j->changed);
    vs_journal_work_tell(j);
}

/* The next process is told too: it must not believe what the page cache says of a sync that failed. */
int vs_journal_fail(vs_journal *j, int status) {
    if (!j->failed) j->failed = status;
    vs_holds_fail(j);
    atomic_store(&j->kept.batches->failed, j->failed);
    pthread_cond_signal(&j->work);
    return status;
}

static int fail(vs_journal *j, int status) {
    pthread_mutex_lock(&j->mu);
    vs_journal_fail(j, status);
    pthread_mutex_unlock(&j->mu);
    return status;
}

int vs_journal_failed(const vs_journal *j) {
    return j->failed == 0 ? 0 : j->failed == -ENOSPC ? -ENOSPC : -EIO;
}

/* ---- into the journal ---- */

/* A large payload goes to the device piece by piece while the next one is copied. */
static int payload_store(vs_journal *j, const vs_batch *b, uint64_t at) {
    vs_store *s = j->store;
    uint64_t bytes = b->payload_blocks * VS_BLOCK_BYTES;
    int r = 0;
    for (uint64_t done = 0, n; r == 0 && done < bytes; done += n) {
        n = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        struct iovec part = {b->payload + done, n};
        r = s->write(s, j->active_file, at + done, &part, 1);
        if (r == 0 && bytes > PIECE_BYTES) s->write_back(s, j->active_file, at + done, n);
    }
    return r;
}

/* leader: zeros behind a small batch, where the next ones will be. So most syncs find the file's size and its blocks as they were, and
 * have nothing to tell the filesystem's own journal, which costs as much as the sync itself. Zeros behind the last batch are a clean
 * end to a recovery; sealing and closing cut them off. Where this fails it is left: the file grows with its batches then. */
static void zeros_ahead(vs_journal *j, uint64_t at, uint64_t end) {
    static const uint8_t zeros[64 << 10];
    struct iovec parts[AHEAD_BYTES / sizeof zeros];
    uint64_t want = j->options.segment_bytes / AHEAD_PART, n = 0;
    int count = 0;
    if (end <= j->ahead_bytes || end - at > SMALL_BYTES) return;
    for (; n + sizeof zeros <= want && n < AHEAD_BYTES; n += sizeof zeros) parts[count++] = (struct iovec){(void *)(uintptr_t)zeros, sizeof zeros};
    if (count && j->store->write(j->store, j->active_file, end, parts, count) == 0) j->ahead_bytes = end + n;
}

/* leader: payload first, then the descriptors that vouch for it. The digest is made while the device works. */
static int batch_store(vs_journal *j, const vs_batch *b, const uint8_t *descriptors, uint32_t count, uint64_t at) {
    vs_store *s = j->store;
    struct iovec head = {(void *)(uintptr_t)descriptors, (size_t)count * VS_BLOCK_BYTES};
    int r = payload_store(j, b, at + head.iov_len);
    if (r == 0) zeros_ahead(j, at, at + head.iov_len + b->payload_blocks * VS_BLOCK_BYTES);
    if (r == 0) r = s->write(s, j->active_file, at, &head, 1);
    if (r == 0) r = vs_digest_update(j->digest, descriptors, head.iov_len);
    if (r == 0 && b->payload_blocks) r = vs_digest_update(j->digest, b->payload, b->payload_blocks * VS_BLOCK_BYTES);
    return r == 0 ? s->sync(s, j->active_file) : r;
}

/* mu held. What readers will parse is what we go on with. */
static int index_take(vs_journal *j, const uint8_t *descriptors, uint32_t count) {
    vs_segment *g = j->active;
    uint64_t payload;
    int r = vs_index_add_batch(g->index, descriptors, count, g->salt, UINT64_MAX, &payload);
    if (r < 0) return r;
    g->last_seqno = g->index->last_seqno;
    g->last_time_ns = g->index->last_time_ns;
    g->data_end = g->index->end_bytes;
    j->committed_seqno = g->index->last_seqno;
    g->floor_seqno = g->index->floor_seqno;
    if (g->floor_seqno > j->floor_seqno) j->floor_seqno = g->floor_seqno;
    j->payload_bytes += payload * VS_BLOCK_BYTES;
    j->commits++;
    return 0;
}

int vs_journal_commit_batch(vs_journal *j, const vs_batch *b, uint64_t applied_seqno) {
    vs_segment *g = j->active;
    uint8_t *descriptors;
    uint32_t count;
    int r = vs_batch_descriptors(b, g->salt, b->first_seqno, applied_seqno, &descriptors, &count);
    if (r < 0) return fail(j, r);
    r = batch_store(j, b, descriptors, count, g->index->end_bytes);
    if (r == 0) {
        pthread_mutex_lock(&j->mu);
        r = index_take(j, descriptors, count);
        if (j->options.ack_journal) pthread_cond_broadcast(&j->changed);
        pthread_mutex_unlock(&j->mu);
    }
    free(descriptors);
    if (r < 0) {
        vs_fault_set(-EIO, 0, b->first_seqno, g->first_seqno, g->index->end_bytes, "journal: %s could not be written: %s", g->name, strerror(-r));
        return fail(j, r);
    }
    return 0;
}

/* ---- onto the primaries ---- */

static int run_apply(vs_store *s, int file, const vs_batch *b, const vs_extent *e, uint64_t length_bytes) {
    if (e->block == 0) return s->zero(s, file, e->offset_bytes, length_bytes);
    uint8_t *bytes = b->payload + (e->block - 1) * VS_BLOCK_BYTES + e->offset_bytes % VS_BLOCK_BYTES;
    struct iovec part = {bytes, length_bytes};
    return s->write(s, file, e->offset_bytes, &part, 1);
}

/* leader: put one volume's newest bytes of the batch onto its primary, up to the volume's end. */
static int volume_apply(vs_journal *j, const vs_batch *b, const vs_extent_map *m, const vs_primary *p, uint64_t size_bytes) {
    vs_extent e;
    int r = 0;
    for (uint64_t at = 0; r == 0 && vs_extent_map_find(m, at, &e) && e.offset_bytes < size_bytes; at = e.offset_bytes + e.length_bytes) {
        uint64_t left = size_bytes - e.offset_bytes, n = e.length_bytes < left ? e.length_bytes : left;
        r = run_apply(j->store, p->file, b, &e, n);
        if (r == 0 && e.block && n >= PIECE_BYTES) j->store->write_back(j->store, p->file, e.offset_bytes, n);
    }
    return r;
}

/* mu held. */
void vs_journal_primary_fail(vs_journal *j, vs_primary *p, int status) {
    if (!p->error) p->error = status;
    j->hold_applied = 1; /* the next open applies it again from the journal */
    vs_kept_fail_primary(&j->kept, p->volume);
}

/* leader. A primary counts as dirty when the bytes are there: a sync that began before does not cover them. */
void vs_journal_batch_apply(vs_journal *j, const vs_batch *b) {
    for (size_t i = 0; i < b->map_count; i++) {
        pthread_mutex_lock(&j->mu);
        vs_primary *p = vs_journal_primary(j, b->maps[i].volume);
        const vs_volume_state *v = vs_states_find(&j->head, b->maps[i].volume);
        uint64_t size_bytes = v && !v->removed ? v->size_bytes : 0;
        int skip = !p || p->error || vs_extent_map_count(b->maps[i].map) == 0;
        pthread_mutex_unlock(&j->mu);
        if (skip) continue;
        int r = volume_apply(j, b, b->maps[i].map, p, size_bytes);
        pthread_mutex_lock(&j->mu);
        if (!p->dirty_from) p->dirty_from = b->first_seqno;
        if (r < 0) vs_journal_primary_fail(j, p, r);
        pthread_mutex_unlock(&j->mu);
    }
}

/* mu held: up to where every primary that has not failed is synced. */
static uint64_t synced_seqno(const vs_journal *j) {
    uint64_t until = j->written_seqno;
    for (size_t i = 0; i < j->primary_count; i++) {
        const vs_primary *p = j->primaries[i];
        uint64_t from = p->syncing_from ? p->syncing_from : p->dirty_from; /* a sync under way is of what is older */
        if (!p->error && from && from - 1 < until) until = from - 1;
    }
    return until;
}

void vs_journal_applied_move(vs_journal *j) {
    uint64_t synced = synced_seqno(j);
    if (!j->hold_applied && synced > j->applied_seqno) j->applied_seqno = synced;
}

/* mu held, given up meanwhile: sync a primary that is dirty and that nobody syncs now. */
static void primary_sync(vs_journal *j, vs_primary *p) {
    p->syncing_from = p->dirty_from;
    p->dirty_from = 0;
    p->users++;
    pthread_mutex_unlock(&j->mu);
    int r = j->store->sync(j->store, p->file);
    pthread_mutex_lock(&j->mu);
    p->users--;
    p->syncing_from = 0;
    if (r < 0) vs_journal_primary_fail(j, p, r);
    vs_journal_applied_move(j);
    pthread_cond_broadcast(&j->changed);
}

/* mu held: the next of the primaries (volume 0: of all) with something up to target that is not synced; NULL: none. */
static vs_primary *primary_unsynced(const vs_journal *j, uint32_t volume, uint64_t target) {
    for (size_t i = 0; i < j->primary_count; i++) {
        vs_primary *p = j->primaries[i];
        uint64_t from = p->syncing_from ? p->syncing_from : p->dirty_from;
        if ((volume == 0 || p->volume == volume) && !p->error && from && from <= target) return p;
    }
    return NULL;
}

void vs_journal_sync_primaries(vs_journal *j, uint32_t volume, uint64_t target) {
    for (vs_primary *p; (p = primary_unsynced(j, volume, target));) { /* found anew after each wait: one may have gone */
        if (p->syncing_from) pthread_cond_wait(&j->changed, &j->mu);
        else primary_sync(j, p);
    }
}

/* ---- the leader's round ---- */

static int seal_due(const vs_journal *j) {
    const vs_index *x = j->active->index;
    return x->end_bytes >= j->options.segment_bytes || x->row_count >= VS_SEGMENT_ROWS_MAX;
}

/* Where a store does not know, or cannot say, there is room: a disk that fails is not one that is full. What is kept free is for everything else
 * that has to be written on a full disk. */
int vs_journal_has_room(const vs_journal *j) {
    if (!j->options.reserve_bytes || !j->store->free_bytes) return 1;
    int64_t free_bytes = j->store->free_bytes(j->store);
    return free_bytes < 0 || free_bytes >= (int64_t)j->options.reserve_bytes;
}

/* leader: the filled batch, if there is one. On failure it stays: reads of live volumes still find what was accepted. */
static int batch_flush(vs_journal *j) {
    pthread_mutex_lock(&j->mu);
    vs_batch *b = &j->batch[j->filling];
    uint64_t applied_seqno = j->applied_seqno;
    int taken = b->records > 0;
    if (taken) j->filling = !j->filling;
    pthread_mutex_unlock(&j->mu);
    if (!taken) return 0;
    if (b->payload_blocks && !vs_journal_has_room(j)) return fail(j, -ENOSPC);
    int r = vs_journal_commit_batch(j, b, applied_seqno);
    if (r < 0) return r;
    vs_journal_batch_apply(j, b);
    pthread_mutex_lock(&j->mu);
    j->written_seqno = b->last_seqno;
    vs_journal_applied_move(j);
    vs_batch_reset(b);
    pthread_mutex_unlock(&j->mu);
    return 0;
}

int vs_journal_flush(vs_journal *j) {
    int r = batch_flush(j);
    if (r < 0 || !seal_due(j)) return r;
    r = vs_journal_seal_active(j);
    pthread_mutex_lock(&j->mu);
    j->sync_wanted = 1;
    pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->mu);
    return r < 0 && r != -EAGAIN ? fail(j, r) : 0;
}

void vs_journal_lead_flush(vs_journal *j) {
    j->leading = 1;
    pthread_mutex_unlock(&j->mu);
    vs_journal_flush(j);
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_end(j);
}

uint64_t vs_journal_durable(const vs_journal *j) {
    return j->options.ack_journal ? j->committed_seqno : synced_seqno(j);
}

/* mu held, given up meanwhile. What was accepted when the journal failed is on the primaries and not in the journal (gap.h): that is all that a
 * volume's user can be told, and not enough for who wants a point. */
static int commit_without_journal(vs_journal *j, uint32_t volume) {
    pthread_mutex_unlock(&j->mu);
    vs_gap_settle(j);
    pthread_mutex_lock(&j->mu);
    if (volume == 0) return j->failed ? vs_journal_failed(j) : -EIO;
    vs_journal_sync_primaries(j, volume, UINT64_MAX);
    return 0;
}

int vs_journal_commit_volume(vs_journal *j, uint32_t volume) {
    if (!j->options.owner) return -EROFS;
    pthread_mutex_lock(&j->mu);
    uint64_t target = j->last_seqno, settled = j->gap.times;
    const uint64_t *reached = j->options.ack_journal ? &j->committed_seqno : &j->written_seqno;
    while (!j->failed && *reached < target && j->gap.times == settled) {
        if (j->leading) pthread_cond_wait(&j->changed, &j->mu);
        else vs_journal_lead_flush(j);
    }
    j->commit_waits++;
    int status = *reached >= target ? 0 : vs_journal_failed(j);
    if (j->options.available && (j->failed || j->gap.times != settled)) {
        status = commit_without_journal(j, volume);
    } else if (status == 0 && !j->options.ack_journal) {
        vs_journal_sync_primaries(j, volume, target);
    } else if (status == 0) {
        j->sync_wanted = 1;
        pthread_cond_signal(&j->work);
    }
    pthread_mutex_unlock(&j->mu);
    return status;
}

int vs_journal_commit(vs_journal *j) {
    return vs_journal_commit_volume(j, 0);
}

int vs_journal_seal(vs_journal *j) {
    int r = vs_journal_commit(j);
    if (r < 0) return r;
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_begin(j);
    r = vs_journal_failed(j);
    int due = r == 0 && j->active->index->last_seqno >= j->active->first_seqno;
    pthread_mutex_unlock(&j->mu);
    if (due) r = vs_journal_seal_active(j);
    if (r < 0 && r != -EAGAIN) fail(j, r);
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_end(j);
    pthread_mutex_unlock(&j->mu);
    return r;
}

/* ---- the owner's thread ---- */

static void *work(void *arg) {
    vs_journal *j = arg;
    pthread_mutex_lock(&j->mu);
    while (!j->stopping) {
        if (vs_gap_is_unsettled(j)) {
            pthread_mutex_unlock(&j->mu);
            vs_gap_settle(j);
            pthread_mutex_lock(&j->mu);
        } else if (early_due(j)) {
            vs_journal_lead_flush(j);
        } else if (j->sync_wanted) {
            j->sync_wanted = 0;
            vs_journal_sync_primaries(j, 0, j->written_seqno);
        } else {
            pthread_cond_wait(&j->work, &j->mu);
        }
    }
    pthread_mutex_unlock(&j->mu);
    return NULL;
}

int vs_journal_worker_start(vs_journal *j) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the process's own threads */
    int r = pthread_create(&j->worker, NULL, work, j);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r) return -r;
    j->working = 1;
    pthread_setname_np(j->worker, "vsnapfs-journal");
    return 0;
}

void vs_journal_worker_stop(vs_journal *j) {
    if (!j->working) return;
    pthread_mutex_lock(&j->mu);
    j->stopping = 1;
    pthread_cond_signal(&j->work);
    pthread_mutex_unlock(&j->mu);
    pthread_join(j->worker, NULL);
    j->working = 0;
}
