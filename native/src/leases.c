/* leases.c: see leases.h. */
#include "leases.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

static const char name[] = "leases";

static void file_lock(const vs_leases *l, uint64_t byte) {
    if (l->file >= 0 && l->store->lock) l->store->lock(l->store, l->file, byte);
}

/* mu held. A reader may have come before the first owner that makes the file. */
static void file_open(vs_leases *l) {
    vs_store *s = l->store;
    if (l->file >= 0 || !s->lock) return;
    l->file = s->open(s, name, l->owner ? VS_OPEN_WRITE | VS_OPEN_CREATE : VS_OPEN_READ);
    if (l->file == -EEXIST) l->file = s->open(s, name, VS_OPEN_READ);
    for (size_t i = 0; i < l->count; i++) file_lock(l, l->held[i].byte);
}

void vs_leases_open(vs_leases *l, vs_store *s, int owner) {
    *l = (vs_leases){.store = s, .owner = owner, .file = -1};
    pthread_mutex_init(&l->mu, NULL);
    file_open(l);
}

void vs_leases_close(vs_leases *l) {
    if (l->file >= 0) l->store->close(l->store, l->file);
    free(l->held);
    pthread_mutex_destroy(&l->mu);
}

/* mu held. Where the lease on a byte is, or would be. */
static size_t place_of(const vs_leases *l, uint64_t byte) {
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (l->held[mid].byte < byte) low = mid + 1;
        else high = mid;
    }
    return low;
}

static int held_add(vs_leases *l, size_t at, uint64_t byte) {
    if (vs_room(&l->held, &l->room, l->count, 1, sizeof *l->held) < 0) return -ENOMEM;
    memmove(l->held + at + 1, l->held + at, (l->count - at) * sizeof *l->held);
    l->held[at] = (vs_lease){byte, 1};
    l->count++;
    file_lock(l, byte);
    return 0;
}

int vs_lease_take(vs_leases *l, uint64_t byte) {
    int r = 0;
    pthread_mutex_lock(&l->mu);
    file_open(l);
    size_t at = place_of(l, byte);
    if (at < l->count && l->held[at].byte == byte) l->held[at].users++;
    else r = held_add(l, at, byte);
    pthread_mutex_unlock(&l->mu);
    return r;
}

void vs_lease_give(vs_leases *l, uint64_t byte) {
    pthread_mutex_lock(&l->mu);
    size_t at = place_of(l, byte);
    if (--l->held[at].users == 0) {
        l->count--;
        memmove(l->held + at, l->held + at + 1, (l->count - at) * sizeof *l->held);
        if (l->file >= 0 && l->store->unlock) l->store->unlock(l->store, l->file, byte);
    }
    pthread_mutex_unlock(&l->mu);
}

/* mu held. Where there is no descriptor to ask with, somebody may have. */
static int any_elsewhere(vs_leases *l, uint64_t from, uint64_t end) {
    if (!l->store->locked) return 0;
    file_open(l);
    if (l->file < 0) return l->file == -EMFILE || l->file == -ENFILE || l->file == -ENOMEM;
    return l->store->locked(l->store, l->file, from, end) > 0;
}

int vs_leases_any(vs_leases *l, uint64_t from, uint64_t end) {
    pthread_mutex_lock(&l->mu);
    size_t at = place_of(l, from);
    int any = (at < l->count && l->held[at].byte < end) || any_elsewhere(l, from, end);
    pthread_mutex_unlock(&l->mu);
    return any;
}
