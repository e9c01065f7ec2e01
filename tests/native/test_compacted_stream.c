/* test_compacted_stream.c: the records that only compacted segments have: what is taken of them, and that nothing stays of a batch that is refused. */
#include <errno.h>
#include <string.h>

#include "batch.h"
#include "check.h"
#include "index.h"

enum { FIRST = 10, TIME_BEFORE = 100, STREAM = 4096, BLOCKS = 512 };

static const uint8_t salt[16] = "compacted stream";

typedef struct world {
    vs_index *x;
    uint8_t stream[STREAM];
    vs_batch batch;
} world;

static void world_begin(world *w, int compacted) {
    memset(w, 0, sizeof *w);
    w->x = malloc(sizeof *w->x);
    CHECK(w->x != NULL);
    vs_index_init(w->x, FIRST, TIME_BEFORE);
    w->x->compacted = compacted;
    w->batch.stream = w->stream;
}

static void world_end(world *w) {
    vs_index_free(w->x);
}

typedef struct rec {
    uint32_t type, flags, volume;
    uint64_t time_ns, a, b;
    uint32_t tail_bytes;
} rec;

/* A write has the checksums that it must have, unless its tail is said. */
static void put(world *w, rec r) {
    uint8_t *p = w->stream + w->batch.stream_bytes;
    uint64_t covered = r.type == VS_RECORD_WRITE ? (r.a % VS_BLOCK + r.b + VS_BLOCK - 1) / VS_BLOCK : 0;
    uint32_t tail = r.tail_bytes ? r.tail_bytes : (uint32_t)covered * 4;
    size_t bytes = vs_record_bytes(tail);
    CHECK(w->batch.stream_bytes + bytes <= STREAM);
    memset(p, 0, bytes);
    p[0] = (uint8_t)r.type;
    p[1] = (uint8_t)r.flags;
    vs_put32(p + 4, r.volume);
    vs_put64(p + 8, r.time_ns);
    vs_put64(p + 16, r.a);
    vs_put64(p + 24, r.b);
    vs_put32(p + 32, tail);
    w->batch.stream_bytes += bytes;
    w->batch.records++;
    w->batch.payload_blocks += covered;
}

/* Take what was put in as a batch. Refused, it leaves the index as it was. */
static int take(world *w) {
    vs_index before = *w->x;
    uint8_t *descriptors;
    uint32_t count;
    uint64_t payload;
    CHECK_EQ(vs_batch_descriptors(&w->batch, salt, w->x->last_seqno + 1, 0, &descriptors, &count), 0);
    int r = vs_index_add_batch(w->x, descriptors, count, salt, UINT64_MAX, &payload);
    free(descriptors);
    w->batch.records = 0;
    w->batch.stream_bytes = w->batch.payload_blocks = 0;
    if (r == 0) return 0;
    CHECK_EQ(r, -EBADMSG);
    const vs_index *x = w->x;
    CHECK(x->row_count == before.row_count && x->event_bytes == before.event_bytes && x->point_count == before.point_count);
    CHECK(x->last_count == before.last_count && x->last_seqno == before.last_seqno && x->last_time_ns == before.last_time_ns);
    CHECK(x->end_bytes == before.end_bytes && x->piece_end == before.piece_end && x->piece_volume == before.piece_volume);
    CHECK(x->floor_seqno == before.floor_seqno && x->applied_seqno == before.applied_seqno);
    return r;
}

static const rec added = {VS_RECORD_VOLUME_ADD, 0, 1, 101, 512, 1 << 20, 0};
static const rec written = {VS_RECORD_WRITE, 0, 1, 102, 4096, 8192, 0};
static const rec further = {VS_RECORD_WRITE, 2, 1, 102, 12288, 100, 0};

/* After the record of a volume and a write, one more. */
static int after_write(int compacted, rec r) {
    world w;
    world_begin(&w, compacted);
    put(&w, added);
    put(&w, written);
    CHECK_EQ(take(&w), 0);
    put(&w, r);
    int status = take(&w);
    world_end(&w);
    return status;
}

static void all_is_taken(void) {
    world w;
    world_begin(&w, 1);
    put(&w, (rec){VS_RECORD_GO_TO, 0, 0, 0, FIRST + 5, 0, 0});
    put(&w, added); /* 15 */
    put(&w, written); /* 16 */
    CHECK_EQ(take(&w), 0);
    CHECK_EQ(w.x->last_seqno, 16);
    put(&w, further); /* of 16, in another batch */
    put(&w, (rec){VS_RECORD_ZERO, 2, 1, 102, 20000, 5, 0});
    put(&w, (rec){VS_RECORD_VOLUME_RESIZE, 4, 1, 103, 1 << 20, 4096, 0}); /* 17 */
    put(&w, (rec){VS_RECORD_GO_TO, 0, 0, 0, 20, 0, 0});
    put(&w, (rec){VS_RECORD_ZERO, 0, 1, 110, 0, 4096, 0}); /* 20 */
    put(&w, (rec){VS_RECORD_GO_TO, 0, 0, 0, 31, 120, 0}); /* the segment ends with 30 */
    put(&w, (rec){VS_RECORD_POINT, 0, 0, 0, 12, 90, 0});
    put(&w, (rec){VS_RECORD_POINT, 0, 0, 0, 30, 120, 0});
    put(&w, (rec){VS_RECORD_STATE, 0, 1, 0, 25, 115, 0});
    CHECK_EQ(take(&w), 0);
    const vs_index *x = w.x;
    CHECK_EQ(x->last_seqno, 30);
    CHECK_EQ(x->last_time_ns, 120);
    CHECK_EQ(x->row_count, 4); /* a resize without its zeros has none */
    static const uint64_t seqnos[] = {16, 16, 16, 20}, offsets[] = {4096, 12288, 20000, 0}, blocks[] = {2, 5, 0, 0};
    for (size_t i = 0; i < 4; i++) CHECK(x->rows[i].seqno == seqnos[i] && x->rows[i].offset_bytes == offsets[i] && x->rows[i].block == blocks[i]);
    CHECK(x->point_count == 2 && x->points[1].seqno == 30 && x->points[1].time_ns == 120);
    CHECK(x->last_count == 1 && x->lasts[0].volume == 1 && x->lasts[0].seqno == 25);
    vs_states s = {0};
    CHECK_EQ(vs_states_fold(&s, x->rows, x->row_count, x->events, x->event_bytes, UINT64_MAX), 0);
    CHECK(s.count == 1 && s.volumes[0].size_bytes == 4096 && s.volumes[0].last_write_seqno == 20);
    vs_states_fold_lasts(&s, x);
    CHECK(s.volumes[0].last_write_seqno == 25 && s.volumes[0].last_write_ns == 115);
    vs_states_clear(&s);
    world_end(&w);
}

/* Each is taken in a compacted segment, and damage in any other. */
static void compacted_segments_alone(void) {
    static const rec records[] = {
        {VS_RECORD_GO_TO, 0, 0, 0, 13, 0, 0},          {VS_RECORD_POINT, 0, 0, 0, 11, 102, 0},           {VS_RECORD_STATE, 0, 1, 0, 11, 102, 0},
        {VS_RECORD_WRITE, 2, 1, 102, 12288, 100, 0},   {VS_RECORD_ZERO, 2, 1, 102, 12288, 100, 0},       {VS_RECORD_VOLUME_RESIZE, 4, 1, 103, 1 << 20, 512, 0},
    };
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        CHECK_EQ(after_write(1, records[i]), 0);
        CHECK_EQ(after_write(0, records[i]), -EBADMSG);
    }
}

static void each_is_checked(void) {
    static const rec records[] = {
        {VS_RECORD_GO_TO, 0, 0, 0, 12, 0, 0},                   /* the next one anyway */
        {VS_RECORD_GO_TO, 0, 0, 0, 5, 0, 0},                    /* back */
        {VS_RECORD_GO_TO, 0, 0, 0, UINT64_MAX, 0, 0},
        {VS_RECORD_GO_TO, 0, 0, 0, 20, 102, 0},                 /* no later than the record before */
        {VS_RECORD_GO_TO, 0, 1, 0, 20, 0, 0},                   /* of a volume */
        {VS_RECORD_GO_TO, 0, 0, 103, 20, 0, 0},                 /* with a time */
        {VS_RECORD_GO_TO, 2, 0, 0, 20, 0, 0},                   /* with flags */
        {VS_RECORD_GO_TO, 0, 0, 0, 20, 0, 4},                   /* with a tail */
        {VS_RECORD_POINT, 0, 0, 0, FIRST - 1, 50, 0},           /* before the segment */
        {VS_RECORD_POINT, 0, 0, 0, 12, 102, 0},                 /* behind it */
        {VS_RECORD_POINT, 0, 0, 0, 11, 103, 0},                 /* later than it */
        {VS_RECORD_POINT, 0, 1, 0, 11, 102, 0},
        {VS_RECORD_STATE, 0, 0, 0, 11, 102, 0},                 /* of no volume */
        {VS_RECORD_STATE, 0, 1, 0, 12, 102, 0},
        {VS_RECORD_STATE, 0, 1, 0, 11, 103, 0},
        {VS_RECORD_WRITE, 2, 2, 102, 12288, 100, 0},            /* of another volume than the record before */
        {VS_RECORD_WRITE, 2, 1, 103, 12288, 100, 0},            /* of another time */
        {VS_RECORD_WRITE, 2, 1, 102, 12287, 100, 0},            /* over it */
        {VS_RECORD_WRITE, 2, 1, 102, 12288, 0, 0},              /* empty */
        {VS_RECORD_WRITE, 4, 1, 103, 12288, 100, 0},            /* a resize's flag */
        {VS_RECORD_WRITE, 6, 1, 102, 12288, 100, 0},
        {VS_RECORD_VOLUME_RESIZE, 2, 1, 102, 1 << 20, 512, 0},  /* a write's */
        {VS_RECORD_VOLUME_RESIZE, 5, 1, 103, 1 << 20, 512, 0},
        {VS_RECORD_VOLUME_ADD, 2, 3, 102, 512, 512, 0},
        {VS_RECORD_BOOKMARK_ADD, 4, 0, 103, 11, 0, 0},
        {15, 0, 0, 103, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        if (after_write(1, records[i]) == -EBADMSG) continue;
        fprintf(stderr, "record %d of the list was taken\n", (int)i);
        CHECK(0);
    }
}

/* A piece belongs to the record right before it. */
static void pieces_follow_their_record(void) {
    static const rec between[] = {
        {VS_RECORD_BOOKMARK_ADD, 0, 0, 103, 11, 0, 0}, {VS_RECORD_GO_TO, 0, 0, 0, 20, 0, 0}, {VS_RECORD_POINT, 0, 0, 0, 11, 102, 0}, {VS_RECORD_STATE, 0, 1, 0, 11, 102, 0},
    };
    for (size_t i = 0; i <= sizeof between / sizeof between[0]; i++) {
        world w;
        world_begin(&w, 1);
        put(&w, added);
        if (i) {
            put(&w, written);
            put(&w, between[i - 1]);
        }
        rec piece = further;
        piece.time_ns = i == 0 ? 101 : i == 1 ? 103 : 102;
        put(&w, piece);
        CHECK_EQ(take(&w), -EBADMSG);
        world_end(&w);
    }
}

static void lists_ascend(void) {
    static const rec pairs[][2] = {
        {{VS_RECORD_POINT, 0, 0, 0, 11, 102, 0}, {VS_RECORD_POINT, 0, 0, 0, 10, 101, 0}},
        {{VS_RECORD_POINT, 0, 0, 0, 10, 101, 0}, {VS_RECORD_POINT, 0, 0, 0, 11, 101, 0}},
        {{VS_RECORD_POINT, 0, 0, 0, 11, 102, 0}, {VS_RECORD_POINT, 0, 0, 0, 11, 102, 0}},
        {{VS_RECORD_STATE, 0, 2, 0, 11, 102, 0}, {VS_RECORD_STATE, 0, 2, 0, 11, 102, 0}},
        {{VS_RECORD_STATE, 0, 2, 0, 11, 102, 0}, {VS_RECORD_STATE, 0, 1, 0, 11, 102, 0}},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        world w;
        world_begin(&w, 1);
        put(&w, added);
        put(&w, written);
        put(&w, pairs[i][0]);
        CHECK_EQ(take(&w), 0);
        put(&w, pairs[i][1]);
        CHECK_EQ(take(&w), -EBADMSG);
        world_end(&w);
    }
}

/* Whatever stands in it: a batch is taken whole or not at all, and rows stay in order. */
static void random_streams(uint64_t seed) {
    world w;
    uint64_t random = seed;
    int taken = 0;
    world_begin(&w, 1);
    put(&w, added);
    CHECK_EQ(take(&w), 0);
    for (int i = 0; i < 4000; i++) {
        for (uint64_t n = 1 + draw_below(&random, 3); n > 0; n--) {
            static const uint32_t types[] = {VS_RECORD_WRITE, VS_RECORD_ZERO, VS_RECORD_VOLUME_RESIZE, VS_RECORD_GO_TO, VS_RECORD_POINT, VS_RECORD_STATE};
            uint32_t type = types[draw_below(&random, 6)], note = type >= VS_RECORD_GO_TO, near = (uint32_t)draw_below(&random, 3);
            uint64_t seqno = w.x->last_seqno + draw_below(&random, 3);
            put(&w, (rec){type, draw_below(&random, 2) ? 0 : (uint32_t)draw_below(&random, 8), type == VS_RECORD_GO_TO || type == VS_RECORD_POINT ? 0 : 1 + near / 2,
                          note ? 0 : w.x->last_time_ns + near, note ? seqno : draw_below(&random, 4) * 4096, note ? w.x->last_time_ns + near : 512, 0});
        }
        taken += take(&w) == 0;
    }
    CHECK(taken > 100);
    for (size_t i = 1; i < w.x->row_count; i++) CHECK(w.x->rows[i].seqno >= w.x->rows[i - 1].seqno);
    world_end(&w);
}

int main(void) {
    all_is_taken();
    compacted_segments_alone();
    each_is_checked();
    pieces_follow_their_record();
    lists_ascend();
    for (uint64_t seed = 1; seed <= 20; seed++) random_streams(seed);
    return 0;
}
