/* kept_pieces.c: see kept_pieces.h. First all that survives, from the newest to the oldest; then, from the oldest on, what of it is left out. */
#include "kept_pieces.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base_move.h"
#include "room.h"

typedef struct resize {
    uint64_t seqno, volume, offset_bytes, length_bytes;
} resize;

/* What is below a piece. held: of the group, so far: block 0 where the base will have zeros, else what is kept, and has to be hidden. */
typedef struct volume_below {
    uint32_t id;
    int loaded; /* the rest is of use */
    vs_extent_map *held;
    vs_stack stack; /* of what is before the group: segments, then the base */
    vs_map_list memory;
    vs_base *base;
} volume_below;

typedef struct finder {
    vs_journal *journal;
    const vs_compact_group *group;
    const vs_roots *roots;
    vs_kept_pieces *out;
    resize *resizes; /* ascending; their rows come from the events, which are kept */
    size_t resize_count, resize_room;
    vs_states states; /* at the group's end */
    vs_states oldest; /* at the oldest root */
    volume_below **below;
    size_t below_count, below_room;
} finder;

void vs_kept_pieces_clear(vs_kept_pieces *p) {
    free(p->pieces);
    free(p->sizes_alone);
    *p = (vs_kept_pieces){0};
}

static int piece_add(vs_kept_pieces *p, const vs_kept_piece *piece) {
    if (p->count == VS_COMPACT_ROWS_MAX) return -E2BIG;
    int r = vs_room(&p->pieces, &p->room, p->count, 1, sizeof *p->pieces);
    if (r == 0) p->pieces[p->count++] = *piece;
    return r;
}

/* Add a part of a row, of data with the whole blocks of the row that it touches, of zeros with all that lies between it and the part before. It may
 * continue the last piece. */
static int part_add(vs_kept_pieces *p, const vs_row *row, vs_kept_piece part) {
    uint64_t from = part.offset_bytes, to = from + part.length_bytes, row_end = row->offset_bytes + row->length_bytes;
    if (row->block) {
        from -= from % VS_BLOCK_BYTES;
        to += (VS_BLOCK_BYTES - to % VS_BLOCK_BYTES) % VS_BLOCK_BYTES;
        if (from < row->offset_bytes) from = row->offset_bytes;
        if (to > row_end) to = row_end;
    }
    vs_kept_piece *last = p->count ? &p->pieces[p->count - 1] : NULL;
    if (last && last->segment == part.segment && last->number == part.number && (!row->block || from <= last->offset_bytes + last->length_bytes)) {
        if (to > last->offset_bytes + last->length_bytes) last->length_bytes = to - last->offset_bytes;
        return 0;
    }
    part.offset_bytes = from;
    part.length_bytes = to - from;
    return piece_add(p, &part);
}

/* ---- what survives ---- */

static int is_resize(const finder *f, uint64_t seqno) {
    size_t low = 0, high = f->resize_count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (f->resizes[mid].seqno < seqno) low = mid + 1;
        else high = mid;
    }
    return low < f->resize_count && f->resizes[low].seqno == seqno;
}

static int survivor_take(void *arg, const vs_survivor_part *part) {
    finder *f = arg;
    if (part->end_rank <= part->first_rank || (part->row->block == 0 && is_resize(f, part->row->seqno))) return 0;
    vs_kept_piece piece = {.offset_bytes = part->offset_bytes, .length_bytes = part->length_bytes, .segment = (uint32_t)(part->segment - f->group->from),
                           .number = (uint32_t)part->number, .stays = part->is_last_write != 0};
    return part_add(f->out, part->row, piece);
}

static void reverse(vs_kept_piece *pieces, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        vs_kept_piece other = pieces[i];
        pieces[i] = pieces[count - 1 - i];
        pieces[count - 1 - i] = other;
    }
}

/* Rows came from the newest to the oldest, the pieces of each in order. */
static void order(vs_kept_pieces *p) {
    reverse(p->pieces, p->count);
    for (size_t i = 0, n; i < p->count; i += n) {
        for (n = 1; i + n < p->count && p->pieces[i + n].segment == p->pieces[i].segment && p->pieces[i + n].number == p->pieces[i].number; n++) {}
        reverse(p->pieces + i, n);
    }
}

static int resizes_load(finder *f, vs_segment *g) {
    const uint8_t *events = NULL, *body;
    uint64_t length;
    vs_event e;
    int r = vs_segment_events(g, &events, &length);
    for (uint64_t at = 0, n; r == 0 && at < length; at += n) {
        n = vs_event_parse(events + at, length - at, &e, &body);
        if (n == 0) return -EBADMSG;
        if (e.type != VS_RECORD_VOLUME_RESIZE || events[at + 9] & VS_RECORD_SIZE_ALONE) continue;
        r = vs_room(&f->resizes, &f->resize_room, f->resize_count, 1, sizeof *f->resizes);
        uint64_t from = e.a < e.b ? e.a : e.b, to = e.a < e.b ? e.b : e.a;
        if (r == 0) f->resizes[f->resize_count++] = (resize){e.seqno, e.volume, from, to - from};
    }
    return r;
}

static int survivors_take(finder *f) {
    vs_survivors s;
    int r = vs_survivors_begin(&s, f->journal, f->group->directory, f->group->from, f->group->to, f->roots, 1);
    if (r == 0) r = vs_survivors_sweep(&s, survivor_take, f);
    f->out->until_seqno = s.next_root < f->roots->count ? f->roots->seqnos[s.next_root] : vs_directory_at(f->group->directory, f->group->to)->last_seqno;
    vs_survivors_end(&s);
    if (r == 0) order(f->out);
    return r;
}

/* ---- what of it is left out ---- */

/* mu held. A root shows the volume: it has the base that it needs, or it is damaged. */
static int stack_load(finder *f, volume_below *b) {
    const vs_compact_group *c = f->group;
    const vs_volume_state *found = vs_states_find(&f->states, b->id);
    vs_volume_state v = found ? *found : (vs_volume_state){.id = b->id};
    v.removed = 0;
    int r = c->from ? vs_journal_push_layers(f->journal, c->directory, &b->stack, b->id, 0, c->from - 1, &b->memory) : 0;
    if (r == 0) r = vs_journal_base(f->journal, b->id, vs_directory_base_needed(c->directory, &v), &b->base);
    if (r == 0 && b->base) r = vs_stack_push(&b->stack, &(vs_layer){.packed = *vs_base_map(b->base), .base = 1});
    return r;
}

static void below_free(volume_below *b) {
    vs_extent_map_free(b->held);
    vs_stack_clear(&b->stack);
    vs_map_list_clear(&b->memory);
    vs_base_unref(b->base);
    free(b);
}

static int below_get(finder *f, uint32_t id, volume_below **out) {
    for (size_t i = f->below_count; i-- > 0;)
        if (f->below[i]->id == id) {
            *out = f->below[i];
            return 0;
        }
    if (vs_room(&f->below, &f->below_room, f->below_count, 1, sizeof *f->below) < 0) return -ENOMEM;
    volume_below *b = calloc(1, sizeof *b);
    if (!b) return -ENOMEM;
    b->id = id;
    f->below[f->below_count++] = b;
    *out = b;
    return vs_extent_map_new(&b->held);
}

static int hold(volume_below *b, uint64_t offset_bytes, uint64_t length_bytes, int hides) {
    return vs_extent_map_put(b->held, &(vs_extent){offset_bytes, length_bytes, hides ? 1 + offset_bytes / VS_BLOCK_BYTES : 0});
}

/* Does a part that covers this have to be kept? in_base: the base has what it says, if nothing older of the journal hides that. Else it reads as zeros. */
static int hides(const vs_stack_run *run, int in_base) {
    return in_base ? run->kind != VS_STACK_HOLE && !run->base : run->kind == VS_STACK_DATA;
}

/* Add of [from, to), which nothing of the group is below, what hides something older. */
static int parts_over(finder *f, volume_below *b, vs_kept_pieces *fresh, const vs_row *row, const vs_kept_piece *piece, uint64_t from, uint64_t to) {
    vs_cursor c;
    vs_stack_run run;
    int r = 0, in_base = row->seqno <= f->out->base_floor;
    if (!b->loaded) {
        pthread_mutex_lock(&f->journal->mu);
        r = stack_load(f, b);
        pthread_mutex_unlock(&f->journal->mu);
        b->loaded = 1;
    }
    if (r == 0) r = vs_cursor_init(&c, &b->stack);
    if (r < 0) return r;
    for (uint64_t at = from; r == 0 && at < to; at += run.length_bytes) {
        vs_stack_run_at(&c, at, to, &run);
        vs_kept_piece part = *piece;
        part.offset_bytes = at;
        part.length_bytes = run.length_bytes;
        if (hides(&run, in_base)) r = part_add(fresh, row, part);
    }
    vs_cursor_end(&c);
    return r;
}

static int piece_cut(finder *f, volume_below *b, vs_kept_pieces *fresh, const vs_row *row, const vs_kept_piece *piece) {
    int r = 0;
    vs_extent e;
    for (uint64_t at = piece->offset_bytes, end = at + piece->length_bytes, to; r == 0 && at < end; at = to) {
        int found = vs_extent_map_find(b->held, at, &e), here = found && e.offset_bytes <= at;
        to = !found ? end : here ? e.offset_bytes + e.length_bytes : e.offset_bytes;
        if (to > end) to = end;
        vs_kept_piece part = *piece;
        part.offset_bytes = at;
        part.length_bytes = to - at;
        if (!here) r = parts_over(f, b, fresh, row, piece, at, to);
        else if (e.block) r = part_add(fresh, row, part);
    }
    return r;
}

static int piece_judge(finder *f, vs_kept_pieces *fresh, const vs_row *row, const vs_kept_piece *piece) {
    volume_below *b;
    size_t first = fresh->count;
    int r = below_get(f, (uint32_t)row->volume, &b), in_base = row->seqno <= f->out->base_floor;
    if (r == 0 && in_base && f->group->assumed_floor) return hold(b, piece->offset_bytes, piece->length_bytes, row->block != 0);
    if (r == 0 && (in_base || (row->block == 0 && !piece->stays))) r = piece_cut(f, b, fresh, row, piece);
    else if (r == 0) r = piece_add(fresh, piece);
    for (size_t i = first; r == 0 && i < fresh->count; i++) r = hold(b, fresh->pieces[i].offset_bytes, fresh->pieces[i].length_bytes, 1);
    return r;
}

/* Resizes are kept whole. One whose zeros the base has, and that would hide nothing, is kept without them. */
static int resize_judge(finder *f, vs_kept_pieces *fresh, const resize *z) {
    volume_below *b;
    const vs_row row = {.seqno = z->seqno, .volume = z->volume, .offset_bytes = z->offset_bytes, .length_bytes = z->length_bytes};
    vs_kept_piece all = {.offset_bytes = z->offset_bytes, .length_bytes = z->length_bytes};
    vs_kept_pieces hiding = {0};
    const vs_volume_state *oldest = vs_states_find(&f->oldest, (uint32_t)z->volume);
    int gone = oldest && oldest->removed; /* no root shows it, and it has no base any more */
    int r = below_get(f, (uint32_t)z->volume, &b), in_base = z->seqno <= f->out->base_floor, alone = in_base && (gone || f->group->assumed_floor);
    if (r == 0 && in_base && !alone) {
        r = piece_cut(f, b, &hiding, &row, &all);
        alone = hiding.count == 0;
        vs_kept_pieces_clear(&hiding);
    }
    if (r == 0 && alone) {
        r = vs_room(&fresh->sizes_alone, &fresh->size_room, fresh->size_count, 1, sizeof *fresh->sizes_alone);
        if (r == 0) fresh->sizes_alone[fresh->size_count++] = z->seqno;
    }
    return r == 0 && (!alone || f->group->assumed_floor) ? hold(b, z->offset_bytes, z->length_bytes, !alone) : r;
}

static int resizes_until(finder *f, vs_kept_pieces *fresh, size_t *at, uint64_t seqno) {
    int r = 0;
    for (; r == 0 && *at < f->resize_count && f->resizes[*at].seqno <= seqno; ++*at) r = resize_judge(f, fresh, &f->resizes[*at]);
    return r;
}

static int pieces_judge(finder *f) {
    const vs_compact_group *c = f->group;
    vs_kept_pieces fresh = {.base_floor = f->out->base_floor, .until_seqno = f->out->until_seqno};
    vs_rows rows = {0};
    size_t resizes = 0;
    uint64_t segment = UINT64_MAX;
    int r = 0;
    for (size_t i = 0; r == 0 && i < f->out->count; i++) {
        const vs_kept_piece *piece = &f->out->pieces[i];
        vs_row row;
        if (piece->segment != segment) r = vs_segment_rows(vs_directory_at(c->directory, c->from + piece->segment), &rows);
        segment = piece->segment;
        if (r < 0) break;
        vs_rows_get(&rows, piece->number, &row);
        r = resizes_until(f, &fresh, &resizes, row.seqno);
        if (r == 0) r = piece_judge(f, &fresh, &row, piece);
    }
    if (r == 0) r = resizes_until(f, &fresh, &resizes, UINT64_MAX);
    vs_kept_pieces_clear(f->out);
    *f->out = fresh;
    return r;
}

int vs_base_floor(vs_journal *j, const vs_directory *d, const vs_roots *roots, uint64_t *seqno) {
    uint64_t oldest = roots->seqnos[0], index = vs_directory_find(d, oldest);
    vs_states states = {0};
    if (index == UINT64_MAX) return vs_fault_set(-ERANGE, 0, oldest, 0, 0, "@%" PRIu64 " is not in the journal", oldest);
    pthread_mutex_lock(&j->mu);
    int r = vs_journal_states(d, index, oldest, &states);
    pthread_mutex_unlock(&j->mu);
    *seqno = oldest;
    for (size_t i = 0; r == 0 && i < states.count; i++) {
        const vs_volume_state *v = &states.volumes[i];
        uint64_t base_seqno = v->removed || v->added_seqno > oldest ? oldest : vs_journal_base_seqno(j, v->id);
        if (base_seqno < *seqno) *seqno = base_seqno;
    }
    vs_states_clear(&states);
    return r;
}

/* As far as it concerns the group. */
static int base_floor_find(finder *f) {
    const vs_directory *d = f->group->directory;
    uint64_t first = vs_directory_at(d, f->group->from)->first_seqno, last = vs_directory_at(d, f->group->to)->last_seqno, seqno = 0;
    int r = 0;
    if (f->group->assumed_floor) seqno = f->group->assumed_floor;
    else r = vs_base_floor(f->journal, d, f->roots, &seqno);
    if (seqno > last) seqno = last;
    f->out->base_floor = seqno < first ? 0 : seqno;
    return r;
}

static int states_load(finder *f) {
    const vs_compact_group *c = f->group;
    uint64_t oldest = f->roots->seqnos[0], index = vs_directory_find(c->directory, oldest);
    if (index == UINT64_MAX) return vs_fault_set(-ERANGE, 0, oldest, 0, 0, "@%" PRIu64 " is not in the journal", oldest);
    pthread_mutex_lock(&f->journal->mu);
    int r = vs_journal_states(c->directory, c->to, vs_directory_at(c->directory, c->to)->last_seqno, &f->states);
    if (r == 0) r = vs_journal_states(c->directory, index, oldest, &f->oldest);
    pthread_mutex_unlock(&f->journal->mu);
    return r;
}

static int group_fits(const vs_compact_group *c) {
    uint64_t count = 0;
    vs_rows rows;
    for (uint64_t i = c->from; i <= c->to; i++) {
        int r = vs_segment_rows(vs_directory_at(c->directory, i), &rows);
        if (r < 0) return r;
        count += rows.count;
    }
    return count <= VS_COMPACT_ROWS_MAX;
}

int vs_kept_pieces_find(vs_journal *j, const vs_compact_group *c, const vs_roots *roots, vs_kept_pieces *out) {
    *out = (vs_kept_pieces){0};
    finder f = {.journal = j, .group = c, .roots = roots, .out = out};
    int r = group_fits(c);
    if (r <= 0) return r;
    r = states_load(&f);
    if (r == 0) r = base_floor_find(&f);
    for (uint64_t i = c->from; r == 0 && i <= c->to; i++) r = resizes_load(&f, vs_directory_at(c->directory, i));
    if (r == 0) r = survivors_take(&f);
    if (r == 0) r = pieces_judge(&f);
    for (size_t i = 0; i < f.below_count; i++) below_free(f.below[i]);
    free(f.below);
    free(f.resizes);
    vs_states_clear(&f.states);
    vs_states_clear(&f.oldest);
    if (r < 0) vs_kept_pieces_clear(out);
    return r == -E2BIG ? 0 : r < 0 ? r : 1;
}
