/* The n-th call that the core makes of the C library fails, once or from then on: no crash, no hang, nothing left open, never success with
 * wrong content; and without faults it opens again, with all that was acknowledged.
 *
 *   fault_points --seed N --states N        as many fault points, in rounds over all scenarios; each round has a seed of its own
 *   fault_points --seed N --rounds N        every call of every scenario, so many times
 *   fault_points --seed N --scenario NAME [--call N --mode once|on]     one of them, to look at it
 *   --directory DIR                         where (default /dev/shm)
 *
 * Points run one after another in a child; one that dies, or takes over 20 s, is a failure, and the next child goes on behind it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "directory.h"
#include "fault_ground.h"
#include "fault_shim.h"

enum { POINT_S_MAX = 20, FILES_SEEN = 128, STOPPED = 3 };

static const char *const mode_names[FAULT_MODES] = {"none", "once", "on"};

typedef struct task {
    const fault_scenario *scenario;
    uint64_t seed, call_first, call_end, points_max;
    int mode_first, mode_last;
    char template[256], run[256];
} task;

/* What the child has got to: shared with the parent, which goes on from there. */
typedef struct progress {
    uint64_t call;
    int mode;
    uint64_t points, failures, calls;
    int done;
} progress;

static progress *shared;

static int files_open(void) {
    int n = 0;
    for (int fd = 0; fd < FILES_SEEN; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void fail(const task *t, uint64_t call, int mode, const char *what) {
    shared->failures++;
    fprintf(stderr,
            "fault_points: %s, call %" PRIu64 " (%s) fails %s: %s\n"
            "  again: fault_points --seed %" PRIu64 " --scenario %s --call %" PRIu64 " --mode %s\n",
            t->scenario->name, call, fault_struck() ? fault_struck() : "none", mode_names[mode], what, t->seed, t->scenario->name, call,
            mode_names[mode]);
}

/* A store that fails has these to say, and no others. */
static int is_an_answer(int r) {
    static const int answers[] = {EIO, ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE, EAGAIN, EBADMSG, EUCLEAN, EROFS, EOPNOTSUPP, EEXIST};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (r == -answers[i]) return 1;
    return r >= 0;
}

/* Nothing may be left of what was not finished: the act's own, and what opening without it needs. */
static void unfinished_clear(fault_ground *g, int r) {
    if (g->scratch[1] && r < 0 && g->history.count == 0) {
        unlinkat(g->dir, "base/00000001.img", 0);
        unlinkat(g->dir, "base/00000001.idx", 0);
        g->history.base_bytes = 0;
    }
    if (g->history.count == 0 && vs_journal_create(g->store, fault_uuid) < 0) fault_wrong(g, "the journal cannot be made afterwards");
}

/* One point. Returns the number of calls that were made. */
static uint64_t point_run(const task *t, const fault_ground *from, uint64_t call, int mode) {
    static fault_ground g;
    const fault_scenario *s = t->scenario;
    char what[300];
    int files = files_open();
    int64_t allocations = fault_allocations(), mappings = fault_mappings();
    int r = ground_copy(&g, from, t->run);
    if (r == 0 && s->ready) r = s->ready(&g);
    if (r < 0) {
        snprintf(what, sizeof what, "could not be made ready: %s", strerror(-r));
        fail(t, call, mode, what);
        ground_end(&g);
        return 0;
    }
    fault_arm(call, mode, t->seed);
    r = s->act(&g);
    int closed = g.journal ? ground_close(&g) : 0;
    uint64_t calls = fault_disarm();
    if (s->end) s->end(&g);
    ground_rest(&g);
    files += g.keep_fd >= 0;
    if (fault_allocations() != allocations) fault_wrong(&g, "%" PRId64 " allocations were not given back", fault_allocations() - allocations);
    if (fault_mappings() != mappings) fault_wrong(&g, "%" PRId64 " mappings were not ended", fault_mappings() - mappings);
    if (files_open() != files) fault_wrong(&g, "%d files were left open", files_open() - files);
    if (!fault_struck() && (r < 0 || closed < 0)) fault_wrong(&g, "failed by itself: %s", strerror(r < 0 ? -r : -closed));
    if (!is_an_answer(r)) fault_wrong(&g, "the answer was: %s", strerror(-r));
    int again = ground_resume(&g);
    if (again < 0) fault_wrong(&g, "it cannot be opened again: %s", strerror(-again));
    if (again == 0) unfinished_clear(&g, r);
    if (g.wrongs == 0) ground_verify(&g);
    ground_end(&g);
    if (g.wrongs) {
        snprintf(what, sizeof what, "%s (answer %d)", g.wrong, r);
        fail(t, call, mode, what);
    }
    if (mode != FAULT_NONE && fault_struck()) shared->points++;
    return calls;
}

static int template_make(const task *t, fault_ground *g) {
    static plain_state state;
    memset(g, 0, sizeof *g);
    g->state = &state;
    g->seed = t->seed;
    int r = ground_begin(g, t->template);
    if (r == 0 && t->scenario->setup) r = t->scenario->setup(g);
    g->scratch[1] = strncmp(t->scenario->name, "base_build", 10) == 0;
    if (r < 0) fprintf(stderr, "fault_points: %s: its setup failed: %s\n", t->scenario->name, strerror(-r));
    return r;
}

/* In the child: from where the one before it ended. */
static int points_run(const task *t) {
    static fault_ground from;
    if (template_make(t, &from) < 0) return 1;
    if (shared->calls == 0) {
        shared->calls = point_run(t, &from, 0, FAULT_NONE);
        if (shared->failures) return STOPPED;
    }
    for (; shared->mode <= t->mode_last; shared->mode++, shared->call = t->call_first)
        for (; shared->call < t->call_end && shared->points < t->points_max; shared->call++) {
            alarm(POINT_S_MAX);
            point_run(t, &from, shared->call, shared->mode);
            alarm(0);
            if (!fault_struck() && shared->call >= shared->calls) break; /* there are no more calls */
        }
    ground_end(&from);
    shared->done = 1;
    return 0;
}

static void died(const task *t, int status) {
    char what[64];
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) snprintf(what, sizeof what, "did not end within %d s", POINT_S_MAX);
    else if (WIFSIGNALED(status)) snprintf(what, sizeof what, "died of signal %d", WTERMSIG(status));
    else snprintf(what, sizeof what, "ended with status %d", WEXITSTATUS(status));
    fail(t, shared->call, shared->mode, what);
    shared->call++;
}

static void scenario_run(task *t, uint64_t *points, uint64_t *failures) {
    *shared = (progress){.call = t->call_first, .mode = t->mode_first};
    fault_arm(UINT64_MAX, FAULT_NONE, 0);
    fault_disarm();
    while (!shared->done) {
        int status;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) _exit(points_run(t));
        if (child < 0 || waitpid(child, &status, 0) != child) {
            perror("fault_points: fork");
            exit(2);
        }
        if (shared->done) break;
        if (WIFEXITED(status) && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == STOPPED) && shared->calls == 0) {
            shared->failures++;
            break;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == STOPPED) break;
        died(t, status);
    }
    *points += shared->points;
    *failures += shared->failures;
}

typedef struct arguments {
    uint64_t seed, states, rounds, call;
    int mode;
    const char *scenario, *directory;
} arguments;

static int arguments_read(arguments *a, int argc, char **argv) {
    *a = (arguments){.seed = 1, .states = UINT64_MAX, .rounds = 0, .call = UINT64_MAX, .directory = "/dev/shm"};
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t number = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seed") == 0) a->seed = number;
        else if (strcmp(argv[i], "--states") == 0) a->states = number;
        else if (strcmp(argv[i], "--rounds") == 0) a->rounds = number;
        else if (strcmp(argv[i], "--call") == 0) a->call = number;
        else if (strcmp(argv[i], "--mode") == 0) a->mode = strcmp(argv[i + 1], "on") == 0 ? FAULT_ON : FAULT_ONCE;
        else if (strcmp(argv[i], "--scenario") == 0) a->scenario = argv[i + 1];
        else if (strcmp(argv[i], "--directory") == 0) a->directory = argv[i + 1];
        else return -EINVAL;
    }
    if (a->states == UINT64_MAX && a->rounds == 0) a->rounds = 1;
    return argc % 2 == 1 ? 0 : -EINVAL;
}

int main(int argc, char **argv) {
    arguments a;
    task t;
    uint64_t points = 0, failures = 0, scenarios = 0;
    if (arguments_read(&a, argc, argv) < 0) {
        fprintf(stderr, "usage: fault_points --seed N --states N | --rounds N [--scenario NAME [--call N --mode once|on]] [--directory DIR]\n");
        return 2;
    }
    char place[128];
    snprintf(place, sizeof place, "%s/vsnapfs-faults-XXXXXX", a.directory);
    if (!mkdtemp(place)) {
        perror(place);
        return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(t.template, sizeof t.template, "%s/template", place);
    snprintf(t.run, sizeof t.run, "%s/run", place);
    for (uint64_t round = 0; points < a.states && (a.rounds == 0 || round < a.rounds) && failures < 100; round++)
        for (int i = 0; i < fault_scenario_count && points < a.states; i++) {
            if (a.scenario && strcmp(a.scenario, fault_scenarios[i].name) != 0) continue;
            t.scenario = &fault_scenarios[i];
            t.seed = a.seed + round;
            t.points_max = a.states - points;
            t.call_first = a.call == UINT64_MAX ? 0 : a.call;
            t.call_end = a.call == UINT64_MAX ? UINT64_MAX : a.call + 1;
            t.mode_first = a.mode ? a.mode : FAULT_ONCE;
            t.mode_last = a.mode ? a.mode : FAULT_MODES - 1;
            scenario_run(&t, &points, &failures);
            scenarios++;
        }
    if (directory_remove(place) < 0) perror(place), failures++;
    printf("{\"harness\": \"fault_points\", \"seed\": %" PRIu64 ", \"states\": %" PRIu64 ", \"scenarios\": %" PRIu64 ", \"failures\": %" PRIu64 "}\n",
           a.seed, points, scenarios, failures);
    return failures || points == 0 ? 1 : 0;
}
