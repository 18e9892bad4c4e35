/* A PV vcpu's context: start_info (vcpu 0), GDT frames, cr3 and, where there is one, cr1 name frames. */
#include "xen/vcpu_context.h"
#include "xen/page_types.h"

#define GDT_PER_FRAME 512u
#define RESERVED_GDT_ENTS (PT_GDT_FRAMES * GDT_PER_FRAME) /* FIRST_RESERVED_GDT_ENTRY: from here on they are Xen's own */
#define START_INFO "rdx (start_info)"
#define USED 1ull /* in the stream: cr1's place holds a table's pfn */

/* -- both ways */

static int rename_word(const struct context_frames *f, uint32_t vcpu, const char *field, char *at)
{
    uint64_t to = 0;
    int rc = f->rename(f->by, vcpu, field, pt_get(f->geometry, at), 0, &to);
    pt_put(f->geometry, at, to);
    return rc;
}

static int rename_gdt(const struct context_frames *f, uint32_t vcpu, char *context)
{
    static const char *const names[] = {"gdt_frames[0]", "gdt_frames[1]", "gdt_frames[2]", "gdt_frames[3]", "gdt_frames[4]",
                                        "gdt_frames[5]", "gdt_frames[6]", "gdt_frames[7]", "gdt_frames[8]", "gdt_frames[9]",
                                        "gdt_frames[10]", "gdt_frames[11]", "gdt_frames[12]", "gdt_frames[13]"};
    _Static_assert(sizeof names / sizeof *names == PT_GDT_FRAMES, "one name a frame");
    uint64_t gdt_ents = pt_get(f->geometry, context + f->geometry->vcpu.gdt_ents);
    if (gdt_ents > RESERVED_GDT_ENTS)
        return f->too_many(f->by, vcpu, gdt_ents);
    int rc = 0;
    for (uint64_t i = 0; !rc && i * GDT_PER_FRAME < gdt_ents; i++)
        rc = rename_word(f, vcpu, names[i], context + f->geometry->vcpu.gdt_frames + i * f->geometry->width);
    return rc;
}

/* cr3 holds the kernel's table; of a guest that has two, cr1's place holds the user's, or nothing. In the stream bit 0
 * says which. */
static int rename_tables(const struct context_frames *f, uint32_t vcpu, char *context)
{
    const struct pt_geometry *g = f->geometry;
    char *cr3 = context + g->vcpu.cr3, *cr1 = context + g->vcpu.cr1;
    uint64_t to = 0;
    int rc = f->rename(f->by, vcpu, "ctrlreg[3]", pt_frame_of_cr3(g, pt_get(g, cr3)), g->levels, &to);
    if (rc)
        return rc;
    pt_put(g, cr3, pt_cr3_of_frame(g, to));
    uint64_t user = g->vcpu.cr1 ? pt_get(g, cr1) : 0;
    if (f->to_pfns ? !user : !(user & USED))
        return 0;
    rc = f->rename(f->by, vcpu, "ctrlreg[1]", user >> 12, g->levels, &to);
    pt_put(g, cr1, to << 12 | (f->to_pfns ? USED : 0));
    return rc;
}

int vcpu_rename_frames(const struct context_frames *f, uint32_t vcpu, void *context)
{
    int rc = vcpu ? 0 : rename_word(f, vcpu, START_INFO, (char *)context + f->geometry->vcpu.start_info);
    if (!rc)
        rc = rename_gdt(f, vcpu, context);
    return rc ? rc : rename_tables(f, vcpu, context);
}

/* -- to pfns */

int vcpu_wrong(xcsr *h, uint32_t vcpu, const char *field, uint64_t value, const char *what)
{
    h->error.mfn = value;
    h->error.index = vcpu;
    return xcsr_fail(&h->error, XCSR_E_STATE, ERANGE, field, "vcpu%u.%s is %#llx, %s", vcpu, field,
                     (unsigned long long)value, what);
}

/* A restorer writes into start_info, which Xen would not let it do in a page table. A page that is broken it does not get;
 * that is asked of the other frames only if a page of this guest's is known to be so, because the guest stands meanwhile. */
static int check_frame(const xcsr_p2m *p, uint32_t vcpu, const char *field, uint64_t mfn)
{
    bool start_info = !strcmp(field, START_INFO);
    if (!start_info && !p->has_broken)
        return 0;
    xen_pfn_t type = mfn;
    int rc = page_types(p->h, p->domid, 1, &type);
    if (!rc && start_info && table_level((uint32_t)type))
        rc = vcpu_wrong(p->h, vcpu, START_INFO, mfn, "a page table, which nobody could restore");
    else if (!rc && type == TYPE_BROKEN)
        rc = vcpu_wrong(p->h, vcpu, field, mfn, "a page that the hardware has lost");
    return rc;
}

static int to_pfn(void *by, uint32_t vcpu, const char *field, uint64_t mfn, uint32_t level, uint64_t *pfn)
{
    const xcsr_p2m *p = by;
    (void)level; /* Xen itself checks a running guest's tables */
    *pfn = xcsr_lookup_pfn(p, mfn);
    if (*pfn == XCSR_INVALID)
        return vcpu_wrong(p->h, vcpu, field, mfn, "a frame that is not the guest's");
    return check_frame(p, vcpu, field, mfn);
}

static int too_many_to_send(void *by, uint32_t vcpu, uint64_t gdt_ents)
{
    return vcpu_wrong(((const xcsr_p2m *)by)->h, vcpu, "gdt_ents", gdt_ents, "more than the guest can have");
}

int vcpu_to_pfns(const xcsr_p2m *p, uint32_t vcpu, void *context)
{
    struct context_frames f = {.geometry = p->geometry,
                               .by = (void *)(uintptr_t)p,
                               .to_pfns = true,
                               .rename = to_pfn,
                               .too_many = too_many_to_send};
    return vcpu_rename_frames(&f, vcpu, context);
}
