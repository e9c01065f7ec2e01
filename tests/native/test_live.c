/* test_live.c: what a live volume promises: its durable requests reach the medium, and its reads see what is on its way there. */
#include <pthread.h>

#include "journal_ground.h"

enum { SIZE = 16 * VS_BLOCK };

static uint8_t block[VS_BLOCK];

static vs_journal_facts facts_of(vs_journal *j) {
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    return facts;
}

/* ---- durable requests ---- */

static void check_durable(vs_journal *j, vs_volume_file *live) {
    CHECK_EQ(live->write(live, 0, block, VS_BLOCK, 0, NULL), VS_BLOCK);
    CHECK_EQ(facts_of(j).pending, 1);
    CHECK_EQ(live->sync(live), 0);
    CHECK_EQ(facts_of(j).pending, 0);
    CHECK_EQ(live->write(live, VS_BLOCK, block, VS_BLOCK, 1, NULL), VS_BLOCK);
    CHECK_EQ(facts_of(j).pending, 0);
    CHECK_EQ(facts_of(j).applied_seqno, facts_of(j).last_seqno);
}

/* ---- a batch that is being written ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static int closed, waiting;
static int (*sync_below)(vs_store *s, int file);

static int sync_at_gate(vs_store *s, int file) {
    pthread_mutex_lock(&gate);
    waiting = closed;
    pthread_cond_broadcast(&moved);
    while (closed) pthread_cond_wait(&moved, &gate);
    pthread_mutex_unlock(&gate);
    return sync_below(s, file);
}

static void gate_set(int shut) {
    pthread_mutex_lock(&gate);
    closed = shut;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&gate);
}

static void *commit(void *arg) {
    CHECK_EQ(vs_journal_commit(arg), 0);
    return NULL;
}

/* Its primary does not have it yet, and it is not in the batch that is being filled. */
static void check_read_under_way(vs_journal *j, vs_volume_file *live) {
    uint8_t found[VS_BLOCK];
    pthread_t committer;
    memset(block, 0x5b, sizeof block);
    CHECK_EQ(live->write(live, 2 * VS_BLOCK, block, VS_BLOCK, 0, NULL), VS_BLOCK);
    gate_set(1);
    CHECK_EQ(pthread_create(&committer, NULL, commit, j), 0);
    pthread_mutex_lock(&gate);
    while (!waiting) pthread_cond_wait(&moved, &gate);
    pthread_mutex_unlock(&gate);
    CHECK_EQ(live->read(live, 2 * VS_BLOCK, found, VS_BLOCK), VS_BLOCK);
    CHECK(memcmp(found, block, VS_BLOCK) == 0);
    gate_set(0);
    CHECK_EQ(pthread_join(committer, NULL), 0);
}

int main(void) {
    vs_store *s = ground_make();
    vs_volume_file *live;
    memset(block, 0x31, sizeof block);
    vs_journal *j = ground_open(s, 1, 0, 0);
    uint32_t volume = ground_volume(j, SIZE);
    int primary = ground_primary("primary/1.img", SIZE);
    CHECK_EQ(vs_journal_commit(j), 0);
    CHECK_EQ(vs_journal_attach_primary(j, volume, primary), 0);
    CHECK_EQ(vs_live_file(j, volume, &live), 0);
    check_durable(j, live);
    sync_below = s->sync;
    s->sync = sync_at_gate;
    check_read_under_way(j, live);
    live->release(live);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
    close(primary);
    return 0;
}
