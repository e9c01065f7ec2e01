/* played.c: see played.h. */
#include "played.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../native/check.h"
#include "ending.h"
#include "workload.h"

enum { POINTS_READ = 12 };

/* The store of a repository, and what it stands on. */
typedef struct ground {
    int directory;
    vs_store *posix, *store;
} ground;

static ground ground_open(const played *p) {
    ground g = {.directory = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (g.directory < 0 || vs_store_posix(g.directory, &g.posix) < 0) die(p->path);
    g.store = g.posix;
    if (p->killing && killing_store_new(g.posix, p->killing, &g.store) < 0) die("a store that kills");
    return g;
}

static void ground_close(const ground *g) {
    if (g->store != g->posix) vs_store_close(g->store);
    vs_store_close(g->posix);
    close(g->directory);
}

static workload *begin(const played *p) {
    workload *w = workload_new(p->seed);
    if (p->keep_fd >= 0 && vs_keep_open(p->keep_fd, &workload_options(w)->keep) < 0) die("the keep");
    return w;
}

static void end(workload *w) {
    vs_keep *keep = workload_options(w)->keep;
    workload_free(w);
    vs_keep_close(keep);
}

static uint64_t position_now(const played *p) {
    return p->position ? atomic_load(p->position) : 0;
}

static _Noreturn void fail(const workload *w, const char *what) {
    fprintf(stderr, "%s: %s\n", what, workload_why(w));
    _exit(2);
}

void played_make(const played *p) {
    static const char *const directories[] = {"journal", "maps", "base", "primary"};
    if (mkdir(p->path, 0700) < 0) die(p->path);
    ground g = ground_open(p);
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        if (mkdirat(g.directory, directories[i], 0700) < 0) die(directories[i]);
    workload *w = workload_new(p->seed);
    if (workload_create(w, g.store) != 0) fail(w, "a new journal");
    workload_free(w);
    if (syncfs(g.directory) < 0) die("syncfs");
    ground_close(&g);
    atomic_store(&p->log->count, 0);
    p->log->life_count = 0;
    p->log->begin = position_now(p);
}

static void note(const played *p, const workload *w) {
    uint64_t n = atomic_load(&p->log->count);
    p->log->notes[n] = (played_note){position_now(p), workload_steps(w), workload_durable(w), workload_appended(w)};
    atomic_store(&p->log->count, n + 1);
    if (p->tell_fd >= 0) dprintf(p->tell_fd, "%llu %llu\n", (unsigned long long)workload_steps(w), (unsigned long long)workload_durable(w));
}

/* The model goes through the lives before this one. */
static void lives_follow(const played *p, workload *w) {
    for (uint64_t i = 0; i < p->log->life_count; i++) {
        while (workload_steps(w) < p->log->lives[i].steps) workload_step(w);
        workload_found(w, p->log->lives[i].last);
    }
}

void played_run(const played *p) {
    ground g = ground_open(p);
    workload *w = begin(p);
    lives_follow(p, w);
    if (workload_open(w, g.store) != 0) fail(w, "open");
    for (int i = 0; i < PLAYED_STEPS; i++) {
        if (workload_step(w) != 0) fail(w, "step");
        note(p, w);
    }
    if (workload_close(w) != 0) fail(w, "close");
    end(w);
    ground_close(&g);
}

/* The model does what was done by then, and the step that may have been under way. */
static void model_follow(const played *p, workload *w, uint64_t position) {
    lives_follow(p, w);
    played_note last = {.steps = workload_steps(w), .durable = workload_durable(w), .appended = workload_appended(w)};
    uint64_t count = atomic_load(&p->log->count);
    for (uint64_t i = 0; i < count && p->log->notes[i].position <= position; i++) last = p->log->notes[i];
    while (workload_steps(w) < last.steps) workload_step(w);
    workload_durable_set(w, p->keep_fd >= 0 ? last.appended : last.durable);
    workload_step_begun(w);
}

static void life_note(const played *p, const workload *w) {
    CHECK(p->log->life_count < PLAYED_LIVES);
    p->log->lives[p->log->life_count++] = (played_life){workload_steps(w), workload_appended(w)};
    atomic_store(&p->log->count, 0);
}

int played_judge(const played *p, uint64_t position) {
    ground g = ground_open(p);
    workload *w = begin(p);
    model_follow(p, w, position);
    int r = workload_verify(w, g.store, p->seed + position, POINTS_READ);
    if (r == 0) r = workload_close(w);
    if (r != 0) {
        fprintf(stderr, "%s\n", workload_why(w));
        return -1;
    }
    life_note(p, w);
    end(w);
    ground_close(&g);
    return 0;
}
