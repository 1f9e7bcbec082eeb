//! The text of imapd.conf and cyrus.conf for a lab server (imapd.conf(5), cyrus.conf(5) of 3.6), and the
//! shell scripts that a source file names for stop, start and running.

use std::path::Path;

use super::server::{ADMIN, Layout, Ports, REALM};

/// imapd.conf of a server whose files all lie below `root`.
pub(super) fn imapd_conf(root: &Path, layout: Layout) -> String {
    let r = root.display();
    let legacy = if layout == Layout::Legacy { "yes" } else { "no" };
    format!(
        "\
configdirectory: {r}/conf
defaultpartition: default
partition-default: {r}/spool/default
partition-second: {r}/spool/second
metapartition-second: {r}/meta/second
metapartition_files: header index cache expunge squat annotations lock
archive_enabled: yes
archive_maxsize: 48
archivepartition-default: {r}/archive/default
archivepartition-second: {r}/archive/second
mailbox_legacy_dirs: {legacy}
sievedir: {r}/sieve
sieveusehomedir: no
proc_path: {r}/conf/proc
mboxname_lockpath: {r}/conf/lock
temp_path: {r}/run/tmp
lmtpsocket: {r}/conf/socket/lmtp
idlesocket: {r}/conf/socket/idle
notifysocket: {r}/conf/socket/notify
servername: {REALM}
cyrus_user: cyrus
cyrus_group: mail
admins: {ADMIN}
unixhierarchysep: yes
altnamespace: no
virtdomains: off
allowplaintext: yes
sasl_mech_list: PLAIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {r}/sasldb2
annotation_allow_undefined: yes
conversations: yes
@include: {r}/extra.conf
"
    )
}

/// The file that imapd.conf includes: a backup must find it by itself.
pub(super) const EXTRA_CONF: &str = "timeout: 30\nsieve_maxscripts: 9\n";

/// cyrus.conf with loopback ports.
pub(super) fn cyrus_conf(imapd_conf: &Path, ports: Ports) -> String {
    let conf = imapd_conf.display();
    let Ports { imap, lmtp, sieve } = ports;
    format!(
        "\
START {{
  recover cmd=\"ctl_cyrusdb -C {conf} -r\"
}}
SERVICES {{
  imap cmd=\"imapd -C {conf} -U 100\" listen=\"127.0.0.1:{imap}\" prefork=0 maxchild=60
  lmtp cmd=\"lmtpd -C {conf} -a\" listen=\"127.0.0.1:{lmtp}\" prefork=0 maxchild=10
  sieve cmd=\"timsieved -C {conf}\" listen=\"127.0.0.1:{sieve}\" prefork=0 maxchild=10
}}
EVENTS {{
  checkpoint cmd=\"ctl_cyrusdb -C {conf} -c\" period=30
}}
"
    )
}

/// `start`: master in a session of its own (`-d`), returning when it has been started.
pub(super) fn start_script(root: &Path) -> String {
    let r = root.display();
    let hold = hold(root);
    format!(
        "\
#!/bin/sh
# Starts this lab's Cyrus. A hook file beside it lets a test make the first starts fail.
{hold}hold start
if [ -e {r}/run/fail-starts ]; then
  n=$(cat {r}/run/fail-starts)
  if [ \"$n\" -gt 0 ]; then echo $((n - 1)) > {r}/run/fail-starts; echo 'start refused by the test' >&2; exit 1; fi
fi
{r}/bin/running && exit 0
echo start >> {r}/run/events
# When, by the clock that nobody sets.
read -r up idle < /proc/uptime && echo $up >> {r}/run/starts
exec /usr/lib/cyrus/bin/master -d -C {r}/imapd.conf -M {r}/cyrus.conf -p {r}/run/master.pid -L {r}/run/master.log
"
    )
}

/// `running`: exit 0 while master runs; a zombie does not.
pub(super) fn running_script(root: &Path) -> String {
    let r = root.display();
    format!(
        "\
#!/bin/sh
pid=$(cat {r}/run/master.pid 2>/dev/null) || exit 1
[ -n \"$pid\" ] || exit 1
line=$(cat /proc/$pid/stat 2>/dev/null) || exit 1
case \"$line\" in *'(cyrmaster)'*|*'(master)'*) ;; *) exit 1 ;; esac
case \"${{line##*) }}\" in [ZX]*) exit 1 ;; esac
exit 0
"
    )
}

/// `stop`: asks, waits until master and every process of its group has gone, and ends a master that
/// spins over zombies (cyrus-imapd 5309). If a test asked for it, the stopped server is then copied as
/// the truth of this window.
pub(super) fn stop_script(root: &Path) -> String {
    let r = root.display();
    let hold = hold(root);
    format!(
        "\
#!/bin/sh
{hold}echo stop >> {r}/run/events
hold stop-begin
# A test may want one that never comes back.
if [ -e {r}/run/hang-stop ]; then rm -f {r}/run/hang-stop; while :; do sleep 1; done; fi
# Running members of master's process group, master included; zombies do not count.
alive() {{
  for stat in /proc/[0-9]*/stat; do
    {{ read -r line < $stat; }} 2>/dev/null || continue
    set -- ${{line##*) }}
    [ \"$3\" = \"$group\" ] || continue
    case \"$1\" in Z|X) continue ;; esac
    id=${{stat#/proc/}}
    echo ${{id%/stat}}
  done
}}
if {r}/bin/running; then
  group=$(cat {r}/run/master.pid)
  kill -TERM $group
  tries=0
  while left=$(alive); [ -n \"$left\" ]; do
    tries=$((tries + 1))
    # Only master is left and still turns: it waits for children that are zombies.
    if [ \"$left\" = \"$group\" ] && [ $tries -gt 20 ]; then kill -KILL $group; fi
    if [ $tries -gt 150 ]; then kill -KILL $left; fi
    sleep 0.1
  done
fi
if [ -e {r}/run/truth ]; then
  truth=$(cat {r}/run/truth)
  [ -e \"$truth\" ] || cp -a --reflink=auto {r} \"$truth\"
fi
hold stop
exit 0
"
    )
}

/// A shell function by which a script waits where a test has asked it to, and says that it does. Somebody who is no part
/// of a backup (`LAB_STRANGER`) is not held.
pub(super) fn hold(root: &Path) -> String {
    let r = root.display();
    format!(
        "\
hold() {{
  if [ ! -e {r}/run/hold-$1 ] || [ -n \"$LAB_STRANGER\" ]; then return; fi
  : > {r}/run/at-$1
  while [ -e {r}/run/hold-$1 ]; do sleep 0.02; done
}}
"
    )
}
