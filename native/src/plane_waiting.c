/* plane_waiting.c: what pyfuse3 was asked and has not answered yet.
 *
 * Kept for two reasons: some replies are not passed on as they come (INIT, and GETATTR that stands for LSEEK), and when pyfuse3's
 * end closes, the processes that wait for it must get an error and not hang.
 *
 * A hash table with linear probing, at most half full. Entries behind a freed slot are moved up, so there are no
 * tombstones and a search ends at the first free slot.
 */
#include "plane_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { SLOTS_FIRST = 256 };

int vs_plane_waiting_init(vs_plane_waiting *w) {
    *w = (vs_plane_waiting){.slots_count = SLOTS_FIRST};
    w->slots = calloc(SLOTS_FIRST, sizeof *w->slots);
    if (!w->slots) return -ENOMEM;
    int code = -pthread_mutex_init(&w->mu, NULL);
    if (code < 0) free(w->slots);
    return code;
}

void vs_plane_waiting_end(vs_plane_waiting *w) {
    free(w->slots);
    pthread_mutex_destroy(&w->mu);
}

/* Where unique would lie in a table without collisions. The kernel counts unique up by two, so the multiplier spreads them. */
static uint64_t home(uint64_t unique, uint64_t slots_count) {
    return (unique * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (slots_count - 1);
}

/* The slot of unique, or the free one where it belongs. */
static uint64_t probe(const vs_plane_asked *slots, uint64_t slots_count, uint64_t unique) {
    uint64_t i = home(unique, slots_count);
    while (slots[i].unique && slots[i].unique != unique) i = (i + 1) & (slots_count - 1);
    return i;
}

static int grow(vs_plane_waiting *w) {
    uint64_t count = 2 * w->slots_count;
    vs_plane_asked *slots = calloc(count, sizeof *slots);
    if (!slots) return -ENOMEM;
    for (uint64_t i = 0; i < w->slots_count; i++)
        if (w->slots[i].unique) slots[probe(slots, count, w->slots[i].unique)] = w->slots[i];
    free(w->slots);
    w->slots = slots;
    w->slots_count = count;
    return 0;
}

int vs_plane_waiting_add(vs_plane_waiting *w, const vs_plane_asked *asked) {
    pthread_mutex_lock(&w->mu);
    int code = w->closed ? -ENOTCONN : 2 * (w->used + 1) > w->slots_count ? grow(w) : 0;
    if (code == 0) {
        w->slots[probe(w->slots, w->slots_count, asked->unique)] = *asked;
        w->used++;
    }
    pthread_mutex_unlock(&w->mu);
    return code;
}

/* Free slot i and close the gap: an entry further on moves into it unless its home lies behind the gap. */
static void free_slot(vs_plane_waiting *w, uint64_t i) {
    uint64_t mask = w->slots_count - 1;
    for (uint64_t k = (i + 1) & mask; w->slots[k].unique; k = (k + 1) & mask) {
        uint64_t from_home = (k - home(w->slots[k].unique, w->slots_count)) & mask;
        if (from_home < ((k - i) & mask)) continue;
        w->slots[i] = w->slots[k];
        i = k;
    }
    w->slots[i].unique = 0;
    w->used--;
}

int vs_plane_waiting_take(vs_plane_waiting *w, uint64_t unique, vs_plane_asked *out) {
    pthread_mutex_lock(&w->mu);
    uint64_t i = probe(w->slots, w->slots_count, unique);
    int found = !w->closed && w->slots[i].unique != 0;
    if (found) {
        *out = w->slots[i];
        free_slot(w, i);
    }
    pthread_mutex_unlock(&w->mu);
    return found;
}

void vs_plane_waiting_close(vs_plane_waiting *w) {
    pthread_mutex_lock(&w->mu);
    w->closed = 1;
    pthread_mutex_unlock(&w->mu);
}

const vs_plane_asked *vs_plane_waiting_next(const vs_plane_waiting *w, uint64_t *cursor) {
    while (*cursor < w->slots_count) {
        const vs_plane_asked *asked = &w->slots[(*cursor)++];
        if (asked->unique) return asked;
    }
    return NULL;
}
