/* plane_names.c: requests that carry names, to pyfuse3 and back.
 *
 * Our end of the pair blocks for at most 15 s when pyfuse3 has megabytes of unread requests; the request then fails with -ETIMEDOUT.
 * pyfuse3's end blocks too: a reply that does not fit must wait for the reply thread, which waits for nobody; on a
 * non-blocking end libfuse would lose it, and the process that waits for it would hang for ever.
 *
 * Notifications come on the same way as replies, but the kernel may hold them up: to invalidate a name it waits for the directory's
 * lock, which a lookup holds whose reply stands behind it in the queue. They have a thread of their own, and between the two threads a
 * queue that the kernel keeps: a second pair. What does not fit there (some thousand) is dropped and counted; a name then
 * stays valid until its timeout.
 *
 * When pyfuse3's end is closed, every request that waits there, and each that still comes, is answered with -ENOTCONN. The
 * requests that carry bytes go on.
 */
#include "plane_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SOCKET_BYTES = 4 << 20,
    SEND_SECONDS_MAX = 15,
    FORGETS_MAX = 4096, /* in one message: large ones need memory in one piece in the kernel, which it may not have */
};

/* The kernel's own numbers are even. */
#define GREETING UINT64_C(1)

/* ---- the pairs ---- */

static int open_pair(int fds[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return -errno;
    int bytes = SOCKET_BYTES;
    struct timeval limit = {.tv_sec = SEND_SECONDS_MAX};
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0 &&
            setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0) /* not root: cut to what is allowed */
            return -errno;
    return setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 ? 0 : -errno;
}

int vs_plane_names_open(vs_plane *p) {
    int names[2] = {-1, -1}, notices[2] = {-1, -1};
    int code = open_pair(names);
    if (code == 0) code = open_pair(notices);
    p->names_fd = names[0];
    p->pyfuse3_fd = names[1];
    p->notice_in = notices[0];
    p->notice_out = notices[1];
    return code;
}

void vs_plane_names_close(vs_plane *p) {
    int *fds[] = {&p->names_fd, &p->notice_in, &p->notice_out};
    for (size_t i = 0; i < 3; i++) {
        if (*fds[i] >= 0) close(*fds[i]);
        *fds[i] = -1;
    }
}

/* ---- to pyfuse3 ---- */

static int send_message(const vs_plane *p, struct iovec *parts, size_t count) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent;
    /* Not by sendmsg: the thread sanitizer counts its reads when it has returned, and the answer may be in their place then. */
    do sent = syscall(SYS_sendmsg, p->names_fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) return 0;
    if (errno == EPIPE || errno == ECONNRESET) return -ENOTCONN;
    return errno == EAGAIN ? -ETIMEDOUT : -errno;
}

static struct iovec part(const void *from, size_t bytes) {
    return (struct iovec){(void *)(uintptr_t)from, bytes};
}

/* The request as one message: what a ring gave in parts is in one piece for pyfuse3. */
static int send_request(const vs_plane_exchange *x) {
    struct iovec parts[3] = {part(x->head, sizeof *x->head), part(x->args, x->args_bytes), part(x->data, x->data_bytes)};
    return send_message(x->thread->plane, parts, 3);
}

/* Nobody answers a forget, so none may be lost to a message that is too large. */
static void forward_forgets(const vs_plane_exchange *x) {
    struct fuse_in_header head = *x->head;
    struct fuse_batch_forget_in batch;
    const struct fuse_forget_one *ones = (const void *)((const unsigned char *)x->args + sizeof batch);
    size_t left = x->args_bytes < sizeof batch ? 0 : (x->args_bytes - sizeof batch) / sizeof *ones;
    while (left > 0) {
        size_t count = left < FORGETS_MAX ? left : FORGETS_MAX, bytes = count * sizeof *ones;
        head.len = (uint32_t)(sizeof head + sizeof batch + bytes);
        batch = (struct fuse_batch_forget_in){.count = (uint32_t)count};
        struct iovec parts[3] = {part(&head, sizeof head), part(&batch, sizeof batch), part(ones, bytes)};
        if (send_message(x->thread->plane, parts, 3) < 0) vs_plane_tally_add(&x->thread->tally[FUSE_BATCH_FORGET].errors, 1);
        ones += count;
        left -= count;
    }
}

/* Forward; what the reply needs is kept first, since the reply may be faster than we are. */
static void ask(const vs_plane_exchange *x, const vs_plane_asked *asked) {
    vs_plane *p = x->thread->plane;
    vs_plane_asked mine;
    int code = vs_plane_waiting_add(&p->waiting, asked);
    if (code == 0) {
        code = send_request(x);
        /* Not found: the reply thread has found pyfuse3 gone and answers for all. */
        if (code == 0 || !vs_plane_waiting_take(&p->waiting, asked->unique, &mine)) return;
    }
    vs_plane_answer(p, asked->entry, asked->unique, code, NULL, 0);
}

/* The kernel never heard of the handle that a worker before was about to answer this OPEN with. */
static void forget_answer(vs_plane *p, uint64_t unique) {
    uint64_t fh = vs_plane_files_answered(&p->files, unique);
    if (fh) vs_plane_remove_file(p, fh);
}

void vs_plane_forward(const vs_plane_exchange *x) {
    vs_plane_asked asked = {.unique = x->head->unique, .entry = x->entry};
    switch (x->head->opcode) {
    case FUSE_BATCH_FORGET:
        forward_forgets(x);
        return;
    case FUSE_FORGET:
    case FUSE_NOTIFY_REPLY:
        if (send_request(x) < 0) vs_plane_tally_add(&x->thread->tally[x->head->opcode].errors, 1);
        return;
    case FUSE_OPEN:
        asked.kind = VS_ASKED_OPEN;
        if (asked.unique & FUSE_UNIQUE_RESEND) forget_answer(x->thread->plane, asked.unique);
        break;
    default:
        break;
    }
    ask(x, &asked);
}

int vs_plane_greet(vs_plane *p) {
    unsigned char message[VS_PLANE_INIT_MAX];
    struct fuse_in_header head;
    memcpy(message, p->connection->init, sizeof message);
    memcpy(&head, message, sizeof head);
    head.unique = GREETING;
    memcpy(message, &head, sizeof head);
    int code = vs_plane_waiting_add(&p->waiting, &(vs_plane_asked){.unique = GREETING, .kind = VS_ASKED_INIT});
    return code < 0 ? code : send_message(p, &(struct iovec){message, p->connection->init_bytes}, 1);
}

void vs_plane_forward_seek(const vs_plane_exchange *x) {
    const struct fuse_lseek_in *in = x->args;
    struct fuse_in_header head = *x->head;
    struct fuse_getattr_in getattr = {.getattr_flags = FUSE_GETATTR_FH, .fh = in->fh};
    vs_plane_asked asked = {
        .unique = head.unique, .entry = x->entry, .kind = VS_ASKED_SEEK, .whence = in->whence, .offset_bytes = in->offset};
    head.opcode = FUSE_GETATTR;
    head.len = sizeof head + sizeof getattr;
    vs_plane_exchange instead = {.thread = x->thread, .entry = x->entry, .head = &head, .args = &getattr, .args_bytes = sizeof getattr};
    ask(&instead, &asked);
}

/* ---- and back ---- */

/* Flags that speak of the mount's page cache do not go with a backing file. pyfuse3 has no word for writes side by side: who opens a file of
 * ours past the cache has them. */
static void amend_open(vs_plane *p, unsigned char *reply, size_t n, const vs_plane_asked *asked) {
    vs_fuse_open_out *out = (void *)(reply + sizeof(struct fuse_out_header));
    int32_t backing_id;
    if (n < sizeof(struct fuse_out_header) + sizeof *out) return;
    if (vs_plane_files_answer(&p->files, out->fh, asked->unique, &backing_id) < 0) return;
    if (out->open_flags & FOPEN_DIRECT_IO) out->open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
    if (backing_id == 0) return;
    out->open_flags = FOPEN_PASSTHROUGH;
    out->backing_id = backing_id;
}

/* The file is one run of data, as the kernel itself has it for files that know no holes. */
static int amend_seek(unsigned char *reply, size_t n, const vs_plane_asked *asked, struct fuse_lseek_out *out) {
    const struct fuse_attr_out *attr = (const void *)(reply + sizeof(struct fuse_out_header));
    if (n < sizeof(struct fuse_out_header) + sizeof *attr) return -EIO;
    if (asked->offset_bytes >= attr->attr.size) return -ENXIO;
    out->offset = asked->whence == SEEK_DATA ? asked->offset_bytes : attr->attr.size;
    return 0;
}

/* A reply that the kernel refuses must not leave its process waiting. */
static void pass_on(const vs_plane *p, const vs_plane_asked *asked, const unsigned char *reply, size_t n) {
    const struct fuse_out_header *head = (const void *)reply;
    int refused = 0;
    if (asked->entry && head->len == n) vs_plane_uring_answer(asked->entry, head->error, head + 1, n - sizeof *head);
    else refused = asked->entry || (write(p->device.device_fd, reply, n) < 0 && errno != ENOENT && errno != ENODEV);
    if (refused) vs_plane_answer(p, asked->entry, asked->unique, -EIO, NULL, 0);
}

static void take_reply(vs_plane_thread *t, size_t n) {
    const struct fuse_out_header *head = (const void *)t->buf;
    vs_plane *p = t->plane;
    vs_plane_asked asked;
    if (!vs_plane_waiting_take(&p->waiting, head->unique, &asked)) return;
    if (asked.kind == VS_ASKED_SEEK && head->error == 0) {
        struct fuse_lseek_out seek = {0};
        int error = amend_seek(t->buf, n, &asked, &seek);
        vs_plane_answer(p, asked.entry, asked.unique, error, &seek, sizeof seek);
        return;
    }
    if (asked.kind == VS_ASKED_INIT) return; /* the kernel's own was answered when it was mounted */
    if (asked.kind == VS_ASKED_OPEN && head->error == 0) amend_open(p, t->buf, n, &asked);
    pass_on(p, &asked, t->buf, n);
}

/* A message of the pair; 0 when it has ended. */
static size_t receive(vs_plane_thread *t, int fd) {
    ssize_t n;
    do n = recv(fd, t->buf, VS_PLANE_BUFFER, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? 0 : (size_t)n;
}

void vs_plane_replies(vs_plane_thread *t) {
    vs_plane *p = t->plane;
    const struct fuse_out_header *head = (const void *)t->buf;
    for (size_t n; (n = receive(t, p->names_fd)) > 0;) {
        if (n < sizeof *head) continue;
        if (head->unique) take_reply(t, n);
        else if (send(p->notice_in, t->buf, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) vs_plane_tally_add(&t->tally[0].errors, 1);
    }
    vs_plane_waiting_close(&p->waiting);
    uint64_t cursor = 0;
    for (const vs_plane_asked *asked; (asked = vs_plane_waiting_next(&p->waiting, &cursor));)
        vs_plane_answer(p, asked->entry, asked->unique, -ENOTCONN, NULL, 0);
}

void vs_plane_notices(vs_plane_thread *t) {
    vs_plane *p = t->plane;
    for (size_t n; (n = receive(t, p->notice_out)) > 0;) {
        vs_plane_tally_add(&t->tally[0].requests, 1);
        /* -ENOENT: the kernel has nothing of it in its cache. */
        if (write(p->device.device_fd, t->buf, n) < 0 && errno != ENOENT) vs_plane_tally_add(&t->tally[0].errors, 1);
    }
}
