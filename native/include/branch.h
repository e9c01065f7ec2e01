/* branch.h: writable scratch on a point: for each volume an overlay over its view.
 *
 * What is written lies in layers, branches/layers/<id>/ of the repository (native/FORMAT.md section 11). The last layer of a branch is the one
 * it writes to and is its own; those before never change and may be shared with other branches. A read asks the layers from the last to the first, then
 * the view below; every block is checked against its CRC.
 *
 * A write is answered when its bytes and its record are in the page cache: the death of the process loses nothing. A power loss leaves the state
 * after some write, or part of at most 1 MiB of one, at or after the last sync; in order.
 *
 * Threads: any, at once, but for open, volume and close, which nobody else may be in or beside. Lock order: sync before write before map, of one volume each.
 * Writes of one volume are one after the other; reads wait for neither them nor a sync. No lock of one volume is held over I/O of another.
 * Errors: -errno, with vs_fault_last where more is known. -EBADMSG: a block does not match. -ENOSPC: the quota, or the disk; -ENOMEM: nothing was
 * changed, or of a write of more than 1 MiB what comes before; the next one may go well. After a sync that failed, writes and syncs of that volume
 * give -EIO (-ENOSPC) until the branch is opened again. vs_branch_file maps -EBADMSG to -EIO.
 * Memory: for each block that a layer holds up to 50 bytes in its map, as extents that join where blocks were written in a row (then next to
 * none), and at most 9 for the slots of its data; for each layer that is open beside, one or two files. It does not grow with writes over what is there.
 */
#ifndef VS_BRANCH_H
#define VS_BRANCH_H

#include "journal.h"
#include "view.h"
#include "volume_file.h"

/* CFFI-BEGIN */
typedef struct vs_branch vs_branch; /* all volumes of one branch: quota, hold */

enum { VS_BRANCH_LAYERS_MAX = 256 }; /* of one volume */

typedef struct vs_branch_options {
    uint64_t quota_bytes; /* for what all volumes hold in their last layers, in whole blocks, zeros not counted; 0: none */
    uint64_t reserve_bytes; /* so much of the disk is left free by writes, for others; 0: nothing is */
    int32_t writable;     /* 0: nothing is changed, writes give -EROFS; only while nobody else has it open to write */
    int32_t reserved;
    uint64_t unsynced_bytes; /* the write that makes so many since the last sync syncs: an opening reads at most so much; 0: 64 MiB */
    uint64_t rewrite_bytes;  /* a log from this length on is written anew when more than half of it is of no use; 0: 64 KiB */
} vs_branch_options;

typedef struct vs_branch_facts {
    uint64_t used_bytes;    /* of the last layers: what the quota is for */
    uint64_t waiting_bytes; /* beside: given up since the last sync, not to be used again until the next */
    uint64_t shared_bytes;  /* of the layers before */
    uint64_t quota_bytes;
    uint64_t log_bytes;     /* of the last layers */
    uint32_t files;         /* open: made by vs_branch_file and not released */
    int32_t failed;         /* 0, or the -errno that ended the writes of a volume */
} vs_branch_facts;

typedef struct vs_branch_cursor {
    uint64_t block; /* all zeros to begin */
    uint32_t layer, reserved;
} vs_branch_cursor;

/* A branch without a volume. Borrows j, which outlives *out. */
int vs_branch_open(vs_journal *j, const vs_branch_options *o, vs_branch **out);

/* Give it a volume of size_bytes over below (NULL: zeros), which is taken over where 0 is returned. layers: oldest first, at least one; the last one is written to. The
 * directories of all are there: whoever names a layer first makes its directory first, durably. Files are made by the first write. What a
 * crash left is cut and synced, and space that nobody has given back (writable). -EUCLEAN: a layer is missing or damaged; -EXDEV: of another repository; -EPROTONOSUPPORT; -EMLINK: too many. */
int vs_branch_volume(vs_branch *b, uint32_t volume, uint64_t size_bytes, vs_view *below, const uint32_t *layers, int count);

/* An open file on a volume, for the plane; any number at once. Borrows b. -ENOENT: it has no such volume. */
int vs_branch_file(vs_branch *b, uint32_t volume, vs_volume_file **out);

/* The same without a file, where no sync tells of a write before it that had no room, as the first one through that file does. Bytes read or written: short at the end of the volume, 0 and -ENOSPC at or past it. */
int64_t vs_branch_read(vs_branch *b, uint32_t volume, uint64_t offset_bytes, void *buf, uint64_t length_bytes);
int64_t vs_branch_write(vs_branch *b, uint32_t volume, uint64_t offset_bytes, const void *buf, uint64_t length_bytes);
int vs_branch_zero(vs_branch *b, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes);
/* Return when all that was answered before is on stable storage. volume 0: of all volumes. */
int vs_branch_sync(vs_branch *b, uint32_t volume);

/* Hold writes and syncs, bring all on stable storage, and begin a new last layer in all volumes; reads go on. 0: held until vs_branch_go_on; those before may be named by
 * other branches from then on. -errno: nothing is held, nothing has changed. -EBUSY: it is held. */
int vs_branch_freeze(vs_branch *b, uint32_t next_layer);
void vs_branch_go_on(vs_branch *b);

/* What differs from the point: fill up to max runs of kind ZERO or DATA from offset_bytes on, whole blocks (but at the end of the volume), neighbours of one kind
 * joined; segment and block are 0. *next is where to go on; at the size: no more. Returns how many. */
int vs_branch_runs(vs_branch *b, uint32_t volume, uint64_t offset_bytes, vs_run *runs, int max, uint64_t *next);

void vs_branch_facts_get(vs_branch *b, vs_branch_facts *out);

/* Compare every block that a read can meet with its CRC, layer by layer: not those that a later layer of this branch hides, which cost it nothing. The point's are
 * not looked at. 1: *fault says which does not match, call again; 2: none so far, of much that was read, call again; 0: the end. */
int vs_branch_check(vs_branch *b, uint32_t volume, vs_branch_cursor *c, vs_fault *fault);

/* Sync, and free it. Files must be released before. Returns the sync's status. */
int vs_branch_close(vs_branch *b);
/* CFFI-END */

#endif
