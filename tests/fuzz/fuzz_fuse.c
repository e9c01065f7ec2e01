/* fuzz_fuse.c: requests as they come from the kernel, and what pyfuse3's end of the pair says to them, through the plane, without a mount.
 *
 *   input = message*
 *   message = u8 kind, u16 length, bytes
 *
 * kind: a request (its `unique` is put in, as the kernel counts it; FILE: its fh is that of an open volume), a reply to one of the requests that
 * wait (TO), or as it is, a notification, or the kernel's INIT. The system calls by which all this comes and goes are wrapped.
 *
 * Each request is answered once, by the plane or by the reply that it was forwarded for, or with ENOTCONN at the end, as the kernel takes it:
 * of the length that it says, with an error that is one. What is forwarded is forwarded as it came. What stands behind a request in the buffer
 * is never read.
 */
#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../native/memory_file.h"
#include "codec.h"
#include "plane_internal.h"
#include "repair.h"
#include "require.h"

enum { KIND_REQUEST, KIND_REPLY, KIND_RAW_REPLY, KIND_NOTICE, KIND_INIT, KINDS, KIND_FILE = 0x80 };
enum { DEVICE = 5000, NAMES, NOTICE_IN, NOTICE_OUT, MESSAGE_MAX = 4000, REQUESTS_MAX = 64, VOLUME_BYTES = 70000, QUEUE_MAX = 64 };

static struct {
    vs_plane plane;
    vs_plane_connection connection;
    vs_keep *keep;
    memory_file *volume;
    uint64_t fh;
} ground;

static struct {
    const uint8_t *at;
    size_t left;
    const uint8_t *request; /* being looked at by the plane, its bytes */
    size_t request_bytes;
    int requests, forwards;
    struct {
        uint32_t opcode;
        int answers, forwarded;
    } asked[REQUESTS_MAX];
    const uint8_t *queue[QUEUE_MAX]; /* notices on their way, in the input */
    size_t queue_bytes[QUEUE_MAX];
    int queued, taken;
} run;

/* ---- the kernel's side ---- */

static uint64_t unique_of(int request) {
    return 2 * (uint64_t)request + 2;
}

/* As fuse_dev_write judges it. */
static ssize_t device_write(const struct iovec *parts, int count) {
    static uint8_t message[VS_PLANE_BUFFER + sizeof(struct fuse_out_header)];
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        REQUIRE(parts[i].iov_len <= sizeof message - n, "an answer is not larger than a request may be");
        if (parts[i].iov_len) memcpy(message + n, parts[i].iov_base, parts[i].iov_len);
        n += parts[i].iov_len;
    }
    struct fuse_out_header head;
    errno = EINVAL;
    if (n < sizeof head) return -1;
    memcpy(&head, message, sizeof head);
    if (head.len != n) return -1;
    if (head.unique == 0) return (ssize_t)n; /* a notification, or the answer to INIT */
    if (head.error > 0 || head.error <= -512) return -1;
    uint64_t request = head.unique / 2 - 1;
    errno = ENOENT;
    if (head.unique % 2 || request >= (uint64_t)run.requests || run.asked[request].answers) return -1;
    run.asked[request].answers++;
    return (ssize_t)n;
}

ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
    return fd == DEVICE ? device_write(parts, count) : __real_writev(fd, parts, count);
}

ssize_t __real_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n);
ssize_t __wrap_write(int fd, const void *bytes, size_t n) {
    return fd == DEVICE ? device_write(&(struct iovec){(void *)(uintptr_t)bytes, n}, 1) : __real_write(fd, bytes, n);
}

ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n);
ssize_t __wrap_read(int fd, void *bytes, size_t n) {
    if (fd != DEVICE) return __real_read(fd, bytes, n);
    memcpy(bytes, run.request, run.request_bytes);
    return (ssize_t)run.request_bytes;
}

/* ---- pyfuse3's side ---- */

/* What is forwarded is the request as it came, but for forgets, which are cut to size, and LSEEK, which becomes GETATTR. */
static long names_send(const struct msghdr *message) {
    static uint8_t bytes[VS_PLANE_BUFFER];
    size_t n = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        REQUIRE(message->msg_iov[i].iov_len <= sizeof bytes - n, "what is forwarded fits");
        if (message->msg_iov[i].iov_len) memcpy(bytes + n, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        n += message->msg_iov[i].iov_len;
    }
    const struct fuse_in_header *head = (const void *)bytes, *came = (const void *)run.request;
    run.forwards++;
    if (came->opcode == FUSE_LSEEK) REQUIRE(head->opcode == FUSE_GETATTR && head->len == n, "LSEEK becomes GETATTR");
    else if (came->opcode == FUSE_BATCH_FORGET) REQUIRE(head->len == n, "forgets are as many as they say");
    else REQUIRE(n == run.request_bytes && memcmp(bytes, run.request, n) == 0, "a request is forwarded as it came");
    return (long)n;
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    va_list list;
    va_start(list, number);
    int fd = va_arg(list, int);
    const struct msghdr *message = va_arg(list, const struct msghdr *);
    va_end(list);
    REQUIRE(number == SYS_sendmsg && fd == NAMES, "the plane makes no other call by its number");
    return names_send(message);
}

ssize_t __real_send(int fd, const void *bytes, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t n, int flags) {
    if (fd != NOTICE_IN) return __real_send(fd, bytes, n, flags);
    errno = EAGAIN;
    if (run.queued == QUEUE_MAX) return -1;
    uint8_t *copy = malloc(n);
    memcpy(copy, bytes, n);
    run.queue[run.queued] = copy;
    run.queue_bytes[run.queued++] = n;
    return (ssize_t)n;
}

/* ---- the input ---- */

static void request(uint8_t kind, const uint8_t *bytes, size_t n) {
    vs_plane_thread *t = &ground.plane.threads[0];
    struct fuse_in_header head = {0};
    if (run.requests == REQUESTS_MAX) return;
    memcpy(t->buf, bytes, n);
    if (n < sizeof head) n = sizeof head; /* the kernel gives no less */
    memcpy(&head, t->buf, sizeof head);
    head.unique = unique_of(run.requests);
    head.len = (uint32_t)n;
    memcpy(t->buf, &head, sizeof head);
    if (kind & KIND_FILE && n >= sizeof head + 8) memcpy(t->buf + sizeof head, &ground.fh, 8);
    uint8_t *as_came = malloc(n);
    memcpy(as_came, t->buf, n);
    run.request = as_came;
    run.request_bytes = n;
    run.asked[run.requests].opcode = head.opcode;
    int number = run.requests++, forwards = run.forwards;
    __asan_poison_memory_region(t->buf + (n + 7) / 8 * 8, VS_PLANE_HEAD - (n + 7) / 8 * 8);
    vs_plane_request(t, n);
    __asan_unpoison_memory_region(t->buf, VS_PLANE_HEAD);
    run.asked[number].forwarded = run.forwards > forwards;
    int quiet = head.opcode == FUSE_INTERRUPT || head.opcode == FUSE_FORGET || head.opcode == FUSE_BATCH_FORGET || head.opcode == FUSE_NOTIFY_REPLY;
    if (quiet) REQUIRE(run.asked[number].answers == 0, "what wants no answer gets none");
    else REQUIRE(run.asked[number].answers + run.asked[number].forwarded == 1, "a request is answered or forwarded");
    free(as_came);
}

static void init(const uint8_t *bytes, size_t n) {
    static vs_plane_connection c;
    uint8_t copy[MESSAGE_MAX + sizeof(struct fuse_in_header)] = {0};
    memcpy(copy, bytes, n);
    memset(copy + 8, 0, 8); /* unique: it is no request of the others */
    run.request = copy;
    run.request_bytes = n;
    int r = vs_plane_connection_agree(&c, DEVICE, VS_PLANE_DEVICE);
    if (r == 0) vs_plane_connection_offered(&c);
}

/* A reply to a request that waits: its unique, and maybe its length, put in. */
static size_t reply(uint8_t kind, const uint8_t *bytes, size_t n, uint8_t *to) {
    struct fuse_out_header head;
    memcpy(to, bytes, n);
    if (n < sizeof head || kind == KIND_RAW_REPLY) return n;
    memcpy(&head, to, sizeof head);
    int which = run.requests ? (int)(head.unique % (uint64_t)run.requests) : 0;
    head.unique = kind == KIND_NOTICE ? 0 : unique_of(which);
    if (!(bytes[0] & 1)) head.len = (uint32_t)n;
    memcpy(to, &head, sizeof head);
    return n;
}

ssize_t __real_recv(int fd, void *buf, size_t room, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t room, int flags);

/* The reply thread's next message: requests that stand before it are served first. */
static size_t next_reply(uint8_t *to) {
    while (run.left >= 3) {
        uint8_t kind = run.at[0];
        size_t n = vs_get16(run.at + 1);
        if (n > MESSAGE_MAX) n = MESSAGE_MAX;
        if (n > run.left - 3) n = run.left - 3;
        const uint8_t *bytes = run.at + 3;
        run.at += 3 + n;
        run.left -= 3 + n;
        switch ((kind & 0x7f) % KINDS) {
        case KIND_REQUEST: request(kind, bytes, n); break;
        case KIND_INIT: init(bytes, n); break;
        default:
            if (n) return reply((kind & 0x7f) % KINDS, bytes, n, to);
        }
    }
    return 0;
}

ssize_t __wrap_recv(int fd, void *buf, size_t room, int flags) {
    if (fd == NAMES) return (ssize_t)next_reply(buf);
    if (fd != NOTICE_OUT) return __real_recv(fd, buf, room, flags);
    if (run.taken == run.queued) return 0;
    size_t n = run.queue_bytes[run.taken];
    memcpy(buf, run.queue[run.taken], n);
    free((void *)(uintptr_t)run.queue[run.taken++]);
    return (ssize_t)n;
}

/* ---- the plane ---- */

static void begin(void) {
    vs_plane *p = &ground.plane;
    int fd = vs_keep_make();
    REQUIRE(fd >= 0 && vs_keep_open(fd, &ground.keep) == 0 && vs_plane_files_init(&p->files, ground.keep) == 0, "a keep is made");
    REQUIRE(vs_plane_faults_init(&p->faults) == 0 && vs_plane_backings_init(&p->backings) == 0, "parts of a plane are made");
    p->connection = &ground.connection;
    p->device.device_fd = DEVICE;
    p->device.abort_fd = -1;
    p->names_fd = NAMES;
    p->notice_in = NOTICE_IN;
    p->notice_out = NOTICE_OUT;
    p->workers = 1;
    p->threads = calloc(3, sizeof *p->threads);
    for (int i = 0; i < 3; i++) {
        p->threads[i].plane = p;
        p->threads[i].buf = aligned_alloc(VS_PLANE_HEAD, VS_PLANE_BUFFER);
        memset(p->threads[i].buf, 0, VS_PLANE_BUFFER);
    }
    ground.volume = memory_file_new(VOLUME_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    vs_plane *p = &ground.plane;
    vs_fault fault;
    if (!ground.keep) begin();
    memset(&run, 0, sizeof run);
    run.at = data;
    run.left = size;
    REQUIRE(vs_plane_waiting_init(&p->waiting) == 0, "a table is made");
    REQUIRE(vs_plane_add_file(p, &ground.volume->file, 2, 0, &ground.fh) == 0, "a file is added");
    vs_plane_replies(&p->threads[1]); /* serves the whole input, see next_reply */
    vs_plane_notices(&p->threads[2]);
    for (int i = 0; i < run.requests; i++)
        REQUIRE(!run.asked[i].forwarded || run.asked[i].answers == 1 || run.asked[i].opcode == FUSE_FORGET || run.asked[i].opcode == FUSE_BATCH_FORGET ||
                    run.asked[i].opcode == FUSE_NOTIFY_REPLY,
                "what was forwarded is answered in the end");
    REQUIRE(p->waiting.used == 0 || p->waiting.closed, "nothing waits");
    vs_plane_waiting_end(&p->waiting);
    vs_plane_remove_file(p, ground.fh);
    while (vs_plane_next_fault(p, &fault) == 1) {}
    return 0;
}

/* ---- mutations ---- */

static size_t request_make(uint8_t *to, uint32_t *state) {
    static const uint32_t opcodes[] = {FUSE_READ,   FUSE_WRITE,  FUSE_LSEEK,  FUSE_FALLOCATE, FUSE_FSYNC,        FUSE_FLUSH, FUSE_OPEN,
                                       FUSE_LOOKUP, FUSE_GETATTR, FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT, FUSE_IOCTL, FUSE_FSYNCDIR};
    uint8_t args[96];
    struct fuse_in_header head = {.opcode = opcodes[fuzz_below(state, sizeof opcodes / sizeof opcodes[0])], .nodeid = 2};
    size_t n = 40 + fuzz_below(state, 56);
    memset(args, 0, sizeof args);
    for (size_t i = 8; i < 40; i += 8) args[i] = (uint8_t)fuzz_below(state, 256), args[i + 1] = (uint8_t)fuzz_below(state, 16);
    if (head.opcode == FUSE_WRITE) vs_put32(args + 16, (uint32_t)(n - 40));
    if (head.opcode == FUSE_LSEEK) vs_put32(args + 16, 3 + fuzz_below(state, 2));
    if (head.opcode == FUSE_FALLOCATE) vs_put32(args + 24, fuzz_below(state, 2) ? 3 : 0x10);
    if (head.opcode == FUSE_BATCH_FORGET) vs_put32(args, fuzz_below(state, 4));
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, args, n);
    return sizeof head + n;
}

static size_t reply_make(uint8_t *to, uint32_t *state) {
    size_t n = fuzz_below(state, 2) ? 16 + 8 * (size_t)fuzz_below(state, 16) : 16;
    memset(to, 0, n);
    struct fuse_out_header head = {.unique = fuzz_below(state, 8), .error = fuzz_below(state, 3) ? 0 : -(int)fuzz_below(state, 140)};
    memcpy(to, &head, sizeof head);
    for (size_t i = 16; i < n; i += 4) to[i] = (uint8_t)fuzz_below(state, 256);
    return n;
}

static size_t message_make(uint8_t *to, uint32_t *state) {
    uint32_t kind = fuzz_below(state, KINDS);
    size_t n = kind == KIND_REQUEST ? request_make(to + 3, state) : reply_make(to + 3, state);
    if (kind == KIND_INIT) {
        struct fuse_in_header head = {.opcode = FUSE_INIT};
        struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION, .minor = fuzz_below(state, 50), .flags = fuzz_random(state), .flags2 = fuzz_random(state)};
        memcpy(to + 3, &head, sizeof head);
        memcpy(to + 3 + sizeof head, &in, sizeof in);
        n = sizeof head + sizeof in - (fuzz_below(state, 4) ? 0 : 8);
    }
    to[0] = (uint8_t)(kind | (kind == KIND_REQUEST && fuzz_below(state, 4) ? KIND_FILE : 0));
    vs_put16(to + 1, (uint16_t)n);
    return 3 + n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed) {
    uint32_t state = seed * 2654435761u + 1;
    if (room - size > 512 && (size < 4 || fuzz_below(&state, 3) == 0)) return size + message_make(data + (size < 4 ? 0 : size), &state) - (size < 4 ? size : 0);
    if (size >= 12 && fuzz_below(&state, 2)) {
        size_t at = 0; /* a field of one of the messages */
        for (uint32_t skip = fuzz_below(&state, 8); skip > 0 && at + 3 + vs_get16(data + at + 1) + 12 <= size; skip--) at += 3 + vs_get16(data + at + 1);
        size_t length = at + 3 <= size ? vs_get16(data + at + 1) : 0;
        if (length > size - at - 3) length = size - at - 3;
        if (length >= 12) {
            fuzz_field(data + at + 3 + fuzz_below(&state, (uint32_t)(length - 8) / 4 + 1) * 4, 1u << (1 + fuzz_below(&state, 3)), &state);
            return size;
        }
    }
    return LLVMFuzzerMutate(data, size, room);
}
