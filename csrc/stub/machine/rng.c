/* Deterministic numbers: everything random in the stub comes from seeds. */
#include "stub/machine/rng.h"

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9UL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebUL;
    return x ^ (x >> 31);
}

uint64_t st_hash(uint64_t a, uint64_t b)
{
    return mix(mix(a + 0x9e3779b97f4a7c15UL) ^ (b + 0x632be59bd9b4e019UL));
}

uint64_t st_random(struct st_rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15UL;
    return mix(rng->state);
}

uint64_t st_below(struct st_rng *rng, uint64_t limit)
{
    return st_random(rng) % limit;
}

/* A Feistel network over an even number of bits: a bijection of [0, 2^(2 * half)). */
static uint64_t feistel(uint64_t value, unsigned half, uint64_t seed)
{
    uint64_t mask = (1UL << half) - 1, left = value >> half, right = value & mask;

    for (unsigned round = 0; round < 4; round++) {
        uint64_t next = left ^ (st_hash(seed + round, right) & mask);

        left = right;
        right = next;
    }
    return left << half | right;
}

/* A bijection of [0, limit): walks the network's cycle until it is back inside. */
uint64_t st_permute(uint64_t value, uint64_t limit, uint64_t seed)
{
    unsigned half = 1;

    while ((1UL << (2 * half)) < limit)
        half++;
    do {
        value = feistel(value, half, seed);
    } while (value >= limit);
    return value;
}
