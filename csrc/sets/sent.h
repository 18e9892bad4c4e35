/* What the stream said last of each pfn, so that a p2m that changes can be followed: a mark a pfn, kept in leaves of
 * SENT_PER_LEAF pfns. A leaf takes 16 bytes if its marks are at most two runs: of frames in a row,
 * upwards or downwards, or of holes. Any other takes four bytes a pfn besides. An entry of the p2m agrees with its mark
 * if the mark is entry + 2. So all bits of an entry count, and a hole's usual entry, all ones, agrees with SENT_HOLE.
 * A pfn that was sent without its data has its frame's mark, too. */
#ifndef XCSR_SENT_H
#define XCSR_SENT_H

#include <stdbool.h>
#include <stdint.h>

#define SENT_PER_LEAF 512u     /* pfns; whatever the guest's width, a page of its p2m has so many entries, or a multiple */
#define SENT_NEVER 0u          /* no entry of this pfn yet */
#define SENT_HOLE 1u           /* an entry without data: the p2m named no frame */
#define SENT_BIAS 2u           /* frame + 2: the p2m named that frame */
#define SENT_MAX_MFNS (0xffffffffull - SENT_BIAS)

struct sent_leaf { /* all zero: nothing of it has been sent */
    union {
        uint32_t *marks;   /* single: SENT_PER_LEAF, owned */
        uint32_t first[2]; /* else of each run */
    };
    uint16_t at;    /* where the second run begins */
    int8_t step[2]; /* 1, -1, 0 */
    bool single;
};

/* In the run that holds the i-th. */
static inline uint32_t sent_in_run(const struct sent_leaf *t, uint32_t i)
{
    unsigned int second = i >= t->at;
    return t->first[second] + (i - (second ? t->at : 0u)) * (uint32_t)t->step[second];
}

static inline uint32_t sent_mark(const struct sent_leaf *t, uint32_t i)
{
    return t->single ? t->marks[i] : sent_in_run(t, i);
}

void sent_marks(const struct sent_leaf *t, uint32_t *marks); /* all of them */
int sent_set(struct sent_leaf *t, const uint32_t *marks);   /* all of them; -ENOMEM: as it was */
/* Says of nr pfns, two or more, from the i-th on that their marks are first, first + step and so on; step is 1 or -1. Does so
 * only if that is what is said already, or if nothing was said of them and the leaf stays one of two runs; else returns
 * false and leaves it as it was. The leaf is then as sent_set would have it. */
bool sent_add_run(struct sent_leaf *t, uint32_t i, uint32_t nr, uint32_t first, int8_t step);
void sent_clear(struct sent_leaf *t);                       /* to all zero; lets go of what it owns */

#endif
