# remus.sh [GUEST [MS]]: `xl remus`, without disks and network, every MS milliseconds: into nothing (-b), and to dom0 itself,
# ours on either end and Xen's own helper on the other. The protected guest is destroyed: the copy must go on, clean. And
# the receiver is killed: the guest must go on where it is.
. /payload/tests/real/dom0/lib.sh
install_pyxcsr
start "${1:-pulse}"
every=${2:-500}
mkdir -p /tmp/by /out
stock=$(echo /usr/lib/xen-*/bin/libxl-save-helper)
program() { if [ "$1" = pyxcsr ]; then echo "$helper"; else echo "$stock"; fi; }
helpers() { pgrep -f -- "--$1-domain" | head -n 1; }

protect() { # protect SAVER RESTORER: in the background; what both ends say is in /tmp/remus
    LIBXL_SAVE_HELPER=$(program "$1") xl -v remus -F -n -d -i "$every" -s '' "$g" \
        "env LIBXL_SAVE_HELPER=$(program "$2") xl -v migrate-receive -r -e" >/tmp/remus 2>&1 &
    remus=$!
}
copies() { xl list | awk 'NR > 1' | grep -c -- --incoming; }
checkpoints() { # checkpoints N: waits until there is a copy and N intervals more have gone by, with beats in them
    local until=$(($(ms) + 200000)) n
    until [ "$(copies)" = 1 ]; do
        kill -0 $remus || { tail -n 30 /tmp/remus; return 1; }
        [ "$(ms)" -lt $until ] || return 1
        sleep 0.5
    done
    n=$(beat)
    until [ "$(beat)" -ge $((n + $1)) ]; do
        kill -0 $remus || { tail -n 30 /tmp/remus; return 1; }
        [ "$(ms)" -lt $until ] || { echo "the guest stands at $(beat)"; xl list; tail -n 30 /tmp/remus; return 1; }
        sleep 0.5
    done
    helpers save && helpers restore
}

taken_over() { # the protected guest dies; its copy gets its name and goes on
    local was until; was=$(domid); until=$(($(ms) + 120000))
    forget
    xl destroy "$was"
    until [ "$(domid 2>/dev/null)" ] && [ "$(domid)" != "$was" ]; do
        [ "$(ms)" -lt $until ] || { xl list; tail -n 40 /tmp/remus; return 1; }
        sleep 0.5
    done
    wait $remus
    tail -n 12 /tmp/remus
    goes_on
}
left_alone() { # the receiver dies; the guest goes on here, and nothing tracks its writes any more
    local was; was=$(domid)
    kill -KILL "$(pgrep -f 'xl -v migrate-receive' | tail -n 1)" "$(helpers restore)"
    wait $remus
    tail -n 12 /tmp/remus
    [ "$(domid)" = "$was" ] || return 1
    xl list | awk 'NR > 1 && /--incoming/ {print $2}' | xargs -r -n 1 xl destroy
    goes_on
}
into_nothing() { # -b: the stream goes to /dev/null
    LIBXL_SAVE_HELPER=$helper xl -v remus -F -b -n -d -i "$every" "$g" >/tmp/remus 2>&1 &
    remus=$!
    local n; n=$(beat)
    until [ "$(beat)" -ge $((n + 6)) ]; do
        kill -0 $remus || { tail -n 30 /tmp/remus; return 1; }
        sleep 0.5
    done
    helpers save && kill -TERM "$(helpers save)"
    wait $remus
    tail -n 12 /tmp/remus
    grep -aE 'checkpoints' /tmp/remus && goes_on
}
figures() { grep -aE 'checkpoints|takes over|restored from' /tmp/remus; }

step "xl remus -b, which our helper is told to end" into_nothing; figures
for pair in "pyxcsr pyxcsr" "pyxcsr stock" "stock pyxcsr"; do
    # shellcheck disable=SC2086
    protect $pair
    step "$pair: checkpoints go by" checkpoints 8
    step "$pair: the guest dies, and its copy goes on, clean" taken_over; figures
done
protect pyxcsr pyxcsr
step "pyxcsr pyxcsr: checkpoints go by" checkpoints 4
step "the receiver dies, and the guest goes on" left_alone; figures
step "COLO is refused" refused 'COLO' env LIBXL_SAVE_HELPER="$helper" xl remus -c -F -n -d -s '' "$g" 'xl migrate-receive --colo'
step "the guest goes on" goes_on
finish
