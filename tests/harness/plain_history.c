/* plain_history.c: see plain_history.h. */
#include "plain_history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BODY_MAX = 64 };

uint64_t plain_draw(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t plain_below(uint64_t *state, uint64_t limit) {
    return plain_draw(state) % limit;
}

/* The bytes of one block are those of its own seed, so that any part of a write can be made alone. */
void plain_fill(uint64_t content, uint64_t offset_bytes, uint8_t *to, uint64_t length_bytes) {
    for (uint64_t done = 0, n; done < length_bytes; done += n) {
        uint64_t at = offset_bytes + done, in = at % VS_BLOCK, word = 0, state = content ^ (at / VS_BLOCK * 0xD6E8FEB86659FD93u);
        n = VS_BLOCK - in < length_bytes - done ? VS_BLOCK - in : length_bytes - done;
        if (plain_draw(&state) % 6 == 0) {
            memset(to + done, 0, n);
            continue;
        }
        for (uint64_t i = 0; i < in + n; i++) {
            if (i % 8 == 0) word = plain_draw(&state);
            if (i >= in) to[done + i - in] = (uint8_t)(word >> (i % 8 * 8));
        }
    }
}

int plain_note(plain_history *h, uint64_t seqno, const plain_record *r) {
    if (h->count >= PLAIN_RECORDS_MAX || seqno != h->count + 1) {
        fprintf(stderr, "record %" PRIu64 " came after record %" PRIu64 "\n", seqno, h->count);
        return -EPROTO;
    }
    h->records[h->count++] = *r;
    return 0;
}

int plain_write(plain_history *h, vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes) {
    static uint8_t bytes[PLAIN_BYTES_MAX];
    plain_record r = {VS_RECORD_WRITE, volume, offset_bytes, length_bytes, h->seed + 31 * (h->count + 1)};
    uint64_t seqno;
    plain_fill(r.content, offset_bytes, bytes, length_bytes);
    int status = vs_journal_write(j, volume, offset_bytes, bytes, length_bytes, NULL, &seqno);
    return status < 0 ? status : plain_note(h, seqno, &r);
}

int plain_zero(plain_history *h, vs_journal *j, uint32_t volume, uint64_t offset_bytes, uint64_t length_bytes) {
    plain_record r = {VS_RECORD_ZERO, volume, offset_bytes, length_bytes, 0};
    uint64_t seqno;
    int status = vs_journal_zero(j, volume, offset_bytes, length_bytes, NULL, &seqno);
    return status < 0 ? status : plain_note(h, seqno, &r);
}

static uint32_t body_of(uint64_t number, char body[BODY_MAX]) {
    return (uint32_t)snprintf(body, BODY_MAX, "{\"name\": \"p%" PRIu64 "\"}", number);
}

int plain_event(plain_history *h, vs_journal *j, uint32_t type, uint32_t volume, uint64_t a, uint64_t b) {
    plain_record r = {type, volume, a, b, 0};
    char body[BODY_MAX];
    uint64_t seqno;
    int has_body = type != VS_RECORD_VOLUME_RESIZE && type != VS_RECORD_VOLUME_REMOVE;
    uint32_t body_bytes = has_body ? body_of(h->count + 1, body) : 0;
    int status = vs_journal_event(j, type, volume, a, b, body, body_bytes, &seqno, NULL);
    return status < 0 ? status : plain_note(h, seqno, &r);
}

int plain_commit(plain_history *h, vs_journal *j) {
    uint64_t before = h->count;
    int r = vs_journal_commit(j);
    if (r == 0 && before > h->durable) h->durable = before;
    return r;
}

int plain_step(plain_history *h, vs_journal *j, uint32_t volume, uint64_t size_bytes, uint64_t *rng) {
    uint64_t kind = plain_below(rng, 10), length = 1 + plain_below(rng, kind < 6 ? 6000 : 20000);
    if (length > size_bytes) length = size_bytes;
    uint64_t at = plain_below(rng, size_bytes - length + 1);
    if (kind == 0) return plain_zero(h, j, volume, at, length);
    if (kind < 3 && length >= VS_BLOCK) { /* aligned */
        at = at / VS_BLOCK * VS_BLOCK;
        length = length / VS_BLOCK * VS_BLOCK;
    }
    return plain_write(h, j, volume, at, length);
}

/* ---- what it comes to ---- */

void plain_begin(const plain_history *h, plain_state *s) {
    (void)h;
    s->seqno = 0;
    for (int i = 0; i < PLAIN_VOLUMES_MAX; i++) s->volumes[i].there = 0;
}

static void volume_add(const plain_history *h, plain_volume *v, const plain_record *r) {
    v->there = 1;
    v->size_bytes = r->b;
    memset(v->bytes, 0, v->size_bytes);
    memset(v->writer, 0, v->size_bytes * sizeof *v->writer);
    if (r->volume == 1) plain_fill(h->seed, 0, v->bytes, h->base_bytes < v->size_bytes ? h->base_bytes : v->size_bytes);
}

static void range_put(plain_volume *v, const plain_record *r, uint64_t from, uint64_t to, uint64_t seqno) {
    if (r->type == VS_RECORD_WRITE) plain_fill(r->content, from, v->bytes + from, to - from);
    else memset(v->bytes + from, 0, to - from);
    for (uint64_t i = from; i < to; i++) v->writer[i] = (uint16_t)seqno;
}

void plain_advance(const plain_history *h, plain_state *s) {
    const plain_record *r = &h->records[s->seqno++];
    plain_volume *v = r->volume ? &s->volumes[r->volume - 1] : NULL;
    switch (r->type) {
    case VS_RECORD_VOLUME_ADD: volume_add(h, v, r); break;
    case VS_RECORD_VOLUME_REMOVE: v->there = 0; break;
    case VS_RECORD_VOLUME_RESIZE: {
        uint64_t low = r->b < v->size_bytes ? r->b : v->size_bytes, high = r->b < v->size_bytes ? v->size_bytes : r->b;
        range_put(v, r, low, high, s->seqno);
        v->size_bytes = r->b;
        break;
    }
    case VS_RECORD_WRITE:
    case VS_RECORD_ZERO: range_put(v, r, r->a, r->a + r->b, s->seqno); break;
    default: break;
    }
}

/* 0: the volume in the journal is this one. */
static int volume_differs(const plain_volume *v, vs_journal *j, uint32_t id, uint64_t seqno, char why[256]) {
    static uint8_t bytes[PLAIN_BYTES_MAX];
    vs_view *view;
    vs_fault_clear();
    int r = vs_view_open(j, id, seqno, &view);
    if (r < 0) {
        vs_fault fault;
        vs_fault_last(&fault);
        snprintf(why, 256, "volume %u at @%" PRIu64 " cannot be opened: %s (%s)", id, seqno, strerror(-r), fault.text);
        return 1;
    }
    int64_t n = vs_view_read(view, 0, bytes, sizeof bytes);
    int differs = n != (int64_t)v->size_bytes || memcmp(bytes, v->bytes, v->size_bytes) != 0;
    if (differs) {
        uint64_t at = 0;
        while (n > 0 && at < (uint64_t)n && bytes[at] == v->bytes[at]) at++;
        snprintf(why, 256, "volume %u at @%" PRIu64 ": read gave %" PRId64 " of %" PRIu64 " bytes, wrong from %" PRIu64, id, seqno, n,
                 v->size_bytes, at);
    }
    vs_view_close(view);
    return differs;
}

int plain_compare(const plain_state *s, vs_journal *j, char why[256]) {
    int failures = 0;
    char other[256];
    for (uint32_t id = 1; id <= PLAIN_VOLUMES_MAX; id++)
        if (s->volumes[id - 1].there) failures += volume_differs(&s->volumes[id - 1], j, id, s->seqno, failures ? other : why);
    return failures;
}

/* Every event that the history has, and no other. */
static int events_differ(const plain_history *h, vs_journal *j, uint64_t last, char why[256]) {
    vs_event_cursor c = {0};
    vs_event e;
    char body[BODY_MAX], want[BODY_MAX];
    int r;
    uint64_t seqno = 1;
    while ((r = vs_journal_next_event(j, &c, &e, body, sizeof body)) == 1 && e.seqno <= last) {
        while (seqno <= last && h->records[seqno - 1].type < VS_RECORD_VOLUME_ADD) seqno++;
        const plain_record *p = &h->records[seqno - 1];
        uint32_t want_bytes = p->type == VS_RECORD_VOLUME_RESIZE || p->type == VS_RECORD_VOLUME_REMOVE ? 0 : body_of(seqno, want);
        if (seqno > last || e.seqno != seqno || e.type != p->type || e.volume != p->volume || e.body_bytes != want_bytes ||
            memcmp(body, want, want_bytes) != 0) {
            snprintf(why, 256, "event @%" PRIu64 " of type %u is not the history's @%" PRIu64, e.seqno, e.type, seqno);
            return 1;
        }
        seqno++;
    }
    while (seqno <= last && h->records[seqno - 1].type < VS_RECORD_VOLUME_ADD) seqno++;
    if (r == 0 && seqno == last + 1) return 0;
    snprintf(why, 256, "events end before @%" PRIu64 ": %s", seqno, r < 0 ? strerror(-r) : "there are no more");
    return 1;
}

int plain_verify(const plain_history *h, plain_state *scratch, vs_journal *j, uint64_t each, char why[256]) {
    vs_journal_facts f;
    vs_journal_facts_get(j, &f);
    if (f.last_seqno < h->durable || f.last_seqno > h->count) {
        snprintf(why, 256, "the journal ends with @%" PRIu64 ", of %" PRIu64 " answered and %" PRIu64 " durable records", f.last_seqno, h->count,
                 h->durable);
        return 1;
    }
    int failures = events_differ(h, j, f.last_seqno, why);
    plain_begin(h, scratch);
    while (scratch->seqno < f.last_seqno && failures == 0) {
        plain_advance(h, scratch);
        if (scratch->seqno % each == 0 || scratch->seqno == f.last_seqno) failures += plain_compare(scratch, j, why);
    }
    return failures;
}
