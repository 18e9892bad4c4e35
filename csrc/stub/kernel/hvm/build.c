/* Building an HVM or PVH guest: memory, special pages, params, vcpus, its nodes in the store. */
#include "stub/kernel/hvm/guest.h"
#include "stub/kernel/kernel.h"
#include "stub/kernel/pages.h"
#include "stub/machine/domain.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/memory.h"
#include "stub/machine/rng.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/store.h"
#include "stub/machine/vcpu.h"

#include <stdio.h>

#define SUPERPAGE_PTE  0xe7UL           /* present, writable, the user's, accessed, dirty, large */
#define RING_MARK      0x52494e47UL
#define VM86_TSS_GFN   0x9fUL
#define VM86_TSS_BYTES 384UL
#define GENERATION_ID  0xfc100010UL

/* The identity map is what Xen needs it to be; rings hold what must not be there after a restore. */
void st_special_page(enum st_special which, uint64_t *page)
{
    uint32_t *entries = (uint32_t *)page;
    bool ring = which == ST_SP_STORE || which == ST_SP_CONSOLE || which == ST_SP_IOREQ || which == ST_SP_BUFIOREQ;

    for (uint32_t i = 0; i < ST_ENTRIES; i++)
        page[i] = ring ? st_hash(RING_MARK + which, i) : 0;
    for (uint32_t i = 0; which == ST_SP_IDENT_PT && i < 2 * ST_ENTRIES; i++)
        entries[i] = i << 22 | (uint32_t)SUPERPAGE_PTE;
}

static int add_ram(struct st_domain *d)
{
    const stub_hvm_config *h = &d->kernel->hvm;
    uint64_t count = st_layout_nr_ram(&d->kernel->config, h);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t gfn = st_layout_ram(h, i);
        int rc = st_domain_reserve(d, gfn + 1);

        if (!rc && i >= count - h->pod)
            rc = st_pod_mark(d, gfn);
        else if (!rc && !st_is_hole(d, gfn))
            rc = st_add_memory(d, gfn);
        if (rc)
            return rc;
    }
    return st_pod_set_cache(d, h->pod_cache);
}

static int add_run(struct st_domain *d, uint64_t first, uint64_t count, enum st_kind kind)
{
    int rc = count ? st_domain_reserve(d, first + count) : 0;

    for (uint64_t gfn = first; !rc && gfn < first + count; gfn++) {
        rc = st_add_memory(d, gfn);
        if (rc)
            return rc;
        st.frames[d->truth[gfn]].kind = (uint8_t)kind;
        memset(st_guest_page(d, gfn), 0, ST_PAGE_SIZE);
    }
    return rc;
}

static int add_specials(struct st_domain *d)
{
    int rc = add_run(d, st_special_gfn(d, 0), ST_NR_SPECIALS, ST_SPECIAL);

    if (!rc && d->hv->device_model)
        rc = add_run(d, st_layout_ioreq(&d->kernel->config, &d->kernel->hvm), ST_NR_IOREQ, ST_SPECIAL);
    if (rc)
        return rc;
    for (unsigned which = 0; which < ST_NR_SPECIALS; which++)
        st_special_page(which, st_guest_page(d, st_special_gfn(d, which)));
    d->kernel->store_pfn = st_special_gfn(d, ST_SP_STORE);
    d->kernel->console_pfn = st_special_gfn(d, ST_SP_CONSOLE);
    return 0;
}

struct param { uint32_t index; uint64_t value; };

static int set_params(struct st_domain *d, const struct param *params, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int rc = st_hvm_param_set(d, params[i].index, params[i].value);

        if (rc)
            return st_error(-rc, "param %u cannot be %#lx", params[i].index, (unsigned long)params[i].value);
    }
    return 0;
}

static int set_common_params(struct st_domain *d)
{
    const struct param params[] = {
        { HVM_PARAM_STORE_PFN, st_special_gfn(d, ST_SP_STORE) }, { HVM_PARAM_STORE_EVTCHN, 1 },
        { HVM_PARAM_CONSOLE_PFN, st_special_gfn(d, ST_SP_CONSOLE) }, { HVM_PARAM_CONSOLE_EVTCHN, 2 },
        { HVM_PARAM_IOREQ_PFN, st_special_gfn(d, ST_SP_IOREQ) },
        { HVM_PARAM_BUFIOREQ_PFN, st_special_gfn(d, ST_SP_BUFIOREQ) },
        { HVM_PARAM_PAGING_RING_PFN, st_special_gfn(d, ST_SP_PAGING) },
        { HVM_PARAM_MONITOR_RING_PFN, st_special_gfn(d, ST_SP_MONITOR) },
        { HVM_PARAM_SHARING_RING_PFN, st_special_gfn(d, ST_SP_SHARING) },
        { HVM_PARAM_IDENT_PT, st_special_gfn(d, ST_SP_IDENT_PT) << ST_PAGE_SHIFT },
        { HVM_PARAM_TIMER_MODE, HVMPTM_one_missed_tick_pending },
    };
    int rc = set_params(d, params, sizeof(params) / sizeof(params[0]));

    if (!rc && d->kernel->hvm.viridian)
        rc = st_hvm_param_set(d, HVM_PARAM_VIRIDIAN, HVMPV_base_freq | HVMPV_time_ref_count | HVMPV_apic_assist);
    return rc;
}

static int set_emulated_params(struct st_domain *d)
{
    const struct param params[] = {
        { HVM_PARAM_HPET_ENABLED, 1 }, { HVM_PARAM_ACPI_IOPORTS_LOCATION, 1 },
        { HVM_PARAM_IOREQ_SERVER_PFN, st_layout_ioreq(&d->kernel->config, &d->kernel->hvm) },
        { HVM_PARAM_NR_IOREQ_SERVER_PAGES, ST_NR_IOREQ },
        { HVM_PARAM_VM86_TSS_SIZED, VM86_TSS_GFN << ST_PAGE_SHIFT | VM86_TSS_BYTES << 32 },
        { HVM_PARAM_VM_GENERATION_ID_ADDR, GENERATION_ID },
    };

    return set_params(d, params, sizeof(params) / sizeof(params[0]));
}

static int store_devices(const struct st_domain *d)
{
    char path[96], text[32];
    int rc;

    snprintf(path, sizeof(path), "/local/domain/0/device-model/%u/state", d->id);
    rc = st_store_set(path, "running");
    snprintf(path, sizeof(path), "/local/domain/%u/memory/videoram", d->id);
    snprintf(text, sizeof(text), "%lu", (unsigned long)d->kernel->hvm.vram * 4);
    return rc ? rc : st_store_set(path, text);
}

static void fill(struct st_domain *d)
{
    for (uint64_t i = 0; i < d->nr_mem && !d->kernel->config.unfilled; i++)
        if (st.frames[d->truth[d->mem[i]]].kind == ST_DATA)
            st_fill_data(d, d->mem[i]);
}

int st_hvm_guest_build(struct st_domain *d)
{
    struct st_kernel *k = d->kernel;
    int rc;

    d->max_pages = k->config.max_pages;
    k->dm_rng.state = st_hash(k->config.seed, 0x646576);
    rc = st_make_shared_info(d);  /* before its memory, as Xen does */
    rc = rc ? rc : add_ram(d);
    rc = rc ? rc : add_run(d, st_layout_vram(&k->config, &k->hvm), k->hvm.vram, ST_DATA);
    rc = rc ? rc : add_specials(d);
    rc = rc ? rc : st_take_data(d, ST_SPECIAL, &k->page_pfn);
    rc = rc ? rc : st_vcpus_alloc(d);
    rc = rc ? rc : set_common_params(d);
    if (!rc && d->hv->device_model)
        rc = set_emulated_params(d);
    rc = rc ? rc : st_hvm_state_build(d);
    if (!rc && d->hv->device_model)
        rc = store_devices(d);
    if (rc)
        return rc;
    st_sort_memory(d);
    fill(d);
    d->hv->s3 = k->hvm.asleep;
    st_domain_make_handle(d);
    d->built = true;
    st_hvm_guest_kind.after_resume(d);
    return 0;
}
