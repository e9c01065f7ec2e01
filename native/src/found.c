/* found.c: see found.h. */
#include "found.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"

enum { SEQNO_DIGITS = 20 };

/* Digits at p up to end, no more than a u64 holds. 1: they are a number. */
static int number_parse(const char *p, const char *end, uint64_t *out) {
    *out = 0;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9' || *out > (UINT64_MAX - (uint64_t)(*p - '0')) / 10) return 0;
        *out = *out * 10 + (uint64_t)(*p - '0');
    }
    return 1;
}

int vs_found_parse(const char *name, uint64_t *first_seqno, uint64_t *generation) {
    size_t length = strlen(name);
    if (length < SEQNO_DIGITS + 4 || strcmp(name + length - 4, ".seg") != 0 || !number_parse(name, name + SEQNO_DIGITS, first_seqno)) return 0;
    *generation = 0;
    if (length == SEQNO_DIGITS + 4) return 1;
    const char *p = name + SEQNO_DIGITS + 1, *end = name + length - 4;
    int number = p[-1] == '-' && p < end && *p != '0' && number_parse(p, end, generation); /* one way of writing each number */
    return number && *generation <= VS_GENERATION_MAX;
}

static int name_take(void *arg, const char *name) {
    vs_found *f = arg;
    vs_found_file file = {0};
    if (strcmp(name, strchr(VS_COMPACT_TEMPORARY, '/') + 1) == 0) f->leftover = 1;
    if (!vs_found_parse(name, &file.first_seqno, &file.generation)) return 0;
    if (vs_room(&f->files, &f->room, f->count, 1, sizeof *f->files) < 0) return -ENOMEM;
    f->files[f->count++] = file;
    return 0;
}

static int file_order(const void *a, const void *b) {
    const vs_found_file *x = a, *y = b;
    if (x->first_seqno != y->first_seqno) return x->first_seqno < y->first_seqno ? -1 : 1;
    return x->generation > y->generation ? -1 : x->generation < y->generation;
}

int vs_found_list(vs_store *s, vs_found *out) {
    *out = (vs_found){0};
    int r = s->list(s, "journal", name_take, out);
    if (r == 0 && out->count) qsort(out->files, out->count, sizeof *out->files, file_order);
    return r;
}

void vs_found_end(vs_found *f) {
    for (size_t i = 0; i < f->count; i++) vs_segment_unref(f->files[i].segment);
    free(f->files);
    *f = (vs_found){0};
}

/* The first file that begins with seqno or after it. */
static size_t first_from(const vs_found *f, uint64_t seqno) {
    size_t low = 0, high = f->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (f->files[mid].first_seqno < seqno) low = mid + 1;
        else high = mid;
    }
    return low;
}

static int newest_first(const void *a, const void *b) {
    const vs_found_file *x = *(vs_found_file *const *)a, *y = *(vs_found_file *const *)b;
    return x->generation > y->generation ? -1 : x->generation < y->generation;
}

/* A compacted file that counts: those in its range do not. */
static int supersede(vs_found *f, const vs_found_file *by) {
    const vs_segment *g = by->segment;
    for (size_t i = first_from(f, g->first_seqno); i < f->count && f->files[i].first_seqno <= g->last_seqno; i++) {
        vs_found_file *file = &f->files[i];
        if (file == by || file->superseded_by) continue;
        if (file->segment)
            return vs_fault_set(-EUCLEAN, 0, 0, g->first_seqno, 0, "%s overlaps with %s, which is newer", g->name, file->segment->name);
        file->superseded_by = by->generation;
    }
    return 0;
}

int vs_found_judge(vs_found *f, vs_found_load load, void *arg) {
    vs_found_file **compacted = malloc((f->count + 1) * sizeof(vs_found_file *));
    size_t count = 0;
    if (!compacted) return -ENOMEM;
    for (size_t i = 0; i < f->count; i++)
        if (f->files[i].generation) compacted[count++] = &f->files[i];
    if (count) qsort(compacted, count, sizeof *compacted, newest_first);
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (compacted[i]->superseded_by) continue;
        if (!compacted[i]->segment) r = load(arg, compacted[i]->first_seqno, compacted[i]->generation, &compacted[i]->segment);
        if (r == 0) r = supersede(f, compacted[i]);
        if (r < 0) f->failed_seqno = compacted[i]->first_seqno;
    }
    free(compacted);
    return r;
}

void vs_found_cut(vs_found *f, uint64_t seqno) {
    while (f->count && f->files[f->count - 1].first_seqno >= seqno) vs_segment_unref(f->files[--f->count].segment);
}

uint64_t vs_found_generation(const vs_found *f) {
    uint64_t greatest = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->files[i].generation > greatest) greatest = f->files[i].generation;
    return greatest;
}
