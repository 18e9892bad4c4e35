/* Words to pfns. No Xen in here: small pure steps. Bit i of word w is pfn 64 * w + i. */
#include "xcsr_api.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Aligned like a word, so that any eight of them in a row can be looked at in pairs. */
typedef uint64_t two_words __attribute__((vector_size(16), aligned(8), may_alias));

#define WAY(name) name##_plain
#define TARGET
#define LANES 2
#define lowest(word) ((uint64_t)__builtin_ctzll((word) | 1ull << 63))
#include "sets/bitmap_loop.h"
#undef WAY
#undef TARGET
#undef LANES
#undef lowest

#ifdef __x86_64__ /* the same, with instructions for each step that x86-64 did not always have */
#include <immintrin.h>
#define WAY(name) name##_bmi
#define TARGET __attribute__((target("bmi,popcnt")))
#define LANES 2
#define lowest(word) _tzcnt_u64(word)
#include "sets/bitmap_loop.h"
#undef WAY
#undef TARGET
#undef LANES
#define WAY(name) name##_avx2
#define TARGET __attribute__((target("avx2,bmi,popcnt")))
#define LANES 4
#include "sets/bitmap_loop.h"

static bool has_bmi(void)
{
    return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt");
}

static bool has_avx2(void)
{
    return has_bmi() && __builtin_cpu_supports("avx2");
}
#endif

static bool has_plain(void)
{
    return true;
}

static const struct way {
    enum xcsr_bitmap_way name;
    bool (*is_there)(void);
    uint64_t (*count)(const uint64_t *words, uint64_t nr_words);
    uint32_t (*scan)(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns, uint32_t max);
} ways[] = { /* the best first */
#ifdef __x86_64__
    {XCSR_BITMAP_AVX2, has_avx2, count_avx2, scan_avx2},
    {XCSR_BITMAP_BMI, has_bmi, count_bmi, scan_bmi},
#endif
    {XCSR_BITMAP_PLAIN, has_plain, count_plain, scan_plain},
};

static enum xcsr_bitmap_way forced = XCSR_BITMAP_BEST;

/* The way of that name, or the best one; NULL: the processor does not have it. */
static const struct way *find_way(enum xcsr_bitmap_way name)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if ((name == XCSR_BITMAP_BEST || name == ways[i].name) && ways[i].is_there())
            return &ways[i];
    return NULL;
}

int xcsr_bitmap_use(enum xcsr_bitmap_way way)
{
    if (!find_way(way))
        return -ENOTSUP;
    forced = way;
    return 0;
}

uint64_t xcsr_bitmap_count(const uint64_t *words, uint64_t nr_words)
{
    return find_way(forced)->count(words, nr_words);
}

uint32_t xcsr_bitmap_scan(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns,
                          uint32_t max)
{
    return find_way(forced)->scan(words, nr_bits, cursor, pfns, max);
}

void xcsr_bitmap_fill(uint64_t *words, uint64_t nr_bits)
{
    uint64_t full = nr_bits / 64;
    memset(words, 0xff, full * sizeof *words);
    if (nr_bits % 64)
        words[full] = (1ull << nr_bits % 64) - 1;
}
