/* directory.c: see directory.h. */
#include "directory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

int vs_directory_new(vs_directory **out) {
    vs_directory *d = calloc(1, sizeof *d);
    if (!d) return -ENOMEM;
    atomic_init(&d->refs, 1);
    *out = d;
    return 0;
}

vs_directory *vs_directory_ref(vs_directory *d) {
    atomic_fetch_add(&d->refs, 1);
    return d;
}

static void slots_free(vs_slots *s) {
    for (int i = 0; i < VS_DIRECTORY_CHUNKS; i++) free(s->chunks[i]);
}

void vs_directory_unref(vs_directory *d) {
    if (!d || atomic_fetch_sub(&d->refs, 1) > 1) return;
    for (uint64_t i = 0; i < d->count; i++) vs_segment_unref(vs_directory_at(d, i));
    for (size_t i = 0; i < d->map_count; i++) vs_merged_map_unref(d->maps[i]);
    slots_free(&d->by_index);
    slots_free(&d->by_ordinal);
    free(d->maps);
    free(d);
}

/* Where slots [from, from + count) lie, they have memory. */
static int slots_reserve(vs_slots *s, uint64_t from, uint64_t count) {
    if (count > (uint64_t)VS_DIRECTORY_CHUNK * VS_DIRECTORY_CHUNKS - from) return -EFBIG;
    for (uint64_t chunk = from / VS_DIRECTORY_CHUNK; chunk * VS_DIRECTORY_CHUNK < from + count; chunk++) {
        if (s->chunks[chunk]) continue;
        s->chunks[chunk] = calloc(VS_DIRECTORY_CHUNK, sizeof(vs_segment *));
        if (!s->chunks[chunk]) return -ENOMEM;
    }
    return 0;
}

static void slot_put(vs_slots *s, uint64_t at, vs_segment *g) {
    s->chunks[at / VS_DIRECTORY_CHUNK][at % VS_DIRECTORY_CHUNK] = g;
}

int vs_directory_add(vs_directory *d, vs_segment *g) {
    int r = slots_reserve(&d->by_index, d->count, 1);
    if (r == 0) r = slots_reserve(&d->by_ordinal, d->ordinals, g->ordinals);
    if (r < 0) {
        vs_segment_unref(g);
        return r;
    }
    slot_put(&d->by_index, d->count, g);
    for (uint64_t i = 0; i < g->ordinals; i++) slot_put(&d->by_ordinal, d->ordinals + i, g);
    d->count++;
    d->ordinals += g->ordinals;
    if (g->generation > d->generation) d->generation = g->generation;
    if (g->base_floor > d->base_floor) d->base_floor = g->base_floor;
    if (g->until_seqno > d->until_seqno) d->until_seqno = g->until_seqno;
    return 0;
}

vs_segment *vs_directory_drop_last(vs_directory *d) {
    vs_segment *g = vs_directory_last(d);
    d->count--;
    d->ordinals -= g->ordinals;
    d->generation = vs_directory_group_generation(d, 0, d->ordinals);
    return g;
}

/* Maps of other groups stay right, and so does what is known to be there before the group. */
static int maps_take(vs_directory *d, const vs_directory *from, uint64_t first, uint64_t end) {
    for (size_t i = 0; i < from->map_count; i++) {
        vs_merged_map *m = from->maps[i];
        if (m->first_ordinal < end && m->first_ordinal + m->count > first) continue;
        if (vs_room(&d->maps, &d->map_room, d->map_count, 1, sizeof *d->maps) < 0) return -ENOMEM;
        d->maps[d->map_count++] = vs_merged_map_ref(m);
    }
    uint64_t count = VS_MERGE_FANOUT;
    for (int level = 0; level < VS_MERGE_LEVELS; level++, count *= VS_MERGE_FANOUT) {
        uint64_t group = first / count * count;
        d->merge_next[level] = from->merge_next[level] < group ? from->merge_next[level] : group;
    }
    return 0;
}

int vs_directory_replace(const vs_directory *d, uint64_t from, uint64_t to, vs_segment *g, vs_directory **out) {
    vs_directory *fresh;
    int r = vs_directory_new(&fresh);
    if (r < 0) return r;
    for (uint64_t i = 0; r == 0 && i < d->count; i++) {
        if (i > from && i <= to) continue;
        r = vs_directory_add(fresh, vs_segment_ref(i == from ? g : vs_directory_at(d, i)));
    }
    if (r == 0) r = maps_take(fresh, d, g->ordinal, g->ordinal + g->ordinals);
    if (r < 0) {
        vs_directory_unref(fresh);
        return r;
    }
    vs_segment_unref(g);
    *out = fresh;
    return 0;
}

uint64_t vs_directory_index_of(const vs_directory *d, uint64_t ordinal) {
    uint64_t low = 0, high = d->count;
    while (high - low > 1) {
        uint64_t mid = (low + high) / 2;
        if (vs_directory_at(d, mid)->ordinal <= ordinal) low = mid;
        else high = mid;
    }
    return low;
}

uint64_t vs_directory_find(const vs_directory *d, uint64_t seqno) {
    uint64_t low = 0, high = d->count;
    while (low < high) { /* the first segment that begins after seqno */
        uint64_t mid = (low + high) / 2;
        if (vs_directory_at(d, mid)->first_seqno <= seqno) low = mid + 1;
        else high = mid;
    }
    if (low == 0 || seqno > vs_directory_at(d, low - 1)->last_seqno) return UINT64_MAX;
    return low - 1;
}

int vs_directory_is_whole(const vs_directory *d, uint64_t index, uint64_t seqno) {
    if (seqno >= d->until_seqno) return 1; /* as points of the window are */
    for (uint64_t i = 0; i < index; i++)
        if (vs_directory_at(d, i)->until_seqno > seqno) return 0;
    return 1;
}

uint64_t vs_directory_group_generation(const vs_directory *d, uint64_t first, uint64_t count) {
    uint64_t greatest = 0;
    for (uint64_t at = first; at < first + count && at < d->ordinals;) {
        const vs_segment *g = vs_directory_of_ordinal(d, at);
        if (g->generation > greatest) greatest = g->generation;
        at = g->ordinal + g->ordinals;
    }
    return greatest;
}
