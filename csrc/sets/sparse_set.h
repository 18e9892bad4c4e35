/* A set of pfns. It is sparse: a piece of the bitmap exists only where the set has, or had, a member. */
#ifndef XCSR_SPARSE_SET_H
#define XCSR_SPARSE_SET_H

#include "xcsr_api.h"

#include <stdbool.h>

#define SPARSE_CHUNK_BITS 32768u
#define SPARSE_CHUNK_WORDS (SPARSE_CHUNK_BITS / 64)

typedef struct sparse_set {
    uint64_t **chunks; /* nr_chunks, NULL where empty; owned */
    uint64_t nr_chunks, count;
} sparse_set;

int sparse_init(sparse_set *d, uint64_t nr_pfns); /* -ENOMEM */
int sparse_grow(sparse_set *d, uint64_t nr_pfns); /* -ENOMEM; no-op if not larger */
void sparse_clear(sparse_set *d);
void sparse_free(sparse_set *d); /* harmless for one that is all zero */
int sparse_add(sparse_set *d, uint64_t pfn); /* -ENOMEM */
/* Of word * 64 to word * 64 + 63 those pfns whose bits are set. -ENOMEM */
int sparse_add_word(sparse_set *d, uint64_t word, uint64_t bits);
/* Each member, ascending, until visit returns something else than 0, which is returned. It may remove members. */
int sparse_each(const sparse_set *d, int (*visit)(void *arg, uint64_t pfn), void *arg);

static inline bool sparse_has(const sparse_set *d, uint64_t pfn)
{
    const uint64_t *chunk = d->chunks[pfn / SPARSE_CHUNK_BITS];
    return chunk && chunk[pfn % SPARSE_CHUNK_BITS / 64] >> pfn % 64 & 1;
}

/* Of pfns word * 64 to word * 64 + 63. */
static inline uint64_t sparse_word(const sparse_set *d, uint64_t word)
{
    const uint64_t *chunk = d->chunks[word / SPARSE_CHUNK_WORDS];
    return chunk ? chunk[word % SPARSE_CHUNK_WORDS] : 0;
}

/* Called for every page that is sent: most sets are empty where the page is. */
static inline void sparse_remove(sparse_set *d, uint64_t pfn)
{
    uint64_t *chunk = d->chunks[pfn / SPARSE_CHUNK_BITS];
    if (!chunk)
        return;
    uint64_t *word = &chunk[pfn % SPARSE_CHUNK_BITS / 64], bit = 1ull << pfn % 64;
    d->count -= !!(*word & bit);
    *word &= ~bit;
}

static inline void sparse_remove_word(sparse_set *d, uint64_t word, uint64_t bits)
{
    uint64_t *chunk = d->chunks[word / SPARSE_CHUNK_WORDS];
    if (!chunk)
        return;
    uint64_t *of = &chunk[word % SPARSE_CHUNK_WORDS];
    d->count -= (uint64_t)__builtin_popcountll(*of & bits);
    *of &= ~bits;
}

/* The bits of those pfns, from *i on, that lie in one word with pfns[*i]. They ascend; *i is behind them afterwards. */
static inline uint64_t sparse_bits(const uint64_t *pfns, uint32_t nr, uint32_t *i)
{
    uint64_t first = pfns[*i], bits = 0;
    if (first % 64 == 0 && nr - *i >= 64 && pfns[*i + 63] == first + 63) {
        *i += 64;
        return ~0ull;
    }
    for (; *i < nr && pfns[*i] / 64 == first / 64; ++*i)
        bits |= 1ull << pfns[*i] % 64;
    return bits;
}

#endif
