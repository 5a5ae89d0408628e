/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * run.h - when the suites run
 *
 * Built in, KUnit finds them by itself. Of a module, kernels before 6.4 run them before its init,
 * so there init calls them when all is set up.
 */
#ifndef _SHMIPC_TESTS_RUN_H
#define _SHMIPC_TESTS_RUN_H

#if defined(CONFIG_SHMIPC_KUNIT_TEST) && defined(MODULE)
void shmipc_tests_run(void);
void shmipc_tests_exit(void);
#else
static inline void shmipc_tests_run(void)
{
}

static inline void shmipc_tests_exit(void)
{
}
#endif

#endif
