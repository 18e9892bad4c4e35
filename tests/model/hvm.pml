/* A guest whose physmap is Xen's, and changes while the guest is saved. docs/correctness.md says what this is and is not.
 *
 * gfns 0 to 2, each with a page or without. Content need not be modelled: it is enough whether what was sent of a gfn is
 * what its page holds now.
 *
 * MARKS_NEW: Xen since 4.22: a page that comes is dirty; else what is written to it is in no bitmap before the next clean.
 * NO_...: without a rule. */
#include "shared.pml"

#define NG    3
#define NONE  7

/* -- the guest, its device model, and Xen */

byte page = 3;                  /* gfns that have one */
byte tracked;                   /* gfns whose writes Xen notes */
byte unmarked = NONE;           /* the device model has written it, and is about to tell Xen */
bool model_told;                /* the device model tells Xen what it writes */
byte lingers;                   /* gfns that have lost a page which the saver maps: it is at no gfn, and counts until that ends */
bool went, came;                /* from the number of pages, since that was asked for */

/* -- the stream's last word */

byte sent;                      /* gfns of which it has data */
byte same;                      /* that is what the page holds now */

/* -- the saver */

byte hole, deferred, untracked; /* what it remembers of gfns; hole: without_data */
byte counted;                   /* of the holes: a look has found a page there, which was not sent yet */
byte cursor;
byte hand = NONE, ahead = NONE; /* the gfn in hand; the next one, if it is prepared */
bool hand_page, ahead_page;     /* Xen said that it has a page */
byte mapped;                    /* gfns of which the saver maps the page that is there now */
byte spent = NONE;              /* a gfn that was sent, and is to be unmapped by the worker */
byte looked_at;

/* code: pyxcsr/guest/hvm/moves.py __init__ */
byte pages;
bool look_due, first = true, once, unsettled, all_marked, quiet = true, was_quiet = true;
bool up, down, up_before, down_before, vanished, hidden_up;
byte appeared, owed;            /* how many; owed: pages by which the number went up, and that no look has found */

byte number;
#define bits(set)   (has(set, 0) + has(set, 1) + has(set, 2))
#define count_pages (bits(page) + bits(lingers))

/* Content that was not there before; it is in the next bitmap if Xen tracks that page. */
inline changes(g)
{
    same = same & ~bit_of(g);
    if :: tracking && has(tracked, g) -> dirty = dirty | bit_of(g) :: else fi
}

/* -- what the guest and its device model do */

inline select_gfn(g) { if :: g = 0 :: g = 1 :: g = 2 fi }

inline writes()
{
    select_gfn(i_);
    if :: has(page, i_) -> changes(i_); budget-- :: else fi
}

/* Between its preparing and its building a page is mapped, it is not said when. */
#define may_be_mapped(g) (((g == hand && hand_page) || (g == ahead && ahead_page)) && !has(lingers, g))

inline gives_back()
{
    select_gfn(i_);
    if
    :: has(page, i_) && unmarked != i_ ->
        page = page & ~bit_of(i_);
#ifdef MARKS_NEW
        dirty = dirty & ~bit_of(i_);
#endif
        same = same & ~bit_of(i_);
        if
        :: has(mapped, i_) || may_be_mapped(i_) -> lingers = lingers | bit_of(i_)
        :: !has(mapped, i_) -> went = true
        fi;
        mapped = mapped & ~bit_of(i_);
        budget--
    :: else
    fi
}

inline gets()
{
    select_gfn(i_);
    if
    :: !has(page, i_) ->
        page = page | bit_of(i_);
        same = same & ~bit_of(i_);
#ifdef MARKS_NEW
        if :: tracking -> dirty = dirty | bit_of(i_); tracked = tracked | bit_of(i_) :: else fi;
#else
        tracked = tracked & ~bit_of(i_);
#endif
        came = true;
        budget--
    :: else
    fi
}

/* Its mappings are its own: Xen sees nothing of what it writes, and is told afterwards. */
inline device_model_writes()
{
    select_gfn(i_);
    if
    :: has(page, i_) && unmarked == NONE ->
        same = same & ~bit_of(i_);
        unmarked = (model_told -> i_ : NONE);
        budget--
    :: else
    fi
}

inline device_model_tells()
{
    if :: tracking -> dirty = dirty | bit_of(unmarked) :: else fi;
    unmarked = NONE
}

active proctype guest()
{
one_step
    do
    :: atomic { running && budget -> writes() } again
    :: atomic { running && budget -> gives_back() } again
    :: atomic { running && budget -> gets() } again
#ifdef DEVICE_MODEL
    :: atomic { running && budget -> device_model_writes() } again
    :: atomic { unmarked != NONE -> device_model_tells() } again
#endif
    :: atomic { outcome -> break }
    od
}

/* -- the number of pages. If a page went and another came between two questions, the number does not tell, and nothing
 *    is promised: such guests are not followed any further. */

/* code: pyxcsr/guest/hvm/moves.py note */
inline note(n)
{
    if
    :: n != pages ->
        look_due = true; quiet = false;
        if
        :: n > pages ->
            up = true; owed = owed + n - pages;
#ifndef NO_FIRST
            once = once || first;
#endif
            unsettled = unsettled || down || down_before
        :: n < pages ->
            down = true;
#ifndef NO_HIDDEN_UP
            unsettled = unsettled || up || up_before || hidden_up
#endif
        fi;
        pages = n
    :: else
    fi
}

/* code: pyxcsr/guest/hvm/following.py _pages */
#define asks() if :: went && came -> goto unpromised :: else -> went = false; came = false; number = count_pages fi

/* -- looks */

/* In the first pass all are marked, and those that it has still to come to are left to it. */
#ifdef NO_MARKED_ASKED
#define not_asked(g) ((g) >= cursor && has(bitmap, g))
#else
#define not_asked(g) (first && (g) >= cursor && has(bitmap, g))
#endif

/* code: csrc/save/physmap.c xcsr_physmap_look look_once look_at next_gfns */
inline look_at(g)
{
    if
    :: not_asked(g) -> skip
    :: !not_asked(g) && has(page, g) && has(hole & ~counted, g) && !(g >= cursor && has(bitmap, g)) ->
        bitmap = bitmap | bit_of(g);
        counted = counted | bit_of(g);
#ifndef NO_UNTRACKED_LOOKS
        untracked = untracked | bit_of(g);
#endif
        appeared++
    :: !not_asked(g) && !has(page, g) && !has(hole & ~counted, g) ->
        counted = counted & ~bit_of(g);
#ifndef NO_VANISHED
        bitmap = bitmap | bit_of(g);
        untracked = untracked | bit_of(g);
#endif
#ifndef NO_HOLES_BY_LOOKS
        hole = hole | bit_of(g);
#endif
        vanished = true
    :: else
    fi
}

/* code: pyxcsr/guest/hvm/following.py _compare _between */
/* code: pyxcsr/guest/hvm/moves.py look_begins look_ends */
/* Xen is asked of some gfns at a time, and between these the number is asked for, or not. */
inline compare()
{
    atomic { up_before = up; down_before = down; up = false; down = false; look_due = false; looked_at = 0 }
    do
    :: atomic { looked_at < NG -> look_at(looked_at); looked_at++ }
    :: atomic { looked_at > 0 && looked_at < NG && (went || came) -> asks(); note(number) }
    :: atomic {
           looked_at == NG ->
           looked_at = 0;
           asks(); note(number);
           unsettled = unsettled || (appeared && !up && !up_before) || (vanished && !down && !down_before);
           owed = (owed > appeared -> owed - appeared : 0);
#ifdef NO_OWED
           hidden_up = hidden_up || ((up || up_before) && !appeared);
#else
           hidden_up = hidden_up || (owed && !up);
#endif
           up_before = false; down_before = false; appeared = 0; vanished = false;
           number = 0;
           break
       }
    od
}

/* code: pyxcsr/guest/hvm/following.py look */
/* A look that is due may have to wait: they take at most so much of the time. */
inline look()
{
    atomic { asks(); note(number); number = 0 }
#ifndef NO_LOOKS
    if
    :: atomic { look_due -> skip }; compare()
    :: skip
    fi
#endif
}

/* code: pyxcsr/guest/hvm/moves.py bitmap_fetched */
inline bitmap_fetched()
{
    was_quiet = quiet; quiet = true;
#ifndef NO_COUNT_AT_BITMAP
    asks(); note(number); number = 0;
#endif
    was_quiet = was_quiet && quiet;
    first = false
}

/* code: pyxcsr/guest/hvm/moves.py all_again */
/* code: csrc/save/logdirty.c xcsr_mark_data */
inline all_again()
{
    if
    :: all_marked && was_quiet && quiet -> unsettled = false; hidden_up = false; owed = 0
    :: else
    fi;
#ifdef NO_SECOND_TIME
    if :: all_marked -> unsettled = false; once = false :: else fi;
#endif
#ifdef NO_UNSETTLED
    all_marked = once;
#else
    all_marked = unsettled || once;
#endif
    once = once && !quiet;
    if :: all_marked -> bitmap = bitmap | (7 & ~hole) :: else fi
}

/* code: csrc/save/logdirty.c xcsr_merge_deferred merge_set */
inline merge_deferred()
{
    bitmap = bitmap | deferred | untracked;
    untracked = 0
}

/* code: pyxcsr/transfer/saver.py _fetch_dirty */
/* code: pyxcsr/guest/hvm/following.py fetched sweep */
inline fetch_dirty()
{
    atomic { clean(); tracked = page }
    atomic { bitmap_fetched() }
    atomic { merge_deferred() }
#ifndef NO_LOOKS
    if
    :: atomic { look_due -> skip }; compare()
    :: atomic { else -> skip }
    fi;
#endif
    atomic { all_again() }
}

/* -- the saver sends */

/* code: csrc/save/batch.c batch_prepare take_type note_if_new enter_without_data */
inline prepare(gfn, its)
{
    gfn = NONE; its = false;
    for (i_ : 0 .. 2) {
        if
        :: gfn == NONE && i_ >= cursor && has(bitmap, i_) -> gfn = i_
        :: else
        fi
    }
    if
    :: gfn != NONE ->
        cursor = gfn + 1;
        bitmap = bitmap & ~bit_of(gfn);
        deferred = deferred & ~bit_of(gfn);
        counted = counted & ~bit_of(gfn);
        if
        :: has(page, gfn) ->
            its = true;
#ifndef NO_NEW_IN_BATCH
            if :: has(hole, gfn) && !suspended_pass -> untracked = untracked | bit_of(gfn) :: else fi;
#endif
            hole = hole & ~bit_of(gfn)
        :: else -> hole = hole | bit_of(gfn)
        fi
    :: else
    fi
}

/* code: csrc/save/batch.c batch_build take_pages defer_or_fail */
/* If the page has gone since it was prepared, it may have been mapped before that, and is sent; or it was not. */
inline build(gfn, its)
{
    if
    :: !its -> sent = sent & ~bit_of(gfn); same = same & ~bit_of(gfn)
    :: its && has(lingers, gfn) -> sent = sent | bit_of(gfn); same = same & ~bit_of(gfn)
    :: its && !has(lingers, gfn) && has(page, gfn) ->
        sent = sent | bit_of(gfn); same = same | bit_of(gfn);
        mapped = mapped | bit_of(gfn)
    :: its && !has(lingers, gfn) && !has(page, gfn) ->
        assert(!suspended_pass);
        sent = sent & ~bit_of(gfn); same = same & ~bit_of(gfn);
        hole = hole | bit_of(gfn); deferred = deferred | bit_of(gfn)
    fi
}

/* code: csrc/save/mapper.c mapper_retire */
inline unmap(gfn)
{
    mapped = mapped & ~bit_of(gfn);
    if
    :: has(lingers, gfn) -> lingers = lingers & ~bit_of(gfn); went = true
    :: else
    fi
}

/* code: pyxcsr/transfer/saver.py _pass */
/* code: csrc/save/pass.c one_batch look_ahead take_next */
/* A batch is one gfn here. AHEAD: the next one is prepared before this one is built. */
inline pass()
{
    atomic { prepare(hand, hand_page) }
    do
    :: atomic {
           hand != NONE ->
#ifdef AHEAD
           prepare(ahead, ahead_page)
#else
           skip
#endif
       }
       atomic { build(hand, hand_page) }
       if /* code: pyxcsr/guest/hvm/following.py watch */
       :: atomic { !suspended_pass && (went || came) -> asks(); note(number); number = 0 }
       :: skip
       fi;
       atomic {
#ifdef AHEAD
           spent == NONE -> spent = hand;
#else
           unmap(hand);
#endif
           hand = ahead; hand_page = ahead_page; ahead = NONE; ahead_page = false
       }
       if
       :: atomic { !suspended_pass -> skip }; look()
       :: atomic { suspended_pass -> skip }
       fi;
#ifndef AHEAD
       atomic { prepare(hand, hand_page) }
#endif
    :: atomic { hand == NONE -> cursor = 0; bitmap = 0; break }
    od
}

/* code: pyxcsr/transfer/saver.py _logdirty_on _precopy _last_pass _stream */
#ifdef AHEAD
/* code: csrc/save/ahead.c ahead_unmap */
active proctype worker()
{
    do
    :: atomic { spent != NONE -> unmap(spent); spent = NONE }
    :: atomic { outcome && spent == NONE -> break }
    od
}
#endif

active proctype saver()
{
    atomic { pages = count_pages; running = true } /* code: pyxcsr/guest/hvm/following.py __init__ */
#ifndef NO_MODEL_TOLD
    atomic { model_told = true } /* code: pyxcsr/guest/hvm/save.py switch_device_model */
#endif
    atomic { tracking = true; tracked = page }
    atomic { asks(); note(number); number = 0 } /* code: pyxcsr/guest/hvm/following.py tracked */
    bitmap = 7; /* code: csrc/save/logdirty.c xcsr_mark_all */
    do
    :: look();
       pass();
       atomic { passes++ };
       if
       :: atomic { passes == PASSES -> break }
       :: atomic { passes < PASSES -> skip }; fetch_dirty()
       :: atomic { passes < PASSES -> break }
       :: goto refuse /* code: pyxcsr/transfer/saver.py _poll */
       fi
    od;
    atomic { running = false; suspended_pass = true } /* code: pyxcsr/transfer/pause.py begin */
    unmarked == NONE; /* code: pyxcsr/suspend/hvm.py HvmSuspend */
#ifndef NO_SETTLED
    spent == NONE; /* code: csrc/save/mapper.c mapper_settle */
#endif
    fetch_dirty();
    pass();
    atomic { /* the stream is complete */
        tracking = false; model_told = false;
        assert(sent == page);
        assert((same & page) == page);
        outcome = COMPLETE
    }
    goto end;
refuse:
    give_up();
    assert(running && !tracking);
    goto end;
unpromised:
    give_up();
end:
    skip
}
