/* plane_connection.c: what is agreed with the kernel, and what pyfuse3 is told of it.
 *
 * The kernel says INIT once, when it is mounted. Whoever mounted answers, so that a worker never has to; a pyfuse3 session also wants
 * an INIT first, and gets the kernel's again, from the keep. Its reply goes nowhere: what libfuse would ask for is no choice of ours.
 */
#include "plane_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    MINOR_MAX = 38,
    /* The kernel's 12 read-aheads and asynchronous requests at once leave workers idle: at 200 us a read it was 31k against 50k IOPS. */
    BACKGROUND = 64,
    BACKING_DEPTH = 2, /* a kernel view is an EROFS on the repository's filesystem: what we are stacked on may be that deep */
};

/* No FUSE_WRITEBACK_CACHE: a write(2) reaches us before it returns, in order. No FUSE_AUTO_INVAL_DATA: nobody but the kernel writes to a
 * live file, and who does (resize, import) says so: no GETATTR before each read. FUSE_HANDLE_KILLPRIV_V2: without it each write asks for
 * security.capability first, of files that never carry any. READDIRPLUS and no other: pyfuse3 has no plain one. */
#define WANTED                                                                                                                     \
    (FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |      \
     FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 | FUSE_INIT_EXT | FUSE_HAS_RESEND)

int vs_plane_connection_of(vs_keep *k, vs_plane_connection **out) {
    void *p = NULL;
    int code = vs_keep_region(k, VS_KEEP_CONNECTION, sizeof **out, &p);
    *out = p;
    return code;
}

static const struct fuse_init_in *init_of(const vs_plane_connection *c) {
    return (const void *)(c->init + sizeof(struct fuse_in_header));
}

uint64_t vs_plane_connection_offered(const vs_plane_connection *c) {
    const struct fuse_init_in *in = init_of(c);
    return in->flags | (in->flags & FUSE_INIT_EXT ? (uint64_t)in->flags2 << 32 : 0);
}

static int read_init(vs_plane_connection *c, int device_fd, unsigned char *buf) {
    const struct fuse_in_header *head = (const void *)buf;
    ssize_t n;
    do n = read(device_fd, buf, VS_PLANE_BUFFER);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    if ((size_t)n < sizeof *head + sizeof(struct fuse_init_in) || n > VS_PLANE_INIT_MAX || head->opcode != FUSE_INIT) return -EPROTO;
    memcpy(c->init, buf, (size_t)n);
    c->init_bytes = (uint32_t)n;
    return init_of(c)->major == FUSE_KERNEL_VERSION ? 0 : -EPROTO;
}

/* Not for a user's mount: its end is a signal to who waits for /dev/fuse, see plane_fusermount.c. */
static int rings_wanted(int32_t transport, uint64_t offered) {
    if (geteuid() == 0) return vs_plane_uring_wanted(transport, offered);
    if (transport != VS_PLANE_IO_URING) return 0;
    return vs_fault_set(-EOPNOTSUPP, 0, 0, 0, 0, "io_uring cannot be used: the mount is not root's");
}

static int answer_init(vs_plane_connection *c, int device_fd, int32_t transport) {
    const struct fuse_in_header *head = (const void *)c->init;
    const struct fuse_init_in *in = init_of(c);
    uint32_t request_max = geteuid() == 0 ? VS_PLANE_REQUEST_MAX : VS_PLANE_REQUEST_MAX_USER;
    uint64_t offered = vs_plane_connection_offered(c), flags = WANTED & offered;
    int rings = rings_wanted(transport, offered);
    if (rings < 0) return rings;
    if (rings) flags |= FUSE_OVER_IO_URING;
    c->by_io_uring = (uint32_t)rings;
    /* Only root may name backing files, and nobody can put an overlay on a mount that has them. */
    uint64_t passthrough = geteuid() == 0 ? offered & FUSE_PASSTHROUGH : 0;
    flags |= passthrough;
    vs_fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = in->minor < MINOR_MAX ? in->minor : MINOR_MAX,
        .max_readahead = in->max_readahead,
        .flags = (uint32_t)flags,
        .flags2 = (uint32_t)(flags >> 32),
        .max_background = BACKGROUND,
        .congestion_threshold = BACKGROUND / 4 * 3,
        .max_write = request_max,
        .time_gran = 1,
        .max_pages = (uint16_t)(request_max / (uint32_t)sysconf(_SC_PAGESIZE)),
        .max_stack_depth = passthrough ? BACKING_DEPTH : 0,
    };
    struct fuse_out_header reply = {.len = sizeof reply + sizeof out, .unique = head->unique};
    struct iovec parts[2] = {{&reply, sizeof reply}, {&out, sizeof out}};
    return writev(device_fd, parts, 2) < 0 ? -errno : 0;
}

int vs_plane_connection_agree(vs_plane_connection *c, int device_fd, int32_t transport) {
    unsigned char *buf = malloc(VS_PLANE_BUFFER); /* the kernel refuses a read that could not hold a WRITE */
    int code = buf ? read_init(c, device_fd, buf) : -ENOMEM;
    free(buf);
    if (code == 0) code = answer_init(c, device_fd, transport);
    if (code == 0) atomic_store_explicit(&c->agreed, 1, memory_order_release);
    return code;
}

int vs_plane_connection_resend(int device_fd) {
    struct fuse_out_header head = {.len = sizeof head, .error = FUSE_NOTIFY_RESEND};
    return write(device_fd, &head, sizeof head) == sizeof head ? 0 : -errno;
}

static int agreed(vs_keep *k, vs_plane_connection **c) {
    int code = vs_plane_connection_of(k, c);
    return code < 0 ? code : atomic_load_explicit(&(*c)->agreed, memory_order_acquire) ? 0 : -EPROTO;
}

int vs_plane_resumable(vs_keep *k) {
    vs_plane_connection *c;
    int code = agreed(k, &c);
    return code < 0 ? code : !c->by_io_uring && (vs_plane_connection_offered(c) & FUSE_HAS_RESEND) != 0;
}

int vs_plane_mounted_at(vs_keep *k, char path[VS_PLANE_PATH_MAX]) {
    vs_plane_connection *c;
    int code = agreed(k, &c);
    if (code == 0) memcpy(path, c->place.path, sizeof c->place.path);
    return code;
}

int vs_plane_detach(vs_keep *k, int lazy) {
    vs_plane_connection *c;
    int code = agreed(k, &c);
    return code < 0 ? code : vs_plane_place_detach(&c->place, lazy);
}

int vs_plane_mount(const vs_plane_options *o, vs_keep *k) {
    vs_plane_connection *c;
    int code = vs_plane_connection_of(k, &c);
    if (code < 0) return code;
    atomic_store(&c->agreed, 0);
    atomic_store(&c->workers, 0);
    atomic_store(&c->backing_first, 1); /* the kernel begins with 1 */
    atomic_store(&c->backing_end, 1);
    code = vs_plane_files_forget(k);
    if (code < 0) return code;
    int fd = vs_plane_mount_make(o, &c->place);
    if (fd < 0) return fd;
    vs_fault_clear();
    code = vs_plane_connection_agree(c, fd, o->transport);
    if (code < 0) {
        vs_fault fault;
        vs_fault_last(&fault);
        vs_plane_place_detach(&c->place, 1);
        close(fd);
        if (fault.code == code) return code;
        return vs_fault_set(code, 0, 0, 0, 0, "%s: no agreement with the kernel: %s", c->place.path, strerror(-code));
    }
    vs_plane_place_read_ahead(&c->place);
    return fd;
}
