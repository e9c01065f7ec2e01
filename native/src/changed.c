/* changed.c: see changed.h. */
#include "changed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_internal.h"

enum { BITS_AT = VS_BLOCK_BYTES, AGAIN_AT = BITS_AT + VS_CHANGED_BYTES, TAG_MAX = 96, NAME_BYTES = 40 };

/* Fields of the file's header block, native/FORMAT.md section 6. */
enum {
    AT_VERSION = 8,
    AT_FEATURES = 12,
    AT_UUID = 16,
    AT_VOLUME = 32,
    AT_STATE = 36,
    AT_SHIFT = 40,
    AT_REASON = 44,
    AT_SINCE_NS = 48,
    AT_SINCE_SEQNO = 56,
    AT_FLOOR_SEQNO = 64,
};

static uint64_t bit_of(const vs_changed *c, uint64_t offset_bytes) {
    uint64_t bit = offset_bytes >> c->shift;
    return bit < VS_CHANGED_BITS ? bit : VS_CHANGED_BITS - 1;
}

static uint64_t bit_end(const vs_changed *c, uint64_t bit, uint64_t size_bytes) {
    uint64_t end = (bit + 1) << c->shift;
    return bit == VS_CHANGED_BITS - 1 || end > size_bytes ? size_bytes : end;
}

static int bit_get(const vs_changed *c, uint64_t bit) {
    return c->bits[bit / 8] >> (bit % 8) & 1;
}

static int bytes_write(vs_store *s, int file, uint64_t at, const void *p, size_t n) {
    struct iovec part = {(void *)(uintptr_t)p, n};
    int r = s->write(s, file, at, &part, 1);
    return r == 0 ? s->sync(s, file) : r;
}

/* bits_mu held. What the file lacks from here on, it lacks for good: after a crash it is not to be believed. */
static void file_lost(vs_journal *j, vs_changed *c) {
    j->store->close(j->store, c->file);
    c->file = -1;
}

/* bits_mu held. Twice, one after the other: of the two that a crash leaves, one is sound. */
static void header_write(vs_journal *j, vs_primary *p, uint32_t state) {
    uint8_t h[VS_BLOCK_BYTES] = VS_MAGIC_CHANGED;
    if (p->changed.file < 0) return;
    vs_put32(h + AT_VERSION, VS_FORMAT_VERSION);
    memcpy(h + AT_UUID, j->options.uuid, 16);
    vs_put32(h + AT_VOLUME, p->volume);
    vs_put32(h + AT_STATE, state);
    vs_put32(h + AT_SHIFT, p->changed.shift);
    vs_put32(h + AT_REASON, (uint32_t)-j->gap.reason);
    vs_put64(h + AT_SINCE_NS, j->gap.since_ns);
    vs_put64(h + AT_SINCE_SEQNO, j->gap.since_seqno);
    vs_put64(h + AT_FLOOR_SEQNO, j->gap.floor_seqno);
    vs_block_seal(h);
    int r = bytes_write(j->store, p->changed.file, 0, h, sizeof h);
    if (r == 0) r = bytes_write(j->store, p->changed.file, AGAIN_AT, h, sizeof h);
    if (r < 0) file_lost(j, &p->changed);
}

static void tag_text(const vs_journal *j, char text[TAG_MAX]) {
    for (int i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", j->options.uuid[i]);
    snprintf(text + 32, TAG_MAX - 32, " %" PRIu64 " %" PRIu64 " %" PRIu64, j->gap.since_seqno, j->gap.since_ns, j->gap.floor_seqno);
}

/* Set the bits of a range, on the medium first where that can be had. */
void vs_changed_mark(vs_journal *j, vs_primary *p, uint64_t offset_bytes, uint64_t length_bytes) {
    vs_changed *c = &p->changed;
    if (!c->bits || length_bytes == 0) return;
    pthread_mutex_lock(&j->gap.bits_mu);
    uint64_t first = UINT64_MAX, last = 0;
    for (uint64_t bit = bit_of(c, offset_bytes), end = bit_of(c, offset_bytes + length_bytes - 1); bit <= end; bit++) {
        if (bit_get(c, bit)) continue;
        c->bits[bit / 8] |= (uint8_t)(1u << (bit % 8));
        if (first == UINT64_MAX) first = bit / 8;
        last = bit / 8;
    }
    if (first != UINT64_MAX && c->file >= 0) {
        uint64_t from = first / VS_BLOCK_BYTES * VS_BLOCK_BYTES, to = (last / VS_BLOCK_BYTES + 1) * VS_BLOCK_BYTES;
        if (bytes_write(j->store, c->file, BITS_AT + from, c->bits + from, to - from) < 0) file_lost(j, c);
    }
    pthread_mutex_unlock(&j->gap.bits_mu);
}

static void file_name(uint32_t volume, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES, "primary/%08" PRIx32 ".changed", volume);
}

/* A file of its full size, all of it written, so that it can be written to when the disk is full. */
static int file_make(vs_journal *j, const char *name, vs_primary *p) {
    static const uint8_t zeros[VS_CHANGED_BYTES];
    vs_store *s = j->store;
    int file = s->open(s, name, VS_OPEN_WRITE | VS_OPEN_CREATE);
    if (file < 0) return file;
    p->changed.file = file;
    if (bytes_write(s, file, BITS_AT, zeros, sizeof zeros) < 0) file_lost(j, &p->changed);
    else header_write(j, p, VS_GAP_NONE);
    return p->changed.file >= 0 ? s->sync_dir(s, "primary") : -EIO;
}

typedef struct left_open {
    uint32_t state, reason;
    uint64_t since_ns, since_seqno, floor_seqno;
    int all; /* the bits are not to be believed */
} left_open;

/* 1: one of the headers of a volume's file, and it is sound. */
static int header_read(const vs_journal *j, int file, uint32_t volume, uint64_t at, uint8_t h[VS_BLOCK_BYTES], left_open *out) {
    if (j->store->read(j->store, file, at, h, VS_BLOCK_BYTES) != VS_BLOCK_BYTES || memcmp(h, VS_MAGIC_CHANGED, 8) != 0 || !vs_block_check(h)) return 0;
    if (vs_get32(h + AT_VERSION) != VS_FORMAT_VERSION || vs_get32(h + AT_FEATURES) != 0) return 0;
    if (memcmp(h + AT_UUID, j->options.uuid, 16) != 0 || vs_get32(h + AT_VOLUME) != volume) return 0;
    *out = (left_open){vs_get32(h + AT_STATE), vs_get32(h + AT_REASON), vs_get64(h + AT_SINCE_NS), vs_get64(h + AT_SINCE_SEQNO),
                       vs_get64(h + AT_FLOOR_SEQNO), 0};
    return 1;
}

/* The first that is sound: where it is not, it was being written, and what that was for had not begun. */
static int headers_read(const vs_journal *j, int file, uint32_t volume, uint8_t h[VS_BLOCK_BYTES], left_open *out) {
    return header_read(j, file, volume, 0, h, out) || header_read(j, file, volume, AGAIN_AT, h, out);
}

/* What the file of a volume says. One without a sound header was never finished. */
static void file_look(vs_journal *j, vs_primary *p, left_open *out) {
    uint8_t h[VS_BLOCK_BYTES];
    vs_store *s = j->store;
    if (!headers_read(j, p->changed.file, p->volume, h, out)) return;
    out->all = vs_get32(h + AT_SHIFT) != p->changed.shift || (out->reason != ENOSPC && out->reason != EDQUOT) ||
               s->read(s, p->changed.file, BITS_AT, p->changed.bits, VS_CHANGED_BYTES) != VS_CHANGED_BYTES;
}

/* A tag with no open gap in the file: the file could not be written then. */
static void tag_look(vs_journal *j, const vs_primary *p, left_open *f) {
    char text[TAG_MAX] = "", uuid[33];
    uint64_t since_seqno, since_ns, floor_seqno;
    if (f->state != VS_GAP_NONE || !j->store->tagged || j->store->tagged(j->store, p->file, text, sizeof text) < 0) return;
    for (int i = 0; i < 16; i++) snprintf(uuid + 2 * i, 3, "%02x", j->options.uuid[i]);
    if (strncmp(text, uuid, 32) != 0 || sscanf(text + 32, " %" SCNu64 " %" SCNu64 " %" SCNu64, &since_seqno, &since_ns, &floor_seqno) != 3) return;
    *f = (left_open){VS_GAP_OPEN, EIO, since_ns, since_seqno, floor_seqno, 1};
}

/* Join a gap that was open when the last process ended: it began when the earliest of its volumes says so. */
static void gap_join(vs_journal *j, const left_open *f) {
    vs_gap *g = &j->gap;
    pthread_mutex_lock(&j->mu);
    if (g->state == VS_GAP_NONE) {
        g->state = (int)f->state;
        g->reason = -(int)f->reason;
        g->since_ns = f->since_ns;
        g->since_seqno = f->since_seqno;
        g->floor_seqno = f->floor_seqno;
        atomic_fetch_add(&g->ordered, 1);
    } else if (f->since_seqno < g->since_seqno) {
        g->since_ns = f->since_ns;
        g->since_seqno = f->since_seqno;
    }
    pthread_mutex_unlock(&j->mu);
}

int vs_changed_begin(vs_journal *j, vs_primary *p, uint64_t size_bytes, uint64_t *floor_seqno) {
    char name[NAME_BYTES];
    left_open f = {0};
    *floor_seqno = 0;
    p->changed = (vs_changed){.file = -1, .shift = VS_CHANGED_SHIFT_MIN};
    while (size_bytes >> p->changed.shift >= VS_CHANGED_BITS) p->changed.shift++;
    p->changed.bits = calloc(1, VS_CHANGED_BYTES);
    if (!p->changed.bits) return -ENOMEM;
    file_name(p->volume, name);
    int file = j->store->open(j->store, name, VS_OPEN_WRITE);
    if (file >= 0) {
        p->changed.file = file;
        file_look(j, p, &f);
    } else if (file == -ENOENT && j->options.available) {
        file_make(j, name, p); /* without it all of the volume counts as changed after a crash */
    }
    tag_look(j, p, &f);
    if (f.state == VS_GAP_NONE) return 0;
    if (f.all) memset(p->changed.bits, 0xff, VS_CHANGED_BYTES);
    gap_join(j, &f);
    *floor_seqno = f.floor_seqno;
    return 0;
}

/* 1: the owner has noted in a volume's file that a gap is open, and not in the journal yet. */
static int volume_look(const vs_journal *j, uint32_t volume, left_open *out) {
    char name[NAME_BYTES];
    uint8_t h[VS_BLOCK_BYTES];
    file_name(volume, name);
    int file = j->store->open(j->store, name, VS_OPEN_READ);
    if (file < 0) return 0;
    int open = headers_read(j, file, volume, h, out) && out->state == VS_GAP_OPEN;
    j->store->close(j->store, file);
    return open;
}

void vs_changed_follow(vs_journal *j) {
    vs_gap *g = &j->gap;
    left_open f;
    g->state = VS_GAP_NONE;
    for (size_t i = 0; i < j->head.count; i++) {
        const vs_volume_state *v = &j->head.volumes[i];
        if (v->removed || !volume_look(j, v->id, &f) || (g->state != VS_GAP_NONE && f.since_seqno >= g->since_seqno)) continue;
        g->state = VS_GAP_OPEN;
        g->reason = -(int)f.reason;
        g->since_ns = f.since_ns;
        g->since_seqno = f.since_seqno;
    }
}

void vs_changed_end(vs_journal *j, vs_primary *p) {
    if (p->changed.file >= 0) j->store->close(j->store, p->changed.file);
    free(p->changed.bits);
    p->changed = (vs_changed){.file = -1};
}

void vs_changed_close_gap(vs_journal *j, vs_primary *p) {
    vs_changed *c = &p->changed;
    pthread_mutex_lock(&j->gap.bits_mu);
    memset(c->bits, 0, VS_CHANGED_BYTES);
    if (c->file >= 0 && bytes_write(j->store, c->file, BITS_AT, c->bits, VS_CHANGED_BYTES) < 0) file_lost(j, c);
    header_write(j, p, VS_GAP_NONE);
    pthread_mutex_unlock(&j->gap.bits_mu);
    if (j->store->tag) j->store->tag(j->store, p->file, NULL);
}

void vs_changed_open_gap(vs_journal *j, vs_primary *p) {
    char text[TAG_MAX];
    tag_text(j, text);
    if (j->store->tag) j->store->tag(j->store, p->file, text);
    pthread_mutex_lock(&j->gap.bits_mu);
    header_write(j, p, VS_GAP_OPEN);
    pthread_mutex_unlock(&j->gap.bits_mu);
}

int vs_changed_next(const vs_changed *c, uint64_t from_bytes, uint64_t size_bytes, uint64_t *offset_bytes, uint64_t *end_bytes) {
    for (uint64_t at = from_bytes; at < size_bytes; at = bit_end(c, bit_of(c, at), size_bytes)) {
        if (!bit_get(c, bit_of(c, at))) continue;
        *offset_bytes = at;
        *end_bytes = bit_end(c, bit_of(c, at), size_bytes);
        return 1;
    }
    return 0;
}

void vs_changed_clear(vs_changed *c, uint64_t offset_bytes, uint64_t end_bytes, uint64_t size_bytes) {
    uint64_t bit = bit_of(c, offset_bytes);
    if (end_bytes >= bit_end(c, bit, size_bytes)) c->bits[bit / 8] &= (uint8_t)~(1u << (bit % 8));
}
