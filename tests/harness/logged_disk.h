/* logged_disk.h: a block device in memory that writes down, in order, every write and every flush that reached it.
 *
 * It is a loop device on the one file of a FUSE mount. A process of its own answers the kernel and does no more than to copy what is written
 * into the image and to append it to the log; both lie in memory that it shares with us. So we can take the log, put any subset of what was
 * written into the image, and mount what a machine would find that lost its power there.
 *
 * The server is one thread: what the log holds before a flush was on the medium when the flush was answered. A write with FUA
 * comes as a write and a flush. Discards are refused, so nothing but writes changes the medium.
 *
 * The caller's process is in a mount namespace of its own: mounts and the loop device end with it and its children, however they end.
 * Image and log may be changed only while no filesystem of the device is mounted. Errors end the process, with a line on stderr.
 */
#ifndef VS_TESTS_LOGGED_DISK_H
#define VS_TESTS_LOGGED_DISK_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct logged_record {
    uint64_t offset_bytes; /* of a write */
    uint64_t data;         /* where its bytes lie in the log */
    uint32_t length_bytes; /* 0: a flush */
} logged_record;

typedef struct logged_disk {
    uint64_t size_bytes;
    char device[32];        /* "/dev/loopN" */
    uint8_t *image;         /* size_bytes */
    _Atomic uint64_t *count; /* records in the log */
    logged_record *records;
    uint8_t *data;
    /* the rest is not the caller's */
    _Atomic uint64_t *data_bytes;
    int image_fd, device_fd, log_fd;
    pid_t server;
    char directory[256];
} logged_disk;

/* A disk of zeros. directory: absolute, empty; the FUSE mount is there until the end. */
void logged_disk_begin(logged_disk *d, const char *directory, uint64_t size_bytes);
void logged_disk_end(logged_disk *d);

/* Forget all records from number count on. */
void logged_disk_cut(logged_disk *d, uint64_t count);

/* Make the image zeros. */
void logged_disk_clear(logged_disk *d);

/* The kernel forgets what it has cached of the device. */
void logged_disk_forget(const logged_disk *d);

#endif
