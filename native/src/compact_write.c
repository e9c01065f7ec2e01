/* compact_write.c: a compacted segment, put together from what is kept of a group.
 *
 * What is put together goes through the parser that reads it later, so the footer comes from the code that seals, and the size is known without
 * writing: an estimate does all but read and write payload. Batches are bounded; the payload of one is read when it is full, in runs as long as they lie
 * together, and each block is compared with its checksum.
 */
#include "compact_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "ends.h"
#include "kept_pieces.h"
#include "points.h"

enum { PAYLOAD_BLOCKS = 1024, STREAM_BYTES = 256 << 10, COVERED_MAX = VS_WRITE_MAX / VS_BLOCK_BYTES + 1 };

/* Blocks of one piece that go into the batch. */
typedef struct source {
    vs_segment *segment;
    uint64_t block, count;
    vs_row row; /* of the record, for who is told that it is damaged */
} source;

typedef struct composer {
    vs_journal *journal;
    const vs_compact_group *group;
    const vs_roots *roots;
    const uint64_t *dropped;
    uint64_t dropped_count;
    const vs_kept_pieces *kept;
    vs_segment *made;
    int file; /* -1: only an estimate */
    vs_digest *digest;
    vs_batch batch; /* its stream, and room for its payload; nothing else of it is used */
    source *sources;
    size_t source_count;
    uint32_t *crcs; /* of the payload's blocks */
    uint64_t next_seqno;  /* that the parser would give to a record now */
    uint64_t piece_seqno; /* of the last record, a write or zero; 0: it is none */
    uint64_t events_at;   /* in the events of segment events_segment */
    uint64_t events_segment;
    vs_compact_facts *facts;
} composer;

/* ---- batches ---- */

static int block_is_damaged(const source *s, uint64_t i, const char *what) {
    uint64_t in_volume = s->row.offset_bytes / VS_BLOCK_BYTES + (s->block + i - s->row.block);
    return vs_fault_set(-EBADMSG, (uint32_t)s->row.volume, s->row.seqno, s->segment->first_seqno, (s->block + i) * VS_BLOCK_BYTES,
                        "%s: the block at %" PRIu64 " (volume %" PRIu64 ", offset %" PRIu64 ", written by @%" PRIu64 ") %s", s->segment->name,
                        (s->block + i) * VS_BLOCK_BYTES, s->row.volume, in_volume * VS_BLOCK_BYTES, s->row.seqno, what);
}

/* Read blocks that lie together, of sources [first, end), to the payload's block number at. */
static int run_read(composer *c, size_t first, size_t end, uint64_t at) {
    const source *s = &c->sources[first];
    uint8_t *to = c->batch.payload + at * VS_BLOCK_BYTES;
    uint64_t bytes = 0;
    for (size_t i = first; i < end; i++) bytes += c->sources[i].count * VS_BLOCK_BYTES;
    int file = vs_segment_file_get(s->segment);
    if (file < 0) return file;
    int64_t n = c->journal->store->read(c->journal->store, file, s->block * VS_BLOCK_BYTES, to, bytes);
    vs_segment_file_put(s->segment);
    if (n < 0) return vs_fault_set((int)n, 0, 0, s->segment->first_seqno, s->block * VS_BLOCK_BYTES, "%s cannot be read: %s", s->segment->name, strerror((int)-n));
    for (size_t i = first; i < end; i++)
        for (uint64_t k = 0; k < c->sources[i].count; k++, at++, to += VS_BLOCK_BYTES, n -= VS_BLOCK_BYTES) {
            if (n < VS_BLOCK_BYTES) return block_is_damaged(&c->sources[i], k, "is missing");
            if (vs_crc32c(to, VS_BLOCK_BYTES) != c->crcs[at]) return block_is_damaged(&c->sources[i], k, "does not match its checksum");
        }
    return 0;
}

static int payload_read(composer *c) {
    uint64_t at = 0;
    int r = 0;
    for (size_t first = 0, end; r == 0 && first < c->source_count; first = end) {
        uint64_t blocks = c->sources[first].count;
        for (end = first + 1; end < c->source_count; end++) {
            const source *s = &c->sources[end], *before = &c->sources[end - 1];
            if (s->segment != before->segment || s->block != before->block + before->count) break;
            blocks += s->count;
        }
        r = run_read(c, first, end, at);
        at += blocks;
    }
    return r;
}

static int batch_write(composer *c, uint8_t *descriptors, uint32_t count) {
    vs_store *s = c->journal->store;
    uint64_t payload_bytes = c->batch.payload_blocks * VS_BLOCK_BYTES, at = c->made->index->end_bytes;
    struct iovec parts[2] = {{descriptors, (size_t)count * VS_BLOCK_BYTES}, {c->batch.payload, payload_bytes}};
    int r = payload_read(c);
    if (r == 0) r = vs_digest_update(c->digest, descriptors, parts[0].iov_len);
    if (r == 0) r = vs_digest_update(c->digest, c->batch.payload, payload_bytes);
    if (r == 0) r = s->write(s, c->file, at, parts, payload_bytes ? 2 : 1);
    if (r == 0) s->write_back(s, c->file, at, parts[0].iov_len + payload_bytes);
    return r;
}

static int batch_end(composer *c) {
    vs_index *x = c->made->index;
    uint8_t *descriptors;
    uint32_t count;
    uint64_t payload;
    if (c->batch.records == 0) return 0;
    if (atomic_load(&c->journal->work_ends)) return -ECANCELED;
    int r = vs_batch_descriptors(&c->batch, c->made->salt, x->last_seqno + 1, x->applied_seqno, &descriptors, &count);
    if (r < 0) return r;
    if (c->file >= 0) r = batch_write(c, descriptors, count);
    if (r == 0 && (r = vs_index_add_batch(x, descriptors, count, c->made->salt, UINT64_MAX, &payload)) == -EBADMSG)
        r = vs_fault_set(-EUCLEAN, 0, x->last_seqno + 1, c->made->first_seqno, 0, "%s: its records are not in order", c->made->name);
    free(descriptors);
    c->batch.records = 0;
    c->batch.stream_bytes = c->batch.payload_blocks = c->source_count = 0;
    return r;
}

/* Room for so much, and where it begins in the stream. On failure there is none. */
static int room_take(composer *c, size_t stream_bytes, uint64_t blocks, uint8_t **out) {
    int r = 0;
    if (c->batch.stream_bytes + stream_bytes > STREAM_BYTES || c->batch.payload_blocks + blocks > PAYLOAD_BLOCKS) r = batch_end(c);
    if (r < 0) return r;
    *out = c->batch.stream + c->batch.stream_bytes;
    memset(*out, 0, stream_bytes);
    c->batch.stream_bytes += stream_bytes;
    c->batch.records++;
    return 0;
}

/* ---- what goes into the stream ---- */

static int note_put(composer *c, uint32_t type, uint64_t volume, uint64_t a, uint64_t b) {
    uint8_t *p;
    int r = room_take(c, VS_RECORD_HEAD, 0, &p);
    if (r < 0) return r;
    p[0] = (uint8_t)type;
    vs_put32(p + 4, (uint32_t)volume);
    vs_put64(p + 16, a);
    vs_put64(p + 24, b);
    return 0;
}

/* The next record is that of seqno. */
static int seqno_reach(composer *c, uint64_t seqno) {
    int r = seqno == c->next_seqno ? 0 : note_put(c, VS_RECORD_GO_TO, 0, seqno, 0);
    c->next_seqno = seqno + 1;
    c->facts->records_after++;
    return r;
}

static int seqnos_have(const uint64_t *seqnos, uint64_t count, uint64_t seqno) {
    uint64_t i = vs_roots_before(&(vs_roots){seqnos, count}, seqno);
    return i < count && seqnos[i] == seqno;
}

static int event_put(composer *c, uint64_t seqno, const uint8_t *record, uint32_t body_bytes) {
    uint8_t *p;
    int r = seqno_reach(c, seqno);
    if (r == 0) r = room_take(c, vs_record_bytes(body_bytes), 0, &p);
    if (r < 0) return r;
    memcpy(p, record, vs_record_bytes(body_bytes));
    if (seqnos_have(c->kept->sizes_alone, c->kept->size_count, seqno)) p[1] |= VS_RECORD_SIZE_ALONE;
    c->piece_seqno = 0;
    return r;
}

/* Its payload will be read from segment g, whose checksums are s. */
static int blocks_take(composer *c, vs_segment *g, const vs_crcs *s, const vs_row *row, const vs_kept_piece *piece, uint64_t covered, uint8_t *tail) {
    uint64_t first = row->block + (piece->offset_bytes / VS_BLOCK_BYTES - row->offset_bytes / VS_BLOCK_BYTES);
    for (uint64_t i = 0; i < covered; i++) {
        uint32_t crc;
        if (!vs_crcs_get(s, first + i, &crc))
            return vs_fault_set(-EUCLEAN, (uint32_t)row->volume, row->seqno, g->first_seqno, 0, "%s: its records are not sound", g->name);
        vs_put32(tail + i * 4, crc);
        c->crcs[c->batch.payload_blocks + i] = crc;
    }
    c->sources[c->source_count++] = (source){g, first, covered, *row};
    c->batch.payload_blocks += covered;
    c->facts->payload_blocks += covered;
    return 0;
}

static int piece_put(composer *c, vs_segment *g, const vs_crcs *crcs, const vs_row *row, const vs_kept_piece *piece) {
    uint64_t covered = row->block ? (piece->offset_bytes % VS_BLOCK_BYTES + piece->length_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES : 0;
    int further = c->piece_seqno == row->seqno;
    uint8_t *p;
    int r = further ? 0 : seqno_reach(c, row->seqno);
    if (r == 0) r = room_take(c, vs_record_bytes((uint32_t)covered * 4), covered, &p);
    if (r < 0) return r;
    p[0] = row->block ? VS_RECORD_WRITE : VS_RECORD_ZERO;
    p[1] = further ? VS_RECORD_FURTHER : 0;
    vs_put32(p + 4, (uint32_t)row->volume);
    vs_put64(p + 8, row->time_ns);
    vs_put64(p + 16, piece->offset_bytes);
    vs_put64(p + 24, piece->length_bytes);
    vs_put32(p + 32, (uint32_t)covered * 4);
    c->piece_seqno = row->seqno;
    return covered ? blocks_take(c, g, crcs, row, piece, covered, p + VS_RECORD_HEAD) : 0;
}

static int is_dropped(const composer *c, const vs_event *e) {
    if (!seqnos_have(c->dropped, c->dropped_count, e->seqno)) return 0;
    if (e->type >= VS_RECORD_BOOKMARK_ADD && e->type <= VS_RECORD_BOOKMARK_HOLD) return 1;
    return vs_fault_set(-EINVAL, e->volume, e->seqno, 0, 0, "@%" PRIu64 " is nothing that can be left out", e->seqno);
}

/* Put in the events of the group before seqno that were not put in yet. */
static int events_until(composer *c, uint64_t seqno) {
    for (; c->events_segment <= c->group->to; c->events_segment++, c->events_at = 0) {
        const uint8_t *events = NULL, *body;
        uint64_t length;
        vs_event e;
        int r = vs_segment_events(vs_directory_at(c->group->directory, c->events_segment), &events, &length);
        for (size_t n; r == 0 && c->events_at < length; c->events_at += n) {
            n = vs_event_parse(events + c->events_at, length - c->events_at, &e, &body);
            if (n == 0) return -EBADMSG;
            if (e.seqno >= seqno) return 0;
            r = is_dropped(c, &e);
            if (r == 1) r = 0;
            else if (r == 0) r = event_put(c, e.seqno, events + c->events_at + 8, e.body_bytes);
        }
        if (r < 0) return r;
    }
    return 0;
}

static int records_put(composer *c) {
    const vs_kept_pieces *kept = c->kept;
    vs_segment *g = NULL;
    vs_rows rows;
    vs_crcs crcs;
    int r = 0;
    for (size_t i = 0; r == 0 && i < kept->count; i++) {
        vs_segment *from = vs_directory_at(c->group->directory, c->group->from + kept->pieces[i].segment);
        vs_row row;
        if (from != g) {
            g = from;
            r = vs_segment_rows(g, &rows);
            if (r == 0) r = vs_segment_crcs(g, 0, &crcs);
            if (r < 0) return r;
        }
        vs_rows_get(&rows, kept->pieces[i].number, &row);
        r = events_until(c, row.seqno);
        if (r == 0) r = piece_put(c, g, &crcs, &row, &kept->pieces[i]);
    }
    return r == 0 ? events_until(c, UINT64_MAX) : r;
}

/* ---- what only compacted segments say ---- */

/* The time of a record in a segment. 1: found. 0: it is not there (any more). events_at: where among them to go on, since who asks comes with ascending
 * seqnos. */
static int time_find(vs_segment *g, uint64_t seqno, uint64_t *events_at, uint64_t *time_ns) {
    vs_rows rows;
    vs_row row = {0};
    int r = vs_segment_rows(g, &rows);
    uint64_t n = r == 0 ? vs_rows_count_le(&rows, seqno) : 0;
    if (n) vs_rows_get(&rows, n - 1, &row);
    *time_ns = row.time_ns;
    if (r < 0 || row.seqno == seqno) return r < 0 ? r : 1;
    const uint8_t *events = NULL, *body;
    uint64_t length;
    vs_event e;
    r = vs_segment_events(g, &events, &length);
    for (size_t k; r == 0 && *events_at < length; *events_at += k) {
        k = vs_event_parse(events + *events_at, length - *events_at, &e, &body);
        if (k == 0) return -EBADMSG;
        *time_ns = e.time_ns;
        if (e.seqno >= seqno) return e.seqno == seqno;
    }
    return r;
}

/* The roots in one segment of the group. */
static int points_put(composer *c, vs_segment *g) {
    uint64_t events_at = 0, time_ns = 0;
    int r = 0;
    for (uint64_t i = vs_roots_before(c->roots, g->first_seqno); r == 0 && i < c->roots->count && c->roots->seqnos[i] <= g->last_seqno; i++) {
        uint64_t seqno = c->roots->seqnos[i];
        r = g->generation ? vs_point_time(g, seqno, &time_ns) : time_find(g, seqno, &events_at, &time_ns);
        if (r == 0) r = vs_fault_set(-ERANGE, 0, seqno, g->first_seqno, 0, "@%" PRIu64 " is not kept in %s any more", seqno, g->name);
        if (r == 1) r = note_put(c, VS_RECORD_POINT, 0, seqno, time_ns);
    }
    return r;
}

static int notes_put(composer *c, const vs_states *states) {
    const vs_compact_group *group = c->group;
    const vs_segment *begin = vs_directory_at(group->directory, group->from), *end = vs_directory_at(group->directory, group->to);
    int r = 0;
    if (c->next_seqno != end->last_seqno + 1) r = note_put(c, VS_RECORD_GO_TO, 0, end->last_seqno + 1, end->last_time_ns);
    for (uint64_t i = group->from; r == 0 && i <= group->to; i++) r = points_put(c, vs_directory_at(group->directory, i));
    for (size_t i = 0; r == 0 && i < states->count; i++) {
        const vs_volume_state *v = &states->volumes[i];
        if (v->last_write_seqno >= begin->first_seqno) r = note_put(c, VS_RECORD_STATE, v->id, v->last_write_seqno, v->last_write_ns);
    }
    return r;
}

/* ---- the whole ---- */

static int made_begin(composer *c) {
    const vs_segment *begin = vs_directory_at(c->group->directory, c->group->from), *end = vs_directory_at(c->group->directory, c->group->to);
    vs_segment *g;
    int r = vs_segment_new(&c->journal->files, begin->first_seqno, c->group->generation, &g);
    if (r < 0) return r;
    c->made = g;
    g->ordinal = begin->ordinal;
    g->ordinals = end->ordinal + end->ordinals - begin->ordinal;
    g->base_floor = c->kept->base_floor;
    g->until_seqno = c->kept->until_seqno;
    g->time_before_ns = begin->time_before_ns;
    memcpy(g->prev_digest, begin->prev_digest, 32);
    memcpy(g->chain_digest, end->chain_digest, 32);
    g->index = malloc(sizeof *g->index);
    if (!g->index) return -ENOMEM;
    vs_index_init(g->index, g->first_seqno, g->time_before_ns);
    g->index->compacted = 1;
    g->index->applied_seqno = end->applied_seqno;
    g->index->floor_seqno = end->floor_seqno; /* its record may be dropped by then */
    c->next_seqno = g->first_seqno;
    c->events_segment = c->group->from;
    return 0;
}

static int buffers_begin(composer *c) {
    c->batch.stream = malloc(STREAM_BYTES);
    c->sources = malloc(PAYLOAD_BLOCKS * sizeof *c->sources);
    c->crcs = malloc(PAYLOAD_BLOCKS * sizeof *c->crcs);
    return c->batch.stream && c->sources && c->crcs ? 0 : -ENOMEM;
}

static int file_begin(composer *c) {
    vs_store *s = c->journal->store;
    uint8_t header[VS_BLOCK_BYTES] = {0};
    struct iovec part = {header, sizeof header};
    c->batch.payload = aligned_alloc(VS_BLOCK_BYTES, PAYLOAD_BLOCKS * VS_BLOCK_BYTES);
    int r = c->batch.payload ? s->entropy(s, c->made->salt, sizeof c->made->salt) : -ENOMEM;
    if (r == 0) r = vs_digest_new(&c->digest);
    if (r < 0) return r;
    vs_header_fill(c->made, c->journal->options.uuid, s->now_ns(s), header);
    s->remove(s, VS_COMPACT_TEMPORARY);
    c->file = s->open(s, VS_COMPACT_TEMPORARY, VS_OPEN_WRITE | VS_OPEN_CREATE);
    r = c->file < 0 ? c->file : vs_digest_update(c->digest, header, sizeof header);
    return r == 0 ? s->write(s, c->file, 0, &part, 1) : r;
}

static int footer_put(composer *c, vs_states *states) {
    vs_store *s = c->journal->store;
    uint8_t *bytes = NULL;
    size_t length;
    for (size_t i = 0; i < states->count; i++) states->volumes[i].data_bytes = VS_UNKNOWN;
    int r = c->file >= 0 ? vs_digest_peek(c->digest, c->made->digest) : 0;
    if (r == 0) r = vs_footer_build(c->made, c->journal->options.uuid, states, NULL, NULL, &bytes, &length);
    if (r < 0) return r;
    c->facts->bytes_after = c->made->index->end_bytes + length;
    struct iovec part = {bytes, length};
    if (c->file >= 0) r = s->write(s, c->file, c->made->index->end_bytes, &part, 1);
    if (r == 0 && c->file >= 0) r = s->sync(s, c->file);
    free(bytes);
    return r;
}

/* Is it to the end what was meant? The parser takes only what is in order; that it goes as far as the group does is for us to see. */
static int made_check(const composer *c) {
    const vs_segment *end = vs_directory_at(c->group->directory, c->group->to);
    const vs_index *x = c->made->index;
    if (x->last_seqno == end->last_seqno && x->last_time_ns == end->last_time_ns) return 0;
    return vs_fault_set(-EUCLEAN, 0, x->last_seqno, c->made->first_seqno, 0, "%s: its records do not go as far as it says", end->name);
}

static int compose(composer *c, int write) {
    vs_states states = {0};
    const vs_compact_group *group = c->group;
    pthread_mutex_lock(&c->journal->mu);
    int r = vs_journal_states(group->directory, group->to, vs_directory_at(group->directory, group->to)->last_seqno, &states);
    pthread_mutex_unlock(&c->journal->mu);
    if (r == 0) r = made_begin(c);
    if (r == 0) r = buffers_begin(c);
    if (r == 0 && write) r = file_begin(c);
    if (r == 0) r = records_put(c);
    if (r == 0) r = notes_put(c, &states);
    if (r == 0) r = batch_end(c);
    if (r == 0) r = made_check(c);
    if (r == 0) r = footer_put(c, &states);
    vs_states_clear(&states);
    return r;
}

static void composer_end(composer *c) {
    if (c->file >= 0) c->journal->store->close(c->journal->store, c->file);
    vs_segment_unref(c->made);
    vs_digest_free(c->digest);
    free(c->batch.stream);
    free(c->batch.payload);
    free(c->sources);
    free(c->crcs);
}

/* Of a segment that is compacted already, the records that it has. */
static int records_count(vs_segment *g, uint64_t *count) {
    vs_rows rows;
    vs_event e;
    const uint8_t *events = NULL, *body;
    uint64_t length, before = 0;
    if (!g->generation) {
        *count += g->last_seqno - g->first_seqno + 1;
        return 0;
    }
    int r = vs_segment_rows(g, &rows);
    if (r == 0) r = vs_segment_events(g, &events, &length);
    for (uint64_t i = 0; r == 0 && i < rows.count; i++) {
        vs_row row;
        vs_rows_get(&rows, i, &row);
        *count += row.seqno != before;
        before = row.seqno;
    }
    for (uint64_t at = 0, n; r == 0 && at < length; at += n) {
        n = vs_event_parse(events + at, length - at, &e, &body);
        if (n == 0) return -EBADMSG;
        *count += e.type != VS_RECORD_VOLUME_RESIZE || events[at + 9] & VS_RECORD_SIZE_ALONE; /* others have a row */
    }
    return r;
}

/* What is there now. */
static int facts_begin(const vs_compact_group *c, vs_compact_facts *out) {
    *out = (vs_compact_facts){.segments = c->to - c->from + 1};
    int r = 0;
    for (uint64_t i = c->from; r == 0 && i <= c->to; i++) {
        vs_segment *g = vs_directory_at(c->directory, i);
        out->bytes_before += g->file_bytes;
        r = records_count(g, &out->records_before);
    }
    return r;
}

/* Whoever found out more has said it. */
static int failed(const vs_compact_group *c, int status) {
    const vs_segment *g = vs_directory_at(c->directory, c->from);
    vs_fault fault;
    vs_fault_last(&fault);
    if (fault.code == status) return status;
    return vs_fault_set(status, 0, 0, g->first_seqno, 0, "the segments from %s on cannot be compacted: %s", g->name, strerror(-status));
}

static int group_compose(vs_journal *j, const vs_compact_group *group, const vs_roots *roots, const uint64_t *dropped, uint64_t n_dropped, int write,
                         vs_compact_facts *out) {
    vs_kept_pieces kept;
    composer c = {.journal = j, .group = group, .roots = roots, .dropped = dropped, .dropped_count = n_dropped, .kept = &kept, .file = -1, .facts = out};
    int r = vs_roots_check(j, roots);
    if (r == 0) r = facts_begin(group, out);
    if (r == 0) r = vs_kept_pieces_find(j, group, roots, &kept);
    if (r <= 0) return r == 0 ? 0 : failed(group, r);
    r = compose(&c, write);
    composer_end(&c);
    vs_kept_pieces_clear(&kept);
    return r < 0 ? failed(group, r) : 1;
}

int vs_compact_write(vs_journal *j, const vs_compact_group *c, const uint64_t *points, uint64_t n_points, const uint64_t *dropped, uint64_t n_dropped,
                     vs_compact_facts *out) {
    return group_compose(j, c, &(vs_roots){points, n_points}, dropped, n_dropped, 1, out);
}

int vs_journal_compact_estimate(vs_journal *j, uint64_t first_ordinal, uint64_t count, const uint64_t *points, uint64_t n_points,
                                const uint64_t *dropped, uint64_t n_dropped, uint64_t floor_seqno, vs_compact_facts *out) {
    vs_compact_group c = {.generation = 1, .assumed_floor = floor_seqno}; /* the name has no part in the size */
    if (n_points == 0) return -EINVAL;
    vs_fault_clear();
    pthread_mutex_lock(&j->mu);
    int r = vs_compact_group_find(j, first_ordinal, count, points[n_points - 1], &c);
    if (r == 1) c.directory = vs_directory_ref(j->directory);
    pthread_mutex_unlock(&j->mu);
    if (r == 1) r = group_compose(j, &c, &(vs_roots){points, n_points}, dropped, n_dropped, 0, out);
    vs_directory_unref(c.directory);
    return r;
}
