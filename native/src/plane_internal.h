/* plane_internal.h: what the parts of the plane share.
 *
 *   plane.c           its life: start, stop, the threads
 *   plane_mount.c     /dev/fuse, the mount and its end
 *   plane_fusermount.c  the mount of an ordinary user
 *   plane_connection.c  what is agreed with the kernel, and what pyfuse3 is told of it
 *   plane_files.c     open files by their fh
 *   plane_requests.c  requests that carry bytes, answered here
 *   plane_uring.c     requests through io_uring, and their way back
 *   plane_names.c     all others: to pyfuse3 and back
 *   plane_waiting.c   what pyfuse3 was asked and has not answered yet
 *   plane_faults.c    why requests failed, for the log
 *   plane_counts.c    how many, how large, how slow
 *   plane_backing.c   which inodes are open, and on which files in the kernel
 *
 * Locks: vs_plane.life (held by stop while it joins the threads, which never take it), vs_plane_files.mu, vs_plane_waiting.mu,
 * vs_plane_backings.mu, vs_plane_faults.mu and vs_plane_uring.mu, leaves: nothing is called and no other lock taken under them.
 * Errors: 0 or more, or -errno.
 */
#ifndef VS_PLANE_INTERNAL_H
#define VS_PLANE_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse_abi.h"
#include "keep.h"
#include "plane.h"
#include "status.h"

enum {
    VS_PLANE_THREADS_DEFAULT = 16,
    VS_PLANE_THREADS_MAX = 256,
    VS_PLANE_OTHER_THREADS = 2, /* replies, notices */
    VS_PLANE_REQUEST_MAX = 1048576, /* bytes of one READ or WRITE */
    /* Of a user's: what pyfuse3 answers has to fit into a socket's buffer, and a user's has 416 KiB (net.core.wmem_max). */
    VS_PLANE_REQUEST_MAX_USER = 262144,
    VS_PLANE_HEAD = 4096,           /* room for headers, and the place of a READ's data, so that they lie on a page */
    /* As large as libfuse's own buffer, so that nothing we forward is cut there. */
    VS_PLANE_BUFFER = VS_PLANE_HEAD + VS_PLANE_REQUEST_MAX,
};

/* ---- plane_counts.c ---- */

/* Of one operation: written by one thread only, read by any. Of one open file: written by any. */
typedef struct vs_plane_tally {
    _Atomic uint64_t requests, errors, bytes, nanoseconds, latency[VS_PLANE_LATENCIES];
} vs_plane_tally;

/* For a tally of one thread's own. */
static inline void vs_plane_tally_add(_Atomic uint64_t *count, uint64_t n) {
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
}

/* An answer about to be given: what it moved, or that it is an error. own: of the thread and the operation; file may be NULL. */
void vs_plane_count_answer(vs_plane_tally *own, vs_plane_tally *file, int error, uint64_t bytes);
/* After it was given: the time from its request on. */
void vs_plane_count_time(vs_plane_tally *own, vs_plane_tally *file, uint64_t nanoseconds);
/* Its place in latency. */
unsigned vs_plane_latency_class(uint64_t nanoseconds);
void vs_plane_tally_sum(vs_plane_count *sum, const vs_plane_tally *tally);

/* ---- plane_mount.c ---- */

/* Where a filesystem is mounted, and which: it is known by its device number. Lies in the keep. */
typedef struct vs_plane_place {
    uint32_t dev_major, dev_minor;
    char path[VS_PLANE_PATH_MAX];
} vs_plane_place;

typedef struct vs_plane_device {
    int device_fd; /* /dev/fuse */
    int abort_fd;  /* the connection's `abort` in fusectl; -1: not root */
    vs_plane_place place;
} vs_plane_device;

/* Mount as the options say, and fill *place; fails with nothing left behind and vs_fault_last. Returns the descriptor of /dev/fuse. */
int vs_plane_mount_make(const vs_plane_options *o, vs_plane_place *place);
/* Take hold of a mounted filesystem; device_fd is duplicated. */
int vs_plane_device_adopt(vs_plane_device *d, int device_fd, const vs_plane_place *place);
int vs_plane_place_detach(const vs_plane_place *place, int lazy);
/* End the connection wherever it is still in use: reads of the device return, users of the mount get errors. */
int vs_plane_device_abort(const vs_plane_device *d);
/* Read ahead two requests of the largest size; the kernel's default is 128 KiB (at 200 us a read: 0.7 against 2 GB/s). dd of a bookmark
 * was a tenth faster than with one request, and not faster with four, while each piece between holes that `tar -S` reads costs what is
 * read ahead past its end. Only after the INIT reply, which resets it. */
void vs_plane_place_read_ahead(const vs_plane_place *place);
void vs_plane_device_close(vs_plane_device *d);

/* ---- plane_fusermount.c ---- */

/* Mount at an absolute path without being root. Returns the descriptor of /dev/fuse; -ENOENT: no fusermount3; with vs_fault_last. */
int vs_plane_fusermount(const char *path, const vs_plane_options *o);
/* -EBUSY: somebody uses it, and not lazy. */
int vs_plane_fusermount_detach(const char *path, int lazy);

/* ---- plane_connection.c ---- */

enum { VS_PLANE_INIT_MAX = 256 };

/* What outlives a worker: the mount, and the kernel's INIT, from which each pyfuse3 session is told its own. Lies in the keep. */
typedef struct vs_plane_connection {
    _Atomic uint32_t agreed;  /* 1: all of this stands */
    _Atomic uint32_t workers; /* that have served it before the one now */
    vs_plane_place place;
    _Atomic int32_t backing_first, backing_end; /* the kernel's files have numbers in [first, end], if there are any */
    uint32_t by_io_uring; /* the kernel was promised rings; no other process can serve it */
    uint32_t init_bytes;
    _Alignas(8) unsigned char init[VS_PLANE_INIT_MAX]; /* the kernel's request, as it came */
} vs_plane_connection;

/* The connection in a keep. */
int vs_plane_connection_of(vs_keep *k, vs_plane_connection **out);
/* Read the kernel's INIT from a device that was just mounted, and answer it. */
int vs_plane_connection_agree(vs_plane_connection *c, int device_fd, int32_t transport);
/* What the kernel offers, all 64 flags. */
uint64_t vs_plane_connection_offered(const vs_plane_connection *c);
/* Ask the kernel for the requests that a worker before has read and not answered. */
int vs_plane_connection_resend(int device_fd);

/* ---- plane_files.c ---- */

struct vs_plane_slot;
struct vs_plane_kept;

typedef struct vs_plane_files {
    pthread_mutex_t mu;
    struct vs_plane_kept *kept; /* in the keep: the numbers, and what they are of */
    struct vs_plane_slot *slots;
    uint32_t slots_count, free_first;
    int closed;
} vs_plane_files;

int vs_plane_files_init(vs_plane_files *t, vs_keep *k);
/* No file is open any more: the mount that they belonged to is gone. */
int vs_plane_files_forget(vs_keep *k);
/* counted: it is one of the opens of its inode, see plane_backing.c. */
int vs_plane_files_add(vs_plane_files *t, vs_volume_file *f, uint64_t ino, int32_t backing_id, int counted, uint64_t *fh);
/* The OPEN of this number is about to be answered with fh. Returns in *backing_id what fh was added with. -EBADF: not one of ours. */
int vs_plane_files_answer(vs_plane_files *t, uint64_t fh, uint64_t unique, int32_t *backing_id);
/* The handle that an OPEN was to be answered with, 0: there is none. */
uint64_t vs_plane_files_answered(vs_plane_files *t, uint64_t unique);
/* The next handle that a worker before has counted; 0: no more. */
int vs_plane_files_counted(vs_plane_files *t, uint32_t *cursor, uint64_t *ino, int32_t *backing_id);
/* Could fh be one of ours? Files that Python serves itself have other numbers. */
int vs_plane_files_is_ours(uint64_t fh);
/* In *counted_ino the inode that has one open less now, unchanged if it was not counted. -EBADF: not one of ours, or removed. */
int vs_plane_files_remove(vs_plane_files *t, uint64_t fh, uint64_t *counted_ino);
/* Borrow the file, and its tally, until vs_plane_files_put; NULL: not one of ours. */
vs_volume_file *vs_plane_files_get(vs_plane_files *t, uint64_t fh, vs_plane_tally **tally);
void vs_plane_files_put(vs_plane_files *t, uint64_t fh);
uint64_t vs_plane_files_list(vs_plane_files *t, vs_plane_open_file *out, uint64_t room);
/* Release what was never removed; no request may be under way. From now on add fails with -ENODEV. */
void vs_plane_files_close(vs_plane_files *t);
void vs_plane_files_end(vs_plane_files *t);

typedef struct vs_plane_entry vs_plane_entry; /* see plane_uring.c */

/* ---- plane_waiting.c ---- */

enum { VS_ASKED_AS_IS = 0, VS_ASKED_INIT = 1, VS_ASKED_SEEK = 2, VS_ASKED_OPEN = 3 };

/* One request that went to pyfuse3, and what its reply needs on the way back. */
typedef struct vs_plane_asked {
    uint64_t unique;
    vs_plane_entry *entry; /* as in vs_plane_exchange */
    int32_t kind;
    uint32_t whence;        /* SEEK: SEEK_DATA or SEEK_HOLE */
    uint64_t offset_bytes;  /* SEEK */
} vs_plane_asked;

typedef struct vs_plane_waiting {
    pthread_mutex_t mu;
    vs_plane_asked *slots; /* open addressing; unique 0 is a free one */
    uint64_t slots_count, used;
    int closed;
} vs_plane_waiting;

int vs_plane_waiting_init(vs_plane_waiting *w);
int vs_plane_waiting_add(vs_plane_waiting *w, const vs_plane_asked *asked);
/* 1: it was there and now is not, *out filled; 0: nobody waits for it. */
int vs_plane_waiting_take(vs_plane_waiting *w, uint64_t unique, vs_plane_asked *out);
/* From now on nothing is added (-ENOTCONN) or taken; what is left belongs to the caller of next, which gives each, then NULL. */
void vs_plane_waiting_close(vs_plane_waiting *w);
const vs_plane_asked *vs_plane_waiting_next(const vs_plane_waiting *w, uint64_t *cursor);
void vs_plane_waiting_end(vs_plane_waiting *w);

/* ---- plane_backing.c ---- */

enum { VS_PLANE_BUCKETS = 1024 };

struct vs_plane_inode;

typedef struct vs_plane_backings {
    pthread_mutex_t mu;
    uint32_t in_kernel; /* inodes with a backing file */
    struct vs_plane_inode *buckets[VS_PLANE_BUCKETS];
} vs_plane_backings;

int vs_plane_backings_init(vs_plane_backings *b);
/* Count again what a worker before has left open, and close what it was about to use. */
int vs_plane_backings_restore(vs_plane *p);
/* Is the inode open, as one whose opens are counted? */
int vs_plane_backing_counts_inode(vs_plane *p, uint64_t ino);
/* What is still open stays so in the kernel, until the mount ends. */
void vs_plane_backings_end(vs_plane_backings *b);

/* ---- plane_faults.c ---- */

enum { VS_PLANE_FAULTS = 64 };

typedef struct vs_plane_faults {
    pthread_mutex_t mu;
    int fd; /* eventfd: there is something in the ring */
    unsigned first, count;
    vs_fault ring[VS_PLANE_FAULTS];
} vs_plane_faults;

int vs_plane_faults_init(vs_plane_faults *q);
void vs_plane_faults_put(vs_plane_faults *q, const vs_fault *fault);
void vs_plane_faults_end(vs_plane_faults *q);

/* ---- threads ---- */

typedef struct vs_plane_thread {
    vs_plane *plane;
    pthread_t id;
    unsigned char *buf; /* VS_PLANE_BUFFER, on a page */
    vs_plane_tally tally[VS_PLANE_OPCODES];
} vs_plane_thread;

/* ---- plane_uring.c ---- */

typedef struct vs_plane_uring {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    atomic_int serving; /* threads, each with an entry; 0: all requests come through the device */
    int made, begun;    /* entries; threads to be joined */
    int reported;       /* threads that have offered their entry to the kernel, or could not */
    int verdict;        /* 0: not yet; 1: serve; -1: the device serves, end */
    vs_plane_entry *entries;
    unsigned char *buffers;
    size_t buffers_bytes;
} vs_plane_uring;

int vs_plane_uring_init(vs_plane_uring *u);
/* Before INIT is answered: shall the reply say FUSE_OVER_IO_URING? offered: the flags of the kernel's INIT. 0: no. -errno: transport asks
 * for it, and it cannot be had; vs_fault_last says why. */
int vs_plane_uring_wanted(int32_t transport, uint64_t offered);
/* After a reply that said so, at once: no request is sent before. Makes the rings and starts their threads, about `threads` of them (0: as
 * many as are good). -errno: it could not be done, and the kernel has been told to use the device. */
int vs_plane_uring_start(vs_plane *p, int threads);
/* Answer what came through the ring; once for each request. The body may be what lies in the exchange's place already. */
void vs_plane_uring_answer(vs_plane_entry *e, int error, const void *body, size_t body_bytes);
/* Wait for the threads, after the connection has ended and the replies have. */
void vs_plane_uring_join(vs_plane_uring *u);
void vs_plane_uring_end(vs_plane_uring *u);

/* The tallies of the i-th thread, i below serving. */
const vs_plane_tally *vs_plane_uring_tally(const vs_plane_uring *u, int i);

/* ---- plane.c ---- */

struct vs_plane {
    vs_plane_device device;
    vs_plane_connection *connection;
    vs_plane_uring uring;
    int rings_threads; /* as asked for */
    vs_plane_files files;
    vs_plane_waiting waiting;
    vs_plane_faults faults;
    vs_plane_backings backings;
    int names_fd;    /* our end of the pair with pyfuse3 */
    int pyfuse3_fd;  /* the other end: the caller's */
    int notice_in, notice_out; /* a queue in the kernel's hands, see plane_names.c */
    int ended_fd;
    atomic_int ended;
    pthread_mutex_t life;
    int stopped;
    atomic_int stopping; /* workers take no other request */
    int threads_started;
    int workers;
    vs_plane_thread *threads; /* workers, then replies, then notices */
    unsigned char *buffers;
};

/* Private memory of which every page is there; MAP_FAILED, with errno. Pages are touched by hand: MAP_POPULATE does nothing where memory is
 * locked on fault. A page that is not there yet costs more than time: the kernel copies a request into our buffer, and if the process is
 * killed in that moment it cannot make the page, gives the request up, and its user gets EIO. */
void *vs_plane_buffers(size_t bytes);

/* Start a thread of the plane's: a small stack, no signals. name: at most 15 characters. */
int vs_plane_thread_begin(pthread_t *id, void *(*body)(void *), void *arg, const char *name);

/* ---- plane_requests.c ---- */

/* One request under way, wherever it came from. What it points to stays until it is answered. */
typedef struct vs_plane_exchange {
    vs_plane_thread *thread;
    vs_plane_entry *entry; /* the ring entry it came in, and its answer goes to; NULL: the device */
    const struct fuse_in_header *head;
    const void *args;      /* of the operation; from the device, with what follows them, but for a WRITE */
    size_t args_bytes;
    const void *data;      /* what follows: the bytes of a WRITE */
    size_t data_bytes;
    void *place;           /* VS_PLANE_REQUEST_MAX bytes on a page, for a READ's data; may be where data are */
} vs_plane_exchange;

/* Answer or forward the request of n bytes in t->buf, read from the device. */
void vs_plane_request(vs_plane_thread *t, size_t n);

/* Answer or forward. */
void vs_plane_serve(const vs_plane_exchange *x);

/* Answer the kernel: error is 0 or -errno; a body only with 0. entry: as in vs_plane_exchange. 0, or -errno when the kernel did not take
 * it. */
int vs_plane_answer(const vs_plane *p, vs_plane_entry *entry, uint64_t unique, int error, const void *body, size_t body_bytes);

/* ---- plane_names.c ---- */

/* Make the pairs, with large buffers. */
int vs_plane_names_open(vs_plane *p);
void vs_plane_names_close(vs_plane *p);

/* Hand the request to pyfuse3, or answer it with an error. Takes at most 15 s. */
void vs_plane_forward(const vs_plane_exchange *x);
/* LSEEK of a file that Python serves: pyfuse3 knows no such request, but its GETATTR tells the size, which is all we need. */
void vs_plane_forward_seek(const vs_plane_exchange *x);

/* Put the INIT that pyfuse3's session begins with before all else. */
int vs_plane_greet(vs_plane *p);

/* Thread bodies: until the pair is shut down or pyfuse3 has closed its end. */
void vs_plane_replies(vs_plane_thread *t);
void vs_plane_notices(vs_plane_thread *t);

#endif
