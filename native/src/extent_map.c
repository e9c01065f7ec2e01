/* extent_map.c: sorted extents in chunks.
 *
 * An array of pointers to chunks of up to 256 extents: a search is two binary searches, a put moves a few KiB at most, and a put over
 * thousands of extents frees whole chunks and closes the gap in the array once. Every put is the same three steps:
 *
 *   1. find the places between which everything overlaps or touches the new extent,
 *   2. make what shall stand there: what is left of the first, the new one, what is left of the last, joined where they continue,
 *   3. replace.
 *
 * Only the third changes anything, and it needs at most one more chunk, which is set aside before (`spare`): so -ENOMEM changes nothing, and who has set
 * aside as many as he wants to make puts will not see it.
 *
 * A full chunk is split in half, except at its ends: there the new extent gets a chunk of its own, so that extents put in ascending or
 * descending order fill their chunks. Neighbours that together fill less than 7/8 of one chunk are joined.
 */
#include "extent_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "room.h"

enum { CHUNK_EXTENTS = 256, CHUNK_JOIN_MAX = 224 };

typedef struct chunk {
    struct chunk *next; /* of those that are set aside */
    uint32_t count; /* > 0 once it is in a map */
    vs_extent extents[CHUNK_EXTENTS];
} chunk;

struct vs_extent_map {
    chunk **chunks;
    size_t chunk_count, chunk_room;
    chunk *spare;
    size_t spare_count;
    uint64_t count;
};

/* Between two extents. (c, count of chunk c) and (c + 1, 0) are the same place. */
typedef struct place {
    size_t chunk;
    uint32_t index;
} place;

/* ---- extents ---- */

static uint64_t end_of(const vs_extent *e) {
    return e->offset_bytes + e->length_bytes;
}

/* The block that holds byte offset_bytes of the extent. */
static uint64_t block_at(const vs_extent *e, uint64_t offset_bytes) {
    return e->block == 0 ? 0 : e->block + (offset_bytes / VS_BLOCK_BYTES - e->offset_bytes / VS_BLOCK_BYTES);
}

static vs_extent cut(const vs_extent *e, uint64_t start, uint64_t end) {
    return (vs_extent){.offset_bytes = start, .length_bytes = end - start, .block = block_at(e, start)};
}

static int continues(const vs_extent *left, const vs_extent *right) {
    return end_of(left) == right->offset_bytes && block_at(left, right->offset_bytes) == right->block;
}

/* ---- chunks ---- */

static void spare_push(vs_extent_map *m, chunk *c) {
    c->next = m->spare;
    m->spare = c;
    m->spare_count++;
}

static chunk *spare_pop(vs_extent_map *m) {
    chunk *c = m->spare;
    m->spare = c->next;
    m->spare_count--;
    return c;
}

static void chunk_release(vs_extent_map *m, chunk *c) {
    if (m->spare) free(c);
    else spare_push(m, c);
}

static int reserve(vs_extent_map *m, size_t chunks) {
    while (m->spare_count < chunks) {
        chunk *c = malloc(sizeof *c);
        if (!c) return -ENOMEM;
        spare_push(m, c);
    }
    return vs_room(&m->chunks, &m->chunk_room, m->chunk_count, chunks, sizeof *m->chunks);
}

/* Put the reserved chunk, empty, before chunk number at. */
static chunk *chunk_insert(vs_extent_map *m, size_t at) {
    chunk *fresh = spare_pop(m);
    fresh->count = 0;
    memmove(m->chunks + at + 1, m->chunks + at, (m->chunk_count - at) * sizeof *m->chunks);
    m->chunks[at] = fresh;
    m->chunk_count++;
    return fresh;
}

static void chunks_remove(vs_extent_map *m, size_t start, size_t end) {
    if (start == end) return;
    for (size_t i = start; i < end; i++) chunk_release(m, m->chunks[i]);
    memmove(m->chunks + start, m->chunks + end, (m->chunk_count - end) * sizeof *m->chunks);
    m->chunk_count -= end - start;
}

/* Take extents [start, end) out of one chunk. */
static void chunk_close_gap(chunk *c, uint32_t start, uint32_t end) {
    memmove(c->extents + start, c->extents + end, (c->count - end) * sizeof *c->extents);
    c->count -= end - start;
}

/* Chunk number at is full: make room at the place (at, index) and return where that place is now. */
static place chunk_split(vs_extent_map *m, size_t at, uint32_t index) {
    if (index == 0 || index == CHUNK_EXTENTS) {
        size_t fresh_at = index == 0 ? at : at + 1;
        chunk_insert(m, fresh_at);
        return (place){fresh_at, 0};
    }
    const uint32_t half = CHUNK_EXTENTS / 2;
    chunk *left = m->chunks[at], *right = chunk_insert(m, at + 1);
    memcpy(right->extents, left->extents + half, half * sizeof *right->extents);
    left->count = right->count = half;
    return index <= half ? (place){at, index} : (place){at + 1, index - half};
}

/* Join chunk number at with the next one if both are small. */
static void chunk_join_next(vs_extent_map *m, size_t at) {
    if (at + 1 >= m->chunk_count) return;
    chunk *left = m->chunks[at], *right = m->chunks[at + 1];
    if (left->count + right->count > CHUNK_JOIN_MAX) return;
    memcpy(left->extents + left->count, right->extents, right->count * sizeof *right->extents);
    left->count += right->count;
    chunks_remove(m, at + 1, at + 2);
}

/* ---- places ---- */

/* Both searches halve without a branch on what they find: it would be guessed wrong every second time. */

/* How many chunks begin at or before offset_bytes. */
static size_t chunks_le(const vs_extent_map *m, uint64_t offset_bytes) {
    size_t low = 0, left = m->chunk_count;
    if (left == 0) return 0;
    for (size_t half; left > 1; left -= half) {
        half = left / 2;
        low += half & -(size_t)(m->chunks[low + half - 1]->extents[0].offset_bytes <= offset_bytes);
    }
    return low + (m->chunks[low]->extents[0].offset_bytes <= offset_bytes);
}

/* The place behind the last extent that begins at or before offset_bytes; its index is > 0, unless it is the very first place. */
static place place_behind(const vs_extent_map *m, uint64_t offset_bytes) {
    size_t chunks = chunks_le(m, offset_bytes);
    if (chunks == 0) return (place){0, 0};
    const chunk *c = m->chunks[chunks - 1];
    uint32_t low = 0, left = c->count; /* the first is one of them */
    for (uint32_t half; left > 1; left -= half) {
        half = left / 2;
        low += half & -(uint32_t)(c->extents[low + half].offset_bytes <= offset_bytes);
    }
    return (place){chunks - 1, low + 1};
}

/* The place before the first extent that ends after offset_bytes. */
static place place_before(const vs_extent_map *m, uint64_t offset_bytes) {
    place p = place_behind(m, offset_bytes);
    if (p.index > 0 && end_of(&m->chunks[p.chunk]->extents[p.index - 1]) > offset_bytes) p.index--;
    return p;
}

/* The extent behind a place, or NULL. */
static const vs_extent *extent_behind(const vs_extent_map *m, place p) {
    if (p.chunk < m->chunk_count && p.index == m->chunks[p.chunk]->count) p = (place){p.chunk + 1, 0};
    return p.chunk < m->chunk_count ? &m->chunks[p.chunk]->extents[p.index] : NULL;
}

/* ---- put ---- */

static int push_joined(vs_extent *list, int n, vs_extent e) {
    if (n == 0 || !continues(&list[n - 1], &e)) {
        list[n] = e;
        return n + 1;
    }
    list[n - 1].length_bytes += e.length_bytes;
    return n;
}

/* What shall stand between first and last, which enclose all that overlaps or touches e. */
static int merge_with(const vs_extent_map *m, place first, place last, const vs_extent *e, vs_extent list[3]) {
    int n = 0, some = first.chunk != last.chunk || first.index != last.index;
    const vs_extent *left = some ? extent_behind(m, first) : NULL;
    const vs_extent *right = some ? &m->chunks[last.chunk]->extents[last.index - 1] : NULL;
    if (left && left->offset_bytes < e->offset_bytes) n = push_joined(list, n, cut(left, left->offset_bytes, e->offset_bytes));
    n = push_joined(list, n, *e);
    if (right && end_of(right) > end_of(e)) n = push_joined(list, n, cut(right, end_of(e), end_of(right)));
    return n;
}

/* Take out everything between first and last; first stays where it is. */
static void remove_between(vs_extent_map *m, place first, place last) {
    if (first.chunk == last.chunk) {
        if (first.index == last.index) return;
        m->count -= last.index - first.index;
        chunk_close_gap(m->chunks[first.chunk], first.index, last.index);
        return;
    }
    chunk *from = m->chunks[first.chunk], *to = m->chunks[last.chunk];
    m->count -= from->count - first.index + last.index;
    for (size_t i = first.chunk + 1; i < last.chunk; i++) m->count -= m->chunks[i]->count;
    from->count = first.index;
    chunk_close_gap(to, 0, last.index);
    chunks_remove(m, first.chunk + 1, to->count == 0 ? last.chunk + 1 : last.chunk);
}

static place insert_at(vs_extent_map *m, place p, const vs_extent *e) {
    if (m->chunk_count == 0) chunk_insert(m, 0);
    else if (m->chunks[p.chunk]->count == CHUNK_EXTENTS) p = chunk_split(m, p.chunk, p.index);
    chunk *c = m->chunks[p.chunk];
    memmove(c->extents + p.index + 1, c->extents + p.index, (c->count - p.index) * sizeof *c->extents);
    c->extents[p.index] = *e;
    c->count++;
    m->count++;
    return (place){p.chunk, p.index + 1};
}

int vs_extent_map_reserve(vs_extent_map *m, size_t puts) {
    while (m->spare_count > puts) free(spare_pop(m));
    return reserve(m, puts);
}

int vs_extent_map_put(vs_extent_map *m, const vs_extent *e) {
    int r = reserve(m, 1);
    if (r < 0) return r;
    /* From the byte before e to the byte behind it: so that neighbours that only touch are seen too. */
    place first = place_before(m, e->offset_bytes > 0 ? e->offset_bytes - 1 : 0);
    place last = place_behind(m, end_of(e));
    vs_extent list[3];
    int n = merge_with(m, first, last, e, list);
    remove_between(m, first, last);
    for (int i = 0; i < n; i++) first = insert_at(m, first, &list[i]);
    chunk_join_next(m, first.chunk);
    if (first.chunk > 0) chunk_join_next(m, first.chunk - 1);
    return 0;
}

/* ---- the rest ---- */

int vs_extent_map_new(vs_extent_map **out) {
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void vs_extent_map_clear(vs_extent_map *m) {
    chunks_remove(m, 0, m->chunk_count);
    m->count = 0;
}

void vs_extent_map_free(vs_extent_map *m) {
    if (!m) return;
    vs_extent_map_clear(m);
    while (m->spare) free(spare_pop(m));
    free(m->chunks);
    free(m);
}

uint64_t vs_extent_map_count(const vs_extent_map *m) {
    return m->count;
}

int vs_extent_map_find(const vs_extent_map *m, uint64_t offset_bytes, vs_extent *out) {
    const vs_extent *e = extent_behind(m, place_before(m, offset_bytes));
    if (e) *out = *e;
    return e != NULL;
}
