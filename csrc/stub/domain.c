/* Domains: their list, their life, and what libxenctrl tells about them. */
#include "stub/internal.h"

#include <stdio.h>
#include <sys/mman.h>

#define MAX_SPAN        (1UL << 32)     /* pfns: 16 TiB */
#define MIN_PAGES       256UL
#define MAX_PAUSE_COUNT 255
#define FIRST_PFNS      4096UL          /* room for so many at first, where their number is not known */
#define TSC_NSEC        1000000000UL    /* elapsed when a guest is built */
#define TSC_NSEC_A_TICK 1000000UL
#define TSC_KHZ         2400000U
#define TSC_NEVER_EMULATE 2U            /* of Xen's modes 0 to 2 */

struct st_domain *st_domain_find(uint32_t domid)
{
    struct st_domain *d = st.domains;

    while (d && d->id != domid)
        d = d->next;
    return d;
}

struct st_domain *st_domain_get(uint32_t domid, int *error)
{
    struct st_domain *d = st_domain_find(domid);

    if (!d)
        *error = domid == 0 ? -EINVAL : -ESRCH;
    return d;
}

bool st_domain_running(const struct st_domain *d)
{
    return d->built && !d->dying && !d->shutdown && !d->pause_count;
}

static bool in_xen_hole(uint64_t first, uint64_t last)
{
    return first < HYPERVISOR_VIRT_END && last >= HYPERVISOR_VIRT_START;
}

static int check_p2m_range(const stub_guest_config *c)
{
    uint64_t nr_bytes = ((c->span + c->spare + ST_ENTRIES - 1) / ST_ENTRIES) << ST_PAGE_SHIFT;
    uint64_t last = c->p2m_vaddr + nr_bytes - 1;

    if (c->p2m_vaddr & (ST_PAGE_SIZE - 1) || c->p2m_vaddr < HYPERVISOR_VIRT_START || last < c->p2m_vaddr
        || in_xen_hole(c->p2m_vaddr, last))
        return st_error(EINVAL, "a p2m of %lu bytes cannot be at %#lx", (unsigned long)nr_bytes,
                        (unsigned long)c->p2m_vaddr);
    return 0;
}

static int check_counts(const stub_guest_config *c)
{
    if (c->vcpus < 1 || c->vcpus > ST_MAX_VCPUS)
        return st_error(EINVAL, "a guest has 1 to %d vcpus, not %u", ST_MAX_VCPUS, c->vcpus);
    if (c->offline_vcpus & 1 || (c->vcpus < 64 && c->offline_vcpus >> c->vcpus))
        return st_error(EINVAL, "vcpu 0 is online, and only existing vcpus can be offline");
    if (c->msrs > ST_MAX_MSRS || c->xsave > ST_MAX_XSAVE)
        return st_error(EINVAL, "at most %d MSRs and %d bytes of XSAVE state", ST_MAX_MSRS, ST_MAX_XSAVE);
    if (c->xsave && (c->xsave < 592 || c->xsave % 8))
        return st_error(EINVAL, "XSAVE state is a multiple of 8 bytes, at least 592");
    if (memchr(c->name, 0, sizeof(c->name)) == NULL)
        return st_error(EINVAL, "the guest's name is too long");
    return 0;
}

int st_domain_check_config(const stub_guest_config *c)
{
    int rc;

    if (c->pages < MIN_PAGES || c->pages > c->span || c->span > MAX_SPAN || c->spare > MAX_SPAN)
        return st_error(EINVAL, "pages: at least %lu, at most the span of pfns", MIN_PAGES);
    if (c->max_pages < c->pages)
        return st_error(EINVAL, "max_pages: at least the guest's %lu pages", (unsigned long)c->pages);
    if (!(c->holes >= 0 && c->holes < 1))
        return st_error(EINVAL, "holes: a share from 0 to below 1");
    if (c->p2m_kind > STUB_P2M_TREE || c->suspend > STUB_SUSPEND_ACK_ONLY)
        return st_error(EINVAL, "unknown p2m or suspend kind");
    if (c->p2m_kind != STUB_P2M_LINEAR && c->span + c->spare > 1UL << 27)
        return st_error(EINVAL, "the three-level tree ends at 512 GiB");
    rc = check_counts(c);
    return rc ? rc : check_p2m_range(c);
}

static void *sparse(uint64_t nr_bytes)
{
    void *at = mmap(NULL, nr_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static uint64_t bitmap_bytes(uint64_t pfns)
{
    return (pfns + 63) / 64 * 8;
}

static void domain_free(struct st_domain *d)
{
    if (d->truth)
        munmap(d->truth, d->cap_pfns * sizeof(*d->truth));
    if (d->mem)
        munmap(d->mem, d->cap_pfns * sizeof(*d->mem));
    if (d->bitmap)
        munmap(d->bitmap, bitmap_bytes(d->cap_pfns));
    free(d->leaf);
    st_vcpus_free(d);
    st_policy_free(d);
    free(d);
}

/* An array by pfn with room for more. */
static int widen(uint64_t **array, uint64_t old_bytes, uint64_t nr_bytes)
{
    void *at = *array ? mremap(*array, old_bytes, nr_bytes, MREMAP_MAYMOVE) : sparse(nr_bytes);

    if (!at || at == MAP_FAILED)
        return -ENOMEM;
    *array = at;
    return 0;
}

static int grow(struct st_domain *d, uint64_t cap)
{
    const uint64_t word = sizeof(uint64_t), old = d->cap_pfns;

    if (widen(&d->truth, old * word, cap * word))
        return -ENOMEM;
    if (widen(&d->mem, old * word, cap * word)) {
        d->truth = mremap(d->truth, cap * word, old * word, 0);
        return -ENOMEM;
    }
    if (widen(&d->bitmap, bitmap_bytes(old), bitmap_bytes(cap))) {
        d->truth = mremap(d->truth, cap * word, old * word, 0);
        d->mem = mremap(d->mem, cap * word, old * word, 0);
        return -ENOMEM;
    }
    d->cap_pfns = cap;
    return 0;
}

int st_domain_reserve(struct st_domain *d, uint64_t nr_pfns)
{
    uint64_t cap = d->cap_pfns;

    if (nr_pfns > MAX_SPAN)
        return st_error(EINVAL, "a domain has at most %lu pfns", MAX_SPAN);
    while (cap < nr_pfns)
        cap *= 2;
    if (cap > d->cap_pfns && grow(d, cap))
        return st_error(ENOMEM, "no memory for a domain of %lu pfns", (unsigned long)nr_pfns);
    if (nr_pfns > d->nr_pfns)
        d->nr_pfns = nr_pfns;
    return 0;
}

/* A domain without a kernel, with room for so many pfns. */
static struct st_domain *domain_alloc(uint64_t pfns)
{
    struct st_domain *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->id = st.next_domid++;
    d->cap_pfns = pfns;
    d->missing_leaf = d->missing_l1 = d->fll = d->fll_pfns = d->fixmap_l1_pfn = ST_NONE;
    d->start_info_pfn = d->store_pfn = d->console_pfn = d->kernel_pfn = ST_NONE;
    d->kernel_l4 = d->user_l4 = d->p2m_l4 = d->user_l2 = ST_NONE;
    d->width = sizeof(uint64_t);
    d->tsc = (struct st_tsc){ .khz = TSC_KHZ + d->id, .incarnation = 1, .nsec = TSC_NSEC };
    d->truth = sparse(pfns * sizeof(*d->truth));
    d->mem = sparse(pfns * sizeof(*d->mem));
    d->bitmap = sparse(bitmap_bytes(pfns));
    if (d->truth && d->mem && d->bitmap)
        return d;
    domain_free(d);
    return NULL;
}

static struct st_domain *guest_alloc(const stub_guest_config *config)
{
    struct st_domain *d = domain_alloc(config->span + config->spare);

    if (!d)
        return NULL;
    d->config = *config;
    d->nr_pfns = d->cap_pfns;
    d->nr_leaves = (d->nr_pfns + ST_ENTRIES - 1) / ST_ENTRIES;
    d->p2m_vaddr = config->p2m_vaddr;
    d->creation_finished = true;
    d->rng.state = st_hash(config->seed, d->id);
    d->hot_first = st_random(&d->rng) % config->pages;
    d->leaf = calloc(d->nr_leaves, sizeof(*d->leaf));
    if (d->leaf)
        return d;
    domain_free(d);
    return NULL;
}

static void store_path(const struct st_domain *d, const char *node, char *path, size_t size)
{
    snprintf(path, size, "/local/domain/%u%s%s", d->id, *node ? "/" : "", node);
}

static int store_node(const struct st_domain *d, const char *node, const char *value)
{
    char path[96];

    store_path(d, node, path, sizeof(path));
    return st_store_set(path, value);
}

static int store_nodes(struct st_domain *d)
{
    char text[64];
    int rc;

    if (!d->config.name[0])
        snprintf(d->config.name, sizeof(d->config.name), "stub-%u", d->id);
    rc = store_node(d, "name", d->config.name);
    snprintf(text, sizeof(text), "%u", d->id);
    rc = rc ? rc : store_node(d, "domid", text);
    snprintf(text, sizeof(text), "%lu", (unsigned long)(d->config.pages * 4));
    rc = rc ? rc : store_node(d, "memory/target", text);
    rc = rc ? rc : store_node(d, "control/feature-suspend", "1");
    return rc ? rc : store_node(d, "control/shutdown", "");
}

static void enlist(struct st_domain *d)
{
    struct st_domain **link = &st.domains;

    while (*link)
        link = &(*link)->next;
    *link = d;
}

static void delist(struct st_domain *d)
{
    struct st_domain **link = &st.domains;

    while (*link && *link != d)
        link = &(*link)->next;
    if (*link)
        *link = d->next;
}

static void give_frames_back(struct st_domain *d)
{
    while (d->nr_mem)
        st_remove_memory(d, d->mem[d->nr_mem - 1]);
    if (d->shared_info_mfn)
        st_frame_free(d->shared_info_mfn);
}

static void domain_remove(struct st_domain *d)
{
    char path[96];

    store_path(d, "", path, sizeof(path));
    st_store_remove(path);
    delist(d);
    give_frames_back(d);
    domain_free(d);
    st_machine_idle();
}

int st_domain_new(const stub_guest_config *config, struct st_domain **result)
{
    struct st_domain *d;
    int rc = st_domain_check_config(config);

    if (rc)
        return rc;
    d = guest_alloc(config);
    if (!d)
        return st_error(ENOMEM, "no memory for a domain of %lu pfns",
                        (unsigned long)(config->span + config->spare));
    enlist(d);
    rc = st_guest_build(d);
    rc = rc ? rc : store_nodes(d);
    rc = rc ? rc : st_writer_start(d);
    if (rc)
        domain_remove(d);
    *result = rc ? NULL : d;
    return rc;
}

static int make_empty(struct st_domain *d, uint64_t max_pages)
{
    int rc;

    d->max_pages = max_pages;
    d->pause_count = 1;
    st_make_handle(d);
    rc = st_vcpus_alloc(d);
    rc = rc ? rc : st_make_shared_info(d);
    return rc ? rc : store_nodes(d);
}

/* As Xen and a toolstack have made it when the restoring begins. */
int st_domain_empty(uint64_t max_pages, uint32_t vcpus, const char *name, struct st_domain **result)
{
    struct st_domain *d;
    int rc;

    if (vcpus < 1 || vcpus > ST_MAX_VCPUS)
        return st_error(EINVAL, "a domain has 1 to %d vcpus, not %u", ST_MAX_VCPUS, vcpus);
    if (max_pages > MAX_SPAN)
        return st_error(EINVAL, "max_pages: at most %lu", MAX_SPAN);
    if (strlen(name) >= sizeof(((stub_guest_config *)0)->name))
        return st_error(EINVAL, "the domain's name is too long");
    d = domain_alloc(FIRST_PFNS);
    if (!d)
        return st_error(ENOMEM, "no memory for a domain");
    d->config.vcpus = vcpus;
    d->config.pages = d->config.max_pages = max_pages;
    strcpy(d->config.name, name);
    enlist(d);
    rc = make_empty(d, max_pages);
    if (rc)
        domain_remove(d);
    *result = rc ? NULL : d;
    return rc;
}

/* As on Xen a domain of which frames are still mapped goes on existing, dying, until they are not. */
void st_domain_kill(struct st_domain *d)
{
    d->dying = true;
    st_writer_stop(d);
    st_domain_reap();
}

void st_domain_reap(void)
{
    struct st_domain *next;

    for (struct st_domain *d = st.domains; d; d = next) {
        next = d->next;
        if (d->dying && !d->has_writer && !st_mappings_of(d->id))
            domain_remove(d);
    }
}

void st_domain_free_all(void)
{
    while (st.domains) {
        st.domains->dying = true;
        st_writer_stop(st.domains);
        domain_remove(st.domains);
    }
}

int st_domain_shut_down(struct st_domain *d, int reason)
{
    if (reason < 0 || reason > SHUTDOWN_MAX)
        return -EINVAL;
    if (d->shutdown)
        return 0;
    d->shutdown = true;
    d->shutdown_reason = reason;
    return 0;
}

int st_domain_resume(struct st_domain *d, int fast)
{
    if (!d->shutdown || d->shutdown_reason != SHUTDOWN_suspend)
        return -EINVAL;
    d->vcpu[0].context.user_regs.rax = fast ? 1 : 0;
    d->shutdown = false;
    if (d->built)
        st_guest_after_resume(d);
    return 0;
}

/* ---- libxenctrl ---- */

static uint32_t online_vcpus(const struct st_domain *d)
{
    uint32_t online = 0;

    for (uint32_t v = 0; v < d->config.vcpus; v++)
        online += d->vcpu[v].online;
    return online;
}

static uint32_t info_flags(const struct st_domain *d)
{
    uint32_t flags = d->hvm ? XEN_DOMINF_hvm_guest | XEN_DOMINF_hap : 0;

    if (d->dying)
        flags |= XEN_DOMINF_dying;
    if (d->pause_count)
        flags |= XEN_DOMINF_paused;
    if (d->shutdown)
        flags |= XEN_DOMINF_shutdown | (uint32_t)d->shutdown_reason << XEN_DOMINF_shutdownshift;
    if (st_domain_running(d))
        flags |= XEN_DOMINF_running;
    return flags;
}

static void fill_info(const struct st_domain *d, xc_domaininfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = (domid_t)d->id;
    info->flags = info_flags(d);
    info->tot_pages = d->nr_mem + (uint64_t)d->tot_pages_bias;
    info->max_pages = d->max_pages;
    info->shared_info_frame = d->shared_info_mfn;
    info->cpu_time = d->ticks * 1000000;
    info->nr_online_vcpus = online_vcpus(d);
    info->max_vcpu_id = d->config.vcpus - 1;
    memcpy(info->handle, d->handle, sizeof(info->handle));
    info->gpaddr_bits = 64;
}

static void fill_dom0(xc_domaininfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->flags = XEN_DOMINF_running;
    info->tot_pages = info->max_pages = sizeof(st.foreign) / sizeof(st.foreign[0]);
    info->shared_info_frame = 1;
    info->nr_online_vcpus = 1;
    info->gpaddr_bits = 64;
}

static int list_domains(uint32_t first, unsigned max, xc_domaininfo_t *info)
{
    unsigned count = 0;

    if (first == 0 && max)
        fill_dom0(&info[count++]);
    for (const struct st_domain *d = st.domains; d && count < max; d = d->next)
        if (d->id >= first)
            fill_info(d, &info[count++]);
    return (int)count;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains,
                          xc_domaininfo_t *info)
{
    int rc = st_begin_xc(ST_FN_xc_domain_getinfolist, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_getinfolist, xch, rc);
    return (int)st_end(ST_FN_xc_domain_getinfolist, xch, list_domains(first_domain, max_domains, info));
}

int xc_domain_get_guest_width(xc_interface *xch, uint32_t domid, unsigned int *guest_width)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_get_guest_width, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_get_guest_width, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        *guest_width = d->width;
    return (int)st_end(ST_FN_xc_domain_get_guest_width, xch, rc);
}

/* For a PV guest Xen has this from shared_info: it is the guest's claim, and 1 where there is none. */
int xc_domain_nr_gpfns(xc_interface *xch, uint32_t domid, xen_pfn_t *gpfns)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_nr_gpfns, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_nr_gpfns, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        *gpfns = st_shared_info(d)->arch.max_pfn ? st_shared_info(d)->arch.max_pfn : 1;
    return (int)st_end(ST_FN_xc_domain_nr_gpfns, xch, rc);
}

int xc_domain_get_tsc_info(xc_interface *xch, uint32_t domid, uint32_t *tsc_mode, uint64_t *elapsed_nsec,
                           uint32_t *gtsc_khz, uint32_t *incarnation)
{
    const struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_get_tsc_info, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_get_tsc_info, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d) {
        bool native = d->tsc.mode == TSC_NEVER_EMULATE;

        *tsc_mode = d->tsc.mode;
        *elapsed_nsec = native ? 0 : d->tsc.nsec + d->ticks * TSC_NSEC_A_TICK;
        *gtsc_khz = native ? 0 : d->tsc.khz;
        *incarnation = d->tsc.incarnation;
    }
    return (int)st_end(ST_FN_xc_domain_get_tsc_info, xch, rc);
}

/* Xen counts how often it was set, from what it is told. */
static int set_tsc(uint32_t domid, const struct st_tsc *tsc)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (tsc->mode > TSC_NEVER_EMULATE)
        return -EINVAL;
    d->tsc = *tsc;
    d->tsc.nsec -= d->ticks * TSC_NSEC_A_TICK;
    d->tsc.incarnation++;
    if (!tsc->khz)
        d->tsc.khz = TSC_KHZ + d->id;
    return 0;
}

int xc_domain_set_tsc_info(xc_interface *xch, uint32_t domid, uint32_t tsc_mode, uint64_t elapsed_nsec,
                           uint32_t gtsc_khz, uint32_t incarnation)
{
    const struct st_tsc tsc = { true, tsc_mode, gtsc_khz, incarnation, elapsed_nsec, elapsed_nsec };
    int rc = st_begin_xc(ST_FN_xc_domain_set_tsc_info, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_set_tsc_info, xch, rc);
    return (int)st_end(ST_FN_xc_domain_set_tsc_info, xch, set_tsc(domid, &tsc));
}

static int seed_grants(uint32_t domid, bool is_hvm, const stub_grant_seed *seed)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (is_hvm)
        return -EINVAL;
    d->seed = *seed;
    d->seeded = true;
    if (seed->console_domid == domid)
        d->seed.console_gfn = ST_NONE;
    if (seed->store_domid == domid)
        d->seed.store_gfn = ST_NONE;
    return 0;
}

/* As libxenguest's: an entry that would grant to the domain itself is not made. */
int xc_dom_gnttab_seed(xc_interface *xch, uint32_t guest_domid, bool is_hvm, xen_pfn_t console_gfn,
                       xen_pfn_t xenstore_gfn, uint32_t console_domid, uint32_t xenstore_domid)
{
    const stub_grant_seed seed = { console_gfn, xenstore_gfn, console_domid, xenstore_domid };
    int rc = st_begin_xc(ST_FN_xc_dom_gnttab_seed, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_dom_gnttab_seed, xch, rc);
    return (int)st_end(ST_FN_xc_dom_gnttab_seed, xch, seed_grants(guest_domid, is_hvm, &seed));
}

static int domain_pause(uint32_t domid)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    if (!d)
        return rc;
    if (d->pause_count == MAX_PAUSE_COUNT)
        return -EOVERFLOW;
    d->pause_count++;
    return 0;
}

int xc_domain_pause(xc_interface *xch, uint32_t domid)
{
    int rc = st_begin_xc(ST_FN_xc_domain_pause, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_pause, xch, rc);
    return (int)st_end(ST_FN_xc_domain_pause, xch, domain_pause(domid));
}

/* A vcpu with a context runs from now on; one that cannot go on crashes the domain, which Xen does not mind. */
int st_domain_unpause(struct st_domain *d)
{
    if (!d->pause_count)
        return -EINVAL;
    if (--d->pause_count)
        return 0;
    d->creation_finished = true;
    if (!d->built && !d->dying && !d->shutdown && d->vcpu[0].online && st_guest_adopt(d))
        st_domain_shut_down(d, SHUTDOWN_crash);
    return 0;
}

static int domain_unpause(uint32_t domid)
{
    int rc = 0;
    struct st_domain *d = st_domain_get(domid, &rc);

    return d ? st_domain_unpause(d) : rc;
}

int xc_domain_unpause(xc_interface *xch, uint32_t domid)
{
    int rc = st_begin_xc(ST_FN_xc_domain_unpause, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_unpause, xch, rc);
    return (int)st_end(ST_FN_xc_domain_unpause, xch, domain_unpause(domid));
}

int xc_domain_resume(xc_interface *xch, uint32_t domid, int fast)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_resume, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_resume, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        rc = st_domain_resume(d, fast);
    return (int)st_end(ST_FN_xc_domain_resume, xch, rc);
}

int xc_domain_destroy(xc_interface *xch, uint32_t domid)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_destroy, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_destroy, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        st_domain_kill(d);
    return (int)st_end(ST_FN_xc_domain_destroy, xch, rc);
}

int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason)
{
    struct st_domain *d;
    int rc = st_begin_xc(ST_FN_xc_domain_shutdown, xch);

    if (rc)
        return (int)st_refused(ST_FN_xc_domain_shutdown, xch, rc);
    d = st_domain_get(domid, &rc);
    if (d)
        rc = st_domain_shut_down(d, reason);
    return (int)st_end(ST_FN_xc_domain_shutdown, xch, rc);
}
