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
 * What serves a request does not know which way it came, through the device or a ring, nor which way its answer goes. A READ's data are
 * put where the kernel takes them from, a WRITE's taken where it put them: nothing is allocated or copied for a request.
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

/* An answer in the making: negative is -errno, else the body and how many bytes of the volume it moved. */
typedef struct outcome {
    vs_plane_tally *file_tally; /* NULL: not about an open file of ours */
    reply_body reply;
    const void *body;
    size_t body_bytes;
    uint64_t moved_bytes;
} outcome;

typedef int64_t (*serve_fn)(const vs_plane_exchange *x, vs_volume_file *f, outcome *out);

static int64_t serve_read(const vs_plane_exchange *x, vs_volume_file *f, outcome *out) {
    const struct fuse_read_in *in = x->args;
    if (in->size > VS_PLANE_REQUEST_MAX) return -EINVAL;
    int64_t n = f->read(f, in->offset, x->place, in->size);
    if (n < 0) return n;
    out->body = x->place;
    out->body_bytes = out->moved_bytes = (uint64_t)n;
    return 0;
}

/* What makes a change known when it is sent again; NULL: what came through a ring never is. A worker answers one request before it takes
 * the next: it is a lane. */
static const vs_request *request_of(const vs_plane_exchange *x, vs_request *q) {
    if (x->entry) return NULL;
    *q = (vs_request){.number = x->head->unique, .lane = (uint32_t)(x->thread - x->thread->plane->threads)};
    return q;
}

static int64_t serve_write(const vs_plane_exchange *x, vs_volume_file *f, outcome *out) {
    const struct fuse_write_in *in = x->args;
    vs_request q;
    if (in->size != x->data_bytes) return -EINVAL;
    int durable = (in->flags & (O_SYNC | O_DSYNC)) != 0;
    int64_t n = f->write(f, in->offset, x->data, in->size, durable, request_of(x, &q));
    if (n < 0) return n;
    out->reply.write = (struct fuse_write_out){.size = (uint32_t)n};
    out->body = &out->reply.write;
    out->body_bytes = sizeof out->reply.write;
    out->moved_bytes = (uint64_t)n;
    return 0;
}

static int64_t serve_seek(const vs_plane_exchange *x, vs_volume_file *f, outcome *out) {
    const struct fuse_lseek_in *in = x->args;
    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE) return -EINVAL;
    int64_t offset = f->seek(f, in->offset, (int)in->whence);
    if (offset < 0) return offset;
    out->reply.seek = (struct fuse_lseek_out){.offset = (uint64_t)offset};
    out->body = &out->reply.seek;
    out->body_bytes = sizeof out->reply.seek;
    return 0;
}

/* A volume has its size like a block device: all of it is allocated, and there is nothing behind it. */
static int64_t serve_fallocate(const vs_plane_exchange *x, vs_volume_file *f, outcome *out) {
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
    vs_request q;
    out->moved_bytes = (end < size ? end : size) - in->offset;
    return f->zero(f, in->offset, out->moved_bytes, request_of(x, &q));
}

static int64_t serve_sync(const vs_plane_exchange *x, vs_volume_file *f, outcome *out) {
    (void)x;
    (void)out;
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

int vs_plane_answer(const vs_plane *p, vs_plane_entry *entry, uint64_t unique, int error, const void *body, size_t body_bytes) {
    size_t bytes = error ? 0 : body_bytes;
    if (entry) {
        vs_plane_uring_answer(entry, error, body, bytes);
        return 0;
    }
    struct fuse_out_header head = {.unique = unique, .error = error};
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

static void answer(const vs_plane_exchange *x, int64_t code, const outcome *out, uint64_t begun_ns) {
    vs_plane_tally *tally = &x->thread->tally[x->head->opcode];
    int error = as_error(code);
    /* Counted first: who has the answer finds it in the counts. */
    vs_plane_count_answer(tally, out->file_tally, error, out->moved_bytes);
    /* -ENOENT: the kernel has given the request up. */
    vs_plane_answer(x->thread->plane, x->entry, x->head->unique, error, out->body, out->body_bytes);
    vs_plane_count_time(tally, out->file_tally, now_ns() - begun_ns);
}

/* The answer for an fh that has no file, or 1: it is pyfuse3's to give. */
static int64_t without_file(const vs_plane_exchange *x, uint64_t fh) {
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

static void serve(const vs_plane_exchange *x, const struct served *how) {
    uint64_t begun_ns = now_ns();
    outcome out = {.body = NULL};
    if (x->args_bytes < how->args_bytes_min) {
        answer(x, -EINVAL, &out, begun_ns);
        return;
    }
    vs_plane_files *files = &x->thread->plane->files;
    uint64_t fh = *(const uint64_t *)x->args;
    vs_volume_file *f = vs_plane_files_get(files, fh, &out.file_tally);
    if (f) {
        vs_fault fault;
        vs_fault_clear();
        int64_t code = how->serve(x, f, &out);
        vs_fault_last(&fault);
        if (code < 0 && fault.code) vs_plane_faults_put(&x->thread->plane->faults, &fault);
        answer(x, code, &out, begun_ns);
        vs_plane_files_put(files, fh);
        return;
    }
    int64_t code = without_file(x, fh);
    if (code <= 0) answer(x, code, &out, begun_ns);
    else if (x->head->opcode == FUSE_LSEEK) vs_plane_forward_seek(x);
    else vs_plane_forward(x);
}

void vs_plane_serve(const vs_plane_exchange *x) {
    uint32_t opcode = x->head->opcode;
    if (opcode < VS_PLANE_OPCODES) vs_plane_tally_add(&x->thread->tally[opcode].requests, 1);
    if (opcode == FUSE_INTERRUPT) return;
    if (opcode == FUSE_FSYNCDIR) answer(x, 0, &(outcome){.body = NULL}, now_ns());
    else if (opcode < VS_PLANE_OPCODES && served[opcode].serve) serve(x, &served[opcode]);
    else vs_plane_forward(x);
}

void vs_plane_request(vs_plane_thread *t, size_t n) {
    const struct fuse_in_header *head = (const void *)t->buf;
    vs_plane_exchange x = {.thread = t, .head = head, .args = head + 1, .args_bytes = n - sizeof *head, .place = t->buf + VS_PLANE_HEAD};
    if (head->opcode == FUSE_WRITE && x.args_bytes > sizeof(struct fuse_write_in)) {
        x.data_bytes = x.args_bytes - sizeof(struct fuse_write_in);
        x.args_bytes = sizeof(struct fuse_write_in);
        x.data = (const unsigned char *)x.args + x.args_bytes;
    }
    vs_plane_serve(&x);
}
