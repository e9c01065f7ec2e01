/* plane_requests.c: requests that carry bytes, answered from the open file without Python.
 *
 * What is answered for an fh that is not one of ours (a file that Python serves):
 *
 *   READ, WRITE      pyfuse3 has handlers for them
 *   LSEEK            the file is all data: its size decides, see vs_plane_forward_seek
 *   FSYNC, FLUSH     0: such files have nothing to sync
 *   FALLOCATE        -EOPNOTSUPP
 *
 * ENOSYS must never be the answer to one of these (nor to FSYNCDIR): the kernel takes it as "not needed", stops asking for
 * the whole mount, and every later fsync succeeds without us. libfuse answers ENOSYS for what pyfuse3 does not have, so
 * these never get there, and a file that fails with it gets EIO. For COPY_FILE_RANGE, POLL, IOCTL and the rest ENOSYS is right: the kernel
 * then does it itself, through READ and WRITE.
 *
 * A READ's data are put where its request lay, one page into the thread's buffer: nothing is allocated for a request.
 */
#include "plane_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef union reply_body {
    struct fuse_write_out write;
    struct fuse_lseek_out seek;
} reply_body;

/* One request under way, and its answer: negative is -errno, else the body and how many bytes of the volume it moved. */
typedef struct exchange {
    vs_plane_thread *thread;
    vs_plane_tally *file_tally; /* NULL: not about an open file of ours */
    const struct fuse_in_header *head;
    const void *args;        /* what follows the header */
    size_t args_bytes;
    reply_body reply;
    const void *body;
    size_t body_bytes;
    uint64_t moved_bytes;
} exchange;

typedef int64_t (*serve_fn)(exchange *x, vs_volume_file *f);

static int64_t serve_read(exchange *x, vs_volume_file *f) {
    const struct fuse_read_in *in = x->args;
    if (in->size > VS_PLANE_REQUEST_MAX) return -EINVAL;
    void *buf = x->thread->buf + VS_PLANE_HEAD;
    int64_t n = f->read(f, in->offset, buf, in->size);
    if (n < 0) return n;
    x->body = buf;
    x->body_bytes = x->moved_bytes = (uint64_t)n;
    return 0;
}

/* A worker answers one request before it takes the next: it is a lane. */
static vs_request request_of(const exchange *x) {
    return (vs_request){.number = x->head->unique, .lane = (uint32_t)(x->thread - x->thread->plane->threads)};
}

static int64_t serve_write(exchange *x, vs_volume_file *f) {
    const struct fuse_write_in *in = x->args;
    if (in->size != x->args_bytes - sizeof *in) return -EINVAL;
    vs_request q = request_of(x);
    int64_t n = f->write(f, in->offset, in + 1, in->size, (in->flags & (O_SYNC | O_DSYNC)) != 0, &q);
    if (n < 0) return n;
    x->reply.write = (struct fuse_write_out){.size = (uint32_t)n};
    x->body = &x->reply.write;
    x->body_bytes = sizeof x->reply.write;
    x->moved_bytes = (uint64_t)n;
    return 0;
}

static int64_t serve_seek(exchange *x, vs_volume_file *f) {
    const struct fuse_lseek_in *in = x->args;
    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE) return -EINVAL;
    int64_t offset = f->seek(f, in->offset, (int)in->whence);
    if (offset < 0) return offset;
    x->reply.seek = (struct fuse_lseek_out){.offset = (uint64_t)offset};
    x->body = &x->reply.seek;
    x->body_bytes = sizeof x->reply.seek;
    return 0;
}

/* A volume has its size like a block device: all of it is allocated, and there is nothing behind it. */
static int64_t serve_fallocate(exchange *x, vs_volume_file *f) {
    const struct fuse_fallocate_in *in = x->args;
    uint64_t size = f->size(f), end;
    if (__builtin_add_overflow(in->offset, in->length, &end)) return -EFBIG;
    uint32_t keep_size = in->mode & FALLOC_FL_KEEP_SIZE;
    switch (in->mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE) {
    case 0:
        return end <= size ? 0 : -ENOSPC;
    case FALLOC_FL_PUNCH_HOLE:
        if (!keep_size) return -EOPNOTSUPP;
        break;
    case FALLOC_FL_ZERO_RANGE:
        if (!keep_size && end > size) return -ENOSPC;
        break;
    default:
        return -EOPNOTSUPP;
    }
    if (in->offset >= size) return 0;
    x->moved_bytes = (end < size ? end : size) - in->offset;
    vs_request q = request_of(x);
    return f->zero(f, in->offset, x->moved_bytes, &q);
}

static int64_t serve_sync(exchange *x, vs_volume_file *f) {
    (void)x;
    return f->sync(f);
}

/* The arguments of each of these begin with the fh. */
static const struct served {
    serve_fn serve;
    size_t args_bytes_min;
} served[VS_PLANE_OPCODES] = {
    [FUSE_READ] = {serve_read, sizeof(struct fuse_read_in)},
    [FUSE_WRITE] = {serve_write, sizeof(struct fuse_write_in)},
    [FUSE_LSEEK] = {serve_seek, sizeof(struct fuse_lseek_in)},
    [FUSE_FALLOCATE] = {serve_fallocate, sizeof(struct fuse_fallocate_in)},
    [FUSE_FSYNC] = {serve_sync, sizeof(struct fuse_fsync_in)},
    [FUSE_FLUSH] = {serve_sync, sizeof(struct fuse_flush_in)},
};

static int is_seek(const void *args) {
    const struct fuse_lseek_in *in = args;
    return in->whence == SEEK_DATA || in->whence == SEEK_HOLE;
}

int vs_plane_answer(const vs_plane *p, uint64_t unique, int error, const void *body, size_t body_bytes) {
    struct fuse_out_header head = {.unique = unique, .error = error};
    size_t bytes = error ? 0 : body_bytes;
    head.len = (uint32_t)(sizeof head + bytes);
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)(uintptr_t)body, bytes}};
    return writev(p->device.device_fd, parts, bytes ? 2 : 1) < 0 ? -errno : 0;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The kernel takes errors above -1000 only, and ENOSYS means more than we could mean. */
static int as_error(int64_t code) {
    if (code >= 0) return 0;
    return code == -ENOSYS || code <= -1000 ? -EIO : (int)code;
}

static void answer(exchange *x, int64_t code, uint64_t begun_ns) {
    vs_plane_tally *tally = &x->thread->tally[x->head->opcode];
    uint64_t unique = x->head->unique;
    int error = as_error(code);
    /* Counted first: who has the answer finds it in the counts. */
    vs_plane_count_answer(tally, x->file_tally, error, x->moved_bytes);
    /* -ENOENT: the kernel has given the request up. */
    vs_plane_answer(x->thread->plane, unique, error, x->body, x->body_bytes);
    vs_plane_count_time(tally, x->file_tally, now_ns() - begun_ns);
}

/* The answer for an fh that has no file, or 1: it is pyfuse3's to give. */
static int64_t without_file(const exchange *x, uint64_t fh) {
    if (vs_plane_files_is_ours(fh)) return -EIO; /* it was open, and could not be opened anew after a crash */
    switch (x->head->opcode) {
    case FUSE_FSYNC:
    case FUSE_FLUSH:
        return 0;
    case FUSE_FALLOCATE:
        return -EOPNOTSUPP;
    case FUSE_LSEEK:
        return is_seek(x->args) ? 1 : -EINVAL;
    default:
        return 1;
    }
}

static void serve(exchange *x, const struct served *how, size_t n) {
    uint64_t begun_ns = now_ns();
    if (x->args_bytes < how->args_bytes_min) {
        answer(x, -EINVAL, begun_ns);
        return;
    }
    vs_plane_files *files = &x->thread->plane->files;
    uint64_t fh = *(const uint64_t *)x->args;
    vs_volume_file *f = vs_plane_files_get(files, fh, &x->file_tally);
    if (f) {
        vs_fault fault;
        vs_fault_clear();
        int64_t code = how->serve(x, f);
        vs_fault_last(&fault);
        if (code < 0 && fault.code) vs_plane_faults_put(&x->thread->plane->faults, &fault);
        answer(x, code, begun_ns);
        vs_plane_files_put(files, fh);
        return;
    }
    int64_t code = without_file(x, fh);
    if (code <= 0) answer(x, code, begun_ns);
    else if (x->head->opcode == FUSE_LSEEK) vs_plane_forward_seek(x->thread);
    else vs_plane_forward(x->thread, n);
}

void vs_plane_request(vs_plane_thread *t, size_t n) {
    const struct fuse_in_header *head = (const void *)t->buf;
    exchange x = {.thread = t, .head = head, .args = head + 1, .args_bytes = n - sizeof *head};
    uint32_t opcode = head->opcode;
    if (opcode < VS_PLANE_OPCODES) vs_plane_tally_add(&t->tally[opcode].requests, 1);
    if (opcode == FUSE_INTERRUPT) return;
    if (opcode == FUSE_FSYNCDIR) answer(&x, 0, now_ns());
    else if (opcode < VS_PLANE_OPCODES && served[opcode].serve) serve(&x, &served[opcode], n);
    else vs_plane_forward(t, n);
}
