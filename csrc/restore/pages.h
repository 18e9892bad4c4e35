/* Internal: PAGE_DATA on its way into a guest. */
#ifndef XCSR_PAGES_H
#define XCSR_PAGES_H

#include "restore/session.h"

void pages_drop(xcsr_restore *r); /* unmaps the batch under way; harmless when there is none */

#endif
