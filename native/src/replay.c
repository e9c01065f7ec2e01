/* replay.c: records again, streamed from their segments (replay.h).
 *
 *   segment   [ d ][ a0 a1 ][ b0 ][ d ][ c0 ...      rows of the volume: a, b, c; d: descriptors
 *   chunk     [ d    a0 a1    b0    d    c0 ...]     one read
 *   gathered  [ a0 a1 b0 ]                           one write, if b follows a in the volume
 *
 * A chunk that cannot be read as a whole is read again from the block that is wanted, alone: a bad block that belongs to nothing that is wanted
 * harms nobody. Rows come back from the caller, so what they say of places is looked at before it is believed.
 */
#include "replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "journal_internal.h"
#include "points.h"

enum { CHUNK_BLOCKS = VS_WRITE_MAX / VS_BLOCK_BYTES };

struct vs_replay {
    vs_journal *journal;
    uint64_t since, until;
    vs_directory *directory;
    uint64_t lease;       /* 0: not taken */
    uint64_t first, last; /* segments, by index */
    vs_segment *pinned;   /* the last one, if its checksums are in memory alone */
    uint64_t pinned_end;  /* in blocks: what was committed of it */
    vs_segment *segment;  /* whose blocks the chunk has; NULL: none */
    vs_crcs crcs;         /* of that segment */
    uint64_t chunk_block, chunk_count;
    uint8_t *chunk;
    uint8_t *gathered; /* what is to be written next */
    uint64_t gathered_at, gathered_bytes;
};

static int records_gone(const vs_segment *g) {
    return vs_fault_set(-ERANGE, 0, g->first_seqno, g->first_seqno, 0, "the writes from @%" PRIu64 " to @%" PRIu64 " are gone: only bookmarks are kept there",
                        g->first_seqno, g->last_seqno);
}

/* mu held. */
static int segments_find(vs_replay *p) {
    vs_journal *j = p->journal;
    if (p->until > j->committed_seqno || p->since > p->until) return vs_fault_set(-ERANGE, 0, p->until, 0, 0, "@%" PRIu64 " is not in the journal", p->until);
    p->directory = vs_directory_ref(j->directory);
    if (p->since == p->until) return 0;
    p->first = vs_directory_find(p->directory, p->since + 1);
    p->last = vs_directory_find(p->directory, p->until);
    if (p->first == UINT64_MAX || p->last == UINT64_MAX) return vs_fault_set(-ERANGE, 0, p->until, 0, 0, "@%" PRIu64 " is not in the journal", p->until);
    for (uint64_t i = p->first; i <= p->last; i++)
        if (vs_directory_at(p->directory, i)->generation) return records_gone(vs_directory_at(p->directory, i));
    vs_segment *end = vs_directory_at(p->directory, p->last);
    if (end->index) {
        p->pinned = end;
        p->pinned_end = end->index->end_bytes / VS_BLOCK_BYTES;
        end->pins++;
    }
    return 0;
}

/* The lease first, then a look at what has become of the files, as views do it. */
static int replay_begin(vs_replay *p) {
    vs_journal *j = p->journal;
    pthread_mutex_lock(&j->mu);
    if (!j->options.owner) vs_journal_follow(j); /* one that cannot follow goes on with what it has, which is leased */
    uint64_t lease = VS_LEASE_DIRECTORY + j->directory->generation;
    int r = vs_lease_take(&j->leases, lease);
    if (r == 0) p->lease = lease;
    if (r == 0) r = segments_find(p);
    pthread_mutex_unlock(&j->mu);
    return r;
}

int vs_replay_open(vs_journal *j, uint64_t since, uint64_t until, vs_replay **out) {
    vs_replay *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    *p = (vs_replay){.journal = j, .since = since, .until = until};
    p->chunk = malloc(VS_WRITE_MAX);
    p->gathered = malloc(VS_WRITE_MAX);
    vs_fault_clear();
    int r = p->chunk && p->gathered ? replay_begin(p) : -ENOMEM;
    if (r < 0) {
        vs_replay_close(p);
        return r;
    }
    *out = p;
    return 0;
}

void vs_replay_close(vs_replay *p) {
    if (p->pinned) {
        vs_segment *g = p->pinned;
        pthread_mutex_lock(&p->journal->mu);
        if (--g->pins == 0 && g->sealed && g->index) {
            vs_index_free(g->index);
            g->index = NULL;
        }
        pthread_mutex_unlock(&p->journal->mu);
    }
    vs_directory_unref(p->directory);
    if (p->lease) vs_lease_give(&p->journal->leases, p->lease);
    free(p->chunk);
    free(p->gathered);
    free(p);
}

/* ---- which records ---- */

static int rows_unsound(const vs_segment *g, const vs_row *row) {
    return vs_fault_set(-EUCLEAN, (uint32_t)row->volume, row->seqno, g->first_seqno, 0, "%s: its records are not sound", g->name);
}

/* mu held. Those of one segment: how many, whole records only. */
static int segment_rows(vs_replay *p, uint64_t index, uint64_t after, vs_replay_row *rows, int max) {
    vs_segment *g = vs_directory_at(p->directory, index);
    vs_rows all;
    vs_row row, next = {0};
    int r = vs_segment_rows(g, &all), n = 0;
    if (r < 0) return r;
    uint64_t from = vs_rows_count_le(&all, after), to = vs_rows_count_le(&all, p->until);
    if (to < from || to > all.count) return rows_unsound(g, &next);
    if (to - from > (uint64_t)max) {
        vs_rows_get(&all, from + (uint64_t)max, &next);
        to = vs_rows_count_le(&all, next.seqno - 1);
        if (to <= from || to - from > (uint64_t)max) return rows_unsound(g, &next);
    }
    for (uint64_t i = from, before = after; i < to; i++, before = row.seqno) {
        vs_rows_get(&all, i, &row);
        if (row.seqno <= after || row.seqno < before || (g->sealed && !vs_segment_row_is_sound(g, &row, p->until))) return rows_unsound(g, &row);
        rows[n++] = (vs_replay_row){row.seqno, row.time_ns, row.offset_bytes, row.length_bytes, row.block, (uint32_t)row.volume, (uint32_t)index};
    }
    return n;
}

int vs_replay_rows(vs_replay *p, uint64_t after, vs_replay_row *rows, int max) {
    if (after < p->since) after = p->since;
    if (after >= p->until) return 0;
    pthread_mutex_lock(&p->journal->mu);
    uint64_t index = vs_directory_find(p->directory, after + 1);
    int n = index == UINT64_MAX ? -EUCLEAN : 0;
    for (; n == 0 && index <= p->last; index++) n = segment_rows(p, index, after, rows, max);
    pthread_mutex_unlock(&p->journal->mu);
    return n;
}

/* ---- their bytes ---- */

static int block_fault(const vs_segment *g, const vs_replay_row *row, uint64_t block, const char *what) {
    return vs_fault_set(-EBADMSG, row->volume, row->seqno, g->first_seqno, block * VS_BLOCK_BYTES,
                        "volume %u, the write @%" PRIu64 ": %s in %s, position %" PRIu64, row->volume, row->seqno, what, g->name, block * VS_BLOCK_BYTES);
}

/* Where blocks of a segment end, as far as the replay goes. */
static uint64_t blocks_end(const vs_replay *p, const vs_segment *g) {
    return g == p->pinned ? p->pinned_end : g->data_end / VS_BLOCK_BYTES;
}

static int segment_enter(vs_replay *p, vs_segment *g) {
    if (g == p->segment) return 0;
    p->segment = NULL;
    p->chunk_count = 0;
    int r = vs_segment_crcs(g, g == p->pinned, &p->crcs);
    if (r == 0) p->segment = g;
    return r;
}

static int chunk_load(vs_replay *p, const vs_replay_row *row, uint64_t block) {
    vs_segment *g = p->segment;
    vs_store *s = p->journal->store;
    uint64_t count = blocks_end(p, g) - block;
    if (count > CHUNK_BLOCKS) count = CHUNK_BLOCKS;
    p->chunk_count = 0;
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    int64_t n = s->read(s, file, block * VS_BLOCK_BYTES, p->chunk, count * VS_BLOCK_BYTES);
    if (n < 0) n = s->read(s, file, block * VS_BLOCK_BYTES, p->chunk, VS_BLOCK_BYTES);
    vs_segment_file_put(g);
    if (n < 0) return block_fault(g, row, block, "a read error");
    if (n < VS_BLOCK_BYTES) return block_fault(g, row, block, "the file ends");
    p->chunk_block = block;
    p->chunk_count = (uint64_t)n / VS_BLOCK_BYTES;
    return 0;
}

/* A block of the segment that was entered, compared with its checksum. */
static int block_get(vs_replay *p, const vs_replay_row *row, uint64_t block, const uint8_t **out) {
    uint32_t want = 0;
    if (block < p->chunk_block || block - p->chunk_block >= p->chunk_count) {
        int r = chunk_load(p, row, block);
        if (r < 0) return r;
    }
    *out = p->chunk + (block - p->chunk_block) * VS_BLOCK_BYTES;
    if (vs_crcs_get(&p->crcs, block, &want) && vs_crc32c(*out, VS_BLOCK_BYTES) == want) return 0;
    return block_fault(p->segment, row, block, "a checksum that does not match");
}

/* ---- onto the file ---- */

static int write_fault(int status, const vs_replay_row *row, uint64_t offset_bytes) {
    return vs_fault_set(status, row->volume, row->seqno, 0, 0, "volume %u, the write @%" PRIu64 ", offset %" PRIu64 ": %s", row->volume, row->seqno, offset_bytes,
                        strerror(-status));
}

static int gathered_write(vs_replay *p, const vs_replay_row *row, int file) {
    vs_store *s = p->journal->store;
    uint64_t at = p->gathered_at, length = p->gathered_bytes;
    p->gathered_bytes = 0;
    if (length == 0) return 0;
    int r = s->write(s, file, at, &(struct iovec){p->gathered, length}, 1);
    return r < 0 ? write_fault(r, row, at) : 0;
}

static int gather(vs_replay *p, const vs_replay_row *row, uint64_t offset_bytes, const uint8_t *from, uint64_t length_bytes, int file) {
    int follows = p->gathered_at + p->gathered_bytes == offset_bytes && p->gathered_bytes + length_bytes <= VS_WRITE_MAX;
    int r = follows ? 0 : gathered_write(p, row, file);
    if (r < 0) return r;
    if (p->gathered_bytes == 0) p->gathered_at = offset_bytes;
    memcpy(p->gathered + p->gathered_bytes, from, length_bytes);
    p->gathered_bytes += length_bytes;
    return 0;
}

static int data_apply(vs_replay *p, const vs_replay_row *row, int file) {
    uint64_t block = row->block, end = row->offset_bytes + row->length_bytes;
    int r = segment_enter(p, vs_directory_at(p->directory, row->segment));
    for (uint64_t at = row->offset_bytes, to; r == 0 && at < end; at = to, block++) {
        const uint8_t *bytes;
        to = (at / VS_BLOCK_BYTES + 1) * VS_BLOCK_BYTES;
        if (to > end) to = end;
        r = block_get(p, row, block, &bytes);
        if (r == 0) r = gather(p, row, at, bytes + at % VS_BLOCK_BYTES, to - at, file);
    }
    return r;
}

static int zero_apply(vs_replay *p, const vs_replay_row *row, int file) {
    vs_store *s = p->journal->store;
    int r = gathered_write(p, row, file);
    if (r < 0) return r;
    r = s->zero(s, file, row->offset_bytes, row->length_bytes);
    return r < 0 ? write_fault(r, row, row->offset_bytes) : 0;
}

static int row_check(const vs_replay *p, const vs_replay_row *row) {
    if (p->since == p->until || row->segment < p->first || row->segment > p->last) return -EINVAL;
    if (row->length_bytes == 0 || row->length_bytes > VS_OFFSET_MAX || row->offset_bytes > VS_OFFSET_MAX) return -EINVAL;
    if (row->block == 0) return 0;
    uint64_t blocks = (row->offset_bytes % VS_BLOCK_BYTES + row->length_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES;
    uint64_t end = blocks_end(p, vs_directory_at(p->directory, row->segment));
    return row->length_bytes <= VS_WRITE_MAX && row->block < end && blocks <= end - row->block ? 0 : -EINVAL;
}

int vs_replay_apply(vs_replay *p, const vs_replay_row *rows, int count, int file) {
    int r = 0;
    p->gathered_bytes = 0;
    vs_fault_clear();
    for (int i = 0; r == 0 && i < count; i++) {
        r = row_check(p, &rows[i]);
        if (r == 0) r = rows[i].block ? data_apply(p, &rows[i], file) : zero_apply(p, &rows[i], file);
    }
    return r == 0 && count ? gathered_write(p, &rows[count - 1], file) : r;
}
