/* erofs_mount.c: fsopen, fsconfig, fsmount.
 *
 * EROFS takes paths; /proc/self/fd/N leads to what is open already, whatever its name has become.
 */
#include "erofs_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "erofs_image.h"
#include "status.h"

static int configure(int context, const char *key, int file) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return fsconfig(context, FSCONFIG_SET_STRING, key, path, 0) == 0 ? 0 : -errno;
}

static int describe(int context, int image, const int *devices, uint32_t count) {
    int code = fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) == 0 ? 0 : -errno;
    if (code == 0) code = configure(context, "source", image);
    for (uint32_t i = 0; code == 0 && i < count; i++) code = configure(context, "device", devices[i]);
    if (code == 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0) code = -errno;
    return code;
}

/* What the kernel has to say of a failure, in its own words; "" when nothing. */
static void complaint(int context, char *text, size_t room) {
    ssize_t n = read(context, text, room - 1);
    text[n > 0 ? n : 0] = '\0';
}

static int failed(int code, int context) {
    char said[128] = "";
    if (context >= 0) complaint(context, said, sizeof said);
    const char *why = code == -ENODEV    ? "the kernel has no EROFS"
                      : code == -EPERM   ? "it needs root"
                      : code == -ENOTBLK ? "the kernel cannot read files of this filesystem through EROFS (tmpfs, or Linux before 6.12)"
                                         : strerror(-code);
    return vs_fault_set(code, 0, 0, 0, 0, "no EROFS view: %s%s%s", why, *said ? ": " : "", said);
}

int vs_erofs_mount_file(int image, const int *devices, uint32_t count, int *out) {
    int context = fsopen("erofs", FSOPEN_CLOEXEC), mount = -1, file = -1;
    if (context < 0) return failed(-errno, -1);
    int code = describe(context, image, devices, count);
    if (code == 0 && (mount = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)) < 0)
        code = -errno;
    if (code == 0 && (file = openat(mount, VS_EROFS_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0) code = -errno;
    if (code == 0) code = vs_erofs_image_hide(image);
    if (code < 0) failed(code, context);
    if (mount >= 0) close(mount);
    close(context);
    if (code == 0) *out = file;
    else if (file >= 0) close(file);
    return code;
}
