/* A PV guest that changes its p2m while it is saved. docs/correctness.md says what this is and what it is not.
 *
 * pfns 0, 2 and 3 are pages of data or holes, pfn 1 a page table with one entry, 4 and 5 pages that the p2m may lie in,
 * 6 the page table through which the p2m is found. The machine has three frames for pfns 0, 2 and 3. All frames differ
 * in content, so that content need not be modelled: it is enough whether what was sent of a frame is what it holds.
 *
 * NO_...: without a rule. FULL: pfn 3 has a frame at first, and none is left. LIAR: the guest does not announce. TREE: there is nothing to announce by.
 * HIDES: it takes frames out of its p2m, and out of the m2p, which page tables name and Xen does not get. Such a save may be refused. */
#include "shared.pml"

#define NF      3
#define NONE    7               /* no frame, or no pfn */
#define TABLE   1
#define LEAF    4               /* and 5 */
#define LIST    6
#define is_data(p) ((p) != TABLE)

/* -- the guest and Xen */

byte pm[8] = NONE;              /* entry of pfn p in page l of the p2m: pm[4 * l + p] */
byte m2p[NF] = NONE;
byte entry;                     /* of the page table: a frame or NONE */
bit leaf;                       /* which page the p2m is in */
byte max_pfn = 4;               /* 3 or 4, as shared_info tells */
byte generation;
bool changing;                  /* the generation is odd */
bool resizing;                  /* announced, and max_pfn is still to follow */
byte moving;                    /* two pfns exchange frames: 1: the p2m is done, the m2p is not; 2: the other way round */
byte one, other;                /* these two */
byte kept;                    /* frames that the guest has, though no pfn does */
#define is_the_guests(f) (m2p[f] != NONE || has(kept, f))

/* -- the stream's last word */

byte sent[4];                   /* 0: none; 1: an entry without data; frame + 2: with data, from that frame */
bool same[4];                   /* that data is what the frame holds now */
byte sent_entry = 6;            /* of the page table: the frame that its entry named; 6: no data yet */
byte sent_name;                 /* and the pfn that was sent for it */
bit told_leaf;                  /* X86_PV_P2M_FRAMES */
byte told_nr;

/* -- the saver */

byte mark[4];                   /* what it remembers: 0 never, 1 hole, frame + 2 */
byte deferred;
byte former;                    /* frames */
byte unclaimed;                 /* of these, those that no pfn has: whose are they? */
bool tables, recent;            /* the table was sent ever, since the last sweep */
bit mapped;                     /* page of the p2m that is mapped */
byte nr, p2m_nr;                /* pfns of the save, of the p2m as mapped */
bool fresh;                     /* the mapped page was written, or is another */
bool stale;                     /* the next look walks */
byte seen_generation, seen_max;
byte head;                      /* generation, during a walk */
byte cursor;
byte hand = NONE, ahead = NONE; /* the page in hand; the next one, if it is prepared */
byte hand_frame, ahead_frame;   /* what the p2m named for it then; more than NONE: that and ELSEWHERE */
#define ELSEWHERE 8             /* the m2p names another pfn for that frame */
byte swept;                     /* how far the sweep is */
bool written, moved, found;     /* what it has found */
bit leaf_found;                 /* by a walk */
byte nr_found, walked_max;

#define mapped_entry(p) ((p) < p2m_nr -> pm[4 * mapped + (p)] : NONE)
#define guest_entry(p)  pm[4 * leaf + (p)]

/* code: csrc/xen/handle.h xcsr_lookup_pfn */
#define lookup(f) (m2p[f] == NONE -> NONE : (mapped_entry(m2p[f]) == (f) -> m2p[f] : NONE))

#define touch(pfn) if :: tracking -> dirty = dirty | bit_of(pfn) :: else fi

/* Other content in a frame. */
inline differs(f)
{
    for (j_ : 0 .. 3) {
        if :: sent[j_] == f + 2 -> same[j_] = false :: else fi
    }
}

/* -- what the guest does. Xen marks what it writes by the pfn that the m2p has for the frame, and marks a pfn when the
 *    m2p is written (MMU_MACHPHYS_UPDATE), but not a page that it gives to the guest. */

inline select_frame(f) { if :: f = 0 :: f = 1 :: f = 2 fi }
inline select_pfn(p) { if :: p = 0 :: p = 2 :: p = 3 fi }
#define still (!moving && !resizing)

inline writes()
{
    select_frame(f_);
    if
    :: m2p[f_] != NONE -> touch(m2p[f_]); differs(f_); budget--
    :: else
    fi
}

/* Xen gives away no frame that a page table refers to. */
inline balloons_out()
{
    select_pfn(i_);
    f_ = guest_entry(i_);
    if
    :: still && f_ != NONE && f_ != entry ->
        pm[4 * leaf + i_] = NONE; touch(LEAF + leaf);
        m2p[f_] = NONE;
        budget--
    :: else
    fi
}

inline balloons_in()
{
    select_pfn(i_);
    select_frame(f_);
    if
    :: still && i_ < max_pfn && guest_entry(i_) == NONE && !is_the_guests(f_) ->
        m2p[f_] = i_;
        pm[4 * leaf + i_] = f_; touch(LEAF + leaf);
        differs(f_);
        budget--
    :: else
    fi
}

/* In the m2p it may stay or not. */
inline hides()
{
    select_pfn(i_);
    f_ = guest_entry(i_);
    if
    :: still && f_ != NONE ->
        pm[4 * leaf + i_] = NONE; touch(LEAF + leaf);
        kept = kept | bit_of(f_);
        if :: m2p[f_] = NONE :: skip fi;
        budget--
    :: else
    fi
}

inline exchange_entries()
{
    f_ = guest_entry(one);
    pm[4 * leaf + one] = guest_entry(other);
    pm[4 * leaf + other] = f_;
    touch(LEAF + leaf)
}

inline set_m2p(f, pfn)
{
    if
    :: f != NONE -> m2p[f] = pfn; touch(pfn)
    :: else
    fi
}

/* Two pfns exchange their frames, or a frame moves to a hole. The guest may be interrupted there, but not suspended. */
inline begins_to_move()
{
    if
    :: still ->
        if :: one = 0; other = 2 :: one = 0; other = 3 :: one = 2; other = 3 fi;
        e_ = guest_entry(one); f_ = guest_entry(other);
        if
        :: other < max_pfn && e_ != f_ ->
            if
            :: exchange_entries(); moving = 1
            :: set_m2p(e_, other); set_m2p(f_, one); moving = 2
            fi;
            budget--
        :: else -> one = 0; other = 0
        fi
    :: else
    fi
}

inline ends_to_move()
{
    if
    :: moving == 1 ->
        e_ = guest_entry(one); f_ = guest_entry(other);
        set_m2p(e_, one); set_m2p(f_, other)
    :: else -> exchange_entries()
    fi;
    moving = 0; one = 0; other = 0
}

inline writes_table()
{
    if
    :: f_ = NONE; e_ = 0
    :: select_frame(f_); e_ = m2p[f_]
    fi;
    if
    :: entry != f_ && e_ < max_pfn && (f_ == NONE || guest_entry(e_) == f_) -> entry = f_; touch(TABLE); budget--
    :: else
    fi
}

#if defined(LIAR) || defined(TREE)
#define SILENT
#define announces() skip
#else
#define announces() generation++
#endif

/* The structure changes: another page takes the place of the p2m's. It is written for that. */
inline begins_to_replace()
{
    if
    :: !changing && !resizing -> changing = true; announces(); budget--
    :: else
    fi
}

inline ends_to_replace()
{
    for (j_ : 0 .. 3) { pm[4 * (1 - leaf) + j_] = pm[4 * leaf + j_] }
    leaf = 1 - leaf;
    touch(LEAF + leaf);
    touch(LIST);
    changing = false;
    announces()
}

/* A guest that tells the truth has no memory beyond the end. One that lies may have some, but no page table that names it. */
#ifdef SILENT
#define may_shrink (guest_entry(3) == NONE || guest_entry(3) != entry)
#else
#define may_shrink (guest_entry(3) == NONE)
#endif

/* As Linux, it sets max_pfn only when the generation is even again. */
inline resizes()
{
    if
    :: still && !changing && (max_pfn == 3 || may_shrink) ->
        resizing = true; announces(); announces(); budget--
    :: else
    fi
}

inline ends_to_resize()
{
    if
    :: max_pfn == 3 || may_shrink -> max_pfn = 7 - max_pfn
    :: else
    fi;
    resizing = false
}

/* -- the saver looks at the structure */

/* code: csrc/xen/p2m.c xcsr_p2m_swap */
/* code: csrc/save/lifetime.c xcsr_save_grow */
inline use_what_was_found()
{
#ifndef NO_FRESH_PAGES
    if :: mapped != leaf_found -> fresh = true :: else fi;
#endif
#ifndef NO_FRESH_GROWTH
    if :: p2m_nr < nr_found -> fresh = true :: else fi;
#endif
    mapped = leaf_found;
    p2m_nr = nr_found;
    if
    :: nr < p2m_nr -> nr = p2m_nr; bitmap = bitmap | bit_of(3)
    :: else
    fi
}

#ifdef NO_HEAD
#define head_moved false
#else
#define head_moved (max_pfn != seen_max)
#endif
#ifdef NO_GENERATION
#define announced head_moved
#else
#define announced (generation != seen_generation || head_moved)
#endif

/* code: pyxcsr/guest/pv/p2m/generation.py read_even */
/* It waits as long as the limits allow; for a guest that is suspended, not at all. */
inline read_even()
{
#ifndef NO_WAIT
    if
    :: atomic { generation % 2 == 0 -> head = generation }
    :: atomic { generation % 2 == 1 -> goto refuse } /* it took too long */
    fi
#else
    atomic { head = generation }
#endif
}

/* code: pyxcsr/guest/pv/p2m/follow.py look _take _take_once */
/* code: pyxcsr/guest/pv/changes.py _look */
/* A walk is no single step: the guest may go on changing. What was overtaken is made again, or, while the guest runs,
 * left to the next look. */
#if !defined(STRUCTURE) && !defined(RESIZES)
#define look() skip /* a walk would find what it found before */
#else
inline look()
{
    if
    :: atomic { announced || stale -> stale = true }
        read_even();
        atomic { leaf_found = leaf; nr_found = max_pfn; walked_max = max_pfn }
        if
        :: atomic {
               generation == head && max_pfn == walked_max ->
               use_what_was_found();
#ifndef NO_RECORD
               told_leaf = mapped; told_nr = nr;
#endif
               seen_generation = head; seen_max = walked_max;
               stale = false;
               leaf_found = 0; nr_found = 0; walked_max = 0; head = 0
           }
        :: atomic { else -> leaf_found = 0; nr_found = 0; walked_max = 0; head = 0 } /* overtaken */
        fi
    :: atomic { else -> skip }
    fi
}
#endif

/* -- the saver sends */

/* code: csrc/save/batch.c batch_prepare take_frame */
/* The next page that is marked; of data also what the p2m names for it, and whether the m2p agrees. */
inline prepare(page, its)
{
    page = NONE; its = 0;
    for (i_ : 0 .. 3) {
        if
        :: page == NONE && i_ >= cursor && i_ < nr && has(bitmap, i_) -> page = i_
        :: else
        fi
    }
    if
    :: page != NONE ->
        cursor = page + 1;
        bitmap = bitmap & ~bit_of(page);
        if
        :: is_data(page) ->
            its = mapped_entry(page);
            if
            :: its != NONE -> if :: m2p[its] != page -> its = its + ELSEWHERE :: else fi
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

/* code: csrc/save/follow.c follow_note note_leaf */
/* code: csrc/save/former.c former_note */
inline note(p, m)
{
#ifndef NO_FORMER
    if :: mark[p] > 1 && mark[p] != m -> former = former | bit_of(mark[p] - 2) :: else fi;
#endif
    mark[p] = m
}

/* code: csrc/save/batch.c enter_without_data */
inline without_data(p, m)
{
    sent[p] = 1; same[p] = false;
    note(p, m)
}

/* code: csrc/save/batch.c normalise_page */
/* code: csrc/save/follow.c note_table */
inline build_table()
{
    e_ = NONE;
    if :: entry != NONE -> e_ = lookup(entry) :: else fi;
    if
    :: entry == NONE || e_ != NONE ->
        sent_entry = entry; sent_name = (entry == NONE -> 0 : e_);
        deferred = deferred & ~bit_of(TABLE);
        tables = true; recent = true
    :: else -> /* it names a frame that is not the guest's */
#ifdef HIDES
        if :: suspended_pass -> goto refuse :: else fi;
#else
        assert(!suspended_pass);
#endif
        sent_entry = 6; sent_name = 0;
        deferred = deferred | bit_of(TABLE)
    fi
}

/* code: csrc/save/batch.c batch_build take_pages defer_or_fail */
/* A page of a suspended guest that cannot be sent is an error. These guests have none. */
inline build(page, its)
{
    if
    :: !is_data(page) -> build_table()
    :: is_data(page) && its == NONE -> without_data(page, 1); deferred = deferred & ~bit_of(page)
    :: is_data(page) && its > NONE ->
        assert(!suspended_pass);
        without_data(page, its - ELSEWHERE + 2);
        deferred = deferred | bit_of(page)
    :: is_data(page) && its < NONE ->
        sent[page] = its + 2; same[page] = true;
        note(page, its + 2);
        deferred = deferred & ~bit_of(page)
    fi
}

#if !defined(STRUCTURE) && !defined(RESIZES)
#define if_live_look() skip
#else
#define if_live_look() if :: atomic { !suspended_pass -> skip }; look() :: atomic { suspended_pass -> skip } fi
#endif

/* code: pyxcsr/transfer/saver.py _pass _check_iteration */
/* code: csrc/save/pass.c one_batch look_ahead take_next */
/* A batch is one page here. AHEAD: the next one is prepared before this one is built. */
inline pass()
{
    atomic { prepare(hand, hand_frame) }
    do
    :: atomic {
           hand != NONE ->
#ifdef AHEAD
           prepare(ahead, ahead_frame)
       }
       atomic {
#endif
           build(hand, hand_frame);
           hand = ahead; hand_frame = ahead_frame; ahead = NONE; ahead_frame = 0
       }
       if_live_look();
#ifndef AHEAD
       atomic { prepare(hand, hand_frame) }
#endif
    :: atomic { hand == NONE -> cursor = 0; bitmap = 0; break }
    od
}

/* -- what is marked besides the bitmap */

/* code: csrc/save/logdirty.c xcsr_merge_deferred merge_holes merge_set */
inline merge_deferred()
{
    atomic {
        for (i_ : 0 .. 3) {
            if
            :: is_data(i_) && i_ < nr && mapped_entry(i_) != NONE &&
               (has(deferred, i_) || (sent[i_] == 1 && has(bitmap, LEAF + mapped))) -> bitmap = bitmap | bit_of(i_)
            :: !is_data(i_) && has(deferred, i_) -> bitmap = bitmap | bit_of(i_)
            :: else
            fi
        }
    }
}

/* code: csrc/save/follow.c look_after_frame */
inline look_after_frame(p)
{
    e_ = lookup(mark[p] - 2);
#ifndef NO_UNCLAIMED
    if :: e_ == NONE -> former = former | bit_of(mark[p] - 2) :: else fi;
#endif
    moved = moved || (e_ != NONE && e_ != p)
}

/* code: csrc/save/follow.c sweep_one sweep_hole sweep_frame */
inline sweep_one(p)
{
    f_ = mapped_entry(p);
    if
    :: f_ == NONE && mark[p] != 1 ->
#ifndef NO_VANISHED
        bitmap = bitmap | bit_of(p);
#endif
        found = true;
        if :: mark[p] > 1 -> look_after_frame(p) :: else fi
    :: f_ != NONE && mark[p] == f_ + 2 ->
#ifndef NO_RETURNED
        bitmap = bitmap | bit_of(p)
#else
        skip
#endif
    :: f_ != NONE && mark[p] != f_ + 2 ->
        bitmap = bitmap | bit_of(p);
        found = true;
        if :: mark[p] > 1 -> look_after_frame(p) :: else fi
    :: else
    fi
}

#ifdef NO_SHRUNK
#define beyond_end(p) false
#else
#define beyond_end(p) ((p) >= p2m_nr)
#endif

#define differs_from_mark(p) (mark[p] != (mapped_entry(p) == NONE -> 1 : mapped_entry(p) + 2))

/* code: csrc/save/leaves.c leaves_written */
/* code: csrc/save/follow.c xcsr_sweep sweep_leaf look_at_leaf sweep_leaves */
/* Of a page that was written all entries are looked at; of another one, while the guest runs, those that differ. */
inline sweep_pages()
{
    atomic { written = fresh || has(bitmap, LEAF + mapped); fresh = false; found = written; swept = 0 }
    do
    :: atomic {
           swept < nr ->
           if
           :: is_data(swept) && ((swept < p2m_nr && (written || (!suspended_pass && differs_from_mark(swept)))) ||
              beyond_end(swept)) -> sweep_one(swept)
           :: else
           fi;
           swept++
       }
    :: atomic { swept == nr -> swept = 0; written = false; break }
    od
}

/* code: csrc/save/former.c former_in_use look_at_frame */
inline look_after_former()
{
    for (i_ : 0 .. 2) {
        if
        :: has(former, i_) && lookup(i_) != NONE -> moved = true; former = former & ~bit_of(i_)
        :: has(former, i_) && lookup(i_) == NONE -> unclaimed = unclaimed | bit_of(i_)
        :: else
        fi
    }
}

/* code: csrc/save/former.c ask_xen */
inline ask_whose_they_are()
{
    for (i_ : 0 .. 2) {
        if
        :: has(unclaimed, i_) && (suspended_pass || !is_the_guests(i_)) ->
#ifndef NO_KEPT
            moved = moved || is_the_guests(i_);
#endif
            former = former & ~bit_of(i_)
        :: else
        fi
    }
    unclaimed = 0
}

/* code: csrc/save/follow.c mark_table */
inline sweep_tables()
{
    atomic { look_after_former() }
    atomic {
        ask_whose_they_are();
        if
#ifndef NO_ALL_TABLES
        :: moved && tables -> bitmap = bitmap | bit_of(TABLE)
#endif
#ifndef NO_RECENT_TABLES
        :: !moved && found && recent -> bitmap = bitmap | bit_of(TABLE)
#endif
        :: else
        fi;
        recent = false; moved = false; found = false;
        bitmap = bitmap & 15
    }
}

/* code: pyxcsr/guest/pv/following.py sweep */
inline sweep()
{
#ifndef NO_SWEEP
    sweep_pages();
    sweep_tables()
#else
    bitmap = bitmap & 15
#endif
}

/* code: pyxcsr/guest/pv/p2m/follow.py note_written */
#ifdef NO_WATCH
#define list_written false
#elif defined(TREE) && !defined(NO_TREE_WALKS)
#define list_written true
#elif defined(TREE)
#define list_written false
#else
#define list_written has(bitmap, LIST)
#endif

/* code: pyxcsr/transfer/saver.py _fetch_dirty */
/* code: pyxcsr/guest/pv/following.py fetched */
inline fetch_dirty()
{
    atomic { clean(); stale = stale || list_written }
#ifdef NO_LAST_LOOK
    if :: !suspended_pass -> look() :: else fi;
#else
    look(); /* code: pyxcsr/guest/pv/p2m/follow.py look_last */
#endif
    merge_deferred();
    sweep()
}

/* code: pyxcsr/guest/pv/p2m/generation.py check_same */
#define changed_while_suspended (generation != seen_generation)

/* code: pyxcsr/transfer/saver.py _precopy _last_pass _stream */
active proctype saver()
{
    atomic { /* the guest and the machine as they are at first */
        pm[0] = 0; m2p[0] = 0; pm[2] = 1; m2p[1] = 2;
        if :: entry = 0 :: entry = 1 fi;
#ifdef FULL
        pm[3] = 2; m2p[2] = 3;
#elif defined(RESIZES)
        if :: max_pfn = 3 :: max_pfn = 4 fi;
#endif
        running = true
    }
    atomic { /* code: pyxcsr/guest/pv/save.py setup */
        nr = max_pfn; p2m_nr = nr; seen_max = nr; told_nr = nr; seen_generation = generation
    }
    atomic { /* code: csrc/save/logdirty.c xcsr_logdirty_enable xcsr_mark_all */
        tracking = true; bitmap = (1 << nr) - 1;
        stale = true /* code: pyxcsr/guest/pv/following.py tracked */
    }
    do
    :: look();
       pass();
       passes++;
       if
       :: passes == PASSES -> break
       :: passes < PASSES -> fetch_dirty()
       :: passes < PASSES -> break
       :: goto refuse /* code: pyxcsr/transfer/saver.py _poll */
       fi
    od;
    atomic { /* code: pyxcsr/transfer/pause.py begin */
        !moving && !resizing -> running = false; suspended_pass = true
    }
    fetch_dirty();
    if
    :: changed_while_suspended -> goto refuse
    :: else
    fi;
    pass();
    atomic { /* the stream is complete */
        tracking = false;
#ifndef SILENT
        assert(!changing); /* the last look has waited for it in vain */
#endif
        assert(told_leaf == leaf && told_nr >= max_pfn);
        for (i_ : 0 .. 3) {
            f_ = (i_ < max_pfn -> guest_entry(i_) : NONE);
            assert(!is_data(i_) || (f_ == NONE -> sent[i_] < 2 : sent[i_] == f_ + 2 && same[i_]))
        }
        assert(sent_entry == entry);
        assert(entry == NONE || sent_name == m2p[entry]);
        assert(entry == NONE || (sent_name < max_pfn && guest_entry(sent_name) == entry));
        outcome = COMPLETE
    }
    goto end;
refuse:
    give_up();
    assert(running && !tracking);
end:
    skip
}

active proctype guest()
{
one_step
    do
    :: atomic { running && budget -> writes() } again
    :: atomic { running && budget -> balloons_out() } again
    :: atomic { running && budget -> balloons_in() } again
#ifdef HIDES
    :: atomic { running && budget -> hides() } again
#endif
    :: atomic { running && budget -> begins_to_move() } again
    :: atomic { running && moving -> ends_to_move() } again
#ifndef NO_TABLE_WRITES
    :: atomic { running && budget -> writes_table() } again
#endif
#ifdef STRUCTURE
    :: atomic { running && budget -> begins_to_replace() } again
    :: atomic { running && changing -> ends_to_replace() } again
#endif
#ifdef RESIZES
    :: atomic { running && budget -> resizes() } again
    :: atomic { running && resizing -> ends_to_resize() } again
#endif
    :: atomic { outcome -> break }
    od
}
