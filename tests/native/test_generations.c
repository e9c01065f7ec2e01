/* test_generations.c: segments that are compacted under the eyes of an owner, of its views, and of readers beside it: which files count, what can be opened,
 * what stays as long as somebody reads it, and what goes then. The marks' contents are kept aside and compared byte by byte. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "compact.h"
#include "journal_ground.h"

enum { MARKS = 400, SIZE = 48 * VS_BLOCK, SEGMENT = 64 << 10 };

typedef struct ground {
    vs_store *store;
    vs_journal *journal;
    uint32_t volume;
    int marks;
    uint64_t at[MARKS], time_ns[MARKS];
    uint8_t *then[MARKS], now[SIZE];
    uint64_t random;
} ground;

static void write_some(ground *g) {
    uint8_t piece[3 * VS_BLOCK];
    uint64_t offset = draw_below(&g->random, SIZE - 1), length = 1 + draw_below(&g->random, sizeof piece);
    if (length > SIZE - offset) length = SIZE - offset;
    if (draw_below(&g->random, 5) == 0) {
        CHECK_EQ(vs_journal_zero(g->journal, g->volume, offset, length, NULL, NULL), 0);
        memset(g->now + offset, 0, length);
        return;
    }
    for (uint64_t i = 0; i < length; i++) piece[i] = (uint8_t)draw(&g->random);
    CHECK_EQ(vs_journal_write(g->journal, g->volume, offset, piece, length, NULL, NULL), 0);
    memcpy(g->now + offset, piece, length);
}

static void mark(ground *g) {
    CHECK(g->marks < MARKS);
    ground_mark(g->journal, &g->at[g->marks]);
    CHECK_EQ(vs_journal_time_of(g->journal, g->at[g->marks], &g->time_ns[g->marks]), 0);
    CHECK((g->then[g->marks] = malloc(SIZE)) != NULL);
    memcpy(g->then[g->marks++], g->now, SIZE);
}

static uint64_t segments(vs_journal *j) {
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    return facts.segments;
}

/* Write until so many segments are sealed. */
static void grow(ground *g, uint64_t sealed) {
    while (segments(g->journal) <= sealed) {
        for (int i = 0; i < 4; i++) write_some(g);
        mark(g);
    }
}

static void ground_begin(ground *g, uint64_t seed) {
    *g = (ground){.store = ground_make(), .random = seed};
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
    g->volume = ground_volume(g->journal, SIZE);
}

static void ground_end(ground *g) {
    CHECK_EQ(vs_journal_close(g->journal), 0);
    vs_store_close(g->store);
    for (int i = 0; i < g->marks; i++) free(g->then[i]);
}

static void reopen(ground *g) {
    CHECK_EQ(vs_journal_close(g->journal), 0);
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
}

/* Names in journal/ that end in .seg; how many of them a compaction has written. */
static int files(int *compacted) {
    int n = 0;
    DIR *d = opendir("journal");
    CHECK(d != NULL);
    *compacted = 0;
    for (const struct dirent *e; (e = readdir(d));) {
        if (!strstr(e->d_name, ".seg")) continue;
        n++;
        *compacted += strchr(e->d_name, '-') != NULL;
    }
    closedir(d);
    return n;
}

static void view_compare(vs_view *v, const uint8_t *want) {
    static _Thread_local uint8_t buf[SIZE];
    CHECK_EQ(vs_view_read(v, 0, buf, SIZE), SIZE);
    CHECK(memcmp(buf, want, SIZE) == 0);
}

static int mark_reads(const ground *g, vs_journal *j, int i) {
    vs_view *v;
    int r = vs_view_open(j, g->volume, g->at[i], &v);
    if (r < 0) return r;
    view_compare(v, g->then[i]);
    vs_view_close(v);
    return 0;
}

/* The marks that are kept: every `each`-th before the last so many segments, and all from there on. */
typedef struct roots {
    uint64_t points[MARKS];
    uint64_t count;
    uint64_t window; /* seqno of the first point of the window */
} roots;

static void roots_choose(const ground *g, uint64_t segment, int each, roots *out) {
    vs_segment_facts f;
    CHECK_EQ(vs_journal_segment_at(g->journal, segment, &f), 0);
    *out = (roots){.window = f.first_seqno};
    for (int i = 0; i < g->marks && g->at[i] < f.first_seqno; i += each) out->points[out->count++] = g->at[i];
    out->points[out->count++] = f.first_seqno;
}

static int is_root(const roots *r, uint64_t seqno) {
    for (uint64_t i = 0; i < r->count; i++)
        if (r->points[i] == seqno) return 1;
    return seqno >= r->window;
}

/* Kept marks read as they did, times lead to them; others, up to the first root that is not before `end`, where the compacted segments end, are said to
 * be gone. */
static void marks_check(const ground *g, vs_journal *j, const roots *r, uint64_t end) {
    uint64_t until = r->window;
    for (uint64_t i = r->count; i-- > 0 && r->points[i] >= end;) until = r->points[i];
    for (int i = 0; i < g->marks; i++) {
        uint64_t time_ns, seqno;
        vs_volume_state state;
        int kept = is_root(r, g->at[i]) || g->at[i] >= until;
        CHECK_EQ(mark_reads(g, j, i), kept ? 0 : -ERANGE);
        CHECK_EQ(vs_journal_volume_at(j, g->volume, g->at[i], &state), kept ? 0 : -ERANGE);
        int r1 = vs_journal_seqno_at(j, g->time_ns[i], &seqno);
        CHECK_EQ(r1, kept ? 0 : -ERANGE);
        if (!kept) {
            vs_fault fault;
            vs_fault_last(&fault);
            CHECK(strstr(fault.text, "only bookmarks are kept") != NULL);
            continue;
        }
        CHECK_EQ(seqno, g->at[i]);
        CHECK_EQ(vs_journal_time_of(j, g->at[i], &time_ns), 0);
        CHECK_EQ(time_ns, g->time_ns[i]);
    }
}

static void compact(ground *g, uint64_t first, uint64_t count, const roots *r) {
    vs_compact_facts facts;
    CHECK_EQ(vs_journal_compact(g->journal, first, count, r->points, r->count, NULL, 0, &facts), 1);
}

static uint64_t end_of(vs_journal *j, uint64_t ordinals) {
    vs_segment_facts f;
    for (uint64_t i = 0; vs_journal_segment_at(j, i, &f) == 0; i++)
        if (f.ordinal + f.ordinals == ordinals) return f.last_seqno + 1;
    CHECK(0);
    return 0;
}

static void maps_make(vs_journal *j) {
    int r;
    while ((r = vs_journal_merge_maps(j)) == 1) {}
    CHECK_EQ(r, 0);
}

/* No step of a check finds anything. */
static void check_sound(vs_journal *j) {
    vs_segment_facts f;
    vs_fault fault;
    char name[64];
    for (uint64_t i = 0; vs_journal_segment_at(j, i, &f) == 0; i++) {
        uint64_t at = 0;
        CHECK_EQ(vs_journal_check_segment(j, f.first_seqno, 1, &at, &fault), 0);
    }
    for (uint64_t i = 0;; i++) {
        int r = vs_journal_check_map(j, i, &fault, name);
        if (r == -ENOENT) break;
        CHECK_EQ(r, 0);
    }
}

static void groups_that_cannot_be(ground *g, const roots *r) {
    vs_compact_facts facts;
    CHECK_EQ(vs_journal_compact(g->journal, 1, 8, r->points, r->count, NULL, 0, &facts), 0);  /* not aligned */
    CHECK_EQ(vs_journal_compact(g->journal, 0, 9, r->points, r->count, NULL, 0, &facts), 0);  /* no power */
    CHECK_EQ(vs_journal_compact(g->journal, 0, 512, r->points, r->count, NULL, 0, &facts), 0); /* not there */
    CHECK_EQ(vs_journal_compact(g->journal, 8, 8, r->points, 1, NULL, 0, &facts), 0);         /* beyond the last point */
    CHECK_EQ(vs_journal_compact(g->journal, 0, 8, r->points, 0, NULL, 0, &facts), -EINVAL);
    vs_journal_facts now;
    write_some(g);
    vs_journal_facts_get(g->journal, &now);
    CHECK(now.committed_seqno < now.last_seqno);
    CHECK_EQ(vs_journal_compact(g->journal, 0, 8, &now.last_seqno, 1, NULL, 0, &facts), 0); /* a crash may take that point away */
    mark(g);
}

/* Parts first, then the group that holds them, across openings; with merged maps that go stale. */
static void generations_follow_each_other(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    vs_view *v;
    int compacted;
    CHECK(g != NULL);
    ground_begin(g, 1);
    grow(g, 67);
    maps_make(g->journal);
    roots_choose(g, 64, 7, &r);
    groups_that_cannot_be(g, &r);
    compact(g, 0, 8, &r);
    marks_check(g, g->journal, &r, end_of(g->journal, 8));
    compact(g, 16, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    CHECK_EQ(files(&compacted), 68 - 14);
    CHECK_EQ(compacted, 2);
    check_sound(g->journal); /* the map of all 64 is stale, which is no damage */
    maps_make(g->journal);
    check_sound(g->journal);
    CHECK_EQ(vs_view_open(g->journal, g->volume, g->at[g->marks - 1], &v), 0);
    CHECK(vs_view_layers(v) <= 6);
    view_compare(v, g->now);
    vs_view_close(v);
    reopen(g);
    CHECK_EQ(segments(g->journal), 68 - 14);
    check_sound(g->journal);
    for (uint64_t first = 8; first < 64; first += 8)
        if (first != 16) compact(g, first, 8, &r);
    marks_check(g, g->journal, &r, end_of(g->journal, 64));
    compact(g, 0, 64, &r);
    CHECK_EQ(segments(g->journal), 5);
    CHECK_EQ(access("maps/000000000000-64.map", F_OK), -1);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    CHECK_EQ(files(&compacted), 5);
    CHECK_EQ(compacted, 1);
    marks_check(g, g->journal, &r, end_of(g->journal, 64));
    grow(g, 16); /* the chain goes on */
    reopen(g);
    marks_check(g, g->journal, &r, end_of(g->journal, 64));
    check_sound(g->journal);
    ground_end(g);
    free(g);
}

/* Has anybody locked a byte of the file that has leases? */
static int is_leased(uint64_t byte) {
    int file = open("leases", O_RDONLY);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    CHECK(file >= 0);
    CHECK_EQ(fcntl(file, F_OFD_GETLK, &l), 0);
    close(file);
    return l.l_type != F_UNLCK;
}

/* A view of each, from before: of this process, and of a reader that follows or does not. Each reads to its end, and keeps the files. */
static void readers_keep_what_they_read(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    vs_view *here, *there;
    vs_fault fault;
    int compacted, middle;
    CHECK(g != NULL);
    ground_begin(g, 2);
    grow(g, 10);
    roots_choose(g, 8, 5, &r);
    for (middle = 3; is_root(&r, g->at[middle]);) middle++;
    vs_journal *reader = ground_open(g->store, 0, 0, 0), *idle = ground_open(g->store, 0, 0, 0);
    CHECK_EQ(vs_view_open(g->journal, g->volume, g->at[middle], &here), 0);
    CHECK_EQ(vs_view_open(reader, g->volume, g->at[middle], &there), 0);
    CHECK(is_leased(g->at[middle]) && !is_leased(g->at[middle] + 1) && is_leased((uint64_t)1 << 62));
    compact(g, 0, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 8);
    CHECK_EQ(vs_journal_refresh(reader), 0);
    CHECK_EQ(segments(reader), 4);
    CHECK_EQ(mark_reads(g, reader, middle), -ERANGE);
    vs_fault_last(&fault);
    CHECK(strstr(fault.text, "only bookmarks are kept") != NULL);
    marks_check(g, reader, &r, end_of(g->journal, 8));
    view_compare(here, g->then[middle]);
    view_compare(there, g->then[middle]);
    vs_view_close(here);
    CHECK_EQ(vs_journal_superseded(g->journal), 8);
    view_compare(there, g->then[middle]);
    CHECK(is_leased(g->at[middle]));
    vs_view_close(there);
    CHECK(!is_leased(g->at[middle]));
    CHECK_EQ(vs_journal_superseded(g->journal), 8); /* the one that did not look since */
    CHECK_EQ(segments(idle), 11);
    CHECK_EQ(mark_reads(g, idle, 0), 0); /* opening a view is looking */
    CHECK_EQ(segments(idle), 4);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    CHECK_EQ(files(&compacted), 4);
    marks_check(g, reader, &r, end_of(g->journal, 8));
    vs_journal_close(idle);
    /* Without the small file, and with a damaged one, the names tell. */
    CHECK_EQ(unlink("journal/generation"), 0);
    grow(g, 14);
    roots_choose(g, 9, 5, &r);
    compact(g, 8, 8, &r);
    CHECK_EQ(vs_journal_check_generation(reader), 0);
    CHECK_EQ(truncate("journal/generation", 9), 0);
    CHECK_EQ(vs_journal_check_generation(reader), 1);
    CHECK_EQ(vs_journal_refresh(reader), 1);
    CHECK_EQ(segments(reader), segments(g->journal));
    marks_check(g, reader, &r, end_of(g->journal, 16));
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    vs_journal_close(reader);
    ground_end(g);
    free(g);
}

/* A process that has a view open: it says so, and reads all of it once for each byte that it is sent. */
typedef struct process {
    pid_t pid;
    int to, from;
} process;

static void other_run(const ground *g, int mark_number, int from, int to) {
    char byte = 0;
    vs_view *v;
    vs_store *s;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK_EQ(vs_store_posix(open(".", O_RDONLY | O_DIRECTORY), &s), 0);
    vs_journal *reader = ground_open(s, 0, 0, 0);
    CHECK_EQ(vs_view_open(reader, g->volume, g->at[mark_number], &v), 0);
    do {
        view_compare(v, g->then[mark_number]);
        CHECK_EQ(write(to, &byte, 1), 1);
    } while (read(from, &byte, 1) == 1);
    for (;;) pause(); /* to be killed with the view open */
}

static process other_begin(const ground *g, int mark_number) {
    int down[2], up[2];
    char byte;
    CHECK_EQ(pipe(down), 0);
    CHECK_EQ(pipe(up), 0);
    process o = {.pid = fork(), .to = down[1], .from = up[0]};
    CHECK(o.pid >= 0);
    if (o.pid == 0) {
        close(down[1]);
        other_run(g, mark_number, down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    CHECK_EQ(read(o.from, &byte, 1), 1);
    return o;
}

static void other_reads(const process *o) {
    char byte = 0;
    CHECK_EQ(write(o->to, &byte, 1), 1);
    CHECK_EQ(read(o->from, &byte, 1), 1);
}

static void other_kill(const process *o) {
    CHECK_EQ(kill(o->pid, SIGKILL), 0);
    CHECK_EQ(waitpid(o->pid, NULL, 0), o->pid);
    close(o->to);
    close(o->from);
}

/* Views in two other processes, and the owner's next life: the files stay until both are gone, whichever way they go. */
static void other_processes_keep_what_they_read(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    int compacted, middle;
    CHECK(g != NULL);
    ground_begin(g, 9);
    grow(g, 66);
    roots_choose(g, 64, 5, &r);
    for (middle = 3; is_root(&r, g->at[middle]);) middle++;
    process one = other_begin(g, middle);
    compact(g, 0, 8, &r);
    process two = other_begin(g, 0); /* on the directory of the first compaction */
    compact(g, 0, 64, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 65);
    other_reads(&one);
    other_reads(&two);
    reopen(g);
    CHECK_EQ(vs_journal_superseded(g->journal), 65);
    other_reads(&one);
    other_reads(&two);
    other_kill(&one);
    CHECK_EQ(vs_journal_superseded(g->journal), 65); /* whatever a crash may have left to be deleted by the later generation */
    other_reads(&two);
    other_kill(&two);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    CHECK_EQ(files(&compacted), 4);
    /* Without the file nobody is kept from anything; the next owner makes it, and the reader comes to use it. */
    CHECK_EQ(vs_journal_close(g->journal), 0);
    CHECK_EQ(unlink("leases"), 0);
    vs_journal *reader = ground_open(g->store, 0, 0, 0);
    CHECK_EQ(mark_reads(g, reader, 0), 0);
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
    CHECK_EQ(access("leases", F_OK), 0);
    vs_view *v;
    int last = g->marks - 1;
    CHECK_EQ(vs_view_open(reader, g->volume, g->at[last], &v), 0);
    grow(g, 10);
    roots_choose(g, 9, 5, &r);
    compact(g, 64, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 8);
    view_compare(v, g->then[last]);
    vs_view_close(v);
    vs_journal_close(reader);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    ground_end(g);
    free(g);
}

/* A reader that is far behind: what it knows as the active segment was sealed, compacted with others, and those after it too. */
static void a_reader_that_comes_late(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    CHECK(g != NULL);
    ground_begin(g, 3);
    grow(g, 3);
    vs_journal *reader = ground_open(g->store, 0, 0, 0);
    vs_view *there;
    int last = g->marks - 1;
    CHECK_EQ(vs_view_open(reader, g->volume, g->at[last], &there), 0);
    grow(g, 18);
    roots_choose(g, 17, 3, &r);
    compact(g, 0, 8, &r);
    compact(g, 8, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 16);
    CHECK_EQ(vs_journal_refresh(reader), 1);
    CHECK_EQ(segments(reader), segments(g->journal));
    view_compare(there, g->then[last]);
    vs_view_close(there);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    marks_check(g, reader, &r, end_of(g->journal, 16));
    grow(g, 7);
    CHECK_EQ(vs_journal_refresh(reader), 1);
    marks_check(g, reader, &r, end_of(g->journal, 16));
    vs_journal_close(reader);
    ground_end(g);
    free(g);
}

/* Events are told once each and in order, also where the segments are compacted in between. */
static void events_go_on(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    vs_event_cursor c = {0};
    vs_event e;
    char body[64];
    CHECK(g != NULL);
    ground_begin(g, 4);
    grow(g, 18);
    roots_choose(g, 17, 1, &r);
    CHECK_EQ(vs_journal_next_event(g->journal, &c, &e, body, sizeof body), 1); /* the volume */
    for (int i = 0; i < g->marks; i++) {
        if (i == g->marks / 3) compact(g, 0, 8, &r);
        if (i == g->marks / 2) compact(g, 8, 8, &r);
        CHECK_EQ(vs_journal_next_event(g->journal, &c, &e, body, sizeof body), 1);
        CHECK_EQ(e.seqno, g->at[i]);
    }
    CHECK_EQ(vs_journal_next_event(g->journal, &c, &e, body, sizeof body), 0);
    mark(g);
    CHECK_EQ(vs_journal_next_event(g->journal, &c, &e, body, sizeof body), 1);
    CHECK_EQ(e.seqno, g->at[g->marks - 1]);
    ground_end(g);
    free(g);
}

static void copy_file(const char *from, const char *to) {
    static uint8_t bytes[4 << 20];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(in >= 0 && out >= 0);
    ssize_t n = read(in, bytes, sizeof bytes);
    CHECK(n > 0 && n < (ssize_t)sizeof bytes);
    CHECK_EQ(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

/* What a crash leaves: superseded files beside the one that counts, a temporary one. The owner's open takes them away; a reader's does not. */
static void leftovers_go(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    vs_segment_facts f[9];
    char name[16][80];
    int compacted;
    CHECK(g != NULL);
    ground_begin(g, 5);
    grow(g, 9);
    roots_choose(g, 8, 4, &r);
    for (int i = 0; i < 8; i++) {
        char from[80];
        CHECK_EQ(vs_journal_segment_at(g->journal, (uint64_t)i, &f[i]), 0);
        snprintf(from, sizeof from, "journal/%020llu.seg", (unsigned long long)f[i].first_seqno);
        snprintf(name[i], sizeof name[i], "kept-%d", i);
        copy_file(from, name[i]);
    }
    compact(g, 0, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    CHECK_EQ(vs_journal_close(g->journal), 0);
    for (int i = 0; i < 8; i += 3) {
        char to[80];
        snprintf(to, sizeof to, "journal/%020llu.seg", (unsigned long long)f[i].first_seqno);
        copy_file(name[i], to);
    }
    copy_file(name[0], "journal/compact.new");
    vs_journal *reader = ground_open(g->store, 0, 0, 0);
    marks_check(g, reader, &r, end_of(reader, 8));
    CHECK_EQ(files(&compacted), 3 + 3);
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
    CHECK_EQ(files(&compacted), 3); /* the reader uses none of them */
    CHECK_EQ(access("journal/compact.new", F_OK), -1);
    marks_check(g, g->journal, &r, end_of(g->journal, 8));
    vs_journal_close(reader);
    ground_end(g);
    free(g);
}

static int open_fails(ground *g) {
    vs_journal_options o = {.owner = 1, .segment_bytes = SEGMENT};
    vs_journal *j;
    memcpy(o.uuid, ground_uuid, sizeof o.uuid);
    int r = vs_journal_open(g->store, &o, &j);
    if (r == 0) CHECK_EQ(vs_journal_close(j), 0);
    return r;
}

/* Names that say another thing than the files; the compacted one missing; a range that two claim. */
static void wrong_files_are_refused(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    vs_fault fault;
    CHECK(g != NULL);
    ground_begin(g, 6);
    grow(g, 17);
    roots_choose(g, 16, 4, &r);
    compact(g, 0, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    vs_segment_facts second;
    CHECK_EQ(vs_journal_segment_at(g->journal, 1, &second), 0);
    CHECK_EQ(vs_journal_close(g->journal), 0);
    char one[80], other[80];
    snprintf(one, sizeof one, "journal/%020d-1.seg", 1);
    CHECK_EQ(rename(one, "aside"), 0);
    CHECK_EQ(open_fails(g), -EUCLEAN);
    vs_fault_last(&fault);
    CHECK(strstr(fault.text, "first segment is missing") != NULL);
    snprintf(other, sizeof other, "journal/%020d-2.seg", 1);
    copy_file("aside", other);
    CHECK_EQ(open_fails(g), -EUCLEAN); /* another generation than it says */
    CHECK_EQ(rename(other, "journal/00000000000000000001.seg"), 0);
    CHECK_EQ(open_fails(g), -EPROTONOSUPPORT); /* what no segment of that name can be */
    CHECK_EQ(unlink("journal/00000000000000000001.seg"), 0);
    snprintf(other, sizeof other, "journal/%020llu-1.seg", (unsigned long long)second.first_seqno);
    copy_file("aside", other);
    CHECK_EQ(open_fails(g), -EUCLEAN);
    CHECK_EQ(unlink(other), 0);
    CHECK_EQ(rename("aside", one), 0);
    /* A plain file under a compacted one's name. */
    snprintf(one, sizeof one, "journal/%020llu.seg", (unsigned long long)second.first_seqno);
    copy_file(one, other);
    CHECK_EQ(open_fails(g), -EUCLEAN);
    CHECK_EQ(unlink(other), 0);
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
    marks_check(g, g->journal, &r, end_of(g->journal, 8));
    ground_end(g);
    free(g);
}

static void flip(const char *name, off_t at) {
    uint8_t byte;
    int file = open(name, O_RDWR);
    CHECK(file >= 0);
    CHECK_EQ(pread(file, &byte, 1, at), 1);
    byte ^= 1;
    CHECK_EQ(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static off_t length_of(const char *name) {
    struct stat st;
    CHECK_EQ(stat(name, &st), 0);
    return st.st_size;
}

/* A damaged trailer costs nothing: batches and header say the same, and the chain's digest the next segment. check finds it. */
static void a_trailer_that_is_damaged(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    vs_fault fault;
    uint64_t at = 0;
    char name[80];
    CHECK(g != NULL);
    ground_begin(g, 7);
    grow(g, 9);
    roots_choose(g, 8, 4, &r);
    compact(g, 0, 8, &r);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    CHECK_EQ(vs_journal_close(g->journal), 0);
    snprintf(name, sizeof name, "journal/%020d-1.seg", 1);
    flip(name, length_of(name) - 100);
    g->journal = ground_open(g->store, 1, SEGMENT, 0);
    marks_check(g, g->journal, &r, end_of(g->journal, 8));
    CHECK_EQ(vs_journal_check_segment(g->journal, 1, 1, &at, &fault), 1);
    CHECK(strstr(fault.text, "trailer is damaged") != NULL);
    ground_end(g);
    free(g);
}

static void *views_read(void *arg) {
    const ground *g = arg;
    uint64_t random = 99;
    vs_journal *reader = ground_open(g->store, 0, 0, 0);
    for (int round = 0; round < 120; round++) {
        vs_journal *j = round % 2 ? reader : g->journal;
        int i = (int)draw_below(&random, (uint64_t)(g->marks / 7)) * 7;
        if (round % 5 == 0) CHECK(vs_journal_refresh(reader) >= 0);
        CHECK_EQ(mark_reads(g, j, i), 0);
    }
    vs_journal_close(reader);
    return NULL;
}

/* Views of roots open and read while groups are compacted, files deleted and maps made. */
static void beside_readers(void) {
    ground *g = malloc(sizeof *g);
    roots r;
    pthread_t threads[3];
    CHECK(g != NULL);
    ground_begin(g, 8);
    grow(g, 65);
    roots_choose(g, 64, 7, &r);
    for (int i = 0; i < 3; i++) CHECK_EQ(pthread_create(&threads[i], NULL, views_read, g), 0);
    for (uint64_t first = 0; first < 64; first += 8) {
        compact(g, first, 8, &r);
        CHECK(vs_journal_superseded(g->journal) >= 0);
        CHECK(vs_journal_merge_maps(g->journal) >= 0);
    }
    compact(g, 0, 64, &r);
    for (int i = 0; i < 3; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_EQ(vs_journal_superseded(g->journal), 0);
    marks_check(g, g->journal, &r, end_of(g->journal, 64));
    ground_end(g);
    free(g);
}

static void in_directory_of_its_own(const char *name, void (*what)(void)) {
    CHECK_EQ(mkdir(name, 0700), 0);
    CHECK_EQ(chdir(name), 0);
    what();
    CHECK_EQ(chdir(".."), 0);
}

int main(void) {
    in_directory_of_its_own("follow", generations_follow_each_other);
    in_directory_of_its_own("keep", readers_keep_what_they_read);
    in_directory_of_its_own("others", other_processes_keep_what_they_read);
    in_directory_of_its_own("late", a_reader_that_comes_late);
    in_directory_of_its_own("events", events_go_on);
    in_directory_of_its_own("leftovers", leftovers_go);
    in_directory_of_its_own("wrong", wrong_files_are_refused);
    in_directory_of_its_own("trailer", a_trailer_that_is_damaged);
    in_directory_of_its_own("beside", beside_readers);
    return 0;
}
