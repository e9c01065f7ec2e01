/* memory.h: a process whose memory is there when the system has none.
 *
 * A server of live volumes stands on the way from the page cache to the disk: while the system looks for memory by writing dirty pages to a
 * filesystem on a live volume, it waits for us, so we must not wait for it. Nothing here makes anything correct; it takes away reasons to
 * wait. What cannot be had is said, and the process goes on.
 *
 * Threads: call once, on the first thread, before there are others: what holds for a thread goes over to those that it starts.
 * Errors: none; what was achieved is returned.
 */
#ifndef VS_MEMORY_H
#define VS_MEMORY_H

#include <stdint.h>

/* CFFI-BEGIN */
enum {
    VS_MEMORY_LOCKED = 1,     /* what the process has used stays in memory, but for mapped files of the store */
    VS_MEMORY_KEPT = 2,       /* freed memory stays with the process, and a reserve of it is there */
    VS_MEMORY_IO_FLUSHER = 4, /* an allocation does not wait for writes that may wait for us */
    VS_MEMORY_KILLED_LAST = 8 /* out of memory, others are killed before */
};

/* Protect this process as far as it may; reserve_bytes of memory are made ready for later. Returns VS_MEMORY_* of what holds. */
int vs_memory_protect(uint64_t reserve_bytes);
/* CFFI-END */

#endif
