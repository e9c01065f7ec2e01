/* erofs_image.h: one file of an EROFS filesystem that has no data of its own: where each part of it lies on other files.
 *
 * The kernel's EROFS describes a file as equal chunks, each with the number of a device and a block of it, 8 bytes a chunk; 4 KiB is the
 * smallest chunk. The image lies on a filesystem that can read folios (ext4, xfs, btrfs; not tmpfs); a device may be any file.
 *
 *   block 0         superblock at 1024
 *   then            nothing, to the length of a chunk
 *   then            device table, 128 bytes each
 *   then 1 block    the root directory, with one name: VS_EROFS_NAME
 *   then 1 block    inodes: the root's at its start, the file's in its last 64 bytes, so that
 *   then            its chunk index begins on a block
 *
 * A block of the index that would say "hole" 512 times is not written. It reads as zeros, and zeros mean the chunk that begins at block 0 of the
 * image itself. So that is all zeros once the kernel has read the superblock (vs_erofs_image_hide): a hole in the index then stands for holes in the file.
 *
 * The chunk is the largest power of two of blocks, up to 2 MiB, on which every run begins and ends: the index of a volume that is written in
 * aligned 64 KiB is a sixteenth.
 *
 * Threads: none shared. Errors: -errno of the file; -EFBIG: a block or a device that has no number in the format; -ETIMEDOUT.
 */
#ifndef VS_EROFS_IMAGE_H
#define VS_EROFS_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#define VS_EROFS_NAME "volume"

enum { VS_EROFS_DEVICES_MAX = 65535 };

/* In blocks of 4 KiB; ascending, not overlapping. Only the last may end behind the file's last whole block. */
typedef struct vs_erofs_run {
    uint64_t block, count;
    uint64_t device_block;
    uint32_t device; /* from 1 */
} vs_erofs_run;

typedef struct vs_erofs_image {
    uint64_t size_bytes; /* of the file */
    uint32_t devices;
    const vs_erofs_run *runs;
    size_t run_count;
    uint64_t deadline_ns; /* deadline.h; a large index may have to wait for a slow disk */
} vs_erofs_image;

/* How much disk vs_erofs_image_write takes, in bytes. */
uint64_t vs_erofs_image_bytes(const vs_erofs_image *m);

/* Write the image to file, which is empty. */
int vs_erofs_image_write(int file, const vs_erofs_image *m);

/* After the mount, before the first read of the file. */
int vs_erofs_image_hide(int file);

#endif
