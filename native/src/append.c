/* append.c: how a record gets into the journal, and from there onto its primary.
 *
 * Group commit without threads of our own: whoever needs the journal on disk and finds nobody at it becomes the leader. It takes
 * the filled batch, writes it while others fill the other one, syncs, applies it, and wakes all who waited for it.
 *
 *   append   -> filling batch (memory)                      answered
 *   commit   -> payload, descriptors, fdatasync             committed: the journal has it
 *            -> primaries written, fdatasync                applied: the primary has it too; then the answer (ack = both)
 *
 * A failed write or sync of the journal is final: `failed` is set and stays. What the file holds after it is unknown until a recovery
 * has read it again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"

#define JUMP_NS UINT64_C(1000000000)
#define ZERO_MAX ((uint64_t)1 << 62)

void vs_journal_lead_begin(vs_journal *j) {
    while (j->leading) pthread_cond_wait(&j->changed, &j->mu);
    j->leading = 1;
}

void vs_journal_lead_end(vs_journal *j) {
    j->leading = 0;
    pthread_cond_broadcast(&j->changed);
}

/* mu held. The next process is told too: it must not believe what the page cache says of a sync that failed. */
static int fail_locked(vs_journal *j, int status) {
    if (!j->failed) j->failed = status;
    atomic_store(&j->kept.batches->failed, j->failed);
    return status;
}

static int fail(vs_journal *j, int status) {
    pthread_mutex_lock(&j->mu);
    fail_locked(j, status);
    pthread_mutex_unlock(&j->mu);
    return status;
}

/* leader: payload first, then the descriptors that vouch for it. */
static int batch_store(vs_journal *j, const vs_batch *b, const uint8_t *descriptors, uint32_t count, uint64_t at) {
    vs_store *s = j->store;
    struct iovec payload = {b->payload, b->payload_blocks * VS_BLOCK_BYTES};
    struct iovec head = {(void *)(uintptr_t)descriptors, (size_t)count * VS_BLOCK_BYTES};
    int r = payload.iov_len ? s->write(s, j->active_file, at + head.iov_len, &payload, 1) : 0;
    if (r == 0) r = s->write(s, j->active_file, at, &head, 1);
    if (r == 0) r = s->sync(s, j->active_file);
    if (r == 0) r = vs_digest_update(j->digest, descriptors, head.iov_len);
    return r == 0 && payload.iov_len ? vs_digest_update(j->digest, b->payload, payload.iov_len) : r;
}

int vs_journal_commit_batch(vs_journal *j, const vs_batch *b, uint64_t applied_seqno) {
    vs_segment *g = j->active;
    uint8_t *descriptors;
    uint32_t count;
    uint64_t payload;
    int r = vs_batch_descriptors(b, g->salt, b->first_seqno, applied_seqno, &descriptors, &count);
    if (r < 0) return fail(j, r);
    r = batch_store(j, b, descriptors, count, g->index->end_bytes);
    if (r == 0) {
        pthread_mutex_lock(&j->mu);
        r = vs_index_add_batch(g->index, descriptors, count, g->salt, UINT64_MAX, &payload);
        g->last_seqno = g->index->last_seqno;
        g->last_time_ns = g->index->last_time_ns;
        g->data_end = g->index->end_bytes;
        if (r == 0) {
            j->committed_seqno = g->index->last_seqno;
            j->payload_bytes += payload * VS_BLOCK_BYTES;
            j->commits++;
        }
        pthread_mutex_unlock(&j->mu);
    }
    free(descriptors);
    if (r < 0) {
        vs_fault_set(-EIO, 0, b->first_seqno, g->first_seqno, g->index->end_bytes, "journal: %s could not be written: %s", g->name, strerror(-r));
        return fail(j, r);
    }
    return 0;
}

static int run_apply(vs_store *s, int file, const vs_batch *b, const vs_extent *e, uint64_t length_bytes) {
    if (e->block == 0) return s->zero(s, file, e->offset_bytes, length_bytes);
    uint8_t *bytes = b->payload + (e->block - 1) * VS_BLOCK_BYTES + e->offset_bytes % VS_BLOCK_BYTES;
    struct iovec part = {bytes, length_bytes};
    return s->write(s, file, e->offset_bytes, &part, 1);
}

/* leader: put one volume's newest bytes of the batch onto its primary, up to the volume's end. */
static int volume_apply(vs_journal *j, const vs_batch *b, const vs_extent_map *m, vs_primary *p, uint64_t size_bytes) {
    vs_extent e;
    int r = 0;
    for (uint64_t at = 0; r == 0 && vs_extent_map_find(m, at, &e) && e.offset_bytes < size_bytes; at = e.offset_bytes + e.length_bytes) {
        uint64_t left = size_bytes - e.offset_bytes;
        r = run_apply(j->store, p->file, b, &e, e.length_bytes < left ? e.length_bytes : left);
    }
    p->dirty = 1;
    return r;
}

static void primary_fail(vs_journal *j, vs_primary *p, int status) {
    pthread_mutex_lock(&j->mu);
    if (!p->error) p->error = status;
    j->hold_applied = 1; /* the next open applies it again from the journal */
    vs_kept_fail_primary(&j->kept, p->volume);
    pthread_mutex_unlock(&j->mu);
}

static void batch_apply(vs_journal *j, const vs_batch *b) {
    for (size_t i = 0; i < b->map_count; i++) {
        pthread_mutex_lock(&j->mu);
        vs_primary *p = vs_journal_primary(j, b->maps[i].volume);
        const vs_volume_state *v = vs_states_find(&j->head, b->maps[i].volume);
        uint64_t size_bytes = v && !v->removed ? v->size_bytes : 0;
        pthread_mutex_unlock(&j->mu);
        if (!p || p->error) continue;
        int r = volume_apply(j, b, b->maps[i].map, p, size_bytes);
        if (r < 0) primary_fail(j, p, r);
    }
}

static void primaries_sync(vs_journal *j) {
    for (size_t i = 0; i < j->primary_count; i++) {
        vs_primary *p = j->primaries[i];
        if (!p->dirty || p->error) continue;
        int r = j->store->sync(j->store, p->file);
        if (r < 0) primary_fail(j, p, r);
        else p->dirty = 0;
    }
}

static int seal_due(const vs_journal *j) {
    const vs_index *x = j->active->index;
    return x->end_bytes >= j->options.segment_bytes || x->row_count >= VS_SEGMENT_ROWS_MAX;
}

int vs_journal_flush(vs_journal *j, int durable) {
    pthread_mutex_lock(&j->mu);
    vs_batch *b = &j->batch[j->filling];
    uint64_t applied_seqno = j->applied_seqno;
    int taken = b->records > 0;
    if (taken) j->filling = !j->filling;
    pthread_mutex_unlock(&j->mu);
    if (taken) {
        int r = vs_journal_commit_batch(j, b, applied_seqno);
        if (r < 0) return r; /* the batch stays: reads of live volumes still find what was accepted */
        if (j->options.ack_journal) {
            pthread_mutex_lock(&j->mu);
            j->durable_seqno = j->committed_seqno;
            pthread_cond_broadcast(&j->changed);
            pthread_mutex_unlock(&j->mu);
        }
        batch_apply(j, b);
    }
    int seal = seal_due(j);
    if (durable || seal) primaries_sync(j);
    pthread_mutex_lock(&j->mu);
    if (taken) vs_batch_reset(b);
    if (durable || seal) {
        j->durable_seqno = j->committed_seqno;
        if (!j->hold_applied) j->applied_seqno = j->committed_seqno;
    }
    pthread_mutex_unlock(&j->mu);
    int r = seal ? vs_journal_seal_active(j) : 0;
    return r < 0 && r != -EAGAIN ? fail(j, r) : 0;
}

/* mu held: lead one flush. */
static void flush_locked(vs_journal *j, int durable) {
    j->leading = 1;
    pthread_mutex_unlock(&j->mu);
    vs_journal_flush(j, durable);
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_end(j);
}

/* What callers get after the journal has failed: a full disk is a thing that people can mend. */
static int failed_status(const vs_journal *j) {
    return j->failed == 0 ? 0 : j->failed == -ENOSPC ? -ENOSPC : -EIO;
}

/* mu held: wait until the filling batch takes another record. */
static int room_wait(vs_journal *j) {
    if (!j->options.owner) return -EROFS;
    while (!j->failed && vs_batch_full(&j->batch[j->filling], j->options.batch_bytes)) {
        if (j->leading) pthread_cond_wait(&j->changed, &j->mu);
        else flush_locked(j, 0);
    }
    return failed_status(j);
}

static uint64_t next_time(vs_journal *j) {
    uint64_t now = j->store->now_ns(j->store);
    if (now + JUMP_NS < j->last_time_ns) j->clock_jumps++;
    return now > j->last_time_ns ? now : j->last_time_ns + 1;
}

/* mu held: the record's effect on the states of volumes. */
static int head_fold(vs_journal *j, const vs_record *r) {
    vs_volume_state *v = vs_states_find(&j->head, r->volume);
    if (r->type == VS_RECORD_VOLUME_ADD) {
        v = vs_states_add(&j->head, r->volume);
        if (!v) return -ENOMEM;
        v->size_bytes = r->b;
        v->added_seqno = r->seqno;
    }
    if (!v) return 0;
    if (r->type == VS_RECORD_VOLUME_RESIZE) v->size_bytes = r->b;
    if (r->type == VS_RECORD_VOLUME_REMOVE) v->removed = 1;
    if (r->type <= VS_RECORD_VOLUME_RESIZE) {
        v->last_write_seqno = r->seqno;
        v->last_write_ns = r->time_ns;
    }
    return 0;
}

/* mu held. */
static int append(vs_journal *j, vs_record *r, const vs_request *q, uint64_t *seqno) {
    vs_batch *b = &j->batch[j->filling];
    r->seqno = j->last_seqno + 1;
    r->time_ns = next_time(j);
    if (r->type == VS_RECORD_BOOKMARK_ADD && r->a == 0) r->a = r->seqno;
    int status = head_fold(j, r);
    if (status == 0) status = vs_batch_put(b, r);
    if (status < 0) return fail_locked(j, status); /* out of memory half way: nothing after it can be trusted to be in order */
    if (q) vs_kept_note(&j->kept, q, r->seqno);
    vs_batch_publish(b, r->seqno);
    j->last_seqno = r->seqno;
    j->last_time_ns = r->time_ns;
    if (seqno) *seqno = r->seqno;
    return 0;
}

int vs_journal_find_request(vs_journal *j, const vs_request *q, uint64_t *seqno) {
    if (!q || !(q->number & VS_REQUEST_RESENT)) return 0;
    uint64_t found = vs_kept_find(&j->kept, q->number);
    if (!found) return 0;
    vs_kept_note(&j->kept, q, found); /* its answer may be lost once more */
    if (seqno) *seqno = found;
    return 1;
}

static int extent_append(vs_journal *j, vs_record *r, const vs_request *q, uint64_t *seqno) {
    pthread_mutex_lock(&j->mu);
    if (j->options.owner && vs_journal_find_request(j, q, seqno)) {
        pthread_mutex_unlock(&j->mu);
        return 0;
    }
    int status = room_wait(j);
    const vs_volume_state *v = vs_states_find(&j->head, r->volume);
    const vs_primary *p = vs_journal_primary(j, r->volume);
    if (status == 0 && (!v || v->removed)) status = -ENOENT;
    if (status == 0 && (r->a > v->size_bytes || r->b > v->size_bytes - r->a)) status = -EINVAL;
    if (status == 0 && p && p->error) status = -EIO;
    if (status == 0) status = append(j, r, q, seqno);
    pthread_mutex_unlock(&j->mu);
    return status;
}

int vs_journal_write(vs_journal *j, uint32_t volume, uint64_t offset_bytes, const void *buf, uint64_t length_bytes, const vs_request *q,
                     uint64_t *seqno) {
    if (length_bytes == 0 || length_bytes > VS_WRITE_MAX) return -EINVAL;
    int zero = vs_is_zero(buf, length_bytes);
    vs_record r = {.type = zero ? VS_RECORD_ZERO : VS_RECORD_WRITE, .volume = volume, .a = offset_bytes, .b = length_bytes,
                   .body = zero ? NULL : buf};
    return extent_append(j, &r, q, seqno);
}

int vs_journal_zero(vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes, const vs_request *q, uint64_t *seqno) {
    if (length_bytes == 0 || length_bytes > ZERO_MAX) return -EINVAL;
    vs_record r = {.type = VS_RECORD_ZERO, .volume = volume, .a = offset_bytes, .b = length_bytes};
    return extent_append(j, &r, q, seqno);
}

/* mu held: is the event one that the state of the volumes allows? */
static int event_check(const vs_journal *j, const vs_record *r) {
    const vs_volume_state *v = vs_states_find(&j->head, r->volume);
    switch (r->type) {
    case VS_RECORD_VOLUME_ADD:
        return v ? -EEXIST : r->b == 0 || r->b > ZERO_MAX ? -EINVAL : 0;
    case VS_RECORD_VOLUME_RESIZE:
        if (!v || v->removed) return -ENOENT;
        return r->b == 0 || r->b > ZERO_MAX || r->b == v->size_bytes ? -EINVAL : 0;
    case VS_RECORD_VOLUME_REMOVE:
        return !v || v->removed ? -ENOENT : 0;
    case VS_RECORD_BOOKMARK_ADD:
        return r->a > j->last_seqno ? -ERANGE : 0;
    case VS_RECORD_BOOKMARK_REMOVE:
    case VS_RECORD_BOOKMARK_HOLD:
        return 0;
    default:
        return -EINVAL;
    }
}

int vs_journal_event(vs_journal *j, uint32_t type, uint32_t volume, uint64_t a, uint64_t b, const void *body, uint32_t body_bytes,
                     uint64_t *seqno, uint32_t *volume_out) {
    if (body_bytes > VS_BODY_MAX) return -EINVAL;
    vs_record r = {.type = type, .volume = volume, .a = a, .b = b, .body = body, .body_bytes = body_bytes};
    pthread_mutex_lock(&j->mu);
    int status = room_wait(j);
    if (status == 0 && type == VS_RECORD_VOLUME_ADD && volume == 0)
        r.volume = j->head.count ? j->head.volumes[j->head.count - 1].id + 1 : 1;
    if (status == 0) status = event_check(j, &r);
    if (status == 0 && type == VS_RECORD_VOLUME_RESIZE) r.a = vs_states_find(&j->head, volume)->size_bytes;
    if (status == 0) status = append(j, &r, NULL, seqno);
    if (volume_out) *volume_out = r.volume;
    pthread_mutex_unlock(&j->mu);
    return status;
}

int vs_journal_commit(vs_journal *j) {
    if (!j->options.owner) return -EROFS;
    pthread_mutex_lock(&j->mu);
    uint64_t target = j->last_seqno;
    while (!j->failed && j->durable_seqno < target) {
        if (j->leading) pthread_cond_wait(&j->changed, &j->mu);
        else flush_locked(j, 1);
    }
    j->commit_waits++;
    int status = j->durable_seqno >= target ? 0 : failed_status(j);
    pthread_mutex_unlock(&j->mu);
    return status;
}

int vs_journal_seal(vs_journal *j) {
    int r = vs_journal_commit(j);
    if (r < 0) return r;
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_begin(j);
    int due = !j->failed && j->active->index->last_seqno >= j->active->first_seqno;
    pthread_mutex_unlock(&j->mu);
    if (due) r = vs_journal_seal_active(j);
    if (r < 0 && r != -EAGAIN) fail(j, r);
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_end(j);
    pthread_mutex_unlock(&j->mu);
    return r;
}
