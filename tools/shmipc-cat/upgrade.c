// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * upgrade.c - another process goes on with the transfer
 *
 * SIGUSR2 offers the endpoint, and starts what is at argv[0] by now with the offer's descriptor and
 * the same standard input and output. The transfer goes on until that successor is ready. Then the
 * receiver ends at a message boundary, the sender has come to one, and shmipc_yield() hands over.
 * What was read from standard input is sent by then, what was received is written, and the rest
 * lies in the session or in the pipes, which the successor has.
 *
 * A shell waits for the process that it started. So this one stays, without the pipes and the
 * endpoint, as long as its successor lives: it passes signals on and has the same exit status.
 * If it is killed the successor is, too: together they look like one process.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cat.h"

#define OFFER_NS	10000000000LL
#define OFFER_OPTION	"--offer="

void upgrade_init(struct cat *cat, char **argv)
{
	sigset_t set;

	cat->argv = argv;
	cat->offer = -1;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	/* If it was inherited as ignored, there would be no status to wait for. */
	signal(SIGCHLD, SIG_DFL);
	/* Across exec, too: a signal can't meet a successor too early. */
	sigprocmask(SIG_BLOCK, &set, NULL);
	cat->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (cat->signals < 0)
		cat_die("signalfd", 0);
}

/* As if nothing had happened. */
static void give_up(struct cat *cat, const char *why)
{
	fprintf(stderr, "shmipc-cat: no upgrade: %s\n", why);
	shmipc_offer_cancel(cat->ep);
	if (cat->successor) {
		kill(cat->successor, SIGKILL);
		waitpid(cat->successor, NULL, 0);
	}
	cat->offer = -1;
	cat->successor = 0;
	atomic_store(&cat->stop, false);
}

/* The same options, and the offer in the place of a predecessor's. */
static char **successor_argv(char **argv, char *option)
{
	int n = 0, old;
	char **out;

	while (argv[n])
		n++;
	old = n > 1 && !strncmp(argv[1], OFFER_OPTION, strlen(OFFER_OPTION));
	out = calloc(n + 2, sizeof(*out));
	if (!out)
		return NULL;
	out[0] = argv[0];
	out[1] = option;
	for (int i = 1 + old; i < n; i++)
		out[i + 1 - old] = argv[i];
	return out;
}

static pid_t start(struct cat *cat)
{
	char option[sizeof(OFFER_OPTION) + 11];
	char **argv = successor_argv(cat->argv, option);
	pid_t pid;

	if (!argv)
		return -1;
	snprintf(option, sizeof(option), OFFER_OPTION "%d", cat->offer);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fcntl(cat->offer, F_SETFD, 0);
		execvp(argv[0], argv);
		_exit(127);
	}
	free(argv);
	return pid;
}

static void begin(struct cat *cat)
{
	struct shmipc_offer_options offer = {
		.size = sizeof(offer), .timeout_ns = OFFER_NS, .state_max = sizeof(struct totals),
	};
	pid_t pid;
	int err;

	if (cat->offer >= 0)
		return;
	err = shmipc_offer(cat->ep, &offer, &cat->offer);
	if (err) {
		const char *why = shmipc_last_error();

		give_up(cat, *why ? why : shmipc_strerror(err));
		return;
	}
	pid = start(cat);
	if (pid > 0)
		cat->successor = pid;
	else
		give_up(cat, "no process could be started");
}

/* It was this process's child only until it took over, so it has failed. */
static void successor_ended(struct cat *cat, int status)
{
	char why[64];

	if (WIFEXITED(status))
		snprintf(why, sizeof(why), "the successor ended with status %d",
			 WEXITSTATUS(status));
	else
		snprintf(why, sizeof(why), "signal %d ended the successor", WTERMSIG(status));
	cat->successor = 0;
	give_up(cat, why);
}

void upgrade_look(struct cat *cat, short signals, short offer)
{
	struct signalfd_siginfo info;
	int status;

	while (signals && read(cat->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGUSR2)
			begin(cat);
	/* Before its offer, which ends with it: this tells why. */
	if (cat->successor && signals && waitpid(cat->successor, &status, WNOHANG) > 0)
		successor_ended(cat, status);
	else if (offer & POLLHUP)
		give_up(cat, "the successor took too long, or died");
	else if (offer & POLLIN)
		atomic_store(&cat->stop, true);
}

/* ---- after it ------------------------------------------------------------- */

static int wait_for(pid_t pid)
{
	int status, number;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (waitpid(pid, &status, WNOHANG) == 0)
		if (sigwait(&set, &number) == 0 && number != SIGCHLD)
			kill(pid, number);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void upgrade_hand_over(struct cat *cat)
{
	struct totals totals = cat_totals(cat);
	int err = shmipc_yield(cat->ep, &totals, sizeof(totals));

	if (err) {
		give_up(cat, shmipc_strerror(err));
		return;
	}
	shmipc_close(cat->ep);
	/* Whoever is at their other ends looks at the successor alone from now on. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	fprintf(stderr, "shmipc-cat: process %d goes on\n", (int)cat->successor);
	_exit(wait_for(cat->successor));
}

void upgrade_end(struct cat *cat)
{
	if (cat->offer >= 0)
		give_up(cat, "the transfer has ended");
}
