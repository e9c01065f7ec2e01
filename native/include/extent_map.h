/* extent_map.h: where the bytes of one volume lie, in memory; the newest writer of a byte wins.
 *
 * Extents are disjoint and sorted by offset. Positions are block numbers in one file or buffer, by the rule of congruent
 * placement: byte x of the volume lies at byte (block - offset / 4096 + x / 4096) * 4096 + x % 4096 of it, for any x of
 * the extent. Block 0 never holds payload and stands for zeros. Adjacent extents whose positions continue are joined.
 *
 * Threads: none; the owner locks. Memory: 24 bytes an extent where they are put in order, at most about 50; 6 KiB at least.
 */
#ifndef VS_EXTENT_MAP_H
#define VS_EXTENT_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct vs_extent {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint64_t block; /* of the first byte; 0: zeros */
} vs_extent;

typedef struct vs_extent_map vs_extent_map;

int vs_extent_map_new(vs_extent_map **out);  /* -ENOMEM, with *out NULL */
void vs_extent_map_free(vs_extent_map *m);   /* NULL is allowed */
void vs_extent_map_clear(vs_extent_map *m);

/* Put an extent over what is there (length_bytes > 0, no overflow of offset + length). -ENOMEM leaves the map as it was. */
int vs_extent_map_put(vs_extent_map *m, const vs_extent *e);

/* Have room for so many puts: they do not fail. Room that was left over from the last time, and is more than this, is given back. -ENOMEM. */
int vs_extent_map_reserve(vs_extent_map *m, size_t puts);

uint64_t vs_extent_map_count(const vs_extent_map *m);

/* Find the first extent that ends after offset_bytes (it may begin before, at, or after it). 1: *out is it, whole;
 * 0: there is none. O(log n). */
int vs_extent_map_find(const vs_extent_map *m, uint64_t offset_bytes, vs_extent *out);

#endif
