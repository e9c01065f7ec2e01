/* crash_plan.c: see crash_plan.h. */
#include "crash_plan.h"

#include <stdlib.h>
#include <string.h>

#include "../native/check.h"
#include "ending.h"

enum { BLOCK = 4096, SECTOR = 512, SAMPLES = 24, PART_OF_TORN = 2 };

static void add(crash_plan *p, const crash_state *s) {
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : 1024;
        p->states = realloc(p->states, p->room * sizeof *p->states);
        if (!p->states) die("no memory for the states");
    }
    p->states[p->count++] = *s;
}

/* The epoch's beginning; every subset of its writes, or some; and some more with torn writes. The whole of it is the next one's beginning. */
static void add_epoch(crash_plan *p, uint64_t first, uint64_t end, uint64_t *random) {
    uint64_t writes = end - first;
    p->epochs++;
    add(p, &(crash_state){.first = first, .end = end});
    if (writes == 0) return;
    int small = writes <= CRASH_SMALL;
    for (uint64_t subset = 1; small && subset + 1 < UINT64_C(1) << writes; subset++)
        add(p, &(crash_state){.first = first, .end = end, .subset = subset});
    for (uint64_t i = 0; i < (small ? 2 * writes : SAMPLES); i++)
        add(p, &(crash_state){.first = first, .end = end, .seed = draw(random) | 1});
}

void crash_plan_make(crash_plan *p, const logged_disk *d, uint64_t first, uint64_t end, uint64_t seed) {
    uint64_t random = seed;
    *p = (crash_plan){0};
    for (uint64_t at = first; at < end; at++) {
        if (d->records[at].length_bytes) continue;
        add_epoch(p, first, at, &random);
        first = at + 1;
    }
    add_epoch(p, first, end, &random);
}

void crash_plan_end(crash_plan *p) {
    free(p->states);
}

void crash_plan_thin(crash_plan *p, size_t count, uint64_t seed) {
    uint64_t random = seed;
    size_t kept = 0;
    for (size_t i = 0; i < p->count; i++) /* each of those left is as likely to be one of those wanted */
        if (draw_below(&random, p->count - i) < count - kept) p->states[kept++] = p->states[i];
    p->count = kept;
}

static int holds_contents(uint64_t start, uint64_t end, const crash_range *torn, size_t torn_count) {
    for (size_t i = 0; i < torn_count; i++)
        if (start >= torn[i].start_bytes && end <= torn[i].end_bytes) return 1;
    return 0;
}

/* Some pieces of a write, each as likely as not, or all up to some place. */
static void apply_torn(const logged_record *r, const logged_disk *d, uint64_t piece, uint64_t *random) {
    uint64_t pieces = (r->length_bytes + piece - 1) / piece;
    uint64_t until = draw_below(random, 2) ? draw_below(random, pieces + 1) : 0;
    for (uint64_t i = 0; i < pieces; i++) {
        uint64_t at = i * piece, n = r->length_bytes - at < piece ? r->length_bytes - at : piece;
        if (until ? i < until : draw_below(random, 2)) memcpy(d->image + r->offset_bytes + at, d->data + r->data + at, n);
    }
}

static void apply_whole(const logged_record *r, const logged_disk *d) {
    memcpy(d->image + r->offset_bytes, d->data + r->data, r->length_bytes);
}

/* Returns 1 if the write was torn. */
static int apply_drawn(const logged_record *r, const logged_disk *d, const crash_range *torn, size_t torn_count, uint64_t *random) {
    uint64_t piece = holds_contents(r->offset_bytes, r->offset_bytes + r->length_bytes, torn, torn_count) ? SECTOR : BLOCK;
    if (r->length_bytes <= piece || draw_below(random, PART_OF_TORN) != 0) {
        apply_whole(r, d);
        return 0;
    }
    apply_torn(r, d, piece, random);
    return 1;
}

uint64_t crash_state_apply(const crash_state *s, logged_disk *d, const crash_range *torn, size_t torn_count) {
    uint64_t random = s->seed, count = 0;
    uint64_t chance = s->seed ? 1 + draw_below(&random, 8) : 0; /* of 8: few of them, half, all but a few, all */
    for (uint64_t at = s->first; at < s->end; at++) {
        const logged_record *r = &d->records[at];
        if (s->seed && draw_below(&random, 8) < chance) count += (uint64_t)apply_drawn(r, d, torn, torn_count, &random);
        else if (!s->seed && at - s->first < 64 && s->subset >> (at - s->first) & 1) apply_whole(r, d);
    }
    return count;
}
