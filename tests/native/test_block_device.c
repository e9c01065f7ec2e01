/* The store on a block device: its size, and zeros that are not in its blocks. Needs root and a loop device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#include "codec.h"
#include "store_ops.h"

enum { DEVICE_BYTES = 4 << 20, DEVICE_BLOCK_BYTES = 4096 };

static int skip(const char *why) {
    fprintf(stderr, "skipped: %s: %s\n", why, strerror(errno));
    return EXIT_SKIPPED;
}

/* A free loop device on the file; it goes away with its last descriptor. -1: none, see errno. Others may be quicker: try again. */
static int loop_on(int file) {
    struct loop_config config = {.fd = (uint32_t)file, .block_size = DEVICE_BLOCK_BYTES, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), device = -1;
    for (int attempt = 0; control >= 0 && device < 0 && attempt < 20; attempt++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        device = open(path, O_RDWR | O_CLOEXEC);
        if (device < 0) break;
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0) break;
        close(device);
        device = -1;
        if (errno != EBUSY) break;
    }
    if (control >= 0) close(control);
    return device;
}

static void zero_and_compare(vs_store *s, int device, uint64_t start, uint64_t length) {
    static uint8_t ones[DEVICE_BYTES], back[DEVICE_BYTES];
    uint64_t end = length < DEVICE_BYTES - start ? start + length : DEVICE_BYTES;
    memset(ones, 1, sizeof ones);
    CHECK_EQ(s->write(s, device, 0, &(struct iovec){ones, sizeof ones}, 1), 0);
    CHECK_EQ(s->zero(s, device, start, length), 0);
    CHECK_EQ(s->sync(s, device), 0);
    CHECK_EQ(s->read(s, device, 0, back, sizeof back), DEVICE_BYTES);
    CHECK(memcmp(back, ones, start) == 0);
    CHECK(vs_is_zero(back + start, end - start));
    CHECK(memcmp(back + end, ones, DEVICE_BYTES - end) == 0);
}

int main(void) {
    vs_store *s;
    int dir_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQ(vs_store_posix(dir_fd, &s), 0);
    int file = s->open(s, "device.img", VS_OPEN_WRITE | VS_OPEN_CREATE);
    CHECK_EQ(s->truncate(s, file, DEVICE_BYTES), 0);
    int device = loop_on(file);
    if (device < 0) return skip("no loop device");
    CHECK_EQ(s->size(s, device), DEVICE_BYTES);
    zero_and_compare(s, device, 0, DEVICE_BYTES);
    zero_and_compare(s, device, 8192, 65536);
    zero_and_compare(s, device, 512, 1024);
    zero_and_compare(s, device, 5000, 1000001);
    zero_and_compare(s, device, 4097, UINT64_MAX - 5000);
    close(device);
    CHECK_EQ(s->close(s, file), 0);
    vs_store_close(s);
    close(dir_fd);
    return 0;
}
