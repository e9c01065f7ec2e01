/* kernel_view.c: from a view to a file that the kernel reads: plan, compare, put together, write the image, mount it.
 *
 * Blocks are compared in the order of their files, not of the volume: a file is read from its beginning to its end, in pieces of up to 1 MiB,
 * over gaps that cost less to read than to leave out.
 */
#include "kernel_view.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "deadline.h"
#include "erofs_mount.h"
#include "journal_internal.h"
#include "kernel_plan.h"

enum {
    PIECE_BLOCKS = 256,
    GAP_BLOCKS = 16,
    RUNS_MAX = 16 << 20,
    VERIFIED_CHUNKS_MAX = 16384,
    SPACE_PART = 8, /* of what is free, a view takes no more than one in so many */
};

struct vs_kernel_views {
    vs_journal *journal;
    int scratch, verify;
    pthread_mutex_t mu;
    vs_block_set verified; /* guarded by mu; forgotten as a whole when it becomes too large */
};

int vs_kernel_views_new(vs_journal *j, int scratch, int verify, vs_kernel_views **out) {
    vs_kernel_views *k = calloc(1, sizeof *k);
    if (!k) return -ENOMEM;
    *k = (vs_kernel_views){.journal = j, .scratch = scratch, .verify = verify};
    int code = -pthread_mutex_init(&k->mu, NULL);
    if (code == 0) *out = k;
    else free(k);
    return code;
}

void vs_kernel_views_free(vs_kernel_views *k) {
    if (!k) return;
    vs_block_set_clear(&k->verified);
    pthread_mutex_destroy(&k->mu);
    free(k);
}

/* ---- files ---- */

/* Open files of a plan: of its sources in order, then the side file if there is one. */
typedef struct files {
    int *fds;
    size_t sources; /* of these, which are borrowed, how many are open */
    int side;
} files;

static void files_close(files *f, const vs_kernel_plan *p) {
    for (size_t i = 0; i < f->sources; i++)
        if (p->sources[i].segment) vs_segment_file_put(p->sources[i].segment);
    if (f->side >= 0) close(f->side);
    free(f->fds);
}

static int files_open(files *f, const vs_kernel_plan *p) {
    *f = (files){.fds = malloc((p->source_count + 1) * sizeof *f->fds), .side = -1};
    if (!f->fds) return -ENOMEM;
    for (; f->sources < p->source_count; f->sources++) {
        const vs_kernel_source *s = &p->sources[f->sources];
        int fd = s->segment ? vs_segment_file_get(s->segment) : vs_base_image(s->base);
        if (fd < 0) return fd;
        f->fds[f->sources] = fd;
    }
    return 0;
}

static int scratch_file(const vs_kernel_views *k) {
    int fd = openat(k->scratch, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : vs_fault_set(-errno, 0, 0, 0, 0, "no file for a kernel view can be made: %s", strerror(errno));
}

/* ---- compare ---- */

/* 0: there is none. crcs: of the segment, if it is one. */
static int source_crc(const vs_kernel_source *s, const vs_crcs *crcs, uint64_t block, uint32_t *crc) {
    if (s->segment) return vs_crcs_get(crcs, block, crc);
    *crc = vs_base_crc(s->base, block);
    return 1;
}

/* A block does not match. Reading it as a view is read says so in the words of a view. */
static int damaged(const vs_kernel_plan *p, size_t source, uint64_t block) {
    for (size_t i = 0; i < p->run_count; i++) {
        const vs_erofs_run *run = &p->runs[i];
        if (run->device != source + 1 || block < run->device_block || block - run->device_block >= run->count) continue;
        uint8_t bytes[VS_BLOCK_BYTES];
        int64_t n = vs_view_read(p->view, (run->block + (block - run->device_block)) * VS_BLOCK_BYTES, bytes, sizeof bytes);
        if (n < 0) return (int)n;
    }
    return vs_fault_set(-EBADMSG, vs_view_volume(p->view), 0, p->sources[source].segment ? p->sources[source].segment->first_seqno : 0,
                        block * VS_BLOCK_BYTES, "a block reads once as damaged and once as sound, position %" PRIu64, block * VS_BLOCK_BYTES);
}

static int is_set(const uint64_t *bits, size_t i) {
    return (int)(bits[i / 64] >> i % 64 & 1);
}

/* The next bit that is set, or `end`. */
static size_t next_set(const uint64_t *bits, size_t i, size_t end) {
    while (i < end) {
        uint64_t word = bits[i / 64] >> i % 64;
        if (word) {
            i += (size_t)__builtin_ctzll(word);
            return i < end ? i : end;
        }
        i += 64 - i % 64;
    }
    return end;
}

/* Where a piece that begins at first ends: behind the last bit before a gap, or when it is long enough. */
static size_t piece_end(const uint64_t *bits, size_t first) {
    size_t limit = first + PIECE_BLOCKS < VS_BLOCK_CHUNK_BLOCKS ? first + PIECE_BLOCKS : VS_BLOCK_CHUNK_BLOCKS, end = first + 1;
    for (;;) {
        size_t next = next_set(bits, end, limit);
        if (next == limit || next - end > GAP_BLOCKS) return end;
        end = next + 1;
    }
}

/* Compare the blocks of a chunk. buf: PIECE_BLOCKS of them. */
static int chunk_compare(vs_store *store, const vs_kernel_plan *p, size_t source, int file, const vs_block_chunk *c, uint8_t *buf) {
    const vs_kernel_source *s = &p->sources[source];
    uint64_t base = c->number * VS_BLOCK_CHUNK_BLOCKS;
    size_t first = next_set(c->bits, 0, VS_BLOCK_CHUNK_BLOCKS);
    vs_crcs crcs;
    if (s->segment && vs_segment_crcs(s->segment, s->pinned, &crcs) < 0) return damaged(p, source, base + first);
    while (first < VS_BLOCK_CHUNK_BLOCKS) {
        size_t end = piece_end(c->bits, first), bytes = (end - first) * VS_BLOCK_BYTES;
        int64_t n = store->read(store, file, (base + first) * VS_BLOCK_BYTES, buf, bytes);
        if (n < 0) return damaged(p, source, base + first);
        memset(buf + n, 0, bytes - (size_t)n); /* a base may end inside its last block; a segment that ends does not match */
        for (size_t i = first; i < end; i++) {
            uint32_t want;
            if (!is_set(c->bits, i)) continue;
            if (!source_crc(s, &crcs, base + i, &want) || vs_crc32c(buf + (i - first) * VS_BLOCK_BYTES, VS_BLOCK_BYTES) != want)
                return damaged(p, source, base + i);
        }
        first = next_set(c->bits, end, VS_BLOCK_CHUNK_BLOCKS);
        int code = vs_deadline_check(p->deadline_ns);
        if (code < 0) return code;
    }
    return 0;
}

static size_t source_named(const vs_kernel_plan *p, uint64_t name) {
    size_t i = 0;
    while (p->sources[i].name != name) i++;
    return i;
}

static void remember(vs_kernel_views *k, const vs_block_chunk *c) {
    pthread_mutex_lock(&k->mu);
    if (k->verified.count >= VERIFIED_CHUNKS_MAX) vs_block_set_clear(&k->verified);
    vs_block_set_merge(&k->verified, c); /* no memory: it is compared again the next time */
    pthread_mutex_unlock(&k->mu);
}

static int compare(vs_kernel_views *k, const vs_kernel_plan *p, const files *f) {
    vs_block_chunk *chunks = vs_block_set_sorted(&p->blocks);
    uint8_t *buf = malloc((size_t)PIECE_BLOCKS * VS_BLOCK_BYTES);
    int code = chunks && buf ? 0 : -ENOMEM;
    for (size_t i = 0, source = 0; code == 0 && i < p->blocks.count; i++) {
        if (p->sources[source].name != chunks[i].file) source = source_named(p, chunks[i].file);
        code = chunk_compare(k->journal->store, p, source, f->fds[source], &chunks[i], buf);
        if (code == 0) remember(k, &chunks[i]);
    }
    free(buf);
    free(chunks);
    return code;
}

/* ---- put together ---- */

static int compose(vs_kernel_views *k, const vs_kernel_plan *p, files *f) {
    vs_store *store = k->journal->store;
    if (p->composed_count == 0) return 0;
    f->side = scratch_file(k);
    if (f->side < 0) return f->side;
    uint8_t *buf = malloc((size_t)PIECE_BLOCKS * VS_BLOCK_BYTES);
    int code = buf ? 0 : -ENOMEM;
    for (size_t done = 0, n; code == 0 && done < p->composed_count; done += n) {
        n = p->composed_count - done < PIECE_BLOCKS ? p->composed_count - done : PIECE_BLOCKS;
        for (size_t i = 0; code >= 0 && i < n; i++) {
            uint8_t *to = buf + i * VS_BLOCK_BYTES;
            code = (int)vs_view_read(p->view, p->composed[done + i] * VS_BLOCK_BYTES, to, VS_BLOCK_BYTES);
            if (code >= 0) memset(to + code, 0, (size_t)(VS_BLOCK_BYTES - code));
        }
        struct iovec part = {buf, n * VS_BLOCK_BYTES};
        if (code >= 0) code = store->write(store, f->side, done * VS_BLOCK_BYTES, &part, 1);
        if (code == 0) code = vs_deadline_check(p->deadline_ns);
    }
    free(buf);
    f->fds[p->source_count] = f->side;
    return code;
}

/* ---- build ---- */

static int within(vs_kernel_views *k, vs_kernel_plan *p, const vs_kernel_limits *limits) {
    uint64_t blocks = 0;
    if (k->verify) {
        pthread_mutex_lock(&k->mu);
        blocks = vs_block_set_subtract(&p->blocks, &k->verified);
        pthread_mutex_unlock(&k->mu);
    }
    return blocks + p->composed_count <= limits->verify_bytes / VS_BLOCK_BYTES ? 0 : -E2BIG;
}

static int plan(vs_kernel_views *k, vs_view *v, const vs_kernel_limits *limits, vs_kernel_plan *p) {
    int code = vs_kernel_plan_make(p, v, limits->runs < RUNS_MAX ? limits->runs : RUNS_MAX, vs_deadline_after(limits->milliseconds));
    if (code == 0) code = within(k, p, limits);
    if (code == -E2BIG) vs_fault_set(code, vs_view_volume(v), 0, 0, 0, "a kernel view of volume %u would take more than it may", vs_view_volume(v));
    return code;
}

static int space_check(const vs_kernel_views *k, uint64_t bytes) {
    struct statvfs disk;
    if (fstatvfs(k->scratch, &disk) != 0) return -errno;
    if (bytes / disk.f_frsize <= disk.f_bavail / SPACE_PART) return 0;
    return vs_fault_set(-ENOSPC, 0, 0, 0, 0, "a kernel view would take %" PRIu64 " MiB of disk, too much of what is free", bytes >> 20);
}

static int mount_image(const vs_kernel_views *k, const vs_erofs_image *m, const int *fds, int *file) {
    int image = scratch_file(k);
    if (image < 0) return image;
    int code = vs_erofs_image_write(image, m);
    if (code < 0) vs_fault_set(code, 0, 0, 0, 0, "the image of a kernel view cannot be written: %s", strerror(-code));
    else code = vs_erofs_mount_file(image, fds, m->devices, file);
    close(image);
    return code;
}

static int build(vs_kernel_views *k, vs_kernel_plan *p, int *file) {
    files f;
    int devices = vs_kernel_plan_number(p);
    if (devices < 0) return devices;
    vs_erofs_image image = {.size_bytes = p->size_bytes, .devices = (uint32_t)devices, .runs = p->runs, .run_count = p->run_count,
                            .deadline_ns = p->deadline_ns};
    int code = space_check(k, vs_erofs_image_bytes(&image) + p->composed_count * VS_BLOCK_BYTES);
    if (code < 0) return code;
    code = files_open(&f, p);
    if (code == 0 && k->verify) code = compare(k, p, &f);
    if (code == 0) code = compose(k, p, &f);
    if (code == 0) code = mount_image(k, &image, f.fds, file);
    files_close(&f, p);
    return code;
}

int vs_kernel_view_fits(vs_kernel_views *k, vs_view *v, const vs_kernel_limits *limits) {
    vs_kernel_plan p;
    int code = plan(k, v, limits, &p);
    vs_kernel_plan_end(&p);
    return code;
}

int vs_kernel_view_open(vs_kernel_views *k, vs_view *v, const vs_kernel_limits *limits, int *file) {
    vs_kernel_plan p;
    int code = plan(k, v, limits, &p);
    if (code == 0) code = build(k, &p, file);
    vs_kernel_plan_end(&p);
    return code;
}

/* ---- probe ---- */

int vs_kernel_views_probe(vs_kernel_views *k, int *file) {
    uint8_t want[VS_BLOCK_BYTES], got[VS_BLOCK_BYTES];
    vs_store *store = k->journal->store;
    vs_directory *d = vs_journal_directory(k->journal);
    vs_segment *g = vs_directory_at(d, 0);
    int fd = vs_segment_file_get(g);
    if (fd < 0) {
        vs_directory_unref(d);
        return fd;
    }
    vs_erofs_run run = {.block = 0, .count = 1, .device_block = 0, .device = 1};
    vs_erofs_image image = {.size_bytes = VS_BLOCK_BYTES, .devices = 1, .runs = &run, .run_count = 1, .deadline_ns = VS_DEADLINE_NEVER};
    int code = mount_image(k, &image, &fd, file);
    int64_t n = store->read(store, fd, 0, want, sizeof want);
    vs_segment_file_put(g);
    vs_directory_unref(d);
    if (code < 0) return code;
    if (n == sizeof want && pread(*file, got, sizeof got, 0) == (ssize_t)sizeof got && memcmp(want, got, sizeof want) == 0) return 0;
    close(*file);
    return vs_fault_set(-EIO, 0, 0, 0, 0, "the kernel reads other bytes through EROFS than the file has");
}
