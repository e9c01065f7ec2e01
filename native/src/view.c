/* view.c: a volume at a point: which maps, which files, which checksums.
 *
 * Layers, newest first: the rows of the segment that holds the point, up to it; whole segments before it, merged where a merged map is
 * there; for a view of changes, the rows of the segment that holds its beginning; the base. Only the first and the last are made
 * in memory, from at most one segment's rows each. Everything else is mapped. Reading their bytes: view_read.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "points.h"
#include "view_internal.h"

/* mu held. Push the rows of segment `index` with since < seqno <= until as a layer. *made: the map, owned by v->memory. */
static int push_rows(vs_view *v, uint64_t index, vs_extent_map **made) {
    vs_segment *g = vs_directory_at(v->directory, index);
    const vs_row *rows;
    vs_row *owned;
    size_t count;
    vs_extent_map *m = NULL;
    int r = vs_segment_rows_array(g, v->until, &rows, &count, &owned);
    if (r == 0) r = vs_rows_map(rows, count, v->volume, v->since, v->until, &m);
    free(owned);
    if (r == 0 && (r = vs_map_list_add(&v->memory, m)) < 0) vs_extent_map_free(m);
    if (r < 0) return r;
    if (made) *made = m;
    if (vs_extent_map_count(m) == 0) return 0;
    return vs_stack_push(&v->stack, &(vs_layer){.memory = m, .first_ordinal = g->ordinal});
}

/* mu held. */
static int layers_build(vs_view *v) {
    vs_journal *j = v->journal;
    vs_directory *d = v->directory;
    uint64_t first = v->since ? vs_directory_find(d, v->since + 1) : 0;
    int first_whole = vs_directory_at(d, first)->first_seqno == v->since + 1 || v->since == 0;
    int r = push_rows(v, v->index, &v->partial); /* also when the point is the segment's end: accounting wants it apart */
    uint64_t from = first_whole ? first : first + 1;
    if (r == 0 && v->index > 0 && from <= v->index - 1) r = vs_journal_push_layers(j, d, &v->stack, v->volume, from, v->index - 1, &v->memory);
    if (r == 0 && !first_whole && first < v->index) r = push_rows(v, first, NULL);
    if (r == 0 && !v->changes) r = vs_journal_base(j, v->volume, vs_directory_base_needed(d, &v->state), &v->base);
    if (r == 0 && v->base && vs_base_seqno(v->base) > v->until) return -ERANGE; /* the floor is above too, or the journal has lost it */
    if (r == 0 && v->base) r = vs_stack_push(&v->stack, &(vs_layer){.packed = *vs_base_map(v->base), .base = 1});
    return r;
}

/* mu held. The volume's state at the point, data_bytes as it was before the point's segment. */
static int state_load(vs_view *v) {
    vs_states states = {0};
    int r = vs_journal_states(v->directory, v->index, v->until, &states);
    const vs_volume_state *found = vs_states_find(&states, v->volume);
    if (r == 0 && (!found || found->removed || found->added_seqno > v->until))
        r = vs_fault_set(-ENOENT, v->volume, v->until, 0, 0, "volume %u is not there at @%" PRIu64, v->volume, v->until);
    if (r == 0) v->state = *found;
    if (r == 0) r = vs_journal_state_of_base(v->journal, v->directory, v->until, &v->state);
    vs_states_clear(&states);
    return r;
}

static int view_fill(vs_view *v) {
    vs_journal *j = v->journal;
    if (v->until > j->committed_seqno || v->since > v->until || (v->changes && v->since == v->until)) return -ERANGE;
    if (!v->changes && v->until < j->floor_seqno) return -ERANGE;
    v->directory = vs_directory_ref(j->directory);
    v->index = vs_directory_find(v->directory, v->until);
    if (v->index == UINT64_MAX || (v->since && vs_directory_find(v->directory, v->since) == UINT64_MAX)) return -ERANGE;
    vs_segment *top = vs_directory_at(v->directory, v->index);
    v->ordinals = top->ordinal + top->ordinals;
    int r = vs_point_check(v->directory, v->index, v->until);
    if (r == 0) r = state_load(v);
    if (r == 0) r = layers_build(v);
    if (r == 0 && top->index) {
        v->pinned = top;
        top->pins++;
    }
    return r;
}

static int lease_take(vs_view *v, int which, uint64_t byte) {
    int r = byte ? vs_lease_take(&v->journal->leases, byte) : 0;
    if (r == 0) v->leases[which] = byte;
    return r;
}

/* Points first, then a look at what has become of them: whoever takes them away sees our lease, or we what he has done. A reader that cannot follow
 * goes on with what it has, which is leased. */
static int view_begin(vs_view *v) {
    vs_journal *j = v->journal;
    int r = lease_take(v, 0, v->until);
    if (r == 0) r = lease_take(v, 1, v->changes ? v->since : 0); /* over a base, it is only where that ends */
    if (r < 0) return r;
    pthread_mutex_lock(&j->mu);
    if (!j->options.owner) vs_journal_follow(j);
    r = lease_take(v, 2, VS_LEASE_DIRECTORY + j->directory->generation);
    if (r == 0) r = view_fill(v);
    pthread_mutex_unlock(&j->mu);
    return r;
}

/* Whoever found out more has said it. */
static int out_of_window(vs_journal *j, uint32_t volume, uint64_t seqno) {
    vs_fault fault;
    vs_fault_last(&fault);
    if (fault.code == -ERANGE) return -ERANGE;
    pthread_mutex_lock(&j->mu);
    uint64_t floor_seqno = j->floor_seqno;
    pthread_mutex_unlock(&j->mu);
    if (seqno >= floor_seqno) return vs_fault_set(-ERANGE, volume, seqno, 0, 0, "@%" PRIu64 " is not in the window", seqno);
    return vs_fault_set(-ERANGE, volume, seqno, 0, 0, "@%" PRIu64 " is gone: the oldest point is @%" PRIu64, seqno, floor_seqno);
}

static int view_open(vs_journal *j, uint32_t volume, uint64_t since, uint64_t until, int changes, vs_view **out) {
    vs_view *v = calloc(1, sizeof *v);
    if (!v) return -ENOMEM;
    *v = (vs_view){.journal = j, .volume = volume, .since = since, .until = until, .changes = changes};
    pthread_mutex_init(&v->stat_mu, NULL);
    vs_fault_clear();
    int r = view_begin(v);
    if (r < 0) {
        vs_view_close(v);
        return r == -ERANGE ? out_of_window(j, volume, until) : r;
    }
    *out = v;
    return 0;
}

int vs_view_open(vs_journal *j, uint32_t volume, uint64_t seqno, vs_view **out) {
    return view_open(j, volume, 0, seqno, 0, out);
}

int vs_view_open_over_base(vs_journal *j, uint32_t volume, uint64_t since, uint64_t seqno, vs_view **out) {
    return view_open(j, volume, since, seqno, 0, out);
}

int vs_view_open_base(vs_journal *j, uint32_t volume, vs_view **out) {
    vs_view *v = calloc(1, sizeof *v);
    if (!v) return -ENOMEM;
    *v = (vs_view){.journal = j, .volume = volume};
    pthread_mutex_init(&v->stat_mu, NULL);
    pthread_mutex_lock(&j->mu);
    int r = vs_journal_base(j, volume, 0, &v->base);
    pthread_mutex_unlock(&j->mu);
    if (r == 0 && !v->base) r = -ENOENT;
    if (r == 0) r = vs_stack_push(&v->stack, &(vs_layer){.packed = *vs_base_map(v->base), .base = 1});
    if (r < 0) {
        vs_view_close(v);
        return r;
    }
    v->state = (vs_volume_state){.id = volume, .size_bytes = vs_base_size_bytes(v->base), .data_bytes = vs_base_data_bytes(v->base)};
    vs_base_last_write(v->base, &v->state.last_write_seqno, &v->state.last_write_ns);
    *out = v;
    return 0;
}

int vs_view_open_changes(vs_journal *j, uint32_t volume, uint64_t since, uint64_t seqno, vs_view **out) {
    return view_open(j, volume, since, seqno, 1, out);
}

void vs_view_close(vs_view *v) {
    if (v->pinned) {
        vs_segment *g = v->pinned;
        pthread_mutex_lock(&v->journal->mu);
        if (--g->pins == 0 && g->sealed && g->index) {
            vs_index_free(g->index);
            g->index = NULL;
        }
        pthread_mutex_unlock(&v->journal->mu);
    }
    vs_stack_clear(&v->stack);
    vs_map_list_clear(&v->memory);
    vs_base_unref(v->base);
    vs_directory_unref(v->directory);
    for (size_t i = 0; i < sizeof v->leases / sizeof v->leases[0]; i++)
        if (v->leases[i]) vs_lease_give(&v->journal->leases, v->leases[i]);
    pthread_mutex_destroy(&v->stat_mu);
    free(v);
}

uint64_t vs_view_size(const vs_view *v) {
    return v->state.size_bytes;
}

int vs_view_layers(const vs_view *v) {
    return (int)v->stack.count;
}

/* Is b the continuation of a in the volume, and of one kind? */
static int joins(const vs_run *a, const vs_stack_run *b, int kind) {
    return a->kind == kind && a->offset_bytes + a->length_bytes == b->offset_bytes;
}

static void run_fill(const vs_view *v, const vs_stack_run *from, int kind, vs_run *out) {
    const vs_segment *g = from->kind == VS_STACK_DATA && !from->base ? vs_view_segment(v, from) : NULL;
    *out = (vs_run){.offset_bytes = from->offset_bytes, .length_bytes = from->length_bytes, .segment = g ? g->first_seqno : 0,
                    .block = from->kind == VS_STACK_DATA ? from->block : 0, .kind = kind};
}

int vs_view_run(vs_view *v, uint64_t offset_bytes, vs_run *out) {
    vs_cursor c;
    vs_stack_run run;
    if (offset_bytes >= v->state.size_bytes) return 0;
    int r = vs_cursor_init(&c, &v->stack);
    if (r < 0) return r;
    vs_stack_run_at(&c, offset_bytes, v->state.size_bytes, &run);
    vs_cursor_end(&c);
    run_fill(v, &run, run.kind, out);
    return 1;
}

int vs_view_runs(vs_view *v, uint64_t offset_bytes, int keep_zeros, vs_run *runs, int max, uint64_t *next) {
    vs_cursor c;
    vs_stack_run run;
    int n = 0, r = vs_cursor_init(&c, &v->stack);
    if (r < 0) return r;
    uint64_t at = offset_bytes;
    for (; at < v->state.size_bytes; at += run.length_bytes) {
        vs_stack_run_at(&c, at, v->state.size_bytes, &run);
        int kind = run.kind == VS_STACK_ZERO && !keep_zeros ? VS_RUN_HOLE : run.kind;
        if (n && joins(&runs[n - 1], &run, kind)) {
            runs[n - 1].length_bytes += run.length_bytes;
            continue;
        }
        if (n == max) break;
        run_fill(v, &run, kind, &runs[n++]);
    }
    *next = at;
    vs_cursor_end(&c);
    return n;
}

int vs_view_stat(vs_view *v, vs_volume_state *out) {
    int r = 0;
    pthread_mutex_lock(&v->stat_mu);
    if (v->partial && !v->changes) {
        r = vs_journal_data_bytes(v->journal, v->directory, v->index, v->partial, &v->state);
        if (r == 0) v->partial = NULL; /* counted; the map itself stays in memory as a layer */
    }
    *out = v->state;
    pthread_mutex_unlock(&v->stat_mu);
    if (v->changes && r == 0) r = vs_stack_data_bytes(&v->stack, 0, out->size_bytes, &out->data_bytes);
    return r;
}

int vs_view_apply(vs_view *v, vs_store *s, int file) {
    enum { PIECE = 1 << 20 };
    vs_cursor c;
    vs_stack_run run;
    uint8_t *piece = malloc(PIECE);
    int r = piece ? vs_cursor_init(&c, &v->stack) : -ENOMEM;
    if (r < 0) {
        free(piece);
        return r;
    }
    for (uint64_t at = 0, size = v->state.size_bytes; r == 0 && at < size; at += run.length_bytes) {
        vs_stack_run_at(&c, at, size, &run);
        if (run.kind == VS_STACK_DATA && run.length_bytes > PIECE) run.length_bytes = PIECE;
        if (run.kind == VS_STACK_ZERO) r = s->zero(s, file, at, run.length_bytes);
        if (run.kind != VS_STACK_DATA) continue;
        struct iovec part = {piece, run.length_bytes};
        int64_t n = vs_view_read(v, at, piece, run.length_bytes);
        r = n < 0 ? (int)n : s->write(s, file, at, &part, 1);
    }
    vs_cursor_end(&c);
    free(piece);
    return r == 0 ? s->sync(s, file) : r;
}

/* Maps are derived: one may say of data that it lies where no batch can be. An unsealed segment has none but our own. */
static int piece_check(const vs_view *v, const vs_view_piece *piece) {
    const vs_segment *g = piece->segment;
    if (!g || piece->pinned || !g->sealed || vs_segment_has_room_for(g, piece->block, piece->offset_bytes, piece->length_bytes)) return 0;
    return vs_fault_set(-EBADMSG, v->volume, v->until, g->first_seqno, piece->offset_bytes,
                        "%s: there is no block %" PRIu64 " of volume %" PRIu32 " at @%" PRIu64 " in it", g->name, piece->offset_bytes / VS_BLOCK_BYTES,
                        v->volume, v->until);
}

int vs_view_walk(vs_view *v, int (*each)(void *arg, const vs_view_piece *piece), void *arg) {
    vs_cursor c;
    vs_stack_run run;
    int r = vs_cursor_init(&c, &v->stack);
    for (uint64_t at = 0, size = v->state.size_bytes; r >= 0 && at < size; at += run.length_bytes) {
        vs_stack_run_at(&c, at, size, &run);
        if (run.kind != VS_STACK_DATA) continue;
        vs_view_piece piece = {.offset_bytes = at, .length_bytes = run.length_bytes, .block = run.block, .base = v->base};
        if (!run.base && !(piece.segment = vs_view_segment(v, &run))) r = -EBADMSG;
        piece.pinned = piece.segment && piece.segment == v->pinned;
        if (r >= 0) r = piece_check(v, &piece);
        if (r >= 0) r = each(arg, &piece);
    }
    vs_cursor_end(&c);
    return r < 0 ? r : 0;
}

uint32_t vs_view_volume(const vs_view *v) {
    return v->volume;
}

/* A view as an open file. */
typedef struct view_file {
    vs_volume_file ops;
    vs_view *view;
} view_file;

static vs_view *file_view(vs_volume_file *f) {
    return ((view_file *)f)->view;
}

static uint64_t view_size(vs_volume_file *f) {
    return file_view(f)->state.size_bytes;
}

static int64_t view_read(vs_volume_file *f, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    int64_t n = vs_view_read(file_view(f), offset_bytes, buf, length_bytes);
    return n == -EBADMSG ? -EIO : n;
}

static int64_t view_write(vs_volume_file *f, uint64_t offset_bytes, const void *buf, size_t length_bytes, int durable,
                          const vs_request *q) {
    (void)f, (void)offset_bytes, (void)buf, (void)length_bytes, (void)durable, (void)q;
    return -EROFS;
}

static int view_zero(vs_volume_file *f, uint64_t offset_bytes, uint64_t length_bytes, const vs_request *q) {
    (void)f, (void)offset_bytes, (void)length_bytes, (void)q;
    return -EROFS;
}

static int view_sync(vs_volume_file *f) {
    (void)f;
    return 0;
}

static int64_t view_seek(vs_volume_file *f, uint64_t offset_bytes, int whence) {
    vs_view *v = file_view(f);
    uint64_t size = v->state.size_bytes;
    vs_cursor c;
    vs_stack_run run;
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return -EINVAL;
    if (offset_bytes >= size) return -ENXIO;
    int r = vs_cursor_init(&c, &v->stack);
    if (r < 0) return r;
    uint64_t at = offset_bytes;
    for (; at < size; at += run.length_bytes) {
        vs_stack_run_at(&c, at, size, &run);
        if ((run.kind == VS_STACK_DATA) == (whence == SEEK_DATA)) break;
    }
    vs_cursor_end(&c);
    return at < size || whence == SEEK_HOLE ? (int64_t)at : -ENXIO;
}

static void view_release(vs_volume_file *f) {
    vs_view_close(file_view(f));
    free(f);
}

int vs_view_file(vs_view *v, vs_volume_file **out) {
    view_file *f = malloc(sizeof *f);
    if (!f) return -ENOMEM;
    *f = (view_file){.ops = {view_size, view_read, view_write, view_zero, view_sync, view_seek, view_release}, .view = v};
    *out = &f->ops;
    return 0;
}
