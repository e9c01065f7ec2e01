/* block_set.h: which 4 KiB blocks of which files: bitmaps of 32 768 blocks each, made where a bit is set.
 *
 * Threads: one at a time; the owner of a set has the lock. Errors: -ENOMEM, and the set may then lack what was to be added.
 * Memory: 4 KiB for each 128 MiB of a file that has a block in the set.
 */
#ifndef VS_BLOCK_SET_H
#define VS_BLOCK_SET_H

#include <stddef.h>
#include <stdint.h>

enum { VS_BLOCK_CHUNK_BLOCKS = 32768, VS_BLOCK_CHUNK_WORDS = VS_BLOCK_CHUNK_BLOCKS / 64 };

typedef struct vs_block_chunk {
    uint64_t file, number; /* blocks [number, number + 1) * VS_BLOCK_CHUNK_BLOCKS of the file */
    uint64_t *bits;        /* VS_BLOCK_CHUNK_WORDS; NULL: a free slot */
} vs_block_chunk;

typedef struct vs_block_set {
    vs_block_chunk *slots; /* open addressing, at most half full */
    size_t room, count;
} vs_block_set;

int vs_block_set_add(vs_block_set *s, uint64_t file, uint64_t first, uint64_t count);

/* The bits of a chunk, NULL: none of its blocks is there. Until the next add or clear. */
uint64_t *vs_block_set_bits(const vs_block_set *s, uint64_t file, uint64_t number);

/* Take out of s what is in other. Returns how many are left. */
uint64_t vs_block_set_subtract(vs_block_set *s, const vs_block_set *other);

/* Put all of a chunk into s. */
int vs_block_set_merge(vs_block_set *s, const vs_block_chunk *chunk);

/* The chunks by file, then number: an array of s->count, for the caller to free. The bits stay s's own. NULL: no memory. */
vs_block_chunk *vs_block_set_sorted(const vs_block_set *s);

/* Forget everything and free it. A set of zeros is an empty set. */
void vs_block_set_clear(vs_block_set *s);

#endif
