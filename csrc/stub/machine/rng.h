/* A deterministic generator, and a hash of numbers. */
#ifndef XCSR_STUB_MACHINE_RNG_H
#define XCSR_STUB_MACHINE_RNG_H

#include <stdint.h>

struct st_rng { uint64_t state; };

uint64_t st_hash(uint64_t a, uint64_t b);
uint64_t st_random(struct st_rng *rng);
uint64_t st_below(struct st_rng *rng, uint64_t limit);
/* A bijection of [0, limit) that the seed decides. */
uint64_t st_permute(uint64_t value, uint64_t limit, uint64_t seed);

#endif
