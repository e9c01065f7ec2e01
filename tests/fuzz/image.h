/* image.h: small files as a fuzzer's input.
 *
 * Files of the format are blocks of 4 KiB that are mostly zeros and end in their own CRC. An input leaves both out:
 *
 *   input = entry*
 *   entry = u16 head, bytes          head: length 0..4096 in bits 0..12, and
 *                                    SHORT: the block is only as long as its bytes; FILE: begins another file; SEAL: its CRC is put in
 *
 * Any bytes are an input; what a truncated entry lacks is left out. So mutations by bytes stay behind the block CRCs, and an input is a
 * hundredth of the files it stands for. CRCs of payload, sections and tables are repaired by the mutators (repair.h).
 */
#ifndef VS_FUZZ_IMAGE_H
#define VS_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum { IMAGE_FILES_MAX = 12, IMAGE_BLOCKS_MAX = 48, IMAGE_BLOCK = 4096 };
enum { ENTRY_LENGTH = 0x1fff, ENTRY_SHORT = 0x2000, ENTRY_FILE = 0x4000, ENTRY_SEAL = 0x8000 };

typedef struct image {
    int files;
    size_t begin[IMAGE_FILES_MAX + 1]; /* of each file in bytes; its end is where the next one begins */
    uint8_t bytes[IMAGE_BLOCKS_MAX * IMAGE_BLOCK];
} image;

void image_decode(image *m, const uint8_t *input, size_t input_bytes);

/* The input that stands for the image; 0: it is longer than room. */
size_t image_encode(const image *m, uint8_t *input, size_t room);

static inline uint8_t *image_file(image *m, int file, size_t *size_bytes) {
    *size_bytes = m->begin[file + 1] - m->begin[file];
    return m->bytes + m->begin[file];
}

#endif
