/* append.c: how a record gets into the journal's filling batch.
 *
 * It is answered from there. What happens to it afterwards is in commit.c; the memory that it lies in, and how it is counted, in kept.h.
 */
#include <errno.h>
#include <string.h>

#include "batch.h"

#define JUMP_NS UINT64_C(1000000000)
#define ZERO_MAX ((uint64_t)1 << 62)

/* mu held: wait until the filling batch takes another record. */
static int room_wait(vs_journal *j) {
    if (!j->options.owner) return -EROFS;
    while (!j->failed && vs_batch_full(&j->batch[j->filling], j->options.batch_bytes)) {
        if (j->leading) pthread_cond_wait(&j->changed, &j->mu);
        else vs_journal_lead_flush(j);
    }
    return vs_journal_failed(j);
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
    if (status < 0) return vs_journal_fail(j, status); /* out of memory half way: nothing after it can be trusted to be in order */
    if (q) vs_kept_note(&j->kept, q, r->seqno);
    vs_batch_publish(b, r->seqno);
    j->last_seqno = r->seqno;
    j->last_time_ns = r->time_ns;
    if (seqno) *seqno = r->seqno;
    vs_journal_work_tell(j);
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

int vs_journal_append(vs_journal *j, vs_record *r) {
    return append(j, r, NULL, NULL);
}

/* mu held, may be given up meanwhile: append a write or a zero. */
static int extent_put(vs_journal *j, vs_record *r, const vs_request *q, uint64_t *seqno) {
    const vs_volume_state *v = vs_states_find(&j->head, r->volume);
    const vs_primary *p = vs_journal_primary(j, r->volume);
    if (!v || v->removed) return -ENOENT;
    if (r->a > v->size_bytes || r->b > v->size_bytes - r->a) return -EINVAL;
    if (p && p->error) return -EIO;
    return append(j, r, q, seqno);
}

int vs_journal_append_extent(vs_journal *j, vs_record *r) {
    pthread_mutex_lock(&j->mu);
    int status = room_wait(j);
    if (status == 0) status = extent_put(j, r, NULL, NULL);
    pthread_mutex_unlock(&j->mu);
    return status;
}

/* Take mu, and before it the order of writes if there is one; it may begin while mu is waited for, or given up. */
static int ordered_lock(vs_journal *j) {
    for (;;) {
        int ordered = atomic_load(&j->gap.ordered) > 0;
        if (ordered) pthread_rwlock_rdlock(&j->gap.order);
        pthread_mutex_lock(&j->mu);
        if (ordered || atomic_load(&j->gap.ordered) == 0) return ordered;
        pthread_mutex_unlock(&j->mu);
    }
}

static void ordered_unlock(vs_journal *j, int ordered) {
    pthread_mutex_unlock(&j->mu);
    if (ordered) pthread_rwlock_unlock(&j->gap.order);
}

static int unprotected_append(vs_journal *j, const vs_record *r, int ordered, uint64_t *seqno) {
    pthread_mutex_unlock(&j->mu);
    if (!ordered) pthread_rwlock_rdlock(&j->gap.order);
    int status = vs_gap_write(j, r);
    pthread_rwlock_unlock(&j->gap.order);
    if (seqno) *seqno = 0;
    return status;
}

/* mu held, given up meanwhile: until a write's turn has come (hold.h). */
static int turn_wait(vs_journal *j, int *met) {
    int status;
    do status = room_wait(j);
    while (status == 0 && vs_hold_wait(j, met)); /* others may have filled the batch, or the journal failed */
    return status;
}

/* met: as in vs_hold_wait. */
static int extent_try(vs_journal *j, vs_record *r, const vs_request *q, uint64_t *seqno, int *met) {
    for (;;) {
        int ordered = ordered_lock(j);
        if (j->options.owner && vs_journal_find_request(j, q, seqno)) {
            ordered_unlock(j, ordered);
            return 0;
        }
        int status = turn_wait(j, met);
        if (status < 0 && j->failed && j->options.available && j->options.owner) return unprotected_append(j, r, ordered, seqno);
        if (!ordered && atomic_load(&j->gap.ordered)) { /* it began while we waited */
            ordered_unlock(j, ordered);
            continue;
        }
        if (status == 0) status = extent_put(j, r, q, seqno);
        if (status < 0 && j->failed && j->options.available) return unprotected_append(j, r, ordered, seqno);
        ordered_unlock(j, ordered);
        return status;
    }
}

static int extent_append(vs_journal *j, vs_record *r, const vs_request *q, uint64_t *seqno) {
    int met = 0, status = extent_try(j, r, q, seqno, &met);
    vs_hold_passed(j, met);
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
    case VS_RECORD_GAP_END:
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
