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
    LIBXL_SAVE_HELPER=$(program "$1") xl -vvv remus -F -n -d -i "$every" -s '' "$g" \
        "env LIBXL_SAVE_HELPER=$(program "$2") xl -v migrate-receive -r -e" >/tmp/remus 2>&1 &
    remus=$!
}
suspends() { grep -ac 'issuing .* suspend request' /tmp/remus; } # how often libxl has asked the guest, at each checkpoint once
checkpoints() { # checkpoints N: waits until the guest has been asked to suspend N times, which is after N - 1 checkpoints
    local until=$(($(ms) + 200000))
    until [ "$(suspends)" -ge "$1" ]; do
        kill -0 $remus || { tail -n 30 /tmp/remus; return 1; }
        [ "$(ms)" -lt $until ] || { echo "$(suspends) suspends"; xl list; tail -n 30 /tmp/remus; return 1; }
        sleep 0.5
    done
    helpers save && { [ "${2-}" = alone ] || helpers restore; }
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
    LIBXL_SAVE_HELPER=$helper xl -vvv remus -F -b -n -d -i "$every" "$g" nowhere >/tmp/remus 2>&1 &
    remus=$!
    checkpoints 6 alone && kill -TERM "$(helpers save)"
    wait $remus
    tail -n 12 /tmp/remus
    grep -aE 'checkpoints' /tmp/remus && goes_on
}
anew() { # after a failure: the next step gets a guest that is well
    kill $remus; cp /tmp/remus "/out/remus-$(ms)"
    xl list | awk 'NR > 1 && $1 != "Domain-0" {print $2}' | xargs -r -n 1 xl destroy
    sleep 2; forget; start "$g"
}
figures() { grep -aE 'checkpoints|takes over|restored from' /tmp/remus; }

step "xl remus -b, which our helper is told to end" into_nothing; figures
for pair in "pyxcsr pyxcsr" "pyxcsr stock" "stock pyxcsr"; do
    # shellcheck disable=SC2086
    protect $pair
    step "$pair: checkpoints go by" checkpoints 8
    step "$pair: the guest dies, and its copy goes on, clean" taken_over || anew; figures
done
protect pyxcsr pyxcsr
step "pyxcsr pyxcsr: checkpoints go by" checkpoints 4
step "the receiver dies, and the guest goes on" left_alone; figures
step "the guest goes on" goes_on
finish
