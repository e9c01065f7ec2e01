/* plane_mount.c: /dev/fuse, the mount, and the ways it ends.
 *
 * A thread that is blocked in read(/dev/fuse) wakes when the connection ends, and by nothing else that costs nothing per request:
 * polling a non-blocking device wakes every thread for each request (a poll is no exclusive waiter). So to stop is to
 * end the connection. An umount does that only when nobody uses the mount any more, and after `umount -l` its path does
 * not lead to it. fusectl's `abort` always works, so its descriptor is taken at the start, through a detached mount of fusectl:
 * /sys/fs/fuse/connections need not be mounted and our copy has no name.
 *
 * The mount is known by its device number. It is asked for with AT_STATX_DONT_SYNC: no request, so that asking cannot wait for pyfuse3.
 */
#include "plane_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"

static int mount_on(int device_fd, const char *path, const vs_plane_options *o) {
    char data[160];
    snprintf(data, sizeof data, "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s,default_permissions", device_fd, geteuid(), getegid(),
             o->allow_other ? ",allow_other" : "");
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | (o->read_only ? MS_RDONLY : 0);
    return mount(o->source, path, "fuse.vsnapfs", flags, data) == 0 ? 0 : -errno;
}

static int device_at(const char *path, uint32_t *dev_major, uint32_t *dev_minor) {
    struct statx st;
    if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, 0, &st) != 0) return -errno;
    *dev_major = st.stx_dev_major;
    *dev_minor = st.stx_dev_minor;
    return 0;
}

static int fusectl_root(void) {
    int context = fsopen("fusectl", FSOPEN_CLOEXEC);
    if (context < 0) return -errno;
    int root = -1;
    if (fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        root = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    int code = root < 0 ? -errno : root;
    close(context);
    return code;
}

static int open_abort(unsigned dev_minor) {
    int root = fusectl_root();
    if (root < 0) return root;
    char name[32];
    snprintf(name, sizeof name, "%u/abort", dev_minor);
    int fd = openat(root, name, O_WRONLY | O_CLOEXEC);
    int code = fd < 0 ? -errno : fd;
    close(root);
    return code;
}

static int open_device(void) {
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0) return fd;
    int code = errno == EACCES ? -EPERM : -errno;
    return vs_fault_set(code, 0, 0, 0, 0, "/dev/fuse cannot be opened: %s", strerror(-code));
}

int vs_plane_mount_make(const vs_plane_options *o, vs_plane_place *place) {
    int fd = open_device();
    if (fd < 0) return fd;
    int code = realpath(o->mountpoint, place->path) ? mount_on(fd, place->path, o) : -errno;
    if (code == 0) {
        code = device_at(place->path, &place->dev_major, &place->dev_minor);
        if (code == 0) return fd;
        umount2(place->path, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    close(fd);
    return vs_fault_set(code, 0, 0, 0, 0, "%s cannot be mounted on: %s", o->mountpoint, strerror(-code));
}

int vs_plane_device_adopt(vs_plane_device *d, int device_fd, const vs_plane_place *place) {
    d->place = *place;
    d->device_fd = fcntl(device_fd, F_DUPFD_CLOEXEC, 0);
    int code = d->device_fd < 0 ? -errno : open_abort(place->dev_minor);
    if (code < 0) return vs_fault_set(code, 0, 0, 0, 0, "the FUSE connection of %s cannot be controlled: %s", place->path, strerror(-code));
    d->abort_fd = code;
    return 0;
}

int vs_plane_place_detach(const vs_plane_place *place, int lazy) {
    uint32_t dev_major, dev_minor;
    int code = device_at(place->path, &dev_major, &dev_minor);
    if (code < 0) return code;
    if (dev_major != place->dev_major || dev_minor != place->dev_minor) return -EINVAL;
    if (umount2(place->path, UMOUNT_NOFOLLOW) == 0) return 0;
    if (errno != EBUSY || !lazy) return -errno;
    return umount2(place->path, UMOUNT_NOFOLLOW | MNT_DETACH) == 0 ? 0 : -errno;
}

int vs_plane_device_abort(const vs_plane_device *d) {
    return write(d->abort_fd, "1", 1) == 1 ? 0 : -errno;
}

void vs_plane_place_read_ahead(const vs_plane_place *place) {
    char path[64];
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", place->dev_major, place->dev_minor);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t written = write(fd, "2048", 4);
    (void)written; /* sysfs may be read-only: the default then stands */
    close(fd);
}

void vs_plane_device_close(vs_plane_device *d) {
    if (d->abort_fd >= 0) close(d->abort_fd);
    if (d->device_fd >= 0) close(d->device_fd);
    d->abort_fd = d->device_fd = -1;
}
