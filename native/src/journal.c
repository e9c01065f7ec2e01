/* journal.c: opening, following and closing a journal.
 *
 * Opening reads one block of each sealed segment (its trailer) and the whole of an unsealed last one. The trailers form a chain: each
 * names the digest of the segment before it, so a missing, swapped, stale or foreign segment is noticed here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "room.h"

enum { SEGMENT_BYTES = 64 << 20, BATCH_BYTES = 8 << 20, DAMAGE_RETRIES = 3 };

int vs_journal_add_segment(vs_journal *j, vs_segment *g) {
    uint64_t chunk = j->segment_count / VS_DIRECTORY_CHUNK;
    if (chunk >= VS_DIRECTORY_CHUNKS) return -EFBIG;
    if (!j->chunks[chunk]) {
        j->chunks[chunk] = calloc(VS_DIRECTORY_CHUNK, sizeof(vs_segment *));
        if (!j->chunks[chunk]) return -ENOMEM;
    }
    if (j->segment_count == 0) j->first_ordinal = g->ordinal;
    j->chunks[chunk][j->segment_count % VS_DIRECTORY_CHUNK] = g;
    j->segment_count++;
    return 0;
}

typedef struct name_list {
    uint64_t *seqnos;
    size_t count, room;
} name_list;

/* Names that are exactly 20 digits and ".seg" count; everything else in the directory is not ours to judge. */
static int name_take(void *arg, const char *name) {
    name_list *l = arg;
    uint64_t seqno = 0;
    if (strlen(name) != 24 || strcmp(name + 20, ".seg") != 0) return 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9') return 0;
        seqno = seqno * 10 + (uint64_t)(name[i] - '0');
    }
    if (vs_room(&l->seqnos, &l->room, l->count, 1, sizeof *l->seqnos) < 0) return -ENOMEM;
    l->seqnos[l->count++] = seqno;
    return 0;
}

static int seqno_order(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Does g follow the segment before it? */
static int chain_check(const vs_segment *before, const vs_segment *g) {
    if (!before && (g->ordinal != 0 || g->first_seqno != 1))
        return vs_fault_set(-EUCLEAN, 0, 1, g->first_seqno, 0, "the journal's first segment is missing: the oldest one is %s", g->name);
    if (!before) return 0;
    if (g->ordinal != before->ordinal + 1 || g->first_seqno != before->last_seqno + 1)
        return vs_fault_set(-EUCLEAN, 0, before->last_seqno + 1, g->first_seqno, 0,
                            "a segment is missing between %s (ends with %" PRIu64 ") and %s", before->name, before->last_seqno, g->name);
    if (memcmp(g->prev_digest, before->digest, 32) != 0)
        return vs_fault_set(-EUCLEAN, 0, g->first_seqno, g->first_seqno, 0, "%s does not follow %s: one of them was replaced", g->name,
                            before->name);
    return 0;
}

static void segment_adopt_index(vs_segment *g) {
    g->last_seqno = g->index->last_seqno;
    g->last_time_ns = g->index->last_time_ns;
    g->data_end = g->index->end_bytes;
    g->applied_seqno = g->index->applied_seqno;
}

static int tail_report(vs_segment *g, const vs_index *x, uint64_t later) {
    return vs_fault_set(-EUCLEAN, 0, x->last_seqno + 1, g->first_seqno, x->end_bytes,
                        "%s: the batch at %" PRIu64 " is damaged, and valid records follow it at %" PRIu64 "; nothing was cut", g->name,
                        x->end_bytes, later);
}

/* Read the batches of an unsealed segment. A reader may look while its owner appends: what seems damaged is looked at again. */
static int unsealed_read(vs_journal *j, vs_segment *g, int *tail) {
    for (int attempt = 0;; attempt++) {
        vs_scan scan = {.limit_bytes = g->file_bytes, .check_payload = 1, .digest = j->digest};
        uint64_t later = 0;
        int r = vs_scan_batches(g, g->index, &scan);
        if (r < 0) return r;
        *tail = vs_tail_judge(g, g->index, g->file_bytes, &later);
        if (*tail != VS_TAIL_DAMAGED) return *tail < 0 ? *tail : 0;
        if (j->options.owner || attempt == DAMAGE_RETRIES) return tail_report(g, g->index, later);
    }
}

/* Owner: has the journal lost its end? A tail that somebody knows to have been committed is no torn one. */
static int end_check(const vs_journal *j, uint64_t last_seqno) {
    if (!j->options.owner || j->options.known_seqno <= last_seqno) return 0;
    return vs_fault_set(-ENODATA, 0, last_seqno, 0, 0, "the journal ends with @%" PRIu64 ", but records up to @%" PRIu64 " were in it", last_seqno,
                        j->options.known_seqno);
}

/* Owner: the last segment, unsealed, becomes the active one; what a crash left behind its end is cut. */
static int active_recover(vs_journal *j, vs_segment *g, int tail) {
    int file = j->store->open(j->store, g->name, VS_OPEN_WRITE);
    if (file < 0) return file;
    int r = 0;
    if (g->file_bytes > g->index->end_bytes) {
        /* What a killed process was writing is in kept memory whole: its torn piece is nothing to keep. */
        int keep = tail == VS_TAIL_TORN && !atomic_load(&j->kept.batches->used);
        r = vs_tail_cut(g, g->index, file, g->file_bytes, keep);
        if (keep) j->torn_bytes = g->file_bytes - g->index->end_bytes;
    } else {
        r = j->store->sync(j->store, file); /* what was read may not have been on the medium yet */
    }
    if (r == 0) r = j->store->sync_dir(j->store, "journal"); /* nor its name: whoever gave it may have died, or failed, right after */
    if (r < 0) {
        j->store->close(j->store, file);
        return r;
    }
    j->active_file = file;
    return 0;
}

/* Owner: after a sync that failed, or with nobody there to say that none did, the page cache is no evidence of what is on the medium. */
static int medium_ask(vs_journal *j, vs_segment *g) {
    const vs_kept_batches *kept = j->kept.batches;
    if (atomic_load(&kept->used) && !atomic_load(&kept->failed)) return 0;
    int file = j->store->open(j->store, g->name, VS_OPEN_WRITE);
    if (file < 0) return file;
    int r = j->store->sync(j->store, file);
    if (r == 0) r = j->store->forget(j->store, file);
    j->store->close(j->store, file);
    return r;
}

static int index_begin(vs_segment *g, const vs_segment *before) {
    g->index = malloc(sizeof *g->index);
    if (!g->index) return -ENOMEM;
    vs_index_init(g->index, g->first_seqno, g->time_before_ns);
    g->index->applied_seqno = before ? before->applied_seqno : 0;
    return 0;
}

static int unsealed_load(vs_journal *j, vs_segment *g, const vs_segment *before, int is_last) {
    int tail = VS_TAIL_CLEAN;
    int r = vs_segment_load_header(g, j->options.uuid);
    if (r == 0) r = index_begin(g, before);
    if (r == 0 && is_last && j->options.owner) r = medium_ask(j, g);
    if (r == 0) r = vs_segment_digest_begin(g, &j->digest);
    if (r == 0) r = unsealed_read(j, g, &tail);
    if (r < 0) return r;
    segment_adopt_index(g);
    if (is_last) {
        j->active = g;
        j->unsure_bytes = g->file_bytes;
        r = end_check(j, g->last_seqno);
        return r == 0 && j->options.owner ? active_recover(j, g, tail) : r;
    }
    r = vs_digest_peek(j->digest, g->digest); /* its trailer is damaged, its batches are not */
    vs_digest_free(j->digest);
    j->digest = NULL;
    return r;
}

/* Events, and the state of volumes behind a segment, are what all later ones stand on. Both may be lost with batches and footer. */
static int foundation_check(vs_journal *j) {
    vs_segment *g = vs_journal_segment(j, j->segment_count - 1);
    const uint8_t *events;
    uint64_t length;
    vs_states states = {0};
    int r = vs_segment_events(g, &events, &length);
    if (r == 0 && !(g->sealed && vs_segment_section(g, VS_SECTION_VOLUMES, &length)))
        r = vs_journal_states(j, j->segment_count - 1, UINT64_MAX, &states);
    vs_states_clear(&states);
    return r;
}

/* Is this damage that leaves what stands before it as it is? Then note it, and load no more. */
static int part_ends(vs_journal *j, uint64_t first_seqno, int status) {
    if (!j->options.sound_part || (status != -EUCLEAN && status != -EBADMSG && status != -EXDEV && status != -EIO && status != -ENOENT)) return 0;
    vs_fault_last(&j->broken);
    if (j->broken.code != status) {
        vs_fault_set(status, 0, 0, first_seqno, 0, "journal/%020" PRIu64 ".seg cannot be read: %s", first_seqno, strerror(-status));
        vs_fault_last(&j->broken);
    }
    return 1;
}

/* Of a segment that could not be loaded whole: its batches up to the damage, as far as they follow what was loaded. 1: they are the last
 * segment of what can be read. */
static int part_load(vs_journal *j, const vs_segment *before, vs_segment *g) {
    if (!g->index || g->index->last_seqno < g->first_seqno || chain_check(before, g) < 0) return 0;
    segment_adopt_index(g);
    if (vs_journal_add_segment(j, g) < 0) return 0;
    j->active = g;
    return 1;
}

static int segment_load(vs_journal *j, uint64_t first_seqno, int is_last) {
    const vs_segment *before = j->segment_count ? vs_journal_segment(j, j->segment_count - 1) : NULL;
    vs_segment *g;
    int r = vs_segment_new(&j->files, first_seqno, &g);
    if (r < 0) return r;
    r = vs_segment_load_trailer(g, j->options.uuid);
    if (r == 0) r = unsealed_load(j, g, before, is_last);
    if (r >= 0) r = chain_check(before, g);
    if (r >= 0) r = vs_journal_add_segment(j, g);
    if (r >= 0 && j->options.sound_part && (r = foundation_check(j)) < 0) j->segment_count--;
    if (r < 0) {
        if (j->active == g) j->active = NULL;
        if (!part_ends(j, first_seqno, r) || !part_load(j, before, g)) vs_segment_free(g);
    }
    return r;
}

static int segments_load(vs_journal *j) {
    name_list names = {0};
    int r = j->store->list(j->store, "journal", name_take, &names);
    if (r == 0 && names.count == 0) r = vs_fault_set(-EUCLEAN, 0, 0, 0, 0, "journal: there is no segment");
    if (r == 0) qsort(names.seqnos, names.count, sizeof *names.seqnos, seqno_order);
    for (size_t i = 0; r >= 0 && i < names.count; i++) r = segment_load(j, names.seqnos[i], i + 1 == names.count);
    if (j->broken.code && j->segment_count) r = 0;
    if (names.count) j->known_seqno = names.seqnos[names.count - 1] - 1;
    free(names.seqnos);
    return r < 0 ? r : 0;
}

int vs_journal_begin_head(vs_journal *j) {
    const vs_segment *last = vs_journal_segment(j, j->segment_count - 1);
    j->last_seqno = j->committed_seqno = j->written_seqno = last->last_seqno;
    j->last_time_ns = last->last_time_ns;
    j->applied_seqno = last->applied_seqno;
    return vs_journal_states(j, j->segment_count - 1, UINT64_MAX, &j->head);
}

/* The last segment's records are lost, and with them every point in it: what is before it may be sound. 1: dropped. */
static int part_drop_last(vs_journal *j, int status) {
    vs_segment *g = vs_journal_segment(j, j->segment_count - 1);
    if (j->segment_count == 1 || !part_ends(j, g->first_seqno, status)) return 0;
    if (j->known_seqno < g->last_seqno) j->known_seqno = g->last_seqno;
    if (j->active == g) j->active = NULL;
    j->segment_count--;
    vs_segment_free(g);
    vs_states_clear(&j->head);
    return 1;
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
    return vs_journal_worker_start(j);
}

static void journal_free(vs_journal *j) {
    for (uint64_t i = 0; i < j->segment_count; i++) vs_segment_free(vs_journal_segment(j, i));
    for (int i = 0; i < VS_DIRECTORY_CHUNKS; i++) free(j->chunks[i]);
    for (size_t i = 0; i < j->map_count; i++) vs_merged_map_close(j->store, j->maps[i]);
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
    free(j->maps);
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
    j->store = s;
    j->options = *o;
    if (!j->options.segment_bytes) j->options.segment_bytes = SEGMENT_BYTES;
    if (!j->options.batch_bytes) j->options.batch_bytes = BATCH_BYTES;
    j->active_file = -1;
    pthread_mutex_init(&j->mu, NULL);
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
    if (r == 0) r = segments_load(j);
    while (r == 0 && (r = vs_journal_begin_head(j)) < 0 && part_drop_last(j, r)) r = 0;
    if (r == 0) r = end_check(j, j->last_seqno);
    if (r == 0 && o->owner) r = owner_begin(j);
    else if (r == 0) vs_changed_follow(j);
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

/* Reader: the active segment was sealed by its owner; its footer takes over from our index. */
static int active_sealed(vs_journal *j) {
    vs_segment *g = j->active;
    int r = vs_segment_load_trailer(g, j->options.uuid);
    if (r != 1) return r;
    if (g->pins == 0) {
        vs_index_free(g->index);
        g->index = NULL;
    }
    j->active = NULL;
    return 1;
}

static int active_follow(vs_journal *j) {
    vs_segment *g = j->active;
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    int64_t size = j->store->size(j->store, file);
    vs_segment_file_put(g);
    if (size < 0) return (int)size;
    if ((uint64_t)size == g->file_bytes && (uint64_t)size == g->index->end_bytes) return 0;
    g->file_bytes = (uint64_t)size;
    /* A batch whose payload was torn by a crash must not be taken for one that is new, only because its descriptors are whole. */
    vs_scan scan = {.limit_bytes = g->file_bytes, .check_payload = g->index->end_bytes < j->unsure_bytes};
    int r = vs_scan_batches(g, g->index, &scan);
    if (r < 0) return r;
    segment_adopt_index(g);
    return active_sealed(j);
}

/* The next segment, when the one before it is sealed. 0: not there yet. */
static int next_follow(vs_journal *j) {
    const vs_segment *before = vs_journal_segment(j, j->segment_count - 1);
    vs_segment *g;
    int r = vs_segment_new(&j->files, before->last_seqno + 1, &g);
    if (r < 0) return r;
    int file = j->store->open(j->store, g->name, VS_OPEN_READ);
    if (file == -ENOENT) {
        vs_segment_free(g);
        return 0;
    }
    if (file >= 0) j->store->close(j->store, file);
    r = file < 0 ? file : vs_segment_load_header(g, j->options.uuid);
    if (r == 0) r = index_begin(g, before);
    if (r == 0) r = chain_check(before, g);
    if (r == 0) {
        segment_adopt_index(g);
        r = vs_journal_add_segment(j, g);
    }
    if (r < 0) {
        vs_segment_free(g);
        return r;
    }
    j->active = g;
    j->unsure_bytes = 0;
    return 1;
}

int vs_journal_refresh(vs_journal *j) {
    if (j->options.owner) return 0;
    pthread_mutex_lock(&j->mu);
    uint64_t before = j->committed_seqno;
    int r = 1;
    while (r > 0 && !j->broken.code) r = j->active ? active_follow(j) : next_follow(j);
    if (r >= 0 && vs_journal_segment(j, j->segment_count - 1)->last_seqno != before) {
        vs_states_clear(&j->head);
        r = vs_journal_begin_head(j);
    }
    vs_changed_follow(j);
    int changed = j->committed_seqno != before;
    pthread_mutex_unlock(&j->mu);
    return r < 0 ? r : changed;
}

static uint64_t journal_bytes(const vs_journal *j) {
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < j->segment_count; i++) {
        const vs_segment *g = vs_journal_segment(j, i);
        bytes += g->sealed ? g->file_bytes : g->data_end;
    }
    return bytes;
}

void vs_journal_facts_get(vs_journal *j, vs_journal_facts *out) {
    pthread_mutex_lock(&j->mu);
    *out = (vs_journal_facts){.first_seqno = vs_journal_segment(j, 0)->first_seqno, .last_seqno = j->last_seqno,
                              .committed_seqno = j->committed_seqno, .applied_seqno = j->applied_seqno, .last_time_ns = j->last_time_ns,
                              .segments = j->segment_count, .journal_bytes = journal_bytes(j), .payload_bytes = j->payload_bytes,
                              .commits = j->commits, .commit_waits = j->commit_waits, .torn_bytes = j->torn_bytes,
                              .kept_records = j->kept_records, .clock_jumps = j->clock_jumps, .failed = j->failed, .pending = vs_journal_durable(j) < j->last_seqno,
                              .gap = j->gap.state, .gap_reason = j->gap.reason, .gap_since_ns = j->gap.since_ns,
                              .gap_since_seqno = j->gap.since_seqno, .changed_bytes = vs_gap_changed_bytes(j)};
    for (size_t i = 0; i < j->primary_count; i++)
        if (j->primaries[i]->error) out->failed_volume = j->primaries[i]->volume;
    pthread_mutex_unlock(&j->mu);
}

int vs_journal_segment_at(vs_journal *j, uint64_t index, vs_segment_facts *out) {
    pthread_mutex_lock(&j->mu);
    const vs_segment *g = index < j->segment_count ? vs_journal_segment(j, index) : NULL;
    if (g) {
        *out = (vs_segment_facts){.first_seqno = g->first_seqno, .last_seqno = g->last_seqno, .bytes = g->sealed ? g->file_bytes : g->data_end,
                                  .sealed = g->sealed};
        memcpy(out->digest, g->digest, sizeof out->digest);
    }
    pthread_mutex_unlock(&j->mu);
    return g ? 0 : -ENOENT;
}

int vs_journal_broken(vs_journal *j, vs_fault *fault, uint64_t *known_seqno) {
    *fault = j->broken;
    *known_seqno = j->known_seqno;
    return j->broken.code != 0;
}
