/* status.h: how every function of the core says what went wrong.
 *
 * Convention: a return value >= 0 is success, a negative one is -errno. Nothing in the core prints, aborts or
 * calls exit. Errors that are ours, with the errno that stands for them:
 *
 *   -EBADMSG          bytes do not match their checksum
 *   -EUCLEAN          damage that is not a torn tail: the repository needs `check`
 *   -EPROTONOSUPPORT  a format version or feature newer than this program
 *   -EXDEV            a file that belongs to another repository
 *   -ENODATA          the journal has lost its end
 *   -ERANGE           a seqno outside the window
 *   -EROFS            a change asked of a journal that was opened as reader
 *   -EIO, -ENOSPC     the store failed; after a failed write or sync of the journal every later change gets it too
 *
 * Threads: the fault is kept per thread, as errno is; read it on the thread that got the error, before its next call.
 */
#ifndef VS_STATUS_H
#define VS_STATUS_H

#include <stdint.h>

/* CFFI-BEGIN */
typedef struct vs_fault {
    int32_t code;          /* the negative return value this explains; 0: nothing failed yet on this thread */
    uint32_t volume;       /* volume id, 0: does not apply */
    uint64_t seqno;        /* record, 0: does not apply */
    uint64_t segment;      /* first seqno of the segment, 0: does not apply (or the base image) */
    uint64_t offset_bytes; /* where in the file that is damaged */
    char text[192];        /* one line, NUL-terminated, no newline */
} vs_fault;

/* Copy this thread's last fault to *out. */
void vs_fault_last(vs_fault *out);
/* CFFI-END */

/* Forget this thread's last fault, so that what is there later is of what came after. */
void vs_fault_clear(void);

/* Record a fault and return code, so that `return vs_fault_set(...)` reads as one step. fmt as in printf. */
int vs_fault_set(int code, uint32_t volume, uint64_t seqno, uint64_t segment, uint64_t offset_bytes, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

#endif
