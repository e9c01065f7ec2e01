/* follow.c: a reader takes in what the owner has done since: records, segments, compactions.
 *
 * A compaction is noticed by the file journal/generation, which is derived: where it is missing or damaged, the directory is looked at. The reader has a
 * lease on the directory that it uses, and gives up the one before when it has the next.
 */
#include <errno.h>
#include <string.h>

#include "found.h"
#include "generation.h"
#include "opening.h"

/* The active segment was sealed by its owner; its footer takes over from our index. */
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
    vs_segment_index_adopt(g);
    return active_sealed(j);
}

/* The next segment, when the one before it is sealed. 0: not there yet. */
static int next_follow(vs_journal *j) {
    vs_segment *before = vs_directory_last(j->directory), *g;
    int r = vs_segment_new(&j->files, before->last_seqno + 1, 0, &g);
    if (r < 0) return r;
    int file = j->store->open(j->store, g->name, VS_OPEN_READ);
    if (file >= 0) j->store->close(j->store, file);
    r = file < 0 ? file : vs_segment_load_header(g, j->options.uuid);
    if (r == 0) r = vs_segment_index_begin(g, before);
    if (r == 0) r = vs_chain_check(before, g);
    if (r < 0) {
        vs_segment_unref(g);
        return r == -ENOENT ? 0 : r;
    }
    vs_segment_index_adopt(g);
    r = vs_directory_add(j->directory, g);
    if (r < 0) return r;
    j->active = g;
    j->unsure_bytes = 0;
    return 1;
}

/* Have a lease on the directory that is used now, and on no other. */
static int lease_move(vs_journal *j) {
    uint64_t byte = VS_LEASE_DIRECTORY + j->directory->generation;
    if (j->leased == byte) return 0;
    int r = vs_lease_take(&j->leases, byte);
    if (r < 0) return r;
    if (j->leased) vs_lease_give(&j->leases, j->leased);
    j->leased = byte;
    return 1;
}

int vs_journal_follow_directory(vs_journal *j) {
    int r = lease_move(j);
    while (r >= 0 && vs_generation_newest(j) > j->directory->generation) {
        uint64_t before = j->directory->generation;
        r = vs_journal_load(j);
        if (r < 0 || j->directory->generation == before) break;
        r = lease_move(j); /* and look once more: it may have been compacted again, and what we loaded be deleted, before we had the lease */
    }
    return r < 0 ? r : 0;
}

int vs_journal_follow(vs_journal *j) {
    if (j->broken.code) return 0;
    uint64_t before = j->committed_seqno;
    int r = vs_journal_follow_directory(j);
    for (int more = r == 0; more > 0;) r = more = j->active ? active_follow(j) : next_follow(j);
    if (r >= 0 && vs_directory_last(j->directory)->last_seqno != before) {
        vs_states_clear(&j->head);
        r = vs_journal_begin_head(j);
    }
    return r < 0 ? r : 0;
}

int vs_journal_refresh(vs_journal *j) {
    if (j->options.owner) return 0;
    pthread_mutex_lock(&j->mu);
    int r = vs_journal_follow(j);
    vs_changed_follow(j);
    int changed = j->committed_seqno != j->told_seqno; /* a view that was opened meanwhile may have followed too */
    j->told_seqno = j->committed_seqno;
    pthread_mutex_unlock(&j->mu);
    return r < 0 ? r : changed;
}
