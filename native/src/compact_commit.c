/* compact_commit.c: how a compacted segment takes the place of those it stands for (compact.h).
 *
 * Order: written whole under a temporary name and synced (compact_write.c); the names of bases synced, if it needs them; renamed, its directory synced:
 * from here on it counts, after a crash too (found.h). Then another directory is made with it, which the next views are opened on; then readers in other processes are told. Owner and views
 * go on meanwhile: nothing that they use is changed. What it replaces is deleted when nobody reads it any more (superseded.h).
 *
 * A crash before the rename leaves a temporary file, which the next open removes; after it, files that are superseded and that it deletes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compact_write.h"
#include "found.h"
#include "generation.h"

/* What is not on the primaries yet is applied from the journal, record by record. */
int vs_compact_group_find(const vs_journal *j, uint64_t first, uint64_t count, uint64_t window_seqno, vs_compact_group *out) {
    const vs_directory *d = j->directory;
    uint64_t power = 1;
    while (power < count && power < VS_ORDINALS_MAX) power *= VS_MERGE_FANOUT;
    if (window_seqno > j->committed_seqno) return 0; /* after a crash the journal could end before it, and with points that cannot be opened */
    if (power != count || first % count || count > d->ordinals || first > d->ordinals - count) return 0;
    out->from = vs_directory_index_of(d, first);
    out->to = vs_directory_index_of(d, first + count - 1);
    const vs_segment *begin = vs_directory_at(d, out->from), *end = vs_directory_at(d, out->to);
    if (begin->ordinal != first || end->ordinal + end->ordinals != first + count || end->last_seqno > window_seqno || end->last_seqno > j->applied_seqno)
        return 0;
    for (uint64_t i = out->from; i <= out->to; i++)
        if (!vs_directory_at(d, i)->sealed || vs_directory_at(d, i) == j->active) return 0;
    return 1;
}

/* Is the file what it is meant to be? As the next open would load it. */
static int written_check(const vs_compact_group *c, const vs_segment *g) {
    const vs_segment *begin = vs_directory_at(c->directory, c->from), *end = vs_directory_at(c->directory, c->to);
    int same = g->ordinal == begin->ordinal && g->ordinal + g->ordinals == end->ordinal + end->ordinals && g->first_seqno == begin->first_seqno &&
               g->last_seqno == end->last_seqno && g->last_time_ns == end->last_time_ns && g->time_before_ns == begin->time_before_ns &&
               memcmp(g->prev_digest, begin->prev_digest, 32) == 0 && memcmp(g->chain_digest, end->chain_digest, 32) == 0;
    return same ? 0 : vs_fault_set(-EIO, 0, 0, g->first_seqno, 0, "%s does not read back as it was written", VS_COMPACT_TEMPORARY);
}

/* It has its temporary name still; name is what it will be called. */
static int written_load(vs_journal *j, const vs_compact_group *c, char name[VS_SEGMENT_NAME_BYTES], vs_segment **out) {
    vs_segment *g;
    int r = vs_segment_new(&j->files, vs_directory_at(c->directory, c->from)->first_seqno, c->generation, &g);
    if (r < 0) return r;
    memcpy(name, g->name, sizeof g->name);
    snprintf(g->name, sizeof g->name, "%s", VS_COMPACT_TEMPORARY);
    r = vs_segment_load_trailer(g, j->options.uuid);
    if (r == 0) r = -EIO;
    if (r == 1) r = written_check(c, g);
    if (r == 0) *out = g;
    else vs_segment_unref(g);
    return r;
}

/* mu held: the next directory. */
static int directory_swap(vs_journal *j, const vs_compact_group *c, vs_segment *g, vs_directory **before) {
    vs_directory *fresh;
    int r = vs_superseded_reserve(j, c->to - c->from + 1);
    if (r == 0) r = vs_directory_replace(j->directory, c->from, c->to, g, &fresh);
    if (r < 0) return r;
    for (uint64_t i = c->from; i <= c->to; i++) vs_superseded_add(j, vs_directory_at(j->directory, i), c->generation);
    *before = j->directory;
    j->directory = fresh;
    return 0;
}

/* Maps of groups that one segment stands for now, and of parts of them, are not used any more. */
static void maps_remove(vs_journal *j, uint64_t first, uint64_t ordinals) {
    char name[48];
    for (uint64_t count = VS_MERGE_FANOUT; count <= ordinals; count *= VS_MERGE_FANOUT)
        for (uint64_t at = first; at < first + ordinals; at += count) {
            vs_merged_map_name(at, count, name);
            j->store->remove(j->store, name);
        }
}

/* Give it its name. What it leaves out is in bases: that one was found is no proof that its name is durable, since whoever gave it may have died right after. */
static int name_give(vs_journal *j, vs_segment *g, const char name[VS_SEGMENT_NAME_BYTES]) {
    vs_store *s = j->store;
    int r = g->base_floor ? s->sync_dir(s, "base") : 0;
    if (r == 0) r = s->rename(s, VS_COMPACT_TEMPORARY, name);
    if (r == 0) memcpy(g->name, name, sizeof g->name); /* nobody else has it yet */
    return r;
}

/* It has its name, and is not used here: the next open would use it, and not show what can be opened and named here until then. */
static void name_take_back(vs_journal *j, const char *name) {
    vs_store *s = j->store;
    int r = s->rename(s, name, VS_COMPACT_TEMPORARY);
    if (r == 0) r = s->sync_dir(s, "journal");
    if (r == 0) return;
    pthread_mutex_lock(&j->mu);
    vs_journal_fail(j, r);
    pthread_mutex_unlock(&j->mu);
}

/* generations_mu held. Where the name cannot be made durable it is used all the same: a crash leaves this file or those that it stands for, which
 * stay until the name is durable (superseded.c); what can be opened from now on is in both. */
static int commit(vs_journal *j, const vs_compact_group *c) {
    vs_segment *g = NULL;
    vs_directory *before = NULL;
    char name[VS_SEGMENT_NAME_BYTES];
    int r = written_load(j, c, name, &g);
    if (r < 0) return r;
    if ((r = name_give(j, g, name)) < 0) {
        vs_segment_unref(g);
        return r;
    }
    int synced = j->store->sync_dir(j->store, "journal");
    pthread_mutex_lock(&j->mu);
    r = directory_swap(j, c, g, &before);
    pthread_mutex_unlock(&j->mu);
    if (r < 0) {
        name_take_back(j, name);
        vs_segment_unref(g);
        return r;
    }
    vs_directory_unref(before);
    vs_generation_write(j, c->generation);
    maps_remove(j, g->ordinal, g->ordinals);
    return synced < 0 ? synced : 1;
}

/* One compaction at a time. 1: c is filled, and the next is kept away until end. */
static int begin(vs_journal *j, uint64_t first, uint64_t count, uint64_t window_seqno, vs_compact_group *c) {
    pthread_mutex_lock(&j->mu);
    int r = j->compacting ? -EBUSY : j->generation >= VS_GENERATION_MAX ? -EOVERFLOW : vs_compact_group_find(j, first, count, window_seqno, c);
    if (r == 1) {
        j->compacting = 1;
        c->directory = vs_directory_ref(j->directory);
        c->generation = ++j->generation; /* also of one that fails: its name may be on the medium all the same */
    }
    pthread_mutex_unlock(&j->mu);
    return r;
}

static void end(vs_journal *j, vs_compact_group *c) {
    vs_directory_unref(c->directory);
    pthread_mutex_lock(&j->mu);
    j->compacting = 0;
    pthread_mutex_unlock(&j->mu);
}

int vs_journal_compact(vs_journal *j, uint64_t first_ordinal, uint64_t count, const uint64_t *points, uint64_t n_points, const uint64_t *dropped,
                       uint64_t n_dropped, vs_compact_facts *out) {
    vs_compact_group c = {0};
    if (!j->options.owner) return -EROFS;
    if (n_points == 0) return -EINVAL;
    vs_fault_clear();
    int r = begin(j, first_ordinal, count, points[n_points - 1], &c);
    if (r != 1) return r;
    r = vs_compact_write(j, &c, points, n_points, dropped, n_dropped, out);
    if (r == 1) {
        pthread_mutex_lock(&j->generations_mu);
        r = commit(j, &c);
        pthread_mutex_unlock(&j->generations_mu);
    }
    if (r < 0) j->store->remove(j->store, VS_COMPACT_TEMPORARY);
    end(j, &c);
    return r;
}
