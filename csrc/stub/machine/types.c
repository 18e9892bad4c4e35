/*
 * Who refers to a frame, and as what. As on Xen a frame is a page table, or mapped writable, or part of a
 * GDT, and only one of these as long as anything refers to it as such; a page becomes a table by being
 * validated, with all the tables below it, and ceases to be one with the last reference.
 *
 * A guest that the stub's own kernel runs in changes its tables without asking, and so do tests. Its
 * references are therefore counted anew, from its tables, before anything is decided by them.
 */
#include "stub/machine/domain.h"
#include "stub/machine/entry.h"
#include "stub/machine/frames.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"
#include "stub/machine/pte.h"
#include "stub/machine/types.h"
#include "stub/machine/vcpu.h"

/* Bits that no entry may have: caching attributes, superpage, global; users' pages may be global. */
#define BAD_FLAGS    0x198UL
#define BAD_FLAGS_L1 0x098UL

#define ST_LOW_ROOTS        (1UL << (32 - ST_PAGE_SHIFT))
#define ST_PAE_EXTENDED_CR3 (1UL << 3)  /* of vm_assist */

static uint64_t frame_number(uint64_t entry)
{
    return (entry & ST_PTE_FRAME) >> ST_PAGE_SHIFT;
}

/* A frame that the domain may refer to: its memory, and shared_info. */
static struct st_frame *frame_of(const struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = mfn < st.nr_frames ? &st.frames[mfn] : NULL;

    return frame && frame->kind != ST_FREE && frame->owner == d->id ? frame : NULL;
}

/* A frame that can be a table. */
static struct st_frame *memory_of(const struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = frame_of(d, mfn);

    return frame && frame->kind != ST_XEN ? frame : NULL;
}

/* ---- counting anew ---- */

static void count_table(struct st_domain *d, uint64_t mfn, unsigned level)
{
    struct st_frame *frame = memory_of(d, mfn);

    if (frame && frame->level == level)
        frame->refs++;
}

static void count_entry(struct st_domain *d, unsigned level, uint64_t entry)
{
    struct st_frame *frame = frame_of(d, frame_number(entry));

    if (level > 1)
        count_table(d, frame_number(entry), level - 1);
    else if (frame && entry & ST_PTE_RW)
        frame->writable++;
}

static void count_entries(struct st_domain *d, uint64_t mfn)
{
    const uint64_t *entries = st_page(mfn);
    unsigned level = st.frames[mfn].level;

    for (unsigned slot = 0; slot < ST_ENTRIES; slot++)
        if (entries[slot] & ST_PTE_PRESENT && !st_is_xen_slot(d, mfn, slot))
            count_entry(d, level, entries[slot]);
}

static void count_vcpu(struct st_domain *d, const struct st_vcpu *v)
{
    const vcpu_guest_context_t *c = &v->context;

    count_table(d, xen_cr3_to_pfn(c->ctrlreg[3]), d->geometry->levels);
    if (c->ctrlreg[1] && d->geometry->levels == 4)
        count_table(d, xen_cr3_to_pfn(c->ctrlreg[1]), 4);
    for (uint64_t i = 0; i < (c->gdt_ents + ST_ENTRIES - 1) / ST_ENTRIES && i < 16; i++) {
        struct st_frame *frame = memory_of(d, c->gdt_frames[i]);

        if (frame)
            frame->gdt++;
    }
}

static void forget_references(struct st_frame *frame)
{
    frame->refs = frame->writable = 0;
    frame->gdt = 0;
}

void st_types_ready(struct st_domain *d)
{
    if (!d->built && !d->touched)
        return;
    forget_references(&st.frames[d->shared_info_mfn]);
    for (uint64_t i = 0; i < d->nr_mem; i++)
        forget_references(&st.frames[d->truth[d->mem[i]]]);
    for (uint64_t i = 0; i < d->nr_mem; i++) {
        uint64_t mfn = d->truth[d->mem[i]];

        st.frames[mfn].refs += st.frames[mfn].pinned;
        if (st.frames[mfn].level)
            count_entries(d, mfn);
    }
    for (uint32_t v = 0; v < d->nr_vcpus; v++)
        if (d->vcpu[v].initialised)
            count_vcpu(d, &d->vcpu[v]);
}

/* ---- references ---- */

/* Xen's errnos: what is no frame of the machine would be I/O memory, what is not available is busy. */
static int writable_get(struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = frame_of(d, mfn);

    if (frame->level || frame->gdt)
        return st_error(EBUSY, "mfn %#lx is a page table or part of a GDT and cannot be mapped writable",
                        (unsigned long)mfn);
    frame->writable++;
    return 0;
}

static int page_get(struct st_domain *d, uint64_t entry)
{
    uint64_t mfn = frame_number(entry);

    if (mfn >= st.nr_frames)
        return st_error(EPERM, "mfn %#lx is beyond the machine's end", (unsigned long)mfn);
    if (!frame_of(d, mfn))
        return st_error(EBUSY, "mfn %#lx is not domain %u's", (unsigned long)mfn, d->id);
    return entry & ST_PTE_RW ? writable_get(d, mfn) : 0;
}

static bool pae(const struct st_domain *d, unsigned level)
{
    return level == 3 && d->geometry->levels == 3;
}

static uint64_t bad_flags(const struct st_domain *d, unsigned level)
{
    if (level == 1)
        return BAD_FLAGS_L1;
    return pae(d, level) ? BAD_FLAGS | ST_PTE_NX : BAD_FLAGS;
}

static int table_get(struct st_domain *d, uint64_t mfn, unsigned level, bool xens);

/* The last L2 table of a 32-bit address space has Xen's slots, belongs to that space alone, and cannot be pinned. */
static int xen_l2_get(struct st_domain *d, uint64_t mfn)
{
    int rc = table_get(d, mfn, 2, true);

    if (rc || st.frames[mfn].refs == 1)
        return rc;
    st_table_put(d, mfn);
    return st_error(EINVAL, "mfn %#lx is in slot %lu of another L3 table already", (unsigned long)mfn, ST_PAE_XEN_L2);
}

static int entry_get(struct st_domain *d, unsigned level, unsigned slot, uint64_t entry)
{
    uint64_t bad = entry & bad_flags(d, level);

    if (bad)
        return st_error(EINVAL, "an L%u entry has bits %#lx", level, (unsigned long)bad);
    if (pae(d, level) && slot == ST_PAE_XEN_L2)
        return xen_l2_get(d, frame_number(entry));
    return level == 1 ? page_get(d, entry) : st_table_get(d, frame_number(entry), level - 1);
}

static void entry_put(struct st_domain *d, unsigned level, uint64_t entry)
{
    struct st_frame *frame = frame_of(d, frame_number(entry));

    if (level > 1)
        st_table_put(d, frame_number(entry));
    else if (frame && entry & ST_PTE_RW && frame->writable)
        frame->writable--;
}

/* Lets go of what the first `slots` entries refer to, and of the type. */
static void invalidate(struct st_domain *d, uint64_t mfn, unsigned slots)
{
    const uint64_t *entries = st_page(mfn);
    struct st_frame *frame = &st.frames[mfn];
    unsigned level = frame->level;

    for (unsigned slot = 0; slot < slots; slot++)
        if (entries[slot] & ST_PTE_PRESENT && !st_is_xen_slot(d, mfn, slot))
            entry_put(d, level, entries[slot]);
    frame->level = 0;
    frame->xens = 0;
    frame->kind = ST_DATA;
    st_mark_dirty(d, frame->pfn);
}

static int slot_get(struct st_domain *d, uint64_t mfn, unsigned level, unsigned slot)
{
    const uint64_t *entries = st_page(mfn);

    if (st_is_xen_slot(d, mfn, slot))
        return 0;
    if (entries[slot] & ST_PTE_PRESENT)
        return entry_get(d, level, slot, entries[slot]);
    if (pae(d, level) && slot == ST_PAE_XEN_L2)
        return st_error(EINVAL, "slot %u of the L3 table in mfn %#lx is empty", slot, (unsigned long)mfn);
    return 0;
}

/* A 32-bit guest that knows no frames beyond 4 GiB in a cr3 has no root there, once it runs. */
static int check_root_place(const struct st_domain *d, uint64_t mfn, unsigned level)
{
    const struct st_vcpu *v = d->vcpu;

    if (!pae(d, level) || mfn < ST_LOW_ROOTS || !v->initialised || v->context.vm_assist & ST_PAE_EXTENDED_CR3)
        return 0;
    return st_error(ERANGE, "mfn %#lx is beyond 4 GiB, and the guest has no pae_extended_cr3", (unsigned long)mfn);
}

/* The type is set first: an entry that leads back to the table finds it to be of the wrong level. */
static int validate(struct st_domain *d, uint64_t mfn, unsigned level, bool xens)
{
    struct st_frame *frame = &st.frames[mfn];
    int rc = check_root_place(d, mfn, level);

    if (rc)
        return rc;
    frame->level = level & 7;
    frame->xens = xens;
    frame->kind = ST_TABLE;
    for (unsigned slot = 0; slot < ST_ENTRIES; slot++) {
        rc = slot_get(d, mfn, level, slot);
        if (rc) {
            invalidate(d, mfn, slot);
            return rc;
        }
    }
    if (xens || level == d->geometry->levels)
        st_set_xen_slots(d, frame->pfn);
    st_mark_dirty(d, frame->pfn);
    return 0;
}

int st_table_get(struct st_domain *d, uint64_t mfn, unsigned level)
{
    return table_get(d, mfn, level, false);
}

static int table_get(struct st_domain *d, uint64_t mfn, unsigned level, bool xens)
{
    struct st_frame *frame = memory_of(d, mfn);
    int rc = 0;

    if (!frame)
        return st_error(EINVAL, "mfn %#lx is not domain %u's memory", (unsigned long)mfn, d->id);
    if (frame->level && frame->level != level)
        return st_error(EINVAL, "mfn %#lx is an L%u table, not an L%u one", (unsigned long)mfn, frame->level, level);
    if (frame->level && frame->xens != xens)
        return st_error(EINVAL, "mfn %#lx is an L2 table with%s Xen's slots", (unsigned long)mfn, xens ? "out" : "");
    if (!frame->level && (frame->writable || frame->foreign || frame->gdt))
        return st_error(EINVAL, "mfn %#lx cannot become a page table: it is %s", (unsigned long)mfn,
                        frame->gdt ? "part of a GDT" : "mapped writable");
    if (!frame->level)
        rc = validate(d, mfn, level, xens);
    frame->refs += !rc;
    return rc;
}

void st_table_put(struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = memory_of(d, mfn);

    if (!frame || !frame->level || !frame->refs || --frame->refs)
        return;
    invalidate(d, mfn, ST_ENTRIES);
}

int st_gdt_get(struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = memory_of(d, mfn);

    if (!frame || frame->level || frame->writable || frame->foreign)
        return st_error(EINVAL, "mfn %#lx cannot be part of a GDT: it is %s", (unsigned long)mfn,
                        !frame ? "not the domain's" : frame->level ? "a page table" : "mapped writable");
    frame->gdt++;
    return 0;
}

void st_gdt_put(struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = memory_of(d, mfn);

    if (frame && frame->gdt)
        frame->gdt--;
}

/* ---- libxenctrl ---- */

static int pin(struct st_domain *d, uint64_t mfn, unsigned level)
{
    int rc = st_table_get(d, mfn, level);

    if (rc)
        return rc;
    if (st.frames[mfn].pinned) {
        st_table_put(d, mfn);
        return st_error(EINVAL, "mfn %#lx is pinned already", (unsigned long)mfn);
    }
    st.frames[mfn].pinned = 1;
    return 0;
}

static int unpin(struct st_domain *d, uint64_t mfn)
{
    struct st_frame *frame = memory_of(d, mfn);

    if (!frame || !frame->pinned)
        return st_error(EINVAL, "mfn %#lx is no pinned table of domain %u", (unsigned long)mfn, d->id);
    frame->pinned = 0;
    st_table_put(d, mfn);
    return 0;
}

static int one_op(struct st_domain *d, const struct mmuext_op *op)
{
    if (op->cmd == MMUEXT_UNPIN_TABLE)
        return unpin(d, op->arg1.mfn);
    if (op->cmd > MMUEXT_PIN_L4_TABLE)
        return -EOPNOTSUPP;
    if (op->cmd == MMUEXT_PIN_L4_TABLE && d->geometry->levels < 4)
        return 0; /* as on Xen: it does nothing */
    return pin(d, op->arg1.mfn, op->cmd - MMUEXT_PIN_L1_TABLE + 1);
}

/* In order; what was done before the first that fails stays done. */
static int do_ops(uint32_t domid, const struct mmuext_op *op, unsigned nr_ops)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (d->hvm)
        return -EINVAL;
    st_types_ready(d);
    for (unsigned i = 0; i < nr_ops && !rc; i++)
        rc = one_op(d, &op[i]);
    return rc;
}

int xc_mmuext_op(xc_interface *xch, struct mmuext_op *op, unsigned int nr_ops, uint32_t dom)
{
    int rc = st_begin_xc(ST_FN_xc_mmuext_op, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_mmuext_op, xch, rc);
    return (int)st_end(ST_FN_xc_mmuext_op, xch, do_ops(dom, op, nr_ops));
}
