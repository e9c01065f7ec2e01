/* base_move.c: see base_move.h.
 *
 * A move walks the records after the old base over that base, twice. First for what the new index will say: a row for each run of data, so that the
 * map gives the very runs that the records gave; and which blocks are to be patches. That is all that an estimate needs. Then for the bytes. Blocks of the
 * volume are of these kinds:
 *
 *   KEEP    the base's, untouched: its checksum goes along
 *   WRITE   touched, and nothing of it is the base's any more; or a patch of the old index: composed, and written in place
 *   PUNCH   touched, and all of it is zeros
 *   PATCH   touched, and partly the base's: composed, and put into the index
 *   NOTHING neither
 *
 * The order on the disk: the image, synced; the index beside its name, synced; the rename; the directory, synced.
 */
#include "base_move.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"
#include "view_internal.h"

enum { PIECE_BLOCKS = 256, PAGE_CRCS = VS_BLOCK_BYTES / 4, NAME_BYTES = 40 };
enum { TOUCHED = 1, OLD = 2, NEW = 4 }; /* what a block has */
enum { NOTHING, KEEP, WRITE, PUNCH, PATCH };

typedef struct span {
    int kind;
    uint64_t block, count;
} span;

typedef struct move {
    vs_journal *journal;
    uint32_t volume;
    uint64_t seqno;
    vs_volume_state state; /* at seqno */
    vs_base *old;          /* NULL: there is none */
    vs_view *over;         /* the volume at seqno, by the records after the old base over it */
    /* the plan */
    vs_packed_writer *map;
    uint64_t row_start, row_end, data_bytes;
    uint64_t *patches;
    size_t patch_count, patch_room;
    uint64_t data_blocks, crc_pages, crc_pages_end; /* pages of checksums that are not all zeros; behind the last of them */
    vs_base_move_facts facts;
    /* what is written */
    vs_base_index index;
    int image_file, index_file;
    size_t patches_done;
    uint64_t page;                /* of checksums, that is being filled */
    uint8_t crcs[VS_BLOCK_BYTES];
    uint8_t bytes[PIECE_BLOCKS * VS_BLOCK_BYTES];
} move;

typedef int (*span_fn)(move *m, const span *s);

static uint64_t blocks_of(uint64_t bytes) {
    return bytes / VS_BLOCK_BYTES + (bytes % VS_BLOCK_BYTES != 0);
}

static void file_name(const move *m, const char *suffix, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES, "base/%08" PRIx32 ".%s", m->volume, suffix);
}

/* ---- walking ---- */

typedef struct walk {
    move *m;
    span_fn each;
    span pending; /* joined so far; count 0: none */
} walk;

static int span_flush(walk *w) {
    int r = w->pending.count && w->pending.kind != NOTHING ? w->each(w->m, &w->pending) : 0;
    w->pending.count = 0;
    return r;
}

static int span_join(walk *w, int kind, uint64_t block, uint64_t count) {
    if (count == 0) return 0;
    if (w->pending.count && w->pending.kind == kind) { /* blocks come without gaps */
        w->pending.count += count;
        return 0;
    }
    int r = span_flush(w);
    w->pending = (span){kind, block, count};
    return r;
}

/* What was a patch goes into the image now: nobody reads it there by the index that has it. */
static int span_take(walk *w, int kind, uint64_t block, uint64_t count) {
    int r = 0;
    while (r == 0 && count && w->m->old && (kind == KEEP || kind == PATCH)) {
        uint64_t patch = vs_base_next_patch(w->m->old, block), before = patch - block < count ? patch - block : count;
        r = span_join(w, kind, block, before);
        if (r == 0 && before < count) r = span_join(w, WRITE, patch, 1);
        uint64_t taken = before < count ? before + 1 : count;
        block += taken;
        count -= taken;
    }
    return r == 0 ? span_join(w, kind, block, count) : r;
}

static int flags_of(const vs_stack_run *run) {
    if (run->kind == VS_STACK_ZERO) return TOUCHED;
    if (run->kind == VS_STACK_HOLE) return 0;
    return run->base ? OLD : TOUCHED | NEW;
}

static int kind_of(int flags) {
    if (!(flags & TOUCHED)) return flags & OLD ? KEEP : NOTHING;
    if (flags & OLD) return PATCH;
    return flags & NEW ? WRITE : PUNCH;
}

/* Where the volume ends in a block that the old base had more of, the rest of that block becomes zeros. */
static int end_flags(const move *m) {
    return m->old && vs_base_size_bytes(m->old) > m->state.size_bytes ? TOUCHED : 0;
}

/* A run, cut into whole blocks and parts of blocks; *flags is what the block that is not whole yet has. */
static int run_take(walk *w, const vs_stack_run *run, int *flags) {
    uint64_t at = run->offset_bytes, end = at + run->length_bytes, size = w->m->state.size_bytes;
    int r = 0;
    while (r == 0 && at < end) {
        uint64_t block = at / VS_BLOCK_BYTES, whole = at % VS_BLOCK_BYTES ? 0 : (end - at) / VS_BLOCK_BYTES;
        if (whole) {
            r = span_take(w, kind_of(flags_of(run)), block, whole);
            at += whole * VS_BLOCK_BYTES;
            continue;
        }
        uint64_t block_end = (block + 1) * VS_BLOCK_BYTES;
        at = end < block_end ? end : block_end;
        *flags |= flags_of(run);
        if (at < block_end && at == size) *flags |= end_flags(w->m);
        if (at < block_end && at != size) break;
        r = span_take(w, kind_of(*flags), block, 1);
        *flags = 0;
    }
    return r;
}

/* Call each for the spans of blocks, in order. run_each, which may be NULL, gets the runs themselves. */
static int walk_blocks(move *m, span_fn each, int (*run_each)(move *m, const vs_stack_run *run)) {
    walk w = {.m = m, .each = each};
    vs_cursor c;
    vs_stack_run run;
    int flags = 0, r = vs_cursor_init(&c, &m->over->stack);
    if (r < 0) return r;
    for (uint64_t at = 0; r == 0 && at < m->state.size_bytes; at += run.length_bytes) {
        vs_stack_run_at(&c, at, m->state.size_bytes, &run);
        if (run_each) r = run_each(m, &run);
        if (r == 0) r = run_take(&w, &run, &flags);
    }
    vs_cursor_end(&c);
    return r == 0 ? span_flush(&w) : r;
}

/* ---- the plan ---- */

static int row_flush(move *m) {
    uint64_t row[VS_MAP_COLUMNS] = {m->row_start, m->row_end - m->row_start, 0, m->row_start / VS_BLOCK_BYTES + 1};
    if (row[1] == 0) return 0;
    m->data_bytes += row[1];
    m->row_start = m->row_end;
    return vs_packed_append(m->map, row);
}

static int plan_run(move *m, const vs_stack_run *run) {
    if (run->kind != VS_STACK_DATA) return 0;
    int r = run->offset_bytes == m->row_end ? 0 : row_flush(m);
    if (m->row_start == m->row_end) m->row_start = run->offset_bytes;
    m->row_end = run->offset_bytes + run->length_bytes;
    return r;
}

/* Pages of the index that checksums of blocks [block, block + count) make. Blocks ascend over the calls. */
static uint64_t pages_new(uint64_t block, uint64_t count, uint64_t *pages_end) {
    uint64_t first = block / PAGE_CRCS, end = (block + count - 1) / PAGE_CRCS + 1;
    if (first < *pages_end) first = *pages_end;
    if (end <= first) return 0;
    *pages_end = end;
    return end - first;
}

static int plan_span(move *m, const span *s) {
    uint64_t bytes = s->count * VS_BLOCK_BYTES;
    if (s->kind == PUNCH) return 0;
    m->data_blocks += s->count;
    m->crc_pages += pages_new(s->block, s->count, &m->crc_pages_end);
    if (s->kind == WRITE) m->facts.copied_bytes += bytes;
    if (s->kind != PATCH) return 0;
    m->facts.patched_bytes += bytes;
    if (vs_room(&m->patches, &m->patch_room, m->patch_count, s->count, sizeof *m->patches) < 0) return -ENOMEM;
    for (uint64_t i = 0; i < s->count; i++) m->patches[m->patch_count++] = s->block + i;
    return 0;
}

/* The blocks of an index: its header, its pages of checksums, and what stands behind them. The last of those pages may be where the map begins. */
static uint64_t index_blocks(uint64_t size_bytes, uint64_t crc_pages, uint64_t crc_pages_end, uint64_t list_end, uint64_t patches) {
    uint64_t map_page = vs_base_crc_at(blocks_of(size_bytes)) / VS_BLOCK_BYTES;
    int shared = crc_pages && crc_pages_end == map_page; /* page i of checksums is block i + 1 of the file */
    return 1 + crc_pages - (uint64_t)shared + blocks_of(list_end) - map_page + patches;
}

static uint64_t bytes_before(const vs_base *old) {
    const vs_packed *map = vs_base_map(old);
    uint64_t blocks = 0, blocks_end = 0, pages = 0, pages_end = 0, patches = 0, row[VS_MAP_COLUMNS];
    for (uint64_t i = 0; i < map->rows; i++) {
        vs_packed_row(map, i, row);
        uint64_t first = row[0] / VS_BLOCK_BYTES, end = blocks_of(row[0] + row[1]);
        if (first < blocks_end) first = blocks_end;
        if (end <= first) continue;
        blocks += end - first;
        pages += pages_new(first, end - first, &pages_end);
        blocks_end = end;
    }
    for (uint64_t at = 0; (at = vs_base_next_patch(old, at)) != UINT64_MAX; at++) patches++;
    uint64_t list_end = vs_base_index_bytes(old) - patches * VS_BLOCK_BYTES;
    return (blocks + index_blocks(vs_base_size_bytes(old), pages, pages_end, list_end, patches)) * VS_BLOCK_BYTES;
}

static int plan(move *m) {
    uint8_t *map;
    int r = vs_packed_writer_new(VS_MAP_COLUMNS, &m->map);
    if (r == 0) r = walk_blocks(m, plan_span, plan_run);
    if (r == 0) r = row_flush(m);
    if (r == 0) r = vs_packed_finish(m->map, &map, &m->index.map_bytes);
    if (r < 0) return r;
    m->index = (vs_base_index){.volume = m->volume, .size_bytes = m->state.size_bytes, .data_bytes = m->data_bytes, .seqno = m->seqno,
                               .last_write_seqno = m->state.last_write_seqno, .last_write_ns = m->state.last_write_ns, .map = map,
                               .map_bytes = m->index.map_bytes, .patches = m->patches, .patch_count = m->patch_count};
    memcpy(m->index.uuid, m->journal->options.uuid, sizeof m->index.uuid);
    uint64_t map_at = (vs_base_crc_at(blocks_of(m->index.size_bytes)) + 7) & ~(uint64_t)7;
    uint64_t index = index_blocks(m->index.size_bytes, m->crc_pages, m->crc_pages_end, map_at + m->index.map_bytes + m->patch_count * 8, m->patch_count);
    m->facts.bytes_before = m->old ? bytes_before(m->old) : 0;
    m->facts.bytes_after = (m->data_blocks + index) * VS_BLOCK_BYTES;
    return 0;
}

/* ---- the bytes ---- */

static int write_at(const move *m, int file, uint64_t offset_bytes, const void *p, size_t n) {
    return m->journal->store->write(m->journal->store, file, offset_bytes, &(struct iovec){(void *)(uintptr_t)p, n}, 1);
}

/* A page of zeros stays a hole. Behind the last checksum stands the map. */
static int page_flush(move *m) {
    uint64_t first = m->page * PAGE_CRCS, left = blocks_of(m->state.size_bytes) - first;
    if (vs_is_zero(m->crcs, sizeof m->crcs)) return 0;
    return write_at(m, m->index_file, vs_base_crc_at(first), m->crcs, (left < PAGE_CRCS ? left : PAGE_CRCS) * 4);
}

static int crc_put(move *m, uint64_t block, uint32_t crc) {
    int r = 0;
    if (block / PAGE_CRCS != m->page) {
        r = page_flush(m);
        memset(m->crcs, 0, sizeof m->crcs);
        m->page = block / PAGE_CRCS;
    }
    vs_put32(m->crcs + block % PAGE_CRCS * 4, crc ^ VS_CRC_ZERO_BLOCK);
    return r;
}

/* At most PIECE_BLOCKS, compared with their checksums while they are read. */
static int piece_copy(move *m, int kind, uint64_t block, uint64_t count) {
    vs_store *s = m->journal->store;
    size_t bytes = count * VS_BLOCK_BYTES;
    int64_t n = vs_view_read(m->over, block * VS_BLOCK_BYTES, m->bytes, bytes);
    if (n < 0) return (int)n;
    memset(m->bytes + n, 0, bytes - (size_t)n); /* behind the end of the volume */
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < count; i++) r = crc_put(m, block + i, vs_crc32c(m->bytes + i * VS_BLOCK_BYTES, VS_BLOCK_BYTES));
    if (r < 0) return r;
    if (kind == WRITE) {
        r = write_at(m, m->image_file, block * VS_BLOCK_BYTES, m->bytes, bytes);
        if (r == 0) s->write_back(s, m->image_file, block * VS_BLOCK_BYTES, bytes);
        return r;
    }
    r = write_at(m, m->index_file, vs_base_patch_at(&m->index, m->patches_done), m->bytes, bytes);
    m->patches_done += count;
    return r;
}

static int do_span(move *m, const span *s) {
    int r = 0;
    if (s->kind == PUNCH && m->image_file >= 0)
        r = m->journal->store->zero(m->journal->store, m->image_file, s->block * VS_BLOCK_BYTES, s->count * VS_BLOCK_BYTES);
    for (uint64_t i = 0; r == 0 && s->kind == KEEP && i < s->count; i++) r = crc_put(m, s->block + i, vs_base_crc(m->old, s->block + i));
    for (uint64_t done = 0, n; r == 0 && (s->kind == WRITE || s->kind == PATCH) && done < s->count; done += n) {
        n = s->count - done < PIECE_BLOCKS ? s->count - done : PIECE_BLOCKS;
        r = atomic_load(&m->journal->work_ends) ? -ECANCELED : piece_copy(m, s->kind, s->block + done, n);
    }
    return r;
}

/* ---- files ---- */

static int index_create(move *m) {
    char part[NAME_BYTES];
    file_name(m, "idx.part", part);
    m->journal->store->remove(m->journal->store, part);
    int r = m->journal->store->open(m->journal->store, part, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (r >= 0) m->index_file = r;
    return r < 0 ? r : 0;
}

/* The index is what counts from here on, for everybody who opens the base. */
static int index_install(move *m, const vs_base_index *x) {
    char part[NAME_BYTES], name[NAME_BYTES];
    vs_store *s = m->journal->store;
    file_name(m, "idx.part", part);
    file_name(m, "idx", name);
    int r = vs_base_index_write(s, m->index_file, x);
    s->close(s, m->index_file);
    m->index_file = -1;
    if (r == 0) r = s->rename(s, part, name);
    if (r < 0) return r;
    pthread_mutex_lock(&m->journal->mu);
    vs_journal_base_forget(m->journal, m->volume);
    pthread_mutex_unlock(&m->journal->mu);
    return s->sync_dir(s, "base");
}

/* An image and no index would be damage. So a volume without a base has an index of nothing first. */
static int nothing_install(move *m) {
    vs_packed_writer *w;
    vs_base_index x = m->index;
    uint8_t *map = NULL;
    int r = vs_packed_writer_new(VS_MAP_COLUMNS, &w);
    if (r < 0) return r;
    r = vs_packed_finish(w, &map, &x.map_bytes);
    vs_packed_writer_free(w);
    x.map = map;
    x.data_bytes = x.seqno = x.patch_count = 0;
    if (r == 0) r = index_create(m);
    if (r == 0) r = index_install(m, &x);
    free(map);
    return r;
}

static int image_open(move *m) {
    char name[NAME_BYTES];
    vs_store *s = m->journal->store;
    int needed = m->facts.copied_bytes != 0;
    file_name(m, "img", name);
    int r = !m->old && needed ? nothing_install(m) : 0;
    if (r < 0 || (!m->old && !needed)) return r;
    r = s->open(s, name, VS_OPEN_WRITE);
    if (r == -ENOENT && !needed && vs_base_map(m->old)->rows == 0) return 0;
    if (r == -ENOENT && (!m->old || vs_base_map(m->old)->rows == 0)) {
        r = s->open(s, name, VS_OPEN_WRITE | VS_OPEN_CREATE);
        int synced = r >= 0 ? s->sync_dir(s, "base") : 0;
        if (r >= 0) m->image_file = r;
        return r < 0 ? r : synced;
    }
    if (r >= 0) m->image_file = r;
    return r < 0 ? r : 0;
}

/* What is behind the volume's end is cut off, up to whole blocks: the rest of the last one may still be read by an older index. */
static int image_settle(move *m) {
    vs_store *s = m->journal->store;
    uint64_t end = blocks_of(m->state.size_bytes) * VS_BLOCK_BYTES;
    if (m->image_file < 0) return 0;
    int64_t size = s->size(s, m->image_file);
    if (size < 0) return (int)size;
    int r = (uint64_t)size > end ? s->truncate(s, m->image_file, end) : 0;
    return r == 0 ? s->sync(s, m->image_file) : r;
}

static int carry_out(move *m) {
    char part[NAME_BYTES];
    vs_store *s = m->journal->store;
    int r = image_open(m);
    if (r == 0) r = index_create(m);
    if (r == 0) r = walk_blocks(m, do_span, NULL);
    if (r == 0) r = page_flush(m);
    if (r == 0) r = image_settle(m);
    if (r == 0) return index_install(m, &m->index);
    if (m->index_file >= 0) {
        file_name(m, "idx.part", part);
        s->close(s, m->index_file);
        s->remove(s, part);
        m->index_file = -1;
    }
    return r;
}

static int remove_file(const move *m, const char *suffix) {
    char name[NAME_BYTES];
    file_name(m, suffix, name);
    int r = m->journal->store->remove(m->journal->store, name);
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* Of a volume that no point has any more. */
static int take_away(move *m) {
    int index = remove_file(m, "idx");
    if (index < 0) return index;
    pthread_mutex_lock(&m->journal->mu);
    vs_journal_base_forget(m->journal, m->volume);
    pthread_mutex_unlock(&m->journal->mu);
    int image = remove_file(m, "img");
    if (image < 0) return image;
    return index || image ? (index = m->journal->store->sync_dir(m->journal->store, "base")) < 0 ? index : 1 : 0;
}

/* ---- a move ---- */

static void move_end(move *m) {
    if (m->image_file >= 0) m->journal->store->close(m->journal->store, m->image_file);
    if (m->over) vs_view_close(m->over);
    vs_base_unref(m->old);
    vs_packed_writer_free(m->map);
    free((void *)(uintptr_t)m->index.map);
    free(m->patches);
    free(m);
}

/* 1: the base may have to be moved; 0: there is nothing to move, but maybe to take away (state.removed). *out, where it is not NULL, is to be ended by
 * move_end. */
static int move_begin(vs_journal *j, uint32_t volume, uint64_t seqno, move **out) {
    move *m = calloc(1, sizeof *m);
    if (!m) return -ENOMEM;
    *m = (move){.journal = j, .volume = volume, .seqno = seqno, .image_file = -1, .index_file = -1};
    *out = m;
    int r = vs_journal_volume_at(j, volume, seqno, &m->state);
    if (r < 0 || m->state.removed) return r == -ENOENT ? 0 : r;
    pthread_mutex_lock(&j->mu);
    r = vs_journal_base(j, volume, 0, &m->old);
    pthread_mutex_unlock(&j->mu);
    if (r < 0) return r;
    return !m->old || vs_base_seqno(m->old) < seqno;
}

static int move_plan(move *m) {
    int r = vs_view_open_over_base(m->journal, m->volume, m->old ? vs_base_seqno(m->old) : 0, m->seqno, &m->over);
    return r == 0 ? plan(m) : r;
}

/* 0: the base may be moved. */
static int move_allowed(vs_journal *j, uint64_t seqno) {
    if (!j->options.owner) return -EROFS;
    pthread_mutex_lock(&j->mu);
    vs_journal_applied_move(j);
    uint64_t floor_seqno = j->floor_seqno, applied_seqno = j->applied_seqno;
    pthread_mutex_unlock(&j->mu);
    if (seqno == 0 || seqno != floor_seqno)
        return vs_fault_set(-ERANGE, 0, seqno, 0, 0, "@%" PRIu64 " is not the floor, which is @%" PRIu64, seqno, floor_seqno);
    if (seqno > applied_seqno)
        return vs_fault_set(-EBUSY, 0, seqno, 0, 0, "a primary has what was written up to @%" PRIu64 " only, and @%" PRIu64 " is later", applied_seqno, seqno);
    return 0;
}

static int told(const move *m, int code) {
    vs_fault fault;
    vs_fault_last(&fault);
    if (fault.code == code) return code;
    return vs_fault_set(code, m->volume, m->seqno, 0, 0, "the base of volume %" PRIu32 " cannot be moved: %s", m->volume, strerror(-code));
}

static int move_do(vs_journal *j, uint32_t volume, uint64_t seqno, vs_base_move_facts *out) {
    move *m = NULL;
    vs_fault_clear();
    int r = move_begin(j, volume, seqno, &m);
    int gone = r == 0 && m->state.removed;
    if ((r == 1 || gone) && vs_journal_reads_below(j, seqno)) r = -EAGAIN;
    if (r == 1) {
        r = move_plan(m);
        if (r == 0) r = carry_out(m);
        if (r == 0) r = 1;
        *out = m->facts;
    } else if (r == 0) {
        r = gone ? take_away(m) : m->old ? j->store->sync_dir(j->store, "base") : 0; /* it may have failed when the base got there */
    }
    if (r < 0 && m && r != -EAGAIN) told(m, r);
    if (m) move_end(m);
    return r;
}

int vs_journal_base_move(vs_journal *j, uint32_t volume, uint64_t seqno, vs_base_move_facts *out) {
    memset(out, 0, sizeof *out);
    int r = move_allowed(j, seqno);
    if (r < 0) return r;
    pthread_mutex_lock(&j->move_mu);
    r = move_do(j, volume, seqno, out);
    pthread_mutex_unlock(&j->move_mu);
    return r;
}

int vs_journal_base_move_estimate(vs_journal *j, uint32_t volume, uint64_t seqno, vs_base_move_facts *out) {
    move *m = NULL;
    memset(out, 0, sizeof *out);
    int r = move_begin(j, volume, seqno, &m), planned = r == 1 ? move_plan(m) : 0;
    if (r == 1 && planned == 0) *out = m->facts;
    if (m) move_end(m);
    return planned < 0 ? planned : r;
}

/* ---- the floor ---- */

int vs_journal_floor(vs_journal *j, uint64_t seqno) {
    pthread_mutex_lock(&j->mu);
    int there = seqno != 0 && j->floor_seqno == seqno;
    pthread_mutex_unlock(&j->mu);
    if (there && j->options.owner) return 0;
    int r = vs_journal_event(j, VS_RECORD_FLOOR, 0, seqno, 0, "{}", 2, NULL, NULL);
    if (r == -ERANGE)
        return vs_fault_set(r, 0, seqno, 0, 0, "@%" PRIu64 " cannot become the oldest point: it is gone, or not committed", seqno);
    if (r == 0) r = vs_journal_commit(j);
    pthread_mutex_lock(&j->mu);
    if (r == 0 && j->floor_seqno < seqno) r = -EIO; /* the journal failed, and what was accepted went without it */
    pthread_mutex_unlock(&j->mu);
    return r;
}
