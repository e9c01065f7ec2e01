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
#include <time.h>
#include <unistd.h>

#include "status.h"

/* READERS_BESIDE_RINGS: of forgets and interrupts; and of all, if rings were agreed on and cannot be made. */
enum { STACK_BYTES = 512 << 10, READERS_BESIDE_RINGS = 4, WAKE_EVERY_NS = 10000000 };

/* ---- threads ---- */

static void tell_ended(vs_plane *p) {
    uint64_t one = 1;
    if (atomic_exchange(&p->ended, 1)) return;
    ssize_t written = write(p->ended_fd, &one, sizeof one);
    (void)written; /* the first write to an eventfd always fits */
}

/* ENOENT: the request was given up before we had it. Anything we do not expect ends the connection, as an error is better than a hang. */
static int goes_on(vs_plane *p, int error) {
    if (error == EINTR) return !atomic_load(&p->stopping);
    if (error == EAGAIN || error == ENOENT || error == ENOMEM) return 1;
    if (error != ENODEV && error != ECONNABORTED) vs_plane_device_abort(&p->device);
    return 0;
}

static void work(vs_plane_thread *t) {
    vs_plane *p = t->plane;
    while (!atomic_load_explicit(&p->stopping, memory_order_relaxed)) {
        ssize_t n = read(p->device.device_fd, t->buf, VS_PLANE_BUFFER);
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

/* What wakes a worker in read(2) where the connection cannot be ended under it. */
static int wake_signal(void) {
    return SIGRTMAX - 1;
}

static void woken(int signal) {
    (void)signal;
}

/* Signals are for the threads of Python; only what a thread does to itself stays with it, and what wakes it. */
static void block_signals(sigset_t *before) {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, wake_signal());
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

int vs_plane_thread_begin(pthread_t *id, void *(*body)(void *), void *arg, const char *name) {
    pthread_attr_t attr;
    sigset_t before;
    struct sigaction wake = {.sa_handler = woken}; /* no SA_RESTART */
    if (sigaction(wake_signal(), &wake, NULL) != 0) return -errno;
    int code = -pthread_attr_init(&attr);
    if (code < 0) return code;
    code = -pthread_attr_setstacksize(&attr, STACK_BYTES);
    block_signals(&before);
    if (code == 0) code = -pthread_create(id, &attr, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (code == 0) pthread_setname_np(*id, name);
    return code;
}

static int start_threads(vs_plane *p) {
    int code = 0;
    while (code == 0 && p->threads_started < p->workers + VS_PLANE_OTHER_THREADS) {
        vs_plane_thread *t = &p->threads[p->threads_started];
        char name[16];
        snprintf(name, sizeof name, "vsnapfs-io-%u", (unsigned)p->threads_started % 1000);
        code = vs_plane_thread_begin(&t->id, run, t, name);
        if (code == 0) p->threads_started++;
    }
    return code;
}

/* The signal is lost on a thread that is just not yet in read(2): again, until it has ended. */
static void wake_and_join(pthread_t id) {
    struct timespec soon;
    do {
        pthread_kill(id, wake_signal());
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += WAKE_EVERY_NS;
        if (soon.tv_nsec >= 1000000000) soon = (struct timespec){soon.tv_sec + 1, soon.tv_nsec - 1000000000};
    } while (pthread_timedjoin_np(id, NULL, &soon) == ETIMEDOUT);
}

static void join_threads(vs_plane *p) {
    atomic_store(&p->stopping, 1);
    while (p->threads_started > 0) {
        pthread_t id = p->threads[--p->threads_started].id;
        if (p->device.abort_fd >= 0) pthread_join(id, NULL);
        else wake_and_join(id);
    }
}

void *vs_plane_buffers(size_t bytes) {
    unsigned char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return p;
    for (size_t i = 0; i < bytes; i += VS_PLANE_HEAD) ((volatile unsigned char *)p)[i] = 0;
    return p;
}

static int make_threads(vs_plane *p, int workers) {
    size_t count = (size_t)workers + VS_PLANE_OTHER_THREADS;
    p->workers = workers;
    p->threads = calloc(count, sizeof *p->threads);
    if (!p->threads) return -ENOMEM;
    void *buffers = vs_plane_buffers(count * VS_PLANE_BUFFER);
    if (buffers == MAP_FAILED) return -errno;
    p->buffers = buffers;
    for (size_t i = 0; i < count; i++) {
        p->threads[i].plane = p;
        p->threads[i].buf = p->buffers + i * VS_PLANE_BUFFER;
    }
    return 0;
}

/* ---- start and stop ---- */

/* What can go wrong without a mount; vs_plane_free ends it whatever did. */
static int make(vs_plane *p, int device_fd, vs_keep *k, int workers) {
    p->names_fd = p->pyfuse3_fd = p->notice_in = p->notice_out = -1;
    p->device.device_fd = p->device.abort_fd = -1;
    p->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->ended_fd < 0) return -errno;
    int code = vs_plane_connection_of(k, &p->connection);
    if (code == 0 && !atomic_load(&p->connection->agreed)) code = -EPROTO;
    if (code == 0) code = vs_plane_names_open(p);
    if (code == 0 && p->connection->by_io_uring && workers > READERS_BESIDE_RINGS) workers = READERS_BESIDE_RINGS;
    if (code == 0) code = make_threads(p, workers);
    if (code == 0) code = vs_plane_device_adopt(&p->device, device_fd, &p->connection->place);
    return code < 0 ? code : vs_plane_backings_restore(p);
}

/* Those first that have nothing to give back. */
static int begin_parts(vs_plane *p, vs_keep *k) {
    int code = -pthread_mutex_init(&p->life, NULL);
    if (code == 0) code = vs_plane_uring_init(&p->uring);
    if (code == 0) code = vs_plane_backings_init(&p->backings);
    if (code == 0) code = vs_plane_waiting_init(&p->waiting);
    if (code < 0) return code;
    code = vs_plane_faults_init(&p->faults);
    if (code == 0 && (code = vs_plane_files_init(&p->files, k)) < 0) vs_plane_faults_end(&p->faults);
    if (code < 0) vs_plane_waiting_end(&p->waiting);
    return code;
}

int vs_plane_open(int device_fd, vs_keep *k, int threads, vs_plane **out) {
    int workers = threads ? threads : VS_PLANE_THREADS_DEFAULT;
    if (workers < 1 || workers > VS_PLANE_THREADS_MAX)
        return vs_fault_set(-EINVAL, 0, 0, 0, 0, "%d threads: 1 to %d are possible", workers, VS_PLANE_THREADS_MAX);
    vs_plane *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    int code = begin_parts(p, k);
    if (code < 0) {
        free(p);
        return code;
    }
    p->rings_threads = threads;
    code = make(p, device_fd, k, workers);
    if (code < 0) {
        if (p->pyfuse3_fd >= 0) close(p->pyfuse3_fd);
        vs_plane_free(p);
        return vs_fault_set(code, 0, 0, 0, 0, "the mount cannot be served: %s", strerror(-code));
    }
    *out = p;
    return 0;
}

int vs_plane_run(vs_plane *p) {
    int code = vs_plane_greet(p);
    /* Before anything else is read, so that what was asked first is answered first. */
    if (code == 0 && atomic_fetch_add(&p->connection->workers, 1) > 0) code = vs_plane_connection_resend(p->device.device_fd);
    if (code == 0) code = start_threads(p);
    /* Without rings the device serves. */
    if (code == 0 && p->connection->by_io_uring) vs_plane_uring_start(p, p->rings_threads);
    return code < 0 ? vs_fault_set(code, 0, 0, 0, 0, "%s cannot be served: %s", p->device.place.path, strerror(-code)) : 0;
}

int vs_plane_unmount(vs_plane *p, int lazy) {
    return atomic_load(&p->ended) ? 0 : vs_plane_place_detach(&p->device.place, lazy);
}

int vs_plane_stop(vs_plane *p) {
    pthread_mutex_lock(&p->life);
    int code = 0;
    if (!p->stopped && !atomic_load(&p->ended)) code = vs_plane_device_abort(&p->device);
    if (!p->stopped && code == 0) {
        shutdown(p->names_fd, SHUT_RDWR);
        shutdown(p->notice_in, SHUT_RDWR);
        join_threads(p);
        vs_plane_uring_join(&p->uring);
        tell_ended(p);
        vs_plane_names_close(p);
        vs_plane_device_close(&p->device);
        vs_plane_files_close(&p->files);
        p->stopped = 1;
    }
    pthread_mutex_unlock(&p->life);
    return code;
}

void vs_plane_free(vs_plane *p) {
    if (!p) return;
    if (!p->stopped) { /* never run */
        vs_plane_names_close(p);
        vs_plane_device_close(&p->device);
        vs_plane_files_close(&p->files);
    }
    if (p->buffers) munmap(p->buffers, ((size_t)p->workers + VS_PLANE_OTHER_THREADS) * VS_PLANE_BUFFER);
    if (p->ended_fd >= 0) close(p->ended_fd);
    vs_plane_files_end(&p->files);
    vs_plane_waiting_end(&p->waiting);
    vs_plane_faults_end(&p->faults);
    vs_plane_uring_end(&p->uring);
    vs_plane_backings_end(&p->backings);
    pthread_mutex_destroy(&p->life);
    free(p->threads);
    free(p);
}

/* ---- the caller's view ---- */

int vs_plane_socket(const vs_plane *p) {
    return p->pyfuse3_fd;
}

int vs_plane_transport(vs_plane *p) {
    return atomic_load(&p->uring.serving) ? VS_PLANE_IO_URING : VS_PLANE_DEVICE;
}

int vs_plane_ended_fd(const vs_plane *p) {
    return p->ended_fd;
}

int vs_plane_add_file(vs_plane *p, vs_volume_file *f, uint64_t ino, int32_t backing_id, uint64_t *fh) {
    return vs_plane_files_add(&p->files, f, ino, backing_id, vs_plane_backing_counts_inode(p, ino), fh);
}

int vs_plane_remove_file(vs_plane *p, uint64_t fh) {
    uint64_t counted_ino = 0;
    int code = vs_plane_files_remove(&p->files, fh, &counted_ino);
    if (code == 0 && counted_ino) vs_plane_backing_leave(p, counted_ino);
    return code;
}
