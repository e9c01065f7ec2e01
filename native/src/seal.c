/* seal.c: the end of one segment and the beginning of the next.
 *
 * Order on disk: footer written and synced, then the next segment under a temporary name, synced, renamed, directory synced. A crash
 * in between leaves a half footer (a torn tail: cut, and sealed again at the next commit) or a sealed last segment (the
 * next is made when the journal is opened). Only the header of the next segment names this one's digest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ends.h"
#include "journal_internal.h"

typedef struct data_arg {
    vs_journal *journal;
    vs_directory *directory;
} data_arg;

static int data_bytes(void *arg, const vs_extent_map *map, vs_volume_state *v) {
    const data_arg *a = arg;
    return vs_journal_data_bytes(a->journal, a->directory, a->directory->count - 1, map, v);
}

static int footer_build(vs_journal *j, vs_segment *g, uint8_t **bytes, size_t *length_bytes) {
    vs_states states = {0};
    pthread_mutex_lock(&j->mu);
    vs_directory *d = vs_directory_ref(j->directory); /* it does not grow meanwhile: that is for leaders */
    int r = vs_journal_states(d, d->count - 1, g->index->last_seqno, &states);
    pthread_mutex_unlock(&j->mu);
    if (r == 0) r = vs_footer_build(g, j->options.uuid, &states, data_bytes, &(data_arg){j, d}, bytes, length_bytes);
    vs_states_clear(&states);
    vs_directory_unref(d);
    return r;
}

int vs_journal_cut_ahead(vs_journal *j) {
    if (j->ahead_bytes <= j->active->index->end_bytes) return 0;
    j->ahead_bytes = 0;
    return j->store->truncate(j->store, j->active_file, j->active->index->end_bytes);
}

int vs_journal_seal_active(vs_journal *j) {
    vs_segment *g = j->active;
    uint8_t *footer;
    size_t footer_bytes;
    int r = vs_digest_peek(j->digest, g->digest);
    if (r == 0) r = footer_build(j, g, &footer, &footer_bytes);
    if (r < 0) return -EAGAIN; /* nothing was written: the segment grows on until there is memory for its footer */
    struct iovec part = {footer, footer_bytes};
    r = vs_journal_cut_ahead(j); /* the trailer is the last block of the file */
    if (r == 0) r = j->store->write(j->store, j->active_file, g->index->end_bytes, &part, 1);
    if (r == 0) r = j->store->sync(j->store, j->active_file);
    free(footer);
    if (r < 0) return vs_fault_set(r, 0, 0, g->first_seqno, g->index->end_bytes, "journal: %s could not be sealed: %s", g->name, strerror(-r));
    pthread_mutex_lock(&j->mu);
    r = vs_segment_load_trailer(g, j->options.uuid); /* what a reader will see is what we go on with */
    if (r == 1 && g->pins == 0) {
        vs_index_free(g->index);
        g->index = NULL;
    }
    pthread_mutex_unlock(&j->mu);
    if (r != 1) return vs_fault_set(-EIO, 0, 0, g->first_seqno, 0, "journal: %s does not read back as sealed", g->name);
    j->store->close(j->store, j->active_file);
    j->active_file = -1;
    return vs_journal_begin_segment(j);
}

static int segment_create(vs_store *s, const vs_segment *g, uint8_t *header) {
    static const char temporary[] = "journal/segment.new";
    s->remove(s, temporary);
    int file = s->open(s, temporary, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (file < 0) return file;
    struct iovec part = {header, VS_BLOCK_BYTES};
    int r = s->write(s, file, 0, &part, 1);
    if (r == 0) r = s->sync(s, file);
    if (r == 0) r = s->rename(s, temporary, g->name);
    if (r == 0) r = s->sync_dir(s, "journal");
    if (r == 0) return file;
    s->close(s, file);
    return r;
}

/* leader: the digest of the new segment starts with its header. */
static int digest_begin(vs_journal *j, const uint8_t *header) {
    if (j->digest) vs_digest_free(j->digest);
    j->digest = NULL;
    int r = vs_digest_new(&j->digest);
    return r == 0 ? vs_digest_update(j->digest, header, VS_BLOCK_BYTES) : r;
}

int vs_journal_begin_segment(vs_journal *j) {
    pthread_mutex_lock(&j->mu); /* no compaction takes the last segment out of the directory, but it may make another directory */
    const vs_segment *last = j->directory->count ? vs_directory_last(j->directory) : NULL;
    pthread_mutex_unlock(&j->mu);
    vs_segment *g;
    uint8_t header[VS_BLOCK_BYTES] = {0};
    int r = vs_segment_new(&j->files, last ? last->last_seqno + 1 : 1, 0, &g);
    if (r < 0) return r;
    g->ordinal = last ? last->ordinal + last->ordinals : 0;
    g->time_before_ns = g->last_time_ns = last ? last->last_time_ns : 0;
    g->last_seqno = g->first_seqno - 1;
    g->data_end = VS_BLOCK_BYTES;
    if (last) memcpy(g->prev_digest, last->chain_digest, 32);
    g->index = malloc(sizeof *g->index);
    if (g->index) vs_index_init(g->index, g->first_seqno, g->time_before_ns);
    r = g->index ? j->store->entropy(j->store, g->salt, sizeof g->salt) : -ENOMEM;
    if (r == 0) {
        g->index->applied_seqno = last ? last->applied_seqno : 0;
        g->index->floor_seqno = g->floor_seqno = last ? last->floor_seqno : 0;
        vs_header_fill(g, j->options.uuid, j->store->now_ns(j->store), header);
        r = digest_begin(j, header);
    }
    int file = r == 0 ? segment_create(j->store, g, header) : r;
    if (file < 0) {
        vs_fault_set(file, 0, 0, g->first_seqno, 0, "journal: %s could not be made: %s", g->name, strerror(-file));
        vs_segment_unref(g);
        return file;
    }
    pthread_mutex_lock(&j->mu);
    r = vs_directory_add(j->directory, g);
    if (r == 0) {
        j->active = g;
        j->active_file = file;
        j->ahead_bytes = 0;
    }
    pthread_mutex_unlock(&j->mu);
    if (r < 0) j->store->close(j->store, file);
    return r;
}
