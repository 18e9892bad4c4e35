# two.sh N GUEST [TIMES]: run by tests/xenlab/pair on both of two machines, N is 1 or 2. The guest is made on machine 1
# and migrated live to machine 2 by both machines' xl, then back: TIMES times with pyxcsr-save-helper at both ends, then
# as often with Xen's own helper sending and ours receiving, and the other way round. It must go on each time, clean.
. /payload/tests/real/dom0/lib.sh
me=$1 g=$2 times=${3:-1}
there=10.0.0.$((3 - me))
install_pyxcsr
mkdir -p /out
xlpipe serve 8002 env LIBXL_SAVE_HELPER="$helper" xl migrate-receive >/tmp/serve-pyxcsr 2>&1 &
xlpipe serve 8003 env -u LIBXL_SAVE_HELPER xl migrate-receive >/tmp/serve-stock 2>&1 &
port_of() { [ "$1" = pyxcsr ] && echo 8002 || echo 8003; }
sent() { # sent SAVER RESTORER
    local by=; [ "$1" = pyxcsr ] && by="LIBXL_SAVE_HELPER=$helper"
    env -u LIBXL_SAVE_HELPER $by xl migrate -s '' "$g" "xlpipe connect $there $(port_of "$2")"
}
arrived() { # the guest has come and runs; its log here begins anew
    local i=0
    until [ "$(domid 2>/dev/null)" ] && [ -n "$(beat)" ]; do
        i=$((i + 1)); [ $i -lt 900 ] || { xl list; tail -n 20 /tmp/serve-*; return 1; }
        sleep 0.5
    done
    goes_on
}
away() { # away SAVER RESTORER WHAT
    needed "$3: migrated away" sent "$1" "$2"
    step "$3: nothing of it is left here" gone
    forget
}
leg() { # leg FROM SAVER RESTORER WHAT: one migration from machine FROM
    if [ "$me" = "$1" ]; then away "$2" "$3" "$4"; else needed "$4: arrived, memory clean" arrived; fi
}
round() { # round SAVER RESTORER N
    leg 1 "$1" "$2" "$1 -> $2, there, $3"
    leg 2 "$1" "$2" "$1 -> $2, back, $3"
}
[ "$me" = 2 ] || start "$g"
for n in $(seq "$times"); do
    round pyxcsr pyxcsr "$n"
    round stock pyxcsr "$n"
    round pyxcsr stock "$n"
done
end_together "$me"
finish
