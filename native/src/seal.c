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

#include "journal_internal.h"
#include "room.h"

typedef struct buffer {
    uint8_t *bytes;
    size_t length, room;
} buffer;

static int buffer_put(buffer *b, const void *bytes, size_t length) {
    size_t padded = (length + 7) & ~(size_t)7;
    if (vs_room(&b->bytes, &b->room, b->length, padded, 1) < 0) return -ENOMEM;
    if (length) memcpy(b->bytes + b->length, bytes, length);
    memset(b->bytes + b->length + length, 0, padded - length);
    b->length += padded;
    return 0;
}

static int records_section(const vs_index *x, buffer *out) {
    vs_packed_writer *w;
    uint8_t *bytes = NULL;
    size_t length = 0;
    int r = vs_packed_writer_new(VS_RECORD_COLUMNS, &w);
    if (r < 0) return r;
    for (size_t i = 0; r == 0 && i < x->row_count; i++) {
        const vs_row *p = &x->rows[i];
        uint64_t v[VS_RECORD_COLUMNS] = {p->seqno, p->time_ns, p->volume, p->offset_bytes, p->length_bytes, p->block};
        r = vs_packed_append(w, v);
    }
    if (r == 0) r = vs_packed_finish(w, &bytes, &length);
    if (r == 0) r = buffer_put(out, bytes, length);
    free(bytes);
    vs_packed_writer_free(w);
    return r;
}

/* The maps section, and the new data_bytes of each volume in it. */
static int maps_section(vs_journal *j, vs_directory *d, const vs_index *x, vs_states *states, buffer *out) {
    buffer head = {0}, tables = {0};
    uint32_t count = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < states->count; i++) {
        vs_volume_state *v = &states->volumes[i];
        vs_extent_map *m = NULL;
        uint8_t *bytes = NULL;
        size_t length = 0;
        uint64_t ignored;
        r = vs_rows_map(x->rows, x->row_count, v->id, 0, UINT64_MAX, &m);
        if (r < 0) break;
        if (vs_extent_map_count(m)) {
            vs_stack one = {0};
            r = vs_stack_push(&one, &(vs_layer){.memory = m});
            if (r == 0) r = vs_stack_encode(&one, 0, &bytes, &length, &ignored);
            vs_stack_clear(&one);
            uint8_t row[24] = {0};
            vs_put32(row, v->id);
            vs_put64(row + 8, tables.length);
            vs_put64(row + 16, length);
            if (r == 0) r = buffer_put(&head, row, sizeof row);
            if (r == 0) r = buffer_put(&tables, bytes, length);
            if (r == 0) count++;
        }
        if (r == 0) r = vs_journal_data_bytes(j, d, d->count - 1, m, v);
        free(bytes);
        vs_extent_map_free(m);
    }
    uint8_t first[8] = {0};
    vs_put32(first, count);
    for (uint32_t i = 0; r == 0 && i < count; i++) { /* positions count from the section's start */
        uint8_t *p = head.bytes + (size_t)i * 24 + 8;
        vs_put64(p, vs_get64(p) + 8 + (uint64_t)count * 24);
    }
    if (r == 0) r = buffer_put(out, first, sizeof first);
    if (r == 0 && count) r = buffer_put(out, head.bytes, head.length);
    if (r == 0 && count) r = buffer_put(out, tables.bytes, tables.length);
    free(head.bytes);
    free(tables.bytes);
    return r;
}

static int checksums_section(const vs_index *x, buffer *out) {
    uint64_t blocks = x->end_bytes / VS_BLOCK_BYTES;
    uint8_t *table = malloc(blocks * 4);
    if (!table) return -ENOMEM;
    for (uint64_t i = 0; i < blocks; i++) vs_put32(table + i * 4, vs_index_crc(x, i));
    int r = buffer_put(out, table, blocks * 4);
    free(table);
    return r;
}

static int volumes_section(const vs_states *s, buffer *out) {
    int r = 0;
    for (size_t i = 0; r == 0 && i < s->count; i++) {
        const vs_volume_state *v = &s->volumes[i];
        uint8_t row[VS_VOLUME_ROW_BYTES];
        vs_put32(row, v->id);
        vs_put32(row + 4, v->removed);
        vs_put64(row + 8, v->size_bytes);
        vs_put64(row + 16, v->added_seqno);
        vs_put64(row + 24, v->last_write_seqno);
        vs_put64(row + 32, v->last_write_ns);
        vs_put64(row + 40, v->data_bytes);
        r = buffer_put(out, row, sizeof row);
    }
    return r;
}

static void trailer_fill(const vs_journal *j, const vs_segment *g, const vs_section sections[VS_SECTIONS], uint8_t *t) {
    memcpy(t, VS_MAGIC_TRAILER, 8);
    vs_put32(t + 8, VS_FORMAT_VERSION);
    memcpy(t + 16, j->options.uuid, 16);
    vs_put64(t + 32, g->ordinal);
    vs_put64(t + 40, g->first_seqno);
    vs_put64(t + 48, g->index->last_seqno);
    vs_put64(t + 56, g->index->last_time_ns);
    vs_put64(t + 64, g->index->end_bytes);
    vs_put64(t + 72, g->index->applied_seqno);
    memcpy(t + 80, g->prev_digest, 32);
    memcpy(t + 112, g->digest, 32);
    for (int i = 0; i < VS_SECTIONS; i++) {
        vs_put64(t + 144 + i * 24, sections[i].offset_bytes);
        vs_put64(t + 152 + i * 24, sections[i].length_bytes);
        vs_put32(t + 160 + i * 24, sections[i].crc);
    }
    vs_put64(t + 264, g->time_before_ns);
    memcpy(t + 272, g->salt, 16);
    vs_put64(t + VS_TRAILER_FLOOR_AT, g->index->floor_seqno);
    vs_block_seal(t);
}

/* Build the footer: sections, padding, trailer. */
static int footer_build(vs_journal *j, vs_segment *g, buffer *out) {
    vs_section sections[VS_SECTIONS];
    vs_states states = {0};
    pthread_mutex_lock(&j->mu);
    vs_directory *d = vs_directory_ref(j->directory); /* it does not grow meanwhile: that is for leaders */
    int r = vs_journal_states(d, d->count - 1, g->index->last_seqno, &states);
    pthread_mutex_unlock(&j->mu);
    for (int i = 0; r == 0 && i < VS_SECTIONS; i++) {
        size_t at = out->length;
        switch (i) {
        case VS_SECTION_RECORDS: r = records_section(g->index, out); break;
        case VS_SECTION_MAPS: r = maps_section(j, d, g->index, &states, out); break;
        case VS_SECTION_CHECKSUMS: r = checksums_section(g->index, out); break;
        case VS_SECTION_EVENTS: r = buffer_put(out, g->index->events, g->index->event_bytes); break;
        default: r = volumes_section(&states, out);
        }
        if (r < 0) break;
        sections[i].offset_bytes = g->index->end_bytes + at;
        sections[i].length_bytes = out->length - at;
        sections[i].crc = vs_crc32c(out->bytes + at, out->length - at);
    }
    vs_states_clear(&states);
    vs_directory_unref(d);
    if (r < 0) return r;
    uint8_t block[VS_BLOCK_BYTES] = {0};
    r = buffer_put(out, block, (VS_BLOCK_BYTES - out->length % VS_BLOCK_BYTES) % VS_BLOCK_BYTES);
    trailer_fill(j, g, sections, block);
    return r == 0 ? buffer_put(out, block, sizeof block) : r;
}

int vs_journal_cut_ahead(vs_journal *j) {
    if (j->ahead_bytes <= j->active->index->end_bytes) return 0;
    j->ahead_bytes = 0;
    return j->store->truncate(j->store, j->active_file, j->active->index->end_bytes);
}

int vs_journal_seal_active(vs_journal *j) {
    vs_segment *g = j->active;
    buffer footer = {0};
    int r = vs_digest_peek(j->digest, g->digest);
    if (r == 0) r = footer_build(j, g, &footer);
    if (r < 0) {
        free(footer.bytes);
        return -EAGAIN; /* nothing was written: the segment grows on until there is memory for its footer */
    }
    struct iovec part = {footer.bytes, footer.length};
    r = vs_journal_cut_ahead(j); /* the trailer is the last block of the file */
    if (r == 0) r = j->store->write(j->store, j->active_file, g->index->end_bytes, &part, 1);
    if (r == 0) r = j->store->sync(j->store, j->active_file);
    free(footer.bytes);
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

static void header_fill(const vs_journal *j, const vs_segment *g, uint8_t *h) {
    memcpy(h, VS_MAGIC_SEGMENT, 8);
    vs_put32(h + 8, VS_FORMAT_VERSION);
    vs_put32(h + 20, VS_BLOCK_BYTES);
    memcpy(h + 24, j->options.uuid, 16);
    vs_put64(h + 40, g->ordinal);
    vs_put64(h + 48, g->first_seqno);
    vs_put64(h + 56, j->store->now_ns(j->store));
    vs_put64(h + 64, g->time_before_ns);
    memcpy(h + 72, g->prev_digest, 32);
    memcpy(h + 104, g->salt, 16);
    vs_block_seal(h);
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
        header_fill(j, g, header);
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
