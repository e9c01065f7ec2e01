/* base.h: the image a volume starts from, with a CRC for each 4 KiB and a map of where data is.
 *
 * A builder takes an image (already in place, or copied by it), reads it in pieces so that the caller can show progress, and writes the
 * index. Errors: -errno. Threads: a builder belongs to one thread. Files: base/<id>.img, base/<id>.idx (native/FORMAT.md section 5).
 *
 * A base that was moved (base_move.h) is the volume as it was after a later record. Some of its blocks may lie in the index, its patches: the
 * image's own block is then of no meaning. Whoever has an older index open goes on with that.
 */
#ifndef VS_BASE_H
#define VS_BASE_H

#include "packed.h"
#include "store_ops.h"

/* CFFI-BEGIN */
typedef struct vs_base_builder vs_base_builder;

/* source: a file of the store to read. image: where to copy it, or -1 when the image is there already (reflinked) and only the index is
 * to be made from source. index: an empty writable file. All borrowed. -EINVAL: size_bytes over 2^62. */
int vs_base_builder_new(vs_store *s, const uint8_t uuid[16], uint32_t volume, uint64_t size_bytes, int source, int image, int index,
                        vs_base_builder **out);

/* Take in [offset_bytes, offset_bytes + length_bytes): each call goes on where the one before ended, and ends at a multiple of 4096 or
 * at the size; -EINVAL otherwise. Blocks of zeros become holes. has_data 0: the caller knows it to be a hole; nothing is read.
 * -EIO: the source ends too early. After a failure every later call returns the same. */
int vs_base_builder_take(vs_base_builder *b, uint64_t offset_bytes, uint64_t length_bytes, int has_data);

/* Write map and header, sync image and index. *data_bytes: what the image holds. -EINVAL: not all of it was taken in. */
int vs_base_builder_finish(vs_base_builder *b, uint64_t *data_bytes);

/* SHA-256 of what was taken in: of each block that is not zeros, in order, its offset (u64) and its 4096 bytes. */
int vs_base_builder_digest(const vs_base_builder *b, uint8_t digest[32]);
void vs_base_builder_free(vs_base_builder *b);
/* CFFI-END */

/* A finished base, read-only. Threads: any, it is immutable, but for the count of its references. */
typedef struct vs_base vs_base;

/* Open base/<volume>.img and map its index. s is borrowed and outlives *out, which has one reference. An image is not needed where the map has no rows.
 * All with vs_fault_last: -ENOENT: there is none. -EBADMSG: the index is damaged, or another volume's, or one of the two files is missing. -EXDEV: it is another
 * repository's. -EPROTONOSUPPORT: newer than this program. What rows of the map and the checksums say is the caller's to bound. */
int vs_base_open(vs_store *s, const uint8_t uuid[16], uint32_t volume, vs_base **out);
/* A number that no other base has that this process opened. */
uint64_t vs_base_number(const vs_base *b);
vs_base *vs_base_ref(vs_base *b);
void vs_base_unref(vs_base *b); /* The last one closes it. NULL is allowed */

/* Where data is: VS_MAP_COLUMNS columns, "block" one more than the image's block. Owned by b. */
const vs_packed *vs_base_map(const vs_base *b);

/* CRC of a block of the volume, filled up with zeros at the end of the volume; that of 4096 zeros for holes and past the end. */
uint32_t vs_base_crc(const vs_base *b, uint64_t block);

/* The image, a file of the store; it may end before the volume does, the rest are zeros. Owned by b. -1: there is none, and no row needs it. */
int vs_base_image(const vs_base *b);

/* The bytes of a block that lies in the index; NULL: it lies in the image. Owned by b. */
const uint8_t *vs_base_patch(const vs_base *b, uint64_t block);

/* The first patched block >= block, UINT64_MAX: none. */
uint64_t vs_base_next_patch(const vs_base *b, uint64_t block);

/* The checksums of holes, which no read compares, are as they were written. -EBADMSG with vs_fault_last. */
int vs_base_check_holes(const vs_base *b);

uint64_t vs_base_size_bytes(const vs_base *b); /* of the volume when it was added, or at vs_base_seqno */
uint64_t vs_base_data_bytes(const vs_base *b); /* what the map's rows hold together */
uint64_t vs_base_index_bytes(const vs_base *b); /* of the index, with its holes */

/* The record after which the volume was like this; 0: as it was added. And its last write at or before it. */
uint64_t vs_base_seqno(const vs_base *b);
void vs_base_last_write(const vs_base *b, uint64_t *seqno, uint64_t *time_ns);

/* What an index says beside its checksums and patches. Written last: the file is a base from then on. */
typedef struct vs_base_index {
    uint8_t uuid[16];
    uint32_t volume;
    uint64_t size_bytes, data_bytes;
    uint64_t seqno, last_write_seqno, last_write_ns; /* seqno 0: as the volume was added */
    const uint8_t *map; /* an encoded table */
    size_t map_bytes;
    const uint64_t *patches; /* blocks, ascending */
    size_t patch_count;
} vs_base_index;

/* Where the checksum of a block, and the i-th patch, are in the file. */
uint64_t vs_base_crc_at(uint64_t block);
uint64_t vs_base_patch_at(const vs_base_index *x, size_t i);

/* Write map, list of patches and header; then sync. */
int vs_base_index_write(vs_store *s, int file, const vs_base_index *x);

#endif
