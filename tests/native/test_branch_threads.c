/* test_branch_threads.c: writers, syncs, readers, a check and freezes of one branch at once. Each writer stamps its own blocks with an ascending
 * counter; whoever reads finds each block whole and never older than before. Meant for the thread sanitizer too. */
#include <pthread.h>
#include <stdatomic.h>

#include "branch_ground.h"

enum { WRITERS = 3, READERS = 2, BLOCK = 4096, BLOCKS = 12, ROUNDS = 120, SIZE = WRITERS * BLOCKS * BLOCK, FREEZES = 6 };

static vs_branch *branch;
static atomic_int writing = WRITERS;
static _Atomic uint64_t answered[WRITERS * BLOCKS]; /* stamp of the last write of each block */
static uint32_t layers[FREEZES + 1] = {1};
static int layer_count = 1;

static void *write_all(void *arg) {
    uint64_t writer = (uintptr_t)arg, stamp = 0, block[BLOCK / 8];
    for (int round = 0; round < ROUNDS; round++)
        for (uint64_t i = 0; i < BLOCKS; i++) {
            uint64_t at = writer * BLOCKS + i;
            stamp++;
            for (size_t k = 0; k < BLOCK / 8; k++) block[k] = stamp;
            CHECK_EQ(vs_branch_write(branch, VOLUME, at * BLOCK, block, BLOCK), BLOCK);
            atomic_store(&answered[at], stamp);
            if (stamp % 7 == 0) CHECK_EQ(vs_branch_sync(branch, VOLUME), 0);
        }
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

static void check_all(uint64_t *bytes) {
    uint64_t before[WRITERS * BLOCKS];
    for (size_t i = 0; i < WRITERS * BLOCKS; i++) before[i] = atomic_load(&answered[i]);
    CHECK_EQ(vs_branch_read(branch, VOLUME, 0, bytes, SIZE), SIZE);
    for (size_t i = 0; i < WRITERS * BLOCKS; i++) {
        const uint64_t *block = bytes + i * BLOCK / 8;
        CHECK(block[0] >= before[i]);
        for (size_t k = 1; k < BLOCK / 8; k++) CHECK_EQ(block[k], block[0]);
    }
}

static void *read_all(void *arg) {
    uint64_t *bytes = malloc(SIZE);
    CHECK(bytes && !arg);
    while (atomic_load(&writing)) check_all(bytes);
    check_all(bytes);
    free(bytes);
    return NULL;
}

static void *look_around(void *arg) {
    vs_run runs[8];
    uint64_t next;
    vs_fault fault;
    vs_branch_facts facts;
    while (atomic_load(&writing)) {
        vs_branch_cursor c = {0};
        CHECK_EQ(vs_branch_check(branch, VOLUME, &c, &fault), 0);
        for (uint64_t at = 0; at < SIZE; at = next) CHECK(vs_branch_runs(branch, VOLUME, at, runs, 8, &next) >= 0 && next > at);
        vs_branch_facts_get(branch, &facts);
        CHECK(facts.used_bytes <= SIZE);
    }
    return arg;
}

/* While it is held nothing changes. */
static void *freeze_now_and_then(void *arg) {
    static uint8_t first[SIZE], second[SIZE];
    while (atomic_load(&writing) && layer_count <= FREEZES) {
        uint32_t next = layers[layer_count - 1] + 1;
        layer_directory(next);
        CHECK_EQ(vs_branch_freeze(branch, next), 0);
        layers[layer_count++] = next;
        CHECK_EQ(vs_branch_read(branch, VOLUME, 0, first, SIZE), SIZE);
        sched_yield();
        CHECK_EQ(vs_branch_read(branch, VOLUME, 0, second, SIZE), SIZE);
        CHECK_EQ(memcmp(first, second, SIZE), 0);
        vs_branch_go_on(branch);
        for (int i = 0; i < 50 && atomic_load(&writing); i++) CHECK_EQ(vs_branch_sync(branch, 0), 0);
    }
    return arg;
}

int main(void) {
    branch_ground g;
    pthread_t threads[WRITERS + READERS + 2];
    int n = 0;
    uint64_t *bytes = malloc(SIZE);
    CHECK(bytes);
    branch_ground_begin(&g, SIZE, NULL, 0);
    layer_directory(1);
    branch = branch_ground_get(&g, 0, layers, 1);
    for (uintptr_t i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&threads[n++], NULL, write_all, (void *)i), 0);
    for (int i = 0; i < READERS; i++) CHECK_EQ(pthread_create(&threads[n++], NULL, read_all, NULL), 0);
    CHECK_EQ(pthread_create(&threads[n++], NULL, look_around, NULL), 0);
    CHECK_EQ(pthread_create(&threads[n++], NULL, freeze_now_and_then, NULL), 0);
    for (int i = 0; i < n; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK(layer_count > 1);
    CHECK_EQ(vs_branch_close(branch), 0);
    branch = branch_ground_get(&g, 0, layers, layer_count);
    check_all(bytes);
    CHECK_EQ(vs_branch_close(branch), 0);
    branch_ground_end(&g);
    free(bytes);
    return 0;
}
