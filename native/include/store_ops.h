/* store_ops.h: the only door between the core and storage.
 *
 * The core reads, writes, syncs and names files through this table and never makes a system call of its own, so a
 * simulator (page cache, torn writes, failing syncs, a clock that jumps) can stand below it. Paths are relative to the
 * repository, components are separated by '/', none is ".." or absolute. A file is a small non-negative number; for
 * vs_store_posix it is a file descriptor, so descriptors opened elsewhere (a primary) can be handed in as they are.
 *
 * Threads: every function may be called from any thread. Errors: -errno. read and write are complete or failed:
 * read returns fewer bytes only at the end of the file, write never returns fewer. A sync that failed is not tried again.
 * open refuses (-EUCLEAN) what is neither a file nor a block device, and no path goes through a symlink (-ELOOP); see beneath.h.
 */
#ifndef VS_STORE_OPS_H
#define VS_STORE_OPS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* CFFI-BEGIN */
enum {
    VS_OPEN_READ = 0,
    VS_OPEN_WRITE = 1,   /* read and write */
    VS_OPEN_CREATE = 2,  /* with WRITE: create, fail with -EEXIST when it is there */
};
typedef struct vs_store vs_store;

/* A store on the directory dir_fd (borrowed: it must stay open until vs_store_close). */
int vs_store_posix(int dir_fd, vs_store **out);
void vs_store_close(vs_store *s);

/* What the store's zero does, of a file that was opened elsewhere: what lies in it of the range then reads as zeros, its space given back where
 * possible; the size stays. */
int vs_store_zero(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes);
/* CFFI-END */

enum { VS_READ_CACHED = 1 };

typedef int (*vs_list_fn)(void *arg, const char *name);

struct vs_store {
    int (*open)(vs_store *s, const char *path, uint32_t flags);
    int (*close)(vs_store *s, int file);
    int64_t (*size)(vs_store *s, int file);
    int64_t (*read)(vs_store *s, int file, uint64_t offset_bytes, void *buf, size_t length_bytes);
    /* The same into parts, one after the other. VS_READ_CACHED: only what the cache holds; it may be short anywhere, also before the end of
     * the file, or -EAGAIN. A store that does not know what is cached reads all. */
    int64_t (*read_parts)(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count, uint32_t flags);
    /* A hint: the range will be read soon. Begins to fetch it into the cache, does not wait for it, and cannot fail. */
    void (*will_need)(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes);
    /* How many files the core may keep open that it does not use at the moment; > 0. */
    int (*files_max)(vs_store *s);
    int (*write)(vs_store *s, int file, uint64_t offset_bytes, const struct iovec *parts, int part_count);
    int (*sync)(vs_store *s, int file);                                       /* fdatasync */
    /* Read from the medium what is read next: what a failed sync left in the page cache is not there. Sync before. */
    int (*forget)(vs_store *s, int file);
    /* Begin to write out what was written to the range, without waiting: a hint, which promises nothing and cannot fail. */
    void (*write_back)(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes);
    int (*truncate)(vs_store *s, int file, uint64_t size_bytes);
    /* What lies in the file of the range then reads as zeros, its space given back where possible; the size stays. */
    int (*zero)(vs_store *s, int file, uint64_t offset_bytes, uint64_t length_bytes);
    int (*rename)(vs_store *s, const char *from, const char *to);             /* replaces to */
    int (*remove)(vs_store *s, const char *path);
    int (*sync_dir)(vs_store *s, const char *path);
    int (*list)(vs_store *s, const char *path, vs_list_fn each, void *arg);   /* stops at the first nonzero, returns it */
    /* Read-only, from offset 0. -EINVAL: the file is shorter, or size_bytes is 0. */
    int (*map)(vs_store *s, int file, uint64_t size_bytes, const void **out);
    void (*unmap)(vs_store *s, const void *base, uint64_t size_bytes);
    uint64_t (*now_ns)(vs_store *s);                                          /* wall clock, UTC, may jump */
    int (*entropy)(vs_store *s, void *buf, size_t length_bytes);
    /* Bytes that are free for us, or -errno. NULL: not known. */
    int64_t (*free_bytes)(vs_store *s);
    /* A short text on a file, as durable as its next sync; NULL takes it away. And what it is: -ENODATA: none. For files of any place; where
     * that cannot be done, -EOPNOTSUPP. NULL: never. */
    int (*tag)(vs_store *s, int file, const char *text);
    int (*tagged)(vs_store *s, int file, char *text, size_t room);
    /* Share a byte of an open file with all who read, until it is unlocked or the file is closed, also by death. locked: 1: through another open
     * file somebody has locked a byte of [from, end); 0: nobody has. NULL: not known here. */
    int (*lock)(vs_store *s, int file, uint64_t byte);
    int (*unlock)(vs_store *s, int file, uint64_t byte);
    int (*locked)(vs_store *s, int file, uint64_t from, uint64_t end);
    void (*destroy)(vs_store *s);
};

#endif
