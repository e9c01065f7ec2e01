/* harness_logged_writes.c: the store on a real filesystem, at every moment at which the machine may lose its power.
 *
 *   logged_writes --filesystem ext4|xfs|btrfs --count N --seed S
 *
 * A round: a new filesystem on a logged disk (logged_disk.h), a repository on it, and a seeded workload that notes what was acknowledged and
 * how much of the disk's log there was then. Then, for each state that a loss of power may leave (crash_plan.h): the filesystem is mounted, which
 * replays its own journal; the repository is opened by its owner in a process of its own; its history must be a prefix of what was done, no
 * shorter than what had been acknowledged when the state's last write was on its way, every point must read as it was, and the primaries
 * must be equal to the newest one. One state in eight is left a second time, in the middle of its own recovery.
 *
 * Needs root, /dev/fuse, a loop device and mkfs. Nothing of it outlives the process: see logged_disk.h.
 */
#include <fcntl.h>
#include <glob.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "crash_plan.h"
#include "../native/check.h"
#include "ending.h"
#include "logged_disk.h"
#include "played.h"

enum { STATES_PER_ROUND = 600, NESTED_EACH = 8, NESTED_STATES = 3, RANGES_MAX = 4096, CHILD_S_MAX = 60, PATH = 300 };

typedef struct filesystem {
    const char *name;
    uint64_t size_bytes;
    const char *make[10];
    const char *options;
    int maps_are_places; /* what FIEMAP says are places on the device */
} filesystem;

static const filesystem filesystems[] = {
    {"ext4", UINT64_C(64) << 20, {"mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard"}, "", 1},
    {"xfs", UINT64_C(300) << 20, {"mkfs.xfs", "-q", "-f", "-K"}, "nouuid", 1},
    {"btrfs", UINT64_C(128) << 20, {"mkfs.btrfs", "-q", "-f", "-K"}, "", 0},
};

typedef struct shared {
    played_log log;
    size_t range_count;
    crash_range ranges[RANGES_MAX]; /* places on the device that hold contents of files of the repository */
} shared;

typedef struct harness {
    const filesystem *filesystem;
    uint64_t seed, count;
    char directory[PATH - 32], mountpoint[PATH];
    logged_disk disk;
    uint8_t *base; /* the medium at the beginning of the epoch that we are at */
    uint64_t base_end;
    shared *shared;
    uint64_t states, nested, torn, failures, rounds, epochs, possible, steps;
} harness;

/* ---- the machine ---- */

static int status_of(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) < 0) die("waitpid");
    return status;
}

static void filesystem_make(const harness *h) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        const char *argv[12];
        int n = 0;
        for (const char *const *p = h->filesystem->make; *p; p++) argv[n++] = *p;
        argv[n++] = h->disk.device;
        argv[n] = NULL;
        if (dup2(open("/dev/null", O_WRONLY), 1) < 0) die("/dev/null");
        execvp(argv[0], (char **)(uintptr_t)argv);
        die(argv[0]);
    }
    if (status_of(child) != 0) die("mkfs failed");
}

static int filesystem_mount(const harness *h) {
    return mount(h->disk.device, h->mountpoint, h->filesystem->name, MS_NOATIME, h->filesystem->options) < 0 ? -errno : 0;
}

static void filesystem_unmount(const harness *h) {
    if (umount2(h->mountpoint, 0) < 0) die("the filesystem cannot be unmounted");
    logged_disk_forget(&h->disk);
}

static void path_of_repository(const harness *h, char path[PATH + 16]) {
    snprintf(path, PATH + 16, "%s/r", h->mountpoint);
}

/* ---- what is acknowledged, and where ---- */

static void ranges_note(shared *s, const char *path) {
    enum { EXTENTS = 256 };
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct fiemap *m = calloc(1, sizeof *m + EXTENTS * sizeof m->fm_extents[0]);
    if (file < 0 || !m) die(path);
    m->fm_length = FIEMAP_MAX_OFFSET;
    m->fm_extent_count = EXTENTS;
    if (ioctl(file, FS_IOC_FIEMAP, m) < 0) die("FIEMAP");
    for (uint32_t i = 0; i < m->fm_mapped_extents && s->range_count < RANGES_MAX; i++) {
        const struct fiemap_extent *e = &m->fm_extents[i];
        if (e->fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DELALLOC)) continue;
        s->ranges[s->range_count++] = (crash_range){e->fe_physical, e->fe_physical + e->fe_length};
    }
    free(m);
    close(file);
}

static void ranges_note_all(shared *s, const char *path) {
    char pattern[PATH + 32];
    glob_t files;
    snprintf(pattern, sizeof pattern, "%s/*/*", path);
    s->range_count = 0;
    if (glob(pattern, 0, NULL, &files) != 0) die(pattern);
    for (size_t i = 0; i < files.gl_pathc; i++) ranges_note(s, files.gl_pathv[i]);
    globfree(&files);
}

/* A process of its own plays the workload; it may not outlive us. */
static void play(harness *h, uint64_t seed) {
    char path[PATH + 16];
    path_of_repository(h, path);
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const played p = {.path = path, .seed = seed, .keep_fd = -1, .tell_fd = -1, .position = h->disk.count, .log = &h->shared->log};
        played_make(&p);
        played_run(&p);
        if (h->filesystem->maps_are_places) ranges_note_all(h->shared, path);
        _exit(0);
    }
    if (status_of(child) != 0) die("the workload failed");
}

/* ---- a state ---- */

/* The processes that look at it may take so long, and say what is wrong on stderr. 0: all is well. */
static int look(const harness *h, uint64_t seed, uint64_t position) {
    char path[PATH + 16];
    path_of_repository(h, path);
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(CHILD_S_MAX);
        static played_log log; /* its own: what it finds is the end of no life */
        memcpy(&log, &h->shared->log, sizeof log);
        const played p = {.path = path, .seed = seed, .keep_fd = -1, .tell_fd = -1, .log = &log};
        _exit(played_judge(&p, position) == 0 ? 0 : 1);
    }
    return status_of(child);
}

/* Mount, look, unmount. */
static int state_show(const harness *h, uint64_t seed, uint64_t position) {
    int r = filesystem_mount(h);
    if (r < 0) {
        fprintf(stderr, "the filesystem cannot be mounted: %s\n", strerror(-r));
        logged_disk_forget(&h->disk);
        return r;
    }
    r = look(h, seed, position);
    filesystem_unmount(h);
    return r;
}

static void tell(const harness *h, uint64_t seed, const crash_state *s, const char *where) {
    fprintf(stderr, "failed: --filesystem %s --count %llu --seed %llu: round of seed %llu, state of writes [%llu, %llu) subset %#llx seed %#llx%s\n",
            h->filesystem->name, (unsigned long long)h->count, (unsigned long long)h->seed, (unsigned long long)seed, (unsigned long long)s->first,
            (unsigned long long)s->end, (unsigned long long)s->subset, (unsigned long long)s->seed, where);
}

/* What the records [first, end) changed is what it was on the base. */
static void image_restore(harness *h, uint64_t first, uint64_t end) {
    for (uint64_t i = first; i < end; i++) {
        const logged_record *r = &h->disk.records[i];
        memcpy(h->disk.image + r->offset_bytes, h->base + r->offset_bytes, r->length_bytes);
    }
}

/* The base moves on to a later epoch, and the image with it. */
static void base_move(harness *h, uint64_t end) {
    for (; h->base_end < end; h->base_end++) {
        const logged_record *r = &h->disk.records[h->base_end];
        memcpy(h->base + r->offset_bytes, h->disk.data + r->data, r->length_bytes);
        memcpy(h->disk.image + r->offset_bytes, h->disk.data + r->data, r->length_bytes);
    }
}

static void state_apply(harness *h, const crash_state *s) {
    h->torn += crash_state_apply(s, &h->disk, h->shared->ranges, h->shared->range_count);
}

/* The records [from, to) are those of the recovery from state s, which was shown: some states that this recovery may have been left in. */
static void nested_show(harness *h, const crash_state *s, uint64_t seed, uint64_t from, uint64_t to) {
    crash_plan p;
    uint64_t left = h->count - h->states;
    crash_plan_make(&p, &h->disk, from, to, seed + s->end);
    crash_plan_thin(&p, left < NESTED_STATES ? left : NESTED_STATES, seed + s->end);
    for (size_t i = 0; i < p.count; i++) {
        image_restore(h, s->first, s->end);
        image_restore(h, from, atomic_load(h->disk.count));
        logged_disk_cut(&h->disk, to);
        state_apply(h, s);
        for (uint64_t n = from; n < p.states[i].first; n++) {
            const logged_record *r = &h->disk.records[n];
            memcpy(h->disk.image + r->offset_bytes, h->disk.data + r->data, r->length_bytes);
        }
        h->torn += crash_state_apply(&p.states[i], &h->disk, NULL, 0);
        h->nested++;
        h->states++;
        if (state_show(h, seed, s->end) == 0) continue;
        h->failures++;
        tell(h, seed, s, ", left again in its recovery");
    }
    crash_plan_end(&p);
}

/* ---- a round ---- */

static void states_show(harness *h, const crash_plan *p, uint64_t seed, uint64_t log_end) {
    uint64_t last = h->count < h->states + STATES_PER_ROUND ? h->count : h->states + STATES_PER_ROUND;
    for (size_t i = 0; i < p->count && h->states < last; i++) {
        const crash_state *s = &p->states[i];
        base_move(h, s->first);
        state_apply(h, s);
        h->states++;
        if (state_show(h, seed, s->end) != 0) {
            h->failures++;
            tell(h, seed, s, "");
        }
        if (i % NESTED_EACH == 0) nested_show(h, s, seed, log_end, atomic_load(h->disk.count));
        image_restore(h, s->first, s->end);
        image_restore(h, log_end, atomic_load(h->disk.count));
        logged_disk_cut(&h->disk, log_end);
    }
}

static void base_clear(harness *h) {
    h->base_end = 0;
    h->base = mmap(h->base, h->disk.size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (h->base ? MAP_FIXED : 0), -1, 0);
    if (h->base == MAP_FAILED) die("no memory for the disk");
}

static void round_play(harness *h, uint64_t seed) {
    logged_disk_clear(&h->disk);
    logged_disk_cut(&h->disk, 0);
    filesystem_make(h);
    logged_disk_forget(&h->disk);
    if (filesystem_mount(h) < 0) die("the new filesystem cannot be mounted");
    play(h, seed);
    uint64_t end = atomic_load(h->disk.count);
    filesystem_unmount(h);
    uint64_t log_end = atomic_load(h->disk.count);
    logged_disk_clear(&h->disk);
    base_clear(h);
    crash_plan p;
    crash_plan_make(&p, &h->disk, h->shared->log.begin, end, seed);
    uint64_t possible = p.count;
    crash_plan_thin(&p, STATES_PER_ROUND < h->count - h->states ? STATES_PER_ROUND : h->count - h->states, seed);
    h->epochs += p.epochs;
    h->possible += possible;
    h->steps += atomic_load(&h->shared->log.count);
    states_show(h, &p, seed, log_end);
    crash_plan_end(&p);
    h->rounds++;
}

/* ---- the program ---- */

static const filesystem *filesystem_named(const char *name) {
    for (size_t i = 0; i < sizeof filesystems / sizeof filesystems[0]; i++)
        if (strcmp(filesystems[i].name, name) == 0) return &filesystems[i];
    return NULL;
}

static int options_read(harness *h, int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--filesystem") == 0) h->filesystem = filesystem_named(argv[i + 1]);
        else if (strcmp(argv[i], "--count") == 0) h->count = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--seed") == 0) h->seed = strtoull(argv[i + 1], NULL, 0);
        else return 0;
    }
    return argc % 2 && h->filesystem && h->count;
}

/* A name as the kernel's table of mounts has it: spaces and the like are octal. */
static void name_read(char *name) {
    char *to = name;
    for (const char *p = name; *p; p++, to++) {
        unsigned code;
        *to = *p;
        if (*p == '\\' && sscanf(p + 1, "%3o", &code) == 1) *to = (char)code, p += 3;
    }
    *to = '\0';
}

static int is_of_the_machine(const char *name) {
    return strcmp(name, "/") == 0 || strncmp(name, "/dev", 4) == 0 || strncmp(name, "/proc", 5) == 0 || strncmp(name, "/sys", 4) == 0;
}

/* A namespace of our own, without the filesystems that others have mounted: in a copy of theirs they would stay in use, whatever they do. */
static void namespace_make(void) {
    char line[4096], name[4096];
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) die("a mount namespace of our own");
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table) die("/proc/self/mountinfo");
    while (fgets(line, sizeof line, table)) {
        if (sscanf(line, "%*s %*s %*s %*s %4095s", name) != 1) continue;
        name_read(name);
        if (!is_of_the_machine(name)) umount2(name, MNT_DETACH); /* it may have gone with one that it was on */
    }
    fclose(table);
}

/* Directories of our own, in memory, seen by nobody else. */
static void ground_make(harness *h) {
    char disk[PATH];
    snprintf(h->directory, sizeof h->directory, "/tmp/logged-writes-XXXXXX");
    namespace_make();
    if (!mkdtemp(h->directory) || mount("logged_writes", h->directory, "tmpfs", 0, NULL) < 0) die(h->directory);
    snprintf(h->mountpoint, sizeof h->mountpoint, "%s/mount", h->directory);
    snprintf(disk, sizeof disk, "%s/disk", h->directory);
    if (mkdir(h->mountpoint, 0700) < 0 || mkdir(disk, 0700) < 0) die(h->directory);
    h->shared = mmap(NULL, sizeof *h->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (h->shared == MAP_FAILED) die("no memory");
    logged_disk_begin(&h->disk, disk, h->filesystem->size_bytes);
}

static void ground_end(harness *h) {
    logged_disk_end(&h->disk);
    if (umount2(h->directory, MNT_DETACH) < 0 || rmdir(h->directory) < 0) die(h->directory);
}

int main(int argc, char **argv) {
    static harness h = {.count = 200, .seed = 1};
    if (!options_read(&h, argc, argv)) {
        fprintf(stderr, "usage: logged_writes --filesystem ext4|xfs|btrfs [--count N] [--seed S]\n");
        return 2;
    }
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    ground_make(&h);
    for (uint64_t seed = h.seed; h.states < h.count; seed++) round_play(&h, seed);
    ground_end(&h);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("{\"harness\": \"logged_writes\", \"filesystem\": \"%s\", \"seed\": %llu, \"states\": %llu, \"failures\": %llu, \"nested\": %llu, \"torn\": %llu, "
           "\"rounds\": %llu, \"epochs\": %llu, \"possible\": %llu, \"steps\": %llu, \"seconds\": %.1f}\n",
           h.filesystem->name, (unsigned long long)h.seed, (unsigned long long)h.states, (unsigned long long)h.failures, (unsigned long long)h.nested,
           (unsigned long long)h.torn, (unsigned long long)h.rounds, (unsigned long long)h.epochs, (unsigned long long)h.possible, (unsigned long long)h.steps,
           (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec));
    return h.failures ? 1 : 0;
}
