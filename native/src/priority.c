/* priority.c: glibc has no ioprio_set. The processor's share stays as it is: who waits for a lock must not wait for a thread that hardly
 * ever runs. */
#include "priority.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <sys/syscall.h>
#include <unistd.h>

int vs_priority_io_idle(void) {
    long r = syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
    return r < 0 ? -errno : 0;
}
