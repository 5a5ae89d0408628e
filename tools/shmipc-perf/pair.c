// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* pair.c - starts a client and a server, and learns how they ended */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pair.h"
#include "perf.h"
#include "transport.h"

#define LIMIT_S	300	/* a pair that hangs is a failure, not the end of the run */

struct control *control;

void control_make(void)
{
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (control == MAP_FAILED)
		die("mmap", 0);
}

/* A server that failed has said why; what waits for its answer would wait for ever. */
static void server_ended(int sig)
{
	(void)sig;
	_exit(1);
}

static void start_server(const struct transport *t, enum place place,
			 void (*server)(const struct transport *t))
{
	pid_t child;

	signal(SIGCHLD, server_ended);
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (child) {
		control->server = child;
		return;
	}
	signal(SIGCHLD, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	place_end(place, SERVER);
	server(t);
	/* The client's end was seen: it is done, or has failed and said why. */
	pause();
	_exit(1);
}

static _Noreturn void run_client(const struct transport *t, enum place place,
				 void (*client)(const struct transport *t),
				 void (*server)(const struct transport *t))
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(LIMIT_S);
	place_end(place, CLIENT);
	if (t->make)
		t->make();
	if (server)
		start_server(t, place, server);
	client(t);
	signal(SIGCHLD, SIG_DFL);
	if (server) {
		kill(control->server, SIGKILL);
		waitpid(control->server, NULL, 0);
	}
	exit(0);
}

int pair_run(const struct transport *t, enum place place, void (*client)(const struct transport *t),
	     void (*server)(const struct transport *t))
{
	pid_t child;
	int status;

	control->error[0] = 0;
	control->server = 0;
	control->check = false;
	fflush(NULL);
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (!child)
		run_client(t, place, client, server);
	if (waitpid(child, &status, 0) != child)
		die("wait", 0);
	if (!status)
		return 0;
	if (!control->error[0])
		snprintf(control->error, sizeof(control->error), WIFSIGNALED(status) ?
			 "killed by signal %d" : "exit %d", WIFSIGNALED(status) ?
			 WTERMSIG(status) : WEXITSTATUS(status));
	return -1;
}
