/* Domains: their list, their life, their room in the store. */
#include "stub/machine/domain.h"
#include "stub/machine/foreign.h"
#include "stub/machine/frames.h"
#include "stub/machine/hvm/hvm.h"
#include "stub/machine/memory.h"
#include "stub/machine/policy.h"
#include "stub/machine/rng.h"
#include "stub/machine/shared_info.h"
#include "stub/machine/store.h"
#include "stub/machine/vcpu.h"

#include <stdio.h>
#include <sys/mman.h>

#define FIRST_PFNS      4096UL          /* room for so many at first, where their number is not known */
#define TSC_NSEC        1000000000UL    /* elapsed when a guest is built */
#define TSC_KHZ         2400000U

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

uint64_t st_domain_pages(const struct st_domain *d)
{
    return d->nr_mem + (d->hv ? d->hv->pod_cached + d->hv->lingering : 0);
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

void st_domain_free(struct st_domain *d)
{
    if (d->truth)
        munmap(d->truth, d->cap_pfns * sizeof(*d->truth));
    if (d->mem)
        munmap(d->mem, d->cap_pfns * sizeof(*d->mem));
    if (d->bitmap)
        munmap(d->bitmap, bitmap_bytes(d->cap_pfns));
    if (d->hooks)
        d->hooks->free(d);
    st_vcpus_free(d);
    st_hvm_free(d);
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

    if (nr_pfns > ST_MAX_SPAN)
        return st_error(EINVAL, "a domain has at most %lu pfns", ST_MAX_SPAN);
    while (cap < nr_pfns)
        cap *= 2;
    if (cap > d->cap_pfns && grow(d, cap))
        return st_error(ENOMEM, "no memory for a domain of %lu pfns", (unsigned long)nr_pfns);
    if (nr_pfns > d->nr_pfns)
        d->nr_pfns = nr_pfns;
    return 0;
}

/* The next number that no domain has; after the last one they begin again, as Xen's do. 0: there is none. */
static uint32_t next_domid(void)
{
    for (uint32_t tried = 1; tried < DOMID_FIRST_RESERVED; tried++) {
        uint32_t id = st.next_domid;

        st.next_domid = id + 1 < DOMID_FIRST_RESERVED ? id + 1 : 1;
        if (!st_domain_find(id))
            return id;
    }
    return 0;
}

/* A domain without a kernel, with room for so many pfns. */
struct st_domain *st_domain_alloc(uint64_t pfns)
{
    uint32_t id = next_domid();
    struct st_domain *d = id ? calloc(1, sizeof(*d)) : NULL;

    if (!d)
        return NULL;
    d->id = id;
    d->cap_pfns = pfns;
    d->width = sizeof(uint64_t);
    d->geometry = st_geometry(d->width);
    d->scheduler = st.scheduler;
    d->sched_weight = 256;
    d->tsc = (struct st_tsc){ .khz = TSC_KHZ + d->id, .incarnation = 1, .nsec = TSC_NSEC };
    d->truth = sparse(pfns * sizeof(*d->truth));
    d->mem = sparse(pfns * sizeof(*d->mem));
    d->bitmap = sparse(bitmap_bytes(pfns));
    if (d->truth && d->mem && d->bitmap)
        return d;
    st_domain_free(d);
    return NULL;
}

int st_domain_narrow(struct st_domain *d)
{
    const unsigned width = sizeof(uint32_t);
    int rc;

    if (!st.pv32)
        return -EOPNOTSUPP;
    if (d->nr_mem)
        return -EACCES;
    rc = st_narrow_shared_info(d, st_geometry(width));
    if (!rc)
        d->width = width;
    return rc;
}

void st_domain_make_handle(struct st_domain *d)
{
    uint64_t word[2] = { st_hash(d->seed, 1), st_hash(d->seed, d->id + 2UL) };

    memcpy(d->handle, word, sizeof(d->handle));
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

int st_domain_store_nodes(struct st_domain *d, uint64_t target_pages)
{
    char text[64];
    int rc;

    if (!d->name[0])
        snprintf(d->name, sizeof(d->name), "stub-%u", d->id);
    rc = store_node(d, "name", d->name);
    snprintf(text, sizeof(text), "%u", d->id);
    rc = rc ? rc : store_node(d, "domid", text);
    snprintf(text, sizeof(text), "%lu", (unsigned long)(target_pages * 4));
    rc = rc ? rc : store_node(d, "memory/target", text);
    if (!d->hv)
        rc = rc ? rc : store_node(d, "control/feature-suspend", "1");
    return rc ? rc : store_node(d, "control/shutdown", "");
}

void st_domain_enlist(struct st_domain *d)
{
    struct st_domain **link = &st.domains;

    while (*link && (*link)->id < d->id)
        link = &(*link)->next;
    d->next = *link;
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
    if (d->hv)
        st_hvm_give_back(d);
    if (d->shared_info_mfn)
        st_frame_free(d->shared_info_mfn);
}

void st_domain_remove(struct st_domain *d)
{
    char path[96];

    store_path(d, "", path, sizeof(path));
    st_store_remove(path);
    snprintf(path, sizeof(path), "/local/domain/0/device-model/%u", d->id);
    st_store_remove(path);
    delist(d);
    give_frames_back(d);
    st_domain_free(d);
    st_machine_idle();
}

static int make_empty(struct st_domain *d, enum st_domain_kind kind, uint64_t max_pages)
{
    int rc = kind == ST_PV ? 0 : st_hvm_alloc(d, kind == ST_HVM);

    if (rc)
        return rc;

    d->max_pages = max_pages;
    d->pause_count = 1;
    st_domain_make_handle(d);
    rc = st_vcpus_alloc(d);
    rc = rc ? rc : st_make_shared_info(d);
    return rc ? rc : st_domain_store_nodes(d, max_pages);
}

/* As Xen and a toolstack have made it when the restoring begins. */
int st_domain_empty(enum st_domain_kind kind, uint64_t max_pages, uint32_t vcpus, const char *name, struct st_domain **result)
{
    struct st_domain *d;
    int rc;

    if (vcpus < 1 || vcpus > ST_MAX_VCPUS)
        return st_error(EINVAL, "a domain has 1 to %d vcpus, not %u", ST_MAX_VCPUS, vcpus);
    if (max_pages > ST_MAX_SPAN)
        return st_error(EINVAL, "max_pages: at most %lu", ST_MAX_SPAN);
    if (strlen(name) >= sizeof(((struct st_domain *)0)->name))
        return st_error(EINVAL, "the domain's name is too long");
    d = st_domain_alloc(FIRST_PFNS);
    if (!d)
        return st_error(ENOMEM, "no memory for a domain");
    d->nr_vcpus = vcpus;
    strcpy(d->name, name);
    st_domain_enlist(d);
    rc = make_empty(d, kind, max_pages);
    if (rc)
        st_domain_remove(d);
    *result = rc ? NULL : d;
    return rc;
}

static void stop(struct st_domain *d)
{
    if (d->hooks)
        d->hooks->stop(d);
}

/* As on Xen a domain of which frames are still mapped goes on existing, dying, until they are not. */
void st_domain_kill(struct st_domain *d)
{
    d->dying = true;
    stop(d);
    st_domain_reap();
}

void st_domain_reap(void)
{
    struct st_domain *next;

    for (struct st_domain *d = st.domains; d; d = next) {
        next = d->next;
        if (d->dying && !d->busy && !st_mappings_of(d->id))
            st_domain_remove(d);
    }
}

void st_domain_free_all(void)
{
    while (st.domains) {
        st.domains->dying = true;
        stop(st.domains);
        st_domain_remove(st.domains);
    }
}

void st_domains_abandon(void)
{
    while (st.domains) {
        struct st_domain *d = st.domains;

        st.domains = d->next;
        st_domain_free(d);
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

/* What the suspend call returns to the guest's driver; an HVM guest without one made no such call. */
static void set_return_code(struct st_domain *d, int fast)
{
    if (!d->hv)
        d->vcpu[0].context.user_regs.rax = fast ? 1 : 0;
    else if (fast && d->hv->params[HVM_PARAM_CALLBACK_IRQ] && st_hvm_cpu(d, 0))
        st_hvm_cpu(d, 0)->rax = 1;
}

int st_domain_resume(struct st_domain *d, int fast)
{
    if (!d->shutdown || d->shutdown_reason != SHUTDOWN_suspend)
        return -EINVAL;
    set_return_code(d, fast);
    d->shutdown = false;
    if (d->built)
        d->hooks->after_resume(d);
    return 0;
}

/* A vcpu with a context runs from now on; one that cannot go on crashes the domain, which Xen does not mind. */
int st_domain_unpause(struct st_domain *d)
{
    if (!d->pause_count)
        return -EINVAL;
    if (--d->pause_count)
        return 0;
    d->creation_finished = true;
    if (!d->built && !d->dying && !d->shutdown && d->vcpu[0].online && d->hooks && d->hooks->start(d))
        st_domain_shut_down(d, SHUTDOWN_crash);
    return 0;
}

void st_domain_tick(struct st_domain *d)
{
    if (st_domain_running(d)) {
        d->ticks++;
        d->hooks->tick(d);
    }
    if (d->hooks && d->built && !d->dying)
        d->hooks->devices(d);
}

void st_domains_tick(void)
{
    for (struct st_domain *d = st.domains; d; d = d->next)
        st_domain_tick(d);
}
