/* plane_faults.c: why a request failed, for the log.
 *
 * The kernel is told EIO; what is damaged, and where, is in the fault of the thread that answered. It goes into a ring that Python empties
 * when the eventfd says so. A full ring keeps what it has: the first faults of a burst say most.
 */
#include "plane_internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vs_plane_faults_init(vs_plane_faults *q) {
    q->count = q->first = 0;
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0) return -errno;
    return -pthread_mutex_init(&q->mu, NULL);
}

void vs_plane_faults_end(vs_plane_faults *q) {
    close(q->fd);
    pthread_mutex_destroy(&q->mu);
}

void vs_plane_faults_put(vs_plane_faults *q, const vs_fault *fault) {
    uint64_t one = 1;
    pthread_mutex_lock(&q->mu);
    if (q->count < VS_PLANE_FAULTS) q->ring[(q->first + q->count++) % VS_PLANE_FAULTS] = *fault;
    ssize_t written = write(q->fd, &one, sizeof one);
    (void)written; /* it is readable already, or is now */
    pthread_mutex_unlock(&q->mu);
}

int vs_plane_next_fault(vs_plane *p, vs_fault *out) {
    vs_plane_faults *q = &p->faults;
    uint64_t told;
    pthread_mutex_lock(&q->mu);
    int found = q->count > 0;
    if (found) {
        *out = q->ring[q->first];
        q->first = (q->first + 1) % VS_PLANE_FAULTS;
        q->count--;
    }
    if (q->count == 0) {
        ssize_t taken = read(q->fd, &told, sizeof told);
        (void)taken; /* -EAGAIN: nothing was told since */
    }
    pthread_mutex_unlock(&q->mu);
    return found;
}

int vs_plane_faults_fd(const vs_plane *p) {
    return p->faults.fd;
}
