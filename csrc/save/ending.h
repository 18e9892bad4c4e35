/* Internal: the end of a live save. See ending.c. */
#ifndef XCSR_ENDING_H
#define XCSR_ENDING_H

#include "save/session.h"

void ending_free(struct ending *e); /* harmless when nothing was prepared */

#endif
