/* fault_scenarios.c: what is done while calls fail. Each act does one thing that users, or the server, do; one that reads compares what it
 * was given. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compact.h"
#include "erofs_image.h"
#include "fault_ground.h"
#include "fault_shim.h"
#include "kernel_plan.h"

#define TRY(step)                    \
    do {                             \
        int tried = (int)(step);     \
        if (tried < 0) return tried; \
    } while (0)

static plain_history *history(fault_ground *g) {
    return &g->history;
}

/* Without primaries: they get all of it when they are attached. */
static int owner(fault_ground *g) {
    TRY(ground_open(g, 1));
    vs_journal_hold_applied(g->journal);
    return 0;
}

/* ---- setups ---- */

static int with_journal(fault_ground *g) {
    TRY(vs_journal_create(g->store, fault_uuid));
    return 0;
}

static int volumes_add(fault_ground *g) {
    TRY(plain_event(history(g), g->journal, VS_RECORD_VOLUME_ADD, 1, 512, VOLUME_1));
    TRY(plain_event(history(g), g->journal, VS_RECORD_VOLUME_ADD, 2, 512, VOLUME_2));
    return 0;
}

static int steps(fault_ground *g, int count) {
    for (int i = 0; i < count; i++) {
        uint32_t volume = 1 + (uint32_t)plain_below(&g->rng, 2);
        TRY(plain_step(history(g), g->journal, volume, volume == 1 ? VOLUME_1 : VOLUME_2, &g->rng));
    }
    return 0;
}

static int mark(fault_ground *g) {
    TRY(plain_event(history(g), g->journal, VS_RECORD_BOOKMARK_ADD, 0, 0, 0));
    return plain_commit(history(g), g->journal);
}

/* Two volumes, a few batches, all of it on the primaries. */
static int with_volumes(fault_ground *g) {
    TRY(with_journal(g));
    TRY(ground_open(g, 1));
    TRY(volumes_add(g));
    TRY(ground_attach(g, 1));
    TRY(ground_attach(g, 2));
    for (int i = 0; i < 3; i++) {
        TRY(steps(g, 3));
        TRY(mark(g));
    }
    return ground_close(g);
}

/* Sealed segments and one that is not; the primaries have none of it. */
static int sealed(fault_ground *g, int segments, int each) {
    TRY(with_journal(g));
    TRY(owner(g));
    TRY(volumes_add(g));
    for (int i = 0; i < segments; i++) {
        TRY(steps(g, each));
        TRY(mark(g));
        TRY(vs_journal_seal(g->journal));
    }
    TRY(steps(g, each));
    return mark(g);
}

static int with_segments(fault_ground *g) {
    TRY(sealed(g, 3, 4));
    return ground_close(g);
}

static int with_eight_segments(fault_ground *g) {
    TRY(sealed(g, 8, 2));
    return ground_close(g);
}

static int with_map(fault_ground *g) {
    TRY(sealed(g, 9, 2));
    for (int r = 1; r > 0;) {
        r = vs_journal_merge_maps(g->journal);
        TRY(r);
    }
    return ground_close(g);
}

static int with_sixty_four_segments(fault_ground *g) {
    TRY(sealed(g, 64, 1));
    for (int i = 0; i < 8; i++) TRY(vs_journal_merge_maps(g->journal));
    return ground_close(g);
}

static int segment_file(const fault_ground *g, uint64_t first_seqno, int flags) {
    char name[64];
    snprintf(name, sizeof name, "journal/%020" PRIu64 ".seg", first_seqno);
    int file = openat(g->dir, name, flags);
    return file < 0 ? -errno : file;
}

/* The one that begins last, but not after `from`. */
static int segment_before(const fault_ground *g, uint64_t from) {
    int file = -ENOENT;
    for (; file < 0 && from > 0; from--) file = segment_file(g, from, O_RDWR);
    return file;
}

static int shorten(int file, int64_t by) {
    struct stat st;
    int r = fstat(file, &st) < 0 || ftruncate(file, st.st_size - by) < 0 ? -errno : 0;
    close(file);
    return r;
}

/* A machine stopped while a batch was written: its descriptor is there and not all of its payload. */
static int torn(fault_ground *g) {
    TRY(owner(g));
    TRY(steps(g, 2));
    TRY(plain_commit(history(g), g->journal));
    uint64_t durable = g->history.durable;
    TRY(plain_write(history(g), g->journal, 1, 5000, 30000));
    TRY(ground_close(g));
    g->history.durable = durable;
    int file = segment_before(g, g->history.count);
    TRY(file);
    return shorten(file, 9000);
}

static int with_torn_tail(fault_ground *g) {
    g->segment_bytes = 1 << 20;
    TRY(with_volumes(g));
    return torn(g);
}

/* The footer of the last segment was being written. */
static int with_half_a_seal(fault_ground *g) {
    TRY(sealed(g, 1, 4));
    TRY(vs_journal_seal(g->journal));
    TRY(ground_close(g));
    char name[64];
    snprintf(name, sizeof name, "journal/%020" PRIu64 ".seg", g->history.count + 1);
    if (unlinkat(g->dir, name, 0) < 0) return -errno;
    int file = segment_before(g, g->history.count);
    TRY(file);
    return shorten(file, VS_BLOCK);
}

/* A worker was killed with records that it had answered and not written. */
static int killed_worker(fault_ground *g, int batches) {
    g->segment_bytes = g->batch_bytes = 1 << 20; /* nothing is written out early: its memory is copied while it lives */
    TRY(with_volumes(g));
    g->keep_fd = vs_keep_make();
    TRY(g->keep_fd);
    TRY(vs_keep_open(g->keep_fd, &g->keep));
    TRY(owner(g));
    TRY(steps(g, 3));
    if (batches > 1) TRY(plain_commit(history(g), g->journal));
    TRY(steps(g, 3));
    /* Its memory as it would be found: the journal in the directory is the one before. */
    fault_ground copy = *g;
    int from = g->keep_fd;
    int to = vs_keep_make();
    TRY(to);
    struct stat st;
    TRY(fstat(from, &st));
    TRY(ftruncate(to, st.st_size));
    static uint8_t bytes[1 << 16];
    for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
        off_t end = lseek(from, at, SEEK_HOLE);
        for (ssize_t n; at < end; at += n) {
            n = pread(from, bytes, end - at < (off_t)sizeof bytes ? (size_t)(end - at) : sizeof bytes, at);
            if (n <= 0 || pwrite(to, bytes, (size_t)n, at) != n) return -EIO;
        }
    }
    uint64_t answered = g->history.count, durable = g->history.durable;
    int file = segment_before(g, answered);
    TRY(file);
    TRY(fstat(file, &st));
    TRY(ground_close(&copy));
    TRY(ftruncate(file, st.st_size)); /* what the close wrote, and no killed process would have */
    close(file);
    g->journal = NULL;
    g->history.count = answered;
    g->history.durable = durable;
    vs_keep_close(g->keep);
    close(g->keep_fd);
    g->keep = NULL;
    g->keep_fd = to;
    return 0;
}

static int with_killed_worker(fault_ground *g) {
    return killed_worker(g, 1);
}

static int with_killed_worker_of_two_batches(fault_ground *g) {
    return killed_worker(g, 2);
}

static int base_files(fault_ground *g, int *source, int *image, int *index) {
    static uint8_t bytes[VOLUME_1];
    plain_fill(g->seed, 0, bytes, sizeof bytes);
    *source = openat(g->dir, "primary/source", O_RDWR | O_CREAT, 0600);
    *image = openat(g->dir, "base/00000001.img", O_RDWR | O_CREAT | O_TRUNC, 0600);
    *index = openat(g->dir, "base/00000001.idx", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (*source < 0 || *image < 0 || *index < 0) return -errno;
    return pwrite(*source, bytes, sizeof bytes, 0) == sizeof bytes ? 0 : -EIO;
}

static int base_make(fault_ground *g, int source, int image, int index) {
    vs_base_builder *b;
    uint64_t data_bytes;
    TRY(vs_base_builder_new(g->store, fault_uuid, 1, VOLUME_1, source, image, index, &b));
    int r = vs_base_builder_take(b, 0, 65536, 1);
    if (r == 0) r = vs_base_builder_take(b, 65536, VOLUME_1 - 65536, 1);
    if (r == 0) r = vs_base_builder_finish(b, &data_bytes);
    vs_base_builder_free(b);
    return r;
}

static int with_base(fault_ground *g) {
    int source, image, index;
    TRY(base_files(g, &source, &image, &index));
    int r = base_make(g, source, image, index);
    static uint8_t bytes[VOLUME_1];
    if (r == 0 && (pread(source, bytes, sizeof bytes, 0) < 0 || pwrite(g->primaries[1], bytes, sizeof bytes, 0) < 0)) r = -EIO;
    close(source);
    close(image);
    close(index);
    g->history.base_bytes = VOLUME_1;
    TRY(r);
    TRY(sealed(g, 2, 4));
    return ground_close(g);
}

/* A byte of each footer's first section. */
static int with_damaged_footers(fault_ground *g) {
    g->damaged = 1;
    TRY(sealed(g, 3, 4));
    TRY(ground_close(g));
    for (uint64_t at = 1; at <= g->history.count; at++) {
        uint8_t trailer[VS_BLOCK], byte;
        struct stat st;
        int file = segment_file(g, at, O_RDWR);
        if (file < 0) continue;
        TRY(fstat(file, &st));
        int is_sealed = pread(file, trailer, VS_BLOCK, st.st_size - VS_BLOCK) == VS_BLOCK && memcmp(trailer, "VSNAPEND", 8) == 0;
        for (int i = 0; is_sealed && i < 2; i++) {
            uint64_t position;
            memcpy(&position, trailer + 144 + i * 24, sizeof position);
            TRY(pread(file, &byte, 1, (off_t)position + 9));
            byte ^= 4;
            TRY(pwrite(file, &byte, 1, (off_t)position + 9));
        }
        close(file);
    }
    return 0;
}

/* ---- ready: after the copy, before calls fail ---- */

static int reader(fault_ground *g) {
    return ground_open(g, 0);
}

static int owner_with_primaries(fault_ground *g) {
    TRY(ground_open(g, 1));
    TRY(ground_attach(g, 1));
    return ground_attach(g, 2);
}

static int owner_acks_journal(fault_ground *g) {
    g->ack_journal = 1;
    return owner_with_primaries(g);
}

/* ---- acts: writing ---- */

static int create(fault_ground *g) {
    int r = vs_journal_create(g->store, fault_uuid);
    g->scratch[0] = r == 0;
    return r;
}

static int reopen(fault_ground *g) {
    TRY(ground_open(g, 1));
    return ground_close(g);
}

static int add_volumes(fault_ground *g) {
    TRY(owner(g));
    TRY(volumes_add(g));
    TRY(plain_commit(history(g), g->journal));
    return ground_close(g);
}

static int append_small(fault_ground *g) {
    TRY(plain_write(history(g), g->journal, 1, 4096, 512));
    return plain_commit(history(g), g->journal);
}

static int append_large(fault_ground *g) {
    TRY(plain_write(history(g), g->journal, 1, 3000 + g->seed % 5000, 190000));
    TRY(plain_commit(history(g), g->journal));
    return ground_close(g);
}

static int append_unaligned(fault_ground *g) {
    for (uint64_t i = 0; i < 4; i++) TRY(plain_write(history(g), g->journal, 2, 4095 * (i + 1) + g->seed % 77, 4100 + 1000 * i));
    return plain_commit(history(g), g->journal);
}

static int append_zeros(fault_ground *g) {
    TRY(plain_zero(history(g), g->journal, 1, 100, 50000));
    TRY(plain_write(history(g), g->journal, 1, 20000, 60000)); /* some blocks of it are zeros */
    TRY(plain_zero(history(g), g->journal, 2, 0, VOLUME_2));
    return plain_commit(history(g), g->journal);
}

static int append_past_the_batch(fault_ground *g) {
    TRY(steps(g, 20));
    return ground_close(g);
}

static int commit_often(fault_ground *g) {
    for (int i = 0; i < 6; i++) {
        TRY(plain_write(history(g), g->journal, 2, plain_below(&g->rng, VOLUME_2 - 600), 600));
        TRY(plain_commit(history(g), g->journal));
    }
    return ground_close(g);
}

/* What the primary has after a durable request that nothing failed in. */
static void primary_has(fault_ground *g, uint32_t volume) {
    static uint8_t bytes[PLAIN_BYTES_MAX];
    vs_journal_facts f;
    vs_journal_facts_get(g->journal, &f);
    plain_begin(history(g), g->state);
    while (g->state->seqno < g->history.count) plain_advance(history(g), g->state);
    const plain_volume *v = &g->state->volumes[volume - 1];
    if (f.failed_volume || !v->there) return;
    if (pread(g->primaries[volume], bytes, v->size_bytes, 0) != (ssize_t)v->size_bytes || memcmp(bytes, v->bytes, v->size_bytes) != 0)
        fault_wrong(g, "a durable request was answered, and the primary of volume %u has not got it", volume);
}

static int commit_two_volumes(fault_ground *g) {
    for (int i = 0; i < 2; i++) {
        TRY(plain_write(history(g), g->journal, 1, 8192 + 5 * (uint64_t)i, 9000));
        TRY(plain_write(history(g), g->journal, 2, 100, 5000));
        TRY(plain_commit(history(g), g->journal));
    }
    fault_disarm();
    primary_has(g, 1);
    primary_has(g, 2);
    return 0;
}

static int commit_and_close(fault_ground *g) {
    TRY(commit_two_volumes(g));
    return ground_close(g);
}

static int zeros_to_primaries(fault_ground *g) {
    TRY(plain_zero(history(g), g->journal, 1, 4096, 65536));
    TRY(plain_zero(history(g), g->journal, 2, 7, 4000));
    TRY(plain_commit(history(g), g->journal));
    return ground_close(g);
}

static int seal(fault_ground *g) {
    TRY(steps(g, 3));
    return vs_journal_seal(g->journal);
}

static int seal_and_close(fault_ground *g) {
    TRY(vs_journal_seal(g->journal));
    return ground_close(g);
}

static int seal_and_go_on(fault_ground *g) {
    for (int i = 0; i < 3; i++) {
        TRY(steps(g, 2));
        int r = vs_journal_seal(g->journal);
        if (r < 0 && r != -EAGAIN) return r;
    }
    TRY(plain_commit(history(g), g->journal));
    return ground_close(g);
}

static int seal_by_size(fault_ground *g) {
    TRY(steps(g, 30));
    TRY(plain_commit(history(g), g->journal));
    return ground_close(g);
}

static int merge_maps(fault_ground *g) {
    int r = 1;
    while (r > 0) r = vs_journal_merge_maps(g->journal);
    return r;
}

/* The first eight segments into one that keeps every point. */
static int compact_all(fault_ground *g) {
    static uint64_t points[PLAIN_RECORDS_MAX];
    vs_compact_facts facts;
    for (uint64_t i = 0; i < history(g)->durable; i++) points[i] = i + 1;
    int r = vs_journal_compact(g->journal, 0, 8, points, history(g)->durable, NULL, 0, &facts);
    TRY(r);
    if (r != 1) fault_wrong(g, "eight segments that can be compacted were not");
    return 0;
}

/* Whatever fails of it, all is there as before, in this process and for those that come. */
static int compact(fault_ground *g) {
    char why[256];
    int r = compact_all(g);
    fault_disarm();
    if (plain_verify(history(g), g->state, g->journal, 8, why)) fault_wrong(g, "after a compaction that was answered with %d: %s", r, why);
    int again = compact_all(g);
    if (again < 0) fault_wrong(g, "the next compaction: %s", strerror(-again));
    return r;
}

/* All of it is on the primaries. */
static int compact_ready(fault_ground *g) {
    TRY(owner_with_primaries(g));
    TRY(steps(g, 1));
    return plain_commit(history(g), g->journal);
}

/* Compacted, and its files not deleted yet. */
static int compacted_ready(fault_ground *g) {
    TRY(compact_ready(g));
    return compact_all(g);
}

static int superseded(fault_ground *g) {
    int left = vs_journal_superseded(g->journal);
    fault_disarm();
    if (left > 0) fault_wrong(g, "%d files are left that nobody reads", left);
    if (left < 0 && vs_journal_superseded(g->journal) != 0) fault_wrong(g, "files are left after a deletion that failed");
    return left;
}

static int resize_and_remove(fault_ground *g) {
    TRY(plain_event(history(g), g->journal, VS_RECORD_VOLUME_RESIZE, 2, 0, 50000));
    TRY(plain_commit(history(g), g->journal));
    TRY(plain_event(history(g), g->journal, VS_RECORD_VOLUME_RESIZE, 2, 0, VOLUME_2));
    TRY(plain_event(history(g), g->journal, VS_RECORD_VOLUME_ADD, 3, 512, VOLUME_3));
    TRY(plain_write(history(g), g->journal, 3, 10, 700));
    TRY(plain_event(history(g), g->journal, VS_RECORD_VOLUME_REMOVE, 3, 0, 0));
    TRY(plain_commit(history(g), g->journal));
    return ground_close(g);
}

static int bookmarks(fault_ground *g) {
    TRY(plain_event(history(g), g->journal, VS_RECORD_BOOKMARK_ADD, 0, 3, 0));
    TRY(plain_event(history(g), g->journal, VS_RECORD_BOOKMARK_HOLD, 0, 1, 0));
    TRY(plain_commit(history(g), g->journal));
    TRY(plain_event(history(g), g->journal, VS_RECORD_BOOKMARK_HOLD, 0, 0, 0));
    TRY(plain_event(history(g), g->journal, VS_RECORD_BOOKMARK_REMOVE, 0, 3, 0));
    return plain_commit(history(g), g->journal);
}

static int attach(fault_ground *g) {
    TRY(ground_attach(g, 1));
    TRY(ground_attach(g, 2));
    fault_disarm();
    primary_has(g, 1);
    primary_has(g, 2);
    return 0;
}

static int detach(fault_ground *g) {
    TRY(plain_write(history(g), g->journal, 1, 30, 9000));
    int r = vs_journal_detach_primary(g->journal, 1);
    vs_journal_facts f;
    vs_journal_facts_get(g->journal, &f);
    if (r == 0 && f.committed_seqno > g->history.durable) g->history.durable = f.committed_seqno;
    TRY(r);
    fault_disarm();
    primary_has(g, 1);
    return 0;
}

/* ---- acts: opening after something ---- */

static int open_reader(fault_ground *g) {
    TRY(ground_open(g, 0));
    return 0;
}

static int recover(fault_ground *g) {
    TRY(ground_open(g, 1));
    return 0;
}

static int recover_and_attach(fault_ground *g) {
    TRY(ground_open(g, 1));
    TRY(ground_attach(g, 1));
    TRY(ground_attach(g, 2));
    return ground_close(g);
}

/* ---- acts: reading ---- */

static int reader_beside(fault_ground *g) {
    g->thing = g->journal;
    TRY(ground_open(g, 0));
    vs_journal *reads = g->journal;
    g->journal = g->thing;
    g->thing = reads;
    return 0;
}

/* An owner in the same directory, whose own calls do not fail. */
static int follow_ready(fault_ground *g) {
    TRY(owner(g));
    TRY(reader_beside(g));
    TRY(steps(g, 4));
    TRY(plain_commit(history(g), g->journal));
    return 0;
}

static int follow_over_a_seal_ready(fault_ground *g) {
    TRY(follow_ready(g));
    TRY(vs_journal_seal(g->journal));
    TRY(steps(g, 2));
    return plain_commit(history(g), g->journal);
}

static int follow_over_a_compaction_ready(fault_ground *g) {
    TRY(compact_ready(g));
    TRY(reader_beside(g));
    return compact_all(g);
}

static int follow(fault_ground *g) {
    vs_journal *reads = g->thing;
    int r = vs_journal_refresh(reads);
    fault_disarm();
    char why[256];
    if (r == 1 && plain_verify(history(g), g->state, reads, UINT64_MAX, why)) fault_wrong(g, "after a refresh: %s", why);
    /* What failed once is done the next time. */
    int again = vs_journal_refresh(reads);
    if (again < 0) fault_wrong(g, "a refresh after one that failed: %s", strerror(-again));
    else if (plain_verify(history(g), g->state, reads, UINT64_MAX, why)) fault_wrong(g, "after the next refresh: %s", why);
    return r;
}

static void follow_end(fault_ground *g) {
    if (g->thing) vs_journal_close(g->thing);
    g->thing = NULL;
}

/* The states at the end, and at a point in the middle. */
static const plain_volume *volume_at(fault_ground *g, uint64_t seqno, uint32_t volume) {
    plain_begin(history(g), g->state);
    while (g->state->seqno < seqno) plain_advance(history(g), g->state);
    return &g->state->volumes[volume - 1];
}

static uint8_t room[PLAIN_BYTES_MAX];

static int read_range(fault_ground *g, vs_view *v, const plain_volume *want, uint64_t at, uint64_t length) {
    int64_t n = vs_view_read(v, at, room, length);
    if (n < 0) return (int)n;
    uint64_t end = at + length < want->size_bytes ? at + length : want->size_bytes;
    if ((uint64_t)n != end - at || memcmp(room, want->bytes + at, (size_t)n) != 0)
        fault_wrong(g, "a read of %" PRIu64 " bytes at %" PRIu64 " was answered wrong", length, at);
    return 0;
}

static int read_at(fault_ground *g, uint64_t seqno) {
    int r = 0;
    for (uint32_t volume = 1; r == 0 && volume <= 2; volume++) {
        const plain_volume *want = volume_at(g, seqno, volume);
        vs_view *v;
        r = vs_view_open(g->journal, volume, seqno, &v);
        if (r < 0) return r;
        if (vs_view_size(v) != want->size_bytes) fault_wrong(g, "a view has the wrong size");
        r = read_range(g, v, want, 0, sizeof room);
        for (int i = 0; r == 0 && i < 6; i++) {
            uint64_t at = plain_below(&g->rng, want->size_bytes), length = 1 + plain_below(&g->rng, i < 3 ? 9000 : 80000);
            r = read_range(g, v, want, at, length);
        }
        vs_view_close(v);
    }
    return r;
}

static int read_latest(fault_ground *g) {
    return read_at(g, g->history.count);
}

static int read_old(fault_ground *g) {
    return read_at(g, g->history.count / 2);
}

static int open_and_read(fault_ground *g) {
    TRY(ground_open(g, 0));
    return read_at(g, g->history.count * 3 / 4);
}

static int runs_and_stat(fault_ground *g) {
    const plain_volume *want = volume_at(g, g->history.count, 1);
    vs_run runs[64];
    vs_volume_state st;
    vs_view *v;
    TRY(vs_view_open(g->journal, 1, g->history.count, &v));
    int r = vs_view_stat(v, &st);
    if (r == 0 && st.size_bytes != want->size_bytes) fault_wrong(g, "stat of a view is wrong");
    uint64_t data = 0, at = 0, next;
    for (int n = 1; r == 0 && n > 0; at = next) {
        n = vs_view_runs(v, at, 0, runs, 64, &next);
        if (n < 0) r = n;
        for (int i = 0; i < n; i++) {
            data += runs[i].kind == VS_RUN_DATA ? runs[i].length_bytes : 0;
            for (uint64_t k = runs[i].offset_bytes; runs[i].kind != VS_RUN_DATA && k < runs[i].offset_bytes + runs[i].length_bytes; k++)
                if (want->bytes[k]) fault_wrong(g, "a run says zeros where there is data");
        }
    }
    if (r == 0 && data != st.data_bytes) fault_wrong(g, "stat counts %" PRIu64 " bytes of data, runs %" PRIu64, st.data_bytes,
                                                     data);
    vs_view_close(v);
    return r;
}

/* Where nothing changed, both ends have the same bytes; what changed reads as it is at the end. */
static int changes(fault_ground *g) {
    static uint8_t before[PLAIN_BYTES_MAX];
    uint64_t since = g->history.count / 3, until = g->history.count;
    memcpy(before, volume_at(g, since, 1)->bytes, VOLUME_1);
    const plain_volume *want = volume_at(g, until, 1);
    vs_run runs[64];
    vs_view *v;
    TRY(vs_view_open_changes(g->journal, 1, since, until, &v));
    int r = 0;
    uint64_t at = 0, next;
    for (int n = 1; r == 0 && n > 0; at = next) {
        n = vs_view_runs(v, at, 1, runs, 64, &next);
        if (n < 0) r = n;
        for (int i = 0; r == 0 && i < n; i++) {
            uint64_t from = runs[i].offset_bytes, length = runs[i].length_bytes;
            if (runs[i].kind == VS_RUN_HOLE && memcmp(before + from, want->bytes + from, length) != 0) fault_wrong(g, "a change is missing");
            if (runs[i].kind == VS_RUN_DATA) r = read_range(g, v, want, from, length);
        }
    }
    vs_view_close(v);
    return r;
}

static int rows(fault_ground *g) {
    vs_journal_row found[300];
    uint64_t after = 0;
    for (int n = 1; n > 0;) {
        n = vs_journal_rows(g->journal, after, found, 300);
        TRY(n);
        for (int i = 0; i < n; i++) {
            const plain_record *p = &g->history.records[found[i].seqno - 1];
            if (found[i].volume != p->volume || found[i].offset_bytes < p->a || found[i].offset_bytes + found[i].length_bytes > p->a + p->b)
                fault_wrong(g, "a row is not the record's");
            after = found[i].seqno;
        }
    }
    const plain_record *last = NULL;
    for (uint64_t i = 0; i < g->history.count; i++)
        if (g->history.records[i].type <= VS_RECORD_ZERO) last = &g->history.records[i];
    if (last && after != (uint64_t)(last - g->history.records) + 1) fault_wrong(g, "rows end too early, with @%" PRIu64, after);
    return 0;
}

static int events(fault_ground *g) {
    vs_event_cursor c = {0};
    vs_event e;
    char body[64];
    uint64_t seen = 0, want = 0;
    int r;
    while ((r = vs_journal_next_event(g->journal, &c, &e, body, sizeof body)) == 1) seen++;
    for (uint64_t i = 0; i < g->history.count; i++) want += g->history.records[i].type >= VS_RECORD_VOLUME_ADD;
    if (r == 0 && seen != want) fault_wrong(g, "%" PRIu64 " events of %" PRIu64, seen, want);
    return r;
}

static int times(fault_ground *g) {
    uint64_t time_ns, seqno;
    for (uint64_t at = 1; at <= g->history.count; at += 7) {
        TRY(vs_journal_time_of(g->journal, at, &time_ns));
        TRY(vs_journal_seqno_at(g->journal, time_ns, &seqno));
        if (seqno != at) fault_wrong(g, "the time of @%" PRIu64 " leads to @%" PRIu64, at, seqno);
    }
    return 0;
}

static int volume_states(fault_ground *g) {
    vs_volume_state st;
    for (uint64_t at = 2; at <= g->history.count; at += 5) {
        TRY(vs_journal_volume_at(g->journal, 2, at, &st));
        if (st.size_bytes != VOLUME_2 || st.added_seqno != 2) fault_wrong(g, "the state of a volume is wrong");
    }
    return 0;
}

static int read_live(fault_ground *g) {
    TRY(plain_write(history(g), g->journal, 1, 5000, 12345));
    TRY(plain_zero(history(g), g->journal, 1, 9000, 300));
    const plain_volume *want = volume_at(g, g->history.count, 1);
    int64_t n = vs_journal_read_live(g->journal, 1, 0, room, VOLUME_1);
    TRY(n);
    if (n != VOLUME_1 || memcmp(room, want->bytes, VOLUME_1) != 0) fault_wrong(g, "a read of the live volume was answered wrong");
    return 0;
}

/* As the plane uses it. */
static int live_file(fault_ground *g) {
    static uint8_t bytes[9000];
    vs_volume_file *f;
    TRY(vs_live_file(g->journal, 2, &f));
    plain_record p = {VS_RECORD_WRITE, 2, 6000, sizeof bytes, g->seed + 1000};
    plain_fill(p.content, p.a, bytes, p.b);
    int64_t r = f->write(f, p.a, bytes, p.b, 1, NULL);
    vs_journal_facts facts;
    vs_journal_facts_get(g->journal, &facts);
    if (facts.last_seqno == g->history.count + 1) plain_note(history(g), facts.last_seqno, &p);
    if (r >= 0) g->history.durable = g->history.count;
    if (r >= 0 && r != sizeof bytes) fault_wrong(g, "a write came out short");
    if (r >= 0) {
        fault_disarm();
        vs_journal_facts_get(g->journal, &facts);
        if (facts.failed_volume == 2) fault_wrong(g, "a durable write was answered, and its primary has failed");
        primary_has(g, 2);
        }
    f->release(f);
    return r < 0 ? (int)r : 0;
}

static int view_file(fault_ground *g) {
    const plain_volume *want = volume_at(g, g->history.count, 2);
    vs_view *v;
    vs_volume_file *f;
    TRY(vs_view_open(g->journal, 2, g->history.count, &v));
    int r = vs_view_file(v, &f);
    if (r < 0) {
        vs_view_close(v);
        return r;
    }
    int64_t n = f->read(f, 4000, room, 30000);
    if (n >= 0 && (n != 30000 || memcmp(room, want->bytes + 4000, 30000) != 0)) fault_wrong(g, "a file of a view read wrong");
    int64_t data = f->seek(f, 0, SEEK_DATA);
    f->release(f);
    return n < 0 ? (int)n : data < 0 && data != -ENXIO ? (int)data : 0;
}

/* ---- acts: bases, checks, keeps, kernel views, the plane's parts ---- */

static int base_ready(fault_ground *g) {
    int *files = (int *)g->scratch;
    return base_files(g, &files[0], &files[1], &files[2]);
}

static void base_end(fault_ground *g) {
    int *files = (int *)g->scratch;
    for (int i = 0; i < 3; i++) close(files[i]);
}

/* The base that was made is the volume's, byte for byte. */
static int base_built(fault_ground *g, int in_place) {
    int *files = (int *)g->scratch;
    TRY(base_make(g, in_place ? files[1] : files[0], in_place ? -1 : files[1], files[2]));
    fault_disarm();
    g->history.base_bytes = VOLUME_1;
    TRY(with_journal(g));
    TRY(ground_open(g, 1));
    TRY(volumes_add(g));
    TRY(plain_commit(history(g), g->journal));
    int n = read_at(g, 2);
    if (n < 0) fault_wrong(g, "a base that was built cannot be read: %s", strerror(-n));
    if (pwrite(g->primaries[1], volume_at(g, 2, 1)->bytes, VOLUME_1, 0) != VOLUME_1) return -EIO;
    return 0;
}

static int base_build(fault_ground *g) {
    return base_built(g, 0);
}

static int base_in_place_ready(fault_ground *g) {
    static uint8_t bytes[VOLUME_1];
    TRY(base_ready(g));
    plain_fill(g->seed, 0, bytes, sizeof bytes);
    return pwrite(((int *)g->scratch)[1], bytes, sizeof bytes, 0) == sizeof bytes ? 0 : -EIO;
}

static int base_build_in_place(fault_ground *g) {
    return base_built(g, 1);
}

/* Was it memory that failed, or the number of open files, and no read? */
static int is_about_us(void) {
    static const char *const reads[] = {"pread", "preadv2", "openat2", "fstat"};
    const char *struck = fault_struck();
    for (size_t i = 0; struck && i < sizeof reads / sizeof *reads; i++)
        if (strcmp(struck, reads[i]) == 0) return 0;
    return 1;
}

static uint64_t first_of(vs_journal *j, uint64_t index) {
    vs_segment_facts s = {0};
    vs_journal_segment_at(j, index, &s);
    return s.first_seqno;
}

/* A sound journal is never called damaged because there was no memory to look at it. */
static int check_segments(fault_ground *g) {
    vs_journal_facts f;
    vs_fault fault;
    vs_journal_facts_get(g->journal, &f);
    for (uint64_t i = 0; i < f.segments; i++) {
        uint64_t at = 0;
        int r = vs_journal_check_segment(g->journal, first_of(g->journal, i), 1, &at, &fault);
        TRY(r);
        if (r == 1 && is_about_us()) fault_wrong(g, "check: %s", fault.text);
    }
    return 0;
}

static int check_maps(fault_ground *g) {
    vs_fault fault;
    char name[64];
    for (uint64_t i = 0;; i++) {
        int r = vs_journal_check_map(g->journal, i, &fault, name);
        if (r == -ENOENT) return 0;
        TRY(r);
        if (r == 1 && is_about_us()) fault_wrong(g, "check: %s", fault.text);
    }
}

static int keep_regions(fault_ground *g) {
    vs_keep *k;
    void *p;
    int fd = vs_keep_make(), r = 0;
    TRY(fd);
    r = vs_keep_open(fd, &k);
    close(fd);
    TRY(r);
    for (uint32_t i = 0; r == 0 && i < VS_KEEP_REGIONS; i++) {
        r = vs_keep_region(k, i, 10000 + i, &p);
        if (r == 0) memset(p, 1, 10000 + i);
    }
    vs_keep_close(k);
    (void)g;
    return r;
}

static int kernel_image(fault_ground *g) {
    vs_view *v;
    vs_kernel_plan p = {0};
    TRY(vs_view_open(g->journal, 1, g->history.count, &v));
    int file = -1, r = vs_kernel_plan_make(&p, v, 1 << 20, UINT64_MAX);
    int devices = r < 0 ? r : vs_kernel_plan_number(&p);
    if (devices >= 0) {
        vs_erofs_image m = {.size_bytes = p.size_bytes, .devices = (uint32_t)devices, .runs = p.runs, .run_count = p.run_count,
                            .deadline_ns = UINT64_MAX};
        file = openat(g->dir, "primary/image", O_RDWR | O_CREAT | O_TRUNC, 0600);
        r = file < 0 ? -errno : vs_erofs_image_write(file, &m);
        struct stat st;
        if (r == 0 && fstat(file, &st) == 0 && (uint64_t)st.st_size > vs_erofs_image_bytes(&m) + 4096 * 600)
            fault_wrong(g, "an image is larger than it was said to be");
    }
    if (file >= 0) close(file);
    vs_kernel_plan_end(&p);
    vs_view_close(v);
    return devices < 0 ? devices : r;
}

/* Through the whole of it, mount and all, where that is possible; else it says that it is not. */
static int kernel_view(fault_ground *g) {
    vs_kernel_views *k;
    vs_kernel_limits any = {UINT64_MAX, UINT64_MAX, 0};
    vs_view *v;
    const plain_volume *want = volume_at(g, g->history.count, 1);
    int scratch = openat(AT_FDCWD, "/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = -1;
    if (scratch < 0) return -errno;
    int r = vs_kernel_views_new(g->journal, scratch, 1, &k);
    if (r == 0) {
        r = vs_view_open(g->journal, 1, g->history.count, &v);
        if (r == 0) {
            r = vs_kernel_view_open(k, v, &any, &file);
            vs_view_close(v);
        }
        if (r == 0) {
            fault_disarm();
            if (pread(file, room, VOLUME_1, 0) != VOLUME_1 || memcmp(room, want->bytes, VOLUME_1) != 0)
                fault_wrong(g, "the kernel reads a view wrong");
            close(file);
        }
        vs_kernel_views_free(k);
    }
    close(scratch);
    return r;
}

static int plane_files(fault_ground *g) {
    vs_plane_files t;
    vs_volume_file *f;
    vs_view *v;
    uint64_t fh, counted;
    int fd = vs_keep_make();
    vs_keep *k = NULL;
    int r = fd < 0 ? fd : vs_keep_open(fd, &k);
    if (fd >= 0) close(fd);
    if (r == 0) r = vs_plane_files_init(&t, k);
    if (r < 0) {
        vs_keep_close(k);
        return r;
    }
    for (int i = 0; r == 0 && i < 40; i++) {
        r = vs_view_open(g->journal, 1, g->history.count, &v);
        if (r < 0) break;
        r = vs_view_file(v, &f);
        if (r < 0) {
            vs_view_close(v);
            break;
        }
        r = vs_plane_files_add(&t, f, 2, 0, 0, &fh);
        if (r < 0) f->release(f);
        else if (i % 2) r = vs_plane_files_remove(&t, fh, &counted);
    }
    vs_plane_files_close(&t);
    vs_plane_files_end(&t);
    vs_keep_close(k);
    return r;
}

static int plane_waiting(fault_ground *g) {
    vs_plane_waiting w;
    vs_plane_asked asked = {0}, found;
    TRY(vs_plane_waiting_init(&w));
    int r = 0;
    uint64_t added = 0, taken = 0;
    for (uint64_t i = 1; r == 0 && i < 5000; i++) {
        asked.unique = i * 2;
        r = vs_plane_waiting_add(&w, &asked);
        added += r == 0;
    }
    for (uint64_t i = 1; i <= added; i++) taken += (uint64_t)vs_plane_waiting_take(&w, i * 2, &found);
    if (taken != added) fault_wrong(g, "%" PRIu64 " requests of %" PRIu64 " were found again", taken, added);
    vs_plane_waiting_close(&w);
    vs_plane_waiting_end(&w);
    return r;
}

/* All of a plane but its mount and its threads: it ends where root would take hold of the connection. */
static int plane_open(fault_ground *g) {
    vs_keep *k = NULL;
    vs_plane_connection *c;
    vs_plane *p;
    (void)g;
    int fd = vs_keep_make(), device = openat(AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    int r = fd < 0 ? fd : device < 0 ? -errno : vs_keep_open(fd, &k);
    if (r == 0) r = vs_plane_connection_of(k, &c);
    if (r == 0) {
        atomic_store(&c->agreed, 1);
        r = vs_plane_open(device, k, 2, &p);
    }
    if (r == 0) {
        close(vs_plane_socket(p));
        vs_fault fault = {.code = -EIO, .text = "of a test"};
        vs_plane_faults_put(&p->faults, &fault);
        vs_plane_free(p);
    }
    vs_keep_close(k);
    if (fd >= 0) close(fd);
    if (device >= 0) close(device);
    return r == -ENOENT ? 0 : r;
}

const fault_scenario fault_scenarios[] = {
    {"create", NULL, NULL, create, NULL},
    {"open_new", with_journal, NULL, reopen, NULL},
    {"add_volumes", with_journal, NULL, add_volumes, NULL},
    {"append_small", with_volumes, owner, append_small, NULL},
    {"append_large", with_volumes, owner_with_primaries, append_large, NULL},
    {"append_unaligned", with_volumes, owner, append_unaligned, NULL},
    {"append_zeros", with_volumes, owner_with_primaries, append_zeros, NULL},
    {"append_past_the_batch", with_volumes, owner_with_primaries, append_past_the_batch, NULL},
    {"commit_often", with_volumes, owner, commit_often, NULL},
    {"commit_two_volumes", with_volumes, owner_with_primaries, commit_two_volumes, NULL},
    {"commit_and_close", with_volumes, owner_with_primaries, commit_and_close, NULL},
    {"commit_ack_journal", with_volumes, owner_acks_journal, commit_often, NULL},
    {"zeros_to_primaries", with_volumes, owner_with_primaries, zeros_to_primaries, NULL},
    {"seal", with_volumes, owner, seal, NULL},
    {"seal_and_close", with_volumes, owner, seal_and_close, NULL},
    {"seal_and_go_on", with_volumes, owner_with_primaries, seal_and_go_on, NULL},
    {"seal_by_size", with_volumes, owner, seal_by_size, NULL},
    {"merge_maps", with_eight_segments, owner, merge_maps, NULL},
    {"compact", with_eight_segments, compact_ready, compact, NULL},
    {"superseded", with_eight_segments, compacted_ready, superseded, NULL},
    {"merge_maps_of_maps", with_sixty_four_segments, owner, merge_maps, NULL},
    {"resize_and_remove", with_volumes, owner_with_primaries, resize_and_remove, NULL},
    {"bookmarks", with_volumes, owner, bookmarks, NULL},
    {"attach", with_segments, owner, attach, NULL},
    {"detach", with_volumes, owner_with_primaries, detach, NULL},
    {"reopen_clean", with_segments, NULL, reopen, NULL},
    {"open_reader", with_segments, NULL, open_reader, NULL},
    {"recover_torn_tail", with_torn_tail, NULL, recover, NULL},
    {"recover_half_a_seal", with_half_a_seal, NULL, recover, NULL},
    {"recover_and_attach", with_torn_tail, NULL, recover_and_attach, NULL},
    {"take_over", with_killed_worker, NULL, recover, NULL},
    {"take_over_and_attach", with_killed_worker_of_two_batches, NULL, recover_and_attach, NULL},
    {"follow", with_volumes, follow_ready, follow, follow_end},
    {"follow_over_a_seal", with_volumes, follow_over_a_seal_ready, follow, follow_end},
    {"follow_over_a_compaction", with_eight_segments, follow_over_a_compaction_ready, follow, follow_end},
    {"read_latest", with_segments, reader, read_latest, NULL},
    {"read_old_with_map", with_map, reader, read_old, NULL},
    {"open_and_read", with_map, NULL, open_and_read, NULL},
    {"read_with_damaged_footers", with_damaged_footers, reader, read_old, NULL},
    {"read_base", with_base, reader, read_latest, NULL},
    {"runs_and_stat", with_base, reader, runs_and_stat, NULL},
    {"changes", with_segments, reader, changes, NULL},
    {"rows", with_segments, reader, rows, NULL},
    {"events", with_segments, reader, events, NULL},
    {"times", with_segments, reader, times, NULL},
    {"volume_states", with_segments, reader, volume_states, NULL},
    {"read_live", with_volumes, owner_with_primaries, read_live, NULL},
    {"live_file", with_volumes, owner_with_primaries, live_file, NULL},
    {"view_file", with_segments, reader, view_file, NULL},
    {"base_build", NULL, base_ready, base_build, base_end},
    {"base_build_in_place", NULL, base_in_place_ready, base_build_in_place, base_end},
    {"check_segments", with_segments, reader, check_segments, NULL},
    {"check_maps", with_map, reader, check_maps, NULL},
    {"keep_regions", with_journal, NULL, keep_regions, NULL},
    {"kernel_image", with_base, reader, kernel_image, NULL},
    {"kernel_view", with_base, reader, kernel_view, NULL},
    {"plane_files", with_volumes, reader, plane_files, NULL},
    {"plane_waiting", with_journal, NULL, plane_waiting, NULL},
    {"plane_open", with_journal, NULL, plane_open, NULL},
};
const int fault_scenario_count = sizeof fault_scenarios / sizeof *fault_scenarios;
