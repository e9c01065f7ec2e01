/* repair.c: see repair.h. Positions are those of native/FORMAT.md. */
#include "repair.h"

#include <openssl/sha.h>
#include <string.h>

#include "codec.h"

enum { BLOCK = 4096, STREAM_MAX = 4040 };

uint32_t fuzz_random(uint32_t *state) {
    uint32_t x = *state ? *state : 0x9E3779B9u;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

static int mostly(uint32_t *state) {
    return fuzz_below(state, 8) != 0;
}

void fuzz_field(uint8_t *field, size_t bytes, uint32_t *state) {
    static const uint64_t interesting[] = {0,    1,     2,         7,          8,          128,        4040,         4041,
                                           4095, 4096,  4097,      32768,      32769,      65535,      1 << 20,      (1 << 20) + 1,
                                           1u << 31, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 62, (UINT64_C(1) << 62) + 1,
                                           UINT64_C(1) << 63, UINT64_MAX - 4095, UINT64_MAX - 1, UINT64_MAX};
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint64_t)field[i] << (8 * i);
    switch (fuzz_below(state, 5)) {
    case 0: v = interesting[fuzz_below(state, sizeof interesting / sizeof interesting[0])]; break;
    case 1: v += 1 + fuzz_below(state, 8); break;
    case 2: v -= 1 + fuzz_below(state, 8); break;
    case 3: v ^= UINT64_C(1) << fuzz_below(state, (uint32_t)bytes * 8); break;
    default: v = fuzz_below(state, 2) ? v << 12 : v >> 1;
    }
    for (size_t i = 0; i < bytes; i++) field[i] = (uint8_t)(v >> (8 * i));
}

/* ---- segments ---- */

static int is_descriptor(const uint8_t *block) {
    return memcmp(block, "VSDB", 4) == 0;
}

/* A writable walk over the record stream of a batch that may stand in several descriptors: byte i of it. */
static uint8_t *stream_at(uint8_t *batch, size_t i) {
    return batch + i / STREAM_MAX * BLOCK + 52 + i % STREAM_MAX;
}

static uint32_t stream_get32(uint8_t *batch, size_t i) {
    return (uint32_t)*stream_at(batch, i) | (uint32_t)*stream_at(batch, i + 1) << 8 | (uint32_t)*stream_at(batch, i + 2) << 16 |
           (uint32_t)*stream_at(batch, i + 3) << 24;
}

static uint64_t stream_get64(uint8_t *batch, size_t i) {
    return stream_get32(batch, i) | (uint64_t)stream_get32(batch, i + 4) << 32;
}

static void stream_put32(uint8_t *batch, size_t i, uint32_t v) {
    for (size_t k = 0; k < 4; k++) *stream_at(batch, i + k) = (uint8_t)(v >> (8 * k));
}

typedef struct walk {
    uint8_t *file;
    size_t size_bytes;
    int compacted;
    uint64_t seqno, last_time_ns; /* seqno: of the next record */
} walk;

/* Payload CRCs of one write record at i of the stream; returns its payload blocks. */
static uint64_t repair_write(walk *w, uint8_t *batch, size_t i, size_t stream_bytes, uint64_t block, uint32_t *state) {
    uint64_t a = stream_get64(batch, i + 16), b = stream_get64(batch, i + 24), used = 0;
    if (b > 1 << 20) return 0;
    uint64_t covered = (a % BLOCK + b + BLOCK - 1) / BLOCK;
    int bitmap = *stream_at(batch, i + 1) & 1;
    uint32_t tail = (uint32_t)(covered * 4 + (bitmap ? (covered + 7) / 8 : 0));
    if (mostly(state)) stream_put32(batch, i + 32, tail);
    if (i + 36 + tail > stream_bytes) return 0;
    for (uint64_t k = 0; k < covered; k++) {
        if (bitmap && *stream_at(batch, i + 36 + covered * 4 + k / 8) >> (k % 8) & 1) continue;
        uint64_t at = (block + used++) * BLOCK;
        if (at + BLOCK <= w->size_bytes && mostly(state)) stream_put32(batch, i + 36 + k * 4, vs_crc32c(w->file + at, BLOCK));
    }
    return used;
}

static void stream_put64(uint8_t *batch, size_t i, uint64_t v) {
    stream_put32(batch, i, (uint32_t)v);
    stream_put32(batch, i + 4, (uint32_t)(v >> 32));
}

/* Seqno and time of the record at i of the stream: of the next record, of a piece more of the last one, or of none. */
static void repair_order(walk *w, uint8_t *batch, size_t i, uint32_t *state) {
    uint32_t type = *stream_at(batch, i);
    uint64_t time_ns = stream_get64(batch, i + 8);
    if (w->compacted && type >= 11 && type <= 13) {
        if (mostly(state)) stream_put64(batch, i + 8, 0);
        if (type != 11) return;
        if (stream_get64(batch, i + 16) <= w->seqno && mostly(state)) stream_put64(batch, i + 16, w->seqno + 1 + fuzz_below(state, 3));
        if (stream_get64(batch, i + 24) && stream_get64(batch, i + 24) <= w->last_time_ns && mostly(state)) stream_put64(batch, i + 24, w->last_time_ns + 1);
        w->seqno = stream_get64(batch, i + 16);
        if (stream_get64(batch, i + 24)) w->last_time_ns = stream_get64(batch, i + 24);
        return;
    }
    if (w->compacted && *stream_at(batch, i + 1) & 2) {
        if (mostly(state)) stream_put64(batch, i + 8, w->last_time_ns);
        return;
    }
    if (time_ns <= w->last_time_ns && mostly(state)) stream_put64(batch, i + 8, time_ns = w->last_time_ns + 1);
    w->last_time_ns = time_ns;
    w->seqno++;
}

/* The batch at `at`; returns its length. */
static size_t repair_batch(walk *w, size_t at, const uint8_t *salt, uint32_t *state) {
    uint8_t *batch = w->file + at;
    size_t count = 1, stream_bytes = 0, i = 0;
    while (at + (count + 1) * BLOCK <= w->size_bytes && is_descriptor(batch + count * BLOCK) && vs_get16(batch + count * BLOCK + 4) == count) count++;
    for (size_t k = 0; k < count; k++) {
        uint32_t here = vs_get32(batch + k * BLOCK + 48);
        if (k + 1 < count && here != STREAM_MAX) here = STREAM_MAX;
        stream_bytes += here > STREAM_MAX ? STREAM_MAX : here;
    }
    uint64_t first_block = at / BLOCK + count, block = first_block;
    uint32_t records = 0;
    uint64_t first_seqno = w->seqno;
    while (i + 36 <= stream_bytes) {
        if (*stream_at(batch, i) == 1) block += repair_write(w, batch, i, stream_bytes, block, state);
        repair_order(w, batch, i, state);
        size_t whole = 36 + ((size_t)(stream_get32(batch, i + 32) & 0xffff) + 3) / 4 * 4;
        if (whole > stream_bytes - i) break;
        i += whole;
        records++;
    }
    int agree = mostly(state);
    for (size_t k = 0; k < count; k++) {
        uint8_t *d = batch + k * BLOCK;
        if (agree) {
            vs_put16(d + 4, (uint16_t)k);
            vs_put16(d + 6, (uint16_t)count);
            memcpy(d + 8, salt, 16);
            vs_put64(d + 24, first_seqno);
            memcpy(d + 32, batch + 32, 8);
            vs_put32(d + 40, (uint32_t)(block - first_block));
            vs_put32(d + 44, records);
            size_t left = i - (i < k * STREAM_MAX ? i : k * STREAM_MAX);
            vs_put32(d + 48, (uint32_t)(left < STREAM_MAX ? left : STREAM_MAX));
        }
        if (mostly(state)) vs_block_seal(d);
    }
    return (size_t)(block - first_block + count) * BLOCK;
}

static void repair_sections(uint8_t *file, size_t size_bytes, uint8_t *trailer, uint32_t *state) {
    for (int i = 0; i < (vs_get32(file + 12) & 1 ? 6 : 5); i++) {
        uint8_t *p = trailer + (i < 5 ? 144 + i * 24 : 344);
        uint64_t at = vs_get64(p), length = vs_get64(p + 8);
        if (at > size_bytes || length > size_bytes - at) continue;
        if (i == 0 && fuzz_below(state, 2)) repair_packed(file + at, (size_t)length, state);
        if (i == 1 && length >= 32) {
            uint64_t table = vs_get64(file + at + 16), bytes = vs_get64(file + at + 24);
            if (table < length && bytes <= length - table && fuzz_below(state, 2)) repair_packed(file + at + table, (size_t)bytes, state);
        }
        if (mostly(state)) vs_put32(p + 16, vs_crc32c(file + at, (size_t)length));
    }
}

void repair_segment(uint8_t *file, size_t size_bytes, const uint8_t *before, uint8_t *digest, uint32_t *state) {
    if (size_bytes < BLOCK) return;
    int compacted = vs_get32(file + 12) & 1;
    walk w = {file, size_bytes, compacted, vs_get64(file + 48), vs_get64(file + 64)};
    int sealed = size_bytes >= 2 * BLOCK && size_bytes % BLOCK == 0 && memcmp(file + size_bytes - BLOCK, "VSNAPEND", 8) == 0;
    uint8_t *trailer = file + size_bytes - BLOCK;
    if (before && mostly(state)) memcpy(file + 72, before, 32);
    vs_block_seal(file);
    size_t at = BLOCK, end = sealed ? size_bytes - BLOCK : size_bytes;
    while (at + BLOCK <= end && is_descriptor(file + at)) at += repair_batch(&w, at, file + 104, state);
    if (!sealed) return;
    if (mostly(state)) {
        vs_put64(trailer + 32, vs_get64(file + 40));
        vs_put64(trailer + 40, vs_get64(file + 48));
        vs_put64(trailer + 48, w.seqno - 1);
        vs_put64(trailer + 56, w.last_time_ns);
        vs_put64(trailer + 264, vs_get64(file + 64));
        memcpy(trailer + 80, file + 72, 32);
        memcpy(trailer + 16, file + 24, 16);
        memcpy(trailer + 272, file + 104, 16);
        memcpy(trailer + 12, file + 12, 4);
    }
    if (compacted && mostly(state)) {
        memcpy(trailer + 288, file + 120, 24);
        memcpy(trailer + 376, file + 144, 8);
    }
    uint64_t data_end = vs_get64(trailer + 64);
    if (data_end <= size_bytes && mostly(state)) SHA256(file, (size_t)data_end, trailer + 112);
    repair_sections(file, size_bytes, trailer, state);
    if (mostly(state)) vs_block_seal(trailer);
    if (digest) memcpy(digest, trailer + (compacted ? 312 : 112), 32);
}

/* ---- tables and what holds them ---- */

void repair_packed(uint8_t *table, size_t size_bytes, uint32_t *state) {
    if (size_bytes < 40) return;
    uint64_t rows = vs_get64(table);
    uint32_t columns = vs_get32(table + 8);
    if (columns == 0 || columns > 8) columns = 4;
    if (rows > 4096) rows %= 4096;
    uint64_t groups = (rows + 127) / 128;
    size_t head = 24 + (size_t)groups * 16 + 8;
    if (head + 8 > size_bytes) return;
    vs_put64(table, rows);
    vs_put32(table + 8, columns);
    vs_put32(table + 12, 128);
    vs_put64(table + 16, groups);
    uint8_t *starts = table + 24 + groups * 8, *data = table + head;
    size_t at = 0;
    for (uint64_t g = 0; g < groups; g++) {
        uint64_t in_group = rows - g * 128 < 128 ? rows - g * 128 : 128;
        uint8_t *group = data + at;
        size_t bits = (size_t)columns * 10;
        if (head + at + bits + 8 > size_bytes) return;
        if (mostly(state)) vs_put64(starts + g * 8, at);
        for (uint32_t c = 0; c < columns; c++) {
            uint8_t *column = group + c * 10;
            if (column[8] > 63) column[8] &= 63;
            if (column[9] > 64) column[9] &= 63;
            if (column[8] + column[9] > 64) column[8] = (uint8_t)(64 - column[9]) & 63;
            bits += (in_group * column[9] + 7) / 8;
        }
        if (head + at + bits + 8 > size_bytes) return;
        uint64_t first = 0;
        unsigned width = group[9];
        for (unsigned k = 0; k < width; k++) first |= (uint64_t)(group[columns * 10 + k / 8] >> (k % 8) & 1) << k;
        vs_put64(table + 24 + g * 8, vs_get64(group) + (width ? first << group[8] : 0));
        at += bits;
    }
    if (mostly(state)) vs_put64(starts + groups * 8, at);
    if (mostly(state)) memset(data + at, 0, size_bytes - head - at);
}

void repair_map(uint8_t *file, size_t size_bytes, const uint8_t *last_digest, uint32_t *state) {
    if (size_bytes < BLOCK) return;
    uint32_t volumes = vs_get32(file + 104);
    if (mostly(state)) vs_put64(file + 96, size_bytes);
    if (last_digest && mostly(state)) memcpy(file + 64, last_digest, 32);
    if (volumes > (size_bytes - BLOCK) / 32) volumes = (uint32_t)((size_bytes - BLOCK) / 32);
    for (uint32_t i = 0; i < volumes; i++) {
        uint8_t *row = file + BLOCK + i * 32;
        uint64_t at = vs_get64(row + 8), length = vs_get64(row + 16);
        if (at > size_bytes || length > size_bytes - at) continue;
        if (fuzz_below(state, 2)) repair_packed(file + at, (size_t)length, state);
        if (mostly(state)) vs_put32(row + 4, vs_crc32c(file + at, (size_t)length));
    }
    if (mostly(state)) vs_put32(file + 104, volumes);
    if (mostly(state)) vs_put32(file + 108, vs_crc32c(file + BLOCK, (size_t)volumes * 32));
    if (mostly(state)) vs_block_seal(file);
}

/* Where the patches of a base that was moved begin; 0: it has none, the map goes on to the end. */
static int repair_patches(uint8_t *file, size_t size_bytes, uint64_t at, uint32_t *state) {
    uint64_t count = vs_get64(file + 112);
    if (vs_get32(file + 12) != 1 || count == 0 || at > size_bytes || count > (size_bytes - at) / 8) return 0;
    if (mostly(state)) vs_put64(file + 104, at);
    if (mostly(state)) vs_put32(file + 120, vs_crc32c(file + at, (size_t)count * 8));
    return 1;
}

void repair_base(uint8_t *file, size_t size_bytes, uint32_t *state) {
    if (size_bytes < BLOCK) return;
    uint64_t size = vs_get64(file + 40), blocks = size / BLOCK + (size % BLOCK != 0), at = (BLOCK + 4 * blocks + 7) & ~UINT64_C(7);
    if (mostly(state)) vs_put64(file + 48, at);
    at = vs_get64(file + 48);
    if (mostly(state)) vs_put32(file + 12, vs_get32(file + 12) & 1);
    if (at <= size_bytes) {
        uint64_t length = vs_get64(file + 56);
        if (length > size_bytes - at || !repair_patches(file, size_bytes, at + length, state)) length = size_bytes - at;
        if (mostly(state)) vs_put64(file + 56, length);
        if (fuzz_below(state, 2)) repair_packed(file + at, (size_t)length, state);
        if (mostly(state)) vs_put32(file + 64, vs_crc32c(file + at, (size_t)length));
    }
    if (mostly(state)) vs_block_seal(file);
}

/* ---- mutations of images ---- */

typedef struct known_field {
    uint16_t at, bytes;
} known_field;

static const known_field descriptor_fields[] = {{4, 2}, {6, 2}, {24, 8}, {32, 8}, {40, 4}, {44, 4}, {48, 4}};
static const known_field record_fields[] = {{0, 1}, {1, 1}, {4, 4}, {8, 8}, {16, 8}, {24, 8}, {32, 4}};
static const known_field head_fields[] = {{8, 4},  {12, 4}, {20, 4}, {32, 8}, {40, 8}, {48, 8},  {56, 8},
                                          {64, 8}, {72, 8}, {80, 8}, {96, 8}, {104, 4}, {108, 4}, {264, 8}, {120, 8},
                                          {128, 8}, {136, 8}, {144, 8}, {288, 8}, {296, 8}, {304, 8}, {312, 8}, {368, 8}, {376, 8}};

#define PICK(fields) (&fields[fuzz_below(state, sizeof fields / sizeof fields[0])])

static void descriptor_change(uint8_t *d, uint32_t *state) {
    size_t at = 52, end = 52 + (vs_get32(d + 48) > STREAM_MAX ? STREAM_MAX : vs_get32(d + 48));
    const known_field *f = PICK(descriptor_fields);
    uint32_t skip = fuzz_below(state, 4);
    if (fuzz_below(state, 4) == 0) {
        fuzz_field(d + f->at, f->bytes, state);
        return;
    }
    for (; skip > 0; skip--) {
        size_t whole = 36 + ((size_t)(vs_get32(d + at + 32) & 0xffff) + 3) / 4 * 4;
        if (at + whole + 36 > end) break;
        at += whole;
    }
    f = PICK(record_fields);
    fuzz_field(d + at + f->at, f->bytes, state);
}

static void trailer_change(uint8_t *t, uint32_t *state) {
    if (fuzz_below(state, 2)) fuzz_field(t + (fuzz_below(state, 6) ? 144 + fuzz_below(state, 15) * 8 : 344 + fuzz_below(state, 3) * 8), 8, state);
    else {
        const known_field *f = PICK(head_fields);
        fuzz_field(t + f->at, f->bytes, state);
    }
}

static void block_change(uint8_t *block, size_t length, uint32_t *state) {
    if (length == BLOCK && is_descriptor(block) && mostly(state)) {
        descriptor_change(block, state);
    } else if (length == BLOCK && memcmp(block, "VSNAP", 5) == 0 && mostly(state)) {
        trailer_change(block, state);
    } else {
        size_t used = length;
        while (used > 0 && block[used - 1] == 0) used--;
        if (used < length) used += length - used < 16 ? length - used : 16;
        uint32_t places = used >= 8 ? (uint32_t)used - 7 : 0, place = places ? fuzz_below(state, places) : 0;
        if (places && fuzz_below(state, 2)) fuzz_field(block + (fuzz_below(state, 2) ? place : place & ~7u), 1u << fuzz_below(state, 4), state);
        else if (used) LLVMFuzzerMutate(block, used, used);
    }
}

static int file_of(const image *m, size_t at) {
    int file = 0;
    while (file + 1 < m->files && m->begin[file + 1] <= at) file++;
    return file;
}

static void blocks_insert(image *m, size_t at, uint32_t *state) {
    size_t end = m->begin[m->files];
    int file = file_of(m, at);
    if (end + BLOCK > sizeof m->bytes) return;
    uint8_t copy[BLOCK];
    size_t from = fuzz_below(state, (uint32_t)(end / BLOCK)) * BLOCK;
    memcpy(copy, m->bytes + from, BLOCK);
    memmove(m->bytes + at + BLOCK, m->bytes + at, end - at);
    memcpy(m->bytes + at, copy, BLOCK);
    for (int i = file + 1; i <= m->files; i++) m->begin[i] += BLOCK;
}

static void blocks_remove(image *m, size_t at) {
    size_t end = m->begin[m->files];
    int file = file_of(m, at);
    if (at + BLOCK > m->begin[file + 1]) return;
    memmove(m->bytes + at, m->bytes + at + BLOCK, end - at - BLOCK);
    for (int i = file + 1; i <= m->files; i++) m->begin[i] -= BLOCK;
}

void fuzz_image(image *m, uint32_t *state) {
    size_t end = m->begin[m->files], blocks = end / BLOCK;
    if (end == 0) return;
    size_t at = fuzz_below(state, (uint32_t)((end + BLOCK - 1) / BLOCK)) * BLOCK, length = end - at < BLOCK ? end - at : BLOCK;
    switch (fuzz_below(state, length < BLOCK ? 24 : 12) + (length < BLOCK ? 3 : 0)) {
    case 0: blocks_insert(m, at, state); break;
    case 1: blocks_remove(m, at); break;
    case 2: memmove(m->bytes + at, m->bytes + fuzz_below(state, (uint32_t)blocks) * BLOCK, BLOCK); break;
    default: block_change(m->bytes + at, length, state);
    }
}

size_t fuzz_mutate_image(uint8_t *data, size_t size, size_t room, uint32_t seed, repair_fn repair) {
    static image m;
    uint32_t state = seed * 2654435761u + 1;
    if (fuzz_below(&state, 4) == 0) return LLVMFuzzerMutate(data, size, room);
    image_decode(&m, data, size);
    if (m.files == 0) return LLVMFuzzerMutate(data, size, room);
    for (uint32_t i = 1 + fuzz_below(&state, 3); i > 0; i--) fuzz_image(&m, &state);
    if (mostly(&state)) repair(&m, &state);
    size_t n = image_encode(&m, data, room);
    return n ? n : LLVMFuzzerMutate(data, size, room);
}
