/* branch_slots.h: which slots of a layer's data file are taken. Slots count from 1; slot n is block n - 1 of the file.
 *
 * A slot that is given up waits: it is free when a sync has brought what replaced it to the medium, since until then a power loss goes back to it.
 *
 * Threads: none; the owner locks. Memory: a bit a slot, 12 bytes for each run that waits. An empty one is all zeros.
 */
#ifndef VS_BRANCH_SLOTS_H
#define VS_BRANCH_SLOTS_H

#include <stddef.h>
#include <stdint.h>

typedef struct vs_slot_run {
    uint32_t first, count;
    uint32_t punch; /* its space shall be given back; else it is kept for the next writes */
} vs_slot_run;

typedef struct vs_branch_slots {
    uint64_t *bits; /* 1: taken, or waiting */
    size_t words;
    uint64_t end;   /* slots 1 .. end have been taken at some time */
    uint64_t taken; /* of them, bits that are set */
    uint64_t cursor; /* behind the one that was taken last */
    uint64_t sought; /* where to look next when there is nothing behind that */
    vs_slot_run *waiting;
    size_t waiting_count, waiting_room;
    uint64_t waiting_slots;
    size_t syncing; /* of the runs that wait, the first so many are a sync's: they do not grow any more */
} vs_branch_slots;

void vs_branch_slots_free(vs_branch_slots *s);

/* Take up to `want` (> 0) slots in a row. Returns how many, from *first on. -ENOMEM; -EFBIG: there are no more. */
int64_t vs_branch_slots_take(vs_branch_slots *s, uint32_t want, uint32_t *first);

/* Take these. -EEXIST: one is taken; then none is. */
int vs_branch_slots_mark(vs_branch_slots *s, uint32_t first, uint32_t count);

/* The next run of free slots from `from` on that is at least so long. Returns its length, in *first where it begins; 0: there is no more. */
uint64_t vs_branch_slots_free_run(const vs_branch_slots *s, uint64_t from, uint64_t least, uint64_t *first);

/* At once free again: nobody knows them. */
void vs_branch_slots_give(vs_branch_slots *s, uint32_t first, uint32_t count);

/* Room for so many more runs that wait; and then one of them. */
int vs_branch_slots_reserve(vs_branch_slots *s, size_t runs);
void vs_branch_slots_wait(vs_branch_slots *s, uint32_t first, uint32_t count, int punch);

/* A sync begins: of what waits now. */
void vs_branch_slots_sync_begin(vs_branch_slots *s);

/* It has ended: what was its is free; end is behind the last slot that is taken. Then waiting[0 .. syncing) are runs whose space is to be given back (count 0: none), in
 * whole pieces of VS_SLOT_PIECE; nobody gets those slots until vs_branch_slots_punched. */
enum { VS_SLOT_PIECE = 8 };
void vs_branch_slots_sync_end(vs_branch_slots *s);
void vs_branch_slots_punched(vs_branch_slots *s);

#endif
