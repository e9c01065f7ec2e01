/* killing_store.h: a store that kills its own process at a chosen call.
 *
 * It passes every call on to another store and counts those that change something: open to create, write, sync, truncate, zero, rename,
 * remove, sync_dir. At call number n (from 1) the process gets SIGKILL: before the call, after it, or, if it is a write, in
 * the middle, when a part of it was done. The point has a name: the call, the kind of file, and when.
 *
 * Threads: any. A call that comes while another one kills is not done any more. Files that are open elsewhere count as primaries.
 */
#ifndef VS_TESTS_KILLING_STORE_H
#define VS_TESTS_KILLING_STORE_H

#include <stdatomic.h>
#include <stdint.h>

#include "store_ops.h"

enum { KILL_BEFORE, KILL_MIDDLE, KILL_AFTER, KILL_WHENS };

typedef struct killing_orders {
    uint64_t at;              /* number of the call; 0: none */
    int when;                 /* KILL_MIDDLE of a call that is no write is KILL_BEFORE */
    uint64_t seed;            /* says how much of a write is done in the middle of it */
    _Atomic uint64_t *calls;  /* counts; in memory that outlives the process */
    char *point;              /* 64 bytes of such memory: the name of the point that killed */
} killing_orders;

/* A store on below, which is borrowed and outlives it. */
int killing_store_new(vs_store *below, const killing_orders *orders, vs_store **out);

#endif
