/* start_info, by the guest's width. */
#include "stub/kernel/kernel.h"
#include "stub/kernel/pv/start_info.h"
#include "stub/machine/logdirty.h"
#include "stub/machine/memory.h"

struct field { size_t offset, size; };

#define FIELD(type, member) { offsetof(type, member), sizeof(((type *)0)->member) }
#define FIELDS(type)                                                                                    \
    { FIELD(type, nr_pages), FIELD(type, shared_info), FIELD(type, flags), FIELD(type, store_mfn),      \
      FIELD(type, store_evtchn), FIELD(type, console.domU.mfn), FIELD(type, console.domU.evtchn) }

static const struct field wide[] = FIELDS(start_info_x86_64_t), narrow[] = FIELDS(start_info_x86_32_t);

static uint8_t *find(const struct st_domain *d, enum st_start_field field, size_t *size)
{
    const struct field *f = d->geometry->width == sizeof(uint64_t) ? &wide[field] : &narrow[field];

    *size = f->size;
    return (uint8_t *)st_guest_page(d, d->kernel->start_info_pfn) + f->offset;
}

uint64_t st_start_get(const struct st_domain *d, enum st_start_field field)
{
    uint64_t value = 0;
    size_t size;
    const uint8_t *at = find(d, field, &size);

    memcpy(&value, at, size);
    return value;
}

void st_start_set(struct st_domain *d, enum st_start_field field, uint64_t value)
{
    size_t size;
    uint8_t *at = find(d, field, &size);

    memcpy(at, &value, size);
    st_mark_dirty(d, d->kernel->start_info_pfn);
}
