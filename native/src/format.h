/* format.h: the constants of native/FORMAT.md, shared by everything that writes or reads. */
#ifndef VS_FORMAT_H
#define VS_FORMAT_H

#include <stdint.h>

#define VS_MAGIC_SEGMENT "VSNAPSEG"
#define VS_MAGIC_TRAILER "VSNAPEND"
#define VS_MAGIC_MAP "VSNAPMAP"
#define VS_MAGIC_BASE "VSNAPBAS"
#define VS_MAGIC_CHANGED "VSNAPGAP"
#define VS_MAGIC_DESCRIPTOR 0x42445356u /* "VSDB" */

enum {
    VS_FORMAT_VERSION = 1,
    VS_BLOCK_BYTES = 4096,
    VS_BLOCK_CRC_AT = 4092, /* headers, descriptors and trailers end in their own CRC */

    VS_DESCRIPTOR_HEAD = 52,
    VS_DESCRIPTOR_STREAM_MAX = VS_BLOCK_CRC_AT - VS_DESCRIPTOR_HEAD,
    VS_RECORD_HEAD = 36,
    VS_RECORD_HAS_BITMAP = 1,
    VS_RECORD_FURTHER = 2,    /* in compacted segments: a piece more of the record before */
    VS_RECORD_SIZE_ALONE = 4, /* in compacted segments: the zeros of a resize are left out */

    VS_SECTION_RECORDS = 0,
    VS_SECTION_MAPS = 1,
    VS_SECTION_CHECKSUMS = 2,
    VS_SECTION_EVENTS = 3,
    VS_SECTION_VOLUMES = 4,
    VS_SECTIONS = 5,
    VS_SECTION_POINTS = 5, /* of compacted segments only */
    VS_SECTIONS_MAX = 6,

    VS_FEATURE_COMPACTED = 1, /* incompatible, of a segment */

    VS_TRAILER_FLOOR_AT = 368,
    VS_HEADER_UNTIL_AT = 144, /* of compacted segments */
    VS_TRAILER_UNTIL_AT = 376,
    VS_FEATURE_MOVED = 1, /* incompatible, of a base's index */

    VS_RECORD_COLUMNS = 6, /* seqno, time, volume, offset, length, block */
    VS_MAP_COLUMNS = 4,    /* offset, length, segment, block */
    VS_VOLUME_ROW_BYTES = 48,
    VS_MERGE_FANOUT = 8,
    VS_ORDINALS_MAX = 1 << 21, /* that a compacted segment stands for: 8^7 */
};

#define VS_GENERATION_MAX ((uint64_t)1 << 61) /* so that there is a byte of the leases for each */
#define VS_CRC_ZERO_BLOCK 0x98F94189u /* CRC32C of 4096 zeros */

#endif
