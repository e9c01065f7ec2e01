/* beneath.h: names below a directory that is trusted no further than itself.
 *
 * A repository may come from elsewhere, and whoever can write into it may swap names while we use them. So a path below it is opened in
 * one step by the kernel (openat2), which follows no symlink in any component and never leaves the directory; where the kernel or a
 * sandbox does not know that call, component by component with O_NOFOLLOW, which is as strict and takes a descriptor each. Other
 * filesystems may be mounted below: that takes root, who is trusted, and a journal on a disk of its own is a use of it.
 *
 * Paths are relative to the directory, their components separated by single '/', none is "..".
 *
 * Threads: any. Errors: -errno; -EINVAL: not such a path. -ELOOP: a component is a symlink, the last one too. -ENOTDIR: a component before
 * the last is something else that is no directory.
 */
#ifndef VS_BENEATH_H
#define VS_BENEATH_H

/* CFFI-BEGIN */
/* Open path below dir_fd. flags: of open(2); without O_NOFOLLOW, and O_CLOEXEC is added. mode: of a file that is made, whatever the umask; without
 * O_CREAT it does not count. Returns a descriptor, the caller's. */
int vs_open_beneath(int dir_fd, const char *path, int flags, unsigned int mode);
/* CFFI-END */

/* A descriptor (O_PATH, the caller's) of the directory that path's last component is in; *name points at that component, in path. */
int vs_open_parent_beneath(int dir_fd, const char *path, const char **name);

#endif
