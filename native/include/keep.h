/* keep.h: memory that outlives the process that works in it.
 *
 * A worker that is killed takes its memory along; what the kernel, or an application, was told is there must not go with it. So
 * that lies in a keep: one memfd, held by the keeper (a process that does nothing else) or by systemd's descriptor store, and mapped by
 * one worker after the other. It holds regions of fixed size, each by its number, made at first use and zeros then:
 *
 *   CONNECTION  what was agreed with the kernel when the filesystem was mounted (plane)
 *   FILES       open files by their handle numbers (plane)
 *   WRITES      which write requests are in the journal (journal)
 *   BATCHES     records that are appended and not yet in a segment (journal)
 *   NODES       inode numbers that cannot be told from the number alone (tree)
 *
 * It survives processes, not the machine. What is in it is trusted as far as the processes are that hold it; a worker may die between
 * any two stores, so its owner publishes each change by one last store.
 *
 * Threads: open, region and close from one thread at a time; a region's memory as its owner says. Errors: -errno.
 */
#ifndef VS_KEEP_H
#define VS_KEEP_H

#include <stdint.h>

/* CFFI-BEGIN */
typedef struct vs_keep vs_keep;

enum {
    VS_KEEP_CONNECTION = 0,
    VS_KEEP_FILES = 1,
    VS_KEEP_WRITES = 2,
    VS_KEEP_BATCHES = 3,
    VS_KEEP_NODES = 4,
    VS_KEEP_REGIONS = 8,
};

/* A new, empty memfd for a keep; it belongs to the caller. */
int vs_keep_make(void);

/* Map the keep of a memfd, which is borrowed until the call returns. -EPROTO: it is another version's, or none. */
int vs_keep_open(int fd, vs_keep **out);

/* Unmap it, and every region with it. NULL is allowed. */
void vs_keep_close(vs_keep *k);

/* The region `which`, of size_bytes, mapped until vs_keep_close. The first call ever makes it, of zeros. -EPROTO: it is there with
 * another size. The same call again gives the same memory. */
int vs_keep_region(vs_keep *k, uint32_t which, uint64_t size_bytes, void **out);
/* CFFI-END */

#endif
