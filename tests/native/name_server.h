/* name_server.h: pyfuse3's place at the plane's socket, taken by a hundred lines of C: a root directory with
 *
 *   vol     nodeid 2: a memory_file, opened through the plane
 *   text    nodeid 3: served from here, fh 3; "hello names\n"
 *   notify  nodeid 4: while it is looked up, its directory entry is invalidated
 *   silent  never answered; counted
 *   garbage answered with a message of the wrong length
 *
 * Everything else it does not know, and says ENOSYS, as libfuse does.
 */
#ifndef VS_TESTS_NAME_SERVER_H
#define VS_TESTS_NAME_SERVER_H

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "memory_file.h"
#include "plane.h"

enum { NODE_VOLUME = 2, NODE_TEXT = 3, NODE_NOTIFY = 4, NAME_MESSAGE_MAX = 1 << 16 };

#define TEXT "hello names\n"

typedef struct name_server {
    vs_plane *plane;
    memory_file *volume;
    int fd;
    pthread_t thread;
    uint32_t open_flags;      /* of the volume: FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE */
    _Atomic int forgetful;    /* attributes are valid for no time */
    struct fuse_init_in offered;
    _Atomic uint64_t silent;
    _Atomic uint64_t opcodes[VS_PLANE_OPCODES];
} name_server;

static void name_reply(name_server *s, uint64_t unique, int error, const void *body, size_t bytes) {
    unsigned char message[4096];
    struct fuse_out_header head = {.unique = unique, .error = error, .len = (uint32_t)(sizeof head + bytes)};
    memcpy(message, &head, sizeof head);
    if (bytes) memcpy(message + sizeof head, body, bytes);
    CHECK(send(s->fd, message, head.len, MSG_NOSIGNAL) == (ssize_t)head.len || errno == EPIPE); /* EPIPE: the plane has stopped */
}

static struct fuse_attr name_attr(const name_server *s, uint64_t node) {
    struct fuse_attr a = {.ino = node, .mode = S_IFREG | 0600, .nlink = 1, .blksize = 4096};
    if (node == 1) a.mode = S_IFDIR | 0755;
    if (node == NODE_VOLUME) a.size = s->volume->size_bytes;
    if (node == NODE_TEXT) a.size = sizeof TEXT - 1;
    return a;
}

static void name_init(name_server *s, const struct fuse_in_header *in) {
    memcpy(&s->offered, in + 1, sizeof s->offered);
    /* Small on purpose, and with what the plane has to take away. */
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = FUSE_KERNEL_MINOR_VERSION,
                                .flags = FUSE_WRITEBACK_CACHE | FUSE_AUTO_INVAL_DATA | FUSE_BIG_WRITES | FUSE_INIT_EXT,
                                .max_readahead = 4096,
                                .max_write = 4096,
                                .time_gran = 1};
    name_reply(s, in->unique, 0, &out, sizeof out);
}

static void name_invalidate(name_server *s, const char *name) {
    struct {
        struct fuse_notify_inval_entry_out out;
        char name[16];
    } body = {.out = {.parent = 1, .namelen = (uint32_t)strlen(name)}};
    strcpy(body.name, name);
    name_reply(s, 0, FUSE_NOTIFY_INVAL_ENTRY, &body, sizeof body.out + strlen(name) + 1);
}

static void name_lookup(name_server *s, const struct fuse_in_header *in) {
    const char *name = (const void *)(in + 1);
    uint64_t node = strcmp(name, "vol") == 0 ? NODE_VOLUME : strcmp(name, "text") == 0 ? NODE_TEXT : 0;
    if (strcmp(name, "silent") == 0) {
        atomic_fetch_add(&s->silent, 1);
        return;
    }
    if (strcmp(name, "garbage") == 0) {
        struct fuse_out_header head = {.unique = in->unique, .len = 1000};
        CHECK_EQ(send(s->fd, &head, sizeof head, MSG_NOSIGNAL), sizeof head);
        return;
    }
    if (strcmp(name, "notify") == 0) {
        name_invalidate(s, name);
        node = NODE_NOTIFY;
    }
    struct fuse_entry_out out = {.nodeid = node, .entry_valid = 60, .attr_valid = s->forgetful ? 0 : 60, .attr = name_attr(s, node)};
    if (node) name_reply(s, in->unique, 0, &out, sizeof out);
    else name_reply(s, in->unique, -ENOENT, NULL, 0);
}

static void name_open(name_server *s, const struct fuse_in_header *in) {
    struct fuse_open_out out = {.fh = NODE_TEXT};
    if (in->nodeid == NODE_VOLUME) {
        out.open_flags = s->open_flags;
        CHECK_EQ(vs_plane_add_file(s->plane, &s->volume->file, 0, 0, (uint64_t *)&out.fh), 0);
    }
    name_reply(s, in->unique, 0, &out, sizeof out);
}

static void name_release(name_server *s, const struct fuse_in_header *in) {
    const struct fuse_release_in *release = (const void *)(in + 1);
    int code = in->nodeid == NODE_VOLUME ? vs_plane_remove_file(s->plane, release->fh) : 0;
    CHECK(code == 0 || code == -EBADF); /* EBADF: the plane has stopped and released all */
    name_reply(s, in->unique, 0, NULL, 0);
}

static void name_read(name_server *s, const struct fuse_in_header *in) {
    const struct fuse_read_in *read = (const void *)(in + 1);
    size_t from = read->offset < sizeof TEXT - 1 ? read->offset : sizeof TEXT - 1;
    name_reply(s, in->unique, 0, &TEXT[from], sizeof TEXT - 1 - from);
}

static void name_serve(name_server *s, const struct fuse_in_header *in) {
    struct fuse_attr_out attr = {.attr_valid = s->forgetful ? 0 : 60, .attr = name_attr(s, in->nodeid)};
    atomic_fetch_add(&s->opcodes[in->opcode], 1);
    switch (in->opcode) {
    case FUSE_INIT: name_init(s, in); break;
    case FUSE_LOOKUP: name_lookup(s, in); break;
    case FUSE_GETATTR: name_reply(s, in->unique, 0, &attr, sizeof attr); break;
    case FUSE_OPEN: name_open(s, in); break;
    case FUSE_RELEASE: name_release(s, in); break;
    case FUSE_READ: name_read(s, in); break;
    case FUSE_GETXATTR: name_reply(s, in->unique, -ENODATA, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET: break;
    default: name_reply(s, in->unique, -ENOSYS, NULL, 0);
    }
}

static void *name_run(void *arg) {
    name_server *s = arg;
    _Alignas(8) unsigned char message[NAME_MESSAGE_MAX];
    while (recv(s->fd, message, sizeof message, 0) >= (ssize_t)sizeof(struct fuse_in_header)) name_serve(s, (const void *)message);
    return NULL;
}

static inline void name_server_start(name_server *s, vs_plane *plane, memory_file *volume) {
    s->plane = plane;
    s->volume = volume;
    s->fd = vs_plane_socket(plane);
    CHECK_EQ(pthread_create(&s->thread, NULL, name_run, s), 0);
}

/* After the plane has shut its end, or to go away before. */
static inline void name_server_end(name_server *s) {
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

#endif
