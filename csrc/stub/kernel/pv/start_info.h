/* The page that tells a PV guest's kernel where it is, in the layout of its width. */
#ifndef XCSR_STUB_KERNEL_PV_START_INFO_H
#define XCSR_STUB_KERNEL_PV_START_INFO_H

#include "stub/machine/domain.h"

enum st_start_field {
    ST_NR_PAGES, ST_SHARED_INFO, ST_FLAGS, ST_STORE_MFN, ST_STORE_EVTCHN, ST_CONSOLE_MFN, ST_CONSOLE_EVTCHN
};

uint64_t st_start_get(const struct st_domain *d, enum st_start_field field);
/* A write of the guest's own. */
void st_start_set(struct st_domain *d, enum st_start_field field, uint64_t value);

#endif
