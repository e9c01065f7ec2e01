/* leases.h: who reads what, so that nobody takes it away: shared locks on bytes of the file `leases`, which has none.
 *
 * Byte s is for the point s: its content stays readable. Byte VS_LEASE_DIRECTORY + g is for a directory whose greatest generation is g: the files
 * that it names stay. A lease is taken first; then one looks whether what it is for is still there. Who takes something away has made that
 * known before he looks for leases. So one of the two sees the other.
 *
 * Locks belong to the open file, of which a journal has one; they end with it, also by death. Where there is no such file, or a filesystem that
 * cannot lock, readers go on without; within a process leases count all the same.
 *
 * Threads: any. Lock order: the journal's state lock before ours.
 */
#ifndef VS_LEASES_H
#define VS_LEASES_H

#include <pthread.h>

#include "store_ops.h"

#define VS_LEASE_DIRECTORY ((uint64_t)1 << 62)

typedef struct vs_lease {
    uint64_t byte;
    uint32_t users;
} vs_lease;

typedef struct vs_leases {
    vs_store *store;
    int owner, file; /* -1: there is none */
    pthread_mutex_t mu;
    vs_lease *held; /* ascending */
    size_t count, room;
} vs_leases;

/* An owner makes the file if it is not there. Never fails: what cannot be had is done without. vs_leases_close gives all of them back. */
void vs_leases_open(vs_leases *l, vs_store *s, int owner);
void vs_leases_close(vs_leases *l);

/* Take one, as often as you like; give it back as often. -ENOMEM. */
int vs_lease_take(vs_leases *l, uint64_t byte);
void vs_lease_give(vs_leases *l, uint64_t byte);

/* Has anybody a lease on a byte of [from, end), here or in another process? */
int vs_leases_any(vs_leases *l, uint64_t from, uint64_t end);

#endif
