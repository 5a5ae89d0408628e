#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What shmipc does, shown and checked in half a minute: a tree of at least 100 MB goes from one
# process to another, with its SHA-256 taken on both sides, and then a greeting.
# With the provider that this machine has; SHMIPC_PROVIDER forces one.
#
# SHMIPC_DEMO_INPUT=FILE sends that file instead of an archive of a part of /usr;
# `demo.sh --make-input FILE` only makes that archive. SHMIPC_DEMO_LEAST: bytes that are enough.
set -euo pipefail

cd "$(dirname "$0")/.."
bin=$(realpath "${BUILD:-build}")
name=demo-$$
least=${SHMIPC_DEMO_LEAST:-100000000}
tmp=$(mktemp -d)
pids=()

finish() {
	((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
	rm -rf "$tmp"
}
trap finish EXIT

die() {
	echo "demo: FAILED: $*" >&2
	exit 1
}

# Files of this system in the order of their names, until there are enough bytes of them.
choose_files() {
	local size path total=0
	while IFS=$'\t' read -r -d '' size path; do
		printf '%s\0' "$path"
		total=$((total + size))
		((total < least)) || return 0
	done < <(find /usr/lib /usr/share -xdev -type f -readable -printf '%s\t%p\0' 2>/dev/null |
		LC_ALL=C sort -z -t $'\t' -k 2)
	die "less than $least bytes of files below /usr/lib and /usr/share"
}

make_input() {
	choose_files >"$tmp/files"
	tar --create --file "$1" --absolute-names --null --files-from "$tmp/files"
	echo "demo: $(tr -dc '\0' <"$tmp/files" | wc -c) files of this system, in one tar archive"
}

# progress PID SIZE: how far the sender has read, for whoever looks at a terminal.
progress() {
	local pid=$1 size=$2 seen
	[[ -t 2 && ${TERM:-dumb} != dumb ]] || return 0
	while seen=$(sed -n 's/^rchar: //p' "/proc/$pid/io" 2>/dev/null) && [[ -n $seen ]]; do
		printf '\rdemo: %3d %%' $((seen < size ? seen * 100 / size : 100)) >&2
		sleep 0.1
	done
	printf '\r\033[K' >&2
}

# stat_of SIDE WORD: the number before WORD in what a side's --stats printed.
stat_of() { sed -n "s|^shmipc-cat: .* \([0-9.]*\) $2.*|\1|p" "$tmp/$1.log"; }
provider_of() { sed -n 's/^shmipc-cat: \([a-z]*\): sent .*/\1/p' "$tmp/$1.log"; }

# ended PID LOG WHO: a side that failed says why in its log.
ended() {
	wait "$1" && return
	cat "$2" >&2
	die "the $3 failed"
}

transfer() {
	local input=$1 size receiver sender
	size=$(wc -c <"$input")
	((size >= least)) || die "$input has only $size bytes"
	"$bin/tools/shmipc-cat" --listen --wait 60 --stats "$name" \
		</dev/null >"$tmp/received" 2>"$tmp/receiver.log" &
	receiver=$!
	pids+=("$receiver")
	"$bin/tools/shmipc-cat" --wait 60 --stats "$name" <"$input" >"$tmp/back" 2>"$tmp/sender.log" &
	sender=$!
	pids+=("$sender")
	progress "$sender" "$size"
	ended "$sender" "$tmp/sender.log" sender
	ended "$receiver" "$tmp/receiver.log" receiver
	pids=()
}

check_transfer() {
	local input=$1 size sent received
	size=$(wc -c <"$input")
	[[ ! -s $tmp/back ]] || die "something came back"
	sent=$(sha256sum <"$input")
	received=$(sha256sum <"$tmp/received")
	echo "demo: sent     ${sent%% *}"
	echo "demo: received ${received%% *}"
	[[ $sent == "$received" ]] || die "what arrived is not what was sent"
	[[ $(provider_of sender) == "$(provider_of receiver)" ]] || die "two providers"
	# What the library counted, so that nothing else can have carried it.
	[[ $(stat_of sender 'bytes in [0-9]* messages, received') == "$size" ]] ||
		die "the library did not count $size bytes sent"
	[[ $(stat_of receiver 'bytes in [0-9]* messages, [0-9.]* s,') == "$size" ]] ||
		die "the library did not count $size bytes received"
	rm -f "$tmp/received"
}

print_transfer() {
	cat <<-END
		provider                     $(provider_of sender)
		bytes                        $(stat_of sender 'bytes in [0-9]* messages, received')
		seconds                      $(stat_of sender 's, [0-9.]* GB/s')
		GB/s, with both files' i/o    $(stat_of sender GB/s)
		messages                     $(stat_of sender 'messages, received')
		wakeups per 1,000 messages   $(stat_of sender 'wakeups per') sender, $(stat_of receiver 'wakeups per') receiver
	END
}

greet() {
	local server hello tries
	"$bin/examples/greeter_server" "$name/greeter" 1 &
	server=$!
	pids+=("$server")
	# Until the server has its name.
	for tries in {1..100}; do
		hello=$("$bin/examples/greeter_client" shmipc "$name/greeter" 2>"$tmp/greeter.log") && break
		sleep 0.1
	done
	[[ ${hello-} == 'Hello, shmipc!' ]] || die "no greeting ($tries tries): $(cat "$tmp/greeter.log")"
	wait "$server" || die "the greeter failed"
	pids=()
	echo "greeting                     $hello"
}

if [[ ${1-} == --make-input ]]; then
	make_input "$2"
	exit
fi
input=${SHMIPC_DEMO_INPUT:-$tmp/sent}
[[ -n ${SHMIPC_DEMO_INPUT-} ]] || make_input "$input"
transfer "$input"
check_transfer "$input"
print_transfer
greet
echo "demo: passed"
