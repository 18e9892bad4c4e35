/* Words to pfns. No Xen in here: small pure steps. Bit i of word w is pfn 64 * w + i. */
#include "xcsr_api.h"

#include <errno.h>
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

static int has_bmi(void)
{
    return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt");
}

static int has_avx2(void)
{
    return has_bmi() && __builtin_cpu_supports("avx2");
}
#else
#define scan_bmi scan_plain
#define count_bmi count_plain
#define scan_avx2 scan_plain
#define count_avx2 count_plain

static int has_bmi(void)
{
    return 0;
}

static int has_avx2(void)
{
    return 0;
}
#endif

static enum xcsr_bitmap_way forced = XCSR_BITMAP_BEST;

int xcsr_bitmap_use(enum xcsr_bitmap_way way)
{
    if ((way == XCSR_BITMAP_BMI && !has_bmi()) || (way == XCSR_BITMAP_AVX2 && !has_avx2()))
        return -ENOTSUP;
    forced = way;
    return 0;
}

static enum xcsr_bitmap_way best(void)
{
    return has_avx2() ? XCSR_BITMAP_AVX2 : has_bmi() ? XCSR_BITMAP_BMI : XCSR_BITMAP_PLAIN;
}

static enum xcsr_bitmap_way way_to_use(void)
{
    return forced == XCSR_BITMAP_BEST ? best() : forced;
}

uint64_t xcsr_bitmap_count(const uint64_t *words, uint64_t nr_words)
{
    enum xcsr_bitmap_way way = way_to_use();
    return way == XCSR_BITMAP_AVX2  ? count_avx2(words, nr_words)
           : way == XCSR_BITMAP_BMI ? count_bmi(words, nr_words)
                                    : count_plain(words, nr_words);
}

uint32_t xcsr_bitmap_scan(const uint64_t *words, uint64_t nr_bits, uint64_t *cursor, uint64_t *pfns,
                          uint32_t max)
{
    enum xcsr_bitmap_way way = way_to_use();
    return way == XCSR_BITMAP_AVX2  ? scan_avx2(words, nr_bits, cursor, pfns, max)
           : way == XCSR_BITMAP_BMI ? scan_bmi(words, nr_bits, cursor, pfns, max)
                                    : scan_plain(words, nr_bits, cursor, pfns, max);
}

void xcsr_bitmap_fill(uint64_t *words, uint64_t nr_bits)
{
    uint64_t full = nr_bits / 64;
    memset(words, 0xff, full * sizeof *words);
    if (nr_bits % 64)
        words[full] = (1ull << nr_bits % 64) - 1;
}
