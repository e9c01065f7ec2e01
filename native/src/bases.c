/* bases.c: the bases that are loaded, one a volume.
 *
 * A base is replaced when it was moved: by the owner at once, by a reader when it needs the later one, or meets a block that is no longer as its
 * index says. Views keep the one they have.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base_move.h"
#include "journal_internal.h"

typedef struct vs_base_slot {
    uint32_t volume;
    vs_base *base; /* NULL: there is none */
    struct vs_base_slot *next;
} vs_base_slot;

static vs_base_slot **slot_of(vs_journal *j, uint32_t volume) {
    vs_base_slot **at = &j->bases;
    while (*at && (*at)->volume != volume) at = &(*at)->next;
    return at;
}

void vs_journal_base_forget(vs_journal *j, uint32_t volume) {
    vs_base_slot **at = slot_of(j, volume), *slot = *at;
    if (!slot) return;
    *at = slot->next;
    vs_base_unref(slot->base);
    free(slot);
}

/* Put a base in its slot; takes the reference over, also on failure. */
static int slot_put(vs_journal *j, uint32_t volume, vs_base *base) {
    vs_base_slot *slot = malloc(sizeof *slot);
    if (!slot) {
        vs_base_unref(base);
        return -ENOMEM;
    }
    vs_journal_base_forget(j, volume);
    *slot = (vs_base_slot){volume, base, j->bases};
    j->bases = slot;
    return 0;
}

static int slot_load(vs_journal *j, uint32_t volume) {
    vs_base *base = NULL;
    int r = vs_base_open(j->store, j->options.uuid, volume, &base);
    return r < 0 && r != -ENOENT ? r : slot_put(j, volume, base);
}

static uint64_t seqno_in(const vs_base_slot *slot) {
    return slot && slot->base ? vs_base_seqno(slot->base) : 0;
}

int vs_journal_base(vs_journal *j, uint32_t volume, uint64_t needed_seqno, vs_base **out) {
    const vs_base_slot *slot = *slot_of(j, volume);
    int r = slot && seqno_in(slot) >= needed_seqno ? 0 : slot_load(j, volume);
    if (r < 0) return r;
    slot = *slot_of(j, volume);
    if (seqno_in(slot) < needed_seqno)
        return vs_fault_set(-EUCLEAN, volume, needed_seqno, 0, 0, "base/%08" PRIx32 ".idx is %s: what volume %" PRIu32 " was up to @%" PRIu64 " is nowhere else",
                            volume, slot->base ? "older than the journal needs" : "missing", volume, needed_seqno);
    *out = slot->base ? vs_base_ref(slot->base) : NULL;
    return 0;
}

int vs_journal_base_later(vs_journal *j, uint32_t volume, const vs_base *than, vs_base **out) {
    vs_base *base;
    if (vs_base_open(j->store, j->options.uuid, volume, &base) < 0) return 0;
    if (vs_base_seqno(base) <= vs_base_seqno(than)) {
        vs_base_unref(base);
        return 0;
    }
    pthread_mutex_lock(&j->mu);
    vs_base_slot *slot = *slot_of(j, volume); /* none: a move has just forgotten it, and it may have made one that is later than ours */
    if (slot && seqno_in(slot) < vs_base_seqno(base)) {
        vs_base_unref(slot->base);
        slot->base = vs_base_ref(base);
    }
    pthread_mutex_unlock(&j->mu);
    *out = base;
    return 1;
}

int vs_journal_state_of_base(vs_journal *j, const vs_directory *d, uint64_t seqno, vs_volume_state *v) {
    vs_base *base;
    uint64_t last_seqno, last_ns, needed = vs_directory_base_needed(d, v);
    if (!j->floor_seqno || v->removed) return 0;
    int r = vs_journal_base(j, v->id, needed, &base);
    if (r < 0) return needed ? r : 0; /* who reads bytes is told that it is damaged */
    if (!base) return 0;
    vs_base_last_write(base, &last_seqno, &last_ns);
    if (vs_base_seqno(base) <= seqno && last_seqno > v->last_write_seqno) {
        v->last_write_seqno = last_seqno;
        v->last_write_ns = last_ns;
    }
    vs_base_unref(base);
    return 0;
}

int vs_journal_reads_below(vs_journal *j, uint64_t seqno) {
    return vs_leases_any(&j->leases, 0, seqno);
}

void vs_journal_bases_close(vs_journal *j) {
    while (j->bases) vs_journal_base_forget(j, j->bases->volume);
}

uint64_t vs_journal_base_seqno(vs_journal *j, uint32_t volume) {
    vs_base *base = NULL;
    pthread_mutex_lock(&j->mu);
    if (vs_journal_base(j, volume, 0, &base) < 0) base = NULL;
    pthread_mutex_unlock(&j->mu);
    uint64_t seqno = base ? vs_base_seqno(base) : 0;
    vs_base_unref(base);
    return seqno;
}
