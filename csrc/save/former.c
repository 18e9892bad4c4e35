/* Frames that a pass has found to be another pfn's, or none's, than the stream said before.
 *
 * A page table that was sent earlier may name such a frame by its former pfn. What was sent of that pfn does not tell
 * any more, since the pass has sent it with another frame or as a hole; so the frame itself is remembered. It may have no
 * pfn for a while, if the guest is in the midst of moving it; once it has one, tables that name it must be sent again. */
#include "save/former.h"
#include "xen/handle.h"

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

static bool in_use(xcsr_save *s, uint64_t first, uint64_t word)
{
    bool found = false;
    for (; word; word &= word - 1) {
        uint64_t mfn = first + (uint64_t)__builtin_ctzll(word);
        if (xcsr_lookup_pfn(s->p2m, mfn) == XCSR_INVALID)
            continue;
        sparse_remove(&s->follow.former, mfn);
        found = true;
    }
    return found;
}

bool former_in_use(xcsr_save *s)
{
    const sparse_set *set = &s->follow.former;
    bool found = false;
    for (uint64_t c = 0; set->count && c < set->nr_chunks; c++)
        for (uint64_t k = 0; set->chunks[c] && k < SPARSE_CHUNK_WORDS; k++)
            found |= in_use(s, c * SPARSE_CHUNK_BITS + k * 64, set->chunks[c][k]);
    return found;
}
