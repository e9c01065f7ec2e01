/* superseded.c: see superseded.h.
 *
 * A file goes when no directory of this process has it, and no lease is on a directory older than the generation that took its place. Leases are
 * looked for after that generation is durable and known to readers; so whoever takes one later finds the new directory.
 */
#include "superseded.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "found.h"
#include "journal_internal.h"
#include "room.h"

int vs_superseded_reserve(vs_journal *j, size_t count) {
    vs_superseded_list *l = &j->superseded;
    return vs_room(&l->files, &l->room, l->count, count, sizeof *l->files);
}

void vs_superseded_add(vs_journal *j, vs_segment *g, uint64_t by) {
    vs_superseded_list *l = &j->superseded;
    l->files[l->count++] = (vs_superseded){vs_segment_ref(g), g->first_seqno, g->generation, by};
}

int vs_superseded_note(vs_journal *j, const vs_found *f) {
    vs_superseded_list *l = &j->superseded;
    j->generation = vs_found_generation(f);
    if (f->leftover) j->store->remove(j->store, VS_COMPACT_TEMPORARY); /* if it stays, the next compaction tries once more */
    for (size_t i = 0; i < f->count; i++) {
        const vs_found_file *file = &f->files[i];
        if (!file->superseded_by) continue;
        int r = vs_superseded_reserve(j, 1);
        if (r < 0) return r;
        l->files[l->count++] = (vs_superseded){NULL, file->first_seqno, file->generation, file->superseded_by};
    }
    return 0;
}

void vs_superseded_end(vs_journal *j) {
    for (size_t i = 0; i < j->superseded.count; i++) vs_segment_unref(j->superseded.files[i].segment);
    free(j->superseded.files);
}

/* Does anybody read it? Nobody gets hold of a segment anew when no directory has it. */
static int in_use(vs_journal *j, const vs_superseded *s) {
    return (s->segment && atomic_load(&s->segment->refs) > 1) || vs_leases_any(&j->leases, VS_LEASE_DIRECTORY, VS_LEASE_DIRECTORY + s->by);
}

/* 0: it is gone. */
static int delete(vs_journal *j, const vs_superseded *s) {
    vs_segment *g = s->segment ? vs_segment_ref(s->segment) : NULL;
    int r = g ? 0 : vs_segment_new(&j->files, s->first_seqno, s->generation, &g);
    if (r == 0) r = j->store->remove(j->store, g->name);
    vs_segment_unref(g);
    return r == -ENOENT ? 0 : r;
}

/* generations_mu held: nobody else takes anything off the list, or moves it. Nothing goes before the names of what took its place are durable. */
static int delete_unused(vs_journal *j) {
    int deleted = 0, r = 0, synced = 0;
    for (size_t i = 0;;) {
        pthread_mutex_lock(&j->mu);
        vs_superseded s = i < j->superseded.count ? j->superseded.files[i] : (vs_superseded){0};
        int end = i >= j->superseded.count;
        pthread_mutex_unlock(&j->mu);
        if (end) break;
        int failed = in_use(j, &s) ? -EBUSY : 0;
        if (!failed && !synced) {
            if ((r = j->store->sync_dir(j->store, "journal")) < 0) return r;
            synced = 1;
        }
        if (!failed) failed = delete(j, &s);
        if (failed && failed != -EBUSY && r == 0) r = failed;
        if (failed) {
            i++;
            continue;
        }
        pthread_mutex_lock(&j->mu);
        j->superseded.files[i] = j->superseded.files[--j->superseded.count];
        pthread_mutex_unlock(&j->mu);
        vs_segment_unref(s.segment);
        deleted++;
    }
    if (deleted && r == 0) r = j->store->sync_dir(j->store, "journal");
    return r;
}

int vs_journal_superseded(vs_journal *j) {
    if (!j->options.owner) return -EROFS;
    pthread_mutex_lock(&j->generations_mu);
    int r = delete_unused(j);
    pthread_mutex_lock(&j->mu);
    size_t left = j->superseded.count;
    pthread_mutex_unlock(&j->mu);
    pthread_mutex_unlock(&j->generations_mu);
    return r < 0 ? vs_fault_set(r, 0, 0, 0, 0, "journal: files that were compacted cannot be deleted: %s", strerror(-r)) : (int)left;
}
