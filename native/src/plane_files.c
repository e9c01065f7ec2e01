/* plane_files.c: open files by their fh.
 *
 * An fh is a serial number and the number of a slot: found in one step, and a number that was removed never fits its slot
 * again. Serials start high enough that all numbers below 2^32 stay free for files that Python serves itself.
 *
 * The kernel goes on using an fh when the worker that gave it is dead. So the numbers, and what they are of, lie in the keep; the files
 * themselves are the worker's own, and opened anew by the next one. An entry of the keep is published by its fh, last in and first out.
 * An fh that the kernel was never told is no use to anybody: the next worker forgets it, and where it cannot know whether it was told,
 * when the kernel sends the OPEN again.
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
#define FH_FIRST (SERIAL_FIRST << SLOT_BITS)
#define FH_END (SERIAL_MAX << SLOT_BITS)

typedef struct kept_file {
    _Atomic uint64_t fh; /* 0: free */
    uint64_t ino;
    int32_t backing_id;        /* of the kernel's file that reads go to; 0: none */
    _Atomic uint32_t counted;  /* 1: among the opens of its inode */
    _Atomic uint64_t answered; /* the OPEN that it answers; 0: no answer yet */
} kept_file;

struct vs_plane_kept {
    _Atomic uint64_t serial;      /* the next one; 0: SERIAL_FIRST */
    _Atomic uint32_t slots_count; /* none behind this was ever used */
    uint32_t reserved;
    kept_file files[SLOTS_MAX];
};

/* Its fh is that of the keep. */
struct vs_plane_slot {
    vs_volume_file *file; /* NULL: not restored, if there is an fh */
    vs_plane_tally *tally; /* with the file; stays where it is when the slots move */
    uint32_t users;
    uint32_t free_next;
    int removed;
};

static uint64_t fh_of(const vs_plane_files *t, uint32_t slot) {
    return atomic_load_explicit(&t->kept->files[slot].fh, memory_order_acquire);
}

static int grow(vs_plane_files *t, uint32_t count) {
    if (count > SLOTS_MAX) return -EMFILE;
    struct vs_plane_slot *slots = realloc(t->slots, count * sizeof *slots);
    if (!slots) return -ENOMEM;
    for (uint32_t i = count; i-- > t->slots_count;) {
        slots[i] = (struct vs_plane_slot){.free_next = NO_SLOT};
        if (fh_of(t, i)) continue;
        slots[i].free_next = t->free_first;
        t->free_first = i;
    }
    t->slots = slots;
    t->slots_count = count;
    if (count > atomic_load(&t->kept->slots_count)) atomic_store(&t->kept->slots_count, count);
    return 0;
}

static int kept_of(vs_keep *k, struct vs_plane_kept **out) {
    void *p = NULL;
    int code = vs_keep_region(k, VS_KEEP_FILES, sizeof **out, &p);
    *out = p;
    return code;
}

int vs_plane_files_forget(vs_keep *k) {
    struct vs_plane_kept *kept;
    int code = kept_of(k, &kept);
    if (code < 0) return code;
    uint32_t count = atomic_load(&kept->slots_count);
    for (uint32_t i = 0; i < count; i++) atomic_store(&kept->files[i].fh, 0);
    atomic_store(&kept->slots_count, 0);
    return 0;
}

static void forget_unanswered(struct vs_plane_kept *kept) {
    uint32_t count = atomic_load(&kept->slots_count);
    for (uint32_t i = 0; i < count; i++)
        if (!atomic_load(&kept->files[i].answered)) atomic_store(&kept->files[i].fh, 0);
}

int vs_plane_files_init(vs_plane_files *t, vs_keep *k) {
    *t = (vs_plane_files){.free_first = NO_SLOT};
    int code = kept_of(k, &t->kept);
    if (code < 0) return code;
    forget_unanswered(t->kept);
    uint32_t count = atomic_load(&t->kept->slots_count);
    if (count) code = grow(t, count);
    if (code == 0) code = -pthread_mutex_init(&t->mu, NULL);
    if (code < 0) free(t->slots);
    return code;
}

int vs_plane_files_is_ours(uint64_t fh) {
    return fh >= FH_FIRST && fh < FH_END;
}

/* Slot of fh, NO_SLOT: there is none. */
static uint32_t find(const vs_plane_files *t, uint64_t fh) {
    uint32_t slot = fh & (SLOTS_MAX - 1);
    return fh && slot < t->slots_count && fh_of(t, slot) == fh ? slot : NO_SLOT;
}

/* Take one count away. Returns the file if that was the last one; the slot is free then. */
static vs_volume_file *drop(vs_plane_files *t, uint32_t slot) {
    struct vs_plane_slot *s = &t->slots[slot];
    if (--s->users > 0) return NULL;
    vs_volume_file *f = s->file;
    free(s->tally);
    atomic_store_explicit(&t->kept->files[slot].fh, 0, memory_order_release);
    *s = (struct vs_plane_slot){.free_next = t->free_first};
    t->free_first = slot;
    return f;
}

static uint64_t next_serial(vs_plane_files *t) {
    uint64_t serial = atomic_load(&t->kept->serial);
    if (serial < SERIAL_FIRST) serial = SERIAL_FIRST;
    atomic_store(&t->kept->serial, serial + 1); /* before it is used: it is never given again, whoever dies in between */
    return serial;
}

static int take_slot(vs_plane_files *t, uint32_t *slot) {
    if (t->closed) return -ENODEV;
    if (atomic_load(&t->kept->serial) >= SERIAL_MAX) return -EMFILE;
    int code = t->free_first == NO_SLOT ? grow(t, t->slots_count ? 2 * t->slots_count : SLOTS_FIRST) : 0;
    if (code < 0) return code;
    *slot = t->free_first;
    t->free_first = t->slots[*slot].free_next;
    return 0;
}

int vs_plane_files_add(vs_plane_files *t, vs_volume_file *f, uint64_t ino, int32_t backing_id, int counted, uint64_t *fh) {
    vs_plane_tally *tally = calloc(1, sizeof *tally);
    uint32_t slot;
    if (!tally) return -ENOMEM;
    pthread_mutex_lock(&t->mu);
    int code = take_slot(t, &slot);
    if (code == 0) {
        kept_file *kept = &t->kept->files[slot];
        *fh = next_serial(t) << SLOT_BITS | slot;
        kept->ino = ino;
        kept->backing_id = backing_id;
        atomic_store(&kept->counted, (uint32_t)counted);
        atomic_store(&kept->answered, 0);
        t->slots[slot] = (struct vs_plane_slot){.file = f, .tally = tally, .users = 1};
        atomic_store_explicit(&kept->fh, *fh, memory_order_release);
    }
    pthread_mutex_unlock(&t->mu);
    if (code < 0) free(tally);
    return code;
}

int vs_plane_files_answer(vs_plane_files *t, uint64_t fh, uint64_t unique, int32_t *backing_id) {
    pthread_mutex_lock(&t->mu);
    uint32_t slot = find(t, fh);
    if (slot != NO_SLOT) {
        atomic_store(&t->kept->files[slot].answered, unique & ~FUSE_UNIQUE_RESEND);
        *backing_id = t->kept->files[slot].backing_id;
    }
    pthread_mutex_unlock(&t->mu);
    return slot == NO_SLOT ? -EBADF : 0;
}

uint64_t vs_plane_files_answered(vs_plane_files *t, uint64_t unique) {
    uint64_t fh = 0;
    pthread_mutex_lock(&t->mu);
    for (uint32_t i = 0; !fh && i < t->slots_count; i++)
        if (atomic_load(&t->kept->files[i].answered) == (unique & ~FUSE_UNIQUE_RESEND)) fh = fh_of(t, i);
    pthread_mutex_unlock(&t->mu);
    return fh;
}

int vs_plane_files_remove(vs_plane_files *t, uint64_t fh, uint64_t *counted_ino) {
    pthread_mutex_lock(&t->mu);
    uint32_t slot = find(t, fh);
    if (slot == NO_SLOT || t->slots[slot].removed) {
        pthread_mutex_unlock(&t->mu);
        return -EBADF;
    }
    if (!t->slots[slot].file) t->slots[slot].users = 1; /* never restored */
    t->slots[slot].removed = 1;
    /* At once, though requests under way may keep the entry: its inode is left at once. */
    if (atomic_exchange(&t->kept->files[slot].counted, 0)) *counted_ino = t->kept->files[slot].ino;
    vs_volume_file *last = drop(t, slot);
    pthread_mutex_unlock(&t->mu);
    if (last) last->release(last);
    return 0;
}

vs_volume_file *vs_plane_files_get(vs_plane_files *t, uint64_t fh, vs_plane_tally **tally) {
    pthread_mutex_lock(&t->mu);
    uint32_t slot = find(t, fh);
    vs_volume_file *f = slot != NO_SLOT && !t->slots[slot].removed ? t->slots[slot].file : NULL;
    if (f) {
        t->slots[slot].users++;
        *tally = t->slots[slot].tally;
    }
    pthread_mutex_unlock(&t->mu);
    return f;
}

void vs_plane_files_put(vs_plane_files *t, uint64_t fh) {
    pthread_mutex_lock(&t->mu);
    vs_volume_file *last = drop(t, find(t, fh));
    pthread_mutex_unlock(&t->mu);
    if (last) last->release(last);
}

uint64_t vs_plane_files_list(vs_plane_files *t, vs_plane_open_file *out, uint64_t room) {
    uint64_t found = 0;
    pthread_mutex_lock(&t->mu);
    for (uint32_t i = 0; i < t->slots_count; i++) {
        const struct vs_plane_slot *s = &t->slots[i];
        if (!s->file || s->removed) continue;
        if (found < room) {
            out[found] = (vs_plane_open_file){.fh = fh_of(t, i), .ino = t->kept->files[i].ino};
            vs_plane_tally_sum(&out[found].count, s->tally);
        }
        found++;
    }
    pthread_mutex_unlock(&t->mu);
    return found;
}

/* ---- what a worker before has left open ---- */

int vs_plane_files_counted(vs_plane_files *t, uint32_t *cursor, uint64_t *ino, int32_t *backing_id) {
    int found = 0;
    pthread_mutex_lock(&t->mu);
    while (!found && *cursor < t->slots_count) {
        const kept_file *kept = &t->kept->files[(*cursor)++];
        found = atomic_load(&kept->fh) && atomic_load(&kept->counted);
        *ino = kept->ino;
        *backing_id = kept->backing_id;
    }
    pthread_mutex_unlock(&t->mu);
    return found;
}

int vs_plane_kept_file(vs_plane *p, uint32_t *cursor, uint64_t *fh, uint64_t *ino, int32_t *backing_id) {
    vs_plane_files *t = &p->files;
    int found = 0;
    pthread_mutex_lock(&t->mu);
    while (!found && *cursor < t->slots_count) {
        uint32_t slot = (*cursor)++;
        *fh = fh_of(t, slot);
        found = *fh && !t->slots[slot].file;
        *ino = t->kept->files[slot].ino;
        *backing_id = t->kept->files[slot].backing_id;
    }
    pthread_mutex_unlock(&t->mu);
    return found;
}

int vs_plane_restore_file(vs_plane *p, uint64_t fh, vs_volume_file *f) {
    vs_plane_files *t = &p->files;
    vs_plane_tally *tally = calloc(1, sizeof *tally);
    if (!tally) return -ENOMEM;
    pthread_mutex_lock(&t->mu);
    uint32_t slot = find(t, fh);
    int code = slot == NO_SLOT || t->slots[slot].file ? -EBADF : 0;
    if (code == 0) t->slots[slot] = (struct vs_plane_slot){.file = f, .tally = tally, .users = 1};
    pthread_mutex_unlock(&t->mu);
    if (code < 0) free(tally);
    return code;
}

void vs_plane_files_close(vs_plane_files *t) {
    pthread_mutex_lock(&t->mu);
    uint32_t count = t->slots_count;
    t->closed = 1;
    t->slots_count = 0; /* from now on no fh is found */
    pthread_mutex_unlock(&t->mu);
    for (uint32_t i = 0; i < count; i++) {
        if (!t->slots[i].file) continue;
        t->slots[i].file->release(t->slots[i].file);
        free(t->slots[i].tally);
    }
}

void vs_plane_files_end(vs_plane_files *t) {
    free(t->slots);
    pthread_mutex_destroy(&t->mu);
}
