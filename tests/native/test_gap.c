/* test_gap.c: a journal that fails or is full does not fail the application, and what it then lacks is found again.
 *
 * The store below can be told that the disk is full, that syncs of segments fail, or that nothing in the repository can be written any more.
 * Primaries stay as they are.
 */
#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "journal_ground.h"

enum { SIZE = 4 << 20, RESERVE = 1 << 20, WRITERS = 3, ROUNDS = 12 };

typedef struct scene {
    vs_store *store;
    vs_journal *journal;
    uint32_t volume;
    int primary;
} scene;

static vs_store below;
static atomic_int full, unknown, broken, dead, primary_file, primary_syncs;

static int64_t free_bytes(vs_store *s) {
    (void)s;
    return atomic_load(&unknown) ? -EIO : atomic_load(&full) ? 0 : INT64_MAX;
}

static int sync_or_fail(vs_store *s, int file) {
    if (file == atomic_load(&primary_file)) atomic_fetch_add(&primary_syncs, 1);
    return file != atomic_load(&primary_file) && atomic_load(&broken) ? -EIO : below.sync(s, file);
}

static int write_or_fail(vs_store *s, int file, uint64_t at, const struct iovec *parts, int count) {
    return file != atomic_load(&primary_file) && atomic_load(&dead) ? -EIO : below.write(s, file, at, parts, count);
}

static vs_store *store_make(void) {
    vs_store *s = ground_make();
    below = *s;
    s->free_bytes = free_bytes;
    s->sync = sync_or_fail;
    s->write = write_or_fail;
    return s;
}

static void scene_open(scene *c, uint64_t segment_bytes) {
    vs_journal_options o = {.owner = 1, .available = 1, .reserve_bytes = RESERVE, .segment_bytes = segment_bytes, .batch_bytes = 256 << 10};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    CHECK_EQ(vs_journal_open(c->store, &o, &c->journal), 0);
}

static void scene_attach(scene *c) {
    atomic_store(&primary_file, c->primary);
    CHECK_EQ(vs_journal_attach_primary(c->journal, c->volume, c->primary), 0);
}

static scene scene_begin(const char *name) {
    scene c = {0};
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
    c.store = store_make();
    scene_open(&c, 64 << 10);
    c.volume = ground_volume(c.journal, SIZE);
    CHECK_EQ(vs_journal_commit(c.journal), 0);
    c.primary = ground_primary("primary/1.img", SIZE);
    scene_attach(&c);
    return c;
}

static void scene_end(scene *c) {
    CHECK_EQ(vs_journal_close(c->journal), 0);
    vs_store_close(c->store);
    close(c->primary);
    CHECK_EQ(chdir(".."), 0);
}

/* As a kill -9 does it: the files stay as they are, nothing is written any more. */
static void scene_die(scene *c, uint64_t segment_bytes) {
    vs_store *dying = c->store;
    int here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(vs_store_posix(here, &c->store), 0);
    dying->write = NULL; /* the journal that was open is left as it is, like the memory of a dead process */
    c->store->free_bytes = free_bytes;
    c->store->sync = sync_or_fail;
    c->store->write = write_or_fail;
    scene_open(c, segment_bytes);
}

static vs_journal_facts facts_of(const scene *c) {
    vs_journal_facts facts;
    vs_journal_facts_get(c->journal, &facts);
    return facts;
}

static void put(const scene *c, uint64_t at, uint8_t byte) {
    static _Thread_local uint8_t block[VS_BLOCK];
    memset(block, byte, sizeof block);
    CHECK_EQ(vs_journal_write(c->journal, c->volume, at, block, sizeof block, NULL, NULL), 0);
}

static void check_at(const scene *c, uint64_t seqno, uint64_t at, uint8_t byte) {
    uint8_t block[VS_BLOCK];
    vs_view *v;
    CHECK_EQ(vs_view_open(c->journal, c->volume, seqno, &v), 0);
    CHECK_EQ(vs_view_read(v, at, block, sizeof block), VS_BLOCK);
    CHECK_EQ(block[0], byte);
    CHECK_EQ(block[VS_BLOCK - 1], byte);
    vs_view_close(v);
}

static void check_live(const scene *c, uint64_t at, uint8_t byte) {
    uint8_t block[VS_BLOCK];
    CHECK_EQ(vs_journal_read_live(c->journal, c->volume, at, block, sizeof block), VS_BLOCK);
    CHECK_EQ(block[0], byte);
    CHECK_EQ(pread(c->primary, block, sizeof block, (off_t)at), VS_BLOCK);
    CHECK_EQ(block[0], byte);
}

static void sync_volume(const scene *c) {
    vs_volume_file *live;
    CHECK_EQ(vs_live_file(c->journal, c->volume, &live), 0);
    CHECK_EQ(live->sync(live), 0);
    live->release(live);
}

/* Returns the bytes that differed. */
static uint64_t catch_up(const scene *c) {
    uint64_t all = 0;
    int closed;
    do { /* again where a write was on its way when the journal was taken up */
        for (uint64_t at = 0, length, changed; vs_journal_next_changed(c->journal, c->volume, at, &at, &length); at += length) {
            CHECK_EQ(vs_journal_resync(c->journal, c->volume, at, length, &changed), 0);
            all += changed;
        }
        closed = vs_journal_gap_close(c->journal);
    } while (closed == -EAGAIN);
    CHECK_EQ(closed, 0);
    CHECK_EQ(facts_of(c).gap, 0);
    CHECK_EQ(facts_of(c).changed_bytes, 0);
    return all;
}

/* The newest state of the journal is what the primary holds. */
static void check_equal(const scene *c) {
    static uint8_t want[SIZE], got[SIZE];
    vs_view *v;
    CHECK_EQ(vs_journal_commit(c->journal), 0);
    CHECK_EQ(vs_view_open(c->journal, c->volume, facts_of(c).committed_seqno, &v), 0);
    CHECK_EQ(vs_view_read(v, 0, got, SIZE), SIZE);
    vs_view_close(v);
    CHECK_EQ(pread(c->primary, want, SIZE, 0), SIZE);
    CHECK(memcmp(want, got, SIZE) == 0);
}

/* Each in a part of its own of the map of what has changed. */
enum { FIRST = 0, SECOND = 1 << 20, THIRD = 2 << 20, FOURTH = 3 << 20 };

static void sync_reaches_primary(const scene *c) {
    int before = atomic_load(&primary_syncs);
    sync_volume(c);
    CHECK(atomic_load(&primary_syncs) > before);
}

static void fill_and_gap(const scene *c, atomic_int *what, int reason) {
    uint64_t seqno;
    put(c, FIRST, 1);
    put(c, SECOND, 1);
    put(c, THIRD, 1);
    CHECK_EQ(vs_journal_commit(c->journal), 0);
    uint64_t before = facts_of(c).committed_seqno;
    atomic_store(what, 1);
    put(c, SECOND, 2); /* accepted before anybody knows */
    sync_reaches_primary(c);
    CHECK_EQ(facts_of(c).gap, 1);
    CHECK_EQ(facts_of(c).gap_reason, reason);
    CHECK_EQ(facts_of(c).gap_since_seqno, before);
    put(c, THIRD, 3);
    CHECK_EQ(vs_journal_zero(c->journal, c->volume, FIRST, VS_BLOCK, NULL, NULL), 0);
    sync_reaches_primary(c);
    check_live(c, SECOND, 2);
    check_live(c, THIRD, 3);
    check_live(c, FIRST, 0);
    CHECK(vs_journal_event(c->journal, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, &seqno, NULL) < 0);
    CHECK(vs_journal_revive(c->journal, 0) < 0);
    CHECK_EQ(facts_of(c).gap, 1);
    check_at(c, before, SECOND, 1);
}

static void close_and_check(const scene *c, atomic_int *what) {
    uint64_t before = facts_of(c).gap_since_seqno;
    atomic_store(what, 0);
    CHECK_EQ(vs_journal_revive(c->journal, 0), 1);
    CHECK_EQ(facts_of(c).gap, 2);
    CHECK_EQ(vs_journal_gap_close(c->journal), -EAGAIN);
    put(c, FOURTH, 4); /* journalled again */
    CHECK(catch_up(c) >= 2 * VS_BLOCK); /* what was being committed may have come through */
    check_equal(c);
    check_at(c, before, FIRST, 1);
    check_at(c, facts_of(c).committed_seqno, FOURTH, 4);
}

static void check_gap(const char *name, atomic_int *what, int reason) {
    scene c = scene_begin(name);
    fill_and_gap(&c, what, reason);
    close_and_check(&c, what);
    fill_and_gap(&c, what, reason);
    close_and_check(&c, what);
    scene_end(&c);
}

/* What is on the primary from the gap is not overwritten by what the journal has from before it, and is found by the next process. */
static void check_stop_in_gap(const char *name, atomic_int *what, int reason, int cleanly) {
    scene c = scene_begin(name);
    fill_and_gap(&c, what, reason);
    if (cleanly) CHECK_EQ(vs_journal_close(c.journal), 0);
    atomic_store(what, 0); /* else it could not be opened */
    if (cleanly) scene_open(&c, 64 << 10);
    else scene_die(&c, 64 << 10);
    scene_attach(&c);
    CHECK_EQ(facts_of(&c).gap, 1);
    check_live(&c, SECOND, 2);
    check_live(&c, THIRD, 3);
    close_and_check(&c, what);
    CHECK_EQ(vs_journal_close(c.journal), 0);
    scene_open(&c, 64 << 10);
    scene_attach(&c);
    CHECK_EQ(facts_of(&c).gap, 0);
    check_equal(&c);
    scene_end(&c);
}

/* A disk that does not say what is free is not full. */
static void check_unknown_room(void) {
    scene c = scene_begin("unknown");
    atomic_store(&unknown, 1);
    put(&c, FIRST, 1);
    CHECK_EQ(vs_journal_commit(c.journal), 0);
    CHECK_EQ(facts_of(&c).gap, 0);
    atomic_store(&unknown, 0);
    check_live(&c, FIRST, 1);
    scene_end(&c);
}

/* It fails once more while the gap is being closed: what it had taken in between is older than what is written then. */
static void check_fails_again(void) {
    scene c = scene_begin("again");
    fill_and_gap(&c, &full, -ENOSPC);
    uint64_t before = facts_of(&c).gap_since_seqno;
    atomic_store(&full, 0);
    CHECK_EQ(vs_journal_revive(c.journal, 0), 1);
    put(&c, FOURTH, 5);
    CHECK_EQ(vs_journal_commit(c.journal), 0);
    atomic_store(&full, 1);
    put(&c, FOURTH, 6);
    sync_volume(&c);
    CHECK_EQ(facts_of(&c).gap, 1);
    CHECK_EQ(facts_of(&c).gap_since_seqno, before);
    scene_die(&c, 64 << 10);
    scene_attach(&c);
    check_live(&c, FOURTH, 6);
    check_live(&c, SECOND, 2);
    atomic_store(&full, 0);
    CHECK_EQ(vs_journal_revive(c.journal, 0), 1);
    CHECK(catch_up(&c) >= 2 * VS_BLOCK);
    check_equal(&c);
    scene_end(&c);
}

/* What was committed does not read back: nothing is appended behind it. */
static void check_lost_commit(void) {
    scene c = scene_begin("lost");
    glob_t found;
    fill_and_gap(&c, &broken, -EIO);
    CHECK_EQ(glob("journal/*.seg", 0, NULL, &found), 0);
    int file = open(found.gl_pathv[found.gl_pathc - 1], O_RDWR);
    globfree(&found);
    CHECK_EQ(pwrite(file, "damage", 6, 2 * VS_BLOCK), 6);
    close(file);
    atomic_store(&broken, 0);
    CHECK_EQ(vs_journal_revive(c.journal, 0), -EUCLEAN);
    CHECK_EQ(facts_of(&c).gap, 1);
    put(&c, FIRST, 9); /* and the application goes on */
    sync_volume(&c);
    check_live(&c, FIRST, 9);
    scene_end(&c);
}

/* Strict: as full as it says. */
static void check_strict(void) {
    scene c = scene_begin("strict");
    CHECK_EQ(vs_journal_close(c.journal), 0);
    vs_journal_options o = {.owner = 1, .reserve_bytes = RESERVE, .batch_bytes = 64 << 10};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    CHECK_EQ(vs_journal_open(c.store, &o, &c.journal), 0);
    scene_attach(&c);
    put(&c, 0, 1);
    atomic_store(&full, 1);
    CHECK_EQ(vs_journal_commit(c.journal), -ENOSPC);
    CHECK_EQ(vs_journal_zero(c.journal, c.volume, 0, VS_BLOCK, NULL, NULL), -ENOSPC);
    CHECK_EQ(facts_of(&c).gap, 0);
    atomic_store(&full, 0);
    vs_journal_close(c.journal);
    scene_open(&c, 0);
    scene_attach(&c);
    scene_end(&c);
}

/* ---- at once ---- */

static atomic_int writing;

static void *write_and_sync(void *arg) {
    const scene *c = arg;
    uint64_t random = (uintptr_t)&random;
    while (atomic_load(&writing)) {
        put(c, draw_below(&random, SIZE / VS_BLOCK) * VS_BLOCK, (uint8_t)draw(&random));
        if (draw_below(&random, 8) == 0) sync_volume(c);
    }
    return NULL;
}

/* Gaps begin and end under writers. At last nothing differs. */
static void check_under_load(void) {
    scene c = scene_begin("load");
    pthread_t threads[WRITERS];
    uint64_t random = 5;
    atomic_store(&writing, 1);
    for (int i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, write_and_sync, &c), 0);
    for (int round = 0; round < ROUNDS; round++) {
        atomic_int *what = draw_below(&random, 2) ? &full : &broken;
        atomic_store(what, 1);
        while (facts_of(&c).gap != 1) sched_yield();
        atomic_store(what, 0);
        CHECK_EQ(vs_journal_revive(c.journal, 0), 1);
        catch_up(&c);
    }
    atomic_store(&writing, 0);
    for (int i = 0; i < WRITERS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    check_equal(&c);
    scene_end(&c);
}

int main(void) {
    check_gap("full", &full, -ENOSPC);
    check_gap("broken", &broken, -EIO);
    check_gap("dead", &dead, -EIO);
    check_stop_in_gap("full-stop", &full, -ENOSPC, 1);
    check_stop_in_gap("broken-stop", &broken, -EIO, 1);
    check_stop_in_gap("full-kill", &full, -ENOSPC, 0);
    check_stop_in_gap("dead-kill", &dead, -EIO, 0);
    check_unknown_room();
    check_fails_again();
    check_lost_commit();
    check_strict();
    check_under_load();
    return 0;
}
