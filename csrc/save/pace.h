/* Is mapping the next batch in another thread worth it? Judged by what the batches before it have taken.
 *
 * There is something to win only where mapping takes long (as it does in a PV dom0) and writing takes long enough
 * to hide it behind. Two batches in a row must say that it is worth it, and four that it no longer is: a single batch
 * may have waited for a processor. */
#ifndef XCSR_PACE_H
#define XCSR_PACE_H

#include "xcsr_api.h"

#include <stdbool.h>

#define PACE_LEAST_US 300 /* that mapping and unmapping a batch must take */
#define PACE_SHARE 4      /* writing it must take at least a quarter of that */
#define PACE_BEGIN 2      /* batches in a row */
#define PACE_END 4

struct pace {
    uint32_t how;    /* enum xcsr_ahead */
    bool pays;       /* as measured */
    bool impossible; /* it was tried in vain */
    uint32_t other;  /* batches in a row that say the opposite */
    int64_t mapping_us;        /* what mapping and unmapping have taken, in the thread that writes */
    int64_t mapping_before_us; /* the same of all threads, before the batch in hand */
};

/* A batch took so long. Half of what it takes to begin is enough to go on. */
static inline void pace_note(struct pace *p, int64_t mapping_us, int64_t writing_us)
{
    int64_t ease = p->pays ? 2 : 1;
    bool pays = mapping_us * ease >= PACE_LEAST_US && writing_us * PACE_SHARE * ease >= mapping_us;
    p->other = pays == p->pays ? 0 : p->other + 1;
    if (p->other < (p->pays ? PACE_END : PACE_BEGIN))
        return;
    p->pays = pays;
    p->other = 0;
}

#endif
