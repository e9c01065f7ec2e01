/* erofs_image.c: the bytes of the image.
 *
 * Source of the layout: the kernel's fs/erofs/erofs_fs.h. All numbers are little-endian.
 */
#include "erofs_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec.h"
#include "deadline.h"

enum {
    BLOCK = 4096,
    SUPER_AT = 1024,
    DEVICE_BYTES = 128,
    INODE_BYTES = 64,
    SLOT_BYTES = 32, /* what inode numbers count */
    FILE_SLOT = (BLOCK - INODE_BYTES) / SLOT_BYTES,
    ENTRY_BYTES = 8,
    PAGE_ENTRIES = BLOCK / ENTRY_BYTES,
    WINDOW_PAGES = 64,
    CHUNK_BITS_MAX = 9,
};

#define EROFS_MAGIC UINT32_C(0xE0F5E1E2)
#define FEATURE_CHUNKED_FILE UINT32_C(0x4)
#define FEATURE_DEVICE_TABLE UINT32_C(0x8)
#define LAYOUT_PLAIN 0u
#define LAYOUT_CHUNKS 4u
#define CHUNK_INDEXES 0x20u
#define NULL_BLOCK UINT32_C(0xFFFFFFFF)
#define HOLE ((uint64_t)NULL_BLOCK << 32)

/* Where things lie, in blocks. */
typedef struct layout {
    uint64_t devices, directory, inodes, index, file_blocks;
    unsigned chunk_bits;
} layout;

static uint64_t blocks_of(uint64_t bytes) {
    return bytes / BLOCK + (bytes % BLOCK != 0);
}

static layout layout_of(const vs_erofs_image *m) {
    layout l = {.file_blocks = blocks_of(m->size_bytes)};
    uint64_t edges = UINT64_C(1) << CHUNK_BITS_MAX;
    for (size_t i = 0; i < m->run_count; i++) {
        uint64_t end = m->runs[i].block + m->runs[i].count;
        edges |= m->runs[i].block | (end < l.file_blocks ? end : 0);
    }
    l.chunk_bits = (unsigned)__builtin_ctzll(edges);
    l.devices = UINT64_C(1) << l.chunk_bits;
    l.directory = l.devices + blocks_of((uint64_t)m->devices * DEVICE_BYTES);
    l.inodes = l.directory + 1;
    l.index = l.inodes + 1;
    return l;
}

/* ---- the index ---- */

/* Pages of the index that lie together; only those with an entry are written. */
typedef struct window {
    int file;
    uint64_t deadline_ns, index_block, first_page;
    uint64_t used; /* a bit each page */
    uint8_t bytes[WINDOW_PAGES * BLOCK];
} window;

static int write_all(int file, const void *buf, size_t n, uint64_t at) {
    for (const uint8_t *p = buf; n > 0;) {
        ssize_t done = pwrite(file, p, n, (off_t)at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return done < 0 ? -errno : -EIO;
        p += done;
        at += (uint64_t)done;
        n -= (size_t)done;
    }
    return 0;
}

static int window_flush(window *w) {
    int code = vs_deadline_check(w->deadline_ns);
    while (code == 0 && w->used) {
        unsigned first = (unsigned)__builtin_ctzll(w->used);
        uint64_t rest = ~(w->used >> first);
        unsigned count = rest ? (unsigned)__builtin_ctzll(rest) : WINDOW_PAGES;
        code = write_all(w->file, w->bytes + (size_t)first * BLOCK, (size_t)count * BLOCK, (w->index_block + w->first_page + first) * BLOCK);
        w->used &= count == WINDOW_PAGES ? 0 : ~(((UINT64_C(1) << count) - 1) << first);
    }
    return code;
}

/* The entries of the page that holds a chunk, all holes at first. NULL with *code. */
static uint8_t *window_page(window *w, uint64_t chunk, int *code) {
    uint64_t page = chunk / PAGE_ENTRIES;
    if (page < w->first_page || page >= w->first_page + WINDOW_PAGES) {
        *code = window_flush(w);
        if (*code < 0) return NULL;
        w->first_page = page;
    }
    uint64_t in = page - w->first_page;
    uint8_t *p = w->bytes + in * BLOCK;
    if (!(w->used >> in & 1))
        for (size_t i = 0; i < PAGE_ENTRIES; i++) vs_put64(p + i * ENTRY_BYTES, HOLE);
    w->used |= UINT64_C(1) << in;
    return p;
}

static int put_run(window *w, const vs_erofs_run *run, unsigned chunk_bits) {
    uint64_t step = UINT64_C(1) << chunk_bits;
    uint64_t chunk = run->block >> chunk_bits, end = (run->block + run->count + step - 1) >> chunk_bits, block = run->device_block;
    if (run->device > VS_EROFS_DEVICES_MAX || block + run->count >= NULL_BLOCK) return -EFBIG;
    while (chunk < end) {
        int code = 0;
        uint8_t *page = window_page(w, chunk, &code);
        if (!page) return code;
        size_t i = chunk % PAGE_ENTRIES, stop = end - chunk < PAGE_ENTRIES - i ? i + (size_t)(end - chunk) : PAGE_ENTRIES;
        for (chunk += stop - i; i < stop; i++, block += step) vs_put64(page + i * ENTRY_BYTES, block << 32 | (uint64_t)run->device << 16);
    }
    return 0;
}

static int write_index(int file, const vs_erofs_image *m, const layout *l) {
    window *w = malloc(sizeof *w);
    if (!w) return -ENOMEM;
    w->file = file;
    w->deadline_ns = m->deadline_ns;
    w->index_block = l->index;
    w->first_page = w->used = 0;
    int code = 0;
    for (size_t i = 0; code == 0 && i < m->run_count; i++) code = put_run(w, &m->runs[i], l->chunk_bits);
    if (code == 0) code = window_flush(w);
    free(w);
    return code;
}

/* ---- the rest ---- */

static void put_super(uint8_t *p, const vs_erofs_image *m, const layout *l) {
    vs_put32(p, EROFS_MAGIC);
    p[12] = 12;                                   /* bits of a block */
    vs_put64(p + 16, 2);                          /* inodes */
    vs_put32(p + 36, (uint32_t)l->index);         /* blocks, for statfs */
    vs_put32(p + 40, (uint32_t)l->inodes);
    memcpy(p + 64, "vsnapfs", 8);                 /* name of the filesystem */
    vs_put32(p + 80, FEATURE_CHUNKED_FILE | (m->devices ? FEATURE_DEVICE_TABLE : 0));
    vs_put16(p + 86, (uint16_t)m->devices);
    vs_put16(p + 88, (uint16_t)(l->devices * (BLOCK / DEVICE_BYTES)));
}

static void put_inode(uint8_t *p, unsigned data_layout, unsigned mode, uint64_t size_bytes, uint32_t where, uint32_t number, uint32_t links) {
    vs_put16(p, (uint16_t)(1 | data_layout << 1)); /* 1: 64 bytes long */
    vs_put16(p + 4, (uint16_t)mode);
    vs_put64(p + 8, size_bytes);
    vs_put32(p + 16, where);
    vs_put32(p + 20, number);
    vs_put32(p + 44, links);
}

/* Names in order: ".", "..", ours. Returns the length of the directory. */
static size_t put_directory(uint8_t *p) {
    static const struct name {
        const char *text;
        uint32_t slot;
        uint8_t type; /* 1: file, 2: directory */
    } names[] = {{".", 0, 2}, {"..", 0, 2}, {VS_EROFS_NAME, FILE_SLOT, 1}};
    enum { COUNT = sizeof names / sizeof names[0], ENTRY = 12 };
    size_t at = COUNT * ENTRY;
    for (size_t i = 0; i < COUNT; i++) {
        size_t length = strlen(names[i].text);
        vs_put64(p + i * ENTRY, names[i].slot);
        vs_put16(p + i * ENTRY + 8, (uint16_t)at);
        p[i * ENTRY + 10] = names[i].type;
        memcpy(p + at, names[i].text, length);
        at += length;
    }
    return at;
}

/* The kernel asks for a number of blocks of each device and does not hold a file to it. */
static int write_devices(int file, const vs_erofs_image *m, const layout *l) {
    uint8_t block[BLOCK];
    int code = 0;
    for (uint32_t done = 0; code == 0 && done < m->devices; done += BLOCK / DEVICE_BYTES) {
        memset(block, 0, sizeof block);
        for (uint32_t i = 0; i < BLOCK / DEVICE_BYTES && done + i < m->devices; i++) vs_put32(block + i * DEVICE_BYTES + 64, NULL_BLOCK - 1);
        code = write_all(file, block, sizeof block, l->devices * BLOCK + (uint64_t)done * DEVICE_BYTES);
    }
    return code;
}

uint64_t vs_erofs_image_bytes(const vs_erofs_image *m) {
    layout l = layout_of(m);
    uint64_t pages = 0, next = 0; /* first page that is not counted yet */
    for (size_t i = 0; i < m->run_count; i++) {
        const vs_erofs_run *run = &m->runs[i];
        uint64_t first = (run->block >> l.chunk_bits) / PAGE_ENTRIES, last = ((run->block + run->count - 1) >> l.chunk_bits) / PAGE_ENTRIES;
        if (first < next) first = next;
        if (last < first) continue;
        pages += last + 1 - first;
        next = last + 1;
    }
    return (1 + l.index - l.devices + pages) * BLOCK;
}

int vs_erofs_image_write(int file, const vs_erofs_image *m) {
    layout l = layout_of(m);
    uint8_t block[BLOCK] = {0};
    if (m->devices > VS_EROFS_DEVICES_MAX) return -EFBIG;
    put_super(block + SUPER_AT, m, &l);
    int code = write_all(file, block, sizeof block, 0);
    if (code == 0) code = write_devices(file, m, &l);
    memset(block, 0, sizeof block);
    size_t directory_bytes = put_directory(block);
    if (code == 0) code = write_all(file, block, sizeof block, l.directory * BLOCK);
    memset(block, 0, sizeof block);
    put_inode(block, LAYOUT_PLAIN, S_IFDIR | 0500, directory_bytes, (uint32_t)l.directory, 1, 2);
    put_inode(block + FILE_SLOT * SLOT_BYTES, LAYOUT_CHUNKS, S_IFREG | 0400, m->size_bytes, CHUNK_INDEXES | l.chunk_bits, 2, 1);
    if (code == 0) code = write_all(file, block, sizeof block, l.inodes * BLOCK);
    uint64_t entries = (l.file_blocks >> l.chunk_bits) + 1;
    if (code == 0 && ftruncate(file, (off_t)((l.index + entries / PAGE_ENTRIES + 1) * BLOCK)) != 0) code = -errno;
    return code < 0 ? code : write_index(file, m, &l);
}

int vs_erofs_image_hide(int file) {
    static const uint8_t zeros[BLOCK];
    return write_all(file, zeros, sizeof zeros, 0);
}
