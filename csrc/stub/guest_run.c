/* The guest at work: data writes, page-table updates, the answer to control/shutdown. */
#include "stub/internal.h"

#include <stdio.h>
#include <time.h>

#define USER_SLOTS    16U               /* of the process's L2 table that may hold an L1 table */
#define ANY_INDEX     ST_ENTRIES
#define WRITER_PAUSE  1000000L          /* nanoseconds between two turns of the writer thread */
#define WRITER_BURST  256U              /* writes at one go, with the machine's lock held */

/* ---- page-table updates ---- */

static bool has_transient(const struct st_domain *d, uint64_t table, unsigned index)
{
    for (unsigned i = 0; i < d->nr_transient; i++)
        if (d->transient[i].table_pfn == table && (index == ANY_INDEX || d->transient[i].index == index))
            return true;
    return false;
}

static void revert_transient(struct st_domain *d, unsigned i)
{
    struct st_transient t = d->transient[i];

    d->transient[i] = d->transient[--d->nr_transient];
    st_write_word(d, t.table_pfn, t.index * sizeof(uint64_t), t.old);
}

static void revert_transients(struct st_domain *d)
{
    while (d->nr_transient)
        revert_transient(d, d->nr_transient - 1);
}

static uint64_t l1_in_slot(const struct st_domain *d, unsigned slot)
{
    return st_find_table(d, d->user_l4, (uint64_t)slot << 21, 1);
}

static unsigned random_slot(struct st_domain *d)
{
    return st_slot(ST_USER_BASE, 2) + (unsigned)st_below(&d->rng, USER_SLOTS);
}

static uint64_t random_l1(struct st_domain *d, unsigned *slot)
{
    for (unsigned attempt = 0; attempt < 4 * USER_SLOTS; attempt++) {
        uint64_t l1;

        *slot = random_slot(d);
        l1 = l1_in_slot(d, *slot);
        if (l1 != ST_NONE)
            return l1;
    }
    return ST_NONE;
}

static void swap_entries(struct st_domain *d)
{
    unsigned slot, a = (unsigned)st_below(&d->rng, ST_ENTRIES), b = (unsigned)st_below(&d->rng, ST_ENTRIES);
    uint64_t l1 = random_l1(d, &slot), first, second;
    const uint64_t *table;

    if (l1 == ST_NONE || has_transient(d, l1, ANY_INDEX))
        return;
    table = st_guest_page(d, l1);
    first = table[a];
    second = table[b];
    st_write_word(d, l1, a * sizeof(uint64_t), second);
    st_write_word(d, l1, b * sizeof(uint64_t), first);
}

static void map_another_page(struct st_domain *d)
{
    unsigned slot;
    uint64_t l1 = random_l1(d, &slot), pfn;

    if (l1 == ST_NONE || has_transient(d, l1, ANY_INDEX) || st_pick_data(d, &pfn))
        return;
    st_write_word(d, l1, st_below(&d->rng, ST_ENTRIES) * sizeof(uint64_t), st_pte(d, pfn, ST_USER_PTE));
}

/* For a while an entry refers to another domain's frame, or to none of the machine's. */
static void make_transient(struct st_domain *d)
{
    unsigned slot, index = (unsigned)st_below(&d->rng, ST_ENTRIES);
    uint64_t l1 = random_l1(d, &slot), mfn;
    const uint64_t *table;

    if (l1 == ST_NONE || d->nr_transient == sizeof(d->transient) / sizeof(d->transient[0]) || has_transient(d, l1, index))
        return;
    table = st_guest_page(d, l1);
    mfn = st_below(&d->rng, 2) ? st.foreign[st_below(&d->rng, 16)] : st.nr_frames + index;
    d->transient[d->nr_transient++] = (struct st_transient){ l1, index, table[index] };
    st_write_word(d, l1, index * sizeof(uint64_t), mfn << ST_PAGE_SHIFT | ST_USER_PTE);
}

static unsigned count_l1(const struct st_domain *d)
{
    unsigned count = 0;

    for (unsigned i = 0; i < USER_SLOTS; i++)
        count += l1_in_slot(d, st_slot(ST_USER_BASE, 2) + i) != ST_NONE;
    return count;
}

/* A table is unhooked, becomes a data page again and is overwritten. */
static void free_l1(struct st_domain *d)
{
    unsigned slot;
    uint64_t l1 = random_l1(d, &slot);

    if (l1 == ST_NONE || has_transient(d, l1, ANY_INDEX) || count_l1(d) < 2)
        return;
    st_write_word(d, d->user_l2, slot * sizeof(uint64_t), 0);
    st_set_level(d, l1, 0, false);
    st_fill_data(d, l1);
}

static void fill_l1(struct st_domain *d, uint64_t l1)
{
    for (unsigned index = (unsigned)st_below(&d->rng, 4); index < ST_ENTRIES; index += 4) {
        uint64_t pfn;

        if (!st_pick_data(d, &pfn))
            st_write_word(d, l1, index * sizeof(uint64_t), st_pte(d, pfn, ST_USER_PTE));
    }
}

static void make_l1(struct st_domain *d)
{
    unsigned slot = random_slot(d);
    uint64_t l1;

    if (l1_in_slot(d, slot) != ST_NONE || st_new_table(d, 1, &l1))
        return;
    fill_l1(d, l1);
    st_set_level(d, l1, 1, true);
    st_write_word(d, d->user_l2, slot * sizeof(uint64_t), st_pte(d, l1, ST_USER_PTE | ST_PTE_DIRTY));
}

static void update_page_tables(struct st_domain *d)
{
    static void (*const updates[])(struct st_domain *) = {
        swap_entries, swap_entries, map_another_page, make_transient, free_l1, make_l1,
    };

    if (d->nr_transient && st_below(&d->rng, 3) == 0)
        revert_transient(d, (unsigned)st_below(&d->rng, d->nr_transient));
    updates[st_below(&d->rng, sizeof(updates) / sizeof(updates[0]))](d);
    d->pt_updates++;
}

static void unmap_from(struct st_domain *d, uint64_t l1, uint64_t mfn)
{
    const uint64_t *table = st_guest_page(d, l1);

    for (unsigned index = 0; index < ST_ENTRIES; index++)
        if (table[index] & ST_PTE_PRESENT && (table[index] & ST_PTE_FRAME) >> ST_PAGE_SHIFT == mfn)
            st_write_word(d, l1, index * sizeof(uint64_t), 0);
}

void st_user_unmap(struct st_domain *d, uint64_t pfn)
{
    uint64_t mfn = d->truth[pfn];

    for (unsigned i = 0; i < USER_SLOTS; i++) {
        uint64_t l1 = l1_in_slot(d, st_slot(ST_USER_BASE, 2) + i);

        if (l1 != ST_NONE)
            unmap_from(d, l1, mfn);
    }
    for (unsigned i = 0; i < d->nr_transient; i++)
        if ((d->transient[i].old & ST_PTE_FRAME) >> ST_PAGE_SHIFT == mfn)
            d->transient[i].old = 0;
}

/* ---- work ---- */

static void write_data(struct st_domain *d)
{
    uint64_t pfn, offset = st_below(&d->rng, ST_ENTRIES) * sizeof(uint64_t);

    if (st_pick_data(d, &pfn))
        return;
    st_write_word(d, pfn, offset, st_random(&d->rng));
    d->writes++;
}

static void work(struct st_domain *d, uint32_t writes, uint32_t pt_updates)
{
    for (uint32_t i = 0; i < writes; i++)
        write_data(d);
    for (uint32_t i = 0; i < pt_updates; i++)
        update_page_tables(d);
}

static void change_registers(struct st_domain *d)
{
    for (uint32_t v = 0; v < d->config.vcpus; v++) {
        if (!d->vcpu[v].online)
            continue;
        d->vcpu[v].context.user_regs.rax = st_random(&d->rng);
        d->vcpu[v].context.user_regs.rdx = st_random(&d->rng);
        d->vcpu[v].context.user_regs.rip += 2;
    }
}

void st_guest_tick(struct st_domain *d)
{
    if (!st_domain_running(d))
        return;
    d->ticks++;
    change_registers(d);
    if (!d->config.rate)
        work(d, d->config.writes, d->config.pt_updates);
    st_guest_poll(d);
}

void st_guests_tick(void)
{
    for (struct st_domain *d = st.domains; d; d = d->next)
        st_guest_tick(d);
}

/* ---- suspend and resume ---- */

static void set_fixmap(struct st_domain *d, uint64_t pte)
{
    st_write_word(d, d->fixmap_l1_pfn, st_slot(ST_FIXMAP, 1) * sizeof(uint64_t), pte);
}

/* A guest hands over its start_info with pfns in it, and no entry that only it could understand. */
void st_guest_before_suspend(struct st_domain *d)
{
    start_info_t *info = st_start_info(d);

    revert_transients(d);
    set_fixmap(d, 0);
    info->store_mfn = d->store_pfn;
    info->console.domU.mfn = d->console_pfn;
    st_mark_dirty(d, d->start_info_pfn);
    d->vcpu[0].context.user_regs.rdx = d->truth[d->start_info_pfn];
    d->vcpu[0].context.user_regs.rax = 0;       /* what the suspend call returns, if it is not cancelled */
    st_kernel_remember(d);
}

void st_guest_after_resume(struct st_domain *d)
{
    start_info_t *info = st_start_info(d);

    info->store_mfn = d->truth[d->store_pfn];
    info->console.domU.mfn = d->truth[d->console_pfn];
    info->shared_info = d->shared_info_mfn << ST_PAGE_SHIFT;
    st_mark_dirty(d, d->start_info_pfn);
    if (d->config.map_shared_info)
        set_fixmap(d, d->shared_info_mfn << ST_PAGE_SHIFT | ST_PTE_PRESENT | ST_PTE_RW | ST_PTE_ACCESSED);
    st_shared_info(d)->arch.p2m_generation = 0;
    d->step = ST_STEP_NONE;
    d->polls = 0;
}

static void shutdown_path(const struct st_domain *d, char *path, size_t size)
{
    snprintf(path, size, "/local/domain/%u/control/shutdown", d->id);
}

static bool asked_to(const struct st_domain *d, const char *what)
{
    char path[64];
    const char *value;

    shutdown_path(d, path, sizeof(path));
    value = st_store_get(path);
    return value && strcmp(value, what) == 0;
}

static void acknowledge(struct st_domain *d)
{
    char path[64];

    shutdown_path(d, path, sizeof(path));
    if (st_store_set(path, "") == 0) {
        d->step = ST_STEP_ACKED;
        d->polls = 0;
    }
}

static void go_down(struct st_domain *d)
{
    d->step = ST_STEP_NONE;
    switch (d->config.suspend) {
    case STUB_SUSPEND_CRASH:
        st_domain_shut_down(d, SHUTDOWN_crash);
        break;
    case STUB_SUSPEND_POWEROFF:
        st_domain_shut_down(d, SHUTDOWN_poweroff);
        break;
    case STUB_SUSPEND_OK:
        st_guest_before_suspend(d);
        st_domain_shut_down(d, SHUTDOWN_suspend);
        break;
    case STUB_SUSPEND_IGNORE:
    case STUB_SUSPEND_ACK_ONLY:
        break;
    }
}

/* One look at control/shutdown; a request that is withdrawn before it is acknowledged is dropped. */
void st_guest_poll(struct st_domain *d)
{
    if (d->config.suspend == STUB_SUSPEND_IGNORE)
        return;
    if (d->step == ST_STEP_ACKED) {
        if (++d->polls > d->config.suspend_polls)
            go_down(d);
        return;
    }
    if (!asked_to(d, "suspend")) {
        d->step = ST_STEP_NONE;
        return;
    }
    if (d->step == ST_STEP_NONE) {
        d->step = ST_STEP_ASKED;
        d->polls = 0;
    }
    if (++d->polls > d->config.ack_polls)
        acknowledge(d);
}

/* ---- the writer thread ---- */

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000UL + (uint64_t)t.tv_nsec;
}

/* A turn of at most WRITER_BURST writes; false if the thread shall end. */
static bool writer_turn(struct st_domain *d, uint64_t *owed)
{
    uint32_t writes = *owed < WRITER_BURST ? (uint32_t)*owed : WRITER_BURST;
    bool go_on;

    st_lock();
    go_on = !d->stop_writer;
    if (go_on && st_domain_running(d))
        work(d, writes, d->config.pt_updates);
    st_unlock();
    *owed -= writes;
    return go_on;
}

static void *writer(void *argument)
{
    struct st_domain *d = argument;
    const struct timespec pause = { 0, WRITER_PAUSE };
    uint64_t rate = d->config.rate, since = now(), owed = 0;

    for (;;) {
        uint64_t at = now(), due = (at - since) * rate / 1000000000UL;

        if (due) {
            since = at;
            owed = due < rate ? due : rate;
        }
        do {
            if (!writer_turn(d, &owed))
                return NULL;
        } while (owed);
        nanosleep(&pause, NULL);
    }
}

int st_writer_start(struct st_domain *d)
{
    int error;

    if (!d->config.rate)
        return 0;
    error = pthread_create(&d->writer, NULL, writer, d);
    if (error)
        return st_error(error, "cannot start the guest's writer thread");
    d->has_writer = true;
    return 0;
}

void st_writer_stop(struct st_domain *d)
{
    if (!d->has_writer || d->stop_writer)
        return;
    d->stop_writer = true;
    st_unlock();
    pthread_join(d->writer, NULL);
    st_lock();
    d->has_writer = false;
}
