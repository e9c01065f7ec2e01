/* harness_branch_states.c: crashes and faults at every call that a branch makes, and openings that crash again.
 *
 *   branch_states --seed S --states N [--seeds M] [--at PATH]
 *
 * Each seed is a small volume on a branch on a simulated store: writes and zeros of any alignment, syncs, freezes and reopenings, writes beside a sync, with
 * logs that are written anew and syncs of their own soon. Before each call that changes what a crash would leave, crashed stores are made, and judged:
 *
 *   * the branch opens;
 *   * it is what it was after one of its changes, at or after the last that a sync was answered for; the change that is under way counts as
 *     the last one. After the death of the process alone: after the last one, no other;
 *   * every layer checks as sound, and what it uses is what its blocks say;
 *   * it is gone on with, and crashes again on the way.
 *
 * The same with each call failing, once or from there on: what fails has changed nothing that is read; after a sync that failed nothing is answered as durable
 * until the branch is opened again; then, and after a crash, the same holds, also where the disk is full.
 *
 * A state is a store that was opened and judged. A failure says its path: the call before which it crashed and which of its crashed stores, and the
 * same in that; --at takes it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../native/check.h"
#include "branch_internal.h"
#include "store_sim.h"

enum {
    BLOCK = 4096,
    BLOCKS_MAX = 28,
    SIZE_MAX_BYTES = BLOCKS_MAX * BLOCK,
    CHANGES_MAX = 96,
    LAYERS_MAX = 12,
    DEPTH_MAX = 3,
    ANY_TIMES = 2,
    KILLED_ONE_IN = 12,
    FAILURES_MAX = 10,
    VOLUME = 7,
    PATH_BYTES = 120,
};

static uint64_t states, failures, faults, nested, kills, rewrites, freezes, punches, trace;
static const char *only; /* --at */
static const uint8_t uuid[16] = "branch states...";

/* What the volume was after each change. images[0]: before the first. */
typedef struct model {
    uint64_t size_bytes;
    int count;   /* changes that were answered */
    int durable; /* of them, at least so many survive */
    int under_way; /* images[count + 1] is what the change that is under way makes of it */
    uint8_t (*images)[SIZE_MAX_BYTES];
    uint32_t layers[LAYERS_MAX];
    int layer_count;
} model;

typedef struct run {
    uint64_t seed, calls;
    int depth, one_in;
    model m;
    vs_store *s;
    vs_branch *b;
    vs_branch_options options;
    uint64_t fail_from;
    int fail_code, fail_for_good, latched;
    int known; /* which state it is in: it was found, or made */
    int syncing; /* writes may come beside */
    int full;    /* the disk is */
    uint64_t top; /* the seed */
    char path[PATH_BYTES], why[300];
} run;

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t state = a ^ (b * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u);
    return draw(&state);
}

static int wrong(run *r, const char *what, int64_t detail) {
    vs_fault fault;
    vs_fault_last(&fault);
    if (!r->why[0]) snprintf(r->why, sizeof r->why, "%s (%" PRId64 ")%s%s", what, detail, fault.code == detail ? ": " : "", fault.code == detail ? fault.text : "");
    return -1;
}

static void report(const run *r, const char *how) {
    if (failures++ < FAILURES_MAX)
        fprintf(stderr, "seed %" PRIu64 ", %s: %s; again: branch_states --seed %" PRIu64 " --seeds 1 --at %s\n", r->top, how, r->why, r->top, r->path);
}

/* Is a run on the way to the one that was asked for? */
static int wanted(const char *path) {
    size_t n = strlen(path);
    if (!only) return 1;
    return strncmp(only, path, n) == 0 && (only[n] == '\0' || only[n] == '/');
}

static void model_copy(model *to, const model *from) {
    *to = *from;
    to->images = malloc(sizeof *to->images * (CHANGES_MAX + 2));
    CHECK(to->images);
    for (int i = from->durable; i <= from->count + from->under_way; i++) memcpy(to->images[i], from->images[i], from->size_bytes);
}

/* ---- the branch ---- */

static int branch_open(run *r) {
    int code = vs_branch_open_on(r->s, uuid, &r->options, &r->b);
    if (code == 0) code = vs_branch_volume(r->b, VOLUME, r->m.size_bytes, NULL, r->m.layers, r->m.layer_count);
    if (code < 0 && r->b) vs_branch_close(r->b);
    if (code < 0) r->b = NULL;
    return code;
}

static int branch_close(run *r) {
    int code = r->b ? vs_branch_close(r->b) : 0;
    r->b = NULL;
    return code;
}

static int used_is_right(run *r) {
    vs_branch_facts facts;
    uint64_t blocks = 0;
    vs_branch_volume_state *v = vs_branch_find(r->b, VOLUME);
    size_t runs = 0;
    blocks = vs_branch_layer_slots_in(vs_branch_last(v), 0, BLOCKS_MAX, &runs);
    vs_branch_facts_get(r->b, &facts);
    return facts.used_bytes == blocks * BLOCK ? 0 : wrong(r, "it says that it uses", (int64_t)facts.used_bytes);
}

/* The state is one of [durable, count + under_way], and becomes the model's. exact: only the last one that was answered, or the one under way. */
static int state_find(run *r, int exact) {
    static uint8_t found[SIZE_MAX_BYTES];
    model *m = &r->m;
    int64_t n = vs_branch_read(r->b, VOLUME, 0, found, m->size_bytes);
    if (n != (int64_t)m->size_bytes) return wrong(r, "it cannot be read", n);
    for (int i = m->count + m->under_way; i >= (exact ? m->count : m->durable); i--) {
        if (memcmp(found, m->images[i], m->size_bytes) != 0) continue;
        m->count = i;
        m->under_way = 0;
        m->durable = i; /* an opening syncs */
        r->known = 1;
        return 0;
    }
    return wrong(r, exact ? "what was answered is missing" : "it is no state that it was in", m->durable);
}

static int state_is_sound(run *r) {
    vs_branch_cursor c = {0};
    vs_fault fault;
    int code = vs_branch_check(r->b, VOLUME, &c, &fault);
    return code == 0 ? used_is_right(r) : wrong(r, "a check finds damage", code);
}

static int reads_are_right(run *r) {
    static uint8_t found[SIZE_MAX_BYTES];
    model *m = &r->m;
    int64_t n = vs_branch_read(r->b, VOLUME, 0, found, m->size_bytes);
    if (n < 0 && r->fail_from) return 0;
    return n == (int64_t)m->size_bytes && memcmp(found, m->images[m->count], m->size_bytes) == 0 ? 0 : wrong(r, "a read is wrong", n);
}

/* ---- steps ---- */

static void fill(uint64_t *rng, uint8_t *to, uint64_t length) {
    uint64_t kind = draw_below(rng, 5), content = draw(rng);
    for (uint64_t i = 0; i < length; i++) to[i] = kind == 0 ? 0 : (uint8_t)(content >> (i % 8 * 8)) ^ (uint8_t)(i / 64);
}

/* One change of the volume. */
static int step_change(run *r, uint64_t *rng) {
    uint8_t bytes[SIZE_MAX_BYTES]; /* a write under way looks at it while others are judged */
    model *m = &r->m;
    if (m->count >= CHANGES_MAX) return 0;
    uint64_t offset = draw_below(rng, m->size_bytes), max = draw_below(rng, 3) ? 3 * BLOCK : draw_below(rng, 4) ? 700 : SIZE_MAX_BYTES;
    if (draw_below(rng, 2)) offset -= offset % BLOCK;
    uint64_t length = 1 + draw_below(rng, max);
    if (draw_below(rng, 2)) length = (length + BLOCK - 1) / BLOCK * BLOCK;
    if (length > m->size_bytes - offset) length = m->size_bytes - offset;
    int zero = draw_below(rng, 4) == 0;
    memcpy(m->images[m->count + 1], m->images[m->count], m->size_bytes);
    fill(rng, bytes, length);
    if (zero) memset(bytes, 0, length);
    memcpy(m->images[m->count + 1] + offset, bytes, length);
    m->under_way = 1;
    int64_t n = zero ? vs_branch_zero(r->b, VOLUME, offset, length) : vs_branch_write(r->b, VOLUME, offset, bytes, length);
    if (n < 0 && !r->fail_from) return wrong(r, "a write failed", n);
    m->under_way = 0;
    m->count += n >= 0;
    return 0;
}

static int step_sync(run *r) {
    int answered = r->m.count;
    r->syncing = r->options.unsynced_bytes == 0;
    int code = vs_branch_sync(r->b, 0);
    r->syncing = 0;
    if (code < 0 && !r->fail_from) return wrong(r, "a sync failed", code);
    if (code == 0 && r->latched) return wrong(r, "a sync was answered after one had failed", 0);
    if (code == 0) r->m.durable = answered;
    else r->latched = vs_branch_find(r->b, VOLUME)->failed != 0;
    return 0;
}

static int step_freeze(run *r) {
    model *m = &r->m;
    if (m->layer_count == LAYERS_MAX) return 0;
    uint32_t next = m->layers[m->layer_count - 1] + 1;
    int code = vs_branch_freeze(r->b, next);
    if (code < 0 && !r->fail_from) return wrong(r, "a freeze failed", code);
    if (code < 0) return 0;
    if (r->latched) return wrong(r, "it was frozen after a sync had failed", 0);
    m->durable = m->count;
    m->layers[m->layer_count++] = next;
    freezes++;
    vs_branch_go_on(r->b);
    return 0;
}

static int step_reopen(run *r) {
    if (r->fail_from) return 0;
    int code = branch_close(r);
    if (code < 0) return wrong(r, "it cannot be closed", code);
    r->m.durable = r->m.count;
    code = branch_open(r);
    return code < 0 ? wrong(r, "it cannot be opened", code) : 0;
}

static int run_steps(run *r, int steps) {
    uint64_t rng = r->seed;
    int code = 0;
    for (int i = 0; i < steps && code == 0 && r->b; i++) {
        uint64_t drawn = draw_below(&rng, 16);
        code = drawn < 11 ? step_change(r, &rng) : drawn < 14 ? step_sync(r) : drawn < 15 ? step_freeze(r) : step_reopen(r);
        if (code == 0 && r->b) code = reads_are_right(r);
        r->m.under_way = 0;
    }
    return code;
}

/* ---- one state ---- */

static int hook(void *arg, int kind, const char *path);

static void run_end(run *r) {
    store_sim_hook_set(r->s, NULL, NULL);
    branch_close(r);
    if (store_sim_open_files(r->s)) CHECK(!"files are still open");
    vs_store_close(r->s);
    free(r->m.images);
}

static int run_judge(run *r, int exact) {
    int code = branch_open(r);
    if (code < 0) return wrong(r, "it cannot be opened", code);
    code = state_find(r, exact);
    if (code == 0) code = state_is_sound(r);
    if (code != 0 || mix(r->seed, 1) % 3) return code;
    code = run_steps(r, 2 + (int)(mix(r->seed, 2) % 8));
    if (code == 0) code = step_reopen(r);
    return code == 0 ? state_find(r, 1) : code;
}

static void state_judge(const run *from, uint64_t number, vs_store *s, int exact, const char *how) {
    static const int nested_one_in[DEPTH_MAX + 1] = {0, 60, 60, 0};
    run r = {.seed = mix(mix(from->seed, from->calls), number), .depth = from->depth + 1, .s = s, .options = from->options, .top = from->top};
    int n = snprintf(r.path, sizeof r.path, "%s%s%" PRIu64 ".%" PRIu64, from->path, from->path[0] ? "/" : "", from->calls, number);
    CHECK(n > 0 && (size_t)n < sizeof r.path);
    if (!wanted(r.path)) {
        vs_store_close(s);
        return;
    }
    r.one_in = nested_one_in[r.depth];
    if (r.one_in && exact) r.one_in = KILLED_ONE_IN; /* names and bytes that wait still wait */
    model_copy(&r.m, &from->m);
    store_sim_hook_set(s, hook, &r);
    states++;
    nested += r.depth > 1;
    if (run_judge(&r, exact) != 0) report(&r, how);
    run_end(&r);
}

static void crash_here(const run *r) {
    static const char *const how[SIM_POLICIES] = {[SIM_SYNCED_ONLY] = "only what was synced survived", [SIM_ALL] = "everything survived",
                                                  [SIM_ANY] = "some of it survived"};
    uint64_t number = 0;
    for (int policy = 0; policy < SIM_POLICIES; policy++) {
        int times = !how[policy] ? 0 : policy == SIM_ANY ? ANY_TIMES : 1;
        for (int i = 0; i < times; i++, number++)
            state_judge(r, number, store_sim_crash(r->s, mix(mix(r->seed, r->calls), 100 + number), (store_sim_policy)policy), 0, how[policy]);
    }
    kills++;
    state_judge(r, number, store_sim_kill(r->s, mix(r->seed, r->calls)), r->known, "the process died");
}

/* A write while a sync is in a call of the store. */
static int change_beside(run *r) {
    vs_branch_volume_state *v = vs_branch_find(r->b, VOLUME);
    if (pthread_mutex_trylock(&v->write_mu) != 0) return 0; /* it is at the log */
    pthread_mutex_unlock(&v->write_mu);
    uint64_t rng = mix(r->seed, r->calls + 500);
    r->syncing = 0;
    int code = step_change(r, &rng);
    r->syncing = 1;
    return code;
}

static int hook(void *arg, int kind, const char *path) {
    run *r = arg;
    if (r->syncing && (kind == SIM_SYNC || kind == SIM_ZERO) && mix(r->seed, r->calls + 400) % 2 && change_beside(r) < 0) return -EIO;
    if (r->full) return kind == SIM_WRITE || kind == SIM_CREATE ? -ENOSPC : 0;
    if (r->fail_from) {
        int fails = ++r->calls == r->fail_from || (r->fail_for_good && r->calls > r->fail_from);
        return fails ? r->fail_code : 0;
    }
    if (kind >= SIM_OPEN) return 0;
    r->calls++;
    if (kind == SIM_RENAME && strstr(path, ".log.new")) rewrites++;
    if (kind == SIM_ZERO) punches++;
    if (r->one_in && mix(r->seed, r->calls) % (uint64_t)r->one_in == 0) crash_here(r);
    return 0;
}

/* ---- a seed ---- */

static void run_begin(run *r, uint64_t seed) {
    uint64_t blocks = 3 + mix(seed, 10) % (mix(seed, 15) % 3 ? 8 : BLOCKS_MAX - 3);
    *r = (run){.seed = seed, .s = store_sim_new(seed), .known = 1, .top = seed};
    r->options = (vs_branch_options){.writable = 1, .rewrite_bytes = 300 + mix(seed, 11) % 1000, .unsynced_bytes = mix(seed, 12) % 3 ? 0 : 10 * BLOCK};
    r->m = (model){.size_bytes = blocks * BLOCK - (mix(seed, 13) % 3 ? 0 : 512 * (1 + mix(seed, 14) % 7)), .layers = {1}, .layer_count = 1};
    r->m.images = calloc(CHANGES_MAX + 2, sizeof *r->m.images);
    CHECK(r->m.images);
}

static int steps_of(uint64_t seed) {
    return 10 + (int)(mix(seed, 7) % 50);
}

static uint64_t crashes(uint64_t seed) {
    static const int one_in[] = {5, 9, 15, 25};
    run r;
    run_begin(&r, seed);
    r.one_in = one_in[mix(seed, 4) % 4];
    store_sim_hook_set(r.s, hook, &r);
    int code = branch_open(&r);
    if (code == 0) code = run_steps(&r, steps_of(seed));
    if (code == 0) crash_here(&r);
    if (code == 0) code = step_reopen(&r);
    if (code == 0) code = state_find(&r, 1);
    if (code != 0) report(&r, "the run itself");
    trace = mix(trace, store_sim_trace(r.s));
    uint64_t calls = r.calls;
    run_end(&r);
    return calls;
}

static int power_cut(run *r, uint64_t drawn) {
    vs_store *s = store_sim_crash(r->s, drawn, SIM_SYNCED_ONLY);
    branch_close(r);
    vs_store_close(r->s);
    r->s = s;
    int code = branch_open(r);
    return code < 0 ? wrong(r, "it cannot be opened", code) : state_find(r, 0);
}

/* The store is sound again: opened as the fault left it, or after a crash. */
static int fault_aftermath(run *r) {
    uint64_t drawn = mix(r->seed, r->fail_from);
    store_sim_hook_set(r->s, NULL, NULL);
    r->fail_from = 0;
    if (drawn & 1) {
        vs_store *s = store_sim_crash(r->s, drawn, drawn & 2 ? SIM_ANY : SIM_SYNCED_ONLY);
        branch_close(r);
        vs_store_close(r->s);
        r->s = s;
    } else {
        branch_close(r); /* its sync may go well now, or be refused */
    }
    r->latched = 0;
    r->full = (drawn & 16) != 0;
    store_sim_hook_set(r->s, hook, r);
    int code = branch_open(r);
    if (code < 0) return wrong(r, "it cannot be opened", code);
    code = state_find(r, 0);
    r->full = 0;
    store_sim_hook_set(r->s, NULL, NULL);
    if (code == 0 && drawn & 32) code = step_freeze(r);
    if (code == 0 && drawn & 32) code = step_reopen(r);
    if (code == 0) code = state_is_sound(r);
    if (code == 0 && drawn & 8) code = power_cut(r, drawn); /* what the opening answered for is on the medium */
    if (code == 0) code = run_steps(r, 4);
    if (code == 0) code = step_reopen(r);
    return code == 0 ? state_find(r, 1) : code;
}

static void fault(uint64_t seed, uint64_t call, int code, int for_good) {
    run r;
    char how[80];
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "fault/%" PRIu64 ".%d", call, (code == -ENOSPC) * 2 + for_good);
    if (!wanted(path)) return;
    run_begin(&r, seed);
    memcpy(r.path, path, sizeof path);
    r.fail_from = call;
    r.fail_code = code;
    r.fail_for_good = for_good;
    store_sim_hook_set(r.s, hook, &r);
    int result = branch_open(&r) < 0 ? 0 : run_steps(&r, steps_of(seed));
    if (result == 0) {
        r.m.under_way = r.m.count < CHANGES_MAX; /* one that failed may be there after all */
        result = fault_aftermath(&r);
    }
    states++;
    faults++;
    snprintf(how, sizeof how, "%s %s at call %" PRIu64, code == -EIO ? "EIO" : "ENOSPC", for_good ? "for good" : "once", call);
    if (result != 0) report(&r, how);
    run_end(&r);
}

static void fault_points(uint64_t seed) {
    uint64_t every = 1 + mix(seed, 5) % 5;
    run r;
    run_begin(&r, seed);
    r.fail_from = UINT64_MAX;
    store_sim_hook_set(r.s, hook, &r);
    if (branch_open(&r) == 0) run_steps(&r, steps_of(seed));
    uint64_t calls = r.calls;
    run_end(&r);
    for (uint64_t call = 1 + mix(seed, 6) % every; call <= calls; call += every)
        fault(seed, call, mix(seed, call) & 1 ? -EIO : -ENOSPC, (int)(mix(seed, call) >> 1 & 1));
}

static uint64_t number(const char *text) {
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno || *end || end == text) {
        fprintf(stderr, "branch_states: %s is not a number\n", text);
        exit(2);
    }
    return n;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"seed", 1, NULL, 's'}, {"states", 1, NULL, 'n'}, {"seeds", 1, NULL, 'm'}, {"at", 1, NULL, 'a'}, {0}};
    uint64_t seed = 1, want = 20000, seeds = UINT64_MAX, done = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 's') seed = number(optarg);
        else if (c == 'n') want = number(optarg);
        else if (c == 'm') seeds = number(optarg);
        else if (c == 'a') only = optarg;
        else return 2;
    }
    if (seeds != UINT64_MAX) want = UINT64_MAX;
    uint64_t first = seed;
    for (; states < want && done < seeds; done++, seed++) {
        crashes(seed);
        if (seed % 2 == 0 || only) fault_points(seed);
    }
    printf("{\"harness\": \"branch_states\", \"seed\": %" PRIu64 ", \"seeds\": %" PRIu64 ", \"states\": %" PRIu64 ", \"nested\": %" PRIu64
           ", \"kills\": %" PRIu64 ", \"faults\": %" PRIu64 ", \"rewrites\": %" PRIu64 ", \"freezes\": %" PRIu64 ", \"punches\": %" PRIu64 ", \"trace\": \"%016" PRIx64
           "\", \"failures\": %" PRIu64 "}\n",
           first, done, states, nested, kills, faults, rewrites, freezes, punches, trace, failures);
    return failures != 0;
}
