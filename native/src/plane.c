/* plane.c: the life of the plane.
 *
 * Each worker reads a request into its own buffer and answers or forwards it; there is no queue between threads, and the buffers are
 * made, and their pages touched, before the mount. The kernel wakes one reader for one request.
 *
 * The end comes in one of two ways. The kernel ends the connection (umount): every read gives ENODEV, the workers go, the
 * eventfd says so; the pair with pyfuse3 stays open until vs_plane_stop, since pyfuse3 takes the end of its descriptor for an
 * error. Or vs_plane_stop comes first and ends the connection itself.
 */
#include "plane_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "status.h"

enum { STACK_BYTES = 512 << 10, OTHER_THREADS = 2 };

/* ---- threads ---- */

static void tell_ended(vs_plane *p) {
    uint64_t one = 1;
    if (atomic_exchange(&p->ended, 1)) return;
    ssize_t written = write(p->ended_fd, &one, sizeof one);
    (void)written; /* the first write to an eventfd always fits */
}

/* ENOENT: the request was given up before we had it. Anything we do not expect ends the connection, as an error is better than a hang. */
static int goes_on(vs_plane *p, int error) {
    if (error == EINTR || error == EAGAIN || error == ENOENT || error == ENOMEM) return 1;
    if (error != ENODEV && error != ECONNABORTED) vs_plane_mount_abort(&p->mount);
    return 0;
}

static void work(vs_plane_thread *t) {
    vs_plane *p = t->plane;
    for (;;) {
        ssize_t n = read(p->mount.device_fd, t->buf, VS_PLANE_BUFFER);
        if (n >= (ssize_t)sizeof(struct fuse_in_header)) vs_plane_request(t, (size_t)n);
        else if (n < 0 && !goes_on(p, errno)) break;
    }
    tell_ended(p);
}

static void *run(void *arg) {
    vs_plane_thread *t = arg;
    ptrdiff_t number = t - t->plane->threads;
    if (number < t->plane->workers) work(t);
    else if (number == t->plane->workers) vs_plane_replies(t);
    else vs_plane_notices(t);
    return NULL;
}

/* Signals are for the threads of Python; only what a thread does to itself stays with it. */
static void block_signals(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static int start_thread(vs_plane *p, const pthread_attr_t *attr) {
    vs_plane_thread *t = &p->threads[p->threads_started];
    char name[16];
    int code = pthread_create(&t->id, attr, run, t);
    if (code) return -code;
    snprintf(name, sizeof name, "vsnapfs-io-%d", p->threads_started++);
    pthread_setname_np(t->id, name);
    return 0;
}

static int start_threads(vs_plane *p) {
    pthread_attr_t attr;
    sigset_t before;
    int code = -pthread_attr_init(&attr);
    if (code < 0) return code;
    code = -pthread_attr_setstacksize(&attr, STACK_BYTES);
    block_signals(&before);
    while (code == 0 && p->threads_started < p->workers + OTHER_THREADS) code = start_thread(p, &attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return code;
}

static void join_threads(vs_plane *p) {
    while (p->threads_started > 0) pthread_join(p->threads[--p->threads_started].id, NULL);
}

static int make_threads(vs_plane *p, int workers) {
    size_t count = (size_t)workers + OTHER_THREADS;
    p->workers = workers;
    p->threads = calloc(count, sizeof *p->threads);
    if (!p->threads) return -ENOMEM;
    void *buffers = mmap(NULL, count * VS_PLANE_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (buffers == MAP_FAILED) return -errno;
    p->buffers = buffers;
    for (size_t i = 0; i < count; i++) {
        p->threads[i].plane = p;
        p->threads[i].buf = p->buffers + i * VS_PLANE_BUFFER;
    }
    return 0;
}

/* ---- start and stop ---- */

/* A plane without threads and without a mount; vs_plane_free ends it whatever went wrong. */
static int make(vs_plane *p, int workers) {
    p->names_fd = p->pyfuse3_fd = p->notice_in = p->notice_out = -1;
    p->mount.device_fd = p->mount.abort_fd = -1;
    p->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->ended_fd < 0) return -errno;
    int code = vs_plane_names_open(p);
    return code < 0 ? code : make_threads(p, workers);
}

static int begin(vs_plane *p, const vs_plane_options *o, int workers) {
    int code = make(p, workers);
    if (code < 0) return vs_fault_set(code, 0, 0, 0, 0, "no memory or descriptors to mount on %s: %s", o->mountpoint, strerror(-code));
    code = vs_plane_mount_open(&p->mount, o);
    if (code < 0) return code;
    code = start_threads(p);
    if (code < 0) {
        vs_plane_mount_detach(&p->mount, 1);
        vs_plane_stop(p);
        return vs_fault_set(code, 0, 0, 0, 0, "no threads to serve %s: %s", o->mountpoint, strerror(-code));
    }
    return 0;
}

int vs_plane_start(const vs_plane_options *o, vs_plane **out) {
    int workers = o->threads ? o->threads : VS_PLANE_THREADS_DEFAULT;
    if (workers < 1 || workers > VS_PLANE_THREADS_MAX)
        return vs_fault_set(-EINVAL, 0, 0, 0, 0, "%d threads: 1 to %d are possible", workers, VS_PLANE_THREADS_MAX);
    vs_plane *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    int code = -pthread_mutex_init(&p->life, NULL);
    if (code == 0) code = vs_plane_files_init(&p->files);
    if (code == 0) code = vs_plane_waiting_init(&p->waiting);
    if (code == 0) code = vs_plane_faults_init(&p->faults);
    if (code == 0) code = vs_plane_backings_init(&p->backings);
    if (code < 0) {
        free(p);
        return code;
    }
    code = begin(p, o, workers);
    if (code < 0) {
        if (p->pyfuse3_fd >= 0) close(p->pyfuse3_fd);
        vs_plane_free(p);
        return code;
    }
    *out = p;
    return 0;
}

int vs_plane_unmount(vs_plane *p, int lazy) {
    return atomic_load(&p->ended) ? 0 : vs_plane_mount_detach(&p->mount, lazy);
}

int vs_plane_stop(vs_plane *p) {
    pthread_mutex_lock(&p->life);
    int code = 0;
    if (!p->stopped && !atomic_load(&p->ended)) code = vs_plane_mount_abort(&p->mount);
    if (!p->stopped && code == 0) {
        shutdown(p->names_fd, SHUT_RDWR);
        shutdown(p->notice_in, SHUT_RDWR);
        join_threads(p);
        tell_ended(p);
        vs_plane_names_close(p);
        vs_plane_mount_close(&p->mount);
        vs_plane_files_close(&p->files);
        p->stopped = 1;
    }
    pthread_mutex_unlock(&p->life);
    return code;
}

void vs_plane_free(vs_plane *p) {
    if (!p) return;
    if (!p->stopped) { /* never started */
        vs_plane_names_close(p);
        vs_plane_mount_close(&p->mount);
    }
    if (p->buffers) munmap(p->buffers, ((size_t)p->workers + OTHER_THREADS) * VS_PLANE_BUFFER);
    if (p->ended_fd >= 0) close(p->ended_fd);
    vs_plane_files_end(&p->files);
    vs_plane_waiting_end(&p->waiting);
    vs_plane_faults_end(&p->faults);
    vs_plane_backings_end(&p->backings);
    pthread_mutex_destroy(&p->life);
    free(p->threads);
    free(p);
}

/* ---- the caller's view ---- */

int vs_plane_socket(const vs_plane *p) {
    return p->pyfuse3_fd;
}

int vs_plane_ended_fd(const vs_plane *p) {
    return p->ended_fd;
}

int vs_plane_add_file(vs_plane *p, vs_volume_file *f, uint64_t ino, int32_t backing_id, uint64_t *fh) {
    return vs_plane_files_add(&p->files, f, ino, backing_id, fh);
}

int vs_plane_remove_file(vs_plane *p, uint64_t fh) {
    uint64_t ino;
    int32_t backing_id;
    int code = vs_plane_files_inode(&p->files, fh, &ino, &backing_id);
    if (code == 0) code = vs_plane_files_remove(&p->files, fh);
    if (code == 0) vs_plane_backing_leave(p, ino);
    return code;
}

static void add_tally(vs_plane_count *count, const vs_plane_tally *tally) {
    count->requests += atomic_load_explicit(&tally->requests, memory_order_relaxed);
    count->errors += atomic_load_explicit(&tally->errors, memory_order_relaxed);
    count->bytes += atomic_load_explicit(&tally->bytes, memory_order_relaxed);
    count->nanoseconds += atomic_load_explicit(&tally->nanoseconds, memory_order_relaxed);
}

void vs_plane_counts(vs_plane *p, vs_plane_count out[64]) {
    memset(out, 0, VS_PLANE_OPCODES * sizeof *out);
    for (int i = 0; i < p->workers + OTHER_THREADS; i++)
        for (int k = 0; k < VS_PLANE_OPCODES; k++) add_tally(&out[k], &p->threads[i].tally[k]);
}
