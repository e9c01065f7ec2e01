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

/* What the memory of a batch must hold: its stream, its payload. */
uint64_t vs_batch_stream_bytes(void);
uint64_t vs_batch_payload_bytes(uint64_t batch_bytes);

/* Batch 0 or 1 on kept memory, which stays as it is: what is counted there is not taken in (vs_batch_restore). */
void vs_batch_init(vs_batch *b, vs_kept *k, int which, uint64_t batch_bytes);
void vs_batch_end(vs_batch *b);

/* Put a record into b without counting it. -ENOMEM: the batch must not be used for anything but what was counted before. */
int vs_batch_put(vs_batch *b, const vs_record *r);

/* Count the record that was put in, whose seqno this is. From here on it outlives the process. */
void vs_batch_publish(vs_batch *b, uint64_t seqno);

/* Take the lengths of b from what is counted in its memory (0 records: none), without its maps. -EBADMSG: it does not parse. */
int vs_batch_restore(vs_batch *b);

/* May another record be put in, or must the batch be written first? */
int vs_batch_full(const vs_batch *b, uint64_t batch_bytes);

void vs_batch_reset(vs_batch *b);

/* The descriptor blocks of b (malloc), *count of them. A batch of no records gives a checkpoint; first_seqno is then the next one. */
int vs_batch_descriptors(const vs_batch *b, const uint8_t salt[16], uint64_t next_seqno, uint64_t applied_seqno, uint8_t **out, uint32_t *count);

#endif
