# pairs.sh [GUEST [TIMES [WAY...]]]: who saved and who restores in all four pairs of Xen's
# own helper and pyxcsr-save-helper, WAY by way (save: `xl save`, then `xl restore`; migrate:
# live `xl migrate`), TIMES times. The guest goes from one pair to the next, so each saver
# meets what each restorer has left. A row a run into /out/pairs.json, a table printed.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
xl sched-credit2 -d 0 -w 4096 # dom0 does not wait for a guest whose processes never sleep
times=${2:-1}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- save migrate
rows=/tmp/rows who=/tmp/who
mkdir -p /tmp/s /tmp/by /out
: >$rows
by() { # by NAME PROGRAM: a save helper that says who it is, then becomes the program
    printf '#!/bin/sh\necho "%s $1" >>%s\nexec %s "$@"\n' "$1" $who "$2" >"/tmp/by/$1"
    chmod +x "/tmp/by/$1"
}
by stock "$(echo /usr/lib/xen-*/bin/libxl-save-helper)"
by pyxcsr "$helper"

save() { # save SAVER RESTORER
    LIBXL_SAVE_HELPER=/tmp/by/$1 xl save "$g" /tmp/s/a.xl && gone &&
        LIBXL_SAVE_HELPER=/tmp/by/$2 xl restore /tmp/s/a.xl
}
migrate() { LIBXL_SAVE_HELPER=/tmp/by/$1 xl migrate -s '' "$g" "env LIBXL_SAVE_HELPER=/tmp/by/$2 xl migrate-receive"; }

# moved WAY SAVER RESTORER: done by those two themselves, none handing over, and Xen had nothing to refuse
moved() {
    local was; was=$(domid)
    rm -f $who /tmp/s/a.xl; xl dmesg -c >/dev/null
    "$@" || { xl dmesg; return 1; }
    [ "$(domid)" != "$was" ] || { echo "the same domain as before"; return 1; }
    printf '%s --save-domain\n%s --restore-domain\n' "$2" "$3" | diff - $who || return 1
    ! xl dmesg | grep -E 'mm\.c|domctl\.c|[Bb]ad |[Ee]rror|WARN'
}
begin_anew() { # begin_anew N WAY SAVER RESTORER: after a failure the next pair starts from a guest that is well
    local kept="/out/failed-$1-$2-$3-$4"
    mkdir -p "$kept"; xl list >"$kept/list"; xl dmesg >"$kept/xen-dmesg"; cp $logs/guest-"$g"*.log "$kept/"
    for _ in $(seq 30); do # a receiver may still be at work, and a name in use
        xl list | awk 'NR > 1 && $1 != "Domain-0" {print $2}' | xargs -r -n 1 xl destroy
        sleep 1
        [ "$(xl list | wc -l)" -gt 2 ] || break
    done
    forget; start "$g"
}
pair() { # pair N WAY SAVER RESTORER
    local n=$1 was=$fails since a ms; shift
    until since=$(beat) && [ "$since" ]; do sleep 0.2; done # a log just begun has none yet
    a=$(ms)
    step "$1: $2 -> $3, $n" moved "$@"; ms=$(($(ms) - a))
    [ $fails -gt $was ] || step "  the guest goes on, memory clean" goes_on
    echo "$* $n $((fails == was)) $ms $since" >>$rows
    [ $fails -eq $was ] || begin_anew "$n" "$@"
}
for n in $(seq "$times"); do
    for way; do
        for saver in stock pyxcsr; do
            for restorer in stock pyxcsr; do pair "$n" "$way" $saver $restorer; done
        done
    done
done
step "table" python3 "$real/pairs.py" "$g" $rows /out/pairs.json
cat /tmp/step
finish
