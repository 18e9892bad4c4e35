/* Internal: who maps a batch's pages, and who unmaps them when.
 *
 * The thread that writes maps a batch when it needs it, or has a worker map the next one while one is written (ahead.h)
 * where measurements say that this is worth it (pace.h). While the guest is suspended, unmapping is put off (kept.h).
 * The mapper knows nothing of pfns, types or records. */
#ifndef XCSR_MAPPER_H
#define XCSR_MAPPER_H

#include "save/kept.h"
#include "save/pace.h"

struct pages { /* frames that are to be mapped, or are */
    bool asked; /* the worker is to map them, and its mapping was not taken yet */
    uint32_t nr;
    struct mapping map; /* page k of it is frames[k], unless errs[k] says why not */
    xen_pfn_t frames[XCSR_BATCH];
    int errs[XCSR_BATCH];
};

struct mapper {
    xcsr *h; /* not owned */
    uint32_t domid;
    bool keeps;          /* unmapping is put off */
    struct ahead *ahead; /* NULL: not started */
    struct pace pace;
    struct kept kept;
    int64_t unmapping_us; /* by the thread that writes, at once and not put off */
    struct mapping spent; /* written from; the worker unmaps it as soon as it has mapped the next batch */
};

/* Maps p's frames, now and in this thread; no frames: no mapping. -errno with the handle's text; then nothing is mapped. */
int mapper_map(struct mapper *m, struct pages *p);

/* Whether the next batch should be prepared now for mapper_begin. Starts the worker at first need. */
bool mapper_looks_ahead(struct mapper *m);
/* Has the worker map p's frames, while nr_besides are in use. p and its frames stay until mapper_take or mapper_drop. */
void mapper_begin(struct mapper *m, struct pages *p, uint32_t nr_besides);
int mapper_take(struct mapper *m, struct pages *p); /* waits for that mapping; fails as mapper_map does */
void mapper_unmap_spent(struct mapper *m);          /* harmless where nothing was left to the worker */
void mapper_settle(struct mapper *m);               /* waits until the worker has unmapped what it was told to */

/* p was written from. next_is_begun: the worker has the next batch to map first, and unmaps this one afterwards. */
void mapper_retire(struct mapper *m, struct pages *p, bool next_is_begun);
void mapper_drop(struct mapper *m, struct pages *p); /* lets go of p in whatever state; harmless where it has nothing */

void mapper_keep(struct mapper *m, bool on); /* from now on unmapping is put off, or not any more */
/* A batch of nr frames is over, and writing it took so long: whether mapping ahead is worth it is judged by that. */
void mapper_measure(struct mapper *m, uint32_t nr, int64_t writing_us);
int mapper_ahead(struct mapper *m, enum xcsr_ahead how); /* see xcsr_map_ahead */

void mapper_stop(struct mapper *m);   /* unmaps all but what is in some struct pages, and ends the worker */
void mapper_forget(struct mapper *m); /* in a forked child: memory only */

#endif
