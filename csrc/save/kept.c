/* Unmapping put off while the guest is suspended.
 *
 * In a PV dom0 each entry of a foreign mapping is cleared by a write that traps into Xen: tearing a
 * mapping down costs more than making it and writing from it. None of that has to be done before the
 * stream is complete. Nothing is read through a mapping kept here: it only waits to be unmapped. */
#include "save/kept.h"

static void drop_oldest(xcsr *h, struct kept *k)
{
    struct mapping *old = &k->held[k->first];
    k->first = (k->first + 1) % KEPT_MAPPINGS;
    k->count--;
    k->frames -= old->nr;
    mapping_drop(h, old);
}

void kept_make_room(xcsr *h, struct kept *k, uint32_t nr)
{
    while (k->count && k->frames + nr > KEPT_FRAMES)
        drop_oldest(h, k);
}

void kept_add(xcsr *h, struct kept *k, const struct mapping *m)
{
    if (k->count == KEPT_MAPPINGS)
        drop_oldest(h, k);
    k->held[(k->first + k->count) % KEPT_MAPPINGS] = *m;
    k->count++;
    k->frames += m->nr;
}

void kept_drop(xcsr *h, struct kept *k)
{
    while (k->count)
        drop_oldest(h, k);
}
