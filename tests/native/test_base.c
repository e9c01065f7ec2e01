/* Base images: built from sparse images of odd sizes, read back, damaged, and built while store or memory fail. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"
#include "check.h"
#include "codec.h"
#include "faults.h"
#include "format.h"
#include "status.h"

static const uint8_t UUID[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

enum { VOLUME = 0x2a, CREATE = VS_OPEN_WRITE | VS_OPEN_CREATE, IMAGE_BYTES = (5 << 20) + 777, CRC_TABLE_AT = 4096 };
#define INDEX_PATH "base/0000002a.idx"
#define IMAGE_PATH "base/0000002a.img"

/* What the image holds: single blocks, long runs over the builder's pieces of 1 MiB, part of the last block, zeros written out. */
static uint8_t image_bytes[IMAGE_BYTES + 4096];

static void fill(uint64_t start, uint64_t length, uint64_t seed) {
    for (uint64_t i = start; i < start + length; i++) image_bytes[i] = (uint8_t)(draw(&seed) | 1);
}

static void draw_image(void) {
    fill(0, 4096, 1);
    fill(4096 * 7 + 100, 1, 2);
    fill(4096 * 9, 4096 * 2, 3);
    fill((1 << 20) - 4096, 8192, 4);     /* over the border of two pieces */
    fill((2 << 20) + 4096 * 3, 2 << 20, 5); /* over whole pieces */
    fill(IMAGE_BYTES - 5, 5, 6);
}

static int open_to_write(vs_store *s, const char *path) {
    s->remove(s, path);
    int file = s->open(s, path, CREATE);
    CHECK(file >= 0);
    return file;
}

static void put(vs_store *s, int file, uint64_t offset_bytes, const void *p, size_t n) {
    CHECK_EQ(s->write(s, file, offset_bytes, &(struct iovec){(void *)(uintptr_t)p, n}, 1), 0);
}

static int source_file(vs_store *s, uint64_t bytes) {
    int source = open_to_write(s, "source");
    if (bytes > 0) put(s, source, 0, image_bytes, bytes);
    return source;
}

/* Take all in calls that end at odd places; [2 MiB, 2 MiB + 12288) is a hole that the caller knows of. */
static int take_all(vs_base_builder *b, uint64_t size_bytes) {
    static const uint64_t stops[] = {4096 * 10, 2 << 20, (2 << 20) + 12288, 3 << 20, 3 << 20, UINT64_MAX};
    uint64_t at = 0;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        uint64_t stop = stops[i] < size_bytes ? stops[i] : size_bytes;
        int r = vs_base_builder_take(b, at, stop - at, i != 2);
        if (r < 0) return r;
        at = stop;
    }
    return 0;
}

/* Build base of the first size_bytes from the file "source"; copy: also the image. Returns the first failure. */
static int build(vs_store *s, uint64_t size_bytes, int source, int copy, uint64_t *data_bytes) {
    vs_base_builder *b = NULL;
    int image = copy ? open_to_write(s, IMAGE_PATH) : -1, index = open_to_write(s, INDEX_PATH);
    int r = vs_base_builder_new(s, UUID, VOLUME, size_bytes, source, image, index, &b);
    if (r == 0) r = take_all(b, size_bytes);
    if (r == 0) r = vs_base_builder_finish(b, data_bytes);
    vs_base_builder_free(b);
    s->close(s, index);
    if (copy) s->close(s, image);
    return r;
}

static int open_base(vs_store *s, vs_base **b) {
    *b = NULL;
    int r = vs_base_open(s, UUID, VOLUME, b);
    if (r < 0) {
        vs_fault fault;
        vs_fault_last(&fault);
        CHECK_EQ(fault.code, r);
        CHECK_EQ(fault.volume, VOLUME);
        CHECK(*b == NULL && fault.text[0] != '\0');
    }
    return r;
}

static int block_is_data(uint64_t block) {
    return !vs_is_zero(image_bytes + block * 4096, 4096);
}

/* Rows are the longest runs of blocks that are not zeros; checksums are those of the blocks. */
static void check_map(const vs_base *b, uint64_t size_bytes) {
    uint64_t blocks = (size_bytes + 4095) / 4096, rows = 0, bytes = 0;
    for (uint64_t i = 0; i < blocks; i++) {
        CHECK(vs_base_crc(b, i) == vs_crc32c(image_bytes + i * 4096, 4096));
        if (!block_is_data(i) || (i > 0 && block_is_data(i - 1))) continue;
        uint64_t end = i, row[VS_MAP_COLUMNS];
        while (end < blocks && block_is_data(end)) end++;
        uint64_t length = (end * 4096 < size_bytes ? end * 4096 : size_bytes) - i * 4096;
        CHECK(rows < vs_base_map(b)->rows);
        vs_packed_row(vs_base_map(b), rows++, row);
        CHECK(row[0] == i * 4096 && row[1] == length && row[2] == 0 && row[3] == i + 1);
        bytes += length;
    }
    CHECK_EQ(vs_base_map(b)->rows, rows);
    CHECK_EQ(vs_base_data_bytes(b), bytes);
    CHECK(vs_base_crc(b, blocks) == VS_CRC_ZERO_BLOCK);
    CHECK(vs_base_crc(b, UINT64_MAX) == VS_CRC_ZERO_BLOCK);
}

static void check_image(vs_store *s, const vs_base *b, uint64_t size_bytes) {
    static uint8_t back[IMAGE_BYTES + 1];
    struct stat st;
    CHECK_EQ(s->read(s, vs_base_image(b), 0, back, sizeof back), size_bytes);
    CHECK(memcmp(back, image_bytes, size_bytes) == 0);
    CHECK_EQ(fstat(vs_base_image(b), &st), 0);
    CHECK((uint64_t)st.st_blocks * 512 <= vs_base_data_bytes(b) + 65536); /* zeros became holes */
}

static void built_bases_are_what_the_image_is(vs_store *s) {
    static const uint64_t sizes[] = {0, 1, 4095, 4096, 4097, 4096 * 7, 4096 * 11, 1 << 20, (1 << 20) + 1, 3 << 20, IMAGE_BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t kept[4096]; /* the volume ends within what is a block of the drawn image */
        memcpy(kept, image_bytes + sizes[i], sizeof kept);
        memset(image_bytes + sizes[i], 0, sizeof kept);
        int source = source_file(s, sizes[i]);
        uint64_t data_bytes = UINT64_MAX;
        vs_base *b;
        CHECK_EQ(build(s, sizes[i], source, 1, &data_bytes), 0);
        CHECK_EQ(open_base(s, &b), 0);
        CHECK_EQ(vs_base_size_bytes(b), sizes[i]);
        CHECK_EQ(vs_base_data_bytes(b), data_bytes);
        check_map(b, sizes[i]);
        check_image(s, b, sizes[i]);
        vs_base_unref(b);
        CHECK_EQ(s->close(s, source), 0);
        memcpy(image_bytes + sizes[i], kept, sizeof kept);
    }
    vs_base_unref(NULL);
    vs_base_builder_free(NULL);
}

/* A reflinked image is only read; made of the same bytes, the index is the same to the last byte. */
static void an_image_in_place_gives_the_same_index(vs_store *s) {
    static uint8_t first[65536], second[65536];
    uint64_t data_bytes;
    int source = source_file(s, IMAGE_BYTES);
    CHECK_EQ(build(s, IMAGE_BYTES, source, 1, &data_bytes), 0);
    int index = s->open(s, INDEX_PATH, VS_OPEN_READ);
    int64_t length = s->read(s, index, 0, first, sizeof first);
    CHECK(length > 4096 && length < (int64_t)sizeof first);
    CHECK_EQ(s->close(s, index), 0);
    int image = s->open(s, IMAGE_PATH, VS_OPEN_READ);
    CHECK_EQ(build(s, IMAGE_BYTES, image, 0, &data_bytes), 0);
    CHECK_EQ(s->close(s, image), 0);
    index = s->open(s, INDEX_PATH, VS_OPEN_READ);
    CHECK_EQ(s->read(s, index, 0, second, sizeof second), length);
    CHECK(memcmp(first, second, sizeof first) == 0);
    CHECK_EQ(s->close(s, index), 0);
    CHECK_EQ(s->close(s, source), 0);
}

/* 1 TiB with two blocks of data: the index is sparse, and what is a hole in it reads as the CRC of zeros. */
static void a_huge_hole_costs_nothing(vs_store *s) {
    const uint64_t size = (uint64_t)1 << 40, at = size / 2;
    vs_base_builder *builder;
    vs_base *b;
    struct stat st;
    uint64_t data_bytes, row[VS_MAP_COLUMNS];
    int source = open_to_write(s, "source"), index = open_to_write(s, INDEX_PATH), image = open_to_write(s, IMAGE_PATH);
    put(s, source, at, image_bytes, 4096);
    put(s, source, at + 4096, image_bytes, 4096);
    CHECK_EQ(vs_base_builder_new(s, UUID, VOLUME, size, source, image, index, &builder), 0);
    CHECK_EQ(vs_base_builder_take(builder, 0, at, 0), 0);
    CHECK_EQ(vs_base_builder_take(builder, at, 8192, 1), 0);
    CHECK_EQ(vs_base_builder_take(builder, at + 8192, size - at - 8192, 0), 0);
    CHECK_EQ(vs_base_builder_finish(builder, &data_bytes), 0);
    CHECK_EQ(data_bytes, 8192);
    vs_base_builder_free(builder);
    CHECK_EQ(fstat(index, &st), 0);
    CHECK(st.st_blocks * 512 < 65536);
    CHECK_EQ(s->close(s, source) + s->close(s, image) + s->close(s, index), 0);
    CHECK_EQ(open_base(s, &b), 0);
    CHECK_EQ(vs_base_map(b)->rows, 1);
    vs_packed_row(vs_base_map(b), 0, row);
    CHECK(row[0] == at && row[1] == 8192 && row[3] == at / 4096 + 1);
    CHECK(vs_base_crc(b, 0) == VS_CRC_ZERO_BLOCK && vs_base_crc(b, at / 4096 - 1) == VS_CRC_ZERO_BLOCK);
    CHECK(vs_base_crc(b, at / 4096) == vs_crc32c(image_bytes, 4096) && vs_base_crc(b, at / 4096 + 2) == VS_CRC_ZERO_BLOCK);
    CHECK_EQ(s->size(s, vs_base_image(b)), size);
    vs_base_unref(b);
}

static void pieces_must_follow_each_other(vs_store *s) {
    vs_base_builder *b;
    uint64_t data_bytes;
    int source = source_file(s, 10000), index = open_to_write(s, INDEX_PATH);
    CHECK_EQ(vs_base_builder_new(s, UUID, VOLUME, ((uint64_t)1 << 62) + 1, source, -1, index, &b), -EINVAL);
    CHECK_EQ(vs_base_builder_new(s, UUID, VOLUME, 10000, source, -1, index, &b), 0);
    CHECK_EQ(vs_base_builder_take(b, 4096, 4096, 1), -EINVAL);
    CHECK_EQ(vs_base_builder_take(b, 0, 4095, 1), -EINVAL);
    CHECK_EQ(vs_base_builder_take(b, 0, 12288, 1), -EINVAL);
    CHECK_EQ(vs_base_builder_take(b, 0, UINT64_MAX, 0), -EINVAL);
    CHECK_EQ(vs_base_builder_take(b, 0, 4096, 1), 0);
    CHECK_EQ(vs_base_builder_take(b, 0, 4096, 1), -EINVAL);
    CHECK_EQ(vs_base_builder_finish(b, &data_bytes), -EINVAL);
    CHECK_EQ(vs_base_builder_take(b, 4096, 5904, 1), 0);
    CHECK_EQ(vs_base_builder_take(b, 10000, 1, 1), -EINVAL);
    CHECK_EQ(vs_base_builder_finish(b, &data_bytes), 0);
    vs_base_builder_free(b);
    CHECK_EQ(s->close(s, source) + s->close(s, index), 0);
}

static void a_source_that_ends_too_early_fails(vs_store *s) {
    vs_base_builder *b;
    vs_fault fault;
    uint64_t data_bytes;
    int source = source_file(s, 10000), index = open_to_write(s, INDEX_PATH);
    CHECK_EQ(vs_base_builder_new(s, UUID, VOLUME, 10001, source, -1, index, &b), 0);
    CHECK_EQ(vs_base_builder_take(b, 0, 10001, 1), -EIO);
    vs_fault_last(&fault);
    CHECK(fault.code == -EIO && fault.offset_bytes == 10000 && fault.volume == VOLUME);
    CHECK_EQ(vs_base_builder_take(b, 10001, 0, 0), -EIO);
    CHECK_EQ(vs_base_builder_finish(b, &data_bytes), -EIO);
    vs_base_builder_free(b);
    CHECK_EQ(s->close(s, source) + s->close(s, index), 0);
}

/* ---- damage ---- */

static void flip(vs_store *s, int index, uint64_t at, uint8_t mask) {
    uint8_t byte;
    CHECK_EQ(s->read(s, index, at, &byte, 1), 1);
    byte ^= mask;
    put(s, index, at, &byte, 1);
}

static void every_damaged_byte_is_found(vs_store *s, int index, uint64_t table_end, uint64_t length) {
    vs_base *b;
    for (uint64_t at = 0; at < length; at++) {
        flip(s, index, at, (uint8_t)(1 << at % 8));
        int in_table = at >= CRC_TABLE_AT && at < table_end; /* has no CRC of its own: costs its block alone */
        CHECK_EQ(open_base(s, &b), in_table ? 0 : -EBADMSG);
        for (uint64_t i = 0; in_table && i < 11; i++) {
            int matches = vs_base_crc(b, i) == vs_crc32c(image_bytes + i * 4096, 4096);
            CHECK_EQ(matches, i != (at - CRC_TABLE_AT) / 4);
        }
        vs_base_unref(b);
        flip(s, index, at, (uint8_t)(1 << at % 8));
    }
}

static void every_other_length_is_found(vs_store *s, int index, uint64_t length) {
    static uint8_t whole[8192];
    vs_base *b;
    CHECK_EQ(s->read(s, index, 0, whole, sizeof whole), length);
    for (uint64_t cut = 0; cut < length + 16; cut += cut < 4096 - 997 ? 997 : 1) {
        if (cut == length) continue;
        CHECK_EQ(s->truncate(s, index, cut), 0);
        CHECK_EQ(open_base(s, &b), -EBADMSG);
        CHECK_EQ(s->truncate(s, index, length), 0);
        put(s, index, 0, whole, length);
    }
    CHECK_EQ(open_base(s, &b), 0);
    vs_base_unref(b);
}

/* Give the header another value with a CRC that matches, and say what opening makes of it. */
static void expect_header(vs_store *s, int index, uint64_t at, uint64_t value, int wanted) {
    uint8_t header[4096], changed[4096];
    vs_base *b;
    CHECK_EQ(s->read(s, index, 0, header, sizeof header), sizeof header);
    memcpy(changed, header, sizeof changed);
    if (at == 8 || at == 12 || at == 32 || at == 64) vs_put32(changed + at, (uint32_t)value);
    else vs_put64(changed + at, value);
    vs_block_seal(changed);
    put(s, index, 0, changed, sizeof changed);
    CHECK_EQ(open_base(s, &b), wanted);
    put(s, index, 0, header, sizeof header);
}

static void sealed_headers_are_not_believed(vs_store *s, int index) {
    expect_header(s, index, 0, 0, -EBADMSG);
    expect_header(s, index, 8, 2, -EPROTONOSUPPORT);
    expect_header(s, index, 12, 0x80000000u, -EPROTONOSUPPORT);
    expect_header(s, index, 16, 0, -EXDEV);
    expect_header(s, index, 24, 0, -EXDEV);
    expect_header(s, index, 32, VOLUME + 1, -EBADMSG);
    static const uint64_t values[] = {0, 1, 4096, 4104, 8192, (uint64_t)1 << 62, UINT64_MAX - 4095, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        for (uint64_t at = 40; at <= 64; at += 8) expect_header(s, index, at, values[i], -EBADMSG);
    }
}

/* A table under a right CRC that is none. */
static void a_map_that_is_no_table(vs_store *s, int index, uint64_t map_at, uint64_t length) {
    uint8_t map[4096];
    int64_t n = s->read(s, index, map_at, map, sizeof map);
    CHECK_EQ(n, length - map_at);
    flip(s, index, map_at, 0x40);
    map[0] ^= 0x40;
    expect_header(s, index, 64, vs_crc32c(map, (size_t)n), -EBADMSG);
    flip(s, index, map_at, 0x40);
}

static void files_of_others_or_none(vs_store *s) {
    vs_base *b = NULL;
    uint8_t other[16] = {1};
    CHECK_EQ(vs_base_open(s, other, VOLUME, &b), -EXDEV);
    CHECK_EQ(vs_base_open(s, UUID, VOLUME + 1, &b), -ENOENT);
    CHECK_EQ(s->rename(s, IMAGE_PATH, "base/away"), 0);
    CHECK_EQ(open_base(s, &b), -EBADMSG); /* one of both is not none: it would read as zeros */
    CHECK_EQ(s->rename(s, "base/away", IMAGE_PATH), 0);
    CHECK_EQ(s->rename(s, INDEX_PATH, "base/0000002b.idx"), 0);
    CHECK_EQ(open_base(s, &b), -EBADMSG);
    CHECK_EQ(vs_base_open(s, UUID, VOLUME + 1, &b), -EBADMSG);
    CHECK_EQ(s->rename(s, "base/0000002b.idx", INDEX_PATH), 0);
    CHECK_EQ(open_base(s, &b), 0);
    vs_base_unref(b);
}

static void damage(vs_store *s) {
    enum { SMALL_BYTES = 11 * 4096, TABLE_END = CRC_TABLE_AT + 11 * 4, MAP_AT = TABLE_END + 4 };
    uint64_t data_bytes;
    int source = source_file(s, SMALL_BYTES);
    CHECK_EQ(build(s, SMALL_BYTES, source, 1, &data_bytes), 0);
    CHECK_EQ(data_bytes, 4 * 4096);
    int index = s->open(s, INDEX_PATH, VS_OPEN_WRITE);
    uint64_t length = (uint64_t)s->size(s, index);
    flip(s, index, TABLE_END, 1); /* between table and map: belongs to neither */
    vs_base *b;
    CHECK_EQ(open_base(s, &b), 0);
    vs_base_unref(b);
    flip(s, index, TABLE_END, 1);
    every_damaged_byte_is_found(s, index, MAP_AT, length);
    every_other_length_is_found(s, index, length);
    sealed_headers_are_not_believed(s, index);
    a_map_that_is_no_table(s, index, MAP_AT, length);
    files_of_others_or_none(s);
    CHECK_EQ(s->close(s, source) + s->close(s, index), 0);
}

/* ---- a failing machine ---- */

static void building_and_opening_without_memory(vs_store *s) {
    int source = source_file(s, 8192), failures = 0, r;
    long good = 0;
    uint64_t data_bytes;
    vs_base *b;
    do {
        faults_fail_allocations(good++);
        r = build(s, 8192, source, 1, &data_bytes);
        faults_fail_allocations(-1);
        CHECK(r == 0 || r == -ENOMEM);
        failures += r < 0;
    } while (r < 0);
    CHECK(failures >= 4);
    faults_fail_allocations(0);
    CHECK_EQ(open_base(s, &b), -ENOMEM);
    faults_fail_allocations(-1);
    CHECK_EQ(s->close(s, source), 0);
}

/* A store that fails its n-th read, write, sync or truncation, and knows what is not on stable storage. */
typedef struct failing_store {
    vs_store base;
    vs_store *below;
    int good; /* calls that still succeed */
    uint8_t unsynced[256]; /* by file */
} failing_store;

static int fails(vs_store *s) {
    return ((failing_store *)s)->good-- <= 0;
}

static vs_store *below(vs_store *s) {
    return ((failing_store *)s)->below;
}

static int64_t failing_read(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    return fails(s) ? -ENXIO : below(s)->read(below(s), file, offset_bytes, buf, length_bytes);
}

static void note_change(vs_store *s, int file, uint8_t unsynced) {
    CHECK(file >= 0 && file < 256);
    ((failing_store *)s)->unsynced[file] = unsynced;
}

static int failing_write(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count) {
    note_change(s, file, 1);
    return fails(s) ? -ENXIO : below(s)->write(below(s), file, offset_bytes, parts, part_count);
}

static int failing_sync(vs_store *s, int file) {
    if (fails(s)) return -ENXIO;
    note_change(s, file, 0);
    return below(s)->sync(below(s), file);
}

static int failing_truncate(vs_store *s, int file, uint64_t size_bytes) {
    note_change(s, file, 1);
    return fails(s) ? -ENXIO : below(s)->truncate(below(s), file, size_bytes);
}

static failing_store store_over(vs_store *s) {
    return (failing_store){
        .base = {.read = failing_read, .write = failing_write, .sync = failing_sync, .truncate = failing_truncate},
        .below = s,
        .good = 1 << 20,
    };
}

/* A reflinked image is in place, but perhaps not on stable storage yet. */
static void an_image_in_place_is_synced(vs_store *s) {
    failing_store f = store_over(s);
    vs_base_builder *b;
    uint64_t data_bytes;
    int source = source_file(s, 8192), index = open_to_write(s, INDEX_PATH);
    f.unsynced[source] = 1;
    CHECK_EQ(vs_base_builder_new(&f.base, UUID, VOLUME, 8192, source, -1, index, &b), 0);
    CHECK_EQ(vs_base_builder_take(b, 0, 8192, 1), 0);
    CHECK_EQ(vs_base_builder_finish(b, &data_bytes), 0);
    CHECK(f.unsynced[source] == 0 && f.unsynced[index] == 0);
    vs_base_builder_free(b);
    CHECK_EQ(s->close(s, source) + s->close(s, index), 0);
}

/* Every call of the store matters: whichever fails, the builder says so, and goes on saying so. */
static void building_on_a_failing_store(vs_store *s) {
    failing_store f = store_over(s);
    int source = source_file(s, IMAGE_BYTES), image = open_to_write(s, IMAGE_PATH), index = open_to_write(s, INDEX_PATH);
    int r, calls = 0;
    do {
        vs_base_builder *b;
        uint64_t data_bytes;
        f.good = calls++;
        CHECK_EQ(vs_base_builder_new(&f.base, UUID, VOLUME, IMAGE_BYTES, source, image, index, &b), 0);
        r = take_all(b, IMAGE_BYTES);
        if (r == 0) r = vs_base_builder_finish(b, &data_bytes);
        CHECK(r == 0 || r == -ENXIO);
        f.good = 1 << 20;
        if (r < 0) CHECK_EQ(vs_base_builder_finish(b, &data_bytes), -ENXIO);
        vs_base_builder_free(b);
    } while (r < 0);
    CHECK(calls > 20);
    CHECK(f.unsynced[image] == 0 && f.unsynced[index] == 0);
    CHECK_EQ(s->close(s, source) + s->close(s, image) + s->close(s, index), 0);
}

int main(void) {
    vs_store *s;
    int dir_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQ(vs_store_posix(dir_fd, &s), 0);
    CHECK_EQ(mkdir("base", 0700), 0);
    draw_image();
    built_bases_are_what_the_image_is(s);
    an_image_in_place_gives_the_same_index(s);
    a_huge_hole_costs_nothing(s);
    pieces_must_follow_each_other(s);
    a_source_that_ends_too_early_fails(s);
    damage(s);
    building_and_opening_without_memory(s);
    an_image_in_place_is_synced(s);
    building_on_a_failing_store(s);
    vs_store_close(s);
    close(dir_fd);
    return 0;
}
