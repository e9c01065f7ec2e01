/* harness_base_moves.c: crashes and faults at every call of setting a floor and moving bases to it, and of doing so again afterwards.
 *
 *   base_moves --seed S --states N [--seeds M]
 *
 * Each seed is a history on a simulated store: two volumes, one of them on a base, and one that comes and goes, with resizes and writes of any
 * alignment. Bases are moved once, so that there are patches, and written over; then the floor is raised and they are moved again. Before
 * each call of that which changes what a crash would leave, crashed stores are made and judged:
 *
 *   * the journal opens, and its floor is the old or the new one;
 *   * every point from the floor on that is looked at reads as a plain model says;
 *   * the floor is set and the bases are moved again, and it crashes again on the way; at the end of that each base by itself is the volume at the floor.
 *
 * The same with each call failing, once or from there on: then the journal is gone on with, and after that opened again.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../native/check.h"
#include "base.h"
#include "base_move.h"
#include "owner_thread.h"
#include "plain_history.h"
#include "store_sim.h"

enum { VOLUMES = 3, SIZE_MAX_BYTES = 28 * 4096, BASE_BYTES = 21 * 4096 + 512, POINTS = 4, FAILURES_MAX = 10, ANY_TIMES = 2, NESTED_ONE_IN = 24 };

typedef struct wanted_volume {
    int there;
    uint64_t size_bytes;
    uint8_t bytes[SIZE_MAX_BYTES];
} wanted_volume;

typedef struct wanted_point {
    uint64_t seqno;
    wanted_volume volumes[VOLUMES];
} wanted_point;

/* A seed's history, and what its points must be. The first of them is the new floor. */
typedef struct scene {
    uint64_t seed;
    plain_history history;
    uint64_t sizes[VOLUMES]; /* 0: not there */
    uint64_t first_floor, floor;
    wanted_point points[POINTS];
} scene;

typedef struct run {
    scene *scene;
    vs_store *store;
    uint64_t seed, calls;
    int depth;
    uint64_t fail_from;
    int fail_code, fail_for_good;
    char path[96];
} run;

static uint64_t states, faults, nested, failures, first_failure;
static const uint8_t uuid[16] = "base-moves";
static plain_state state; /* large */

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t s = a ^ (b * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u);
    return draw(&s);
}

static void report(const run *r, const char *what, int64_t is) {
    if (failures == 0) first_failure = states;
    if (failures++ < FAILURES_MAX) fprintf(stderr, "seed %" PRIu64 " at %s: %s (%" PRId64 ")\n", r->scene->seed, r->path, what, is);
}

static int journal_open(vs_store *s, vs_journal **out) {
    vs_journal_options o = {.owner = 1, .segment_bytes = 96 << 10, .batch_bytes = 64 << 10};
    memcpy(o.uuid, uuid, sizeof uuid);
    return vs_journal_open(s, &o, out);
}

/* ---- a history ---- */

static void base_make(scene *c, vs_store *s) {
    static uint8_t bytes[BASE_BYTES];
    vs_base_builder *b;
    uint64_t data_bytes;
    plain_fill(c->seed, 0, bytes, BASE_BYTES);
    int source = s->open(s, "base/source", VS_OPEN_WRITE | VS_OPEN_CREATE);
    int image = s->open(s, "base/00000001.img", VS_OPEN_WRITE | VS_OPEN_CREATE), index = s->open(s, "base/00000001.idx", VS_OPEN_WRITE | VS_OPEN_CREATE);
    CHECK(source >= 0 && image >= 0 && index >= 0);
    CHECK_EQ(s->write(s, source, 0, &(struct iovec){bytes, BASE_BYTES}, 1), 0);
    CHECK_EQ(vs_base_builder_new(s, uuid, 1, BASE_BYTES, source, image, index, &b), 0);
    CHECK_EQ(vs_base_builder_take(b, 0, BASE_BYTES, 1), 0);
    CHECK_EQ(vs_base_builder_finish(b, &data_bytes), 0);
    vs_base_builder_free(b);
    s->close(s, source);
    s->close(s, image);
    s->close(s, index);
    CHECK_EQ(s->remove(s, "base/source"), 0);
    CHECK_EQ(s->sync_dir(s, "base"), 0);
}

static void add(scene *c, vs_journal *j, uint32_t volume, uint64_t size) {
    CHECK_EQ(plain_event(&c->history, j, VS_RECORD_VOLUME_ADD, volume, 512, size), 0);
    c->sizes[volume - 1] = size;
}

static void steps(scene *c, vs_journal *j, uint64_t *rng, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t volume = 1 + (uint32_t)plain_below(rng, VOLUMES);
        uint64_t kind = plain_below(rng, 24), size = (8 + plain_below(rng, SIZE_MAX_BYTES / 512 - 8)) * 512;
        if (!c->sizes[volume - 1]) volume = 2;
        if (kind == 0 && size != c->sizes[volume - 1]) {
            CHECK_EQ(plain_event(&c->history, j, VS_RECORD_VOLUME_RESIZE, volume, c->sizes[volume - 1], size), 0);
            c->sizes[volume - 1] = size;
        } else if (kind == 1) {
            CHECK_EQ(vs_journal_seal(j), 0);
        } else {
            CHECK_EQ(plain_step(&c->history, j, volume, c->sizes[volume - 1], rng), 0);
        }
    }
    CHECK_EQ(plain_commit(&c->history, j), 0);
}

static void point_note(scene *c, wanted_point *p, uint64_t seqno) {
    plain_begin(&c->history, &state);
    while (state.seqno < seqno) plain_advance(&c->history, &state);
    p->seqno = seqno;
    for (int i = 0; i < VOLUMES; i++) {
        const plain_volume *from = &state.volumes[i];
        wanted_volume *to = &p->volumes[i];
        to->there = from->there;
        to->size_bytes = from->there ? from->size_bytes : 0;
        memcpy(to->bytes, from->bytes, to->size_bytes);
    }
}

/* Set the floor and move every base. 0, or the status of the first that failed. */
static int move_all(vs_journal *j, uint64_t floor) {
    vs_base_move_facts facts;
    int r = vs_journal_floor(j, floor);
    for (uint32_t volume = 1; r >= 0 && volume <= VOLUMES; volume++) r = vs_journal_base_move(j, volume, floor, &facts);
    return r < 0 ? r : 0;
}

/* Up to where the bases are to be moved while crashes are made. */
static vs_journal *scene_make(scene *c, uint64_t seed, vs_store *s) {
    uint64_t rng = mix(seed, 1), last;
    vs_journal *j;
    *c = (scene){.seed = seed, .history = {.seed = seed, .base_bytes = BASE_BYTES}};
    CHECK_EQ(vs_journal_create(s, uuid), 0);
    base_make(c, s);
    CHECK_EQ(journal_open(s, &j), 0);
    add(c, j, 1, BASE_BYTES);
    add(c, j, 2, 19 * 4096 + 1024);
    if (seed % 2) add(c, j, 3, 8 * 4096);
    steps(c, j, &rng, 10 + (int)plain_below(&rng, 20));
    if (seed % 3) {
        c->first_floor = 4 + plain_below(&rng, c->history.count - 4);
        CHECK_EQ(move_all(j, c->first_floor), 0);
        CHECK_EQ(plain_note(&c->history, c->history.count + 1, &(plain_record){.type = VS_RECORD_FLOOR, .a = c->first_floor}), 0);
    }
    if (c->sizes[2] && seed % 4 == 1) {
        CHECK_EQ(plain_event(&c->history, j, VS_RECORD_VOLUME_REMOVE, 3, 0, 0), 0);
        c->sizes[2] = 0;
    }
    steps(c, j, &rng, 10 + (int)plain_below(&rng, 20));
    last = c->history.count;
    uint64_t from = c->first_floor ? c->first_floor + 1 : 4;
    c->floor = from + plain_below(&rng, last - from + 1);
    point_note(c, &c->points[0], c->floor);
    point_note(c, &c->points[1], last);
    for (int i = 2; i < POINTS; i++) point_note(c, &c->points[i], c->floor + plain_below(&rng, last - c->floor + 1));
    return j;
}

/* ---- judging ---- */

static const char *view_wrong(vs_view *v, const wanted_volume *want) {
    static uint8_t got[SIZE_MAX_BYTES + 1];
    if (vs_view_size(v) != want->size_bytes) return "a volume has another size";
    if (vs_view_read(v, 0, got, sizeof got) != (int64_t)want->size_bytes) return "a volume cannot be read";
    return memcmp(got, want->bytes, want->size_bytes) == 0 ? NULL : "a volume reads as other bytes";
}

static void points_judge(const run *r, vs_journal *j) {
    for (int i = 0; i < POINTS; i++) {
        const wanted_point *p = &r->scene->points[i];
        for (uint32_t volume = 1; volume <= VOLUMES; volume++) {
            const wanted_volume *want = &p->volumes[volume - 1];
            vs_view *v;
            int code = vs_view_open(j, volume, p->seqno, &v);
            if (code != (want->there ? 0 : -ENOENT)) report(r, "a point does not open, or a volume is there that is not", code);
            if (code < 0) continue;
            const char *wrong = view_wrong(v, want);
            if (wrong) report(r, wrong, (int64_t)p->seqno);
            vs_view_close(v);
        }
    }
}

/* Each base by itself is what its volume was at the floor. */
static void bases_judge(const run *r, vs_journal *j) {
    const wanted_point *p = &r->scene->points[0];
    for (uint32_t volume = 1; volume <= VOLUMES; volume++) {
        const wanted_volume *want = &p->volumes[volume - 1];
        vs_view *v;
        int code = vs_view_open_base(j, volume, &v);
        if (code != (want->there ? 0 : -ENOENT)) report(r, "a base does not open, or is there that is not needed", code);
        if (code < 0) continue;
        const char *wrong = view_wrong(v, want);
        if (wrong) report(r, wrong, -(int64_t)volume);
        if (vs_journal_base_seqno(j, volume) != p->seqno) report(r, "a base says that it is of another point", (int64_t)vs_journal_base_seqno(j, volume));
        if (vs_journal_check_base(j, volume) < 0) report(r, "the index of a base is damaged", volume);
        vs_view_close(v);
    }
}

static int hook(void *arg, int kind, const char *path);

/* Open what a crash or a fault has left, look, do it again, look. Crashes on the way are judged likewise. */
static void store_judge(run *r) {
    vs_journal *j;
    vs_journal_facts facts;
    store_sim_hook_set(r->store, hook, r);
    int code = journal_open(r->store, &j);
    if (code < 0) {
        report(r, "the journal does not open", code);
        return;
    }
    vs_journal_facts_get(j, &facts);
    uint64_t first = r->scene->first_floor ? r->scene->first_floor : 1;
    if (facts.first_seqno != first && facts.first_seqno != r->scene->floor) report(r, "the floor is none that was set", (int64_t)facts.first_seqno);
    points_judge(r, j);
    code = move_all(j, r->scene->floor);
    if (code < 0) report(r, "bases cannot be moved again", code);
    points_judge(r, j);
    bases_judge(r, j);
    code = vs_journal_close(j);
    if (code < 0) report(r, "the journal does not close", code);
    store_sim_hook_set(r->store, NULL, NULL);
    if (store_sim_open_files(r->store)) report(r, "files are still open", store_sim_open_files(r->store));
}

static void crash_here(const run *from) {
    static const store_sim_policy policies[] = {SIM_SYNCED_ONLY, SIM_ALL, SIM_ANY};
    for (int i = 0; i < (from->depth ? 2 : 2 + ANY_TIMES); i++) {
        store_sim_policy policy = from->depth ? policies[mix(from->seed, from->calls + (uint64_t)i) % 3] : policies[i < 2 ? i : 2];
        uint64_t seed = mix(mix(from->seed, from->calls), (uint64_t)i);
        run r = {.scene = from->scene, .store = store_sim_crash(from->store, seed, policy), .seed = seed, .depth = from->depth + 1};
        int n = snprintf(r.path, sizeof r.path, "%s/%" PRIu64 ".%d", from->path, from->calls, i);
        CHECK(n > 0 && (size_t)n < sizeof r.path);
        states++;
        nested += r.depth > 1;
        store_judge(&r);
        vs_store_close(r.store);
    }
}

static int hook(void *arg, int kind, const char *path) {
    run *r = arg;
    (void)path;
    if (kind >= SIM_OPEN) return 0;
    r->calls++;
    if (r->fail_from) return r->calls == r->fail_from || (r->fail_for_good && r->calls > r->fail_from) ? r->fail_code : 0;
    if (r->depth == 0 || (r->depth == 1 && mix(r->seed, r->calls) % NESTED_ONE_IN == 0)) crash_here(r);
    return 0;
}

/* ---- a seed ---- */

static uint64_t crashes(scene *c, uint64_t seed) {
    run r = {.scene = c, .store = store_sim_new(seed), .seed = seed, .path = "crash"};
    vs_journal *j = scene_make(c, seed, r.store);
    store_sim_hook_set(r.store, hook, &r);
    int code = move_all(j, c->floor);
    store_sim_hook_set(r.store, NULL, NULL);
    if (code < 0) report(&r, "bases cannot be moved", code);
    points_judge(&r, j);
    bases_judge(&r, j);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(r.store);
    return r.calls;
}

/* A call fails. The process goes on and tries again where the store is sound by then; the next process finds all as it must be. */
static void fault(scene *c, uint64_t seed, uint64_t call, int code, int for_good) {
    run r = {.scene = c, .store = store_sim_new(seed), .seed = seed, .depth = 1};
    snprintf(r.path, sizeof r.path, "fault/%" PRIu64 ".%d", call, (code == -ENOSPC) * 2 + for_good);
    vs_journal *j = scene_make(c, seed, r.store);
    vs_journal_facts facts;
    r.fail_from = call;
    r.fail_code = code;
    r.fail_for_good = for_good;
    store_sim_hook_set(r.store, hook, &r);
    move_all(j, c->floor);
    store_sim_hook_set(r.store, NULL, NULL);
    r.fail_from = 0;
    states++;
    faults++;
    points_judge(&r, j);
    vs_journal_facts_get(j, &facts);
    if (!facts.failed) {
        int again = move_all(j, c->floor);
        if (again < 0) report(&r, "bases cannot be moved after a fault", again);
        points_judge(&r, j);
        bases_judge(&r, j);
    }
    vs_store *left = store_sim_crash(r.store, mix(seed, call), mix(seed, call) % 2 ? SIM_ANY : SIM_SYNCED_ONLY);
    vs_journal_close(j);
    vs_store_close(r.store);
    r.store = left;
    r.depth = 2;
    store_judge(&r);
    vs_store_close(r.store);
}

static uint64_t number(const char *text) {
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno || *end || end == text) {
        fprintf(stderr, "base_moves: %s is not a number\n", text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"seed", 1, NULL, 's'}, {"states", 1, NULL, 'n'}, {"seeds", 1, NULL, 'm'}, {0}};
    static scene c;
    uint64_t seed = 1, want = 1000, seeds = UINT64_MAX, done = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 's') seed = number(optarg);
        else if (o == 'n') want = number(optarg);
        else if (o == 'm') seeds = number(optarg);
        else return 2;
    }
    for (; done < seeds && (states < want || seeds != UINT64_MAX) && failures < FAILURES_MAX; done++) {
        uint64_t calls = crashes(&c, seed + done);
        for (uint64_t call = 1; call <= calls; call++)
            fault(&c, seed + done, call, mix(seed + done, call) & 1 ? -EIO : -ENOSPC, (int)(mix(seed + done, call) >> 1 & 1));
    }
    printf("{\"harness\": \"base_moves\", \"seed\": %" PRIu64 ", \"states\": %" PRIu64 ", \"failures\": %" PRIu64 ", \"first_failure\": %" PRIu64
           ", \"seeds\": %" PRIu64 ", \"faults\": %" PRIu64 ", \"nested\": %" PRIu64 "}\n",
           seed, states, failures, first_failure, done, faults, nested);
    return failures != 0;
}
