/* store_sim.h: a store in memory that knows what a power loss would leave of it.
 *
 * A file is what its page cache holds and what its medium holds. A write, a truncation and a zeroing change the cache and wait; sync brings what
 * waits to the medium, data and size. A name that is made, moved or removed waits likewise for sync_dir of its directory. store_sim_crash
 * makes a store of what a power loss now would leave: the medium, and of what waits as much as a seed and a policy say, in any order,
 * torn between sectors of 512 bytes.
 *
 * A sync that fails drops what waited: some of it may have reached the medium, the cache still shows all of it, until forget. As Linux does.
 *
 * Before each call the hook is asked. It may look, make crashed stores of this one and work in those; what it returns (-errno) fails the call.
 * A write that fails has done a part of it to the cache; all others that fail have done nothing, but for sync.
 *
 * The clock moves by itself and jumps, also back, at times drawn from the seed; entropy is drawn from it too. A run is the same each time.
 *
 * Memory: a crashed store shares its pages with the one it was made of until either changes them.
 * Threads: one. Pages are counted without locks, so all stores made of each other belong to one thread; who runs a journal on it plays the
 * owner's thread himself. Errors: as store_ops.h; no memory ends the program.
 */
#ifndef VS_TESTS_STORE_SIM_H
#define VS_TESTS_STORE_SIM_H

#include "store_ops.h"

typedef struct store_sim store_sim;

enum {
    /* Calls that change what a crash leaves, or fail for reasons of the medium. */
    SIM_CREATE, SIM_WRITE, SIM_SYNC, SIM_TRUNCATE, SIM_ZERO, SIM_RENAME, SIM_REMOVE, SIM_SYNC_DIR, SIM_FORGET,
    /* Calls that change nothing: a crash before one of them is one before the next of the others. */
    SIM_OPEN, SIM_READ, SIM_MAP, SIM_LIST,
    SIM_CALLS,
};

/* kind: SIM_*. path: of the file (the name it was opened by) or of the call. Returns 0, or the -errno that the call fails with. */
typedef int (*store_sim_hook)(void *arg, int kind, const char *path);

typedef enum store_sim_policy {
    SIM_SYNCED_ONLY,   /* nothing that waited survives */
    SIM_ALL,           /* all of it */
    SIM_JOURNAL_ONLY,  /* all of it below primary/ is lost, all else survives */
    SIM_PRIMARY_ONLY,  /* the other way round */
    SIM_ANY,           /* drawn, sector by sector */
    SIM_POLICIES,
} store_sim_policy;

extern const char *const store_sim_calls[SIM_CALLS];

/* Empty, with the directories journal, maps, base and primary. End it with vs_store_close. */
vs_store *store_sim_new(uint64_t seed);

/* What a power loss now leaves of s, as a store of its own, without a hook and with no file open. */
vs_store *store_sim_crash(vs_store *s, uint64_t seed, store_sim_policy policy);

/* The same after the death of a process alone: nothing is lost. What waits still waits. */
vs_store *store_sim_kill(vs_store *s, uint64_t seed);

void store_sim_hook_set(vs_store *s, store_sim_hook hook, void *arg);

/* Files that are open, for a test of leaks. */
int store_sim_open_files(vs_store *s);

/* Of all calls so far, in order, with their offsets and lengths: two runs that are the same have the same. */
uint64_t store_sim_trace(vs_store *s);

#endif
