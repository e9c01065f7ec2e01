/* plane_internal.h: what the parts of the plane share.
 *
 *   plane.c           its life: start, stop, the threads, the counts
 *   plane_mount.c     /dev/fuse, the mount and its end
 *   plane_files.c     open files by their fh
 *   plane_requests.c  requests that carry bytes, answered here
 *   plane_names.c     all others: to pyfuse3 and back
 *   plane_waiting.c   what pyfuse3 was asked and has not answered yet
 *   plane_faults.c    why requests failed, for the log
 *   plane_backing.c   which inodes are open, and on which files in the kernel
 *
 * Locks: vs_plane.life (held by stop while it joins the threads, which never take it), vs_plane_files.mu, vs_plane_waiting.mu,
 * vs_plane_backings.mu and vs_plane_faults.mu, leaves: nothing is called and no other lock taken under them.
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
#include "plane.h"
#include "status.h"

enum {
    VS_PLANE_THREADS_DEFAULT = 16,
    VS_PLANE_THREADS_MAX = 256,
    VS_PLANE_REQUEST_MAX = 1048576, /* bytes of one READ or WRITE */
    VS_PLANE_HEAD = 4096,           /* room for headers, and the place of a READ's data, so that they lie on a page */
    /* As large as libfuse's own buffer, so that nothing we forward is cut there. */
    VS_PLANE_BUFFER = VS_PLANE_HEAD + VS_PLANE_REQUEST_MAX,
};

/* ---- plane_mount.c ---- */

typedef struct vs_plane_mount {
    int device_fd; /* /dev/fuse */
    int abort_fd;  /* the connection's `abort` in fusectl */
    unsigned dev_major, dev_minor;
    char path[PATH_MAX];
} vs_plane_mount;

/* Mount as the options say; fails with nothing left behind and vs_fault_last. */
int vs_plane_mount_open(vs_plane_mount *m, const vs_plane_options *o);
int vs_plane_mount_detach(const vs_plane_mount *m, int lazy);
/* End the connection wherever it is still in use: reads of the device return, users of the mount get errors. */
int vs_plane_mount_abort(const vs_plane_mount *m);
/* Read ahead as far as one request goes; the kernel's default is an eighth (at 200 us a read: 0.7 against 2 GB/s). Only after the INIT
 * reply, which resets it. */
void vs_plane_mount_read_ahead(const vs_plane_mount *m);
void vs_plane_mount_close(vs_plane_mount *m);

/* ---- plane_files.c ---- */

struct vs_plane_slot;

typedef struct vs_plane_files {
    pthread_mutex_t mu;
    struct vs_plane_slot *slots;
    uint32_t slots_count, free_first;
    uint64_t serial;
    int closed;
} vs_plane_files;

int vs_plane_files_init(vs_plane_files *t);
int vs_plane_files_add(vs_plane_files *t, vs_volume_file *f, uint64_t ino, int32_t backing_id, uint64_t *fh);
/* What the handle was added with. -EBADF: not one of ours, or removed. */
int vs_plane_files_inode(vs_plane_files *t, uint64_t fh, uint64_t *ino, int32_t *backing_id);
int vs_plane_files_remove(vs_plane_files *t, uint64_t fh);
/* Borrow the file until vs_plane_files_put; NULL: not one of ours. */
vs_volume_file *vs_plane_files_get(vs_plane_files *t, uint64_t fh);
void vs_plane_files_put(vs_plane_files *t, uint64_t fh);
/* Release what was never removed; no request may be under way. From now on add fails with -ENODEV. */
void vs_plane_files_close(vs_plane_files *t);
void vs_plane_files_end(vs_plane_files *t);

/* ---- plane_waiting.c ---- */

enum { VS_ASKED_AS_IS = 0, VS_ASKED_INIT = 1, VS_ASKED_SEEK = 2, VS_ASKED_OPEN = 3 };

/* One request that went to pyfuse3, and what its reply needs on the way back. */
typedef struct vs_plane_asked {
    uint64_t unique;
    int32_t kind;
    uint32_t whence;        /* SEEK: SEEK_DATA or SEEK_HOLE */
    uint64_t offset_bytes;  /* SEEK */
    uint32_t flags;         /* INIT: what the kernel offers */
    uint32_t flags2;        /* INIT: the upper half of flags */
    uint32_t max_readahead; /* INIT: bytes */
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
/* From now on nothing is added (-ENOTCONN) or taken; what is left belongs to the caller of next, which gives each unique, then 0. */
void vs_plane_waiting_close(vs_plane_waiting *w);
uint64_t vs_plane_waiting_next(const vs_plane_waiting *w, uint64_t *cursor);
void vs_plane_waiting_end(vs_plane_waiting *w);

/* ---- plane_backing.c ---- */

enum { VS_PLANE_BUCKETS = 1024 };

struct vs_plane_inode;

typedef struct vs_plane_backings {
    pthread_mutex_t mu;
    struct vs_plane_inode *buckets[VS_PLANE_BUCKETS];
} vs_plane_backings;

int vs_plane_backings_init(vs_plane_backings *b);
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

/* ---- plane.c ---- */

/* Written by one thread only, read by any. */
typedef struct vs_plane_tally {
    _Atomic uint64_t requests, errors, bytes, nanoseconds;
} vs_plane_tally;

typedef struct vs_plane_thread {
    vs_plane *plane;
    pthread_t id;
    unsigned char *buf; /* VS_PLANE_BUFFER, on a page */
    vs_plane_tally tally[VS_PLANE_OPCODES];
} vs_plane_thread;

struct vs_plane {
    vs_plane_mount mount;
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
    int threads_started;
    int workers;
    vs_plane_thread *threads; /* workers, then replies, then notices */
    unsigned char *buffers;
};

static inline void vs_plane_tally_add(_Atomic uint64_t *count, uint64_t n) {
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ---- plane_requests.c ---- */

/* Answer or forward the request of n bytes in t->buf. */
void vs_plane_request(vs_plane_thread *t, size_t n);

/* Answer the kernel: error is 0 or -errno; a body only with 0. 0, or -errno when the kernel did not take it. */
int vs_plane_answer(const vs_plane *p, uint64_t unique, int error, const void *body, size_t body_bytes);

/* ---- plane_names.c ---- */

/* Make the pairs, with large buffers. */
int vs_plane_names_open(vs_plane *p);
void vs_plane_names_close(vs_plane *p);

/* Hand the request of n bytes in t->buf to pyfuse3, or answer it with an error. Takes at most 15 s. */
void vs_plane_forward(vs_plane_thread *t, size_t n);
/* LSEEK of a file that Python serves: pyfuse3 knows no such request, but its GETATTR tells the size, which is all we need. */
void vs_plane_forward_seek(vs_plane_thread *t);

/* Thread bodies: until the pair is shut down or pyfuse3 has closed its end. */
void vs_plane_replies(vs_plane_thread *t);
void vs_plane_notices(vs_plane_thread *t);

#endif
