/* test_hold.c: writes stand still while a journal is held, for a bounded time, and positions that are told at one instant are one cut.
 *
 * Writers of two journals stamp a counter to the one, then to the other; at any position that both tell while both are held, the second is
 * behind the first by one at most. Meant for the thread sanitizer too.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "hold.h"
#include "journal_ground.h"
#include "journal_internal.h"

enum { WRITERS = 3, TURN_WRITERS = 8, CUTS = 40, SIZE = WRITERS * VS_BLOCK, LONG_MS = VS_HOLD_MS_MAX, SHORT_MS = 50 };

typedef struct site {
    vs_store *store;
    vs_journal *journal;
    uint32_t volume;
    int primary;
} site;

static site sites[2];
static atomic_int over, broken;
static vs_store below;

static int sync_or_fail(vs_store *s, int file) {
    return atomic_load(&broken) && file != sites[0].primary ? -EIO : below.sync(s, file);
}

static void pause_ms(long milliseconds) {
    struct timespec t = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    while (nanosleep(&t, &t) == -1) continue;
}

static void site_open(site *c, const char *name, int available) {
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
    vs_journal_options o = {.owner = 1, .available = available, .segment_bytes = 1 << 20, .batch_bytes = 64 << 10};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    c->store = ground_make();
    below = *c->store;
    c->store->sync = sync_or_fail;
    CHECK_EQ(vs_journal_open(c->store, &o, &c->journal), 0);
    c->volume = ground_volume(c->journal, SIZE);
    CHECK_EQ(vs_journal_commit(c->journal), 0);
    c->primary = ground_primary("primary/1.img", SIZE);
    CHECK_EQ(vs_journal_attach_primary(c->journal, c->volume, c->primary), 0);
    CHECK_EQ(chdir(".."), 0);
}

static void site_close(site *c) {
    CHECK_EQ(vs_journal_close(c->journal), 0);
    vs_store_close(c->store);
    close(c->primary);
}

static void stamp(site *c, uint64_t writer, uint64_t count) {
    uint64_t block[VS_BLOCK / 8] = {count};
    CHECK_EQ(vs_journal_write(c->journal, c->volume, writer * VS_BLOCK, block, VS_BLOCK, NULL, NULL), 0);
}

static uint64_t stamped(site *c, uint64_t writer, uint64_t seqno) {
    uint64_t count;
    vs_view *v;
    CHECK_EQ(vs_view_open(c->journal, c->volume, seqno, &v), 0);
    CHECK_EQ(vs_view_read(v, writer * VS_BLOCK, &count, sizeof count), sizeof count);
    vs_view_close(v);
    return count;
}

/* ---- one cut over two ---- */

static void *write_both(void *arg) {
    uint64_t writer = (uintptr_t)arg;
    for (uint64_t count = 1; !atomic_load(&over); count++)
        for (int i = 0; i < 2; i++) {
            stamp(&sites[i], writer, count);
            if (writer == 0) CHECK_EQ(vs_journal_commit(sites[i].journal), 0);
        }
    return NULL;
}

static void cut_check(uint64_t first_seqno, uint64_t second_seqno) {
    for (uint64_t w = 0; w < WRITERS; w++) {
        uint64_t a = stamped(&sites[0], w, first_seqno), b = stamped(&sites[1], w, second_seqno);
        CHECK(a == b || a == b + 1);
    }
}

static void test_cut(void) {
    pthread_t threads[WRITERS];
    vs_hold_position at[2];
    uint64_t before = 0, moved = 0;
    for (int i = 0; i < 2; i++) site_open(&sites[i], i ? "b" : "a", 0);
    for (uintptr_t w = 0; w < WRITERS; w++) CHECK_EQ(pthread_create(&threads[w], NULL, write_both, (void *)w), 0);
    for (int n = 0; n < CUTS; n++) {
        int first = n % 2; /* in either order */
        CHECK_EQ(vs_journal_hold(sites[first].journal, LONG_MS, &at[first]), 0);
        if (n % 4 == 0) pause_ms(1);
        CHECK_EQ(vs_journal_hold(sites[!first].journal, LONG_MS, &at[!first]), 0);
        for (int i = 0; i < 2; i++) CHECK_EQ(vs_journal_let_go(sites[i].journal, at[i].hold), 0);
        for (int i = 0; i < 2; i++) CHECK_EQ(vs_journal_commit(sites[i].journal), 0);
        cut_check(at[0].seqno, at[1].seqno);
        moved += at[0].seqno > before;
        before = at[0].seqno;
    }
    CHECK(moved > CUTS / 2); /* or nobody wrote, and nothing was shown */
    atomic_store(&over, 1);
    for (int w = 0; w < WRITERS; w++) CHECK_EQ(pthread_join(threads[w], NULL), 0);
    for (int i = 0; i < 2; i++) site_close(&sites[i]);
}

/* ---- one journal ---- */

static atomic_int written;

/* Until so many writes wait. */
static void await_waiting(uint64_t count) {
    vs_journal *j = sites[0].journal;
    for (uint64_t found = UINT64_MAX; found != count; pause_ms(1)) {
        pthread_mutex_lock(&j->mu);
        found = j->holds.waiting;
        pthread_mutex_unlock(&j->mu);
    }
}

static void *write_one(void *arg) {
    stamp(&sites[0], 0, (uintptr_t)arg);
    atomic_fetch_add(&written, 1);
    return NULL;
}

static void *hold_too(void *arg) {
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, arg), 0);
    return NULL;
}

static uint64_t last_seqno(void) {
    vs_journal_facts facts;
    vs_journal_facts_get(sites[0].journal, &facts);
    return facts.last_seqno;
}

/* While it is held: no write goes on, but reads, commits and events do. */
static void test_what_waits(void) {
    pthread_t writer;
    vs_hold_position at, again;
    uint64_t count, seqno;
    stamp(&sites[0], 0, 7);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), 0);
    CHECK_EQ(at.seqno, last_seqno());
    atomic_store(&written, 0);
    CHECK_EQ(pthread_create(&writer, NULL, write_one, (void *)8), 0);
    await_waiting(1);
    CHECK_EQ(atomic_load(&written), 0);
    CHECK_EQ(last_seqno(), at.seqno);
    CHECK_EQ(vs_journal_read_live(sites[0].journal, sites[0].volume, 0, &count, sizeof count), sizeof count);
    CHECK_EQ(count, 7);
    ground_mark(sites[0].journal, &seqno);
    CHECK_EQ(seqno, at.seqno + 1);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold + 1), -ETIMEDOUT); /* another's */
    CHECK_EQ(atomic_load(&written), 0);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), 0);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), -ETIMEDOUT);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &again), 0);
    CHECK(again.hold != at.hold && again.seqno == seqno + 1 && again.time_ns > at.time_ns);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, again.hold), 0);
    CHECK_EQ(stamped(&sites[0], 0, at.seqno), 7);
}

/* Nobody lets go. */
static void test_timer(void) {
    vs_hold_position at;
    CHECK_EQ(vs_journal_hold(sites[0].journal, SHORT_MS, &at), 0);
    stamp(&sites[0], 0, 9); /* waits for the end of it */
    CHECK_EQ(last_seqno(), at.seqno + 1);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), -ETIMEDOUT);
    CHECK_EQ(vs_journal_hold(sites[0].journal, SHORT_MS, &at), 0);
    pause_ms(2 * SHORT_MS); /* also when nobody was kept waiting */
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), -ETIMEDOUT);
    CHECK_EQ(vs_journal_hold(sites[0].journal, VS_HOLD_MS_MAX + 1, &at), -EINVAL);
}

/* Two that hold one journal take turns, and all writers that waited for the first go before the second. */
static void test_turns(void) {
    pthread_t writers[TURN_WRITERS], other;
    vs_hold_position first, second;
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &first), 0);
    CHECK_EQ(vs_journal_hold(sites[0].journal, SHORT_MS, &second), -EBUSY);
    CHECK_EQ(pthread_create(&other, NULL, hold_too, &second), 0);
    for (uintptr_t i = 0; i < TURN_WRITERS; i++) CHECK_EQ(pthread_create(&writers[i], NULL, write_one, (void *)(10 + i)), 0);
    await_waiting(TURN_WRITERS);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, first.hold), 0);
    CHECK_EQ(pthread_join(other, NULL), 0);
    CHECK_EQ(second.seqno, first.seqno + TURN_WRITERS);
    for (int i = 0; i < TURN_WRITERS; i++) CHECK_EQ(pthread_join(writers[i], NULL), 0);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, second.hold), 0);
}

/* The journal fails while it is held: writes go on without it, at once, and the hold is worth nothing. */
static void test_failure(void) {
    vs_hold_position at;
    stamp(&sites[0], 0, 11);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), 0);
    atomic_store(&broken, 1);
    CHECK(vs_journal_commit(sites[0].journal) < 0);
    stamp(&sites[0], 0, 12);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), -ETIMEDOUT);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), -EIO);
    atomic_store(&broken, 0);
    CHECK_EQ(vs_journal_revive(sites[0].journal, 0), 1);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), -EIO); /* the gap is not closed */
    for (uint64_t offset, length, changed; vs_journal_next_changed(sites[0].journal, sites[0].volume, 0, &offset, &length);)
        CHECK_EQ(vs_journal_resync(sites[0].journal, sites[0].volume, offset, length, &changed), 0);
    CHECK_EQ(vs_journal_gap_close(sites[0].journal), 0);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), 0);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), 0);
}

/* The owner is about to close. */
static void test_end(void) {
    pthread_t writer;
    vs_hold_position at;
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), 0);
    CHECK_EQ(pthread_create(&writer, NULL, write_one, (void *)13), 0);
    await_waiting(1);
    vs_journal_holds_end(sites[0].journal);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK_EQ(vs_journal_let_go(sites[0].journal, at.hold), -ETIMEDOUT);
    CHECK_EQ(vs_journal_hold(sites[0].journal, LONG_MS, &at), -ECANCELED);
}

int main(void) {
    test_cut();
    site_open(&sites[0], "one", 1);
    test_what_waits();
    test_timer();
    test_turns();
    test_failure();
    test_end();
    site_close(&sites[0]);
    return 0;
}
