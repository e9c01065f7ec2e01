/* keep.c: a memfd with a page that says where its regions are.
 *
 * A region is appended to the file, which is sparse, so that what is never touched costs nothing. Its entry is written last, its size
 * last of all: a maker that died before leaves a region that is not there yet.
 */
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, KEEP_VERSION = 1 };

static const char magic[8] = "VSNAPKEE";

typedef struct entry {
    uint64_t offset_bytes;
    _Atomic uint64_t size_bytes; /* 0: not made yet */
} entry;

typedef struct head {
    char magic[8];
    _Atomic uint32_t version; /* 0: nothing has been written yet */
    uint32_t reserved;
    entry regions[VS_KEEP_REGIONS];
} head;

struct vs_keep {
    int fd;
    head *head;
    void *mapped[VS_KEEP_REGIONS];
    uint64_t mapped_bytes[VS_KEEP_REGIONS];
};

int vs_keep_make(void) {
    int fd = memfd_create("vsnapfs", MFD_CLOEXEC);
    if (fd < 0) return -errno;
    if (ftruncate(fd, PAGE_BYTES) == 0) return fd;
    int code = -errno;
    close(fd);
    return code;
}

static int map(int fd, uint64_t offset_bytes, uint64_t size_bytes, void **out) {
    void *p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset_bytes);
    if (p == MAP_FAILED) return -errno;
    *out = p;
    return 0;
}

static int adopt_head(head *h) {
    uint32_t version = atomic_load_explicit(&h->version, memory_order_acquire);
    if (version == 0) {
        memcpy(h->magic, magic, sizeof magic);
        atomic_store_explicit(&h->version, KEEP_VERSION, memory_order_release);
        return 0;
    }
    return version == KEEP_VERSION && memcmp(h->magic, magic, sizeof magic) == 0 ? 0 : -EPROTO;
}

int vs_keep_open(int fd, vs_keep **out) {
    struct stat st;
    void *first = NULL;
    vs_keep *k = calloc(1, sizeof *k);
    if (!k) return -ENOMEM;
    k->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int code = k->fd < 0 ? -errno : fstat(k->fd, &st) < 0 ? -errno : st.st_size < PAGE_BYTES ? -EPROTO : 0;
    if (code == 0) code = map(k->fd, 0, PAGE_BYTES, &first);
    k->head = first;
    if (code == 0) code = adopt_head(k->head);
    if (code < 0) {
        vs_keep_close(k);
        return code;
    }
    *out = k;
    return 0;
}

void vs_keep_close(vs_keep *k) {
    if (!k) return;
    for (int i = 0; i < VS_KEEP_REGIONS; i++)
        if (k->mapped[i]) munmap(k->mapped[i], k->mapped_bytes[i]);
    if (k->head) munmap(k->head, PAGE_BYTES);
    if (k->fd >= 0) close(k->fd);
    free(k);
}

static int make_region(vs_keep *k, entry *e, uint64_t size_bytes) {
    struct stat st;
    if (fstat(k->fd, &st) < 0) return -errno;
    if (ftruncate(k->fd, st.st_size + (off_t)size_bytes) < 0) return -errno;
    e->offset_bytes = (uint64_t)st.st_size;
    atomic_store_explicit(&e->size_bytes, size_bytes, memory_order_release);
    return 0;
}

int vs_keep_region(vs_keep *k, uint32_t which, uint64_t size_bytes, void **out) {
    if (which >= VS_KEEP_REGIONS || size_bytes == 0) return -EINVAL;
    size_bytes = (size_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    entry *e = &k->head->regions[which];
    uint64_t there = atomic_load_explicit(&e->size_bytes, memory_order_acquire);
    if (there && there != size_bytes) return -EPROTO;
    int code = there ? 0 : make_region(k, e, size_bytes);
    if (code == 0 && !k->mapped[which]) {
        code = map(k->fd, e->offset_bytes, size_bytes, &k->mapped[which]);
        if (code == 0) k->mapped_bytes[which] = size_bytes;
    }
    if (code == 0) *out = k->mapped[which];
    return code;
}
