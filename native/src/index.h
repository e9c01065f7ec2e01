/* index.h: what one segment's batches say, in memory: rows, checksums, events, states of volumes.
 *
 * An index is filled by parsing descriptors, always by the same parser: from our own batch after a commit, from the file in
 * recovery, from the file of another process in a following reader. So what a writer believes is what a reader will see.
 *
 * Threads: rows, events and states belong to the journal's state lock. Checksums may be read without it: their chunks never move,
 * and a reader only asks for blocks that were in the index when it took its view under the lock.
 */
#ifndef VS_INDEX_H
#define VS_INDEX_H

#include "extent_map.h"
#include "format.h"
#include "journal.h"
#include "packed.h"

enum { VS_CRC_CHUNK = 65536, VS_CRC_CHUNKS = 1024 }; /* blocks in a chunk; 256 GiB of segment at most */

#define VS_OFFSET_MAX ((uint64_t)1 << 62) /* keeps every sum of offset and length far from overflow */

/* A piece of a record: a run of bytes that lie together, or are zero together. Columns of the records section. */
typedef struct vs_row {
    uint64_t seqno, time_ns, volume, offset_bytes, length_bytes, block;
} vs_row;

/* What a compacted segment says of a point that can be opened, and of a volume's last write at its end. */
typedef struct vs_index_point {
    uint64_t seqno, time_ns;
} vs_index_point;

typedef struct vs_index_last {
    uint64_t volume, seqno, time_ns;
} vs_index_last;

typedef struct vs_index {
    int compacted; /* set before the first batch: the records of compacted segments are known */
    vs_row *rows;
    size_t row_count, row_room;
    uint8_t *events; /* as in the events section */
    size_t event_bytes, event_room;
    uint32_t *crc[VS_CRC_CHUNKS];
    uint64_t first_seqno, last_seqno; /* last = first - 1: no record yet */
    uint64_t last_time_ns, applied_seqno;
    uint64_t floor_seqno; /* points before it are gone, 0: none are */
    uint64_t end_bytes;   /* end of the last batch */

    vs_index_point *points; /* ascending */
    size_t point_count, point_room;
    vs_index_last *lasts; /* ascending by volume */
    size_t last_count, last_room;
    uint64_t piece_end; /* of the last record, a write or zero, whose next piece may follow; 0: none may */
    uint32_t piece_volume;
} vs_index;

typedef struct vs_states {
    vs_volume_state *volumes; /* ascending ids */
    size_t count, room;
} vs_states;

void vs_index_init(vs_index *x, uint64_t first_seqno, uint64_t time_before_ns);
void vs_index_free(vs_index *x); /* made with malloc; NULL is allowed */
uint32_t vs_index_crc(const vs_index *x, uint64_t block);

/* Take in the batch whose `count` descriptor blocks stand at x->end_bytes. 0, or -EBADMSG with nothing taken in when anything does not
 * parse; -ENOMEM. *payload_blocks: how many blocks of payload follow the descriptors. limit_bytes: the batch must end by there. */
int vs_index_add_batch(vs_index *x, const uint8_t *descriptors, uint32_t count, const uint8_t salt[16], uint64_t limit_bytes,
                       uint64_t *payload_blocks);

/* Forget what was taken in since *x was copied to *before: batches that end before the block end_block. */
void vs_index_roll_back(vs_index *x, const vs_index *before, uint64_t end_block);

/* Is the block at p the first descriptor of the batch that begins with next_seqno? Returns how many descriptors, 0: it is not. */
uint32_t vs_descriptor_count(const uint8_t *p, const uint8_t salt[16], uint64_t next_seqno);

/* Is the block at p, which stands behind the place where the batch of next_seqno is to begin, of a batch later than that one? */
int vs_descriptor_is_later(const uint8_t *p, const uint8_t salt[16], uint64_t next_seqno);

/* Bytes a record takes in the stream, with padding. */
static inline size_t vs_record_bytes(uint32_t tail_bytes) {
    return VS_RECORD_HEAD + (((size_t)tail_bytes + 3) & ~(size_t)3);
}

/* One event at p (of the events section, left bytes): fills *e and points *body into p. Returns its length, 0 when malformed. */
size_t vs_event_parse(const uint8_t *p, size_t left, vs_event *e, const uint8_t **body);

/* States: after all rows and events with seqno <= until have been folded in. */
int vs_states_fold(vs_states *s, const vs_row *rows, size_t row_count, const uint8_t *events, size_t event_bytes, uint64_t until);
/* And at the end of a compacted segment, whose rows may lack the last writes. */
void vs_states_fold_lasts(vs_states *s, const vs_index *x);
vs_volume_state *vs_states_find(const vs_states *s, uint32_t volume);
vs_volume_state *vs_states_add(vs_states *s, uint32_t volume);
void vs_states_clear(vs_states *s);

/* The map of one volume from the rows with since < seqno <= until. */
int vs_rows_map(const vs_row *rows, size_t row_count, uint32_t volume, uint64_t since, uint64_t until, vs_extent_map **out);

#endif
