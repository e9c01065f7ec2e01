/* test_replay.c: records again: what is read is what was written, over segments that are sealed meanwhile; rows that are none are refused; damage is
 * found before it is written anywhere, and a bad block that nobody wants harms nobody. */
#include <stdio.h>
#include <stdlib.h>

#include "journal_ground.h"
#include "replay.h"

enum { SIZE = 4 << 20, WRITES = 400, ROWS = 4096 };

typedef struct ground {
    vs_store *store;
    uint32_t volume;
    uint64_t random, begin, end;
    uint8_t *was, *is; /* at the beginning and at the end */
} ground;

static void write_some(ground *g, vs_journal *j, int writes, uint8_t *into) {
    static uint8_t piece[VS_WRITE_MAX];
    for (int i = 0; i < writes; i++) {
        uint64_t length = 1 + draw(&g->random) % (i % 50 == 0 ? sizeof piece : 9000), at = draw(&g->random) % (SIZE - length);
        for (uint64_t k = 0; k < length; k++) piece[k] = (uint8_t)draw(&g->random);
        if (i % 7 == 0 && length > 3 * VS_BLOCK) memset(piece, 0, 2 * VS_BLOCK);
        if (i % 11 == 0) memset(piece, 0, length);
        if (i % 11 == 0) CHECK_EQ(vs_journal_zero(j, g->volume, at, length, NULL, NULL), 0);
        else CHECK_EQ(vs_journal_write(j, g->volume, at, piece, length, NULL, NULL), 0);
        memcpy(into + at, piece, length);
        if (i % 90 == 0) CHECK_EQ(vs_journal_commit(j), 0);
    }
}

static int file_make(const uint8_t *content) {
    int file = open("target", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK_EQ(pwrite(file, content, SIZE, 0), SIZE);
    return file;
}

static int has(int file, const uint8_t *content) {
    uint8_t *found = malloc(SIZE);
    CHECK(found != NULL);
    CHECK_EQ(pread(file, found, SIZE, 0), SIZE);
    int same = memcmp(found, content, SIZE) == 0;
    free(found);
    return same;
}

/* All of it onto a file. */
static int all_apply(vs_replay *p, uint64_t since, int file) {
    static vs_replay_row rows[ROWS];
    int n, r = 0;
    for (uint64_t after = since; r == 0 && (n = vs_replay_rows(p, after, rows, 300)) > 0; after = rows[n - 1].seqno) r = vs_replay_apply(p, rows, n, file);
    return r == 0 && n < 0 ? n : r;
}

/* Zeros over what was written just before them. */
static void zero_at_once(ground *g, vs_journal *j) {
    static uint8_t piece[2 * VS_BLOCK];
    memset(piece, 7, sizeof piece);
    CHECK_EQ(vs_journal_write(j, g->volume, 0, piece, sizeof piece, NULL, NULL), 0);
    CHECK_EQ(vs_journal_zero(j, g->volume, 100, VS_BLOCK, NULL, NULL), 0);
    memset(piece + 100, 0, VS_BLOCK);
    memcpy(g->is, piece, sizeof piece);
}

static void ground_fill(ground *g, vs_journal *j) {
    g->volume = ground_volume(j, SIZE);
    g->was = calloc(1, SIZE);
    g->is = malloc(SIZE);
    CHECK(g->was && g->is);
    write_some(g, j, 50, g->was);
    memcpy(g->is, g->was, SIZE);
    ground_mark(j, &g->begin);
    write_some(g, j, WRITES, g->is);
    zero_at_once(g, j);
    ground_mark(j, &g->end);
}

/* Over sealed segments and the open one; the open one is sealed while it is read; rows after the end are not there. */
static void test_what_was_written_comes_back(ground *g, vs_journal *j) {
    vs_replay *p;
    vs_replay_row row;
    uint8_t *later = malloc(SIZE);
    CHECK(later != NULL);
    memcpy(later, g->is, SIZE);
    CHECK_EQ(vs_replay_open(j, g->begin, g->end, &p), 0);
    int file = file_make(g->was);
    CHECK_EQ(all_apply(p, g->begin, file), 0);
    CHECK(has(file, g->is));
    write_some(g, j, 20, later);
    CHECK_EQ(vs_journal_seal(j), 0);
    close(file);
    file = file_make(g->was);
    CHECK_EQ(all_apply(p, g->begin, file), 0);
    CHECK(has(file, g->is));
    CHECK_EQ(vs_replay_rows(p, g->end, &row, 1), 0);
    CHECK_EQ(vs_replay_rows(p, UINT64_MAX, &row, 1), 0);
    vs_replay_close(p);
    close(file);
    free(later);
}

static void test_rows_that_are_none(ground *g, vs_journal *j) {
    static vs_replay_row rows[ROWS];
    vs_replay *p;
    int file = file_make(g->was);
    CHECK_EQ(vs_replay_open(j, g->begin, g->end, &p), 0);
    int n = vs_replay_rows(p, 0, rows, 300); /* what is before the beginning is not told */
    CHECK(n > 0 && rows[0].seqno > g->begin);
    while (rows[0].block == 0) rows[0] = rows[--n];
    const vs_replay_row sound = rows[0];
    const uint64_t wrong_blocks[] = {1u << 20, UINT64_MAX, UINT64_MAX / VS_BLOCK};
    for (size_t i = 0; i < sizeof wrong_blocks / sizeof wrong_blocks[0]; i++) {
        vs_replay_row row = sound;
        row.block = wrong_blocks[i];
        CHECK_EQ(vs_replay_apply(p, &row, 1, file), -EINVAL);
    }
    vs_replay_row row = sound;
    row.segment = 1u << 30;
    CHECK_EQ(vs_replay_apply(p, &row, 1, file), -EINVAL);
    row = sound;
    row.length_bytes = 0;
    CHECK_EQ(vs_replay_apply(p, &row, 1, file), -EINVAL);
    row = sound;
    row.length_bytes = VS_WRITE_MAX + 1;
    CHECK_EQ(vs_replay_apply(p, &row, 1, file), -EINVAL);
    row = sound;
    row.offset_bytes = UINT64_MAX;
    CHECK_EQ(vs_replay_apply(p, &row, 1, file), -EINVAL);
    CHECK(has(file, g->was));
    CHECK_EQ(vs_replay_apply(p, rows, 0, file), 0);
    vs_replay_close(p);
    close(file);
    CHECK_EQ(vs_replay_open(j, g->end, g->begin, &p), -ERANGE);
    CHECK_EQ(vs_replay_open(j, g->begin, UINT64_MAX, &p), -ERANGE);
    CHECK_EQ(vs_replay_open(j, g->end, g->end, &p), 0);
    CHECK_EQ(vs_replay_rows(p, 0, rows, 300), 0);
    CHECK_EQ(vs_replay_apply(p, &sound, 1, -1), -EINVAL);
    vs_replay_close(p);
}

/* What the target says is what the caller hears. */
static void test_a_target_that_fails(ground *g, vs_journal *j) {
    vs_replay *p;
    vs_fault fault;
    int file = open("target", O_RDONLY);
    CHECK_EQ(vs_replay_open(j, g->begin, g->end, &p), 0);
    CHECK_EQ(all_apply(p, g->begin, file), -EBADF);
    vs_fault_last(&fault);
    CHECK_EQ(fault.code, -EBADF);
    CHECK(fault.seqno > g->begin && strstr(fault.text, "offset"));
    vs_replay_close(p);
    close(file);
}

static void segment_name(ground *g, uint64_t first_seqno, char name[64]) {
    (void)g;
    snprintf(name, 64, "journal/%020llu.seg", (unsigned long long)first_seqno);
}

/* One bit of a block that is wanted: nothing of it is written. Of one that is not: nobody notices. */
static void test_damage(ground *g, vs_journal *j) {
    static vs_replay_row rows[ROWS];
    vs_segment_facts facts;
    vs_replay *p;
    vs_fault fault;
    char name[64];
    uint8_t byte, wrong;
    CHECK_EQ(vs_replay_open(j, g->begin, g->end, &p), 0);
    int n = vs_replay_rows(p, g->begin, rows, 300), data = 0;
    while (data < n && rows[data].block == 0) data++;
    CHECK(data < n);
    vs_replay_row bad = rows[data];
    CHECK_EQ(vs_journal_segment_at(j, bad.segment, &facts), 0);
    segment_name(g, facts.first_seqno, name);
    int segment = open(name, O_RDWR);
    CHECK(segment >= 0);
    off_t at = (off_t)(bad.block * VS_BLOCK + bad.offset_bytes % VS_BLOCK);
    CHECK_EQ(pread(segment, &byte, 1, at), 1);
    wrong = byte ^ 1;
    CHECK_EQ(pwrite(segment, &wrong, 1, at), 1);
    int file = file_make(g->was);
    CHECK_EQ(vs_replay_apply(p, &bad, 1, file), -EBADMSG);
    vs_fault_last(&fault);
    CHECK_EQ(fault.seqno, bad.seqno);
    CHECK_EQ(fault.segment, facts.first_seqno);
    CHECK_EQ(fault.offset_bytes, bad.block * VS_BLOCK);
    CHECK(has(file, g->was));
    for (int i = 0; i < n; i++)
        if (rows[i].seqno != bad.seqno) CHECK_EQ(vs_replay_apply(p, &rows[i], 1, file), 0);
    CHECK_EQ(pwrite(segment, &byte, 1, at), 1);
    vs_replay_close(p);
    close(segment);
    close(file);
}

/* The file ends in the middle of what is wanted. */
static void test_a_segment_that_is_cut(ground *g, vs_journal *j) {
    static vs_replay_row rows[ROWS];
    vs_segment_facts facts;
    vs_replay *p;
    char name[64];
    CHECK_EQ(vs_replay_open(j, g->begin, g->end, &p), 0);
    int n = vs_replay_rows(p, g->begin, rows, 300), data = n - 1, file = file_make(g->was);
    while (data > 0 && rows[data].block == 0) data--;
    CHECK_EQ(vs_journal_segment_at(j, rows[data].segment, &facts), 0);
    segment_name(g, facts.first_seqno, name);
    int segment = open(name, O_RDWR);
    struct stat found;
    CHECK_EQ(fstat(segment, &found), 0);
    uint8_t *whole = malloc((size_t)found.st_size);
    CHECK(whole && pread(segment, whole, (size_t)found.st_size, 0) == found.st_size);
    CHECK_EQ(ftruncate(segment, (off_t)(rows[data].block * VS_BLOCK + 100)), 0);
    CHECK_EQ(vs_replay_apply(p, &rows[data], 1, file), -EBADMSG);
    CHECK_EQ(pwrite(segment, whole, (size_t)found.st_size, 0), found.st_size);
    CHECK_EQ(vs_replay_apply(p, &rows[data], 1, file), 0);
    free(whole);
    vs_replay_close(p);
    close(segment);
    close(file);
}

int main(void) {
    ground g = {.random = 1};
    g.store = ground_make();
    vs_journal *j = ground_open(g.store, 1, 1 << 20, 0);
    ground_fill(&g, j);
    test_what_was_written_comes_back(&g, j);
    test_rows_that_are_none(&g, j);
    test_a_target_that_fails(&g, j);
    test_damage(&g, j);
    test_a_segment_that_is_cut(&g, j);
    CHECK_EQ(vs_journal_close(j), 0);
    j = ground_open(g.store, 0, 0, 0);
    test_rows_that_are_none(&g, j);
    CHECK_EQ(vs_journal_close(j), 0);
    vs_store_close(g.store);
    free(g.was);
    free(g.is);
    return 0;
}
