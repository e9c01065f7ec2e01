/* The store on a real directory: names it refuses, bytes it moves whole, and what it does when the system helps less. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "codec.h"
#include "faults.h"
#include "store_ops.h"

enum { CREATE = VS_OPEN_WRITE | VS_OPEN_CREATE };

static int create(vs_store *s, const char *path) {
    int file = s->open(s, path, CREATE);
    CHECK(file >= 0);
    return file;
}

static void write_all(vs_store *s, int file, uint64_t offset_bytes, const void *p, size_t n) {
    CHECK_EQ(s->write(s, file, offset_bytes, &(struct iovec){(void *)(uintptr_t)p, n}, 1), 0);
}

static void end_with(vs_store *s, int file, const char *path) {
    CHECK_EQ(s->close(s, file), 0);
    CHECK_EQ(s->remove(s, path), 0);
}

static void opening_and_creating(vs_store *s) {
    struct stat st;
    CHECK_EQ(s->open(s, "a", VS_OPEN_READ), -ENOENT);
    CHECK_EQ(s->open(s, "a", VS_OPEN_WRITE), -ENOENT);
    CHECK_EQ(s->open(s, "a", VS_OPEN_CREATE), -EINVAL);
    CHECK_EQ(s->open(s, "a", 4), -EINVAL);
    int file = create(s, "a");
    CHECK_EQ(s->open(s, "a", CREATE), -EEXIST);
    CHECK_EQ(fstat(file, &st), 0);
    CHECK_EQ(st.st_mode & 07777, 0600);
    CHECK((fcntl(file, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_EQ(s->close(s, file), 0);
    CHECK_EQ(s->close(s, file), -EBADF);
    file = s->open(s, "a", VS_OPEN_READ);
    CHECK_EQ(s->write(s, file, 0, &(struct iovec){"x", 1}, 1), -EBADF);
    end_with(s, file, "a");
    CHECK_EQ(s->remove(s, "a"), -ENOENT);
}

static void names_that_lead_out_are_refused(vs_store *s) {
    static const char *const bad[] = {"", "/", "/etc/passwd", "..", "../x", "d/..", "d/../f", "d//f", "d/f/", "d/"};
    char longer[400];
    memset(longer, 'n', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(s->open(s, bad[i], VS_OPEN_READ), -EINVAL);
        CHECK_EQ(s->open(s, bad[i], CREATE), -EINVAL);
        CHECK_EQ(s->remove(s, bad[i]), -EINVAL);
        CHECK_EQ(s->rename(s, bad[i], "g"), -EINVAL);
        CHECK_EQ(s->rename(s, "d/f", bad[i]), -EINVAL);
        CHECK_EQ(s->sync_dir(s, bad[i]), -EINVAL);
    }
    CHECK_EQ(s->open(s, longer, CREATE), -EINVAL);
    int file = s->open(s, "d/..f", CREATE); /* only whole components count */
    CHECK(file >= 0);
    end_with(s, file, "d/..f");
}

static int stop_at_third(void *arg, const char *name) {
    (void)name;
    return ++*(int *)arg == 3 ? -ECANCELED : 0;
}

static void only_files_are_opened(vs_store *s) {
    struct stat st;
    int calls = 0;
    CHECK_EQ(symlink("/etc", "far"), 0);
    CHECK_EQ(symlink("d/f", "link"), 0);
    CHECK_EQ(symlink("d", "dirlink"), 0);
    CHECK_EQ(mkfifo("fifo", 0600), 0);
    CHECK_EQ(s->open(s, "link", VS_OPEN_READ), -ELOOP);
    CHECK_EQ(s->open(s, "link", CREATE), -EEXIST);
    CHECK_EQ(s->open(s, "link/x", VS_OPEN_READ), -ELOOP);
    CHECK_EQ(s->open(s, "dirlink/f", VS_OPEN_READ), -ELOOP);
    CHECK_EQ(s->open(s, "dirlink/new", CREATE), -ELOOP);
    CHECK_EQ(s->open(s, "far/passwd", VS_OPEN_READ), -ELOOP);
    CHECK_EQ(s->sync_dir(s, "dirlink"), -ELOOP);
    CHECK_EQ(s->list(s, "dirlink", stop_at_third, &calls), -ELOOP);
    CHECK_EQ(s->rename(s, "d/f", "dirlink/g"), -ELOOP);
    CHECK_EQ(s->rename(s, "dirlink/f", "g"), -ELOOP);
    CHECK_EQ(s->remove(s, "dirlink/f"), -ELOOP);
    CHECK_EQ(s->open(s, "fifo", VS_OPEN_READ), -EUCLEAN); /* at once, nobody writes to it */
    CHECK_EQ(s->open(s, "d", VS_OPEN_READ), -EUCLEAN);
    CHECK_EQ(s->open(s, "d/f/x", VS_OPEN_READ), -ENOTDIR);
    CHECK_EQ(s->open(s, "absent/x", VS_OPEN_READ), -ENOENT);
    CHECK_EQ(s->remove(s, "dirlink"), 0); /* the symlink, not what it leads to */
    CHECK_EQ(s->rename(s, "link", "other"), 0);
    CHECK(lstat("other", &st) == 0 && S_ISLNK(st.st_mode));
    CHECK(unlink("other") == 0 && unlink("far") == 0 && unlink("fifo") == 0);
    CHECK(access("d/f", F_OK) == 0 && access("d/g", F_OK) != 0 && access("d/new", F_OK) != 0);
}

/* What is made has its mode whatever the umask says, and no more than that. */
static void modes_do_not_depend_on_the_umask(vs_store *s) {
    static const mode_t masks[] = {0, 022, 077, 0777};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        struct stat st;
        mode_t before = umask(masks[i]);
        int file = create(s, "d/made");
        umask(before);
        CHECK_EQ(fstat(file, &st), 0);
        CHECK_EQ(st.st_mode & 07777, 0600);
        end_with(s, file, "d/made");
    }
}

static void names(vs_store *s) {
    opening_and_creating(s);
    names_that_lead_out_are_refused(s);
    only_files_are_opened(s);
    modes_do_not_depend_on_the_umask(s);
}

/* 1000 parts of 0 to 6 bytes, in more than one system call. */
static void many_parts(vs_store *s, int file) {
    static uint8_t bytes[6000], back[6000];
    struct iovec parts[1000];
    size_t total = 0;
    uint64_t seed = 31;
    for (int i = 0; i < 1000; i++) {
        parts[i] = (struct iovec){bytes + total, draw_below(&seed, 7)};
        for (size_t k = 0; k < parts[i].iov_len; k++) bytes[total++] = (uint8_t)draw(&seed);
    }
    CHECK_EQ(s->truncate(s, file, 0), 0);
    CHECK_EQ(s->write(s, file, 777, parts, 1000), 0);
    CHECK_EQ(s->size(s, file), 777 + total);
    CHECK_EQ(s->read(s, file, 777, back, total), total);
    CHECK(memcmp(bytes, back, total) == 0);
    CHECK_EQ(s->read(s, file, 0, back, 777), 777);
    CHECK(vs_is_zero(back, 777));
    CHECK_EQ(s->read(s, file, 776, back, sizeof back), total + 1); /* short at the end */
    CHECK_EQ(s->read(s, file, 777 + total, back, 1), 0);
    CHECK_EQ(s->read(s, file, 1 << 30, back, 1), 0);
    CHECK_EQ(s->write(s, file, 0, parts, 0), 0);
    /* What was just written is cached, or the filesystem does not say so: all of it comes either way. */
    for (uint32_t flags = 0; flags <= VS_READ_CACHED; flags++) {
        for (int i = 0; i < 1000; i++) parts[i].iov_base = back + ((uint8_t *)parts[i].iov_base - bytes);
        memset(back, 0, sizeof back);
        CHECK_EQ(s->read_parts(s, file, 777, parts, 1000, flags), total);
        CHECK(memcmp(bytes, back, total) == 0);
        CHECK_EQ(s->read_parts(s, file, 777 + 5, parts, 1000, flags), total - 5); /* short at the end */
        CHECK_EQ(s->read_parts(s, file, 1 << 30, parts, 1000, flags), 0);
        CHECK_EQ(s->read_parts(s, file, 0, parts, 0, flags), 0);
        for (int i = 0; i < 1000; i++) parts[i].iov_base = bytes + ((uint8_t *)parts[i].iov_base - back);
    }
    s->will_need(s, file, 0, total);
    s->will_need(s, file, 1 << 30, 1);
}

static void bytes_move_whole(vs_store *s) {
    int file = create(s, "bytes");
    char byte;
    many_parts(s, file);
    faults_split_io(3);
    many_parts(s, file);
    faults_split_io(0);
    CHECK_EQ(s->sync(s, file), 0);
    faults_fail_syncs(1);
    CHECK_EQ(s->sync(s, file), -EIO);
    faults_fail_syncs(0);
    CHECK_EQ(s->read(s, file, (uint64_t)INT64_MAX + 1, &byte, 1), -EINVAL);
    CHECK_EQ(s->read_parts(s, file, (uint64_t)INT64_MAX + 1, &(struct iovec){&byte, 1}, 1, 0), -EINVAL);
    s->will_need(s, file, (uint64_t)INT64_MAX + 1, 1);
    CHECK_EQ(s->write(s, file, (uint64_t)INT64_MAX + 1, &(struct iovec){&byte, 1}, 1), -EFBIG);
    CHECK_EQ(s->truncate(s, file, (uint64_t)INT64_MAX + 1), -EFBIG);
    end_with(s, file, "bytes");
    CHECK_EQ(s->read(s, file, 0, &byte, 1), -EBADF);
    CHECK_EQ(s->read_parts(s, file, 0, &(struct iovec){&byte, 1}, 1, 0), -EBADF);
    CHECK_EQ(s->size(s, file), -EBADF);
    CHECK_EQ(s->sync(s, file), -EBADF);
}

/* The system writes the part that fits and refuses the rest: a failure, not a short success. */
static void a_write_that_does_not_fit_fails(vs_store *s) {
    const struct rlimit small = {10000, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    static uint8_t bytes[20000];
    int file = create(s, "limit");
    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    CHECK_EQ(s->write(s, file, 0, &(struct iovec){bytes, sizeof bytes}, 1), -EFBIG);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
    CHECK_EQ(s->size(s, file), 10000);
    end_with(s, file, "limit");
}

enum { ZERO_BYTES = 1 << 20 };

/* Zero [start, start + length) of a file of ones, whose size stays; wanted: how much of it. */
static void zero_once(vs_store *s, int file, uint64_t start, uint64_t length, uint64_t wanted) {
    static uint8_t ones[ZERO_BYTES], back[ZERO_BYTES];
    memset(ones, 1, sizeof ones);
    write_all(s, file, 0, ones, sizeof ones);
    CHECK_EQ(s->zero(s, file, start, length), 0);
    CHECK_EQ(s->size(s, file), ZERO_BYTES);
    CHECK_EQ(s->read(s, file, 0, back, sizeof back), ZERO_BYTES);
    if (start > ZERO_BYTES) start = ZERO_BYTES;
    CHECK(memcmp(back, ones, start) == 0);
    CHECK(vs_is_zero(back + start, wanted));
    CHECK(memcmp(back + start + wanted, ones, ZERO_BYTES - start - wanted) == 0);
}

static void zeros_in_every_way(vs_store *s) {
    int file = create(s, "zeros");
    struct stat before, after;
    for (int refusals = 0; refusals < 5; refusals++) { /* punch, zero range, both for whole blocks, writing */
        faults_refuse_fallocate(refusals);
        zero_once(s, file, 5000, 300000, 300000);
        faults_refuse_fallocate(refusals);
        zero_once(s, file, 5000, 100, 100);
        faults_refuse_fallocate(refusals);
        zero_once(s, file, 4096 * 3, 4096 * 5, 4096 * 5);
        faults_refuse_fallocate(refusals);
        zero_once(s, file, 1000000, UINT64_MAX - 1000000, ZERO_BYTES - 1000000);
        zero_once(s, file, ZERO_BYTES, 4096, 0);
        zero_once(s, file, UINT64_MAX, UINT64_MAX, 0);
        zero_once(s, file, 4096, 0, 0);
    }
    faults_refuse_fallocate(0);
    zero_once(s, file, 0, 1, 1);
    CHECK_EQ(fstat(file, &before), 0);
    CHECK_EQ(s->zero(s, file, 0, ZERO_BYTES / 2), 0);
    CHECK_EQ(fstat(file, &after), 0);
    CHECK(after.st_blocks <= before.st_blocks - ZERO_BYTES / 2 / 512); /* space is given back */
    end_with(s, file, "zeros");
}

static int count_names(void *arg, const char *name) {
    int *seen = arg;
    CHECK(strlen(name) == 1 && name[0] >= '0' && name[0] <= '9');
    seen[name[0] - '0']++;
    return 0;
}

static void naming(vs_store *s) {
    int seen[10] = {0}, calls = 0;
    char path[8];
    CHECK_EQ(mkdir("names", 0700), 0);
    for (int i = 0; i < 10; i++) {
        snprintf(path, sizeof path, "names/%d", i);
        CHECK_EQ(s->close(s, create(s, path)), 0);
    }
    CHECK_EQ(s->rename(s, "names/1", "names/2"), 0); /* replaces */
    CHECK_EQ(s->rename(s, "names/1", "names/2"), -ENOENT);
    CHECK_EQ(s->rename(s, "names/3", "d/3"), 0);
    CHECK_EQ(s->remove(s, "d/3"), 0);
    CHECK_EQ(s->sync_dir(s, "names"), 0);
    CHECK_EQ(s->sync_dir(s, "."), 0);
    faults_fail_syncs(1);
    CHECK_EQ(s->sync_dir(s, "names"), -EIO);
    faults_fail_syncs(0);
    CHECK_EQ(s->sync_dir(s, "names/4"), -ENOTDIR);
    CHECK_EQ(s->list(s, "names", count_names, seen), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(seen[i], i != 1 && i != 3);
    CHECK_EQ(s->list(s, "names", stop_at_third, &calls), -ECANCELED);
    CHECK_EQ(calls, 3);
    CHECK_EQ(s->list(s, "absent", count_names, seen), -ENOENT);
}

static void mapping(vs_store *s) {
    const void *p = NULL;
    int file = create(s, "map");
    CHECK(s->map(s, file, 1, &p) < 0);
    write_all(s, file, 5000, "hello", 5);
    CHECK_EQ(s->map(s, file, 5006, &p), -EINVAL);
    CHECK_EQ(s->map(s, file, 5005, &p), 0);
    CHECK(memcmp((const char *)p + 5000, "hello", 5) == 0 && vs_is_zero(p, 5000));
    write_all(s, file, 5000, "later", 5);
    CHECK(memcmp((const char *)p + 5000, "later", 5) == 0); /* shared */
    s->unmap(s, p, 5005);
    end_with(s, file, "map");
}

static void clock_and_entropy(vs_store *s) {
    struct timespec t;
    uint8_t one[300] = {0}, two[300] = {0};
    CHECK_EQ(clock_gettime(CLOCK_REALTIME, &t), 0);
    uint64_t now = s->now_ns(s), before = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    CHECK(now > before - 3600000000000u && now < before + 3600000000000u);
    CHECK_EQ(s->entropy(s, one, sizeof one), 0);
    CHECK_EQ(s->entropy(s, two, sizeof two), 0);
    CHECK(memcmp(one, two, sizeof one) != 0 && !vs_is_zero(one + 268, 32));
}

static void stores_need_a_directory(vs_store *s) {
    vs_store *other = NULL;
    int file = create(s, "file");
    CHECK_EQ(vs_store_posix(file, &other), -ENOTDIR);
    end_with(s, file, "file");
    CHECK_EQ(vs_store_posix(file, &other), -EBADF);
    CHECK(other == NULL);
    vs_store_close(NULL);
}

/* Whatever was refused above, no descriptor stayed open. */
static int next_descriptor(void) {
    int fd = dup(0);
    close(fd);
    return fd;
}

static void open_files_are_bounded_by_what_the_system_allows(vs_store *s) {
    struct rlimit was, limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &was), 0);
    limit = was;
    limit.rlim_cur = 300;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(s->files_max(s), 150);
    limit.rlim_cur = 20;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK(s->files_max(s) > 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &was), 0);
}

int main(void) {
    vs_store *s;
    umask(022);
    int dir_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQ(vs_store_posix(dir_fd, &s), 0);
    CHECK_EQ(mkdir("d", 0700), 0);
    CHECK_EQ(s->close(s, create(s, "d/f")), 0);
    int first_free = next_descriptor();
    names(s);
    faults_refuse_openat2(ENOSYS); /* a kernel before Linux 5.6 */
    names(s);
    faults_refuse_openat2(EPERM); /* a sandbox that does not know the call */
    names(s);
    faults_refuse_openat2(0);
    bytes_move_whole(s);
    a_write_that_does_not_fit_fails(s);
    zeros_in_every_way(s);
    naming(s);
    mapping(s);
    clock_and_entropy(s);
    stores_need_a_directory(s);
    open_files_are_bounded_by_what_the_system_allows(s);
    CHECK_EQ(next_descriptor(), first_free);
    vs_store_close(s);
    close(dir_fd);
    return 0;
}
