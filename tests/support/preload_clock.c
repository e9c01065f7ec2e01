/* LD_PRELOAD: clocks are ahead by as many nanoseconds as the file $VSNAPFS_TEST_CLOCK says (eight bytes, of this machine), which a test
 * changes while the program runs: as if so much time had passed. The eight bytes after them are for the wall clock alone, as if somebody had set it. The kernel knows nothing of it, so what waits until a time waits for what
 * is left of it, and what waits already is not woken: a program with an event loop looks at its timers when anything comes in.
 *
 * Threads: any. Where the file cannot be mapped the clock is the real one: a program started by the program under test may not see it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000 };

static _Atomic long long *ahead_ns; /* of all clocks; then how far the wall clock was set */

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("VSNAPFS_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, 2 * sizeof *ahead_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (mapped != MAP_FAILED) ahead_ns = mapped;
}

static long long ahead_of(clockid_t clock) {
    if (!ahead_ns) return 0;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE: return atomic_load(&ahead_ns[0]) + atomic_load(&ahead_ns[1]);
    case CLOCK_MONOTONIC:
    case CLOCK_BOOTTIME: return atomic_load(&ahead_ns[0]);
    default: return 0;
    }
}

static struct timespec moved(const struct timespec *t, long long by_ns) {
    long long ns = (long long)t->tv_sec * NS_PER_S + t->tv_nsec + by_ns;
    return (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int r = (int)syscall(SYS_clock_gettime, clock, out);
    if (r == 0) *out = moved(out, ahead_of(clock));
    return r;
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict until) {
    static int (*next)(sem_t *, clockid_t, const struct timespec *);
    if (!next) next = (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec left = moved(until, -ahead_of(clock));
    return next(semaphore, clock, &left);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next)
        next = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    /* whose time it is, the condition knows: no machine of ours is up for as long as it is since 1970 */
    struct timespec left = moved(until, -ahead_of(until->tv_sec < NS_PER_S ? CLOCK_MONOTONIC : CLOCK_REALTIME));
    return next(condition, mutex, &left);
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int r = clock_gettime(CLOCK_REALTIME, &now);
    if (r == 0) *out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return r;
}

time_t time(time_t *out) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return (time_t)-1;
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
