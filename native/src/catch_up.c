/* catch_up.c: how a gap is closed (gap.h, journal.h): the journal is verified on its medium and tells of the gap, what may differ is
 * compared piece by piece and journalled, and at the end the journal tells that nothing differs any more.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "view.h"

enum { PIECE_BYTES = 1 << 20, PIECE_BLOCKS = PIECE_BYTES / VS_BLOCK_BYTES, REASON_MAX = 160 };

/* leader: is what was committed on the medium, all of it and right? Then cut off what is behind it. */
static int active_verify(vs_journal *j) {
    vs_segment *g = j->active;
    vs_store *s = j->store;
    uint64_t end = g->data_end;
    int file = s->open(s, g->name, VS_OPEN_WRITE);
    if (file < 0) return file;
    int r = s->sync(s, file);
    if (r == 0) r = s->forget(s, file);
    vs_digest *digest = NULL;
    vs_index *x = malloc(sizeof *x);
    if (!x) r = -ENOMEM;
    if (r == 0) r = vs_segment_load_header(g, j->options.uuid);
    if (r == 0) r = vs_segment_digest_begin(g, &digest);
    if (r == 0) {
        vs_index_init(x, g->first_seqno, g->time_before_ns);
        vs_scan scan = {.limit_bytes = end, .check_payload = 1, .digest = digest};
        r = vs_scan_batches(g, x, &scan);
        if (r == 0 && (x->end_bytes != end || x->last_seqno != g->last_seqno))
            r = vs_fault_set(-EUCLEAN, 0, x->last_seqno + 1, g->first_seqno, x->end_bytes, "%s does not read back as it was committed", g->name);
        vs_index_free(x);
    } else {
        free(x);
    }
    if (r == 0) r = s->truncate(s, file, end);
    if (r == 0) r = s->sync(s, file);
    if (r < 0) {
        vs_digest_free(digest);
        s->close(s, file);
        return r;
    }
    if (j->active_file >= 0) s->close(s, j->active_file);
    vs_digest_free(j->digest);
    j->digest = digest;
    j->active_file = file;
    j->ahead_bytes = 0;
    return 0;
}

/* leader: a journal that can be appended to. */
static int reopen(vs_journal *j, int in_reserve) {
    if (!in_reserve && !vs_journal_has_room(j)) return -ENOSPC;
    if (!j->active->sealed) return active_verify(j);
    if (j->active_file >= 0) j->store->close(j->store, j->active_file); /* sealed, and the next one could not be begun */
    j->active_file = -1;
    return vs_journal_begin_segment(j);
}

/* leader, mu held: the record that tells of the gap, the first behind it. */
static int note(vs_journal *j) {
    char body[REASON_MAX + 32];
    int n = snprintf(body, sizeof body, "{\"reason\":\"%s\"}", strerror(-j->gap.reason));
    vs_record r = {.type = VS_RECORD_GAP_BEGIN, .a = j->gap.since_ns, .b = j->gap.since_seqno, .body = body, .body_bytes = (uint32_t)n};
    return vs_journal_append(j, &r);
}

int vs_journal_revive(vs_journal *j, int in_reserve) {
    if (!j->options.owner) return -EROFS;
    vs_gap_settle(j);
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_begin(j);
    int wanted = j->gap.state == VS_GAP_OPEN, failed = j->failed;
    pthread_mutex_unlock(&j->mu);
    int r = wanted && failed ? reopen(j, in_reserve) : 0;
    pthread_mutex_lock(&j->mu);
    if (r == 0 && wanted) {
        j->failed = 0;
        j->gap.settled = 0;
        atomic_store(&j->kept.batches->failed, 0);
        r = note(j);
        pthread_mutex_unlock(&j->mu);
        if (r == 0) r = vs_journal_flush(j);
        pthread_mutex_lock(&j->mu);
        if (r == 0) j->gap.state = VS_GAP_NOTED;
    }
    vs_journal_lead_end(j);
    pthread_mutex_unlock(&j->mu);
    return r < 0 ? r : wanted;
}

int vs_journal_next_changed(vs_journal *j, uint32_t volume, uint64_t from_bytes, uint64_t *offset_bytes, uint64_t *length_bytes) {
    pthread_mutex_lock(&j->mu);
    const vs_primary *p = vs_journal_primary(j, volume);
    const vs_volume_state *v = vs_states_find(&j->head, volume);
    uint64_t size = v && !v->removed ? v->size_bytes : 0;
    int there = 0;
    uint64_t end;
    pthread_mutex_lock(&j->gap.bits_mu);
    if (p) there = vs_changed_next(&p->changed, from_bytes, size, offset_bytes, &end);
    if (there) *length_bytes = end - *offset_bytes < PIECE_BYTES ? end - *offset_bytes : PIECE_BYTES;
    pthread_mutex_unlock(&j->gap.bits_mu);
    pthread_mutex_unlock(&j->mu);
    return there;
}

uint64_t vs_gap_changed_bytes(vs_journal *j) {
    uint64_t bytes = 0;
    pthread_mutex_lock(&j->gap.bits_mu);
    for (size_t i = 0; j->gap.state != VS_GAP_NONE && i < j->primary_count; i++) {
        const vs_volume_state *v = vs_states_find(&j->head, j->primaries[i]->volume);
        for (uint64_t at, end = 0; v && vs_changed_next(&j->primaries[i]->changed, end, v->size_bytes, &at, &end);) bytes += end - at;
    }
    pthread_mutex_unlock(&j->gap.bits_mu);
    return bytes;
}

/* The newest state of a piece, block by block where it is damaged: *sound has a bit for each block that could be read. */
static int past_read(vs_view *newest, uint64_t offset_bytes, uint8_t *past, uint64_t length_bytes, uint8_t sound[PIECE_BLOCKS]) {
    int64_t n = vs_view_read(newest, offset_bytes, past, length_bytes);
    memset(sound, n >= 0, PIECE_BLOCKS);
    if (n >= 0 || n != -EBADMSG) return n < 0 ? (int)n : 0;
    for (uint64_t at = 0, i = 0; at < length_bytes; at += VS_BLOCK_BYTES, i++) {
        uint64_t step = length_bytes - at < VS_BLOCK_BYTES ? length_bytes - at : VS_BLOCK_BYTES;
        n = vs_view_read(newest, offset_bytes + at, past + at, step);
        if (n < 0 && n != -EBADMSG) return (int)n;
        sound[i] = n >= 0;
    }
    return 0;
}

/* How many bytes from `at` on are to be journalled as one record: neighbouring blocks that differ, all of zeros or none. 0: the block is as it was.
 * What is damaged in the journal differs. */
static uint64_t run_length(const uint8_t *live, const uint8_t *past, const uint8_t *sound, uint64_t at, uint64_t end) {
    uint64_t from = at;
    int zero = -1;
    for (uint64_t step; at < end; at += step) {
        step = end - at < VS_BLOCK_BYTES ? end - at : VS_BLOCK_BYTES;
        int is_zero = vs_is_zero(live + at, step);
        if (sound[at / VS_BLOCK_BYTES] && memcmp(live + at, past + at, step) == 0) break;
        if (zero >= 0 && is_zero != zero) break;
        zero = is_zero;
    }
    return at - from;
}

/* order held for writing: journal where the live bytes of a piece differ from the newest state. */
static int piece_compare(vs_journal *j, uint32_t volume, vs_view *newest, uint64_t offset_bytes, uint64_t length_bytes, uint8_t *live, uint64_t *changed) {
    uint8_t *past = live + PIECE_BYTES, sound[PIECE_BLOCKS];
    int64_t n = vs_journal_read_live(j, volume, offset_bytes, live, length_bytes);
    int r = n < 0 ? (int)n : past_read(newest, offset_bytes, past, (uint64_t)n, sound);
    for (uint64_t at = 0, end = n < 0 ? 0 : (uint64_t)n, run; r == 0 && at < end; at += run ? run : VS_BLOCK_BYTES) {
        run = run_length(live, past, sound, at, end);
        if (run == 0) continue;
        vs_record record = {.type = VS_RECORD_WRITE, .volume = volume, .a = offset_bytes + at, .b = run, .body = live + at};
        if (vs_is_zero(live + at, run)) record.type = VS_RECORD_ZERO, record.body = NULL;
        r = vs_journal_append_extent(j, &record);
        *changed += run;
    }
    return r;
}

static void piece_clear(vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes) {
    pthread_mutex_lock(&j->mu);
    vs_primary *p = vs_journal_primary(j, volume);
    const vs_volume_state *v = vs_states_find(&j->head, volume);
    pthread_mutex_lock(&j->gap.bits_mu);
    if (p && v) vs_changed_clear(&p->changed, offset_bytes, offset_bytes + length_bytes, v->size_bytes);
    pthread_mutex_unlock(&j->gap.bits_mu);
    pthread_mutex_unlock(&j->mu);
}

int vs_journal_resync(vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes, uint64_t *changed_bytes) {
    *changed_bytes = 0;
    if (!j->options.owner) return -EROFS;
    if (length_bytes == 0 || length_bytes > PIECE_BYTES || offset_bytes % VS_BLOCK_BYTES) return -EINVAL;
    uint8_t *live = malloc(2 * PIECE_BYTES);
    if (!live) return -ENOMEM;
    pthread_mutex_lock(&j->mu);
    atomic_fetch_add(&j->gap.ordered, 1);
    pthread_mutex_unlock(&j->mu);
    pthread_rwlock_wrlock(&j->gap.order);
    pthread_mutex_lock(&j->mu);
    int r = vs_journal_failed(j);
    pthread_mutex_unlock(&j->mu);
    if (r == 0) r = vs_journal_commit(j);
    vs_view *newest = NULL;
    if (r == 0) {
        vs_journal_facts facts;
        vs_journal_facts_get(j, &facts);
        r = vs_view_open(j, volume, facts.committed_seqno, &newest);
    }
    if (r == 0) {
        r = piece_compare(j, volume, newest, offset_bytes, length_bytes, live, changed_bytes);
        vs_view_close(newest);
    }
    if (r == 0) piece_clear(j, volume, offset_bytes, length_bytes);
    pthread_rwlock_unlock(&j->gap.order);
    atomic_fetch_sub(&j->gap.ordered, 1);
    free(live);
    return r;
}

/* order held for writing: nothing is left that differs, and it is on the medium. */
static int gap_close(vs_journal *j) {
    pthread_mutex_lock(&j->mu);
    uint64_t left = vs_gap_changed_bytes(j);
    pthread_mutex_unlock(&j->mu);
    if (left) return -EAGAIN;
    int r = vs_journal_event(j, VS_RECORD_GAP_END, 0, j->gap.since_ns, j->gap.since_seqno, "{}", 2, NULL, NULL);
    if (r == 0) r = vs_journal_commit(j);
    if (r < 0) return r;
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_begin(j);
    pthread_mutex_unlock(&j->mu);
    for (size_t i = 0; i < j->primary_count; i++) vs_changed_close_gap(j, j->primaries[i]);
    pthread_mutex_lock(&j->mu);
    j->gap.state = VS_GAP_NONE;
    vs_journal_lead_end(j);
    pthread_mutex_unlock(&j->mu);
    atomic_fetch_sub(&j->gap.ordered, 1);
    return 0;
}

int vs_journal_gap_close(vs_journal *j) {
    if (!j->options.owner) return -EROFS;
    pthread_rwlock_wrlock(&j->gap.order);
    pthread_mutex_lock(&j->mu);
    int state = j->gap.state, r = vs_journal_failed(j);
    pthread_mutex_unlock(&j->mu);
    if (r == 0 && state == VS_GAP_NOTED) r = gap_close(j);
    else if (r == 0 && state == VS_GAP_OPEN) r = -EAGAIN;
    pthread_rwlock_unlock(&j->gap.order);
    return r;
}
