/* The table of architectures. Any thread. */
#include "arch/kinds.h"

#include <assert.h>
#include <string.h>

#include "arch/arch.h"

static const struct arch_kind *const kinds[] = {&arch_kind_x86_64, &arch_kind_aarch64};

const struct arch_kind *arch_kind_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(name, kinds[i]->name) || !strcmp(name, kinds[i]->debian))
			return kinds[i];
	return NULL;
}

const struct arch_kind *arch_kind_of_kernel(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i]->kernel_fits(path))
			return kinds[i];
	return NULL;
}

const struct arch_kind *arch_kind_own(void)
{
	const struct arch_kind *own = arch_kind_find(arch_name);

	assert(own);
	return own;
}
