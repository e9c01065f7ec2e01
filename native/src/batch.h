/* batch.h: records on their way to the journal. Threads: the journal's state lock. */
#ifndef VS_BATCH_H
#define VS_BATCH_H

#include "journal_internal.h"

typedef struct vs_record {
    uint32_t type, volume;
    uint64_t seqno, time_ns, a, b;
    const void *body; /* of a write: its bytes; of an event: its JSON */
    uint32_t body_bytes;
} vs_record;

/* Put a record into b, whose next seqno it is. -ENOMEM leaves the batch as it was. */
int vs_batch_put(vs_batch *b, const vs_record *r);

/* May another record be put in, or must the batch be written first? */
int vs_batch_full(const vs_batch *b, uint64_t batch_bytes);

void vs_batch_reset(vs_batch *b);

/* The descriptor blocks of b (malloc), *count of them. A batch of no records gives a checkpoint; first_seqno is then the next one. */
int vs_batch_descriptors(const vs_batch *b, const uint8_t salt[16], uint64_t next_seqno, uint64_t applied_seqno, uint8_t **out, uint32_t *count);

#endif
