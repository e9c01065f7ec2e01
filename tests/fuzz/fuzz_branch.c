/* fuzz_branch.c: the log and the data of one volume of one layer.
 *
 *   input = u16 length of the log, log, then 8 bytes for each block of data, which is filled with them; what is left over is a piece of a block
 *
 * A second reader, as plain as can be (it tries every end of the log, from the last one down, and plays each from the beginning), says whether the
 * layer opens and what each block is. Then the layer is opened to be written to: it must hold the same, take a write, a zero and a sync, and hold that
 * when it is opened again.
 */
#include <errno.h>
#include <string.h>

#include "branch_internal.h"
#include "codec.h"
#include "ground.h"
#include "memory_store.h"
#include "repair.h"
#include "require.h"

enum { BLOCK = 4096, BLOCKS = 24, SIZE = (BLOCKS - 1) * BLOCK + 612, LAYER = 5, VOLUME = 3, RECORDS_MAX = 1024, DATA_MAX = 32, HEAD = 64, RECORD = 32 };

#define LOG "branches/layers/00000005/00000003.log"
#define DATA "branches/layers/00000005/00000003.data"

typedef struct plain_record {
    const uint8_t *at;
    uint64_t seq, first;
    uint32_t count, type, flags;
} plain_record;

typedef struct plain_block {
    uint32_t slot, crc; /* slot 0: zeros */
    int there;
    uint64_t seq; /* of the record */
} plain_block;

typedef struct plain {
    const uint8_t *log, *data;
    size_t log_bytes, data_bytes;
    plain_record records[RECORDS_MAX];
    int count;
    plain_block blocks[BLOCKS];
} plain;

/* ---- the second reader ---- */

static size_t plain_record_at(const plain *p, size_t at, plain_record *r) {
    const uint8_t *b = p->log + at;
    if (at + RECORD > p->log_bytes || vs_get32(b + 4) != vs_get32(p->log + 56)) return 0;
    *r = (plain_record){b, vs_get64(b + 8), vs_get64(b + 16), vs_get32(b + 24), b[28], b[29]};
    if (r->type < 1 || r->type > 3 || (r->type == 1 && r->count > 257)) return 0;
    size_t length = RECORD + (r->type == 1 ? (size_t)r->count * 8 : 0);
    return at + length <= p->log_bytes && vs_get32(b) == vs_crc32c(b + 4, length - 4) ? length : 0;
}

static int plain_head(const plain *p, const uint8_t *uuid) {
    const uint8_t *h = p->log;
    return p->log_bytes >= HEAD && memcmp(h, "VSNAPBRL", 8) == 0 && vs_get32(h + 60) == vs_crc32c(h, 60) && vs_get32(h + 8) == 1 && vs_get32(h + 12) == 0 &&
           memcmp(h + 16, uuid, 16) == 0 && vs_get32(h + 32) == LAYER && vs_get32(h + 36) == VOLUME && vs_get64(h + 40) == SIZE;
}

static const uint8_t *slot_bytes(const plain *p, uint32_t slot) {
    return (uint64_t)slot * BLOCK <= p->data_bytes ? p->data + (size_t)(slot - 1) * BLOCK : NULL;
}

static int block_matches(const plain *p, const plain_block *b) {
    const uint8_t *bytes = b->there && b->slot ? slot_bytes(p, b->slot) : NULL;
    return !b->there || !b->slot || (bytes && vs_crc32c(bytes, BLOCK) == b->crc);
}

static int is_taken(const plain *p, uint32_t slot) {
    for (int i = 0; i < BLOCKS; i++)
        if (p->blocks[i].there && p->blocks[i].slot == slot) return 1;
    return 0;
}

/* Returns how many slots were taken that somebody had. */
static int play(plain *p, int count) {
    int twice = 0;
    memset(p->blocks, 0, sizeof p->blocks);
    for (int i = 0; i < count; i++) {
        const plain_record *r = &p->records[i];
        for (uint32_t k = 0; r->type != 3 && k < r->count; k++) p->blocks[r->first + k] = (plain_block){0, 0, 1, r->seq};
        for (uint32_t k = 0; r->type == 1 && k < r->count; k++) {
            plain_block new = {vs_get32(r->at + RECORD + (size_t)k * 8), vs_get32(r->at + RECORD + (size_t)k * 8 + 4), 1, r->seq};
            if (new.slot && slot_bytes(p, new.slot)) twice += is_taken(p, new.slot);
            p->blocks[r->first + k] = new;
        }
    }
    return twice;
}

/* Is the map after so many records whole, behind what was synced? */
static int is_whole(plain *p, int count, uint64_t through) {
    if (count > 0 && p->records[count - 1].flags & 1) return 0;
    play(p, count);
    for (int i = 0; i < BLOCKS; i++)
        if (p->blocks[i].seq > through && !block_matches(p, &p->blocks[i])) return 0;
    return 1;
}

static int slots_are_there(const plain *p) {
    for (int i = 0; i < BLOCKS; i++)
        if (p->blocks[i].there && p->blocks[i].slot && !slot_bytes(p, p->blocks[i].slot)) return 0;
    return 1;
}

/* 1: the layer opens, and blocks are what it holds; 0: it is damaged; -1: it is too much for this reader. */
static int plain_open(plain *p, const uint8_t *uuid) {
    plain_record r;
    size_t at = HEAD, n;
    if (!plain_head(p, uuid)) return 0;
    uint64_t after = vs_get64(p->log + 48), through = after, seq = after;
    int synced = 0;
    for (p->count = 0; (n = plain_record_at(p, at, &r)) && r.seq == seq + 1; at += n, seq++) {
        if (p->count == RECORDS_MAX) return -1;
        int fits = r.type == 3 ? r.count == 0 && r.flags == 0 && r.first < r.seq && r.first >= through
                               : r.count > 0 && r.first < BLOCKS && r.count <= BLOCKS - r.first && r.flags <= 1;
        if (!fits) return 0;
        p->records[p->count++] = r;
        if (r.type == 3) through = r.first;
    }
    for (size_t behind = at; behind + RECORD <= p->log_bytes; behind += 8)
        if (plain_record_at(p, behind, &r) && r.type == 3 && r.first > seq) return 0;
    synced = (int)(through - after);
    int count = p->count;
    while (count > synced && !is_whole(p, count, through)) count--;
    if (count == synced && count > 0 && p->records[count - 1].flags & 1) return 0;
    return play(p, count) == 0 && slots_are_there(p);
}

/* ---- the core's ---- */

static int branch_open(vs_store *s, int writable, vs_branch **out) {
    vs_branch_options o = {.writable = writable, .rewrite_bytes = 512};
    const uint32_t layer = LAYER;
    REQUIRE(vs_branch_open_on(s, ground_uuid, &o, out) == 0, "a branch opens");
    int r = vs_branch_volume(*out, VOLUME, SIZE, NULL, &layer, 1);
    if (r < 0) REQUIRE(vs_branch_close(*out) == 0, "it closes");
    return r;
}

static void compare(vs_branch *b, const plain *p) {
    static const uint8_t zeros[BLOCK];
    uint8_t read[BLOCK];
    uint64_t used = 0;
    vs_branch_facts facts;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        const plain_block *block = &p->blocks[i];
        const uint8_t *want = block->there && block->slot ? slot_bytes(p, block->slot) : zeros;
        int64_t n = vs_branch_read(b, VOLUME, (uint64_t)i * BLOCK, read, BLOCK);
        used += block->there && block->slot;
        REQUIRE((n == -EBADMSG) == !block_matches(p, block), "what does not match is not read, and only that");
        if (n >= 0) REQUIRE(n == (i == BLOCKS - 1 ? SIZE % BLOCK : BLOCK) && memcmp(read, want, (size_t)n) == 0, "a block is as a second reader says");
    }
    vs_branch_facts_get(b, &facts);
    REQUIRE(facts.used_bytes == used * BLOCK, "it uses what its map says");
}

static void go_on(vs_store *s, const plain *p) {
    static uint8_t before[SIZE], after[SIZE];
    vs_branch *b;
    REQUIRE(branch_open(s, 1, &b) == 0, "what is read can be written to");
    compare(b, p);
    memset(before, 0xc3, sizeof before);
    REQUIRE(vs_branch_write(b, VOLUME, 2 * BLOCK, before, 3 * BLOCK) == 3 * BLOCK, "a write is made");
    REQUIRE(vs_branch_sync(b, 0) == 0, "a sync is made");
    REQUIRE(vs_branch_zero(b, VOLUME, 4 * BLOCK, 15 * BLOCK) == 0, "a zero is made");
    REQUIRE(vs_branch_write(b, VOLUME, 0, before, BLOCK) == BLOCK, "a write is made");
    int64_t n = vs_branch_read(b, VOLUME, 0, before, SIZE), again;
    REQUIRE(vs_branch_close(b) == 0, "it closes");
    REQUIRE(branch_open(s, 1, &b) == 0, "it opens again");
    again = vs_branch_read(b, VOLUME, 0, after, SIZE);
    REQUIRE(n == again && (n < 0 || memcmp(before, after, SIZE) == 0), "it holds what it held");
    vs_branch_close(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    static uint8_t data[DATA_MAX * BLOCK];
    static plain p;
    if (size < 2) return 0;
    p.log = input + 2;
    p.log_bytes = vs_get16(input) < size - 2 ? vs_get16(input) : size - 2;
    p.data = data;
    p.data_bytes = 0;
    size_t left = size - 2 - p.log_bytes;
    for (const uint8_t *at = p.log + p.log_bytes; left >= 8 && p.data_bytes + BLOCK < sizeof data; at += 8, left -= 8, p.data_bytes += BLOCK)
        for (size_t i = 0; i < BLOCK; i++) data[p.data_bytes + i] = at[i % 8];
    p.data_bytes += left < 8 ? left : 0;
    vs_store *s = memory_store_new();
    memory_store_put(s, LOG, p.log, p.log_bytes);
    memory_store_put(s, DATA, p.data, p.data_bytes);
    vs_branch *b;
    int wanted = plain_open(&p, ground_uuid), r = branch_open(s, 0, &b);
    if (wanted >= 0) REQUIRE((r == 0) == wanted, "it opens where a second reader says so");
    if (r == 0 && wanted > 0) {
        compare(b, &p);
        vs_branch_close(b);
        go_on(s, &p);
    } else if (r == 0) {
        vs_branch_close(b);
    }
    vs_store_close(s);
    return 0;
}

/* ---- mutations ---- */

static void head_make(uint8_t *log) {
    memset(log, 0, HEAD);
    memcpy(log, "VSNAPBRL", 8);
    vs_put32(log + 8, 1);
    memcpy(log + 16, ground_uuid, 16);
    vs_put32(log + 32, LAYER);
    vs_put32(log + 36, VOLUME);
    vs_put64(log + 40, SIZE);
    vs_put64(log + 48, 9);
    vs_put32(log + 56, 0x5a17);
}

static uint32_t block_crc(const uint8_t *seed) {
    uint8_t block[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) block[i] = seed[i % 8];
    return vs_crc32c(block, BLOCK);
}

/* Seqs, salts, CRCs of records; mostly. CRCs of blocks too. */
static void repair(uint8_t *input, size_t size, uint32_t *state) {
    size_t log_bytes = vs_get16(input) < size - 2 ? vs_get16(input) : size - 2, at = HEAD;
    uint8_t *log = input + 2, *data = log + log_bytes;
    size_t slots = (size - 2 - log_bytes) / 8;
    if (log_bytes < HEAD) return;
    if (fuzz_below(state, 32)) vs_put32(log + 60, vs_crc32c(log, 60));
    uint64_t seq = vs_get64(log + 48);
    while (at + RECORD <= log_bytes) {
        uint8_t *r = log + at;
        if (fuzz_below(state, 64) == 0) return;
        if (r[28] < 1 || r[28] > 3) r[28] = (uint8_t)(1 + r[28] % 3);
        if (r[28] == 1 && vs_get32(r + 24) > 8) vs_put32(r + 24, vs_get32(r + 24) % 8);
        size_t length = RECORD + (r[28] == 1 ? (size_t)vs_get32(r + 24) * 8 : 0);
        if (at + length > log_bytes) return;
        vs_put64(r + 8, ++seq);
        vs_put32(r + 4, vs_get32(log + 56));
        for (size_t k = RECORD; k < length; k += 8) {
            uint32_t slot = vs_get32(r + k);
            if (slot && slot <= slots && fuzz_below(state, 6)) vs_put32(r + k + 4, block_crc(data + (size_t)(slot - 1) * 8));
        }
        vs_put32(r, vs_crc32c(r + 4, length - 4));
        at += length;
    }
}

/* A layer as it might be. */
static size_t whole_make(uint8_t *input, size_t room, uint32_t *state) {
    uint8_t *log = input + 2;
    size_t at = HEAD, slots = 2 + fuzz_below(state, 10);
    uint64_t seq = 9;
    if (room < 4096) return 0;
    head_make(log);
    for (uint32_t n = fuzz_below(state, 12); n > 0; n--) {
        uint8_t *r = log + at;
        memset(r, 0, RECORD + 64);
        r[28] = (uint8_t)(1 + fuzz_below(state, 3));
        uint32_t count = r[28] == 3 ? 0 : 1 + fuzz_below(state, 4);
        vs_put64(r + 16, r[28] == 3 ? seq : fuzz_below(state, BLOCKS - 3));
        vs_put32(r + 24, count);
        r[29] = r[28] != 3 && n > 1 && fuzz_below(state, 8) == 0;
        for (uint32_t k = 0; r[28] == 1 && k < count; k++) vs_put32(r + RECORD + (size_t)k * 8, fuzz_below(state, (uint32_t)slots + 1));
        at += RECORD + (r[28] == 1 ? (size_t)count * 8 : 0);
        seq++;
    }
    vs_put16(input, (uint16_t)at);
    for (size_t i = 0; i < slots * 8; i++) log[at + i] = (uint8_t)fuzz_random(state);
    return 2 + at + slots * 8;
}

size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t size, size_t room, unsigned int seed) {
    uint32_t state = seed * 2654435761u + 1;
    size_t n = size < HEAD || fuzz_below(&state, 16) == 0 ? whole_make(input, room, &state) : 0;
    if (n) size = n;
    else if (fuzz_below(&state, 3) == 0) size = LLVMFuzzerMutate(input, size, room);
    else if (size > 16) {
        size_t at = 2 + (size_t)fuzz_below(&state, (uint32_t)size - 10);
        if (fuzz_below(&state, 2)) at = at / 4 * 4 + 2 <= size - 8 ? at / 4 * 4 + 2 : at;
        fuzz_field(input + at, 1u << fuzz_below(&state, 4), &state);
    }
    if (size > HEAD + 2 && fuzz_below(&state, 8)) repair(input, size, &state);
    return size;
}
