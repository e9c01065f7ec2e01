/* points.c: see points.h. Section 5 of a compacted segment (native/FORMAT.md): seqno and time of each point, ascending in both. */
#include "points.h"

#include <errno.h>
#include <inttypes.h>

enum { ROW_BYTES = 16, ROWS_AT = 8 };

typedef struct points {
    const uint8_t *rows;
    uint64_t count;
} points;

static int points_load(vs_segment *g, points *out) {
    uint64_t length;
    const uint8_t *p = g->sealed ? vs_segment_section(g, VS_SECTION_POINTS, &length) : NULL;
    if (!p || length < ROWS_AT || vs_get64(p) > (length - ROWS_AT) / ROW_BYTES)
        return vs_fault_set(-EBADMSG, 0, 0, g->first_seqno, g->section[VS_SECTION_POINTS].offset_bytes, "%s: its points are damaged", g->name);
    *out = (points){p + ROWS_AT, vs_get64(p)};
    return 0;
}

/* The last point whose column (0: seqno, 1: time) is at most value; NULL: none. */
static const uint8_t *point_le(const points *p, int column, uint64_t value) {
    uint64_t low = 0, high = p->count;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        if (vs_get64(p->rows + mid * ROW_BYTES + 8 * column) <= value) low = mid + 1;
        else high = mid;
    }
    return low ? p->rows + (low - 1) * ROW_BYTES : NULL;
}

static int point_find(vs_segment *g, int column, uint64_t value, uint64_t *other) {
    points p;
    int r = points_load(g, &p);
    if (r < 0) return r;
    const uint8_t *row = point_le(&p, column, value);
    if (!row || vs_get64(row + 8 * column) != value) return 0;
    *other = vs_get64(row + 8 * !column);
    return 1;
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

int vs_point_gone(const vs_segment *g, uint64_t seqno) {
    return vs_fault_set(-ERANGE, 0, seqno, 0, 0, "@%" PRIu64 " is gone: from @%" PRIu64 " to @%" PRIu64 " only bookmarks are kept", seqno, g->first_seqno,
                        g->last_seqno);
}

int vs_point_check(vs_segment *g, uint64_t seqno) {
    uint64_t ignored;
    if (!g->generation) return 0;
    int r = vs_point_time(g, seqno, &ignored);
    return r < 0 ? r : r ? 0 : vs_point_gone(g, seqno);
}
