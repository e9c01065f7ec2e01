/* The parts of the plane that need no mount: the numbers of open files, the table of what pyfuse3 was asked, messages to pyfuse3. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "memory_file.h"
#include "plane_begin.h"
#include "plane_internal.h"

/* ---- open files ---- */

static void numbers_are_never_used_twice(void) {
    enum { ROUNDS = 2000, OPEN = 100 };
    vs_keep *keep = keep_new();
    vs_plane_files t;
    vs_plane_tally *tally;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    uint64_t open[OPEN], last = 0, fh, seed = 1, counted;
    CHECK_EQ(vs_plane_files_init(&t, keep), 0);
    for (int i = 0; i < OPEN; i++) CHECK_EQ(vs_plane_files_add(&t, &m->file, 2, 0, 0, &open[i]), 0);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t k = draw_below(&seed, OPEN);
        CHECK_EQ(vs_plane_files_remove(&t, open[k], &counted), 0);
        CHECK(vs_plane_files_get(&t, open[k], &tally) == NULL);
        CHECK_EQ(vs_plane_files_remove(&t, open[k], &counted), -EBADF);
        CHECK_EQ(vs_plane_files_add(&t, &m->file, 2, 0, 0, &fh), 0);
        CHECK(fh > last && fh >= UINT64_C(1) << 32 && fh < UINT64_C(1) << 63);
        last = open[k] = fh;
    }
    CHECK(vs_plane_files_get(&t, 0, &tally) == NULL);
    CHECK(vs_plane_files_get(&t, 7, &tally) == NULL);
    CHECK(vs_plane_files_get(&t, UINT64_MAX, &tally) == NULL);
    CHECK_EQ(m->releases, ROUNDS);
    vs_plane_files_close(&t);
    CHECK_EQ(m->releases, ROUNDS + OPEN);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 2, 0, 0, &fh), -ENODEV);
    CHECK_EQ(vs_plane_files_remove(&t, last, &counted), -EBADF);
    vs_plane_files_end(&t);
    vs_keep_close(keep);
    memory_file_end(m);
}

/* Opens of one inode are counted, by the next worker too; the first says of which kind they are. */
static void an_inode_is_open_in_one_way(void) {
    vs_keep *keep = keep_new();
    vs_plane_connection connection = {.backing_first = 5, .backing_end = 5};
    vs_plane p = {.connection = &connection};
    int32_t id = -1, slot_id = -1;
    uint64_t fh, live, plane, kernel;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    CHECK_EQ(vs_plane_files_init(&p.files, keep), 0);
    CHECK_EQ(vs_plane_backings_init(&p.backings), 0);
    p.device.device_fd = -1;
    CHECK_EQ(vs_plane_backing_join(&p, 7, &id), 0);
    CHECK_EQ(vs_plane_backing_open(&p, 7, 0, &id), -EBADF); /* the kernel's device is not there */
    CHECK_EQ(vs_plane_backing_join(&p, 7, &id), 0);
    for (uint64_t i = 7; i < 7 + 3000; i++) CHECK_EQ(vs_plane_backing_open(&p, i, -1, &id), 0);
    CHECK_EQ(id, 0);
    CHECK_EQ(vs_plane_backing_open(&p, 7, -1, &id), -EEXIST);
    CHECK_EQ(vs_plane_backing_join(&p, 7, &id), 1);
    vs_plane_backing_counts(&p, &plane, &kernel);
    CHECK_EQ(plane, 3001);
    CHECK_EQ(kernel, 0);
    for (uint64_t i = 7; i < 7 + 3000; i++) vs_plane_backing_leave(&p, i);
    CHECK_EQ(vs_plane_add_file(&p, &m->file, 7, 5, &fh), 0);
    CHECK_EQ(vs_plane_files_answer(&p.files, fh, 2, &slot_id), 0);
    CHECK_EQ(slot_id, 5);
    CHECK_EQ(vs_plane_add_file(&p, &m->file, 6000, 0, &live), 0); /* nobody joined it: its opens are not counted */
    CHECK_EQ(vs_plane_files_answer(&p.files, live, 4, &slot_id), 0);
    vs_plane_backings_end(&p.backings);
    vs_plane_files_close(&p.files);
    vs_plane_files_end(&p.files);

    atomic_store(&connection.workers, 1);
    CHECK_EQ(vs_plane_files_init(&p.files, keep), 0);
    CHECK_EQ(vs_plane_backings_init(&p.backings), 0);
    CHECK_EQ(vs_plane_backings_restore(&p), 0);
    vs_plane_backing_counts(&p, &plane, &kernel);
    CHECK_EQ(plane, 0);
    CHECK_EQ(kernel, 1);
    CHECK_EQ(vs_plane_backing_join(&p, 7, &id), 1);
    CHECK_EQ(id, 5);
    vs_plane_backing_leave(&p, 7);
    CHECK_EQ(vs_plane_remove_file(&p, fh), 0); /* which was not opened anew */
    CHECK_EQ(vs_plane_files_answer(&p.files, fh, 6, &slot_id), -EBADF);
    CHECK_EQ(vs_plane_backing_join(&p, 7, &id), 0); /* the handle was the last open */
    vs_plane_backing_leave(&p, 7);
    CHECK_EQ(vs_plane_remove_file(&p, fh), -EBADF);
    CHECK_EQ(vs_plane_backing_open(&p, 8, -1, &id), 0);
    vs_plane_backings_end(&p.backings); /* with one left */
    vs_plane_files_close(&p.files);
    vs_plane_files_end(&p.files);
    vs_keep_close(keep);
    memory_file_end(m);
}

/* What a table leaves in the keep when its process dies, and the next one makes of it. */
static void open_files_outlive_their_table(void) {
    vs_keep *keep = keep_new();
    vs_plane p = {.names_fd = -1};
    vs_plane_tally *tally;
    memory_file *before = memory_file_new(MEMORY_BLOCK), *after = memory_file_new(MEMORY_BLOCK);
    uint64_t fh[3], found, ino, another, counted;
    int32_t backing_id;
    uint32_t cursor = 0;
    CHECK_EQ(vs_plane_files_init(&p.files, keep), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(vs_plane_files_add(&p.files, &before->file, 100 + (uint64_t)i, i, 0, &fh[i]), 0);
        CHECK_EQ(vs_plane_files_answer(&p.files, fh[i], 2 + 2 * (uint64_t)i, &backing_id), 0);
    }
    CHECK_EQ(vs_plane_files_remove(&p.files, fh[1], &counted), 0);
    CHECK_EQ(vs_plane_kept_file(&p, &cursor, &found, &ino, &backing_id), 0); /* those of its own are no news */
    vs_plane_files_close(&p.files);
    vs_plane_files_end(&p.files);

    CHECK_EQ(vs_plane_files_init(&p.files, keep), 0);
    cursor = 0;
    for (int i = 0; i < 3; i += 2) {
        CHECK_EQ(vs_plane_kept_file(&p, &cursor, &found, &ino, &backing_id), 1);
        CHECK_EQ(found, fh[i]);
        CHECK_EQ(ino, 100 + (uint64_t)i);
        CHECK_EQ(backing_id, i);
        CHECK(vs_plane_files_get(&p.files, found, &tally) == NULL);
    }
    CHECK_EQ(vs_plane_kept_file(&p, &cursor, &found, &ino, &backing_id), 0);
    CHECK_EQ(vs_plane_restore_file(&p, fh[1], &after->file), -EBADF);
    CHECK_EQ(vs_plane_restore_file(&p, fh[0], &after->file), 0);
    CHECK_EQ(vs_plane_restore_file(&p, fh[0], &after->file), -EBADF);
    CHECK(vs_plane_files_get(&p.files, fh[0], &tally) == &after->file);
    vs_plane_files_put(&p.files, fh[0]);
    CHECK_EQ(vs_plane_files_add(&p.files, &after->file, 7, 0, 0, &another), 0);
    CHECK(another > fh[2]); /* no number is given twice, in no process */
    CHECK_EQ(vs_plane_files_remove(&p.files, fh[2], &counted), 0); /* it may be closed, restored or not */
    CHECK_EQ(vs_plane_files_remove(&p.files, fh[2], &counted), -EBADF);
    CHECK_EQ(vs_plane_files_remove(&p.files, fh[0], &counted), 0);
    CHECK_EQ(after->releases, 1);
    CHECK(vs_plane_files_is_ours(fh[0]) && !vs_plane_files_is_ours(7) && !vs_plane_files_is_ours(fh[0] | UINT64_C(1) << 63));
    vs_plane_files_close(&p.files);
    vs_plane_files_end(&p.files);

    CHECK_EQ(vs_plane_files_forget(keep), 0);
    CHECK_EQ(vs_plane_files_init(&p.files, keep), 0);
    cursor = 0;
    CHECK_EQ(vs_plane_kept_file(&p, &cursor, &found, &ino, &backing_id), 0);
    vs_plane_files_close(&p.files);
    vs_plane_files_end(&p.files);
    vs_keep_close(keep);
    memory_file_end(before);
    memory_file_end(after);
}

static void the_last_user_releases(void) {
    vs_keep *keep = keep_new();
    vs_plane_files t;
    vs_plane_tally *tally;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    uint64_t fh, counted;
    CHECK_EQ(vs_plane_files_init(&t, keep), 0);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 2, 0, 0, &fh), 0);
    CHECK(vs_plane_files_get(&t, fh, &tally) == &m->file);
    CHECK(vs_plane_files_get(&t, fh, &tally) == &m->file);
    CHECK_EQ(vs_plane_files_remove(&t, fh, &counted), 0);
    CHECK_EQ(vs_plane_files_remove(&t, fh, &counted), -EBADF);
    CHECK(vs_plane_files_get(&t, fh, &tally) == NULL);
    vs_plane_files_put(&t, fh);
    CHECK_EQ(m->releases, 0);
    vs_plane_files_put(&t, fh);
    CHECK_EQ(m->releases, 1);
    vs_plane_files_close(&t);
    CHECK_EQ(m->releases, 1);
    vs_plane_files_end(&t);
    vs_keep_close(keep);
    memory_file_end(m);
}

/* Threads that use a handle against one that removes it: as many releases as handles, none while it is used (the sanitizers look). */
enum { HANDLES = 200, USERS = 3 };

typedef struct race {
    vs_plane_files files;
    _Atomic uint64_t fh;
    atomic_int over;
} race;

static void *use_handles(void *arg) {
    race *r = arg;
    vs_plane_tally *tally;
    while (!atomic_load(&r->over)) {
        uint64_t fh = atomic_load(&r->fh);
        vs_volume_file *f = vs_plane_files_get(&r->files, fh, &tally);
        if (!f) continue;
        CHECK_EQ(f->size(f), MEMORY_BLOCK);
        vs_plane_files_put(&r->files, fh);
    }
    return NULL;
}

static void removals_race_with_requests(void) {
    race r = {.fh = 0};
    vs_plane_tally *tally;
    memory_file *m[HANDLES];
    pthread_t users[USERS];
    vs_keep *keep = keep_new();
    CHECK_EQ(vs_plane_files_init(&r.files, keep), 0);
    for (int i = 0; i < USERS; i++) CHECK_EQ(pthread_create(&users[i], NULL, use_handles, &r), 0);
    for (int i = 0; i < HANDLES; i++) {
        uint64_t fh, counted;
        m[i] = memory_file_new(MEMORY_BLOCK);
        CHECK_EQ(vs_plane_files_add(&r.files, &m[i]->file, 2, 0, 0, &fh), 0);
        atomic_store(&r.fh, fh);
        for (int k = 0; k < 20; k++) {
            if (vs_plane_files_get(&r.files, fh, &tally)) vs_plane_files_put(&r.files, fh);
        }
        CHECK_EQ(vs_plane_files_remove(&r.files, fh, &counted), 0);
    }
    atomic_store(&r.over, 1);
    for (int i = 0; i < USERS; i++) pthread_join(users[i], NULL);
    for (int i = 0; i < HANDLES; i++) {
        CHECK_EQ(m[i]->releases, 1);
        memory_file_end(m[i]);
    }
    vs_plane_files_close(&r.files);
    vs_plane_files_end(&r.files);
    vs_keep_close(keep);
}

/* ---- counts ---- */

static void latencies_have_classes(void) {
    CHECK_EQ(vs_plane_latency_class(0), 0);
    CHECK_EQ(vs_plane_latency_class(1), 0);
    for (unsigned i = 1; i < 64; i++) {
        unsigned class = i < VS_PLANE_LATENCIES ? i : VS_PLANE_LATENCIES - 1;
        CHECK_EQ(vs_plane_latency_class(UINT64_C(1) << i), class);
        CHECK_EQ(vs_plane_latency_class((UINT64_C(1) << i) + ((UINT64_C(1) << i) - 1)), class);
    }
}

/* A worker is killed. Its handles that the kernel has been told are there, those that it was about to tell can be found by the OPEN, and
 * those that it had only made are gone; an inode's count is taken down when a handle is removed, whoever still uses it. */
static void what_a_worker_leaves(void) {
    vs_keep *keep = keep_new();
    vs_plane_files t;
    vs_plane_tally *tally;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    uint64_t told, removed, made, ino, counted = 0, unique = 6;
    int32_t backing_id;
    uint32_t cursor = 0;
    CHECK_EQ(vs_plane_files_init(&t, keep), 0);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 2, 0, 0, &made), 0); /* a live volume, not counted */
    CHECK_EQ(vs_plane_files_answer(&t, made, 4, &backing_id), 0);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 7, 11, 1, &told), 0);
    CHECK_EQ(vs_plane_files_answer(&t, told, unique | FUSE_UNIQUE_RESEND, &backing_id), 0);
    CHECK_EQ(backing_id, 11);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 7, 11, 1, &removed), 0);
    CHECK_EQ(vs_plane_files_answer(&t, removed, 8, &backing_id), 0);
    CHECK(vs_plane_files_get(&t, removed, &tally) != NULL);
    CHECK_EQ(vs_plane_files_remove(&t, removed, &counted), 0);
    CHECK_EQ(counted, 7);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 9, 12, 1, &made), 0);
    vs_plane_files_close(&t);
    vs_plane_files_end(&t);

    CHECK_EQ(vs_plane_files_init(&t, keep), 0);
    CHECK_EQ(vs_plane_files_counted(&t, &cursor, &ino, &backing_id), 1);
    CHECK_EQ(ino, 7);
    CHECK_EQ(backing_id, 11);
    CHECK_EQ(vs_plane_files_counted(&t, &cursor, &ino, &backing_id), 0);
    CHECK_EQ(vs_plane_files_answered(&t, unique), told);
    CHECK_EQ(vs_plane_files_answered(&t, unique | FUSE_UNIQUE_RESEND), told);
    CHECK_EQ(vs_plane_files_answered(&t, 10), 0);
    CHECK_EQ(vs_plane_files_remove(&t, made, &counted), -EBADF);
    counted = 0;
    CHECK_EQ(vs_plane_files_remove(&t, told, &counted), 0);
    CHECK_EQ(counted, 7);
    CHECK_EQ(vs_plane_files_answered(&t, unique), 0);
    vs_plane_files_close(&t);
    vs_plane_files_end(&t);
    memory_file_end(m);
    vs_keep_close(keep);
}

/* More files than the table has room for in the beginning: what was counted before it grew is still there, and what is counted
 * through a tally that was borrowed before. */
static void open_files_are_counted(void) {
    enum { OPEN = 300 };
    vs_keep *keep = keep_new();
    vs_plane_files t;
    vs_plane_tally *first, *tally, own = {0};
    static vs_plane_open_file got[OPEN];
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    uint64_t fh[OPEN], counted;
    CHECK_EQ(vs_plane_files_init(&t, keep), 0);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 7, 0, 0, &fh[0]), 0);
    CHECK(vs_plane_files_get(&t, fh[0], &first) != NULL);
    vs_plane_count_answer(&own, first, 0, 4096);
    for (int i = 1; i < OPEN; i++) CHECK_EQ(vs_plane_files_add(&t, &m->file, 7, 0, 0, &fh[i]), 0);
    vs_plane_count_answer(&own, first, -EIO, 0);
    vs_plane_count_time(&own, first, 1000);
    vs_plane_count_time(&own, NULL, 5);
    vs_plane_files_put(&t, fh[0]);
    CHECK_EQ(vs_plane_files_list(&t, got, 1), OPEN);
    CHECK_EQ(vs_plane_files_list(&t, got, OPEN), OPEN);
    CHECK_EQ(got[0].fh, fh[0]);
    CHECK_EQ(got[0].ino, 7);
    CHECK_EQ(got[0].count.requests, 2);
    CHECK_EQ(got[0].count.errors, 1);
    CHECK_EQ(got[0].count.bytes, 4096);
    CHECK_EQ(got[0].count.nanoseconds, 1000);
    CHECK_EQ(got[0].count.latency[9], 1);
    CHECK_EQ(own.latency[9], 1);
    CHECK_EQ(own.latency[2], 1);
    for (int i = 1; i < OPEN; i++) CHECK_EQ(got[i].count.requests, 0);
    /* A file that was removed is not listed any more, even if somebody uses it; its place starts anew. */
    CHECK(vs_plane_files_get(&t, fh[0], &tally) != NULL);
    CHECK_EQ(vs_plane_files_remove(&t, fh[0], &counted), 0);
    CHECK_EQ(vs_plane_files_list(&t, got, OPEN), OPEN - 1);
    vs_plane_count_answer(&own, tally, 0, 1);
    vs_plane_files_put(&t, fh[0]);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 7, 0, 0, &fh[0]), 0);
    CHECK_EQ(vs_plane_files_list(&t, got, OPEN), OPEN);
    CHECK_EQ(got[0].fh, fh[0]);
    CHECK_EQ(got[0].count.requests, 0);
    vs_plane_files_close(&t);
    vs_plane_files_end(&t);
    memory_file_end(m);
    vs_keep_close(keep);
}

/* ---- what pyfuse3 was asked ---- */

/* Against an array that says which numbers are there. */
static void waiting_is_a_map(void) {
    enum { NUMBERS = 3000, STEPS = 60000 };
    static unsigned char there[NUMBERS];
    vs_plane_waiting w;
    vs_plane_asked got;
    const vs_plane_asked *next;
    uint64_t seed = 2, left = 0, cursor = 0, unique;
    CHECK_EQ(vs_plane_waiting_init(&w), 0);
    for (int i = 0; i < STEPS; i++) {
        uint64_t k = draw_below(&seed, NUMBERS);
        unique = 2 * k + 2; /* the kernel counts in twos */
        if (!there[k] && draw_below(&seed, 2)) {
            vs_plane_asked asked = {.unique = unique, .kind = VS_ASKED_SEEK, .offset_bytes = k};
            CHECK_EQ(vs_plane_waiting_add(&w, &asked), 0);
            there[k] = 1;
        } else {
            CHECK_EQ(vs_plane_waiting_take(&w, unique, &got), there[k]);
            if (there[k]) CHECK(got.unique == unique && got.offset_bytes == k);
            there[k] = 0;
        }
    }
    vs_plane_waiting_close(&w);
    CHECK_EQ(vs_plane_waiting_add(&w, &(vs_plane_asked){.unique = 2 * NUMBERS + 2}), -ENOTCONN);
    for (int k = 0; k < NUMBERS; k++) left += there[k];
    CHECK(left > 0);
    for (; (next = vs_plane_waiting_next(&w, &cursor)); left--) {
        unique = next->unique;
        CHECK_EQ(next->offset_bytes, unique / 2 - 1);
        CHECK_EQ(there[unique / 2 - 1], 1);
        CHECK_EQ(vs_plane_waiting_take(&w, unique, &got), 0);
        there[unique / 2 - 1] = 0;
    }
    CHECK_EQ(left, 0);
    vs_plane_waiting_end(&w);
}

/* ---- messages ---- */

typedef struct wire {
    vs_keep *keep;
    vs_plane plane;
    vs_plane_thread thread;
    int kernel; /* the other end of what the plane takes for /dev/fuse */
} wire;

static wire *wire_open(void) {
    int pair[2];
    wire *w = calloc(1, sizeof *w);
    w->keep = keep_new();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    CHECK_EQ(vs_plane_names_open(&w->plane), 0);
    CHECK_EQ(vs_plane_waiting_init(&w->plane.waiting), 0);
    CHECK_EQ(vs_plane_files_init(&w->plane.files, w->keep), 0);
    CHECK_EQ(vs_plane_backings_init(&w->plane.backings), 0);
    w->plane.device.device_fd = pair[0];
    w->kernel = pair[1];
    w->thread.plane = &w->plane;
    w->thread.buf = aligned_alloc(VS_PLANE_HEAD, VS_PLANE_BUFFER);
    return w;
}

static void wire_close(wire *w) {
    vs_plane_names_close(&w->plane);
    vs_plane_waiting_end(&w->plane.waiting);
    vs_plane_files_close(&w->plane.files);
    vs_plane_files_end(&w->plane.files);
    vs_plane_backings_end(&w->plane.backings);
    vs_keep_close(w->keep);
    if (w->plane.pyfuse3_fd >= 0) close(w->plane.pyfuse3_fd);
    close(w->plane.device.device_fd);
    close(w->kernel);
    free(w->thread.buf);
    free(w);
}

/* A request with args as if it had just been read from the device. */
static void request(wire *w, uint32_t opcode, uint64_t unique, const void *args, size_t args_bytes) {
    struct fuse_in_header head = {.len = (uint32_t)(sizeof head + args_bytes), .opcode = opcode, .unique = unique, .nodeid = 9};
    memcpy(w->thread.buf, &head, sizeof head);
    if (args_bytes) memcpy(w->thread.buf + sizeof head, args, args_bytes);
    vs_plane_request(&w->thread, head.len);
}

/* The error the kernel got for unique. */
static int error_of(wire *w, uint64_t unique) {
    struct fuse_out_header head;
    CHECK_EQ(recv(w->kernel, &head, sizeof head, MSG_DONTWAIT), sizeof head);
    CHECK_EQ(head.unique, unique);
    CHECK_EQ(head.len, sizeof head);
    return head.error;
}

static int kernel_got_nothing(wire *w) {
    char byte;
    return recv(w->kernel, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* A worker was killed when it was about to answer an OPEN: the kernel asks again, and the handle that it never heard of is gone. */
static void an_open_that_comes_again(void) {
    wire *w = wire_open();
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    struct fuse_open_in open = {0};
    uint64_t fh, other, through_plane, in_kernel;
    int32_t backing_id;
    CHECK_EQ(vs_plane_backing_open(&w->plane, 7, -1, &backing_id), 0);
    CHECK_EQ(vs_plane_add_file(&w->plane, &m->file, 7, backing_id, &fh), 0);
    CHECK_EQ(vs_plane_backing_join(&w->plane, 7, &backing_id), 1);
    CHECK_EQ(vs_plane_add_file(&w->plane, &m->file, 7, backing_id, &other), 0);
    CHECK_EQ(vs_plane_files_answer(&w->plane.files, fh, 20, &backing_id), 0);
    CHECK_EQ(vs_plane_files_answer(&w->plane.files, other, 22, &backing_id), 0);
    request(w, FUSE_OPEN, 24, &open, sizeof open);
    CHECK_EQ(m->releases, 0);
    request(w, FUSE_OPEN, 20 | FUSE_UNIQUE_RESEND, &open, sizeof open);
    CHECK_EQ(m->releases, 1);
    CHECK_EQ(vs_plane_remove_file(&w->plane, fh), -EBADF);
    vs_plane_backing_counts(&w->plane, &through_plane, &in_kernel);
    CHECK_EQ(through_plane, 1);
    CHECK_EQ(in_kernel, 0);
    CHECK_EQ(vs_plane_remove_file(&w->plane, other), 0);
    vs_plane_backing_counts(&w->plane, &through_plane, &in_kernel);
    CHECK_EQ(through_plane, 0);
    wire_close(w);
    memory_file_end(m);
}

static void forgets_go_in_pieces(void) {
    enum { COUNT = 30000 };
    wire *w = wire_open();
    struct fuse_batch_forget_in *batch = calloc(1, sizeof *batch + COUNT * sizeof(struct fuse_forget_one));
    struct fuse_forget_one *ones = (void *)(batch + 1);
    batch->count = COUNT;
    for (uint32_t i = 0; i < COUNT; i++) ones[i] = (struct fuse_forget_one){.nodeid = i + 100, .nlookup = i};
    request(w, FUSE_BATCH_FORGET, 8, batch, sizeof *batch + COUNT * sizeof *ones);
    static _Alignas(8) unsigned char message[1 << 20];
    uint32_t seen = 0;
    for (ssize_t n; (n = recv(w->plane.pyfuse3_fd, message, sizeof message, MSG_DONTWAIT)) > 0;) {
        const struct fuse_in_header *head = (const void *)message;
        const struct fuse_batch_forget_in *part = (const void *)(head + 1);
        const struct fuse_forget_one *one = (const void *)(part + 1);
        CHECK_EQ(head->len, n);
        CHECK_EQ(head->opcode, FUSE_BATCH_FORGET);
        CHECK_EQ(n, sizeof *head + sizeof *part + part->count * sizeof *one);
        CHECK(n < 1 << 17);
        for (uint32_t i = 0; i < part->count; i++, seen++)
            CHECK(one[i].nodeid == seen + 100 && one[i].nlookup == seen);
    }
    CHECK_EQ(seen, COUNT);
    CHECK(kernel_got_nothing(w));
    free(batch);
    wire_close(w);
}

static void a_gone_pyfuse3_is_an_error(void) {
    wire *w = wire_open();
    struct fuse_forget_in forget = {.nlookup = 1};
    close(w->plane.pyfuse3_fd);
    w->plane.pyfuse3_fd = -1;
    request(w, FUSE_LOOKUP, 12, "name", 5);
    CHECK_EQ(error_of(w, 12), -ENOTCONN);
    request(w, FUSE_FORGET, 14, &forget, sizeof forget);
    CHECK(kernel_got_nothing(w));
    CHECK_EQ(w->thread.tally[FUSE_FORGET].errors, 1);
    wire_close(w);
}

static void a_stuck_pyfuse3_is_an_error(void) {
    wire *w = wire_open();
    struct timeval soon = {.tv_usec = 1000};
    CHECK_EQ(setsockopt(w->plane.names_fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon), 0);
    static const char name[60000] = "long";
    int sent = 0;
    while (kernel_got_nothing(w)) {
        request(w, FUSE_SETXATTR, 20 + 2 * (uint64_t)sent, name, sizeof name);
        CHECK(++sent < 1000);
    }
    CHECK(sent > 30);
    CHECK_EQ(w->plane.waiting.used, sent - 1);
    wire_close(w);
}

static void requests_that_make_no_sense(void) {
    wire *w = wire_open();
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    struct fuse_read_in read = {.size = 2 << 20};
    struct fuse_write_in write = {.size = 100};
    struct fuse_fallocate_in alloc = {.offset = UINT64_MAX - 5, .length = 10};
    struct fuse_lseek_in seek = {.whence = SEEK_END};
    uint64_t fh;
    CHECK_EQ(vs_plane_files_add(&w->plane.files, &m->file, 2, 0, 0, &fh), 0);
    read.fh = write.fh = alloc.fh = seek.fh = fh;
    request(w, FUSE_READ, 2, &read, sizeof read);
    CHECK_EQ(error_of(w, 2), -EINVAL);
    request(w, FUSE_READ, 4, &read, sizeof read - 8);
    CHECK_EQ(error_of(w, 4), -EINVAL);
    request(w, FUSE_WRITE, 6, &write, sizeof write);
    CHECK_EQ(error_of(w, 6), -EINVAL);
    request(w, FUSE_FALLOCATE, 8, &alloc, sizeof alloc);
    CHECK_EQ(error_of(w, 8), -EFBIG);
    request(w, FUSE_LSEEK, 10, &seek, sizeof seek);
    CHECK_EQ(error_of(w, 10), -EINVAL);
    seek.fh = 3;
    request(w, FUSE_LSEEK, 12, &seek, sizeof seek);
    CHECK_EQ(error_of(w, 12), -EINVAL);
    request(w, FUSE_INTERRUPT, 14, NULL, 0);
    CHECK(kernel_got_nothing(w));
    CHECK_EQ(m->reads + m->writes + m->zeros, 0);
    wire_close(w);
    memory_file_end(m);
}

int main(void) {
    if (geteuid() != 0) {
        fprintf(stderr, "needs root for SO_SNDBUFFORCE\n");
        return EXIT_SKIPPED;
    }
    numbers_are_never_used_twice();
    an_inode_is_open_in_one_way();
    the_last_user_releases();
    open_files_outlive_their_table();
    removals_race_with_requests();
    latencies_have_classes();
    open_files_are_counted();
    what_a_worker_leaves();
    waiting_is_a_map();
    an_open_that_comes_again();
    forgets_go_in_pieces();
    a_gone_pyfuse3_is_an_error();
    a_stuck_pyfuse3_is_an_error();
    requests_that_make_no_sense();
    return 0;
}
