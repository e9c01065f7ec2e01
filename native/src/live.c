/* live.c: the splitter's file: a volume as it is now.
 *
 * Bytes that are appended but not yet on the primary are read from the batches in memory, newest first; all others from the primary.
 * A batch leaves memory only after it has been applied, so what is not found here is on the primary.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal_internal.h"
#include "view.h"

typedef struct gap {
    uint64_t offset_bytes, length_bytes;
} gap;

enum { GAPS_MAX = 512 };

/* The extent of a batch that covers `at`, or how far there is none (*limit). */
static int batch_covers(const vs_batch *b, uint32_t volume, uint64_t at, vs_extent *e, uint64_t *limit) {
    const vs_extent_map *m = vs_batch_find(b, volume);
    if (!m || !vs_extent_map_find(m, at, e)) return 0;
    if (e->offset_bytes <= at) {
        if (e->offset_bytes + e->length_bytes < *limit) *limit = e->offset_bytes + e->length_bytes;
        return 1;
    }
    if (e->offset_bytes < *limit) *limit = e->offset_bytes;
    return 0;
}

static void extent_copy(const vs_batch *b, const vs_extent *e, uint64_t at, uint64_t length_bytes, uint8_t *to) {
    if (e->block == 0) {
        memset(to, 0, length_bytes);
        return;
    }
    uint64_t block = e->block - 1 + (at / VS_BLOCK_BYTES - e->offset_bytes / VS_BLOCK_BYTES);
    memcpy(to, b->payload + block * VS_BLOCK_BYTES + at % VS_BLOCK_BYTES, length_bytes);
}

/* mu held. Fill what is in memory, list what is not. Returns the gaps; *end: how far it got (gaps may run out). */
static int memory_read(const vs_journal *j, uint32_t volume, uint64_t from, uint64_t *end, uint8_t *buf, gap *gaps) {
    int n = 0;
    uint64_t at = from;
    while (at < *end && n < GAPS_MAX) {
        uint64_t limit = *end;
        vs_extent e;
        const vs_batch *b = &j->batch[j->filling];
        int found = batch_covers(b, volume, at, &e, &limit);
        if (!found) {
            b = &j->batch[!j->filling];
            found = batch_covers(b, volume, at, &e, &limit);
        }
        if (found) extent_copy(b, &e, at, limit - at, buf + (at - from));
        else gaps[n++] = (gap){at, limit - at};
        at = limit;
    }
    *end = at;
    return n;
}

static int gap_read(vs_store *s, int file, const gap *g, uint8_t *to) {
    int64_t n = s->read(s, file, g->offset_bytes, to, g->length_bytes);
    if (n < 0) return (int)n;
    memset(to + n, 0, g->length_bytes - (uint64_t)n); /* a primary that is shorter than its volume */
    return 0;
}

static int gaps_read(vs_journal *j, vs_primary *p, const gap *gaps, int count, uint64_t from, uint8_t *to) {
    int r = 0;
    for (int i = 0; r == 0 && i < count; i++) r = gap_read(j->store, p->file, &gaps[i], to + (gaps[i].offset_bytes - from));
    pthread_mutex_lock(&j->mu);
    if (--p->users == 0) pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->mu);
    return r;
}

/* Read as much of [from, end) as fits the gaps. *end: how far it got; from when the volume ends before. */
static int piece_read(vs_journal *j, uint32_t volume, uint64_t from, uint64_t *end, uint8_t *to) {
    gap gaps[GAPS_MAX];
    pthread_mutex_lock(&j->mu);
    const vs_volume_state *v = vs_states_find(&j->head, volume);
    vs_primary *p = vs_journal_primary(j, volume);
    int count = 0, r = !v || v->removed || !p ? -ENOENT : p->error ? -EIO : 0;
    if (r == 0 && *end > v->size_bytes) *end = from < v->size_bytes ? v->size_bytes : from;
    if (r == 0 && from < *end) count = memory_read(j, volume, from, end, to, gaps);
    if (count) p->users++;
    pthread_mutex_unlock(&j->mu);
    return count ? gaps_read(j, p, gaps, count, from, to) : r;
}

int64_t vs_journal_read_live(vs_journal *j, uint32_t volume, uint64_t offset_bytes, void *buf, uint64_t length_bytes) {
    uint64_t done = 0;
    while (done < length_bytes) {
        uint64_t end = offset_bytes + length_bytes;
        int r = piece_read(j, volume, offset_bytes + done, &end, (uint8_t *)buf + done);
        if (r < 0) return r;
        if (end == offset_bytes + done) break;
        done = end - offset_bytes;
    }
    return (int64_t)done;
}

typedef struct live_file {
    vs_volume_file ops;
    vs_journal *journal;
    uint32_t volume;
} live_file;

static live_file *live(vs_volume_file *f) {
    return (live_file *)f;
}

static uint64_t live_size(vs_volume_file *f) {
    vs_journal *j = live(f)->journal;
    pthread_mutex_lock(&j->mu);
    const vs_volume_state *v = vs_states_find(&j->head, live(f)->volume);
    uint64_t size = v && !v->removed ? v->size_bytes : 0;
    pthread_mutex_unlock(&j->mu);
    return size;
}

static int64_t live_read(vs_volume_file *f, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    return vs_journal_read_live(live(f)->journal, live(f)->volume, offset_bytes, buf, length_bytes);
}

/* Commit, and see that it reached this volume's primary. */
static int live_sync(vs_volume_file *f) {
    vs_journal *j = live(f)->journal;
    int r = vs_journal_commit_volume(j, live(f)->volume);
    pthread_mutex_lock(&j->mu);
    const vs_primary *p = vs_journal_primary(j, live(f)->volume);
    if (r == 0 && p && p->error) r = -EIO;
    pthread_mutex_unlock(&j->mu);
    return r;
}

/* Was the request sent again, and is all of it in the journal? */
static int request_done(vs_journal *j, const vs_request *q) {
    if (!q || !(q->number & VS_REQUEST_RESENT)) return 0;
    pthread_mutex_lock(&j->mu);
    int done = vs_journal_find_request(j, q, NULL);
    pthread_mutex_unlock(&j->mu);
    return done;
}

static int64_t live_write(vs_volume_file *f, uint64_t offset_bytes, const void *buf, size_t length_bytes, int durable, const vs_request *q) {
    uint64_t size = live_size(f), done = request_done(live(f)->journal, q) ? length_bytes : 0;
    if (offset_bytes >= size) return -ENOSPC;
    if (length_bytes > size - offset_bytes) length_bytes = size - offset_bytes;
    int r = 0;
    for (uint64_t n; r == 0 && done < length_bytes; done += n) { /* of several records, the last one stands for the request */
        n = length_bytes - done < VS_WRITE_MAX ? length_bytes - done : VS_WRITE_MAX;
        r = vs_journal_write(live(f)->journal, live(f)->volume, offset_bytes + done, (const uint8_t *)buf + done, n,
                             done + n == length_bytes ? q : NULL, NULL);
    }
    if (r == 0 && durable) r = live_sync(f);
    return r < 0 ? r : (int64_t)length_bytes;
}

static int live_zero(vs_volume_file *f, uint64_t offset_bytes, uint64_t length_bytes, const vs_request *q) {
    return vs_journal_zero(live(f)->journal, live(f)->volume, offset_bytes, length_bytes, q, NULL);
}

/* The primary's holes are not known here: all of it counts as data, which is always allowed. */
static int64_t live_seek(vs_volume_file *f, uint64_t offset_bytes, int whence) {
    uint64_t size = live_size(f);
    if (offset_bytes >= size) return -ENXIO;
    return whence == SEEK_DATA ? (int64_t)offset_bytes : whence == SEEK_HOLE ? (int64_t)size : -EINVAL;
}

static void live_release(vs_volume_file *f) {
    free(f);
}

int vs_live_file(vs_journal *j, uint32_t volume, vs_volume_file **out) {
    pthread_mutex_lock(&j->mu);
    int found = vs_journal_primary(j, volume) != NULL;
    pthread_mutex_unlock(&j->mu);
    if (!found) return -ENOENT;
    live_file *f = malloc(sizeof *f);
    if (!f) return -ENOMEM;
    *f = (live_file){{live_size, live_read, live_write, live_zero, live_sync, live_seek, live_release}, j, volume};
    *out = &f->ops;
    return 0;
}
