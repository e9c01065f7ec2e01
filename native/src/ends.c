/* ends.c: see ends.h. */
#include "ends.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "merged_map.h"
#include "room.h"

void vs_header_fill(const vs_segment *g, const uint8_t uuid[16], uint64_t now_ns, uint8_t *h) {
    memcpy(h, VS_MAGIC_SEGMENT, 8);
    vs_put32(h + 8, VS_FORMAT_VERSION);
    vs_put32(h + 12, g->generation ? VS_FEATURE_COMPACTED : 0);
    vs_put32(h + 20, VS_BLOCK_BYTES);
    memcpy(h + 24, uuid, 16);
    vs_put64(h + 40, g->ordinal);
    vs_put64(h + 48, g->first_seqno);
    vs_put64(h + 56, now_ns);
    vs_put64(h + 64, g->time_before_ns);
    memcpy(h + 72, g->prev_digest, 32);
    memcpy(h + 104, g->salt, 16);
    if (g->generation) {
        vs_put64(h + 120, g->generation);
        vs_put64(h + 128, g->ordinals);
        vs_put64(h + 136, g->base_floor);
        vs_put64(h + VS_HEADER_UNTIL_AT, g->until_seqno);
    }
    vs_block_seal(h);
}

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

/* The maps section, and the new data_bytes of each volume. */
static int maps_section(const vs_index *x, vs_states *states, vs_data_bytes_fn data_bytes, void *arg, buffer *out) {
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
        if (r == 0 && data_bytes) r = data_bytes(arg, m, v);
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

static int points_section(const vs_index *x, buffer *out) {
    uint8_t row[16];
    vs_put64(row, x->point_count);
    int r = buffer_put(out, row, 8);
    for (size_t i = 0; r == 0 && i < x->point_count; i++) {
        vs_put64(row, x->points[i].seqno);
        vs_put64(row + 8, x->points[i].time_ns);
        r = buffer_put(out, row, sizeof row);
    }
    return r;
}

static void trailer_fill(const vs_segment *g, const uint8_t uuid[16], const vs_section *sections, uint8_t *t) {
    memcpy(t, VS_MAGIC_TRAILER, 8);
    vs_put32(t + 8, VS_FORMAT_VERSION);
    vs_put32(t + 12, g->generation ? VS_FEATURE_COMPACTED : 0);
    memcpy(t + 16, uuid, 16);
    vs_put64(t + 32, g->ordinal);
    vs_put64(t + 40, g->first_seqno);
    vs_put64(t + 48, g->index->last_seqno);
    vs_put64(t + 56, g->index->last_time_ns);
    vs_put64(t + 64, g->index->end_bytes);
    vs_put64(t + 72, g->index->applied_seqno);
    memcpy(t + 80, g->prev_digest, 32);
    memcpy(t + 112, g->digest, 32);
    for (int i = 0; i < vs_segment_sections(g); i++) {
        uint8_t *entry = t + vs_section_entry_at(i);
        vs_put64(entry, sections[i].offset_bytes);
        vs_put64(entry + 8, sections[i].length_bytes);
        vs_put32(entry + 16, sections[i].crc);
    }
    vs_put64(t + 264, g->time_before_ns);
    memcpy(t + 272, g->salt, 16);
    if (g->generation) {
        vs_put64(t + 288, g->generation);
        vs_put64(t + 296, g->ordinals);
        vs_put64(t + 304, g->base_floor);
        memcpy(t + 312, g->chain_digest, 32);
        vs_put64(t + VS_TRAILER_UNTIL_AT, g->until_seqno);
    }
    vs_put64(t + VS_TRAILER_FLOOR_AT, g->index->floor_seqno);
    vs_block_seal(t);
}

static int section_build(const vs_segment *g, int which, vs_states *states, vs_data_bytes_fn data_bytes, void *arg, buffer *out) {
    switch (which) {
    case VS_SECTION_RECORDS: return records_section(g->index, out);
    case VS_SECTION_MAPS: return maps_section(g->index, states, data_bytes, arg, out);
    case VS_SECTION_CHECKSUMS: return checksums_section(g->index, out);
    case VS_SECTION_EVENTS: return buffer_put(out, g->index->events, g->index->event_bytes);
    case VS_SECTION_VOLUMES: return volumes_section(states, out);
    default: return points_section(g->index, out);
    }
}

int vs_footer_build(const vs_segment *g, const uint8_t uuid[16], vs_states *states, vs_data_bytes_fn data_bytes, void *arg, uint8_t **bytes,
                    size_t *length_bytes) {
    vs_section sections[VS_SECTIONS_MAX];
    buffer out = {0};
    int r = 0;
    for (int i = 0; r == 0 && i < vs_segment_sections(g); i++) {
        size_t at = out.length;
        r = section_build(g, i, states, data_bytes, arg, &out);
        if (r < 0) break;
        sections[i].offset_bytes = g->index->end_bytes + at;
        sections[i].length_bytes = out.length - at;
        sections[i].crc = vs_crc32c(out.bytes + at, out.length - at);
    }
    uint8_t block[VS_BLOCK_BYTES] = {0};
    if (r == 0) r = buffer_put(&out, block, (VS_BLOCK_BYTES - out.length % VS_BLOCK_BYTES) % VS_BLOCK_BYTES);
    if (r == 0) trailer_fill(g, uuid, sections, block);
    if (r == 0) r = buffer_put(&out, block, sizeof block);
    if (r < 0) {
        free(out.bytes);
        return r;
    }
    *bytes = out.bytes;
    *length_bytes = out.length;
    return 0;
}
