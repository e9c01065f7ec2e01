/* plane_files.c: open files by their fh.
 *
 * An fh is a serial number and the number of a slot: found in one step, and a number that was removed never fits its slot
 * again. Serials start high enough that all numbers below 2^32 stay free for files that Python serves itself.
 *
 * A slot counts the handle and each request under way. Whoever takes the last count away releases the file, outside the lock:
 * a release may do I/O, and a removal waits for nothing.
 */
#include "plane_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { SLOT_BITS = 20, SLOTS_MAX = 1 << SLOT_BITS, SLOTS_FIRST = 64 };

#define NO_SLOT UINT32_MAX
#define SERIAL_FIRST (UINT64_C(1) << (32 - SLOT_BITS))
#define SERIAL_MAX (UINT64_C(1) << (63 - SLOT_BITS))

struct vs_plane_slot {
    uint64_t fh; /* 0: free */
    vs_volume_file *file;
    uint64_t ino;
    int32_t backing_id; /* of the kernel's file that reads go to; 0: none */
    uint32_t users;
    uint32_t free_next;
    int removed;
};

int vs_plane_files_init(vs_plane_files *t) {
    *t = (vs_plane_files){.free_first = NO_SLOT, .serial = SERIAL_FIRST};
    return -pthread_mutex_init(&t->mu, NULL);
}

static int grow(vs_plane_files *t) {
    if (t->slots_count == SLOTS_MAX) return -EMFILE;
    uint32_t count = t->slots_count ? 2 * t->slots_count : SLOTS_FIRST;
    struct vs_plane_slot *slots = realloc(t->slots, count * sizeof *slots);
    if (!slots) return -ENOMEM;
    for (uint32_t i = count; i-- > t->slots_count;) {
        slots[i] = (struct vs_plane_slot){.free_next = t->free_first};
        t->free_first = i;
    }
    t->slots = slots;
    t->slots_count = count;
    return 0;
}

static struct vs_plane_slot *find(vs_plane_files *t, uint64_t fh) {
    uint64_t slot = fh & (SLOTS_MAX - 1);
    return fh && slot < t->slots_count && t->slots[slot].fh == fh ? &t->slots[slot] : NULL;
}

/* Take one count away. Returns the file if that was the last one; the slot is free then. */
static vs_volume_file *drop(vs_plane_files *t, struct vs_plane_slot *s) {
    if (--s->users > 0) return NULL;
    vs_volume_file *f = s->file;
    *s = (struct vs_plane_slot){.free_next = t->free_first};
    t->free_first = (uint32_t)(s - t->slots);
    return f;
}

int vs_plane_files_add(vs_plane_files *t, vs_volume_file *f, uint64_t ino, int32_t backing_id, uint64_t *fh) {
    pthread_mutex_lock(&t->mu);
    int code = 0;
    if (t->closed) code = -ENODEV;
    else if (t->serial >= SERIAL_MAX) code = -EMFILE;
    else if (t->free_first == NO_SLOT) code = grow(t);
    if (code == 0) {
        uint32_t slot = t->free_first;
        t->free_first = t->slots[slot].free_next;
        *fh = t->serial++ << SLOT_BITS | slot;
        t->slots[slot] = (struct vs_plane_slot){.fh = *fh, .file = f, .ino = ino, .backing_id = backing_id, .users = 1};
    }
    pthread_mutex_unlock(&t->mu);
    return code;
}

int vs_plane_files_inode(vs_plane_files *t, uint64_t fh, uint64_t *ino, int32_t *backing_id) {
    pthread_mutex_lock(&t->mu);
    const struct vs_plane_slot *s = find(t, fh);
    int code = s && !s->removed ? 0 : -EBADF;
    if (code == 0) {
        *ino = s->ino;
        *backing_id = s->backing_id;
    }
    pthread_mutex_unlock(&t->mu);
    return code;
}

int vs_plane_files_remove(vs_plane_files *t, uint64_t fh) {
    pthread_mutex_lock(&t->mu);
    struct vs_plane_slot *s = find(t, fh);
    if (!s || s->removed) {
        pthread_mutex_unlock(&t->mu);
        return -EBADF;
    }
    s->removed = 1;
    vs_volume_file *last = drop(t, s);
    pthread_mutex_unlock(&t->mu);
    if (last) last->release(last);
    return 0;
}

vs_volume_file *vs_plane_files_get(vs_plane_files *t, uint64_t fh) {
    pthread_mutex_lock(&t->mu);
    struct vs_plane_slot *s = find(t, fh);
    vs_volume_file *f = s && !s->removed ? s->file : NULL;
    if (f) s->users++;
    pthread_mutex_unlock(&t->mu);
    return f;
}

void vs_plane_files_put(vs_plane_files *t, uint64_t fh) {
    pthread_mutex_lock(&t->mu);
    vs_volume_file *last = drop(t, find(t, fh));
    pthread_mutex_unlock(&t->mu);
    if (last) last->release(last);
}

void vs_plane_files_close(vs_plane_files *t) {
    pthread_mutex_lock(&t->mu);
    uint32_t count = t->slots_count;
    t->closed = 1;
    t->slots_count = 0; /* from now on no fh is found */
    pthread_mutex_unlock(&t->mu);
    for (uint32_t i = 0; i < count; i++)
        if (t->slots[i].fh) t->slots[i].file->release(t->slots[i].file);
}

void vs_plane_files_end(vs_plane_files *t) {
    free(t->slots);
    pthread_mutex_destroy(&t->mu);
}
