/* segment.h: one file of the journal. Sealed: its footer, mapped. Unsealed (or with a damaged footer): an index in memory.
 *
 * Threads: identity (ordinal, first_seqno, generation, name) never changes. The rest belongs to the journal's state lock, but for what reads of views
 * need: files and sections have locks of their own (vs_files), checksums of a pinned index are stable (index.h).
 */
#ifndef VS_SEGMENT_H
#define VS_SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "codec.h"
#include "index.h"
#include "store_ops.h"

enum { VS_SEGMENT_NAME_BYTES = 64 };

typedef struct vs_section {
    uint64_t offset_bytes, length_bytes;
    uint32_t crc;
    _Atomic int verdict; /* 0: not checked yet, 1: sound, -1: damaged */
} vs_section;

/* Open files of all segments; at most open_max stay open while nobody uses them. Who uses an open file takes no lock: the count of users keeps
 * it open. load_mu guards first uses of footers. */
typedef struct vs_files {
    vs_store *store;
    pthread_mutex_t load_mu; /* before mu */
    pthread_mutex_t mu;
    int open, open_max;
    struct vs_segment *first, **end; /* segments with an open file, in the order of opening */
} vs_files;

typedef struct vs_segment {
    vs_files *files;
    _Atomic int refs; /* of directories, and of whoever else has to have it */
    char name[VS_SEGMENT_NAME_BYTES]; /* journal/<first seqno>.seg, or with -<generation> before the end */
    uint64_t generation; /* of the compaction that wrote it; 0: none did */
    uint64_t ordinals;   /* how many it stands for, beginning with its own */
    uint64_t base_floor; /* records of every volume up to here may be in the bases alone; 0: none are */
    uint64_t until_seqno; /* of a compacted one: what came up to this point, which is not before its end, decided what was dropped. Points behind its end
                           * and before this one cannot be opened, whichever segment they are in */
    uint64_t ordinal, first_seqno, last_seqno, time_before_ns, last_time_ns, applied_seqno, data_end, file_bytes;
    uint64_t floor_seqno; /* after its last record: points before it are gone, 0: none are */
    uint8_t prev_digest[32], digest[32], salt[16];
    uint8_t chain_digest[32]; /* what the next segment names as the one before it: of the last segment it stands for, as that was first written */
    int chain_lost; /* that digest was in a trailer that is damaged: the next segment's word for it is taken */
    int sealed;
    vs_section section[VS_SECTIONS_MAX];
    const uint8_t *mapped; /* the whole file, NULL: not mapped */
    vs_index *index;       /* unsealed, or pinned by views that were opened before it was sealed */
    _Atomic(vs_index *) fallback; /* sealed, but the footer is damaged: what the batches say */
    int pins;              /* views that need the index though the segment is sealed */
    _Atomic int file;      /* -1: closed. Opened and closed under files->mu, and closed only while file_users is 0 */
    _Atomic int file_users;
    _Atomic int file_used; /* since idle files were closed last */
    struct vs_segment *file_next;
} vs_segment;

int vs_files_init(vs_files *f, vs_store *s);
void vs_files_end(vs_files *f);

/* With one reference. The last one that is given up frees it. */
int vs_segment_new(vs_files *f, uint64_t first_seqno, uint64_t generation, vs_segment **out);
vs_segment *vs_segment_ref(vs_segment *g);
void vs_segment_unref(vs_segment *g); /* NULL is allowed */

/* How many sections its footer has, and where a trailer has the entry of one. */
static inline int vs_segment_sections(const vs_segment *g) {
    return g->generation ? VS_SECTIONS_MAX : VS_SECTIONS;
}

static inline size_t vs_section_entry_at(int which) {
    return which < VS_SECTIONS ? 144 + (size_t)which * 24 : 344;
}

/* Read the trailer. 1: sealed, fields filled; 0: no valid trailer; -EXDEV, -EPROTONOSUPPORT, or the store's error. */
int vs_segment_load_trailer(vs_segment *g, const uint8_t uuid[16]);

/* Read the header into the fields. -EBADMSG: none. */
int vs_segment_load_header(vs_segment *g, const uint8_t uuid[16]);

/* A digest that has taken in the header block; scanning feeds it the rest. The caller frees *out, also on failure when it is not NULL. */
int vs_segment_digest_begin(vs_segment *g, vs_digest **out);

/* Borrow the file for reading; give it back with put. */
int vs_segment_file_get(vs_segment *g);
void vs_segment_file_put(vs_segment *g);

/* A section of a sealed segment, checked once. NULL: damaged or not there (use the index then). */
const uint8_t *vs_segment_section(vs_segment *g, int which, uint64_t *length_bytes);
/* Map a sealed segment now, so that a section that is NULL after it is damaged. */
int vs_segment_need_map(vs_segment *g);

/* The index of an unsealed segment, or one made from the batches of a sealed segment whose footer is damaged. */
int vs_segment_need_index(vs_segment *g, vs_index **out);

/* Scan all batches of a sealed or unsealed segment into a new index (the caller clears and frees it). digest may be NULL; ends, that may be
 * too, has it give up with -ECANCELED. -EUCLEAN: they end before data_end. */
int vs_segment_scan(vs_segment *g, vs_digest *digest, const _Atomic int *ends, vs_index **out);

/* Rows in seqno order, from the records section or the index. Valid while the state lock is held. */
typedef struct vs_rows {
    const vs_row *array;
    vs_packed packed;
    uint64_t count;
} vs_rows;
int vs_segment_rows(vs_segment *g, vs_rows *out);
void vs_rows_get(const vs_rows *r, uint64_t i, vs_row *out);
/* Rows of a footer are derived: it says what it says. newer_seqno: of the row behind it. */
int vs_segment_row_is_sound(const vs_segment *g, const vs_row *row, uint64_t newer_seqno);
/* Sealed: can so many bytes of a volume, from offset_bytes on, lie in its payload from that block on? */
int vs_segment_has_room_for(const vs_segment *g, uint64_t block, uint64_t offset_bytes, uint64_t length_bytes);
/* How many rows have seqno <= key. */
uint64_t vs_rows_count_le(const vs_rows *r, uint64_t seqno);

/* Events in order, as in the events section. *length_bytes 0: none. */
int vs_segment_events(vs_segment *g, const uint8_t **bytes, uint64_t *length_bytes);

/* The expected CRCs of a segment's payload blocks, found once for many. Valid as long as the segment, and the index where it is pinned. */
typedef struct vs_crcs {
    const uint8_t *section; /* u32 per block, or */
    const vs_index *index;
    uint64_t blocks;        /* that the section has */
} vs_crcs;

/* pinned: read them from the index. */
int vs_segment_crcs(vs_segment *g, int pinned, vs_crcs *out);

/* 0: there is no such block in the section. */
static inline int vs_crcs_get(const vs_crcs *c, uint64_t block, uint32_t *crc) {
    if (c->section && block >= c->blocks) return 0;
    *crc = c->section ? vs_get32(c->section + block * 4) : vs_index_crc(c->index, block);
    return 1;
}

/* Have the CRC of a block brought near: the next read of it is soon. */
static inline void vs_crcs_prefetch(const vs_crcs *c, uint64_t block) {
    if (c->section && block < c->blocks) __builtin_prefetch(c->section + block * 4);
}

#endif
