/* test_journal.c: the journal against a plain array of bytes, through reopening, sealing, merging; then with memory running out. */
#include "faults.h"
#include "journal_ground.h"

enum { BLOCK = 4096, TORN_BLOCKS = 8, SIZE = 300000, STEPS = 250, MARKS = 24, SEEDS = 12 };

typedef struct world {
    vs_store *store;
    vs_journal *journal;
    uint64_t random, segment_bytes, marks[MARKS];
    uint32_t volume;
    int primary, mark_count;
    uint8_t now[SIZE], then[MARKS][SIZE];
} world;

static void reopen(world *w) {
    CHECK_EQ(vs_journal_close(w->journal), 0);
    w->journal = ground_open(w->store, 1, w->segment_bytes, 64 << 10);
    CHECK_EQ(vs_journal_attach_primary(w->journal, w->volume, w->primary), 0);
}

static void write_some(world *w) {
    static uint8_t buf[60000];
    uint64_t offset = draw_below(&w->random, SIZE), length = 1 + draw_below(&w->random, sizeof buf);
    if (length > SIZE - offset) length = SIZE - offset;
    for (uint64_t i = 0; i < length; i++) buf[i] = (uint8_t)draw(&w->random);
    if (draw_below(&w->random, 3) == 0) memset(buf + length / 4, 0, length / 2);
    CHECK_EQ(vs_journal_write(w->journal, w->volume, offset, buf, length, NULL, NULL), 0);
    memcpy(w->now + offset, buf, length);
}

static void zero_some(world *w) {
    uint64_t offset = draw_below(&w->random, SIZE), length = 1 + draw_below(&w->random, SIZE - offset);
    CHECK_EQ(vs_journal_zero(w->journal, w->volume, offset, length, NULL, NULL), 0);
    memset(w->now + offset, 0, length);
}

static void read_some_live(world *w) {
    static uint8_t buf[SIZE];
    uint64_t offset = draw_below(&w->random, SIZE), length = 1 + draw_below(&w->random, SIZE);
    int64_t n = vs_journal_read_live(w->journal, w->volume, offset, buf, length);
    CHECK_EQ(n, length < SIZE - offset ? length : SIZE - offset);
    CHECK(memcmp(buf, w->now + offset, (size_t)n) == 0);
}

static void mark(world *w) {
    if (w->mark_count == MARKS) return;
    ground_mark(w->journal, &w->marks[w->mark_count]);
    memcpy(w->then[w->mark_count++], w->now, SIZE);
}

static void step(world *w) {
    switch (draw_below(&w->random, 20)) {
    case 0: reopen(w); break;
    case 1: CHECK_EQ(vs_journal_seal(w->journal), 0); break;
    case 2: while (vs_journal_merge_maps(w->journal) > 0) {} break;
    case 3: case 4: mark(w); break;
    case 5: case 6: zero_some(w); break;
    case 7: case 8: read_some_live(w); break;
    default: write_some(w);
    }
}

static void check_view(vs_journal *j, uint32_t volume, uint64_t seqno, const uint8_t *want) {
    static uint8_t buf[SIZE];
    vs_view *v;
    vs_volume_state state;
    vs_run run;
    uint64_t data_bytes = 0;
    CHECK_EQ(vs_view_open(j, volume, seqno, &v), 0);
    CHECK_EQ(vs_view_read(v, 0, buf, SIZE), SIZE);
    CHECK(memcmp(buf, want, SIZE) == 0);
    CHECK_EQ(vs_view_read(v, SIZE, buf, 1), 0);
    for (uint64_t at = 0; vs_view_run(v, at, &run); at += run.length_bytes)
        if (run.kind == VS_RUN_DATA) data_bytes += run.length_bytes;
    CHECK_EQ(vs_view_stat(v, &state), 0);
    CHECK_EQ(state.data_bytes, data_bytes);
    vs_view_close(v);
}

static void check_changes(world *w, int a, int b) {
    vs_view *v;
    vs_run run;
    CHECK_EQ(vs_view_open_changes(w->journal, w->volume, w->marks[a], w->marks[b], &v), 0);
    for (uint64_t at = 0; vs_view_run(v, at, &run); at += run.length_bytes)
        if (run.kind == VS_RUN_HOLE) CHECK(memcmp(w->then[a] + at, w->then[b] + at, run.length_bytes) == 0);
    vs_view_close(v);
}

static uint64_t first_of(vs_journal *j, uint64_t index) {
    vs_segment_facts s = {0};
    vs_journal_segment_at(j, index, &s);
    return s.first_seqno;
}

static void check_sound(vs_journal *j) {
    vs_journal_facts facts;
    vs_fault fault;
    char name[64];
    vs_journal_facts_get(j, &facts);
    for (uint64_t i = 0, at = 0; i < facts.segments; i++) CHECK_EQ(vs_journal_check_segment(j, first_of(j, i), 1, &at, &fault), 0);
    for (uint64_t i = 0; vs_journal_check_map(j, i, &fault, name) != -ENOENT; i++) CHECK_EQ(vs_journal_check_map(j, i, &fault, name), 0);
}

static void check_primary(world *w) {
    static uint8_t buf[SIZE];
    CHECK_EQ(vs_journal_commit(w->journal), 0);
    CHECK_EQ(pread(w->primary, buf, SIZE, 0), SIZE);
    CHECK(memcmp(buf, w->now, SIZE) == 0);
}

static void world_begin(world *w, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->random = seed;
    w->segment_bytes = seed % 2 ? 128 << 10 : 1 << 20;
    w->store = ground_make();
    w->journal = ground_open(w->store, 1, w->segment_bytes, 64 << 10);
    w->volume = ground_volume(w->journal, SIZE);
    w->primary = ground_primary("primary/1.img", SIZE);
    CHECK_EQ(vs_journal_attach_primary(w->journal, w->volume, w->primary), 0);
}

static void world_end(world *w) {
    vs_journal_close(w->journal);
    vs_store_close(w->store);
    close(w->primary);
}

static void in_own_directory(uint64_t seed) {
    char name[32];
    snprintf(name, sizeof name, "seed%d", (int)seed);
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
}

static void equals_model(uint64_t seed) {
    static world w;
    in_own_directory(seed);
    world_begin(&w, seed);
    for (int i = 0; i < STEPS; i++) step(&w);
    mark(&w);
    check_primary(&w);
    vs_journal *reader = ground_open(w.store, 0, 0, 0);
    for (int i = 0; i < w.mark_count; i++) {
        check_view(w.journal, w.volume, w.marks[i], w.then[i]);
        check_view(reader, w.volume, w.marks[i], w.then[i]);
    }
    for (int i = 1; i < w.mark_count; i++) check_changes(&w, (int)draw_below(&w.random, (uint64_t)i), i);
    check_sound(w.journal);
    CHECK_EQ(vs_journal_write(reader, w.volume, 0, "x", 1, NULL, NULL), -EROFS);
    CHECK_EQ(vs_journal_close(reader), 0);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* Whichever allocation fails, the call says so, nothing leaks or is read wrong, and what was marked before opens again. */
static void survives_no_memory(void) {
    static world w;
    in_own_directory(1000);
    world_begin(&w, 77);
    for (int i = 0; i < 60; i++) step(&w);
    mark(&w);
    int marks = w.mark_count;
    for (long good = 0;; good++) {
        vs_view *v = NULL;
        faults_fail_allocations(good);
        int r = vs_view_open(w.journal, w.volume, w.marks[marks - 1], &v);
        int failed = faults_allocation_failed();
        faults_fail_allocations(-1);
        if (r == 0) vs_view_close(v);
        CHECK(r == 0 || failed);
        if (!failed) break;
    }
    for (long good = 0; good < 40; good++) {
        uint8_t bytes[5000];
        memset(bytes, (int)good + 1, sizeof bytes);
        faults_fail_allocations(good % 8);
        int r = vs_journal_write(w.journal, w.volume, 0, bytes, sizeof bytes, NULL, NULL);
        int c = vs_journal_commit(w.journal);
        int failed = faults_allocation_failed();
        faults_fail_allocations(-1);
        CHECK(failed || (r == 0 && c == 0));
        if (r < 0 || c < 0) {
            vs_journal_close(w.journal);
            w.journal = ground_open(w.store, 1, w.segment_bytes, 64 << 10);
            CHECK_EQ(vs_journal_attach_primary(w.journal, w.volume, w.primary), 0);
        }
    }
    for (int i = 0; i < marks; i++) check_view(w.journal, w.volume, w.marks[i], w.then[i]);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* The first segment as a crash leaves it that came before the last block of its second batch's payload. */
static void tear_payload(void) {
    static const uint8_t other[BLOCK] = {1};
    int file = open("journal/00000000000000000001.seg", O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pwrite(file, other, BLOCK, (3 + TORN_BLOCKS - 1) * BLOCK), BLOCK); /* behind header and two descriptors */
    CHECK_EQ(ftruncate(file, (3 + TORN_BLOCKS) * BLOCK), 0);
    CHECK_EQ(close(file), 0);
}

/* A batch whose payload is torn is taken out whole: the footer of its segment says nothing of it, wherever the next ones begin. */
static void a_torn_batch_leaves_nothing(void) {
    static uint8_t bytes[TORN_BLOCKS * BLOCK];
    vs_journal_facts facts;
    memset(bytes, 7, sizeof bytes);
    in_own_directory(3000);
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 0, 0);
    uint32_t v = ground_volume(j, SIZE);
    CHECK_EQ(vs_journal_commit(j), 0);
    uint64_t last = (vs_journal_facts_get(j, &facts), facts.committed_seqno);
    CHECK_EQ(vs_journal_write(j, v, 0, bytes, sizeof bytes, NULL, NULL), 0);
    CHECK_EQ(vs_journal_close(j), 0);
    tear_payload();
    j = ground_open(s, 1, 0, 0);
    vs_journal_facts_get(j, &facts);
    CHECK_EQ(facts.committed_seqno, last);
    for (int i = 0; i < 3; i++) { /* descriptors where there was payload */
        CHECK_EQ(vs_journal_write(j, v, 0, bytes, BLOCK, NULL, NULL), 0);
        CHECK_EQ(vs_journal_commit(j), 0);
    }
    CHECK_EQ(vs_journal_seal(j), 0);
    check_sound(j);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
    CHECK_EQ(chdir(".."), 0);
}

static void limits(void) {
    in_own_directory(2000);
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 0, 0);
    uint32_t v = ground_volume(j, SIZE);
    vs_view *view;
    static uint8_t large[VS_WRITE_MAX + 1];
    CHECK_EQ(vs_journal_write(j, v, SIZE, "x", 1, NULL, NULL), -EINVAL);
    CHECK_EQ(vs_journal_write(j, v, UINT64_MAX, "x", 1, NULL, NULL), -EINVAL);
    CHECK_EQ(vs_journal_write(j, v, 0, large, sizeof large, NULL, NULL), -EINVAL);
    CHECK_EQ(vs_journal_write(j, v, 0, "x", 0, NULL, NULL), -EINVAL);
    CHECK_EQ(vs_journal_write(j, v + 1, 0, "x", 1, NULL, NULL), -ENOENT);
    CHECK_EQ(vs_journal_zero(j, v, 1, UINT64_MAX, NULL, NULL), -EINVAL);
    CHECK_EQ(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 99, 0, "", 0, NULL, NULL), -ERANGE);
    CHECK_EQ(vs_journal_event(j, VS_RECORD_WRITE, v, 0, 1, "", 0, NULL, NULL), -EINVAL);
    CHECK_EQ(vs_view_open(j, v, 2, &view), -ERANGE);
    CHECK_EQ(vs_view_open(j, v, 0, &view), -ERANGE);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
    CHECK_EQ(chdir(".."), 0);
}

int main(void) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) equals_model(seed);
    survives_no_memory();
    a_torn_batch_leaves_nothing();
    limits();
    return 0;
}
