/* harness_crash_states.c: crashes at every call that a journal makes, what may survive each, and recoveries that crash again.
 *
 *   crash_states --seed S --states N [--seeds M] [--at PATH] [--faults-only | --crashes-only]
 *
 * From seed S on, each seed is a workload on a simulated store. Before a call that changes what a crash would leave, the run stands still: of
 * the store as it is, crashed stores are made, by several policies and seeds, and each is opened and judged while the run waits
 * (workload.h says what must hold). A recovery is such a run itself, and so is what is written after it: down to three crashes in each
 * other. With a keep, the death of the process alone is one of the crashes: then nothing that was answered may be missing.
 *
 * Journal first is judged by what survives: the store that keeps only what was synced must have everything that was answered as durable, also
 * on the primary; the one that keeps all of the primaries' writes and none of the journal's must not have a primary that is ahead.
 *
 * Then the faults: the run is made again for calls of it, and that call fails with EIO or ENOSPC, once or from there on. After a journal
 * has failed nothing is answered as durable until it is opened again; then nothing that was is missing, on the store as it is and after a crash.
 *
 * A state is a store that was opened and judged. A failure says its path: the call before which it crashed and which of its crashed stores,
 * and the same in that; --at takes it.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../native/check.h"
#include "journal_internal.h"
#include "owner_thread.h"
#include "store_sim.h"
#include "workload.h"

enum { DEPTH_MAX = 3, STEPS_MAX = 40, POINTS = 2, PATH_BYTES = 160, FAILURES_MAX = 10, ANY_AT_TOP = 3, KEEP_COPY_BYTES = 1 << 16 };

static uint64_t states, failures, first_failure, faults, kills, compactions, deepest[DEPTH_MAX + 1], trace;
static const char *only; /* --at */

/* One run: the workload that was drawn, a recovery, or what follows one. */
typedef struct run {
    uint64_t seed, calls;
    int depth;       /* how many crashes lie behind it */
    int one_in;      /* of its calls, so many are not crashed at; 0: none is */
    int beside;      /* the owner's thread is played in the middle of a call */
    uint64_t top;    /* the workload's seed */
    workload *w;
    vs_store *s;
    int keep_fd;     /* -1: it has no keep */
    char path[PATH_BYTES];
    /* a fault */
    uint64_t fail_from; /* the call that fails, from 1; 0: none */
    int fail_code, fail_for_good, failed_kind;
} run;

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t state = a ^ (b * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u);
    return draw(&state);
}

static void report(const run *r, const char *what) {
    if (failures == 0) first_failure = states;
    if (failures++ < FAILURES_MAX)
        fprintf(stderr, "seed %" PRIu64 " at %s: %s; again: crash_states --seed %" PRIu64 " --seeds 1 --at %s\n", r->top, r->path, what, r->top,
                r->path);
}

/* Is a run on the way to the one that was asked for? */
static int wanted(const char *path) {
    size_t n = strlen(path);
    if (!only) return 1;
    return strncmp(only, path, n) == 0 ? only[n] == '\0' || only[n] == '/' : strncmp(only, path, strlen(only)) == 0;
}

/* ---- memory that survives a process ---- */

static int keep_copy(int fd) {
    static uint8_t piece[KEEP_COPY_BYTES];
    int to = vs_keep_make();
    CHECK(to >= 0);
    off_t size = lseek(fd, 0, SEEK_END);
    CHECK_EQ(ftruncate(to, size), 0);
    for (off_t at = 0, end; (at = lseek(fd, at, SEEK_DATA)) >= 0; at = end) {
        end = lseek(fd, at, SEEK_HOLE);
        for (off_t from = at; from < end;) {
            ssize_t n = pread(fd, piece, end - from < KEEP_COPY_BYTES ? (size_t)(end - from) : KEEP_COPY_BYTES, from);
            CHECK(n > 0);
            CHECK_EQ(pwrite(to, piece, (size_t)n, from), n);
            from += n;
        }
    }
    return to;
}

static void keep_map(run *r) {
    vs_keep *k = NULL;
    if (r->keep_fd >= 0) CHECK_EQ(vs_keep_open(r->keep_fd, &k), 0);
    workload_options(r->w)->keep = k;
}

static void keep_end(run *r) {
    if (r->keep_fd < 0) return;
    vs_keep_close(workload_options(r->w)->keep);
    close(r->keep_fd);
}

/* ---- one state ---- */

static int hook(void *arg, int kind, const char *path);

static void run_end(run *r) {
    store_sim_hook_set(r->s, NULL, NULL);
    workload_close(r->w);
    compactions += workload_compactions(r->w);
    keep_end(r);
    if (store_sim_open_files(r->s)) report(r, "files are still open");
    vs_store_close(r->s);
    workload_free(r->w);
}

/* Steps, with the owner's thread in between. */
static int run_steps(run *r, int steps) {
    int code = 0;
    for (int i = 0; i < steps && code == 0; i++) {
        code = workload_step(r->w);
        if (code == 0 && workload_journal(r->w)) owner_thread_turn(workload_journal(r->w), mix(r->seed, 1000 + (uint64_t)i));
    }
    return code;
}

/* One recovery in eight meets a store that fails, once or for good, at one of its first calls. It may fail then, but lose nothing: it is
 * left there, and the store is sound again, as it is or after one more crash. */
static int recovery_failing(run *r) {
    uint64_t drawn = mix(r->seed, 8);
    if (r->keep_fd >= 0 || drawn % 8) return 0;
    r->fail_from = r->calls + 1 + (drawn >> 8) % 40;
    r->fail_code = drawn & 8 ? -EIO : -ENOSPC;
    r->fail_for_good = (drawn & 16) != 0;
    int code = workload_verify(r->w, r->s, r->seed, POINTS);
    workload_close(r->w);
    r->fail_from = 0;
    faults++;
    if (code != WORKLOAD_WRONG && drawn & 32) {
        vs_store *s = store_sim_crash(r->s, drawn, drawn & 64 ? SIM_ANY : SIM_SYNCED_ONLY);
        vs_store_close(r->s);
        r->s = s;
        store_sim_hook_set(s, hook, r);
    }
    return code == WORKLOAD_WRONG ? code : 0;
}

/* Open, read; and one run in four: write on, close, open, read. */
static int run_judge(run *r) {
    int code = recovery_failing(r);
    if (code != 0) return code;
    uint64_t answered = workload_appended(r->w);
    code = workload_verify(r->w, r->s, r->seed, POINTS);
    if (code == 0 && r->keep_fd >= 0 && workload_appended(r->w) < answered) report(r, "the process died, and what it had answered is missing");
    if (code == 0 && r->keep_fd >= 0) code = workload_resend(r->w);
    if (code != 0 || mix(r->seed, 1) % 4) return code;
    code = run_steps(r, 2 + (int)(mix(r->seed, 2) % 6));
    if (code == 0) code = workload_close(r->w);
    return code == 0 ? workload_verify(r->w, r->s, r->seed, POINTS) : code;
}

static void state_judge(const run *from, uint64_t number, vs_store *s, int keep_fd, const char *how) {
    run r = {.seed = mix(mix(from->seed, from->calls), number), .depth = from->depth + 1, .top = from->top, .s = s, .keep_fd = keep_fd};
    static const int nested_one_in[DEPTH_MAX + 1] = {0, 16, 20, 0};
    char what[600];
    int n = snprintf(r.path, sizeof r.path, "%s%s%" PRIu64 ".%" PRIu64, from->path, from->path[0] ? "/" : "", from->calls, number);
    CHECK(n > 0 && (size_t)n < sizeof r.path);
    if (!wanted(r.path)) {
        vs_store_close(s);
        if (keep_fd >= 0) close(keep_fd);
        return;
    }
    r.w = workload_copy(from->w, r.seed);
    r.one_in = nested_one_in[r.depth];
    keep_map(&r);
    store_sim_hook_set(r.s, hook, &r);
    states++;
    deepest[r.depth]++;
    if (run_judge(&r) != 0) {
        snprintf(what, sizeof what, "%s: %s", how, workload_why(r.w));
        report(&r, what);
    }
    run_end(&r);
}

static void crash_here(run *r) {
    static const char *const how[SIM_POLICIES] = {"only what was synced survived", "everything survived", "nothing of the primaries survived",
                                                  "nothing of the journal survived", "some of it survived"};
    uint64_t number = 0;
    for (int policy = 0; policy < SIM_POLICIES; policy++) {
        int times = policy == SIM_ANY ? r->depth ? 1 : ANY_AT_TOP : r->depth == 0 || mix(mix(r->seed, r->calls), 50 + (uint64_t)policy) % 4 == 0;
        for (int i = 0; i < times; i++, number++) {
            vs_store *s = store_sim_crash(r->s, mix(mix(r->seed, r->calls), 100 + number), (store_sim_policy)policy);
            state_judge(r, number, s, -1, how[policy]);
        }
    }
    if (r->keep_fd < 0) return;
    kills++;
    state_judge(r, number, store_sim_kill(r->s, mix(r->seed, r->calls)), keep_copy(r->keep_fd), "the process died");
}

/* Before each call of a run. */
static int hook(void *arg, int kind, const char *path) {
    run *r = arg;
    vs_journal *j = workload_journal(r->w);
    if (r->fail_from) {
        int fails = ++r->calls == r->fail_from || (r->fail_for_good && r->calls > r->fail_from);
        if (fails && !r->failed_kind) r->failed_kind = kind + 1;
        return fails ? r->fail_code : 0;
    }
    if (kind >= SIM_OPEN) return 0;
    r->calls++;
    if (j && !r->beside && kind == SIM_WRITE && strncmp(path, "journal/", 8) == 0 && mix(r->seed, r->calls) % 8 == 0) {
        r->beside = 1;
        owner_thread_beside(j);
        r->beside = 0;
    }
    if (r->one_in && mix(r->seed, r->calls) % (uint64_t)r->one_in == 0) crash_here(r);
    return 0;
}

/* ---- a seed ---- */

static int steps_of(uint64_t seed) {
    return 8 + (int)(mix(seed, 7) % (STEPS_MAX - 8));
}

static void run_begin(run *r, uint64_t seed, int keep) {
    *r = (run){.seed = seed, .top = seed, .w = workload_new(seed), .s = store_sim_new(seed), .keep_fd = -1};
    if (keep) CHECK((r->keep_fd = vs_keep_make()) >= 0);
    keep_map(r);
    CHECK_EQ(workload_create(r->w, r->s), 0);
}

/* The workload with crashes at its calls. Returns how many calls it made. */
static uint64_t crashes(uint64_t seed) {
    static const int one_in[] = {2, 5, 5, 9};
    run r;
    run_begin(&r, seed, mix(seed, 3) % 4 == 0);
    r.one_in = one_in[mix(seed, 4) % 4];
    store_sim_hook_set(r.s, hook, &r);
    int code = workload_open(r.w, r.s);
    if (code == 0) code = run_steps(&r, steps_of(seed));
    r.calls++;
    if (code == 0) crash_here(&r);
    if (code == 0) code = workload_close(r.w);
    store_sim_hook_set(r.s, NULL, NULL);
    if (code == 0) code = workload_verify(r.w, r.s, seed, 0);
    snprintf(r.path, sizeof r.path, "end");
    if (code != 0) report(&r, workload_why(r.w));
    trace = mix(trace, store_sim_trace(r.s));
    uint64_t calls = r.calls;
    run_end(&r);
    return calls;
}

/* ---- faults ---- */

/* All steps, whatever fails; but once the journal has failed, nothing more may be answered as durable. */
static int steps_failing(run *r, int steps) {
    uint64_t latched = UINT64_MAX, opens = workload_opens(r->w);
    for (int i = 0; i < steps; i++) {
        vs_journal *j = workload_journal(r->w);
        vs_journal_facts facts;
        if (!j) return 0;
        if (workload_opens(r->w) != opens) latched = UINT64_MAX;
        opens = workload_opens(r->w);
        vs_journal_facts_get(j, &facts);
        if (facts.failed && latched == UINT64_MAX) latched = facts.committed_seqno; /* what was synced before may still be answered for */
        if (workload_step(r->w) == WORKLOAD_WRONG) return WORKLOAD_WRONG;
        if (workload_journal(r->w)) owner_thread_turn(workload_journal(r->w), mix(r->seed, 1000 + (uint64_t)i));
        if (latched != UINT64_MAX && workload_opens(r->w) == opens && workload_durable(r->w) > latched) {
            report(r, "a durable request was answered after the journal had failed");
            return 0;
        }
    }
    return 0;
}

/* The power goes, with the journal open: what is judged then is the store that is left. */
static void run_crash(run *r, uint64_t drawn) {
    vs_store *s = store_sim_crash(r->s, drawn, drawn & 8 ? SIM_ANY : SIM_SYNCED_ONLY);
    workload *w = workload_copy(r->w, drawn);
    workload_close(r->w);
    workload_free(r->w);
    vs_store_close(r->s);
    r->w = w;
    r->s = s;
}

/* The store is sound again. It is opened as the fault left it, or after a crash; then it must take more. */
static int fault_aftermath(run *r) {
    uint64_t drawn = mix(r->seed, r->fail_from);
    workload_close(r->w);
    r->fail_from = 0;
    store_sim_hook_set(r->s, NULL, NULL);
    if (drawn & 1) {
        vs_store *s = store_sim_crash(r->s, drawn, drawn & 2 ? SIM_ANY : SIM_SYNCED_ONLY);
        vs_store_close(r->s);
        r->s = s;
    }
    int code = workload_verify(r->w, r->s, r->seed, POINTS);
    if (code == 0) code = run_steps(r, 3);
    if (code == 0 && drawn & 4) run_crash(r, drawn);
    else if (code == 0) code = workload_close(r->w);
    return code == 0 ? workload_verify(r->w, r->s, r->seed, POINTS) : code;
}

static void fault(uint64_t seed, uint64_t call, int code, int for_good) {
    run r;
    char what[600], path[PATH_BYTES];
    snprintf(path, sizeof path, "fault/%" PRIu64 ".%d", call, (code == -ENOSPC) * 2 + for_good);
    if (!wanted(path)) return;
    run_begin(&r, seed, 0);
    memcpy(r.path, path, sizeof path);
    r.fail_from = call;
    r.fail_code = code;
    r.fail_for_good = for_good;
    store_sim_hook_set(r.s, hook, &r);
    int result = workload_open(r.w, r.s);
    if (result < 0) result = 0;
    else if (result == 0) result = steps_failing(&r, steps_of(seed));
    if (result == 0) result = fault_aftermath(&r);
    states++;
    faults++;
    if (result != 0) {
        snprintf(what, sizeof what, "%s %s at a %s: %s", code == -EIO ? "EIO" : "ENOSPC", for_good ? "for good" : "once",
                 r.failed_kind ? store_sim_calls[r.failed_kind - 1] : "call that was not made", workload_why(r.w));
        report(&r, what);
    }
    run_end(&r);
}

/* Some of the calls of a seed's run, each way of failing in turn. */
static void fault_points(uint64_t seed) {
    uint64_t calls = 0, every = 1 + mix(seed, 5) % 2;
    run r;
    run_begin(&r, seed, 0);
    r.fail_from = UINT64_MAX;
    store_sim_hook_set(r.s, hook, &r);
    if (workload_open(r.w, r.s) == 0) run_steps(&r, steps_of(seed));
    calls = r.calls;
    run_end(&r);
    for (uint64_t call = 1 + mix(seed, 6) % every; call <= calls; call += every)
        fault(seed, call, mix(seed, call) & 1 ? -EIO : -ENOSPC, (int)(mix(seed, call) >> 1 & 1));
}

/* ---- the program ---- */

static uint64_t number(const char *text) {
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno || *end || end == text) {
        fprintf(stderr, "crash_states: %s is not a number\n", text);
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
    for (; done < seeds && (states < want || seeds != UINT64_MAX) && failures < FAILURES_MAX; done++) {
        crashes(seed + done);
        fault_points(seed + done);
    }
    printf("{\"harness\": \"crash_states\", \"seed\": %" PRIu64 ", \"states\": %" PRIu64 ", \"failures\": %" PRIu64 ", \"first_failure\": %" PRIu64 ", \"seeds\": %" PRIu64
           ", \"faults\": %" PRIu64 ", \"kills\": %" PRIu64 ", \"compactions\": %" PRIu64 ", \"crashes\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "], \"trace\": \"%016" PRIx64 "\"}\n",
           seed, states, failures, first_failure, done, faults, kills, compactions, deepest[1], deepest[2], deepest[3], trace);
    return failures != 0;
}
