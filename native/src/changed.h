/* changed.h: which parts of a volume may differ from the journal, since they were written while it could not take them.
 *
 * A bit for each 1 MiB (more for a volume of over 512 GiB), 64 KiB in all, so that no memory is asked for on the way of a write. It is in
 * primary/<volume>.changed too, which has its full size from the beginning: a bit is on the medium before the write it stands for. Where that
 * file cannot be written (the disk is broken, not full), all of the volume counts as changed after a crash; the primary itself, if it
 * is a file, carries a tag that says so.
 *
 * Threads: the bits under gap.bits_mu, which is held while they are written.
 */
#ifndef VS_CHANGED_H
#define VS_CHANGED_H

#include <stdint.h>

enum { VS_CHANGED_BYTES = 65536, VS_CHANGED_BITS = VS_CHANGED_BYTES * 8, VS_CHANGED_SHIFT_MIN = 20 };

typedef struct vs_changed {
    uint8_t *bits;
    uint32_t shift; /* a bit is for 1 << shift bytes; the last one for all that follows */
    int file;       /* -1: none, or it could not be written */
} vs_changed;

struct vs_journal;
struct vs_primary;

/* leader, mu not held: a primary comes. Finds out whether a gap was open when it was last used; *floor_seqno: what is in the journal up to
 * there must not be applied to it again (0: there was none). */
int vs_changed_begin(struct vs_journal *j, struct vs_primary *p, uint64_t size_bytes, uint64_t *floor_seqno);
void vs_changed_end(struct vs_journal *j, struct vs_primary *p);

/* Reader, mu held: is a gap open of which the journal does not tell yet? */
void vs_changed_follow(struct vs_journal *j);

/* Set the bits of a range, on the medium first where that can be had. */
void vs_changed_mark(struct vs_journal *j, struct vs_primary *p, uint64_t offset_bytes, uint64_t length_bytes);

/* leader: note with the volume that there is a gap, or that there is none any more. */
void vs_changed_open_gap(struct vs_journal *j, struct vs_primary *p);
void vs_changed_close_gap(struct vs_journal *j, struct vs_primary *p);

/* bits_mu held: the next range of one bit at or behind from_bytes. 1: found. And: a range was compared up to end_bytes. */
int vs_changed_next(const vs_changed *c, uint64_t from_bytes, uint64_t size_bytes, uint64_t *offset_bytes, uint64_t *end_bytes);
void vs_changed_clear(vs_changed *c, uint64_t offset_bytes, uint64_t end_bytes, uint64_t size_bytes);

#endif
