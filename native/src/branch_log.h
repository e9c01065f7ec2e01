/* branch_log.h: the log of one volume of one layer: what was written where, in order (native/FORMAT.md section 11).
 *
 * Threads: none; the owner locks. Errors: -errno, with vs_fault_set.
 */
#ifndef VS_BRANCH_LOG_H
#define VS_BRANCH_LOG_H

#include "store_ops.h"

#define VS_MAGIC_BRANCH_LOG "VSNAPBRL"

enum {
    VS_BRANCH_LOG_HEAD = 64,
    VS_BRANCH_RECORD_HEAD = 32,
    VS_BRANCH_ENTRY = 8,
    VS_BRANCH_RECORD_BLOCKS = 257, /* of a write: 1 MiB from anywhere */
    VS_BRANCH_RECORD_MAX = VS_BRANCH_RECORD_HEAD + VS_BRANCH_RECORD_BLOCKS * VS_BRANCH_ENTRY,
    VS_BRANCH_PATH_BYTES = 64,

    VS_BRANCH_WRITE = 1,
    VS_BRANCH_ZERO = 2,
    VS_BRANCH_SYNCED = 3,

    VS_BRANCH_GOES_ON = 1, /* flag: the next record belongs to the same change */
};

typedef struct vs_branch_record {
    uint64_t seq;
    uint64_t first; /* block; of a synced record: the last seq that is on the medium */
    uint32_t count; /* blocks; 0 of a synced record */
    uint8_t type, flags;
    const uint8_t *entries; /* of a write: count times slot, CRC */
} vs_branch_record;

typedef struct vs_branch_log {
    vs_store *store;
    const uint8_t *uuid; /* borrowed */
    uint32_t layer, volume;
    uint64_t size_bytes; /* of the volume */
    int file;            /* -1: there is none */
    uint32_t salt;
    uint64_t after;      /* seq before the first record's */
    uint64_t seq;        /* of the last record that counts */
    uint64_t end_bytes;  /* where the next one goes */
} vs_branch_log;

/* Room for VS_BRANCH_PATH_BYTES. suffix: "log", "data", ... ; NULL: the layer's directory. */
void vs_branch_path(char *to, const vs_branch_log *l, const char *suffix);

/* Open the log, writable or not, and check its head. 1: it is open; 0: there is none, file is -1. */
int vs_branch_log_open(vs_branch_log *l, int writable);
void vs_branch_log_close(vs_branch_log *l);

/* Encode a record; the log's own seq stays. Returns its length. entries may lie at their place in `to` already. */
size_t vs_branch_record_put(const vs_branch_log *l, const vs_branch_record *r, uint8_t *to);

/* Append encoded records, the last of which is seq. When it fails nothing has changed; -EIO with *broken set where that is not sure. */
int vs_branch_log_append(vs_branch_log *l, const uint8_t *records, size_t length_bytes, uint64_t seq, int *broken);

/* Begin a new file beside, to be filled by append and put into the old one's place: *fresh has no file but this. */
int vs_branch_log_begin(const vs_branch_log *l, vs_branch_log *fresh);
/* Give it up: it is closed, and its space goes back. */
void vs_branch_log_drop(vs_branch_log *fresh);
/* Sync it, rename it to the log's name, sync the directory. What was open as l is closed and replaced. *renamed: set when a failure came too late for the
 * old log to be used any more. When it fails fresh is closed, and gone if it was not renamed. */
int vs_branch_log_replace(vs_branch_log *l, vs_branch_log *fresh, int *renamed);

/* Walking: records from the head on. */
typedef struct vs_branch_reader {
    const vs_branch_log *log;
    uint8_t *buf; /* NULL: it is not open */
    uint64_t buf_at, at, file_bytes, seq;
    size_t buf_bytes;
} vs_branch_reader;

int vs_branch_reader_open(vs_branch_reader *r, const vs_branch_log *l);
void vs_branch_reader_close(vs_branch_reader *r);
/* 1: *out, until the next call; 0: no record stands here. at is behind the last one. */
int vs_branch_reader_next(vs_branch_reader *r, vs_branch_record *out);

/* Where does the log end, and what was synced? *through: the greatest seq that a synced record names (log->after: none); *end, *seq: of the last
 * valid record. -EUCLEAN: behind it stands a record that says that there was more on the medium. */
int vs_branch_log_scan(const vs_branch_log *l, uint64_t *through, uint64_t *end_bytes, uint64_t *seq);

#endif
