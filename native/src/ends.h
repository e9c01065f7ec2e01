/* ends.h: how a segment begins and ends: its header, and the footer that its index gives (native/FORMAT.md sections 2.1 and 2.4).
 *
 * Both are made as bytes; who writes them, and when, is with the callers (seal.c, compact_write.c). Threads: the segment is the caller's alone.
 */
#ifndef VS_ENDS_H
#define VS_ENDS_H

#include "segment.h"

/* Fill a header block of zeros: what g is, and since when. */
void vs_header_fill(const vs_segment *g, const uint8_t uuid[16], uint64_t now_ns, uint8_t *h);

/* Set v->data_bytes to what it is at the segment's end; on entry it is the value before. map: what the segment put into the volume. */
typedef int (*vs_data_bytes_fn)(void *arg, const vs_extent_map *map, vs_volume_state *v);

/* The footer of g, from g->index, g->digest and the identity of g: sections, zeros, trailer; *bytes (malloc, the caller frees) goes to g->index->end_bytes.
 * states: of all volumes at its end. data_bytes NULL: those of the states stand as they are. Of a compacted one the points too. */
int vs_footer_build(const vs_segment *g, const uint8_t uuid[16], vs_states *states, vs_data_bytes_fn data_bytes, void *arg, uint8_t **bytes,
                    size_t *length_bytes);

#endif
