#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# check-abi.sh: the library meets modules whose QUERY tells another ABI than its own, each loaded in turn in one VM. It
# works or refuses with one sentence, as docs/upgrade.md has it. Prints TAP.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source-path=SCRIPTDIR source=../tap.sh
. "$vm_dir/../tap.sh"

flavour=bookworm
src=$vm_dir/../..
build=$(readlink -f "${BUILD:-$src/build}")
work=$build/vm/abi
version=$(<"$src/VERSION")
abi=$(sed -n 's/^#define SHMIPC_ABI\t*\([0-9]*\)$/\1/p' "$src/uapi/shmipc.h")

# module NAME SED: with main.c as SED leaves it. All share one folder, so that only that file is built again.
module()
{
	rm -rf "$work/tree"
	mkdir -p "$work/tree"
	cp -R "$src"/{Kbuild,VERSION,kmod,uapi} "$work/tree/"
	sed -i "$2" "$work/tree/kmod/main.c"
	if [[ $1 != own ]] && cmp -s "$src/kmod/main.c" "$work/tree/kmod/main.c"; then
		echo "$2 changes nothing"
		return 1
	fi
	"$vm_dir/module.sh" "$flavour" "$work/tree" "$work/out"
	cp "$work/out/shmipc.ko" "$work/ko/$1.ko"
}

modules()
{
	rm -rf "$work/ko"
	mkdir -p "$work/ko"
	module own ''
	module newer 's/\(q->out_abi = SHMIPC_ABI\);/\1 + 1;/'
	module too-new 's/\(q->out_abi = SHMIPC_ABI\);/\1 + 2;/; s/out_abi_oldest = .*;/out_abi_oldest = SHMIPC_ABI + 1;/'
	module too-old 's/\(q->out_abi = SHMIPC_ABI\);/\1 - 1;/; s/out_abi_oldest = .*;/out_abi_oldest = 0;/'
	module no-streams 's/q->out_page_size = /q->out_features \&= ~SHMIPC_FEATURE_STREAMS; &/'
}

# What the guest does: with each module a greeting, prefixed by its name, with the provider forced and by itself. A
# server that is refused ends at once, else it has the name as soon as something is connected to it.
# shellcheck disable=SC2016 # expanded in the guest
guest='
for ko in /abi/ko/*.ko; do
	module=$(basename "$ko" .ko)
	insmod "$ko" || echo "$module: insmod failed"
	for provider in kernel ""; do
		export SHMIPC_PROVIDER=$provider
		/abi/examples/greeter_server "abi/$module$provider" 1 >/tmp/server 2>&1 &
		tries=0
		while /abi/examples/greeter_client you "abi/$module$provider" >/tmp/client 2>&1; rc=$?
			grep -q "nobody listens" /tmp/client && [ $tries -lt 100 ]; do
			sleep 0.1
			tries=$((tries + 1))
		done
		wait
		sed "s/^/$module ${provider:-default} server: /" /tmp/server
		sed "s/^/$module ${provider:-default} client $rc: /" /tmp/client
	done
	rmmod shmipc || echo "$module: rmmod failed"
done
echo end'

run_all()
{
	"$vm_dir/run.sh" --flavour "$flavour" --add "$work/ko:/abi/ko" --add "$build/examples:/abi/examples" \
		--log "$work/kernel.log" --timeout 120 -- sh -c "$guest" | tr -d '\r' | tee "$work/out.txt"
	[[ $(tail -n 1 "$work/out.txt") == end ]]
}

# says MODULE LINE...: all that was said with it, each line without its first two words, which are the same twice.
says()
{
	local module=$1 provider

	shift
	for provider in kernel default; do
		sed -n "s/^$module $provider //p" "$work/out.txt" >"$work/said"
		printf '%s\n' "$@" | diff -u - "$work/said"
	done
}

refuses()
{
	says "$1" "server: open: the module ($version) $2" "client 1: open: the module ($version) $2"
}

t build-modules modules
t run run_all
t own says own 'client 0: Hello, you!'
t newer-that-serves-ours says newer 'client 0: Hello, you!'
t too-new refuses too-new "serves ABI $((abi + 1)) and newer and this library has $abi: update the library"
t too-old refuses too-old "has ABI $((abi - 1)) and this library needs $abi: update the module"
t no-streams refuses no-streams 'lacks what streams need: update the module'
tap_end
