/* fuzz_segment.c: a journal of a few segments, sealed or not, as it may come from elsewhere: opened, followed, read, checked, recovered.
 *
 * What must hold, besides that nothing crashes, hangs or grows:
 *   - what was read is what a second reader of the same bytes accepts (plain_reader.h): no record that is not there, none lost
 *   - where `check` finds segments sound, each volume reads at each point as a replay of the records gives it, or fails where a block does
 *     not match its checksum; it never reads as anything else
 *   - opened again it says the same
 *   - an owner opens what a reader opens, with the same records, and goes on behind them
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "codec.h"
#include "deadline.h"
#include "kernel_plan.h"
#include "memory_store.h"
#include "plain_reader.h"
#include "repair.h"
#include "require.h"
#include "view.h"

enum { BLOCK = 4096, POINTS_MAX = 6, PLACES_MAX = 6, ROWS_MAX = 258, STEPS_MAX = 64 };

static image input;
static plain_history history;
static int bases_needed; /* a compacted segment says so, and there are none here */

typedef struct journal_files {
    vs_store *store;
    vs_journal_options options;
    int sealed_last; /* the last file ends in a trailer that matches its CRC */
} journal_files;

/* Of a compacted segment; 0: it is none, or says so of none. */
static uint64_t generation_of(const uint8_t *file, size_t n) {
    return n >= BLOCK && vs_get32(file + 12) & 1 ? vs_get64(file + 120) : 0;
}

static uint64_t first_seqno_of(const uint8_t *file, size_t n, int i) {
    uint64_t seqno = n >= 56 ? vs_get64(file + 48) : (uint64_t)i + 1;
    return seqno;
}

/* A trailer counts that matches its CRC, has a record before it, and names nothing that is not between the batches and itself. */
static int is_sealed(const uint8_t *file, size_t n) {
    const uint8_t *t = file + n - BLOCK;
    if (n < 2 * BLOCK || n % BLOCK || memcmp(t, "VSNAPEND", 8) != 0 || vs_get32(t + 4092) != vs_crc32c(t, 4092)) return 0;
    uint64_t end = vs_get64(t + 64), limit = n - BLOCK;
    int sound = end % BLOCK == 0 && end >= 2 * BLOCK && end <= limit && vs_get64(t + 48) >= vs_get64(t + 40) && vs_get64(t + 48) < UINT64_MAX;
    int compacted = generation_of(file, n) != 0;
    if (compacted) sound = sound && vs_get64(t + 376) >= vs_get64(t + 48);
    for (int i = 0; i < 5 + compacted; i++) {
        const uint8_t *entry = t + (i < 5 ? 144 + i * 24 : 344);
        uint64_t at = vs_get64(entry), length = vs_get64(entry + 8);
        sound = sound && at >= end && at <= limit && length <= limit - at;
    }
    return sound;
}

static journal_files files_put(void) {
    journal_files j = {.store = memory_store_new()};
    for (int i = 0; i < input.files; i++) {
        size_t n;
        char name[64];
        const uint8_t *file = image_file(&input, i, &n);
        uint64_t generation = generation_of(file, n);
        if (generation) snprintf(name, sizeof name, "journal/%020" PRIu64 "-%" PRIu64 ".seg", first_seqno_of(file, n, i), generation);
        else snprintf(name, sizeof name, "journal/%020" PRIu64 ".seg", first_seqno_of(file, n, i));
        memory_store_put(j.store, name, file, n);
        if (i == 0 && n >= 40) memcpy(j.options.uuid, file + 24, 16);
    }
    return j;
}

/* The history as the second reader has it. 1: it is whole: every file parsed to its end. */
static int history_read(void) {
    uint64_t next = 1;
    plain_begin(&history, 0, 0);
    bases_needed = 0;
    for (int i = 0; i < input.files; i++) {
        size_t n;
        const uint8_t *file = image_file(&input, i, &n);
        if (n < BLOCK || first_seqno_of(file, n, i) != next) return 0;
        int sealed = is_sealed(file, n);
        const uint8_t *t = file + n - BLOCK;
        uint64_t data_end = sealed ? vs_get64(t + 64) : n;
        if (data_end > n) return 0;
        history.at.last_time_ns = vs_get64(sealed ? t + 264 : file + 64);
        history.at.last_seqno = next - 1;
        bases_needed |= generation_of(file, n) && vs_get64(sealed ? t + 304 : file + 136);
        size_t end = plain_segment(&history, file, (size_t)data_end, !sealed);
        if (sealed && (end != data_end || history.at.last_seqno != vs_get64(t + 48))) return 0;
        if (!sealed && i + 1 < input.files) return 0;
        next = history.at.last_seqno + 1;
    }
    return !history.overflow;
}

static uint64_t first_of(vs_journal *j, uint64_t index) {
    vs_segment_facts s = {0};
    vs_journal_segment_at(j, index, &s);
    return s.first_seqno;
}

static int checks(vs_journal *j, int read_payload) {
    vs_journal_facts facts;
    int sound = 1;
    vs_journal_facts_get(j, &facts);
    for (uint64_t i = 0; i < facts.segments; i++) {
        uint64_t at = 0;
        vs_fault fault;
        for (int step = 0;; step++) {
            uint64_t before = at;
            int r = vs_journal_check_segment(j, first_of(j, i), read_payload, &at, &fault);
            REQUIRE(step < 1000, "check comes to an end");
            if (r == 0) break;
            sound = 0;
            if (r < 0 || at == 0) break;
            REQUIRE(at > before, "check goes on behind what it found");
        }
    }
    return sound;
}

static void follow(vs_journal *j, int exact) {
    vs_journal_row *rows = malloc(ROWS_MAX * sizeof *rows);
    vs_event_cursor cursor = {0};
    vs_event event;
    uint8_t body[64];
    uint64_t after = 0, time_ns, seqno;
    for (int n, step = 0; step < STEPS_MAX && (n = vs_journal_rows(j, after, rows, ROWS_MAX)) > 0; step++) {
        REQUIRE(n <= ROWS_MAX, "rows fit");
        for (int i = 0; i < n && exact; i++) REQUIRE(rows[i].seqno > after, "rows come after what was asked");
        after = rows[n - 1].seqno;
    }
    for (int step = 0; step < STEPS_MAX && vs_journal_next_event(j, &cursor, &event, body, sizeof body) == 1; step++) {
        if (vs_journal_time_of(j, event.seqno, &time_ns) == 0 && vs_journal_seqno_at(j, event.time_ns, &seqno) == 0 && exact)
            REQUIRE(time_ns == event.time_ns && seqno == event.seqno, "an event's time and seqno name each other");
    }
    free(rows);
}

/* One place of one view, against the replay. exact: the maps are those of the batches. */
static void place_compare(vs_view *v, uint32_t volume, uint64_t seqno, uint64_t offset_bytes, int exact) {
    uint8_t read[BLOCK], want[BLOCK];
    uint64_t size = vs_view_size(v), length = sizeof read;
    if (offset_bytes >= size) offset_bytes = size > 100 ? size - 100 : 0;
    if (size - offset_bytes < length) length = size - offset_bytes;
    int64_t n = vs_view_read(v, offset_bytes, read, sizeof read);
    REQUIRE(n < 0 || (uint64_t)n == length, "a read is as long as the volume lets it");
    if (!exact) return;
    int broken = plain_read(&history, volume, seqno, offset_bytes, want, (size_t)length);
    if (broken) return; /* a block that is read along with what is wanted may fail it too */
    REQUIRE(n >= 0 || n == -EBADMSG, "reading fails by checksums only");
    for (int64_t i = 0; i < n; i++)
        if (read[i] != want[i]) {
            fprintf(stderr, "volume %" PRIu32 " at @%" PRIu64 ", offset %" PRIu64 ": %02x, not %02x\n", volume, seqno, offset_bytes + (uint64_t)i, read[i],
                    want[i]);
            break;
        }
    if (n > 0) REQUIRE(memcmp(read, want, (size_t)n) == 0, "a view reads what the records say");
}

static void view_walk(vs_view *v) {
    vs_run runs[16];
    vs_volume_state state;
    uint64_t next = 0;
    vs_kernel_plan plan;
    for (int step = 0; step < STEPS_MAX && vs_view_runs(v, next, step % 2, runs, 16, &next) > 0; step++) {}
    vs_view_stat(v, &state);
    if (vs_kernel_plan_make(&plan, v, 1000, VS_DEADLINE_NEVER) == 0) vs_kernel_plan_number(&plan);
    vs_kernel_plan_end(&plan);
}

static void view_compare(vs_journal *j, uint32_t volume, uint64_t seqno, int exact) {
    vs_view *v;
    uint64_t size = 0;
    int r = vs_view_open(j, volume, seqno, &v), there = plain_volume(&history, volume, seqno, &size);
    if (exact) REQUIRE((r == -ERANGE) == !plain_point(&history, seqno), "points can be opened as the records say");
    if (exact && r != -ERANGE) REQUIRE(r == 0 ? there : r == -ENOENT && !there, "volumes are there as the records say");
    if (r < 0) return;
    if (exact) REQUIRE(vs_view_size(v) == size, "volumes are as large as the records say");
    place_compare(v, volume, seqno, 0, exact);
    for (size_t i = 0, places = 0; i < history.at.count && places < PLACES_MAX; i++) {
        const plain_record *p = &history.records[history.at.count - 1 - i];
        if (p->volume != volume || p->type > 4) continue;
        place_compare(v, volume, seqno, p->type == 3 ? 1000 : p->a, exact);
        places++;
    }
    view_walk(v);
    vs_view_close(v);
    if (seqno > 1 && vs_view_open_changes(j, volume, seqno / 2, seqno, &v) == 0) {
        view_walk(v);
        vs_view_close(v);
    }
}

static void views(vs_journal *j, int exact) {
    vs_journal_facts facts;
    vs_journal_facts_get(j, &facts);
    for (uint64_t i = 0; i < POINTS_MAX; i++) {
        uint64_t back = i * (1 + facts.committed_seqno / POINTS_MAX);
        if (back >= facts.committed_seqno) break;
        for (uint32_t volume = 1; volume <= 3; volume++) view_compare(j, volume, facts.committed_seqno - back, exact);
    }
}

static int open_journal(const journal_files *f, int owner, vs_journal **out) {
    vs_journal_options o = f->options;
    o.owner = owner;
    o.batch_bytes = 64 << 10;
    o.segment_bytes = 64 << 10;
    return vs_journal_open(f->store, &o, out);
}

/* Returns what opening said; facts of it. */
static int read_all(const journal_files *f, int whole, vs_journal_facts *facts) {
    vs_journal *j;
    int r = open_journal(f, 0, &j);
    memset(facts, 0, sizeof *facts);
    if (r < 0) return r;
    vs_journal_facts_get(j, facts);
    int sound = checks(j, 0);
    checks(j, 1);
    int exact = sound && whole && !bases_needed;
    if (exact) REQUIRE(facts->last_seqno == history.at.last_seqno, "records are those that a second reader accepts");
    follow(j, exact && plain_points_agree(&history));
    views(j, exact);
    REQUIRE(vs_journal_refresh(j) <= 0, "nothing new comes where nothing was written");
    REQUIRE(vs_journal_close(j) == 0, "a reader closes");
    return r;
}

static void same(const vs_journal_facts *a, const vs_journal_facts *b) {
    REQUIRE(a->last_seqno == b->last_seqno && a->committed_seqno == b->committed_seqno && a->applied_seqno == b->applied_seqno &&
                a->last_time_ns == b->last_time_ns && a->segments == b->segments && a->journal_bytes == b->journal_bytes,
            "opened again it is the same");
}

static void show_fault(void) {
    vs_fault fault;
    vs_fault_last(&fault);
    fprintf(stderr, "%d: %s\n", fault.code, fault.text);
}

/* As the next server would: recover, go on, close; and read what it left. */
static void own(const journal_files *f, int reader, const vs_journal_facts *before) {
    vs_journal *j;
    vs_journal_facts facts;
    uint64_t seqno = 0;
    int r = open_journal(f, 1, &j);
    REQUIRE((r == 0) == (reader == 0), "an owner opens what a reader opens");
    if (r < 0) return;
    vs_journal_facts_get(j, &facts);
    REQUIRE(facts.last_seqno == before->last_seqno, "recovery keeps every record");
    int appended = vs_journal_event(j, VS_RECORD_BOOKMARK_ADD, 0, 0, 0, "{}", 2, &seqno, NULL) == 0 && vs_journal_commit(j) == 0;
    REQUIRE(appended || before->last_time_ns > UINT64_MAX / 2 || before->last_seqno > UINT64_MAX / 2, "a recovered journal goes on");
    vs_journal_close(j);
    if (!appended) return;
    r = open_journal(f, 0, &j);
    if (r < 0) show_fault();
    REQUIRE(r == 0, "what an owner has left can be opened");
    vs_journal_facts_get(j, &facts);
    REQUIRE(facts.last_seqno == seqno && seqno == before->last_seqno + 1, "what was committed is there");
    REQUIRE(vs_journal_close(j) == 0, "a reader closes");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    vs_journal_facts first, again;
    image_decode(&input, data, size);
    int whole = history_read();
    journal_files f = files_put();
    int r = read_all(&f, whole, &first);
    vs_journal *j;
    int r_again = open_journal(&f, 0, &j);
    REQUIRE(r_again == r, "opened again it says the same");
    if (r == 0) {
        vs_journal_facts_get(j, &again);
        vs_journal_close(j);
        same(&first, &again);
    }
    if (vs_crc32c(data, size) % 8 == 0) own(&f, r, &first);
    vs_store_close(f.store);
    return 0;
}

static void repair(image *m, uint32_t *state) {
    uint8_t digest[32];
    for (int i = 0; i < m->files; i++) {
        size_t n;
        uint8_t *file = image_file(m, i, &n);
        repair_segment(file, n, i ? digest : NULL, digest, state);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    return fuzz_mutate_image(data, size, room, seed, repair);
}
