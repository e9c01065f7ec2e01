/* image.c: see image.h. */
#include "image.h"

#include <string.h>

#include "codec.h"

void image_decode(image *m, const uint8_t *input, size_t input_bytes) {
    size_t at = 0, end = 0;
    m->files = 0;
    m->begin[0] = 0;
    while (input_bytes - at >= 2 && end + IMAGE_BLOCK <= sizeof m->bytes) {
        uint32_t head = vs_get16(input + at), length = head & ENTRY_LENGTH;
        at += 2;
        if (length > IMAGE_BLOCK) length = IMAGE_BLOCK;
        if (length > input_bytes - at) length = (uint32_t)(input_bytes - at);
        if (m->files == 0 || (head & ENTRY_FILE && m->files < IMAGE_FILES_MAX)) m->begin[m->files++] = end;
        memcpy(m->bytes + end, input + at, length);
        memset(m->bytes + end + length, 0, IMAGE_BLOCK - length);
        if (head & ENTRY_SEAL) vs_block_seal(m->bytes + end);
        at += length;
        end += head & ENTRY_SHORT && !(head & ENTRY_SEAL) ? length : IMAGE_BLOCK;
    }
    m->begin[m->files] = end;
}

static size_t without_zeros(const uint8_t *bytes, size_t length) {
    while (length > 0 && bytes[length - 1] == 0) length--;
    return length;
}

size_t image_encode(const image *m, uint8_t *input, size_t room) {
    size_t out = 0;
    for (int file = 0; file < m->files; file++) {
        for (size_t at = m->begin[file], first = 1; at < m->begin[file + 1]; first = 0) {
            size_t left = m->begin[file + 1] - at, length = left < IMAGE_BLOCK ? left : IMAGE_BLOCK;
            const uint8_t *block = m->bytes + at;
            uint32_t head = first && file > 0 ? ENTRY_FILE : 0;
            size_t kept = length;
            if (length < IMAGE_BLOCK) head |= ENTRY_SHORT;
            else if (vs_block_check(block)) {
                head |= ENTRY_SEAL;
                kept = without_zeros(block, IMAGE_BLOCK - 4);
            } else kept = without_zeros(block, length);
            if (out + 2 + kept > room) return 0;
            vs_put16(input + out, (uint16_t)(head | kept));
            memcpy(input + out + 2, block, kept);
            out += 2 + kept;
            at += length;
        }
    }
    return out;
}
