/* A sparse set: see sparse_set.h. */
#include "sets/sparse_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int sparse_init(sparse_set *d, uint64_t nr_pfns)
{
    d->nr_chunks = nr_pfns / SPARSE_CHUNK_BITS + 1;
    d->count = 0;
    d->chunks = calloc(d->nr_chunks, sizeof *d->chunks);
    return d->chunks ? 0 : -ENOMEM;
}

int sparse_grow(sparse_set *d, uint64_t nr_pfns)
{
    uint64_t nr = nr_pfns / SPARSE_CHUNK_BITS + 1;
    if (nr <= d->nr_chunks)
        return 0;
    uint64_t **chunks = realloc(d->chunks, nr * sizeof *chunks);
    if (!chunks)
        return -ENOMEM;
    memset(chunks + d->nr_chunks, 0, (nr - d->nr_chunks) * sizeof *chunks);
    d->chunks = chunks;
    d->nr_chunks = nr;
    return 0;
}

void sparse_clear(sparse_set *d)
{
    for (uint64_t i = 0; i < d->nr_chunks; i++) {
        free(d->chunks[i]);
        d->chunks[i] = NULL;
    }
    d->count = 0;
}

void sparse_free(sparse_set *d)
{
    if (d->chunks)
        sparse_clear(d);
    free(d->chunks);
    d->chunks = NULL;
}

int sparse_add_word(sparse_set *d, uint64_t word, uint64_t bits)
{
    uint64_t **chunk = &d->chunks[word / SPARSE_CHUNK_WORDS];
    uint64_t *of;
    if (!*chunk)
        *chunk = calloc(SPARSE_CHUNK_WORDS, sizeof **chunk);
    if (!*chunk)
        return -ENOMEM;
    of = &(*chunk)[word % SPARSE_CHUNK_WORDS];
    d->count += (uint64_t)__builtin_popcountll(bits & ~*of);
    *of |= bits;
    return 0;
}

int sparse_add(sparse_set *d, uint64_t pfn)
{
    return sparse_add_word(d, pfn / 64, 1ull << pfn % 64);
}

static int each_of(uint64_t word, uint64_t first, int (*visit)(void *arg, uint64_t pfn), void *arg)
{
    int rc = 0;
    for (; word && !rc; word &= word - 1)
        rc = visit(arg, first + (uint64_t)__builtin_ctzll(word));
    return rc;
}

int sparse_each(const sparse_set *d, int (*visit)(void *arg, uint64_t pfn), void *arg)
{
    int rc = 0;
    for (uint64_t c = 0; d->count && c < d->nr_chunks; c++)
        for (uint64_t i = 0; d->chunks[c] && i < SPARSE_CHUNK_WORDS && !rc; i++)
            rc = each_of(d->chunks[c][i], c * SPARSE_CHUNK_BITS + i * 64, visit, arg);
    return rc;
}
