/* plain_reader.h: a second reader of segments, as short as native/FORMAT.md allows, to compare the core with.
 *
 * It shares nothing with the core but CRC32C. What it holds borrows the bytes it was given.
 */
#ifndef VS_FUZZ_PLAIN_READER_H
#define VS_FUZZ_PLAIN_READER_H

#include <stddef.h>
#include <stdint.h>

enum { PLAIN_RECORDS_MAX = 4096, PLAIN_POINTS_MAX = 1024, PLAIN_SEGMENTS_MAX = 16, PLAIN_STREAM_MAX = 64 * 4040 };

typedef struct plain_record {
    uint64_t seqno, time_ns, a, b;
    uint32_t volume, type, flags, tail_bytes;
    const uint8_t *tail;
    const uint8_t *file; /* of the segment */
    uint64_t block;      /* its first payload block in the file */
} plain_record;

typedef struct plain_segment_facts {
    uint64_t last_seqno, until_seqno; /* until 0: it is not compacted */
} plain_segment_facts;

/* How far the reader is: what a batch that is refused gives back. */
typedef struct plain_place {
    size_t count, points;
    uint64_t last_seqno, last_time_ns, floor_seqno;
    uint64_t point_seqno, point_time_ns, state_volume; /* the last ones of the segment */
    uint64_t piece_volume, piece_end; /* of the last record, a write or zero; end 0: no piece may follow */
} plain_place;

typedef struct plain_history {
    plain_place at;
    int compacted; /* the records of compacted segments are known */
    uint64_t first_seqno; /* of the segment */
    int overflow; /* there was more than fits here: nothing is to be compared */
    size_t stream_used;
    uint64_t points[PLAIN_POINTS_MAX], point_times[PLAIN_POINTS_MAX];
    plain_segment_facts segments[PLAIN_SEGMENTS_MAX];
    size_t segment_count;
    plain_record records[PLAIN_RECORDS_MAX];
    uint8_t streams[4 * PLAIN_STREAM_MAX];
} plain_history;

void plain_begin(plain_history *h, uint64_t last_seqno, uint64_t last_time_ns);

/* Take in one batch whose descriptors begin at `at` of the file, which counts up to end. Its length in bytes, 0: no batch is there. payload: 1: it
 * must match its CRCs. */
size_t plain_batch(plain_history *h, const uint8_t *file, size_t at, size_t end, const uint8_t salt[16], int payload);

/* Take in the batches of a segment [0, end) with that header, which may be a compacted one's, by the rules of section 2.3 where it is unsealed. Where they
 * end. */
size_t plain_segment(plain_history *h, const uint8_t *file, size_t end, int unsealed);

/* Can the point be opened, as far as the records tell? */
int plain_point(const plain_history *h, uint64_t seqno);

/* Are the times that points say in order with those of the records? Nobody looks who reads them. */
int plain_points_agree(const plain_history *h);

/* Is there a volume at seqno, and how large is it? */
int plain_volume(const plain_history *h, uint32_t volume, uint64_t seqno, uint64_t *size_bytes);

/* Bytes of a volume by playing all records up to seqno over zeros, whatever its size. 0, or 1: a block that is needed does not match its CRC. */
int plain_read(const plain_history *h, uint32_t volume, uint64_t seqno, uint64_t offset_bytes, uint8_t *buf, size_t length_bytes);

#endif
