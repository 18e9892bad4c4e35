/* Frames that are another pfn's now, or none's, than the stream said before.
 *
 * A page table that was sent earlier may name such a frame by its former pfn. What was sent of that pfn does not tell
 * any more, since the pass has sent it with another frame or as a hole; so the frame itself is remembered. It may have no
 * pfn for a while, if the guest is in the midst of moving it; once it has one, tables that name it must be sent again.
 *
 * A frame that went back to Xen is forgotten: Xen lets none go that a page table names, so the tables that did have been
 * written since, and log-dirty mode has told of that. But a guest can take a frame out of its p2m, and out of the m2p,
 * and keep it. Once it is suspended, such a frame is on its way to nowhere. Then all tables are sent again, and the one
 * that names the frame, if any does, ends the save. */
#include "save/former.h"
#include "xen/page_types.h"

static bool is_former(uint32_t was, uint32_t now)
{
    return was != now && was >= SENT_BIAS;
}

int former_note(struct follow *f, const uint32_t *was, const uint32_t *now)
{
    uint32_t any = 0;
    int rc = 0;
    for (uint32_t i = 0; i < SENT_PER_LEAF; i++) /* seldom: so all are looked at first, without a branch */
        any |= (uint32_t)is_former(was[i], now[i]);
    for (uint32_t i = 0; any && i < SENT_PER_LEAF && !rc; i++)
        if (is_former(was[i], now[i]))
            rc = sparse_add(&f->former, was[i] - SENT_BIAS);
    return rc;
}

struct look {
    xcsr_save *s;
    bool suspended, found;
    uint32_t nr;
    xen_pfn_t frames[SENT_PER_LEAF], types[SENT_PER_LEAF]; /* that have no pfn: whose are they? */
};

static int ask_xen(struct look *k)
{
    memcpy(k->types, k->frames, k->nr * sizeof *k->types);
    int rc = k->nr ? page_types(k->s->h, k->s->domid, k->nr, k->types) : 0;
    for (uint32_t i = 0; i < k->nr && !rc; i++) {
        bool is_kept = k->types[i] != TYPE_XTAB;
        if (is_kept && !k->suspended)
            continue; /* the guest may be moving it */
        k->found |= is_kept;
        sparse_remove(&k->s->follow.former, k->frames[i]);
    }
    k->nr = 0;
    return rc;
}

static int look_at_frame(void *look, uint64_t mfn)
{
    struct look *k = look;
    if (xcsr_lookup_pfn(k->s->p2m, mfn) == XCSR_INVALID) {
        k->frames[k->nr++] = mfn;
        return k->nr < SENT_PER_LEAF ? 0 : ask_xen(k);
    }
    sparse_remove(&k->s->follow.former, mfn);
    k->found = true;
    return 0;
}

int former_in_use(xcsr_save *s, bool suspended, bool *found)
{
    if (!s->follow.former.count) /* as a rule */
        return 0;
    struct look k = {.s = s, .suspended = suspended};
    int rc = sparse_each(&s->follow.former, look_at_frame, &k);
    if (!rc)
        rc = ask_xen(&k);
    *found |= k.found;
    return rc;
}
