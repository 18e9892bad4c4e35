/* Internal: a PV guest's state besides its memory. The caller has entered. */
#ifndef XCSR_PV_STATE_H
#define XCSR_PV_STATE_H

#include "save/records.h"

/* Puts the records that xcsr_pv_state tells of. */
int pv_state(xcsr *h, const xcsr_p2m *p2m, uint32_t domid, uint32_t max_vcpu, const void *shared_info, struct records *o);

#endif
