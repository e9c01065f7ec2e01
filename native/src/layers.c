/* layers.c: which maps stand for a range of segments: merged ones where they fit, the segments' own elsewhere, bases below.
 *
 * Derived maps may fail: a damaged merged map is passed over for smaller ones, a damaged footer for a map made from the rows, damaged
 * rows for the batches themselves.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal_internal.h"
#include "room.h"

int vs_map_list_add(vs_map_list *l, vs_extent_map *m) {
    int r = vs_room(&l->maps, &l->room, l->count, 1, sizeof *l->maps);
    if (r == 0) l->maps[l->count++] = m;
    return r;
}

void vs_map_list_clear(vs_map_list *l) {
    for (size_t i = 0; i < l->count; i++) vs_extent_map_free(l->maps[i]);
    free(l->maps);
    memset(l, 0, sizeof *l);
}

/* 1: *out is the volume's table in the segment's footer; 0: it has none there; -EBADMSG: not usable. */
static int footer_table(vs_segment *g, uint32_t volume, vs_packed *out) {
    uint64_t length;
    const uint8_t *p = vs_segment_section(g, VS_SECTION_MAPS, &length);
    if (!p || length < 8) return -EBADMSG;
    uint32_t count = vs_get32(p);
    if (length < 8 + (uint64_t)count * 24) return -EBADMSG;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *row = p + 8 + (size_t)i * 24;
        if (vs_get32(row) != volume) continue;
        uint64_t at = vs_get64(row + 8), bytes = vs_get64(row + 16);
        if (at > length || bytes > length - at) return -EBADMSG;
        return vs_packed_open(p + at, bytes, VS_MAP_COLUMNS, out) == 0 ? 1 : -EBADMSG;
    }
    return 0;
}

static int push_segment(vs_segment *g, vs_stack *s, uint32_t volume, vs_map_list *memory) {
    vs_layer layer = {.first_ordinal = g->ordinal};
    int r = g->sealed ? footer_table(g, volume, &layer.packed) : -EBADMSG;
    if (r == 0) return 0;
    if (r < 0) {
        const vs_row *rows;
        vs_row *owned;
        size_t count;
        vs_extent_map *m = NULL;
        r = vs_segment_rows_array(g, UINT64_MAX, &rows, &count, &owned);
        if (r == 0) r = vs_rows_map(rows, count, volume, 0, UINT64_MAX, &m);
        free(owned);
        if (r < 0) return r;
        if (vs_extent_map_count(m) == 0) { /* as in a footer, a volume that was not written to has no map */
            vs_extent_map_free(m);
            return 0;
        }
        if ((r = vs_map_list_add(memory, m)) < 0) {
            vs_extent_map_free(m);
            return r;
        }
        layer.memory = m;
    }
    return vs_stack_push(s, &layer);
}

/* Loaded maps are kept sorted by count, then first ordinal. Where such a map is, or would be. */
static size_t merged_place(const vs_directory *d, uint64_t first_ordinal, uint64_t count) {
    size_t low = 0, high = d->map_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const vs_merged_map *m = d->maps[mid];
        if (m->count < count || (m->count == count && m->first_ordinal < first_ordinal)) low = mid + 1;
        else high = mid;
    }
    return low;
}

static int maps_add(vs_directory *d, vs_merged_map *m) {
    if (vs_room(&d->maps, &d->map_room, d->map_count, 1, sizeof *d->maps) < 0) return -ENOMEM;
    size_t at = merged_place(d, m->first_ordinal, m->count);
    memmove(d->maps + at + 1, d->maps + at, (d->map_count - at) * sizeof *d->maps);
    d->maps[at] = m;
    d->map_count++;
    return 0;
}

/* Is the map of these very segments? The digest chain makes one digest speak for all before it, as they were first written; which of them were
 * compacted since, the greatest generation among them tells. */
static int map_fits(const vs_directory *d, const vs_merged_map *m) {
    if (m->count > d->ordinals || m->first_ordinal > d->ordinals - m->count) return 0;
    const vs_segment *g = vs_directory_of_ordinal(d, m->first_ordinal + m->count - 1);
    return g->sealed && g->ordinals < m->count && g->last_seqno == m->last_seqno && memcmp(g->chain_digest, m->last_digest, 32) == 0 &&
           vs_directory_group_generation(d, m->first_ordinal, m->count) == m->generation;
}

/* The map of a group, loaded when it is first asked for. *out NULL: there is none that is usable. */
static int merged_get(vs_journal *j, vs_directory *d, uint64_t first_ordinal, uint64_t count, vs_merged_map **out) {
    size_t at = merged_place(d, first_ordinal, count);
    vs_merged_map *m = at < d->map_count ? d->maps[at] : NULL;
    *out = NULL;
    if (m && m->count == count && m->first_ordinal == first_ordinal) {
        *out = m;
        return 0;
    }
    int r = vs_merged_map_open(j->store, j->options.uuid, first_ordinal, count, &m);
    if (r < 0) return r == -ENOMEM ? r : 0;
    r = map_fits(d, m) ? maps_add(d, m) : -ESTALE;
    if (r == 0) *out = m;
    else vs_merged_map_unref(m);
    return r == -ENOMEM ? r : 0;
}

/* The largest usable merged map that ends with ordinal `last` and does not begin before `first`. 1: pushed (or nothing in it). *count: on entry what the
 * segment that ends there stands for by itself. */
static int push_merged(vs_journal *j, vs_directory *d, vs_stack *s, uint32_t volume, uint64_t first, uint64_t last, uint64_t *count) {
    uint64_t fits = 1;
    while ((last + 1) % (fits * VS_MERGE_FANOUT) == 0 && last + 1 >= fits * VS_MERGE_FANOUT && last + 1 - fits * VS_MERGE_FANOUT >= first)
        fits *= VS_MERGE_FANOUT;
    for (; fits > *count; fits /= VS_MERGE_FANOUT) {
        vs_merged_map *m;
        vs_layer layer = {.first_ordinal = last + 1 - fits};
        int r = merged_get(j, d, layer.first_ordinal, fits, &m);
        if (r < 0) return r;
        r = m ? vs_merged_map_find(m, volume, &layer.packed) : -ENOENT;
        if (r < 0) continue;
        *count = fits;
        if (r == 1 && (r = vs_stack_push(s, &layer)) < 0) return r;
        return 1;
    }
    return 0;
}

int vs_journal_push_layers(vs_journal *j, vs_directory *d, vs_stack *s, uint32_t volume, uint64_t from, uint64_t to, vs_map_list *memory) {
    const vs_segment *newest = vs_directory_at(d, to);
    uint64_t first = vs_directory_at(d, from)->ordinal, next = newest->ordinal + newest->ordinals; /* ordinals [first, next) are to be covered */
    while (next > first) {
        vs_segment *g = vs_directory_of_ordinal(d, next - 1);
        uint64_t count = g->ordinals;
        int r = push_merged(j, d, s, volume, first, next - 1, &count);
        if (r == 0) r = push_segment(g, s, volume, memory);
        if (r < 0) return r;
        next -= count;
    }
    return 0;
}

/* data below a map: every extent takes away what was data before, and adds itself if it is data. */
static int data_bytes_step(const vs_stack *below, const vs_extent_map *map, uint64_t *data_bytes) {
    vs_cursor c;
    vs_extent e;
    vs_stack_run run;
    int r = vs_cursor_init(&c, below);
    for (uint64_t at = 0; r == 0 && vs_extent_map_find(map, at, &e); at = e.offset_bytes + e.length_bytes) {
        uint64_t end = e.offset_bytes + e.length_bytes;
        if (e.block) *data_bytes += e.length_bytes;
        for (uint64_t in = e.offset_bytes; in < end; in += run.length_bytes) {
            vs_stack_run_at(&c, in, end, &run);
            if (run.kind == VS_STACK_DATA) *data_bytes -= run.length_bytes;
        }
    }
    vs_cursor_end(&c);
    return r;
}

int vs_journal_data_bytes(vs_journal *j, vs_directory *d, uint64_t index, const vs_extent_map *map, vs_volume_state *v) {
    vs_stack below = {0};
    vs_map_list memory = {0};
    vs_base *base = NULL;
    pthread_mutex_lock(&j->mu);
    uint64_t first_seqno = vs_directory_at(d, index)->first_seqno;
    int r = vs_journal_base(j, v->id, vs_directory_base_needed(d, v), &base);
    if (r == 0 && index > 0) r = vs_journal_push_layers(j, d, &below, v->id, 0, index - 1, &memory);
    pthread_mutex_unlock(&j->mu);
    if (r == 0 && base) r = vs_stack_push(&below, &(vs_layer){.packed = *vs_base_map(base), .base = 1});
    if (v->added_seqno >= first_seqno) v->data_bytes = base ? vs_base_data_bytes(base) : 0;
    if (base && vs_base_seqno(base) >= first_seqno) v->data_bytes = VS_UNKNOWN; /* it has some of the map's bytes already */
    if (r == 0 && v->data_bytes == VS_UNKNOWN) r = vs_stack_data_bytes(&below, 0, UINT64_MAX, &v->data_bytes);
    if (r == 0) r = data_bytes_step(&below, map, &v->data_bytes);
    vs_stack_clear(&below);
    vs_map_list_clear(&memory);
    vs_base_unref(base);
    return r;
}

static void tables_free(vs_map_table *tables, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) free(tables[i].bytes);
    free(tables);
}

/* One table per volume that has anything in the group's segments. from_segments: do not use smaller merged maps. */
static int tables_build(vs_journal *j, vs_directory *d, uint64_t first, uint64_t count, int from_segments, vs_map_table **out, uint32_t *table_count) {
    vs_states states = {0};
    uint64_t from = vs_directory_index_of(d, first), to = vs_directory_index_of(d, first + count - 1);
    pthread_mutex_lock(&j->mu);
    int r = vs_journal_states(d, to, vs_directory_at(d, to)->last_seqno, &states);
    pthread_mutex_unlock(&j->mu);
    vs_map_table *tables = calloc(states.count + 1, sizeof *tables);
    if (!tables) r = -ENOMEM;
    uint32_t n = 0;
    for (size_t i = 0; r == 0 && i < states.count; i++) {
        vs_stack s = {0};
        vs_map_list memory = {0};
        vs_map_table *t = &tables[n];
        pthread_mutex_lock(&j->mu);
        if (!from_segments) r = vs_journal_push_layers(j, d, &s, states.volumes[i].id, from, to, &memory);
        for (uint64_t k = to + 1; from_segments && r == 0 && k-- > from;) r = push_segment(vs_directory_at(d, k), &s, states.volumes[i].id, &memory);
        pthread_mutex_unlock(&j->mu);
        t->volume = states.volumes[i].id;
        if (r == 0 && s.count) {
            r = vs_stack_encode(&s, first, &t->bytes, &t->length_bytes, &t->data_bytes);
            n++;
        }
        vs_stack_clear(&s);
        vs_map_list_clear(&memory);
    }
    vs_states_clear(&states);
    *out = tables;
    *table_count = n;
    return r;
}

static int group_merge(vs_journal *j, vs_directory *d, uint64_t first, uint64_t count) {
    vs_map_table *tables = NULL;
    uint32_t table_count = 0;
    const vs_segment *begin = vs_directory_of_ordinal(d, first), *end = vs_directory_of_ordinal(d, first + count - 1);
    vs_merged_map identity = {.first_ordinal = first, .count = count, .first_seqno = begin->first_seqno, .last_seqno = end->last_seqno,
                              .generation = vs_directory_group_generation(d, first, count)};
    memcpy(identity.last_digest, end->chain_digest, 32);
    vs_merged_map_name(first, count, identity.name);
    int r = tables_build(j, d, first, count, 0, &tables, &table_count);
    if (r == 0) r = vs_merged_map_write(j->store, j->options.uuid, &identity, tables, table_count);
    tables_free(tables, table_count);
    if (r < 0) return r;
    vs_merged_map *made;
    pthread_mutex_lock(&j->mu);
    r = merged_get(j, d, first, count, &made);
    pthread_mutex_unlock(&j->mu);
    return r < 0 ? r : made ? 0 : -EIO; /* it must be readable now, or the caller would build it for ever */
}

/* Does a loaded map hold exactly these tables? */
static int tables_equal(vs_merged_map *m, const vs_map_table *tables, uint32_t count) {
    uint32_t volume;
    vs_packed t, want;
    if (m->volumes != count) return 0;
    for (uint32_t i = 0; i < count; i++) {
        if (vs_merged_map_table(m, i, &volume, &t) != 1 || volume != tables[i].volume) return 0;
        if (vs_packed_open(tables[i].bytes, tables[i].length_bytes, VS_MAP_COLUMNS, &want) < 0 || want.rows != t.rows) return 0;
        if (memcmp(want.bytes, t.bytes, tables[i].length_bytes) != 0) return 0;
    }
    return 1;
}

int vs_merged_map_compare(vs_journal *j, vs_directory *d, vs_merged_map *m, vs_fault *fault) {
    vs_map_table *tables = NULL;
    uint32_t table_count = 0;
    pthread_mutex_lock(&j->mu);
    int fits = map_fits(d, m), older = m->generation < vs_directory_group_generation(d, m->first_ordinal, m->count);
    pthread_mutex_unlock(&j->mu);
    if (older) return 0;
    int r = fits ? tables_build(j, d, m->first_ordinal, m->count, 1, &tables, &table_count) : 0;
    int equal = fits && r == 0 && tables_equal(m, tables, table_count);
    tables_free(tables, table_count);
    if (r < 0 || equal) return r;
    vs_fault_set(-EBADMSG, 0, 0, m->first_seqno, 0, "%s is not the map of its segments", m->name);
    vs_fault_last(fault);
    return 1;
}

/* mu held. The first group, of the lowest level, that has no usable map and that no single segment stands for: 1. merge_next remembers what is
 * known to be there. */
static int group_missing(vs_journal *j, vs_directory *d, uint64_t *first, uint64_t *count) {
    uint64_t sealed_end = d->ordinals - (j->active ? 1 : 0);
    *count = VS_MERGE_FANOUT;
    for (int level = 0; level < VS_MERGE_LEVELS; level++, *count *= VS_MERGE_FANOUT) {
        uint64_t *next = &d->merge_next[level];
        for (; *next + *count <= sealed_end; *next += *count) {
            vs_merged_map *m;
            if (vs_directory_of_ordinal(d, *next)->ordinals >= *count) continue;
            int r = merged_get(j, d, *next, *count, &m);
            if (r < 0) return r;
            *first = *next;
            if (!m) return 1;
        }
    }
    return 0;
}

int vs_journal_merge_maps(vs_journal *j) {
    uint64_t first = 0, count = 0;
    if (!j->options.owner) return -EROFS;
    pthread_mutex_lock(&j->mu);
    vs_directory *d = vs_directory_ref(j->directory);
    int missing = group_missing(j, d, &first, &count);
    pthread_mutex_unlock(&j->mu);
    int r = missing > 0 ? group_merge(j, d, first, count) : missing;
    vs_directory_unref(d);
    if (missing <= 0) return missing;
    return r < 0 ? vs_fault_set(r, 0, 0, 0, 0, "maps: the map of segments %llu to %llu could not be made: %s", (unsigned long long)first,
                                (unsigned long long)(first + count - 1), strerror(-r))
                 : 1;
}
