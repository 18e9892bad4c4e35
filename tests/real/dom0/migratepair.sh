# migratepair.sh N GUEST: run by tests/xenlab/pair on both of two machines, N is 1 or 2. `pyxcsr migrate` takes the guest
# to machine 2 and back, without zstd and with it. The checks are made over the same way, which xlpipe stands for.
. /payload/tests/real/dom0/lib.sh
me=$1 g=$2
there=10.0.0.$((3 - me))
install_pyxcsr
python3 $real/pairssh.py serve >/tmp/serve 2>&1 &
go() { pyxcsr migrate --ssh "python3 $real/pairssh.py" "$@" -- "$g" "$there" 2>&1 | tee /tmp/said; grep -qF "it runs there" /tmp/said; }
arrived() { # the guest has come and runs; its log here begins anew
    local i=0
    until [ "$(domid 2>/dev/null)" ] && [ -n "$(beat)" ]; do
        i=$((i + 1)); [ $i -lt 900 ] || { xl list; tail -n 20 /tmp/serve; return 1; }
        sleep 0.5
    done
    goes_on
}
leg() { # leg FROM WHAT OPTION...: one migration from machine FROM
    local from=$1 what=$2; shift 2
    if [ "$me" != "$from" ]; then needed "$what: arrived, memory clean" arrived; return; fi
    needed "$what: migrated away" go "$@"; cat /tmp/step
    step "$what: nothing of it is left here" gone
    forget
}
stays() { # the other end cannot take it: seen there, and nothing is done
    pyxcsr migrate --ssh "python3 $real/pairssh.py" --receiver-helper /nowhere/helper -- "$g" "$there" >/tmp/said 2>&1
    [ $? = 2 ] && grep -F "$there: there is no pyxcsr-save-helper" /tmp/said
}
[ "$me" = 2 ] || start "$g"
[ "$me" = 2 ] || needed "the other machine serves" sh -c 'for i in $(seq 200); do python3 -c "import socket; socket.create_connection((\"'$there'\", 8005), 2)" 2>/dev/null && exit; sleep 1; done; exit 1'
[ "$me" = 2 ] || step "no helper there" stays
leg 1 "there"
leg 2 "back" --max-downtime 2s
leg 1 "there, with zstd" --compress zstd
leg 2 "back, with zstd" --compress zstd:-5
end_together "$me"
finish
