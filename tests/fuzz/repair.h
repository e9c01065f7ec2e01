/* repair.h: make damaged files agree with themselves again, so that a fuzzer gets behind checksums; and random choices for mutators.
 *
 * Each repair does its steps with a probability of its own: what is left wrong is as interesting as what is right.
 */
#ifndef VS_FUZZ_REPAIR_H
#define VS_FUZZ_REPAIR_H

#include <stddef.h>
#include <stdint.h>

#include "image.h"

/* A small generator; *state is any number. */
uint32_t fuzz_random(uint32_t *state);

static inline uint32_t fuzz_below(uint32_t *state, uint32_t limit) {
    return fuzz_random(state) % limit;
}

/* Put a number that breaks things into the field. */
void fuzz_field(uint8_t *field, size_t bytes, uint32_t *state);

/* A segment: salts, indexes, counts and seqnos of descriptors, CRCs of payload, footer, digests, all block CRCs. before: digest of the segment
 * before it, or NULL; digest: where its own goes, or NULL. */
void repair_segment(uint8_t *file, size_t size_bytes, const uint8_t *before, uint8_t *digest, uint32_t *state);

/* A packed table: counts, starts, fences, so that its shape is right. */
void repair_packed(uint8_t *table, size_t size_bytes, uint32_t *state);

/* Of a merged map: length, table CRCs, directory CRC, header; last_digest may be NULL. Of a base index: map position and CRC, header. */
void repair_map(uint8_t *file, size_t size_bytes, const uint8_t *last_digest, uint32_t *state);
void repair_base(uint8_t *file, size_t size_bytes, uint32_t *state);

/* Change an image somewhere: a field that the format knows, bytes of one block, or whole blocks. */
void fuzz_image(image *m, uint32_t *state);

/* The mutator of a target whose input is an image: bytes, or an image and then `repair`. */
typedef void (*repair_fn)(image *m, uint32_t *state);
size_t fuzz_mutate_image(uint8_t *data, size_t size, size_t room, uint32_t seed, repair_fn repair);

/* libFuzzer's own mutations of bytes. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

#endif
