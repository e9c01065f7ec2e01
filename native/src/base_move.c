/* base_move.c: see base_move.h.
 *
 * A move walks the records after the old base over that base, twice (base_plan.h): first for what the new index will say, which is all that an estimate
 * needs; then for the bytes. The order on the disk: the image, synced; the index beside its name, synced; the rename; the directory, synced.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base_plan.h"

enum { PIECE_BLOCKS = 256, NAME_BYTES = 40 };

typedef struct move {
    vs_base_plan plan;
    int image_file, index_file; /* -1: not open */
    size_t patches_done;
    uint64_t page; /* of checksums, that is being filled */
    uint8_t crcs[VS_BLOCK_BYTES];
    uint8_t bytes[PIECE_BLOCKS * VS_BLOCK_BYTES];
} move;

static void file_name(const move *m, const char *suffix, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES, "base/%08" PRIx32 ".%s", m->plan.volume, suffix);
}

/* ---- the bytes ---- */

static int write_at(const move *m, int file, uint64_t offset_bytes, const void *p, size_t n) {
    return m->plan.journal->store->write(m->plan.journal->store, file, offset_bytes, &(struct iovec){(void *)(uintptr_t)p, n}, 1);
}

/* A page of zeros stays a hole. Behind the last checksum stands the map. */
static int page_flush(move *m) {
    uint64_t first = m->page * VS_BASE_PAGE_CRCS, left = vs_base_blocks_of(m->plan.state.size_bytes) - first;
    if (vs_is_zero(m->crcs, sizeof m->crcs)) return 0;
    return write_at(m, m->index_file, vs_base_crc_at(first), m->crcs, (left < VS_BASE_PAGE_CRCS ? left : VS_BASE_PAGE_CRCS) * 4);
}

static int crc_put(move *m, uint64_t block, uint32_t crc) {
    int r = 0;
    if (block / VS_BASE_PAGE_CRCS != m->page) {
        r = page_flush(m);
        memset(m->crcs, 0, sizeof m->crcs);
        m->page = block / VS_BASE_PAGE_CRCS;
    }
    vs_put32(m->crcs + block % VS_BASE_PAGE_CRCS * 4, crc ^ VS_CRC_ZERO_BLOCK);
    return r;
}

/* At most PIECE_BLOCKS, compared with their checksums while they are read. */
static int piece_copy(move *m, int kind, uint64_t block, uint64_t count) {
    vs_store *s = m->plan.journal->store;
    size_t bytes = count * VS_BLOCK_BYTES;
    int64_t n = vs_view_read(m->plan.over, block * VS_BLOCK_BYTES, m->bytes, bytes);
    if (n < 0) return (int)n;
    memset(m->bytes + n, 0, bytes - (size_t)n); /* behind the end of the volume */
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < count; i++) r = crc_put(m, block + i, vs_crc32c(m->bytes + i * VS_BLOCK_BYTES, VS_BLOCK_BYTES));
    if (r < 0) return r;
    if (kind == VS_BASE_WRITE) {
        r = write_at(m, m->image_file, block * VS_BLOCK_BYTES, m->bytes, bytes);
        if (r == 0) s->write_back(s, m->image_file, block * VS_BLOCK_BYTES, bytes);
        return r;
    }
    r = write_at(m, m->index_file, vs_base_patch_at(&m->plan.index, m->patches_done), m->bytes, bytes);
    m->patches_done += count;
    return r;
}

static int do_span(void *arg, const vs_base_span *s) {
    move *m = arg;
    int r = 0;
    if (s->kind == VS_BASE_PUNCH && m->image_file >= 0)
        r = m->plan.journal->store->zero(m->plan.journal->store, m->image_file, s->block * VS_BLOCK_BYTES, s->count * VS_BLOCK_BYTES);
    for (uint64_t i = 0; r == 0 && s->kind == VS_BASE_KEEP && i < s->count; i++) r = crc_put(m, s->block + i, vs_base_crc(m->plan.old, s->block + i));
    for (uint64_t done = 0, n; r == 0 && (s->kind == VS_BASE_WRITE || s->kind == VS_BASE_PATCH) && done < s->count; done += n) {
        n = s->count - done < PIECE_BLOCKS ? s->count - done : PIECE_BLOCKS;
        r = atomic_load(&m->plan.journal->work_ends) ? -ECANCELED : piece_copy(m, s->kind, s->block + done, n);
    }
    return r;
}

/* ---- files ---- */

static int index_create(move *m) {
    char part[NAME_BYTES];
    file_name(m, "idx.part", part);
    m->plan.journal->store->remove(m->plan.journal->store, part);
    int r = m->plan.journal->store->open(m->plan.journal->store, part, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (r >= 0) m->index_file = r;
    return r < 0 ? r : 0;
}

/* The index is what counts from here on, for everybody who opens the base. */
static int index_install(move *m, const vs_base_index *x) {
    char part[NAME_BYTES], name[NAME_BYTES];
    vs_store *s = m->plan.journal->store;
    file_name(m, "idx.part", part);
    file_name(m, "idx", name);
    int r = vs_base_index_write(s, m->index_file, x);
    s->close(s, m->index_file);
    m->index_file = -1;
    if (r == 0) r = s->rename(s, part, name);
    if (r < 0) return r;
    pthread_mutex_lock(&m->plan.journal->mu);
    vs_journal_base_forget(m->plan.journal, m->plan.volume);
    pthread_mutex_unlock(&m->plan.journal->mu);
    return s->sync_dir(s, "base");
}

/* An image and no index would be damage. So a volume without a base has an index of nothing first. */
static int nothing_install(move *m) {
    vs_packed_writer *w;
    vs_base_index x = m->plan.index;
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
    vs_store *s = m->plan.journal->store;
    int needed = m->plan.facts.copied_bytes != 0;
    file_name(m, "img", name);
    int r = !m->plan.old && needed ? nothing_install(m) : 0;
    if (r < 0 || (!m->plan.old && !needed)) return r;
    r = s->open(s, name, VS_OPEN_WRITE);
    if (r == -ENOENT && !needed && vs_base_map(m->plan.old)->rows == 0) return 0;
    if (r == -ENOENT && (!m->plan.old || vs_base_map(m->plan.old)->rows == 0)) {
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
    vs_store *s = m->plan.journal->store;
    uint64_t end = vs_base_blocks_of(m->plan.state.size_bytes) * VS_BLOCK_BYTES;
    if (m->image_file < 0) return 0;
    int64_t size = s->size(s, m->image_file);
    if (size < 0) return (int)size;
    int r = (uint64_t)size > end ? s->truncate(s, m->image_file, end) : 0;
    return r == 0 ? s->sync(s, m->image_file) : r;
}

static int carry_out(move *m) {
    char part[NAME_BYTES];
    vs_store *s = m->plan.journal->store;
    int r = image_open(m);
    if (r == 0) r = index_create(m);
    if (r == 0) r = vs_base_plan_walk(&m->plan, do_span, m);
    if (r == 0) r = page_flush(m);
    if (r == 0) r = image_settle(m);
    if (r == 0) return index_install(m, &m->plan.index);
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
    int r = m->plan.journal->store->remove(m->plan.journal->store, name);
    return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* Of a volume that no point has any more. */
static int take_away(move *m) {
    int index = remove_file(m, "idx");
    if (index < 0) return index;
    pthread_mutex_lock(&m->plan.journal->mu);
    vs_journal_base_forget(m->plan.journal, m->plan.volume);
    pthread_mutex_unlock(&m->plan.journal->mu);
    int image = remove_file(m, "img");
    if (image < 0) return image;
    return index || image ? (index = m->plan.journal->store->sync_dir(m->plan.journal->store, "base")) < 0 ? index : 1 : 0;
}

/* ---- a move ---- */

static void move_end(move *m) {
    if (m->image_file >= 0) m->plan.journal->store->close(m->plan.journal->store, m->image_file);
    vs_base_plan_end(&m->plan);
    free(m);
}

/* 1: the base may have to be moved; 0: there is nothing to move, but maybe to take away (state.removed). *out, where it is not NULL, is to be ended by
 * move_end. */
static int move_begin(vs_journal *j, uint32_t volume, uint64_t seqno, move **out) {
    move *m = calloc(1, sizeof *m);
    if (!m) return -ENOMEM;
    *m = (move){.plan = {.journal = j, .volume = volume, .seqno = seqno}, .image_file = -1, .index_file = -1};
    *out = m;
    int r = vs_journal_volume_at(j, volume, seqno, &m->plan.state);
    if (r < 0 || m->plan.state.removed) return r == -ENOENT ? 0 : r;
    pthread_mutex_lock(&j->mu);
    r = vs_journal_base(j, volume, 0, &m->plan.old);
    pthread_mutex_unlock(&j->mu);
    if (r < 0) return r;
    return !m->plan.old || vs_base_seqno(m->plan.old) < seqno;
}

static int move_plan(move *m) {
    int r = vs_view_open_over_base(m->plan.journal, m->plan.volume, m->plan.old ? vs_base_seqno(m->plan.old) : 0, m->plan.seqno, &m->plan.over);
    return r == 0 ? vs_base_plan_make(&m->plan) : r;
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
    return vs_fault_set(code, m->plan.volume, m->plan.seqno, 0, 0, "the base of volume %" PRIu32 " cannot be moved: %s", m->plan.volume, strerror(-code));
}

static int move_do(vs_journal *j, uint32_t volume, uint64_t seqno, vs_base_move_facts *out) {
    move *m = NULL;
    vs_fault_clear();
    int r = move_begin(j, volume, seqno, &m);
    int gone = r == 0 && m->plan.state.removed;
    if ((r == 1 || gone) && vs_journal_reads_below(j, seqno)) r = -EAGAIN;
    if (r == 1) {
        r = move_plan(m);
        if (r == 0) r = carry_out(m);
        if (r == 0) r = 1;
        *out = m->plan.facts;
    } else if (r == 0) {
        r = gone ? take_away(m) : m->plan.old ? j->store->sync_dir(j->store, "base") : 0; /* it may have failed when the base got there */
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
    if (r == 1 && planned == 0) *out = m->plan.facts;
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
