/* codec.c: checksums and digests, by libraries that know the machine: ISA-L picks the fastest CRC and zero scan
 * at run time, libcrypto the fastest SHA-256.
 *
 * ISA-L's crc32_iscsi takes the running value as it is: it inverts neither at the start nor at the end. Its length is an int.
 */
#include "codec.h"

#include <errno.h>
#include <isa-l/crc.h>
#include <isa-l/mem_routines.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "format.h"

enum { CRC_PIECE_BYTES = 1 << 30 };

/* ISA-L only reads, but its functions take pointers that are not const. */
static void *without_const(const void *p) {
    return (void *)(uintptr_t)p;
}

uint32_t vs_crc32c(const void *p, size_t n) {
    uint8_t *at = without_const(p);
    uint32_t crc = UINT32_MAX;
    while (n > 0) {
        size_t piece = n < CRC_PIECE_BYTES ? n : CRC_PIECE_BYTES;
        crc = crc32_iscsi(at, (int)piece, crc);
        at += piece;
        n -= piece;
    }
    return ~crc;
}

void vs_block_seal(uint8_t *block) {
    vs_put32(block + VS_BLOCK_CRC_AT, vs_crc32c(block, VS_BLOCK_CRC_AT));
}

int vs_block_check(const uint8_t *block) {
    return vs_get32(block + VS_BLOCK_CRC_AT) == vs_crc32c(block, VS_BLOCK_CRC_AT);
}

int vs_is_zero(const void *p, size_t n) {
    return n == 0 || isal_zero_detect(without_const(p), n) == 0;
}

struct vs_digest {
    EVP_MD_CTX *running;
};

int vs_digest_new(vs_digest **out) {
    vs_digest *d = malloc(sizeof *d);
    if (!d) return -ENOMEM;
    d->running = EVP_MD_CTX_new();
    if (!d->running || EVP_DigestInit_ex(d->running, EVP_sha256(), NULL) != 1) {
        vs_digest_free(d);
        return -ENOMEM;
    }
    *out = d;
    return 0;
}

int vs_digest_update(vs_digest *d, const void *p, size_t n) {
    return EVP_DigestUpdate(d->running, p, n) == 1 ? 0 : -EIO;
}

int vs_digest_peek(const vs_digest *d, uint8_t out[32]) {
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    if (!copy) return -ENOMEM;
    int ok = EVP_MD_CTX_copy_ex(copy, d->running) == 1 && EVP_DigestFinal_ex(copy, out, NULL) == 1;
    EVP_MD_CTX_free(copy);
    return ok ? 0 : -EIO;
}

void vs_digest_free(vs_digest *d) {
    if (!d) return;
    EVP_MD_CTX_free(d->running);
    free(d);
}
