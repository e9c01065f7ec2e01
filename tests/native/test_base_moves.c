/* Floors and moves of bases, on random histories: whatever is moved, every point from the floor on reads as before, also by views that are older
 * than the move, in a journal that follows, and while the move is made; and the base alone is the volume as it was at the floor. */
#include <pthread.h>
#include <stdatomic.h>

#include "base.h"
#include "base_move.h"
#include "codec.h"
#include "compact.h"
#include "journal_ground.h"

enum { BYTES_MAX = 48 * 4096, VOLUMES = 3, RECORDS_MAX = 400, KEPT_VIEWS = 24, RUNS_MAX = 4096 };

/* ---- what must be read ---- */

typedef struct model_volume {
    uint32_t id;
    uint64_t size_bytes, added_seqno, removed_seqno, last_write_seqno;
    uint8_t bytes[BYTES_MAX];
} model_volume;

typedef struct model {
    uint64_t seed, last_seqno, floor_seqno;
    model_volume now[VOLUMES];
    model_volume *at[RECORDS_MAX][VOLUMES]; /* by seqno: NULL: not there */
    uint8_t dropped[RECORDS_MAX];           /* points that a compaction took */
} model;

/* A point from `from` on that can be opened; the last always can. */
static uint64_t draw_point(model *m, uint64_t from) {
    uint64_t seqno = from + draw_below(&m->seed, m->last_seqno - from + 1);
    while (m->dropped[seqno]) seqno++;
    return seqno;
}

static void model_note(model *m, uint64_t seqno) {
    CHECK(seqno < RECORDS_MAX);
    for (int i = 0; i < VOLUMES; i++) {
        const model_volume *v = &m->now[i];
        if (!v->id || v->removed_seqno) continue;
        m->at[seqno][i] = malloc(sizeof *v);
        CHECK(m->at[seqno][i]);
        *m->at[seqno][i] = *v;
    }
    m->last_seqno = seqno;
}

static void model_free(model *m) {
    for (int i = 0; i < RECORDS_MAX; i++)
        for (int k = 0; k < VOLUMES; k++) free(m->at[i][k]);
    free(m);
}

/* ---- a history ---- */

static void put(vs_journal *j, model *m, model_volume *v, uint64_t offset, uint64_t length, int zero) {
    static uint8_t bytes[BYTES_MAX];
    uint64_t seqno;
    for (uint64_t i = 0; i < length; i++) bytes[i] = zero || draw_below(&m->seed, 16) == 0 ? 0 : (uint8_t)draw(&m->seed);
    if (zero) CHECK_EQ(vs_journal_zero(j, v->id, offset, length, NULL, &seqno), 0);
    else CHECK_EQ(vs_journal_write(j, v->id, offset, bytes, length, NULL, &seqno), 0);
    memcpy(v->bytes + offset, bytes, length);
    v->last_write_seqno = seqno;
    model_note(m, seqno);
}

/* Whole blocks, a few sectors, or any bytes. */
static void draw_range(model *m, const model_volume *v, uint64_t *offset, uint64_t *length) {
    uint64_t unit = draw_below(&m->seed, 3);
    unit = unit == 0 ? 4096 : unit == 1 ? 512 : 1;
    uint64_t units = v->size_bytes / unit, first = draw_below(&m->seed, units), most = units - first;
    uint64_t cap = unit == 1 ? 9000 : 40960 / unit;
    *offset = first * unit;
    *length = (1 + draw_below(&m->seed, most < cap ? most : cap)) * unit;
}

static void resize(vs_journal *j, model *m, model_volume *v) {
    uint64_t size = (1 + draw_below(&m->seed, BYTES_MAX / 512)) * 512, seqno;
    if (size < 8192 || size == v->size_bytes) return;
    CHECK_EQ(vs_journal_event(j, VS_RECORD_VOLUME_RESIZE, v->id, 0, size, "", 0, &seqno, NULL), 0);
    if (size < v->size_bytes) memset(v->bytes + size, 0, BYTES_MAX - size);
    v->size_bytes = size;
    v->last_write_seqno = seqno;
    model_note(m, seqno);
}

static void add(vs_journal *j, model *m, int which, uint64_t size) {
    model_volume *v = &m->now[which];
    uint64_t seqno;
    uint32_t id = v->id;
    CHECK_EQ(vs_journal_event(j, VS_RECORD_VOLUME_ADD, id, 512, size, "{}", 2, &seqno, &id), 0);
    v->id = id;
    v->size_bytes = size;
    v->added_seqno = v->last_write_seqno = seqno;
    model_note(m, seqno);
}

static void step(vs_journal *j, model *m) {
    model_volume *v = &m->now[draw_below(&m->seed, VOLUMES)];
    uint64_t offset, length, what = draw_below(&m->seed, 40), seqno;
    if (!v->id || v->removed_seqno) v = &m->now[0];
    draw_range(m, v, &offset, &length);
    if (what < 26) put(j, m, v, offset, length, 0);
    else if (what < 33) put(j, m, v, offset, length, 1);
    else if (what < 36) resize(j, m, v);
    else if (what < 37) CHECK_EQ(vs_journal_seal(j), 0);
    else if (what < 38) CHECK(vs_journal_merge_maps(j) >= 0);
    else {
        ground_mark(j, &seqno);
        model_note(m, seqno);
    }
}

/* Volume 1 has a base of its own, whose blocks at odd places are holes. */
static void base_make(vs_store *s, model_volume *v, uint32_t id, uint64_t size, uint64_t *seed) {
    vs_base_builder *b;
    uint64_t data_bytes;
    int source = ground_primary("source", size), create = VS_OPEN_WRITE | VS_OPEN_CREATE;
    char name[32];
    for (uint64_t at = 0; at < size; at += 4096) {
        uint64_t n = size - at < 4096 ? size - at : 4096;
        if (at / 4096 % 5 == 3) continue;
        for (uint64_t i = 0; i < n; i++) v->bytes[at + i] = (uint8_t)draw(seed);
        CHECK_EQ(pwrite(source, v->bytes + at, n, (off_t)at), n);
    }
    snprintf(name, sizeof name, "base/%08x.img", id);
    int image = s->open(s, name, (uint32_t)create);
    snprintf(name, sizeof name, "base/%08x.idx", id);
    int index = s->open(s, name, (uint32_t)create);
    CHECK(image >= 0 && index >= 0);
    CHECK_EQ(vs_base_builder_new(s, ground_uuid, id, size, source, image, index, &b), 0);
    CHECK_EQ(vs_base_builder_take(b, 0, size, 1), 0);
    CHECK_EQ(vs_base_builder_finish(b, &data_bytes), 0);
    vs_base_builder_free(b);
    s->close(s, image);
    s->close(s, index);
    close(source);
    unlink("source");
}

/* ---- what is read ---- */

static void view_compare(vs_view *v, const model_volume *want) {
    static _Thread_local uint8_t got[BYTES_MAX];
    CHECK_EQ(vs_view_size(v), want->size_bytes);
    CHECK_EQ(vs_view_read(v, 0, got, BYTES_MAX), want->size_bytes);
    for (uint64_t i = 0; i < want->size_bytes; i++)
        if (got[i] != want->bytes[i]) {
            fprintf(stderr, "volume %u: byte %" PRIu64 " is %u, not %u\n", want->id, i, got[i], want->bytes[i]);
            exit(1);
        }
}

/* Data as the view's maps have it: extents, joined. Returns their sum. */
static uint64_t data_runs(vs_view *v, vs_run *runs, int *count) {
    uint64_t next, bytes = 0;
    int n = vs_view_runs(v, 0, 0, runs, RUNS_MAX, &next);
    CHECK(n >= 0 && n < RUNS_MAX);
    *count = 0;
    for (int i = 0; i < n; i++)
        if (runs[i].kind == VS_RUN_DATA) {
            bytes += runs[i].length_bytes;
            runs[(*count)++] = runs[i];
        }
    return bytes;
}

static void point_check(vs_journal *j, const model *m, uint64_t seqno) {
    for (int i = 0; i < VOLUMES; i++) {
        const model_volume *want = m->at[seqno][i];
        vs_view *v;
        vs_volume_state state, at;
        if (!m->now[i].id) continue;
        int r = vs_view_open(j, m->now[i].id, seqno, &v);
        CHECK_EQ(r, want ? 0 : -ENOENT);
        if (r < 0) continue;
        static vs_run runs[RUNS_MAX];
        int count;
        view_compare(v, want);
        CHECK_EQ(vs_view_stat(v, &state), 0);
        CHECK_EQ(state.last_write_seqno, want->last_write_seqno);
        CHECK_EQ(state.data_bytes, data_runs(v, runs, &count));
        CHECK_EQ(vs_journal_volume_at(j, want->id, seqno, &at), 0);
        CHECK_EQ(at.last_write_seqno, want->last_write_seqno);
        vs_view_close(v);
    }
}

/* Every block that has data has the checksum of what the volume has there, filled up with zeros. */
static void crcs_check(vs_store *s, const model_volume *want, const vs_run *runs, int count) {
    vs_base *b;
    CHECK_EQ(vs_base_open(s, ground_uuid, want->id, &b), 0);
    for (int i = 0; i < count; i++)
        for (uint64_t block = runs[i].offset_bytes / 4096; block * 4096 < runs[i].offset_bytes + runs[i].length_bytes; block++)
            CHECK_EQ(vs_base_crc(b, block), vs_crc32c(want->bytes + block * 4096, 4096));
    vs_base_unref(b);
}

/* The base alone is the volume at the floor, down to which bytes count as data: it is all that is left of it when the records are dropped. */
static void base_check(vs_store *s, vs_journal *j, const model *m, int which, uint64_t seqno) {
    static vs_run runs[RUNS_MAX], want_runs[RUNS_MAX];
    const model_volume *want = m->at[seqno][which];
    vs_view *v, *full;
    vs_volume_state state;
    int count, want_count;
    CHECK_EQ(vs_journal_base_seqno(j, want->id), seqno);
    CHECK_EQ(vs_view_open_base(j, want->id, &v), 0);
    CHECK_EQ(vs_view_open(j, want->id, seqno, &full), 0);
    view_compare(v, want);
    CHECK_EQ(data_runs(v, runs, &count), data_runs(full, want_runs, &want_count));
    CHECK_EQ(count, want_count);
    for (int i = 0; i < count; i++) {
        CHECK_EQ(runs[i].offset_bytes, want_runs[i].offset_bytes);
        CHECK_EQ(runs[i].length_bytes, want_runs[i].length_bytes);
    }
    CHECK_EQ(vs_view_stat(v, &state), 0);
    CHECK_EQ(state.last_write_seqno, want->last_write_seqno);
    CHECK_EQ(state.data_bytes, data_runs(full, want_runs, &want_count));
    CHECK_EQ(vs_journal_check_base(j, want->id), 0);
    crcs_check(s, want, want_runs, want_count);
    vs_view_close(full);
    vs_view_close(v);
}

/* ---- moves ---- */

/* Without what the filesystem needs to find it. */
static uint64_t allocated(uint32_t id) {
    static const char *const suffixes[] = {"img", "idx"};
    uint64_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "base/%08x.%s", id, suffixes[i]);
        int file = open(name, O_RDONLY);
        off_t size = file >= 0 ? lseek(file, 0, SEEK_END) : 0;
        for (off_t at = 0, end; at < size && (at = lseek(file, at, SEEK_DATA)) >= 0; at = end) {
            end = lseek(file, at, SEEK_HOLE);
            bytes += (uint64_t)(end - at + 4095) / 4096 * 4096;
        }
        if (file >= 0) close(file);
    }
    return bytes;
}

static void move_all(vs_store *s, vs_journal *j, const model *m, uint64_t seqno) {
    for (int i = 0; i < VOLUMES; i++) {
        vs_base_move_facts want, got;
        uint32_t id = m->now[i].id;
        if (!id) continue;
        int estimate = vs_journal_base_move_estimate(j, id, seqno, &want);
        int r = vs_journal_base_move(j, id, seqno, &got);
        if (!m->at[seqno][i]) {
            CHECK(r >= 0);
            CHECK_EQ(allocated(id), 0);
            continue;
        }
        CHECK_EQ(r, estimate);
        CHECK_EQ(memcmp(&want, &got, sizeof want), 0);
        if (r == 1) CHECK_EQ(allocated(id), got.bytes_after);
        CHECK_EQ(vs_journal_base_move(j, id, seqno, &got), 0);
        base_check(s, j, m, i, seqno);
    }
}

typedef struct kept_view {
    vs_view *view;
    vs_journal *journal;
    uint64_t seqno;
    const model_volume *want;
} kept_view;

/* Views that were opened before any of the moves behind them. Those of points that the floor passes are closed first. */
typedef struct kept_views {
    kept_view views[KEPT_VIEWS];
    int count;
} kept_views;

static void keep_view(kept_views *k, vs_journal *j, model *m) {
    uint64_t seqno = draw_point(m, m->floor_seqno ? m->floor_seqno : 1);
    const model_volume *want = m->at[seqno][draw_below(&m->seed, 2)];
    if (k->count == KEPT_VIEWS || !want) return;
    kept_view *v = &k->views[k->count++];
    *v = (kept_view){.journal = j, .seqno = seqno, .want = want};
    CHECK_EQ(vs_view_open(j, want->id, seqno, &v->view), 0);
}

static void drop_views(kept_views *k, uint64_t before) {
    int left = 0;
    for (int i = 0; i < k->count; i++) {
        if (k->views[i].seqno < before) vs_view_close(k->views[i].view);
        else k->views[left++] = k->views[i];
    }
    k->count = left;
}

static void floor_move(vs_store *s, vs_journal *j, vs_journal *reader, model *m, kept_views *kept) {
    uint64_t seqno = draw_point(m, m->floor_seqno ? m->floor_seqno : 2), before = m->last_seqno;
    vs_journal_facts facts;
    vs_view *v;
    drop_views(kept, seqno);
    int noted = m->floor_seqno != seqno;
    CHECK_EQ(vs_journal_floor(j, seqno), 0);
    m->floor_seqno = seqno;
    if (noted) model_note(m, before + 1);
    vs_journal_facts_get(j, &facts);
    CHECK_EQ(facts.first_seqno, seqno);
    CHECK(vs_journal_refresh(reader) >= 0);
    vs_journal_facts_get(reader, &facts);
    CHECK_EQ(facts.first_seqno, seqno);
    if (seqno > 2) {
        CHECK_EQ(vs_view_open(j, m->now[0].id, seqno - 1, &v), -ERANGE);
        CHECK_EQ(vs_view_open(reader, m->now[0].id, seqno - 1, &v), -ERANGE);
    }
    move_all(s, j, m, seqno);
}

/* The oldest point from each seqno on that opens is the one that is said to. */
static void next_points_check(vs_journal *j, const model *m) {
    uint64_t open = 0, found;
    CHECK_EQ(vs_journal_point_next(j, m->last_seqno + 1, &found), 0);
    for (uint64_t seqno = m->last_seqno; seqno > 0; seqno--) {
        if (vs_journal_point_check(j, seqno) == 0) open = seqno;
        CHECK_EQ(vs_journal_point_next(j, seqno, &found), 1);
        CHECK_EQ(found, open);
    }
}

static void check_some(vs_journal *j, vs_journal *reader, model *m, const kept_views *kept, int points) {
    CHECK_EQ(vs_journal_commit(j), 0);
    CHECK(vs_journal_refresh(reader) >= 0);
    for (int i = 0; i < points; i++) {
        uint64_t seqno = i == 0 && m->floor_seqno ? m->floor_seqno : draw_point(m, m->floor_seqno ? m->floor_seqno : 1);
        point_check(i % 2 ? reader : j, m, seqno);
    }
    for (int i = 0; i < kept->count; i++) view_compare(kept->views[i].view, kept->views[i].want);
}

/* Keep a few points before a window, and have the journal drop all that neither they nor the window need. Records up to the floor are in the bases. */
static void compact(vs_journal *j, model *m) {
    uint64_t roots[6], window = draw_point(m, m->floor_seqno), count = 0;
    vs_journal_facts facts;
    vs_compact_facts done;
    for (uint64_t seqno = m->floor_seqno; seqno < window && count < 5; seqno += 1 + draw_below(&m->seed, 12))
        if (!m->dropped[seqno]) roots[count++] = seqno;
    roots[count++] = window;
    vs_journal_facts_get(j, &facts);
    int compacted = 0;
    for (uint64_t size = 1; size <= 8; size *= 8)
        for (uint64_t first = 0; first + size <= facts.segments; first += size) {
            int r = vs_journal_compact(j, first, size, roots, count, NULL, 0, &done);
            CHECK(r >= 0);
            compacted += r;
        }
    for (uint64_t seqno = 1, next = 0; compacted && seqno < window; seqno++) {
        if (seqno == roots[next]) next++;
        else m->dropped[seqno] = 1; /* or would be, if its segment had been sealed */
    }
}

static model *history_begin(vs_store *s, vs_journal *j, uint64_t seed) {
    model *m = calloc(1, sizeof *m);
    CHECK(m);
    m->seed = seed;
    add(j, m, 0, 40 * 4096);
    m->now[1].id = 2;
    base_make(s, &m->now[1], 2, 33 * 4096 + 512 * draw_below(&m->seed, 8), &m->seed);
    vs_base *b;
    CHECK_EQ(vs_base_open(s, ground_uuid, 2, &b), 0);
    uint64_t size = vs_base_size_bytes(b);
    vs_base_unref(b);
    add(j, m, 1, size);
    return m;
}

static void enter(const char *name) {
    char there[64];
    snprintf(there, sizeof there, "../%s", name);
    CHECK_EQ(mkdir(there, 0700), 0);
    CHECK_EQ(chdir(there), 0);
}

static void random_history(uint64_t seed) {
    char name[32];
    snprintf(name, sizeof name, "history-%" PRIu64, seed);
    enter(name);
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 64 << 10, 64 << 10), *reader = ground_open(s, 0, 0, 0);
    model *m = history_begin(s, j, seed);
    kept_views kept = {0};
    CHECK_EQ(vs_journal_commit(j), 0);
    for (int round = 0; round < 5; round++) {
        for (uint64_t i = 0, steps = 10 + draw_below(&m->seed, 30); i < steps; i++) step(j, m);
        if (round == 1) add(j, m, 2, 12 * 4096);
        CHECK_EQ(vs_journal_commit(j), 0);
        CHECK(vs_journal_refresh(reader) >= 0);
        for (int i = 0; i < 6; i++) keep_view(&kept, i % 2 ? reader : j, m);
        check_some(j, reader, m, &kept, 4);
        floor_move(s, j, reader, m, &kept);
        check_some(j, reader, m, &kept, 8);
        if (seed % 4) compact(j, m);
        next_points_check(j, m);
        check_some(j, reader, m, &kept, 8);
        if (round == 2) {
            uint64_t seqno;
            CHECK_EQ(vs_journal_event(j, VS_RECORD_VOLUME_REMOVE, m->now[2].id, 0, 0, "", 0, &seqno, NULL), 0);
            m->now[2].removed_seqno = seqno;
            model_note(m, seqno);
        }
        if (round != 3) continue;
        drop_views(&kept, UINT64_MAX);
        vs_journal_close(reader);
        CHECK_EQ(vs_journal_close(j), 0);
        j = ground_open(s, 1, 64 << 10, 64 << 10);
        reader = ground_open(s, 0, 0, 0);
        vs_journal_facts facts;
        vs_journal_facts_get(j, &facts);
        CHECK_EQ(facts.first_seqno, m->floor_seqno);
    }
    drop_views(&kept, UINT64_MAX);
    vs_journal_close(reader);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
    model_free(m);
}

/* ---- beside readers ---- */

typedef struct beside {
    vs_view *views[VOLUMES];
    const model_volume *want[VOLUMES];
    _Atomic int stop;
    int rounds;
} beside;

static void *read_on(void *arg) {
    beside *b = arg;
    while (!atomic_load(&b->stop)) {
        for (int i = 0; i < 2; i++) view_compare(b->views[i], b->want[i]);
        b->rounds++;
    }
    return NULL;
}

/* One thread reads the last point by the base that was there in the beginning, whatever is moved meanwhile. */
static void moves_beside_a_reader(uint64_t seed) {
    enter("beside");
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 64 << 10, 64 << 10), *reader = ground_open(s, 0, 0, 0);
    model *m = history_begin(s, j, seed);
    beside b = {0};
    pthread_t thread;
    for (int i = 0; i < 150; i++) step(j, m);
    CHECK_EQ(vs_journal_commit(j), 0);
    CHECK(vs_journal_refresh(reader) >= 0);
    uint64_t last = m->last_seqno;
    for (int i = 0; i < 2; i++) {
        b.want[i] = m->at[last][i];
        CHECK_EQ(vs_view_open(i ? j : reader, b.want[i]->id, last, &b.views[i]), 0);
    }
    CHECK_EQ(pthread_create(&thread, NULL, read_on, &b), 0);
    for (uint64_t seqno = 2; seqno <= last; seqno += 1 + draw_below(&m->seed, 5)) {
        CHECK_EQ(vs_journal_floor(j, seqno), 0);
        m->floor_seqno = seqno;
        move_all(s, j, m, seqno);
    }
    atomic_store(&b.stop, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(b.rounds > 0);
    for (int i = 0; i < 2; i++) {
        view_compare(b.views[i], b.want[i]);
        vs_view_close(b.views[i]);
    }
    vs_journal_close(reader);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
    model_free(m);
}

/* ---- refusals ---- */

static void flip(const char *name, uint64_t at) {
    uint8_t byte;
    int file = open(name, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pread(file, &byte, 1, (off_t)at), 1);
    byte ^= 4;
    CHECK_EQ(pwrite(file, &byte, 1, (off_t)at), 1);
    close(file);
}

static void a_damaged_source_stops_the_move(void) {
    enter("damaged");
    uint8_t block[4096];
    uint64_t seqno, last;
    vs_base_move_facts facts;
    vs_view *v;
    vs_run run;
    vs_fault fault;
    memset(block, 7, sizeof block);
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 0, 0);
    uint32_t id = ground_volume(j, 8 * 4096);
    for (int i = 0; i < 4; i++) CHECK_EQ(vs_journal_write(j, id, (uint64_t)i * 8192, block, sizeof block, NULL, &seqno), 0);
    ground_mark(j, &last);
    CHECK_EQ(vs_view_open(j, id, last, &v), 0);
    CHECK_EQ(vs_view_run(v, 8192, &run), 1);
    vs_view_close(v);
    CHECK_EQ(vs_journal_floor(j, last), 0);
    flip("journal/00000000000000000001.seg", run.block * 4096 + 17);
    CHECK_EQ(vs_journal_base_move(j, id, last, &facts), -EBADMSG);
    vs_fault_last(&fault);
    CHECK_EQ(fault.code, -EBADMSG);
    CHECK_EQ(fault.volume, id);
    CHECK_EQ(fault.offset_bytes, run.block * 4096);
    CHECK_EQ(vs_journal_base_seqno(j, id), 0);
    CHECK_EQ(access("base/00000001.idx.part", F_OK), -1);
    CHECK_EQ(vs_view_open(j, id, last, &v), 0); /* the other blocks are what they were */
    CHECK_EQ(vs_view_read(v, 0, block, 1), 1);
    CHECK_EQ(vs_view_read(v, 8192, block, 1), -EBADMSG);
    CHECK_EQ(vs_view_read(v, 16384, block, 1), 1);
    vs_view_close(v);
    flip("journal/00000000000000000001.seg", run.block * 4096 + 17);
    CHECK_EQ(vs_journal_base_move(j, id, last, &facts), 1);
    CHECK_EQ(facts.copied_bytes, 4 * 4096);
    CHECK_EQ(vs_journal_base_seqno(j, id), last);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
}

static void floors_and_what_they_refuse(void) {
    enter("floors");
    uint64_t first, second, third;
    vs_base_move_facts facts;
    vs_journal_facts now;
    vs_event_cursor cursor = {0};
    vs_event event;
    uint8_t body[64];
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 0, 0), *reader = ground_open(s, 0, 0, 0);
    uint32_t id = ground_volume(j, 8 * 4096);
    ground_mark(j, &first);
    ground_mark(j, &second);
    vs_journal_facts_get(j, &now);
    CHECK_EQ(now.first_seqno, 1);
    CHECK_EQ(vs_journal_floor(j, 0), -ERANGE);
    CHECK_EQ(vs_journal_floor(j, second + 1), -ERANGE);
    CHECK_EQ(vs_journal_floor(reader, first), -EROFS);
    CHECK_EQ(vs_journal_base_move(j, id, first, &facts), -ERANGE); /* no floor yet */
    CHECK_EQ(vs_journal_floor(j, second), 0);
    CHECK_EQ(vs_journal_floor(j, second), 0);
    CHECK_EQ(vs_journal_floor(j, first), -ERANGE);
    CHECK_EQ(vs_journal_base_move(j, id, first, &facts), -ERANGE);
    CHECK_EQ(vs_journal_base_move(reader, id, second, &facts), -EROFS);
    CHECK_EQ(vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, first, 0, "{}", 2, NULL, NULL), -ERANGE);
    int floors = 0;
    while (vs_journal_next_event(j, &cursor, &event, body, sizeof body) == 1)
        if (event.type == VS_RECORD_FLOOR) {
            floors++;
            CHECK_EQ(event.a, second);
        }
    CHECK_EQ(floors, 1); /* what is the floor already needs no other record */
    CHECK_EQ(vs_journal_seal(j), 0);
    ground_mark(j, &third);
    CHECK_EQ(vs_journal_seal(j), 0); /* the newest trailer tells it, also where its segment has no such record */
    vs_journal_close(reader);
    CHECK_EQ(vs_journal_close(j), 0);
    j = ground_open(s, 1, 0, 0);
    vs_journal_facts_get(j, &now);
    CHECK_EQ(now.first_seqno, second);
    vs_journal_hold_applied(j); /* a primary is missing, which will want what came after its last write */
    ground_mark(j, &third);
    CHECK_EQ(vs_journal_floor(j, third), 0);
    CHECK_EQ(vs_journal_base_move(j, id, third, &facts), -EBUSY);
    vs_journal_work_end(j);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
}

/* Of this process or, as another opening of the journal stands for, of another one. */
static void a_move_waits_for_who_reads_below(void) {
    enter("below");
    static uint8_t block[4096], got[4096];
    uint64_t first, last;
    vs_base_move_facts facts;
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 0, 0), *reader = ground_open(s, 0, 0, 0);
    uint32_t id = ground_volume(j, 8 * 4096);
    for (int i = 1; i <= 2; i++) {
        memset(block, i, sizeof block);
        CHECK_EQ(vs_journal_write(j, id, 0, block, sizeof block, NULL, NULL), 0);
        ground_mark(j, i == 1 ? &first : &last);
    }
    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        vs_view *v;
        uint64_t floor_seqno = elsewhere ? last : first + 1, below = floor_seqno - 1;
        CHECK_EQ(vs_view_open(elsewhere ? reader : j, id, below, &v), 0);
        CHECK_EQ(vs_journal_floor(j, floor_seqno), 0);
        CHECK_EQ(vs_journal_base_move_estimate(j, id, floor_seqno, &facts), 1); /* that somebody only asks is in nobody's way */
        CHECK_EQ(vs_journal_base_move(j, id, floor_seqno, &facts), -EAGAIN);
        CHECK_EQ(vs_view_read(v, 0, got, sizeof got), sizeof got);
        CHECK_EQ(got[0], elsewhere ? 2 : 1);
        vs_view_close(v);
        CHECK_EQ(vs_journal_base_move(j, id, floor_seqno, &facts), 1);
    }
    vs_journal_close(reader);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
}

static void a_move_gives_up_when_told_to(void) {
    enter("ended");
    static uint8_t block[4096] = {1};
    uint64_t last;
    vs_base_move_facts facts;
    vs_store *s = ground_make();
    vs_journal *j = ground_open(s, 1, 0, 0);
    uint32_t id = ground_volume(j, 8 * 4096);
    CHECK_EQ(vs_journal_write(j, id, 0, block, sizeof block, NULL, NULL), 0);
    ground_mark(j, &last);
    CHECK_EQ(vs_journal_floor(j, last), 0);
    vs_journal_work_end(j);
    CHECK_EQ(vs_journal_base_move(j, id, last, &facts), -ECANCELED);
    CHECK_EQ(vs_journal_close(j), 0);
    j = ground_open(s, 1, 0, 0);
    CHECK_EQ(vs_journal_base_move(j, id, last, &facts), 1);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(s);
}

int main(void) {
    const char *wanted = getenv("VSNAPFS_BASE_MOVE_SEEDS"), *from = getenv("VSNAPFS_BASE_MOVE_SEED");
    uint64_t seeds = wanted ? strtoull(wanted, NULL, 10) : 12, first = from ? strtoull(from, NULL, 10) : 1;
    CHECK_EQ(mkdir("begin", 0700), 0);
    CHECK_EQ(chdir("begin"), 0);
    floors_and_what_they_refuse();
    a_damaged_source_stops_the_move();
    a_move_waits_for_who_reads_below();
    a_move_gives_up_when_told_to();
    moves_beside_a_reader(7);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        fprintf(stderr, "history of seed %" PRIu64 "\n", seed);
        random_history(seed);
    }
    return 0;
}
