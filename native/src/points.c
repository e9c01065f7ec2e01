/* points.c: see points.h. Section 5 of a compacted segment (native/FORMAT.md): seqno and time of each point, ascending in both. */
#include "points.h"

#include <errno.h>
#include <inttypes.h>

enum { ROW_BYTES = 16, ROWS_AT = 8 };

/* Of the footer, or where that is damaged of the batches. */
typedef struct points {
    const uint8_t *rows;
    const vs_index_point *array;
    uint64_t count;
} points;

static int points_load(vs_segment *g, points *out) {
    uint64_t length;
    vs_index *x;
    const uint8_t *p = g->sealed ? vs_segment_section(g, VS_SECTION_POINTS, &length) : NULL;
    if (p && length >= ROWS_AT && vs_get64(p) <= (length - ROWS_AT) / ROW_BYTES) {
        *out = (points){p + ROWS_AT, NULL, vs_get64(p)};
        return 0;
    }
    int r = vs_segment_need_index(g, &x);
    if (r == 0) *out = (points){NULL, x->points, x->point_count};
    return r;
}

static vs_index_point point_get(const points *p, uint64_t i) {
    return p->rows ? (vs_index_point){vs_get64(p->rows + i * ROW_BYTES), vs_get64(p->rows + i * ROW_BYTES + 8)} : p->array[i];
}

/* How many points have a seqno (by_time: a time) of at most value. */
static uint64_t count_le(const points *p, int by_time, uint64_t value) {
    uint64_t low = 0, high = p->count;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        vs_index_point is = point_get(p, mid);
        if ((by_time ? is.time_ns : is.seqno) <= value) low = mid + 1;
        else high = mid;
    }
    return low;
}

static int point_find(vs_segment *g, int by_time, uint64_t value, uint64_t *other) {
    points p = {0};
    int r = points_load(g, &p);
    if (r < 0) return r;
    uint64_t n = count_le(&p, by_time, value);
    if (n == 0) return 0;
    vs_index_point is = point_get(&p, n - 1);
    *other = by_time ? is.seqno : is.time_ns;
    return (by_time ? is.time_ns : is.seqno) == value;
}

int vs_point_time(vs_segment *g, uint64_t seqno, uint64_t *time_ns) {
    return point_find(g, 0, seqno, time_ns);
}

int vs_point_at(vs_segment *g, uint64_t time_ns, uint64_t *seqno) {
    int r = point_find(g, 1, time_ns, seqno);
    if (r != 0) return r < 0 ? r : 0;
    return vs_fault_set(-ERANGE, 0, 0, 0, 0, "from @%" PRIu64 " to @%" PRIu64 " only bookmarks are kept, and none is of that time", g->first_seqno,
                        g->last_seqno);
}

static int gone(uint64_t seqno, uint64_t from, uint64_t until) {
    return vs_fault_set(-ERANGE, 0, seqno, 0, 0, "@%" PRIu64 " is gone: from @%" PRIu64 " to @%" PRIu64 " only bookmarks are kept", seqno, from, until);
}

int vs_point_gone(const vs_segment *g, uint64_t seqno) {
    return gone(seqno, g->first_seqno, g->last_seqno);
}

int vs_point_check(const vs_directory *d, uint64_t index, uint64_t seqno) {
    vs_segment *g = vs_directory_at(d, index);
    uint64_t ignored;
    if (!vs_directory_is_whole(d, index, seqno)) return gone(seqno, 1, d->until_seqno - 1);
    if (!g->generation) return 0;
    int r = vs_point_time(g, seqno, &ignored);
    return r < 0 ? r : r ? 0 : vs_point_gone(g, seqno);
}

/* The first one of segment `index` that is not before seqno. */
static int next_in(const vs_directory *d, uint64_t index, uint64_t seqno, uint64_t *out) {
    vs_segment *g = vs_directory_at(d, index);
    points p = {0};
    if (!g->generation) { /* all of them, or all from the next root on */
        *out = vs_directory_is_whole(d, index, seqno) || seqno > d->until_seqno ? seqno : d->until_seqno;
        return *out <= g->last_seqno;
    }
    int r = points_load(g, &p);
    for (uint64_t i = r == 0 ? count_le(&p, 0, seqno - 1) : 0; r == 0 && i < p.count; i++) {
        *out = point_get(&p, i).seqno;
        r = vs_directory_is_whole(d, index, *out);
    }
    return r;
}

int vs_point_next(const vs_directory *d, uint64_t seqno, uint64_t *out) {
    int r = 0;
    for (uint64_t index = vs_directory_find(d, seqno); r == 0 && index < d->count; index++) {
        const vs_segment *g = vs_directory_at(d, index);
        r = next_in(d, index, seqno > g->first_seqno ? seqno : g->first_seqno, out);
    }
    return r;
}
