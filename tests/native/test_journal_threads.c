/* test_journal_threads.c: writers, a marker that also seals, a merger and readers at once. Each writer stamps its own blocks in ascending
 * order with an ascending counter; at any point a view must show, of each writer, the writes up to one and none after it. Meant for the
 * thread sanitizer too. */
#include <pthread.h>
#include <stdatomic.h>

#include "journal_ground.h"

enum { WRITERS = 4, BLOCKS = 16, ROUNDS = 60, SIZE = WRITERS * BLOCKS * VS_BLOCK };

static vs_journal *journal;
static uint32_t volume;
static atomic_int writing = WRITERS;
static _Atomic uint64_t marked;

static void *write_all(void *arg) {
    uint64_t writer = (uintptr_t)arg, stamp = 0;
    uint64_t block[VS_BLOCK / 8];
    for (int round = 0; round < ROUNDS; round++)
        for (uint64_t i = 0; i < BLOCKS; i++) {
            stamp++;
            for (size_t k = 0; k < VS_BLOCK / 8; k++) block[k] = stamp;
            CHECK_EQ(vs_journal_write(journal, volume, (writer * BLOCKS + i) * VS_BLOCK, block, VS_BLOCK, NULL, NULL), 0);
            if (i % 5 == 0) CHECK_EQ(vs_journal_commit(journal), 0);
        }
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

/* Stamps of a writer's blocks in a snapshot: some prefix of its ascending writes. */
static void check_prefix(const uint8_t *bytes) {
    uint64_t newest = 0;
    uint64_t stamps[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        const uint64_t *block = (const uint64_t *)(const void *)(bytes + (size_t)i * VS_BLOCK);
        stamps[i] = block[0];
        for (size_t k = 1; k < VS_BLOCK / 8; k++) CHECK_EQ(block[k], block[0]);
        if (stamps[i] > newest) newest = stamps[i];
    }
    for (uint64_t i = 0; i < BLOCKS; i++) { /* the last stamp <= newest that block i got: i + 1 + n * BLOCKS */
        uint64_t want = newest > i ? (newest - i - 1) / BLOCKS * BLOCKS + i + 1 : 0;
        CHECK_EQ(stamps[i], want);
    }
}

static void check_point(vs_journal *j, uint64_t seqno) {
    uint8_t *bytes = malloc(SIZE);
    vs_view *v;
    CHECK_EQ(vs_view_open(j, volume, seqno, &v), 0);
    CHECK_EQ(vs_view_read(v, 0, bytes, SIZE), SIZE);
    for (int w = 0; w < WRITERS; w++) check_prefix(bytes + (size_t)w * BLOCKS * VS_BLOCK);
    vs_volume_state state;
    CHECK_EQ(vs_view_stat(v, &state), 0);
    CHECK_EQ(state.size_bytes, SIZE);
    vs_view_close(v);
    free(bytes);
}

/* Walks what changed up to a point, while segments below it are sealed and their maps merged. */
static void walk_changes(vs_journal *j, uint64_t since, uint64_t seqno) {
    vs_view *v;
    vs_run runs[16];
    CHECK_EQ(vs_view_open_changes(j, volume, since, seqno, &v), 0);
    for (uint64_t at = 0, next; at < SIZE; at = next) CHECK(vs_view_runs(v, at, 1, runs, 16, &next) > 0 && next > at);
    vs_view_close(v);
}

/* Reads the volume as it is: each block whole, of one write. */
static void read_live(void) {
    uint64_t block[VS_BLOCK / 8];
    for (uint64_t i = 0; i < WRITERS * BLOCKS; i++) {
        CHECK_EQ(vs_journal_read_live(journal, volume, i * VS_BLOCK, block, VS_BLOCK), VS_BLOCK);
        for (size_t k = 1; k < VS_BLOCK / 8; k++) CHECK_EQ(block[k], block[0]);
    }
}

static void *mark_and_merge(void *arg) {
    (void)arg;
    for (int round = 1; atomic_load(&writing); round++) {
        uint64_t seqno;
        ground_mark(journal, &seqno);
        atomic_store(&marked, seqno);
        if (round % 8 == 0) CHECK_EQ(vs_journal_seal(journal), 0);
        CHECK(vs_journal_merge_maps(journal) >= 0);
    }
    return NULL;
}

static void *read_points(void *arg) {
    uint64_t random = (uintptr_t)arg;
    while (atomic_load(&writing)) {
        uint64_t last = atomic_load(&marked);
        uint64_t point = last ? last / 2 + draw_below(&random, last - last / 2) + 1 : 0;
        if (point) check_point(journal, point);
        if (point > 1) walk_changes(journal, point / 2, point);
        read_live();
    }
    return NULL;
}

static void *follow(void *arg) {
    vs_journal *reader = ground_open(arg, 0, 0, 0);
    vs_journal_facts facts;
    while (atomic_load(&writing)) {
        CHECK(vs_journal_refresh(reader) >= 0);
        vs_journal_facts_get(reader, &facts);
        check_point(reader, facts.committed_seqno);
    }
    CHECK_EQ(vs_journal_close(reader), 0);
    return NULL;
}

int main(void) {
    pthread_t threads[WRITERS + 4];
    uint64_t seqno;
    vs_store *s = ground_make();
    journal = ground_open(s, 1, 512 << 10, 64 << 10);
    volume = ground_volume(journal, SIZE);
    int primary = ground_primary("primary/1.img", SIZE);
    CHECK_EQ(vs_journal_attach_primary(journal, volume, primary), 0);
    ground_mark(journal, &seqno);
    for (uintptr_t i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, write_all, (void *)i), 0);
    CHECK_EQ(pthread_create(&threads[WRITERS], NULL, mark_and_merge, NULL), 0);
    CHECK_EQ(pthread_create(&threads[WRITERS + 1], NULL, read_points, (void *)(uintptr_t)11), 0);
    CHECK_EQ(pthread_create(&threads[WRITERS + 2], NULL, read_points, (void *)(uintptr_t)12), 0);
    CHECK_EQ(pthread_create(&threads[WRITERS + 3], NULL, follow, s), 0);
    for (int i = 0; i < WRITERS + 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    ground_mark(journal, &seqno);
    check_point(journal, seqno);
    vs_journal_facts facts;
    vs_journal_facts_get(journal, &facts);
    CHECK(facts.commits < facts.commit_waits + facts.segments + 64); /* commits are shared, not one a call */
    CHECK_EQ(vs_journal_close(journal), 0);
    vs_store_close(s);
    close(primary);
    return 0;
}
