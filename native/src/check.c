/* check.c: is everything that can be recomputed equal to what is stored?
 *
 * Batches are the truth of a segment: they are scanned afresh, and header, trailer, chain and every section are compared with them. What
 * the footer says in another way than the batches is damage of the footer (derived); what the batches cannot say is lost.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "journal_internal.h"

static int found(vs_fault *fault, int status) {
    vs_fault_last(fault);
    if (fault->code != status) {
        vs_fault_set(status, 0, 0, 0, 0, "cannot be read: %s", strerror(-status));
        vs_fault_last(fault);
    }
    return 1;
}

/* Is this what the medium, or somebody, has done to a file? Anything else is about us. */
static int is_damage(int status) {
    return status == -EUCLEAN || status == -EBADMSG || status == -EXDEV || status == -EIO || status == -ENOENT;
}

static int footer_fault(const vs_segment *g, int which, vs_fault *fault) {
    static const char *const names[VS_SECTIONS] = {"records", "maps", "checksums", "events", "volumes"};
    return found(fault, vs_fault_set(-ENOTRECOVERABLE, 0, 0, g->first_seqno, g->section[which].offset_bytes,
                                     "%s: the footer's %s do not match the batches; reading uses the batches", g->name, names[which]));
}

static int rows_equal(vs_segment *g, const vs_index *x) {
    uint64_t length;
    vs_packed t;
    const uint8_t *p = vs_segment_section(g, VS_SECTION_RECORDS, &length);
    if (!p || vs_packed_open(p, length, VS_RECORD_COLUMNS, &t) < 0 || t.rows != x->row_count) return 0;
    vs_rows rows = {.packed = t, .count = t.rows};
    for (uint64_t i = 0; i < t.rows; i++) {
        vs_row row;
        vs_rows_get(&rows, i, &row);
        if (memcmp(&row, &x->rows[i], sizeof row) != 0) return 0;
    }
    return 1;
}

static int checksums_equal(vs_segment *g, const vs_index *x) {
    uint64_t length;
    const uint8_t *p = vs_segment_section(g, VS_SECTION_CHECKSUMS, &length);
    if (!p || length / 4 < x->end_bytes / VS_BLOCK_BYTES) return 0;
    for (uint64_t i = 0; i < x->end_bytes / VS_BLOCK_BYTES; i++)
        if (vs_get32(p + i * 4) != vs_index_crc(x, i)) return 0;
    return 1;
}

static int events_equal(vs_segment *g, const vs_index *x) {
    uint64_t length;
    const uint8_t *p = vs_segment_section(g, VS_SECTION_EVENTS, &length);
    return p && length == x->event_bytes && (length == 0 || memcmp(p, x->events, length) == 0);
}

/* A table of a volume against the map made from the rows, both as the encoder would write them. */
static int table_equal(const vs_packed *t, const vs_extent_map *m) {
    vs_stack made = {0};
    uint8_t *bytes = NULL;
    size_t length;
    uint64_t ignored;
    vs_packed want;
    int r = vs_stack_push(&made, &(vs_layer){.memory = m});
    if (r == 0) r = vs_stack_encode(&made, 0, &bytes, &length, &ignored);
    if (r == 0) r = vs_packed_open(bytes, length, VS_MAP_COLUMNS, &want);
    int equal = r == 0 && want.rows == t->rows;
    for (uint64_t i = 0; equal && i < t->rows; i++) {
        uint64_t a[VS_MAP_COLUMNS], b[VS_MAP_COLUMNS];
        vs_packed_row(t, i, a);
        vs_packed_row(&want, i, b);
        equal = memcmp(a, b, sizeof a) == 0;
    }
    free(bytes);
    vs_stack_clear(&made);
    return r < 0 ? r : equal;
}

/* Do the section's volumes ascend, and is each one there that has rows? */
static int maps_name_all(const uint8_t *section, uint32_t count, const vs_index *x) {
    const uint8_t *rows = section + 8;
    for (uint32_t i = 1; i < count; i++)
        if (vs_get32(rows + (size_t)i * 24) <= vs_get32(rows + (size_t)(i - 1) * 24)) return 0;
    for (size_t k = 0; k < x->row_count; k++) {
        uint32_t low = 0, high = count, volume = (uint32_t)x->rows[k].volume;
        while (low < high) {
            uint32_t mid = (low + high) / 2;
            if (vs_get32(rows + (size_t)mid * 24) < volume) low = mid + 1;
            else high = mid;
        }
        if (low == count || vs_get32(rows + (size_t)low * 24) != volume) return 0;
    }
    return 1;
}

static int maps_equal(vs_segment *g, const vs_index *x) {
    uint64_t length;
    const uint8_t *p = vs_segment_section(g, VS_SECTION_MAPS, &length);
    if (!p || length < 8 || length < 8 + (uint64_t)vs_get32(p) * 24) return 0;
    int equal = maps_name_all(p, vs_get32(p), x);
    for (uint32_t i = 0; equal == 1 && i < vs_get32(p); i++) {
        const uint8_t *row = p + 8 + (size_t)i * 24;
        uint64_t at = vs_get64(row + 8), bytes = vs_get64(row + 16);
        vs_packed t;
        vs_extent_map *m;
        if (at > length || bytes > length - at || vs_packed_open(p + at, bytes, VS_MAP_COLUMNS, &t) < 0) return 0;
        int r = vs_rows_map(x->rows, x->row_count, vs_get32(row), 0, UINT64_MAX, &m);
        if (r < 0) return r;
        equal = table_equal(&t, m);
        vs_extent_map_free(m);
    }
    return equal;
}

/* Does the section say of each volume what the batches make of the states before the segment? But for the bytes that hold data. */
static int volumes_equal(vs_journal *j, vs_segment *g, const vs_index *x) {
    uint64_t length, index = g->ordinal - j->first_ordinal;
    vs_states want = {0};
    const uint8_t *p = vs_segment_section(g, VS_SECTION_VOLUMES, &length);
    pthread_mutex_lock(&j->mu);
    int r = index ? vs_journal_states(j, index - 1, UINT64_MAX, &want) : 0;
    pthread_mutex_unlock(&j->mu);
    if (r == 0) r = vs_states_fold(&want, x->rows, x->row_count, x->events, x->event_bytes, UINT64_MAX);
    int equal = p && (r < 0 || length == want.count * VS_VOLUME_ROW_BYTES); /* what is damaged before is found there */
    for (size_t i = 0; r == 0 && equal && i < want.count; i++, p += VS_VOLUME_ROW_BYTES) {
        const vs_volume_state *v = &want.volumes[i];
        equal = vs_get32(p) == v->id && vs_get32(p + 4) == v->removed && vs_get64(p + 8) == v->size_bytes && vs_get64(p + 16) == v->added_seqno &&
                vs_get64(p + 24) == v->last_write_seqno && vs_get64(p + 32) == v->last_write_ns;
    }
    vs_states_clear(&want);
    return r == -ENOMEM ? r : equal;
}

/* 1 with *fault, or 0. */
static int footer_check(vs_journal *j, vs_segment *g, const vs_index *x, vs_fault *fault) {
    uint64_t length;
    int r = vs_segment_need_map(g);
    if (r < 0 && !is_damage(r) && r != -EINVAL) return r; /* no memory is no damage */
    if (!rows_equal(g, x)) return footer_fault(g, VS_SECTION_RECORDS, fault);
    r = maps_equal(g, x);
    if (r < 0) return r;
    if (!r) return footer_fault(g, VS_SECTION_MAPS, fault);
    if (!checksums_equal(g, x)) return footer_fault(g, VS_SECTION_CHECKSUMS, fault);
    if (!events_equal(g, x)) return footer_fault(g, VS_SECTION_EVENTS, fault);
    r = volumes_equal(j, g, x);
    if (r < 0) return r;
    if (!r) return footer_fault(g, VS_SECTION_VOLUMES, fault);
    const uint8_t *p = vs_segment_section(g, VS_SECTION_VOLUMES, &length);
    uint64_t end = g->section[VS_SECTION_VOLUMES].offset_bytes + length;
    if (vs_is_zero(p + length, g->file_bytes - VS_BLOCK_BYTES - end)) return 0;
    return found(fault, vs_fault_set(-ENOTRECOVERABLE, 0, 0, g->first_seqno, end,
                                     "%s: the zeros between the footer and the trailer are damaged", g->name));
}

static int trailer_fault(const vs_segment *g) {
    return vs_fault_set(-ENOTRECOVERABLE, 0, 0, g->first_seqno, g->file_bytes - VS_BLOCK_BYTES,
                        "%s: the trailer is damaged; reading uses the batches", g->name);
}

/* Only the active segment may be without a valid trailer. 1 with *fault, or 0. */
static int trailer_check(vs_journal *j, vs_segment *g, vs_fault *fault) {
    pthread_mutex_lock(&j->mu);
    int lost = !g->sealed && g != j->active;
    pthread_mutex_unlock(&j->mu);
    return lost ? found(fault, trailer_fault(g)) : 0;
}

/* What says where payload lies and what its checksums are: the batches, or if they are damaged what reads go by. */
typedef struct told {
    const vs_row *rows;
    size_t count;
    vs_row *owned;
    vs_crcs crcs;
} told;

/* x: what the batches say; NULL: they are damaged. 0 rows: nothing says it any more, then nothing of it can be read either. */
static int told_by(vs_segment *g, const vs_index *x, told *out) {
    *out = (told){0};
    if (x) {
        *out = (told){.rows = x->rows, .count = x->row_count, .crcs = {.index = x}};
        return 0;
    }
    if (!g->sealed) return 0;
    int r = vs_segment_rows_array(g, UINT64_MAX, &out->rows, &out->count, &out->owned);
    if (r == 0) r = vs_segment_crcs(g, 0, &out->crcs);
    if (r < 0) out->count = 0;
    return is_damage(r) ? 0 : r;
}

/* Read the payload block of a row; 1 with *fault when it does not match. */
static int block_check(vs_journal *j, vs_segment *g, const vs_crcs *crcs, int file, const vs_row *row, uint64_t block, vs_fault *fault) {
    _Alignas(16) uint8_t bytes[VS_BLOCK_BYTES];
    uint32_t crc;
    int64_t n = j->store->read(j->store, file, block * VS_BLOCK_BYTES, bytes, sizeof bytes);
    if (n == VS_BLOCK_BYTES && vs_crcs_get(crcs, block, &crc) && vs_crc32c(bytes, sizeof bytes) == crc) return 0;
    uint64_t in_volume = row->offset_bytes / VS_BLOCK_BYTES + (block - row->block);
    return found(fault, vs_fault_set(-EBADMSG, (uint32_t)row->volume, row->seqno, g->first_seqno, block * VS_BLOCK_BYTES,
                                     "%s: the block at %" PRIu64 " (volume %" PRIu64 ", offset %" PRIu64 ", written by @%" PRIu64 ") %s", g->name,
                                     block * VS_BLOCK_BYTES, row->volume, in_volume * VS_BLOCK_BYTES, row->seqno,
                                     n < 0 ? "cannot be read" : "does not match its checksum"));
}

/* Where the payload blocks of a row end; 0: it has none. A damaged row may say anything: what is not among the batches is not looked for. */
static uint64_t row_end(const vs_segment *g, const vs_row *row) {
    uint64_t blocks = (row->offset_bytes % VS_BLOCK_BYTES + row->length_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES, end = g->data_end / VS_BLOCK_BYTES;
    if (row->block == 0 || row->block >= end) return 0;
    return blocks < end - row->block ? row->block + blocks : end;
}

/* Blocks of payload from *offset_bytes on, until one does not match. */
static int payload_check(vs_journal *j, vs_segment *g, const vs_index *x, uint64_t *offset_bytes, vs_fault *fault) {
    told t;
    int file = vs_segment_file_get(g);
    if (file < 0) return is_damage(file) ? 0 : file; /* the batches could not be read either */
    int r = told_by(g, x, &t);
    for (size_t i = 0; r == 0 && i < t.count; i++) {
        const vs_row *row = &t.rows[i];
        uint64_t from = *offset_bytes / VS_BLOCK_BYTES, end = row_end(g, row);
        for (uint64_t b = row->block > from ? row->block : from; r == 0 && b < end; b++) {
            r = atomic_load(&j->check_ends) ? -ECANCELED : block_check(j, g, &t.crcs, file, row, b, fault);
            if (r == 1) *offset_bytes = (b + 1) * VS_BLOCK_BYTES;
        }
    }
    free(t.owned);
    vs_segment_file_put(g);
    return r;
}

/* Header and trailer, as a new reader would load them. */
static int ends_check(vs_journal *j, vs_segment *g, vs_fault *fault) {
    vs_segment *fresh;
    int r = vs_segment_new(&j->files, g->first_seqno, &fresh);
    if (r < 0) return r;
    r = vs_segment_load_header(fresh, j->options.uuid);
    if (r == 0 && (fresh->ordinal != g->ordinal || fresh->time_before_ns != g->time_before_ns || memcmp(fresh->salt, g->salt, 16) != 0 ||
                   memcmp(fresh->prev_digest, g->prev_digest, 32) != 0))
        r = vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s: header and trailer are of different segments", g->name);
    if (r == 0 && g->sealed) {
        r = vs_segment_load_trailer(fresh, j->options.uuid);
        int same = r == 1 && fresh->last_seqno == g->last_seqno && memcmp(fresh->digest, g->digest, 32) == 0;
        if (r >= 0) r = same ? 0 : trailer_fault(g);
    }
    vs_segment_free(fresh);
    return is_damage(r) || r == -ENOTRECOVERABLE ? found(fault, r) : r;
}

/* What it says of the record before it, and its trailer of its last one. x: what its batches say. before: NULL: it is the first. */
static int times_check(const vs_segment *g, const vs_segment *before, const vs_index *x, vs_fault *fault) {
    if (g->time_before_ns != (before ? before->last_time_ns : 0))
        return found(fault, vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s: the record before it has another time than it says", g->name));
    int other = x->last_time_ns != g->last_time_ns || x->applied_seqno != g->applied_seqno;
    return g->sealed && other ? found(fault, trailer_fault(g)) : 0;
}

static int digest_check(vs_journal *j, vs_segment *g, vs_fault *fault) {
    vs_digest *digest = NULL;
    vs_index *again = NULL;
    uint8_t now[32];
    int r = vs_segment_digest_begin(g, &digest);
    if (r == 0) r = vs_segment_scan(g, digest, &j->check_ends, &again);
    if (r == 0) r = vs_digest_peek(digest, now);
    if (r == 0 && memcmp(now, g->digest, 32) != 0)
        r = found(fault, vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s: its digest is not the one in its trailer", g->name));
    vs_index_free(again);
    vs_digest_free(digest);
    return r;
}

/* Batches are damaged: which sections of the footer are too? *next counts them. */
static int sections_check(vs_segment *g, uint64_t *next, vs_fault *fault) {
    uint64_t length;
    for (uint64_t i = *next - 1; g->sealed && i < VS_SECTIONS; i++) {
        if (vs_segment_section(g, (int)i, &length)) continue;
        *next = i + 2;
        return footer_fault(g, (int)i, fault);
    }
    return 0;
}

/* Steps, by *next: 0: batches. If they are damaged, 1 .. VS_SECTIONS + 1: sections of the footer. From a block on: payload, then the rest. */
int vs_journal_check_segment(vs_journal *j, uint64_t index, int read_payload, uint64_t *next, vs_fault *fault) {
    pthread_mutex_lock(&j->mu);
    vs_segment *g = index < j->segment_count ? vs_journal_segment(j, index) : NULL;
    vs_segment *before = g && index ? vs_journal_segment(j, index - 1) : NULL;
    pthread_mutex_unlock(&j->mu);
    if (!g) return -ENOENT;
    vs_index *x = NULL;
    int first = *next == 0, r = vs_segment_scan(g, NULL, &j->check_ends, &x);
    int damaged = is_damage(r);
    if (damaged && first) {
        *next = 1;
        return found(fault, r);
    }
    if (damaged) r = *next <= VS_SECTIONS ? sections_check(g, next, fault) : 0;
    if (r == 0 && read_payload) r = payload_check(j, g, x, next, fault);
    if (r == 0) {
        r = ends_check(j, g, fault);
        if (r == 0) r = trailer_check(j, g, fault);
        if (r == 0 && x) r = times_check(g, before, x, fault);
        if (r == 0 && g->sealed && x) r = footer_check(j, g, x, fault);
        if (r == 0 && g->sealed && x && read_payload && first) r = digest_check(j, g, fault);
        *next = 0;
    }
    vs_index_free(x);
    return r;
}

void vs_journal_check_end(vs_journal *j) {
    atomic_store(&j->check_ends, 1);
}

int vs_journal_check_base(vs_journal *j, uint32_t volume) {
    vs_base *base;
    int r = vs_base_open(j->store, j->options.uuid, volume, &base);
    if (r < 0) return r == -ENOENT ? 0 : r;
    r = vs_base_check_holes(base);
    vs_base_close(base);
    return r;
}

/* The i-th group of segments that a merged map may stand for. */
static int group_at(vs_journal *j, uint64_t i, uint64_t *first, uint64_t *count) {
    uint64_t sealed_end = j->first_ordinal + j->segment_count - (j->active ? 1 : 0);
    *count = VS_MERGE_FANOUT;
    for (int level = 0; level < VS_MERGE_LEVELS; level++, *count *= VS_MERGE_FANOUT) {
        uint64_t from = (j->first_ordinal + *count - 1) / *count * *count;
        uint64_t here = sealed_end > from ? (sealed_end - from) / *count : 0;
        if (i < here) {
            *first = from + i * *count;
            return 1;
        }
        i -= here;
    }
    return 0;
}

int vs_journal_check_map(vs_journal *j, uint64_t index, vs_fault *fault, char name[64]) {
    uint64_t first, count;
    vs_merged_map *m;
    pthread_mutex_lock(&j->mu);
    int r = group_at(j, index, &first, &count);
    pthread_mutex_unlock(&j->mu);
    if (!r) return -ENOENT;
    vs_merged_map_name(first, count, name);
    r = vs_merged_map_open(j->store, j->options.uuid, first, count, &m);
    if (r == -ENOENT) return 0; /* it will be made; nothing is lost without it */
    if (r == -ENOMEM || r == -EMFILE || r == -ENFILE) return r; /* that is about us */
    if (r < 0) return found(fault, r);
    r = vs_merged_map_compare(j, m, fault);
    vs_merged_map_close(j->store, m);
    return r;
}
