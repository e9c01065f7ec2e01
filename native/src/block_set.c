/* block_set.c: a hash table of bitmaps. */
#include "block_set.h"

#include <errno.h>
#include <stdlib.h>

enum { ROOM_FIRST = 64 };

static size_t home(uint64_t file, uint64_t number, size_t room) {
    uint64_t key = (file * UINT64_C(0x9E3779B97F4A7C15) ^ number) * UINT64_C(0xD6E8FEB86659FD93);
    return (size_t)(key >> 32) & (room - 1);
}

/* The slot of a chunk, or the free one where it belongs. room > count. */
static vs_block_chunk *probe(vs_block_chunk *slots, size_t room, uint64_t file, uint64_t number) {
    size_t i = home(file, number, room);
    while (slots[i].bits && (slots[i].file != file || slots[i].number != number)) i = (i + 1) & (room - 1);
    return &slots[i];
}

static int grow(vs_block_set *s) {
    size_t room = s->room ? 2 * s->room : ROOM_FIRST;
    vs_block_chunk *slots = calloc(room, sizeof *slots);
    if (!slots) return -ENOMEM;
    for (size_t i = 0; i < s->room; i++)
        if (s->slots[i].bits) *probe(slots, room, s->slots[i].file, s->slots[i].number) = s->slots[i];
    free(s->slots);
    s->slots = slots;
    s->room = room;
    return 0;
}

/* NULL: no memory. */
static uint64_t *bits_made(vs_block_set *s, uint64_t file, uint64_t number) {
    if (2 * (s->count + 1) > s->room && grow(s) < 0) return NULL;
    vs_block_chunk *slot = probe(s->slots, s->room, file, number);
    if (slot->bits) return slot->bits;
    uint64_t *bits = calloc(VS_BLOCK_CHUNK_WORDS, sizeof *bits);
    if (!bits) return NULL;
    *slot = (vs_block_chunk){file, number, bits};
    s->count++;
    return bits;
}

static void set_range(uint64_t *bits, uint64_t from, uint64_t to) {
    while (from < to) {
        uint64_t in = from % 64, n = to - from < 64 - in ? to - from : 64 - in;
        bits[from / 64] |= (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << in;
        from += n;
    }
}

int vs_block_set_add(vs_block_set *s, uint64_t file, uint64_t first, uint64_t count) {
    while (count > 0) {
        uint64_t in = first % VS_BLOCK_CHUNK_BLOCKS, left = VS_BLOCK_CHUNK_BLOCKS - in, n = count < left ? count : left;
        uint64_t *bits = bits_made(s, file, first / VS_BLOCK_CHUNK_BLOCKS);
        if (!bits) return -ENOMEM;
        set_range(bits, in, in + n);
        first += n;
        count -= n;
    }
    return 0;
}

uint64_t *vs_block_set_bits(const vs_block_set *s, uint64_t file, uint64_t number) {
    return s->room ? probe(s->slots, s->room, file, number)->bits : NULL;
}

uint64_t vs_block_set_subtract(vs_block_set *s, const vs_block_set *other) {
    uint64_t left = 0;
    for (size_t i = 0; i < s->room; i++) {
        vs_block_chunk *c = &s->slots[i];
        if (!c->bits) continue;
        const uint64_t *minus = vs_block_set_bits(other, c->file, c->number);
        for (size_t w = 0; w < VS_BLOCK_CHUNK_WORDS; w++) {
            if (minus) c->bits[w] &= ~minus[w];
            left += (uint64_t)__builtin_popcountll(c->bits[w]);
        }
    }
    return left;
}

int vs_block_set_merge(vs_block_set *s, const vs_block_chunk *chunk) {
    uint64_t *bits = bits_made(s, chunk->file, chunk->number);
    if (!bits) return -ENOMEM;
    for (size_t w = 0; w < VS_BLOCK_CHUNK_WORDS; w++) bits[w] |= chunk->bits[w];
    return 0;
}

static int by_place(const void *a, const void *b) {
    const vs_block_chunk *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

vs_block_chunk *vs_block_set_sorted(const vs_block_set *s) {
    vs_block_chunk *all = malloc((s->count + 1) * sizeof *all);
    if (!all) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < s->room; i++)
        if (s->slots[i].bits) all[n++] = s->slots[i];
    qsort(all, n, sizeof *all, by_place);
    return all;
}

void vs_block_set_clear(vs_block_set *s) {
    for (size_t i = 0; i < s->room; i++) free(s->slots[i].bits);
    free(s->slots);
    *s = (vs_block_set){0};
}
