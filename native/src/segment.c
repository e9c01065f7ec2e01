/* segment.c: names, files, trailers and sections of one segment.
 *
 * A sealed segment costs one read when the journal is opened (the trailer) and a small struct; sections are mapped and checked
 * at first use. If one is damaged, the batches say the same, only slower: the footer is derived.
 */
#include "segment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "recovery.h"

int vs_files_init(vs_files *f, vs_store *s) {
    memset(f, 0, sizeof *f);
    f->store = s;
    f->end = &f->first;
    f->open_max = s->files_max(s);
    int r = pthread_mutex_init(&f->mu, NULL);
    return r ? -r : -pthread_mutex_init(&f->load_mu, NULL);
}

void vs_files_end(vs_files *f) {
    pthread_mutex_destroy(&f->mu);
    pthread_mutex_destroy(&f->load_mu);
}

int vs_segment_new(vs_files *f, uint64_t first_seqno, uint64_t generation, vs_segment **out) {
    vs_segment *g = calloc(1, sizeof *g);
    if (!g) return -ENOMEM;
    g->files = f;
    g->first_seqno = first_seqno;
    g->generation = generation;
    g->ordinals = 1;
    g->file = -1;
    atomic_init(&g->refs, 1);
    if (generation) snprintf(g->name, sizeof g->name, "journal/%020" PRIu64 "-%" PRIu64 ".seg", first_seqno, generation);
    else snprintf(g->name, sizeof g->name, "journal/%020" PRIu64 ".seg", first_seqno);
    *out = g;
    return 0;
}

/* mu held. Close the file of the segment that *at leads to, unless somebody uses it. 1: closed. A user counts itself before it looks at
 * the file; we take the file away before we look at the count: one of the two sees the other. */
static int close_unused(vs_files *f, vs_segment **at) {
    vs_segment *g = *at;
    int file = atomic_exchange(&g->file, -1);
    if (atomic_load(&g->file_users) > 0) {
        atomic_store(&g->file, file);
        return 0;
    }
    *at = g->file_next;
    if (f->end == &g->file_next) f->end = at;
    f->store->close(f->store, file);
    f->open--;
    return 1;
}

vs_segment *vs_segment_ref(vs_segment *g) {
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void vs_segment_unref(vs_segment *g) {
    if (!g || atomic_fetch_sub(&g->refs, 1) > 1) return;
    vs_store *s = g->files->store;
    if (g->mapped) s->unmap(s, g->mapped, g->file_bytes);
    pthread_mutex_lock(&g->files->mu);
    if (g->file >= 0) {
        vs_segment **at = &g->files->first;
        while (*at != g) at = &(*at)->file_next;
        close_unused(g->files, at);
    }
    pthread_mutex_unlock(&g->files->mu);
    vs_index_free(g->index);
    vs_index_free(g->fallback);
    free(g);
}

/* mu held. Close half of the files, so that a sweep pays for many opens: those that nobody has used since the last sweep, and if these are
 * too few, the longest open. */
static void close_idle(vs_files *f) {
    for (int sweep = 0; sweep < 2; sweep++) {
        for (vs_segment **at = &f->first; *at && f->open > f->open_max / 2;) {
            vs_segment *g = *at;
            int used = atomic_exchange(&g->file_used, 0);
            if ((used && sweep == 0) || !close_unused(f, at)) at = &g->file_next;
        }
    }
}

/* mu held, the caller counted as a user. */
static int open_file(vs_segment *g) {
    vs_files *f = g->files;
    if (g->file >= 0) return g->file;
    if (f->open >= f->open_max) close_idle(f);
    int file = f->store->open(f->store, g->name, VS_OPEN_READ);
    if (file < 0) return vs_fault_set(file, 0, 0, g->first_seqno, 0, "%s cannot be opened: %s", g->name, strerror(-file));
    g->file_next = NULL;
    *f->end = g;
    f->end = &g->file_next;
    f->open++;
    atomic_store(&g->file, file);
    return file;
}

int vs_segment_file_get(vs_segment *g) {
    atomic_fetch_add(&g->file_users, 1);
    int file = atomic_load(&g->file);
    if (file < 0) {
        pthread_mutex_lock(&g->files->mu);
        file = open_file(g);
        pthread_mutex_unlock(&g->files->mu);
    }
    if (file < 0) atomic_fetch_sub(&g->file_users, 1);
    else if (!atomic_load_explicit(&g->file_used, memory_order_relaxed)) atomic_store_explicit(&g->file_used, 1, memory_order_relaxed);
    return file;
}

void vs_segment_file_put(vs_segment *g) {
    atomic_fetch_sub(&g->file_users, 1);
}

static int identity_check(const vs_segment *g, const uint8_t *p, size_t uuid_at, size_t features_at, const uint8_t uuid[16]) {
    uint32_t features = vs_get32(p + features_at), known = g->generation ? VS_FEATURE_COMPACTED : 0;
    if (vs_get32(p + 8) != VS_FORMAT_VERSION || features & ~known)
        return vs_fault_set(-EPROTONOSUPPORT, 0, 0, g->first_seqno, 0, "%s has format %u, features %#x: made by a newer program", g->name,
                            vs_get32(p + 8), features);
    if (memcmp(p + uuid_at, uuid, 16) != 0)
        return vs_fault_set(-EXDEV, 0, 0, g->first_seqno, 0, "%s belongs to another repository", g->name);
    if (features != known) return vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s is another segment under this name: it is not compacted", g->name);
    return 0;
}

static int another_under_this_name(const vs_segment *g, const char *what, uint64_t is) {
    return vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s is another segment under this name (%s %" PRIu64 ")", g->name, what, is);
}

/* What a compacted segment's header and trailer say alike, at p: generation, ordinals, base floor. */
static int standing_load(vs_segment *g, const uint8_t *p, uint64_t ordinal) {
    uint64_t ordinals = vs_get64(p + 8), group = 1;
    if (vs_get64(p) != g->generation) return another_under_this_name(g, "its generation is", vs_get64(p));
    while (group < ordinals && group <= UINT64_MAX / VS_MERGE_FANOUT) group *= VS_MERGE_FANOUT;
    if (group != ordinals || ordinal % ordinals || ordinals > VS_ORDINALS_MAX)
        return vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s: says that it stands for %" PRIu64 " segments from number %" PRIu64 " on", g->name,
                            ordinals, ordinal);
    g->ordinals = ordinals;
    g->base_floor = vs_get64(p + 16);
    return 0;
}

static int read_block(vs_segment *g, uint64_t offset_bytes, uint8_t *block) {
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    int64_t n = g->files->store->read(g->files->store, file, offset_bytes, block, VS_BLOCK_BYTES);
    vs_segment_file_put(g);
    if (n < 0) return (int)n;
    return n == VS_BLOCK_BYTES ? 0 : -EBADMSG;
}

int vs_segment_digest_begin(vs_segment *g, vs_digest **out) {
    uint8_t header[VS_BLOCK_BYTES];
    int r = read_block(g, 0, header);
    if (r == 0) r = vs_digest_new(out);
    return r == 0 ? vs_digest_update(*out, header, sizeof header) : r;
}

int vs_segment_load_header(vs_segment *g, const uint8_t uuid[16]) {
    uint8_t h[VS_BLOCK_BYTES];
    int r = read_block(g, 0, h);
    if (r < 0 && r != -EBADMSG) return r;
    if (r < 0 || memcmp(h, VS_MAGIC_SEGMENT, 8) != 0 || !vs_block_check(h))
        return vs_fault_set(-EBADMSG, 0, 0, g->first_seqno, 0, "%s: the header block is damaged", g->name);
    r = identity_check(g, h, 24, 12, uuid);
    if (r < 0) return r;
    if (vs_get64(h + 48) != g->first_seqno || vs_get32(h + 20) != VS_BLOCK_BYTES) return another_under_this_name(g, "it begins with", vs_get64(h + 48));
    r = g->generation ? standing_load(g, h + 120, vs_get64(h + 40)) : 0;
    if (r < 0) return r;
    if (g->generation) g->until_seqno = vs_get64(h + VS_HEADER_UNTIL_AT);
    g->ordinal = vs_get64(h + 40);
    g->time_before_ns = vs_get64(h + 64);
    memcpy(g->prev_digest, h + 72, 32);
    memcpy(g->salt, h + 104, 16);
    return 0;
}

/* Does everything that a trailer names lie before it? A segment is never sealed without a record: the next one would have its name. */
static int trailer_is_sound(const vs_segment *g, const uint8_t *t, uint64_t limit) {
    uint64_t data_end = vs_get64(t + 64);
    if (data_end % VS_BLOCK_BYTES || data_end < 2 * VS_BLOCK_BYTES || data_end > limit) return 0;
    if (vs_get64(t + 48) < vs_get64(t + 40) || vs_get64(t + 48) == UINT64_MAX) return 0;
    if (g->generation && vs_get64(t + VS_TRAILER_UNTIL_AT) < vs_get64(t + 48)) return 0;
    for (int i = 0; i < vs_segment_sections(g); i++) {
        const uint8_t *entry = t + vs_section_entry_at(i);
        uint64_t offset = vs_get64(entry), length = vs_get64(entry + 8);
        if (offset < data_end || offset > limit || length > limit - offset) return 0;
    }
    return 1;
}

static void sections_load(vs_segment *g, const uint8_t *t) {
    for (int i = 0; i < vs_segment_sections(g); i++) {
        const uint8_t *p = t + vs_section_entry_at(i);
        vs_section *c = &g->section[i];
        c->offset_bytes = vs_get64(p);
        c->length_bytes = vs_get64(p + 8);
        c->crc = vs_get32(p + 16);
        c->verdict = 0;
    }
}

int vs_segment_load_trailer(vs_segment *g, const uint8_t uuid[16]) {
    vs_store *s = g->files->store;
    uint8_t t[VS_BLOCK_BYTES];
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    int64_t size = s->size(s, file);
    vs_segment_file_put(g);
    if (size < 0) return (int)size;
    g->file_bytes = (uint64_t)size;
    if (size < 2 * VS_BLOCK_BYTES || size % VS_BLOCK_BYTES) return 0;
    int r = read_block(g, g->file_bytes - VS_BLOCK_BYTES, t);
    if (r < 0) return r == -EBADMSG ? 0 : r;
    if (memcmp(t, VS_MAGIC_TRAILER, 8) != 0 || !vs_block_check(t)) return 0;
    r = identity_check(g, t, 16, 12, uuid);
    if (r < 0) return r;
    if (vs_get64(t + 40) != g->first_seqno) return another_under_this_name(g, "it begins with", vs_get64(t + 40));
    if (!trailer_is_sound(g, t, g->file_bytes - VS_BLOCK_BYTES)) return 0; /* and nothing of it is taken over */
    r = g->generation ? standing_load(g, t + 288, vs_get64(t + 32)) : 0;
    if (r < 0) return r;
    if (g->generation) g->until_seqno = vs_get64(t + VS_TRAILER_UNTIL_AT);
    g->ordinal = vs_get64(t + 32);
    g->last_seqno = vs_get64(t + 48);
    g->last_time_ns = vs_get64(t + 56);
    g->data_end = vs_get64(t + 64);
    g->applied_seqno = vs_get64(t + 72);
    memcpy(g->prev_digest, t + 80, 32);
    memcpy(g->digest, t + 112, 32);
    memcpy(g->chain_digest, t + (g->generation ? 312 : 112), 32);
    g->time_before_ns = vs_get64(t + 264);
    memcpy(g->salt, t + 272, 16);
    g->floor_seqno = vs_get64(t + VS_TRAILER_FLOOR_AT);
    sections_load(g, t);
    g->sealed = 1;
    return 1;
}

static int map_file(vs_segment *g) {
    if (g->mapped) return 0;
    vs_store *s = g->files->store;
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    const void *base;
    int r = s->map(s, file, g->file_bytes, &base);
    vs_segment_file_put(g);
    if (r == 0) g->mapped = base;
    return r;
}

int vs_segment_need_map(vs_segment *g) {
    pthread_mutex_lock(&g->files->load_mu);
    int r = map_file(g);
    pthread_mutex_unlock(&g->files->load_mu);
    return r;
}

/* First use: map the file, check the section. */
static int section_judge(vs_segment *g, vs_section *c) {
    pthread_mutex_lock(&g->files->load_mu);
    int verdict = c->verdict;
    if (verdict == 0 && map_file(g) == 0) {
        verdict = vs_crc32c(g->mapped + c->offset_bytes, c->length_bytes) == c->crc ? 1 : -1;
        atomic_store_explicit(&c->verdict, verdict, memory_order_release);
    }
    pthread_mutex_unlock(&g->files->load_mu);
    return verdict;
}

const uint8_t *vs_segment_section(vs_segment *g, int which, uint64_t *length_bytes) {
    vs_section *c = &g->section[which];
    int verdict = atomic_load_explicit(&c->verdict, memory_order_acquire);
    if (verdict == 0) verdict = section_judge(g, c);
    *length_bytes = c->length_bytes;
    return verdict > 0 ? g->mapped + c->offset_bytes : NULL;
}

int vs_segment_scan(vs_segment *g, vs_digest *digest, const _Atomic int *ends, vs_index **out) {
    vs_index *x = malloc(sizeof *x);
    if (!x) return -ENOMEM;
    vs_scan scan = {.limit_bytes = g->data_end, .digest = digest, .ends = ends};
    vs_index_init(x, g->first_seqno, g->time_before_ns);
    int r = vs_scan_batches(g, x, &scan);
    if (r == 0 && (x->end_bytes != g->data_end || x->last_seqno != g->last_seqno))
        r = vs_fault_set(-EUCLEAN, 0, x->last_seqno + 1, g->first_seqno, x->end_bytes, "%s: the batch at %" PRIu64 " is damaged", g->name,
                         x->end_bytes);
    if (r < 0) {
        vs_index_free(x);
        return r;
    }
    *out = x;
    return 0;
}

int vs_segment_need_index(vs_segment *g, vs_index **out) {
    if (!g->sealed) {
        *out = g->index;
        return 0;
    }
    int r = 0;
    pthread_mutex_lock(&g->files->load_mu);
    vs_index *x = g->fallback;
    if (!x && (r = vs_segment_scan(g, NULL, NULL, &x)) == 0) g->fallback = x;
    pthread_mutex_unlock(&g->files->load_mu);
    *out = x;
    return r;
}

int vs_segment_rows(vs_segment *g, vs_rows *out) {
    uint64_t length;
    const uint8_t *p = g->sealed ? vs_segment_section(g, VS_SECTION_RECORDS, &length) : NULL;
    memset(out, 0, sizeof *out);
    if (p && vs_packed_open(p, length, VS_RECORD_COLUMNS, &out->packed) == 0) {
        out->count = out->packed.rows;
        return 0;
    }
    vs_index *x;
    int r = vs_segment_need_index(g, &x);
    if (r < 0) return r;
    out->array = x->rows;
    out->count = x->row_count;
    return 0;
}

void vs_rows_get(const vs_rows *r, uint64_t i, vs_row *out) {
    if (r->packed.rows == 0) {
        *out = r->array[i];
        return;
    }
    uint64_t v[VS_RECORD_COLUMNS];
    vs_packed_row(&r->packed, i, v);
    *out = (vs_row){v[0], v[1], v[2], v[3], v[4], v[5]};
}

int vs_segment_has_room_for(const vs_segment *g, uint64_t block, uint64_t offset_bytes, uint64_t length_bytes) {
    uint64_t blocks = (offset_bytes % VS_BLOCK_BYTES + length_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES, end = g->data_end / VS_BLOCK_BYTES;
    return block < end && blocks <= end - block;
}

int vs_segment_row_is_sound(const vs_segment *g, const vs_row *row, uint64_t newer_seqno) {
    if (row->seqno < g->first_seqno || row->seqno > g->last_seqno || row->seqno > newer_seqno) return 0;
    if (row->length_bytes == 0 || row->length_bytes > VS_OFFSET_MAX || row->offset_bytes > VS_OFFSET_MAX) return 0;
    return row->block == 0 || (row->length_bytes <= VS_WRITE_MAX && vs_segment_has_room_for(g, row->block, row->offset_bytes, row->length_bytes));
}

uint64_t vs_rows_count_le(const vs_rows *r, uint64_t seqno) {
    if (r->packed.rows) return vs_packed_count_le(&r->packed, seqno);
    uint64_t low = 0, high = r->count;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        if (r->array[mid].seqno <= seqno) low = mid + 1;
        else high = mid;
    }
    return low;
}

int vs_segment_events(vs_segment *g, const uint8_t **bytes, uint64_t *length_bytes) {
    *length_bytes = 0;
    if (g->sealed) {
        if (g->section[VS_SECTION_EVENTS].length_bytes == 0 && g->section[VS_SECTION_EVENTS].crc == vs_crc32c("", 0)) return 0;
        *bytes = vs_segment_section(g, VS_SECTION_EVENTS, length_bytes);
        if (*bytes) return 0;
    }
    vs_index *x;
    int r = vs_segment_need_index(g, &x);
    if (r < 0) return r;
    *bytes = x->events;
    *length_bytes = x->event_bytes;
    return 0;
}

int vs_segment_crcs(vs_segment *g, int pinned, vs_crcs *out) {
    *out = (vs_crcs){.index = pinned ? g->index : NULL};
    if (pinned) return 0;
    uint64_t length = 0;
    if (g->sealed) out->section = vs_segment_section(g, VS_SECTION_CHECKSUMS, &length);
    out->blocks = length / 4;
    if (out->section) return 0;
    vs_index *x;
    int r = vs_segment_need_index(g, &x);
    out->index = x;
    return r;
}
