/* logged_disk.c: see logged_disk.h. FUSE is spoken without a library: a dozen requests of one file. */
#include "logged_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ending.h"

enum { FILE_NODE = 2, WRITE_MAX = 1 << 20, REQUEST_MAX = WRITE_MAX + 65536, RECORDS_MAX = 1 << 20, ATTACH_TRIES = 100 };
#define LOG_BYTES_MAX (UINT64_C(4) << 30) /* of address space; what is not written costs nothing */

/* ---- the server ---- */

static void reply(int fuse, uint64_t unique, int status, const void *bytes, size_t length) {
    struct fuse_out_header h = {.len = (uint32_t)(sizeof h + length), .error = status, .unique = unique};
    struct iovec parts[] = {{&h, sizeof h}, {(void *)(uintptr_t)bytes, length}};
    if (writev(fuse, parts, 2) < 0 && errno != ENOENT && errno != ENODEV) die("the logged disk cannot answer");
}

static void reply_init(int fuse, uint64_t unique, const struct fuse_init_in *in) {
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = in->max_readahead,
                                .flags = in->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES), .max_background = 64, .congestion_threshold = 48,
                                .max_write = WRITE_MAX, .max_pages = WRITE_MAX / 4096};
    reply(fuse, unique, 0, &out, sizeof out);
}

static struct fuse_attr attributes(const logged_disk *d, uint64_t node) {
    if (node == FUSE_ROOT_ID) return (struct fuse_attr){.ino = node, .mode = S_IFDIR | 0700, .nlink = 2, .blksize = 4096};
    return (struct fuse_attr){.ino = node, .size = d->size_bytes, .blocks = d->size_bytes / 512, .mode = S_IFREG | 0600, .nlink = 1, .blksize = 4096};
}

static void reply_attributes(const logged_disk *d, int fuse, const struct fuse_in_header *h) {
    struct fuse_attr_out out = {.attr_valid = UINT32_MAX, .attr = attributes(d, h->nodeid)};
    reply(fuse, h->unique, 0, &out, sizeof out);
}

static void reply_lookup(const logged_disk *d, int fuse, const struct fuse_in_header *h, const char *name) {
    struct fuse_entry_out out = {.nodeid = FILE_NODE, .entry_valid = UINT32_MAX, .attr_valid = UINT32_MAX, .attr = attributes(d, FILE_NODE)};
    int found = strcmp(name, "disk") == 0;
    reply(fuse, h->unique, found ? 0 : -ENOENT, &out, found ? sizeof out : 0);
}

static void log_put(logged_disk *d, uint64_t offset_bytes, const void *bytes, uint32_t length_bytes) {
    uint64_t n = atomic_load(d->count), at = atomic_load(d->data_bytes);
    if (n == RECORDS_MAX || length_bytes > LOG_BYTES_MAX - at) die("the log of the disk is full");
    memcpy(d->data + at, bytes, length_bytes);
    d->records[n] = (logged_record){offset_bytes, at, length_bytes};
    atomic_store(d->data_bytes, at + length_bytes);
    atomic_store(d->count, n + 1);
}

static void do_write(logged_disk *d, int fuse, const struct fuse_in_header *h, const struct fuse_write_in *in) {
    if (in->offset > d->size_bytes || in->size > d->size_bytes - in->offset) die("a write past the end of the logged disk");
    memcpy(d->image + in->offset, in + 1, in->size);
    log_put(d, in->offset, in + 1, in->size);
    struct fuse_write_out out = {.size = in->size};
    reply(fuse, h->unique, 0, &out, sizeof out);
}

static void do_read(const logged_disk *d, int fuse, const struct fuse_in_header *h, const struct fuse_read_in *in) {
    uint64_t left = in->offset < d->size_bytes ? d->size_bytes - in->offset : 0;
    reply(fuse, h->unique, 0, d->image + in->offset, in->size < left ? in->size : left);
}

static void answer(logged_disk *d, int fuse, const struct fuse_in_header *h) {
    static const struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_DIRECT_IO};
    static const struct fuse_statfs_out statistics = {.st = {.bsize = 4096, .namelen = 255}};
    const void *in = h + 1;
    switch (h->opcode) {
    case FUSE_INIT: reply_init(fuse, h->unique, in); break;
    case FUSE_LOOKUP: reply_lookup(d, fuse, h, in); break;
    case FUSE_GETATTR:
    case FUSE_SETATTR: reply_attributes(d, fuse, h); break; /* of SETATTR: times */
    case FUSE_OPEN: reply(fuse, h->unique, 0, &opened, sizeof opened); break;
    case FUSE_READ: do_read(d, fuse, h, in); break;
    case FUSE_WRITE: do_write(d, fuse, h, in); break;
    case FUSE_FSYNC:
        log_put(d, 0, "", 0);
        reply(fuse, h->unique, 0, NULL, 0);
        break;
    case FUSE_STATFS: reply(fuse, h->unique, 0, &statistics, sizeof statistics); break;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_DESTROY: reply(fuse, h->unique, 0, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break;
    case FUSE_FALLOCATE: reply(fuse, h->unique, -EOPNOTSUPP, NULL, 0); break;
    default: reply(fuse, h->unique, -ENOSYS, NULL, 0);
    }
}

static void serve(logged_disk *d, int fuse) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_IO_FLUSHER, 1); /* where it is allowed: our memory must not wait for a filesystem on our own disk */
    uint8_t *request = aligned_alloc(4096, REQUEST_MAX);
    if (!request) die("no memory");
    for (;;) {
        ssize_t n = read(fuse, request, REQUEST_MAX);
        if (n > 0) answer(d, fuse, (const struct fuse_in_header *)request);
        else if (n < 0 && errno == ENODEV) _exit(0);
        else if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT) die("the logged disk cannot read its requests");
    }
}

/* ---- the disk ---- */

static void *shared_memory(uint64_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) die("no memory for the log of the disk");
    return p;
}

static void image_make(logged_disk *d) {
    d->image_fd = memfd_create("logged-disk", MFD_CLOEXEC);
    if (d->image_fd < 0 || ftruncate(d->image_fd, (off_t)d->size_bytes) < 0) die("no memory for the disk");
    d->image = mmap(NULL, d->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, d->image_fd, 0);
    if (d->image == MAP_FAILED) die("no memory for the disk");
}

static void server_begin(logged_disk *d) {
    char options[80];
    int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fuse < 0) die("/dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (mount("logged_disk", d->directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0) die(d->directory);
    d->server = fork();
    if (d->server < 0) die("fork");
    if (d->server == 0) serve(d, fuse);
    close(fuse);
}

/* A free loop device; somebody else may take the one that we were told of. */
static void device_attach(logged_disk *d, int file) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) die("/dev/loop-control");
    struct loop_config c = {.fd = (uint32_t)file, .block_size = 512, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int r = -1;
    for (int tries = 0; r < 0 && tries < ATTACH_TRIES; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0) die("no free loop device");
        snprintf(d->device, sizeof d->device, "/dev/loop%d", number);
        if (mknod(d->device, S_IFBLK | 0600, makedev(7, (unsigned)number)) < 0 && errno != EEXIST) die(d->device);
        d->device_fd = open(d->device, O_RDWR | O_CLOEXEC);
        if (d->device_fd < 0) die(d->device);
        r = ioctl(d->device_fd, LOOP_CONFIGURE, &c);
        if (r < 0 && errno != EBUSY) die(d->device);
        if (r < 0) close(d->device_fd);
    }
    if (r < 0) die("no free loop device");
    close(control);
}

void logged_disk_begin(logged_disk *d, const char *directory, uint64_t size_bytes) {
    char path[300];
    *d = (logged_disk){.size_bytes = size_bytes};
    snprintf(d->directory, sizeof d->directory, "%s", directory);
    image_make(d);
    d->count = shared_memory(2 * sizeof *d->count);
    d->data_bytes = d->count + 1;
    d->records = shared_memory(RECORDS_MAX * sizeof *d->records);
    d->data = shared_memory(LOG_BYTES_MAX);
    server_begin(d);
    snprintf(path, sizeof path, "%s/disk", directory);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) die(path);
    device_attach(d, file);
    close(file);
}

void logged_disk_end(logged_disk *d) {
    close(d->device_fd);
    if (umount2(d->directory, MNT_DETACH) < 0) die(d->directory);
    waitpid(d->server, NULL, 0);
    munmap(d->image, d->size_bytes);
    munmap(d->data, LOG_BYTES_MAX);
    munmap(d->records, RECORDS_MAX * sizeof *d->records);
    munmap(d->count, 2 * sizeof *d->count);
    close(d->image_fd);
}

void logged_disk_cut(logged_disk *d, uint64_t count) {
    if (count >= atomic_load(d->count)) return;
    atomic_store(d->data_bytes, d->records[count].data);
    atomic_store(d->count, count);
}

void logged_disk_clear(logged_disk *d) {
    if (fallocate(d->image_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)d->size_bytes) < 0) die("the disk cannot be cleared");
}

void logged_disk_forget(const logged_disk *d) {
    if (ioctl(d->device_fd, BLKFLSBUF, 0) < 0) die(d->device);
}
