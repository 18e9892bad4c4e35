/* The bitmap's loops, included by bitmap.c once for each set of instructions they are compiled for:
 *   WAY(name)  the name with the way's suffix
 *   TARGET     the functions' attribute, or nothing
 *   LANES      how many pfns are written at once: 2 or 4
 *   lowest(w)  the number of a word's lowest set bit; any number if there is none
 */

typedef uint64_t WAY(lanes) __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

/* Whether sixteen words are zero. Most of a bitmap is. */
TARGET static inline int WAY(are_clean)(const uint64_t *words)
{
    const two_words *p = (const two_words *)words;
    two_words any = ((p[0] | p[1]) | (p[2] | p[3])) | ((p[4] | p[5]) | (p[6] | p[7]));
    return !(any[0] | any[1]);
}

/* The first word at or after w that is not zero, or end. */
TARGET static inline uint64_t WAY(skip_clean)(const uint64_t *words, uint64_t w, uint64_t end)
{
    while (w + 16 <= end && WAY(are_clean)(words + w))
        w += 16;
    while (w < end && !words[w])
        w++;
    return w;
}

TARGET static uint64_t WAY(count)(const uint64_t *words, uint64_t nr_words)
{
    uint64_t n = 0, w = 0;
    while ((w = WAY(skip_clean)(words, w, nr_words)) < nr_words) {
        uint64_t stop = w + 16 <= nr_words ? w + 16 : nr_words;
        for (; w < stop; w++)
            n += (uint64_t)__builtin_popcountll(words[w]);
    }
    return n;
}

/* A word of nothing but ones: no pfn waits for the one before. */
TARGET static inline void WAY(emit_all)(uint64_t first_pfn, uint64_t *out)
{
    WAY(lanes) at = {0}, *p = (WAY(lanes) *)out;
    const WAY(lanes) step = at + LANES;
    for (uint32_t i = 0; i < LANES; i++)
        at[i] = first_pfn + i;
#pragma GCC unroll 32
    for (uint32_t i = 0; i < 64 / LANES; i++, at += step)
        p[i] = at;
}

/* The pfns of a word's set bits, and how many they are. Anything may be written in the rest of 64
 * places: eight at a time, and no look at the word in between, is what a processor foresees best. */
TARGET static inline uint32_t WAY(emit)(uint64_t word, uint64_t first_pfn, uint64_t *out)
{
    if (word == ~0ull) { /* runs of dirty pages */
        WAY(emit_all)(first_pfn, out);
        return 64;
    }
    uint32_t n = (uint32_t)__builtin_popcountll(word);
#define NEXT(k) \
    out[i + (k)] = first_pfn + lowest(word); \
    word &= word - 1;
    for (uint32_t i = 0; i < n; i += 8) {
        NEXT(0) NEXT(1) NEXT(2) NEXT(3) NEXT(4) NEXT(5) NEXT(6) NEXT(7)
    }
#undef NEXT
    return n;
}

/* Bit k says whether words[k] is not zero, for sixteen words. */
TARGET static inline uint64_t WAY(dirty_words)(const uint64_t *words)
{
    uint64_t which = 0;
#pragma GCC unroll 16
    for (unsigned int k = 0; k < 16; k++)
        which |= (uint64_t)(words[k] != 0) << k;
    return which;
}

/* Sixteen words from *at on, or one if there are fewer, while there is room for 64 pfns; returns how many
 * pfns. Only where there is no room *at moves by less. */
TARGET static inline uint32_t WAY(block)(const uint64_t *words, uint64_t *at, uint64_t end, uint64_t *pfns, uint32_t max)
{
    uint32_t n = 0;
    uint64_t w = *at, size = w + 16 <= end ? 16 : 1;
    uint64_t which = size == 16 ? WAY(dirty_words)(words + w) : words[w] != 0;
    for (; which && n + 64 <= max; which &= which - 1) {
        uint64_t k = lowest(which);
        n += WAY(emit)(words[w + k], (w + k) * 64, pfns + n);
    }
    *at = w + (which ? lowest(which) : size);
    return n;
}

/* Whole words from *at on, while there is room for 64 pfns; returns how many pfns. */
TARGET static inline uint32_t WAY(whole_words)(const uint64_t *words, uint64_t *at, uint64_t end, uint64_t *pfns,
                                               uint32_t max)
{
    uint32_t n = 0;
    while (n + 64 <= max && *at < end) {
        if (*at + 16 <= end && WAY(are_clean)(words + *at))
            *at += 16;
        else
            n += WAY(block)(words, at, end, pfns + n, max - n);
    }
    return n;
}

TARGET static uint32_t WAY(scan)(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns, uint32_t max)
{
    uint32_t n = 0;
    uint64_t full = nr_bits / 64, end = full + !!(nr_bits % 64);
    uint64_t w = *cursor / 64;
    uint64_t keep = ~0ull << *cursor % 64; /* of the first word, only from the cursor on */

    while (w < end && n < max) {
        uint64_t word = words[w] & keep;
        if (w == full) /* the last word's tail lies beyond the guest */
            word &= (1ull << nr_bits % 64) - 1;
        for (; word && n < max; word &= word - 1)
            pfns[n++] = w * 64 + lowest(word);
        if (word) { /* no room: go on at the next set bit */
            *cursor = w * 64 + lowest(word);
            return n;
        }
        w++;
        keep = ~0ull;
        n += WAY(whole_words)(words, &w, full, pfns + n, max - n);
        if (w < full)
            w = WAY(skip_clean)(words, w, full);
    }
    *cursor = w >= end ? nr_bits : w * 64;
    return n;
}
