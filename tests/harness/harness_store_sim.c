/* harness_store_sim.c: the simulated store does what a disk does, and what it has found in the journal stays mended, each in one scene.
 *
 *   store_sim [--seed S] [--states N]
 *
 * Scenes are the same for every seed; N seeds (16 when it is not said) draw what survives. A check that fails ends the program and says where.
 */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "../native/check.h"
#include "owner_thread.h"
#include "store_sim.h"
#include "workload.h"

enum { BLOCK = 4096, SECTOR = 512 };

static const char journal_path[] = "journal/a", primary_path[] = "primary/a";

static int made(vs_store *s, const char *path) {
    int file = s->open(s, path, VS_OPEN_WRITE | VS_OPEN_CREATE);
    CHECK(file >= 0);
    return file;
}

static void put(vs_store *s, int file, uint64_t at, uint8_t byte, size_t length_bytes) {
    uint8_t bytes[4 * BLOCK];
    memset(bytes, byte, length_bytes);
    CHECK_EQ(s->write(s, file, at, &(struct iovec){bytes, length_bytes}, 1), 0);
}

/* The byte of a file, -1: it ends before, -2: it is not there. */
static int at(vs_store *s, const char *path, uint64_t offset_bytes) {
    uint8_t byte;
    int file = s->open(s, path, VS_OPEN_READ);
    if (file == -ENOENT) return -2;
    int64_t n = s->read(s, file, offset_bytes, &byte, 1);
    s->close(s, file);
    return n == 1 ? byte : -1;
}

static int after_crash(vs_store *s, uint64_t seed, store_sim_policy policy, const char *path, uint64_t offset_bytes) {
    vs_store *left = store_sim_crash(s, seed, policy);
    int found = at(left, path, offset_bytes);
    vs_store_close(left);
    return found;
}

/* A file and its name, synced, with a block of ones. */
static int base(vs_store *s, const char *path, const char *directory) {
    int file = made(s, path);
    put(s, file, 0, 1, BLOCK);
    CHECK_EQ(s->sync(s, file), 0);
    CHECK_EQ(s->sync_dir(s, directory), 0);
    return file;
}

static void what_is_synced_stays(uint64_t seed) {
    vs_store *s = store_sim_new(seed);
    int file = base(s, journal_path, "journal");
    put(s, file, SECTOR, 2, SECTOR);
    CHECK_EQ(at(s, journal_path, SECTOR), 2);
    CHECK_EQ(after_crash(s, seed, SIM_SYNCED_ONLY, journal_path, SECTOR), 1);
    CHECK_EQ(after_crash(s, seed, SIM_ALL, journal_path, SECTOR), 2);
    CHECK_EQ(after_crash(s, seed, SIM_PRIMARY_ONLY, journal_path, SECTOR), 1);
    CHECK_EQ(after_crash(s, seed, SIM_JOURNAL_ONLY, journal_path, SECTOR), 2);
    for (int i = 0; i < SIM_POLICIES; i++) CHECK_EQ(after_crash(s, seed, (store_sim_policy)i, journal_path, 0), 1);
    CHECK_EQ(s->sync(s, file), 0);
    for (int i = 0; i < SIM_POLICIES; i++) CHECK_EQ(after_crash(s, seed, (store_sim_policy)i, journal_path, SECTOR), 2);
    vs_store_close(s);
}

/* Over the seeds each of two sectors is seen old and new, and each of the four pairs. */
static unsigned sectors_are_torn(uint64_t seed) {
    vs_store *s = store_sim_new(seed);
    int file = base(s, primary_path, "primary");
    put(s, file, 0, 2, 2 * SECTOR);
    vs_store *left = store_sim_crash(s, seed, SIM_ANY);
    int first = at(left, primary_path, 0), second = at(left, primary_path, SECTOR);
    CHECK((first == 1 || first == 2) && (second == 1 || second == 2));
    CHECK_EQ(at(left, primary_path, 2 * SECTOR), 1);
    vs_store_close(left);
    vs_store_close(s);
    return 1u << ((first - 1) * 2 + second - 1);
}

static void names_wait_for_their_directory(uint64_t seed) {
    vs_store *s = store_sim_new(seed);
    int file = made(s, "journal/new");
    put(s, file, 0, 3, BLOCK);
    CHECK_EQ(s->sync(s, file), 0);
    CHECK_EQ(after_crash(s, seed, SIM_SYNCED_ONLY, "journal/new", 0), -2);
    CHECK_EQ(s->rename(s, "journal/new", journal_path), 0);
    CHECK_EQ(at(s, "journal/new", 0), -2);
    CHECK_EQ(after_crash(s, seed, SIM_SYNCED_ONLY, journal_path, 0), -2);
    CHECK_EQ(s->sync_dir(s, "maps"), 0);
    CHECK_EQ(after_crash(s, seed, SIM_SYNCED_ONLY, journal_path, 0), -2);
    CHECK_EQ(s->sync_dir(s, "journal"), 0);
    CHECK_EQ(after_crash(s, seed, SIM_SYNCED_ONLY, journal_path, 0), 3);
    CHECK_EQ(s->remove(s, journal_path), 0);
    CHECK_EQ(after_crash(s, seed, SIM_SYNCED_ONLY, journal_path, 0), 3);
    CHECK_EQ(after_crash(s, seed, SIM_ALL, journal_path, 0), -2);
    vs_store_close(s);
}

static int one_sync_fails(void *arg, int kind, const char *path) {
    int *left = arg;
    (void)path;
    return kind == SIM_SYNC && (*left)-- == 0 ? -EIO : 0;
}

static void a_failed_sync_drops_what_the_cache_still_shows(uint64_t seed) {
    vs_store *s = store_sim_new(seed);
    int file = base(s, journal_path, "journal"), left = 0, lost = 0;
    put(s, file, 0, 2, BLOCK);
    store_sim_hook_set(s, one_sync_fails, &left);
    CHECK_EQ(s->sync(s, file), -EIO);
    for (uint64_t i = 0; i < BLOCK; i += SECTOR) CHECK_EQ(at(s, journal_path, i), 2);
    CHECK_EQ(s->sync(s, file), 0); /* says nothing of them */
    for (uint64_t i = 0; i < BLOCK; i += SECTOR) lost += after_crash(s, seed, SIM_ALL, journal_path, i) == 1;
    CHECK_EQ(s->forget(s, file), 0);
    for (uint64_t i = 0; i < BLOCK; i += SECTOR) lost -= at(s, journal_path, i) == 1;
    CHECK_EQ(lost, 0);
    CHECK_EQ(s->size(s, file), BLOCK);
    vs_store_close(s);
}

static void a_killed_process_loses_nothing(uint64_t seed) {
    vs_store *s = store_sim_new(seed);
    int file = base(s, journal_path, "journal");
    put(s, file, BLOCK, 4, BLOCK);
    vs_store *left = store_sim_kill(s, seed);
    CHECK_EQ(at(left, journal_path, BLOCK), 4);
    CHECK_EQ(after_crash(left, seed, SIM_SYNCED_ONLY, journal_path, BLOCK), -1);
    CHECK_EQ(store_sim_open_files(left), 0);
    vs_store_close(left);
    vs_store_close(s);
}

/* ---- what it found ---- */

typedef struct failing {
    int armed, kind, code;
} failing;

static int fail_once(void *arg, int kind, const char *path) {
    failing *f = arg;
    if (!f->armed || kind != f->kind || strncmp(path, "journal", 7) != 0) return 0;
    f->armed = 0;
    return f->code;
}

/* A seal that fails behind its footer, by a call of this kind; the journal is closed, and opened again. */
static workload *seal_fails(uint64_t seed, vs_store *s, failing *f) {
    workload *w = workload_new(seed);
    workload_options(w)->segment_bytes = 0; /* none is sealed before */
    CHECK_EQ(workload_create(w, s), 0);
    CHECK_EQ(workload_open(w, s), 0);
    for (int i = 0; i < 6; i++) CHECK_EQ(workload_step(w), 0);
    CHECK_EQ(vs_journal_commit(workload_journal(w)), 0);
    workload_durable_set(w, workload_appended(w));
    CHECK_EQ(vs_journal_event(workload_journal(w), VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, NULL, NULL), 0);
    CHECK_EQ(vs_journal_commit(workload_journal(w)), 0);
    store_sim_hook_set(s, fail_once, f);
    f->armed = 1;
    CHECK(vs_journal_seal(workload_journal(w)) < 0);
    CHECK_EQ(f->armed, 0);
    return w;
}

/* The sealed segment's index is gone, and there is no next one: there was nothing to note a clean end in. */
static void a_close_after_a_failed_seal_writes_nothing(uint64_t seed) {
    failing f = {.kind = SIM_CREATE, .code = -ENOSPC};
    vs_store *s = store_sim_new(seed);
    workload *w = seal_fails(seed, s, &f);
    vs_journal *j;
    workload_close(w);
    CHECK_EQ(vs_journal_open(s, workload_options(w), &j), 0);
    CHECK_EQ(vs_journal_close(j), 0);
    workload_free(w);
    vs_store_close(s);
}

/* A segment has got its name, and the directory was not synced: the next owner goes on in it, and what it answers must not go with the name. */
static void a_name_that_was_not_durable_is_made_so(uint64_t seed) {
    failing f = {.kind = SIM_SYNC_DIR, .code = -EIO};
    vs_store *s = store_sim_new(seed);
    workload *w = seal_fails(seed, s, &f);
    vs_journal *j;
    vs_journal_facts facts, found;
    workload_close(w);
    CHECK_EQ(vs_journal_open(s, workload_options(w), &j), 0);
    CHECK_EQ(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, NULL, NULL), 0);
    CHECK_EQ(vs_journal_commit(j), 0);
    vs_journal_facts_get(j, &facts);
    vs_store *left = store_sim_crash(s, seed, SIM_SYNCED_ONLY);
    CHECK_EQ(vs_journal_close(j), 0);
    CHECK_EQ(vs_journal_open(left, workload_options(w), &j), 0);
    vs_journal_facts_get(j, &found);
    CHECK_EQ(found.last_seqno, facts.last_seqno);
    CHECK_EQ(vs_journal_close(j), 0);
    workload_free(w);
    vs_store_close(left);
    vs_store_close(s);
}

int main(int argc, char **argv) {
    static void (*const scenes[])(uint64_t) = {what_is_synced_stays, names_wait_for_their_directory, a_failed_sync_drops_what_the_cache_still_shows,
                                               a_killed_process_loses_nothing, a_close_after_a_failed_seal_writes_nothing,
                                               a_name_that_was_not_durable_is_made_so};
    enum { SCENES = sizeof scenes / sizeof scenes[0], SEEDS = 16 };
    static const struct option options[] = {{"seed", 1, NULL, 's'}, {"states", 1, NULL, 'n'}, {0}};
    uint64_t seed = 1, seeds = SEEDS;
    unsigned torn = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's') seed = strtoull(optarg, NULL, 10);
        else if (c == 'n') seeds = strtoull(optarg, NULL, 10);
        else return 2;
    }
    for (uint64_t i = 0; i < seeds; i++) {
        for (int k = 0; k < SCENES; k++) scenes[k](seed + i);
        torn |= sectors_are_torn(seed + i);
    }
    CHECK(seeds < SEEDS || torn == 0xF);
    printf("{\"harness\": \"store_sim\", \"seed\": %" PRIu64 ", \"states\": %" PRIu64 ", \"failures\": 0}\n", seed, seeds * (SCENES + 1));
    return 0;
}
