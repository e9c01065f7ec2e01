/* test_journal_keep.c: what the journal does with a keep, case by case. */
#include "kept_ground.h"
#include "kept.h"

enum { SIZE = 4 << 20, BATCH = 1 << 20 };

static const char stamp[] = "kept";

typedef struct scene {
    vs_store *store;
    vs_keep *keep;
    int keep_fd, primary;
    uint32_t volume;
} scene;

static scene scene_begin(const char *name) {
    scene c;
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
    c.store = kept_store();
    c.keep_fd = vs_keep_make();
    c.keep = kept_map(c.keep_fd);
    c.primary = ground_primary("primary/1.img", SIZE);
    vs_journal *j = ground_open(c.store, 1, 0, BATCH);
    c.volume = ground_volume(j, SIZE);
    CHECK_EQ(vs_journal_close(j), 0);
    return c;
}

static void scene_end(scene *c) {
    vs_keep_close(c->keep);
    vs_store_close(c->store);
    close(c->primary);
    close(c->keep_fd);
    CHECK_EQ(chdir(".."), 0);
}

static vs_journal *scene_open(const scene *c) {
    vs_journal *j;
    CHECK_EQ(kept_open(c->store, c->keep, 0, BATCH, &j), 0);
    CHECK_EQ(vs_journal_attach_primary(j, c->volume, c->primary), 0);
    return j;
}

static uint64_t last_seqno(vs_journal *j) {
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    return facts.last_seqno;
}

static void put(vs_journal *j, const scene *c, uint64_t at, const vs_request *q, uint64_t *seqno) {
    CHECK_EQ(vs_journal_write(j, c->volume, at, stamp, sizeof stamp, q, seqno), 0);
}

static void expect_stamp(vs_journal *j, const scene *c, uint64_t at) {
    char got[sizeof stamp];
    CHECK_EQ(vs_journal_read_live(j, c->volume, at, got, sizeof got), sizeof got);
    CHECK(memcmp(got, stamp, sizeof got) == 0);
}

/* ---- a worker that dies with three records in memory ---- */

static void append_and_die(void *arg) {
    const scene *c = arg;
    vs_journal *j = scene_open(c);
    for (uint64_t i = 0; i < 3; i++) put(j, c, i * 10000, NULL, NULL);
    raise(SIGKILL);
}

static void what_was_answered_is_there(void) {
    scene c = scene_begin("answered");
    vs_journal_facts facts;
    CHECK(kept_child(append_and_die, &c));
    vs_journal *j = scene_open(&c);
    vs_journal_facts_get(j, &facts);
    CHECK_EQ(facts.kept_records, 3);
    CHECK_EQ(facts.committed_seqno, 4);
    for (uint64_t i = 0; i < 3; i++) expect_stamp(j, &c, i * 10000);
    put(j, &c, 40000, NULL, NULL);
    CHECK_EQ(last_seqno(j), 5);
    CHECK_EQ(vs_journal_close(j), 0);
    j = scene_open(&c);
    vs_journal_facts_get(j, &facts);
    CHECK_EQ(facts.kept_records, 0);
    expect_stamp(j, &c, 40000);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

static vs_kept kept_of(const scene *c) {
    vs_kept k = {0};
    CHECK_EQ(vs_kept_open(&k, c->keep, ground_uuid, (4 << 20) + 36 + VS_BODY_MAX, (BATCH / VS_BLOCK + 257) * VS_BLOCK), 0);
    return k;
}

static void die(int signal_number) {
    (void)signal_number;
    raise(SIGKILL);
}

/* Killed in the middle of the copy: the second block's page is not to be written to. */
static void copy_and_die(void *arg) {
    const scene *c = arg;
    static uint8_t two_blocks[2 * VS_BLOCK];
    vs_journal *j = scene_open(c);
    put(j, c, 0, NULL, NULL);
    memset(two_blocks, 9, sizeof two_blocks);
    signal(SIGSEGV, die);
    CHECK_EQ(mprotect(kept_of(c).payload[0] + 2 * VS_BLOCK, VS_BLOCK, PROT_NONE), 0);
    vs_journal_write(j, c->volume, 8192, two_blocks, sizeof two_blocks, &(vs_request){.number = 77, .lane = 3}, NULL);
}

static void what_is_not_whole_is_not_there(void) {
    scene c = scene_begin("half");
    uint64_t seqno;
    vs_request q = {.number = 77 | VS_REQUEST_RESENT, .lane = 3};
    CHECK(kept_child(copy_and_die, &c));
    vs_journal *j = scene_open(&c);
    CHECK_EQ(last_seqno(j), 2);
    put(j, &c, 100, NULL, &seqno);
    CHECK_EQ(seqno, 3);
    put(j, &c, 8192, &q, &seqno);
    CHECK_EQ(seqno, 4);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

static void what_does_not_continue_is_refused(void) {
    scene c = scene_begin("gap");
    vs_journal *j;
    vs_fault fault;
    CHECK(kept_child(append_and_die, &c));
    vs_kept_batches *b = kept_of(&c).batches;
    for (int by = -1; by <= 1; by += 2) {
        b->batch[0].first_seqno += (uint64_t)by;
        CHECK_EQ(kept_open(c.store, c.keep, 0, BATCH, &j), -EUCLEAN);
        vs_fault_last(&fault);
        CHECK(strstr(fault.text, "do not continue the journal") != NULL);
        b->batch[0].first_seqno -= (uint64_t)by;
    }
    CHECK_EQ(atomic_load(&b->batch[0].records), 3);
    j = scene_open(&c);
    CHECK_EQ(last_seqno(j), 4);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

static void what_is_damaged_is_refused(void) {
    scene c = scene_begin("damage");
    vs_journal *j;
    CHECK(kept_child(append_and_die, &c));
    vs_kept k = kept_of(&c);
    uint8_t *const places[] = {k.payload[0], k.payload[0] + 8191, k.stream[0], k.stream[0] + 32, k.stream[0] + 36};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        *places[i] ^= 0x40;
        CHECK_EQ(kept_open(c.store, c.keep, 0, BATCH, &j), -EUCLEAN);
        *places[i] ^= 0x40;
    }
    j = scene_open(&c);
    CHECK_EQ(last_seqno(j), 4);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

static void the_keep_of_another_is_refused(void) {
    scene c = scene_begin("foreign");
    vs_journal *j;
    vs_journal_options o = {.uuid = "someone else", .owner = 1, .batch_bytes = BATCH, .keep = c.keep};
    vs_kept k = {0};
    CHECK_EQ(vs_kept_open(&k, c.keep, o.uuid, (4 << 20) + 36 + VS_BODY_MAX, (BATCH / VS_BLOCK + 257) * VS_BLOCK), 0);
    CHECK_EQ(kept_open(c.store, c.keep, 0, BATCH, &j), -EXDEV);
    CHECK_EQ(kept_open(c.store, c.keep, 0, 2 * BATCH, &j), -EPROTO);
    scene_end(&c);
}

/* ---- volumes and bookmarks ---- */

static void add_and_die(void *arg) {
    const scene *c = arg;
    uint32_t volume;
    vs_journal *j = scene_open(c);
    CHECK_EQ(vs_journal_event(j, VS_RECORD_VOLUME_ADD, 0, 512, 8192, "{}", 2, NULL, &volume), 0);
    CHECK_EQ(vs_journal_write(j, volume, 0, stamp, sizeof stamp, NULL, NULL), 0);
    CHECK_EQ(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, NULL, NULL), 0);
    raise(SIGKILL);
}

static void events_are_kept_too(void) {
    scene c = scene_begin("events");
    vs_event_cursor cursor = {.after = 1};
    vs_event event;
    vs_volume_state state;
    char body[16];
    CHECK(kept_child(add_and_die, &c));
    vs_journal *j = scene_open(&c);
    CHECK_EQ(vs_journal_next_event(j, &cursor, &event, body, sizeof body), 1);
    CHECK_EQ(event.type, VS_RECORD_VOLUME_ADD);
    CHECK_EQ(vs_journal_next_event(j, &cursor, &event, body, sizeof body), 1);
    CHECK_EQ(event.type, VS_RECORD_BOOKMARK_ADD);
    CHECK_EQ(event.a, 4);
    CHECK_EQ(vs_journal_volume_at(j, 2, 4, &state), 0);
    CHECK_EQ(state.size_bytes, 8192);
    CHECK_EQ(vs_journal_write(j, 2, 8000, stamp, sizeof stamp, NULL, NULL), 0);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

/* ---- requests that are sent again ---- */

static vs_request again(vs_request q) {
    q.number |= VS_REQUEST_RESENT;
    return q;
}

static void request_and_die(void *arg) {
    const scene *c = arg;
    vs_journal *j = scene_open(c);
    for (uint64_t i = 0; i < 4; i++) put(j, c, i * 8192, &(vs_request){.number = 100 + i, .lane = (uint32_t)i % 2}, NULL);
    CHECK_EQ(vs_journal_zero(j, c->volume, 0, 4, &(vs_request){.number = 200, .lane = 9}, NULL), 0);
    raise(SIGKILL);
}

static void resent_requests_are_made_once(void) {
    scene c = scene_begin("resent");
    uint64_t seqno;
    CHECK(kept_child(request_and_die, &c));
    vs_kept k = kept_of(&c);
    for (uint64_t process = 0; process < 6; process++) { /* each is told again: its answer may have been lost */
        vs_journal *j = scene_open(&c);
        for (uint32_t lane = 0; lane < 16; lane++) put(j, &c, 9000, &(vs_request){.number = 1000 + lane, .lane = lane}, NULL);
        uint64_t last = last_seqno(j);
        vs_request q = again((vs_request){.number = 103, .lane = 7});
        put(j, &c, 3 * 8192, &q, &seqno);
        CHECK_EQ(seqno, 5);
        q = again((vs_request){.number = 200, .lane = 8});
        CHECK_EQ(vs_journal_zero(j, c.volume, 0, 4, &q, &seqno), 0);
        CHECK_EQ(seqno, 6);
        CHECK_EQ(last_seqno(j), last);
        for (uint32_t lane = 16; lane < VS_REQUEST_LANES; lane++) /* more than are remembered, but of those that are told again */
            vs_kept_note(&k, &(vs_request){.number = 10000 * (process + 1) + lane, .lane = lane}, 2);
        CHECK_EQ(vs_journal_close(j), 0);
    }
    /* Of a worker that died before its record was counted: the seqno will be another record's. */
    vs_kept_note(&k, &(vs_request){.number = 300, .lane = 5}, 103);
    vs_journal *j = scene_open(&c);
    CHECK_EQ(last_seqno(j), 102);
    vs_request unknown = again((vs_request){.number = 101, .lane = 1}); /* its lane was used again: it had been answered */
    put(j, &c, 8192, &unknown, &seqno);
    CHECK_EQ(seqno, 103);
    put(j, &c, 8192, &unknown, &seqno); /* and this process has it now */
    CHECK_EQ(seqno, 103);
    put(j, &c, 8192, &(vs_request){.number = 101, .lane = 1}, &seqno); /* not sent again: nobody looks */
    CHECK_EQ(seqno, 104);
    unknown = again((vs_request){.number = 300, .lane = 5});
    put(j, &c, 8192, &unknown, &seqno);
    CHECK_EQ(seqno, 105);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

static void large_and_durable_requests(void) {
    scene c = scene_begin("large");
    static uint8_t bytes[5 << 19];
    vs_volume_file *f;
    vs_journal_facts facts;
    vs_journal *j = scene_open(&c);
    vs_request q = {.number = 5, .lane = 0}, r = again(q);
    memset(bytes, 7, sizeof bytes);
    CHECK_EQ(vs_live_file(j, c.volume, &f), 0);
    CHECK_EQ(f->write(f, 0, bytes, sizeof bytes, 0, &q), sizeof bytes);
    uint64_t last = last_seqno(j);
    CHECK_EQ(last, 4);
    CHECK_EQ(f->write(f, 0, bytes, sizeof bytes, 1, &r), sizeof bytes);
    vs_journal_facts_get(j, &facts);
    CHECK_EQ(facts.last_seqno, last);
    CHECK_EQ(facts.pending, 0);
    CHECK_EQ(f->zero(f, 0, 4096, &r), 0);
    CHECK_EQ(last_seqno(j), last);
    q.number = 6;
    CHECK_EQ(f->zero(f, 0, 4096, &q), 0);
    CHECK_EQ(last_seqno(j), last + 1);
    f->release(f);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

/* ---- what has failed ---- */

static int failing_file = -1, forgotten;

static int failing_sync(vs_store *s, int file) {
    return file == failing_file ? -EIO : kept_below.sync(s, file);
}

/* The page cache had what the medium never got: the file's last block, which is there as it was before. */
static int forget_last_block(vs_store *s, int file) {
    static uint8_t zeros[VS_BLOCK];
    struct iovec part = {zeros, sizeof zeros};
    forgotten++;
    return kept_below.write(s, file, (uint64_t)kept_below.size(s, file) - VS_BLOCK, &part, 1);
}

static int opened_to_write = -1;

static int noting_open(vs_store *s, const char *path, uint32_t flags) {
    int file = kept_below.open(s, path, flags);
    if (flags == VS_OPEN_WRITE && strncmp(path, "journal/", 8) == 0) opened_to_write = file;
    return file;
}

static void a_failed_sync_is_not_believed_afterwards(void) {
    scene c = scene_begin("sync");
    c.store->open = noting_open;
    c.store->sync = failing_sync;
    vs_journal *j = scene_open(&c);
    put(j, &c, 0, NULL, NULL);
    CHECK_EQ(vs_journal_commit(j), 0);
    failing_file = opened_to_write;
    put(j, &c, 8192, NULL, NULL);
    CHECK_EQ(vs_journal_commit(j), -EIO);
    CHECK_EQ(vs_journal_write(j, c.volume, 0, "x", 1, NULL, NULL), -EIO);
    CHECK_EQ(vs_journal_close(j), -EIO);
    failing_file = -1;
    c.store->forget = forget_last_block;
    j = scene_open(&c);
    CHECK_EQ(forgotten, 1);
    CHECK_EQ(last_seqno(j), 3);
    expect_stamp(j, &c, 0);
    expect_stamp(j, &c, 8192);
    CHECK_EQ(vs_journal_close(j), 0);
    j = scene_open(&c); /* nothing failed since, and the keep says so */
    CHECK_EQ(forgotten, 1);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

static void a_failed_primary_stays_failed(void) {
    scene c = scene_begin("primary");
    char got[sizeof stamp];
    c.store->sync = failing_sync;
    vs_journal *j = scene_open(&c);
    failing_file = c.primary;
    put(j, &c, 0, NULL, NULL);
    CHECK_EQ(vs_journal_commit(j), 0);
    failing_file = -1;
    for (int process = 0; process < 2; process++) {
        CHECK_EQ(vs_journal_write(j, c.volume, 0, "x", 1, NULL, NULL), -EIO);
        CHECK_EQ(vs_journal_read_live(j, c.volume, 0, got, sizeof got), -EIO);
        CHECK_EQ(vs_journal_close(j), 0);
        j = scene_open(&c);
    }
    CHECK_EQ(vs_journal_close(j), 0);
    j = ground_open(c.store, 1, 0, BATCH); /* without that keep somebody has mended it: it is made whole from the journal */
    CHECK_EQ(ftruncate(c.primary, 0), 0);
    CHECK_EQ(ftruncate(c.primary, SIZE), 0);
    CHECK_EQ(vs_journal_attach_primary(j, c.volume, c.primary), 0);
    expect_stamp(j, &c, 0);
    CHECK_EQ(vs_journal_close(j), 0);
    scene_end(&c);
}

int main(void) {
    what_was_answered_is_there();
    what_is_not_whole_is_not_there();
    what_does_not_continue_is_refused();
    what_is_damaged_is_refused();
    the_keep_of_another_is_refused();
    events_are_kept_too();
    resent_requests_are_made_once();
    large_and_durable_requests();
    a_failed_sync_is_not_believed_afterwards();
    a_failed_primary_stays_failed();
    return 0;
}
