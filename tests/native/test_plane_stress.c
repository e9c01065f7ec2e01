/* test_plane_stress.c: 16 threads that use a mount as programs do, and look into the plane while they do it; made for the sanitizers.
 *
 * Each thread has a stripe of the volume to itself and knows what must be in it. It writes, reads, syncs, discards, seeks, opens and closes,
 * looks at names; asks for counts; and registers and removes files of its own. At a signal all stop and the volume is compared; then
 * they go on, carelessly, while the mount is taken away under them. Once over memory, once over a live volume of a journal.
 *
 * The program uses its own mount: see test_plane.c.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "journal_ground.h"
#include "memory_file.h"
#include "name_server.h"
#include "plane_begin.h"

enum { THREADS = 16, STRIPE = 192 << 10, SIZE = THREADS * STRIPE, LENGTH_MAX = 48 << 10, DEADLINE_S = 120 };

typedef struct ground {
    vs_keep *keep;
    vs_plane *plane;
    name_server names;
    memory_file *memory; /* the volume, or its likeness where the journal has it */
    vs_store *store;
    vs_journal *journal;
    uint32_t volume;
    int primary;
    int steps; /* of one user */
    pthread_barrier_t calm; /* all have done their steps; later: the volume has been compared */
    atomic_int ending;      /* the mount goes away: errors are expected */
} ground;

typedef struct user {
    ground *g;
    pthread_t thread;
    int number, fd;
    uint64_t seed, writes_seen;
    memory_file *other;
    unsigned char stripe[STRIPE], buf[LENGTH_MAX];
} user;

static user users[THREADS];

/* ---- when something is wrong ---- */

/* A process that dies inside its own mount, by a failed check or by the word of a sanitizer, waits for its own answers for ever. So it
 * has a parent that does not use the mount, sees the first thread dead, and ends the connection; by a second name of the mount, which stays
 * when the first is taken away. */
static int is_dying(pid_t child) {
    char path[40], line[64] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    FILE *f = fopen(path, "r");
    if (!f) return 1;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    const char *state = memchr(line, ')', n);
    return !state || state[2] == 'Z';
}

static int watch_over(pid_t child) {
    int status;
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
    CHECK(ended.fd >= 0);
    for (int tenths = 0; tenths < DEADLINE_S * 10 && poll(&ended, 1, 100) == 0 && !is_dying(child);) tenths++;
    if (!is_dying(child)) fprintf(stderr, "test_plane_stress: a request or a thread hangs\n");
    umount2("kept", MNT_FORCE | MNT_DETACH);
    kill(child, SIGKILL);
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* ---- what a user does ---- */

/* A call's result; an error is one unless the mount is going away. Returns 0: stop. */
static int went_well(const user *u, int64_t result, int64_t wanted) {
    if (result == wanted) return 1;
    if (atomic_load(&u->g->ending)) return 0;
    CHECK_EQ(result, wanted);
    return 0;
}

static int reopen(user *u) {
    static const int flags[] = {0, O_DSYNC, 0, O_SYNC};
    if (u->fd >= 0 && !went_well(u, close(u->fd), 0)) return u->fd = -1, 0;
    u->fd = open("mnt/vol", O_RDWR | O_CLOEXEC | flags[draw_below(&u->seed, 4)]);
    return went_well(u, u->fd >= 0, 1);
}

static off_t place(const user *u, uint64_t at) {
    return (off_t)((uint64_t)u->number * STRIPE + at);
}

static int write_some(user *u, uint64_t at, uint64_t length) {
    memset(u->buf, (int)draw_below(&u->seed, 256), length);
    if (!went_well(u, pwrite(u->fd, u->buf, length, place(u, at)), (int64_t)length)) return 0;
    memcpy(u->stripe + at, u->buf, length);
    return 1;
}

static int read_some(user *u, uint64_t at, uint64_t length) {
    if (!went_well(u, pread(u->fd, u->buf, length, place(u, at)), (int64_t)length)) return 0;
    return went_well(u, memcmp(u->buf, u->stripe + at, length), 0);
}

static int discard_some(user *u, uint64_t at, uint64_t length) {
    int mode = draw_below(&u->seed, 2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
    if (!went_well(u, fallocate(u->fd, mode, place(u, at), (off_t)length), 0)) return 0;
    memset(u->stripe + at, 0, length);
    return 1;
}

/* What lies before the data that it found is zeros. */
static int seek_some(user *u, uint64_t at) {
    off_t found = lseek(u->fd, place(u, at), SEEK_DATA);
    if (found < 0 && errno == ENXIO) found = SIZE;
    if (!went_well(u, found >= place(u, at), 1)) return 0;
    for (uint64_t i = at; i < STRIPE && place(u, i) < found; i++) CHECK_EQ(u->stripe[i], 0);
    off_t hole = lseek(u->fd, place(u, at), SEEK_HOLE);
    return went_well(u, hole >= place(u, at) && hole <= SIZE, 1);
}

static int look_at_names(user *u) {
    struct stat st;
    char text[sizeof TEXT];
    if (!went_well(u, stat("mnt/vol", &st), 0) || !went_well(u, st.st_size, SIZE)) return 0;
    int fd = open("mnt/text", O_RDONLY | O_CLOEXEC);
    if (!went_well(u, fd >= 0, 1)) return 0;
    int good = went_well(u, read(fd, text, sizeof text), sizeof TEXT - 1);
    return went_well(u, close(fd), 0) && good;
}

/* Counts grow, and more is counted than this user alone has asked for. */
static int look_at_counts(user *u) {
    static _Thread_local vs_plane_count counts[VS_PLANE_OPCODES];
    vs_plane_open_file files[2 * THREADS];
    vs_fault fault;
    vs_plane_counts(u->g->plane, counts);
    CHECK(counts[FUSE_WRITE].requests >= u->writes_seen);
    u->writes_seen = counts[FUSE_WRITE].requests;
    uint64_t count = vs_plane_open_files(u->g->plane, files, 2 * THREADS), found = count < 2 * THREADS ? count : 2 * THREADS;
    for (uint64_t i = 0; i < found; i++) CHECK(files[i].fh != 0 && files[i].count.errors <= files[i].count.requests);
    vs_plane_next_fault(u->g->plane, &fault);
    return 1;
}

/* The test itself is a second one that registers files, beside the server of names. */
static int add_and_remove(user *u) {
    uint64_t fh;
    uint64_t before = atomic_load(&u->other->releases);
    if (!went_well(u, vs_plane_add_file(u->g->plane, &u->other->file, NODE_VOLUME, 0, &fh), 0)) return 0;
    int code = vs_plane_remove_file(u->g->plane, fh);
    if (!went_well(u, code, 0)) return 0;
    CHECK_EQ(atomic_load(&u->other->releases), before + 1); /* nobody else knows its number */
    return 1;
}

static int step(user *u) {
    uint64_t at = draw_below(&u->seed, STRIPE - 1), length = 1 + draw_below(&u->seed, LENGTH_MAX);
    if (length > STRIPE - at) length = STRIPE - at;
    switch (draw_below(&u->seed, 16)) {
    case 0: return went_well(u, fsync(u->fd), 0);
    case 1: return went_well(u, fdatasync(u->fd), 0);
    case 2: return discard_some(u, at, length);
    case 3: return seek_some(u, at);
    case 4: return reopen(u);
    case 5: return look_at_names(u);
    case 6: return look_at_counts(u);
    case 7: return add_and_remove(u);
    case 8: return went_well(u, pwrite(u->fd, "x", 1, SIZE) < 0 && errno == ENOSPC, 1);
    default: return at & 1 ? write_some(u, at, length) : read_some(u, at, length);
    }
}

static void *use(void *arg) {
    user *u = arg;
    CHECK(reopen(u));
    for (int i = 0; i < u->g->steps; i++) step(u);
    CHECK_EQ(fsync(u->fd), 0);
    pthread_barrier_wait(&u->g->calm);
    pthread_barrier_wait(&u->g->calm);
    while (u->fd >= 0 && step(u)) {}
    if (u->fd >= 0) close(u->fd);
    return NULL;
}

/* ---- over memory, over a journal ---- */

/* The name server's: a file for one open. */
static vs_volume_file *open_live(name_server *s) {
    ground *g = (ground *)((char *)s - offsetof(ground, names));
    vs_volume_file *f;
    CHECK_EQ(vs_live_file(g->journal, g->volume, &f), 0);
    return f;
}

static void make_journal(ground *g) {
    g->store = ground_make();
    g->journal = ground_open(g->store, 1, 512 << 10, 64 << 10);
    g->volume = ground_volume(g->journal, SIZE);
    g->primary = ground_primary("primary/1.img", SIZE);
    CHECK_EQ(vs_journal_attach_primary(g->journal, g->volume, g->primary), 0);
    g->names.open_volume = open_live;
}

static void compare(const unsigned char *volume) {
    for (int i = 0; i < THREADS; i++) CHECK(memcmp(volume + (size_t)i * STRIPE, users[i].stripe, STRIPE) == 0);
}

/* The volume itself, and with a journal the newest point of it too. */
static void compare_volume(ground *g) {
    unsigned char *bytes = malloc(SIZE);
    if (g->journal) {
        uint64_t seqno;
        vs_view *v;
        CHECK_EQ(vs_journal_read_live(g->journal, g->volume, 0, bytes, SIZE), SIZE);
        compare(bytes);
        ground_mark(g->journal, &seqno);
        CHECK_EQ(vs_view_open(g->journal, g->volume, seqno, &v), 0);
        CHECK_EQ(vs_view_read(v, 0, bytes, SIZE), SIZE);
        vs_view_close(v);
    } else {
        CHECK_EQ(g->memory->file.read(&g->memory->file, 0, bytes, SIZE), SIZE);
    }
    compare(bytes);
    free(bytes);
}

static void end_journal(ground *g) {
    CHECK_EQ(vs_journal_close(g->journal), 0);
    vs_store_close(g->store);
    close(g->primary);
}

static void start_users(ground *g) {
    for (int i = 0; i < THREADS; i++) {
        memset(&users[i], 0, sizeof users[i]);
        users[i].g = g;
        users[i].number = i;
        users[i].fd = -1;
        users[i].seed = (uint64_t)i + 100;
        users[i].other = memory_file_new(MEMORY_BLOCK);
        CHECK_EQ(pthread_create(&users[i].thread, NULL, use, &users[i]), 0);
    }
}

static void join_users(void) {
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(users[i].thread, NULL), 0);
        memory_file_end(users[i].other);
    }
}

/* So many steps of each user. With open_flags of the volume's opens: through the page cache, or every request to the plane. lazy: its path goes first. */
static void stress(int on_journal, int steps, uint32_t open_flags, int lazy) {
    vs_plane_options o = {.mountpoint = "mnt", .source = "stress"};
    static ground g;
    memset(&g, 0, sizeof g);
    g.steps = steps;
    g.names.open_flags = open_flags;
    g.memory = memory_file_new(SIZE);
    if (on_journal) make_journal(&g);
    CHECK_EQ(pthread_barrier_init(&g.calm, NULL, THREADS + 1), 0);
    CHECK_EQ(plane_begin(&o, THREADS, &g.keep, &g.plane), 0);
    name_server_start(&g.names, g.plane, g.memory);
    CHECK_EQ(mount("mnt", "kept", NULL, MS_BIND, NULL), 0);
    start_users(&g);
    pthread_barrier_wait(&g.calm);
    compare_volume(&g);
    vs_plane_count counts[VS_PLANE_OPCODES];
    vs_plane_counts(g.plane, counts);
    uint64_t until = counts[FUSE_WRITE].requests + 2 * THREADS;
    atomic_store(&g.ending, 1);
    pthread_barrier_wait(&g.calm);
    do vs_plane_counts(g.plane, counts);
    while (counts[FUSE_WRITE].requests < until && sched_yield() == 0); /* they are at it again; a hang is seen by the parent */
    if (lazy) CHECK_EQ(vs_plane_unmount(g.plane, 1), 0);
    CHECK_EQ(vs_plane_stop(g.plane), 0);
    join_users();
    if (!lazy) CHECK_EQ(umount2("mnt", MNT_DETACH), 0);
    CHECK_EQ(umount2("kept", MNT_DETACH), 0);
    name_server_end(&g.names);
    CHECK_EQ(vs_plane_open_files(g.plane, NULL, 0), 0);
    vs_plane_free(g.plane);
    vs_keep_close(g.keep);
    if (on_journal) end_journal(&g);
    memory_file_end(g.memory);
    pthread_barrier_destroy(&g.calm);
}

static void need(int has, const char *what) {
    if (has) return;
    fprintf(stderr, "needs %s\n", what);
    exit(EXIT_SKIPPED);
}

static int stress_all(void) {
    signal(SIGPIPE, SIG_IGN);
    CHECK_EQ(mkdir("mnt", 0700), 0);
    CHECK_EQ(mkdir("kept", 0700), 0);
    stress(0, 300, FOPEN_KEEP_CACHE, 1);
    stress(0, 300, FOPEN_DIRECT_IO, 0);
    stress(1, 100, FOPEN_DIRECT_IO, 1); /* each sync is one of a disk */
    return 0;
}

int main(void) {
    need(access("/dev/fuse", R_OK | W_OK) == 0, "/dev/fuse");
    need(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "root, for a mount namespace");
    pid_t child = fork();
    CHECK(child >= 0);
    return child ? watch_over(child) : stress_all();
}
