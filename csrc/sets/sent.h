/* What the stream said last of each pfn, so that a p2m that changes can be followed: a mark a pfn, kept in leaves of
 * SENT_PER_LEAF pfns. A leaf takes 16 bytes if its marks are at most two runs: of frames in a row,
 * upwards or downwards, or of holes. One of few frames among holes, as a guest that has given memory back has them, takes
 * six bytes a frame besides, any other four bytes a pfn. So memory is bounded by the frames that there are, however many
 * pages of p2m a guest makes. An entry of the p2m agrees with its mark if the mark is entry + 2. So all bits of an entry
 * count, and a hole's usual entry, all ones, agrees with SENT_HOLE. */
#ifndef XCSR_SENT_H
#define XCSR_SENT_H

#include <stdbool.h>
#include <stdint.h>

#define SENT_PER_LEAF 512u     /* pfns; whatever the guest's width, a page of its p2m has so many entries, or a multiple */
#define SENT_NEVER 0u          /* no entry of this pfn yet */
#define SENT_HOLE 1u           /* an entry without data: the p2m named no frame */
#define SENT_BIAS 2u           /* frame + 2: the p2m named that frame */
#define SENT_FEW 80u           /* from more marks on that are no holes, six bytes each would not pay */
#define SENT_MAX_MFNS (0xffffffffull - SENT_BIAS)

struct sent_leaf { /* all zero: nothing of it has been sent */
    union {
        uint32_t *marks;   /* single: SENT_PER_LEAF, owned; few: as many as are no holes, and behind them sent_where() */
        uint32_t first[2]; /* else of each run */
    };
    uint16_t at;    /* where the second run begins; few: how many there are */
    int8_t step[2]; /* 1, -1, 0 */
    bool single, few;
};

/* Of few: the places that the marks have in the leaf, in order. */
static inline const uint16_t *sent_where(const struct sent_leaf *t)
{
    return (const uint16_t *)(const void *)(t->marks + t->at);
}

/* Of few: how many stand before the i-th place. */
static inline uint32_t sent_before(const struct sent_leaf *t, uint32_t i)
{
    const uint16_t *where = sent_where(t);
    uint32_t from = 0, to = t->at;
    while (from < to) {
        uint32_t middle = (from + to) / 2;
        if (where[middle] < i)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* In the run that holds the i-th. */
static inline uint32_t sent_in_run(const struct sent_leaf *t, uint32_t i)
{
    unsigned int second = i >= t->at;
    return t->first[second] + (i - (second ? t->at : 0u)) * (uint32_t)t->step[second];
}

static inline uint32_t sent_mark(const struct sent_leaf *t, uint32_t i)
{
    if (t->few) {
        uint32_t k = sent_before(t, i);
        return k < t->at && sent_where(t)[k] == i ? t->marks[k] : SENT_HOLE;
    }
    return t->single ? t->marks[i] : sent_in_run(t, i);
}

void sent_marks(const struct sent_leaf *t, uint32_t *marks); /* all of them */
void sent_some(const struct sent_leaf *t, uint32_t from, uint32_t nr, uint32_t *marks); /* of few: nr, from one on */
uint64_t sent_bytes(const struct sent_leaf *t);              /* that it owns */
int sent_set(struct sent_leaf *t, const uint32_t *marks);   /* all of them; -ENOMEM: as it was */
/* Says of nr pfns, two or more, from the i-th on that their marks are first, first + step and so on; step is 1 or -1. Does so
 * only if that is what is said already, or if nothing was said of them and the leaf stays one of two runs; else returns
 * false and leaves it as it was. The leaf is then as sent_set would have it. */
bool sent_add_run(struct sent_leaf *t, uint32_t i, uint32_t nr, uint32_t first, int8_t step);
void sent_clear(struct sent_leaf *t);                       /* to all zero; lets go of what it owns */

#endif
