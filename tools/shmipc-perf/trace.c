// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * trace.c - system calls of both ends, in a repetition of their own that is not timed
 *
 * Counted by ptrace, which anybody may do to his own children, between two marks of the client. It
 * makes each call slow, so the count is taken only where both ends share a CPU: there the one that
 * waits sleeps anyway, or yields, and sleeps if that takes as long as it does here.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pair.h"
#include "perf.h"
#include "transport.h"

#define OPTIONS	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | \
		 PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)

static bool traced;

void count_mark(void)
{
	/* A call that nobody else here makes. */
	if (traced)
		syscall(SYS_getsid, 0);
}

struct count {
	int marks;
	uint64_t calls;
};

/* One stop of a traced thread. Returns the signal that it is to get. */
static int stopped(pid_t pid, int status, struct count *count)
{
	int sig = WSTOPSIG(status);
	struct __ptrace_syscall_info info;

	if (sig == (SIGTRAP | 0x80)) {
		if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0 &&
		    info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			if (info.entry.nr == SYS_getsid)
				count->marks++;
			else if (count->marks == 1)
				count->calls++;
		}
		return 0;
	}
	/* Events of ptrace, and the stop that each new child begins with. */
	return sig == SIGTRAP || sig == SIGSTOP ? 0 : sig;
}

static void follow(pid_t client, struct count *count)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (WIFSTOPPED(status))
			ptrace(PTRACE_SYSCALL, pid, NULL, stopped(pid, status, count));
		else if (pid == client)
			break;
	}
	/* Its server dies with it. */
	while (waitpid(-1, &status, __WALL) > 0)
		;
}

double count_calls(const struct transport *t, enum place place,
		   void (*client)(const struct transport *t),
		   void (*server)(const struct transport *t))
{
	struct count count = { 0 };
	double calls = -1;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork", 0);
	if (!pid) {
		/* The pair's coordinator is what is traced first: all that it starts follows. */
		traced = true;
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(1);
		raise(SIGSTOP);
		_exit(pair_run(t, place, client, server) ? 1 : 0);
	}
	if (waitpid(pid, NULL, __WALL) == pid && !ptrace(PTRACE_SETOPTIONS, pid, NULL, OPTIONS) &&
	    !ptrace(PTRACE_SYSCALL, pid, NULL, NULL)) {
		follow(pid, &count);
		if (count.marks == 2)
			calls = (double)count.calls / control->fixed_ops;
	}
	return calls;
}
