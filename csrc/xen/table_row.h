/* Internal: ROW words of the p2m, the m2p, a page table or a batch, looked at together. As a rule pfns in a row have frames in a
 * row. Loops that have no branch for a single word tell whether that is so; the compiler makes vectors of them. */
#ifndef XCSR_TABLE_ROW_H
#define XCSR_TABLE_ROW_H

#include "xen/handle.h"

#define ROW 32u

typedef uint64_t row_pair __attribute__((vector_size(16), aligned(8), may_alias));

/* The guest, or Xen, may be writing them: each is read once, which is what volatile is for, and what is judged is the copy.
 * (x86 reads each word of a pair at once, if the word is aligned.) */
static inline void row_load(uint64_t *words, const uint64_t *from)
{
    for (uint32_t i = 0; i < ROW; i += 2)
        *(row_pair *)(words + i) = *(const volatile row_pair *)(from + i);
}

/* The same of a p2m whose words have width bytes, from pfn on. */
static inline void row_load_p2m(uint64_t *words, const void *entries, uint32_t width, uint64_t pfn)
{
    if (width == sizeof(uint64_t)) { /* outside of the loop, where the compiler does not put it */
        row_load(words, (const uint64_t *)entries + pfn);
        return;
    }
    for (uint32_t i = 0; i < ROW; i++)
        words[i] = p2m_load(entries, sizeof(uint32_t), pfn + i);
}

/* The bits that any of them has. */
static inline uint64_t row_any(const uint64_t *words)
{
    uint64_t any[4] = {0}; /* so that not each waits for the one before */
    for (uint32_t i = 0; i < ROW; i += 4)
        for (uint32_t k = 0; k < 4; k++)
            any[k] |= words[i + k];
    return any[0] | any[1] | any[2] | any[3];
}

/* Whether each is one more than the one before. */
static inline bool row_ascends(const uint64_t *words)
{
    uint64_t differ = 0;
    for (uint32_t i = 0; i < ROW; i++)
        differ |= words[i] ^ (words[0] + i);
    return !differ;
}

/* Whether each of the ROW words after the first is that much more than the one before. */
static inline bool row_steps(const uint64_t *words, uint64_t step)
{
    uint64_t differ = 0;
    for (uint32_t i = 0; i < ROW; i++)
        differ |= (words[i + 1] - words[i]) ^ step;
    return !differ;
}

/* Whether the i-th of nr words is one with which a row may begin. Where a row is not as usual, its words are gone through one by
 * one, and no row is tried again before the next of these. */
static inline bool row_may_begin(uint32_t i, uint32_t nr)
{
    return i % ROW == 0 && nr - i >= ROW;
}

/* Whether ROW words from this one on are below the end. */
static inline bool row_fits(uint64_t first, uint64_t end)
{
    return first < end && end - first >= ROW;
}

#endif
