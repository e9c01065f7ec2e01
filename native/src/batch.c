/* batch.c: a batch in memory is laid out as it will be in the file, so that writing it is writing its buffers.
 *
 * A write's bytes are copied once, into payload blocks by congruent placement; its CRCs are taken from there. Blocks of zeros are
 * left out and marked in the record's bitmap.
 */
#include "batch.h"
#include "room.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_FULL = 4 << 20, COVERED_MAX = VS_WRITE_MAX / VS_BLOCK_BYTES + 1 };

uint64_t vs_batch_stream_bytes(void) {
    return STREAM_FULL + VS_RECORD_HEAD + VS_BODY_MAX;
}

uint64_t vs_batch_payload_bytes(uint64_t batch_bytes) {
    return (batch_bytes / VS_BLOCK_BYTES + COVERED_MAX) * VS_BLOCK_BYTES;
}

void vs_batch_init(vs_batch *b, vs_kept *k, int which, uint64_t batch_bytes) {
    memset(b, 0, sizeof *b);
    b->kept = &k->batches->batch[which];
    b->stream = k->stream[which];
    b->stream_room = vs_batch_stream_bytes();
    b->payload = k->payload[which];
    b->payload_room = vs_batch_payload_bytes(batch_bytes) / VS_BLOCK_BYTES;
}

void vs_batch_end(vs_batch *b) {
    for (size_t i = 0; i < b->map_count; i++) vs_extent_map_free(b->maps[i].map);
    free(b->maps);
    memset(b, 0, sizeof *b);
}

void vs_batch_reset(vs_batch *b) {
    for (size_t i = 0; i < b->map_count; i++) vs_extent_map_clear(b->maps[i].map); /* kept: the next batch need not ask for memory */
    b->records = 0;
    b->stream_bytes = 0;
    b->payload_blocks = 0;
    atomic_store_explicit(&b->kept->records, 0, memory_order_release);
}

void vs_batch_publish(vs_batch *b, uint64_t seqno) {
    if (b->records == 0) {
        b->first_seqno = seqno;
        b->kept->first_seqno = seqno;
    }
    b->last_seqno = seqno;
    atomic_store_explicit(&b->kept->records, ++b->records, memory_order_release);
}

int vs_batch_full(const vs_batch *b, uint64_t batch_bytes) {
    return b->payload_blocks * VS_BLOCK_BYTES >= batch_bytes || b->stream_bytes >= STREAM_FULL;
}

vs_extent_map *vs_batch_find(const vs_batch *b, uint32_t volume) {
    for (size_t i = 0; i < b->map_count; i++)
        if (b->maps[i].volume == volume) return b->maps[i].map;
    return NULL;
}

static vs_extent_map *map_need(vs_batch *b, uint32_t volume) {
    vs_extent_map *m = vs_batch_find(b, volume);
    if (m) return m;
    if (vs_room(&b->maps, &b->map_room, b->map_count, 1, sizeof *b->maps) < 0 || vs_extent_map_new(&m) < 0) return NULL;
    b->maps[b->map_count++] = (vs_batch_map){volume, m};
    return m;
}

static uint8_t *stream_need(vs_batch *b, size_t bytes) {
    if (bytes > b->stream_room - b->stream_bytes) return NULL;
    memset(b->stream + b->stream_bytes, 0, bytes);
    return b->stream + b->stream_bytes;
}

static void head_put(uint8_t *p, const vs_record *r, uint32_t flags, uint32_t tail_bytes) {
    p[0] = (uint8_t)r->type;
    p[1] = (uint8_t)flags;
    vs_put32(p + 4, r->volume);
    vs_put64(p + 8, r->time_ns);
    vs_put64(p + 16, r->a);
    vs_put64(p + 24, r->b);
    vs_put32(p + 32, tail_bytes);
}

/* The part of covered block i that the write fills: offset in the block, length, and where it is in the write's bytes. */
static void block_part(const vs_record *r, uint64_t i, uint64_t *at, uint64_t *length, uint64_t *from) {
    uint64_t head = r->a % VS_BLOCK_BYTES;
    *at = i == 0 ? head : 0;
    *from = i == 0 ? 0 : i * VS_BLOCK_BYTES - head;
    uint64_t left = r->b - *from, room = VS_BLOCK_BYTES - *at;
    *length = left < room ? left : room;
}

/* Copy the bytes into payload blocks from `block` on; fill CRCs and bitmap. Returns the blocks used. */
static size_t payload_put(vs_batch *b, const vs_record *r, uint64_t covered, uint8_t *crcs, uint8_t *bitmap, int *zeros) {
    size_t used = 0;
    for (uint64_t i = 0; i < covered; i++) {
        uint64_t at, length, from;
        block_part(r, i, &at, &length, &from);
        const uint8_t *bytes = (const uint8_t *)r->body + from;
        if (vs_is_zero(bytes, length)) {
            bitmap[i / 8] |= (uint8_t)(1u << (i % 8));
            vs_put32(crcs + i * 4, VS_CRC_ZERO_BLOCK);
            *zeros = 1;
            continue;
        }
        uint8_t *block = b->payload + (b->payload_blocks + used++) * VS_BLOCK_BYTES;
        memset(block, 0, at);
        memcpy(block + at, bytes, length);
        memset(block + at + length, 0, VS_BLOCK_BYTES - at - length);
        vs_put32(crcs + i * 4, vs_crc32c(block, VS_BLOCK_BYTES));
    }
    return used;
}

/* Put the write's pieces into the batch's map. first: its first payload block, from 1. */
static int pieces_put(vs_extent_map *m, const vs_record *r, uint64_t covered, const uint8_t *bitmap, uint64_t first) {
    for (uint64_t i = 0, block = first; i < covered; i++) {
        uint64_t at, length, from;
        block_part(r, i, &at, &length, &from);
        int zero = bitmap[i / 8] >> (i % 8) & 1;
        vs_extent e = {r->a + from, length, zero ? 0 : block++};
        int status = vs_extent_map_put(m, &e);
        if (status < 0) return status;
    }
    return 0;
}

static int write_put(vs_batch *b, const vs_record *r) {
    uint64_t covered = (r->a % VS_BLOCK_BYTES + r->b + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES;
    uint8_t bitmap[COVERED_MAX / 8 + 1] = {0};
    uint32_t bitmap_bytes = (uint32_t)(covered + 7) / 8, crc_bytes = (uint32_t)covered * 4;
    uint8_t *p = stream_need(b, vs_record_bytes(crc_bytes + bitmap_bytes));
    vs_extent_map *m = map_need(b, r->volume);
    if (!p || !m) return -ENOMEM;
    int zeros = 0;
    size_t used = payload_put(b, r, covered, p + VS_RECORD_HEAD, bitmap, &zeros);
    int status = pieces_put(m, r, covered, bitmap, b->payload_blocks + 1);
    if (status < 0) return status;
    uint32_t tail_bytes = crc_bytes + (zeros ? bitmap_bytes : 0);
    if (zeros) memcpy(p + VS_RECORD_HEAD + crc_bytes, bitmap, bitmap_bytes);
    head_put(p, r, zeros ? VS_RECORD_HAS_BITMAP : 0, tail_bytes);
    b->stream_bytes += vs_record_bytes(tail_bytes);
    b->payload_blocks += used;
    return 0;
}

static int other_put(vs_batch *b, const vs_record *r) {
    uint8_t *p = stream_need(b, vs_record_bytes(r->body_bytes));
    if (!p) return -ENOMEM;
    vs_extent e = {r->a, r->b, 0};
    if (r->type == VS_RECORD_VOLUME_RESIZE) e = (vs_extent){r->a < r->b ? r->a : r->b, r->a < r->b ? r->b - r->a : r->a - r->b, 0};
    if (r->type == VS_RECORD_ZERO || r->type == VS_RECORD_VOLUME_RESIZE) {
        vs_extent_map *m = map_need(b, r->volume);
        int status = m ? vs_extent_map_put(m, &e) : -ENOMEM;
        if (status < 0) return status;
    }
    head_put(p, r, 0, r->body_bytes);
    if (r->body_bytes) memcpy(p + VS_RECORD_HEAD, r->body, r->body_bytes);
    b->stream_bytes += vs_record_bytes(r->body_bytes);
    return 0;
}

int vs_batch_put(vs_batch *b, const vs_record *r) {
    return r->type == VS_RECORD_WRITE ? write_put(b, r) : other_put(b, r);
}

/* Payload blocks of the record at p, whose tail was found to lie within the stream. -EBADMSG: its lengths do not agree. */
static int64_t record_blocks(const uint8_t *p, uint32_t tail_bytes) {
    uint64_t length_bytes = vs_get64(p + 24);
    if (p[0] != VS_RECORD_WRITE) return 0;
    if (length_bytes > VS_WRITE_MAX) return -EBADMSG;
    uint64_t covered = (vs_get64(p + 16) % VS_BLOCK_BYTES + length_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES;
    uint64_t bitmap_bytes = p[1] & VS_RECORD_HAS_BITMAP ? (covered + 7) / 8 : 0;
    if (tail_bytes != covered * 4 + bitmap_bytes) return -EBADMSG;
    int64_t blocks = (int64_t)covered;
    for (uint64_t i = 0; i < bitmap_bytes; i++) blocks -= __builtin_popcount(p[VS_RECORD_HEAD + covered * 4 + i]);
    return blocks < 0 ? -EBADMSG : blocks;
}

int vs_batch_restore(vs_batch *b) {
    uint32_t records = atomic_load_explicit(&b->kept->records, memory_order_acquire);
    size_t at = 0, blocks = 0;
    for (uint32_t i = 0; i < records; i++) {
        if (b->stream_room - at < VS_RECORD_HEAD) return -EBADMSG;
        uint32_t tail_bytes = vs_get32(b->stream + at + 32);
        if (tail_bytes > VS_BODY_MAX || vs_record_bytes(tail_bytes) > b->stream_room - at) return -EBADMSG;
        int64_t n = record_blocks(b->stream + at, tail_bytes);
        if (n < 0 || (uint64_t)n > b->payload_room - blocks) return -EBADMSG;
        blocks += (size_t)n;
        at += vs_record_bytes(tail_bytes);
    }
    b->records = records;
    b->first_seqno = b->kept->first_seqno;
    b->last_seqno = b->first_seqno + records - 1;
    b->stream_bytes = at;
    b->payload_blocks = blocks;
    return 0;
}

int vs_batch_descriptors(const vs_batch *b, const uint8_t salt[16], uint64_t next_seqno, uint64_t applied_seqno, uint8_t **out, uint32_t *count) {
    size_t n = (b->stream_bytes + VS_DESCRIPTOR_STREAM_MAX - 1) / VS_DESCRIPTOR_STREAM_MAX;
    if (n == 0) n = 1;
    uint8_t *all = aligned_alloc(VS_BLOCK_BYTES, n * VS_BLOCK_BYTES);
    if (!all) return -ENOMEM;
    memset(all, 0, n * VS_BLOCK_BYTES);
    for (size_t i = 0, at = 0; i < n; i++) {
        uint8_t *d = all + i * VS_BLOCK_BYTES;
        size_t here = b->stream_bytes - at < VS_DESCRIPTOR_STREAM_MAX ? b->stream_bytes - at : VS_DESCRIPTOR_STREAM_MAX;
        vs_put32(d, VS_MAGIC_DESCRIPTOR);
        vs_put16(d + 4, (uint16_t)i);
        vs_put16(d + 6, (uint16_t)n);
        memcpy(d + 8, salt, 16);
        vs_put64(d + 24, next_seqno);
        vs_put64(d + 32, applied_seqno);
        vs_put32(d + 40, (uint32_t)b->payload_blocks);
        vs_put32(d + 44, b->records);
        vs_put32(d + 48, (uint32_t)here);
        if (here) memcpy(d + VS_DESCRIPTOR_HEAD, b->stream + at, here);
        vs_block_seal(d);
        at += here;
    }
    *out = all;
    *count = (uint32_t)n;
    return 0;
}
