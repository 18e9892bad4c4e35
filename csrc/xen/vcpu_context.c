/* A 64-bit PV vcpu's context: start_info (vcpu 0), GDT frames, cr3 and, if used, cr1 name frames. */
#include "xen/vcpu_context.h"
#include "xen/page_types.h"

#define RESERVED_GDT_ENTS 7168ull /* FIRST_RESERVED_GDT_ENTRY: from here on they are Xen's own */
#define GDT_PER_FRAME 512
#define START_INFO "rdx (start_info)"
#define TOP_LEVEL 4u
#define USED 1ull /* in the stream: cr1's place holds a table's pfn */

/* -- both ways */

static int rename_gdt(const struct context_frames *f, uint32_t vcpu, vcpu_guest_context_x86_64_t *c)
{
    static const char *const names[] = {"gdt_frames[0]", "gdt_frames[1]", "gdt_frames[2]", "gdt_frames[3]", "gdt_frames[4]",
                                        "gdt_frames[5]", "gdt_frames[6]", "gdt_frames[7]", "gdt_frames[8]", "gdt_frames[9]",
                                        "gdt_frames[10]", "gdt_frames[11]", "gdt_frames[12]", "gdt_frames[13]"};
    _Static_assert(sizeof names / sizeof *names * GDT_PER_FRAME == RESERVED_GDT_ENTS, "one name a frame");
    if (c->gdt_ents > RESERVED_GDT_ENTS)
        return f->too_many(f->by, vcpu, c->gdt_ents);
    int rc = 0;
    for (uint64_t i = 0; !rc && i * GDT_PER_FRAME < c->gdt_ents; i++) {
        uint64_t to = 0;
        rc = f->rename(f->by, vcpu, names[i], c->gdt_frames[i], 0, &to);
        c->gdt_frames[i] = to;
    }
    return rc;
}

/* cr3 holds the kernel's table; cr1's place holds the user's, or nothing. In the stream bit 0 says which. */
static int rename_tables(const struct context_frames *f, uint32_t vcpu, vcpu_guest_context_x86_64_t *c)
{
    uint64_t to = 0;
    int rc = f->rename(f->by, vcpu, "ctrlreg[3]", c->ctrlreg[3] >> 12, TOP_LEVEL, &to);
    if (rc)
        return rc;
    c->ctrlreg[3] = to << 12;
    if (f->to_pfns ? !c->ctrlreg[1] : !(c->ctrlreg[1] & USED))
        return 0;
    rc = f->rename(f->by, vcpu, "ctrlreg[1]", c->ctrlreg[1] >> 12, TOP_LEVEL, &to);
    c->ctrlreg[1] = to << 12 | (f->to_pfns ? USED : 0);
    return rc;
}

int vcpu_rename_frames(const struct context_frames *f, uint32_t vcpu, void *context)
{
    vcpu_guest_context_x86_64_t c;
    memcpy(&c, context, sizeof c);
    uint64_t to = c.user_regs.rdx;
    int rc = vcpu ? 0 : f->rename(f->by, vcpu, START_INFO, to, 0, &to);
    c.user_regs.rdx = to;
    if (!rc)
        rc = rename_gdt(f, vcpu, &c);
    if (!rc)
        rc = rename_tables(f, vcpu, &c);
    memcpy(context, &c, sizeof c);
    return rc;
}

/* -- to pfns */

int vcpu_wrong(xcsr *h, uint32_t vcpu, const char *field, uint64_t value, const char *what)
{
    h->error.mfn = value;
    h->error.index = vcpu;
    return xcsr_fail(&h->error, XCSR_E_STATE, ERANGE, field, "vcpu%u.%s is %#llx, %s", vcpu, field,
                     (unsigned long long)value, what);
}

/* A restorer writes into start_info, which Xen would not let it do in a page table. */
static int check_start_info(const xcsr_p2m *p, uint64_t mfn)
{
    xen_pfn_t type = mfn;
    int rc = page_types(p->h, p->domid, 1, &type);
    if (!rc && table_level((uint32_t)type))
        rc = vcpu_wrong(p->h, 0, START_INFO, mfn, "a page table, which nobody could restore");
    return rc;
}

static int to_pfn(void *by, uint32_t vcpu, const char *field, uint64_t mfn, uint32_t level, uint64_t *pfn)
{
    const xcsr_p2m *p = by;
    (void)level; /* Xen itself checks a running guest's tables */
    *pfn = xcsr_lookup_pfn(p, mfn);
    if (*pfn == XCSR_INVALID)
        return vcpu_wrong(p->h, vcpu, field, mfn, "a frame that is not the guest's");
    return strcmp(field, START_INFO) ? 0 : check_start_info(p, mfn);
}

static int too_many_to_send(void *by, uint32_t vcpu, uint64_t gdt_ents)
{
    return vcpu_wrong(((const xcsr_p2m *)by)->h, vcpu, "gdt_ents", gdt_ents, "more than the guest can have");
}

int vcpu_to_pfns(const xcsr_p2m *p, uint32_t vcpu, void *context)
{
    struct context_frames f = {.by = (void *)(uintptr_t)p, .to_pfns = true, .rename = to_pfn, .too_many = too_many_to_send};
    return vcpu_rename_frames(&f, vcpu, context);
}
