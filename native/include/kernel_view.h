/* kernel_view.h: a view as a file that the kernel reads by itself.
 *
 * An EROFS image of metadata alone says where each block of the volume lies in the base image and the segments; it is mounted without a
 * name, and its one file is what FUSE passthrough wants. No byte is copied but for blocks that are put together from several writes, or that the
 * volume ends in: they go to a side file. Image and side file have no names and are gone with their last user.
 *
 * The kernel knows no checksums. So all blocks are compared with theirs when the view is built, but for those that were
 * compared for another view before; what becomes of them on the disk later is not seen. That is remembered for up to 2 TiB.
 *
 * Needs: a store of vs_store_posix, root, Linux 6.12 with EROFS, a scratch directory on a filesystem that can read folios (ext4, xfs, btrfs; not
 * tmpfs). Base and segments may lie on any filesystem. Memory while building: 32 bytes a run of the maps; 16M runs at most.
 *
 * Threads: any, at once; one lock, a leaf, for what is remembered. Errors: -errno with vs_fault_last. Lifetime: borrows journal and directory.
 */
#ifndef VS_KERNEL_VIEW_H
#define VS_KERNEL_VIEW_H

#include "view.h"

/* CFFI-BEGIN */
typedef struct vs_kernel_views vs_kernel_views;

/* scratch: a directory for images and side files. verify 0: blocks are not compared. */
int vs_kernel_views_new(vs_journal *j, int scratch, int verify, vs_kernel_views **out);
void vs_kernel_views_free(vs_kernel_views *k); /* NULL is allowed */

/* Can it be done here? Reads a block of the journal through the kernel. *file: the file it was read from, for the caller to close. */
int vs_kernel_views_probe(vs_kernel_views *k, int *file);

typedef struct vs_kernel_limits {
    uint64_t verify_bytes; /* how much may have to be read to compare it, or to put blocks together */
    uint64_t runs;         /* how many runs the maps may have */
    uint64_t milliseconds; /* how long it may take, 0: for ever. What was compared by then is remembered */
} vs_kernel_limits;

/* Would the view be built within limits? 0: yes, or -E2BIG, -ETIMEDOUT. Reads maps only. */
int vs_kernel_view_fits(vs_kernel_views *k, vs_view *v, const vs_kernel_limits *limits);

/* Build it; *file: the file that the kernel reads, for the caller to close. -E2BIG: not within limits, nothing was read; -ETIMEDOUT. -EBADMSG: a
 * block does not match its checksum, and the fault says which. -ENOSPC: it would take more than an eighth of what is free. */
int vs_kernel_view_open(vs_kernel_views *k, vs_view *v, const vs_kernel_limits *limits, int *file);
/* CFFI-END */

#endif
