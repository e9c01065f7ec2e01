/* priority.h: how much the calling thread's reads may be in the way of others'.
 *
 * Threads: concerns the calling thread alone, and those that it starts later.
 */
#ifndef VS_PRIORITY_H
#define VS_PRIORITY_H

/* CFFI-BEGIN */
/* Have the calling thread's storage I/O wait for everybody else's (class idle). Which disks heed it depends on their scheduler. 0 or
 * -errno. */
int vs_priority_io_idle(void);
/* CFFI-END */

#endif
