/* The plane with a real mount, in a mount namespace of its own; the names come from name_server.h, the bytes from memory_file.h.
 *
 * The program uses its own mount, so it must not die with a file of it open: the kernel then asks a dead process to flush, and waits for
 * ever. Whatever ends it ends the connection first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "faults.h"
#include "memory_file.h"
#include "name_server.h"
#include "plane_begin.h"
#include "plane_internal.h"
#include "status.h"

/* DEADLINE_S: after a mount, what is not done by then hangs. */
enum { SIZE = (4 << 20) + 1234, DEADLINE_S = 30 };

typedef struct fixture {
    vs_keep *keep;
    vs_plane *plane;
    memory_file *volume;
    name_server names;
} fixture;

static vs_plane *current;
static int transport; /* of every mount: VS_PLANE_DEVICE, then VS_PLANE_IO_URING */

#define ENABLE "/sys/module/fuse/parameters/enable_uring"

/* What the kernel offers to mounts that are made from now on; returns what it was: 'Y' or 'N', 0 if that cannot be. Others who test here wait
 * for the end of this process. */
static char offer_io_uring(char value) {
    static int fd = -1;
    char before = 0;
    if (fd < 0) {
        if ((fd = open(ENABLE, O_RDWR | O_CLOEXEC)) < 0) return 0;
        CHECK_EQ(flock(fd, LOCK_EX), 0);
    }
    CHECK_EQ(pread(fd, &before, 1, 0), 1);
    CHECK_EQ(pwrite(fd, &value, 1, 0), 1);
    return before;
}

static char offered_before;

static void clean_up(void) {
    if (current) vs_plane_device_abort(&current->device);
    if (offered_before) offer_io_uring(offered_before);
}

/* A thread of its own waits for the alarm: one that waits for the mount handles no signal before it has its answer. */
static void *watch(void *arg) {
    int signal;
    sigwait(arg, &signal);
    fprintf(stderr, "test_plane: a request or a thread hangs\n");
    clean_up();
    _exit(1);
}

static void start_watch(void) {
    static sigset_t alarm_only;
    pthread_t thread;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, watch, &alarm_only), 0);
    pthread_detach(thread);
}

static void mount_up(fixture *x, uint32_t open_flags) {
    vs_plane_options o = {.mountpoint = "mnt", .source = "test", .transport = transport};
    memset(x, 0, sizeof *x);
    x->volume = memory_file_new(SIZE);
    x->names.open_flags = open_flags;
    CHECK_EQ(plane_begin(&o, 4, &x->keep, &x->plane), 0);
    current = x->plane;
    alarm(DEADLINE_S);
    name_server_start(&x->names, x->plane, x->volume);
}

static void stop(fixture *x) {
    CHECK_EQ(vs_plane_stop(x->plane), 0);
    CHECK_EQ(vs_plane_stop(x->plane), 0);
    current = NULL;
}

static void end(fixture *x) {
    stop(x);
    name_server_end(&x->names);
    vs_plane_free(x->plane);
    vs_keep_close(x->keep);
    memory_file_end(x->volume);
}

static int has_ended(const fixture *x) {
    struct pollfd p = {.fd = vs_plane_ended_fd(x->plane), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void down(fixture *x) {
    CHECK_EQ(vs_plane_transport(x->plane), transport);
    CHECK_EQ(vs_plane_unmount(x->plane, 0), 0);
    struct pollfd p = {.fd = vs_plane_ended_fd(x->plane), .events = POLLIN};
    CHECK_EQ(poll(&p, 1, DEADLINE_S * 1000), 1);
    end(x);
}

static int open_volume(int flags) {
    int fd = open("mnt/vol", O_RDWR | O_CLOEXEC | flags);
    CHECK(fd >= 0);
    return fd;
}

static uint64_t requests_of(const fixture *x, int opcode) {
    vs_plane_count counts[VS_PLANE_OPCODES];
    vs_plane_counts(x->plane, counts);
    return counts[opcode].requests;
}

static void wait_for(_Atomic uint64_t *count, uint64_t at_least) {
    while (atomic_load(count) < at_least) sched_yield(); /* a hang is caught by the alarm */
}

/* Are these the volume's bytes? Under its lock: a sanitizer does not see the order that the kernel gives. */
static int volume_has(fixture *x, uint64_t offset, const void *bytes, size_t length) {
    pthread_rwlock_rdlock(&x->volume->mu);
    int same = memcmp(x->volume->bytes + offset, bytes, length) == 0;
    pthread_rwlock_unlock(&x->volume->mu);
    return same;
}

static int all_are(const unsigned char *bytes, size_t length, int value) {
    return bytes[0] == value && memcmp(bytes, bytes + 1, length - 1) == 0;
}

static int error_of(int64_t result) {
    return result < 0 ? errno : 0;
}

/* ---- bytes ---- */

/* Any size and place, read and written, against a copy; through the page cache and past it. */
static void bytes_are_as_written(uint32_t open_flags) {
    enum { STEPS = 400, LARGEST = 1 << 20 };
    static unsigned char copy[SIZE], buf[LARGEST];
    fixture x;
    mount_up(&x, open_flags);
    uint64_t seed = 3;
    int fd = open_volume(0);
    memset(copy, 0, SIZE);
    for (int i = 0; i < STEPS; i++) {
        uint64_t offset = draw_below(&seed, SIZE), length = 1 + draw_below(&seed, i % 8 ? 9000 : LARGEST);
        uint64_t inside = length < SIZE - offset ? length : SIZE - offset;
        if (draw_below(&seed, 2)) {
            memset(buf, (int)draw_below(&seed, 256), length);
            CHECK_EQ(pwrite(fd, buf, length, (off_t)offset), inside);
            memcpy(copy + offset, buf, inside);
            CHECK(volume_has(&x, offset, buf, inside)); /* it was there before pwrite returned */
        } else {
            CHECK_EQ(pread(fd, buf, length, (off_t)offset), inside);
            CHECK(memcmp(buf, copy + offset, inside) == 0);
        }
    }
    CHECK(volume_has(&x, 0, copy, SIZE));
    CHECK_EQ(pread(fd, buf, 10, SIZE), 0);
    CHECK_EQ(pwrite(fd, buf, 10, SIZE), -1);
    CHECK_EQ(errno, ENOSPC);
    close(fd);
    down(&x);
}

static void large_requests_are_one(void) {
    fixture x;
    mount_up(&x, FOPEN_DIRECT_IO);
    unsigned char *buf = aligned_alloc(4096, 1 << 20);
    memset(buf, 7, 1 << 20);
    int fd = open_volume(O_DIRECT);
    CHECK_EQ(pwrite(fd, buf, 1 << 20, 4096), 1 << 20);
    CHECK_EQ(requests_of(&x, FUSE_WRITE), 1);
    CHECK_EQ(pread(fd, buf, 1 << 20, 4096), 1 << 20);
    CHECK_EQ(requests_of(&x, FUSE_READ), 1);
    vs_plane_count counts[VS_PLANE_OPCODES];
    vs_plane_counts(x.plane, counts);
    CHECK_EQ(counts[FUSE_WRITE].bytes, 1 << 20);
    CHECK_EQ(counts[FUSE_READ].bytes, 1 << 20);
    CHECK_EQ(counts[FUSE_READ].errors, 0);
    close(fd);
    free(buf);
    CHECK_EQ(vs_plane_unmount(x.plane, 0), 0);
    stop(&x);
    vs_plane_counts(x.plane, counts); /* the time is counted after the answer */
    CHECK(counts[FUSE_READ].nanoseconds > 0);
    end(&x);
}

typedef struct stress {
    fixture *x;
    int number;
} stress;

enum { STRESSERS = 8, LOOKERS = 8, REGION = SIZE / STRESSERS / 4096 * 4096 };

/* One of those that look names up meanwhile, past what the kernel remembers. */
static void *stress_names(void *arg) {
    stress *s = arg;
    char name[64], got[64];
    struct stat st;
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "mnt/absent-%d-%d", s->number, i);
        CHECK_EQ(error_of(stat(name, &st)), ENOENT);
        int fd = open("mnt/text", O_RDONLY | O_CLOEXEC | O_DIRECT);
        CHECK(fd >= 0);
        CHECK_EQ(read(fd, got, sizeof got), sizeof TEXT - 1);
        CHECK_EQ(lseek(fd, 0, SEEK_HOLE), sizeof TEXT - 1);
        close(fd);
    }
    return NULL;
}

/* One thread's region, opened again and again; the bytes in it are all alike after each write. */
static void *stress_region(void *arg) {
    stress *s = arg;
    uint64_t seed = (uint64_t)s->number + 10, begin = (uint64_t)s->number * REGION;
    unsigned char *buf = malloc(REGION);
    for (int i = 0; i < 12; i++) {
        int fd = open_volume(i % 3 == 0 ? O_DSYNC : 0);
        memset(buf, i + 1, REGION);
        uint64_t length = 1 + draw_below(&seed, REGION);
        CHECK_EQ(pwrite(fd, buf, length, (off_t)begin), length);
        CHECK_EQ(fsync(fd), 0);
        memset(buf, 0, length);
        CHECK_EQ(pread(fd, buf, length, (off_t)begin), length);
        CHECK(all_are(buf, length, i + 1));
        if (i % 4 == 0) {
            CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin, REGION), 0);
            CHECK_EQ(pread(fd, buf, REGION, (off_t)begin), REGION);
            CHECK(all_are(buf, REGION, 0));
        }
        CHECK(requests_of(s->x, FUSE_WRITE) > 0);
        close(fd);
    }
    free(buf);
    return NULL;
}

static void many_at_once(uint32_t open_flags) {
    fixture x;
    pthread_t threads[STRESSERS + LOOKERS];
    stress s[STRESSERS + LOOKERS];
    mount_up(&x, open_flags);
    for (int i = 0; i < STRESSERS + LOOKERS; i++) {
        s[i] = (stress){&x, i};
        CHECK_EQ(pthread_create(&threads[i], NULL, i < STRESSERS ? stress_region : stress_names, &s[i]), 0);
    }
    for (int i = 0; i < STRESSERS + LOOKERS; i++) pthread_join(threads[i], NULL);
    wait_for(&x.volume->releases, STRESSERS * 12);
    CHECK(x.volume->durable_writes > 0);
    down(&x);
}

static void *pwrite_it(void *arg) {
    CHECK_EQ(pwrite(*(int *)arg, "b", 1, 0), 1);
    return NULL;
}

/* Past the cache a second write is there while the first is not answered. */
static void direct_writes_do_not_wait_for_each_other(void) {
    enum { WRITERS = 3 };
    fixture x;
    pthread_t writers[WRITERS];
    mount_up(&x, FOPEN_DIRECT_IO);
    int fd = open_volume(0);
    pthread_mutex_lock(&x.volume->gate);
    for (int i = 0; i < WRITERS; i++) CHECK_EQ(pthread_create(&writers[i], NULL, pwrite_it, &fd), 0);
    wait_for(&x.volume->entered, WRITERS);
    pthread_mutex_unlock(&x.volume->gate);
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
    close(fd);
    down(&x);
}

static void *pread_it(void *arg) {
    char byte;
    CHECK_EQ(pread(*(int *)arg, &byte, 1, 0), 1);
    return NULL;
}

/* All requests come from one CPU, and all of what serves it but one is busy. */
static void who_waits_delays_nobody(void) {
    enum { BUSY = 3 };
    fixture x;
    struct stat st;
    cpu_set_t before, one;
    pthread_t busy[BUSY];
    mount_up(&x, FOPEN_DIRECT_IO);
    CHECK_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof one, &one), 0); /* threads inherit it */
    int fd = open_volume(0);
    pthread_mutex_lock(&x.volume->gate);
    for (int i = 0; i < BUSY; i++) CHECK_EQ(pthread_create(&busy[i], NULL, pread_it, &fd), 0);
    wait_for(&x.volume->entered, BUSY);
    for (int i = 0; i < 50; i++) CHECK_EQ(error_of(stat("mnt/absent", &st)), ENOENT);
    pthread_mutex_unlock(&x.volume->gate);
    for (int i = 0; i < BUSY; i++) pthread_join(busy[i], NULL);
    CHECK_EQ(sched_setaffinity(0, sizeof before, &before), 0);
    close(fd);
    down(&x);
}

/* ---- what must never be skipped ---- */

static void every_sync_is_seen(void) {
    fixture x;
    mount_up(&x, 0);
    int fd = open_volume(0);
    for (int i = 0; i < 10; i++) CHECK_EQ(i % 2 ? fsync(fd) : fdatasync(fd), 0);
    CHECK_EQ(x.volume->syncs, 10);
    /* A failure is one, and even ENOSYS does not make the kernel stop asking. */
    x.volume->fails_with = ENOSYS;
    CHECK_EQ(error_of(fsync(fd)), EIO);
    x.volume->fails_with = EIO;
    CHECK_EQ(error_of(fsync(fd)), EIO);
    x.volume->fails_with = 0;
    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(x.volume->syncs, 13);
    CHECK_EQ(close(fd), 0);
    CHECK_EQ(x.volume->syncs, 14); /* FLUSH */
    int text = open("mnt/text", O_RDONLY), dir = open("mnt", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(fsync(text), 0);
    CHECK_EQ(close(text), 0);
    for (int i = 1; i <= 2; i++) {
        CHECK_EQ(fsync(dir), 0);
        CHECK_EQ(requests_of(&x, FUSE_FSYNCDIR), i);
    }
    close(dir);
    fd = open_volume(0);
    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(x.volume->syncs, 15);
    close(fd);
    down(&x);
}

static void durable_writes_say_so(void) {
    fixture x;
    mount_up(&x, 0);
    const int flags[] = {O_SYNC, O_DSYNC, 0};
    for (uint64_t i = 0; i < 3; i++) {
        int fd = open_volume(flags[i]);
        uint64_t before = x.volume->durable_writes;
        CHECK_EQ(pwrite(fd, "durable", 7, 100), 7);
        CHECK_EQ(x.volume->durable_writes - before, flags[i] ? 1 : 0);
        close(fd);
    }
    int fd = open_volume(0);
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    uint64_t syncs = x.volume->syncs;
    strcpy(map + 4000, "through a map");
    CHECK_EQ(msync(map, 8192, MS_SYNC), 0);
    CHECK(volume_has(&x, 4000, "through a map", 13));
    CHECK(x.volume->syncs > syncs);
    munmap(map, 8192);
    close(fd);
    down(&x);
}

static void discards_become_zeros(void) {
    fixture x;
    mount_up(&x, 0);
    enum { PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ZERO = FALLOC_FL_ZERO_RANGE };
    static char ones[65536], got[65536];
    int fd = open_volume(0);
    memset(ones, 1, sizeof ones);
    CHECK_EQ(pwrite(fd, ones, sizeof ones, 0), sizeof ones);
    CHECK_EQ(fallocate(fd, PUNCH, 8192, 4096), 0);
    CHECK_EQ(fallocate(fd, ZERO, 20000, 100), 0);
    CHECK_EQ(fallocate(fd, ZERO | FALLOC_FL_KEEP_SIZE, 30000, 200), 0);
    CHECK_EQ(x.volume->zeroed_bytes, 4096 + 100 + 200);
    memset(ones + 8192, 0, 4096);
    memset(ones + 20000, 0, 100);
    memset(ones + 30000, 0, 200);
    CHECK_EQ(pread(fd, got, sizeof got, 0), sizeof got);
    CHECK(memcmp(got, ones, sizeof got) == 0);
    /* At the end: clipped with KEEP_SIZE, refused without; a volume does not grow. */
    CHECK_EQ(fallocate(fd, PUNCH, SIZE - 100, 5000), 0);
    CHECK_EQ(x.volume->zeroed_bytes, 4096 + 100 + 200 + 100);
    CHECK_EQ(fallocate(fd, PUNCH, SIZE + 100, 5000), 0);
    CHECK_EQ(error_of(fallocate(fd, ZERO, SIZE - 100, 5000)), ENOSPC);
    CHECK_EQ(x.volume->zeros, 4);
    CHECK_EQ(fallocate(fd, 0, 0, SIZE), 0);
    CHECK_EQ(error_of(fallocate(fd, 0, 0, SIZE + 1)), ENOSPC);
    CHECK_EQ(error_of(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
    CHECK_EQ(error_of(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 4096)), EOPNOTSUPP);
    CHECK_EQ(x.volume->zeros, 4);
    x.volume->read_only = 1;
    CHECK_EQ(error_of(fallocate(fd, PUNCH, 0, 4096)), EROFS);
    CHECK_EQ(error_of(pwrite(fd, "x", 1, 0)), EROFS);
    close(fd);
    down(&x);
}

static void holes_are_found(void) {
    fixture x;
    mount_up(&x, 0);
    int fd = open_volume(0);
    CHECK_EQ(error_of(lseek(fd, 0, SEEK_DATA)), ENXIO);
    CHECK_EQ(lseek(fd, 5, SEEK_HOLE), 5);
    CHECK_EQ(pwrite(fd, "data", 4, 3 * MEMORY_BLOCK), 4);
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 3 * MEMORY_BLOCK);
    CHECK_EQ(lseek(fd, 3 * MEMORY_BLOCK + 1, SEEK_DATA), 3 * MEMORY_BLOCK + 1);
    CHECK_EQ(lseek(fd, 3 * MEMORY_BLOCK, SEEK_HOLE), 4 * MEMORY_BLOCK);
    CHECK_EQ(error_of(lseek(fd, SIZE, SEEK_HOLE)), ENXIO);
    CHECK_EQ(lseek(fd, 0, SEEK_END), SIZE);
    /* A file of the names' side is all data, and asking about it does not stop the kernel asking about volumes. */
    int text = open("mnt/text", O_RDONLY), length = sizeof TEXT - 1;
    char got[64];
    CHECK_EQ(read(text, got, sizeof got), length);
    CHECK(memcmp(got, TEXT, sizeof TEXT - 1) == 0);
    CHECK_EQ(lseek(text, 3, SEEK_DATA), 3);
    CHECK_EQ(lseek(text, 3, SEEK_HOLE), length);
    CHECK_EQ(error_of(lseek(text, length, SEEK_DATA)), ENXIO);
    CHECK_EQ(error_of(lseek(text, length, SEEK_HOLE)), ENXIO);
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 3 * MEMORY_BLOCK);
    close(text);
    close(fd);
    down(&x);
}

/* ---- names ---- */

static void *stat_silent(void *arg) {
    struct stat st;
    *(int *)arg = error_of(stat("mnt/silent", &st));
    return NULL;
}

/* Who waits for names gets an error when their server goes; bytes go on. */
static void names_may_go(void) {
    fixture x;
    pthread_t asker;
    int error;
    struct stat st;
    char got[4];
    mount_up(&x, FOPEN_DIRECT_IO);
    int fd = open_volume(0);
    CHECK_EQ(pthread_create(&asker, NULL, stat_silent, &error), 0);
    wait_for(&x.names.silent, 1);
    name_server_end(&x.names);
    pthread_join(asker, NULL);
    CHECK_EQ(error, ENOTCONN);
    CHECK_EQ(error_of(stat("mnt/other", &st)), ENOTCONN);
    CHECK_EQ(pwrite(fd, "abcd", 4, 0), 4);
    CHECK_EQ(pread(fd, got, 4, 0), 4);
    CHECK(memcmp(got, "abcd", 4) == 0);
    CHECK_EQ(fsync(fd), 0);
    close(fd);
    CHECK_EQ(vs_plane_unmount(x.plane, 0), 0);
    stop(&x);
    vs_plane_free(x.plane);
    vs_keep_close(x.keep);
    CHECK_EQ(x.volume->releases, 1); /* its RELEASE found nobody; stop did it */
    memory_file_end(x.volume);
}

/* The notice waits in the kernel for the lookup's lock, and the lookup's reply comes behind the notice. */
static void notices_do_not_hold_replies_up(void) {
    fixture x;
    struct stat st;
    mount_up(&x, 0);
    for (int i = 0; i < 20; i++) CHECK_EQ(stat("mnt/notify", &st), 0);
    while (requests_of(&x, 0) == 0) sched_yield(); /* a hang is caught by the alarm */
    down(&x);
}

static void a_reply_that_the_kernel_refuses_is_an_error(void) {
    fixture x;
    struct stat st;
    mount_up(&x, 0);
    CHECK_EQ(error_of(stat("mnt/garbage", &st)), EIO);
    CHECK_EQ(stat("mnt/text", &st), 0);
    down(&x);
}

static void init_is_amended(void) {
    fixture x;
    struct stat st;
    mount_up(&x, 0);
    CHECK_EQ(stat("mnt/vol", &st), 0);
    CHECK(x.names.offered.flags & FUSE_WRITEBACK_CACHE);
    CHECK(x.names.offered.flags & FUSE_MAX_PAGES);
    char path[64], kib[16] = "";
    snprintf(path, sizeof path, "/sys/class/bdi/0:%u/read_ahead_kb", (unsigned)(st.st_dev & 0xFF) | (unsigned)(st.st_dev >> 12 & 0xFFF00));
    FILE *f = fopen(path, "r");
    if (f) {
        CHECK(fgets(kib, sizeof kib, f) != NULL);
        CHECK_EQ(atoi(kib), 2048);
        fclose(f);
    }
    down(&x);
}

/* Neither attributes before a read nor, but for the first time, capabilities before a write; even when nothing may be cached. */
static void bytes_ask_for_no_names(void) {
    fixture x;
    char byte;
    mount_up(&x, FOPEN_KEEP_CACHE);
    x.names.forgetful = 1;
    int fd = open_volume(0);
    uint64_t before = requests_of(&x, FUSE_GETATTR);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(pread(fd, &byte, 1, i), 1);
        CHECK_EQ(pwrite(fd, &byte, 1, i), 1);
    }
    CHECK_EQ(requests_of(&x, FUSE_GETATTR), before);
    CHECK(requests_of(&x, FUSE_GETXATTR) <= 1);
    close(fd);
    down(&x);
}

/* ---- the end ---- */

static void busy_mounts_stay_unless_lazy(void) {
    fixture x;
    struct stat st;
    char got[4];
    mount_up(&x, FOPEN_DIRECT_IO);
    int fd = open_volume(0);
    CHECK_EQ(vs_plane_unmount(x.plane, 0), -EBUSY);
    CHECK_EQ(stat("mnt/text", &st), 0);
    CHECK_EQ(vs_plane_unmount(x.plane, 1), 0);
    CHECK_EQ(error_of(stat("mnt/text", &st)), ENOENT);
    CHECK_EQ(vs_plane_unmount(x.plane, 0), -EINVAL); /* the path is not our mount any more, even if it is another's */
    CHECK_EQ(mount("other", "mnt", "tmpfs", 0, NULL), 0);
    CHECK_EQ(vs_plane_unmount(x.plane, 1), -EINVAL);
    CHECK_EQ(umount2("mnt", 0), 0);
    CHECK_EQ(pread(fd, got, 4, 0), 4);
    CHECK(!has_ended(&x));
    CHECK_EQ(vs_plane_stop(x.plane), 0);
    CHECK(has_ended(&x));
    CHECK_EQ(error_of(pread(fd, got, 4, 0)), ENOTCONN);
    close(fd);
    CHECK_EQ(x.volume->releases, 1);
    end(&x);
}

static void an_open_file_ends_a_lazy_mount(void) {
    fixture x;
    mount_up(&x, 0);
    int fd = open_volume(0);
    CHECK_EQ(vs_plane_unmount(x.plane, 1), 0);
    close(fd);
    struct pollfd p = {.fd = vs_plane_ended_fd(x.plane), .events = POLLIN};
    CHECK_EQ(poll(&p, 1, DEADLINE_S * 1000), 1);
    CHECK_EQ(vs_plane_unmount(x.plane, 0), 0);
    end(&x);
}

typedef struct reader {
    int fd, error;
} reader;

static void *read_one(void *arg) {
    reader *r = arg;
    char byte;
    r->error = error_of(pread(r->fd, &byte, 1, 0));
    return NULL;
}

static void *stop_it(void *arg) {
    CHECK_EQ(vs_plane_stop(arg), 0);
    return NULL;
}

/* Stop ends the mount for its users at once, and waits for what is still under way below. */
static void stop_while_a_request_is_served(void) {
    fixture x;
    pthread_t reading, stopping;
    mount_up(&x, FOPEN_DIRECT_IO);
    reader r = {.fd = open_volume(0)};
    pthread_mutex_lock(&x.volume->gate);
    CHECK_EQ(pthread_create(&reading, NULL, read_one, &r), 0);
    wait_for(&x.volume->entered, 1);
    CHECK_EQ(vs_plane_unmount(x.plane, 0), -EBUSY);
    CHECK_EQ(pthread_create(&stopping, NULL, stop_it, x.plane), 0);
    pthread_join(reading, NULL);
    CHECK_EQ(r.error, ECONNABORTED);
    CHECK_EQ(x.volume->releases, 0);
    pthread_mutex_unlock(&x.volume->gate);
    pthread_join(stopping, NULL);
    CHECK_EQ(x.volume->releases, 1);
    close(r.fd);
    CHECK_EQ(umount2("mnt", 0), 0);
    end(&x);
}

static void an_abort_from_outside_is_seen(void) {
    fixture x;
    mount_up(&x, 0);
    int fd = open_volume(0);
    CHECK_EQ(umount2("mnt", MNT_FORCE | MNT_DETACH), 0);
    struct pollfd p = {.fd = vs_plane_ended_fd(x.plane), .events = POLLIN};
    CHECK_EQ(poll(&p, 1, DEADLINE_S * 1000), 1);
    close(fd);
    end(&x);
}

/* ---- the transport ---- */

static int count_mounts(void);

static void the_transport_is_chosen(void) {
    fixture x;
    vs_keep *k;
    vs_plane *p;
    vs_fault fault;
    const vs_plane_options wants = {.mountpoint = "mnt", .source = "test", .transport = VS_PLANE_IO_URING};
    int mounts = count_mounts();
    for (int offered = 0; offered < 2; offered++) {
        offer_io_uring(offered ? 'Y' : 'N');
        transport = VS_PLANE_AUTO;
        mount_up(&x, 0);
        close(open_volume(0));
        transport = offered ? VS_PLANE_IO_URING : VS_PLANE_DEVICE;
        down(&x);
        transport = VS_PLANE_DEVICE;
        mount_up(&x, 0);
        close(open_volume(0));
        down(&x);
        if (offered) continue;
        CHECK_EQ(plane_begin(&wants, 0, &k, &p), -EOPNOTSUPP);
        vs_fault_last(&fault);
        CHECK(strstr(fault.text, ENABLE) != NULL);
        CHECK_EQ(count_mounts(), mounts);
    }
}

/* Only some rings can be made after INIT has promised them: the kernel is told, and nobody hangs. */
static void without_room_for_rings_the_device_serves(void) {
    fixture x;
    struct rlimit before, few;
    struct stat st;
    vs_plane_options o = {.mountpoint = "mnt", .source = "test"};
    memset(&x, 0, sizeof x);
    x.volume = memory_file_new(SIZE);
    x.keep = keep_new();
    int device = vs_plane_mount(&o, x.keep);
    CHECK(device >= 0);
    CHECK_EQ(vs_plane_open(device, x.keep, 4, &x.plane), 0);
    close(device);
    current = x.plane;
    alarm(DEADLINE_S);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    int lowest = dup(0);
    close(lowest);
    few = (struct rlimit){.rlim_cur = (rlim_t)lowest + 3, .rlim_max = before.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQ(vs_plane_run(x.plane), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    name_server_start(&x.names, x.plane, x.volume);
    CHECK_EQ(stat("mnt/text", &st), 0);
    int fd = open_volume(0);
    CHECK_EQ(pwrite(fd, "bytes", 5, 100), 5);
    CHECK(volume_has(&x, 100, "bytes", 5));
    close(fd);
    transport = VS_PLANE_DEVICE;
    down(&x);
}

/* ---- the start ---- */

static int count_entries(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static int count_mounts(void) {
    FILE *f = fopen("/proc/self/mounts", "r");
    int n = 0;
    for (int c; (c = fgetc(f)) != EOF;) n += c == '\n';
    fclose(f);
    return n;
}

/* Of the plane's: a sanitizer may have its own. */
static int count_threads(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        if (f && fgets(name, sizeof name, f)) n += strncmp(name, "vsnapfs-io", 10) == 0;
        if (f) fclose(f);
    }
    closedir(d);
    return n;
}

/* Nothing is left behind: no descriptor, no mount, no thread. */
static void a_start_that_fails_leaves_nothing(void) {
    vs_plane *p;
    vs_keep *k;
    vs_fault fault;
    vs_plane_options o = {.mountpoint = "nowhere", .source = "test"};
    int fds = count_entries("/proc/self/fd"), mounts = count_mounts(), failed = 0;
    CHECK_EQ(plane_begin(&o, 1, &k, &p), -ENOENT);
    vs_fault_last(&fault);
    CHECK_EQ(fault.code, -ENOENT);
    CHECK(strstr(fault.text, "nowhere") != NULL);
    o.mountpoint = "mnt";
    CHECK_EQ(plane_begin(&o, -1, &k, &p), -EINVAL);
    CHECK_EQ(plane_begin(&o, 257, &k, &p), -EINVAL);
    for (long good = 0; good < 100; good++) {
        faults_fail_allocations(good);
        int code = plane_begin(&o, 1, &k, &p);
        int was_refused = faults_allocation_failed();
        faults_fail_allocations(-1);
        if (code == 0) {
            CHECK_EQ(vs_plane_unmount(p, 0), 0);
            CHECK_EQ(vs_plane_stop(p), 0);
            close(vs_plane_socket(p));
            vs_plane_free(p);
            vs_keep_close(k);
        } else {
            CHECK_EQ(code, -ENOMEM);
            failed++;
        }
        CHECK_EQ(count_entries("/proc/self/fd"), fds);
        CHECK_EQ(count_mounts(), mounts);
        CHECK_EQ(count_threads(), 0);
        if (!was_refused) break;
    }
    CHECK(failed >= 3);
}

/* The mask of a thread of the plane; ~0, which is also what a new thread has for a moment, for any other. */
static unsigned long long blocked_signals(const char *task) {
    char path[300], line[200];
    unsigned long long blocked = 0;
    int ours = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "Name:\tvsnapfs-io", 16) == 0) ours = 1;
        sscanf(line, "SigBlk: %llx", &blocked);
    }
    if (f) fclose(f);
    return ours ? blocked : ~0ull;
}

static unsigned long long bit(int signal) {
    return 1ull << (signal - 1);
}

static void no_signal_reaches_a_thread(void) {
    fixture x;
    mount_up(&x, 0);
    close(open_volume(0)); /* an answer: all threads there will be have been started */
    unsigned long long wanted = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD) | bit(SIGUSR1);
    for (int seen = 0; seen < 6;) { /* 4 workers, replies, notices at least; a hang is caught by the alarm */
        DIR *d = opendir("/proc/self/task");
        seen = 0;
        for (struct dirent *e; (e = readdir(d));) {
            unsigned long long blocked = blocked_signals(e->d_name);
            seen += (blocked & wanted) == wanted && !(blocked & bit(SIGSEGV));
        }
        closedir(d);
    }
    down(&x);
}

static void need(int has, const char *what) {
    if (has) return;
    fprintf(stderr, "needs %s\n", what);
    exit(EXIT_SKIPPED);
}

static void all_with_one_transport(void) {
    a_start_that_fails_leaves_nothing();
    no_signal_reaches_a_thread();
    bytes_are_as_written(0);
    bytes_are_as_written(FOPEN_KEEP_CACHE);
    bytes_are_as_written(FOPEN_DIRECT_IO);
    large_requests_are_one();
    many_at_once(FOPEN_KEEP_CACHE); /* without it an open drops pages under a WRITE: see plane.h */
    many_at_once(FOPEN_DIRECT_IO);
    direct_writes_do_not_wait_for_each_other();
    who_waits_delays_nobody();
    every_sync_is_seen();
    durable_writes_say_so();
    discards_become_zeros();
    holes_are_found();
    names_may_go();
    notices_do_not_hold_replies_up();
    a_reply_that_the_kernel_refuses_is_an_error();
    init_is_amended();
    bytes_ask_for_no_names();
    busy_mounts_stay_unless_lazy();
    an_open_file_ends_a_lazy_mount();
    stop_while_a_request_is_served();
    an_abort_from_outside_is_seen();
}

int main(void) {
    need(access("/dev/fuse", R_OK | W_OK) == 0, "/dev/fuse");
    need(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "root, for a mount namespace");
    start_watch();
    atexit(clean_up);
    CHECK_EQ(mkdir("mnt", 0700), 0);
    transport = VS_PLANE_DEVICE;
    all_with_one_transport();
    offered_before = offer_io_uring('Y');
    need(offered_before, "a kernel with FUSE over io_uring (Linux 6.14)");
    transport = VS_PLANE_IO_URING;
    all_with_one_transport();
    the_transport_is_chosen();
    without_room_for_rings_the_device_serves();
    CHECK_EQ(rmdir("mnt"), 0);
    return 0;
}
