/* test_view_read.c: the bytes of views: what is read in one call, what is asked for before it is waited for, and what damage costs.
 *
 * The store under the journal is the real one with some of its functions replaced: they count, fail where they are told to, or pretend that
 * nothing is cached.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "journal_ground.h"

enum { BLOCK = VS_BLOCK, BLOCKS = 64, SIZE = BLOCKS * BLOCK, ODD_SIZE = 1 << 20, NOWHERE = -1 };

static vs_store real; /* the functions that were replaced */

static struct {
    int calls;      /* that waited for what they read */
    int tries;      /* that did not */
    int asked;      /* calls of will_need */
    int asked_late; /* of them after a read that waited */
    int nothing_cached;
    int64_t bad_block; /* of any file: cannot be read */
    int bad_ends;      /* the file seems to end there */
    _Atomic int open, open_most;
} seen;

static int has_bad_block(uint64_t offset_bytes, uint64_t length_bytes) {
    uint64_t bad = (uint64_t)seen.bad_block * BLOCK;
    return seen.bad_block != NOWHERE && bad < offset_bytes + length_bytes && bad + BLOCK > offset_bytes;
}

static int64_t bad_answer(void) {
    return seen.bad_ends ? 0 : -EIO;
}

static int64_t test_read(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    seen.calls++;
    return has_bad_block(offset_bytes, length_bytes) ? bad_answer() : real.read(s, file, offset_bytes, buf, length_bytes);
}

static int64_t test_read_parts(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int count, uint32_t flags) {
    uint64_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    if (flags & VS_READ_CACHED) seen.tries++;
    else seen.calls++;
    if (flags & VS_READ_CACHED && seen.nothing_cached) return -EAGAIN;
    return has_bad_block(offset_bytes, length) ? bad_answer() : real.read_parts(s, file, offset_bytes, parts, count, flags);
}

static void test_will_need(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes) {
    seen.asked++;
    if (seen.calls) seen.asked_late++;
    real.will_need(s, file, offset_bytes, length_bytes);
}

static int test_files_max(vs_store *s) {
    (void)s;
    return 2;
}

static int test_open(vs_store *s, const char *path, uint32_t flags) {
    int file = real.open(s, path, flags);
    if (file < 0 || flags != VS_OPEN_READ) return file;
    int now = atomic_fetch_add(&seen.open, 1) + 1;
    if (now > seen.open_most) seen.open_most = now;
    return file;
}

static int test_close(vs_store *s, int file) {
    atomic_fetch_sub(&seen.open, 1);
    return real.close(s, file);
}

static void forget(void) {
    memset(&seen, 0, sizeof seen);
    seen.bad_block = NOWHERE;
}

/* ---- a volume and what it should hold ---- */

typedef struct ground {
    vs_store *store;
    vs_journal *journal;
    uint32_t volume;
    vs_view *view;
    uint64_t size_bytes, random;
    uint8_t want[ODD_SIZE];
} ground;

static ground g;

static void ground_begin(const char *name, uint64_t size_bytes) {
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
    memset(&g, 0, sizeof g);
    g.size_bytes = size_bytes;
    g.random = 5;
    g.store = ground_make();
    g.journal = ground_open(g.store, 1, 64 << 20, 8 << 20);
    g.volume = ground_volume(g.journal, size_bytes);
}

static void put(uint64_t offset_bytes, uint64_t length_bytes) {
    for (uint64_t i = 0; i < length_bytes; i++) g.want[offset_bytes + i] = (uint8_t)(draw(&g.random) | 1);
    CHECK_EQ(vs_journal_write(g.journal, g.volume, offset_bytes, g.want + offset_bytes, length_bytes, NULL, NULL), 0);
}

static void seal(void) {
    CHECK_EQ(vs_journal_commit(g.journal), 0);
    CHECK_EQ(vs_journal_seal(g.journal), 0);
}

/* Open the view of now through the functions above. */
static void look(void) {
    uint64_t seqno;
    ground_mark(g.journal, &seqno);
    CHECK_EQ(vs_view_open(g.journal, g.volume, seqno, &g.view), 0);
    real = *g.store;
    g.store->read = test_read;
    g.store->read_parts = test_read_parts;
    g.store->will_need = test_will_need;
    forget();
}

static void ground_end(void) {
    g.store->read = real.read;
    g.store->read_parts = real.read_parts;
    g.store->will_need = real.will_need;
    vs_view_close(g.view);
    CHECK_EQ(vs_journal_close(g.journal), 0);
    vs_store_close(g.store);
    CHECK_EQ(chdir(".."), 0);
}

static void check_read(uint64_t offset_bytes, uint64_t length_bytes) {
    static uint8_t buf[ODD_SIZE + 2 * BLOCK];
    uint64_t left = offset_bytes < g.size_bytes ? g.size_bytes - offset_bytes : 0;
    memset(buf, 0xEE, sizeof buf);
    CHECK_EQ(vs_view_read(g.view, offset_bytes, buf, length_bytes), length_bytes < left ? length_bytes : left);
    CHECK(memcmp(buf, g.want + offset_bytes, length_bytes < left ? length_bytes : left) == 0);
    CHECK_EQ(buf[length_bytes < left ? length_bytes : left], 0xEE); /* nothing behind it was touched */
}

/* Where the byte at offset_bytes of the volume lies. */
static vs_run place_of(uint64_t offset_bytes) {
    vs_run run;
    CHECK_EQ(vs_view_run(g.view, offset_bytes, &run), 1);
    CHECK_EQ(run.kind, VS_RUN_DATA);
    return run;
}

static void segment_path(uint64_t first_seqno, char path[64]) {
    snprintf(path, 64, "journal/%020" PRIu64 ".seg", first_seqno);
}

static void flip(uint64_t first_seqno, uint64_t at) {
    char path[64];
    uint8_t byte;
    segment_path(first_seqno, path);
    int file = open(path, O_RDWR);
    CHECK_EQ(pread(file, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    CHECK_EQ(pwrite(file, &byte, 1, (off_t)at), 1);
    close(file);
}

/* One write of everything, then every fourth block anew, all in one segment. */
static void make_neighbours(const char *name) {
    ground_begin(name, SIZE);
    put(0, SIZE);
    for (uint64_t i = 2; i < BLOCKS; i += 4) put(i * BLOCK, BLOCK);
    seal();
    look();
}

/* ---- grouping ---- */

static void neighbours_are_one_call(void) {
    make_neighbours("neighbours");
    check_read(0, SIZE);
    CHECK_EQ(seen.tries, 2); /* the first write, over the gaps; the later ones, which lie side by side in their batch */
    CHECK_EQ(seen.calls, 0);
    forget();
    check_read(BLOCK, BLOCK);
    CHECK_EQ(seen.tries, 0); /* a small read waits at once */
    CHECK_EQ(seen.calls, 1);
    ground_end();
}

static void segments_are_read_apart(void) {
    ground_begin("apart", SIZE);
    for (uint64_t k = 0; k < 4; k++) {
        for (uint64_t i = k; i < BLOCKS; i += 8) put(i * BLOCK, BLOCK); /* 4 to 7 of 8 stay holes */
        seal();
    }
    CHECK_EQ(vs_journal_zero(g.journal, g.volume, 8 * BLOCK, 8 * BLOCK, NULL, NULL), 0);
    memset(g.want + 8 * BLOCK, 0, 8 * BLOCK);
    look();
    check_read(0, SIZE);
    CHECK_EQ(seen.tries, 4);
    CHECK_EQ(seen.calls, 0);
    ground_end();
}

/* ---- asking before waiting ---- */

static void all_is_asked_for_before_anything_is_waited_for(void) {
    ground_begin("cold", SIZE);
    for (uint64_t k = 0; k < 8; k++) {
        for (uint64_t i = k; i < BLOCKS; i += 8) put(i * BLOCK, BLOCK);
        seal();
    }
    look();
    seen.nothing_cached = 1;
    check_read(0, SIZE);
    CHECK_EQ(seen.asked, 8);
    CHECK_EQ(seen.asked_late, 0);
    CHECK_EQ(seen.calls, 8);
    ground_end();
}

/* ---- damage ---- */

/* The block at bad is lost: reads that need it fail and name it, all others are right. */
static void check_only_block_fails(uint64_t bad, const vs_run *where) {
    static uint8_t buf[SIZE];
    vs_fault fault;
    vs_fault_clear();
    CHECK_EQ(vs_view_read(g.view, 0, buf, SIZE), -EBADMSG);
    vs_fault_last(&fault);
    CHECK_EQ(fault.code, -EBADMSG);
    CHECK_EQ(fault.volume, g.volume);
    CHECK_EQ(fault.segment, where->segment);
    CHECK_EQ(fault.offset_bytes, where->block * BLOCK);
    char offset[64];
    snprintf(offset, sizeof offset, "offset %" PRIu64 ":", bad * BLOCK);
    CHECK(strstr(fault.text, offset) != NULL);
    CHECK_EQ(vs_view_read(g.view, bad * BLOCK + 7, buf, 1), -EBADMSG);
    check_read(0, bad * BLOCK);
    check_read((bad + 1) * BLOCK, SIZE);
    for (uint64_t i = 0; i < BLOCKS; i++)
        if (i != bad) check_read(i * BLOCK, BLOCK);
}

static void damage_costs_its_block(void) {
    for (uint64_t bad = 9; bad < 11; bad++) { /* of the first write, in the middle of its group; of a later one */
        make_neighbours(bad == 9 ? "damage-9" : "damage-10");
        vs_run where = place_of(bad * BLOCK);
        flip(where.segment, where.block * BLOCK + 100);
        check_only_block_fails(bad, &where);
        ground_end();
    }
}

static void a_block_that_cannot_be_read_costs_itself(void) {
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"error-9", "error-10", "end-9", "end-10"};
        uint64_t bad = 9 + (uint64_t)i % 2;
        make_neighbours(names[i]);
        vs_run where = place_of(bad * BLOCK);
        seen.bad_block = (int64_t)where.block;
        seen.bad_ends = i / 2;
        check_only_block_fails(bad, &where);
        vs_fault fault;
        vs_fault_last(&fault);
        CHECK(strstr(fault.text, seen.bad_ends ? "the file ends" : "a read error") != NULL);
        ground_end();
    }
}

static void what_lies_in_a_gap_harms_nobody(void) {
    make_neighbours("gap");
    uint64_t hidden = place_of(9 * BLOCK).block + 1; /* what block 10 was before it was written anew */
    CHECK(place_of(10 * BLOCK).block != hidden);
    seen.bad_block = (int64_t)hidden;
    check_read(0, SIZE);
    forget();
    flip(place_of(9 * BLOCK).segment, hidden * BLOCK);
    check_read(0, SIZE);
    ground_end();
}

/* ---- ends that are not those of blocks ---- */

static void anything_equals_the_model(void) {
    ground_begin("model", ODD_SIZE - 300);
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 150; i++) { /* most are smaller than a block, many lie in one */
            uint64_t offset = draw_below(&g.random, g.size_bytes), length = 1 + draw_below(&g.random, i % 8 ? 3000 : 60000);
            put(offset, length < g.size_bytes - offset ? length : g.size_bytes - offset);
        }
        seal();
    }
    for (uint64_t i = 0; i < 64; i++) put(40 * BLOCK + i * 64, 32); /* in an unsealed segment, more parts of blocks than a round takes */
    look();
    check_read(0, g.size_bytes + 1);
    check_read(40 * BLOCK, BLOCK);
    for (int i = 0; i < 400; i++) {
        uint64_t offset = draw_below(&g.random, g.size_bytes), length = 1 + draw_below(&g.random, i % 4 ? 200000 : 5000);
        seen.nothing_cached = i % 2;
        check_read(offset, length);
    }
    ground_end();
}

/* ---- files ---- */

enum { SEGMENTS = 12, READERS = 4, ROUNDS = 400 };

static void *read_much(void *arg) {
    uint64_t random = (uint64_t)(uintptr_t)arg;
    uint8_t buf[4 * BLOCK];
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t offset = draw_below(&random, BLOCKS - 4) * BLOCK;
        CHECK_EQ(vs_view_read(g.view, offset, buf, sizeof buf), sizeof buf);
        CHECK(memcmp(buf, g.want + offset, sizeof buf) == 0);
    }
    return NULL;
}

/* Two files may stay open and twelve are read by four threads: each finds its file open while it reads. */
static void few_files_are_kept_open(void) {
    pthread_t threads[READERS];
    ground_begin("files", SIZE);
    for (uint64_t k = 0; k < SEGMENTS; k++) {
        for (uint64_t i = k; i < BLOCKS; i += SEGMENTS) put(i * BLOCK, BLOCK);
        seal();
    }
    CHECK_EQ(vs_journal_close(g.journal), 0);
    vs_store was = *g.store;
    real = was;
    forget();
    g.store->files_max = test_files_max;
    g.store->open = test_open;
    g.store->close = test_close;
    g.journal = ground_open(g.store, 0, 0, 0);
    CHECK_EQ(vs_view_open(g.journal, g.volume, 1 + BLOCKS, &g.view), 0);
    seen.open_most = 0;
    for (uintptr_t i = 0; i < READERS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, read_much, (void *)(i + 1)), 0);
    for (int i = 0; i < READERS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK(seen.open_most <= 2 + READERS);
    CHECK(seen.open_most > 0);
    vs_view_close(g.view);
    CHECK_EQ(vs_journal_close(g.journal), 0);
    CHECK_EQ(seen.open, 0);
    *g.store = was;
    vs_store_close(g.store);
    CHECK_EQ(chdir(".."), 0);
}

int main(void) {
    neighbours_are_one_call();
    segments_are_read_apart();
    all_is_asked_for_before_anything_is_waited_for();
    damage_costs_its_block();
    a_block_that_cannot_be_read_costs_itself();
    what_lies_in_a_gap_harms_nobody();
    anything_equals_the_model();
    few_files_are_kept_open();
    return 0;
}
