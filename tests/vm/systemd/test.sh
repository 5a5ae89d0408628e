#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Drives hot_server.service while clients are at work. The last line is "passed", or says what was not so.
set -Eeuo pipefail
exec >>/test.log 2>&1
trap 'echo "failed at line $LINENO: $BASH_COMMAND"; systemctl --no-pager --full status hot_server || true' ERR

# until_true COMMAND...: within 60 s.
until_true()
{
	for _ in {1..600}; do
		! "$@" || return 0
		sleep 0.1
	done
	echo "in vain: $*"
	return 1
}

pid() { systemctl show -P MainPID hot_server; }
serves() { [[ $(systemctl is-active hot_server) == active && $(pid) != "$1" ]]; }
answered() { (($(wc -l </tmp/out) >= $1)); }

# replaced N COMMAND...: it makes another process the server, and the clients' N-th event passes.
replaced()
{
	local before n=$1
	before=$(pid)
	shift
	printf . >&3
	"$@"
	until_true serves "$before"
	until_true answered "$n"
	echo "$*: $before, then $(pid)"
}

systemctl start hot_server
[[ $(stat -c %U "/proc/$(pid)") == hot ]]
mkfifo /tmp/in
exec 3<>/tmp/in
: >/tmp/out
setpriv --reuid=hot --regid=hot --clear-groups hot_load -c 2 -n 10 -r 2000 hot </tmp/in >/tmp/out 3<&- &
load=$!
printf . >&3
until_true answered 1
replaced 2 systemctl reload hot_server
replaced 3 systemctl reload hot_server
[[ $(systemctl show -P NRestarts hot_server) == 0 ]]
replaced 4 systemctl kill -s KILL hot_server
[[ $(systemctl show -P NRestarts hot_server) == 1 ]]
replaced 5 systemctl reload hot_server
exec 3<&-
wait "$load"
cat /tmp/out
systemctl stop hot_server
result=$(systemctl show -P ActiveState,Result hot_server | xargs)
echo "stopped: $result"
[[ $result == 'success inactive' || $result == 'inactive success' ]]
echo passed
