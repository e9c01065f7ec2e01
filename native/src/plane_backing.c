/* plane_backing.c: which inodes are open, and on which files in the kernel.
 *
 * The kernel wants all opens of one inode in one way: through the page cache of the mount, or on one and the same backing file.
 * So the first open decides for all others until the last one is gone. An inode's entry counts them, from the moment when the open is being
 * answered to its RELEASE; by then the kernel has forgotten in which way the inode was open.
 *
 * The kernel's files belong to the connection, and outlive a worker; so do the counts, as open handles in the keep. A number that the
 * kernel has just given, or that is about to be given back, is of no handle: the keep has the range that numbers lie in, and the next
 * worker gives back those in it that nobody uses. Numbers are given in ascending order and under the lock, so at most one is
 * behind the range.
 *
 * The lock is held over the ioctls, which do no I/O.
 */
#include "plane_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

struct vs_plane_inode {
    uint64_t ino;
    uint32_t opens;
    int32_t backing_id; /* 0: none, bytes go through the plane */
    struct vs_plane_inode *next;
};

int vs_plane_backings_init(vs_plane_backings *b) {
    *b = (vs_plane_backings){0};
    return -pthread_mutex_init(&b->mu, NULL);
}

void vs_plane_backings_end(vs_plane_backings *b) {
    for (size_t i = 0; i < VS_PLANE_BUCKETS; i++)
        for (struct vs_plane_inode *n = b->buckets[i], *next; n; n = next) {
            next = n->next;
            free(n);
        }
    pthread_mutex_destroy(&b->mu);
}

/* Where the inode hangs, or where it is to be hung. */
static struct vs_plane_inode **place(vs_plane_backings *b, uint64_t ino) {
    struct vs_plane_inode **at = &b->buckets[(ino * UINT64_C(0x9E3779B97F4A7C15) >> 32) % VS_PLANE_BUCKETS];
    while (*at && (*at)->ino != ino) at = &(*at)->next;
    return at;
}

/* What the kernel calls the file, > 0. */
static int kernel_open(int device, int file, int32_t *id) {
    struct fuse_backing_map map = {.fd = file};
    int given = ioctl(device, FUSE_DEV_IOC_BACKING_OPEN, &map);
    if (given > 0) {
        *id = given;
        return 0;
    }
    int code = given == 0 ? -EIO : -errno;
    const char *why = code == -EPERM                       ? "it needs root, and Linux 6.9"
                      : code == -ENOTTY || code == -EINVAL ? "it needs Linux 6.9"
                      : code == -ELOOP                     ? "the repository lies on too many filesystems on top of each other"
                                                           : strerror(-code);
    return vs_fault_set(code, 0, 0, 0, 0, "no FUSE passthrough: %s", why);
}

static void kernel_close(vs_plane *p, uint32_t id) {
    ioctl(p->device.device_fd, FUSE_DEV_IOC_BACKING_CLOSE, &id); /* it fails when the mount has ended, which closes all */
    p->backings.in_kernel--;
}

/* In the keep: the number is in use. */
static void note(vs_plane *p, int32_t id) {
    vs_plane_connection *c = p->connection;
    if (p->backings.in_kernel++ == 0 || id < atomic_load(&c->backing_first)) atomic_store(&c->backing_first, id);
    if (id >= atomic_load(&c->backing_end)) atomic_store(&c->backing_end, id + 1);
}

int vs_plane_backing_join(vs_plane *p, uint64_t ino, int32_t *backing_id) {
    pthread_mutex_lock(&p->backings.mu);
    struct vs_plane_inode *n = *place(&p->backings, ino);
    if (n) {
        n->opens++;
        *backing_id = n->backing_id;
    }
    pthread_mutex_unlock(&p->backings.mu);
    return n != NULL;
}

int vs_plane_backing_open(vs_plane *p, uint64_t ino, int file, int32_t *backing_id) {
    struct vs_plane_inode *made = malloc(sizeof *made);
    if (!made) return -ENOMEM;
    *made = (struct vs_plane_inode){.ino = ino, .opens = 1};
    pthread_mutex_lock(&p->backings.mu);
    struct vs_plane_inode **at = place(&p->backings, ino);
    int code = *at ? -EEXIST : file < 0 ? 0 : kernel_open(p->device.device_fd, file, &made->backing_id);
    if (code == 0) {
        *backing_id = made->backing_id;
        *at = made;
        if (made->backing_id) note(p, made->backing_id);
    }
    pthread_mutex_unlock(&p->backings.mu);
    if (code < 0) free(made);
    return code;
}

void vs_plane_backing_leave(vs_plane *p, uint64_t ino) {
    pthread_mutex_lock(&p->backings.mu);
    struct vs_plane_inode **at = place(&p->backings, ino), *n = *at;
    if (n && --n->opens == 0) {
        uint32_t id = (uint32_t)n->backing_id;
        if (id) kernel_close(p, id);
        *at = n->next;
        free(n);
    }
    pthread_mutex_unlock(&p->backings.mu);
}

void vs_plane_backing_counts(vs_plane *p, uint64_t *through_plane, uint64_t *in_kernel) {
    *through_plane = *in_kernel = 0;
    pthread_mutex_lock(&p->backings.mu);
    for (size_t i = 0; i < VS_PLANE_BUCKETS; i++)
        for (const struct vs_plane_inode *n = p->backings.buckets[i]; n; n = n->next) *(n->backing_id ? in_kernel : through_plane) += n->opens;
    pthread_mutex_unlock(&p->backings.mu);
}

int vs_plane_backing_counts_inode(vs_plane *p, uint64_t ino) {
    pthread_mutex_lock(&p->backings.mu);
    int found = *place(&p->backings, ino) != NULL;
    pthread_mutex_unlock(&p->backings.mu);
    return found;
}

/* ---- after a worker before ---- */

static int count_again(vs_plane_backings *b, uint64_t ino, int32_t backing_id) {
    struct vs_plane_inode **at = place(b, ino);
    if (!*at) {
        *at = malloc(sizeof **at);
        if (!*at) return -ENOMEM;
        **at = (struct vs_plane_inode){.ino = ino, .backing_id = backing_id};
        b->in_kernel += backing_id != 0;
    }
    (*at)->opens++;
    return 0;
}

/* Give back what is in the range and of no inode. */
static int close_strays(vs_plane *p) {
    int32_t first = atomic_load(&p->connection->backing_first), end = atomic_load(&p->connection->backing_end);
    size_t count = (size_t)(end > first ? end - first : 0) + 1;
    unsigned char *used = calloc(count, 1);
    if (!used) return -ENOMEM;
    for (size_t i = 0; i < VS_PLANE_BUCKETS; i++)
        for (const struct vs_plane_inode *n = p->backings.buckets[i]; n; n = n->next)
            if (n->backing_id >= first && n->backing_id < end) used[n->backing_id - first] = 1;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = (uint32_t)first + (uint32_t)i;
        if (!used[i]) ioctl(p->device.device_fd, FUSE_DEV_IOC_BACKING_CLOSE, &id); /* most are not there any more */
    }
    free(used);
    return 0;
}

int vs_plane_backings_restore(vs_plane *p) {
    uint32_t cursor = 0;
    uint64_t ino;
    int32_t backing_id;
    int code = 0;
    if (atomic_load(&p->connection->workers) == 0) return 0;
    while (code == 0 && vs_plane_files_counted(&p->files, &cursor, &ino, &backing_id)) code = count_again(&p->backings, ino, backing_id);
    return code < 0 ? code : close_strays(p);
}
