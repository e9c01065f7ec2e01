/* journal.c: opening and closing a journal, and its figures. Loading its segments: opening.c; following: follow.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "generation.h"
#include "opening.h"

enum { SEGMENT_BYTES = 64 << 20, BATCH_BYTES = 8 << 20 };

vs_directory *vs_journal_directory(vs_journal *j) {
    pthread_mutex_lock(&j->mu);
    vs_directory *d = vs_directory_ref(j->directory);
    pthread_mutex_unlock(&j->mu);
    return d;
}

int vs_journal_begin_head(vs_journal *j) {
    const vs_segment *last = vs_directory_last(j->directory);
    j->last_seqno = j->committed_seqno = j->written_seqno = last->last_seqno;
    j->last_time_ns = last->last_time_ns;
    j->applied_seqno = last->applied_seqno;
    if (last->floor_seqno > j->floor_seqno) j->floor_seqno = last->floor_seqno;
    return vs_journal_states(j->directory, j->directory->count - 1, UINT64_MAX, &j->head);
}

/* Where records are in bases alone, each volume that stands has one that is as late: otherwise somebody has put an older one there. One that is damaged
 * costs its volume. */
static int bases_check(vs_journal *j) {
    int r = 0;
    for (size_t i = 0; r == 0 && !j->options.sound_part && i < j->head.count; i++) {
        const vs_volume_state *v = &j->head.volumes[i];
        vs_base *base = NULL;
        uint64_t needed = vs_directory_base_needed(j->directory, v);
        if (needed == 0) continue;
        r = vs_journal_base(j, v->id, needed, &base);
        if (r == -EBADMSG) r = 0;
        vs_base_unref(base);
    }
    return r;
}

/* Owner: memory for batches, with what a process before this one may have left in it. */
static int kept_begin(vs_journal *j) {
    uint64_t payload_bytes = vs_batch_payload_bytes(j->options.batch_bytes);
    int r = vs_kept_open(&j->kept, j->options.keep, j->options.uuid, vs_batch_stream_bytes(), payload_bytes);
    for (int i = 0; r == 0 && i < 2; i++) vs_batch_init(&j->batch[i], &j->kept, i, j->options.batch_bytes);
    return r;
}

static int owner_begin(vs_journal *j) {
    int r = j->active ? 0 : vs_journal_begin_segment(j);
    if (r == 0) r = vs_journal_take_over(j);
    if (r < 0) return r;
    atomic_store(&j->kept.batches->failed, 0); /* what is in the file now was read back, or has just been synced */
    atomic_store(&j->kept.batches->used, 1);
    vs_generation_write(j, j->directory->generation);
    vs_journal_superseded(j); /* what cannot be deleted stays on the list */
    return vs_journal_worker_start(j);
}

static void journal_free(vs_journal *j) {
    vs_superseded_end(j);
    vs_directory_unref(j->directory);
    vs_leases_close(&j->leases);
    for (int i = 0; i < 2; i++) vs_batch_end(&j->batch[i]);
    vs_kept_close(&j->kept);
    if (j->active_file >= 0) j->store->close(j->store, j->active_file);
    if (j->digest) vs_digest_free(j->digest);
    vs_journal_bases_close(j);
    vs_states_clear(&j->head);
    vs_files_end(&j->files);
    pthread_cond_destroy(&j->work);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->mu);
    pthread_mutex_destroy(&j->generations_mu);
    pthread_mutex_destroy(&j->move_mu);
    for (size_t i = 0; i < j->primary_count; i++) {
        vs_changed_end(j, j->primaries[i]);
        free(j->primaries[i]);
    }
    vs_gap_end(j);
    vs_holds_end(j);
    free(j->primaries);
    free(j);
}

static vs_journal *journal_new(vs_store *s, const vs_journal_options *o) {
    vs_journal *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    if (vs_directory_new(&j->directory) < 0) {
        free(j);
        return NULL;
    }
    j->store = s;
    j->options = *o;
    if (!j->options.segment_bytes) j->options.segment_bytes = SEGMENT_BYTES;
    if (!j->options.batch_bytes) j->options.batch_bytes = BATCH_BYTES;
    j->active_file = -1;
    pthread_mutex_init(&j->mu, NULL);
    pthread_mutex_init(&j->generations_mu, NULL);
    vs_leases_open(&j->leases, s, o->owner);
    pthread_mutex_init(&j->move_mu, NULL);
    pthread_cond_init(&j->changed, NULL);
    pthread_cond_init(&j->work, NULL);
    vs_gap_init(j);
    vs_holds_init(j);
    vs_files_init(&j->files, s);
    return j;
}

int vs_journal_open(vs_store *s, const vs_journal_options *o, vs_journal **out) {
    vs_journal *j = journal_new(s, o);
    if (!j) return -ENOMEM;
    int r = o->owner ? kept_begin(j) : 0;
    if (r == 0) r = vs_journal_load(j);
    if (r == 0 && !o->owner && !j->broken.code) r = vs_journal_follow_directory(j);
    while (r == 0 && (r = vs_journal_begin_head(j)) < 0 && vs_journal_drop_unreadable(j, r)) r = 0;
    if (r == 0) r = vs_journal_end_check(j, j->last_seqno);
    if (r == 0) r = bases_check(j);
    if (r == 0 && o->owner) r = owner_begin(j);
    else if (r == 0) vs_changed_follow(j);
    j->told_seqno = j->committed_seqno;
    if (r < 0) {
        journal_free(j);
        return r;
    }
    *out = j;
    return 0;
}

int vs_journal_create(vs_store *s, const uint8_t uuid[16]) {
    vs_journal_options o = {.owner = 1};
    memcpy(o.uuid, uuid, 16);
    vs_journal *j = journal_new(s, &o);
    if (!j) return -ENOMEM;
    int r = vs_journal_begin_segment(j);
    journal_free(j);
    return r;
}

/* leader: say in the journal that the primaries have everything, so that the next open applies nothing. */
static int checkpoint(vs_journal *j) {
    if (j->failed) return 0;
    vs_batch empty = {0};
    uint8_t *descriptor;
    uint32_t count;
    vs_segment *g = j->active;
    int r = vs_journal_cut_ahead(j);
    if (r < 0) return r;
    if (j->hold_applied || g->index->applied_seqno >= j->last_seqno || j->applied_seqno < j->last_seqno) return 0;
    r = vs_batch_descriptors(&empty, g->salt, j->last_seqno + 1, j->applied_seqno, &descriptor, &count);
    if (r < 0) return r;
    struct iovec part = {descriptor, VS_BLOCK_BYTES};
    r = j->store->write(j->store, j->active_file, g->index->end_bytes, &part, 1);
    free(descriptor);
    return r == 0 ? j->store->sync(j->store, j->active_file) : r;
}

int vs_journal_close(vs_journal *j) {
    int r = 0;
    if (j->options.owner) {
        vs_journal_worker_stop(j);
        r = vs_journal_commit(j);
        pthread_mutex_lock(&j->mu);
        if (r < 0 && j->options.available) { /* the gap is noted with each volume, and the next process goes on in it */
            vs_journal_sync_primaries(j, 0, UINT64_MAX);
            r = 0;
        }
        vs_journal_lead_begin(j);
        int failed = j->failed; /* also of a seal, with nothing to commit: then nothing is known of the active segment, or there is none */
        pthread_mutex_unlock(&j->mu);
        if (r == 0 && !failed) r = checkpoint(j);
    }
    journal_free(j);
    return r;
}

static uint64_t journal_bytes(const vs_journal *j) {
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < j->directory->count; i++) {
        const vs_segment *g = vs_directory_at(j->directory, i);
        bytes += g->sealed ? g->file_bytes : g->data_end;
    }
    return bytes;
}

void vs_journal_facts_get(vs_journal *j, vs_journal_facts *out) {
    pthread_mutex_lock(&j->mu);
    *out = (vs_journal_facts){.first_seqno = j->floor_seqno ? j->floor_seqno : vs_directory_at(j->directory, 0)->first_seqno, .last_seqno = j->last_seqno,
                              .committed_seqno = j->committed_seqno, .applied_seqno = j->applied_seqno, .last_time_ns = j->last_time_ns,
                              .segments = j->directory->count, .journal_bytes = journal_bytes(j), .payload_bytes = j->payload_bytes,
                              .commits = j->commits, .commit_waits = j->commit_waits, .torn_bytes = j->torn_bytes,
                              .kept_records = j->kept_records, .generation = j->directory->generation, .clock_jumps = j->clock_jumps, .failed = j->failed, .pending = vs_journal_durable(j) < j->last_seqno,
                              .gap = j->gap.state, .gap_reason = j->gap.reason, .gap_since_ns = j->gap.since_ns,
                              .gap_since_seqno = j->gap.since_seqno, .changed_bytes = vs_gap_changed_bytes(j)};
    for (size_t i = 0; i < j->primary_count; i++)
        if (j->primaries[i]->error) out->failed_volume = j->primaries[i]->volume;
    pthread_mutex_unlock(&j->mu);
}

static void segment_facts(const vs_segment *g, vs_segment_facts *out) {
    *out = (vs_segment_facts){.first_seqno = g->first_seqno, .last_seqno = g->last_seqno, .bytes = g->sealed ? g->file_bytes : g->data_end,
                              .sealed = g->sealed, .ordinal = g->ordinal, .ordinals = g->ordinals, .generation = g->generation,
                              .until_seqno = g->generation ? g->until_seqno : 0};
    memcpy(out->digest, g->chain_digest, sizeof out->digest);
}

int vs_journal_segment_at(vs_journal *j, uint64_t index, vs_segment_facts *out) {
    pthread_mutex_lock(&j->mu);
    const vs_segment *g = index < j->directory->count ? vs_directory_at(j->directory, index) : NULL;
    if (g) segment_facts(g, out);
    pthread_mutex_unlock(&j->mu);
    return g ? 0 : -ENOENT;
}

uint64_t vs_journal_segments(vs_journal *j, vs_segment_facts *out, uint64_t max) {
    pthread_mutex_lock(&j->mu);
    uint64_t count = j->directory->count;
    for (uint64_t i = 0; i < count && i < max; i++) segment_facts(vs_directory_at(j->directory, i), &out[i]);
    pthread_mutex_unlock(&j->mu);
    return count;
}

int vs_journal_broken(vs_journal *j, vs_fault *fault, uint64_t *known_seqno) {
    *fault = j->broken;
    *known_seqno = j->known_seqno;
    return j->broken.code != 0;
}
