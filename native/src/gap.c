/* gap.c: see gap.h. From a journal that failed to primaries that have everything. */
#include "gap.h"

#include <errno.h>
#include <string.h>

#include "batch.h"

/* Whoever compares a piece goes before the next writes, or they might keep it waiting for ever. */
int vs_gap_init(vs_journal *j) {
    pthread_rwlockattr_t fair;
    pthread_rwlockattr_init(&fair);
    pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    int r = pthread_rwlock_init(&j->gap.order, &fair);
    pthread_rwlockattr_destroy(&fair);
    return r ? -r : -pthread_mutex_init(&j->gap.bits_mu, NULL);
}

void vs_gap_end(vs_journal *j) {
    pthread_mutex_destroy(&j->gap.bits_mu);
    pthread_rwlock_destroy(&j->gap.order);
}

int vs_gap_is_unsettled(const vs_journal *j) {
    return j->failed && j->options.available && !j->gap.settled;
}

/* leader: note for every volume that there is a gap, before the first write that is not in the journal. Its primary has everything that is
 * committed by then; one that has failed gets nothing any more, and stays as it is known. */
static void gap_begin(vs_journal *j) {
    vs_gap *g = &j->gap;
    pthread_mutex_lock(&j->mu);
    vs_journal_sync_primaries(j, 0, UINT64_MAX);
    if (g->state == VS_GAP_NONE) {
        g->since_seqno = j->committed_seqno;
        g->since_ns = j->active->last_time_ns + 1;
        atomic_fetch_add(&g->ordered, 1);
    }
    g->state = VS_GAP_OPEN; /* also where one was being closed: it goes on */
    g->reason = j->failed;
    g->floor_seqno = j->committed_seqno;
    pthread_mutex_unlock(&j->mu);
    for (size_t i = 0; i < j->primary_count; i++) {
        pthread_mutex_lock(&j->mu);
        int sound = j->primaries[i]->error == 0;
        pthread_mutex_unlock(&j->mu);
        if (sound) vs_changed_open_gap(j, j->primaries[i]);
    }
}

/* leader: the ranges of a batch that will be on its primaries and not in the journal. */
static void batch_mark(vs_journal *j, const vs_batch *b) {
    vs_extent e;
    for (size_t i = 0; i < b->map_count; i++) {
        pthread_mutex_lock(&j->mu);
        vs_primary *p = vs_journal_primary(j, b->maps[i].volume);
        pthread_mutex_unlock(&j->mu);
        for (uint64_t at = 0; p && vs_extent_map_find(b->maps[i].map, at, &e); at = e.offset_bytes + e.length_bytes)
            vs_changed_mark(j, p, e.offset_bytes, e.length_bytes);
    }
}

/* mu held: history ends with what is committed. */
static int head_back(vs_journal *j) {
    vs_states_clear(&j->head);
    j->last_seqno = j->written_seqno = j->committed_seqno;
    return vs_journal_states(j->directory, j->directory->count - 1, j->committed_seqno, &j->head);
}

/* leader. What was accepted and is not in the journal was answered all the same: the application has to find it. */
static void settle(vs_journal *j) {
    gap_begin(j);
    for (int i = 0; i < 2; i++) {
        vs_batch *b = &j->batch[i ? j->filling : !j->filling];
        if (b->records) batch_mark(j, b);
    }
    for (int i = 0; i < 2; i++) {
        vs_batch *b = &j->batch[i ? j->filling : !j->filling];
        if (b->records) vs_journal_batch_apply(j, b);
    }
    pthread_mutex_lock(&j->mu);
    for (int i = 0; i < 2; i++) vs_batch_reset(&j->batch[i]);
    if (head_back(j) < 0) j->hold_applied = 1; /* no memory: sizes are not known, so that nothing more can be written; see vs_gap_write */
    j->gap.settled = 1;
    j->gap.times++;
    vs_journal_sync_primaries(j, 0, UINT64_MAX);
    pthread_mutex_unlock(&j->mu);
}

void vs_gap_settle(vs_journal *j) {
    pthread_mutex_lock(&j->mu);
    if (vs_gap_is_unsettled(j)) {
        vs_journal_lead_begin(j);
        if (vs_gap_is_unsettled(j)) {
            pthread_mutex_unlock(&j->mu);
            settle(j);
            pthread_mutex_lock(&j->mu);
        }
        vs_journal_lead_end(j);
    }
    pthread_mutex_unlock(&j->mu);
}

/* mu held: the primary that takes a write at r, counted as used; or why not. */
static int primary_take(vs_journal *j, const vs_record *r, vs_primary **out) {
    const vs_volume_state *v = vs_states_find(&j->head, r->volume);
    vs_primary *p = vs_journal_primary(j, r->volume);
    if (!v || v->removed) return -ENOENT;
    if (!p) return vs_journal_failed(j);
    if (r->a > v->size_bytes || r->b > v->size_bytes - r->a) return -EINVAL;
    if (p->error) return -EIO;
    p->users++;
    *out = p;
    return 0;
}

int vs_gap_write(vs_journal *j, const vs_record *r) {
    vs_primary *p = NULL;
    vs_gap_settle(j);
    pthread_mutex_lock(&j->mu);
    int status = primary_take(j, r, &p);
    pthread_mutex_unlock(&j->mu);
    if (status < 0) return status;
    vs_changed_mark(j, p, r->a, r->b);
    struct iovec part = {(void *)(uintptr_t)r->body, r->b};
    status = r->body ? j->store->write(j->store, p->file, r->a, &part, 1) : j->store->zero(j->store, p->file, r->a, r->b);
    pthread_mutex_lock(&j->mu);
    if (!p->dirty_from) p->dirty_from = j->committed_seqno;
    if (status < 0) vs_journal_primary_fail(j, p, status);
    if (--p->users == 0) pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->mu);
    return status;
}
