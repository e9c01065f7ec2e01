/* codec.h: bytes to numbers and back, checksums, digests.
 *
 * All integers on disk are little-endian at any alignment. Bytes of a number are put together one by one: compilers make one load
 * or store of it where the machine allows that, and it is right everywhere else.
 *
 * Threads: none shared; a digest belongs to one thread at a time.
 */
#ifndef VS_CODEC_H
#define VS_CODEC_H

#include <stddef.h>
#include <stdint.h>

static inline uint16_t vs_get16(const void *p) {
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t vs_get32(const void *p) {
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t vs_get64(const void *p) {
    const uint8_t *b = p;
    return (uint64_t)vs_get32(b) | (uint64_t)vs_get32(b + 4) << 32;
}

static inline void vs_put16(void *p, uint16_t v) {
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

static inline void vs_put32(void *p, uint32_t v) {
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}

static inline void vs_put64(void *p, uint64_t v) {
    uint8_t *b = p;
    vs_put32(b, (uint32_t)v);
    vs_put32(b + 4, (uint32_t)(v >> 32));
}

/* CRC32C, start and final value inverted. Never fails; 0 for no bytes. */
uint32_t vs_crc32c(const void *p, size_t n);

/* Blocks that end in their own CRC (headers, descriptors, trailers): 4096 bytes each. */
void vs_block_seal(uint8_t *block);
int vs_block_check(const uint8_t *block); /* 1: it matches */

/* 1: every byte is zero (also when there is none). */
int vs_is_zero(const void *p, size_t n);

/* SHA-256 of a stream. -ENOMEM; -EIO when libcrypto refuses. */
typedef struct vs_digest vs_digest;

int vs_digest_new(vs_digest **out);
int vs_digest_update(vs_digest *d, const void *p, size_t n);

/* The digest of what came so far; the stream goes on. */
int vs_digest_peek(const vs_digest *d, uint8_t out[32]);
void vs_digest_free(vs_digest *d); /* NULL is allowed */

#endif
