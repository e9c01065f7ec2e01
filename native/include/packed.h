/* packed.h: a table of u64 columns, read in place, small enough that indexes do not rival the data.
 *
 * Rows are kept in groups of VS_PACKED_GROUP; in a group each column is stored as minimum, common trailing zero bits
 * and as many bits per value as the largest needs (frame of reference). A row is decoded without its neighbours, so a
 * binary search over a mapped file touches the fences and one group. Bytes: native/FORMAT.md section 3.
 *
 * Threads: a reader is immutable. A writer belongs to one thread.
 */
#ifndef VS_PACKED_H
#define VS_PACKED_H

#include <stddef.h>
#include <stdint.h>

enum { VS_PACKED_GROUP = 128, VS_PACKED_COLUMNS_MAX = 8 };

typedef struct vs_packed {
    const uint8_t *bytes; /* the encoded table, borrowed */
    uint64_t rows;
    uint32_t columns;
    uint64_t groups;
    const uint8_t *fences;  /* u64[groups]: first column of each group's first row */
    const uint8_t *starts;  /* u64[groups + 1]: byte offset of each group in data */
    const uint8_t *data;
} vs_packed;

/* Check the shape of an encoded table (every offset in bounds, widths <= 64) and make it readable. The caller has checked
 * its checksum. -EBADMSG: not a table of that many columns; -EINVAL: columns is not 1 to 8. bytes may be unaligned. */
int vs_packed_open(const void *bytes, size_t length_bytes, uint32_t columns, vs_packed *out);

/* Decode row i (< rows) into row[columns]. */
void vs_packed_row(const vs_packed *t, uint64_t i, uint64_t *row);

/* One value of row i. */
uint64_t vs_packed_value(const vs_packed *t, uint64_t i, uint32_t column);

/* Only its first count columns. */
void vs_packed_first(const vs_packed *t, uint64_t i, uint32_t count, uint64_t *values);

/* For a table whose column 0 ascends: the number of rows whose column 0 is <= key (so the last such row is that - 1). */
uint64_t vs_packed_count_le(const vs_packed *t, uint64_t key);

/* The same in up to VS_PACKED_AT_ONCE tables, in little more time than in one. rows[i]: the last row of table i whose column 0 is <= key,
 * VS_PACKED_NONE: there is none. */
enum { VS_PACKED_AT_ONCE = 8 };
#define VS_PACKED_NONE UINT64_MAX
void vs_packed_find_le(const vs_packed *const *tables, int count, uint64_t key, uint64_t *rows);

typedef struct vs_packed_writer vs_packed_writer;

/* -ENOMEM. The caller ends the writer with vs_packed_writer_free. */
int vs_packed_writer_new(uint32_t columns, vs_packed_writer **out);

/* -ENOMEM: the row is not in it; the same call may be tried again. */
int vs_packed_append(vs_packed_writer *w, const uint64_t *row);

/* Encode everything; nothing is appended after it. *bytes (malloc, the caller frees) and *length_bytes (a multiple of 8) are the
 * table. -ENOMEM: may be tried again. */
int vs_packed_finish(vs_packed_writer *w, uint8_t **bytes, size_t *length_bytes);
uint64_t vs_packed_writer_rows(const vs_packed_writer *w);
void vs_packed_writer_free(vs_packed_writer *w);

#endif
