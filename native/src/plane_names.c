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
#include <sys/time.h>
#include <unistd.h>

enum {
    SOCKET_BYTES = 4 << 20,
    SEND_SECONDS_MAX = 15,
    BACKING_DEPTH = 2, /* a kernel view is an EROFS on the repository's filesystem: what we are stacked on may be that deep */
    FORGETS_MAX = 4096, /* in one message: large ones need memory in one piece in the kernel, which it may not have */
    /* The kernel's 12 read-aheads and asynchronous requests at once leave workers idle: at 200 us a read it was 31k against 50k IOPS. */
    BACKGROUND_MIN = 64,
};

/* ---- the pairs ---- */

static int open_pair(int fds[2]) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return -errno;
    int bytes = SOCKET_BYTES;
    struct timeval limit = {.tv_sec = SEND_SECONDS_MAX};
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) return -errno;
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

static int send_message(const vs_plane *p, const void *message, size_t n) {
    ssize_t sent;
    do sent = send(p->names_fd, message, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) return 0;
    if (errno == EPIPE || errno == ECONNRESET) return -ENOTCONN;
    return errno == EAGAIN ? -ETIMEDOUT : -errno;
}

/* Nobody answers a forget, so none may be lost to a message that is too large. */
static void forward_forgets(vs_plane_thread *t, size_t n) {
    enum { HEAD = sizeof(struct fuse_in_header) + sizeof(struct fuse_batch_forget_in) };
    unsigned char part[HEAD + FORGETS_MAX * sizeof(struct fuse_forget_one)];
    struct fuse_in_header head;
    struct fuse_batch_forget_in batch;
    memcpy(&head, t->buf, sizeof head);
    size_t left = n < HEAD ? 0 : (n - HEAD) / sizeof(struct fuse_forget_one);
    for (const unsigned char *from = t->buf + HEAD; left > 0;) {
        size_t count = left < FORGETS_MAX ? left : FORGETS_MAX, bytes = count * sizeof(struct fuse_forget_one);
        head.len = (uint32_t)(HEAD + bytes);
        batch = (struct fuse_batch_forget_in){.count = (uint32_t)count};
        memcpy(part, &head, sizeof head);
        memcpy(part + sizeof head, &batch, sizeof batch);
        memcpy(part + HEAD, from, bytes);
        if (send_message(t->plane, part, HEAD + bytes) < 0) vs_plane_tally_add(&t->tally[FUSE_BATCH_FORGET].errors, 1);
        from += bytes;
        left -= count;
    }
}

/* Forward the message in t->buf; what its reply needs is kept first, since the reply may be faster than we are. */
static void ask(vs_plane_thread *t, size_t n, const vs_plane_asked *asked) {
    vs_plane *p = t->plane;
    vs_plane_asked mine;
    int code = vs_plane_waiting_add(&p->waiting, asked);
    if (code == 0) {
        code = send_message(p, t->buf, n);
        /* Not found: the reply thread has found pyfuse3 gone and answers for all. */
        if (code == 0 || !vs_plane_waiting_take(&p->waiting, asked->unique, &mine)) return;
    }
    vs_plane_answer(p, asked->unique, code, NULL, 0);
}

void vs_plane_forward(vs_plane_thread *t, size_t n) {
    const struct fuse_in_header *head = (const void *)t->buf;
    const struct fuse_init_in *init = (const void *)(head + 1);
    vs_plane_asked asked = {.unique = head->unique};
    switch (head->opcode) {
    case FUSE_BATCH_FORGET:
        forward_forgets(t, n);
        return;
    case FUSE_FORGET:
    case FUSE_NOTIFY_REPLY:
        if (send_message(t->plane, t->buf, n) < 0) vs_plane_tally_add(&t->tally[head->opcode].errors, 1);
        return;
    case FUSE_INIT:
        asked.kind = VS_ASKED_INIT;
        asked.flags = init->flags;
        asked.flags2 = init->flags & FUSE_INIT_EXT ? init->flags2 : 0;
        asked.max_readahead = init->max_readahead;
        break;
    case FUSE_OPEN:
        asked.kind = VS_ASKED_OPEN;
        break;
    default:
        break;
    }
    ask(t, n, &asked);
}

void vs_plane_forward_seek(vs_plane_thread *t) {
    struct fuse_in_header *head = (void *)t->buf;
    struct fuse_lseek_in in;
    memcpy(&in, head + 1, sizeof in);
    vs_plane_asked asked = {.unique = head->unique, .kind = VS_ASKED_SEEK, .whence = in.whence, .offset_bytes = in.offset};
    struct fuse_getattr_in getattr = {.getattr_flags = FUSE_GETATTR_FH, .fh = in.fh};
    memcpy(head + 1, &getattr, sizeof getattr);
    head->opcode = FUSE_GETATTR;
    head->len = sizeof *head + sizeof getattr;
    ask(t, head->len, &asked);
}

/* ---- and back ---- */

/* Large requests, and many at once; only what the kernel offers, everything else as libfuse made it out. The kernel reads as much
 * of the struct as it is long, which follows from the minor version. */
static void amend_init(unsigned char *reply, size_t n, const vs_plane_asked *asked) {
    vs_fuse_init_out *out = (void *)(reply + sizeof(struct fuse_out_header));
    if (n < sizeof(struct fuse_out_header) + sizeof *out) return;
    if (asked->flags2 & FUSE_PASSTHROUGH >> 32) {
        out->flags |= FUSE_INIT_EXT;
        out->flags2 |= FUSE_PASSTHROUGH >> 32;
        out->max_stack_depth = BACKING_DEPTH;
    }
    /* Without HANDLE_KILLPRIV_V2 each write asks for security.capability first, of files that never carry any. */
    uint32_t wanted = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2;
    out->flags |= wanted & asked->flags;
    /* Nobody but the kernel writes to a live file, and who does (resize, import) says so: no GETATTR before each read. */
    out->flags &= ~(uint32_t)(FUSE_WRITEBACK_CACHE | FUSE_AUTO_INVAL_DATA);
    out->max_readahead = asked->max_readahead;
    out->max_background = out->max_background < BACKGROUND_MIN ? BACKGROUND_MIN : out->max_background;
    out->congestion_threshold = (uint16_t)(out->max_background / 4 * 3);
    if (!(out->flags & FUSE_MAX_PAGES)) return;
    out->max_write = VS_PLANE_REQUEST_MAX;
    out->max_pages = (uint16_t)(VS_PLANE_REQUEST_MAX / (uint32_t)sysconf(_SC_PAGESIZE));
}

/* Flags that speak of the mount's page cache do not go with a backing file. */
static void amend_open(vs_plane *p, unsigned char *reply, size_t n) {
    vs_fuse_open_out *out = (void *)(reply + sizeof(struct fuse_out_header));
    uint64_t ino;
    int32_t backing_id;
    if (n < sizeof(struct fuse_out_header) + sizeof *out) return;
    if (vs_plane_files_inode(&p->files, out->fh, &ino, &backing_id) < 0 || backing_id == 0) return;
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
static void pass_on(const vs_plane *p, const unsigned char *reply, size_t n, uint64_t unique) {
    if (write(p->mount.device_fd, reply, n) < 0 && errno != ENOENT && errno != ENODEV) vs_plane_answer(p, unique, -EIO, NULL, 0);
}

static void take_reply(vs_plane_thread *t, size_t n) {
    const struct fuse_out_header *head = (const void *)t->buf;
    vs_plane *p = t->plane;
    vs_plane_asked asked;
    if (!vs_plane_waiting_take(&p->waiting, head->unique, &asked)) return;
    if (asked.kind == VS_ASKED_SEEK && head->error == 0) {
        struct fuse_lseek_out seek = {0};
        int error = amend_seek(t->buf, n, &asked, &seek);
        vs_plane_answer(p, asked.unique, error, &seek, sizeof seek);
        return;
    }
    if (asked.kind == VS_ASKED_INIT && head->error == 0) amend_init(t->buf, n, &asked);
    if (asked.kind == VS_ASKED_OPEN && head->error == 0) amend_open(p, t->buf, n);
    pass_on(p, t->buf, n, asked.unique);
    if (asked.kind == VS_ASKED_INIT) vs_plane_mount_read_ahead(&p->mount);
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
    for (uint64_t unique; (unique = vs_plane_waiting_next(&p->waiting, &cursor));) vs_plane_answer(p, unique, -ENOTCONN, NULL, 0);
}

void vs_plane_notices(vs_plane_thread *t) {
    vs_plane *p = t->plane;
    for (size_t n; (n = receive(t, p->notice_out)) > 0;) {
        vs_plane_tally_add(&t->tally[0].requests, 1);
        /* -ENOENT: the kernel has nothing of it in its cache. */
        if (write(p->mount.device_fd, t->buf, n) < 0 && errno != ENOENT) vs_plane_tally_add(&t->tally[0].errors, 1);
    }
}
