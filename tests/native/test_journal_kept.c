/* test_journal_kept.c: workers that are killed while they append, and killed again while the next one takes over.
 *
 * Each writer is an application with one request at a time: the n-th one has the number n, and what it writes where follows from its own
 * number and n. After a kill it sends the request again that was not answered. In the end the journal must hold each writer's requests
 * 1, 2, 3 … once and in order, as many as were answered at least, and the volume their bytes.
 */
#include <dirent.h>
#include <pthread.h>

#include "kept_ground.h"

enum { WRITERS = 4, REGION = 512 << 10, SIZE = WRITERS * REGION, SEGMENT = 2 << 20, BATCH = 256 << 10, ROUNDS = 60 };

typedef struct shared {
    _Atomic uint64_t answered[WRITERS];
} shared;

typedef struct world {
    vs_store *store;
    shared *shared;
    uint64_t random, calls;
    uint32_t volume;
    int keep_fd, primary, told[2]; /* a pipe: a byte for each answer */
} world;

static uint64_t sizes[] = {8, 512, 4096, 4096, 4096, 8192, 12296, 65536, 262144};

static void place_of(uint64_t writer, uint64_t n, uint64_t *offset_bytes, uint64_t *length_bytes) {
    uint64_t random = writer << 32 | n;
    *length_bytes = sizes[draw_below(&random, sizeof sizes / sizeof sizes[0])];
    *offset_bytes = writer * REGION + draw_below(&random, (REGION - *length_bytes) / 8) * 8;
    if (draw_below(&random, 2)) *offset_bytes &= ~(uint64_t)4095;
}

static void fill(uint8_t *bytes, uint64_t writer, uint64_t n, uint64_t length_bytes) {
    uint64_t stamp = (writer + 1) << 48 | n;
    for (uint64_t i = 0; i < length_bytes; i += 8) memcpy(bytes + i, &stamp, 8);
}

typedef struct writer {
    vs_journal *journal;
    world *world;
    uint64_t number;
} writer;

static void *write_for_ever(void *arg) {
    const writer *w = arg;
    static _Thread_local uint8_t bytes[262144];
    uint64_t first = atomic_load(&w->world->shared->answered[w->number]) + 1;
    for (uint64_t n = first;; n++) {
        uint64_t offset, length, seqno;
        vs_request q = {.number = (w->number + 1) << 32 | n, .lane = (uint32_t)w->number};
        if (n == first) q.number |= VS_REQUEST_RESENT;
        place_of(w->number, n, &offset, &length);
        fill(bytes, w->number, n, length);
        CHECK_EQ(vs_journal_write(w->journal, w->world->volume, offset, bytes, length, &q, &seqno), 0);
        if (n % 16 == w->number) CHECK_EQ(vs_journal_commit(w->journal), 0);
        atomic_fetch_add(&w->world->shared->answered[w->number], 1);
        CHECK(write(w->world->told[1], "", 1) == 1 || errno == EAGAIN);
    }
    return NULL;
}

/* A worker: it opens the journal with the keep, and works until it is killed. */
static void work(void *arg) {
    world *w = arg;
    pthread_t threads[WRITERS];
    writer writers[WRITERS];
    vs_journal *j;
    atomic_store(&kept_calls_left, (long)w->calls);
    CHECK_EQ(kept_open(w->store, kept_map(w->keep_fd), SEGMENT, BATCH, &j), 0);
    CHECK_EQ(vs_journal_attach_primary(j, w->volume, w->primary), 0);
    for (uint64_t i = 0; i < WRITERS; i++) {
        writers[i] = (writer){j, w, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, write_for_ever, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(threads[i], NULL);
}

/* A worker that is killed when so many writes were answered. */
static void work_until_answered(world *w, uint64_t answers) {
    char byte;
    CHECK_EQ(pipe(w->told), 0);
    CHECK_EQ(fcntl(w->told[1], F_SETFL, O_NONBLOCK), 0);
    w->calls = UINT64_MAX;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) work(w);
    close(w->told[1]);
    while (answers--) CHECK_EQ(read(w->told[0], &byte, 1), 1);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    close(w->told[0]);
}

static void take_over(void *arg) {
    world *w = arg;
    vs_journal *j;
    atomic_store(&kept_calls_left, (long)w->calls);
    CHECK_EQ(kept_open(w->store, kept_map(w->keep_fd), SEGMENT, BATCH, &j), 0);
    CHECK_EQ(vs_journal_attach_primary(j, w->volume, w->primary), 0);
}

/* Each writer's rows are its requests 1, 2, 3 …, and what it was answered is among them. found: how many there are. */
static void check_rows(world *w, vs_journal *j, uint64_t found[WRITERS]) {
    static vs_journal_row rows[4096];
    uint64_t after = 0;
    memset(found, 0, WRITERS * sizeof *found);
    for (int n; (n = vs_journal_rows(j, after, rows, 4096)) != 0; after = rows[n - 1].seqno) {
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            uint64_t who = rows[i].offset_bytes / REGION, offset, length;
            place_of(who, ++found[who], &offset, &length);
            CHECK_EQ(rows[i].offset_bytes, offset);
            CHECK_EQ(rows[i].length_bytes, length);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        uint64_t answered = atomic_load(&w->shared->answered[i]);
        CHECK(found[i] == answered || found[i] == answered + 1);
    }
}

static void check_bytes(world *w, vs_journal *j, const uint64_t found[WRITERS]) {
    static uint8_t want[SIZE], got[SIZE];
    vs_journal_facts facts;
    vs_view *v;
    memset(want, 0, sizeof want);
    for (uint64_t i = 0; i < WRITERS; i++)
        for (uint64_t n = 1, offset, length; n <= found[i]; n++) {
            place_of(i, n, &offset, &length);
            fill(want + offset, i, n, length);
        }
    vs_journal_facts_get(j, &facts);
    CHECK_EQ(facts.committed_seqno, facts.last_seqno);
    CHECK_EQ(vs_view_open(j, w->volume, facts.last_seqno, &v), 0);
    CHECK_EQ(vs_view_read(v, 0, got, SIZE), SIZE);
    CHECK(memcmp(got, want, SIZE) == 0);
    vs_view_close(v);
    CHECK_EQ(pread(w->primary, got, SIZE, 0), SIZE);
    CHECK(memcmp(got, want, SIZE) == 0);
}

static uint64_t check_all(world *w) {
    vs_journal *j;
    vs_journal_facts facts;
    uint64_t found[WRITERS];
    vs_keep *keep = kept_map(w->keep_fd);
    CHECK_EQ(kept_open(w->store, keep, SEGMENT, BATCH, &j), 0);
    CHECK_EQ(vs_journal_attach_primary(j, w->volume, w->primary), 0);
    vs_journal_facts_get(j, &facts);
    check_rows(w, j, found);
    check_bytes(w, j, found);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_keep_close(keep);
    return facts.kept_records;
}

static void check_no_rubbish(void) {
    DIR *d = opendir("journal");
    CHECK(d != NULL);
    for (const struct dirent *e; (e = readdir(d));) CHECK(strstr(e->d_name, ".torn") == NULL);
    closedir(d);
}

static void world_begin(world *w) {
    w->store = kept_store();
    w->shared = mmap(NULL, sizeof *w->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(w->shared != MAP_FAILED);
    w->keep_fd = vs_keep_make();
    CHECK(w->keep_fd >= 0);
    w->primary = ground_primary("primary/1.img", SIZE);
    vs_journal *j = ground_open(w->store, 1, SEGMENT, BATCH);
    w->volume = ground_volume(j, SIZE);
    CHECK_EQ(vs_journal_close(j), 0);
}

int main(void) {
    static world w = {.random = 4};
    uint64_t kept_records = 0;
    world_begin(&w);
    for (int round = 0; round < ROUNDS; round++) {
        if (draw_below(&w.random, 2)) {
            work_until_answered(&w, draw_below(&w.random, 400));
        } else {
            w.told[1] = open("/dev/null", O_WRONLY);
            w.calls = draw_below(&w.random, 120);
            CHECK(kept_child(work, &w));
            close(w.told[1]);
        }
        for (w.calls = 0; round % 4 == 0 && kept_child(take_over, &w); w.calls++) {} /* killed at each step of it */
        if (round % 3 == 0) kept_records += check_all(&w);
        check_no_rubbish();
    }
    check_all(&w);
    CHECK(kept_records > 0);
    for (int i = 0; i < WRITERS; i++) CHECK(atomic_load(&w.shared->answered[i]) > 100);
    munmap(w.shared, sizeof *w.shared);
    close(w.primary);
    close(w.keep_fd);
    vs_store_close(w.store);
    return 0;
}
