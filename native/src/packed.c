/* packed.c: packed tables, written group by group and read in place.
 *
 * Reading trusts nothing but what vs_packed_open has looked at: it follows every group's header once, so that afterwards
 * each value of each row is known to lie inside. The 8 zero bytes at the end let a value be loaded as 8 bytes wherever it begins; the
 * ninth is touched only by values that reach into it.
 */
#include "packed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

enum { TABLE_HEAD = 24, COLUMN_HEAD = 10, TABLE_PADDING = 8, CACHE_LINE_BYTES = 64, PREFETCH_BYTES = 6 * CACHE_LINE_BYTES };

static size_t bits_bytes(uint64_t rows, unsigned width) {
    return (size_t)((rows * width + 7) / 8);
}

/* Counts, fences and starts of a table; groups are few enough not to overflow. */
static size_t head_bytes(uint64_t groups) {
    return TABLE_HEAD + (size_t)groups * 16 + 8;
}

static size_t whole_bytes(uint64_t groups, size_t data_bytes) {
    return (head_bytes(groups) + data_bytes + TABLE_PADDING + 7) & ~(size_t)7;
}

/* ---- reading ---- */

/* One column of one group: where its bits are, and how they become values. */
typedef struct column {
    uint64_t minimum;
    unsigned shift, width;
    const uint8_t *bits;
} column;

static uint64_t rows_in_group(const vs_packed *t, uint64_t group) {
    uint64_t left = t->rows - group * VS_PACKED_GROUP;
    return left < VS_PACKED_GROUP ? left : VS_PACKED_GROUP;
}

static const uint8_t *group_at(const vs_packed *t, uint64_t group) {
    return t->data + vs_get64(t->starts + group * 8);
}

/* The column whose head stands at head and whose bits begin at bits. */
static column column_at(const uint8_t *head, const uint8_t *bits) {
    return (column){.minimum = vs_get64(head), .shift = head[8], .width = head[9], .bits = bits};
}

/* The i-th value as it is stored; 0 where all are the same. Where it may reach into a ninth byte, that is read too. */
static inline uint64_t column_bits(const column *c, uint64_t i) {
    uint64_t first_bit = i * c->width;
    const uint8_t *p = c->bits + first_bit / 8;
    unsigned skip = first_bit % 8;
    uint64_t v = vs_get64(p) >> skip;
    if (skip + c->width > 64) v |= (uint64_t)p[8] << (64 - skip);
    return c->width < 64 ? v & (((uint64_t)1 << c->width) - 1) : v;
}

static inline uint64_t column_value(const column *c, uint64_t i) {
    return c->width == 0 ? c->minimum : c->minimum + (column_bits(c, i) << c->shift);
}

void vs_packed_first(const vs_packed *t, uint64_t i, uint32_t count, uint64_t *values) {
    uint64_t group = i / VS_PACKED_GROUP, rows = rows_in_group(t, group);
    const uint8_t *head = group_at(t, group), *bits = head + t->columns * COLUMN_HEAD;
    for (uint32_t k = 0; k < count; k++) {
        column c = column_at(head + k * COLUMN_HEAD, bits);
        values[k] = column_value(&c, i % VS_PACKED_GROUP);
        bits += bits_bytes(rows, c.width);
    }
}

void vs_packed_row(const vs_packed *t, uint64_t i, uint64_t *row) {
    vs_packed_first(t, i, t->columns, row);
}

uint64_t vs_packed_value(const vs_packed *t, uint64_t i, uint32_t column_index) {
    uint64_t group = i / VS_PACKED_GROUP, rows = rows_in_group(t, group);
    const uint8_t *head = group_at(t, group), *bits = head + t->columns * COLUMN_HEAD;
    for (uint32_t k = 0; k < column_index; k++) bits += bits_bytes(rows, head[k * COLUMN_HEAD + 9]);
    column c = column_at(head + column_index * COLUMN_HEAD, bits);
    return column_value(&c, i % VS_PACKED_GROUP);
}

/* Searches of several tables go step by step side by side: a step needs what the one before it found, and a processor waits for
 * that unless it has another search to go on with. No branch depends on what is found: it would be guessed wrong every second time. */

/* low[i]: how many groups of table i begin at or before key. */
static void fences_le(const vs_packed *const *tables, int count, uint64_t key, uint64_t *low) {
    uint64_t left[VS_PACKED_AT_ONCE], most = 0;
    for (int i = 0; i < count; i++) {
        low[i] = 0;
        left[i] = tables[i]->groups;
        if (left[i] > most) most = left[i];
    }
    for (; most > 1; most -= most / 2) {
        for (int i = 0; i < count; i++) {
            uint64_t half = left[i] / 2, at = low[i] + half - (half > 0);
            low[i] += half & -(uint64_t)(vs_get64(tables[i]->fences + at * 8) <= key);
            left[i] -= half;
        }
    }
    for (int i = 0; i < count; i++) low[i] += left[i] > 0 && vs_get64(tables[i]->fences + low[i] * 8) <= key;
}

/* The search in one group, whose first row is <= key. Bits ascend as the values do. */
typedef struct group_search {
    column c;
    uint64_t bits; /* the largest that stand for a value <= key */
    uint64_t low, left;
} group_search;

static group_search group_begin(const vs_packed *t, uint64_t group, uint64_t key) {
    const uint8_t *head = group_at(t, group);
    group_search g = {.c = column_at(head, head + t->columns * COLUMN_HEAD), .left = rows_in_group(t, group)};
    g.bits = (key - g.c.minimum) >> g.c.shift;
    return g;
}

static void group_step(group_search *g) {
    uint64_t half = g->left / 2, at = g->low + half - (half > 0);
    g->low += half & -(uint64_t)(column_bits(&g->c, at) <= g->bits);
    g->left -= half;
}

static uint64_t group_found(const group_search *g) {
    return g->low - (g->low > 0 && column_bits(&g->c, g->low) > g->bits);
}

/* Bring what a search in the group needs: its heads and, at usual widths, the first column's bits. */
static void group_prefetch(const uint8_t *head) {
    for (int at = 0; at < PREFETCH_BYTES; at += CACHE_LINE_BYTES) __builtin_prefetch(head + at);
}

void vs_packed_find_le(const vs_packed *const *tables, int count, uint64_t key, uint64_t *rows) {
    uint64_t groups[VS_PACKED_AT_ONCE];
    group_search search[VS_PACKED_AT_ONCE];
    fences_le(tables, count, key, groups);
    for (int i = 0; i < count; i++)
        if (groups[i] > 0) group_prefetch(group_at(tables[i], groups[i] - 1));
    for (int i = 0; i < count; i++) search[i] = groups[i] > 0 ? group_begin(tables[i], groups[i] - 1, key) : (group_search){0};
    for (int most = VS_PACKED_GROUP; most > 1; most /= 2)
        for (int i = 0; i < count; i++)
            if (search[i].left > 1) group_step(&search[i]);
    for (int i = 0; i < count; i++) rows[i] = groups[i] > 0 ? (groups[i] - 1) * VS_PACKED_GROUP + group_found(&search[i]) : VS_PACKED_NONE;
}

uint64_t vs_packed_count_le(const vs_packed *t, uint64_t key) {
    uint64_t row;
    vs_packed_find_le(&t, 1, key, &row);
    return row == VS_PACKED_NONE ? 0 : row + 1;
}

/* ---- opening ---- */

/* Is the group's length what its columns need, and its fence its first value? Its start lies in the data of data_bytes. */
static int group_is_sound(const vs_packed *t, uint64_t group, uint64_t data_bytes) {
    uint64_t start = vs_get64(t->starts + group * 8), end = vs_get64(t->starts + group * 8 + 8);
    size_t need = (size_t)t->columns * COLUMN_HEAD;
    if (end > data_bytes || start > end || end - start < need) return 0;
    const uint8_t *head = t->data + start;
    for (uint32_t k = 0; k < t->columns; k++) {
        unsigned shift = head[k * COLUMN_HEAD + 8], width = head[k * COLUMN_HEAD + 9];
        if (shift > 63 || width > 64 || shift + width > 64) return 0;
        need += bits_bytes(rows_in_group(t, group), width);
    }
    if (end - start != need) return 0;
    column first = column_at(head, head + t->columns * COLUMN_HEAD);
    uint64_t fence = column_value(&first, 0);
    /* Below its minimum it would have overflown; searches go by bits, which then do not ascend as values do. */
    return fence == vs_get64(t->fences + group * 8) && fence >= first.minimum;
}

/* Do rows and groups agree, and is there room for the head? */
static int counts_are_sound(uint64_t rows, uint64_t groups, size_t length_bytes) {
    return groups <= length_bytes / 16 && head_bytes(groups) + TABLE_PADDING <= length_bytes &&
           groups == rows / VS_PACKED_GROUP + (rows % VS_PACKED_GROUP != 0);
}

/* Do the groups begin at 0, end where nothing but padding follows, and lie between? */
static int groups_are_sound(const vs_packed *t, size_t length_bytes) {
    uint64_t data_bytes = vs_get64(t->starts + t->groups * 8);
    if (vs_get64(t->starts) != 0 || data_bytes > length_bytes) return 0;
    if (whole_bytes(t->groups, (size_t)data_bytes) != length_bytes) return 0;
    if (!vs_is_zero(t->data + data_bytes, length_bytes - head_bytes(t->groups) - (size_t)data_bytes)) return 0;
    for (uint64_t g = 0; g < t->groups; g++) {
        if (!group_is_sound(t, g, data_bytes)) return 0;
    }
    return 1;
}

int vs_packed_open(const void *bytes, size_t length_bytes, uint32_t columns, vs_packed *out) {
    const uint8_t *p = bytes;
    if (columns == 0 || columns > VS_PACKED_COLUMNS_MAX) return -EINVAL;
    if (length_bytes < whole_bytes(0, 0)) return -EBADMSG;
    uint64_t rows = vs_get64(p), groups = vs_get64(p + 16);
    if (vs_get32(p + 8) != columns || vs_get32(p + 12) != VS_PACKED_GROUP) return -EBADMSG;
    if (!counts_are_sound(rows, groups, length_bytes)) return -EBADMSG;
    vs_packed t = {.bytes = p, .rows = rows, .columns = columns, .groups = groups};
    t.fences = p + TABLE_HEAD;
    t.starts = t.fences + groups * 8;
    t.data = p + head_bytes(groups);
    if (!groups_are_sound(&t, length_bytes)) return -EBADMSG;
    *out = t;
    return 0;
}

/* ---- writing ---- */

typedef struct buffer {
    uint8_t *bytes;
    size_t length, room;
} buffer;

static int buffer_reserve(buffer *b, size_t more) {
    if (b->room - b->length >= more) return 0;
    size_t room = b->room * 2 > b->length + more ? b->room * 2 : b->length + more;
    uint8_t *grown = realloc(b->bytes, room);
    if (!grown) return -ENOMEM;
    b->bytes = grown;
    b->room = room;
    return 0;
}

static void buffer_put64(buffer *b, uint64_t v) {
    vs_put64(b->bytes + b->length, v);
    b->length += 8;
}

struct vs_packed_writer {
    uint32_t columns;
    uint32_t pending; /* rows not encoded yet */
    uint64_t rows;    /* all of them */
    uint64_t values[VS_PACKED_COLUMNS_MAX][VS_PACKED_GROUP]; /* of the pending rows */
    buffer fences, starts, data; /* as in the file; the last start is put by finish */
};

int vs_packed_writer_new(uint32_t columns, vs_packed_writer **out) {
    if (columns == 0 || columns > VS_PACKED_COLUMNS_MAX) return -EINVAL;
    vs_packed_writer *w = calloc(1, sizeof *w);
    if (!w) return -ENOMEM;
    w->columns = columns;
    *out = w;
    return 0;
}

/* The frame of reference of n values; bits is not set. */
static column column_fit(const uint64_t *values, uint32_t n) {
    uint64_t minimum = values[0], differences = 0;
    for (uint32_t i = 1; i < n; i++) minimum = values[i] < minimum ? values[i] : minimum;
    for (uint32_t i = 0; i < n; i++) differences |= values[i] - minimum;
    if (differences == 0) return (column){.minimum = minimum};
    unsigned shift = (unsigned)__builtin_ctzll(differences);
    return (column){.minimum = minimum, .shift = shift, .width = 64 - (unsigned)__builtin_clzll(differences) - shift};
}

static void column_put_head(buffer *b, const column *c) {
    buffer_put64(b, c->minimum);
    b->bytes[b->length++] = (uint8_t)c->shift;
    b->bytes[b->length++] = (uint8_t)c->width;
}

/* Bits gather in a word from its low end; whenever it is full, its 8 bytes are put. */
static void column_put_bits(buffer *b, const column *c, const uint64_t *values, uint32_t n) {
    uint64_t word = 0;
    unsigned filled = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bits = (values[i] - c->minimum) >> c->shift;
        word |= bits << filled;
        filled += c->width;
        if (filled < 64) continue;
        buffer_put64(b, word);
        filled -= 64;
        word = filled > 0 ? bits >> (c->width - filled) : 0;
    }
    for (; filled > 0; filled -= filled < 8 ? filled : 8, word >>= 8) b->bytes[b->length++] = (uint8_t)word;
}

/* Everything is reserved before anything is put: a group is there whole or not at all. */
static int encode_group(vs_packed_writer *w) {
    uint32_t n = w->pending;
    int r = buffer_reserve(&w->fences, 8);
    if (r == 0) r = buffer_reserve(&w->starts, 8);
    if (r == 0) r = buffer_reserve(&w->data, w->columns * (COLUMN_HEAD + (size_t)n * 8));
    if (r < 0) return r;
    buffer_put64(&w->fences, w->values[0][0]);
    buffer_put64(&w->starts, w->data.length);
    column fits[VS_PACKED_COLUMNS_MAX];
    for (uint32_t k = 0; k < w->columns; k++) {
        fits[k] = column_fit(w->values[k], n);
        column_put_head(&w->data, &fits[k]);
    }
    for (uint32_t k = 0; k < w->columns; k++) {
        if (fits[k].width > 0) column_put_bits(&w->data, &fits[k], w->values[k], n);
    }
    w->pending = 0;
    return 0;
}

int vs_packed_append(vs_packed_writer *w, const uint64_t *row) {
    if (w->pending == VS_PACKED_GROUP) {
        int r = encode_group(w);
        if (r < 0) return r;
    }
    for (uint32_t k = 0; k < w->columns; k++) w->values[k][w->pending] = row[k];
    w->pending++;
    w->rows++;
    return 0;
}

static void put_table(const vs_packed_writer *w, uint8_t *p) {
    uint64_t groups = w->fences.length / 8;
    vs_put64(p, w->rows);
    vs_put32(p + 8, w->columns);
    vs_put32(p + 12, VS_PACKED_GROUP);
    vs_put64(p + 16, groups);
    p += TABLE_HEAD;
    if (groups > 0) {
        memcpy(p, w->fences.bytes, w->fences.length);
        memcpy(p + groups * 8, w->starts.bytes, w->starts.length);
        memcpy(p + groups * 16 + 8, w->data.bytes, w->data.length);
    }
    vs_put64(p + groups * 16, w->data.length);
}

int vs_packed_finish(vs_packed_writer *w, uint8_t **bytes, size_t *length_bytes) {
    int r = w->pending > 0 ? encode_group(w) : 0;
    if (r < 0) return r;
    size_t total = whole_bytes(w->fences.length / 8, w->data.length);
    uint8_t *p = calloc(1, total);
    if (!p) return -ENOMEM;
    put_table(w, p);
    *bytes = p;
    *length_bytes = total;
    return 0;
}

uint64_t vs_packed_writer_rows(const vs_packed_writer *w) {
    return w->rows;
}

void vs_packed_writer_free(vs_packed_writer *w) {
    if (!w) return;
    free(w->fences.bytes);
    free(w->starts.bytes);
    free(w->data.bytes);
    free(w);
}
