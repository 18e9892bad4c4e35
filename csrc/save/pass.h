/* Internal: a pass. The caller has entered, or is freeing. */
#ifndef XCSR_PASS_H
#define XCSR_PASS_H

#include "save/session.h"

void pass_drop(xcsr_save *s); /* lets go of the batch in hand and of the next; harmless when there is none */

#endif
