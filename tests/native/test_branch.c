/* test_branch.c: a branch on a real directory: what it holds, its quota, damage of its files, memory and syncs that fail. */
#include "branch_ground.h"
#include "branch_slots.h"
#include "codec.h"
#include "faults.h"

enum { BLOCK = 4096, BLOCKS = 40, SIZE = BLOCKS * BLOCK - 1024 };

static uint8_t point[SIZE], image[SIZE], found[SIZE];
static const uint32_t one[] = {1};

static void fill(uint8_t *to, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(1 + (seed * 31 + i / 7) % 250);
}

static void put(vs_branch *b, uint64_t offset, uint64_t length, uint64_t seed) {
    fill(image + offset, length, seed);
    CHECK_EQ(vs_branch_write(b, VOLUME, offset, image + offset, length), length);
}

static void clear(vs_branch *b, uint64_t offset, uint64_t length) {
    memset(image + offset, 0, length);
    CHECK_EQ(vs_branch_zero(b, VOLUME, offset, length), 0);
}

static void check_image(vs_branch *b) {
    CHECK_EQ(vs_branch_read(b, VOLUME, 0, found, SIZE + 100), SIZE);
    CHECK_EQ(memcmp(found, image, SIZE), 0);
}

static vs_branch_facts facts_of(vs_branch *b) {
    vs_branch_facts f;
    vs_branch_facts_get(b, &f);
    return f;
}

static int faults_found(vs_branch *b, vs_fault *fault) {
    vs_branch_cursor c = {0};
    int n = 0;
    vs_fault each;
    for (; vs_branch_check(b, VOLUME, &c, &each) == 1; n++) *fault = each;
    return n;
}

/* ---- what it holds ---- */

static void test_bytes(const branch_ground *g) {
    vs_branch *b = branch_ground_get(g, 0, one, 1);
    memcpy(image, point, SIZE);
    check_image(b);
    CHECK_EQ(access("branches/layers/00000001/00000001.log", F_OK), -1); /* nothing was written yet */
    CHECK_EQ(vs_branch_write(b, VOLUME, SIZE, "x", 1), -ENOSPC);
    CHECK_EQ(vs_branch_write(b, VOLUME, SIZE - 1, "xy", 2), 1);
    image[SIZE - 1] = 'x';
    put(b, 3, 1, 1);
    put(b, BLOCK - 1, 2, 2);
    put(b, 5 * BLOCK, 9 * BLOCK, 3);
    put(b, 20 * BLOCK + 100, 3 * BLOCK, 4);
    clear(b, 7 * BLOCK + 50, 2 * BLOCK);
    clear(b, 30 * BLOCK, SIZE - 30 * BLOCK);
    check_image(b);
    for (int again = 0; again < 3; again++) {
        CHECK_EQ(vs_branch_close(b), 0);
        b = branch_ground_get(g, 0, one, 1);
        check_image(b);
    }
    vs_fault fault;
    CHECK_EQ(faults_found(b, &fault), 0);
    CHECK_EQ(vs_branch_read(b, VOLUME + 1, 0, found, 1), -ENOENT);
    CHECK_EQ(vs_branch_close(b), 0);
}

/* A block of zeros in a write takes no space, as one that was zeroed. */
static void test_quota(const branch_ground *g) {
    const uint32_t layers[] = {2};
    layer_directory(2);
    vs_branch *b = branch_ground_get(g, 10 * BLOCK, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 0, 8 * BLOCK, 1);
    CHECK_EQ(facts_of(b).used_bytes, 8 * BLOCK);
    put(b, 0, 8 * BLOCK, 2); /* in its place */
    put(b, 8 * BLOCK + 1, 2 * BLOCK - 2, 3);
    CHECK_EQ(facts_of(b).used_bytes, 10 * BLOCK);
    uint8_t more[2 * BLOCK];
    memset(more, 9, sizeof more);
    CHECK_EQ(vs_branch_write(b, VOLUME, 10 * BLOCK, more, 1), -ENOSPC);
    CHECK_EQ(vs_branch_write(b, VOLUME, 9 * BLOCK, more, sizeof more), -ENOSPC);
    check_image(b);
    put(b, 1 * BLOCK, 8 * BLOCK, 4);
    clear(b, 12 * BLOCK, 4 * BLOCK);
    CHECK_EQ(facts_of(b).used_bytes, 10 * BLOCK);
    clear(b, 0, BLOCK);
    put(b, 20 * BLOCK, BLOCK, 5);
    CHECK_EQ(facts_of(b).used_bytes, 10 * BLOCK);
    memset(more, 0, sizeof more);
    CHECK_EQ(vs_branch_write(b, VOLUME, 20 * BLOCK, more, sizeof more), 2 * BLOCK);
    memset(image + 20 * BLOCK, 0, 2 * BLOCK);
    CHECK_EQ(facts_of(b).used_bytes, 9 * BLOCK);
    check_image(b);
    CHECK_EQ(vs_branch_sync(b, VOLUME), 0);
    CHECK_EQ(facts_of(b).waiting_bytes, 0);
    clear(b, 0, SIZE);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    CHECK_EQ(facts_of(b).used_bytes, 0);
    struct stat st;
    CHECK_EQ(stat("branches/layers/00000002/00000001.data", &st), 0);
    CHECK_EQ(st.st_size, 0);
    CHECK_EQ(vs_branch_close(b), 0);
}

static uint64_t stored(const char *path) {
    struct stat st;
    CHECK_EQ(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* A discard in the middle of what is there gives its space back to the disk, once it is synced. */
static void test_space_goes_back(const branch_ground *g) {
    const uint32_t layers[] = {5};
    const char *path = "branches/layers/00000005/00000001.data";
    layer_directory(5);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 0, SIZE, 1);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    uint64_t before = stored(path);
    clear(b, 8 * BLOCK, 24 * BLOCK);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    CHECK(stored(path) <= before - 24 * BLOCK);
    check_image(b);
    CHECK_EQ(vs_branch_close(b), 0);
}

/* A death between a discard and the sync that would have given its space back. */
static void test_space_goes_back_at_an_opening(const branch_ground *g) {
    enum { LARGE = 1024 * BLOCK };
    const uint32_t layers[] = {7};
    const char *path = "branches/layers/00000007/00000001.data";
    vs_branch_options o = {.writable = 1};
    uint8_t *bytes = malloc(LARGE), *read = malloc(LARGE);
    vs_branch *b;
    CHECK(bytes && read);
    fill(bytes, LARGE, 1);
    layer_directory(7);
    for (int step = 0; step < 4; step++) {
        CHECK_EQ(vs_branch_open(g->journal, &o, &b), 0);
        CHECK_EQ(vs_branch_volume(b, VOLUME, LARGE, NULL, layers, 1), 0);
        if (step == 0) CHECK_EQ(vs_branch_write(b, VOLUME, 0, bytes, LARGE), LARGE);
        if (step == 0) CHECK_EQ(vs_branch_sync(b, 0), 0);
        if (step > 0) CHECK(stored(path) <= (step == 1 ? 512 : 256) * BLOCK + 16 * BLOCK);
        CHECK_EQ(vs_branch_read(b, VOLUME, 0, read, LARGE), LARGE);
        CHECK_EQ(memcmp(read, bytes, LARGE), 0);
        uint64_t at = step == 0 ? 128 * BLOCK : 768 * BLOCK, length = step == 0 ? 512 * BLOCK : 256 * BLOCK;
        if (step < 2) CHECK_EQ(vs_branch_zero(b, VOLUME, at, length), 0);
        if (step < 2) memset(bytes + at, 0, length);
        faults_fail_syncs(step < 2);
        CHECK_EQ(vs_branch_close(b), step < 2 ? -EIO : 0);
        faults_fail_syncs(0);
    }
    free(bytes);
    free(read);
}

static uint64_t begun_count, begun_bytes;

static void begun_seen(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    (void)s, (void)file;
    begun_count++;
    begun_bytes = offset_bytes + length_bytes;
}

/* The disk begins with what was written now and then, so that a sync finds little left; a sync ends that. */
static void test_much_is_begun_before_a_sync(const branch_ground *g) {
    enum { MIB = 1 << 20, LARGE = 32 * MIB };
    const uint32_t layers[] = {8};
    void (*plain)(vs_store *, int, uint64_t, uint64_t) = g->store->write_back;
    uint8_t *bytes = malloc(MIB);
    vs_branch_options o = {.writable = 1};
    vs_branch *b;
    CHECK(bytes);
    fill(bytes, MIB, 3);
    layer_directory(8);
    CHECK_EQ(vs_branch_open(g->journal, &o, &b), 0);
    CHECK_EQ(vs_branch_volume(b, VOLUME, LARGE, NULL, layers, 1), 0);
    g->store->write_back = begun_seen;
    for (uint64_t at = 0; at < 20 * MIB; at += MIB) CHECK_EQ(vs_branch_write(b, VOLUME, at, bytes, MIB), MIB);
    CHECK_EQ(begun_count, 2);
    CHECK_EQ(begun_bytes, 16 * MIB);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    for (uint64_t at = 20 * MIB; at < 27 * MIB; at += MIB) CHECK_EQ(vs_branch_write(b, VOLUME, at, bytes, MIB), MIB);
    CHECK_EQ(begun_count, 2);
    g->store->write_back = plain;
    CHECK_EQ(vs_branch_close(b), 0);
    free(bytes);
}

/* Many changes of few blocks: the log stays short, and the data file. */
static void test_log_is_written_anew(const branch_ground *g) {
    const uint32_t layers[] = {3};
    layer_directory(3);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    uint64_t greatest = 0, longest = 0;
    for (uint64_t i = 0; i < 6000; i++) {
        put(b, i % 10 * 2 * BLOCK, BLOCK, i);
        if (i % 50 == 0) CHECK_EQ(vs_branch_sync(b, 0), 0);
        struct stat st;
        CHECK_EQ(stat("branches/layers/00000003/00000001.data", &st), 0);
        if ((uint64_t)st.st_size > greatest) greatest = (uint64_t)st.st_size;
        if (facts_of(b).log_bytes > longest) longest = facts_of(b).log_bytes;
    }
    CHECK(longest < 2 << 16);
    CHECK(greatest < 256 * BLOCK);
    check_image(b);
    CHECK_EQ(vs_branch_close(b), 0);
    b = branch_ground_get(g, 0, layers, 1);
    check_image(b);
    CHECK_EQ(facts_of(b).used_bytes, 10 * BLOCK);
    CHECK_EQ(vs_branch_close(b), 0);
}

static int (*plain_open)(vs_store *s, const char *path, uint32_t flags);
static int (*plain_write)(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count);
static int fresh_log = -1, refused;

static int open_seen(vs_store *s, const char *path, uint32_t flags) {
    int file = plain_open(s, path, flags);
    if (strstr(path, ".log.new")) fresh_log = file;
    else if (file == fresh_log) fresh_log = -1;
    return file;
}

/* The second write to a log that is written anew has no room: its records. */
static int write_without_room(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    if (file != fresh_log || offset_bytes == 0) return plain_write(s, file, offset_bytes, parts, part_count);
    refused++;
    return -ENOSPC;
}

/* On a full disk a log cannot be written anew: the old one goes on, and what was begun takes no space. */
static void test_no_room_for_a_log_anew(const branch_ground *g) {
    const uint32_t layers[] = {6};
    const char *fresh = "branches/layers/00000006/00000001.log.new";
    vs_branch_options o = {.writable = 1, .rewrite_bytes = 1000};
    vs_branch *b;
    layer_directory(6);
    CHECK_EQ(branch_ground_open(g, &o, layers, 1, &b), 0);
    memcpy(image, point, SIZE);
    put(b, 0, BLOCK, 1);
    plain_open = g->store->open;
    plain_write = g->store->write;
    g->store->open = open_seen;
    g->store->write = write_without_room;
    for (uint64_t i = 0; i < 200; i++) {
        put(b, i % 3 * BLOCK, BLOCK, i);
        if (i % 5 == 0) CHECK_EQ(vs_branch_sync(b, 0), 0);
        CHECK_EQ(access(fresh, F_OK), -1);
    }
    CHECK(refused > 0);
    g->store->open = plain_open;
    g->store->write = plain_write;
    check_image(b);
    CHECK_EQ(vs_branch_close(b), 0);
    b = branch_ground_get(g, 0, layers, 1);
    check_image(b);
    CHECK_EQ(vs_branch_close(b), 0);
}

/* Of a write that the kernel has cut in pieces whoever wrote may not hear of the last one: the next sync through that file says it, once. */
static void test_no_room_is_told_by_a_sync(const branch_ground *g) {
    const uint32_t layers[] = {0x7700};
    vs_volume_file *f, *other;
    uint8_t bytes[2 * BLOCK];
    memset(bytes, 7, sizeof bytes);
    layer_directory(0x7700);
    vs_branch *b = branch_ground_get(g, 2 * BLOCK, layers, 1);
    CHECK_EQ(vs_branch_file(b, VOLUME, &f), 0);
    CHECK_EQ(vs_branch_file(b, VOLUME, &other), 0);
    CHECK_EQ(f->write(f, 0, bytes, BLOCK, 0, NULL), BLOCK);
    CHECK_EQ(f->sync(f), 0);
    CHECK_EQ(f->write(f, BLOCK, bytes, 2 * BLOCK, 0, NULL), -ENOSPC);
    CHECK_EQ(f->write(f, BLOCK, bytes, BLOCK, 0, NULL), BLOCK);
    CHECK_EQ(other->sync(other), 0);
    CHECK_EQ(f->sync(f), -ENOSPC);
    CHECK_EQ(f->sync(f), 0);
    CHECK_EQ(f->write(f, SIZE, bytes, BLOCK, 0, NULL), -ENOSPC); /* no disk has room there: that is nobody's loss */
    CHECK_EQ(f->sync(f), 0);
    f->release(f);
    other->release(other);
    CHECK_EQ(vs_branch_close(b), 0);
}

static void test_seek_and_runs(const branch_ground *g) {
    const uint32_t layers[] = {4};
    vs_volume_file *f;
    vs_run runs[8];
    uint64_t next;
    layer_directory(4);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    CHECK_EQ(vs_branch_file(b, VOLUME, &f), 0);
    CHECK_EQ(facts_of(b).files, 1);
    CHECK_EQ(f->seek(f, 0, SEEK_DATA), 0);
    CHECK_EQ(f->seek(f, 0, SEEK_HOLE), 30 * BLOCK); /* so much the point has */
    CHECK_EQ(f->seek(f, 30 * BLOCK, SEEK_DATA), -ENXIO);
    clear(b, 2 * BLOCK, 3 * BLOCK);
    put(b, 34 * BLOCK + 5, 10, 1);
    CHECK_EQ(f->seek(f, 0, SEEK_HOLE), 2 * BLOCK);
    CHECK_EQ(f->seek(f, 2 * BLOCK, SEEK_DATA), 5 * BLOCK);
    CHECK_EQ(f->seek(f, 31 * BLOCK, SEEK_DATA), 34 * BLOCK);
    CHECK_EQ(f->seek(f, 35 * BLOCK, SEEK_HOLE), 35 * BLOCK);
    CHECK_EQ(f->seek(f, SIZE, SEEK_HOLE), -ENXIO);
    CHECK_EQ(f->seek(f, 0, SEEK_SET), -EINVAL);
    CHECK_EQ(vs_branch_runs(b, VOLUME, 0, runs, 8, &next), 2);
    CHECK_EQ(runs[0].kind, VS_RUN_ZERO);
    CHECK_EQ(runs[0].offset_bytes, 2 * BLOCK);
    CHECK_EQ(runs[0].length_bytes, 3 * BLOCK);
    CHECK_EQ(runs[1].kind, VS_RUN_DATA);
    CHECK_EQ(runs[1].offset_bytes, 34 * BLOCK);
    CHECK_EQ(next, SIZE);
    CHECK_EQ(vs_branch_runs(b, VOLUME, 0, runs, 1, &next), 1);
    CHECK_EQ(next, 34 * BLOCK);
    CHECK_EQ(f->size(f), SIZE);
    CHECK_EQ(f->write(f, 0, "a", 1, 1, NULL), 1);
    CHECK_EQ(f->sync(f), 0);
    f->release(f);
    CHECK_EQ(facts_of(b).files, 0);
    CHECK_EQ(vs_branch_close(b), 0);
}

/* A child begins with what its parent had; then neither sees the other, five deep. */
static void test_children(const branch_ground *g) {
    enum { DEPTH = 5, FIRST = 0x10 };
    static uint8_t images[DEPTH + 1][SIZE];
    vs_branch *b[DEPTH + 1];
    uint32_t layers[DEPTH + 1][DEPTH + 2] = {{FIRST}}, fresh = FIRST + 1;
    layer_directory(FIRST);
    memcpy(image, point, SIZE);
    b[0] = branch_ground_get(g, 0, layers[0], 1);
    for (int d = 0; d < DEPTH; d++) {
        put(b[d], (uint64_t)d * 3 * BLOCK + 7, 2 * BLOCK, 50 + (uint64_t)d);
        clear(b[d], (uint64_t)(d + 20) * BLOCK, BLOCK);
        layer_directory(fresh);
        layer_directory(fresh + 1);
        CHECK_EQ(vs_branch_freeze(b[d], fresh), 0);
        CHECK_EQ(facts_of(b[d]).used_bytes, 0);
        memcpy(layers[d + 1], layers[d], sizeof layers[d]);
        layers[d][d + 1] = fresh;
        layers[d + 1][d + 1] = fresh + 1;
        fresh += 2;
        b[d + 1] = branch_ground_get(g, 0, layers[d + 1], d + 2);
        CHECK_EQ(vs_branch_freeze(b[d], fresh), -EBUSY);
        vs_branch_go_on(b[d]);
        check_image(b[d + 1]);
        memcpy(images[d], image, SIZE);
        memcpy(found, image, SIZE);
        put(b[d], 0, 2 * BLOCK, 90 + (uint64_t)d);
        memcpy(images[d], image, SIZE);
        memcpy(image, found, SIZE);
    }
    put(b[DEPTH], 3 * BLOCK, BLOCK, 77);
    memcpy(images[DEPTH], image, SIZE);
    for (int again = 0; again < 2; again++)
        for (int d = 0; d <= DEPTH; d++) {
            memcpy(image, images[d], SIZE);
            check_image(b[d]);
            CHECK_EQ(vs_branch_close(b[d]), 0);
            if (!again) b[d] = branch_ground_get(g, 0, layers[d], d == DEPTH ? d + 1 : d + 2);
        }
}

/* What is given up while a sync is under way is not that sync's, also where it lies beside what is. */
static void test_slots_wait_for_their_own_sync(void) {
    vs_branch_slots s = {0};
    uint32_t first;
    CHECK_EQ(vs_branch_slots_take(&s, 4, &first), 4);
    CHECK_EQ(first, 1);
    CHECK_EQ(vs_branch_slots_reserve(&s, 2), 0);
    vs_branch_slots_wait(&s, 1, 1, 0);
    vs_branch_slots_sync_begin(&s);
    vs_branch_slots_wait(&s, 2, 1, 0);
    vs_branch_slots_sync_end(&s);
    vs_branch_slots_punched(&s);
    CHECK_EQ(s.waiting_slots, 1);
    CHECK_EQ(vs_branch_slots_take(&s, 1, &first), 1);
    CHECK_EQ(first, 1);
    CHECK_EQ(vs_branch_slots_take(&s, 1, &first), 1);
    CHECK_EQ(first, 5);
    vs_branch_slots_sync_begin(&s);
    vs_branch_slots_sync_end(&s);
    vs_branch_slots_punched(&s);
    CHECK_EQ(vs_branch_slots_take(&s, 1, &first), 1);
    CHECK_EQ(first, 2);
    vs_branch_slots_free(&s);
}

/* One write does not look through all of a large file whose free slots lie alone; the next ones go on, and find what there is. */
static void test_slots_are_sought_bit_by_bit(void) {
    enum { ALONE = 1000, RUN = 40 };
    vs_branch_slots s = {0};
    uint32_t first, last, tries = 1;
    CHECK_EQ(vs_branch_slots_take(&s, 3 * ALONE + RUN + 1, &first), 3 * ALONE + RUN + 1);
    for (uint32_t i = 0; i < ALONE; i++) vs_branch_slots_give(&s, 3 * i + 1, 1);
    vs_branch_slots_give(&s, 3 * ALONE + 1, RUN);
    CHECK_EQ(vs_branch_slots_take(&s, RUN, &last), RUN);
    CHECK_EQ(last, 3 * ALONE + RUN + 2); /* behind all */
    while (vs_branch_slots_take(&s, RUN, &first) == RUN && first == last + RUN) {
        last = first;
        CHECK(++tries < 2 * ALONE);
    }
    CHECK_EQ(first, 3 * ALONE + 1);
    vs_branch_slots_free(&s);
}

/* ---- damage ---- */

static void flip(const char *path, off_t at) {
    uint8_t byte;
    int file = open(path, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pread(file, &byte, 1, at), 1);
    byte ^= 0x10;
    CHECK_EQ(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static int opening(const branch_ground *g, const uint32_t *layers, int count) {
    vs_branch_options o = {.writable = 1};
    vs_branch *b;
    int r = branch_ground_open(g, &o, layers, count, &b);
    if (r == 0) CHECK_EQ(vs_branch_close(b), 0);
    return r;
}

static void test_damaged_data(const branch_ground *g) {
    const uint32_t layers[] = {0x20};
    vs_fault fault;
    vs_volume_file *f;
    layer_directory(0x20);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 4 * BLOCK, 6 * BLOCK, 1);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    flip("branches/layers/00000020/00000001.data", 2 * BLOCK + 77);
    CHECK_EQ(vs_branch_read(b, VOLUME, 0, found, SIZE), -EBADMSG);
    vs_fault_last(&fault);
    CHECK_EQ(fault.code, -EBADMSG);
    CHECK_EQ(fault.volume, VOLUME);
    CHECK_EQ(fault.offset_bytes, 2 * BLOCK);
    CHECK_EQ(vs_branch_read(b, VOLUME, 5 * BLOCK, found, BLOCK), BLOCK);
    CHECK_EQ(vs_branch_read(b, VOLUME, 7 * BLOCK, found, 3 * BLOCK), 3 * BLOCK);
    CHECK_EQ(memcmp(found, image + 7 * BLOCK, 3 * BLOCK), 0);
    CHECK_EQ(vs_branch_file(b, VOLUME, &f), 0);
    CHECK_EQ(f->read(f, 6 * BLOCK, found, BLOCK), -EIO);
    CHECK_EQ(f->write(f, 6 * BLOCK + 1, "a", 1, 0, NULL), -EIO); /* the rest of the block is not known */
    CHECK_EQ(faults_found(b, &fault), 1);
    CHECK_EQ(fault.offset_bytes, 2 * BLOCK);
    put(b, 6 * BLOCK, BLOCK, 5);
    check_image(b);
    f->release(f);
    CHECK_EQ(vs_branch_close(b), 0);
    CHECK_EQ(truncate("branches/layers/00000020/00000001.data", 3 * BLOCK), 0);
    CHECK_EQ(opening(g, layers, 1), -EUCLEAN);
    CHECK_EQ(unlink("branches/layers/00000020/00000001.data"), 0);
    CHECK_EQ(opening(g, layers, 1), -EUCLEAN);
}

/* A damaged block that a later layer hides costs this branch nothing; a part of a run that it hides neither. */
static void test_hidden_damage_is_none(const branch_ground *g) {
    const uint32_t layers[] = {0x22, 0x23};
    vs_fault fault;
    layer_directory(0x22);
    layer_directory(0x23);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 4 * BLOCK, 6 * BLOCK, 1);
    CHECK_EQ(vs_branch_freeze(b, 0x23), 0);
    vs_branch_go_on(b);
    for (uint64_t slot = 0; slot < 6; slot++) flip("branches/layers/00000022/00000001.data", (off_t)(slot * BLOCK + 9));
    CHECK_EQ(faults_found(b, &fault), 6);
    put(b, 3 * BLOCK, 2 * BLOCK, 2);
    clear(b, 6 * BLOCK, BLOCK);
    put(b, 8 * BLOCK, BLOCK, 3);
    CHECK_EQ(faults_found(b, &fault), 3);
    CHECK_EQ(fault.offset_bytes, 5 * BLOCK);
    CHECK_EQ(vs_branch_close(b), 0);
    CHECK_EQ(branch_ground_open(g, &(vs_branch_options){.writable = 1}, layers, 1, &b), 0);
    CHECK_EQ(faults_found(b, &fault), 6); /* who has that layer alone is not helped */
    CHECK_EQ(vs_branch_close(b), 0);
}

static int64_t (*plain_read)(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes);
static vs_branch *busy; /* is written to and synced beside each read */
static int reads;

static int64_t read_beside_a_sync(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    vs_branch *b = busy;
    int64_t n = plain_read(s, file, offset_bytes, buf, length_bytes);
    if (!b) return n;
    busy = NULL;
    CHECK(++reads < 100);
    put(b, 20 * BLOCK, BLOCK, (uint64_t)reads);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    busy = b;
    return n;
}

/* However many syncs there are beside it, a check comes to its end, and finds what there is. */
static void test_check_of_a_busy_branch(const branch_ground *g) {
    const uint32_t layers[] = {0x24};
    vs_fault fault;
    layer_directory(0x24);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 4 * BLOCK, 6 * BLOCK, 1);
    plain_read = g->store->read;
    g->store->read = read_beside_a_sync;
    busy = b;
    CHECK_EQ(faults_found(b, &fault), 0);
    busy = NULL;
    CHECK(reads >= 6);
    g->store->read = plain_read;
    check_image(b);
    CHECK_EQ(vs_branch_close(b), 0);
}

static void layer_written(const branch_ground *g, uint32_t layer) {
    layer_directory(layer);
    vs_branch *b = branch_ground_get(g, 0, &layer, 1);
    memcpy(image, point, SIZE);
    for (uint64_t i = 0; i < 8; i++) {
        put(b, i * 2 * BLOCK, BLOCK, i);
        CHECK_EQ(vs_branch_sync(b, 0), 0);
    }
    CHECK_EQ(vs_branch_close(b), 0);
}

/* Any bit before the last record of all: it is known that more was there. */
static void test_damaged_log(const branch_ground *g) {
    const uint32_t layers[] = {0x21};
    const char *path = "branches/layers/00000021/00000001.log";
    struct stat st;
    layer_written(g, 0x21);
    CHECK_EQ(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size - 32; at++) {
        flip(path, at);
        int r = opening(g, layers, 1);
        if (r != -EUCLEAN) fprintf(stderr, "position %" PRId64 "\n", (int64_t)at);
        CHECK_EQ(r, -EUCLEAN);
        flip(path, at);
    }
    CHECK_EQ(opening(g, layers, 1), 0);
    CHECK_EQ(rename("branches/layers/00000021", "branches/layers/gone"), 0);
    CHECK_EQ(opening(g, layers, 1), -EUCLEAN);
}

static void head_change(const char *path, int at, uint8_t value) {
    uint8_t head[64];
    int file = open(path, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pread(file, head, sizeof head, 0), sizeof head);
    head[at] = value;
    uint32_t crc = vs_crc32c(head, 60);
    memcpy(head + 60, &crc, 4);
    CHECK_EQ(pwrite(file, head, sizeof head, 0), sizeof head);
    close(file);
}

static void test_foreign_logs(const branch_ground *g) {
    static const struct {
        int at, code;
    } changes[] = {{8, -EPROTONOSUPPORT}, {12, -EPROTONOSUPPORT}, {16, -EXDEV}, {32, -EUCLEAN}, {36, -EUCLEAN}, {40, -EUCLEAN}};
    for (uint32_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char path[64];
        uint32_t layer = 0x30 + i;
        layer_written(g, layer);
        snprintf(path, sizeof path, "branches/layers/%08" PRIx32 "/00000001.log", layer);
        head_change(path, changes[i].at, 0xee);
        CHECK_EQ(opening(g, &layer, 1), changes[i].code);
    }
}

/* What ends before its end was on the medium is nothing to build on. */
static void test_frozen_layer_that_was_not_ended(const branch_ground *g) {
    const uint32_t layers[] = {0x40, 0x41};
    layer_directory(0x40);
    layer_directory(0x41);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 0, BLOCK, 1);
    CHECK_EQ(opening(g, layers, 2), -EUCLEAN);
    CHECK_EQ(vs_branch_sync(b, 0), 0);
    CHECK_EQ(opening(g, layers, 2), 0);
    CHECK_EQ(vs_branch_close(b), 0);
}

/* ---- a bad day ---- */

static void test_failed_sync_is_final(const branch_ground *g) {
    const uint32_t layers[] = {0x50};
    layer_directory(0x50);
    vs_branch *b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 0, BLOCK, 1);
    faults_fail_syncs(1);
    CHECK_EQ(vs_branch_sync(b, 0), -EIO);
    faults_fail_syncs(0);
    CHECK_EQ(vs_branch_sync(b, 0), -EIO);
    CHECK_EQ(vs_branch_write(b, VOLUME, 0, "a", 1), -EIO);
    CHECK_EQ(vs_branch_zero(b, VOLUME, 0, BLOCK), -EIO);
    CHECK_EQ(vs_branch_freeze(b, 0x51), -EIO);
    CHECK_EQ(facts_of(b).failed, -EIO);
    check_image(b);
    CHECK_EQ(vs_branch_close(b), -EIO);
    CHECK_EQ(opening(g, layers, 1), 0);
}

/* From each allocation on all fail: what is asked for is done or not, nothing is wrong or lost, and the next write may go well. */
static void test_memory_fails(const branch_ground *g) {
    const uint32_t layers[] = {0x60};
    vs_branch_options o = {.writable = 1};
    uint64_t steps = 0;
    layer_directory(0x60);
    memcpy(image, point, SIZE);
    for (long good = 0, failed = 1; failed; good++) {
        vs_branch *b;
        vs_view *below;
        CHECK_EQ(vs_branch_open(g->journal, &o, &b), 0);
        CHECK_EQ(vs_view_open(g->journal, VOLUME, g->seqno, &below), 0);
        faults_fail_allocations(good);
        int r = vs_branch_volume(b, VOLUME, SIZE, below, layers, 1), taken = r == 0;
        for (uint64_t i = 0; r == 0 && i < 12; i++) {
            uint64_t offset = (i * 7919 + steps * 4099) % (SIZE - 3 * BLOCK), length = i % 3 ? 700 : 2 * BLOCK + 9;
            uint8_t bytes[2 * BLOCK + 9];
            fill(bytes, length, steps++);
            if (i % 5 == 4) memset(bytes, 0, length);
            int64_t n = i % 5 == 4 ? vs_branch_zero(b, VOLUME, offset, length) : vs_branch_write(b, VOLUME, offset, bytes, length);
            if (n >= 0) memcpy(image + offset, bytes, length);
            else CHECK_EQ(n, -ENOMEM);
            if (i % 4 == 3) r = vs_branch_sync(b, 0);
        }
        failed = faults_allocation_failed();
        faults_fail_allocations(-1);
        CHECK(r == 0 || (r == -ENOMEM && !taken));
        if (taken) check_image(b);
        CHECK_EQ(facts_of(b).failed, 0);
        CHECK_EQ(vs_branch_close(b), 0);
        b = branch_ground_get(g, 0, layers, 1);
        check_image(b);
        CHECK_EQ(vs_branch_close(b), 0);
        if (!taken) vs_view_close(below);
    }
}

static void test_reader(const branch_ground *g) {
    const uint32_t layers[] = {0x70};
    vs_branch_options o = {.writable = 0};
    vs_branch *b, *reader;
    layer_directory(0x70);
    CHECK_EQ(branch_ground_open(g, &o, layers, 1, &reader), 0);
    CHECK_EQ(vs_branch_write(reader, VOLUME, 0, "a", 1), -EROFS);
    CHECK_EQ(vs_branch_zero(reader, VOLUME, 0, 1), -EROFS);
    CHECK_EQ(vs_branch_freeze(reader, 0x71), -EROFS);
    CHECK_EQ(vs_branch_close(reader), 0);
    b = branch_ground_get(g, 0, layers, 1);
    memcpy(image, point, SIZE);
    put(b, 0, BLOCK, 1);
    CHECK_EQ(branch_ground_open(g, &o, layers, 1, &reader), 0);
    check_image(reader);
    CHECK_EQ(vs_branch_close(reader), 0);
    CHECK_EQ(vs_branch_close(b), 0);
}

int main(void) {
    branch_ground g;
    fill(point, 30 * BLOCK, 1000);
    branch_ground_begin(&g, SIZE, point, 30 * BLOCK);
    layer_directory(1);
    test_bytes(&g);
    test_quota(&g);
    test_no_room_is_told_by_a_sync(&g);
    test_space_goes_back(&g);
    test_space_goes_back_at_an_opening(&g);
    test_much_is_begun_before_a_sync(&g);
    test_log_is_written_anew(&g);
    test_no_room_for_a_log_anew(&g);
    test_slots_wait_for_their_own_sync();
    test_slots_are_sought_bit_by_bit();
    test_seek_and_runs(&g);
    test_children(&g);
    test_damaged_data(&g);
    test_hidden_damage_is_none(&g);
    test_check_of_a_busy_branch(&g);
    test_damaged_log(&g);
    test_foreign_logs(&g);
    test_frozen_layer_that_was_not_ended(&g);
    test_failed_sync_is_final(&g);
    test_memory_fails(&g);
    test_reader(&g);
    branch_ground_end(&g);
    return 0;
}
