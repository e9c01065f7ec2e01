/* kept.h: what a journal has in the keep, so that a worker that is killed takes nothing along that was answered.
 *
 * Batches: both batches' bytes lie here, as they will be in the segment. A record is there when it is counted: `records` is stored last, with
 * release, after its bytes in stream and payload and (of a batch's first record) first_seqno. Lengths follow from parsing that many
 * records. Emptying a batch is one store, records = 0. Everything else about a batch is derived and belongs to the process.
 *
 * Writes: a lane names the last request that used it and the seqno of its record. It is filled before the record is counted, so a lane
 * with a seqno that the journal does not have tells of a record that never was. At the next open the lanes move to `carried`.
 *
 * Without a keep the same memory is private to the process: one way of doing it.
 *
 * Threads: as the journal's; stores for the next process are ordered by release. Errors: -errno.
 */
#ifndef VS_KEPT_H
#define VS_KEPT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "keep.h"
#include "volume_file.h"

enum { VS_KEPT_CARRIED = 4096, VS_KEPT_VOLUMES = 65536 };

typedef struct vs_kept_batch {
    _Atomic uint32_t records;
    uint32_t reserved;
    uint64_t first_seqno;
    uint8_t alone[48]; /* two leaders of stores do not share a cache line */
} vs_kept_batch;

typedef struct vs_kept_batches {
    uint8_t uuid[16];
    _Atomic uint32_t used;   /* 1: a process has opened this journal with this memory, so nothing of a dead one is only in the file */
    _Atomic int32_t failed;  /* the -errno that ended all appends; 0 again when the journal was read back from the medium */
    uint8_t alone[40];
    vs_kept_batch batch[2];
    _Atomic uint8_t failed_primaries[VS_KEPT_VOLUMES / 8]; /* bit id % VS_KEPT_VOLUMES: a failed primary stays failed */
} vs_kept_batches;

typedef struct vs_kept_write {
    _Atomic uint64_t seqno;  /* 0: none */
    _Atomic uint64_t number; /* without VS_REQUEST_RESENT */
} vs_kept_write;

typedef struct vs_kept_writes {
    vs_kept_write lanes[VS_REQUEST_LANES];
    _Atomic uint64_t carried_count; /* ever; the slot is this modulo VS_KEPT_CARRIED */
    uint64_t reserved;
    vs_kept_write carried[VS_KEPT_CARRIED];
} vs_kept_writes;

typedef struct vs_kept {
    vs_kept_batches *batches;
    vs_kept_writes *writes;
    uint8_t *stream[2], *payload[2];
    void *own[2]; /* private memory, when there is no keep */
    uint64_t own_bytes[2];
} vs_kept;

/* keep may be NULL. The sizes are the same at every open of one keep, else -EPROTO. -EXDEV: it is another repository's. k is zeroed. */
int vs_kept_open(vs_kept *k, vs_keep *keep, const uint8_t uuid[16], uint64_t stream_bytes, uint64_t payload_bytes);
void vs_kept_close(vs_kept *k);

/* The seqno of a request's record, 0: it is not known. Looks through everything: for requests that were sent again. */
uint64_t vs_kept_find(const vs_kept *k, uint64_t number);

/* The record `seqno`, which is about to be counted, belongs to q. */
void vs_kept_note(vs_kept *k, const vs_request *q, uint64_t seqno);

/* At open: lanes of records up to last_seqno move to carried, all others are forgotten. May be interrupted and done again. */
void vs_kept_carry(vs_kept *k, uint64_t last_seqno);

void vs_kept_fail_primary(vs_kept *k, uint32_t volume);
int vs_kept_primary_failed(const vs_kept *k, uint32_t volume);

#endif
