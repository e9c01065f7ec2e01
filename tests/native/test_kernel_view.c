/* A kernel view is the view: every byte, at any offset, as the kernel reads it; and what it does not take. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include "block_set.h"
#include "erofs_image.h"
#include "erofs_mount.h"
#include "journal_ground.h"
#include "kernel_view.h"

enum { TMPFS_MAGIC_NUMBER = 0x01021994 };

static const vs_kernel_limits any = {UINT64_MAX, UINT64_MAX, 0};

/* ---- sets of blocks ---- */

static void sets_hold_what_was_added(void) {
    vs_block_set s = {0}, minus = {0};
    CHECK_EQ(vs_block_set_add(&s, 7, 5, 3), 0);
    CHECK_EQ(vs_block_set_add(&s, 7, VS_BLOCK_CHUNK_BLOCKS - 1, 2), 0); /* over the edge of a chunk */
    for (uint64_t file = 100; file < 300; file++) CHECK_EQ(vs_block_set_add(&s, file, file * 1000, 64), 0);
    CHECK_EQ(vs_block_set_bits(&s, 7, 0)[0], 0xE0);
    CHECK_EQ(vs_block_set_bits(&s, 7, 1)[0], 1);
    CHECK(vs_block_set_bits(&s, 8, 0) == NULL);
    CHECK_EQ(vs_block_set_subtract(&s, &minus), 3 + 2 + 200 * 64);
    CHECK_EQ(vs_block_set_add(&minus, 7, 6, 1), 0);
    CHECK_EQ(vs_block_set_subtract(&s, &minus), 2 + 2 + 200 * 64);
    vs_block_chunk *sorted = vs_block_set_sorted(&s);
    CHECK_EQ(sorted[0].file, 7);
    CHECK_EQ(sorted[1].number, 1);
    for (size_t i = 1; i < s.count; i++) CHECK(sorted[i - 1].file <= sorted[i].file);
    CHECK_EQ(vs_block_set_merge(&minus, &sorted[0]), 0);
    CHECK_EQ(vs_block_set_bits(&minus, 7, 0)[0], 0xE0);
    free(sorted);
    vs_block_set_clear(&s);
    vs_block_set_clear(&minus);
}

/* ---- images ---- */

/* The index of a file is as long as its runs need, not as the file. */
static void images_are_small(void) {
    vs_erofs_run fine[2] = {{0, 1, 9, 1}, {UINT64_C(1) << 28, 1, 3, 1}};
    vs_erofs_image m = {.size_bytes = UINT64_C(1) << 42, .devices = 1, .runs = fine, .run_count = 2, .deadline_ns = UINT64_MAX};
    CHECK_EQ(vs_erofs_image_bytes(&m), (4 + 2) * 4096);
    vs_erofs_run coarse = {0, UINT64_C(1) << 28, 0, 1}; /* 1 TiB in one piece */
    m.runs = &coarse;
    m.run_count = 1;
    CHECK_EQ(vs_erofs_image_bytes(&m), (4 + 1024) * 4096);
    vs_erofs_run far = {0, 1, UINT32_MAX, 1};
    m.runs = &far;
    int file = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(file >= 0);
    CHECK_EQ(vs_erofs_image_write(file, &m), -EFBIG);
    close(file);
}

/* ---- views ---- */

typedef struct ground {
    vs_store *store;
    vs_journal *journal;
    vs_kernel_views *views;
    int here;
    uint64_t seed;
} ground;

static vs_view *view_at(ground *g, uint32_t volume, uint64_t seqno) {
    vs_view *v;
    CHECK_EQ(vs_view_open(g->journal, volume, seqno, &v), 0);
    return v;
}

static uint64_t now(ground *g) {
    vs_journal_facts facts;
    CHECK_EQ(vs_journal_commit(g->journal), 0);
    vs_journal_facts_get(g->journal, &facts);
    return facts.committed_seqno;
}

static void put(ground *g, uint32_t volume, uint64_t offset, uint64_t length, int fill) {
    uint8_t *bytes = malloc(length);
    for (uint64_t i = 0; i < length; i++) bytes[i] = fill ? (uint8_t)fill : (uint8_t)draw(&g->seed);
    CHECK_EQ(vs_journal_write(g->journal, volume, offset, bytes, length, NULL, NULL), 0);
    free(bytes);
}

/* Every byte, by read and by a mapping, to the end of its last page. */
static void same(vs_view *v, int file) {
    uint64_t size = vs_view_size(v), mapped = (size + 4095) / 4096 * 4096;
    uint8_t *want = calloc(1, mapped), *got = malloc(mapped + 1);
    CHECK_EQ(vs_view_read(v, 0, want, size), size);
    CHECK_EQ(pread(file, got, size + 1, 0), size);
    CHECK(memcmp(want, got, size) == 0);
    uint8_t *map = mmap(NULL, mapped, PROT_READ, MAP_SHARED, file, 0);
    CHECK(map != MAP_FAILED);
    CHECK(memcmp(want, map, mapped) == 0);
    munmap(map, mapped);
    free(want);
    free(got);
}

static int built(ground *g, vs_view *v) {
    int file = -1;
    CHECK_EQ(vs_kernel_view_open(g->views, v, &any, &file), 0);
    CHECK(file >= 0);
    return file;
}

static void check_at(ground *g, uint32_t volume, uint64_t seqno) {
    vs_view *v = view_at(g, volume, seqno);
    int file = built(g, v);
    same(v, file);
    close(file);
    vs_view_close(v);
}

static void nothing_is_mounted_by_name(void) {
    char line[4096];
    FILE *table = fopen("/proc/self/mountinfo", "r");
    while (fgets(line, sizeof line, table)) CHECK(strstr(line, " erofs ") == NULL);
    fclose(table);
}

static void empty_and_odd_sizes(ground *g) {
    static const uint64_t sizes[] = {512, 4096, 4608, 10 << 20, (10 << 20) - 512};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint32_t volume = ground_volume(g->journal, sizes[i]);
        check_at(g, volume, now(g)); /* no data at all */
        put(g, volume, sizes[i] - 512, 512, 7);
        check_at(g, volume, now(g));
    }
    nothing_is_mounted_by_name();
}

/* What a block showed before the volume was cut must not come back in a mapped page. */
static void a_cut_volume_ends_in_zeros(ground *g) {
    uint32_t volume = ground_volume(g->journal, 8192);
    put(g, volume, 0, 8192, 9);
    uint64_t seqno;
    CHECK_EQ(vs_journal_event(g->journal, VS_RECORD_VOLUME_RESIZE, volume, 0, 4608, NULL, 0, &seqno, NULL), 0);
    check_at(g, volume, now(g));
    CHECK_EQ(vs_journal_event(g->journal, VS_RECORD_VOLUME_RESIZE, volume, 0, 1 << 20, NULL, 0, &seqno, NULL), 0);
    check_at(g, volume, now(g));
    put(g, volume, (1 << 20) - 100, 100, 8);
    check_at(g, volume, now(g));
}

static void random_history(ground *g) {
    enum { SIZE = (6 << 20) + 1536, ROUNDS = 12, WRITES = 60 };
    uint32_t volume = ground_volume(g->journal, SIZE), other = ground_volume(g->journal, SIZE);
    uint64_t points[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WRITES; i++) {
            uint64_t length = 1 + draw_below(&g->seed, draw_below(&g->seed, 4) ? 20000 : 300000), offset = draw_below(&g->seed, SIZE - length);
            if (draw_below(&g->seed, 2)) {
                offset -= offset % 4096;
                length += 4096 - length % 4096;
                if (offset + length > SIZE) continue;
            }
            uint32_t to = draw_below(&g->seed, 5) ? volume : other;
            if (draw_below(&g->seed, 6)) put(g, to, offset, length, draw_below(&g->seed, 8) ? 0 : 1);
            else CHECK_EQ(vs_journal_zero(g->journal, to, offset, length, NULL, NULL), 0);
        }
        points[round] = now(g);
        check_at(g, volume, points[round]); /* in the active segment too */
        if (round % 3 == 2) CHECK_EQ(vs_journal_seal(g->journal), 0);
    }
    while (vs_journal_merge_maps(g->journal) == 1) continue;
    for (int round = 0; round < ROUNDS; round++) {
        check_at(g, volume, points[round]);
        check_at(g, other, points[round]);
    }
}

/* A view stays what it is while the segment it lies in is appended to and sealed. */
static void an_open_view_stays(ground *g) {
    uint32_t volume = ground_volume(g->journal, 1 << 20);
    put(g, volume, 0, 1 << 20, 3);
    vs_view *v = view_at(g, volume, now(g));
    int file = built(g, v);
    put(g, volume, 0, 1 << 20, 4);
    now(g);
    CHECK_EQ(vs_journal_seal(g->journal), 0);
    same(v, file);
    close(file);
    vs_view_close(v);
}

/* Aligned 64 KiB make larger chunks; a hole between them reads as zeros, though its part of the index is not there. */
static void large_chunks_and_large_holes(ground *g) {
    uint32_t volume = ground_volume(g->journal, 256 << 20);
    put(g, volume, 128 << 20, 65536, 5);
    put(g, volume, 0, 65536, 6);
    put(g, volume, (256 << 20) - 65536, 65536, 7);
    check_at(g, volume, now(g));
    put(g, volume, 64 << 20, 4096, 5);
    check_at(g, volume, now(g));
}

static void limits_hold_and_what_was_compared_is_known(ground *g) {
    uint32_t volume = ground_volume(g->journal, 4 << 20);
    for (int i = 0; i < 4; i++) put(g, volume, (uint64_t)i << 20, 1 << 20, 0);
    put(g, volume, 100, 10, 0); /* a block to be put together */
    vs_view *v = view_at(g, volume, now(g));
    vs_kernel_limits little = {(4 << 20) - 4096, 100, 0}, enough = {4 << 20, 100, 60000}, none = {4096, 100, 0}, few = {UINT64_MAX, 1, 0};
    int file = -1;
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &little), -E2BIG);
    CHECK_EQ(vs_kernel_view_open(g->views, v, &little, &file), -E2BIG);
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &few), -E2BIG);
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &enough), 0);
    CHECK_EQ(vs_kernel_view_open(g->views, v, &enough, &file), 0);
    close(file);
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &none), 0); /* the composed block alone */
    vs_view_close(v);
    put(g, volume, 1 << 20, 8192, 0);
    v = view_at(g, volume, now(g));
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &none), -E2BIG);
    vs_kernel_limits three = {3 * 4096, 100, 0};
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &three), 0);
    vs_view_close(v);
}

/* An open that gives up leaves nothing; what it has compared is known to the next. */
static void time_is_kept(ground *g) {
    enum { MIBS = 64 };
    uint32_t volume = ground_volume(g->journal, (uint64_t)MIBS << 20);
    for (uint64_t i = 0; i < MIBS; i++) put(g, volume, i << 20, 1 << 20, 0);
    vs_view *v = view_at(g, volume, now(g));
    vs_kernel_limits hurry = {UINT64_MAX, UINT64_MAX, 1}, none = {0, UINT64_MAX, 0};
    int file = -1;
    CHECK_EQ(vs_kernel_view_open(g->views, v, &hurry, &file), -ETIMEDOUT); /* 64 GB/s would be needed */
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &none), -E2BIG);
    close(built(g, v));
    CHECK_EQ(vs_kernel_view_fits(g->views, v, &none), 0);
    vs_view_close(v);
}

static void damage_one_byte(const char *name, uint8_t needle) {
    char path[64];
    snprintf(path, sizeof path, "journal/%s", name);
    int file = open(path, O_RDWR);
    uint8_t block[4096];
    for (off_t at = 0;; at += 4096) {
        CHECK_EQ(pread(file, block, sizeof block, at), sizeof block);
        if (block[0] != needle || memcmp(block, block + 1, sizeof block - 1) != 0) continue;
        block[17] ^= 1;
        CHECK_EQ(pwrite(file, block, sizeof block, at), sizeof block);
        break;
    }
    close(file);
}

static void damage_is_found(ground *g) {
    uint32_t volume = ground_volume(g->journal, 1 << 20);
    uint64_t seqno;
    CHECK_EQ(vs_journal_seal(g->journal), 0);
    put(g, volume, 8192, 4096, 0xA7);
    put(g, volume, 65536, 100000, 1);
    seqno = now(g);
    CHECK_EQ(vs_journal_seal(g->journal), 0);
    vs_journal_facts facts;
    vs_journal_facts_get(g->journal, &facts);
    vs_view *v = view_at(g, volume, seqno);
    char name[32];
    vs_run run;
    CHECK_EQ(vs_view_run(v, 8192, &run), 1);
    snprintf(name, sizeof name, "%020" PRIu64 ".seg", run.segment);
    damage_one_byte(name, 0xA7);
    int file = -1;
    vs_fault fault;
    CHECK_EQ(vs_kernel_view_open(g->views, v, &any, &file), -EBADMSG);
    vs_fault_last(&fault);
    CHECK_EQ(fault.volume, volume);
    CHECK_EQ(fault.segment, run.segment);
    CHECK_EQ(fault.offset_bytes, run.block * 4096);
    CHECK(strstr(fault.text, "offset 8192"));
    vs_kernel_views *trusting;
    CHECK_EQ(vs_kernel_views_new(g->journal, g->here, 0, &trusting), 0);
    CHECK_EQ(vs_kernel_view_open(trusting, v, &any, &file), 0); /* asked not to look */
    close(file);
    vs_kernel_views_free(trusting);
    vs_view_close(v);
}

static void too_few_descriptors(ground *g) {
    uint32_t volume = ground_volume(g->journal, 1 << 20);
    put(g, volume, 0, 4096, 3);
    vs_view *v = view_at(g, volume, now(g));
    struct rlimit before, less = {.rlim_cur = 6};
    getrlimit(RLIMIT_NOFILE, &before);
    less.rlim_max = before.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &less), 0);
    int file = -1, code = vs_kernel_view_open(g->views, v, &any, &file);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(code, -EMFILE);
    file = built(g, v);
    same(v, file);
    close(file);
    vs_view_close(v);
}

static int open_descriptors(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int main(void) {
    struct statfs disk;
    sets_hold_what_was_added();
    CHECK_EQ(statfs(".", &disk), 0);
    if (geteuid() != 0 || disk.f_type == TMPFS_MAGIC_NUMBER) {
        fprintf(stderr, "needs root and a directory on a disk\n");
        return EXIT_SKIPPED;
    }
    images_are_small();
    ground g = {.seed = 20261125};
    g.store = ground_make();
    g.journal = ground_open(g.store, 1, 1 << 20, 1 << 20);
    g.here = open(".", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(vs_kernel_views_new(g.journal, g.here, 1, &g.views), 0);
    int file = -1, code = vs_kernel_views_probe(g.views, &file);
    if (code == -ENODEV || code == -ENOTBLK) {
        fprintf(stderr, "needs Linux 6.12 with EROFS\n");
        return EXIT_SKIPPED;
    }
    CHECK_EQ(code, 0);
    close(file);
    empty_and_odd_sizes(&g);
    a_cut_volume_ends_in_zeros(&g);
    random_history(&g);
    an_open_view_stays(&g);
    large_chunks_and_large_holes(&g);
    limits_hold_and_what_was_compared_is_known(&g);
    time_is_kept(&g);
    damage_is_found(&g);
    int before = open_descriptors();
    uint32_t volume = ground_volume(g.journal, 1 << 20);
    put(&g, volume, 77, 4096, 3);
    for (int i = 0; i < 50; i++) check_at(&g, volume, now(&g));
    too_few_descriptors(&g);
    CHECK(open_descriptors() <= before + 1); /* the journal may keep a segment open */
    vs_kernel_views_free(g.views);
    CHECK_EQ(vs_journal_close(g.journal), 0);
    vs_store_close(g.store);
    close(g.here);
    return 0;
}
