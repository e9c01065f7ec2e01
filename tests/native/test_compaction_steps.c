/* test_compaction_steps.c: what becomes of a compaction at each of its steps when something fails there, or is not as it says. A store whose calls are
 * listened to fails them, or ends the work, at the very one. */
#include <inttypes.h>
#include <stdlib.h>

#include "base_move.h"
#include "codec.h"
#include "compact.h"
#include "faults.h"
#include "format.h"
#include "journal_ground.h"

enum { SIZE = 16 * VS_BLOCK, SEGMENT = 1 << 20, ROUNDS = 9, MARKS = 4 };

/* The volume after each mark; round i is segment i, sealed, of MARKS marks. */
typedef struct ground {
    vs_store *store;
    vs_journal *journal;
    uint32_t volume;
    uint64_t at[ROUNDS][MARKS];
    uint8_t fill[ROUNDS][MARKS];
} ground;

/* What is done at which call. */
static struct {
    vs_store real;
    vs_journal *journal;
    const char *fails;   /* a directory that cannot be synced; or the file that cannot be opened */
    int ends_at_entropy, no_memory_after_rename, base_syncs, base_syncs_at_rename;
} heard;

static int sync_dir(vs_store *s, const char *path) {
    if (heard.fails && strcmp(path, heard.fails) == 0) return -EIO;
    heard.base_syncs += strcmp(path, "base") == 0;
    return heard.real.sync_dir(s, path);
}

static int open_file(vs_store *s, const char *path, uint32_t flags) {
    return heard.fails && strcmp(path, heard.fails) == 0 ? -EMFILE : heard.real.open(s, path, flags);
}

static int entropy(vs_store *s, void *buf, size_t length_bytes) {
    if (heard.ends_at_entropy) vs_journal_work_end(heard.journal);
    return heard.real.entropy(s, buf, length_bytes);
}

static int rename_file(vs_store *s, const char *from, const char *to) {
    int r = heard.real.rename(s, from, to);
    if (strcmp(from, "journal/compact.new") == 0) {
        heard.base_syncs_at_rename = heard.base_syncs;
        if (heard.no_memory_after_rename) faults_fail_allocations(0);
    }
    return r;
}

static void listen_to(vs_store *s) {
    memset(&heard, 0, sizeof heard);
    heard.real = *s;
    s->sync_dir = sync_dir;
    s->open = open_file;
    s->entropy = entropy;
    s->rename = rename_file;
}

static void ground_reopen(ground *g) {
    if (g->journal) CHECK_EQ(vs_journal_close(g->journal), 0);
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
}

static void ground_begin(ground *g, const char *name) {
    uint8_t bytes[VS_BLOCK];
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
    *g = (ground){.store = ground_make()};
    listen_to(g->store);
    ground_reopen(g);
    g->volume = ground_volume(g->journal, SIZE);
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < MARKS; k++) {
            g->fill[i][k] = (uint8_t)(1 + i * MARKS + k);
            memset(bytes, g->fill[i][k], sizeof bytes);
            CHECK_EQ(vs_journal_write(g->journal, g->volume, 0, bytes, sizeof bytes, NULL, NULL), 0);
            ground_mark(g->journal, &g->at[i][k]);
        }
        CHECK_EQ(vs_journal_seal(g->journal), 0);
    }
}

static void ground_end(ground *g) {
    CHECK_EQ(vs_journal_close(g->journal), 0);
    vs_store_close(g->store);
    CHECK_EQ(chdir(".."), 0);
}

/* 0: it reads as it did; or what opening it said. */
static int reads(const ground *g, int round, int mark) {
    uint8_t byte;
    vs_view *v;
    int r = vs_view_open(g->journal, g->volume, g->at[round][mark], &v);
    if (r < 0) return r;
    CHECK_EQ(vs_view_read(v, VS_BLOCK - 1, &byte, 1), 1);
    CHECK_EQ(byte, g->fill[round][mark]);
    vs_view_close(v);
    return 0;
}

/* The first eight segments, of which the first mark of each stays. */
static int compact(ground *g) {
    uint64_t points[ROUNDS];
    vs_compact_facts facts;
    for (int i = 0; i < ROUNDS; i++) points[i] = g->at[i][0];
    return vs_journal_compact(g->journal, 0, 8, points, ROUNDS, NULL, 0, &facts);
}

static void roots_read(const ground *g, int others) {
    for (int i = 0; i < 8; i++)
        for (int k = 0; k < MARKS; k++) CHECK_EQ(reads(g, i, k), k == 0 ? 0 : others);
}

static uint64_t segments(vs_journal *j) {
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    return facts.segments;
}

static void name_of(uint64_t first_seqno, uint64_t generation, char name[80]) {
    if (generation) snprintf(name, 80, "journal/%020" PRIu64 "-%" PRIu64 ".seg", first_seqno, generation);
    else snprintf(name, 80, "journal/%020" PRIu64 ".seg", first_seqno);
}

/* It is told to end when events have filled a batch. */
static void ended_when_a_batch_is_full(void) {
    ground g;
    uint64_t seqno, point;
    vs_compact_facts facts;
    ground_begin(&g, "ended");
    for (int i = 0; i < 8000; i++) CHECK_EQ(vs_journal_event(g.journal, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, &seqno, NULL), 0);
    CHECK_EQ(vs_journal_seal(g.journal), 0);
    ground_mark(g.journal, &point);
    heard.journal = g.journal;
    heard.ends_at_entropy = 1;
    CHECK_EQ(vs_journal_compact(g.journal, ROUNDS, 1, &point, 1, NULL, 0, &facts), -ECANCELED);
    CHECK_EQ(access("journal/compact.new", F_OK), -1);
    ground_end(&g);
}

/* The name is there, and may not be after a crash: what it stands for stays until it is durable. */
static void a_name_that_is_not_durable(void) {
    ground g;
    char name[80];
    ground_begin(&g, "durable");
    name_of(1, 0, name);
    heard.fails = "journal";
    CHECK_EQ(compact(&g), -EIO);
    CHECK_EQ(segments(g.journal), 3);
    CHECK_EQ(vs_journal_superseded(g.journal), -EIO);
    CHECK_EQ(access(name, F_OK), 0);
    roots_read(&g, -ERANGE); /* as the next open would have it */
    heard.fails = NULL;
    CHECK_EQ(vs_journal_superseded(g.journal), 0);
    CHECK_EQ(access(name, F_OK), -1);
    ground_reopen(&g);
    roots_read(&g, -ERANGE);
    ground_end(&g);
}

/* What this process goes on to show, and lets people name, is there after it too. */
static void a_name_that_is_taken_back(void) {
    ground g;
    char name[80];
    ground_begin(&g, "back");
    name_of(1, 1, name);
    heard.no_memory_after_rename = 1;
    CHECK_EQ(compact(&g), -ENOMEM);
    heard.no_memory_after_rename = 0;
    faults_fail_allocations(-1);
    CHECK_EQ(access(name, F_OK), -1);
    CHECK_EQ(access("journal/compact.new", F_OK), -1);
    roots_read(&g, 0);
    ground_reopen(&g);
    roots_read(&g, 0);
    CHECK_EQ(compact(&g), 1);
    ground_end(&g);
}

/* A base that somebody gave its name, and died: before anything counts on it the name is made durable. */
static void names_of_bases_come_first(void) {
    ground g;
    vs_base_move_facts facts;
    ground_begin(&g, "bases");
    int primary = ground_primary("primary/1", SIZE);
    CHECK_EQ(vs_journal_attach_primary(g.journal, g.volume, primary), 0);
    CHECK_EQ(vs_journal_commit(g.journal), 0);
    CHECK_EQ(vs_journal_floor(g.journal, g.at[0][0]), 0);
    CHECK_EQ(vs_journal_base_move(g.journal, g.volume, g.at[0][0], &facts), 1);
    heard.base_syncs = 0;
    heard.fails = "base";
    CHECK_EQ(compact(&g), -EIO);
    heard.fails = NULL;
    roots_read(&g, 0);
    CHECK_EQ(compact(&g), 1);
    CHECK_EQ(heard.base_syncs_at_rename, 1);
    roots_read(&g, -ERANGE);
    ground_end(&g);
    close(primary);
}

/* Where no descriptor is left to ask with, somebody may read what was replaced. */
static void leases_that_cannot_be_asked(void) {
    ground g;
    vs_view *v;
    uint8_t byte;
    ground_begin(&g, "leases");
    vs_store *other;
    CHECK_EQ(vs_store_posix(open(".", O_RDONLY | O_DIRECTORY), &other), 0);
    vs_journal *reader = ground_open(other, 0, 0, 0);
    CHECK_EQ(vs_view_open(reader, g.volume, g.at[3][1], &v), 0);
    heard.fails = "leases";
    ground_reopen(&g);
    CHECK_EQ(compact(&g), 1);
    CHECK_EQ(vs_journal_superseded(g.journal), 8);
    CHECK_EQ(vs_view_read(v, 0, &byte, 1), 1);
    CHECK_EQ(byte, g.fill[3][1]);
    heard.fails = NULL;
    CHECK_EQ(vs_journal_superseded(g.journal), 8);
    vs_view_close(v);
    CHECK_EQ(vs_journal_close(reader), 0);
    vs_store_close(other);
    CHECK_EQ(vs_journal_superseded(g.journal), 0);
    ground_end(&g);
}

static void block_change(const char *name, off_t at, size_t field, uint64_t value) {
    uint8_t block[VS_BLOCK];
    int file = open(name, O_RDWR);
    CHECK(file >= 0);
    if (at < 0) at += lseek(file, 0, SEEK_END);
    CHECK_EQ(pread(file, block, sizeof block, at), VS_BLOCK);
    vs_put64(block + field, value);
    vs_block_seal(block);
    CHECK_EQ(pwrite(file, block, sizeof block, at), VS_BLOCK);
    close(file);
}

static int check_finds(ground *g, uint64_t first_seqno) {
    vs_fault fault;
    uint64_t next = 0;
    ground_reopen(g);
    return vs_journal_check_segment(g->journal, first_seqno, 0, &next, &fault);
}

/* Ends that match their CRC and say of the records before them what is not so. */
static void ends_that_say_what_is_not_so(void) {
    enum { TIME_IN_HEADER = 64, TIME_IN_TRAILER = 264 };
    ground g;
    char name[80], floor_name[80];
    vs_segment_facts f;
    uint64_t time_ns;
    ground_begin(&g, "ends");
    CHECK_EQ(vs_journal_segment_at(g.journal, 4, &f), 0);
    CHECK_EQ(vs_journal_time_of(g.journal, f.first_seqno - 1, &time_ns), 0);
    name_of(f.first_seqno, 0, name);
    CHECK_EQ(check_finds(&g, f.first_seqno), 0);
    block_change(name, -VS_BLOCK, TIME_IN_TRAILER, time_ns - 1);
    CHECK_EQ(check_finds(&g, f.first_seqno), 1);
    block_change(name, 0, TIME_IN_HEADER, time_ns - 1);
    CHECK_EQ(check_finds(&g, f.first_seqno), 1);
    block_change(name, 0, TIME_IN_HEADER, time_ns);
    block_change(name, -VS_BLOCK, TIME_IN_TRAILER, time_ns);
    CHECK_EQ(check_finds(&g, f.first_seqno), 0);
    block_change(name, -VS_BLOCK, VS_TRAILER_FLOOR_AT, 2);
    CHECK_EQ(check_finds(&g, f.first_seqno), 1);
    block_change(name, -VS_BLOCK, VS_TRAILER_FLOOR_AT, 0);
    CHECK_EQ(vs_journal_floor(g.journal, g.at[0][0]), 0);
    CHECK_EQ(vs_journal_seal(g.journal), 0);
    CHECK_EQ(vs_journal_segment_at(g.journal, segments(g.journal) - 2, &f), 0);
    name_of(f.first_seqno, 0, floor_name);
    CHECK_EQ(check_finds(&g, f.first_seqno), 0);
    block_change(floor_name, -VS_BLOCK, VS_TRAILER_FLOOR_AT, 0);
    CHECK_EQ(check_finds(&g, f.first_seqno), 1);
    block_change(floor_name, -VS_BLOCK, VS_TRAILER_FLOOR_AT, g.at[0][0]);
    ground_end(&g);
}

/* The floor is of a record that lies before a compacted segment whose trailer is damaged: those behind it have it still. */
static void a_floor_over_a_damaged_trailer(void) {
    ground g;
    vs_compact_facts facts;
    vs_journal_facts now;
    vs_segment_facts f;
    char name[80];
    uint64_t point;
    ground_begin(&g, "floor");
    CHECK_EQ(vs_journal_floor(g.journal, g.at[0][0]), 0);
    CHECK_EQ(vs_journal_seal(g.journal), 0);
    ground_mark(g.journal, &point);
    CHECK_EQ(vs_journal_seal(g.journal), 0);
    ground_mark(g.journal, &point);
    CHECK_EQ(vs_journal_compact(g.journal, ROUNDS + 1, 1, &point, 1, NULL, 0, &facts), 1);
    CHECK_EQ(vs_journal_superseded(g.journal), 0);
    CHECK_EQ(vs_journal_segment_at(g.journal, ROUNDS + 1, &f), 0);
    CHECK(f.generation != 0);
    name_of(f.first_seqno, f.generation, name);
    CHECK_EQ(vs_journal_close(g.journal), 0);
    g.journal = NULL;
    int file = open(name, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pwrite(file, "?", 1, (off_t)f.bytes - 100), 1);
    close(file);
    ground_reopen(&g);
    vs_journal_facts_get(g.journal, &now);
    CHECK_EQ(now.first_seqno, g.at[0][0]);
    ground_end(&g);
}

/* Names of generations that no lease could be taken for are nobody's. */
static void generations_end(void) {
    ground g;
    char name[80];
    ground_begin(&g, "generations");
    name_of(1, UINT64_MAX, name);
    int file = open(name, O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0);
    close(file);
    ground_reopen(&g);
    CHECK_EQ(compact(&g), 1);
    CHECK_EQ(vs_journal_superseded(g.journal), 0);
    ground_reopen(&g);
    roots_read(&g, -ERANGE);
    ground_end(&g);
}

/* What stands before a compacted segment of which nothing is to be found out any more can be read still. */
static void a_part_before_a_damaged_one(void) {
    ground g;
    vs_segment_facts f;
    vs_fault fault;
    char name[80];
    uint64_t known;
    vs_compact_facts facts;
    vs_journal_options o = {.sound_part = 1};
    ground_begin(&g, "part");
    CHECK_EQ(vs_journal_compact(g.journal, 4, 1, &g.at[4][MARKS - 1], 1, NULL, 0, &facts), 1);
    CHECK_EQ(vs_journal_superseded(g.journal), 0);
    CHECK_EQ(vs_journal_segment_at(g.journal, 4, &f), 0);
    name_of(f.first_seqno, f.generation, name);
    CHECK_EQ(vs_journal_close(g.journal), 0);
    int file = open(name, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pwrite(file, "?", 1, (off_t)f.bytes - 100), 1);
    CHECK_EQ(pwrite(file, "?", 1, 100), 1);
    close(file);
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    CHECK_EQ(vs_journal_open(g.store, &o, &g.journal), 0);
    CHECK_EQ(vs_journal_broken(g.journal, &fault, &known), 1);
    CHECK_EQ(fault.code, -EBADMSG);
    CHECK_EQ(fault.segment, f.first_seqno);
    CHECK(known >= g.at[ROUNDS - 1][0]);
    CHECK_EQ(segments(g.journal), 4);
    for (int i = 0; i < ROUNDS; i++) CHECK_EQ(reads(&g, i, 1), i < 4 ? 0 : -ERANGE);
    ground_end(&g);
}

int main(void) {
    ended_when_a_batch_is_full();
    a_name_that_is_not_durable();
    a_name_that_is_taken_back();
    names_of_bases_come_first();
    leases_that_cannot_be_asked();
    ends_that_say_what_is_not_so();
    a_floor_over_a_damaged_trailer();
    generations_end();
    a_part_before_a_damaged_one();
    return 0;
}
