/* Is mapping the next batch in another thread worth it? By what the batches before it have taken.
 *
 * There is something to win only where mapping takes its time (as it does in a PV dom0) and writing takes long enough
 * to hide it behind. Two batches in a row must say so, and four that it is over, so that nobody is misled by one during
 * which this thread had to wait for a processor. */
#ifndef XCSR_PACE_H
#define XCSR_PACE_H

#include "xcsr_api.h"

#include <stdbool.h>

#define PACE_LEAST_US 300 /* that mapping and unmapping a batch must take */
#define PACE_SHARE 4      /* of that, a quarter is what writing it must take */
#define PACE_BEGIN 2      /* batches in a row */
#define PACE_END 4

struct pace {
    uint32_t how;    /* enum xcsr_ahead */
    bool pays;       /* as measured */
    bool impossible; /* it was tried in vain */
    uint32_t other;  /* batches in a row that say the opposite */
    int64_t mapping_us, writing_us; /* in all, by the thread that writes */
    int64_t mapped_us, written_us;  /* the same, of all threads, when it was looked at last */
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
