# containers.sh: `pyxcsr save --format xl` for plain xl restore, `pyxcsr convert` both ways,
# a domain that was migrated in or grown, and what has to be refused before the guest is touched.
. /payload/tests/real/dom0/lib.sh
unset LIBXL_SAVE_HELPER
f=/tmp/pulse.xl
dir=/var/lib/xen
record() { ls $dir/userdata-d."$(domid)".*.libxl-json; }
judged() { verify-stream-v2 -f xl -i $f && pyxcsr verify $f && pyxcsr inspect $f; }
back() { xl restore $f && goes_on; }
field_of() { pyxcsr inspect --json $f | python3 -c "import json,sys; c=json.load(sys.stdin)['summary']['container']['config']; print(eval(sys.argv[1]))" "$1"; }
has() { local got; got=$(field_of "$1"); [ "$got" = "$2" ] || { echo "$1 is $got, not $2"; return 1; }; }

install_pyxcsr
start pulse
step "save --format xl $live, destroy" pyxcsr save --format xl $live --then destroy "$g" $f
step "verify-stream-v2 and pyxcsr verify take it" judged; tail -n 12 /tmp/step
forget
step "plain xl restore, it goes on" back
step "save --format xl to a pipe, not live" sh -c "pyxcsr save --format xl --no-live --quiet pulse - | pyxcsr verify -"
step "the guest goes on" goes_on
pipe_and_back() { pyxcsr save --format xl $live --quiet --force --then destroy "$g" - >$f && forget && back; }
step "through standard output, xl restore" pipe_and_back

migrated() { xl migrate -s '' "$g" 'xl migrate-receive' && goes_on; }
if [ $live = --live ]; then
    step "xl migrate" migrated
    step "its record has --incoming" grep -q 'pulse--incoming' "$(record)"
    step "save --format xl after a migration" pyxcsr save --format xl --force --then destroy "$g" $f
    step "the name is the domain's" has "c['c_info']['name']" pulse
    forget
    step "plain xl restore, it goes on" back
else
    left_out "a domain that was migrated in"
fi

grown() { xl mem-max "$g" 512 && xl mem-set "$g" 200 && sleep 3; }
step "grown to 200 MiB" grown
step "save --format xl of the grown guest" pyxcsr save --format xl $live --force --then destroy "$g" $f
step "target in the configuration" has "c['b_info']['target_memkb'], c['b_info']['max_memkb']" "(204800, 524288)"
forget
step "plain xl restore, it goes on" back
same_as_xl() { # our configuration and xl's own are the same but for the scheduler's
    xl list -l "$g" >/tmp/l.json && pyxcsr save --format xl $live --force --quiet "$g" $f && pyxcsr inspect --json $f >/tmp/o.json &&
    python3 - <<'P'
import json
theirs = json.load(open("/tmp/l.json"))[0]["config"]
ours = json.load(open("/tmp/o.json"))["summary"]["container"]["config"]
theirs["c_info"].pop("domid", None)
for each in (theirs, ours):
    each["b_info"].pop("sched_params", None)
if ours != theirs:
    raise SystemExit(f"{ours}\n{theirs}")
P
}
step "the configuration is the one that xl has" same_as_xl
step "xl save passes verify" sh -c "xl save -c pulse /tmp/s.xl && pyxcsr verify /tmp/s.xl && pyxcsr inspect /tmp/s.xl"

refused_whole() { # PATTERN COMMAND...: and the guest is as before, and no file is left
    rm -f $f; refused "$@" && { [ ! -e $f ] || { echo "left a file"; return 1; }; } && goes_on
}
r=$(record)
mv "$r" /tmp/kept
step "no record: refused" refused_whole 'no .*userdata-d.*--config' pyxcsr save --format xl "$g" $f
step "no record, but --config" pyxcsr save --format xl $live --config /tmp/s.xl --then destroy "$g" $f
forget
step "plain xl restore, it goes on" back
r=$(record)
cp "$r" /tmp/kept; head -c 300 /tmp/kept >"$r"
step "a damaged record: refused" refused_whole 'damaged' pyxcsr save --format xl "$g" $f
cp /tmp/kept "$r"

step "xl save" xl save "$g" $f
convert() {
    pyxcsr convert $f /tmp/raw && verify-stream-v2 -i /tmp/raw && pyxcsr verify /tmp/raw &&
        pyxcsr convert --to libxl /tmp/raw /tmp/libxl && verify-stream-v2 -f libxl -i /tmp/libxl &&
        cat /tmp/libxl | pyxcsr convert --to xl --config "$1" - - | cat >/tmp/again.xl && verify-stream-v2 -f xl -i /tmp/again.xl
}
step "convert to libxc, libxl and back" convert $f
step "the same bytes" cmp $f /tmp/again.xl
rm -f /tmp/raw /tmp/libxl
step "with libxl's record" convert /tmp/kept
mv /tmp/again.xl $f; rm -f /tmp/raw /tmp/libxl
forget
step "plain xl restore, it goes on" back
finish
