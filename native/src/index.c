/* index.c: the parser of batches, and what it leaves behind.
 *
 * Everything here comes from outside: each length is checked against what is left before it is used, sums are checked
 * for overflow, and a batch is taken in whole or not at all (counts are set back on any error).
 */
#include "index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "room.h"

void vs_index_init(vs_index *x, uint64_t first_seqno, uint64_t time_before_ns) {
    memset(x, 0, sizeof *x);
    x->first_seqno = first_seqno;
    x->last_seqno = first_seqno - 1;
    x->last_time_ns = time_before_ns;
    x->end_bytes = VS_BLOCK_BYTES;
}

void vs_index_free(vs_index *x) {
    if (!x) return;
    free(x->rows);
    free(x->events);
    free(x->points);
    free(x->lasts);
    for (int i = 0; i < VS_CRC_CHUNKS; i++) free(x->crc[i]);
    free(x);
}

uint32_t vs_index_crc(const vs_index *x, uint64_t block) {
    uint64_t chunk = block / VS_CRC_CHUNK;
    if (chunk >= VS_CRC_CHUNKS || !x->crc[chunk]) return 0;
    return x->crc[chunk][block % VS_CRC_CHUNK];
}

static int crc_put(vs_index *x, uint64_t block, uint32_t crc) {
    uint64_t chunk = block / VS_CRC_CHUNK;
    if (chunk >= VS_CRC_CHUNKS) return -EFBIG;
    if (!x->crc[chunk]) {
        uint32_t *fresh = calloc(VS_CRC_CHUNK, sizeof *fresh);
        if (!fresh) return -ENOMEM;
        x->crc[chunk] = fresh;
    }
    x->crc[chunk][block % VS_CRC_CHUNK] = crc;
    return 0;
}

static int row_put(vs_index *x, const vs_row *row) {
    int r = vs_room(&x->rows, &x->row_room, x->row_count, 1, sizeof *x->rows);
    if (r == 0) x->rows[x->row_count++] = *row;
    return r;
}

static int event_put(vs_index *x, uint64_t seqno, const uint8_t *record, size_t record_bytes) {
    size_t total = (8 + record_bytes + 7) & ~(size_t)7;
    int r = vs_room(&x->events, &x->event_room, x->event_bytes, total, 1);
    if (r < 0) return r;
    uint8_t *p = x->events + x->event_bytes;
    memset(p, 0, total);
    vs_put64(p, seqno);
    memcpy(p + 8, record, record_bytes);
    x->event_bytes += total;
    return 0;
}

static int bit(const uint8_t *bitmap, uint64_t i) {
    return bitmap && (bitmap[i / 8] >> (i % 8) & 1);
}

/* A write's tail: CRCs, then maybe a bitmap of zero blocks. Cut it into rows. *block is the next payload block of the file. */
static int write_put(vs_index *x, vs_row row, const uint8_t *tail, uint32_t tail_bytes, uint32_t flags, uint64_t *block) {
    uint64_t head = row.offset_bytes % VS_BLOCK_BYTES;
    uint64_t covered = (head + row.length_bytes + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES;
    uint64_t bitmap_bytes = flags & VS_RECORD_HAS_BITMAP ? (covered + 7) / 8 : 0;
    if (row.length_bytes > VS_WRITE_MAX || covered * 4 + bitmap_bytes != tail_bytes) return -EBADMSG;
    const uint8_t *bitmap = bitmap_bytes ? tail + covered * 4 : NULL;
    uint64_t end = row.offset_bytes + row.length_bytes;
    for (uint64_t i = 0; i < covered;) {
        int zero = bit(bitmap, i);
        uint64_t first = i, first_block = *block;
        for (; i < covered && bit(bitmap, i) == zero; i++) {
            if (zero) continue;
            int r = crc_put(x, (*block)++, vs_get32(tail + i * 4));
            if (r < 0) return r;
        }
        uint64_t from = first ? row.offset_bytes - head + first * VS_BLOCK_BYTES : row.offset_bytes;
        uint64_t to = row.offset_bytes - head + i * VS_BLOCK_BYTES;
        vs_row piece = row;
        piece.offset_bytes = from;
        piece.length_bytes = (to < end ? to : end) - from;
        piece.block = zero ? 0 : first_block;
        int r = row_put(x, &piece);
        if (r < 0) return r;
    }
    return 0;
}

/* Records are told apart by their seqnos. Where some were left out, the next one's is said; and the time of the last one, where the segment ends with it. */
static int go_to(vs_index *x, const uint8_t *p) {
    uint64_t next_seqno = vs_get64(p + 16), time_ns = vs_get64(p + 24);
    if (vs_get32(p + 4) || next_seqno <= x->last_seqno + 1) return -EBADMSG;
    if (time_ns) {
        if (time_ns <= x->last_time_ns) return -EBADMSG;
        x->last_time_ns = time_ns;
    }
    x->last_seqno = next_seqno - 1;
    return 0;
}

static int point_put(vs_index *x, const uint8_t *p) {
    const vs_index_point *before = x->point_count ? &x->points[x->point_count - 1] : NULL;
    vs_index_point fresh = {vs_get64(p + 16), vs_get64(p + 24)};
    if (vs_get32(p + 4) || fresh.seqno < x->first_seqno || fresh.seqno > x->last_seqno || fresh.time_ns > x->last_time_ns) return -EBADMSG;
    if (before && (fresh.seqno <= before->seqno || fresh.time_ns <= before->time_ns)) return -EBADMSG;
    int r = vs_room(&x->points, &x->point_room, x->point_count, 1, sizeof *x->points);
    if (r == 0) x->points[x->point_count++] = fresh;
    return r;
}

static int last_put(vs_index *x, const uint8_t *p) {
    vs_index_last fresh = {vs_get32(p + 4), vs_get64(p + 16), vs_get64(p + 24)};
    if (fresh.volume == 0 || (x->last_count && x->lasts[x->last_count - 1].volume >= fresh.volume)) return -EBADMSG;
    if (fresh.seqno > x->last_seqno || fresh.time_ns > x->last_time_ns) return -EBADMSG;
    int r = vs_room(&x->lasts, &x->last_room, x->last_count, 1, sizeof *x->lasts);
    if (r == 0) x->lasts[x->last_count++] = fresh;
    return r;
}

static int is_note(uint32_t type) {
    return type == VS_RECORD_GO_TO || type == VS_RECORD_POINT || type == VS_RECORD_STATE;
}

/* What only compacted segments have, and is no record: it has neither seqno nor time. */
static int note_put(vs_index *x, const uint8_t *p) {
    if (!x->compacted || p[1] || vs_get64(p + 8) || vs_get32(p + 32) || vs_get64(p + 16) > VS_OFFSET_MAX || vs_get64(p + 24) > VS_OFFSET_MAX) return -EBADMSG;
    x->piece_end = 0;
    return p[0] == VS_RECORD_GO_TO ? go_to(x, p) : p[0] == VS_RECORD_POINT ? point_put(x, p) : last_put(x, p);
}

/* A record's seqno and time, or those of the record before that it is a piece of. */
static int order_check(vs_index *x, const vs_row *row, uint32_t type, uint32_t flags) {
    int extent = type == VS_RECORD_WRITE || type == VS_RECORD_ZERO;
    if (flags & VS_RECORD_FURTHER) {
        if (!extent || x->piece_end == 0 || row->volume != x->piece_volume || row->time_ns != x->last_time_ns || row->offset_bytes < x->piece_end)
            return -EBADMSG;
    } else if (row->time_ns <= x->last_time_ns) {
        return -EBADMSG;
    }
    x->last_time_ns = row->time_ns;
    x->piece_end = x->compacted && extent ? row->offset_bytes + row->length_bytes : 0;
    x->piece_volume = (uint32_t)row->volume;
    return 0;
}

static int flags_are_known(const vs_index *x, uint32_t type, uint32_t flags) {
    if (!x->compacted || flags <= VS_RECORD_HAS_BITMAP) return flags <= VS_RECORD_HAS_BITMAP;
    return type == VS_RECORD_VOLUME_RESIZE ? flags == VS_RECORD_SIZE_ALONE : flags <= (VS_RECORD_HAS_BITMAP | VS_RECORD_FURTHER);
}

static int record_put(vs_index *x, uint64_t seqno, const uint8_t *p, size_t bytes, uint64_t *block) {
    uint32_t type = p[0], flags = p[1], volume = vs_get32(p + 4), tail_bytes = vs_get32(p + 32);
    uint64_t time_ns = vs_get64(p + 8), a = vs_get64(p + 16), b = vs_get64(p + 24);
    vs_row row = {.seqno = seqno, .time_ns = time_ns, .volume = volume, .offset_bytes = a, .length_bytes = b};
    if (a > VS_OFFSET_MAX || b > VS_OFFSET_MAX || !flags_are_known(x, type, flags)) return -EBADMSG;
    int r = order_check(x, &row, type, flags);
    if (r < 0) return r;
    switch (type) {
    case VS_RECORD_WRITE:
        return b == 0 || volume == 0 ? -EBADMSG : write_put(x, row, p + VS_RECORD_HEAD, tail_bytes, flags, block);
    case VS_RECORD_ZERO:
        return b == 0 || volume == 0 || tail_bytes ? -EBADMSG : row_put(x, &row);
    case VS_RECORD_VOLUME_RESIZE:
        if (volume == 0 || a == b) return -EBADMSG;
        row.offset_bytes = a < b ? a : b;
        row.length_bytes = (a < b ? b : a) - row.offset_bytes;
        if (!(flags & VS_RECORD_SIZE_ALONE) && row_put(x, &row) < 0) return -ENOMEM;
        return event_put(x, seqno, p, bytes);
    case VS_RECORD_VOLUME_ADD:
    case VS_RECORD_VOLUME_REMOVE:
        if (volume == 0) return -EBADMSG;
        return event_put(x, seqno, p, bytes);
    case VS_RECORD_BOOKMARK_ADD:
        if (a == 0 || a > seqno) return -EBADMSG;
        return event_put(x, seqno, p, bytes);
    case VS_RECORD_FLOOR:
        if (a == 0 || a >= seqno) return -EBADMSG;
        if (a > x->floor_seqno) x->floor_seqno = a;
        return event_put(x, seqno, p, bytes);
    case VS_RECORD_BOOKMARK_REMOVE:
    case VS_RECORD_BOOKMARK_HOLD:
    case VS_RECORD_GAP_BEGIN:
    case VS_RECORD_GAP_END:
        return event_put(x, seqno, p, bytes);
    default:
        return -EBADMSG;
    }
}

uint32_t vs_descriptor_count(const uint8_t *p, const uint8_t salt[16], uint64_t next_seqno) {
    if (vs_get32(p) != VS_MAGIC_DESCRIPTOR || memcmp(p + 8, salt, 16) != 0 || !vs_block_check(p)) return 0;
    if (vs_get16(p + 4) != 0 || vs_get64(p + 24) != next_seqno) return 0;
    return vs_get16(p + 6);
}

int vs_descriptor_is_later(const uint8_t *p, const uint8_t salt[16], uint64_t next_seqno) {
    uint64_t first = vs_get64(p + 24);
    int begins = vs_get16(p + 4) == 0; /* behind a checkpoint, which has no record, the same seqno comes again */
    return vs_get32(p) == VS_MAGIC_DESCRIPTOR && memcmp(p + 8, salt, 16) == 0 && (first > next_seqno || (first == next_seqno && begins)) &&
           vs_block_check(p);
}

/* Join the streams of all descriptors; they must agree about the batch. */
static int stream_join(const uint8_t *descriptors, uint32_t count, const uint8_t salt[16], uint64_t next_seqno, uint8_t *out, size_t *bytes) {
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *d = descriptors + (size_t)i * VS_BLOCK_BYTES;
        uint32_t here = vs_get32(d + 48);
        if (vs_get32(d) != VS_MAGIC_DESCRIPTOR || vs_get16(d + 4) != i || vs_get16(d + 6) != count || memcmp(d + 8, salt, 16) != 0 ||
            vs_get64(d + 24) != next_seqno || memcmp(d + 32, descriptors + 32, 16) != 0 || here > VS_DESCRIPTOR_STREAM_MAX ||
            !vs_block_check(d))
            return -EBADMSG;
        memcpy(out + used, d + VS_DESCRIPTOR_HEAD, here);
        used += here;
    }
    *bytes = used;
    return 0;
}

static int stream_parse(vs_index *x, const uint8_t *stream, size_t bytes, uint32_t records, uint64_t *block) {
    size_t at = 0;
    for (uint32_t i = 0; i < records; i++) {
        if (bytes - at < VS_RECORD_HEAD) return -EBADMSG;
        uint32_t tail_bytes = vs_get32(stream + at + 32);
        if (tail_bytes > VS_BODY_MAX) return -EBADMSG;
        size_t total = vs_record_bytes(tail_bytes);
        if (bytes - at < total) return -EBADMSG;
        const uint8_t *p = stream + at;
        if (!is_note(p[0]) && !(p[1] & VS_RECORD_FURTHER)) x->last_seqno++;
        int r = is_note(p[0]) ? note_put(x, p) : record_put(x, x->last_seqno, p, total, block);
        if (r < 0) return r;
        at += total;
    }
    return at == bytes ? 0 : -EBADMSG;
}

/* Checksums too: where payload was, descriptors may stand next, which have none. */
void vs_index_roll_back(vs_index *x, const vs_index *before, uint64_t end_block) {
    x->row_count = before->row_count;
    x->event_bytes = before->event_bytes;
    x->point_count = before->point_count;
    x->last_count = before->last_count;
    x->last_seqno = before->last_seqno;
    x->last_time_ns = before->last_time_ns;
    x->applied_seqno = before->applied_seqno;
    x->floor_seqno = before->floor_seqno;
    x->end_bytes = before->end_bytes;
    x->piece_end = before->piece_end;
    x->piece_volume = before->piece_volume;
    for (uint64_t b = before->end_bytes / VS_BLOCK_BYTES; b < end_block && b / VS_CRC_CHUNK < VS_CRC_CHUNKS; b++)
        if (x->crc[b / VS_CRC_CHUNK]) x->crc[b / VS_CRC_CHUNK][b % VS_CRC_CHUNK] = 0;
}

int vs_index_add_batch(vs_index *x, const uint8_t *descriptors, uint32_t count, const uint8_t salt[16], uint64_t limit_bytes,
                       uint64_t *payload_blocks) {
    uint64_t payload = vs_get32(descriptors + 40);
    uint64_t end = x->end_bytes + ((uint64_t)count + payload) * VS_BLOCK_BYTES;
    if (end > limit_bytes) return -EBADMSG;
    uint8_t *stream = malloc((size_t)count * VS_DESCRIPTOR_STREAM_MAX);
    if (!stream) return -ENOMEM;
    size_t bytes = 0;
    vs_index before = *x;
    uint64_t first_block = x->end_bytes / VS_BLOCK_BYTES + count, block = first_block;
    int r = stream_join(descriptors, count, salt, x->last_seqno + 1, stream, &bytes);
    if (r == 0) r = stream_parse(x, stream, bytes, vs_get32(descriptors + 44), &block);
    if (r == 0 && block - first_block != payload) r = -EBADMSG;
    free(stream);
    if (r < 0) {
        vs_index_roll_back(x, &before, block);
        return r;
    }
    x->applied_seqno = vs_get64(descriptors + 32);
    x->end_bytes = end;
    *payload_blocks = payload;
    return 0;
}

size_t vs_event_parse(const uint8_t *p, size_t left, vs_event *e, const uint8_t **body) {
    if (left < 8 + VS_RECORD_HEAD) return 0;
    const uint8_t *record = p + 8;
    uint32_t body_bytes = vs_get32(record + 32);
    if (body_bytes > VS_BODY_MAX) return 0;
    size_t total = (8 + vs_record_bytes(body_bytes) + 7) & ~(size_t)7;
    if (left < total) return 0;
    *e = (vs_event){.seqno = vs_get64(p), .time_ns = vs_get64(record + 8), .a = vs_get64(record + 16), .b = vs_get64(record + 24),
                    .type = record[0], .volume = vs_get32(record + 4), .body_bytes = body_bytes};
    *body = record + VS_RECORD_HEAD;
    return total;
}

vs_volume_state *vs_states_find(const vs_states *s, uint32_t volume) {
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->volumes[mid].id < volume) low = mid + 1;
        else high = mid;
    }
    return low < s->count && s->volumes[low].id == volume ? &s->volumes[low] : NULL;
}

vs_volume_state *vs_states_add(vs_states *s, uint32_t volume) {
    if (vs_room(&s->volumes, &s->room, s->count, 1, sizeof *s->volumes) < 0) return NULL;
    size_t at = s->count;
    while (at > 0 && s->volumes[at - 1].id > volume) at--;
    memmove(s->volumes + at + 1, s->volumes + at, (s->count - at) * sizeof *s->volumes);
    s->count++;
    s->volumes[at] = (vs_volume_state){.id = volume};
    return &s->volumes[at];
}

static int event_fold(vs_states *s, const vs_event *e) {
    vs_volume_state *v = vs_states_find(s, e->volume);
    switch (e->type) {
    case VS_RECORD_VOLUME_ADD:
        if (!v && !(v = vs_states_add(s, e->volume))) return -ENOMEM;
        *v = (vs_volume_state){.id = e->volume, .size_bytes = e->b, .added_seqno = e->seqno, .last_write_seqno = e->seqno,
                               .last_write_ns = e->time_ns};
        return 0;
    case VS_RECORD_VOLUME_RESIZE:
        if (v) v->size_bytes = e->b;
        return 0;
    case VS_RECORD_VOLUME_REMOVE:
        if (v) v->removed = 1;
        return 0;
    default:
        return 0;
    }
}

int vs_states_fold(vs_states *s, const vs_row *rows, size_t row_count, const uint8_t *events, size_t event_bytes, uint64_t until) {
    vs_event e;
    const uint8_t *body;
    for (size_t at = 0, n; at < event_bytes; at += n) {
        n = vs_event_parse(events + at, event_bytes - at, &e, &body);
        if (n == 0) return -EBADMSG;
        if (e.seqno > until) break;
        int r = event_fold(s, &e);
        if (r < 0) return r;
    }
    vs_volume_state *v = NULL;
    for (size_t i = 0; i < row_count && rows[i].seqno <= until; i++) {
        if (!v || v->id != rows[i].volume) v = vs_states_find(s, (uint32_t)rows[i].volume);
        if (!v) continue;
        v->last_write_seqno = rows[i].seqno;
        v->last_write_ns = rows[i].time_ns;
    }
    return 0;
}

void vs_states_fold_lasts(vs_states *s, const vs_index *x) {
    for (size_t i = 0; i < x->last_count; i++) {
        vs_volume_state *v = vs_states_find(s, (uint32_t)x->lasts[i].volume);
        if (!v || x->lasts[i].seqno <= v->last_write_seqno) continue;
        v->last_write_seqno = x->lasts[i].seqno;
        v->last_write_ns = x->lasts[i].time_ns;
    }
}

void vs_states_clear(vs_states *s) {
    free(s->volumes);
    memset(s, 0, sizeof *s);
}

int vs_rows_map(const vs_row *rows, size_t row_count, uint32_t volume, uint64_t since, uint64_t until, vs_extent_map **out) {
    vs_extent_map *m = NULL;
    int r = vs_extent_map_new(&m);
    for (size_t i = 0; r == 0 && i < row_count && rows[i].seqno <= until; i++) {
        if (rows[i].volume != volume || rows[i].seqno <= since) continue;
        vs_extent e = {rows[i].offset_bytes, rows[i].length_bytes, rows[i].block};
        r = vs_extent_map_put(m, &e);
    }
    if (r < 0) {
        vs_extent_map_free(m);
        return r;
    }
    *out = m;
    return 0;
}
