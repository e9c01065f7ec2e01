/* plain_reader.c: see plain_reader.h; numbers are those of native/FORMAT.md. */
#include "plain_reader.h"

#include <string.h>

#include "codec.h"

enum { BLOCK = 4096 };

static int sealed_by_crc(const uint8_t *block) {
    return vs_get32(block + 4092) == vs_crc32c(block, 4092);
}

void plain_begin(plain_history *h, uint64_t last_seqno, uint64_t last_time_ns) {
    h->at = (plain_place){.last_seqno = last_seqno, .last_time_ns = last_time_ns};
    h->stream_used = h->segment_count = 0;
    h->overflow = h->compacted = 0;
    h->first_seqno = last_seqno + 1;
}

static int is_zero_block(const plain_record *r, uint64_t covered, uint64_t i) {
    return r->flags & 1 && r->tail[4 * covered + i / 8] >> (i % 8) & 1;
}

static uint64_t covered_by(const plain_record *r) {
    return (r->a % BLOCK + r->b + BLOCK - 1) / BLOCK;
}

/* Flags of section 2.5. */
static int flags_are_known(const plain_record *r, int compacted) {
    if (r->flags <= 1) return 1;
    return compacted && (r->type == 4 ? r->flags == 4 : r->flags <= 3 && r->type <= 2);
}

/* Payload blocks of a record that is as the table in section 2.2 says; -1: it is not. */
static int64_t record_blocks(const plain_record *r, int compacted) {
    int64_t blocks = 0;
    if (r->a > UINT64_C(1) << 62 || r->b > UINT64_C(1) << 62 || !flags_are_known(r, compacted)) return -1;
    if (r->type < 1 || (r->type > 10 && r->type != 14)) return -1;
    if (r->type <= 5 && r->volume == 0) return -1;
    if (r->type == 1) {
        if (r->b == 0 || r->b > 1 << 20) return -1;
        uint64_t covered = covered_by(r);
        if (r->tail_bytes != 4 * covered + (r->flags & 1 ? (covered + 7) / 8 : 0)) return -1;
        for (uint64_t i = 0; i < covered; i++) blocks += !is_zero_block(r, covered, i);
    }
    if (r->type == 2 && (r->b == 0 || r->tail_bytes)) return -1;
    if (r->type == 4 && r->a == r->b) return -1;
    if (r->type == 6 && (r->a == 0 || r->a > r->seqno)) return -1;
    if (r->type == 14 && (r->a == 0 || r->a >= r->seqno)) return -1;
    return blocks;
}

/* What is no record, in a compacted segment: 1: taken. */
static int note_take(plain_history *h, const plain_record *r) {
    plain_place *p = &h->at;
    if (!h->compacted || r->flags || r->time_ns || r->tail_bytes || r->a > UINT64_C(1) << 62 || r->b > UINT64_C(1) << 62) return 0;
    p->piece_end = 0;
    if (r->type == 11) {
        if (r->volume || r->a < p->last_seqno + 2 || (r->b && r->b <= p->last_time_ns)) return 0;
        p->last_seqno = r->a - 1;
        if (r->b) p->last_time_ns = r->b;
        return 1;
    }
    if (r->a > p->last_seqno || r->b > p->last_time_ns) return 0;
    if (r->type == 13) {
        if (r->volume <= p->state_volume) return 0;
        p->state_volume = r->volume;
        return 1;
    }
    if (r->volume || r->a < h->first_seqno || (p->point_seqno && (r->a <= p->point_seqno || r->b <= p->point_time_ns))) return 0;
    p->point_seqno = r->a;
    p->point_time_ns = r->b;
    if (p->points == PLAIN_POINTS_MAX) {
        h->overflow = 1;
        return 1;
    }
    h->points[p->points] = r->a;
    h->point_times[p->points++] = r->b;
    return 1;
}

/* Is the record the next one, or a piece of the last one? Gives it its seqno. */
static int order_take(plain_history *h, plain_record *r) {
    plain_place *p = &h->at;
    int further = h->compacted && r->flags & 2, extent = r->type == 1 || r->type == 2;
    if (further && (!extent || !p->piece_end || r->volume != p->piece_volume || r->time_ns != p->last_time_ns || r->a < p->piece_end)) return 0;
    if (!further && r->time_ns <= p->last_time_ns) return 0;
    if (!further) p->last_seqno++;
    r->seqno = p->last_seqno;
    p->last_time_ns = r->time_ns;
    p->piece_volume = r->volume;
    p->piece_end = h->compacted && extent ? r->a + r->b : 0;
    return 1;
}

/* The joined streams of the descriptors; -1: they do not agree. */
static int64_t stream_join(uint8_t *out, const uint8_t *file, size_t at, uint32_t count, const uint8_t salt[16], uint64_t seqno) {
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *d = file + at + (size_t)i * BLOCK;
        uint32_t n = vs_get32(d + 48);
        if (memcmp(d, "VSDB", 4) != 0 || vs_get16(d + 4) != i || vs_get16(d + 6) != count || memcmp(d + 8, salt, 16) != 0) return -1;
        if (vs_get64(d + 24) != seqno || memcmp(d + 32, file + at + 32, 16) != 0 || n > 4040 || !sealed_by_crc(d)) return -1;
        memcpy(out + used, d + 52, n);
        used += n;
    }
    return (int64_t)used;
}

static int payload_matches(const plain_record *r) {
    if (r->type != 1) return 1;
    uint64_t covered = covered_by(r), block = r->block;
    for (uint64_t i = 0; i < covered; i++)
        if (!is_zero_block(r, covered, i) && vs_crc32c(r->file + BLOCK * block++, BLOCK) != vs_get32(r->tail + 4 * i)) return 0;
    return 1;
}

/* A record into h. Its payload blocks; -1: it is refused. */
static int64_t record_take(plain_history *h, plain_record *r) {
    if (r->type >= 11 && r->type <= 13) return note_take(h, r) ? 0 : -1;
    if (!order_take(h, r)) return -1;
    int64_t blocks = record_blocks(r, h->compacted);
    if (blocks < 0) return -1;
    if (r->type == 14 && r->a > h->at.floor_seqno) h->at.floor_seqno = r->a;
    if (h->at.count == PLAIN_RECORDS_MAX) h->overflow = 1;
    else h->records[h->at.count++] = *r;
    return blocks;
}

/* Records of a stream into h. How many payload blocks; -1: it does not parse. */
static int64_t records_parse(plain_history *h, const uint8_t *stream, size_t bytes, uint32_t count, const uint8_t *file, uint64_t block) {
    size_t at = 0;
    uint64_t first = block;
    for (uint32_t i = 0; i < count; i++) {
        if (bytes - at < 36) return -1;
        const uint8_t *p = stream + at;
        plain_record r = {.type = p[0], .flags = p[1], .volume = vs_get32(p + 4), .time_ns = vs_get64(p + 8), .a = vs_get64(p + 16),
                          .b = vs_get64(p + 24), .tail_bytes = vs_get32(p + 32), .tail = p + 36, .file = file, .block = block};
        size_t whole = 36 + ((size_t)r.tail_bytes + 3) / 4 * 4;
        if (r.tail_bytes > 32768 || bytes - at < whole) return -1;
        int64_t blocks = record_take(h, &r);
        if (blocks < 0) return -1;
        block += (uint64_t)blocks;
        at += whole;
    }
    return at == bytes ? (int64_t)(block - first) : -1;
}

static uint32_t begins_batch(const uint8_t *file, size_t at, size_t end, const uint8_t salt[16], uint64_t seqno) {
    if (at + BLOCK > end) return 0;
    const uint8_t *d = file + at;
    if (memcmp(d, "VSDB", 4) != 0 || memcmp(d + 8, salt, 16) != 0 || !sealed_by_crc(d) || vs_get16(d + 4) != 0 || vs_get64(d + 24) != seqno) return 0;
    uint32_t count = vs_get16(d + 6);
    return at + (size_t)count * BLOCK <= end ? count : 0;
}

size_t plain_batch(plain_history *h, const uint8_t *file, size_t at, size_t end, const uint8_t salt[16], int payload) {
    plain_place before = h->at;
    uint64_t seqno = before.last_seqno;
    uint32_t count = begins_batch(file, at, end, salt, seqno + 1);
    if (count == 0) return 0;
    if (h->stream_used + (size_t)count * 4040 > sizeof h->streams) {
        h->overflow = 1;
        return 0;
    }
    uint8_t *stream = h->streams + h->stream_used;
    uint64_t said = vs_get32(file + at + 40), length = (count + said) * BLOCK;
    int64_t bytes = length <= end - at ? stream_join(stream, file, at, count, salt, seqno + 1) : -1;
    int64_t blocks = bytes < 0 ? -1 : records_parse(h, stream, (size_t)bytes, vs_get32(file + at + 44), file, at / BLOCK + count);
    int taken = blocks == (int64_t)said;
    for (size_t i = before.count; taken && payload && i < h->at.count; i++) taken = payload_matches(&h->records[i]);
    if (!taken && blocks == (int64_t)said) taken = begins_batch(file, at + length, end, salt, h->at.last_seqno + 1) > 0;
    if (!taken) {
        h->at = before;
        return 0;
    }
    h->stream_used += (size_t)bytes;
    return (size_t)length;
}

size_t plain_segment(plain_history *h, const uint8_t *file, size_t end, int unsealed) {
    uint8_t salt[16];
    size_t at = BLOCK;
    memcpy(salt, file + 104, sizeof salt);
    h->compacted = vs_get32(file + 12) & 1;
    h->first_seqno = h->at.last_seqno + 1;
    h->at.point_seqno = h->at.state_volume = h->at.piece_end = 0;
    for (size_t n; (n = plain_batch(h, file, at, end, salt, unsealed)) > 0;) at += n;
    if (h->segment_count == PLAIN_SEGMENTS_MAX) h->overflow = 1;
    else h->segments[h->segment_count++] = (plain_segment_facts){h->at.last_seqno, h->compacted ? vs_get64(file + 144) : 0};
    return at;
}

int plain_point(const plain_history *h, uint64_t seqno) {
    int listed = 0;
    if (seqno < h->at.floor_seqno) return 0;
    for (size_t i = 0; i < h->at.points; i++) listed |= h->points[i] == seqno;
    for (size_t i = 0; i < h->segment_count; i++) {
        const plain_segment_facts *s = &h->segments[i];
        if (seqno <= s->last_seqno) return !s->until_seqno || listed;
        if (seqno < s->until_seqno) return 0;
    }
    return 1;
}

int plain_points_agree(const plain_history *h) {
    for (size_t i = 0; i < h->at.points; i++)
        for (size_t k = 0; k < h->at.count; k++) {
            uint64_t seqno = h->records[k].seqno, time_ns = h->records[k].time_ns;
            if ((seqno < h->points[i]) != (time_ns < h->point_times[i]) || (seqno > h->points[i]) != (time_ns > h->point_times[i])) return 0;
        }
    return 1;
}

int plain_volume(const plain_history *h, uint32_t volume, uint64_t seqno, uint64_t *size_bytes) {
    int there = 0;
    for (size_t i = 0; i < h->at.count && h->records[i].seqno <= seqno; i++) {
        const plain_record *r = &h->records[i];
        if (r->volume != volume) continue;
        if (r->type == 3) there = 1;
        if (r->type == 5) there = 0;
        if (r->type == 3 || (r->type == 4 && there)) *size_bytes = r->b;
    }
    return there;
}

/* The record's bytes that fall into the window. */
static void play(const plain_record *r, uint64_t offset_bytes, uint8_t *buf, size_t length_bytes, uint8_t *bad) {
    uint64_t from = r->a, to = r->a + r->b, covered = covered_by(r), block = r->block;
    if (r->type == 4) {
        from = r->a < r->b ? r->a : r->b;
        to = r->a < r->b ? r->b : r->a;
    }
    if (r->type == 4 && r->flags & 4) return;
    if (r->type != 1) {
        for (uint64_t at = 0; at < length_bytes; at++)
            if (offset_bytes + at >= from && offset_bytes + at < to) buf[at] = bad[at] = 0;
        return;
    }
    for (uint64_t i = 0; i < covered; i++) {
        int zero = is_zero_block(r, covered, i);
        uint64_t begin = r->a - r->a % BLOCK + i * BLOCK, low = begin < from ? from : begin, high = begin + BLOCK < to ? begin + BLOCK : to;
        const uint8_t *bytes = r->file + block * BLOCK;
        if (!zero) block++;
        if (high <= offset_bytes || low >= offset_bytes + length_bytes) continue;
        int broken = !zero && vs_crc32c(bytes, BLOCK) != vs_get32(r->tail + 4 * i);
        for (uint64_t at = low; at < high; at++) {
            if (at < offset_bytes || at >= offset_bytes + length_bytes) continue;
            buf[at - offset_bytes] = zero ? 0 : bytes[at - begin];
            bad[at - offset_bytes] = (uint8_t)broken;
        }
    }
}

int plain_read(const plain_history *h, uint32_t volume, uint64_t seqno, uint64_t offset_bytes, uint8_t *buf, size_t length_bytes) {
    uint8_t bad[BLOCK] = {0};
    memset(buf, 0, length_bytes);
    for (size_t i = 0; i < h->at.count && h->records[i].seqno <= seqno; i++) {
        const plain_record *r = &h->records[i];
        if (r->volume == volume && (r->type == 1 || r->type == 2 || r->type == 4)) play(r, offset_bytes, buf, length_bytes, bad);
    }
    return memchr(bad, 1, length_bytes) != NULL;
}
