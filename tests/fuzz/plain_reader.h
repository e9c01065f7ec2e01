/* plain_reader.h: a second reader of segments, as short as native/FORMAT.md allows, to compare the core with.
 *
 * It shares nothing with the core but CRC32C. What it holds borrows the bytes it was given.
 */
#ifndef VS_FUZZ_PLAIN_READER_H
#define VS_FUZZ_PLAIN_READER_H

#include <stddef.h>
#include <stdint.h>

enum { PLAIN_RECORDS_MAX = 4096, PLAIN_STREAM_MAX = 64 * 4040 };

typedef struct plain_record {
    uint64_t seqno, time_ns, a, b;
    uint32_t volume, type, flags, tail_bytes;
    const uint8_t *tail;
    const uint8_t *file; /* of the segment */
    uint64_t block;      /* its first payload block in the file */
} plain_record;

typedef struct plain_history {
    size_t count;
    uint64_t last_seqno, last_time_ns;
    int overflow; /* there was more than fits here: nothing is to be compared */
    size_t stream_used;
    plain_record records[PLAIN_RECORDS_MAX];
    uint8_t streams[4 * PLAIN_STREAM_MAX];
} plain_history;

void plain_begin(plain_history *h, uint64_t last_seqno, uint64_t last_time_ns);

/* Take in one batch whose descriptors begin at `at` of the file, which counts up to end. Its length in bytes, 0: no batch is there. payload: 1: it
 * must match its CRCs. */
size_t plain_batch(plain_history *h, const uint8_t *file, size_t at, size_t end, const uint8_t salt[16], int payload);

/* Take in the batches of a segment [0, end) with that header, by the rules of section 2.3 where it is unsealed. Where they end. */
size_t plain_segment(plain_history *h, const uint8_t *file, size_t end, int unsealed);

/* Is there a volume at seqno, and how large is it? */
int plain_volume(const plain_history *h, uint32_t volume, uint64_t seqno, uint64_t *size_bytes);

/* Bytes of a volume by playing all records up to seqno over zeros, whatever its size. 0, or 1: a block that is needed does not match its CRC. */
int plain_read(const plain_history *h, uint32_t volume, uint64_t seqno, uint64_t offset_bytes, uint8_t *buf, size_t length_bytes);

#endif
