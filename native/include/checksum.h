/* checksum.h: CRC32C of what is stored elsewhere than in a segment.
 *
 * Threads: any; nothing is kept. Errors: 0 or -EINVAL, when chunks would have no length.
 */
#ifndef VS_CHECKSUM_H
#define VS_CHECKSUM_H

#include <stdint.h>

/* CFFI-BEGIN */
/* The CRC32C of each chunk of data, the last of which may be shorter, into out: n / chunk rounded up, each a little-endian u32. */
int vs_chunk_crcs(const uint8_t *data, uint64_t n, uint64_t chunk, uint8_t *out);
/* CFFI-END */

#endif
