/* volume_file.h: what the data plane needs to know of an open file, whether it is a view, a live volume or a branch.
 *
 * Threads: any, at once. Errors: -errno, as the kernel shall see them. Ownership: the plane holds one reference to each
 * open file and calls release once, after its last request has ended.
 */
#ifndef VS_VOLUME_FILE_H
#define VS_VOLUME_FILE_H

#include <stddef.h>
#include <stdint.h>

/* CFFI-BEGIN */
typedef struct vs_volume_file vs_volume_file;

/* Which request a change belongs to, so that one that is sent again after a crash is made once. A lane has one request at a time: the
 * next one on it means that the one before was answered. */
typedef struct vs_request {
    uint64_t number; /* never used for another request, but for VS_REQUEST_RESENT */
    uint32_t lane;   /* 0 .. VS_REQUEST_LANES - 1 */
} vs_request;

enum { VS_REQUEST_LANES = 1024 };
/* CFFI-END */

#define VS_REQUEST_RESENT (UINT64_C(1) << 63) /* set in number: the request was sent before, maybe to a process that is dead */

struct vs_volume_file {
    uint64_t (*size)(vs_volume_file *f);
    /* Bytes read; short only at the end of the volume, 0 at or past it. */
    int64_t (*read)(vs_volume_file *f, uint64_t offset_bytes, void *buf, size_t length_bytes);
    /* Bytes written: all, or up to the end of the volume; -ENOSPC at or past it; -EROFS. durable: answer after the commit. q may be
     * NULL: a request that is never sent again. */
    int64_t (*write)(vs_volume_file *f, uint64_t offset_bytes, const void *buf, size_t length_bytes, int durable, const vs_request *q);
    int (*zero)(vs_volume_file *f, uint64_t offset_bytes, uint64_t length_bytes, const vs_request *q);
    int (*sync)(vs_volume_file *f);
    /* As lseek: whence SEEK_DATA or SEEK_HOLE; -ENXIO at or past the end, or with SEEK_DATA where no data follow. */
    int64_t (*seek)(vs_volume_file *f, uint64_t offset_bytes, int whence);
    void (*release)(vs_volume_file *f);
};

#endif
