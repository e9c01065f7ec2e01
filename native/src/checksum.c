/* checksum.c: one pass over a buffer; where a chunk ends in the next buffer is up to who has both. */
#include "checksum.h"

#include <errno.h>

#include "codec.h"

int vs_chunk_crcs(const uint8_t *data, uint64_t n, uint64_t chunk, uint8_t *out) {
    if (chunk == 0) {
        return -EINVAL;
    }
    for (uint64_t at = 0; at < n; at += chunk, out += sizeof(uint32_t)) {
        uint64_t left = n - at;
        vs_put32(out, vs_crc32c(data + at, left < chunk ? left : chunk));
        if (left <= chunk) {
            break; /* at + chunk may be more than fits */
        }
    }
    return 0;
}
