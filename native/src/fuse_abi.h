/* fuse_abi.h: the kernel's FUSE interface: Debian 12's header, and what kernels since 6.1 have added that is used here.
 *
 * Numbers and layouts are the kernel's (include/uapi/linux/fuse.h); where the system's header has them, its own are taken.
 */
#ifndef VS_FUSE_ABI_H
#define VS_FUSE_ABI_H

#include <linux/fuse.h>
#include <linux/ioctl.h>
#include <stdint.h>

/* ---- 6.2: writes past the cache need not wait for each other ---- */

#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1u << 6)
#endif

/* ---- 6.9: requests that a dead server left unanswered are sent again ---- */

#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (UINT64_C(1) << 39)
#define FUSE_UNIQUE_RESEND (UINT64_C(1) << 63)
enum { FUSE_NOTIFY_RESEND = 7 };
#endif

/* ---- 6.9: reads and writes of an open file go to another file, in the kernel ---- */

#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (UINT64_C(1) << 37)
#define FOPEN_PASSTHROUGH (1u << 7)
struct fuse_backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)
#endif

/* fuse_open_out: what 6.1 calls padding. */
typedef struct vs_fuse_open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
} vs_fuse_open_out;

/* fuse_init_out, with what 6.1 calls unused. */
typedef struct vs_fuse_init_out {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2, max_stack_depth;
    uint16_t request_timeout;
    uint16_t unused[11];
} vs_fuse_init_out;

/* ---- 6.14: requests through io_uring ---- */

#ifndef FUSE_OVER_IO_URING
#define FUSE_OVER_IO_URING (UINT64_C(1) << 41)
enum { FUSE_IO_URING_CMD_REGISTER = 1, FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2 };
struct fuse_uring_ent_in_out {
    uint64_t flags, commit_id;
    uint32_t payload_sz, padding;
    uint64_t reserved;
};
struct fuse_uring_req_header {
    char in_out[128]; /* fuse_in_header, then fuse_out_header */
    char op_in[128];  /* the arguments of the operation */
    struct fuse_uring_ent_in_out ring_ent_in_out;
};
struct fuse_uring_cmd_req {
    uint64_t flags, commit_id;
    uint16_t qid;
    uint8_t padding[6];
};
#endif

#endif
