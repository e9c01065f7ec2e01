/* branch_write.c: writes and zeros of one volume of a branch.
 *
 * A write takes free slots, puts its bytes there, appends its record to the log, and then changes the map; what fails before the last
 * step has changed nothing. Where it does not fill its first or last block, the rest of that is read from below first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "branch_internal.h"
#include "codec.h"
#include "format.h"

enum {
    BLOCKS_MAX = VS_BRANCH_RECORD_BLOCKS,
    ZERO_BLOCKS_MAX = 1 << 30,
    WRITE_BACK_BYTES = 8 << 20, /* after so many the disk begins with them, so that a sync has little left to wait for */
};

typedef struct vs_branch_volume_state volume_state;

/* Bytes for whole blocks: of the first and the last one maybe put together in `edges`, of the others the caller's. */
typedef struct change {
    uint64_t first;
    uint32_t count;
    const uint8_t *bytes;  /* the caller's */
    uint32_t skip;         /* so far into block 0 they begin */
    const uint8_t *begin;  /* block 0; NULL: the caller's */
    const uint8_t *end;    /* the last block; NULL: the caller's */
    uint8_t *entries;      /* of its record */
    uint32_t data_blocks;  /* not zeros */
} change;

static const uint8_t *block_of(const change *c, uint32_t i) {
    if (i == 0 && c->begin) return c->begin;
    if (i == c->count - 1 && c->end) return c->end;
    return c->bytes + ((size_t)i * VS_BLOCK_BYTES - c->skip);
}

/* Of 64 bits, so that the one behind the greatest is not 0, which stands for zeros. */
static uint64_t slot_of(const change *c, uint32_t i) {
    return vs_get32(c->entries + (size_t)i * VS_BRANCH_ENTRY);
}

/* ---- the quota ---- */

static int quota_take(vs_branch *b, uint64_t blocks) {
    uint64_t used = b->used_blocks;
    do {
        if (b->options.quota_bytes && used + blocks > b->options.quota_bytes / VS_BLOCK_BYTES) return -ENOSPC;
    } while (!atomic_compare_exchange_weak(&b->used_blocks, &used, used + blocks));
    return 0;
}

/* What is left free is for the journal: a branch must not end the protection of volumes. */
static int has_room(const vs_branch *b, uint64_t blocks) {
    if (!b->options.reserve_bytes || !b->store->free_bytes || blocks == 0) return 1;
    int64_t free_bytes = b->store->free_bytes(b->store);
    return free_bytes < 0 || (uint64_t)free_bytes >= b->options.reserve_bytes + blocks * VS_BLOCK_BYTES;
}

/* ---- slots ---- */

/* CRCs; and slots for what is not zeros: in a row where there are free ones in a row. */
static void entries_crc(change *c) {
    c->data_blocks = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const uint8_t *block = block_of(c, i);
        int zero = vs_is_zero(block, VS_BLOCK_BYTES);
        vs_put32(c->entries + (size_t)i * VS_BRANCH_ENTRY, !zero);
        vs_put32(c->entries + (size_t)i * VS_BRANCH_ENTRY + 4, zero ? 0 : vs_crc32c(block, VS_BLOCK_BYTES));
        c->data_blocks += !zero;
    }
}

/* The slots of entries [0, end) are free again. */
static void entries_give(vs_branch_layer *l, const change *c, uint32_t end) {
    for (uint32_t i = end; i-- > 0;)
        if (slot_of(c, i)) vs_branch_slots_give(&l->slots, (uint32_t)slot_of(c, i), 1);
}

static int entries_take(vs_branch_layer *l, change *c) {
    uint32_t left = c->data_blocks, slot = 0;
    int64_t have = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (!slot_of(c, i)) continue;
        if (have == 0 && (have = vs_branch_slots_take(&l->slots, left, &slot)) < 0) {
            entries_give(l, c, i);
            return have == -EFBIG ? -ENOSPC : (int)have;
        }
        vs_put32(c->entries + (size_t)i * VS_BRANCH_ENTRY, slot++);
        have--;
        left--;
    }
    return 0;
}

/* ---- bytes ---- */

/* Blocks [i, i + n) lie in a row, with their slots. */
static int run_write(vs_branch_layer *l, const change *c, uint32_t i, uint32_t n) {
    struct iovec parts[3];
    int count = 0;
    for (uint32_t k = i; k < i + n; k++) {
        const uint8_t *block = block_of(c, k);
        struct iovec *last = count ? &parts[count - 1] : NULL;
        if (last && (uint8_t *)last->iov_base + last->iov_len == block) last->iov_len += VS_BLOCK_BYTES;
        else parts[count++] = (struct iovec){(void *)(uintptr_t)block, VS_BLOCK_BYTES};
    }
    return l->log.store->write(l->log.store, l->data, (slot_of(c, i) - 1) * VS_BLOCK_BYTES, parts, count);
}

static int data_write(vs_branch_layer *l, const change *c) {
    int r = 0;
    for (uint32_t i = 0, n; r == 0 && i < c->count; i += n) {
        uint64_t slot = slot_of(c, i);
        for (n = 1; slot && i + n < c->count && slot_of(c, i + n) == slot + n; n++) {}
        if (slot) r = run_write(l, c, i, n);
    }
    return r;
}

/* ---- one record or a few, whole or not at all ---- */

/* write_mu held. The records are in the log: change the map, for which room was made. */
static void records_put(volume_state *v, const vs_branch_record *records, int count) {
    vs_branch_layer *l = vs_branch_last(v);
    pthread_mutex_lock(&v->mu);
    for (int i = 0; i < count; i++) {
        vs_branch_layer_give_up(l, &records[i]);
        vs_branch_layer_put(l, &records[i]);
    }
    pthread_mutex_unlock(&v->mu);
    v->changes++;
}

/* Room for all that records_put needs, so that a record that is in the log gets into the map: what they replace lies in so many runs. */
static int records_reserve(volume_state *v, const vs_branch_record *records, int count, size_t runs) {
    vs_branch_layer *l = vs_branch_last(v);
    pthread_mutex_lock(&v->mu); /* readers look at it */
    int r = vs_branch_layer_reserve(l, records, count);
    pthread_mutex_unlock(&v->mu);
    return r == 0 ? vs_branch_slots_reserve(&l->slots, runs) : r;
}

static int records_append(volume_state *v, vs_branch_record *records, int count) {
    vs_branch_layer *l = vs_branch_last(v);
    size_t length = 0;
    int broken = 0;
    for (int i = 0; i < count; i++) {
        records[i].seq = l->log.seq + 1 + (uint64_t)i;
        records[i].flags = i + 1 < count ? VS_BRANCH_GOES_ON : 0;
        length += vs_branch_record_put(&l->log, &records[i], v->records + length);
    }
    int r = vs_branch_log_append(&l->log, v->records, length, l->log.seq + (uint64_t)count, &broken);
    if (r < 0 && broken) v->failed = -EIO;
    if (r == 0) v->unsynced_bytes += length;
    return r;
}

static int slots_and_bytes(volume_state *v, change *changes, int count) {
    vs_branch_layer *l = vs_branch_last(v);
    int r = 0, done = 0;
    for (; r == 0 && done < count; done++) {
        if ((r = entries_take(l, &changes[done])) < 0) break;
        if ((r = data_write(l, &changes[done])) < 0) entries_give(l, &changes[done], changes[done].count);
        if (r < 0) break;
    }
    for (int i = 0; r < 0 && i < done; i++) entries_give(l, &changes[i], changes[i].count);
    return r;
}

/* write_mu held, the last layer has its files. changes: those of the records that are writes, in order. */
static int change_make(volume_state *v, vs_branch_record *records, int count, change *changes, int change_count) {
    vs_branch *b = v->branch;
    vs_branch_layer *l = vs_branch_last(v);
    uint64_t blocks = 0, replaced = 0;
    for (int i = 0; i < change_count; i++) blocks += changes[i].data_blocks;
    size_t runs = 0;
    for (int i = 0; i < count; i++) replaced += vs_branch_layer_slots_in(l, records[i].first, records[i].count, &runs);
    uint64_t more = blocks > replaced ? blocks - replaced : 0, fewer = replaced > blocks ? replaced - blocks : 0;
    int r = has_room(b, blocks) ? quota_take(b, more) : -ENOSPC;
    if (r < 0) return r;
    r = slots_and_bytes(v, changes, change_count);
    if (r == 0 && ((r = records_reserve(v, records, count, runs)) < 0 || (r = records_append(v, records, count)) < 0))
        for (int i = 0; i < change_count; i++) entries_give(l, &changes[i], changes[i].count);
    if (r < 0) {
        b->used_blocks -= more;
        return r;
    }
    records_put(v, records, count);
    b->used_blocks -= fewer;
    v->unsynced_bytes += blocks * VS_BLOCK_BYTES;
    return 0;
}

/* write_mu held. */
static int ready(volume_state *v) {
    if (v->failed) return v->failed;
    vs_branch_layer *l = vs_branch_last(v);
    return l->log.file >= 0 ? 0 : vs_branch_layer_make(l);
}

/* ---- writes ---- */

/* A block that is only partly written: the rest of it as it is. to: of v->edges. */
static int edge_fill(volume_state *v, uint64_t block, uint8_t *to, uint64_t from_bytes, uint64_t end_bytes, const uint8_t *bytes) {
    uint64_t at = block * VS_BLOCK_BYTES;
    int r = vs_branch_blocks_read(v, block, 1, to);
    if (r < 0) return r;
    if (bytes) memcpy(to + (from_bytes - at), bytes, end_bytes - from_bytes);
    else memset(to + (from_bytes - at), 0, end_bytes - from_bytes);
    return 0;
}

/* Blocks that [from, end) touches, at most BLOCKS_MAX. */
static int change_begin(volume_state *v, change *c, uint64_t from, uint64_t end, const uint8_t *bytes, uint8_t *entries) {
    uint64_t first = from / VS_BLOCK_BYTES, last = (end - 1) / VS_BLOCK_BYTES, head = from % VS_BLOCK_BYTES, tail = end % VS_BLOCK_BYTES;
    uint8_t *begin = v->edges, *finish = v->edges + VS_BLOCK_BYTES;
    *c = (change){.first = first, .count = (uint32_t)(last - first + 1), .bytes = bytes, .skip = (uint32_t)head, .entries = entries};
    int r = 0;
    if (head || (first == last && tail)) {
        r = edge_fill(v, first, begin, from, first == last ? end : (first + 1) * VS_BLOCK_BYTES, bytes);
        c->begin = begin;
    }
    if (r == 0 && first != last && tail) {
        r = edge_fill(v, last, finish, last * VS_BLOCK_BYTES, end, bytes + (last * VS_BLOCK_BYTES - from));
        c->end = finish;
    }
    if (r == 0) entries_crc(c);
    return r;
}

/* write_mu held, which is given back: a change was made, or r says why not. Returns r. Begin to write back, or sync, when much has come together. */
static int change_end(volume_state *v, int r) {
    vs_branch_layer *l = vs_branch_last(v);
    uint64_t end_bytes = l->slots.end * VS_BLOCK_BYTES;
    int sync_due = v->unsynced_bytes >= v->branch->options.unsynced_bytes, write_due = v->unsynced_bytes - v->begun_bytes >= WRITE_BACK_BYTES;
    if (write_due) v->begun_bytes = v->unsynced_bytes;
    pthread_mutex_unlock(&v->write_mu);
    if (r == 0 && sync_due) vs_branch_volume_sync(v); /* this one is made; if it fails, the next ones do */
    else if (r == 0 && write_due) l->log.store->write_back(l->log.store, l->data, 0, end_bytes);
    return r;
}

static int piece_write(volume_state *v, uint64_t from, uint64_t end, const uint8_t *bytes) {
    change c;
    uint8_t *entries = v->records + VS_BRANCH_RECORD_HEAD;
    pthread_mutex_lock(&v->write_mu);
    int r = ready(v);
    if (r == 0) r = change_begin(v, &c, from, end, bytes, entries);
    if (r == 0) {
        vs_branch_record record = {.first = c.first, .count = c.count, .type = VS_BRANCH_WRITE, .entries = entries};
        r = change_make(v, &record, 1, &c, 1);
    }
    return change_end(v, r);
}

int64_t vs_branch_volume_write(volume_state *v, uint64_t offset_bytes, const void *buf, uint64_t length_bytes) {
    const uint8_t *bytes = buf;
    if (!v->branch->options.writable) return -EROFS;
    if (offset_bytes >= v->size_bytes) return -ENOSPC;
    if (length_bytes > v->size_bytes - offset_bytes) length_bytes = v->size_bytes - offset_bytes;
    int r = 0;
    for (uint64_t done = 0, n; r == 0 && done < length_bytes; done += n) {
        n = length_bytes - done < VS_BRANCH_PIECE_BYTES ? length_bytes - done : VS_BRANCH_PIECE_BYTES;
        r = piece_write(v, offset_bytes + done, offset_bytes + done + n, bytes + done);
    }
    return r < 0 ? r : (int64_t)length_bytes;
}

/* ---- zeros ---- */

/* The parts of a zero: what it does to its first block, to whole ones, to its last one. */
typedef struct zeroing {
    vs_branch_record records[3];
    change changes[2];
    uint8_t entries[2][VS_BRANCH_ENTRY];
    int record_count, change_count;
} zeroing;

static int zeroing_edge(volume_state *v, zeroing *z, uint64_t from, uint64_t end) {
    int i = z->change_count;
    uint64_t block = from / VS_BLOCK_BYTES;
    if (vs_branch_layer_zero_in(vs_branch_last(v), block, 1)) return 0;
    uint8_t *bytes = v->edges + (size_t)i * VS_BLOCK_BYTES;
    int r = edge_fill(v, block, bytes, from, end, NULL);
    if (r < 0) return r;
    z->changes[i] = (change){.first = block, .count = 1, .begin = bytes, .entries = z->entries[i]};
    entries_crc(&z->changes[i]);
    z->records[z->record_count++] = (vs_branch_record){.first = block, .count = 1, .type = VS_BRANCH_WRITE, .entries = z->entries[i]};
    z->change_count++;
    return 0;
}

/* What is behind the end of the volume counts as zeroed with its last bytes. */
static int zeroing_begin(volume_state *v, zeroing *z, uint64_t from, uint64_t end) {
    uint64_t whole = (from + VS_BLOCK_BYTES - 1) / VS_BLOCK_BYTES, whole_end = (end + (end == v->size_bytes ? VS_BLOCK_BYTES - 1 : 0)) / VS_BLOCK_BYTES;
    *z = (zeroing){0};
    if (whole > whole_end) return zeroing_edge(v, z, from, end);
    int r = from % VS_BLOCK_BYTES ? zeroing_edge(v, z, from, whole * VS_BLOCK_BYTES) : 0;
    if (r == 0 && whole < whole_end && !vs_branch_layer_zero_in(vs_branch_last(v), whole, whole_end - whole))
        z->records[z->record_count++] = (vs_branch_record){.first = whole, .count = (uint32_t)(whole_end - whole), .type = VS_BRANCH_ZERO};
    return r == 0 && whole_end * VS_BLOCK_BYTES < end ? zeroing_edge(v, z, whole_end * VS_BLOCK_BYTES, end) : r;
}

static int piece_zero(volume_state *v, uint64_t from, uint64_t end) {
    zeroing z;
    pthread_mutex_lock(&v->write_mu);
    int r = ready(v);
    if (r == 0) r = zeroing_begin(v, &z, from, end);
    if (r == 0 && z.record_count) r = change_make(v, z.records, z.record_count, z.changes, z.change_count);
    return change_end(v, r);
}

int vs_branch_volume_zero(volume_state *v, uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t max = (uint64_t)ZERO_BLOCKS_MAX * VS_BLOCK_BYTES;
    if (!v->branch->options.writable) return -EROFS;
    if (offset_bytes >= v->size_bytes || length_bytes == 0) return 0;
    if (length_bytes > v->size_bytes - offset_bytes) length_bytes = v->size_bytes - offset_bytes;
    int r = 0;
    for (uint64_t at = offset_bytes, end = offset_bytes + length_bytes, next; r == 0 && at < end; at = next) {
        next = (at / max + 1) * max < end ? (at / max + 1) * max : end;
        r = piece_zero(v, at, next);
    }
    return r;
}
