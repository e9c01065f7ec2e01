/* plain_history.h: a history of records as plain as can be, and what each volume holds after each of them.
 *
 * Everything that is appended through it is noted here too, by type and numbers alone: bytes are made from a seed, once more
 * whenever they are wanted. What a volume holds at a seqno is found by doing all of it again from the beginning; no map, no
 * index, no sharing, so that it cannot be wrong in the way the core may be wrong.
 *
 * Threads: one at a time. Memory: none but the struct, so that it can be used while allocations fail, copied, and shared between processes.
 * Errors: -errno of the journal; what must not be is said on standard error and counted by the caller.
 */
#ifndef VS_HARNESS_PLAIN_HISTORY_H
#define VS_HARNESS_PLAIN_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "view.h"

enum { PLAIN_RECORDS_MAX = 2048, PLAIN_VOLUMES_MAX = 3, PLAIN_BYTES_MAX = 1 << 20 };

typedef struct plain_record {
    uint32_t type, volume;
    uint64_t a, b, content;
} plain_record;

typedef struct plain_history {
    uint64_t seed;
    uint64_t count;   /* records that were answered: the last one's seqno */
    uint64_t durable; /* of them, those that a durable request was answered for */
    uint64_t base_bytes; /* volume 1 begins with an image of so many bytes; 0: no volume does */
    plain_record records[PLAIN_RECORDS_MAX];
} plain_history;

/* A volume as it is. */
typedef struct plain_volume {
    int there; /* added, not removed */
    uint64_t size_bytes;
    uint8_t bytes[PLAIN_BYTES_MAX];
    uint16_t writer[PLAIN_BYTES_MAX]; /* seqno of the record that put the byte there; 0: none did, it is of the base */
} plain_volume;

typedef struct plain_state {
    uint64_t seqno;
    plain_volume volumes[PLAIN_VOLUMES_MAX]; /* volume id 1 is the first */
} plain_state;

/* splitmix64: *state is the seed. */
uint64_t plain_draw(uint64_t *state);
uint64_t plain_below(uint64_t *state, uint64_t limit);

/* Bytes that a seed stands for; about every sixth block (of 4096, counted from the volume's beginning) is zeros. */
void plain_fill(uint64_t content, uint64_t offset_bytes, uint8_t *to, uint64_t length_bytes);

/* Append to the journal, and note it when it was answered with success. */
int plain_write(plain_history *h, vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes);
int plain_zero(plain_history *h, vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes);
int plain_event(plain_history *h, vs_journal *j, uint32_t type, uint32_t volume, uint64_t a, uint64_t b);
int plain_commit(plain_history *h, vs_journal *j);
/* One more record that was appended in another way, and the last one known to be durable. */
int plain_note(plain_history *h, uint64_t seqno, const plain_record *r);

/* A random write, mostly small and unaligned, or zero, of a volume of size_bytes. */
int plain_step(plain_history *h, vs_journal *j, uint32_t volume, uint64_t size_bytes, uint64_t *rng);

/* The state before the first record; and one record on. */
void plain_begin(const plain_history *h, plain_state *s);
void plain_advance(const plain_history *h, plain_state *s);

/* Is every volume in the journal at s->seqno as the state says? Returns how many are not; why: about the first, for people. */
int plain_compare(const plain_state *s, vs_journal *j, char why[256]);

/* Does the journal hold a beginning of the history, no shorter than what is durable, and is each of its points (every `each`-th, and the
 * last) as it was? Returns failures. */
int plain_verify(const plain_history *h, plain_state *scratch, vs_journal *j, uint64_t each, char why[256]);

#endif
