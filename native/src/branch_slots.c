/* branch_slots.c: a bitmap, searched on from where the last slot was found, so that writes in a row get slots in a row.
 *
 * A short run of free slots would take a large write apart. So as long as less than half of the file is free, runs shorter than the write (or
 * SHORT_RUN) are passed over and the file grows instead; what is free in it is mostly holes that cost nothing. The file is never longer
 * than twice what it held at its fullest, and a write. No more than PASSED_MAX of them are looked at for one write, the next ones for the next.
 */
#include "branch_slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

enum { SHORT_RUN = 32, PASSED_MAX = 64, WORD = 64 };

#define SLOTS_MAX ((uint64_t)UINT32_MAX)

void vs_branch_slots_free(vs_branch_slots *s) {
    free(s->bits);
    free(s->waiting);
    *s = (vs_branch_slots){0};
}

static int is_taken(const vs_branch_slots *s, uint64_t i) {
    return (int)(s->bits[i / WORD] >> (i % WORD) & 1);
}

static void set(vs_branch_slots *s, uint64_t i, uint64_t count) {
    for (; count > 0; i++, count--) s->bits[i / WORD] |= UINT64_C(1) << (i % WORD);
}

/* Bits for slots up to `slots`. */
static int grow(vs_branch_slots *s, uint64_t slots) {
    size_t words = (size_t)(slots + WORD - 1) / WORD, room = s->words;
    if (slots > SLOTS_MAX) return -EFBIG;
    if (words <= s->words) return 0;
    if (vs_room(&s->bits, &room, s->words, words - s->words, sizeof *s->bits) < 0) return -ENOMEM;
    memset(s->bits + s->words, 0, (room - s->words) * sizeof *s->bits);
    s->words = room;
    return 0;
}

/* The first bit from i on (i < end) that is `taken`; end: none. */
static uint64_t next(const vs_branch_slots *s, uint64_t i, uint64_t end, int taken) {
    while (i < end) {
        uint64_t word = (taken ? s->bits[i / WORD] : ~s->bits[i / WORD]) >> (i % WORD);
        if (word) {
            i += (uint64_t)__builtin_ctzll(word);
            return i < end ? i : end;
        }
        i = (i / WORD + 1) * WORD;
    }
    return end;
}

/* A run of free slots from *from on that is long enough. Returns its length; 0: none was found, and *from is where to go on another time. */
static uint64_t find(const vs_branch_slots *s, uint64_t *from, uint64_t least, uint64_t want, uint64_t *at) {
    uint64_t i = next(s, *from, s->end, 0);
    for (int passed = 0; i < s->end && passed < PASSED_MAX; passed++) {
        uint64_t limit = i + want < s->end ? i + want : s->end, end = next(s, i, limit, 1);
        if (end - i >= least) {
            *at = i;
            return end - i;
        }
        i = next(s, end, s->end, 0);
    }
    *from = i < s->end ? i : 0;
    return 0;
}

int64_t vs_branch_slots_take(vs_branch_slots *s, uint32_t want, uint32_t *first) {
    uint64_t least = s->end - s->taken > s->end / 2 ? 1 : want < SHORT_RUN ? want : SHORT_RUN, at = s->end, count = 0;
    if (s->end - s->taken >= least) {
        uint64_t behind = s->cursor;
        count = find(s, &behind, least, want, &at);
        if (count == 0) count = find(s, &s->sought, least, want, &at);
    }
    if (count == 0) {
        at = s->end;
        count = want < SLOTS_MAX - at ? want : SLOTS_MAX - at;
        if (count == 0) return -EFBIG;
    }
    int r = grow(s, at + count);
    if (r < 0) return r;
    set(s, at, count);
    s->taken += count;
    if (at + count > s->end) s->end = at + count;
    s->cursor = at + count;
    *first = (uint32_t)(at + 1);
    return (int64_t)count;
}

int vs_branch_slots_mark(vs_branch_slots *s, uint32_t first, uint32_t count) {
    uint64_t at = (uint64_t)first - 1;
    int r = grow(s, at + count);
    if (r < 0) return r;
    if (next(s, at, at + count, 1) != at + count) return -EEXIST;
    set(s, at, count);
    s->taken += count;
    if (at + count > s->end) s->end = at + count;
    return 0;
}

uint64_t vs_branch_slots_free_run(const vs_branch_slots *s, uint64_t from, uint64_t least, uint64_t *first) {
    for (uint64_t i = next(s, from - 1, s->end, 0), end; i < s->end; i = next(s, end, s->end, 0)) {
        end = next(s, i, s->end, 1);
        *first = i + 1;
        if (end - i >= least) return end - i;
    }
    return 0;
}

void vs_branch_slots_give(vs_branch_slots *s, uint32_t first, uint32_t count) {
    uint64_t at = (uint64_t)first - 1;
    for (uint64_t i = at; i < at + count; i++) s->bits[i / WORD] &= ~(UINT64_C(1) << (i % WORD));
    s->taken -= count;
    if (at < s->cursor && s->cursor == at + count) s->cursor = at;
}

int vs_branch_slots_reserve(vs_branch_slots *s, size_t runs) {
    return vs_room(&s->waiting, &s->waiting_room, s->waiting_count, runs, sizeof *s->waiting);
}

void vs_branch_slots_wait(vs_branch_slots *s, uint32_t first, uint32_t count, int punch) {
    vs_slot_run *last = s->waiting_count > s->syncing ? &s->waiting[s->waiting_count - 1] : NULL;
    s->waiting_slots += count;
    if (last && last->first + last->count == first && last->punch == (uint32_t)punch) last->count += count;
    else s->waiting[s->waiting_count++] = (vs_slot_run){first, count, (uint32_t)punch};
}

void vs_branch_slots_sync_begin(vs_branch_slots *s) {
    s->syncing = s->waiting_count;
}

static void trim(vs_branch_slots *s) {
    while (s->end > 0 && !is_taken(s, s->end - 1)) s->end -= s->end % WORD == 0 && s->bits[s->end / WORD - 1] == 0 ? WORD : 1;
    if (s->cursor > s->end) s->cursor = 0;
    if (s->sought > s->end) s->sought = 0;
}

/* The whole pieces around a run, if all of them is free; its own inner ones are. */
static vs_slot_run pieces_of(const vs_branch_slots *s, const vs_slot_run *run) {
    uint64_t from = (uint64_t)(run->first - 1) / VS_SLOT_PIECE * VS_SLOT_PIECE, to = ((uint64_t)run->first - 1 + run->count + VS_SLOT_PIECE - 1) / VS_SLOT_PIECE * VS_SLOT_PIECE;
    if (to > s->end) to = s->end / VS_SLOT_PIECE * VS_SLOT_PIECE;
    if (from < to && next(s, from, from + VS_SLOT_PIECE, 1) != from + VS_SLOT_PIECE) from += VS_SLOT_PIECE;
    if (from < to && next(s, to - VS_SLOT_PIECE, to, 1) != to) to -= VS_SLOT_PIECE;
    return from < to ? (vs_slot_run){(uint32_t)(from + 1), (uint32_t)(to - from), 1} : (vs_slot_run){0};
}

void vs_branch_slots_sync_end(vs_branch_slots *s) {
    for (size_t i = 0; i < s->syncing; i++) {
        vs_branch_slots_give(s, s->waiting[i].first, s->waiting[i].count);
        s->waiting_slots -= s->waiting[i].count;
    }
    trim(s);
    for (size_t i = 0; i < s->syncing; i++) {
        vs_slot_run *run = &s->waiting[i];
        *run = run->punch ? pieces_of(s, run) : (vs_slot_run){0};
        if (run->count) set(s, (uint64_t)run->first - 1, run->count);
        s->taken += run->count;
    }
}

void vs_branch_slots_punched(vs_branch_slots *s) {
    for (size_t i = 0; i < s->syncing; i++)
        if (s->waiting[i].count) vs_branch_slots_give(s, s->waiting[i].first, s->waiting[i].count);
    s->waiting_count -= s->syncing;
    if (s->syncing && s->waiting_count) memmove(s->waiting, s->waiting + s->syncing, s->waiting_count * sizeof *s->waiting);
    s->syncing = 0;
}
