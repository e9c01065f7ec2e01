/* branch_recovery.c: opening a layer, also one that a crash has left.
 *
 * Up to the last sync that the log tells of, all is on the medium. Of what came after it, the longest beginning counts whose state is whole: of which each block
 * that it shows matches its CRC. A block that a later record has replaced need not match: that record may have been synced too, though the
 * note of it was lost, and then the block's slot was given to somebody else. As no slot is used anew before a sync has covered what replaced it, the
 * state of the last sync is always whole, and so is found. A change of several records counts whole or not at all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "branch_layer.h"
#include "codec.h"
#include "format.h"
#include "status.h"

enum { SPACE_SLOTS_MIN = 256 };

typedef struct opening {
    vs_branch_layer *layer;
    vs_branch_use use;
    uint64_t through;              /* synced up to here */
    uint64_t end_bytes, seq;       /* of the log's records */
    uint64_t cut_bytes, cut_seq;   /* what counts */
    uint64_t changed_seq;          /* of the last write or zero in it */
    int whole;                     /* no change is open that goes on */
    uint64_t file_bytes;
    uint64_t slots_max;            /* in the data file */
    vs_extent_map *bad;            /* blocks whose newest content does not match (block + 1); others may be there with 0 */
    uint64_t bad_count;
    uint8_t *block;
} opening;

static int cannot_be(const vs_branch_layer *l) {
    return vs_branch_layer_damaged(l, -EUCLEAN, "log", "a record that cannot be");
}

static int record_check(const vs_branch_layer *l, const vs_branch_record *r) {
    uint64_t size = l->log.size_bytes, blocks = size / VS_BLOCK_BYTES + (size % VS_BLOCK_BYTES != 0);
    if (r->type == VS_BRANCH_SYNCED) return 0; /* the scan has looked at it */
    return r->count > 0 && r->first < blocks && r->count <= blocks - r->first && r->flags <= VS_BRANCH_GOES_ON ? 0 : cannot_be(l);
}

/* ---- which records count ---- */

static int matches(const opening *o, uint32_t slot, uint32_t crc) {
    vs_store *s = o->layer->log.store;
    if (slot == 0) return 1;
    if (slot > o->slots_max) return 0;
    int64_t n = s->read(s, o->layer->data, (uint64_t)(slot - 1) * VS_BLOCK_BYTES, o->block, VS_BLOCK_BYTES);
    return n == VS_BLOCK_BYTES && vs_crc32c(o->block, VS_BLOCK_BYTES) == crc;
}

/* How many bad blocks there are in a range. */
static uint64_t bad_in(const vs_extent_map *m, uint64_t first, uint64_t count) {
    uint64_t total = 0, at = first * VS_BLOCK_BYTES, end = (first + count) * VS_BLOCK_BYTES;
    vs_extent e;
    while (at < end && vs_extent_map_find(m, at, &e) && e.offset_bytes < end) {
        uint64_t from = e.offset_bytes > at ? e.offset_bytes : at, to = e.offset_bytes + e.length_bytes;
        if (to > end) to = end;
        if (e.block) total += (to - from) / VS_BLOCK_BYTES;
        at = to;
    }
    return total;
}

static int bad_put(opening *o, uint64_t first, uint64_t count, int bad) {
    return vs_extent_map_put(o->bad, &(vs_extent){first * VS_BLOCK_BYTES, count * VS_BLOCK_BYTES, bad ? first + 1 : 0});
}

static int tail_record(opening *o, const vs_branch_record *r) {
    uint64_t before = bad_in(o->bad, r->first, r->count);
    int status = before ? bad_put(o, r->first, r->count, 0) : 0;
    o->bad_count -= before;
    for (uint32_t i = 0; status == 0 && r->type == VS_BRANCH_WRITE && i < r->count; i++) {
        const uint8_t *entry = r->entries + (size_t)i * VS_BRANCH_ENTRY;
        if (matches(o, vs_get32(entry), vs_get32(entry + 4))) continue;
        status = bad_put(o, r->first + i, 1, 1);
        o->bad_count++;
    }
    return status;
}

static int cut_find(opening *o, vs_branch_reader *reader) {
    vs_branch_record r;
    int status = 0, found, open = 0;
    o->cut_bytes = VS_BRANCH_LOG_HEAD;
    o->cut_seq = o->layer->log.after;
    while (status == 0 && (found = vs_branch_reader_next(reader, &r)) != 0) {
        status = found < 0 ? found : record_check(o->layer, &r);
        if (status == 0 && r.seq > o->through && r.type != VS_BRANCH_SYNCED) status = tail_record(o, &r);
        open = r.flags & VS_BRANCH_GOES_ON;
        if (r.seq > o->through && (o->bad_count || open)) continue;
        if (r.type != VS_BRANCH_SYNCED) o->changed_seq = r.seq;
        o->cut_bytes = reader->at;
        o->cut_seq = r.seq;
        o->whole = !open;
    }
    return status;
}

/* ---- the map of them ---- */

/* Records that are of no use any more may name slots that the file has not, since it was cut: those are looked at when all are known. */
static int slots_take(opening *o, const vs_branch_record *r, uint64_t *greatest) {
    vs_branch_slots *slots = &o->layer->slots;
    for (uint32_t i = 0; r->type == VS_BRANCH_WRITE && i < r->count; i++) {
        uint32_t slot = vs_get32(r->entries + (size_t)i * VS_BRANCH_ENTRY);
        if (slot == 0 || slot > o->slots_max) continue;
        int status = vs_branch_slots_mark(slots, slot, 1);
        if (status < 0) return status == -EEXIST ? cannot_be(o->layer) : status;
        if (slot > *greatest) *greatest = slot;
    }
    return 0;
}

static int replaced_give(void *arg, uint64_t first, uint64_t count, uint64_t slot) {
    (void)first;
    opening *o = arg;
    for (uint64_t i = 0; slot && i < count && slot + i <= o->slots_max; i++) vs_branch_slots_give(&o->layer->slots, (uint32_t)(slot + i), 1);
    return 0;
}

static int record_load(opening *o, const vs_branch_record *r) {
    uint64_t greatest = 0;
    if (r->type == VS_BRANCH_SYNCED) return 0;
    vs_branch_layer_each(o->layer, r->first, r->first + r->count, replaced_give, o);
    int status = slots_take(o, r, &greatest);
    if (status == 0) status = vs_branch_layer_crc_reserve(o->layer, greatest);
    return status == 0 ? vs_branch_layer_put(o->layer, r) : status;
}

static int slots_check(void *arg, uint64_t first, uint64_t count, uint64_t slot) {
    (void)first;
    const opening *o = arg;
    if (slot == 0 || (slot <= o->slots_max && count <= o->slots_max - slot + 1)) return 0;
    return vs_branch_layer_damaged(o->layer, -EUCLEAN, "data", "it is shorter than its log says");
}

static int map_load(opening *o, vs_branch_reader *reader) {
    vs_branch_record r;
    int status = 0, found = 1;
    while (status == 0 && reader->seq < o->cut_seq && (found = vs_branch_reader_next(reader, &r)) > 0) status = record_load(o, &r);
    if (found <= 0) return found < 0 ? found : -EIO;
    return status == 0 ? vs_branch_layer_each(o->layer, 0, VS_BRANCH_BLOCKS_MAX, slots_check, o) : status;
}

/* ---- opening ---- */

static int walk(opening *o, int (*step)(opening *o, vs_branch_reader *reader)) {
    vs_branch_reader reader;
    int r = vs_branch_reader_open(&reader, &o->layer->log);
    if (r == 0) r = step(o, &reader);
    vs_branch_reader_close(&reader);
    return r;
}

static int sizes_get(opening *o) {
    vs_store *s = o->layer->log.store;
    int64_t log = s->size(s, o->layer->log.file), data = s->size(s, o->layer->data);
    if (log < 0 || data < 0) return (int)(log < 0 ? log : data);
    o->file_bytes = (uint64_t)log;
    o->slots_max = (uint64_t)data / VS_BLOCK_BYTES;
    return 0;
}

static int scan(opening *o) {
    int r = sizes_get(o);
    if (r == 0) r = vs_branch_log_scan(&o->layer->log, &o->through, &o->end_bytes, &o->seq);
    if (r < 0) return r;
    vs_extent_map_clear(o->bad);
    o->bad_count = o->changed_seq = 0;
    o->whole = 1;
    return walk(o, cut_find);
}

/* Not what the cache has counts, but what is on the medium: after a sync that failed they differ. */
static int medium_ask(const vs_branch_layer *l, int file) {
    vs_store *s = l->log.store;
    int r = s->sync(s, file);
    return r == 0 ? s->forget(s, file) : r;
}

/* Owned: what does not count goes, and what does is on the medium before a slot is used anew. A full disk may have no room for the note of it. */
static int end_clean(opening *o) {
    vs_branch_layer *l = o->layer;
    vs_store *s = l->log.store;
    uint8_t record[VS_BRANCH_RECORD_HEAD];
    int broken = 0, r = o->file_bytes > o->cut_bytes ? s->truncate(s, l->log.file, o->cut_bytes) : 0;
    if (r == 0) r = s->sync(s, l->log.file);
    if (r < 0) return r;
    size_t n = vs_branch_record_put(&l->log, &(vs_branch_record){.seq = o->cut_seq + 1, .first = o->cut_seq, .type = VS_BRANCH_SYNCED}, record);
    r = vs_branch_log_append(&l->log, record, n, o->cut_seq + 1, &broken);
    l->unnoted = r < 0;
    return broken ? r : 0;
}

/* Owned, and what counts is on the medium: the space of slots that nobody has goes back, where a crash came before that. It is no harm if it stays;
 * short runs are not worth a call each. */
static void space_give(const opening *o) {
    const vs_branch_layer *l = o->layer;
    vs_store *s = l->log.store;
    uint64_t first = 1, n = 0;
    if (o->slots_max > l->slots.end) s->truncate(s, l->data, l->slots.end * VS_BLOCK_BYTES);
    while ((n = vs_branch_slots_free_run(&l->slots, first + n, SPACE_SLOTS_MIN, &first)) > 0)
        s->zero(s, l->data, (first - 1) * VS_BLOCK_BYTES, n * VS_BLOCK_BYTES);
}

static int layer_load(opening *o) {
    vs_branch_layer *l = o->layer;
    int r = o->use == VS_BRANCH_OWNED ? medium_ask(l, l->log.file) : 0;
    if (r == 0) r = scan(o);
    int clean = r == 0 && o->file_bytes == o->cut_bytes && o->changed_seq <= o->through;
    if (r == 0 && !clean && o->use == VS_BRANCH_FROZEN) r = vs_branch_layer_damaged(l, -EUCLEAN, "log", "its end is missing");
    if (r == 0 && !clean && o->use == VS_BRANCH_OWNED && (r = medium_ask(l, l->data)) == 0) r = scan(o);
    if (r == 0 && !o->whole) r = cannot_be(l);
    if (r == 0) r = walk(o, map_load);
    l->log.end_bytes = o->cut_bytes;
    l->log.seq = o->cut_seq;
    if (r == 0 && !clean && o->use == VS_BRANCH_OWNED) r = end_clean(o);
    if (r == 0 && o->use == VS_BRANCH_OWNED) space_give(o);
    return r;
}

static int data_open(vs_branch_layer *l, vs_branch_use use) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_store *s = l->log.store;
    vs_branch_path(path, &l->log, "data");
    int file = s->open(s, path, use == VS_BRANCH_OWNED ? VS_OPEN_WRITE : VS_OPEN_READ);
    if (file < 0) return vs_branch_layer_damaged(l, file == -ENOENT ? -EUCLEAN : file, "data", file == -ENOENT ? "it is missing" : strerror(-file));
    l->data = file;
    return 0;
}

/* There is no log. The data file is made before it and filled after it: if it holds anything, there was one. */
static int unwritten_check(const vs_branch_layer *l) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_store *s = l->log.store;
    vs_branch_path(path, &l->log, "data");
    int file = s->open(s, path, VS_OPEN_READ);
    if (file < 0) return file == -ENOENT ? 0 : vs_branch_layer_damaged(l, file, "data", strerror(-file));
    int64_t size = s->size(s, file);
    s->close(s, file);
    if (size > 0) return vs_branch_layer_damaged(l, -EUCLEAN, "log", "it is missing");
    return size < 0 ? (int)size : 0;
}

static int any(void *arg, const char *name) {
    (void)arg, (void)name;
    return 1;
}

static int directory_check(const vs_branch_layer *l) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_branch_path(path, &l->log, NULL);
    int r = l->log.store->list(l->log.store, path, any, NULL);
    return r >= 0 ? 0 : vs_fault_set(r == -ENOENT ? -EUCLEAN : r, l->log.volume, 0, 0, 0, "%s: %s", path, r == -ENOENT ? "it is missing" : strerror(-r));
}

/* A process that died may have put the log into its place, and not have synced that: what is appended to it from now on would go with its name. */
static int names_sync(const vs_branch_layer *l) {
    char path[VS_BRANCH_PATH_BYTES];
    vs_branch_path(path, &l->log, NULL);
    return l->log.store->sync_dir(l->log.store, path);
}

static int opening_run(opening *o) {
    int r = directory_check(o->layer);
    if (r == 0) r = vs_branch_log_open(&o->layer->log, o->use == VS_BRANCH_OWNED);
    if (r == 0) return unwritten_check(o->layer);
    if (r < 0) return r;
    o->block = malloc(VS_BLOCK_BYTES);
    r = o->block ? vs_extent_map_new(&o->bad) : -ENOMEM;
    if (r == 0) r = data_open(o->layer, o->use);
    if (r == 0 && o->use == VS_BRANCH_OWNED) r = names_sync(o->layer);
    if (r == 0) r = layer_load(o);
    if (r == 0 && o->use != VS_BRANCH_OWNED) vs_branch_slots_free(&o->layer->slots);
    if (r == 0 && o->use != VS_BRANCH_OWNED) vs_branch_log_close(&o->layer->log);
    vs_extent_map_free(o->bad);
    free(o->block);
    return r;
}

int vs_branch_layer_open(vs_store *s, const uint8_t *uuid, uint32_t id, uint32_t volume, uint64_t size_bytes, vs_branch_use use, vs_branch_layer **out) {
    opening o = {.use = use};
    int r = vs_branch_layer_new(s, uuid, id, volume, size_bytes, &o.layer);
    if (r == 0 && (r = opening_run(&o)) < 0) vs_branch_layer_close(o.layer);
    if (r == 0) *out = o.layer;
    return r;
}
