/* harness_power_cut.c: the two ends of a power cut that tests/crash/power_cut.py makes.
 *
 *   power_cut play DEVICE SEED       in the machine: process 1, which mounts the device, plays a workload in a new repository on it, and prints
 *                                    "made", then after each step how many were done and what is durable, then "played"
 *   power_cut judge PATH SEED STEPS DURABLE
 *                                    where the power is on: is the repository what it must be, if that was the last line?
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "ending.h"
#include "played.h"

static played_log log_of_all;

/* The root is read-only, but for memory. */
static void play(const char *device, uint64_t seed) {
    if (mount("memory", "/run", "tmpfs", 0, NULL) < 0 || mkdir("/run/disk", 0700) < 0) die("/run");
    if (mount(device, "/run/disk", "ext4", MS_NOATIME, NULL) < 0) die(device);
    const played p = {.path = "/run/disk/r", .seed = seed, .keep_fd = -1, .tell_fd = STDOUT_FILENO, .log = &log_of_all};
    played_make(&p);
    dprintf(STDOUT_FILENO, "made\n");
    played_run(&p);
    dprintf(STDOUT_FILENO, "played\n");
    for (;;) pause(); /* until the power is cut */
}

static int judge(const char *path, uint64_t seed, uint64_t steps, uint64_t durable) {
    log_of_all.count = 1;
    log_of_all.notes[0] = (played_note){.steps = steps, .durable = durable};
    const played p = {.path = path, .seed = seed, .keep_fd = -1, .tell_fd = -1, .log = &log_of_all};
    return played_judge(&p, 0) == 0 ? 0 : 1;
}

static uint64_t number(const char *text) {
    return strtoull(text, NULL, 10);
}

int main(int argc, char **argv) {
    if (argc >= 4 && strcmp(argv[1], "play") == 0) play(argv[2], number(argv[3])); /* the kernel may add words of its own */
    if (argc == 6 && strcmp(argv[1], "judge") == 0) return judge(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
    fprintf(stderr, "usage: power_cut play DEVICE SEED | power_cut judge PATH SEED STEPS DURABLE\n");
    return 2;
}
