/* What both models share. A line that begins with "code:" in a comment names what the step below it stands for. */

#define has(set, i) (((set) >> (i)) & 1)
#define bit_of(i)   (1 << (i))

#ifndef BUDGET
#define BUDGET 3        /* how much the guest does, in all */
#endif
#ifndef PASSES
#define PASSES 2        /* live passes at most */
#endif

bool running;           /* the guest runs */
bool tracking;          /* log-dirty mode */
byte dirty;             /* Xen's bitmap: what was written since it was cleaned */
byte bitmap;            /* the saver's, as fetched, and what else it marks */
byte budget = BUDGET;
byte passes;
bool suspended_pass;    /* the pass under way is that of the suspended guest */
byte outcome;           /* 0: under way */
#define COMPLETE 1
#define REFUSED  2

hidden byte i_, j_, f_, e_; /* within one step only */

/* ENDS: that the guest has done something counts as progress, so that a cycle without progress is a save that goes on for
 * ever while the guest does nothing. */
#ifdef ENDS
#define one_step progress: skip;
#define again    ; goto progress
#else
#define one_step
#define again
#endif

/* code: csrc/save/logdirty.c xcsr_logdirty_clean */
/* Xen pauses the domain for it: the bitmap is copied, cleared, and all is tracked anew, at one go. */
#define clean() bitmap = dirty; dirty = 0

/* Whatever goes wrong, or if the save is cancelled: */
/* code: pyxcsr/transfer/pause.py ends_if_this_fails */
/* code: pyxcsr/transfer/saver.py _logdirty */
inline give_up()
{
    atomic { tracking = false; running = true; outcome = REFUSED }
}
