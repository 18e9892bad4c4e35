/* Internal: log-dirty mode. */
#ifndef XCSR_LOGDIRTY_H
#define XCSR_LOGDIRTY_H

#include "save/session.h"

int logdirty_stop(xcsr_save *s); /* if this save switched it on. The caller has entered, or is freeing */

#endif
