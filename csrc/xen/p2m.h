/* Internal: a guest's mapped p2m. The caller has entered. */
#ifndef XCSR_P2M_H
#define XCSR_P2M_H

#include "xen/handle.h"

bool p2m_leaves_stay(const xcsr_p2m *p); /* see xcsr_p2m_leaves_stay */
int p2m_check_fresh(xcsr_p2m *p);        /* see xcsr_p2m_check_leaves: the same for those that are fresh */

#endif
