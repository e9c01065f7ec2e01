/* memory.c: what vs_memory_protect does, and why so.
 *
 * Locking. MCL_FUTURE alone would read in and lock each map of the index that is opened later: memory would grow with the journal.
 * With MCL_ONFAULT a page is locked when it is first used, so code, stacks, heaps and buffers are, in the measure that they are used, and
 * nothing is read in for it. Maps would still gather; posix_map takes its mappings out again (munlock), which costs nothing as none of
 * their pages is there yet. What a map lacks is read from the store, which is not on a live volume of its own.
 *
 * Where RLIMIT_MEMLOCK counts nothing is locked: with MCL_FUTURE every mmap past the limit fails, and a write that fails is worse than one
 * that is late. It does not count for root, nor when it is infinite (ulimit -l, LimitMEMLOCK= of systemd).
 *
 * Keeping. malloc gives memory back when 128 KiB of it are free at the end of the heap, and maps what is large on its own: an index
 * that grows a little would ask the kernel again and again. One arena for all threads, as nearly nothing is allocated for a request, and
 * so that the reserve is there for all of them.
 *
 * PR_SET_IO_FLUSHER (Linux 5.6) needs CAP_SYS_RESOURCE; it keeps direct reclaim of this process from entering filesystems, and lets it write
 * where others are throttled for dirty pages that it is there to clean.
 */
#include "memory.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

enum {
    TRIM_BYTES = 256 << 20, /* free at the end of the heap, before it shrinks */
    MMAP_BYTES = 32 << 20,  /* the most that malloc takes for this */
    OOM_SCORE = -900,       /* the kernel's own daemons have -1000: not at all */
};

/* CAP_IPC_LOCK: no limit counts. */
static int may_lock_all(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    struct rlimit limit;
    if (syscall(SYS_capget, &head, caps) == 0 && caps[0].effective & (1u << CAP_IPC_LOCK)) return 1;
    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
}

static int lock(void) {
    return may_lock_all() && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
}

/* Touched and freed, it stays at the end of the heap. */
static int keep(uint64_t reserve_bytes) {
    if (!mallopt(M_ARENA_MAX, 1) || !mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) || !mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)) return 0;
    enum { PIECE = 1 << 20 };
    size_t count = reserve_bytes / PIECE, made = 0;
    void **pieces = calloc(count + 1, sizeof *pieces);
    if (!pieces) return 0;
    while (made < count && (pieces[made] = malloc(PIECE))) {
        memset(pieces[made], 0xA5, PIECE);
        __asm__ volatile("" : : "r"(pieces[made]) : "memory"); /* the touching is what it is for */
        made++;
    }
    for (size_t i = 0; i < made; i++) free(pieces[i]);
    free(pieces);
    return made == count;
}

static int be_killed_last(void) {
    char text[16];
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    int done = n > 0 && atoi(text) <= OOM_SCORE; /* whoever started us knows better */
    if (!done) {
        int length = snprintf(text, sizeof text, "%d", OOM_SCORE);
        done = pwrite(fd, text, (size_t)length, 0) == length;
    }
    close(fd);
    return done;
}

int vs_memory_protect(uint64_t reserve_bytes) {
    int achieved = 0;
    if (lock()) achieved |= VS_MEMORY_LOCKED;
    if (keep(reserve_bytes)) achieved |= VS_MEMORY_KEPT;
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0) achieved |= VS_MEMORY_IO_FLUSHER;
    if (be_killed_last()) achieved |= VS_MEMORY_KILLED_LAST;
    return achieved;
}
