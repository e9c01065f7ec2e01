/* fuzz_table.c: packed tables. The first byte says how many columns; the rest is a table.
 *
 * What opens can be read: each row in three ways that agree, searches that agree with a walk where column 0 ascends, and, written anew, the
 * same rows.
 */
#include <string.h>

#include "codec.h"
#include "packed.h"
#include "repair.h"
#include "require.h"

enum { ROWS_WALKED = 1024, KEYS_MAX = 24 };

static uint64_t count_le(const vs_packed *t, uint64_t key, uint64_t rows) {
    uint64_t n = 0;
    while (n < rows && vs_packed_value(t, n, 0) <= key) n++;
    return n;
}

static void rows_read(const vs_packed *t, uint64_t rows, vs_packed_writer *w, int *ascends) {
    uint64_t row[VS_PACKED_COLUMNS_MAX], first[VS_PACKED_COLUMNS_MAX], before = 0;
    for (uint64_t i = 0; i < rows; i++) {
        vs_packed_row(t, i, row);
        vs_packed_first(t, i, (t->columns + 1) / 2, first);
        REQUIRE(memcmp(row, first, (t->columns + 1) / 2 * sizeof *row) == 0, "some columns are those of all");
        for (uint32_t c = 0; c < t->columns; c++) REQUIRE(vs_packed_value(t, i, c) == row[c], "one value is that of its row");
        if (i && row[0] < before) *ascends = 0;
        before = row[0];
        REQUIRE(vs_packed_append(w, row) == 0, "a row is taken");
    }
}

static void searches(const vs_packed *t, uint64_t rows) {
    for (uint64_t i = 0; i < KEYS_MAX && i < rows; i++) {
        uint64_t key = vs_packed_value(t, i * rows / (rows < KEYS_MAX ? rows : KEYS_MAX), 0);
        for (int step = -1; step <= 1; step++) {
            uint64_t k = key + (uint64_t)(int64_t)step;
            REQUIRE(vs_packed_count_le(t, k) == count_le(t, k, rows), "a search finds what a walk finds");
        }
    }
}

static void written_anew(vs_packed_writer *w, const vs_packed *t, uint64_t rows) {
    uint8_t *bytes;
    size_t length;
    vs_packed again;
    uint64_t a[VS_PACKED_COLUMNS_MAX], b[VS_PACKED_COLUMNS_MAX];
    REQUIRE(vs_packed_finish(w, &bytes, &length) == 0, "it is written");
    REQUIRE(vs_packed_open(bytes, length, t->columns, &again) == 0 && again.rows == rows, "what was written opens");
    for (uint64_t i = 0; i < rows; i++) {
        vs_packed_row(t, i, a);
        vs_packed_row(&again, i, b);
        REQUIRE(memcmp(a, b, t->columns * sizeof *a) == 0, "rows are as they were");
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    vs_packed t;
    vs_packed_writer *w;
    if (size == 0) return 0;
    uint32_t columns = data[0] % 10;
    uint8_t *bytes = malloc(size - 1 ? size - 1 : 1);
    memcpy(bytes, data + 1, size - 1);
    if (vs_packed_open(bytes, size - 1, columns, &t) == 0) {
        uint64_t rows = t.rows < ROWS_WALKED ? t.rows : ROWS_WALKED, last[VS_PACKED_COLUMNS_MAX];
        int ascends = 1;
        REQUIRE(vs_packed_writer_new(columns, &w) == 0, "a writer is made");
        rows_read(&t, rows, w, &ascends);
        if (t.rows) vs_packed_row(&t, t.rows - 1, last);
        vs_packed_count_le(&t, 1000);
        if (ascends && rows == t.rows) searches(&t, rows);
        written_anew(w, &t, rows);
        vs_packed_writer_free(w);
    }
    free(bytes);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    uint32_t state = seed * 2654435761u + 1;
    if (fuzz_below(&state, 2) || size < 48) size = LLVMFuzzerMutate(data, size, room);
    else fuzz_field(data + 1 + fuzz_below(&state, (uint32_t)(size - 9)), 1u << fuzz_below(&state, 4), &state);
    if (size < 2 || fuzz_below(&state, 4) == 0) return size;
    uint32_t columns = vs_get32(data + 1 + (size >= 13 ? 8 : 0));
    if (fuzz_below(&state, 2) && size >= 13) vs_put32(data + 9, data[0] % 10);
    if (columns > 0 && columns <= 8) data[0] = (uint8_t)columns;
    repair_packed(data + 1, size - 1, &state);
    uint64_t groups = size >= 33 ? vs_get64(data + 17) : UINT64_MAX;
    if (groups < 100 && 33 + groups * 16 <= size) { /* a table ends behind its padding */
        size_t whole = (size_t)(24 + groups * 16 + 8 + vs_get64(data + 1 + 24 + groups * 16) + 8 + 7) & ~(size_t)7;
        if (whole + 1 <= room && whole + 1 > size) memset(data + size, 0, whole + 1 - size);
        if (whole + 1 <= room) size = whole + 1;
        uint32_t places = (uint32_t)(24 + groups * 16 + 8) / 8;
        if (fuzz_below(&state, 4) == 0) fuzz_field(data + 1 + 8 * fuzz_below(&state, places), 8, &state);
    }
    return size;
}
