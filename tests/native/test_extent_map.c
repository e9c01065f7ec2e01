/* The extent map against a model that says, for each byte of a small volume, where in the file it lies. */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "extent_map.h"
#include "faults.h"

enum { VOLUME_BYTES = 1 << 20 };

/* Of a byte: no extent holds it; zeros; else its position in the file (block 0 never holds payload). */
static const uint64_t ABSENT = UINT64_MAX, ZERO = 0;

typedef struct model {
    uint64_t position[VOLUME_BYTES];
    uint64_t blocks; /* of the file that are used: where the next write's payload goes */
} model;

static uint64_t position_of(const vs_extent *e, uint64_t x) {
    return e->block == 0 ? ZERO : (e->block - e->offset_bytes / 4096 + x / 4096) * 4096 + x % 4096;
}

static uint64_t end_of(const vs_extent *e) {
    return e->offset_bytes + e->length_bytes;
}

static model *model_new(void) {
    model *o = malloc(sizeof *o);
    CHECK(o != NULL);
    memset(o->position, 0xFF, sizeof o->position);
    o->blocks = 1;
    return o;
}

static void model_put(model *o, const vs_extent *e) {
    for (uint64_t x = e->offset_bytes; x < end_of(e) && x < VOLUME_BYTES; x++) o->position[x] = position_of(e, x);
}

static void put(vs_extent_map *m, model *o, const vs_extent *e) {
    CHECK_EQ(vs_extent_map_put(m, e), 0);
    model_put(o, e);
}

/* Disjoint, sorted, joined wherever positions go on, exactly the model's bytes, and as many as counted. */
static void check_whole(const vs_extent_map *m, const model *o) {
    uint64_t x = 0, count = 0;
    vs_extent e, before = {0, 0, 0};
    while (vs_extent_map_find(m, x, &e) == 1) {
        CHECK(e.length_bytes > 0 && e.offset_bytes >= x && end_of(&before) <= e.offset_bytes);
        for (; x < e.offset_bytes && x < VOLUME_BYTES; x++) CHECK(o->position[x] == ABSENT);
        int touch = count > 0 && end_of(&before) == e.offset_bytes;
        if (touch && (before.block == 0) == (e.block == 0)) CHECK(position_of(&before, e.offset_bytes) != position_of(&e, e.offset_bytes));
        for (; x < end_of(&e) && x < VOLUME_BYTES; x++) CHECK(o->position[x] == position_of(&e, x));
        x = end_of(&e);
        before = e;
        count++;
    }
    for (; x < VOLUME_BYTES; x++) CHECK(o->position[x] == ABSENT);
    CHECK_EQ(vs_extent_map_count(m), count);
}

static void check_find(const vs_extent_map *m, const model *o, uint64_t x) {
    vs_extent e = {0, 0, 0};
    int found = vs_extent_map_find(m, x, &e) && e.offset_bytes <= x;
    CHECK(found ? end_of(&e) > x && position_of(&e, x) == o->position[x] : o->position[x] == ABSENT);
}

/* A write (its payload in fresh blocks, or going on where the last one ended), or zeros; mostly small, now and then huge. */
static vs_extent draw_extent(uint64_t *seed, model *o, const vs_extent *last, uint64_t small_bytes, uint64_t huge_one_in) {
    vs_extent e = {.offset_bytes = draw_below(seed, VOLUME_BYTES), .length_bytes = 1 + draw_below(seed, small_bytes)};
    if (draw_below(seed, huge_one_in) == 0) e.length_bytes = 1 + draw_below(seed, VOLUME_BYTES / 2);
    if (draw_below(seed, 4) == 0) e.offset_bytes = e.offset_bytes / 4096 * 4096;
    if (draw_below(seed, 4) == 0) e.length_bytes = (e.length_bytes + 4095) / 4096 * 4096;
    int goes_on = draw_below(seed, 4) == 0 && last->block != 0 && end_of(last) < VOLUME_BYTES;
    if (goes_on) e.offset_bytes = end_of(last);
    if (e.length_bytes > VOLUME_BYTES - e.offset_bytes) e.length_bytes = VOLUME_BYTES - e.offset_bytes;
    if (!goes_on && draw_below(seed, 4) == 0) return e;
    e.block = goes_on ? last->block + e.offset_bytes / 4096 - last->offset_bytes / 4096 : o->blocks;
    uint64_t behind = e.block + (end_of(&e) - 1) / 4096 - e.offset_bytes / 4096 + 1;
    if (behind > o->blocks) o->blocks = behind;
    return e;
}

static void random_puts(uint64_t seed, int puts, uint64_t small_bytes, uint64_t huge_one_in) {
    vs_extent_map *m;
    model *o = model_new();
    vs_extent last = {0, 0, 0};
    CHECK_EQ(vs_extent_map_new(&m), 0);
    for (int i = 0; i < puts; i++) {
        vs_extent e = draw_extent(&seed, o, &last, small_bytes, huge_one_in);
        put(m, o, &e);
        last = e;
        check_find(m, o, draw_below(&seed, VOLUME_BYTES));
        check_find(m, o, e.offset_bytes);
        if (i % (puts / 20) == 0) check_whole(m, o);
    }
    check_whole(m, o);
    vs_extent_map_free(m);
    free(o);
}

static void expect(const vs_extent_map *m, const vs_extent *wanted, uint64_t count) {
    uint64_t x = 0;
    CHECK_EQ(vs_extent_map_count(m), count);
    for (uint64_t i = 0; i < count; i++) {
        vs_extent e;
        CHECK_EQ(vs_extent_map_find(m, x, &e), 1);
        CHECK_EQ(e.offset_bytes, wanted[i].offset_bytes);
        CHECK_EQ(e.length_bytes, wanted[i].length_bytes);
        CHECK_EQ(e.block, wanted[i].block);
        x = end_of(&e);
    }
    CHECK_EQ(vs_extent_map_find(m, x, &(vs_extent){0, 0, 0}), 0);
}

#define PUTS(m, ...)                                                                                             \
    do {                                                                                                         \
        const vs_extent puts_[] = {__VA_ARGS__};                                                                 \
        vs_extent_map_clear(m);                                                                                  \
        for (size_t i = 0; i < sizeof puts_ / sizeof *puts_; i++) CHECK_EQ(vs_extent_map_put(m, &puts_[i]), 0);  \
    } while (0)
#define EXPECT(m, ...) expect(m, (const vs_extent[]){__VA_ARGS__}, sizeof((const vs_extent[]){__VA_ARGS__}) / sizeof(vs_extent))

static void by_hand(void) {
    vs_extent_map *m;
    CHECK_EQ(vs_extent_map_new(&m), 0);
    CHECK_EQ(vs_extent_map_find(m, 0, &(vs_extent){0, 0, 0}), 0);
    PUTS(m, {0, 16384, 10}, {5000, 1000, 77}); /* split in the middle: the right part is moved on by whole blocks */
    EXPECT(m, {0, 5000, 10}, {5000, 1000, 77}, {6000, 10384, 11});
    PUTS(m, {0, 16384, 10}, {5000, 1000, 77}, {5000, 1000, 11}); /* the same bytes again close the gap */
    EXPECT(m, {0, 16384, 10});
    PUTS(m, {0, 4096, 10}, {4096, 4096, 11}, {8192, 4096, 13}); /* a block is left out: not continuous */
    EXPECT(m, {0, 8192, 10}, {8192, 4096, 13});
    PUTS(m, {100, 100, 5}, {200, 100, 5}, {300, 100, 6}); /* in mid block: the same block goes on, another does not */
    EXPECT(m, {100, 200, 5}, {300, 100, 6});
    PUTS(m, {0, 100, 0}, {200, 100, 0}, {100, 100, 0}); /* zeros join on both sides */
    EXPECT(m, {0, 300, 0});
    PUTS(m, {0, 16384, 0}, {4096, 4096, 1}); /* zeros stay zeros when they are cut */
    EXPECT(m, {0, 4096, 0}, {4096, 4096, 1}, {8192, 8192, 0});
    PUTS(m, {4096, 4096, 1}, {0, 4096, 0}); /* block 1 is not block 0 + 1 */
    EXPECT(m, {0, 4096, 0}, {4096, 4096, 1});
    PUTS(m, {0, 10, 1}, {20, 10, 2}, {40, 10, 3}, {5, 40, 9}); /* over several, both ends cut */
    EXPECT(m, {0, 5, 1}, {5, 40, 9}, {45, 5, 3});
    vs_extent_map_free(m);
    vs_extent_map_free(NULL);
}

static void huge_offsets(void) {
    const uint64_t far = (uint64_t)1 << 40, all = (uint64_t)1 << 62;
    vs_extent_map *m;
    CHECK_EQ(vs_extent_map_new(&m), 0);
    PUTS(m, {0, all, 0}, {far + 1, 4096, 7});
    EXPECT(m, {0, far + 1, 0}, {far + 1, 4096, 7}, {far + 4097, all - far - 4097, 0});
    PUTS(m, {far, all, 3}, {0, UINT64_MAX, 0});
    EXPECT(m, {0, UINT64_MAX, 0});
    PUTS(m, {UINT64_MAX - 10, 10, 0}, {0, 1, 2});
    EXPECT(m, {0, 1, 2}, {UINT64_MAX - 10, 10, 0});
    vs_extent_map_free(m);
}

/* Put extents that do not touch, each `step` places on, around; then all of them again, which adds none; then cover them all. */
static void many(uint64_t count, uint64_t step) {
    vs_extent_map *m;
    vs_extent e;
    CHECK_EQ(vs_extent_map_new(&m), 0);
    for (uint64_t i = 0; i < 2 * count; i++) {
        uint64_t place = i * step % count;
        CHECK_EQ(vs_extent_map_put(m, &(vs_extent){place * 8192, 4096, place + 1}), 0);
    }
    CHECK_EQ(vs_extent_map_count(m), count);
    for (uint64_t i = 0; i < count; i++) {
        CHECK_EQ(vs_extent_map_find(m, i * 8192 + 4095, &e), 1);
        CHECK(e.offset_bytes == i * 8192 && e.length_bytes == 4096 && e.block == i + 1);
        CHECK_EQ(vs_extent_map_find(m, i * 8192 + 4096, &e), i + 1 < count);
    }
    for (uint64_t size = 100000; size < count * 8192; size *= 3) { /* ever wider, over many chunks at once */
        CHECK_EQ(vs_extent_map_put(m, &(vs_extent){8192 * count / 2 - size / 2, size, 0}), 0);
    }
    CHECK_EQ(vs_extent_map_put(m, &(vs_extent){0, count * 8192, 0}), 0);
    EXPECT(m, {0, count * 8192, 0});
    vs_extent_map_free(m);
}

/* Every put is tried first with no memory left (then with memory for one allocation): it must change nothing. */
static void puts_without_memory_change_nothing(void) {
    vs_extent_map *m;
    model *o = model_new();
    vs_extent last = {0, 0, 0};
    uint64_t seed = 21;
    int failures = 0;
    CHECK_EQ(vs_extent_map_new(&m), 0);
    for (int i = 0; i < 20000; i++) {
        vs_extent e = draw_extent(&seed, o, &last, 30, 10000);
        uint64_t count = vs_extent_map_count(m);
        faults_fail_allocations(i % 2);
        int r = vs_extent_map_put(m, &e);
        faults_fail_allocations(-1);
        if (r == -ENOMEM) {
            CHECK_EQ(vs_extent_map_count(m), count);
            if (failures++ % 4 == 0) check_whole(m, o);
            CHECK_EQ(vs_extent_map_put(m, &e), 0);
        }
        model_put(o, &e);
        last = e;
    }
    CHECK(failures > 10);
    check_whole(m, o);
    vs_extent_map_free(m);
    faults_fail_allocations(0);
    CHECK_EQ(vs_extent_map_new(&m), -ENOMEM);
    faults_fail_allocations(-1);
    free(o);
}

/* As many puts as there was room made for need no memory. */
static void puts_with_room_need_no_memory(void) {
    vs_extent_map *m;
    model *o = model_new();
    vs_extent last = {0, 0, 0};
    uint64_t seed = 23;
    CHECK_EQ(vs_extent_map_new(&m), 0);
    for (int i = 0; i < 1000; i++) {
        size_t puts = 1 + draw_below(&seed, 60);
        CHECK_EQ(vs_extent_map_reserve(m, puts), 0);
        faults_fail_allocations(0);
        for (; puts > 0; puts--) {
            vs_extent e = draw_extent(&seed, o, &last, 30, 10000);
            put(m, o, &e);
            last = e;
        }
        faults_fail_allocations(-1);
    }
    check_whole(m, o);
    vs_extent_map_free(m);
    free(o);
}

int main(void) {
    by_hand();
    huge_offsets();
    for (uint64_t seed = 1; seed <= 4; seed++) random_puts(seed, 3000, 9000, 50);
    random_puts(11, 20000, 120, 5000);  /* many small extents: thousands in many chunks */
    random_puts(12, 8000, 60, 100);     /* and often swept away */
    random_puts(13, 5000, 1, 1000);     /* single bytes */
    many(50000, 1);
    many(50000, 49999);                 /* downwards */
    many(50000, 20011);                 /* all over */
    puts_without_memory_change_nothing();
    puts_with_room_need_no_memory();
    return 0;
}
