/* Contexts of 32-bit guests: from the layout in which Xen keeps them into the guest's own, and back. */
#include "stub/machine/vcpu.h"

#define REGISTERS(X) X(bx) X(cx) X(dx) X(si) X(di) X(bp) X(ax) X(ip) X(sp)
#define SELECTORS(X) X(cs) X(ss) X(es) X(ds) X(fs) X(gs)
#define WORDS(X) X(flags) X(ldt_base) X(ldt_ents) X(gdt_ents) X(kernel_ss) X(kernel_sp) \
    X(event_callback_eip) X(failsafe_callback_eip) X(vm_assist)

#define NARROW_WORD(name) to->name = (uint32_t)from->name;
#define WIDEN_WORD(name) to->name = from->name;
#define COPY_SELECTOR(name) to->user_regs.name = from->user_regs.name;
#define NARROW_REGISTER(name) to->user_regs.e##name = (uint32_t)from->user_regs.r##name;
#define WIDEN_REGISTER(name) to->user_regs.r##name = from->user_regs.e##name;

static void narrow_arrays(const vcpu_guest_context_t *from, vcpu_guest_context_x86_32_t *to)
{
    memcpy(to->fpu_ctxt.x, from->fpu_ctxt.x, sizeof(to->fpu_ctxt.x));
    for (unsigned i = 0; i < 256; i++)
        to->trap_ctxt[i] = (trap_info_x86_32_t){ from->trap_ctxt[i].vector, from->trap_ctxt[i].flags,
                                                 from->trap_ctxt[i].cs, (uint32_t)from->trap_ctxt[i].address };
    for (unsigned i = 0; i < 16; i++)
        to->gdt_frames[i] = (uint32_t)from->gdt_frames[i];
    for (unsigned i = 0; i < 8; i++) {
        to->ctrlreg[i] = (uint32_t)from->ctrlreg[i];
        to->debugreg[i] = (uint32_t)from->debugreg[i];
    }
}

void st_context_narrow(const vcpu_guest_context_t *from, vcpu_guest_context_x86_32_t *to)
{
    WORDS(NARROW_WORD)
    REGISTERS(NARROW_REGISTER)
    SELECTORS(COPY_SELECTOR)
    to->user_regs.eflags = (uint32_t)from->user_regs.rflags;
    narrow_arrays(from, to);
    to->ctrlreg[3] = xen_pfn_to_cr3_x86_32(xen_cr3_to_pfn(from->ctrlreg[3]));
    to->event_callback_cs = (uint32_t)from->syscall_callback_eip;
    to->failsafe_callback_cs = (uint32_t)(from->syscall_callback_eip >> 32);
}

static void widen_arrays(const vcpu_guest_context_x86_32_t *from, vcpu_guest_context_t *to)
{
    memcpy(to->fpu_ctxt.x, from->fpu_ctxt.x, sizeof(to->fpu_ctxt.x));
    for (unsigned i = 0; i < 256; i++)
        to->trap_ctxt[i] = (struct trap_info){ from->trap_ctxt[i].vector, from->trap_ctxt[i].flags,
                                               from->trap_ctxt[i].cs, from->trap_ctxt[i].address };
    for (unsigned i = 0; i < 16; i++)
        to->gdt_frames[i] = from->gdt_frames[i];
    for (unsigned i = 0; i < 8; i++) {
        to->ctrlreg[i] = from->ctrlreg[i];
        to->debugreg[i] = from->debugreg[i];
    }
}

void st_context_widen(const vcpu_guest_context_x86_32_t *from, vcpu_guest_context_t *to)
{
    memset(to, 0, sizeof(*to));
    WORDS(WIDEN_WORD)
    REGISTERS(WIDEN_REGISTER)
    SELECTORS(COPY_SELECTOR)
    to->user_regs.rflags = from->user_regs.eflags;
    widen_arrays(from, to);
    to->ctrlreg[3] = xen_pfn_to_cr3((uint64_t)xen_cr3_to_pfn_x86_32(from->ctrlreg[3]));
    to->syscall_callback_eip = from->event_callback_cs | (uint64_t)from->failsafe_callback_cs << 32;
}
