/* Words to pfns. No Xen in here: small pure steps. Bit i of word w is pfn 64 * w + i. */
#include "xcsr_api.h"

#include <string.h>

uint64_t xcsr_bitmap_count(const uint64_t *words, uint64_t nr_words)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < nr_words; i++)
        n += (uint64_t)__builtin_popcountll(words[i]);
    return n;
}

void xcsr_bitmap_fill(uint64_t *words, uint64_t nr_bits)
{
    uint64_t full = nr_bits / 64;
    memset(words, 0xff, full * sizeof *words);
    if (nr_bits % 64)
        words[full] = (1ull << nr_bits % 64) - 1;
}

/* The first word at or after w that is not zero, or end. Eight at a time: most of a bitmap is
 * clean. */
static uint64_t skip_clean(const uint64_t *words, uint64_t w, uint64_t end)
{
    for (; w + 8 <= end; w += 8) {
        const uint64_t *p = words + w;
        if (p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7])
            break;
    }
    while (w < end && !words[w])
        w++;
    return w;
}

uint32_t xcsr_bitmap_scan(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns,
                          uint32_t max)
{
    uint32_t n = 0;
    uint64_t end = nr_bits / 64 + !!(nr_bits % 64);
    uint64_t w = *cursor / 64;
    uint64_t keep = ~0ull << *cursor % 64; /* of the first word, only from the cursor on */

    while (n < max && w < end) {
        uint64_t word = words[w] & keep;
        if (w == nr_bits / 64) /* the last word's tail lies beyond the guest */
            word &= (1ull << nr_bits % 64) - 1;
        while (word && n < max) {
            pfns[n++] = w * 64 + (uint64_t)__builtin_ctzll(word);
            word &= word - 1;
        }
        if (word) { /* no room: go on at the next set bit */
            *cursor = w * 64 + (uint64_t)__builtin_ctzll(word);
            return n;
        }
        w = skip_clean(words, w + 1, end);
        keep = ~0ull;
    }
    *cursor = w >= end ? nr_bits : w * 64;
    return n;
}
