/* erofs_mount.h: an EROFS image mounted without a name.
 *
 * The mount is in no mount table and has no path; it ends when the last descriptor of its file, or the kernel's last use of it, does.
 *
 * Threads: any. Errors: -errno with vs_fault_last: -EPERM: not root; -ENODEV: the kernel has no EROFS; -ENOTBLK: the kernel cannot mount
 * files (before Linux 6.12), or not of this filesystem.
 */
#ifndef VS_EROFS_MOUNT_H
#define VS_EROFS_MOUNT_H

#include <stdint.h>

/* Mount image, with devices as its devices 1 … count, and open its file for reading: *out. The descriptors given may be closed afterwards. */
int vs_erofs_mount_file(int image, const int *devices, uint32_t count, int *out);

#endif
