/* The parts of the plane that need no mount: the numbers of open files, the table of what pyfuse3 was asked, messages to pyfuse3. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "memory_file.h"
#include "plane_internal.h"

/* ---- open files ---- */

static void numbers_are_never_used_twice(void) {
    enum { ROUNDS = 2000, OPEN = 100 };
    vs_plane_files t;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    uint64_t open[OPEN], last = 0, fh, seed = 1;
    CHECK_EQ(vs_plane_files_init(&t), 0);
    for (int i = 0; i < OPEN; i++) CHECK_EQ(vs_plane_files_add(&t, &m->file, 0, 0, &open[i]), 0);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t k = draw_below(&seed, OPEN);
        CHECK_EQ(vs_plane_files_remove(&t, open[k]), 0);
        CHECK(vs_plane_files_get(&t, open[k]) == NULL);
        CHECK_EQ(vs_plane_files_remove(&t, open[k]), -EBADF);
        CHECK_EQ(vs_plane_files_add(&t, &m->file, 0, 0, &fh), 0);
        CHECK(fh > last && fh >= UINT64_C(1) << 32 && fh < UINT64_C(1) << 63);
        last = open[k] = fh;
    }
    CHECK(vs_plane_files_get(&t, 0) == NULL);
    CHECK(vs_plane_files_get(&t, 7) == NULL);
    CHECK(vs_plane_files_get(&t, UINT64_MAX) == NULL);
    CHECK_EQ(m->releases, ROUNDS);
    vs_plane_files_close(&t);
    CHECK_EQ(m->releases, ROUNDS + OPEN);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 0, 0, &fh), -ENODEV);
    CHECK_EQ(vs_plane_files_remove(&t, last), -EBADF);
    vs_plane_files_end(&t);
    memory_file_end(m);
}

/* Opens of one inode are counted; the first says of which kind they are. */
static void an_inode_is_open_in_one_way(void) {
    vs_plane p = {0};
    int32_t id = -1, slot_id = -1;
    uint64_t ino, fh, plane, kernel;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    CHECK_EQ(vs_plane_files_init(&p.files), 0);
    CHECK_EQ(vs_plane_backings_init(&p.backings), 0);
    p.mount.device_fd = -1;
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
    CHECK_EQ(vs_plane_files_inode(&p.files, fh, &ino, &slot_id), 0);
    CHECK_EQ(ino, 7);
    CHECK_EQ(slot_id, 5);
    CHECK_EQ(vs_plane_remove_file(&p, fh), 0);
    CHECK_EQ(vs_plane_files_inode(&p.files, fh, &ino, &slot_id), -EBADF);
    CHECK_EQ(vs_plane_backing_join(&p, 7, &id), 0); /* the handle was the last open */
    vs_plane_backing_leave(&p, 7);
    CHECK_EQ(vs_plane_remove_file(&p, fh), -EBADF);
    CHECK_EQ(vs_plane_backing_open(&p, 8, -1, &id), 0);
    vs_plane_backings_end(&p.backings); /* with one left */
    vs_plane_files_end(&p.files);
    memory_file_end(m);
}

static void the_last_user_releases(void) {
    vs_plane_files t;
    memory_file *m = memory_file_new(MEMORY_BLOCK);
    uint64_t fh;
    CHECK_EQ(vs_plane_files_init(&t), 0);
    CHECK_EQ(vs_plane_files_add(&t, &m->file, 0, 0, &fh), 0);
    CHECK(vs_plane_files_get(&t, fh) == &m->file);
    CHECK(vs_plane_files_get(&t, fh) == &m->file);
    CHECK_EQ(vs_plane_files_remove(&t, fh), 0);
    CHECK_EQ(vs_plane_files_remove(&t, fh), -EBADF);
    CHECK(vs_plane_files_get(&t, fh) == NULL);
    vs_plane_files_put(&t, fh);
    CHECK_EQ(m->releases, 0);
    vs_plane_files_put(&t, fh);
    CHECK_EQ(m->releases, 1);
    vs_plane_files_close(&t);
    CHECK_EQ(m->releases, 1);
    vs_plane_files_end(&t);
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
    while (!atomic_load(&r->over)) {
        uint64_t fh = atomic_load(&r->fh);
        vs_volume_file *f = vs_plane_files_get(&r->files, fh);
        if (!f) continue;
        CHECK_EQ(f->size(f), MEMORY_BLOCK);
        vs_plane_files_put(&r->files, fh);
    }
    return NULL;
}

static void removals_race_with_requests(void) {
    race r = {.fh = 0};
    memory_file *m[HANDLES];
    pthread_t users[USERS];
    CHECK_EQ(vs_plane_files_init(&r.files), 0);
    for (int i = 0; i < USERS; i++) CHECK_EQ(pthread_create(&users[i], NULL, use_handles, &r), 0);
    for (int i = 0; i < HANDLES; i++) {
        uint64_t fh;
        m[i] = memory_file_new(MEMORY_BLOCK);
        CHECK_EQ(vs_plane_files_add(&r.files, &m[i]->file, 0, 0, &fh), 0);
        atomic_store(&r.fh, fh);
        for (int k = 0; k < 20; k++) {
            if (vs_plane_files_get(&r.files, fh)) vs_plane_files_put(&r.files, fh);
        }
        CHECK_EQ(vs_plane_files_remove(&r.files, fh), 0);
    }
    atomic_store(&r.over, 1);
    for (int i = 0; i < USERS; i++) pthread_join(users[i], NULL);
    for (int i = 0; i < HANDLES; i++) {
        CHECK_EQ(m[i]->releases, 1);
        memory_file_end(m[i]);
    }
    vs_plane_files_close(&r.files);
    vs_plane_files_end(&r.files);
}

/* ---- what pyfuse3 was asked ---- */

/* Against an array that says which numbers are there. */
static void waiting_is_a_map(void) {
    enum { NUMBERS = 3000, STEPS = 60000 };
    static unsigned char there[NUMBERS];
    vs_plane_waiting w;
    vs_plane_asked got;
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
    for (; (unique = vs_plane_waiting_next(&w, &cursor)); left--) {
        CHECK_EQ(there[unique / 2 - 1], 1);
        CHECK_EQ(vs_plane_waiting_take(&w, unique, &got), 0);
        there[unique / 2 - 1] = 0;
    }
    CHECK_EQ(left, 0);
    vs_plane_waiting_end(&w);
}

/* ---- messages ---- */

typedef struct wire {
    vs_plane plane;
    vs_plane_thread thread;
    int kernel; /* the other end of what the plane takes for /dev/fuse */
} wire;

static wire *wire_open(void) {
    int pair[2];
    wire *w = calloc(1, sizeof *w);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    CHECK_EQ(vs_plane_names_open(&w->plane), 0);
    CHECK_EQ(vs_plane_waiting_init(&w->plane.waiting), 0);
    CHECK_EQ(vs_plane_files_init(&w->plane.files), 0);
    w->plane.mount.device_fd = pair[0];
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
    if (w->plane.pyfuse3_fd >= 0) close(w->plane.pyfuse3_fd);
    close(w->plane.mount.device_fd);
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
    CHECK_EQ(vs_plane_files_add(&w->plane.files, &m->file, 0, 0, &fh), 0);
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
    removals_race_with_requests();
    waiting_is_a_map();
    forgets_go_in_pieces();
    a_gone_pyfuse3_is_an_error();
    a_stuck_pyfuse3_is_an_error();
    requests_that_make_no_sense();
    return 0;
}
