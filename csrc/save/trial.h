/* Internal: a small pass that sends nothing. See trial.c. */
#ifndef XCSR_TRIAL_H
#define XCSR_TRIAL_H

#include "save/session.h"

/* Between two passes: see xcsr_rehearse_end. -errno: of what was refused. Nothing has changed then, either. */
int trial_pages(xcsr_save *s, xcsr_trial *trial);

#endif
