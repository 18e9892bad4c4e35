/* The control panel's side of guests: making them, their state, pages and raw fields. */
#include "stub/internal.h"

/* With the lock: the guest, or an error that says there is none. */
static struct st_domain *guest(uint32_t domid, int *rc)
{
    struct st_domain *d = st_domain_find(domid);

    *rc = d ? 0 : st_error(ESRCH, "there is no guest %u", domid);
    return d;
}

/* A guest that the stub's own kernel runs in. */
struct st_domain *st_domain_booted(uint32_t domid, int *rc)
{
    struct st_domain *d = guest(domid, rc);

    if (!d || d->built)
        return d;
    *rc = st_error(EINVAL, "the kernel of guest %u does not run (adopt() starts it)", domid);
    return NULL;
}

static struct st_domain *guest_with(uint32_t domid, uint64_t pfn, int *rc)
{
    struct st_domain *d = guest(domid, rc);

    if (!d)
        return NULL;
    if (!st_has_memory(d, pfn)) {
        *rc = st_error(ENOENT, "pfn %#lx of guest %u has no memory", (unsigned long)pfn, domid);
        return NULL;
    }
    return d;
}

int stub_create(const stub_guest_config *config)
{
    struct st_domain *d = NULL;
    int rc;

    st_lock();
    rc = st_machine_ready();
    rc = rc ? rc : st_domain_new(config, &d);
    rc = rc ? rc : (int)d->id;
    st_unlock();
    return rc;
}

int stub_destroy(uint32_t domid)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        st_domain_kill(d);
    st_unlock();
    return rc;
}

int stub_domids(uint32_t *domids, uint32_t max)
{
    int count = 0;

    st_lock();
    for (const struct st_domain *d = st.domains; d; d = d->next, count++)
        if ((uint32_t)count < max)
            domids[count] = d->id;
    st_unlock();
    return count;
}

int stub_create_empty(uint64_t max_pages, uint32_t vcpus, const char *name)
{
    struct st_domain *d = NULL;
    int rc;

    st_lock();
    rc = st_machine_ready();
    rc = rc ? rc : st_domain_empty(max_pages, vcpus, name, &d);
    rc = rc ? rc : (int)d->id;
    st_unlock();
    return rc;
}

static int adopt(struct st_domain *d)
{
    if (d->built && !d->pause_count)
        return 0;
    if (!d->crash[0] && !d->vcpu[0].online)
        return st_error(EINVAL, "vcpu 0 of guest %u has no context to start from", d->id);
    if (!d->crash[0] && d->pause_count != 1)
        return st_error(EBUSY, "guest %u is paused %u times", d->id, d->pause_count);
    if (!d->crash[0])
        st_domain_unpause(d);
    return d->crash[0] ? st_error(EINVAL, "the guest's kernel crashed: %s", d->crash) : 0;
}

int stub_adopt(uint32_t domid)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        rc = adopt(d);
    st_unlock();
    return rc;
}

int stub_get_tsc(uint32_t domid, stub_tsc *tsc)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d && !d->tsc.set)
        rc = st_error(ENOENT, "guest %u was given no TSC", domid);
    else if (d)
        *tsc = (stub_tsc){ d->tsc.given, d->tsc.mode, d->tsc.khz, d->tsc.incarnation - 1 };
    st_unlock();
    return rc;
}

int stub_get_policy(uint32_t domid, uint32_t *nr_leaves, uint32_t *nr_msrs)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d && !d->policy) {
        rc = st_error(ENOENT, "guest %u was given no CPU policy", domid);
    } else if (d) {
        *nr_leaves = d->policy_leaves;
        *nr_msrs = d->policy_msrs;
    }
    st_unlock();
    return rc;
}

int stub_get_grant_seed(uint32_t domid, stub_grant_seed *seed)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d && !d->seeded)
        rc = st_error(ENOENT, "guest %u's grant table was not seeded", domid);
    else if (d)
        *seed = d->seed;
    st_unlock();
    return rc;
}

int stub_read_shared_info(uint32_t domid, void *page)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        memcpy(page, st_shared_info(d), ST_PAGE_SIZE);
    st_unlock();
    return rc;
}

static uint64_t count_dirty(const struct st_domain *d)
{
    uint64_t count = 0;

    for (uint64_t word = 0; d->logdirty && word < (d->nr_pfns + 63) / 64; word++)
        count += (uint64_t)__builtin_popcountl(d->bitmap[word]);
    return count;
}

static void fill_state(const struct st_domain *d, stub_domain_state *s)
{
    *s = (stub_domain_state){
        .nr_pfns = d->nr_pfns, .tot_pages = d->nr_mem, .max_pages = d->max_pages,
        .ticks = d->ticks, .writes = d->writes, .pt_updates = d->pt_updates, .dirty = count_dirty(d),
        .start_info_pfn = d->start_info_pfn, .store_pfn = d->store_pfn, .console_pfn = d->console_pfn,
        .shared_info_mfn = d->shared_info_mfn, .kernel_l4_pfn = d->kernel_l4,
        .user_l4_pfn = d->user_l4, .nr_leaves = d->nr_leaves, .missing_leaf_pfn = d->missing_leaf,
        .shutdown_reason = (uint32_t)d->shutdown_reason, .shutdown = d->shutdown,
        .paused = d->pause_count > 0, .dying = d->dying, .logdirty = d->logdirty,
        .running = st_domain_running(d), .booted = d->built,
    };
}

int stub_state(uint32_t domid, stub_domain_state *state)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        fill_state(d, state);
    st_unlock();
    return rc;
}

/* ---- memory: the truth ---- */

int stub_mfn(uint32_t domid, uint64_t pfn, uint64_t *mfn)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest_with(domid, pfn, &rc);
    if (d)
        *mfn = d->truth[pfn];
    st_unlock();
    return rc;
}

/* As many of the pfns as there is room for; returns how many there are. */
static int64_t copy_pfns(uint64_t *to, uint64_t max, const uint64_t *from, uint64_t count)
{
    if (max)
        memcpy(to, from, (count < max ? count : max) * sizeof(*to));
    return (int64_t)count;
}

int64_t stub_pfns(uint32_t domid, uint64_t *pfns, uint64_t max)
{
    const struct st_domain *d;
    int64_t count = 0;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        count = copy_pfns(pfns, max, d->mem, d->nr_mem);
    st_unlock();
    return d ? count : rc;
}

int64_t stub_pfns_of_type(uint32_t domid, uint32_t type, uint64_t *pfns, uint64_t max)
{
    const struct st_domain *d;
    uint64_t count = 0;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    for (uint64_t i = 0; d && i < d->nr_mem; i++) {
        if (st_frame_type(d->truth[d->mem[i]]) != type)
            continue;
        if (count < max)
            pfns[count] = d->mem[i];
        count++;
    }
    st_unlock();
    return d ? (int64_t)count : rc;
}

int64_t stub_leaf_pfns(uint32_t domid, uint64_t *pfns, uint64_t max)
{
    const struct st_domain *d;
    int64_t count = 0;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        count = copy_pfns(pfns, max, d->leaf, d->nr_leaves);
    st_unlock();
    return d ? count : rc;
}

int stub_read_page(uint32_t domid, uint64_t pfn, void *page)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest_with(domid, pfn, &rc);
    if (d)
        memcpy(page, st_guest_page(d, pfn), ST_PAGE_SIZE);
    st_unlock();
    return rc;
}

int stub_expected_pages(uint32_t domid, const uint64_t *pfns, uint64_t nr, void *pages, uint32_t *types)
{
    const struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    for (uint64_t i = 0; d && !rc && i < nr; i++) {
        rc = st_expected_page(d, pfns[i], (uint64_t *)pages + i * ST_ENTRIES);
        if (!rc)
            types[i] = st_frame_type(d->truth[pfns[i]]);
    }
    st_unlock();
    return rc;
}

int stub_expected_page(uint32_t domid, uint64_t pfn, void *page, uint32_t *type)
{
    return stub_expected_pages(domid, &pfn, 1, page, type);
}

/* ---- memory: what the guest does ---- */

int stub_write_page(uint32_t domid, uint64_t pfn, uint64_t offset, const void *data, uint64_t length)
{
    struct st_domain *d;
    int rc;

    if (offset > ST_PAGE_SIZE || length > ST_PAGE_SIZE - offset)
        return st_error(EINVAL, "%lu bytes at %lu do not lie in a page", (unsigned long)length,
                        (unsigned long)offset);
    st_lock();
    d = guest_with(domid, pfn, &rc);
    if (d) {
        memcpy((uint8_t *)st_guest_page(d, pfn) + offset, data, length);
        st_mark_dirty(d, pfn);
    }
    st_unlock();
    return rc;
}

int stub_tick(uint32_t domid, uint32_t times)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    for (uint32_t i = 0; d && i < times; i++)
        st_guest_tick(d);
    st_unlock();
    return rc;
}

int stub_bump_generation(uint32_t domid, uint64_t by)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        st_p2m_generation(d, by);
    st_unlock();
    return rc;
}

/* ---- raw values ---- */

int stub_write_pte(uint32_t domid, uint64_t table_pfn, uint32_t index, uint64_t value, uint64_t *old)
{
    struct st_domain *d;
    int rc;

    if (index >= ST_ENTRIES)
        return st_error(EINVAL, "a table has no entry %u", index);
    st_lock();
    d = guest_with(domid, table_pfn, &rc);
    if (d) {
        *old = ((const uint64_t *)st_guest_page(d, table_pfn))[index];
        st_write_word(d, table_pfn, index * sizeof(uint64_t), value);
        d->touched = true;
    }
    st_unlock();
    return rc;
}

static int write_p2m(struct st_domain *d, uint64_t pfn, uint64_t value, uint64_t *old)
{
    const uint64_t *leaf;

    if (pfn >= d->nr_pfns)
        return st_error(EINVAL, "pfn %#lx is beyond the p2m's end", (unsigned long)pfn);
    leaf = st_guest_page(d, d->leaf[pfn / ST_ENTRIES]);
    *old = leaf[pfn % ST_ENTRIES];
    return st_p2m_set(d, pfn, value);
}

int stub_write_p2m(uint32_t domid, uint64_t pfn, uint64_t value, uint64_t *old)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = st_domain_booted(domid, &rc);
    if (d)
        rc = write_p2m(d, pfn, value, old);
    st_unlock();
    return rc;
}

int stub_set_type(uint32_t domid, uint64_t pfn, uint32_t type)
{
    uint32_t level = (type & XEN_DOMCTL_PFINFO_LTABTYPE_MASK) >> XEN_DOMCTL_PFINFO_LTAB_SHIFT;
    struct st_domain *d;
    int rc;

    if (level > 4 || type & ~XEN_DOMCTL_PFINFO_LTAB_MASK)
        return st_error(EINVAL, "%#x is no type of a page with data", type);
    st_lock();
    d = guest_with(domid, pfn, &rc);
    if (d) {
        st_set_level(d, pfn, level, (type & XEN_DOMCTL_PFINFO_LPINTAB) != 0);
        d->touched = true;
    }
    st_unlock();
    return rc;
}

struct field {
    const char *name;
    size_t offset, size;
};

#define ARCH_FIELD(name) { #name, offsetof(shared_info_t, arch.name), sizeof(uint64_t) }
static const struct field shared_info_fields[] = {
    ARCH_FIELD(max_pfn), ARCH_FIELD(pfn_to_mfn_frame_list_list), ARCH_FIELD(nmi_reason),
    ARCH_FIELD(p2m_cr3), ARCH_FIELD(p2m_vaddr), ARCH_FIELD(p2m_generation),
    { "evtchn_pending", offsetof(shared_info_t, evtchn_pending), sizeof(uint64_t) },
    { "wc_sec", offsetof(shared_info_t, wc_sec), sizeof(uint32_t) },
    { NULL, 0, 0 },
};

#define CONTEXT_FIELD(name, member) \
    { name, offsetof(struct st_vcpu, context.member), sizeof(((struct st_vcpu *)0)->context.member) }
#define VCPU_FIELD(member) \
    { #member, offsetof(struct st_vcpu, member), sizeof(((struct st_vcpu *)0)->member) }
static const struct field vcpu_fields[] = {
    CONTEXT_FIELD("flags", flags), CONTEXT_FIELD("rax", user_regs.rax), CONTEXT_FIELD("rdx", user_regs.rdx),
    CONTEXT_FIELD("rip", user_regs.rip), CONTEXT_FIELD("cr1", ctrlreg[1]), CONTEXT_FIELD("cr3", ctrlreg[3]),
    CONTEXT_FIELD("gdt_ents", gdt_ents), CONTEXT_FIELD("gdt_frame0", gdt_frames[0]),
    CONTEXT_FIELD("gdt_frame1", gdt_frames[1]), CONTEXT_FIELD("gdt_frame2", gdt_frames[2]),
    { "ext_size", offsetof(struct st_vcpu, ext.size), sizeof(uint32_t) },
    VCPU_FIELD(online), VCPU_FIELD(xfeature_mask), VCPU_FIELD(xsave_size), VCPU_FIELD(nr_msrs),
    { NULL, 0, 0 },
};

static const struct field *find_field(const struct field *f, const char *name)
{
    while (f->name && strcmp(f->name, name) != 0)
        f++;
    if (f->name)
        return f;
    st_error(ENOENT, "there is no field %s", name);
    return NULL;
}

static uint64_t get_field(const struct field *f, const void *object)
{
    uint64_t value = 0;

    memcpy(&value, (const uint8_t *)object + f->offset, f->size);
    return value;
}

static void set_field(const struct field *f, void *object, uint64_t value)
{
    uint8_t *at = (uint8_t *)object + f->offset;

    if (f->size == sizeof(uint64_t))
        __atomic_store_n((uint64_t *)(void *)at, value, __ATOMIC_SEQ_CST);
    else
        memcpy(at, &value, f->size);
}

int stub_get_shared_info(uint32_t domid, const char *field, uint64_t *value)
{
    const struct field *f = find_field(shared_info_fields, field);
    const struct st_domain *d;
    int rc;

    if (!f)
        return -ENOENT;
    st_lock();
    d = guest(domid, &rc);
    if (d)
        *value = get_field(f, st_shared_info(d));
    st_unlock();
    return rc;
}

int stub_set_shared_info(uint32_t domid, const char *field, uint64_t value)
{
    const struct field *f = find_field(shared_info_fields, field);
    struct st_domain *d;
    int rc;

    if (!f)
        return -ENOENT;
    st_lock();
    d = guest(domid, &rc);
    if (d)
        set_field(f, st_shared_info(d), value);
    st_unlock();
    return rc;
}

static struct st_vcpu *vcpu_of(struct st_domain *d, uint32_t vcpu, int *rc)
{
    if (d && vcpu < d->config.vcpus)
        return &d->vcpu[vcpu];
    if (d)
        *rc = st_error(ESRCH, "guest %u has no vcpu %u", d->id, vcpu);
    return NULL;
}

int stub_get_vcpu(uint32_t domid, uint32_t vcpu, const char *field, uint64_t *value)
{
    const struct field *f = find_field(vcpu_fields, field);
    const struct st_vcpu *v;
    int rc;

    if (!f)
        return -ENOENT;
    st_lock();
    v = vcpu_of(guest(domid, &rc), vcpu, &rc);
    if (v)
        *value = get_field(f, v);
    st_unlock();
    return rc;
}

static int check_vcpu_value(const struct field *f, uint64_t value)
{
    if (strcmp(f->name, "xsave_size") == 0 && value > ST_MAX_XSAVE)
        return st_error(EINVAL, "at most %d bytes of XSAVE state", ST_MAX_XSAVE);
    if (strcmp(f->name, "nr_msrs") == 0 && value > ST_MAX_MSRS)
        return st_error(EINVAL, "at most %d MSRs", ST_MAX_MSRS);
    if (strcmp(f->name, "online") == 0 && value > 1)
        return st_error(EINVAL, "online is 0 or 1");
    return 0;
}

int stub_set_vcpu(uint32_t domid, uint32_t vcpu, const char *field, uint64_t value)
{
    const struct field *f = find_field(vcpu_fields, field);
    struct st_vcpu *v;
    int rc = f ? check_vcpu_value(f, value) : -ENOENT;

    if (rc)
        return rc;
    st_lock();
    v = vcpu_of(guest(domid, &rc), vcpu, &rc);
    if (v)
        set_field(f, v, value);
    st_unlock();
    return rc;
}

static int set_domain_field(struct st_domain *d, const char *field, uint64_t value)
{
    if (strcmp(field, "max_pages") == 0)
        d->max_pages = value;
    else if (strcmp(field, "tot_pages") == 0)
        d->tot_pages_bias = (int64_t)(value - d->nr_mem);
    else if (strcmp(field, "dying") == 0)
        d->dying = value != 0;
    else if (strcmp(field, "hvm") == 0)
        d->hvm = value != 0;
    else if (strcmp(field, "width") == 0)
        d->width = (unsigned)value;
    else
        return st_error(ENOENT, "there is no field %s", field);
    return 0;
}

int stub_set_domain(uint32_t domid, const char *field, uint64_t value)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d)
        rc = set_domain_field(d, field, value);
    st_unlock();
    return rc;
}

int stub_shut_down(uint32_t domid, int reason)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d && d->built && reason == SHUTDOWN_suspend && !d->shutdown)
        st_guest_before_suspend(d);
    if (d)
        rc = st_domain_shut_down(d, reason);
    st_unlock();
    return rc;
}

int stub_set_suspend(uint32_t domid, stub_suspend_kind kind, uint32_t ack_polls, uint32_t suspend_polls)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d) {
        d->config.suspend = kind;
        d->config.ack_polls = ack_polls;
        d->config.suspend_polls = suspend_polls;
    }
    st_unlock();
    return rc;
}

int stub_set_writes(uint32_t domid, uint32_t writes, uint32_t pt_updates)
{
    struct st_domain *d;
    int rc;

    st_lock();
    d = guest(domid, &rc);
    if (d) {
        d->config.writes = writes;
        d->config.pt_updates = pt_updates;
    }
    st_unlock();
    return rc;
}
