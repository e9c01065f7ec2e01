/* Memory that outlives a process: regions are found again by another, and what is not ours is refused. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "keep.h"

enum { PAGE = 4096 };

static vs_keep *open_keep(int fd) {
    vs_keep *k;
    CHECK_EQ(vs_keep_open(fd, &k), 0);
    return k;
}

static unsigned char *region(vs_keep *k, uint32_t which, uint64_t bytes) {
    void *p;
    CHECK_EQ(vs_keep_region(k, which, bytes, &p), 0);
    return p;
}

static int only_zeros(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return 0;
    return 1;
}

static void regions_are_apart_and_zeros_at_first(void) {
    int fd = vs_keep_make();
    CHECK(fd >= 0);
    vs_keep *k = open_keep(fd);
    for (uint32_t i = 0; i < VS_KEEP_REGIONS; i++) {
        unsigned char *p = region(k, i, PAGE * (i + 1));
        CHECK(only_zeros(p, PAGE * (i + 1)));
        memset(p, (int)i + 1, PAGE * (i + 1));
        CHECK(region(k, i, PAGE * (i + 1)) == p);
    }
    for (uint32_t i = 0; i < VS_KEEP_REGIONS; i++) {
        const unsigned char *p = region(k, i, PAGE * (i + 1));
        CHECK_EQ(p[0], i + 1);
        CHECK_EQ(p[PAGE * (i + 1) - 1], i + 1);
    }
    vs_keep_close(k);
    close(fd);
}

/* A child leaves something and is killed in the middle. */
static void the_next_process_finds_it(void) {
    int fd = vs_keep_make(), status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        memcpy(region(open_keep(fd), VS_KEEP_NODES, 3 * PAGE) + 2 * PAGE, "left", 4);
        kill(getpid(), SIGKILL);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    vs_keep *k = open_keep(fd);
    close(fd); /* it is not needed any more */
    CHECK(memcmp(region(k, VS_KEEP_NODES, 3 * PAGE) + 2 * PAGE, "left", 4) == 0);
    CHECK(only_zeros(region(k, VS_KEEP_FILES, PAGE), PAGE));
    vs_keep_close(k);
}

static void what_does_not_fit_is_refused(void) {
    int fd = vs_keep_make();
    vs_keep *k = open_keep(fd), *other;
    void *p;
    region(k, VS_KEEP_FILES, 2 * PAGE);
    CHECK_EQ(vs_keep_region(k, VS_KEEP_FILES, PAGE, &p), -EPROTO);
    CHECK_EQ(vs_keep_region(k, VS_KEEP_FILES, 2 * PAGE - 1, &p), 0); /* in whole pages it is the same */
    CHECK_EQ(vs_keep_region(k, VS_KEEP_REGIONS, PAGE, &p), -EINVAL);
    CHECK_EQ(vs_keep_region(k, VS_KEEP_NODES, 0, &p), -EINVAL);
    vs_keep_close(k);
    uint32_t version = 99;
    CHECK_EQ(pwrite(fd, &version, sizeof version, 8), sizeof version);
    CHECK_EQ(vs_keep_open(fd, &other), -EPROTO);
    CHECK_EQ(ftruncate(fd, 100), 0);
    CHECK_EQ(vs_keep_open(fd, &other), -EPROTO);
    close(fd);
    CHECK_EQ(vs_keep_open(fd, &other), -EBADF);
}

int main(void) {
    regions_are_apart_and_zeros_at_first();
    the_next_process_finds_it();
    what_does_not_fit_is_refused();
    return 0;
}
