/* test_survivors.c: compactions of random histories against a model that knows of each byte who wrote it last, after every record.
 *
 * What a root shows stays as it is: bytes, size, last write, data bytes, and what changed between two. Any other point reads right or is said to be gone.
 * No payload block is kept that no root needs; an estimate is exact; which root a block is there for is counted right. */
#include <stdlib.h>

#include "base_move.h"
#include "codec.h"
#include "compact.h"
#include "faults.h"
#include "journal_ground.h"

enum { SIZE = 10 * VS_BLOCK, VOLUMES = 3, POINTS = 340, PIECES = 6000, SEEDS = 6 };

/* One volume after one record. */
typedef struct moment {
    uint32_t id; /* another one when it was removed and another volume took its place; 0: none yet */
    int there;
    uint64_t size, last_write_seqno, last_write_ns;
    uint8_t bytes[SIZE];
    uint32_t writer[SIZE];
} moment;

typedef struct world {
    vs_store *store;
    vs_journal *journal;
    uint64_t random, seqno;
    uint32_t last_id;
    moment now[VOLUMES], *at[VOLUMES][POINTS]; /* at[v][seqno] */
    uint8_t bookmark[POINTS];                  /* a bookmark's event */
    vs_journal_row pieces[PIECES];             /* as they were first written */
    int piece_count;
    uint64_t roots[POINTS], root_count, moved; /* moved: bases are at this seqno */
} world;

/* ---- histories ---- */

static void remember(world *w, uint64_t seqno) {
    CHECK_EQ(seqno, w->seqno + 1);
    CHECK(seqno < POINTS);
    w->seqno = seqno;
    for (int v = 0; v < VOLUMES; v++) {
        CHECK((w->at[v][seqno] = malloc(sizeof(moment))) != NULL);
        memcpy(w->at[v][seqno], &w->now[v], sizeof(moment));
    }
}

static void put(world *w, int v, uint64_t offset, uint64_t length, const uint8_t *bytes, uint64_t seqno) {
    moment *m = &w->now[v];
    for (uint64_t i = 0; i < length; i++) {
        m->bytes[offset + i] = bytes ? bytes[i] : 0;
        m->writer[offset + i] = (uint32_t)seqno;
    }
    m->last_write_seqno = seqno;
}

/* Somewhere, mostly where others were: whole blocks, parts of them, or anything. */
static void place(world *w, const moment *m, uint64_t *offset, uint64_t *length) {
    uint64_t unit = draw_below(&w->random, 3) ? 512 : draw_below(&w->random, 2) ? VS_BLOCK : 1;
    *offset = draw_below(&w->random, m->size) / unit * unit;
    *length = (1 + draw_below(&w->random, draw_below(&w->random, 3) ? VS_BLOCK : 4 * VS_BLOCK)) / unit * unit;
    if (*length == 0) *length = unit;
    if (*length > m->size - *offset) *length = m->size - *offset;
}

static void write_some(world *w, int v) {
    static uint8_t bytes[SIZE];
    uint64_t offset, length, seqno;
    place(w, &w->now[v], &offset, &length);
    for (uint64_t i = 0; i < length; i++) bytes[i] = (uint8_t)(1 + draw_below(&w->random, 255));
    if (draw_below(&w->random, 4) == 0) memset(bytes + length / 3, 0, length / 2);
    CHECK_EQ(vs_journal_write(w->journal, w->now[v].id, offset, bytes, length, NULL, &seqno), 0);
    put(w, v, offset, length, bytes, seqno);
    remember(w, seqno);
}

static void zero_some(world *w, int v) {
    uint64_t offset, length, seqno;
    place(w, &w->now[v], &offset, &length);
    CHECK_EQ(vs_journal_zero(w->journal, w->now[v].id, offset, length, NULL, &seqno), 0);
    put(w, v, offset, length, NULL, seqno);
    remember(w, seqno);
}

static void resize(world *w, int v) {
    moment *m = &w->now[v];
    uint64_t seqno, size = (1 + draw_below(&w->random, SIZE / 512)) * 512, from = size < m->size ? size : m->size, to = size < m->size ? m->size : size;
    if (size == m->size) return;
    CHECK_EQ(vs_journal_event(w->journal, VS_RECORD_VOLUME_RESIZE, w->now[v].id, 0, size, NULL, 0, &seqno, NULL), 0);
    put(w, v, from, to - from, NULL, seqno);
    m->size = size;
    remember(w, seqno);
}

static void come_or_go(world *w, int v) {
    moment *m = &w->now[v];
    uint64_t seqno;
    if (m->there) {
        CHECK_EQ(vs_journal_event(w->journal, VS_RECORD_VOLUME_REMOVE, w->now[v].id, 0, 0, NULL, 0, &seqno, NULL), 0);
        m->there = 0;
    } else {
        *m = (moment){.there = 1, .size = SIZE};
        CHECK_EQ(vs_journal_event(w->journal, VS_RECORD_VOLUME_ADD, 0, 512, SIZE, "{}", 2, &seqno, &m->id), 0);
        m->last_write_seqno = seqno;
        w->last_id = m->id;
    }
    remember(w, seqno);
}

static void mark(world *w) {
    uint64_t seqno;
    CHECK_EQ(vs_journal_event(w->journal, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{\"name\":\"b\"}", 12, &seqno, NULL), 0);
    w->bookmark[seqno] = 1;
    remember(w, seqno);
}

static void step(world *w) {
    int v = (int)draw_below(&w->random, VOLUMES);
    if (!w->now[v].there) {
        if (draw_below(&w->random, 4) == 0) come_or_go(w, v);
        return;
    }
    switch (draw_below(&w->random, 16)) {
    case 0: if (draw_below(&w->random, 4) == 0) come_or_go(w, v); break;
    case 1: resize(w, v); break;
    case 2: case 3: case 4: zero_some(w, v); break;
    case 5: case 6: mark(w); break;
    default: write_some(w, v);
    }
}

static void pieces_load(world *w) {
    for (uint64_t after = 0;;) {
        CHECK(PIECES - w->piece_count >= 258);
        int n = vs_journal_rows(w->journal, after, w->pieces + w->piece_count, PIECES - w->piece_count);
        CHECK(n >= 0);
        if (n == 0) return;
        after = w->pieces[w->piece_count + n - 1].seqno;
        w->piece_count += n;
    }
}

static void times_load(world *w) {
    for (uint64_t seqno = 1; seqno <= w->seqno; seqno++)
        for (int v = 0; v < VOLUMES; v++) {
            moment *m = w->at[v][seqno];
            if (m->last_write_seqno) CHECK_EQ(vs_journal_time_of(w->journal, m->last_write_seqno, &m->last_write_ns), 0);
        }
}

static void world_begin(world *w, uint64_t seed, int steps, uint64_t per_segment) {
    memset(w, 0, sizeof *w);
    w->random = seed;
    w->store = ground_make();
    w->journal = ground_open(w->store, 1, 0, 0);
    for (int i = 0; i < steps; i++) {
        step(w);
        if (draw_below(&w->random, per_segment) == 0) CHECK_EQ(vs_journal_seal(w->journal), 0);
    }
    mark(w);
    CHECK_EQ(vs_journal_seal(w->journal), 0);
    pieces_load(w);
    times_load(w);
}

static void world_end(world *w) {
    CHECK_EQ(vs_journal_close(w->journal), 0);
    vs_store_close(w->store);
    for (int v = 0; v < VOLUMES; v++)
        for (int i = 0; i < POINTS; i++) free(w->at[v][i]);
}

/* ---- what must hold ---- */

static int is_root(const world *w, uint64_t seqno) {
    for (uint64_t i = 0; i < w->root_count; i++)
        if (w->roots[i] == seqno) return 1;
    return seqno >= w->roots[w->root_count - 1];
}

/* A volume at a point, by its id; NULL: it is not there. */
static const moment *moment_of(const world *w, uint64_t id, uint64_t seqno) {
    for (int v = 0; v < VOLUMES; v++)
        if (w->at[v][seqno]->id == id && w->at[v][seqno]->there) return w->at[v][seqno];
    return NULL;
}

static void state_check(vs_view *v, const moment *m) {
    vs_volume_state state;
    vs_run run;
    uint64_t data_bytes = 0;
    for (uint64_t at = 0; vs_view_run(v, at, &run); at += run.length_bytes)
        if (run.kind == VS_RUN_DATA) data_bytes += run.length_bytes;
    CHECK_EQ(vs_view_stat(v, &state), 0);
    CHECK_EQ(state.data_bytes, data_bytes);
    CHECK_EQ(state.size_bytes, m->size);
    CHECK_EQ(state.last_write_seqno, m->last_write_seqno);
    CHECK_EQ(state.last_write_ns, m->last_write_ns);
}

/* Roots read as they did; all others too, or they are gone. */
static void point_check(const world *w, vs_journal *j, int v, uint64_t seqno) {
    static uint8_t bytes[SIZE];
    const moment *m = w->at[v][seqno];
    vs_view *view;
    if (!m->id) return;
    int r = vs_view_open(j, m->id, seqno, &view);
    if (r == -ERANGE && !is_root(w, seqno)) return;
    CHECK_EQ(r, m->there ? 0 : -ENOENT);
    if (r < 0) return;
    CHECK_EQ(vs_view_read(view, 0, bytes, SIZE), m->size);
    CHECK(memcmp(bytes, m->bytes, m->size) == 0);
    if (is_root(w, seqno)) state_check(view, m);
    vs_view_close(view);
}

/* What is not said to have changed between two roots did not. */
static void changes_check(const world *w, vs_journal *j, int v, uint64_t since, uint64_t until) {
    const moment *a = w->at[v][since], *b = w->at[v][until];
    vs_view *view;
    vs_run run;
    if (since == until || !a->there || !b->there || a->id != b->id) return;
    CHECK_EQ(vs_view_open_changes(j, a->id, since, until, &view), 0);
    for (uint64_t at = 0; vs_view_run(view, at, &run); at += run.length_bytes) {
        uint64_t end = at + run.length_bytes < a->size ? at + run.length_bytes : a->size;
        if (run.kind == VS_RUN_HOLE && end > at) CHECK(memcmp(a->bytes + at, b->bytes + at, end - at) == 0);
    }
    vs_view_close(view);
}

static void roots_check(const world *w) {
    for (int v = 0; v < VOLUMES; v++)
        for (uint64_t i = 0; i < w->root_count; i++) point_check(w, w->journal, v, w->roots[i]);
}

static void journal_check(world *w, vs_journal *j) {
    vs_segment_facts f;
    vs_fault fault;
    char name[64];
    for (int v = 0; v < VOLUMES; v++) {
        for (uint64_t seqno = w->roots[0]; seqno <= w->seqno; seqno++) point_check(w, j, v, seqno);
        for (uint64_t i = 1; i < w->root_count; i++) changes_check(w, j, v, w->roots[draw_below(&w->random, i)], w->roots[i]);
    }
    for (uint64_t i = 0, at = 0; vs_journal_segment_at(j, i, &f) == 0; i++) {
        int r = vs_journal_check_segment(j, f.first_seqno, 1, &at, &fault);
        if (r) fprintf(stderr, "%s\n", fault.text);
        CHECK_EQ(r, 0);
    }
    for (uint64_t i = 0; vs_journal_check_map(j, i, &fault, name) != -ENOENT; i++) CHECK_EQ(vs_journal_check_map(j, i, &fault, name), 0);
}

/* Which roots need block number `block` of what a piece put into its volume: how many, and the last of them. */
static uint64_t needed_by(const world *w, const vs_journal_row *p, uint64_t block, uint64_t *last) {
    uint64_t count = 0, from = block * VS_BLOCK, to = from + VS_BLOCK;
    if (from < p->offset_bytes) from = p->offset_bytes;
    if (to > p->offset_bytes + p->length_bytes) to = p->offset_bytes + p->length_bytes;
    for (uint64_t i = 0; i < w->root_count; i++) {
        const moment *m = moment_of(w, p->volume, w->roots[i]);
        int needs = 0;
        for (uint64_t x = from; x < to && m && w->roots[i] >= p->seqno; x++) needs |= m->writer[x] == p->seqno;
        count += (uint64_t)needs;
        if (needs) *last = i;
    }
    return count;
}

static uint64_t blocks_needed(const world *w, uint64_t first_seqno, uint64_t last_seqno) {
    uint64_t count = 0, ignored;
    for (int i = 0; i < w->piece_count; i++) {
        const vs_journal_row *p = &w->pieces[i];
        if (p->zero || p->seqno < first_seqno || p->seqno > last_seqno) continue;
        for (uint64_t b = p->offset_bytes / VS_BLOCK; b <= (p->offset_bytes + p->length_bytes - 1) / VS_BLOCK; b++) count += needed_by(w, p, b, &ignored) > 0;
    }
    return count;
}

/* Before anything is compacted. */
static void space_check(world *w) {
    uint64_t exclusive[POINTS] = {0}, told[POINTS], garbage = 0, told_garbage;
    for (int i = 0; i < w->piece_count; i++) {
        const vs_journal_row *p = &w->pieces[i];
        if (p->zero || p->seqno > w->roots[w->root_count - 1]) continue;
        for (uint64_t b = p->offset_bytes / VS_BLOCK; b <= (p->offset_bytes + p->length_bytes - 1) / VS_BLOCK; b++) {
            uint64_t last = 0, count = needed_by(w, p, b, &last);
            if (count == 0) garbage += VS_BLOCK;
            if (count == 1) exclusive[last] += VS_BLOCK;
        }
    }
    CHECK_EQ(vs_journal_space(w->journal, w->roots, w->root_count, told, &told_garbage), 0);
    for (uint64_t i = 0; i < w->root_count; i++) CHECK_EQ(told[i], exclusive[i]);
    CHECK_EQ(told_garbage, garbage);
}

/* ---- compactions ---- */

static void roots_choose(world *w, uint64_t window, uint64_t one_of) {
    w->root_count = 0;
    for (uint64_t seqno = 1; seqno < window; seqno++)
        if (draw_below(&w->random, one_of) == 0) w->roots[w->root_count++] = seqno;
    w->roots[w->root_count++] = window;
}

/* Some roots go, and the window moves on. Points that can still be opened may become roots. */
static void roots_drop(world *w, uint64_t window) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < w->root_count; i++)
        if (w->roots[i] < window && draw_below(&w->random, 3)) w->roots[kept++] = w->roots[i];
    w->roots[kept++] = window;
    w->root_count = kept;
}

static uint64_t file_bytes(const vs_segment_facts *f) {
    char name[80];
    struct stat st;
    snprintf(name, sizeof name, "journal/%020" PRIu64 "-%" PRIu64 ".seg", f->first_seqno, f->generation);
    CHECK_EQ(stat(name, &st), 0);
    return (uint64_t)st.st_size;
}

static void segment_of_ordinal(vs_journal *j, uint64_t ordinal, vs_segment_facts *out) {
    for (uint64_t i = 0; vs_journal_segment_at(j, i, out) == 0; i++)
        if (out->ordinal <= ordinal && ordinal < out->ordinal + out->ordinals) return;
    CHECK(0);
}

/* Bookmarks that are no roots may go. */
static uint64_t bookmarks_dropped(world *w, uint64_t *dropped) {
    uint64_t count = 0;
    for (uint64_t seqno = 1; seqno <= w->seqno; seqno++)
        if (w->bookmark[seqno] && !is_root(w, seqno) && draw_below(&w->random, 2)) dropped[count++] = seqno;
    return count;
}

/* What it says goes into the log, if it is an error. */
static int said(int status) {
    vs_fault fault;
    vs_fault_last(&fault);
    if (status < 0) fprintf(stderr, "%s\n", fault.text);
    return status;
}

static int compact(world *w, uint64_t first, uint64_t count) {
    uint64_t dropped[POINTS], n = bookmarks_dropped(w, dropped);
    vs_compact_facts estimate, facts;
    vs_segment_facts made;
    int r = vs_journal_compact_estimate(w->journal, first, count, w->roots, w->root_count, dropped, n, 0, &estimate);
    CHECK_EQ(vs_journal_compact(w->journal, first, count, w->roots, w->root_count, dropped, n, &facts), r);
    if (r != 1) return r;
    CHECK(memcmp(&estimate, &facts, sizeof facts) == 0);
    segment_of_ordinal(w->journal, first, &made);
    CHECK_EQ(made.ordinals, count);
    CHECK_EQ(made.bytes, facts.bytes_after);
    CHECK_EQ(file_bytes(&made), facts.bytes_after);
    uint64_t needed = blocks_needed(w, made.first_seqno, made.last_seqno);
    CHECK(w->moved ? facts.payload_blocks <= needed : facts.payload_blocks == needed);
    CHECK(facts.records_after <= facts.records_before);
    return 1;
}

/* Compact so many random groups of each size that can be. */
static int compact_some(world *w, int tries) {
    vs_journal_facts facts;
    vs_segment_facts last;
    int done = 0;
    for (int i = 0; i < tries; i++) {
        uint64_t count = draw_below(&w->random, 3) ? 8 : draw_below(&w->random, 2) ? 1 : 64;
        vs_journal_facts_get(w->journal, &facts);
        CHECK_EQ(vs_journal_segment_at(w->journal, facts.segments - 1, &last), 0);
        uint64_t groups = (last.ordinal + count) / count;
        done += compact(w, draw_below(&w->random, groups) * count, count) == 1;
    }
    return done;
}

static void reopen(world *w) {
    CHECK_EQ(vs_journal_close(w->journal), 0);
    w->journal = ground_open(w->store, 1, 0, 0);
}

static void in_own_directory(const char *kind, uint64_t seed) {
    char name[32];
    snprintf(name, sizeof name, "%s%d", kind, (int)seed);
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
}

/* The oldest root becomes the floor, and bases go there. */
static void bases_move(world *w) {
    vs_base_move_facts facts;
    CHECK_EQ(vs_journal_floor(w->journal, w->roots[0]), 0);
    for (uint32_t id = 1; id <= w->last_id; id++) {
        int r = vs_journal_base_move(w->journal, id, w->roots[0], &facts);
        CHECK(r == 0 || r == 1);
    }
    w->moved = w->roots[0];
}

static void round_of(world *w, int with_bases) {
    int done = compact_some(w, 6);
    if (draw_below(&w->random, 2)) while (vs_journal_merge_maps(w->journal) > 0) {}
    journal_check(w, w->journal);
    if (done) reopen(w);
    vs_journal *reader = ground_open(w->store, 0, 0, 0);
    journal_check(w, reader);
    CHECK_EQ(vs_journal_close(reader), 0);
    if (with_bases && draw_below(&w->random, 2)) bases_move(w);
}

static void equals_model(uint64_t seed) {
    static world w;
    int with_bases = seed % 3 == 0;
    in_own_directory("seed", seed);
    world_begin(&w, seed, 320, seed % 4 == 1 ? 3 : 9);
    uint64_t window = w.seqno / 4 + draw_below(&w.random, w.seqno / 2);
    roots_choose(&w, window, 2 + draw_below(&w.random, 20));
    space_check(&w);
    journal_check(&w, w.journal);
    for (int round = 0; round < 4; round++) {
        round_of(&w, with_bases);
        window += draw_below(&w.random, w.seqno - window + 1);
        roots_drop(&w, window);
    }
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* What compactions will come to once bases have moved is known before, where they go from the oldest segment on. */
static void estimates_moves(uint64_t seed) {
    static world w;
    vs_compact_facts before[POINTS], facts;
    uint64_t count = 0, ordinal = 0;
    in_own_directory("moves", seed);
    world_begin(&w, seed, 320, 12);
    roots_choose(&w, w.seqno - 20, 12);
    uint64_t floor_seqno = w.seqno / 3, kept = 0;
    for (uint64_t i = 0; i < w.root_count; i++)
        if (w.roots[i] >= floor_seqno) w.roots[kept++] = w.roots[i];
    floor_seqno = w.roots[0];
    w.root_count = kept;
    while (vs_journal_compact_estimate(w.journal, count, 1, w.roots, w.root_count, NULL, 0, floor_seqno, &before[count]) == 1) count++;
    bases_move(&w);
    for (; ordinal < count; ordinal++) {
        CHECK_EQ(said(vs_journal_compact(w.journal, ordinal, 1, w.roots, w.root_count, NULL, 0, &facts)), 1);
        CHECK_EQ(facts.payload_blocks, before[ordinal].payload_blocks);
        /* A base knows zeros by the block, and by its bytes; maps do not. So whether a zero hides anything is known to a few records. */
        CHECK(llabs((int64_t)(facts.records_after - before[ordinal].records_after)) <= 4);
        CHECK(llabs((int64_t)(facts.bytes_after - before[ordinal].bytes_after)) <= VS_BLOCK);
    }
    CHECK(count > 10);
    journal_check(&w, w.journal);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* Older segments hide what the bases have, until they are compacted too. */
static void newest_first_over_moved_bases(uint64_t seed) {
    static world w;
    vs_segment_facts f;
    in_own_directory("newest", seed);
    world_begin(&w, seed, 300, 10);
    roots_choose(&w, w.seqno - 20, 10);
    memmove(w.roots, w.roots + w.root_count / 2, (w.root_count - w.root_count / 2) * sizeof *w.roots);
    w.root_count -= w.root_count / 2;
    bases_move(&w);
    uint64_t ordinal = 0;
    while (vs_journal_segment_at(w.journal, ordinal, &f) == 0 && f.last_seqno <= w.roots[w.root_count - 1]) ordinal++;
    CHECK(ordinal > 10);
    while (ordinal-- > 0) {
        CHECK_EQ(compact(&w, ordinal, 1), 1);
        if (ordinal % 4 == 0) journal_check(&w, w.journal);
    }
    for (uint64_t first = 0; compact(&w, first, 8) == 1; first += 8) {}
    journal_check(&w, w.journal);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* Whichever allocation fails, the journal stays as it is, or is compacted. */
static void survives_no_memory(void) {
    static world w;
    vs_compact_facts facts;
    in_own_directory("memory", 0);
    world_begin(&w, 5, 200, 6);
    roots_choose(&w, w.seqno - 10, 6);
    for (long good = 0;; good++) {
        faults_fail_allocations(good);
        int r = vs_journal_compact(w.journal, 0, 8, w.roots, w.root_count, NULL, 0, &facts), failed = faults_allocation_failed();
        faults_fail_allocations(-1);
        CHECK(r == 1 || (r < 0 && failed));
        if (good % 16 == 0) journal_check(&w, w.journal);
        if (!failed) break;
    }
    journal_check(&w, w.journal);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* A block that is needed is damaged: it is said which, and the group stays. One that nobody needs is in nobody's way. */
static void refuses_damage(void) {
    static world w;
    vs_compact_facts facts;
    vs_segment_facts f;
    vs_fault fault;
    uint8_t byte;
    in_own_directory("damage", 0);
    world_begin(&w, 6, 60, 1000);
    roots_choose(&w, w.seqno, 5);
    CHECK_EQ(vs_journal_segment_at(w.journal, 0, &f), 0);
    char name[64];
    snprintf(name, sizeof name, "journal/%020" PRIu64 ".seg", f.first_seqno);
    int file = open(name, O_RDWR), needed = 0, spared = 0;
    CHECK(file >= 0);
    for (uint64_t at = f.bytes - VS_BLOCK + 100; at > 2 * VS_BLOCK && !spared; at -= VS_BLOCK) { /* the newest are needed */
        uint64_t next = 0;
        CHECK_EQ(pread(file, &byte, 1, (off_t)at), 1);
        byte ^= 1;
        CHECK_EQ(pwrite(file, &byte, 1, (off_t)at), 1);
        int damaged = vs_journal_check_segment(w.journal, f.first_seqno, 1, &next, &fault) == 1 && fault.code == -EBADMSG;
        int r = damaged ? vs_journal_compact(w.journal, 0, 1, w.roots, w.root_count, NULL, 0, &facts) : 0;
        byte ^= 1;
        CHECK_EQ(pwrite(file, &byte, 1, (off_t)at), 1);
        if (!damaged) continue; /* of a descriptor, or the footer */
        needed += r < 0;
        spared += r == 1;
        if (r < 0) {
            vs_fault said;
            vs_fault_last(&said);
            CHECK_EQ(r, -EBADMSG);
            CHECK_EQ(said.code, -EBADMSG);
            CHECK_EQ(said.offset_bytes, at / VS_BLOCK * VS_BLOCK);
            CHECK(said.volume && said.seqno);
            CHECK_EQ(access("journal/compact.new", F_OK), -1);
        }
    }
    close(file);
    CHECK(needed > 3 && spared == 1);
    journal_check(&w, w.journal);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

/* However many holes later writes left of a zero, it stays one piece: who asks for rows gets each record whole. */
static void records_stay_of_few_pieces(void) {
    enum { LARGE = 8 << 20, STEP = 8192 };
    static uint8_t bytes[VS_WRITE_MAX];
    vs_journal_row rows[258];
    vs_compact_facts facts;
    uint64_t roots[2], after = 0, records = 0;
    in_own_directory("rows", 0);
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 1 << 30, 0);
    uint32_t volume = ground_volume(j, LARGE);
    memset(bytes, 7, sizeof bytes);
    for (uint64_t at = 0; at < LARGE; at += sizeof bytes) CHECK_EQ(vs_journal_write(j, volume, at, bytes, sizeof bytes, NULL, NULL), 0);
    ground_mark(j, &roots[0]);
    CHECK_EQ(vs_journal_zero(j, volume, 0, LARGE, NULL, NULL), 0);
    for (uint64_t at = 0; at < LARGE; at += STEP) CHECK_EQ(vs_journal_write(j, volume, at, bytes, 512, NULL, NULL), 0);
    ground_mark(j, &roots[1]);
    CHECK_EQ(vs_journal_seal(j), 0);
    CHECK_EQ(vs_journal_compact(j, 0, 1, roots, 2, NULL, 0, &facts), 1);
    for (int n; (n = vs_journal_rows(j, after, rows, 258)) != 0; after = rows[n - 1].seqno) {
        CHECK(n > 0);
        for (int i = 0; i < n; i++) records += i == 0 || rows[i].seqno != rows[i - 1].seqno;
    }
    CHECK_EQ(records, LARGE / VS_WRITE_MAX + 1 + LARGE / STEP);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
    CHECK_EQ(chdir(".."), 0);
}

static void flip(const char *name, uint64_t at) {
    uint8_t byte;
    int file = open(name, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pread(file, &byte, 1, (off_t)at), 1);
    byte ^= 16;
    CHECK_EQ(pwrite(file, &byte, 1, (off_t)at), 1);
    close(file);
}

static uint64_t section_at(const char *name, uint64_t bytes, int which) {
    uint8_t place[8];
    int file = open(name, O_RDONLY);
    CHECK(file >= 0);
    CHECK_EQ(pread(file, place, 8, (off_t)(bytes - VS_BLOCK + (which < 5 ? 144 + 24 * (uint64_t)which : 344))), 8);
    close(file);
    return vs_get64(place);
}

/* Whatever section of a footer is damaged, of a segment that is compacted or has been: its batches say the same. */
static void footers_are_derived(void) {
    static world w;
    vs_segment_facts f;
    vs_compact_facts facts, before;
    char name[80];
    in_own_directory("footers", 0);
    world_begin(&w, 8, 250, 10);
    roots_choose(&w, w.seqno - 20, 8);
    for (int which = 0; which < 6; which++) {
        CHECK_EQ(vs_journal_compact_estimate(w.journal, 0, 8, w.roots, w.root_count, NULL, 0, 0, &before), 1);
        segment_of_ordinal(w.journal, which < 5 ? (uint64_t)which : 0, &f);
        if (f.generation) snprintf(name, sizeof name, "journal/%020" PRIu64 "-%" PRIu64 ".seg", f.first_seqno, f.generation);
        else snprintf(name, sizeof name, "journal/%020" PRIu64 ".seg", f.first_seqno);
        flip(name, section_at(name, f.bytes, f.generation ? which : which % 5));
        reopen(&w);
        roots_check(&w);
        CHECK_EQ(said(vs_journal_compact(w.journal, 0, 8, w.roots, w.root_count, NULL, 0, &facts)), 1);
        CHECK_EQ(facts.bytes_after, before.bytes_after);
        roots_check(&w);
    }
    journal_check(&w, w.journal);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

static void refuses_what_is_wrong(void) {
    static world w;
    vs_compact_facts facts;
    in_own_directory("wrong", 0);
    world_begin(&w, 7, 60, 1000);
    uint64_t points[3] = {5, 5, w.seqno}, added = 1, garbage, exclusive[3];
    CHECK_EQ(vs_journal_compact_estimate(w.journal, 0, 1, points, 3, NULL, 0, 0, &facts), -EINVAL); /* not ascending */
    CHECK_EQ(vs_journal_space(w.journal, points, 3, exclusive, &garbage), -EINVAL);
    points[1] = 6;
    points[2] = w.seqno + 1;
    CHECK_EQ(vs_journal_compact(w.journal, 0, 1, points, 3, NULL, 0, &facts), 0); /* not there yet */
    points[2] = w.seqno;
    CHECK_EQ(vs_journal_compact(w.journal, 0, 1, points, 3, &added, 1, &facts), w.bookmark[1] ? 1 : -EINVAL); /* a volume's event is kept */
    CHECK_EQ(vs_journal_compact(w.journal, 0, 1, points, 3, NULL, 0, &facts), 1);
    points[1] = 7;
    CHECK_EQ(vs_journal_compact(w.journal, 0, 1, points, 3, NULL, 0, &facts), -ERANGE); /* a point that is gone */
    vs_journal_work_end(w.journal);
    CHECK_EQ(vs_journal_compact(w.journal, 0, 1, points, 1, NULL, 0, &facts), 0);
    CHECK_EQ(vs_journal_compact_estimate(w.journal, 0, 1, points + 2, 1, NULL, 0, 0, &facts), -ECANCELED);
    world_end(&w);
    CHECK_EQ(chdir(".."), 0);
}

int main(void) {
    const char *seeds = getenv("VSNAPFS_SURVIVOR_SEEDS");
    for (uint64_t seed = 1; seed <= (seeds ? (uint64_t)atoi(seeds) : SEEDS); seed++) {
        fprintf(stderr, "history of seed %d\n", (int)seed);
        equals_model(seed);
    }
    for (uint64_t seed = 1; seed <= 3; seed++) estimates_moves(seed);
    for (uint64_t seed = 1; seed <= 4; seed++) newest_first_over_moved_bases(seed);
    survives_no_memory();
    refuses_damage();
    records_stay_of_few_pieces();
    footers_are_derived();
    refuses_what_is_wrong();
    return 0;
}
