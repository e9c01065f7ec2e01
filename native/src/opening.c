/* opening.c: see opening.h.
 *
 * Opening reads one block of each sealed segment (its trailer) and the whole of an unsealed last one. The trailers form a chain: each
 * names the digest of the segment before it, so a missing, swapped, stale or foreign segment is noticed here. A compacted segment goes on with the
 * chain as it was first written.
 *
 * While a reader looks, its owner may compact, and delete files that were listed. Then the reader lists them again.
 */
#include "opening.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "found.h"
#include "superseded.h"

enum { DAMAGE_RETRIES = 3, LIST_RETRIES = 32 };

/* What is made, and of what. */
typedef struct loading {
    vs_journal *j;
    vs_directory *known; /* segments to be taken over */
    vs_directory *made;
    const vs_segment *known_active;
    int again; /* a file that is gone now is no damage yet */
} loading;

int vs_chain_check(vs_segment *before, const vs_segment *g) {
    if (!before && (g->ordinal != 0 || g->first_seqno != 1))
        return vs_fault_set(-EUCLEAN, 0, 1, g->first_seqno, 0, "the journal's first segment is missing: the oldest one is %s", g->name);
    if (!before) return 0;
    if (g->ordinal != before->ordinal + before->ordinals || g->first_seqno != before->last_seqno + 1)
        return vs_fault_set(-EUCLEAN, 0, before->last_seqno + 1, g->first_seqno, 0,
                            "a segment is missing between %s (ends with %" PRIu64 ") and %s", before->name, before->last_seqno, g->name);
    if (before->chain_lost) memcpy(before->chain_digest, g->prev_digest, sizeof before->chain_digest);
    before->chain_lost = 0;
    if (memcmp(g->prev_digest, before->chain_digest, 32) != 0)
        return vs_fault_set(-EUCLEAN, 0, g->first_seqno, g->first_seqno, 0, "%s does not follow %s: one of them was replaced", g->name,
                            before->name);
    return 0;
}

void vs_segment_index_adopt(vs_segment *g) {
    g->last_seqno = g->index->last_seqno;
    g->last_time_ns = g->index->last_time_ns;
    g->data_end = g->index->end_bytes;
    g->applied_seqno = g->index->applied_seqno;
    g->floor_seqno = g->index->floor_seqno;
}

int vs_segment_index_begin(vs_segment *g, const vs_segment *before) {
    g->index = malloc(sizeof *g->index);
    if (!g->index) return -ENOMEM;
    vs_index_init(g->index, g->first_seqno, g->time_before_ns);
    g->index->applied_seqno = before ? before->applied_seqno : 0;
    g->index->floor_seqno = before ? before->floor_seqno : 0;
    return 0;
}

/* ---- the unsealed segment ---- */

static int tail_report(vs_segment *g, const vs_index *x, uint64_t later) {
    return vs_fault_set(-EUCLEAN, 0, x->last_seqno + 1, g->first_seqno, x->end_bytes,
                        "%s: the batch at %" PRIu64 " is damaged, and valid records follow it at %" PRIu64 "; nothing was cut", g->name,
                        x->end_bytes, later);
}

/* Read the batches of an unsealed segment. A reader may look while its owner appends: what seems damaged is looked at again. */
static int unsealed_read(vs_journal *j, vs_segment *g, vs_digest *digest, int *tail) {
    for (int attempt = 0;; attempt++) {
        vs_scan scan = {.limit_bytes = g->file_bytes, .check_payload = 1, .digest = digest};
        uint64_t later = 0;
        int r = vs_scan_batches(g, g->index, &scan);
        if (r < 0) return r;
        *tail = vs_tail_judge(g, g->index, g->file_bytes, &later);
        if (*tail != VS_TAIL_DAMAGED) return *tail < 0 ? *tail : 0;
        if (j->options.owner || attempt == DAMAGE_RETRIES) return tail_report(g, g->index, later);
    }
}

int vs_journal_end_check(const vs_journal *j, uint64_t last_seqno) {
    if (!j->options.owner || j->options.known_seqno <= last_seqno) return 0;
    return vs_fault_set(-ENODATA, 0, last_seqno, 0, 0, "the journal ends with @%" PRIu64 ", but records up to @%" PRIu64 " were in it", last_seqno,
                        j->options.known_seqno);
}

/* Owner: the last segment, unsealed, becomes the active one; what a crash left behind its end is cut. */
static int active_recover(vs_journal *j, vs_segment *g, int tail) {
    int file = j->store->open(j->store, g->name, VS_OPEN_WRITE);
    if (file < 0) return file;
    int r = 0;
    if (g->file_bytes > g->index->end_bytes) {
        /* What a killed process was writing is in kept memory whole: its torn piece is nothing to keep. */
        int keep = tail == VS_TAIL_TORN && !atomic_load(&j->kept.batches->used);
        r = vs_tail_cut(g, g->index, file, g->file_bytes, keep);
        if (keep) j->torn_bytes = g->file_bytes - g->index->end_bytes;
    } else {
        r = j->store->sync(j->store, file); /* what was read may not have been on the medium yet */
    }
    if (r == 0) r = j->store->sync_dir(j->store, "journal"); /* nor its name: whoever gave it may have died, or failed, right after */
    if (r < 0) {
        j->store->close(j->store, file);
        return r;
    }
    j->active_file = file;
    return 0;
}

/* Owner: after a sync that failed, or with nobody there to say that none did, the page cache is no evidence of what is on the medium. */
static int medium_ask(vs_journal *j, vs_segment *g) {
    const vs_kept_batches *kept = j->kept.batches;
    if (atomic_load(&kept->used) && !atomic_load(&kept->failed)) return 0;
    int file = j->store->open(j->store, g->name, VS_OPEN_WRITE);
    if (file < 0) return file;
    int r = j->store->sync(j->store, file);
    if (r == 0) r = j->store->forget(j->store, file);
    j->store->close(j->store, file);
    return r;
}

static int active_load(vs_journal *j, vs_segment *g) {
    int tail = VS_TAIL_CLEAN;
    int r = j->options.owner ? medium_ask(j, g) : 0;
    vs_digest_free(j->digest);
    j->digest = NULL;
    if (r == 0) r = vs_segment_digest_begin(g, &j->digest);
    if (r == 0) r = unsealed_read(j, g, j->digest, &tail);
    if (r < 0) return r;
    vs_segment_index_adopt(g);
    j->active = g;
    j->unsure_bytes = g->file_bytes;
    r = vs_journal_end_check(j, g->last_seqno);
    return r == 0 && j->options.owner ? active_recover(j, g, tail) : r;
}

/* Its trailer is damaged, its batches are not. The chain's digest of a compacted one was in the trailer alone. */
static int trailerless_load(vs_journal *j, vs_segment *g) {
    int tail = VS_TAIL_CLEAN;
    vs_digest *digest = NULL;
    int r = vs_segment_digest_begin(g, &digest);
    if (r == 0) r = unsealed_read(j, g, digest, &tail);
    if (r == 0) r = vs_digest_peek(digest, g->digest);
    vs_digest_free(digest);
    if (r < 0) return r;
    vs_segment_index_adopt(g);
    memcpy(g->chain_digest, g->digest, sizeof g->chain_digest);
    g->chain_lost = g->generation != 0;
    return 0;
}

static int unsealed_load(vs_journal *j, vs_segment *g, const vs_segment *before, int is_last) {
    int r = vs_segment_load_header(g, j->options.uuid);
    if (r == 0) r = vs_segment_index_begin(g, before);
    if (r < 0) return r;
    return is_last ? active_load(j, g) : trailerless_load(j, g);
}

/* ---- a journal of which only a part is sound ---- */

/* Events, and the state of volumes behind a segment, are what all later ones stand on. Both may be lost with batches and footer. */
static int foundation_check(const vs_directory *d) {
    vs_segment *g = vs_directory_last(d);
    const uint8_t *events;
    uint64_t length;
    vs_states states = {0};
    int r = vs_segment_events(g, &events, &length);
    if (r == 0 && !(g->sealed && vs_segment_section(g, VS_SECTION_VOLUMES, &length))) r = vs_journal_states(d, d->count - 1, UINT64_MAX, &states);
    vs_states_clear(&states);
    return r;
}

/* Is this damage that leaves what stands before it as it is? Then note it, and load no more. */
static int part_ends(vs_journal *j, uint64_t first_seqno, int status) {
    if (!j->options.sound_part || (status != -EUCLEAN && status != -EBADMSG && status != -EXDEV && status != -EIO && status != -ENOENT)) return 0;
    vs_fault_last(&j->broken);
    if (j->broken.code != status) {
        vs_fault_set(status, 0, 0, first_seqno, 0, "journal/%020" PRIu64 ".seg cannot be read: %s", first_seqno, strerror(-status));
        vs_fault_last(&j->broken);
    }
    return 1;
}

/* Of a segment that could not be loaded whole: its batches up to the damage, as far as they follow what was loaded, are the last segment of what can be
 * read. */
static void part_load(loading *l, vs_segment *before, vs_segment *g) {
    if (g->generation || !g->index || g->index->last_seqno < g->first_seqno || vs_chain_check(before, g) < 0) return;
    vs_segment_index_adopt(g);
    if (vs_directory_add(l->made, vs_segment_ref(g)) == 0) l->j->active = g;
}

int vs_journal_drop_unreadable(vs_journal *j, int status) {
    const vs_segment *last = vs_directory_last(j->directory);
    if (j->directory->count == 1 || !part_ends(j, last->first_seqno, status)) return 0;
    if (j->known_seqno < last->last_seqno) j->known_seqno = last->last_seqno;
    if (j->active == last) j->active = NULL;
    vs_segment_unref(vs_directory_drop_last(j->directory));
    vs_states_clear(&j->head);
    return 1;
}

/* ---- all of it ---- */

/* A segment of the directory that is known; NULL: it has none of that name. */
static vs_segment *known_find(const loading *l, uint64_t first_seqno, uint64_t generation) {
    uint64_t low = 0, high = l->known->count;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        if (vs_directory_at(l->known, mid)->first_seqno < first_seqno) low = mid + 1;
        else high = mid;
    }
    vs_segment *g = low < l->known->count ? vs_directory_at(l->known, low) : NULL;
    return g && g->first_seqno == first_seqno && g->generation == generation ? g : NULL;
}

/* vs_found_load. */
static int compacted_load(void *arg, uint64_t first_seqno, uint64_t generation, vs_segment **out) {
    const loading *l = arg;
    vs_segment *g = known_find(l, first_seqno, generation);
    if (g) {
        *out = vs_segment_ref(g);
        return 0;
    }
    int r = vs_segment_new(&l->j->files, first_seqno, generation, &g);
    if (r < 0) return r;
    r = vs_segment_load_trailer(g, l->j->options.uuid);
    if (r == 0) r = unsealed_load(l->j, g, NULL, 0);
    if (r >= 0) *out = g;
    else vs_segment_unref(g);
    return r < 0 ? r : 0;
}

/* A plain segment that is known, as it is now. *out NULL: it is to be loaded. */
static int known_load(loading *l, uint64_t first_seqno, int is_last, vs_segment **out) {
    vs_segment *g = known_find(l, first_seqno, 0);
    *out = NULL;
    if (!g) return 0;
    if (g == l->known_active && is_last) l->j->active = g;
    int r = g->sealed || g != l->known_active || is_last ? 1 : vs_segment_load_trailer(g, l->j->options.uuid);
    if (r <= 0) return r;
    if (g->sealed && g->pins == 0) {
        vs_index_free(g->index);
        g->index = NULL;
    }
    *out = vs_segment_ref(g);
    return 0;
}

static int plain_load(loading *l, uint64_t first_seqno, int is_last, vs_segment **out) {
    vs_journal *j = l->j;
    vs_segment *before = l->made->count ? vs_directory_last(l->made) : NULL;
    int r = known_load(l, first_seqno, is_last, out);
    if (r < 0 || *out) return r;
    r = vs_segment_new(&j->files, first_seqno, 0, out);
    if (r == 0) r = vs_segment_load_trailer(*out, j->options.uuid);
    if (r == 0) r = unsealed_load(j, *out, before, is_last);
    return r < 0 ? r : 0;
}

/* The next segment; 1: damage ends what can be read with it. */
static int segment_load(loading *l, const vs_found_file *file, int is_last) {
    vs_journal *j = l->j;
    vs_segment *before = l->made->count ? vs_directory_last(l->made) : NULL, *g = NULL;
    int r = 0;
    if (file->segment) g = vs_segment_ref(file->segment);
    else r = plain_load(l, file->first_seqno, is_last, &g);
    if (r == 0) r = vs_chain_check(before, g);
    if (r == 0 && before && g->generation && !g->sealed && g->floor_seqno < before->floor_seqno) g->floor_seqno = before->floor_seqno; /* the trailer had it */
    if (r == 0 && (r = vs_directory_add(l->made, vs_segment_ref(g))) == 0 && j->options.sound_part && (r = foundation_check(l->made)) < 0)
        vs_segment_unref(vs_directory_drop_last(l->made));
    if (r < 0) {
        if (g && j->active == g) j->active = NULL;
        if (!(r == -ENOENT && l->again) && part_ends(j, file->first_seqno, r)) {
            if (g) part_load(l, before, g);
            if (l->made->count) r = 1;
        }
    }
    vs_segment_unref(g);
    return r;
}

/* A compacted file that cannot be brought in ends what can be read, as any other does. */
static int found_judge(loading *l, vs_found *f) {
    int r = vs_found_judge(f, compacted_load, l);
    while (r < 0 && f->failed_seqno && !(r == -ENOENT && l->again) && part_ends(l->j, f->failed_seqno, r)) {
        vs_found_cut(f, f->failed_seqno);
        f->failed_seqno = 0;
        if (f->count == 0) break;
        r = vs_found_judge(f, compacted_load, l);
    }
    return r;
}

static int segments_load(loading *l, const vs_found *f) {
    size_t last = 0;
    int r = 0;
    for (size_t i = 0; i < f->count; i++)
        if (!f->files[i].superseded_by) last = i;
    for (size_t i = 0; r == 0 && i < f->count; i++)
        if (!f->files[i].superseded_by) r = segment_load(l, &f->files[i], i == last);
    return r < 0 ? r : 0;
}

static int load_once(loading *l) {
    vs_found f;
    int r = vs_found_list(l->j->store, &f);
    if (r == 0 && f.count == 0) r = vs_fault_set(-EUCLEAN, 0, 0, 0, 0, "journal: there is no segment");
    if (r == 0) l->j->known_seqno = f.files[f.count - 1].first_seqno - 1;
    if (r == 0) r = found_judge(l, &f);
    if (r == 0) r = segments_load(l, &f);
    if (r == 0 && l->j->options.owner) r = vs_superseded_note(l->j, &f);
    vs_found_end(&f);
    return r;
}

int vs_journal_load(vs_journal *j) {
    loading l = {.j = j, .known = j->directory, .known_active = j->active, .again = !j->options.owner};
    vs_segment *active = j->active;
    int r = -ENOENT;
    for (int attempt = 1; r == -ENOENT && (attempt == 1 || l.again); attempt++) {
        if (attempt == LIST_RETRIES) l.again = 0;
        vs_directory_unref(l.made);
        l.made = NULL;
        j->active = NULL;
        r = vs_directory_new(&l.made);
        if (r == 0) r = load_once(&l);
    }
    if (r < 0) {
        vs_directory_unref(l.made);
        j->active = active && !active->sealed ? active : NULL;
        return r;
    }
    j->directory = l.made;
    vs_directory_unref(l.known);
    return 0;
}
