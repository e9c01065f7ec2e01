/* primary.c: which volumes have their primary here, and how one comes and goes.
 *
 * A primary comes under leadership, so that no batch is applied meanwhile: first it gets what the journal has and it may not have, then
 * it is in the list. It goes when everything is committed and applied, and no read or sync uses it any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "journal_internal.h"
#include "room.h"
#include "view_internal.h"

vs_primary *vs_journal_primary(const vs_journal *j, uint32_t volume) {
    for (size_t i = 0; i < j->primary_count; i++)
        if (j->primaries[i]->volume == volume) return j->primaries[i];
    return NULL;
}

/* mu held: apply what the journal has behind since and the primary may not have. */
static int primary_replay(vs_journal *j, uint32_t volume, int file, uint64_t since) {
    vs_view *v;
    uint64_t until = j->committed_seqno;
    if (since < j->directory->base_floor) since = j->directory->base_floor; /* nothing goes into a base before it is on the primary */
    pthread_mutex_unlock(&j->mu);
    int r = since < until ? vs_view_open_changes(j, volume, since, until, &v) : -ENOENT;
    if (r == 0) {
        r = vs_view_apply(v, j->store, file);
        vs_view_close(v);
    }
    pthread_mutex_lock(&j->mu);
    return r == -ENOENT ? 0 : r;
}

/* mu held. */
static int primary_add(vs_journal *j, vs_primary *p) {
    if (vs_room(&j->primaries, &j->primary_room, j->primary_count, 1, sizeof *j->primaries) < 0) return -ENOMEM;
    j->primaries[j->primary_count++] = p;
    return 0;
}

/* leader, mu held, given up meanwhile. What the primary got in a gap is newer than what the journal has from before it. */
static int primary_bring(vs_journal *j, vs_primary *p, uint64_t size_bytes) {
    uint64_t floor_seqno;
    pthread_mutex_unlock(&j->mu);
    int r = vs_changed_begin(j, p, size_bytes, &floor_seqno);
    pthread_mutex_lock(&j->mu);
    if (floor_seqno < j->applied_seqno) floor_seqno = j->applied_seqno;
    return r == 0 && !p->error ? primary_replay(j, p->volume, p->file, floor_seqno) : r;
}

int vs_journal_attach_primary(vs_journal *j, uint32_t volume, int file) {
    if (!j->options.owner) return -EROFS;
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_begin(j);
    const vs_volume_state *v = vs_states_find(&j->head, volume);
    int r = !v || v->removed ? -ENOENT : vs_journal_primary(j, volume) ? -EEXIST : 0;
    int failed = r == 0 && vs_kept_primary_failed(&j->kept, volume); /* in a process before this one: nobody has mended it */
    vs_primary *p = r == 0 ? malloc(sizeof *p) : NULL;
    if (r == 0 && !p) r = -ENOMEM;
    if (r == 0) {
        *p = (vs_primary){.volume = volume, .file = file, .error = failed ? -EIO : 0, .changed.file = -1};
        r = primary_bring(j, p, v->size_bytes);
        if (r == 0) r = primary_add(j, p);
        if (r < 0) {
            vs_changed_end(j, p);
            free(p);
        }
    }
    if (failed) j->hold_applied = 1;
    vs_journal_lead_end(j);
    pthread_mutex_unlock(&j->mu);
    return r;
}

/* leader, mu held: out of the list, so that no new read finds it; then wait for those that have. */
static void primary_take_out(vs_journal *j, vs_primary *p) {
    size_t i = 0;
    while (j->primaries[i] != p) i++;
    j->primaries[i] = j->primaries[--j->primary_count];
    while (p->users) pthread_cond_wait(&j->changed, &j->mu);
    vs_changed_end(j, p);
    free(p);
}

int vs_journal_detach_primary(vs_journal *j, uint32_t volume) {
    int r = vs_journal_commit(j);
    pthread_mutex_lock(&j->mu);
    vs_journal_lead_begin(j);
    vs_journal_sync_primaries(j, volume, UINT64_MAX);
    vs_primary *p = vs_journal_primary(j, volume);
    if (!p) r = -ENOENT;
    else if (p->error && r == 0) r = -EIO;
    if (p) primary_take_out(j, p);
    vs_journal_lead_end(j);
    pthread_mutex_unlock(&j->mu);
    return r;
}

void vs_journal_hold_applied(vs_journal *j) {
    pthread_mutex_lock(&j->mu);
    j->hold_applied = 1;
    pthread_mutex_unlock(&j->mu);
}
