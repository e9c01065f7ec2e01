/* merged_map.c: the files in maps/. Layout: native/FORMAT.md section 4. */
#include "merged_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "format.h"
#include "status.h"

enum { DIRECTORY_ROW = 32, FILE_MIN = 4096 };

void vs_merged_map_name(uint64_t first_ordinal, uint64_t count, char name[48]) {
    snprintf(name, 48, "maps/%012" PRIu64 "-%" PRIu64 ".map", first_ordinal, count);
}

static const uint8_t *directory_row(const vs_merged_map *m, uint32_t i) {
    return m->mapped + VS_BLOCK_BYTES + (size_t)i * DIRECTORY_ROW;
}

static int header_check(vs_merged_map *m, const uint8_t uuid[16]) {
    const uint8_t *h = m->mapped;
    if (memcmp(h, VS_MAGIC_MAP, 8) != 0 || !vs_block_check(h)) return -EBADMSG;
    if (vs_get32(h + 8) != VS_FORMAT_VERSION || vs_get32(h + 12) != 0) return -EPROTONOSUPPORT;
    if (memcmp(h + 16, uuid, 16) != 0) return -EXDEV;
    if (vs_get64(h + 32) != m->first_ordinal || vs_get64(h + 40) != m->count || vs_get64(h + 96) != m->file_bytes) return -EBADMSG;
    m->first_seqno = vs_get64(h + 48);
    m->last_seqno = vs_get64(h + 56);
    memcpy(m->last_digest, h + 64, 32);
    m->generation = vs_get64(h + 112);
    m->volumes = vs_get32(h + 104);
    uint64_t directory_bytes = (uint64_t)m->volumes * DIRECTORY_ROW;
    if (directory_bytes > m->file_bytes - VS_BLOCK_BYTES || vs_crc32c(directory_row(m, 0), directory_bytes) != vs_get32(h + 108)) return -EBADMSG;
    for (uint32_t i = 0; i < m->volumes; i++) {
        const uint8_t *d = directory_row(m, i);
        uint64_t at = vs_get64(d + 8), length = vs_get64(d + 16);
        if (at > m->file_bytes || length > m->file_bytes - at || (i && vs_get32(d) <= vs_get32(directory_row(m, i - 1)))) return -EBADMSG;
    }
    return 0;
}

int vs_merged_map_open(vs_store *s, const uint8_t uuid[16], uint64_t first_ordinal, uint64_t count, vs_merged_map **out) {
    vs_merged_map *m = calloc(1, sizeof *m);
    if (!m) return -ENOMEM;
    m->store = s;
    atomic_init(&m->refs, 1);
    m->first_ordinal = first_ordinal;
    m->count = count;
    vs_merged_map_name(first_ordinal, count, m->name);
    const void *base = NULL;
    int file = s->open(s, m->name, VS_OPEN_READ);
    int64_t size = file < 0 ? file : s->size(s, file);
    int r = size < 0 ? (int)size : size < FILE_MIN ? -EBADMSG : s->map(s, file, (uint64_t)size, &base);
    if (file >= 0) s->close(s, file);
    if (r == 0) {
        m->file_bytes = (uint64_t)size;
        m->mapped = base;
        r = header_check(m, uuid);
    }
    if (r == 0 && !(m->tables = calloc((size_t)m->volumes + 1, sizeof *m->tables))) r = -ENOMEM;
    if (r < 0) {
        vs_fault_set(r, 0, 0, 0, 0, "%s is not usable (%s)", m->name, strerror(-r));
        vs_merged_map_unref(m);
        return r;
    }
    *out = m;
    return 0;
}

vs_merged_map *vs_merged_map_ref(vs_merged_map *m) {
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void vs_merged_map_unref(vs_merged_map *m) {
    if (atomic_fetch_sub(&m->refs, 1) > 1) return;
    if (m->mapped) m->store->unmap(m->store, m->mapped, m->file_bytes);
    free(m->tables);
    free(m);
}

/* First use: checksum and shape. Both walk the whole table, so the answer is kept. */
static void table_judge(const uint8_t *p, uint64_t length_bytes, uint32_t crc, vs_merged_table *t) {
    int sound = vs_crc32c(p, length_bytes) == crc && vs_packed_open(p, length_bytes, VS_MAP_COLUMNS, &t->table) == 0;
    t->verdict = sound ? 1 : -1;
}

int vs_merged_map_table(vs_merged_map *m, uint32_t i, uint32_t *volume, vs_packed *out) {
    if (i >= m->volumes) return 0;
    const uint8_t *d = directory_row(m, i);
    vs_merged_table *t = &m->tables[i];
    *volume = vs_get32(d);
    if (t->verdict == 0) table_judge(m->mapped + vs_get64(d + 8), vs_get64(d + 16), vs_get32(d + 4), t);
    if (t->verdict < 0)
        return vs_fault_set(-EBADMSG, *volume, 0, 0, vs_get64(d + 8), "%s: the map of volume %u is damaged", m->name, *volume);
    *out = t->table;
    return 1;
}

int vs_merged_map_find(vs_merged_map *m, uint32_t volume, vs_packed *out) {
    uint32_t low = 0, high = m->volumes, found;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (vs_get32(directory_row(m, mid)) < volume) low = mid + 1;
        else high = mid;
    }
    if (low >= m->volumes || vs_get32(directory_row(m, low)) != volume) return 0;
    return vs_merged_map_table(m, low, &found, out);
}

static void header_fill(uint8_t *h, const uint8_t uuid[16], const vs_merged_map *m, uint32_t volumes, uint32_t directory_crc, uint64_t file_bytes) {
    memcpy(h, VS_MAGIC_MAP, 8);
    vs_put32(h + 8, VS_FORMAT_VERSION);
    memcpy(h + 16, uuid, 16);
    vs_put64(h + 32, m->first_ordinal);
    vs_put64(h + 40, m->count);
    vs_put64(h + 48, m->first_seqno);
    vs_put64(h + 56, m->last_seqno);
    memcpy(h + 64, m->last_digest, 32);
    vs_put64(h + 96, file_bytes);
    vs_put32(h + 104, volumes);
    vs_put32(h + 108, directory_crc);
    vs_put64(h + 112, m->generation);
    vs_block_seal(h);
}

static int map_write_to(vs_store *s, int file, const uint8_t uuid[16], const vs_merged_map *m, const vs_map_table *tables, uint32_t count) {
    size_t head_bytes = VS_BLOCK_BYTES + (size_t)count * DIRECTORY_ROW;
    uint8_t *head = calloc(1, head_bytes);
    if (!head) return -ENOMEM;
    uint64_t at = head_bytes;
    int r = 0;
    for (uint32_t i = 0; i < count && r == 0; i++) {
        uint8_t *d = head + VS_BLOCK_BYTES + (size_t)i * DIRECTORY_ROW;
        vs_put32(d, tables[i].volume);
        vs_put32(d + 4, vs_crc32c(tables[i].bytes, tables[i].length_bytes));
        vs_put64(d + 8, at);
        vs_put64(d + 16, tables[i].length_bytes);
        vs_put64(d + 24, tables[i].data_bytes);
        struct iovec part = {tables[i].bytes, tables[i].length_bytes};
        r = s->write(s, file, at, &part, 1);
        at += tables[i].length_bytes;
    }
    if (r == 0) {
        header_fill(head, uuid, m, count, vs_crc32c(head + VS_BLOCK_BYTES, head_bytes - VS_BLOCK_BYTES), at);
        struct iovec part = {head, head_bytes};
        r = s->write(s, file, 0, &part, 1);
    }
    free(head);
    return r == 0 ? s->sync(s, file) : r;
}

/* Whatever has the name cannot be used, or it would not be made again. People may want to see it, but for what only tells of segments that were
 * compacted since. */
static int keep_bad(vs_store *s, const uint8_t uuid[16], const vs_merged_map *m) {
    char bad[64];
    vs_merged_map *there;
    int r = vs_merged_map_open(s, uuid, m->first_ordinal, m->count, &there);
    if (r == 0) {
        int older = there->generation < m->generation;
        vs_merged_map_unref(there);
        if (older) return 0;
    }
    snprintf(bad, sizeof bad, "%s.bad", m->name);
    r = s->rename(s, m->name, bad);
    return r == -ENOENT ? 0 : r;
}

int vs_merged_map_write(vs_store *s, const uint8_t uuid[16], const vs_merged_map *m, const vs_map_table *tables, uint32_t count) {
    static const char temporary[] = "maps/map.new";
    s->remove(s, temporary);
    int file = s->open(s, temporary, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (file < 0) return file;
    int r = map_write_to(s, file, uuid, m, tables, count);
    s->close(s, file);
    if (r == 0) r = keep_bad(s, uuid, m);
    if (r == 0) r = s->rename(s, temporary, m->name);
    return r == 0 ? s->sync_dir(s, "maps") : r;
}

/* Joins what continues, so that a merge of sequential writes stays small. */
typedef struct joiner {
    vs_packed_writer *w;
    uint64_t first_ordinal, data_bytes;
    vs_stack_run run; /* length 0: empty */
} joiner;

static int joiner_flush(joiner *j) {
    if (j->run.length_bytes == 0) return 0;
    int data = j->run.kind == VS_STACK_DATA;
    uint64_t row[VS_MAP_COLUMNS] = {j->run.offset_bytes, j->run.length_bytes, data ? j->run.ordinal - j->first_ordinal : 0, data ? j->run.block : 0};
    if (data) j->data_bytes += j->run.length_bytes;
    return vs_packed_append(j->w, row);
}

static int joiner_take(joiner *j, const vs_stack_run *run) {
    vs_stack_run *p = &j->run;
    int follows = p->length_bytes && p->kind == run->kind && p->offset_bytes + p->length_bytes == run->offset_bytes &&
                  (run->kind == VS_STACK_ZERO ||
                   (p->ordinal == run->ordinal && p->block + (run->offset_bytes / VS_BLOCK_BYTES - p->offset_bytes / VS_BLOCK_BYTES) == run->block));
    if (follows) {
        p->length_bytes += run->length_bytes;
        return 0;
    }
    int r = joiner_flush(j);
    *p = *run;
    return r;
}

int vs_stack_encode(const vs_stack *s, uint64_t first_ordinal, uint8_t **bytes, size_t *length_bytes, uint64_t *data_bytes) {
    joiner j = {.first_ordinal = first_ordinal};
    vs_cursor c;
    vs_stack_run run;
    int r = vs_packed_writer_new(VS_MAP_COLUMNS, &j.w);
    if (r < 0) return r;
    r = vs_cursor_init(&c, s);
    for (uint64_t at = 0; r == 0 && at < UINT64_MAX; at += run.length_bytes) {
        vs_stack_run_at(&c, at, UINT64_MAX, &run);
        if (run.kind != VS_STACK_HOLE) r = joiner_take(&j, &run);
    }
    vs_cursor_end(&c);
    if (r == 0) r = joiner_flush(&j);
    if (r == 0) r = vs_packed_finish(j.w, bytes, length_bytes);
    vs_packed_writer_free(j.w);
    *data_bytes = j.data_bytes;
    return r;
}
