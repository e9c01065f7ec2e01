/* view.h: one volume, read-only, as it was at one seqno; or what changed of it between two.
 *
 * A view is a stack of maps, newest on top (part of a segment, sealed segments, merged maps, the base's map), resolved from the top. What
 * no map holds reads as zeros. Every 4 KiB that is read is checked against its CRC.
 *
 * Threads: any, at once; a view is immutable. Errors: >= 0 ok, -errno; -EBADMSG for bytes that do not match, with vs_fault_last naming
 * volume, segment and offset. Lifetime: borrows its journal, which outlives it.
 */
#ifndef VS_VIEW_H
#define VS_VIEW_H

#include "journal.h"
#include "volume_file.h"

/* CFFI-BEGIN */
typedef struct vs_view vs_view;

enum { VS_RUN_HOLE = 0, VS_RUN_ZERO = 1, VS_RUN_DATA = 2 };

typedef struct vs_run {
    uint64_t offset_bytes, length_bytes;
    uint64_t segment;      /* DATA: first seqno of the segment, 0: the base image */
    uint64_t block;        /* DATA: number of the 4 KiB block in that file that holds the first byte */
    int32_t kind;          /* HOLE: no map holds it; ZERO: known zeros; both read as zeros */
    int32_t reserved;
} vs_run;

/* The volume after record seqno, over its base. -ERANGE: not in the window, or compacted away; -ENOENT: the volume was not there. -EUCLEAN: its base is missing. */
int vs_view_open(vs_journal *j, uint32_t volume, uint64_t seqno, vs_view **out);

/* The volume's base alone, as it was taken in or last moved; no record is looked at. -ENOENT: it has none. */
int vs_view_open_base(vs_journal *j, uint32_t volume, vs_view **out);

/* Only what records after since and up to seqno put there: runs of kind HOLE are unchanged. No base. since < seqno. Records are asked about: since need not be
 * a point that can be opened, and what came after it and shows at seqno is there all the same, but for what was compacted away because a base has it. -ERANGE: seqno
 * is where only bookmarks are kept, and none. */
int vs_view_open_changes(vs_journal *j, uint32_t volume, uint64_t since, uint64_t seqno, vs_view **out);

void vs_view_close(vs_view *v);

/* Bytes read, short only at the end of the volume. */
int64_t vs_view_read(vs_view *v, uint64_t offset_bytes, void *buf, uint64_t length_bytes);

/* The run that begins at offset_bytes, as long as the maps allow. 1: filled; 0: offset_bytes is at or past the end. */
int vs_view_run(vs_view *v, uint64_t offset_bytes, vs_run *out);

/* Fill up to max joined runs from offset_bytes on, holes and zeros joined unless keep_zeros, neighbours in the volume of one kind joined
 * (segment and block then belong to the first). *next is where to go on. Returns how many. */
int vs_view_runs(vs_view *v, uint64_t offset_bytes, int keep_zeros, vs_run *runs, int max, uint64_t *next);

/* State of the volume at the view's point; data_bytes is exact. The first call may walk maps. */
int vs_view_stat(vs_view *v, vs_volume_state *out);

uint64_t vs_view_size(const vs_view *v);

/* How many maps a lookup may touch. */
int vs_view_layers(const vs_view *v);

/* An open file on the view for the plane; takes the view over. */
int vs_view_file(vs_view *v, vs_volume_file **out);

/* An open file on a live volume; volume has a primary. size_bytes as of now; borrows j. */
int vs_live_file(vs_journal *j, uint32_t volume, vs_volume_file **out);
/* CFFI-END */

#endif
