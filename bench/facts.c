/* Reads what the host says of itself. */
#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

#define CPU  "/sys/devices/system/cpu/"
#define MOST KIB(256)

/* A file of one line or number. */
static void add_file(json_t *facts, const char *name, const char *path)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;

	if (file_read(path, MOST, &text, &len) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	text_one_line(text);
	json_object_set_new(facts, name, json_string(text));
}

/* The value of the first line "key : value" of a file. */
static void add_line(json_t *facts, const char *name, const char *path, const char *key)
{
	CLEANUP_FREE char *text = NULL;
	char *at, *value;
	size_t len;

	if (file_read(path, MOST, &text, &len) < 0)
		return;
	at = strstr(text, key);
	value = at ? strchr(at, ':') : NULL;
	if (!value)
		return;
	value += 1 + strspn(value + 1, " \t");
	value[strcspn(value, "\n")] = '\0';
	text_one_line(value);
	json_object_set_new(facts, name, json_string(value));
}

static void add_kvm(json_t *facts)
{
	static const char *const modules[] = {"kvm", "kvm_intel", "kvm_amd", "kvm_pvm"};
	json_t *found = json_array();
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s", modules[i]);
		if (access(path, F_OK) == 0)
			json_array_append_new(found, json_string(modules[i]));
	}
	json_object_set_new(facts, "kvm_modules", found);
}

json_t *facts_gather(void)
{
	json_t *facts = json_object();
	double load[3] = {0};
	struct utsname name;

	if (!facts)
		return NULL;
	json_object_set_new(facts, "stasis", json_string(STASIS_VERSION));
	json_object_set_new(facts, "compiler", json_string(__VERSION__));
	json_object_set_new(facts, "time", json_integer(time(NULL)));
	if (uname(&name) == 0) {
		json_object_set_new(facts, "kernel", json_string(name.release));
		json_object_set_new(facts, "machine", json_string(name.machine));
	}
	json_object_set_new(facts, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_set_new(facts, "memory_bytes",
			    json_integer(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)));
	if (getloadavg(load, 3) == 3)
		json_object_set_new(facts, "load", json_pack("[fff]", load[0], load[1], load[2]));
	add_line(facts, "cpu_model", "/proc/cpuinfo", "model name");
	add_file(facts, "governor", CPU "cpu0/cpufreq/scaling_governor");
	add_file(facts, "smt", CPU "smt/control");
	add_file(facts, "clocksource",
		 "/sys/devices/system/clocksource/clocksource0/current_clocksource");
	add_file(facts, "thp", "/sys/kernel/mm/transparent_hugepage/enabled");
	add_file(facts, "cmdline", "/proc/cmdline");
	add_kvm(facts);
	return facts;
}

void facts_line(const json_t *facts, char *buf, size_t len)
{
	const char *kernel = json_string_value(json_object_get(facts, "kernel"));
	const char *model = json_string_value(json_object_get(facts, "cpu_model"));
	const char *locks = json_string_value(json_object_get(facts, "locks"));
	double load = json_number_value(json_array_get(json_object_get(facts, "load"), 0));
	double most = json_number_value(json_object_get(facts, "load_most"));
	char later[32] = "";

	if (most > load)
		snprintf(later, sizeof(later), ", at most %.2f", most);
	snprintf(buf, len, "load %.2f%s on %lld CPUs%s, Linux %s, %s", load, later,
		 (long long)json_integer_value(json_object_get(facts, "cpus")),
		 strncmp(locks ?: "", "none", 4) ? "" : " without locks", kernel ?: "?",
		 model ?: "?");
}

void facts_origin(const json_t *facts, char *buf, size_t len)
{
	const char *words[3][2] = {
		{"", json_string_value(json_object_get(facts, "cpu_model"))},
		{"Linux ", json_string_value(json_object_get(facts, "kernel"))},
		{"stasis ", json_string_value(json_object_get(facts, "stasis"))},
	};
	time_t began = (time_t)json_integer_value(json_object_get(facts, "time"));
	char day[32] = "";
	struct tm tm;
	size_t at = 0;

	if (began > 0 && gmtime_r(&began, &tm))
		strftime(day, sizeof(day), "%Y-%m-%d, ", &tm);
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(words) && at < len; i++)
		if (words[i][1])
			at += (size_t)snprintf(buf + at, len - at, "%s%s%s%s", at ? ", " : "",
					       i == 2 ? day : "", words[i][0], words[i][1]);
}
