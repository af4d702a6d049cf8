/* The files that come out of a run in the lab: what asks the stasis inside for each, and what is
 * done with it outside. */
#ifndef STASIS_CLI_LAB_OUTPUTS_H
#define STASIS_CLI_LAB_OUTPUTS_H

#include "vm/config.h"
#include "vm/lab/lab.h"

#define LAB_OUTPUTS_MAX 5

struct lab_outputs {
	struct lab_output list[LAB_OUTPUTS_MAX];
	size_t count;
	unsigned kind[LAB_OUTPUTS_MAX]; /* of each, in the table */
};

/* Those that the configuration wants, empty. */
int lab_outputs_open(struct lab_outputs *o, const struct vm_config *c,
		     struct error *err) MUST_CHECK;
/* Tells the option that asks for each, and its value inside. */
void lab_outputs_words(const struct lab_outputs *o,
		       void (*word)(void *arg, const char *option, const char *value), void *arg);
/* The run has ended with that status: writes them where the configuration says. err->code says
 * whether something failed before, which the report then has. */
int lab_outputs_finish(const struct lab_outputs *o, const struct vm_config *c, int status,
		       struct error *err) MUST_CHECK;
void lab_outputs_close(struct lab_outputs *o); /* accepts a zeroed one */

#endif
