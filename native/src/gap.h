/* gap.h: what happens to writes while the journal cannot take them, and how the two find together again.
 *
 *   protected    -> journal and primary, as ever
 *   unprotected  -> `failed` is set: writes go to the primary alone, their ranges into the map of what has changed (changed.h)
 *   catching up  -> the journal works again; writes are journalled; what has changed is compared, piece by piece, and journalled
 *
 * Order: writes hold `order` for reading while there is a gap, whoever compares a piece holds it for writing, so that no write comes between
 * looking and journalling. Lock order: order, leadership, mu, bits_mu.
 */
#ifndef VS_GAP_H
#define VS_GAP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "changed.h"

enum { VS_GAP_NONE = 0, VS_GAP_OPEN = 1, VS_GAP_NOTED = 2 };

typedef struct vs_gap {
    pthread_rwlock_t order;
    pthread_mutex_t bits_mu; /* the maps, and their files */
    _Atomic int ordered;     /* > 0: writes take `order` */
    /* mu: */
    int state;   /* VS_GAP_ */
    int settled; /* unprotected, and what was pending is on the primaries */
    uint64_t times; /* that it was settled */
    int reason;  /* -errno */
    uint64_t since_ns, since_seqno; /* the first instant that is not in the journal; the last record before it */
    uint64_t floor_seqno; /* up to it the journal has nothing that the primaries lack: they are newer */
} vs_gap;

struct vs_journal;
struct vs_primary;
struct vs_record;

int vs_gap_init(struct vs_journal *j);
void vs_gap_end(struct vs_journal *j);

/* mu held: must somebody settle? */
int vs_gap_is_unsettled(const struct vs_journal *j);

/* mu not held: put what is pending onto the primaries, once, after the journal failed. */
void vs_gap_settle(struct vs_journal *j);

/* mu held: how much differs, at most. */
uint64_t vs_gap_changed_bytes(struct vs_journal *j);

/* order held for reading, mu not: a write or zero while unprotected. */
int vs_gap_write(struct vs_journal *j, const struct vs_record *r);

#endif
