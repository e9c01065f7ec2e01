/* recovery.h: reading batches from a segment's file, and mending its end after a crash. Threads: the journal's state lock. */
#ifndef VS_RECOVERY_H
#define VS_RECOVERY_H

#include "segment.h"

typedef struct vs_scan {
    uint64_t limit_bytes; /* where the batches must have ended; the file's size when it is not sealed */
    int check_payload;
    vs_digest *digest;    /* fed with every batch taken in; may be NULL */
    const _Atomic int *ends; /* not zero: give up; may be NULL */
} vs_scan;

/* Take in batches from x->end_bytes on, until one does not parse, match, or fit. 0; only store errors, -ENOMEM and -ECANCELED are errors. */
int vs_scan_batches(vs_segment *g, vs_index *x, const vs_scan *scan);

enum { VS_TAIL_CLEAN, VS_TAIL_TORN, VS_TAIL_DAMAGED };

/* What stands behind x->end_bytes, where scanning stopped: nothing or zeros, a torn tail, or (a valid later batch follows,
 * first at *later_bytes) damage. */
int vs_tail_judge(vs_segment *g, const vs_index *x, uint64_t file_bytes, uint64_t *later_bytes);

/* Keep [x->end_bytes, file_bytes) as *.torn when it is not all zeros, cut it off, sync. file: open for writing. */
int vs_tail_cut(vs_segment *g, const vs_index *x, int file, uint64_t file_bytes, int keep);

#endif
