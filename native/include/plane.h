/* plane.h: C in front of pyfuse3. Owns /dev/fuse; answers the requests that carry bytes, forwards those that carry names.
 *
 * Threads read requests from /dev/fuse. READ, WRITE, LSEEK, FALLOCATE (punch, zero), FSYNC and FLUSH of handles made with
 * vs_plane_add_file are answered here; every other request goes as it came to the other end of a SOCK_SEQPACKET pair, which pyfuse3
 * takes for the device, and its reply comes back. FSYNC, FLUSH and FSYNCDIR of all else are answered with 0, LSEEK of a file that Python
 * serves from its size. FUSE_INTERRUPT is dropped: no request of ours waits for another's. The reply to an OPEN of a file with a backing
 * id is amended: the kernel then reads and maps the backing file and asks us for LSEEK and attributes only. Such a file cannot be opened
 * with O_DIRECT if the backing file cannot: the caller refuses.
 *
 * A mount outlives the process that serves it, if another holds two descriptors: that of the device, and that of a keep. The kernel's
 * INIT is answered once, by vs_plane_mount (1 MiB requests, no writeback cache, no questions about names before bytes); it stays in the
 * keep, and every pyfuse3 session is told one of its own. When a worker is killed, the next begins with vs_plane_open on the same two;
 * vs_plane_run then asks the kernel to send again what was not answered (Linux 6.9; vs_plane_resumable). Open files keep their numbers;
 * the caller opens them anew before it runs the plane. What the kernel reads by itself it goes on reading: the backing files are the
 * connection's, and vs_plane_open knows from the keep which inodes are open on them.
 *
 * The caller's part, in this order:
 *   1. vs_plane_mount, or what another process made with it. The mount is there; whoever looks at it waits for 4.
 *   2. vs_plane_open; vs_plane_kept_file and vs_plane_restore_file for each file that was open.
 *   3. vs_plane_run.
 *   4. pyfuse3.init with "/dev/fd/N", N from vs_plane_socket, and pyfuse3.main.
 *   5. Wait until vs_plane_ended_fd is readable (trio.lowlevel.wait_readable), or stop waiting; then end pyfuse3.main by
 *      pyfuse3.terminate or by cancelling it. It does not see the end of the mount by itself: the pair stays open, since
 *      pyfuse3 raises OSError(EIO) when its descriptor ends.
 *   6. pyfuse3.close(unmount=False). From here on requests for names, waiting ones too, get -ENOTCONN; bytes go on.
 *   7. vs_plane_unmount if 5 was not the kernel's doing, vs_plane_stop, vs_plane_free.
 * The process must not keep a file of its own mount open: killed with one, it waits for ever for its own answer to FLUSH.
 *
 * Files that are written must be opened with keep_cache. The kernel unlocks a written page before its WRITE is answered; an open that
 * drops the cache then lets a read ahead by somebody else bring the old bytes back, for good.
 *
 * What pyfuse3 invalidates is done later and by another thread: pyfuse3 always sees success, also when the kernel has it not.
 *
 * Threads: all functions from any thread; vs_plane_free once, after vs_plane_stop. Errors: -errno; vs_fault_last after vs_plane_mount,
 * vs_plane_open and vs_plane_run. The plane's own threads block all signals but those of their own faults; PR_SET_IO_FLUSHER of
 * vs_plane_run's caller holds for them.
 * A handle's file is released after its last request ended and vs_plane_remove_file was called. No native thread calls into Python.
 * Memory: a little over 1 MiB a thread, touched at the start; nothing is allocated for a request that carries bytes.
 *
 * By io_uring a request for a name takes one of its CPU's threads until pyfuse3 has answered: names must be answered without waiting for
 * bytes of the same mount. What a dead process had not answered is lost then (its users get ENOTCONN): the kernel sends again only what
 * was read from the device, so a mount that shall outlive its process must use VS_PLANE_DEVICE. More than 64 CPUs: the device.
 */
#ifndef VS_PLANE_H
#define VS_PLANE_H

#include "keep.h"
#include "status.h"
#include "volume_file.h"

/* CFFI-BEGIN */
typedef struct vs_plane vs_plane;

enum { VS_PLANE_OPCODES = 64, VS_PLANE_LATENCIES = 32, VS_PLANE_PATH_MAX = 4096 };

/* latency[i]: answers that took at least 2^i and less than 2^(i+1) nanoseconds; [0] also those of none, [31] all of 2.1 s and more. */
typedef struct vs_plane_count {
    uint64_t requests, errors, bytes, nanoseconds, latency[32];
} vs_plane_count;

typedef struct vs_plane_open_file {
    uint64_t fh, ino;
    vs_plane_count count; /* of requests that were answered */
} vs_plane_open_file;

/* How requests come from the kernel and answers go back. AUTO: by io_uring if the kernel offers it. */
enum { VS_PLANE_AUTO = 0, VS_PLANE_DEVICE = 1, VS_PLANE_IO_URING = 2 };

typedef struct vs_plane_options {
    const char *mountpoint;
    const char *source;       /* shown in the mount table */
    int32_t allow_other;
    int32_t read_only;        /* MS_RDONLY */
    int32_t transport;        /* VS_PLANE_AUTO … */
} vs_plane_options;

/* Mount and agree with the kernel; k keeps what was agreed, and forgets a mount before and the files open in it. nosuid, nodev, noexec,
 * default_permissions, subtype vsnapfs. Returns the descriptor of /dev/fuse, the caller's. By io_uring the mount must then be served by
 * this process. -EOPNOTSUPP: VS_PLANE_IO_URING, and the kernel does not offer it. Who is not root mounts by fusermount3: -ENOENT without
 * it, -EPERM with what it says; requests are at most 256 KiB then, and the kernel reads 128 KiB ahead. */
int vs_plane_mount(const vs_plane_options *o, vs_keep *k);

/* 1: the kernel can send requests again, so that a worker's death goes unnoticed; 0: it cannot; -EPROTO: k holds no connection. */
int vs_plane_resumable(vs_keep *k);

/* Where the mount of a keep is. -EPROTO: k holds no connection. */
int vs_plane_mounted_at(vs_keep *k, char path[VS_PLANE_PATH_MAX]);

/* Take the mount of a keep away again, for who serves it no more: as vs_plane_unmount. -EPROTO: k holds no connection. */
int vs_plane_detach(vs_keep *k, int lazy);

/* A plane on a mounted device, which does nothing yet. device_fd is duplicated; k is borrowed until vs_plane_free. threads: 1 to 256,
 * 0: 16; by io_uring 32, and at least 4 for each CPU. -EPROTO: k holds no connection. */
int vs_plane_open(int device_fd, vs_keep *k, int threads, vs_plane **out);

/* The next file that was open when the worker before died, by *cursor, which begins with 0. 1: *fh is its number, *ino of which inode,
 * *backing_id of which backing file (0: none); 0: there is no other. */
int vs_plane_kept_file(vs_plane *p, uint32_t *cursor, uint64_t *fh, uint64_t *ino, int32_t *backing_id);
/* Open it anew; takes the reference over if it succeeds. A number that is not restored gives its users -EIO. -EBADF: no such one. */
int vs_plane_restore_file(vs_plane *p, uint64_t fh, vs_volume_file *f);

/* Start the threads; once. */
int vs_plane_run(vs_plane *p);

/* The descriptor that pyfuse3 shall use as /dev/fd/N; blocking, as libfuse would lose a reply that does not fit. It belongs to the
 * caller: pyfuse3.close closes it, or whoever did not come that far. */
int vs_plane_socket(const vs_plane *p);

/* VS_PLANE_DEVICE or VS_PLANE_IO_URING: what is used; settled when the mount answers. */
int vs_plane_transport(vs_plane *p);

/* An eventfd that becomes readable when the kernel has ended the mount. Owned by the plane, open until vs_plane_free. */
int vs_plane_ended_fd(const vs_plane *p);

/* Opens of files whose bytes the kernel may read by itself (FUSE passthrough). All opens of one inode are of one kind, and the first
 * decides: who answers an open joins, or, where nobody has the inode open, opens; and leaves if the open fails after all.
 *
 * join: 1: the inode is open, and once more now, with *backing_id; 0: it is not.
 * open: as the first, with file as what the kernel reads (borrowed for the call), or -1: bytes go through the plane, *backing_id is 0.
 *       -EEXIST: it is open. -EPERM, -ELOOP and others, with vs_fault_last: the kernel cannot.
 * leave: one open less; the last one closes the kernel's file. Nothing happens for an inode that is not open.
 */
int vs_plane_backing_join(vs_plane *p, uint64_t ino, int32_t *backing_id);
int vs_plane_backing_open(vs_plane *p, uint64_t ino, int file, int32_t *backing_id);
void vs_plane_backing_leave(vs_plane *p, uint64_t ino);

/* How many opens of each kind there are. */
void vs_plane_backing_counts(vs_plane *p, uint64_t *through_plane, uint64_t *in_kernel);

/* Register an open file of inode ino; takes the reference over if it succeeds. backing_id: as vs_plane_backing_join or _open gave it, and
 * then vs_plane_remove_file leaves; 0 for an inode that was not joined. Returns in *fh a number from 2^32 to 2^63 - 1 that is never used
 * twice: all others are for files that Python serves itself. -ENODEV after vs_plane_stop. */
int vs_plane_add_file(vs_plane *p, vs_volume_file *f, uint64_t ino, int32_t backing_id, uint64_t *fh);
/* -EBADF: not there. */
int vs_plane_remove_file(vs_plane *p, uint64_t fh);

/* Counts by FUSE opcode, of this plane's life; opcodes answered by pyfuse3 count requests only. What is counted as answered may not
 * have reached its process yet. [0]: notifications that pyfuse3 sent; errors: refused by the kernel, or too many at once. */
void vs_plane_counts(vs_plane *p, vs_plane_count out[64]);

/* The handles that are open now, with what was asked of each: at most room of them, in no order. Returns how many there are. */
uint64_t vs_plane_open_files(vs_plane *p, vs_plane_open_file *out, uint64_t room);

/* Why a request was answered with an error, where the core said so (vs_fault_set): an eventfd that is readable while there is something to
 * take, and taking the oldest: 1: *out is it; 0: none. The first 64 that nobody took are kept. fd: owned by the plane. */
int vs_plane_faults_fd(const vs_plane *p);
int vs_plane_next_fault(vs_plane *p, vs_fault *out);

/* Unmount (lazily if it is busy and lazy is set; else -EBUSY and nothing changed). 0 when the mount has ended already.
 * -EINVAL: something else is at its path now, or it was detached; vs_plane_stop ends it. */
int vs_plane_unmount(vs_plane *p, int lazy);

/* End the threads (if the mount is still there or in use, it stays and its users get errors) and our end of the pair; files still open are
 * released. Waits for requests that are under way in a vs_volume_file. The second call does nothing. */
int vs_plane_stop(vs_plane *p);
void vs_plane_free(vs_plane *p);
/* CFFI-END */

#endif
