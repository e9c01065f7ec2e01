/* Packed tables: exact bytes, round trips of every shape, and what malformed tables may do (nothing). */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "codec.h"
#include "faults.h"
#include "packed.h"

enum { HEAD = 24, ROWS_MAX = 1000 };

/* A table of `columns` columns in an allocation of exactly its length, so that a read past it is seen. */
typedef struct table {
    uint8_t *bytes;
    size_t length;
} table;

static table encode(const uint64_t *values, uint64_t rows, uint32_t columns) {
    vs_packed_writer *w;
    table t;
    CHECK_EQ(vs_packed_writer_new(columns, &w), 0);
    for (uint64_t i = 0; i < rows; i++) CHECK_EQ(vs_packed_append(w, values + i * columns), 0);
    CHECK_EQ(vs_packed_writer_rows(w), rows);
    CHECK_EQ(vs_packed_finish(w, &t.bytes, &t.length), 0);
    CHECK_EQ(t.length % 8, 0);
    vs_packed_writer_free(w);
    return t;
}

static void check_equal(const vs_packed *p, const uint64_t *values, uint64_t rows, uint32_t columns) {
    CHECK_EQ(p->rows, rows);
    for (uint64_t i = 0; i < rows; i++) {
        uint64_t row[VS_PACKED_COLUMNS_MAX];
        vs_packed_row(p, i, row);
        CHECK(memcmp(row, values + i * columns, columns * sizeof *row) == 0);
        for (uint32_t k = 0; k < columns; k++) CHECK(vs_packed_value(p, i, k) == row[k]);
    }
}

static void round_trip(const uint64_t *values, uint64_t rows, uint32_t columns) {
    table t = encode(values, rows, columns);
    vs_packed p;
    CHECK_EQ(vs_packed_open(t.bytes, t.length, columns, &p), 0);
    check_equal(&p, values, rows, columns);
    uint8_t *shifted = malloc(t.length + 1);
    memcpy(shifted + 1, t.bytes, t.length);
    CHECK_EQ(vs_packed_open(shifted + 1, t.length, columns, &p), 0);
    check_equal(&p, values, rows, columns);
    free(shifted);
    free(t.bytes);
}

/* native/FORMAT.md section 3, by hand: 4096, 8192, 16384 are 0, 1, 3 in units of 4096 above the minimum. */
static void bytes_are_those_of_the_format(void) {
    const uint64_t values[] = {4096, 7, 8192, 7, 16384, 7};
    const uint8_t wanted[80] = {
        3, [8] = 2, [12] = 128, [16] = 1, /* rows, columns, group, groups */
        [25] = 0x10,                      /* fence 4096 */
        [40] = 21,                        /* starts 0, 21 */
        [49] = 0x10, [56] = 12, [57] = 2, /* column 0: minimum 4096, shift 12, width 2 */
        [58] = 7,                         /* column 1: minimum 7, shift 0, width 0 */
        [68] = 0x34,                      /* 3, 1, 0 from the high end: 11 01 00 */
    };
    table t = encode(values, 3, 2);
    CHECK_EQ(t.length, sizeof wanted);
    CHECK(memcmp(t.bytes, wanted, sizeof wanted) == 0);
    free(t.bytes);
}

static void every_width_and_shift(void) {
    static uint64_t values[300 * 2];
    uint64_t seed = 3;
    for (unsigned width = 0; width <= 64; width++) {
        for (unsigned shift = 0; width + shift <= 64; shift += 1 + shift / 3) {
            uint64_t mask = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
            for (int i = 0; i < 300; i++) {
                values[i * 2] = shift == 64 ? 0 : (draw(&seed) & mask) << shift;
                values[i * 2 + 1] = UINT64_MAX - values[i * 2];
            }
            round_trip(values, 300, 2);
        }
    }
}

static void every_count_of_rows_and_columns(void) {
    static const uint64_t counts[] = {0, 1, 2, 127, 128, 129, 255, 256, 257, ROWS_MAX};
    static uint64_t values[ROWS_MAX * VS_PACKED_COLUMNS_MAX];
    uint64_t seed = 4;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) values[i] = draw(&seed) >> (i * 7 % 64);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (uint32_t columns = 1; columns <= VS_PACKED_COLUMNS_MAX; columns++) round_trip(values, counts[c], columns);
    }
}

static void constants_and_extremes(void) {
    static uint64_t values[ROWS_MAX];
    static const uint64_t constants[] = {0, 1, 4096, UINT64_MAX, (uint64_t)1 << 63};
    for (size_t c = 0; c < sizeof constants / sizeof *constants; c++) {
        for (int i = 0; i < ROWS_MAX; i++) values[i] = constants[c];
        round_trip(values, ROWS_MAX, 1);
        values[500] = ~constants[c];
        round_trip(values, ROWS_MAX, 1);
    }
}

static void counts_below_a_key(void) {
    static uint64_t values[ROWS_MAX];
    uint64_t seed = 5, last = 10;
    for (int i = 0; i < ROWS_MAX; i++) values[i] = last += draw_below(&seed, 4) * 3; /* repeats, over group borders too */
    for (int i = 100; i < 420; i++) values[i] = values[100];
    for (uint64_t rows = 0; rows <= ROWS_MAX; rows += rows < 3 || rows > 997 ? 1 : 83) {
        table t = encode(values, rows, 1);
        vs_packed p;
        CHECK_EQ(vs_packed_open(t.bytes, t.length, 1, &p), 0);
        uint64_t count = 0;
        for (uint64_t key = 0; key < last + 5; key++) {
            while (count < rows && values[count] <= key) count++;
            CHECK_EQ(vs_packed_count_le(&p, key), count);
        }
        CHECK_EQ(vs_packed_count_le(&p, UINT64_MAX), rows);
        free(t.bytes);
    }
}

/* Touch everything that an opened table offers. */
static uint64_t read_all(const vs_packed *p) {
    uint64_t sum = 0, row[VS_PACKED_COLUMNS_MAX];
    for (uint64_t i = 0; i < p->rows; i++) {
        vs_packed_row(p, i, row);
        for (uint32_t k = 0; k < p->columns; k++) sum += row[k] ^ vs_packed_value(p, i, k);
        uint64_t first[2];
        vs_packed_first(p, i, 2, first);
        sum += (first[0] ^ row[0]) + (first[1] ^ row[1]);
    }
    for (unsigned shift = 0; shift < 64; shift++) {
        uint64_t count = vs_packed_count_le(p, UINT64_MAX >> shift);
        CHECK(count <= p->rows);
    }
    return sum;
}

/* Open `bytes` as a table of 3 columns; it may be one or not, but then it must be readable. */
static int try_open(const uint8_t *bytes, size_t length) {
    vs_packed p;
    int r = vs_packed_open(bytes, length, 3, &p);
    CHECK(r == 0 || r == -EBADMSG);
    if (r == 0) CHECK(read_all(&p) == 0); /* row and value agree */
    return r;
}

static table sample(uint64_t rows) {
    static uint64_t values[ROWS_MAX * 3];
    uint64_t seed = 6;
    for (uint64_t i = 0; i < rows; i++) {
        values[i * 3] = i * 4096 + draw_below(&seed, 4096);
        values[i * 3 + 1] = draw(&seed);
        values[i * 3 + 2] = i / 100;
    }
    return encode(values, rows, 3);
}

static void no_flipped_bit_leads_out(void) {
    table t = sample(260);
    for (size_t bit = 0; bit < t.length * 8; bit++) {
        t.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int r = try_open(t.bytes, t.length);
        int is_frame = bit < 8 * (HEAD + 3 * 8 + 4 * 8) || bit >= 8 * (t.length - 8);
        if (is_frame) CHECK_EQ(r, -EBADMSG); /* counts, fences, starts, padding: never accepted */
        t.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK_EQ(try_open(t.bytes, t.length), 0);
    free(t.bytes);
}

static void no_cut_or_longer_table_is_accepted(void) {
    table t = sample(260);
    for (size_t length = 0; length < t.length + 40; length++) {
        if (length == t.length) continue;
        uint8_t *other = calloc(1, length + 1);
        memcpy(other, t.bytes, length < t.length ? length : t.length);
        CHECK_EQ(try_open(other, length), -EBADMSG);
        free(other);
    }
    free(t.bytes);
}

static void no_storm_leads_out(void) {
    static const uint8_t bad[] = {0, 1, 63, 64, 65, 127, 128, 255};
    uint64_t seed = 7;
    for (int round = 0; round < 20000; round++) {
        table t = sample(draw_below(&seed, 140));
        for (uint64_t n = 1 + draw_below(&seed, 6); n > 0; n--) {
            t.bytes[draw_below(&seed, t.length < 120 || n % 2 ? t.length : 120)] = bad[draw_below(&seed, sizeof bad)];
        }
        try_open(t.bytes, t.length);
        free(t.bytes);
    }
}

/* Lengths and widths that agree with each other, but not with what fits: sums must not wrap. */
static void no_huge_count_leads_out(void) {
    table t = sample(0);
    static const uint64_t huge[] = {1, 128, (uint64_t)1 << 60, (uint64_t)1 << 61, UINT64_MAX / 16, UINT64_MAX - 127, UINT64_MAX};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        for (size_t k = 0; k < sizeof huge / sizeof *huge; k++) {
            vs_put64(t.bytes, huge[i]);
            vs_put64(t.bytes + 16, huge[k]);
            CHECK_EQ(try_open(t.bytes, t.length), -EBADMSG);
            vs_put64(t.bytes + 16, huge[i] / 128 + (huge[i] % 128 != 0));
            vs_put64(t.bytes + HEAD, huge[k]);
            CHECK_EQ(try_open(t.bytes, t.length), -EBADMSG);
        }
    }
    free(t.bytes);
}

/* Each of these is right in itself, or in all but one number. */
static void no_false_agreement_is_accepted(void) {
    enum { GROUPS = 3, COLUMNS = 3, WIDEST = COLUMNS * (10 + 128 * 8) };
    enum { STARTS = HEAD + GROUPS * 8, DATA = STARTS + (GROUPS + 1) * 8, SHIFT = DATA + 8, WIDTH = DATA + 9 };
    table t = sample(257);
    for (int k = 0; k < COLUMNS; k++) t.bytes[WIDTH + k * 10] = 64, t.bytes[SHIFT + k * 10] = 0;
    vs_put64(t.bytes + STARTS + 8, WIDEST); /* the first group is as long as it says, so that the second begins past the table */
    vs_put64(t.bytes + STARTS + 16, 2 * WIDEST);
    vs_put64(t.bytes + HEAD, vs_get64(t.bytes + DATA) + vs_get64(t.bytes + DATA + COLUMNS * 10));
    CHECK(t.length < WIDEST + DATA);
    CHECK_EQ(try_open(t.bytes, t.length), -EBADMSG);
    free(t.bytes);
    t = sample(257);
    CHECK_EQ(t.bytes[WIDTH + 10], 64);
    t.bytes[SHIFT + 10] = 1; /* more than 64 bits */
    CHECK_EQ(try_open(t.bytes, t.length), -EBADMSG);
    free(t.bytes);
    const uint8_t gap[48] = {[8] = 3, [12] = 128, [HEAD] = 3}; /* no groups, and 3 bytes of them */
    CHECK_EQ(try_open(gap, sizeof gap), -EBADMSG);
}

static void wrong_columns(void) {
    table t = sample(5);
    vs_packed p;
    vs_packed_writer *w;
    CHECK_EQ(vs_packed_open(t.bytes, t.length, 2, &p), -EBADMSG);
    CHECK_EQ(vs_packed_open(t.bytes, t.length, 0, &p), -EINVAL);
    CHECK_EQ(vs_packed_open(t.bytes, t.length, 9, &p), -EINVAL);
    CHECK_EQ(vs_packed_writer_new(0, &w), -EINVAL);
    CHECK_EQ(vs_packed_writer_new(9, &w), -EINVAL);
    free(t.bytes);
}

/* An append that failed may be tried again: nothing is lost, nothing is there twice. */
static void appends_survive_a_lack_of_memory(void) {
    static uint64_t values[ROWS_MAX];
    uint64_t seed = 8;
    int failures = 0;
    for (int i = 0; i < ROWS_MAX; i++) values[i] = draw(&seed);
    for (long good = 0; good < 3; good++) {
        vs_packed_writer *w;
        table t;
        vs_packed p;
        CHECK_EQ(vs_packed_writer_new(1, &w), 0);
        for (int i = 0; i < ROWS_MAX; i++) {
            faults_fail_allocations(good);
            int r = vs_packed_append(w, values + i);
            faults_fail_allocations(-1);
            if (r == 0) continue;
            CHECK_EQ(r, -ENOMEM);
            CHECK_EQ(vs_packed_append(w, values + i), 0);
            failures++;
        }
        faults_fail_allocations(0);
        CHECK_EQ(vs_packed_finish(w, &t.bytes, &t.length), -ENOMEM);
        faults_fail_allocations(-1);
        CHECK_EQ(vs_packed_finish(w, &t.bytes, &t.length), 0);
        CHECK_EQ(vs_packed_open(t.bytes, t.length, 1, &p), 0);
        check_equal(&p, values, ROWS_MAX, 1);
        vs_packed_writer_free(w);
        free(t.bytes);
    }
    CHECK(failures >= 3);
    vs_packed_writer_free(NULL);
}

/* What the tables are for: 4 KiB writes in order cost few bytes each. */
static void ordered_rows_are_small(void) {
    vs_packed_writer *w;
    table t;
    CHECK_EQ(vs_packed_writer_new(4, &w), 0);
    for (uint64_t i = 0; i < 100000; i++) {
        CHECK_EQ(vs_packed_append(w, (const uint64_t[]){i * 8192, 4096, 0, i + 2}), 0);
    }
    CHECK_EQ(vs_packed_finish(w, &t.bytes, &t.length), 0);
    CHECK(t.length < 100000 * 3);
    vs_packed_writer_free(w);
    free(t.bytes);
}

int main(void) {
    bytes_are_those_of_the_format();
    every_width_and_shift();
    every_count_of_rows_and_columns();
    constants_and_extremes();
    counts_below_a_key();
    no_flipped_bit_leads_out();
    no_cut_or_longer_table_is_accepted();
    no_storm_leads_out();
    no_huge_count_leads_out();
    no_false_agreement_is_accepted();
    wrong_columns();
    appends_survive_a_lack_of_memory();
    ordered_rows_are_small();
    return 0;
}
