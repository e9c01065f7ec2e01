/* base.c: making a base index from an image, and reading it.
 *
 * The builder works in pieces of 1 MiB. Of each block it needs to know only whether it is zeros: if not, the block is copied,
 * its CRC goes into the table, and it prolongs the current run of data; a run that ends becomes a row of the map. Checksums are
 * stored xor that of a block of zeros, so what was never written in the index (a hole, all of a hole's blocks) is right as it is.
 *
 * The reader maps the index. It checks header and map once; an entry of the checksum table has no CRC of its own: if it is damaged, the
 * block it belongs to does not match, and that block alone is not readable.
 */
#include "base.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "format.h"
#include "status.h"

#define SIZE_BYTES_MAX ((uint64_t)1 << 62)

enum { PIECE_BYTES = 1 << 20, PIECE_BLOCKS = PIECE_BYTES / VS_BLOCK_BYTES, CRCS_AT = VS_BLOCK_BYTES };

/* The header's fields, native/FORMAT.md section 5. */
enum {
    AT_VERSION = 8,
    AT_FEATURES = 12,
    AT_UUID = 16,
    AT_VOLUME = 32,
    AT_SIZE = 40,
    AT_MAP_POSITION = 48,
    AT_MAP_LENGTH = 56,
    AT_MAP_CRC = 64,
    AT_DATA_BYTES = 72,
    AT_SEQNO = 80, /* from here on: of a base that was moved */
    AT_LAST_WRITE = 88,
    AT_LAST_WRITE_NS = 96,
    AT_PATCHES = 104,
    AT_PATCH_COUNT = 112,
    AT_PATCHES_CRC = 120,
};

static uint64_t blocks_of(uint64_t bytes) {
    return bytes / VS_BLOCK_BYTES + (bytes % VS_BLOCK_BYTES != 0);
}

/* The map follows the checksums, 8-aligned. */
static uint64_t map_position(uint64_t size_bytes) {
    return (CRCS_AT + 4 * blocks_of(size_bytes) + 7) & ~(uint64_t)7;
}

static int write_at(vs_store *s, int file, uint64_t offset_bytes, const void *p, size_t n) {
    return s->write(s, file, offset_bytes, &(struct iovec){(void *)(uintptr_t)p, n}, 1);
}

/* ---- the index ---- */

static uint64_t patches_position(const vs_base_index *x) {
    return map_position(x->size_bytes) + x->map_bytes;
}

uint64_t vs_base_crc_at(uint64_t block) {
    return CRCS_AT + block * 4;
}

uint64_t vs_base_patch_at(const vs_base_index *x, size_t i) {
    return (blocks_of(patches_position(x) + x->patch_count * 8) + i) * VS_BLOCK_BYTES;
}

static void moved_fill(uint8_t *header, const vs_base_index *x, uint32_t patches_crc) {
    vs_put32(header + AT_FEATURES, VS_FEATURE_MOVED);
    vs_put64(header + AT_SEQNO, x->seqno);
    vs_put64(header + AT_LAST_WRITE, x->last_write_seqno);
    vs_put64(header + AT_LAST_WRITE_NS, x->last_write_ns);
    vs_put64(header + AT_PATCHES, patches_position(x));
    vs_put64(header + AT_PATCH_COUNT, x->patch_count);
    vs_put32(header + AT_PATCHES_CRC, patches_crc);
}

static int header_write(vs_store *s, int file, const vs_base_index *x, uint32_t patches_crc) {
    uint8_t header[VS_BLOCK_BYTES] = VS_MAGIC_BASE;
    vs_put32(header + AT_VERSION, VS_FORMAT_VERSION);
    memcpy(header + AT_UUID, x->uuid, sizeof x->uuid);
    vs_put32(header + AT_VOLUME, x->volume);
    vs_put64(header + AT_SIZE, x->size_bytes);
    vs_put64(header + AT_MAP_POSITION, map_position(x->size_bytes));
    vs_put64(header + AT_MAP_LENGTH, x->map_bytes);
    vs_put32(header + AT_MAP_CRC, vs_crc32c(x->map, x->map_bytes));
    vs_put64(header + AT_DATA_BYTES, x->data_bytes);
    if (x->seqno) moved_fill(header, x, patches_crc);
    vs_block_seal(header);
    return write_at(s, file, 0, header, sizeof header);
}

int vs_base_index_write(vs_store *s, int file, const vs_base_index *x) {
    size_t list_bytes = x->patch_count * 8;
    uint8_t *list = malloc(list_bytes + 1);
    if (!list) return -ENOMEM;
    for (size_t i = 0; i < x->patch_count; i++) vs_put64(list + i * 8, x->patches[i]);
    int r = write_at(s, file, map_position(x->size_bytes), x->map, x->map_bytes);
    if (r == 0 && list_bytes) r = write_at(s, file, patches_position(x), list, list_bytes);
    if (r == 0) r = header_write(s, file, x, vs_crc32c(list, list_bytes));
    free(list);
    return r < 0 ? r : s->sync(s, file);
}

/* ---- building ---- */

struct vs_base_builder {
    vs_store *store;
    int source, image, index;
    int failed;
    uint8_t uuid[16];
    uint32_t volume;
    uint64_t size_bytes;
    uint64_t taken_bytes;
    uint64_t run_start, run_end; /* data that has no row yet; equal: none */
    uint64_t data_bytes;         /* of all rows */
    vs_packed_writer *map;
    vs_digest *digest;
    uint8_t crcs[PIECE_BLOCKS * 4];
    uint8_t piece[PIECE_BYTES];
};

int vs_base_builder_new(vs_store *s, const uint8_t uuid[16], uint32_t volume, uint64_t size_bytes, int source, int image, int index,
                        vs_base_builder **out) {
    if (size_bytes > SIZE_BYTES_MAX) return -EINVAL;
    vs_base_builder *b = calloc(1, sizeof *b);
    if (!b) return -ENOMEM;
    b->store = s;
    b->source = source;
    b->image = image;
    b->index = index;
    memcpy(b->uuid, uuid, sizeof b->uuid);
    b->volume = volume;
    b->size_bytes = size_bytes;
    int r = vs_packed_writer_new(VS_MAP_COLUMNS, &b->map);
    if (r == 0) r = vs_digest_new(&b->digest);
    if (r < 0) vs_base_builder_free(b);
    else *out = b;
    return r;
}

void vs_base_builder_free(vs_base_builder *b) {
    if (!b) return;
    vs_packed_writer_free(b->map);
    vs_digest_free(b->digest);
    free(b);
}

static int end_run(vs_base_builder *b) {
    if (b->run_start == b->run_end) return 0;
    uint64_t row[VS_MAP_COLUMNS] = {b->run_start, b->run_end - b->run_start, 0, b->run_start / VS_BLOCK_BYTES + 1};
    b->data_bytes += b->run_end - b->run_start;
    b->run_start = b->run_end;
    return vs_packed_append(b->map, row);
}

/* [start, end) holds data: prolong the run, or begin another. */
static int add_run(vs_base_builder *b, uint64_t start, uint64_t end) {
    int r = 0;
    if (start != b->run_end) {
        r = end_run(b);
        b->run_start = start;
    }
    b->run_end = end;
    return r;
}

/* Bytes [start, end) of the piece, which is the volume's at offset_bytes, are data. */
static int take_data(vs_base_builder *b, uint64_t offset_bytes, size_t start, size_t end) {
    int r = b->image >= 0 ? write_at(b->store, b->image, offset_bytes + start, b->piece + start, end - start) : 0;
    return r < 0 ? r : add_run(b, offset_bytes + start, offset_bytes + end);
}

static int digest_block(vs_base_builder *b, uint64_t offset_bytes, const uint8_t *block) {
    uint8_t at[8];
    vs_put64(at, offset_bytes);
    int r = vs_digest_update(b->digest, at, sizeof at);
    return r < 0 ? r : vs_digest_update(b->digest, block, VS_BLOCK_BYTES);
}

/* Fill in the checksums of the piece's blocks, and take each run of blocks that are not zeros. */
static int take_blocks(vs_base_builder *b, uint64_t offset_bytes, size_t n) {
    size_t start = 0, blocks = (size_t)blocks_of(n);
    for (size_t i = 0; i < blocks; i++) {
        const uint8_t *block = b->piece + i * VS_BLOCK_BYTES;
        int is_data = !vs_is_zero(block, VS_BLOCK_BYTES);
        vs_put32(b->crcs + i * 4, is_data ? vs_crc32c(block, VS_BLOCK_BYTES) ^ VS_CRC_ZERO_BLOCK : 0);
        int r = is_data ? digest_block(b, offset_bytes + i * VS_BLOCK_BYTES, block) : 0;
        if (!is_data && start < i) r = take_data(b, offset_bytes, start * VS_BLOCK_BYTES, i * VS_BLOCK_BYTES);
        if (r < 0) return r;
        if (!is_data) start = i + 1;
    }
    return start < blocks ? take_data(b, offset_bytes, start * VS_BLOCK_BYTES, n) : 0;
}

/* n: at most PIECE_BYTES, and whole blocks unless the piece is the volume's last. */
static int take_piece(vs_base_builder *b, uint64_t offset_bytes, size_t n) {
    int64_t got = b->store->read(b->store, b->source, offset_bytes, b->piece, n);
    if (got < 0) return (int)got;
    if ((size_t)got < n) {
        return vs_fault_set(-EIO, b->volume, 0, 0, offset_bytes + (uint64_t)got,
                            "the image of volume %" PRIu32 " ends at %" PRIu64 " of %" PRIu64 " bytes", b->volume,
                            offset_bytes + (uint64_t)got, b->size_bytes);
    }
    size_t crc_bytes = (size_t)blocks_of(n) * 4;
    memset(b->piece + n, 0, crc_bytes / 4 * VS_BLOCK_BYTES - n);
    int r = take_blocks(b, offset_bytes, n);
    if (r < 0 || vs_is_zero(b->crcs, crc_bytes)) return r;
    return write_at(b->store, b->index, CRCS_AT + offset_bytes / VS_BLOCK_BYTES * 4, b->crcs, crc_bytes);
}

static int take_pieces(vs_base_builder *b, uint64_t offset_bytes, uint64_t length_bytes) {
    while (length_bytes > 0) {
        size_t n = length_bytes < PIECE_BYTES ? (size_t)length_bytes : PIECE_BYTES;
        int r = take_piece(b, offset_bytes, n);
        if (r < 0) return r;
        offset_bytes += n;
        length_bytes -= n;
    }
    return 0;
}

int vs_base_builder_take(vs_base_builder *b, uint64_t offset_bytes, uint64_t length_bytes, int has_data) {
    if (b->failed < 0) return b->failed;
    if (offset_bytes != b->taken_bytes || length_bytes > b->size_bytes - offset_bytes) return -EINVAL;
    uint64_t end = offset_bytes + length_bytes;
    if (end % VS_BLOCK_BYTES != 0 && end != b->size_bytes) return -EINVAL;
    b->failed = has_data ? take_pieces(b, offset_bytes, length_bytes) : 0;
    b->taken_bytes = end;
    return b->failed;
}

static int write_index(vs_base_builder *b) {
    uint8_t *map;
    size_t map_bytes;
    int r = end_run(b);
    if (r == 0) r = vs_packed_finish(b->map, &map, &map_bytes);
    if (r < 0) return r;
    vs_base_index x = {.volume = b->volume, .size_bytes = b->size_bytes, .data_bytes = b->data_bytes, .map = map, .map_bytes = map_bytes};
    memcpy(x.uuid, b->uuid, sizeof x.uuid);
    r = vs_base_index_write(b->store, b->index, &x);
    free(map);
    return r;
}

/* A reflinked image may not be on stable storage either. */
static int settle_image(vs_base_builder *b) {
    if (b->image < 0) return b->store->sync(b->store, b->source);
    int r = b->store->truncate(b->store, b->image, b->size_bytes);
    return r < 0 ? r : b->store->sync(b->store, b->image);
}

int vs_base_builder_finish(vs_base_builder *b, uint64_t *data_bytes) {
    if (b->failed < 0) return b->failed;
    if (b->taken_bytes != b->size_bytes) return -EINVAL;
    b->failed = settle_image(b);
    if (b->failed == 0) b->failed = write_index(b);
    if (b->failed == 0) *data_bytes = b->data_bytes;
    return b->failed;
}

int vs_base_builder_digest(const vs_base_builder *b, uint8_t digest[32]) {
    return vs_digest_peek(b->digest, digest);
}

/* ---- reading ---- */

struct vs_base {
    vs_store *store;
    _Atomic int refs;
    uint32_t volume;
    uint64_t number;
    int image, index;      /* files, -1: not open */
    const uint8_t *mapped; /* the index, NULL: not mapped */
    uint64_t mapped_bytes;
    uint64_t size_bytes, data_bytes;
    vs_packed map;
    const uint8_t *patches; /* u64 each: their blocks */
    uint64_t patch_count;
    const uint8_t *patch_bytes;
};

static uint64_t next_number(void) {
    static _Atomic uint64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

static int damaged(const vs_base *b, uint64_t offset_bytes, const char *what) {
    return vs_fault_set(-EBADMSG, b->volume, 0, 0, offset_bytes, "base/%08" PRIx32 ".idx: %s", b->volume, what);
}

static int open_file(const vs_base *b, const char *suffix, int *file) {
    char path[32];
    snprintf(path, sizeof path, "base/%08" PRIx32 ".%s", b->volume, suffix);
    int r = b->store->open(b->store, path, VS_OPEN_READ);
    if (r < 0) return vs_fault_set(r, b->volume, 0, 0, 0, "%s: cannot be opened: %s", path, strerror(-r));
    *file = r;
    return 0;
}

static int map_index(vs_base *b) {
    int64_t size = b->store->size(b->store, b->index);
    if (size < 0) return vs_fault_set((int)size, b->volume, 0, 0, 0, "base/%08" PRIx32 ".idx: its size is unknown", b->volume);
    if (size < VS_BLOCK_BYTES) return damaged(b, 0, "shorter than its header");
    const void *p;
    int r = b->store->map(b->store, b->index, (uint64_t)size, &p);
    if (r < 0) return vs_fault_set(r, b->volume, 0, 0, 0, "base/%08" PRIx32 ".idx: cannot be mapped", b->volume);
    b->mapped = p;
    b->mapped_bytes = (uint64_t)size;
    return 0;
}

static int check_header(const vs_base *b, const uint8_t uuid[16]) {
    const uint8_t *h = b->mapped;
    if (memcmp(h, VS_MAGIC_BASE, 8) != 0) return damaged(b, 0, "not a base index");
    if (!vs_block_check(h)) return damaged(b, 0, "its header does not match its CRC");
    if (vs_get32(h + AT_VERSION) != VS_FORMAT_VERSION || (vs_get32(h + AT_FEATURES) & ~(uint32_t)VS_FEATURE_MOVED)) {
        return vs_fault_set(-EPROTONOSUPPORT, b->volume, 0, 0, AT_VERSION,
                            "base/%08" PRIx32 ".idx: version %" PRIu32 ", features %#" PRIx32 " are unknown to this program", b->volume,
                            vs_get32(h + AT_VERSION), vs_get32(h + AT_FEATURES));
    }
    if (memcmp(h + AT_UUID, uuid, 16) != 0) {
        return vs_fault_set(-EXDEV, b->volume, 0, 0, AT_UUID, "base/%08" PRIx32 ".idx belongs to another repository", b->volume);
    }
    return vs_get32(h + AT_VOLUME) == b->volume ? 0 : damaged(b, AT_VOLUME, "belongs to another volume");
}

static int open_map(vs_base *b) {
    const uint8_t *h = b->mapped;
    uint64_t position = vs_get64(h + AT_MAP_POSITION), length = vs_get64(h + AT_MAP_LENGTH);
    b->size_bytes = vs_get64(h + AT_SIZE);
    b->data_bytes = vs_get64(h + AT_DATA_BYTES);
    if (b->size_bytes > SIZE_BYTES_MAX || position != map_position(b->size_bytes)) return damaged(b, AT_SIZE, "its header is not sound");
    if (position > b->mapped_bytes || length > b->mapped_bytes - position) return damaged(b, b->mapped_bytes, "not as long as it says");
    if (vs_crc32c(h + position, (size_t)length) != vs_get32(h + AT_MAP_CRC)) return damaged(b, position, "its map does not match its CRC");
    int r = vs_packed_open(h + position, (size_t)length, VS_MAP_COLUMNS, &b->map);
    return r < 0 ? damaged(b, position, "its map is not a table") : 0;
}

/* The list ascends and is within the volume, so that it can be searched. */
static int list_check(const vs_base *b) {
    uint64_t from = 0, blocks = blocks_of(b->size_bytes);
    for (uint64_t i = 0; i < b->patch_count; i++) {
        uint64_t block = vs_get64(b->patches + i * 8);
        if (block < from || block >= blocks) return damaged(b, vs_get64(b->mapped + AT_PATCHES), "its list of patches is not in order");
        from = block + 1;
    }
    return 0;
}

/* Where the map ends the file does, or the patches follow. */
static int open_patches(vs_base *b) {
    const uint8_t *h = b->mapped;
    uint64_t at = vs_get64(h + AT_MAP_POSITION) + vs_get64(h + AT_MAP_LENGTH), left = b->mapped_bytes - at;
    uint64_t count = vs_base_seqno(b) ? vs_get64(h + AT_PATCH_COUNT) : 0;
    if (count == 0) return left == 0 ? 0 : damaged(b, b->mapped_bytes, "not as long as it says");
    uint64_t bytes_at = blocks_of(at + (count < left ? count : left) * 8) * VS_BLOCK_BYTES;
    if (vs_get64(h + AT_PATCHES) != at || count > left / VS_BLOCK_BYTES || bytes_at > b->mapped_bytes ||
        b->mapped_bytes - bytes_at != count * VS_BLOCK_BYTES)
        return damaged(b, AT_PATCHES, "its patches are not where it says");
    if (vs_crc32c(h + at, count * 8) != vs_get32(h + AT_PATCHES_CRC)) return damaged(b, at, "its list of patches does not match its CRC");
    b->patches = h + at;
    b->patch_count = count;
    b->patch_bytes = h + bytes_at;
    return list_check(b);
}

/* Both files or none: without one of them the volume would seem to begin with zeros. */
static int missing(vs_base *b) {
    int other = b->index >= 0 ? 0 : open_file(b, "img", &b->image);
    if (other == -ENOENT) return vs_fault_set(-ENOENT, b->volume, 0, 0, 0, "volume %" PRIu32 " has no base", b->volume);
    return other < 0 ? other : vs_fault_set(-EBADMSG, b->volume, 0, 0, 0, "base/%08" PRIx32 ".%s is missing", b->volume,
                                            b->index >= 0 ? "img" : "idx");
}

int vs_base_open(vs_store *s, const uint8_t uuid[16], uint32_t volume, vs_base **out) {
    vs_base *b = calloc(1, sizeof *b);
    if (!b) return vs_fault_set(-ENOMEM, volume, 0, 0, 0, "no memory to open a base image");
    *b = (vs_base){.store = s, .refs = 1, .volume = volume, .number = next_number(), .image = -1, .index = -1};
    int r = open_file(b, "idx", &b->index);
    if (r == 0) r = map_index(b);
    if (r == 0) r = check_header(b, uuid);
    if (r == 0) r = open_map(b);
    if (r == 0) r = open_patches(b);
    if (r == 0) r = open_file(b, "img", &b->image);
    if (r == -ENOENT) r = b->mapped && b->map.rows == 0 ? 0 : missing(b);
    if (r < 0) vs_base_unref(b);
    else *out = b;
    return r;
}

uint64_t vs_base_number(const vs_base *b) {
    return b->number;
}

vs_base *vs_base_ref(vs_base *b) {
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void vs_base_unref(vs_base *b) {
    if (!b || atomic_fetch_sub(&b->refs, 1) > 1) return;
    if (b->mapped) b->store->unmap(b->store, b->mapped, b->mapped_bytes);
    if (b->index >= 0) b->store->close(b->store, b->index);
    if (b->image >= 0) b->store->close(b->store, b->image);
    free(b);
}

const vs_packed *vs_base_map(const vs_base *b) {
    return &b->map;
}

uint32_t vs_base_crc(const vs_base *b, uint64_t block) {
    if (block >= blocks_of(b->size_bytes)) return VS_CRC_ZERO_BLOCK;
    return vs_get32(b->mapped + CRCS_AT + block * 4) ^ VS_CRC_ZERO_BLOCK;
}

int vs_base_image(const vs_base *b) {
    return b->image;
}

/* How many patches are of blocks below this one. */
static uint64_t patches_before(const vs_base *b, uint64_t block) {
    uint64_t low = 0, high = b->patch_count;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        if (vs_get64(b->patches + mid * 8) < block) low = mid + 1;
        else high = mid;
    }
    return low;
}

uint64_t vs_base_next_patch(const vs_base *b, uint64_t block) {
    uint64_t i = b->patch_count ? patches_before(b, block) : 0;
    return i < b->patch_count ? vs_get64(b->patches + i * 8) : UINT64_MAX;
}

const uint8_t *vs_base_patch(const vs_base *b, uint64_t block) {
    if (vs_base_next_patch(b, block) != block) return NULL;
    return b->patch_bytes + patches_before(b, block) * VS_BLOCK_BYTES;
}

uint64_t vs_base_seqno(const vs_base *b) {
    return vs_get32(b->mapped + AT_FEATURES) & VS_FEATURE_MOVED ? vs_get64(b->mapped + AT_SEQNO) : 0;
}

void vs_base_last_write(const vs_base *b, uint64_t *seqno, uint64_t *time_ns) {
    int moved = vs_base_seqno(b) != 0;
    *seqno = moved ? vs_get64(b->mapped + AT_LAST_WRITE) : 0;
    *time_ns = moved ? vs_get64(b->mapped + AT_LAST_WRITE_NS) : 0;
}

uint64_t vs_base_index_bytes(const vs_base *b) {
    return b->mapped_bytes;
}

uint64_t vs_base_size_bytes(const vs_base *b) {
    return b->size_bytes;
}

uint64_t vs_base_data_bytes(const vs_base *b) {
    return b->data_bytes;
}

int vs_base_check_holes(const vs_base *b) {
    uint64_t at = 0, row[VS_MAP_COLUMNS];
    for (uint64_t i = 0; i <= b->map.rows; i++) {
        uint64_t end = vs_get64(b->mapped + AT_MAP_POSITION); /* behind the last data: to the map */
        if (i < b->map.rows) {
            vs_packed_row(&b->map, i, row);
            end = CRCS_AT + row[0] / VS_BLOCK_BYTES * 4;
        }
        uint64_t from = CRCS_AT + at * 4;
        if (end + 4 == from) end = from; /* the end of one run and the beginning of the next are in one block */
        if (end > b->mapped_bytes || from > end) return damaged(b, CRCS_AT, "its map is not sound");
        if (!vs_is_zero(b->mapped + from, end - from)) return damaged(b, from, "a checksum of a hole is damaged; no byte depends on it");
        if (i < b->map.rows) at = blocks_of(row[0] + row[1]);
    }
    if (b->patch_count == 0) return 0;
    const uint8_t *list_end = b->patches + b->patch_count * 8;
    if (!vs_is_zero(list_end, (size_t)(b->patch_bytes - list_end)))
        return damaged(b, (uint64_t)(list_end - b->mapped), "the zeros before its patches are damaged; no byte depends on them");
    return 0;
}
