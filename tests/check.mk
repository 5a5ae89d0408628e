# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The checks. tests/check.sh drives them, so that the counts come last and nothing after them.

export BUILD
CHECKS := check-quick check-native check-vm check-kunit check-debug check-install check check-long
.PHONY: $(CHECKS) demo demo-vm demo-handover demo-handover-vm bench bench-vm lint mutants deps

$(CHECKS):
	+@MAKE="$(MAKE)" tests/check.sh $(@:check-%=%)

# Built by a make of its own, because under -j nothing else orders it after deps.
demo demo-vm demo-handover demo-handover-vm bench bench-vm: deps
	+@$(MAKE) --no-print-directory all
	@$($@_SCRIPT)
demo_SCRIPT = tests/demo.sh
demo-vm_SCRIPT = tests/vm/demo.sh demo
demo-handover_SCRIPT = tests/demo-handover.sh
demo-handover-vm_SCRIPT = tests/vm/demo.sh demo-handover
bench_SCRIPT = tests/bench.sh
bench-vm_SCRIPT = tests/vm/bench.sh
lint: DEPS = lint
lint: deps
	@tests/lint.sh

mutants: deps
	@MAKE="$(MAKE)" tests/mutants/run.sh

deps:
	@tests/deps.sh $(DEPS)
demo demo-handover bench: DEPS = build
demo-vm demo-handover-vm bench-vm: DEPS = vm
mutants: DEPS = $(if $(filter all,$(MUTANTS)),vm,native)

# After a green check, its counts become those that later ones may not fall below.
.PHONY: counts
counts:
	@for r in $(filter-out %/debug-lane.results,$(wildcard $(BUILD)/check/*.results)); do tests/total.sh --update $$(basename $$r .results) $$r; done

##  check-quick    under 90 s: native tests and static checks
##  check-native   + ASan and UBSan, TSan subset
##  check-vm       the module in QEMU, under stock kernels and the debug kernel
##  check-kunit    the module's own suites on the debug kernel
##  check-debug    these, and all that runs in the module's VMs, on the debug kernel
##  check-install  install, use and uninstall in an empty Debian root; dkms
##  check          native, VM and install; what CI runs
##  check-long     check, and more compilers
##  counts         record the counts of the checks run last in tests/counts.list
##  lint           checkpatch, sparse, Coccinelle, clang-tidy, cppcheck, codespell
##  mutants        each planted fault must turn its test red
##  demo, demo-handover, each also with -vm: over the module, in QEMU
##  bench          the benchmark with all peers, to build/bench; bench-vm: instructions, over the module
##  deps           install the Debian packages that are missing
