// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* machine.c - what a run was on */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "suite.h"

/* The value of the first line of a file that begins with @key. */
static void line_of(const char *file, const char *key, char *value, size_t size)
{
	char line[512];
	FILE *f = fopen(file, "re");

	snprintf(value, size, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = line + strlen(key);

		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		at += strspn(at, " \t:");
		snprintf(value, size, "%.*s", (int)strcspn(at, "\n"), at);
		break;
	}
	if (f)
		fclose(f);
}

static void caches(char *text, size_t size)
{
	size_t done = 0;

	text[0] = 0;
	for (int i = 0; i < 4; i++) {
		char path[96], kind[32], level[8], bytes[32];

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
		line_of(path, "", kind, sizeof(kind));
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
		line_of(path, "", level, sizeof(level));
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
		line_of(path, "", bytes, sizeof(bytes));
		if (strcmp(kind, "Instruction") != 0 && strcmp(kind, "unknown") != 0 && done < size)
			done += snprintf(text + done, size - done, "%sL%s %s", done ? ", " : "",
					 level, bytes);
	}
}

static const char *provider(void)
{
	struct shmipc_endpoint *ep;
	const char *name;

	if (shmipc_open(&ep, 0))
		return "none";
	name = shmipc_provider(ep);
	shmipc_close(ep);
	return name;
}

void machine_look(struct machine *machine)
{
	struct utsname uts;
	time_t t = time(NULL);
	struct tm tm;
	char flags[8192];
	FILE *f = fopen("/proc/cpuinfo", "re");

	line_of("/proc/cpuinfo", "model name", machine->cpu, sizeof(machine->cpu));
	caches(machine->caches, sizeof(machine->caches));
	uname(&uts);
	snprintf(machine->kernel, sizeof(machine->kernel), "%.40s %.50s", uts.sysname, uts.release);
	snprintf(machine->hypervisor, sizeof(machine->hypervisor), "none seen");
	while (f && fgets(flags, sizeof(flags), f))
		if (!strncmp(flags, "flags", 5) && strstr(flags, " hypervisor"))
			snprintf(machine->hypervisor, sizeof(machine->hypervisor), "yes");
	if (f)
		fclose(f);
	strftime(machine->date, sizeof(machine->date), "%Y-%m-%d %H:%M UTC", gmtime_r(&t, &tm));
	machine->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	machine->mib = sysconf(_SC_PHYS_PAGES) / 256 * (sysconf(_SC_PAGESIZE) / 4096);
	machine->provider = provider();
}
