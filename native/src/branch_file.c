/* branch_file.c: a volume of a branch as an open file. */
#include <errno.h>
#include <stdlib.h>

#include "branch_internal.h"

typedef struct vs_branch_volume_state volume_state;

typedef struct branch_file {
    vs_volume_file ops;
    volume_state *volume;
    _Atomic int refused; /* a write had no room, and no sync has told of it yet */
} branch_file;

static volume_state *file_volume(vs_volume_file *f) {
    return ((branch_file *)f)->volume;
}

static int64_t for_kernel(int64_t r) {
    return r == -EBADMSG || r == -EUCLEAN ? -EIO : r;
}

static uint64_t file_size(vs_volume_file *f) {
    return file_volume(f)->size_bytes;
}

static int64_t file_read(vs_volume_file *f, uint64_t offset_bytes, void *buf, size_t length_bytes) {
    return for_kernel(vs_branch_volume_read(file_volume(f), offset_bytes, buf, length_bytes));
}

/* One that is sent again is made again: it was not answered, and what lies beside it is the same. */
static int64_t file_write(vs_volume_file *f, uint64_t offset_bytes, const void *buf, size_t length_bytes, int durable, const vs_request *q) {
    (void)q;
    volume_state *v = file_volume(f);
    vs_branch_enter(v->branch);
    int64_t n = vs_branch_volume_write(v, offset_bytes, buf, length_bytes);
    int r = n >= 0 && durable ? vs_branch_volume_sync(v) : 0;
    if (n == -ENOSPC && offset_bytes < v->size_bytes) ((branch_file *)f)->refused = 1;
    vs_branch_leave(v->branch);
    return for_kernel(r < 0 ? r : n);
}

static int file_zero(vs_volume_file *f, uint64_t offset_bytes, uint64_t length_bytes, const vs_request *q) {
    (void)q;
    volume_state *v = file_volume(f);
    vs_branch_enter(v->branch);
    int r = vs_branch_volume_zero(v, offset_bytes, length_bytes);
    vs_branch_leave(v->branch);
    return (int)for_kernel(r);
}

/* The kernel makes several requests of a write that is not aligned to a page, and answers a short one when a later one is refused. A
 * loop device takes a short write for a whole one: a filesystem on it would never hear that its bytes are nowhere, so the flush says it. */
static int file_sync(vs_volume_file *f) {
    volume_state *v = file_volume(f);
    vs_branch_enter(v->branch);
    int r = vs_branch_volume_sync(v);
    if (r == 0 && atomic_exchange(&((branch_file *)f)->refused, 0)) r = -ENOSPC;
    vs_branch_leave(v->branch);
    return r;
}

static int64_t file_seek(vs_volume_file *f, uint64_t offset_bytes, int whence) {
    return for_kernel(vs_branch_volume_seek(file_volume(f), offset_bytes, whence));
}

static void file_release(vs_volume_file *f) {
    file_volume(f)->branch->files--;
    free(f);
}

int vs_branch_file(vs_branch *b, uint32_t volume, vs_volume_file **out) {
    volume_state *v = vs_branch_find(b, volume);
    if (!v) return -ENOENT;
    branch_file *f = malloc(sizeof *f);
    if (!f) return -ENOMEM;
    *f = (branch_file){.ops = {file_size, file_read, file_write, file_zero, file_sync, file_seek, file_release}, .volume = v};
    b->files++;
    *out = &f->ops;
    return 0;
}
