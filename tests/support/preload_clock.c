/* LD_PRELOAD: clocks are ahead by as many nanoseconds as the file $VSNAPFS_TEST_CLOCK says (eight bytes, of this machine), which a test
 * changes while the program runs: as if so much time had passed. The kernel knows nothing of it, so what waits until a time waits for what
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

static _Atomic long long *ahead_ns;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("VSNAPFS_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (mapped != MAP_FAILED) ahead_ns = mapped;
}

static int is_ahead(clockid_t clock) {
    return ahead_ns && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC);
}

static struct timespec moved(const struct timespec *t, long long by_ns) {
    long long ns = (long long)t->tv_sec * NS_PER_S + t->tv_nsec + by_ns;
    return (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int r = (int)syscall(SYS_clock_gettime, clock, out);
    if (r == 0 && is_ahead(clock)) *out = moved(out, atomic_load(ahead_ns));
    return r;
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict until) {
    static int (*next)(sem_t *, clockid_t, const struct timespec *);
    if (!next) next = (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec left = is_ahead(clock) ? moved(until, -atomic_load(ahead_ns)) : *until;
    return next(semaphore, clock, &left);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next)
        next = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    struct timespec left = ahead_ns ? moved(until, -atomic_load(ahead_ns)) : *until;
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
