/* history.c: questions about the past: which segment, which state, which event, what time; and which maps answer for it.
 *
 * States of volumes at a seqno are those at the end of the segment before (its footer) and what the segment's own rows and events
 * change up to there. So no question costs more than one segment's index, however long the journal is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "journal_internal.h"
#include "points.h"

int vs_segment_rows_array(vs_segment *g, uint64_t until, const vs_row **rows, size_t *count, vs_row **owned) {
    vs_rows all;
    *owned = NULL;
    int r = vs_segment_rows(g, &all);
    if (r < 0) return r;
    *count = vs_rows_count_le(&all, until);
    *rows = all.array;
    if (all.packed.rows == 0 || *count == 0) return 0;
    vs_row *copy = malloc(*count * sizeof *copy);
    if (!copy) return -ENOMEM;
    uint64_t newer_seqno = UINT64_MAX;
    for (size_t i = *count; r == 0 && i-- > 0; newer_seqno = copy[i].seqno) {
        vs_rows_get(&all, i, &copy[i]);
        if (!vs_segment_row_is_sound(g, &copy[i], newer_seqno))
            r = vs_fault_set(-EUCLEAN, (uint32_t)copy[i].volume, copy[i].seqno, g->first_seqno, 0, "%s: its records are not sound", g->name);
    }
    if (r < 0) {
        free(copy);
        return r;
    }
    *rows = *owned = copy;
    return 0;
}

/* States from the footer of a segment. 0: it has none, or its section is not usable. */
static int states_from_footer(vs_segment *g, vs_states *out) {
    uint64_t length;
    if (!g->sealed) return 0; /* its trailer is damaged */
    const uint8_t *p = vs_segment_section(g, VS_SECTION_VOLUMES, &length);
    if (!p || length % VS_VOLUME_ROW_BYTES) return 0;
    for (uint64_t at = 0; at < length; at += VS_VOLUME_ROW_BYTES, p += VS_VOLUME_ROW_BYTES) {
        vs_volume_state *v = vs_states_add(out, vs_get32(p));
        if (!v) return -ENOMEM;
        *v = (vs_volume_state){vs_get32(p), vs_get32(p + 4), vs_get64(p + 8), vs_get64(p + 16), vs_get64(p + 24), vs_get64(p + 32), vs_get64(p + 40)};
    }
    return 1;
}

static int states_fold_segment(vs_segment *g, uint64_t until, vs_states *out) {
    const vs_row *rows;
    vs_row *owned = NULL;
    const uint8_t *events = NULL;
    uint64_t event_bytes;
    size_t count;
    int r = vs_segment_rows_array(g, until, &rows, &count, &owned);
    if (r == 0) r = vs_segment_events(g, &events, &event_bytes);
    if (r == 0) r = vs_states_fold(out, rows, count, events, event_bytes, until);
    free(owned);
    vs_index *x;
    if (r == 0 && g->generation && until >= g->last_seqno && (r = vs_segment_need_index(g, &x)) == 0) vs_states_fold_lasts(out, x);
    return r;
}

static void data_bytes_forget(vs_states *s) {
    for (size_t k = 0; k < s->count; k++) s->volumes[k].data_bytes = VS_UNKNOWN;
}

/* At the end of a compacted segment its footer says what its rows may not. 1: it did. */
static int states_at_end(vs_segment *g, uint64_t until, vs_states *out) {
    int r = g->generation && until >= g->last_seqno ? states_from_footer(g, out) : 0;
    if (r == 0) vs_states_clear(out);
    return r;
}

int vs_journal_states(const vs_directory *d, uint64_t index, uint64_t until, vs_states *out) {
    uint64_t from = index; /* fold from the first segment whose predecessor has a usable footer */
    int r = states_at_end(vs_directory_at(d, index), until, out);
    if (r != 0) return r < 0 ? r : 0;
    while (from > 0 && (r = states_from_footer(vs_directory_at(d, from - 1), out)) == 0) {
        vs_states_clear(out);
        from--;
    }
    if (r < 0) return r;
    /* How much data there was is counted with what has been dropped since. */
    if (from > 0 && !vs_directory_is_whole(d, from - 1, vs_directory_at(d, from - 1)->last_seqno)) data_bytes_forget(out);
    for (uint64_t i = from; i <= index; i++) {
        r = states_fold_segment(vs_directory_at(d, i), until, out);
        if (r < 0) return r;
        if (i < index) data_bytes_forget(out);
    }
    return 0;
}

int vs_journal_volume_at(vs_journal *j, uint32_t volume, uint64_t seqno, vs_volume_state *out) {
    vs_states states = {0};
    pthread_mutex_lock(&j->mu);
    uint64_t index = vs_directory_find(j->directory, seqno);
    int r = index == UINT64_MAX || seqno > j->committed_seqno ? -ERANGE : vs_point_check(j->directory, index, seqno);
    if (r == 0) r = vs_journal_states(j->directory, index, seqno, &states);
    vs_volume_state *v = vs_states_find(&states, volume);
    if (r == 0 && (!v || v->added_seqno > seqno)) r = -ENOENT;
    if (r == 0) r = vs_journal_state_of_base(j, j->directory, seqno, v);
    pthread_mutex_unlock(&j->mu);
    if (r == 0) *out = *v;
    vs_states_clear(&states);
    return r;
}

static int event_copy(const uint8_t *p, size_t left, uint64_t after, vs_event *out, void *body, uint32_t body_max, size_t *length) {
    const uint8_t *from;
    *length = vs_event_parse(p, left, out, &from);
    if (*length == 0) return -EBADMSG;
    if (out->seqno <= after) return 0;
    memcpy(body, from, out->body_bytes < body_max ? out->body_bytes : body_max);
    return 1;
}

/* A compaction has moved segments and events: where the cursor goes on. */
static void cursor_find(const vs_directory *d, vs_event_cursor *c) {
    uint64_t index = vs_directory_find(d, c->after + 1);
    c->segment = index == UINT64_MAX ? d->count - 1 : index;
    c->position = 0;
    c->generation = d->generation;
}

int vs_journal_next_event(vs_journal *j, vs_event_cursor *c, vs_event *out, void *body, uint32_t body_max) {
    pthread_mutex_lock(&j->mu);
    int r = 0;
    if (c->generation != j->directory->generation) cursor_find(j->directory, c);
    for (; r == 0 && c->segment < j->directory->count; c->segment++, c->position = 0) {
        vs_segment *g = vs_directory_at(j->directory, c->segment);
        const uint8_t *bytes = NULL;
        uint64_t length = 0;
        if (g->last_seqno > c->after) r = vs_segment_events(g, &bytes, &length);
        while (r == 0 && c->position < length) {
            size_t n;
            r = event_copy(bytes + c->position, length - c->position, c->after, out, body, body_max, &n);
            c->position += n;
        }
        if (r != 0 || c->segment + 1 == j->directory->count) break; /* stay at the end: more may come */
    }
    if (r == 1) c->after = out->seqno;
    pthread_mutex_unlock(&j->mu);
    return r;
}

int vs_journal_rows(vs_journal *j, uint64_t after, vs_journal_row *rows, int max) {
    pthread_mutex_lock(&j->mu);
    int n = 0, r = 0;
    uint64_t index = vs_directory_find(j->directory, after + 1);
    for (; index < j->directory->count && n == 0 && r == 0; index++) {
        vs_rows all;
        r = vs_segment_rows(vs_directory_at(j->directory, index), &all);
        if (r < 0) break;
        uint64_t from = vs_rows_count_le(&all, after), to = all.count;
        if (to - from > (uint64_t)max) { /* whole records only */
            vs_row last;
            vs_rows_get(&all, from + (uint64_t)max, &last);
            to = vs_rows_count_le(&all, last.seqno - 1);
            if (to == from) r = -ENOSPC;
        }
        if (to < from || to - from > (uint64_t)max) { /* a table that is not in order */
            r = vs_fault_set(-EUCLEAN, 0, after + 1, vs_directory_at(j->directory, index)->first_seqno, 0, "%s: its records are not in order",
                             vs_directory_at(j->directory, index)->name);
            break;
        }
        for (uint64_t i = from; i < to; i++) {
            vs_row w;
            vs_rows_get(&all, i, &w);
            rows[n++] = (vs_journal_row){w.seqno, w.time_ns, w.offset_bytes, w.length_bytes, (uint32_t)w.volume, w.block == 0};
        }
    }
    pthread_mutex_unlock(&j->mu);
    return r < 0 ? r : n;
}

/* Times ascend with seqnos: the last row or event with time <= time_ns. */
static int segment_seqno_at(vs_segment *g, uint64_t time_ns, uint64_t *seqno) {
    vs_rows rows;
    int r = vs_segment_rows(g, &rows);
    if (r < 0) return r;
    uint64_t low = 0, high = rows.count;
    vs_row row;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        vs_rows_get(&rows, mid, &row);
        if (row.time_ns <= time_ns) low = mid + 1;
        else high = mid;
    }
    if (low) {
        vs_rows_get(&rows, low - 1, &row);
        if (row.seqno > *seqno) *seqno = row.seqno;
    }
    const uint8_t *events = NULL, *body;
    uint64_t length;
    vs_event e;
    r = vs_segment_events(g, &events, &length);
    for (uint64_t at = 0, n; r == 0 && at < length; at += n) {
        n = vs_event_parse(events + at, length - at, &e, &body);
        if (n == 0) return -EBADMSG;
        if (e.time_ns > time_ns) break;
        if (e.seqno > *seqno) *seqno = e.seqno;
    }
    return r;
}

int vs_journal_seqno_at(vs_journal *j, uint64_t time_ns, uint64_t *seqno) {
    *seqno = 0;
    pthread_mutex_lock(&j->mu);
    uint64_t low = 0, high = j->directory->count;
    while (low < high) { /* the first segment all of whose records are later */
        uint64_t mid = (low + high) / 2;
        if (vs_directory_at(j->directory, mid)->time_before_ns <= time_ns) low = mid + 1;
        else high = mid;
    }
    int r = 0;
    if (low) {
        vs_segment *g = vs_directory_at(j->directory, low - 1);
        *seqno = g->first_seqno - 1;
        if (g->last_time_ns <= time_ns) *seqno = g->last_seqno;
        else if (g->generation && g->time_before_ns < time_ns) r = vs_point_at(g, time_ns, seqno); /* of what is between its points nothing is known */
        else r = segment_seqno_at(g, time_ns, seqno);
        uint64_t index = r == 0 ? vs_directory_find(j->directory, *seqno) : UINT64_MAX; /* it may be the end of the segment before */
        if (index != UINT64_MAX) r = vs_point_check(j->directory, index, *seqno);
    }
    pthread_mutex_unlock(&j->mu);
    return r;
}

static int event_time(vs_segment *g, uint64_t seqno, uint64_t *time_ns) {
    const uint8_t *events = NULL, *body;
    uint64_t length;
    vs_event e;
    int r = vs_segment_events(g, &events, &length);
    for (uint64_t at = 0, n; r == 0 && at < length; at += n) {
        n = vs_event_parse(events + at, length - at, &e, &body);
        if (n == 0) return -EBADMSG;
        if (e.seqno == seqno) {
            *time_ns = e.time_ns;
            return 0;
        }
    }
    return r < 0 ? r : -ENOENT;
}

static int record_time(vs_segment *g, uint64_t seqno, uint64_t *time_ns) {
    vs_rows rows;
    vs_row row = {0};
    int r = vs_segment_rows(g, &rows);
    uint64_t n = r == 0 ? vs_rows_count_le(&rows, seqno) : 0;
    if (n) vs_rows_get(&rows, n - 1, &row);
    if (r < 0 || row.seqno != seqno) return r < 0 ? r : event_time(g, seqno, time_ns);
    *time_ns = row.time_ns;
    return 0;
}

int vs_journal_point_check(vs_journal *j, uint64_t seqno) {
    vs_fault_clear();
    pthread_mutex_lock(&j->mu);
    uint64_t index = vs_directory_find(j->directory, seqno), floor_seqno = j->floor_seqno;
    int r = index == UINT64_MAX || seqno > j->committed_seqno || seqno < floor_seqno ? -ERANGE : vs_point_check(j->directory, index, seqno);
    pthread_mutex_unlock(&j->mu);
    vs_fault fault;
    vs_fault_last(&fault);
    return r == 0 || fault.code == r ? r : vs_fault_set(r, 0, seqno, 0, 0, "@%" PRIu64 " is not in the window", seqno);
}

int vs_journal_point_next(vs_journal *j, uint64_t seqno, uint64_t *out) {
    pthread_mutex_lock(&j->mu);
    if (seqno < j->floor_seqno) seqno = j->floor_seqno;
    if (seqno == 0) seqno = 1;
    int r = vs_point_next(j->directory, seqno, out);
    if (r == 1 && *out > j->committed_seqno) r = 0;
    pthread_mutex_unlock(&j->mu);
    return r;
}

int vs_journal_time_of(vs_journal *j, uint64_t seqno, uint64_t *time_ns) {
    pthread_mutex_lock(&j->mu);
    uint64_t index = vs_directory_find(j->directory, seqno);
    int r = index == UINT64_MAX ? -ERANGE : 0;
    if (r == 0) {
        vs_segment *g = vs_directory_at(j->directory, index);
        r = g->generation ? vs_point_time(g, seqno, time_ns) : 0;
        if (r == 0) r = record_time(g, seqno, time_ns);
        else if (r == 1) r = 0;
        if (r == -ENOENT && g->generation) r = vs_point_gone(g, seqno);
    }
    pthread_mutex_unlock(&j->mu);
    return r;
}
