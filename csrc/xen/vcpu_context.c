/* A 64-bit PV vcpu's context, re-expressed in pfns: start_info (vcpu 0), GDT frames, cr3 and, if used, cr1. */
#include "xen/page_types.h"
#include "xen/vcpu.h"

#define RESERVED_GDT_ENTS 7168ull /* FIRST_RESERVED_GDT_ENTRY: from here on they are Xen's own */
#define GDT_PER_FRAME 512
#define START_INFO "rdx (start_info)"

int vcpu_wrong(xcsr *h, uint32_t vcpu, const char *field, uint64_t value, const char *what)
{
    h->error.mfn = value;
    h->error.index = vcpu;
    return xcsr_fail(&h->error, XCSR_E_STATE, ERANGE, field, "vcpu%u.%s is %#llx, %s", vcpu, field,
                     (unsigned long long)value, what);
}

static int to_pfn(const xcsr_p2m *p, uint32_t vcpu, const char *field, uint64_t mfn, uint64_t *pfn)
{
    *pfn = xcsr_lookup_pfn(p, mfn);
    return *pfn == XCSR_INVALID ? vcpu_wrong(p->h, vcpu, field, mfn, "a frame that is not the guest's") : 0;
}

static int gdt(const xcsr_p2m *p, uint32_t vcpu, vcpu_guest_context_t *c)
{
    static const char *const names[] = {"gdt_frames[0]", "gdt_frames[1]", "gdt_frames[2]", "gdt_frames[3]", "gdt_frames[4]",
                                        "gdt_frames[5]", "gdt_frames[6]", "gdt_frames[7]", "gdt_frames[8]", "gdt_frames[9]",
                                        "gdt_frames[10]", "gdt_frames[11]", "gdt_frames[12]", "gdt_frames[13]"};
    _Static_assert(sizeof names / sizeof *names * GDT_PER_FRAME == RESERVED_GDT_ENTS, "one name a frame");
    if (c->gdt_ents > RESERVED_GDT_ENTS)
        return vcpu_wrong(p->h, vcpu, "gdt_ents", c->gdt_ents, "more than the guest can have");
    for (uint64_t i = 0; i * GDT_PER_FRAME < c->gdt_ents; i++) {
        uint64_t pfn;
        int rc = to_pfn(p, vcpu, names[i], c->gdt_frames[i], &pfn);
        if (rc)
            return rc;
        c->gdt_frames[i] = pfn;
    }
    return 0;
}

/* cr3 holds the kernel's table; cr1's place holds the user's, with bit 0 set in the stream, or 0. */
static int page_tables(const xcsr_p2m *p, uint32_t vcpu, vcpu_guest_context_t *c)
{
    uint64_t pfn;
    int rc = to_pfn(p, vcpu, "ctrlreg[3]", c->ctrlreg[3] >> 12, &pfn);
    if (rc)
        return rc;
    c->ctrlreg[3] = pfn << 12;
    if (!c->ctrlreg[1])
        return 0;
    rc = to_pfn(p, vcpu, "ctrlreg[1]", c->ctrlreg[1] >> 12, &pfn);
    if (!rc)
        c->ctrlreg[1] = pfn << 12 | 1;
    return rc;
}

/* A restorer writes into start_info, which Xen would not let it do in a page table. */
static int start_info(const xcsr_p2m *p, vcpu_guest_context_t *c)
{
    uint64_t mfn = c->user_regs.rdx, pfn;
    xen_pfn_t type = mfn;
    int rc = to_pfn(p, 0, START_INFO, mfn, &pfn);
    if (!rc)
        rc = page_types(p->h, p->domid, 1, &type);
    if (rc)
        return rc;
    if (table_level((uint32_t)type))
        return vcpu_wrong(p->h, 0, START_INFO, mfn, "a page table, which nobody could restore");
    c->user_regs.rdx = pfn;
    return 0;
}

int vcpu_to_pfns(const xcsr_p2m *p, uint32_t vcpu, void *context)
{
    vcpu_guest_context_t c;
    memcpy(&c, context, sizeof c);
    int rc = vcpu ? 0 : start_info(p, &c);
    if (!rc)
        rc = gdt(p, vcpu, &c);
    if (!rc)
        rc = page_tables(p, vcpu, &c);
    memcpy(context, &c, sizeof c);
    return rc;
}
