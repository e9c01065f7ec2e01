/* fuzz_records.c: descriptors and their record streams, batch after batch, into one index; where the header says so, those of a compacted segment.
 *
 * The second reader takes and refuses the same batches; a refused one leaves nothing behind; rows and events are those of the records; states
 * and maps made from them are in order.
 */
#include <string.h>

#include "codec.h"
#include "extent_map.h"
#include "index.h"
#include "plain_reader.h"
#include "repair.h"
#include "require.h"

enum { BLOCK = 4096 };

static image input;
static plain_history history;

static int holds(const plain_record *r, const vs_row *row) {
    uint64_t from = r->type == 4 && r->b < r->a ? r->b : r->a, to = r->type == 4 ? (r->a < r->b ? r->b : r->a) : r->a + r->b;
    return row->length_bytes > 0 && row->offset_bytes >= from && row->offset_bytes + row->length_bytes <= to;
}

/* What only compacted segments say. */
static void points_compare(const vs_index *x) {
    REQUIRE(x->point_count == history.at.points, "both have the same points");
    for (size_t i = 0; i < x->point_count; i++) REQUIRE(x->points[i].seqno == history.points[i], "points are those of the records");
    for (size_t i = 1; i < x->last_count; i++) REQUIRE(x->lasts[i].volume > x->lasts[i - 1].volume, "states ascend");
    REQUIRE(x->floor_seqno == history.at.floor_seqno, "both have the same floor");
}

static void rows_compare(const vs_index *x) {
    size_t n = 0;
    uint64_t before = 0;
    for (size_t i = 0; i < x->row_count; i++) {
        const vs_row *row = &x->rows[i];
        while (n < history.at.count && (history.records[n].seqno < row->seqno || (history.records[n].seqno == row->seqno && !holds(&history.records[n], row)))) n++;
        REQUIRE(n < history.at.count && history.records[n].seqno == row->seqno, "each row lies in a record, or a piece of it");
        const plain_record *r = &history.records[n];
        REQUIRE(row->volume == r->volume && row->time_ns == r->time_ns, "a row says what its record says");
        REQUIRE(row->seqno >= before, "rows ascend");
        before = row->seqno;
    }
}

static void events_walk(const vs_index *x) {
    vs_event e;
    const uint8_t *body;
    uint64_t before = 0;
    for (size_t at = 0, n; at < x->event_bytes; at += n) {
        n = vs_event_parse(x->events + at, x->event_bytes - at, &e, &body);
        REQUIRE(n > 0 && e.seqno > before, "events parse and ascend");
        before = e.seqno;
    }
}

static void maps_make(const vs_index *x) {
    vs_states states = {0};
    REQUIRE(vs_states_fold(&states, x->rows, x->row_count, x->events, x->event_bytes, x->last_seqno) == 0, "states fold");
    for (uint32_t volume = 1; volume <= 3; volume++) {
        vs_extent_map *m;
        vs_extent e;
        uint64_t size = 0, before = 0;
        const vs_volume_state *v = vs_states_find(&states, volume);
        int there = plain_volume(&history, volume, x->last_seqno, &size);
        REQUIRE(there == (v && !v->removed) && (!there || v->size_bytes == size), "states are those of the records");
        REQUIRE(vs_rows_map(x->rows, x->row_count, volume, 0, UINT64_MAX, &m) == 0, "a map is made");
        for (uint64_t at = 0; vs_extent_map_find(m, at, &e); at = e.offset_bytes + e.length_bytes) {
            REQUIRE(e.length_bytes > 0 && e.offset_bytes >= before, "extents ascend and do not overlap");
            before = e.offset_bytes + e.length_bytes;
        }
        vs_extent_map_free(m);
    }
    vs_states_clear(&states);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t n = 0;
    image_decode(&input, data, size);
    const uint8_t *file = input.files ? image_file(&input, 0, &n) : NULL;
    if (n < BLOCK) return 0;
    uint8_t salt[16];
    memcpy(salt, file + 104, sizeof salt);
    vs_index *x = malloc(sizeof *x);
    vs_index_init(x, 1, vs_get64(file + 64));
    plain_begin(&history, 0, vs_get64(file + 64));
    x->compacted = history.compacted = vs_get32(file + 12) & 1;
    size_t at = BLOCK;
    while (at + BLOCK <= n) {
        vs_index before = *x;
        uint32_t count = vs_descriptor_count(file + at, salt, x->last_seqno + 1);
        size_t length = plain_batch(&history, file, at, n, salt, 0);
        if (count == 0 || at + (size_t)count * BLOCK > n) {
            REQUIRE(length == 0, "both see no batch");
            break;
        }
        uint8_t *copy = malloc((size_t)count * BLOCK);
        memcpy(copy, file + at, (size_t)count * BLOCK);
        uint64_t payload = 0;
        int r = vs_index_add_batch(x, copy, count, salt, n, &payload);
        free(copy);
        if (history.overflow) break;
        REQUIRE((r == 0) == (length > 0), "both take the same batches");
        if (r < 0) {
            REQUIRE(x->row_count == before.row_count && x->event_bytes == before.event_bytes && x->last_seqno == before.last_seqno &&
                        x->last_time_ns == before.last_time_ns && x->end_bytes == before.end_bytes && x->applied_seqno == before.applied_seqno &&
                        x->point_count == before.point_count && x->last_count == before.last_count && x->piece_end == before.piece_end &&
                        x->floor_seqno == before.floor_seqno,
                    "a refused batch leaves nothing behind");
            break;
        }
        REQUIRE(length == (count + payload) * BLOCK && x->end_bytes == at + length, "both see the same end");
        at += length;
    }
    if (!history.overflow) {
        REQUIRE(x->last_seqno == history.at.last_seqno && x->last_time_ns == history.at.last_time_ns, "both have the same records");
        rows_compare(x);
        points_compare(x);
        events_walk(x);
        maps_make(x);
    }
    vs_index_free(x);
    return 0;
}

static void repair(image *m, uint32_t *state) {
    size_t n;
    uint8_t *file = image_file(m, 0, &n);
    repair_segment(file, n, NULL, NULL, state);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    return fuzz_mutate_image(data, size, room, seed, repair);
}
