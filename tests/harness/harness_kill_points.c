/* harness_kill_points.c: kill -9 at every call that changes something.
 *
 *   kill_points --count N --seed S
 *
 * A state: a process plays a workload in a repository in memory until, at one of its calls to the store, SIGKILL strikes it: before the
 * call, in the middle of a write, or after it (killing_store.h). Up to three more processes may then be killed in the recovery. What was
 * answered is noted in memory of the parent, which has the repository opened in the end: nothing that was acknowledged may be missing, and
 * with a keep, which the parent holds, nothing that was answered at all. Half of the repositories have one. Up to three processes play in a
 * repository, one after the other.
 *
 * The page cache survives all this: it is the death of a process. The last line says how many different points were met.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "../native/check.h"
#include "directory.h"
#include "ending.h"
#include "keep.h"
#include "played.h"

enum { CHILD_S_MAX = 60, RECOVERIES_MAX = 3, POINTS_MAX = 512, POINT_BYTES = 64, RECOVERY_CALLS = 24, REPOSITORIES_PER_SEED = 25, LIVES_MAX = 3, PATH = 256 };

typedef struct shared {
    played_log log;
    _Atomic uint64_t calls;
    char point[POINT_BYTES];
} shared;

typedef struct harness {
    uint64_t seed, count;
    char directory[PATH], path[PATH + 8];
    shared *shared;
    char points[POINTS_MAX][POINT_BYTES];
    uint64_t point_count, states, kills, recovery_kills, kept, failures;
} harness;

static void point_note(harness *h) {
    uint64_t i = 0;
    while (i < h->point_count && strcmp(h->points[i], h->shared->point) != 0) i++;
    if (i == POINTS_MAX) die("more kinds of points than are known");
    if (i == h->point_count) memcpy(h->points[h->point_count++], h->shared->point, POINT_BYTES);
}

/* Run what in a process of its own. Returns how it ended. */
static int child_run(const played *p, void (*what)(const played *p)) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(CHILD_S_MAX);
        what(p);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) < 0) die("waitpid");
    return status;
}

/* Run what with orders to kill at a call. 1: it was killed there, 0: it came to its end before, -1: neither. */
static int killed_run(harness *h, played *p, void (*what)(const played *p), uint64_t at, uint64_t *random) {
    killing_orders orders = {.at = at, .when = (int)draw_below(random, KILL_WHENS), .seed = draw(random), .calls = &h->shared->calls,
                             .point = h->shared->point};
    atomic_store(&h->shared->calls, 0);
    h->shared->point[0] = '\0';
    p->killing = &orders;
    int status = child_run(p, what);
    p->killing = NULL;
    if (status == 0) return 0;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL || !h->shared->point[0]) return -1;
    point_note(h);
    return 1;
}

static void repository_remove(const harness *h) {
    if (directory_remove(h->path) != 0) die(h->path);
}

static void judge(const played *p) {
    if (played_judge(p, 0) < 0) _exit(1);
}

/* How many calls the workload makes when nothing kills it; differs a little from run to run, since threads are in it. */
static uint64_t calls_count(harness *h, uint64_t seed) {
    uint64_t random = seed;
    played p = {.path = h->path, .seed = seed, .keep_fd = -1, .tell_fd = -1, .log = &h->shared->log};
    played_make(&p);
    if (killed_run(h, &p, played_run, 0, &random) != 0) die("the workload failed where nothing killed it");
    repository_remove(h);
    return atomic_load(&h->shared->calls);
}

/* Processes that are killed while they recover what the one before them left. -1: one ended otherwise. */
static int recoveries_kill(harness *h, played *p, uint64_t *random) {
    for (uint64_t left = draw_below(random, RECOVERIES_MAX + 1); left > 0; left--) {
        int r = killed_run(h, p, judge, 1 + draw_below(random, RECOVERY_CALLS), random);
        if (r < 0) return r;
        h->recovery_kills += (uint64_t)r;
    }
    return 0;
}

/* Play on, to be killed at a call if there are as many; judge what is left. */
static int life_show(harness *h, played *p, uint64_t at, uint64_t *random) {
    char point[POINT_BYTES];
    int r = killed_run(h, p, played_run, at, random);
    memcpy(point, h->shared->point, sizeof point);
    if (r >= 0) h->kills += (uint64_t)r;
    if (r > 0) r = recoveries_kill(h, p, random);
    if (r >= 0) r = child_run(p, judge) == 0 ? 0 : -1;
    if (r < 0)
        fprintf(stderr, "seed %llu, life %llu, call %llu: %s; then %s; %s keep\n", (unsigned long long)p->seed,
                (unsigned long long)p->log->life_count, (unsigned long long)at, point, h->shared->point, p->keep_fd < 0 ? "no" : "with a");
    return r;
}

static int lives_show(harness *h, uint64_t seed, uint64_t calls, int keep_fd, uint64_t *random) {
    played p = {.path = h->path, .seed = seed, .keep_fd = keep_fd, .tell_fd = -1, .log = &h->shared->log};
    played_make(&p);
    int r = 0;
    for (uint64_t left = 1 + draw_below(random, LIVES_MAX); left > 0 && r == 0 && h->states < h->count; left--) {
        h->states++;
        h->kept += keep_fd >= 0;
        r = life_show(h, &p, 1 + draw_below(random, calls), random);
    }
    return r;
}

/* One repository. Its numbers follow from the seed and its own; where the calls of threads fall among each other does not. */
static void repository_play(harness *h, uint64_t seed, uint64_t calls, uint64_t number) {
    uint64_t random = seed * 1000003 + number;
    int keep_fd = number % 2 ? vs_keep_make() : -1;
    if (number % 2 && keep_fd < 0) die("a keep");
    if (lives_show(h, seed, calls, keep_fd, &random) < 0) {
        h->failures++;
        fprintf(stderr, "repeat: kill_points --count %d --seed %llu\n", REPOSITORIES_PER_SEED * LIVES_MAX, (unsigned long long)seed);
    }
    if (keep_fd >= 0) close(keep_fd);
    repository_remove(h);
}

static int options_read(harness *h, int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--count") == 0) h->count = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0) h->seed = strtoull(argv[i + 1], NULL, 0);
        else return 0;
    }
    return argc % 2 && h->count;
}

static void ground_make(harness *h) {
    snprintf(h->directory, sizeof h->directory, "/dev/shm/kill-points-XXXXXX");
    if (!mkdtemp(h->directory)) die(h->directory);
    snprintf(h->path, sizeof h->path, "%s/r", h->directory);
    h->shared = mmap(NULL, sizeof *h->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (h->shared == MAP_FAILED) die("no memory");
}

int main(int argc, char **argv) {
    static harness h = {.count = 1000, .seed = 1};
    if (!options_read(&h, argc, argv)) {
        fprintf(stderr, "usage: kill_points [--count N] [--seed S]\n");
        return 2;
    }
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    ground_make(&h);
    for (uint64_t seed = h.seed; h.states < h.count; seed++) {
        uint64_t calls = calls_count(&h, seed);
        for (uint64_t number = 0; number < REPOSITORIES_PER_SEED && h.states < h.count; number++) repository_play(&h, seed, calls, number);
    }
    if (rmdir(h.directory) < 0) die(h.directory);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("{\"harness\": \"kill_points\", \"seed\": %llu, \"states\": %llu, \"failures\": %llu, \"kills\": %llu, \"recovery_kills\": %llu, "
           "\"kept\": %llu, \"points\": %llu, \"seconds\": %.1f}\n",
           (unsigned long long)h.seed, (unsigned long long)h.states, (unsigned long long)h.failures, (unsigned long long)h.kills,
           (unsigned long long)h.recovery_kills, (unsigned long long)h.kept, (unsigned long long)h.point_count,
           (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec));
    return h.failures ? 1 : 0;
}
