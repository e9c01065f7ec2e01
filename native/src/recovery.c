/* recovery.c: scanning batches, and telling a torn tail from damage.
 *
 * A batch is written only after the one before it has been synced. So whatever follows a batch that cannot be read decides what it
 * is: nothing valid, then it was being written when the machine stopped, and nobody was told that it is safe; a later
 * descriptor of this segment, then it had been synced and is damaged. The salt in each descriptor keeps the users of volumes from
 * forging one; and what is found behind a break is only evidence, never taken in.
 *
 * Where only payload is damaged the descriptors still say what was written where, and where the next batch begins. If it is there,
 * nothing is lost but the blocks that do not match: the batch counts, and those blocks fail when they are read.
 */
#include "recovery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 };

static int read_exact(vs_segment *g, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    int64_t n = g->files->store->read(g->files->store, file, offset_bytes, buf, length_bytes);
    if (n < 0) return (int)n;
    return (size_t)n == length_bytes ? 0 : -EBADMSG;
}

/* Read the payload of the batch just taken in, in pieces: into the digest, or (NULL) to compare it with its CRCs. -EBADMSG: it does
 * not match. */
static int payload_walk(vs_segment *g, int file, const vs_index *x, uint64_t first_block, uint64_t blocks, uint8_t *piece, vs_digest *digest) {
    for (uint64_t done = 0; done < blocks;) {
        uint64_t n = blocks - done < PIECE / VS_BLOCK_BYTES ? blocks - done : PIECE / VS_BLOCK_BYTES;
        int r = read_exact(g, file, (first_block + done) * VS_BLOCK_BYTES, piece, n * VS_BLOCK_BYTES);
        if (r < 0) return r;
        for (uint64_t i = 0; !digest && i < n; i++)
            if (vs_crc32c(piece + i * VS_BLOCK_BYTES, VS_BLOCK_BYTES) != vs_index_crc(x, first_block + done + i)) return -EBADMSG;
        if (digest && (r = vs_digest_update(digest, piece, n * VS_BLOCK_BYTES)) < 0) return r;
        done += n;
    }
    return 0;
}

/* Read the descriptors at x->end_bytes into *out (malloc). Returns their number, 0 when there are none. */
static int descriptors_read(vs_segment *g, int file, const vs_index *x, uint64_t limit_bytes, uint8_t **out) {
    uint8_t first[VS_BLOCK_BYTES];
    if (x->end_bytes + VS_BLOCK_BYTES > limit_bytes) return 0;
    int r = read_exact(g, file, x->end_bytes, first, sizeof first);
    if (r < 0) return r == -EBADMSG ? 0 : r;
    uint32_t count = vs_descriptor_count(first, g->salt, x->last_seqno + 1);
    if (count == 0 || x->end_bytes + (uint64_t)count * VS_BLOCK_BYTES > limit_bytes) return 0;
    uint8_t *all = malloc((size_t)count * VS_BLOCK_BYTES);
    if (!all) return -ENOMEM;
    r = read_exact(g, file, x->end_bytes, all, (size_t)count * VS_BLOCK_BYTES);
    if (r < 0) {
        free(all);
        return r == -EBADMSG ? 0 : r;
    }
    *out = all;
    return (int)count;
}

/* Does the batch that belongs behind the last one taken in begin there? */
static int next_begins(vs_segment *g, int file, const vs_index *x, uint64_t limit_bytes) {
    uint8_t *descriptors = NULL;
    int count = descriptors_read(g, file, x, limit_bytes, &descriptors);
    free(descriptors);
    return count;
}

/* 1: took one batch in; 0: none; or an error of store or memory. */
static int batch_take(vs_segment *g, int file, vs_index *x, const vs_scan *scan, uint8_t *piece) {
    uint8_t *descriptors = NULL;
    int count = descriptors_read(g, file, x, scan->limit_bytes, &descriptors);
    if (count <= 0) return count;
    vs_index before = *x;
    uint64_t payload;
    int r = vs_index_add_batch(x, descriptors, (uint32_t)count, g->salt, scan->limit_bytes, &payload);
    uint64_t first_block = before.end_bytes / VS_BLOCK_BYTES + (uint64_t)count;
    if (r == 0 && scan->check_payload) {
        r = payload_walk(g, file, x, first_block, payload, piece, NULL);
        if (r == -EBADMSG && next_begins(g, file, x, scan->limit_bytes) > 0) r = 0;
        if (r == -EBADMSG) vs_index_roll_back(x, &before, x->end_bytes / VS_BLOCK_BYTES);
    }
    if (r == 0 && scan->digest) {
        r = vs_digest_update(scan->digest, descriptors, (size_t)count * VS_BLOCK_BYTES);
        if (r == 0) r = payload_walk(g, file, x, first_block, payload, piece, scan->digest);
    }
    free(descriptors);
    return r == 0 ? 1 : r == -EBADMSG ? 0 : r;
}

int vs_scan_batches(vs_segment *g, vs_index *x, const vs_scan *scan) {
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    uint8_t *piece = aligned_alloc(VS_BLOCK_BYTES, PIECE);
    int r = piece ? 1 : -ENOMEM;
    x->compacted = g->generation != 0;
    while (r > 0) r = scan->ends && atomic_load(scan->ends) ? -ECANCELED : batch_take(g, file, x, scan, piece);
    free(piece);
    vs_segment_file_put(g);
    return r;
}

int vs_tail_judge(vs_segment *g, const vs_index *x, uint64_t file_bytes, uint64_t *later_bytes) {
    int file = vs_segment_file_get(g);
    if (file < 0) return file;
    uint8_t *piece = malloc(PIECE);
    int verdict = piece ? VS_TAIL_CLEAN : -ENOMEM;
    for (uint64_t at = x->end_bytes; piece && at < file_bytes && verdict != VS_TAIL_DAMAGED;) {
        size_t n = file_bytes - at < PIECE ? (size_t)(file_bytes - at) : PIECE;
        int r = read_exact(g, file, at, piece, n);
        if (r < 0) {
            verdict = r;
            break;
        }
        if (!vs_is_zero(piece, n)) verdict = VS_TAIL_TORN;
        for (size_t i = 0; i + VS_BLOCK_BYTES <= n && verdict == VS_TAIL_TORN; i += VS_BLOCK_BYTES)
            if (at + i > x->end_bytes && vs_descriptor_is_later(piece + i, g->salt, x->last_seqno + 1)) {
                verdict = VS_TAIL_DAMAGED;
                *later_bytes = at + i;
            }
        at += n;
    }
    free(piece);
    vs_segment_file_put(g);
    return verdict;
}

static int torn_keep(vs_segment *g, int file, uint64_t from, uint64_t to) {
    vs_store *s = g->files->store;
    char name[80];
    snprintf(name, sizeof name, "%s.%" PRIu64 ".torn", g->name, from);
    int kept = s->open(s, name, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (kept == -EEXIST) kept = s->open(s, name, VS_OPEN_WRITE); /* an earlier recovery stopped before it cut */
    if (kept < 0) return kept;
    uint8_t *piece = malloc(PIECE);
    int r = piece ? 0 : -ENOMEM;
    for (uint64_t at = from; r == 0 && at < to;) {
        size_t n = to - at < PIECE ? (size_t)(to - at) : PIECE;
        r = read_exact(g, file, at, piece, n);
        struct iovec part = {piece, n};
        if (r == 0) r = s->write(s, kept, at - from, &part, 1);
        at += n;
    }
    free(piece);
    if (r == 0) r = s->sync(s, kept);
    s->close(s, kept);
    return r == 0 ? s->sync_dir(s, "journal") : r;
}

int vs_tail_cut(vs_segment *g, const vs_index *x, int file, uint64_t file_bytes, int keep) {
    vs_store *s = g->files->store;
    int r = keep ? torn_keep(g, file, x->end_bytes, file_bytes) : 0;
    if (r == 0) r = s->truncate(s, file, x->end_bytes);
    return r == 0 ? s->sync(s, file) : r;
}
