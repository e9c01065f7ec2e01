/* plane_backing.c: which inodes are open, and on which files in the kernel.
 *
 * The kernel wants all opens of one inode in one way: through the page cache of the mount, or on one and the same backing file.
 * So the first open decides for all others until the last one is gone. An inode's entry counts them, from the moment when the open is being
 * answered to its RELEASE; by then the kernel has forgotten in which way the inode was open.
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
    int code = *at ? -EEXIST : file < 0 ? 0 : kernel_open(p->mount.device_fd, file, &made->backing_id);
    if (code == 0) {
        *backing_id = made->backing_id;
        *at = made;
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
        if (id) ioctl(p->mount.device_fd, FUSE_DEV_IOC_BACKING_CLOSE, &id); /* it fails when the mount has ended, which closes all */
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
