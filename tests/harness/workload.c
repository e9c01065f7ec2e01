/* workload.c: see workload.h.
 *
 * The bytes of a write are drawn from its own seed, so that the model keeps no content: 64 bits of it are never equal by chance in two
 * records, and a block that a crash left behind is told from any other.
 */
#include "workload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compact.h"
#include "journal_internal.h"
#include "../native/check.h"

enum { BLOCK = 4096, VOLUME_BYTES = WORKLOAD_VOLUME_BLOCKS * BLOCK, WRITE_BLOCKS = 6, BODY_BYTES = 64, BLOCK_SIZE_BYTES = 512, LANES = 8 };

static const uint8_t uuid[16] = "crash-workload!";

typedef struct record {
    uint32_t type, volume;
    uint64_t a, b;
    uint64_t content; /* seed of a write's bytes, of an event's body */
    uint32_t zeros;   /* of a write: bit i, its i-th block is zeros */
    uint32_t primary, base; /* of a volume that is added */
    uint32_t may_be_gone;   /* a compaction was begun that keeps this point no more */
    uint32_t may_be_dropped; /* or this event */
} record;

typedef struct volume {
    int present, removed, primary, base, attached;
    int file; /* of the primary, while it is attached */
    uint64_t size_bytes;
    uint64_t on_primary; /* ack = both: every record up to here is on the primary, and synced */
} volume;

typedef struct image {
    int present, removed;
    uint64_t size_bytes;
    uint8_t bytes[VOLUME_BYTES];
} image;

struct workload {
    uint64_t seed, rng;
    uint64_t compact_rng; /* of its own, so that what a seed did before there were compactions stays; 0: there are none */
    vs_journal_options options;
    vs_store *store;
    vs_journal *journal;
    record *records; /* records[i] has seqno i + 1 */
    uint64_t appended, room, durable, steps, opens, compactions, window;
    uint64_t settled; /* durable, as a run with a journal has it: without one every record is at once, and both have to draw the same */
    volume volumes[WORKLOAD_VOLUMES_MAX];
    image images[WORKLOAD_VOLUMES_MAX];   /* of a walk through the model */
    uint8_t found[WORKLOAD_VOLUMES_MAX][VOLUME_BYTES]; /* the primaries as a crash left them */
    uint8_t known[VOLUME_BYTES];
    char why[400];
};

/* ---- small things ---- */

static int wrong(workload *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int wrong(workload *w, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(w->why, sizeof w->why, fmt, args);
    va_end(args);
    return WORKLOAD_WRONG;
}

/* A call of the core or the store that failed. */
static int failed(workload *w, int code, const char *what) {
    vs_fault fault;
    vs_fault_last(&fault);
    snprintf(w->why, sizeof w->why, "%s: %s (%s)", what, strerror(-code), fault.code ? fault.text : "no fault");
    return code;
}

static void *need(void *p) {
    CHECK(p != NULL);
    return p;
}

static uint64_t below(workload *w, uint64_t limit) {
    return draw_below(&w->rng, limit);
}

static void content_fill(uint64_t seed, uint8_t *to, uint64_t length_bytes) {
    uint64_t state = seed;
    for (uint64_t at = 0; at < length_bytes; at += 8) {
        uint64_t word = draw(&state);
        memcpy(to + at, &word, length_bytes - at < 8 ? length_bytes - at : 8);
    }
}

/* Bytes of a write: drawn, but for whole blocks of the volume that are zeros. */
static void write_fill(const record *r, uint8_t *to) {
    content_fill(r->content, to, r->b);
    uint64_t first = r->a / BLOCK;
    for (uint64_t i = first; i * BLOCK < r->a + r->b; i++) {
        if (i - first >= 32 || !(r->zeros >> (i - first) & 1)) continue;
        uint64_t low = i * BLOCK > r->a ? i * BLOCK : r->a, high = (i + 1) * BLOCK < r->a + r->b ? (i + 1) * BLOCK : r->a + r->b;
        memset(to + (low - r->a), 0, high - low);
    }
}

static uint32_t body_fill(uint64_t seed, char *to) {
    return (uint32_t)snprintf(to, BODY_BYTES, "{\"content\":\"%016" PRIx64 "\"}", seed);
}

static uint64_t base_seed(const workload *w, uint32_t id) {
    return w->seed * 1000003 + id;
}

/* What a volume starts from: data, with a hole in it. */
static void base_fill(const workload *w, uint32_t id, uint64_t size_bytes, uint8_t *to) {
    content_fill(base_seed(w, id), to, size_bytes);
    if (size_bytes > 3 * BLOCK) memset(to + BLOCK, 0, BLOCK);
}

/* ---- the model ---- */

static void image_clear(image *m) {
    m->present = m->removed = 0;
    m->size_bytes = 0;
    memset(m->bytes, 0, sizeof m->bytes);
}

static void model_begin(workload *w) {
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++) image_clear(&w->images[i]);
}

/* Do one record to the images. Returns the image it changed, NULL: none. *low, *high: the bytes that it changed. */
static image *model_apply(workload *w, const record *r, uint64_t *low, uint64_t *high) {
    if (r->volume == 0) return NULL;
    image *m = &w->images[r->volume - 1];
    *low = *high = 0;
    switch (r->type) {
    case VS_RECORD_WRITE:
        write_fill(r, m->bytes + r->a);
        break;
    case VS_RECORD_ZERO:
        memset(m->bytes + r->a, 0, r->b);
        break;
    case VS_RECORD_VOLUME_ADD:
        m->present = 1;
        m->size_bytes = r->b;
        if (r->base) base_fill(w, r->volume, r->b, m->bytes);
        *high = r->b;
        return m;
    case VS_RECORD_VOLUME_RESIZE:
        *low = r->a < r->b ? r->a : r->b;
        *high = r->a < r->b ? r->b : r->a;
        memset(m->bytes + *low, 0, *high - *low);
        m->size_bytes = r->b;
        return m;
    default:
        m->removed = 1;
        return m;
    }
    *low = r->a;
    *high = r->a + r->b;
    return m;
}

static void model_put(workload *w, const record *r) {
    if (w->appended == w->room) {
        w->room = w->room ? w->room * 2 : 64;
        w->records = need(realloc(w->records, w->room * sizeof *w->records));
    }
    w->records[w->appended++] = *r;
    if (!w->journal) w->durable = w->appended;
}

/* The volumes as the last record leaves them, for those who draw what comes next. */
static void volume_fold(workload *w, const record *r) {
    if (r->volume == 0) return;
    volume *v = &w->volumes[r->volume - 1];
    if (r->type == VS_RECORD_VOLUME_ADD) {
        v->present = 1;
        v->removed = 0;
        v->size_bytes = r->b;
        v->primary = (int)r->primary;
        v->base = (int)r->base;
    }
    if (r->type == VS_RECORD_VOLUME_RESIZE) v->size_bytes = r->b;
    if (r->type == VS_RECORD_VOLUME_REMOVE) v->removed = 1;
}

/* The history ends with last: forget what was appended after it. */
static void model_cut(workload *w, uint64_t last) {
    w->appended = last;
    w->durable = w->settled = last;
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++) {
        volume *v = &w->volumes[i];
        v->present = v->removed = v->primary = v->base = 0;
        if (v->on_primary > last) v->on_primary = last;
    }
    for (uint64_t i = 0; i < last; i++) volume_fold(w, &w->records[i]);
}

/* ---- files ---- */

static void primary_name(uint32_t id, char name[40]) {
    snprintf(name, 40, "primary/%08x.img", id);
}

static int file_fill(vs_store *s, int file, const uint8_t *bytes, uint64_t size_bytes) {
    int r = s->truncate(s, file, size_bytes);
    struct iovec part = {(void *)(uintptr_t)bytes, size_bytes};
    if (r == 0 && bytes) r = s->write(s, file, 0, &part, 1);
    return r == 0 ? s->sync(s, file) : r;
}

/* What a crash has left under the names of a base must not become one. */
static int base_clear(workload *w, uint32_t id) {
    vs_store *s = w->store;
    char image_name[40], index_name[40];
    snprintf(image_name, sizeof image_name, "base/%08x.img", id);
    snprintf(index_name, sizeof index_name, "base/%08x.idx", id);
    int r = s->remove(s, image_name);
    if (r == 0 || r == -ENOENT) r = s->remove(s, index_name);
    return r == 0 || r == -ENOENT ? s->sync_dir(s, "base") : r;
}

/* A new file under its name; what a crash left there goes. */
static int file_new(vs_store *s, const char *name) {
    int r = s->remove(s, name);
    return r < 0 && r != -ENOENT ? r : s->open(s, name, VS_OPEN_WRITE | VS_OPEN_CREATE);
}

/* As a repository makes it: whole and durable before the volume's event. */
static int primary_make(workload *w, uint32_t id, const uint8_t *bytes, uint64_t size_bytes) {
    vs_store *s = w->store;
    char name[40];
    static const char part[] = "primary/new.part";
    primary_name(id, name);
    int file = file_new(s, part);
    if (file < 0) return file;
    int r = file_fill(s, file, bytes, size_bytes);
    if (r == 0) r = s->rename(s, part, name);
    if (r == 0) r = s->sync_dir(s, "primary");
    if (r == 0) return file;
    s->close(s, file);
    return r;
}

static int base_make(workload *w, uint32_t id, const uint8_t *bytes, uint64_t size_bytes) {
    vs_store *s = w->store;
    char image_name[40], index_name[40];
    uint64_t data_bytes;
    vs_base_builder *b = NULL;
    snprintf(image_name, sizeof image_name, "base/%08x.img", id);
    snprintf(index_name, sizeof index_name, "base/%08x.idx", id);
    int image_file = file_new(s, image_name);
    if (image_file < 0) return image_file;
    int index_file = file_new(s, index_name);
    int r = index_file < 0 ? index_file : file_fill(s, image_file, bytes, size_bytes);
    if (r == 0) r = vs_base_builder_new(s, uuid, id, size_bytes, image_file, -1, index_file, &b);
    if (r == 0) r = vs_base_builder_take(b, 0, size_bytes, 1);
    if (r == 0) r = vs_base_builder_finish(b, &data_bytes);
    if (b) vs_base_builder_free(b);
    if (index_file >= 0) s->close(s, index_file);
    s->close(s, image_file);
    return r == 0 ? s->sync_dir(s, "base") : r;
}

/* ---- steps ---- */

/* A write or a zero as a request: its number is its seqno. */
static int extent_put(workload *w, const record *r, uint64_t resent, uint64_t *seqno) {
    uint8_t bytes[VOLUME_BYTES];
    vs_request q = {.number = *seqno | resent, .lane = (uint32_t)(*seqno % LANES)};
    if (r->type == VS_RECORD_ZERO) return vs_journal_zero(w->journal, r->volume, r->a, r->b, &q, seqno);
    write_fill(r, bytes);
    return vs_journal_write(w->journal, r->volume, r->a, bytes, r->b, &q, seqno);
}

/* Append a record, to the journal if there is one, and to the model when it was taken. */
static int put(workload *w, record *r) {
    char body[BODY_BYTES];
    uint64_t seqno = w->appended + 1;
    int code = 0;
    if (w->journal && (r->type == VS_RECORD_WRITE || r->type == VS_RECORD_ZERO)) {
        code = extent_put(w, r, 0, &seqno);
    } else if (w->journal) {
        uint32_t length = body_fill(r->content, body);
        code = vs_journal_event(w->journal, r->type, r->volume, r->a, r->b, body, length, &seqno, NULL);
    }
    if (code < 0) return failed(w, code, "append");
    if (seqno != w->appended + 1) return wrong(w, "a record got seqno %" PRIu64 ", not %" PRIu64, seqno, w->appended + 1);
    model_put(w, r);
    volume_fold(w, r);
    return 0;
}

/* As an application's fsync of one live volume. */
static int live_sync(workload *w, uint32_t id) {
    vs_volume_file *f;
    int r = vs_live_file(w->journal, id, &f);
    if (r < 0) return r;
    r = f->sync(f);
    f->release(f);
    return r;
}

static int has_primary(const volume *v) {
    return v->present && !v->removed && v->primary;
}

/* Without a journal: what the primaries have then, since those that there are were attached. */
static void model_commit(workload *w, uint32_t id) {
    int one = id && has_primary(&w->volumes[id - 1]);
    for (uint32_t i = 0; i < WORKLOAD_VOLUMES_MAX; i++)
        if (!w->options.ack_journal && has_primary(&w->volumes[i]) && (!one || i + 1 == id)) w->volumes[i].on_primary = w->appended;
}

/* Of all volumes (0), or of one. A primary that has failed promises nothing, and an fsync of its volume must not say otherwise. */
static int commit(workload *w, uint32_t id) {
    uint64_t target = w->appended;
    int one = id && w->volumes[id - 1].attached;
    int r = !w->journal ? 0 : one ? live_sync(w, id) : vs_journal_commit(w->journal);
    if (r < 0) return failed(w, r, "commit");
    w->durable = w->settled = target;
    if (!w->journal) model_commit(w, id);
    for (uint32_t i = 0; i < WORKLOAD_VOLUMES_MAX; i++) {
        volume *v = &w->volumes[i];
        if (!v->attached || (one && i + 1 != id)) continue;
        int error = vs_journal_primary(w->journal, i + 1)->error;
        if (error && one) return wrong(w, "fsync of volume %u was answered although its primary has failed", id);
        if (!error && !w->options.ack_journal) v->on_primary = target;
    }
    return 0;
}

/* Takes file over. */
static int attach(workload *w, uint32_t id, int file) {
    volume *v = &w->volumes[id - 1];
    int r = vs_journal_attach_primary(w->journal, id, file);
    if (r < 0) {
        vs_journal_hold_applied(w->journal);
        w->store->close(w->store, file);
        return failed(w, r, "attach");
    }
    v->attached = 1;
    v->file = file;
    v->on_primary = w->appended;
    return 0;
}

/* A volume that is there and not removed; 0: none. */
static uint32_t pick(workload *w) {
    uint32_t alive[WORKLOAD_VOLUMES_MAX], n = 0;
    for (uint32_t i = 0; i < WORKLOAD_VOLUMES_MAX; i++)
        if (w->volumes[i].present && !w->volumes[i].removed) alive[n++] = i + 1;
    uint64_t which = below(w, WORKLOAD_VOLUMES_MAX * 2);
    return n ? alive[which % n] : 0;
}

static int step_add(workload *w) {
    record r = {.type = VS_RECORD_VOLUME_ADD, .a = BLOCK_SIZE_BYTES};
    uint32_t id = 0;
    while (id < WORKLOAD_VOLUMES_MAX && w->volumes[id].present) id++;
    r.volume = id + 1;
    r.b = below(w, 2) ? (1 + below(w, WORKLOAD_VOLUME_BLOCKS)) * BLOCK : 1 + below(w, VOLUME_BYTES);
    r.primary = id == 0 || below(w, 2) ? 1 : 0;
    r.base = below(w, 4) == 0;
    r.content = draw(&w->rng);
    if (id == WORKLOAD_VOLUMES_MAX) return 0;
    volume *v = &w->volumes[id];
    uint8_t bytes[VOLUME_BYTES];
    int file = -1, code = 0;
    if (r.base) base_fill(w, r.volume, r.b, bytes);
    if (w->journal) code = base_clear(w, r.volume);
    if (w->journal && r.base && code == 0) code = base_make(w, r.volume, bytes, r.b);
    if (w->journal && r.primary && code == 0) {
        file = primary_make(w, r.volume, r.base ? bytes : NULL, r.b);
        code = file < 0 ? file : 0;
    }
    if (code < 0) return failed(w, code, "make a volume's files");
    v->on_primary = 0;
    code = put(w, &r);
    if (code == 0) code = commit(w, 0);
    if (file < 0 || code != 0) {
        if (file >= 0) w->store->close(w->store, file);
        return code;
    }
    return attach(w, r.volume, file);
}

static int step_write(workload *w) {
    record r = {.type = VS_RECORD_WRITE, .volume = pick(w)};
    uint64_t where = draw(&w->rng), shape = below(w, 8), length = draw(&w->rng);
    r.content = draw(&w->rng);
    r.zeros = (uint32_t)(below(w, 4) == 0 ? draw(&w->rng) & 0x15 : 0);
    if (r.volume == 0) return 0;
    uint64_t size = w->volumes[r.volume - 1].size_bytes;
    r.a = where % size;
    r.b = shape < 2 ? 1 + length % 600 : shape < 4 ? 1 + length % (WRITE_BLOCKS * BLOCK) : (1 + length % WRITE_BLOCKS) * BLOCK;
    if (shape >= 4) r.a -= r.a % BLOCK;
    if (r.b > size - r.a) r.b = size - r.a;
    return put(w, &r);
}

static int step_zero(workload *w) {
    record r = {.type = VS_RECORD_ZERO, .volume = pick(w)};
    uint64_t where = draw(&w->rng), length = draw(&w->rng);
    if (r.volume == 0) return 0;
    uint64_t size = w->volumes[r.volume - 1].size_bytes;
    r.a = where % size;
    r.b = 1 + length % (size - r.a);
    return put(w, &r);
}

static int step_burst(workload *w) {
    int r = 0;
    for (uint64_t n = 2 + below(w, 10); n > 0 && r == 0; n--) r = below(w, 5) ? step_write(w) : step_zero(w);
    return r;
}

static int step_bookmark(workload *w) {
    uint64_t kind = below(w, 8), at = draw(&w->rng);
    record r = {.type = kind == 0 ? VS_RECORD_BOOKMARK_REMOVE : kind == 1 ? VS_RECORD_BOOKMARK_HOLD : VS_RECORD_BOOKMARK_ADD};
    r.content = draw(&w->rng);
    r.a = w->appended == 0 ? 0 : 1 + at % w->appended;
    if (r.type == VS_RECORD_BOOKMARK_ADD && kind < 7) r.a = 0;
    if (r.type != VS_RECORD_BOOKMARK_ADD && r.a == 0) return 0;
    int code = put(w, &r);
    if (code == 0 && r.type == VS_RECORD_BOOKMARK_ADD && r.a == 0) w->records[w->appended - 1].a = w->appended; /* names itself */
    return code == 0 && below(w, 2) ? commit(w, 0) : code;
}

/* A primary grows before the event and shrinks after it, synced, as a repository does it: through a file of its own, so that the journal's own sync
 * still gets the error of one that fails here. One that is long enough to grow into stays: it may be that of a volume whose shrinking was
 * never committed. */
static int primary_length(workload *w, uint32_t id, uint64_t size_bytes, int growing) {
    vs_store *s = w->store;
    char path[40];
    primary_name(id, path);
    int file = s->open(s, path, VS_OPEN_WRITE);
    if (file < 0) return failed(w, file, "open a primary");
    int64_t is = s->size(s, file);
    int r = is < 0 ? (int)is : growing && (uint64_t)is >= size_bytes ? 0 : s->truncate(s, file, size_bytes);
    if (r == 0) r = s->sync(s, file);
    s->close(s, file);
    return r < 0 ? failed(w, r, "give a primary another length") : 0;
}

static int step_resize(workload *w) {
    record r = {.type = VS_RECORD_VOLUME_RESIZE, .volume = pick(w)};
    uint64_t size = 1 + below(w, VOLUME_BYTES);
    r.content = draw(&w->rng);
    if (r.volume == 0) return 0;
    volume *v = &w->volumes[r.volume - 1];
    r.a = v->size_bytes;
    r.b = size;
    if (r.a == r.b || (w->journal && v->primary && !v->attached)) return 0; /* refused: its primary could not be had */
    int code = v->attached && r.b > r.a ? primary_length(w, r.volume, r.b, 1) : 0;
    if (code == 0) code = put(w, &r);
    if (code == 0) code = commit(w, 0);
    return code == 0 && v->attached && r.b < r.a ? primary_length(w, r.volume, r.b, 0) : code;
}

static int step_remove(workload *w) {
    record r = {.type = VS_RECORD_VOLUME_REMOVE, .volume = pick(w)};
    r.content = draw(&w->rng);
    if (r.volume <= 1) return 0; /* one stays */
    volume *v = &w->volumes[r.volume - 1];
    int code = commit(w, 0);
    if (code == 0 && v->attached) {
        code = vs_journal_detach_primary(w->journal, r.volume);
        v->attached = 0;
        w->store->close(w->store, v->file);
        if (code < 0) return failed(w, code, "detach");
    }
    if (code == 0) code = put(w, &r);
    return code == 0 ? commit(w, 0) : code;
}

static int step_seal(workload *w) {
    int r = w->journal ? vs_journal_seal(w->journal) : 0;
    if (r < 0) return failed(w, r, "seal");
    return commit(w, 0);
}

static int step_merge(workload *w) {
    int r = w->journal ? vs_journal_merge_maps(w->journal) : 0;
    return r < 0 ? failed(w, r, "merge maps") : 0;
}

/* A root is one of those that every compaction so far has kept. */
static int is_root(const workload *w, uint64_t seqno, uint64_t drawn) {
    uint64_t state = drawn ^ seqno;
    return !w->records[seqno - 1].may_be_gone && draw_below(&state, 4) == 0;
}

static int is_name(const record *r) {
    return r->type == VS_RECORD_BOOKMARK_ADD || r->type == VS_RECORD_BOOKMARK_REMOVE || r->type == VS_RECORD_BOOKMARK_HOLD;
}

/* A compaction as it is asked for. */
typedef struct compaction {
    uint64_t *points, *dropped, point_count, dropped_count;
} compaction;

/* The model first: whatever comes of it, from here on points and events may be gone. window: from there on all is kept. */
static compaction compaction_begin(workload *w, uint64_t window, uint64_t drawn) {
    compaction to = {need(malloc((window + 1) * 8)), need(malloc((window + 1) * 8)), 0, 0};
    for (uint64_t s = 1; s < window; s++) {
        record *r = &w->records[s - 1];
        uint64_t state = drawn + s;
        if (is_root(w, s, drawn)) to.points[to.point_count++] = s;
        else r->may_be_gone = 1;
        if (!is_name(r) || draw_below(&state, 3)) continue;
        r->may_be_dropped = 1;
        to.dropped[to.dropped_count++] = s;
    }
    to.points[to.point_count++] = window;
    return to;
}

/* Groups that can be compacted, in the order of their beginnings; the number of one of them picks it. 1: there are any. */
static int group_pick(workload *w, uint64_t drawn, uint64_t *first, uint64_t *count) {
    uint64_t found[64][2], n = 0;
    vs_segment_facts f;
    for (uint64_t i = 0; vs_journal_segment_at(w->journal, i, &f) == 0 && f.sealed && n < 62; i++) {
        uint64_t end = f.ordinal + f.ordinals;
        for (uint64_t size = 8; size <= 64 && end % size == 0; size *= 8) {
            found[n][0] = end - size;
            found[n++][1] = size;
        }
    }
    if (n == 0) return 0;
    *first = found[drawn % n][0];
    *count = found[drawn % n][1];
    return 1;
}

static int step_compact(workload *w) {
    uint64_t drawn = draw(&w->compact_rng), where = draw(&w->compact_rng), which = draw(&w->compact_rng), first, count;
    vs_compact_facts facts;
    if (w->settled == 0) return 0;
    uint64_t window = w->settled - where % (w->settled / 4 + 1);
    if (window < w->window) window = w->window; /* it never goes back: what was before it is gone */
    w->window = window;
    compaction to = compaction_begin(w, window, drawn);
    int r = w->journal && group_pick(w, which, &first, &count)
                ? vs_journal_compact(w->journal, first, count, to.points, to.point_count, to.dropped, to.dropped_count, &facts)
                : 0;
    free(to.points);
    free(to.dropped);
    if (r < 0) return failed(w, r, "compact");
    w->compactions += (uint64_t)r;
    int done = r == 1, look = where % 4 == 0;
    r = look ? commit(w, 0) : 0;
    if (r == 0 && look && done) r = workload_check(w, drawn, 2);
    if (r != 0) return r;
    if (w->journal && which & 256) r = vs_journal_superseded(w->journal);
    return r < 0 ? failed(w, r, "delete compacted files") : 0;
}

static int step_reopen(workload *w) {
    vs_store *s = w->journal ? w->store : NULL;
    uint64_t target = w->appended;
    int r = workload_close(w);
    if (r < 0) return r;
    w->settled = target;
    return s ? workload_open(w, s) : 0;
}

int workload_step(workload *w) {
    static int (*const kinds[])(workload *) = {
        step_write, step_write, step_write, step_write, step_write, step_zero, step_burst, step_burst, step_burst, step_bookmark, step_bookmark,
        step_resize, step_remove, step_seal, step_seal, step_merge, step_reopen, step_add};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    uint64_t kind = w->appended == 0 ? KINDS - 1 : below(w, KINDS + 6);
    int r = kind < KINDS ? kinds[kind](w) : commit(w, kind < KINDS + 4 ? 0 : pick(w));
    if (r == 0 && w->compact_rng && draw_below(&w->compact_rng, 3) == 0) r = step_seal(w);
    if (r == 0 && w->compact_rng && draw_below(&w->compact_rng, 4) == 0) r = step_compact(w);
    if (r == 0) w->steps++;
    return r;
}

int workload_step_begun(workload *w) {
    uint64_t durable = w->durable, on_primary[WORKLOAD_VOLUMES_MAX];
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++) on_primary[i] = w->volumes[i].on_primary;
    int r = workload_step(w);
    w->durable = durable;
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++)
        if (w->volumes[i].on_primary > on_primary[i]) w->volumes[i].on_primary = on_primary[i];
    return r;
}

void workload_found(workload *w, uint64_t last) {
    model_cut(w, last);
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++)
        if (has_primary(&w->volumes[i])) w->volumes[i].on_primary = last;
}

/* ---- opening ---- */

/* The primaries before anything is applied to them. */
static int primaries_look(workload *w, vs_store *s) {
    for (uint32_t id = 1; id <= WORKLOAD_VOLUMES_MAX; id++) {
        uint8_t *found = w->found[id - 1];
        char name[40];
        memset(found, 0, VOLUME_BYTES);
        primary_name(id, name);
        int file = s->open(s, name, VS_OPEN_READ);
        if (file == -ENOENT) continue;
        int64_t n = file < 0 ? file : s->read(s, file, 0, found, VOLUME_BYTES);
        if (file >= 0) s->close(s, file);
        if (n < 0) return failed(w, (int)n, "read a primary");
    }
    return 0;
}

static void known_add(workload *w, uint32_t id, uint64_t low, uint64_t high) {
    const uint8_t *is = w->images[id - 1].bytes, *found = w->found[id - 1];
    for (uint64_t i = low; i < high; i++) w->known[i] |= (uint8_t)(is[i] == found[i]);
}

/* Is each byte of a primary the volume's at some seqno that it may be of? Only where the volume was at all of them. */
static int primary_judge(workload *w, uint32_t id, uint64_t last) {
    const volume *v = &w->volumes[id - 1];
    const image *m = &w->images[id - 1];
    uint64_t from = v->on_primary, least = VOLUME_BYTES, low, high;
    memset(w->known, 0, sizeof w->known);
    model_begin(w);
    for (uint64_t i = 0; i < last; i++) {
        const record *r = &w->records[i];
        const image *changed = model_apply(w, r, &low, &high);
        if (r->volume != id && i + 1 != from) continue;
        if (i + 1 == from) known_add(w, id, 0, VOLUME_BYTES);
        else if (changed == m && i + 1 > from) known_add(w, id, low, high);
        if (m->present && i + 1 >= from && m->size_bytes < least) least = m->size_bytes;
    }
    for (uint64_t i = 0; i < least; i++)
        if (!w->known[i])
            return wrong(w, "the primary of volume %u has at %" PRIu64 " what it held at no seqno in %" PRIu64 "..%" PRIu64, id, i, from, last);
    return 0;
}

static int primaries_judge(workload *w, uint64_t last) {
    int r = 0;
    for (uint32_t id = 1; r == 0 && id <= WORKLOAD_VOLUMES_MAX; id++) {
        const volume *v = &w->volumes[id - 1];
        if (v->present && !v->removed && v->primary) r = primary_judge(w, id, last);
    }
    return r;
}

/* After attach: file and live volume are the newest state. */
static int primary_compare(workload *w, uint32_t id) {
    const volume *v = &w->volumes[id - 1];
    const image *m = &w->images[id - 1];
    uint8_t *bytes = w->known;
    int64_t n = w->store->read(w->store, v->file, 0, bytes, v->size_bytes);
    if (n < 0) return failed(w, (int)n, "read a primary");
    if ((uint64_t)n != v->size_bytes || memcmp(bytes, m->bytes, v->size_bytes) != 0)
        return wrong(w, "the primary of volume %u is not its newest state (@%" PRIu64 ")", id, w->appended);
    n = vs_journal_read_live(w->journal, id, 0, bytes, VOLUME_BYTES);
    if (n < 0) return failed(w, (int)n, "read a live volume");
    if ((uint64_t)n != v->size_bytes || memcmp(bytes, m->bytes, v->size_bytes) != 0)
        return wrong(w, "volume %u does not read live as its newest state (@%" PRIu64 ")", id, w->appended);
    return 0;
}

static int primary_attach(workload *w, uint32_t id) {
    char name[40];
    primary_name(id, name);
    int file = w->store->open(w->store, name, VS_OPEN_WRITE);
    if (file < 0) {
        vs_journal_hold_applied(w->journal);
        return failed(w, file, "open a primary");
    }
    return attach(w, id, file);
}

static int primaries_attach(workload *w) {
    uint64_t low, high;
    int r = 0;
    for (uint32_t id = 1; r == 0 && id <= WORKLOAD_VOLUMES_MAX; id++) {
        const volume *v = &w->volumes[id - 1];
        if (v->present && !v->removed && v->primary) r = primary_attach(w, id);
    }
    model_begin(w);
    for (uint64_t i = 0; i < w->appended; i++) model_apply(w, &w->records[i], &low, &high);
    for (uint32_t id = 1; r == 0 && id <= WORKLOAD_VOLUMES_MAX; id++)
        if (w->volumes[id - 1].attached) r = primary_compare(w, id);
    return r;
}

int workload_open(workload *w, vs_store *s) {
    vs_journal_facts facts;
    w->store = s;
    w->opens++;
    vs_fault_clear();
    int r = primaries_look(w, s);
    if (r != 0) return r;
    r = vs_journal_open(s, &w->options, &w->journal);
    if (r < 0) {
        w->journal = NULL;
        return failed(w, r, "open the journal");
    }
    vs_journal_facts_get(w->journal, &facts);
    if (facts.last_seqno < w->durable || facts.last_seqno > w->appended)
        return wrong(w, "the history ends with %" PRIu64 "; durable was %" PRIu64 ", appended %" PRIu64, facts.last_seqno, w->durable, w->appended);
    if (facts.committed_seqno != facts.last_seqno)
        return wrong(w, "opened with %" PRIu64 " committed of %" PRIu64, facts.committed_seqno, facts.last_seqno);
    model_cut(w, facts.last_seqno);
    r = primaries_judge(w, facts.last_seqno);
    return r == 0 ? primaries_attach(w) : r;
}

/* ---- reading ---- */

static int events_check(workload *w) {
    vs_event_cursor c = {0};
    vs_event e;
    char body[BODY_BYTES], wanted[BODY_BYTES];
    uint64_t at = 0;
    for (int r; (r = vs_journal_next_event(w->journal, &c, &e, body, sizeof body)) != 0;) {
        if (r < 0) return failed(w, r, "read events");
        while (at < w->appended && (w->records[at].type < VS_RECORD_VOLUME_ADD || (w->records[at].may_be_dropped && e.seqno > at + 1))) at++;
        const record *m = &w->records[at++];
        if (at > w->appended || e.seqno != at) return wrong(w, "there is an event @%" PRIu64 " that is not in the history", e.seqno);
        if (e.type != m->type || e.volume != m->volume || e.a != m->a || e.b != m->b || e.body_bytes != body_fill(m->content, wanted) ||
            memcmp(body, wanted, e.body_bytes) != 0)
            return wrong(w, "the event @%" PRIu64 " is not the one that was made", e.seqno);
    }
    while (at < w->appended && (w->records[at].type < VS_RECORD_VOLUME_ADD || w->records[at].may_be_dropped)) at++;
    return at < w->appended ? wrong(w, "the event @%" PRIu64 " is missing", at + 1) : 0;
}

static int volume_check(workload *w, uint32_t id, uint64_t seqno) {
    const image *m = &w->images[id - 1];
    uint8_t *bytes = w->known;
    vs_volume_state state;
    vs_view *v;
    int r = vs_journal_volume_at(w->journal, id, seqno, &state);
    if (r == -ERANGE && w->records[seqno - 1].may_be_gone) return vs_view_open(w->journal, id, seqno, &v) == r ? 0 : wrong(w, "@%" PRIu64 " is gone, and it opens", seqno);
    if (!m->present) return r == -ENOENT ? 0 : wrong(w, "volume %u is there @%" PRIu64 ", before it was added (%d)", id, seqno, r);
    if (r < 0) return failed(w, r, "look at a volume");
    if (state.size_bytes != m->size_bytes || (int)state.removed != m->removed)
        return wrong(w, "volume %u has another state @%" PRIu64 " than it had", id, seqno);
    if (m->removed) return 0;
    r = vs_view_open(w->journal, id, seqno, &v);
    if (r < 0) return failed(w, r, "open a view");
    int64_t n = vs_view_read(v, 0, bytes, VOLUME_BYTES);
    vs_view_close(v);
    if (n < 0) return failed(w, (int)n, "read a view");
    if ((uint64_t)n != m->size_bytes) return wrong(w, "volume %u is %" PRId64 " bytes @%" PRIu64 ", not %" PRIu64, id, n, seqno, m->size_bytes);
    if (memcmp(bytes, m->bytes, m->size_bytes) == 0) return 0;
    uint64_t at = 0;
    while (bytes[at] == m->bytes[at]) at++;
    return wrong(w, "volume %u reads wrong @%" PRIu64 " at %" PRIu64, id, seqno, at);
}

/* Times ascend, whatever the clock did, and lead back. */
static int time_check(workload *w, uint64_t seqno, uint64_t *last_ns) {
    uint64_t time_ns, found;
    int r = vs_journal_time_of(w->journal, seqno, &time_ns);
    if (r == 0) r = vs_journal_seqno_at(w->journal, time_ns, &found);
    if (r == -ERANGE && w->records[seqno - 1].may_be_gone) return 0;
    if (r < 0) return failed(w, r, "look for a time");
    if (time_ns <= *last_ns) return wrong(w, "the time of @%" PRIu64 " is not after that of a record before it", seqno);
    *last_ns = time_ns;
    return found == seqno ? 0 : wrong(w, "at the time of @%" PRIu64 " the journal was at @%" PRIu64, seqno, found);
}

int workload_check(workload *w, uint64_t seed, int points) {
    uint64_t low, high, last_ns = 0;
    int r = events_check(w);
    model_begin(w);
    for (uint64_t i = 0; r == 0 && i < w->appended; i++) {
        model_apply(w, &w->records[i], &low, &high);
        /* The newest always; of the others each with the same chance, `points` of them about. */
        if (points && i + 1 < w->appended && draw_below(&seed, w->appended) >= (uint64_t)points) continue;
        r = time_check(w, i + 1, &last_ns);
        for (uint32_t id = 1; r == 0 && id <= WORKLOAD_VOLUMES_MAX; id++) r = volume_check(w, id, i + 1);
    }
    return r;
}

int workload_verify(workload *w, vs_store *s, uint64_t seed, int points) {
    int r = workload_open(w, s);
    return r == 0 ? workload_check(w, seed, points) : r;
}

int workload_resend(workload *w) {
    uint64_t from = w->appended > LANES ? w->appended - LANES : 0;
    vs_journal_facts facts;
    for (uint64_t i = from; i < w->appended; i++) {
        const record *r = &w->records[i];
        uint64_t seqno = i + 1;
        if (r->type >= VS_RECORD_VOLUME_ADD) continue;
        int code = extent_put(w, r, VS_REQUEST_RESENT, &seqno);
        if (code < 0) return failed(w, code, "send a request again");
        if (seqno != i + 1) return wrong(w, "the request of @%" PRIu64 " was sent again and is @%" PRIu64 " too", i + 1, seqno);
    }
    vs_journal_facts_get(w->journal, &facts);
    return facts.last_seqno == w->appended ? 0 : wrong(w, "requests that were sent again were appended again");
}

/* ---- life ---- */

workload *workload_new(uint64_t seed) {
    static const uint64_t segment_blocks[] = {8, 16, 32, 128, 256}, batch_blocks[] = {4, 16, 64, 256};
    workload *w = need(calloc(1, sizeof *w));
    w->seed = seed;
    w->rng = seed * 2 + 1;
    w->options = (vs_journal_options){.owner = 1};
    memcpy(w->options.uuid, uuid, sizeof uuid);
    w->options.segment_bytes = segment_blocks[below(w, 5)] * BLOCK;
    w->options.batch_bytes = batch_blocks[below(w, 4)] * BLOCK;
    w->options.ack_journal = (int32_t)below(w, 2);
    if (seed % 2) { /* many small segments, so that there is something to compact */
        w->compact_rng = seed * 2 + 1;
        w->options.segment_bytes = segment_blocks[0] * BLOCK;
    }
    return w;
}

workload *workload_copy(const workload *w, uint64_t seed) {
    workload *to = need(malloc(sizeof *to));
    *to = *w;
    to->rng ^= seed;
    if (to->compact_rng) to->compact_rng ^= seed << 1;
    to->journal = NULL;
    to->compactions = 0;
    to->records = need(malloc((w->appended + 1) * sizeof *to->records));
    if (w->appended) memcpy(to->records, w->records, w->appended * sizeof *to->records);
    to->room = w->appended + 1;
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++) to->volumes[i].attached = 0;
    return to;
}

void workload_free(workload *w) {
    if (!w) return;
    free(w->records);
    free(w);
}

int workload_create(workload *w, vs_store *s) {
    int r = vs_journal_create(s, uuid);
    return r < 0 ? failed(w, r, "make the journal") : 0;
}

int workload_close(workload *w) {
    if (!w->journal) return 0;
    uint64_t target = w->appended;
    int r = vs_journal_close(w->journal);
    w->journal = NULL;
    for (int i = 0; i < WORKLOAD_VOLUMES_MAX; i++) {
        volume *v = &w->volumes[i];
        if (v->attached) w->store->close(w->store, v->file);
        v->attached = 0;
    }
    if (r < 0) return failed(w, r, "close the journal");
    w->durable = target;
    return 0;
}

vs_journal_options *workload_options(workload *w) {
    return &w->options;
}

vs_journal *workload_journal(const workload *w) {
    return w->journal;
}

uint64_t workload_durable(const workload *w) {
    return w->durable;
}

uint64_t workload_appended(const workload *w) {
    return w->appended;
}

uint64_t workload_steps(const workload *w) {
    return w->steps;
}

uint64_t workload_compactions(const workload *w) {
    return w->compactions;
}

uint64_t workload_opens(const workload *w) {
    return w->opens;
}

void workload_durable_set(workload *w, uint64_t seqno) {
    CHECK(seqno <= w->appended);
    w->durable = seqno;
}

const char *workload_why(const workload *w) {
    return w->why;
}
