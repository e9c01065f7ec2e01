/* fault_shim.h: the n-th call that the core makes of the C library fails, once or from then on.
 *
 * Calls are counted from arm to disarm, on all threads, by those that a program is linked with as `-Wl,--wrap` (Makefile,
 * LDFLAGS_fault_points): memory, files, names, threads and digests. A call that must not fail (close, munmap, free) is not among them,
 * but memory and mappings are counted so that what is not given back is seen.
 *
 * A sync that fails loses what it was asked for: bytes written since the last sync of the file are as they were before, as if the
 * kernel had dropped the pages. So whoever takes such a sync for success has lost what it promised.
 *
 * Threads: any; arm and disarm from one thread.
 */
#ifndef VS_HARNESS_FAULT_SHIM_H
#define VS_HARNESS_FAULT_SHIM_H

#include <stdint.h>

enum {
    FAULT_NONE = 0, /* only count */
    FAULT_ONCE,
    FAULT_ON,    /* and every later call of the same kind: all of memory, or all of storage */
    FAULT_MODES, /* how many there are */
};

/* Fail call number n (from 0). seed: which of the errors that fit the call; whether a write that fails has written a part. */
void fault_arm(uint64_t n, int mode, uint64_t seed);

/* Returns how many calls were counted. */
uint64_t fault_disarm(void);

/* Did it happen, and to which call? NULL: it did not. */
const char *fault_struck(void);

/* Allocations of the linked code that are not freed, and mappings that are not ended. */
int64_t fault_allocations(void);
int64_t fault_mappings(void);

#endif
