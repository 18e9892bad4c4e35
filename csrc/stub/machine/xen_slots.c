/* Xen's own mappings in a guest's page tables. */
#include "stub/machine/frames.h"
#include "stub/machine/m2p.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/types.h"

#define ST_M2P_PTE (ST_PTE_PRESENT | ST_PTE_USER | ST_PTE_ACCESSED | ST_PTE_DIRTY | ST_PTE_PSE)

bool st_is_xen_slot(const struct st_domain *d, uint64_t mfn, unsigned slot)
{
    const struct st_frame *table = &st.frames[mfn];

    if (d->geometry->levels == 4)
        return table->level == 4 && slot >= ST_XEN_SLOT_FIRST && slot <= ST_XEN_SLOT_LAST;
    return (table->level == 3 && slot >= ST_PAE_SLOTS) || (table->xens && slot >= ST_PAE_XEN_SLOT);
}

/* Xen puts its own mappings into every L4 table; their frames are in no p2m. */
static void set_xen_l4_slots(struct st_domain *d, uint64_t l4)
{
    for (uint64_t slot = ST_XEN_SLOT_FIRST; slot <= ST_XEN_SLOT_LAST; slot++)
        st_write_word(d, l4, slot * sizeof(uint64_t),
                      (slot - ST_XEN_SLOT_FIRST + 1) << ST_PAGE_SHIFT | ST_TABLE_PTE);
}

/* The 32-bit m2p, by superpages, as far as there is one. */
static void set_xen_l2_slots(struct st_domain *d, uint64_t l2)
{
    for (uint64_t slot = ST_PAE_XEN_SLOT; slot < ST_ENTRIES; slot++) {
        uint64_t mfn = st_compat_m2p_mfn(slot - ST_PAE_XEN_SLOT);

        st_write_word(d, l2, slot * sizeof(uint64_t),
                      mfn == ST_NONE ? 0 : mfn << ST_PAGE_SHIFT | ST_M2P_PTE);
    }
}

void st_set_xen_slots(struct st_domain *d, uint64_t table)
{
    struct st_frame *frame = &st.frames[d->truth[table]];

    if (frame->level == 4)
        set_xen_l4_slots(d, table);
    if (frame->level == 2 && d->geometry->levels == 3) {
        frame->xens = 1;
        set_xen_l2_slots(d, table);
    }
    if (frame->level == 3 && d->geometry->levels == 3)
        memset((uint64_t *)st_guest_page(d, table) + ST_PAE_SLOTS, 0, (ST_ENTRIES - ST_PAE_SLOTS) * sizeof(uint64_t));
}
