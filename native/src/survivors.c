/* survivors.c: see survivors.h.
 *
 *   rows      s=3 [AAAAAAAA]   s=5 ....[BBBB]...   roots 4, 6
 *   5, B      nothing covers it yet: asked of the maps behind the group
 *   3, A      [AA] not covered, [AA] by B, whose rank is 1 (root 4 is before it): needed by root 4 alone
 */
#include "survivors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_BETWEEN_LOOKS = 4096 };

uint64_t vs_roots_before(const vs_roots *roots, uint64_t seqno) {
    uint64_t low = 0, high = roots->count;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        if (roots->seqnos[mid] < seqno) low = mid + 1;
        else high = mid;
    }
    return low;
}

int vs_roots_check(vs_journal *j, const vs_roots *roots) {
    for (uint64_t i = 0; i < roots->count; i++)
        if (roots->seqnos[i] <= (i ? roots->seqnos[i - 1] : 0)) return -EINVAL;
    pthread_mutex_lock(&j->mu);
    int there = roots->count && roots->seqnos[roots->count - 1] <= j->committed_seqno;
    pthread_mutex_unlock(&j->mu);
    return there ? 0 : -EINVAL;
}

static vs_survivor_volume *volume_find(const vs_survivors *s, uint64_t id) {
    size_t low = 0, high = s->volume_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->volumes[mid].id < id) low = mid + 1;
        else high = mid;
    }
    return low < s->volume_count && s->volumes[low].id == id ? &s->volumes[low] : NULL;
}

/* ---- what came behind the group ---- */

/* mu held. Push the rows of a segment with since < seqno <= until. */
static int rows_push(vs_survivors *s, vs_survivor_volume *v, vs_stack *stack, uint64_t index, uint64_t since, uint64_t until) {
    vs_segment *g = vs_directory_at(s->directory, index);
    const vs_row *rows;
    vs_row *owned;
    size_t count;
    vs_extent_map *m = NULL;
    int r = vs_segment_rows_array(g, until, &rows, &count, &owned);
    if (r == 0) r = vs_rows_map(rows, count, v->id, since, until, &m);
    free(owned);
    if (r == 0 && (r = vs_map_list_add(&v->memory, m)) < 0) vs_extent_map_free(m);
    return r < 0 ? r : vs_stack_push(stack, &(vs_layer){.memory = m, .first_ordinal = g->ordinal});
}

/* mu held. Push what records with since < seqno <= until did. */
static int changes_push(vs_survivors *s, vs_survivor_volume *v, vs_stack *stack, uint64_t since, uint64_t until) {
    uint64_t first = vs_directory_find(s->directory, since + 1), index = vs_directory_find(s->directory, until);
    int whole = vs_directory_at(s->directory, first)->first_seqno == since + 1;
    uint64_t from = whole ? first : first + 1;
    int r = rows_push(s, v, stack, index, since, until);
    if (r == 0 && index > 0 && from <= index - 1) r = vs_journal_push_layers(s->journal, s->directory, stack, v->id, from, index - 1, &v->memory);
    if (r == 0 && !whole && first < index) r = rows_push(s, v, stack, first, since, until);
    return r;
}

/* mu held. What came between two roots, or the group's end and a root: number which, with since < until. */
static int after_load(vs_survivors *s, int which, uint64_t since, uint64_t until) {
    vs_states states = {0};
    uint64_t index = vs_directory_find(s->directory, until);
    int r = index == UINT64_MAX ? vs_fault_set(-ERANGE, 0, until, 0, 0, "@%" PRIu64 " is not in the journal", until)
                                : vs_journal_states(s->directory, index, until, &states);
    for (size_t i = 0; r == 0 && i < s->volume_count; i++) {
        vs_survivor_volume *v = &s->volumes[i];
        const vs_volume_state *state = vs_states_find(&states, v->id);
        v->gone[which] = state && state->removed;
        if (!v->gone[which]) r = changes_push(s, v, &v->after[which], since, until);
    }
    vs_states_clear(&states);
    return r;
}

/* ---- the group ---- */

static int covered_put(vs_survivor_volume *v, uint64_t offset_bytes, uint64_t length_bytes, uint64_t rank) {
    return vs_extent_map_put(v->covered, &(vs_extent){offset_bytes, length_bytes, rank + 1 + offset_bytes / VS_BLOCK_BYTES});
}

static uint64_t rank_of(const vs_extent *e) {
    return e->block - e->offset_bytes / VS_BLOCK_BYTES - 1;
}

/* Nothing of a volume shows at a root behind its removal. */
static int removals_cover(vs_survivors *s, vs_segment *g) {
    const uint8_t *events = NULL, *body;
    uint64_t length;
    vs_event e;
    int r = vs_segment_events(g, &events, &length);
    for (uint64_t at = 0, n; r == 0 && at < length; at += n) {
        n = vs_event_parse(events + at, length - at, &e, &body);
        if (n == 0) return -EBADMSG;
        vs_survivor_volume *v = e.type == VS_RECORD_VOLUME_REMOVE ? volume_find(s, e.volume) : NULL;
        if (v) r = covered_put(v, 0, 2 * VS_OFFSET_MAX, vs_roots_before(&s->roots, e.seqno));
    }
    return r;
}

/* mu held. The volumes that there ever were at the group's end. */
static int volumes_load(vs_survivors *s) {
    vs_states states = {0};
    int r = vs_journal_states(s->directory, s->to, vs_directory_at(s->directory, s->to)->last_seqno, &states);
    if (r == 0) s->volumes = calloc(states.count + 1, sizeof *s->volumes);
    if (r == 0 && !s->volumes) r = -ENOMEM;
    for (size_t i = 0; r == 0 && i < states.count; i++) {
        vs_survivor_volume *v = &s->volumes[s->volume_count++];
        v->id = states.volumes[i].id;
        v->rank = v->next_rank = VS_RANK_NEVER;
        r = vs_extent_map_new(&v->covered);
    }
    vs_states_clear(&states);
    return r;
}

int vs_survivors_begin(vs_survivors *s, vs_journal *j, vs_directory *d, uint64_t from, uint64_t to, const vs_roots *roots, int next_roots) {
    *s = (vs_survivors){.journal = j, .directory = d, .from = from, .to = to, .roots = *roots, .next_roots = next_roots};
    uint64_t end = vs_directory_at(d, to)->last_seqno;
    s->next_root = vs_roots_before(roots, end + 1);
    pthread_mutex_lock(&j->mu);
    int r = volumes_load(s);
    for (int i = 0; r == 0 && i < next_roots && s->next_root + (uint64_t)i < roots->count; i++)
        r = after_load(s, i, i ? roots->seqnos[s->next_root] : end, roots->seqnos[s->next_root + (uint64_t)i]);
    pthread_mutex_unlock(&j->mu);
    for (uint64_t i = from; r == 0 && i <= to; i++) r = removals_cover(s, vs_directory_at(d, i));
    return r;
}

void vs_survivors_end(vs_survivors *s) {
    for (size_t i = 0; i < s->volume_count; i++) {
        vs_survivor_volume *v = &s->volumes[i];
        vs_extent_map_free(v->covered);
        vs_stack_clear(&v->after[0]);
        vs_stack_clear(&v->after[1]);
        vs_map_list_clear(&v->memory);
    }
    free(s->volumes);
    *s = (vs_survivors){0};
}

/* ---- the sweep ---- */

typedef struct sweep {
    vs_survivors *s;
    vs_survivor_volume *volume;
    vs_survivor_fn each;
    void *arg;
    vs_survivor_part part; /* all of it but range and rank */
} sweep;

static int part_tell(sweep *w, uint64_t from, uint64_t to, uint64_t end_rank) {
    w->part.offset_bytes = from;
    w->part.length_bytes = to - from;
    w->part.end_rank = end_rank;
    return w->each(w->arg, &w->part);
}

/* Bytes that the group does not cover, and what came behind it up to root number which - 1 does not either. */
static int after_ask(sweep *w, int which, uint64_t from, uint64_t to) {
    uint64_t root = w->s->next_root + (uint64_t)which;
    if (which == w->s->next_roots || root >= w->s->roots.count) return part_tell(w, from, to, VS_RANK_NEVER);
    if (w->volume->gone[which]) return part_tell(w, from, to, root);
    vs_cursor c;
    vs_stack_run run;
    int r = vs_cursor_init(&c, &w->volume->after[which]);
    for (uint64_t at = from; r == 0 && at < to; at += run.length_bytes) {
        vs_stack_run_at(&c, at, to, &run);
        if (run.kind == VS_STACK_HOLE) r = after_ask(w, which + 1, at, at + run.length_bytes);
        else r = part_tell(w, at, at + run.length_bytes, root);
    }
    vs_cursor_end(&c);
    return r;
}

static int row_parts(sweep *w, const vs_row *row) {
    vs_extent e;
    int r = 0;
    for (uint64_t at = row->offset_bytes, end = at + row->length_bytes, to; r == 0 && at < end; at = to) {
        int found = vs_extent_map_find(w->volume->covered, at, &e);
        int here = found && e.offset_bytes <= at;
        to = !found ? end : here ? e.offset_bytes + e.length_bytes : e.offset_bytes;
        if (to > end) to = end;
        r = here ? part_tell(w, at, to, rank_of(&e)) : after_ask(w, 0, at, to);
    }
    return r;
}

static int row_sweep(sweep *w, const vs_row *row) {
    vs_survivors *s = w->s;
    vs_survivor_volume *v = w->volume && w->volume->id == row->volume ? w->volume : volume_find(s, row->volume);
    if (!v) return -EUCLEAN;
    if (v->seqno != row->seqno) {
        v->next_rank = v->rank;
        v->rank = vs_roots_before(&s->roots, row->seqno);
        v->seqno = row->seqno;
    }
    w->volume = v;
    w->part.row = row;
    w->part.first_rank = v->rank;
    w->part.is_last_write = v->next_rank > v->rank;
    int r = row_parts(w, row);
    return r == 0 ? covered_put(v, row->offset_bytes, row->length_bytes, v->rank) : r;
}

static int segment_sweep(sweep *w, uint64_t index) {
    vs_segment *g = vs_directory_at(w->s->directory, index);
    vs_rows rows;
    vs_row row;
    int r = vs_segment_rows(g, &rows);
    uint64_t newer_seqno = UINT64_MAX;
    w->part.segment = index;
    for (uint64_t i = r == 0 ? rows.count : 0; r == 0 && i-- > 0;) {
        vs_rows_get(&rows, i, &row);
        if (i % ROWS_BETWEEN_LOOKS == 0 && atomic_load(&w->s->journal->work_ends)) return -ECANCELED;
        w->part.number = i;
        r = vs_segment_row_is_sound(g, &row, newer_seqno) ? row_sweep(w, &row) : -EUCLEAN;
        if (r == -EUCLEAN) vs_fault_set(r, (uint32_t)row.volume, row.seqno, g->first_seqno, 0, "%s: its records are not sound", g->name);
        newer_seqno = row.seqno;
    }
    return r;
}

int vs_survivors_sweep(vs_survivors *s, vs_survivor_fn each, void *arg) {
    sweep w = {.s = s, .each = each, .arg = arg};
    int r = 0;
    for (uint64_t i = s->to + 1; r == 0 && i-- > s->from;) r = segment_sweep(&w, i);
    return r;
}
