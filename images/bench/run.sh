#!/usr/bin/env bash
# `make run`: the box on the bench board. A real Cyrus on loopback with some mail where Debian's packages are there and
# we are root, else a folder of mail; a loop-mounted btrfs image per disk where root allows, else folders.
# On a terminal you drive it; without one (or with RUN_ONCE=1) it makes one backup, verifies it and tells what it did.
# All it makes lies in .run/ of the checkout; `make clean-run` removes that.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
run=$root/.run
bin=$root/target/release
export MAILKEEP_KEY_FILE=$run/box.key MAILKEEP_AGENT_STATE=$run/agent MAILKEEP_AGENT_BOOT=no
mounted=

say() { printf '%s\n' "$*" >&2; }

clean() {
    # What a killed box left mounted goes first, or we would remove the disks' contents through the mount.
    grep -o " $run/[^ ]*" /proc/mounts | sort -r | while read -r where; do umount "$where"; done || true
    rm -rf "$run"
}

if [ "${1:-}" = --clean ]; then
    clean
    exit 0
fi

leave() {
    status=$?
    trap - EXIT
    [ -z "$mounted" ] || umount "$mounted" || true
    # The lab stops its Cyrus when its input ends.
    exec 8>&- || true
    [ -z "${lab_pid:-}" ] || wait "$lab_pid" || true
    exit $status
}
trap leave EXIT
trap 'exit 130' INT TERM

mkdir -p "$run"
chmod 755 "$run"

# --- the mail server -------------------------------------------------------------------------------------------------
cyrus_here() { [ "$(id -u)" -eq 0 ] && [ -x /usr/lib/cyrus/bin/ctl_mboxlist ] && command -v saslpasswd2 >/dev/null; }

if cyrus_here; then
    say "starting a Cyrus on loopback with some mail (the first time takes a minute) …"
    rm -f "$run/lab.in"
    mkfifo "$run/lab.in"
    "$bin/lab" "$run/mail" --messages 400 <"$run/lab.in" >"$run/lab.out" 2>"$run/lab.err" &
    lab_pid=$!
    exec 8>"$run/lab.in"
    until grep -q '^ready' "$run/lab.out"; do
        kill -0 "$lab_pid" 2>/dev/null || { say "Cyrus did not start: $(tail -n 3 "$run/lab.err")"; exit 1; }
        sleep 0.2
    done
    source_file=$(sed -n 's/^source //p' "$run/lab.out")
    say "$(grep '^imap' "$run/lab.out") answers; its source file is ${source_file#"$root"/}"
else
    say "no Cyrus here (it needs root and the packages cyrus-imapd, cyrus-admin, sasl2-bin): a folder of mail instead"
    [ -d "$run/mail/spool" ] || "$bin/mailkeep-bench" --spool "$run/mail/spool" --messages 400 --users 4
    source_file=$run/mail/spool.toml
    cat >"$source_file" <<EOF
name = "spool"
system = "generic"
[transport]
kind = "local"
[generic]
paths = ["$run/mail/spool"]
write-once = ["*."]
EOF
fi

# --- the disks -------------------------------------------------------------------------------------------------------
prepare_image() { # image label recovery-file; fails where no loop device is to be had
    truncate -s 2G "$1.new"
    # DUP metadata: a disk that loses a write must still mount.
    mkfs.btrfs -q -m dup -L "${2// /-}" "$1.new"
    mkdir -p "$run/mnt"
    mount -o loop,nosuid,nodev,noexec "$1.new" "$run/mnt" 2>/dev/null || { rm -f "$1.new"; return 1; }
    mounted=$run/mnt
    "$bin/mailkeep" -q -r "$run/mnt/mailkeep" init --label "$2" --recovery-out "$3"
    umount "$run/mnt"
    mounted=
    mv "$1.new" "$1"
}

disks=()
for number in 1 2; do
    image=$run/disk$number.img
    folder=$run/disk$number
    label="bench disk $number"
    if [ ! -e "$image" ] && [ ! -d "$folder" ]; then
        recovery=$run/recovery-disk$number.txt
        rm -f "$recovery"
        if [ "$(id -u)" -ne 0 ] || ! command -v mkfs.btrfs >/dev/null || ! prepare_image "$image" "$label" "$recovery"; then
            mkdir -p "$folder"
            "$bin/mailkeep" -q -r "$folder/mailkeep" init --label "$label" --recovery-out "$recovery"
        fi
    fi
    if [ -e "$image" ]; then disks+=("\"$image\""); else disks+=("\"$folder\""); fi
done

# --- the box ---------------------------------------------------------------------------------------------------------
cat >"$run/box.toml" <<EOF
[box]
name = "bench"
state-dir = "$run/state"
key-file = "$MAILKEEP_KEY_FILE"
[board]
kind = "bench"
[board.bench]
disks = [${disks[0]}, ${disks[1]}]
insert = 1
[disks]
set-size = 2
[[source]]
file = "$source_file"
EOF

next_steps() {
    cat <<EOF

What to do next:
  make run                   then press b for a backup, 2 for the other disk, 0 to pull it out, q to leave
  a look into the backup     (on a folder disk: -r .run/disk1/mailkeep)
    mount -o loop,ro .run/disk1.img /mnt
    target/release/mailkeep -r /mnt/mailkeep --key-file .run/box.key snapshots
EOF
}

if [ -t 0 ] && [ -t 1 ] && [ -z "${RUN_ONCE:-}" ]; then
    "$bin/mailkeepd" --config "$run/box.toml" 8>&- || exit $?
    next_steps
    exit 0
fi

# The box starts mail again, and the server must not inherit the pipe whose end tells the lab to stop.
coproc BOX { exec 8>&-; exec "$bin/mailkeepd" --config "$run/box.toml" --log-file "$run/mailkeepd.log"; }
box_pid=$BOX_PID
exec 6<&"${BOX[0]}" 7>&"${BOX[1]}"
status='' disk='' fault='' pressed='' ran=''
while IFS= read -r line <&6; do
    printf '  %s\n' "$line"
    case $line in
    "lamp STATUS "*) status=${line##* } ;;
    "lamp DISK "*) disk=${line##* } ;;
    "lamp FAULT "*) fault=${line##* } ;;
    esac
    # The self-test is over and the disk is known when its lamp shows something steady of its own.
    if [ -z "$pressed" ] && { [ "$disk" = steady ] || [ "$disk" = slow ]; } && [ "$status" != test ]; then
        pressed=yes
        say "pressing BACKUP"
        echo b >&7
    fi
    [ "$status" != slow ] || ran=yes
    if [ "$fault" = fast ] || { [ -n "$ran" ] && [ "$disk" = steady ] && [ "$status" = steady ]; }; then
        echo q >&7
        break
    fi
done
final_status=$status final_disk=$disk
cat <&6 >/dev/null || true
exec 7>&- 6<&-
wait "$box_pid" || true
if [ "$final_status" != steady ] || [ "$fault" = fast ]; then
    say "the backup did not succeed; the log:"
    tail -n 20 "$run/mailkeepd.log" >&2
    exit 1
fi

say "the disk is safe to remove; now every byte of it is verified"
repository=$run/disk1/mailkeep
if [ -e "$run/disk1.img" ]; then
    mkdir -p "$run/mnt"
    mount -o loop,nosuid,nodev,noexec "$run/disk1.img" "$run/mnt"
    mounted=$run/mnt
    repository=$run/mnt/mailkeep
fi
"$bin/mailkeep" -r "$repository" verify --read-data
"$bin/mailkeep" -r "$repository" snapshots
echo
echo "lamps: STATUS green $final_status (last backup good and proven)" \
    "· DISK blue $final_disk (safe to remove) · FAULT red ${fault:-off}"
next_steps
