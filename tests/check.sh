#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# What each check target is made of: check.sh quick|native|vm|kunit|debug|install|check|long.
# One line a provider or kernel, then the sum as the last line. Called by make.
set -euo pipefail

cd "$(dirname "$0")/.."
part=$1
BUILD=${BUILD:-build}
MAKE=${MAKE:-make}
jobs=
[[ ${MAKEFLAGS-} == *-j* ]] || jobs=-j$(nproc)
mkdir -p "$BUILD/check"
results=$(realpath "$BUILD")/check/$part.results
: >"$results"
unset VARIANT
wrap=
# How much the tests do (tests/integration/pair.h), and how long one program may take for that.
# What ran in full elsewhere in the same check, the native suite under ASan, the module's on the newest and on the debug
# kernel, runs again with less (@again): for what only these see it is the code that counts, not the rounds.
again='' flavours='bookworm newest'
case $part in
quick) scale=quick limit=60 ;;
long) scale=long limit=1800 flavours='bookworm newest trixie rt' ;;
check) scale=check limit=180 again=quick ;;
*) scale=check limit=180 ;;
esac
[[ -z ${SHMIPC_TEST_SCALE-} ]] || again=
export SHMIPC_TEST_SCALE=${SHMIPC_TEST_SCALE:-$scale} SHMIPC_TEST_TIMEOUT=${SHMIPC_TEST_TIMEOUT:-$limit}

failures() { grep -c '^[^|]*|[0-9]*|[1-9]' "$results" || true; }

# Any step that fails without having counted is itself a failure: nothing may get lost.
step() {
	local name=$1 before rc=0 start=$SECONDS
	shift
	before=$(failures)
	echo "== $name"
	"$@" || rc=$?
	echo "   $name took $((SECONDS - start)) s"
	if ((rc != 0 && before == $(failures))); then
		echo "  FAIL $name: exit $rc"
		echo "$name|0|1|0" >>"$results"
		return 1
	fi
}

build() {
	# shellcheck disable=SC2086 # jobs may be empty
	$MAKE $jobs --no-print-directory "$@" >"$BUILD/check/build.log" 2>&1 && return
	tail -n 40 "$BUILD/check/build.log"
	return 1
}

run() {
	local label=$1
	shift
	$wrap tests/run.sh --label "$label" --logs "$BUILD/logs" --results "$results" -- "$@" | sed '$d'
	return "${PIPESTATUS[0]}"
}

# Programs of a variant: unit and integration, or those of one pattern.
programs() {
	local dir=$BUILD${1:+/$1} src
	for src in tests/unit/${2:-test_*}.c tests/integration/${2:-test_*}.c; do
		[[ ! -f $src ]] || echo "$dir/${src%.c}"
	done
}

# suite LABEL VARIANT [PATTERN]: build it, then run it with the provider that needs no module.
suite() {
	local progs
	mapfile -t progs < <(programs "$2" "${3-}")
	step "build${2:+ $2}" build all "${progs[@]}" VARIANT="$2" || return 0
	SHMIPC_PROVIDER=embedded step "$1" run "$1" "${progs[@]}" || true
}

quick() {
	suite embedded ''
	SHMIPC_PROVIDER=embedded step cat run cat tests/integration/test_cat.sh || true
	SHMIPC_PROVIDER=embedded step examples run examples tests/integration/test_examples.sh \
		tests/test_demo.sh tests/test_bench.sh || true
	step static run static tests/static.sh || true
}

native() {
	quick
	ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
		SHMIPC_TEST_SCALE=${again:-$SHMIPC_TEST_SCALE} suite 'embedded asan' asan
	# Where there are tests made for it, ThreadSanitizer gets those; see CONTRIBUTING.md.
	# Its fixed shadow does not fit beside every random layout.
	! setarch -R true 2>/dev/null || wrap='setarch -R'
	suite 'embedded tsan' tsan "${TSAN_TESTS:-test_*tsan*}"
	wrap=
}

# Planted faults: natively each time, with those that need the VM in the long check.
mutants() {
	local log=$BUILD/check/mutants.log rc=0
	SHMIPC_TEST_SCALE=quick tests/mutants/run.sh >"$log" 2>&1 || rc=$?
	sed '$d' "$log"
	sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/mutants|\1|\2|\3/p' "$log" >>"$results"
	return $rc
}

vm_one() {
	local flavour=$1 log=$BUILD/check/vm-$1.log line scale=$SHMIPC_TEST_SCALE rc=0
	[[ $flavour != newest ]] || scale=${again:-$scale}
	# Two more kernels: it is these that count there, not the rounds.
	[[ $flavour != trixie && $flavour != rt ]] || scale=check
	SHMIPC_TEST_SCALE=$scale SHMIPC_TEST_TIMEOUT=900 tests/vm/suite.sh "$flavour" "$BUILD" >"$log" 2>&1 || rc=$?
	line=$(grep -E '^kernel .*: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" |
		tail -n 1) || { tail -n 60 "$log"; return 1; }
	cat "$log"
	sed -E "s/^(.*): ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1|\2|\3|\4/" \
		<<<"$line" | sed "s/\$/|$flavour/" >>"$results"
	return $rc
}

# kunit SCRIPT: of tests/vm.
kunit() {
	local log=$BUILD/check/$1.log rc=0
	tests/vm/"$1.sh" "$BUILD" >"$log" 2>&1 || rc=$?
	cat "$log"
	sed -nE "\$s/^(kunit.*): ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped\$/\1|\2|\3|\4|debug $1/p" \
		"$log" >>"$results"
	return $rc
}

debug() {
	step 'debug kernel' nice tests/vm/kernel.sh debug || return 0
	step kunit kunit kunit || true
	step 'kernel debug' vm_one debug || true
}

# The debug kernel takes minutes to build, once, and its VM to run: a check of its own, beside the rest.
# Its lines and counts are shown when all else is done.
debug_begin() {
	step build build all tests || true
	SHMIPC_TEST_SCALE=${again:-$SHMIPC_TEST_SCALE} "$0" debug-lane >"$BUILD/check/debug.log" 2>&1 &
	lane=$!
}

debug_end() {
	local rc=0
	wait "$lane" || rc=$?
	cat "$BUILD/check/debug.log"
	cat "$BUILD/check/debug-lane.results" >>"$results"
	return $rc
}

vm() {
	local flavour
	# A rig that cannot see a fault proves nothing with its passes.
	SHMIPC_TEST_TIMEOUT=600 step rig run rig tests/vm/selftest.sh || true
	SHMIPC_TEST_TIMEOUT=600 step 'programs in the VM' run 'VM programs' tests/vm/check-abi.sh \
		tests/vm/check-demos.sh || true
	for flavour in ${SHMIPC_FLAVOURS:-$flavours}; do
		step "kernel $flavour" vm_one "$flavour" || true
	done
}

install() {
	SHMIPC_TEST_TIMEOUT=900 step install run install tests/check-make.sh tests/check-install.sh \
		tests/check-dkms.sh || true
}

# It needs the debug kernel's headers: waits until the lane has built it.
lint() {
	SHMIPC_TEST_TIMEOUT=1800 step lint run lint tests/lint.sh || true
}

long() {
	native
	for v in O0 O3 lto clang clang-14 clang-16 gcc-11; do
		SHMIPC_TEST_SCALE=quick suite "embedded $v" "$v"
	done
	MUTANTS=all step mutants mutants || true
	vm
	SHMIPC_TEST_TIMEOUT=900 step systemd run systemd tests/vm/check-systemd.sh || true
	step 'kunit in a kernel tree' kunit kunit-tree || true
	install
}

main() {
	case $part in
	quick) tests/deps.sh native; quick ;;
	native) tests/deps.sh native; native ;;
	vm) tests/deps.sh vm; debug_begin; vm; step 'debug lane' debug_end || true ;;
	install) tests/deps.sh install; install ;;
	kunit) tests/deps.sh vm; step kunit kunit kunit || true ;;
	debug) tests/deps.sh vm; step build build all tests || true; debug ;;
	debug-lane) debug; exit "$(($(failures) > 0))" ;;
	check) tests/deps.sh all; debug_begin; native; step mutants mutants || true
		vm; install; lint; step 'debug lane' debug_end || true ;;
	long) tests/deps.sh long; debug_begin; long; lint; step 'debug lane' debug_end || true ;;
	*) echo "check.sh: unknown part $part" >&2; return 2 ;;
	esac
}

main 2>&1 | tee "$BUILD/check/$part.log"
[[ $part != debug-lane ]] || exit 0
# Whoever sees the end only must learn what failed, and how.
awk '/^ *FAIL/ { print; n = 40; next } /^ +\|/ && n-- > 0 { print; next } { n = 0 }' \
	"$BUILD/check/$part.log"
tests/total.sh "$part" "$results"
