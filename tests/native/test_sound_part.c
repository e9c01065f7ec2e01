/* test_sound_part.c: damaged journals, opened as far as they are sound, and checked: nothing breaks, the part before the damage reads, a
 * check that is told to end does, and an owner that knows of a lost end cuts nothing. */
#include <stdio.h>
#include <stdlib.h>

#include "journal_ground.h"

enum { SIZE = 256 << 10, MARKS = 12, ROUNDS = 400, FILES_MAX = 16, NAME = 64 };

typedef struct file_copy {
    char name[NAME];
    uint8_t *bytes;
    size_t length;
} file_copy;

typedef struct ground {
    vs_store *store;
    uint32_t volume;
    uint64_t marks[MARKS];
    uint8_t then[MARKS][SIZE];
    file_copy files[FILES_MAX];
    int file_count;
    uint64_t random;
} ground;

static uint64_t next(ground *g) {
    return draw(&g->random);
}

static void file_put(const char *name, const uint8_t *bytes, size_t length) {
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0);
    CHECK_EQ(write(file, bytes, length), (ssize_t)length);
    close(file);
}

static int copy_take(void *arg, const char *name) {
    ground *g = arg;
    if (strstr(name, ".seg") == NULL) return 0;
    file_copy *c = &g->files[g->file_count++];
    struct stat found;
    snprintf(c->name, sizeof c->name, "journal/%s", name);
    int file = open(c->name, O_RDONLY);
    CHECK(file >= 0);
    CHECK_EQ(fstat(file, &found), 0);
    c->length = (size_t)found.st_size;
    CHECK((c->bytes = malloc(c->length)) != NULL);
    CHECK_EQ(read(file, c->bytes, c->length), (ssize_t)c->length);
    close(file);
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const file_copy *)a)->name, ((const file_copy *)b)->name);
}

static void ground_fill(ground *g) {
    static uint8_t now[SIZE], piece[20000];
    g->store = ground_make();
    vs_journal *j = ground_open(g->store, 1, 64 << 10, 0);
    g->volume = ground_volume(j, SIZE);
    for (int i = 0; i < MARKS; i++) {
        uint64_t length = 1 + next(g) % sizeof piece, at = next(g) % (SIZE - length);
        for (uint64_t k = 0; k < length; k++) piece[k] = (uint8_t)next(g);
        memcpy(now + at, piece, length);
        CHECK_EQ(vs_journal_write(j, g->volume, at, piece, length, NULL, NULL), 0);
        ground_mark(j, &g->marks[i]);
        memcpy(g->then[i], now, SIZE);
    }
    CHECK_EQ(vs_journal_close(j), 0);
    CHECK_EQ(g->store->list(g->store, "journal", copy_take, g), 0);
    qsort(g->files, (size_t)g->file_count, sizeof g->files[0], by_name);
    CHECK(g->file_count > 2);
}

static int part_open(ground *g, vs_journal **j) {
    vs_journal_options o = {.sound_part = 1};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    return vs_journal_open(g->store, &o, j);
}

static uint64_t first_of(vs_journal *j, uint64_t index) {
    vs_segment_facts s = {0};
    vs_journal_segment_at(j, index, &s);
    return s.first_seqno;
}

/* What is wrong, and that no step comes twice. */
static int faults_of(vs_journal *j, uint64_t segment) {
    vs_fault fault;
    uint64_t at = 0;
    int count = 0, r;
    while ((r = vs_journal_check_segment(j, first_of(j, segment), 1, &at, &fault)) == 1) {
        count++;
        CHECK(count < 10000);
        if (at == 0) break;
    }
    CHECK(r >= 0);
    return count;
}

/* Every mark of the part that opened reads as it was, or not at all. */
static void marks_read(ground *g, vs_journal *j, uint64_t last_seqno, int must) {
    static uint8_t buf[SIZE];
    for (int i = 0; i < MARKS && g->marks[i] <= last_seqno; i++) {
        vs_view *v;
        int r = vs_view_open(j, g->volume, g->marks[i], &v);
        CHECK(r == 0 || !must);
        if (r < 0) continue;
        int64_t n = vs_view_read(v, 0, buf, SIZE);
        CHECK(n < 0 ? !must : memcmp(buf, g->then[i], SIZE) == 0);
        vs_view_close(v);
    }
}

static void part_is_sound(ground *g) {
    vs_journal *j;
    vs_journal_facts facts;
    vs_segment_facts segment;
    vs_fault fault;
    char name[64];
    uint64_t known;
    int faults = 0;
    if (part_open(g, &j) < 0) return;
    int broken = vs_journal_broken(j, &fault, &known);
    vs_journal_facts_get(j, &facts);
    for (uint64_t i = 0; i < facts.segments; i++) {
        CHECK_EQ(vs_journal_segment_at(j, i, &segment), 0);
        CHECK(segment.first_seqno <= segment.last_seqno + 1);
        faults += faults_of(j, i);
    }
    CHECK_EQ(vs_journal_segment_at(j, facts.segments, &segment), -ENOENT);
    for (uint64_t i = 0; vs_journal_check_map(j, i, &fault, name) != -ENOENT; i++) continue;
    CHECK_EQ(vs_journal_check_base(j, g->volume), 0);
    marks_read(g, j, facts.last_seqno, faults == 0);
    CHECK(vs_journal_refresh(j) >= 0 && (!broken || vs_journal_refresh(j) == 0));
    CHECK(broken || faults || facts.last_seqno >= g->marks[MARKS - 2]);
    vs_journal_close(j);
}

/* One to three bits, a file cut, a file gone. */
static void spoil(ground *g, int round) {
    file_copy *c = &g->files[next(g) % (uint64_t)g->file_count];
    static uint8_t bytes[1 << 20];
    CHECK(c->length <= sizeof bytes);
    memcpy(bytes, c->bytes, c->length);
    if (round % 8 == 6) {
        file_put(c->name, bytes, next(g) % c->length);
    } else if (round % 8 == 7) {
        CHECK_EQ(unlink(c->name), 0);
    } else {
        for (int i = 0; i <= round % 3; i++) bytes[next(g) % c->length] ^= (uint8_t)(1 << next(g) % 8);
        file_put(c->name, bytes, c->length);
    }
}

static void put_back(const ground *g) {
    for (int i = 0; i < g->file_count; i++) file_put(g->files[i].name, g->files[i].bytes, g->files[i].length);
}

static void a_check_ends(ground *g) {
    vs_journal *j;
    vs_fault fault;
    uint64_t at = 0;
    CHECK_EQ(part_open(g, &j), 0);
    CHECK_EQ(vs_journal_check_segment(j, first_of(j, 0), 1, &at, &fault), 0);
    vs_journal_check_end(j);
    CHECK_EQ(vs_journal_check_segment(j, first_of(j, 0), 1, &at, &fault), -ECANCELED);
    vs_journal_close(j);
}

static void a_known_end_is_not_cut(ground *g) {
    const file_copy *last = &g->files[g->file_count - 1];
    struct stat found;
    vs_journal *j;
    vs_journal_options o = {.owner = 1, .known_seqno = g->marks[MARKS - 1] + 1};
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    file_put(last->name, last->bytes, last->length - 100);
    CHECK_EQ(vs_journal_open(g->store, &o, &j), -ENODATA);
    CHECK_EQ(stat(last->name, &found), 0);
    CHECK_EQ((size_t)found.st_size, last->length - 100);
    file_put(last->name, last->bytes, last->length);
    o.known_seqno = g->marks[MARKS - 1];
    CHECK_EQ(vs_journal_open(g->store, &o, &j), 0);
    vs_journal_close(j);
}

int main(void) {
    static ground g = {.random = 1};
    ground_fill(&g);
    for (int round = 0; round < ROUNDS; round++) {
        spoil(&g, round);
        part_is_sound(&g);
        put_back(&g);
    }
    part_is_sound(&g);
    a_check_ends(&g);
    a_known_end_is_not_cut(&g);
    for (int i = 0; i < g.file_count; i++) free(g.files[i].bytes);
    vs_store_close(g.store);
    return 0;
}
