/* Unmapping put off while the guest is suspended.
 *
 * In a PV dom0 each entry of a foreign mapping is cleared by a write that traps into Xen: tearing a
 * mapping down costs more than making it and writing from it. None of that has to be done before the
 * stream is complete. Nothing is read through a mapping kept here: it only waits for its end. */
#include "save/kept.h"

static void drop_oldest(xcsr *h, struct window *w)
{
    struct mapping *old = &w->held[w->first];
    w->first = (w->first + 1) % XCSR_HELD;
    w->count--;
    w->frames -= old->nr;
    mapping_drop(h, old);
}

void window_make_room(xcsr *h, struct window *w, uint32_t nr)
{
    while (w->count && w->frames + nr > XCSR_WINDOW)
        drop_oldest(h, w);
}

void window_keep(xcsr *h, struct window *w, const struct mapping *m)
{
    if (w->count == XCSR_HELD)
        drop_oldest(h, w);
    w->held[(w->first + w->count) % XCSR_HELD] = *m;
    w->count++;
    w->frames += m->nr;
}

void window_drop(xcsr *h, struct window *w)
{
    while (w->count)
        drop_oldest(h, w);
}
