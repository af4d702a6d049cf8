/* Reads what a run left behind, checks it, and writes the page. */
#include "report/report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/text.h"
#include "base/util.h"
#include "report/page.h"
#include "report/parts.h"

#define WHY_MAX 512

struct source {
	const char *folder; /* NULL: a report alone */
	json_t *report;	    /* as read */
	json_t *lacks;	    /* array of sentences for the page */
};

/* -ENOENT where it is not there; -ENOTSUP where it is no regular file, which could keep us. */
static int read_file(const char *path, size_t max, char **ret_text, size_t *ret_len)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOTSUP;
	return file_read_fd(fd, max, ret_text, ret_len);
}

static const char *why_not(int r)
{
	return r == -ENOENT    ? "it is not there"
	       : r == -ENOTSUP ? "it is no regular file"
			       : strerror(-r);
}

/* Why is set on failure, one line without the path. */
static int read_json(const char *path, size_t max, json_t **ret_json, char why[WHY_MAX])
{
	CLEANUP_FREE char *text = NULL;
	json_error_t wrong;
	size_t len;
	int r = read_file(path, max, &text, &len);

	if (r < 0) {
		snprintf(why, WHY_MAX, "%s", why_not(r));
		return r;
	}
	*ret_json = json_loadb(text, len, 0, &wrong);
	if (*ret_json)
		return 0;
	snprintf(why, WHY_MAX, "line %d: %s", wrong.line, wrong.text);
	text_one_line(why);
	return -EBADMSG;
}

static void lack(struct source *s, const char *what, const char *why)
{
	CLEANUP_FREE char *text = text_format("%s: %s", what, why);

	if (text)
		json_array_append_new(s->lacks, json_string(text) ?: json_string(what));
}

/* The path of a file beside the report, if it is to be looked for; malloc'ed. */
static char *beside_report(const struct source *s, const char *name)
{
	return s->folder ? text_format("%s/%s", s->folder, name) : NULL;
}

static json_t *stacks_of(struct source *s)
{
	static const char name[] = "profile.speedscope.json";
	CLEANUP_FREE char *path = beside_report(s, name);
	json_t *speedscope = NULL, *part = NULL;
	char text[WHY_MAX];
	const char *why = text;

	if (!path)
		return NULL;
	if (read_json(path, REPORT_STACKS_MAX, &speedscope, text) == 0)
		part = report_stacks(speedscope, &why);
	json_decref(speedscope);
	if (!part)
		lack(s, name, why);
	return part;
}

static json_t *queues_of(struct source *s)
{
	static const char name[] = "monitor.csv";
	CLEANUP_FREE char *path = beside_report(s, name);
	CLEANUP_FREE char *csv = NULL;
	json_t *part = NULL;
	const char *why;
	size_t len;
	int r;

	if (!path)
		return NULL;
	r = read_file(path, REPORT_QUEUES_MAX, &csv, &len);
	if (r < 0)
		why = why_not(r);
	else
		part = report_queues(csv, len, &why);
	if (!part)
		lack(s, name, why);
	return part;
}

static json_t *windows_of(struct source *s)
{
	const json_t *profile = json_object_get(s->report, "profile");
	const json_t *windows = json_object_get(profile, "windows");
	const char *why;
	json_t *part;

	if (!windows) {
		if (profile)
			lack(s, "report.json", "its profile has no windows over time");
		return NULL;
	}
	part = report_windows(windows, &why);
	if (!part)
		lack(s, "report.json: the profile over time", why);
	return part;
}

/* What the page shows of a report, and nothing else: a page is passed on, and a report says more of
 * where it was made than that (paths, disks, sockets). members: NULL-terminated; NULL: all. */
struct shown {
	const char *key;
	const char *const *members;
};

static const char *const of_kernel[] = {"release", NULL};
static const char *const of_exits[] = {"total", "time_ns", "accounts", NULL};
static const char *const of_monitor[] = {"cpus",	"interval_ns", "lacks",
					 "stall_count", "stalls",      NULL};
static const char *const of_profile[] = {"caches",
					 "classes",
					 "degraded",
					 "dropped",
					 "duration_ns",
					 "functions",
					 "hz_had",
					 "idle_ns",
					 "kernel_ns",
					 "nodes",
					 "programs",
					 "samples",
					 "scheduling_ns",
					 "scheduling_share",
					 "switch_ns",
					 "switches",
					 "tasks",
					 "user_ns",
					 NULL};
static const char *const of_evidence[] =
	{"host_load_after", "host_load_before", "host_stolen_ticks",  "noisy", "since",
	 "vcpus",	    "wall_ns",		"worst_stolen_ticks", NULL};
static const struct shown shown[] = {
	{"arch", NULL},		 {"command", NULL},
	{"degraded", NULL},	 {"evidence", of_evidence},
	{"exit_status", NULL},	 {"exits", of_exits},
	{"freezes", NULL},	 {"host", NULL},
	{"kernel", of_kernel},	 {"lab", NULL},
	{"memory_bytes", NULL},	 {"monitor", of_monitor},
	{"name", NULL},		 {"outcome", NULL},
	{"profile", of_profile}, {"stasis", NULL},
	{"text", NULL},		 {"timing_ns", NULL},
	{"topology", NULL},	 {"vcpus", NULL},
	{"watches", NULL},
};

/* NULL where it should have members and has none. */
static json_t *members_of(json_t *json, const char *const *members)
{
	json_t *kept, *value;

	if (!members)
		return json_incref(json);
	kept = json_is_object(json) ? json_object() : NULL;
	for (; kept && *members; members++)
		if ((value = json_object_get(json, *members)))
			json_object_set(kept, *members, value);
	return kept;
}

static json_t *what_is_shown(const json_t *report)
{
	json_t *kept = json_object(), *value, *cpus;

	for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
		if ((value = json_object_get(report, shown[i].key)))
			json_object_set_new(kept, shown[i].key,
					    members_of(value, shown[i].members));
	/* Without a release, the page has the name of the kernel's file. */
	value = json_object_get(report, "kernel");
	if (value && !json_string_length(json_object_get(value, "release")))
		json_object_set(kept, "kernel", value);
	/* Grows with the vCPUs. */
	cpus = json_object_get(json_object_get(kept, "monitor"), "cpus");
	for (size_t i = 0; i < json_array_size(cpus); i++)
		json_object_del(json_array_get(cpus, i), "last");
	return kept;
}

/* The page's data, whose parts may be null. Takes the report apart. */
static json_t *data_of(struct source *s)
{
	json_t *stacks = stacks_of(s), *windows = windows_of(s), *queues = queues_of(s), *report,
	       *kept;
	uint64_t cut = 0;

	kept = what_is_shown(s->report);
	report = report_bounded(kept, &cut);
	json_decref(kept);
	if (cut)
		lack(s, "report.json",
		     "values that are too many, too long or too deep are left out");
	return json_pack("{s:s, s:b, s:o?, s:o?, s:o?, s:o?, s:O}", "made_by",
			 "stasis " STASIS_VERSION, "folder", s->folder != NULL, "report", report,
			 "stacks", stacks, "windows", windows, "queues", queues, "lacks", s->lacks);
}

static int write_page(const char *to, const char *data, struct error *err)
{
	struct beside b;
	int r = beside_open(&b, to, 0666);

	if (r < 0)
		return error_set(err, r, "writing the page %s", to);
	r = fd_write_all(b.fd, report_page_before, report_page_before_len);
	if (r == 0)
		r = fd_write_all(b.fd, data, strlen(data));
	if (r == 0)
		r = fd_write_all(b.fd, report_page_after, report_page_after_len);
	if (r == 0) {
		r = beside_commit(&b);
	} else {
		beside_abort(&b);
	}
	return r < 0 ? error_set(err, r, "writing the page %s", to) : 0;
}

static int read_report(struct source *s, const char *path, struct error *err)
{
	char why[WHY_MAX];
	int r = read_json(path, REPORT_JSON_MAX, &s->report, why);

	if (r < 0)
		return error_usage(err, "%s: %s", path, why);
	if (json_is_string(json_object_get(s->report, "stasis")) &&
	    json_is_string(json_object_get(s->report, "outcome")))
		return 0;
	return error_usage(err,
			   "%s is no report of stasis: one that run --report wrote is accepted",
			   path);
}

static int make(struct source *s, const char *from, const char *to, struct error *err)
{
	CLEANUP_FREE char *path = s->folder ? text_format("%s/report.json", from) : strdup(from);
	CLEANUP_FREE char *text = NULL;
	json_t *data;
	int r;

	s->lacks = json_array();
	if (!path || !s->lacks)
		return error_set(err, -ENOMEM, "reading %s", from);
	r = read_report(s, path, err);
	if (r < 0)
		return r;
	data = data_of(s);
	text = data ? report_json_text(data) : NULL;
	json_decref(data);
	return text ? write_page(to, text, err) : error_set(err, -ENOMEM, "making the page");
}

int report_write(const char *from, const char *to, char **ret_to, struct error *err)
{
	struct source s = {0};
	struct stat st;
	char *path;
	int r;

	if (!report_page_before_len) {
		error_usage(err, "this stasis was built without the page of stasis report");
		error_hint(err,
			   "scripts/setup build, which installs d3 (node-d3-…), then a new build");
		return -EINVAL;
	}
	if (stat(from, &st) < 0)
		return error_usage(err, "%s: %s", from, strerror(errno));
	if (S_ISDIR(st.st_mode))
		s.folder = from;
	if (!to && !s.folder)
		return error_usage(err, "%s is no folder: -o FILE says where the page goes", from);
	path = to ? strdup(to) : text_format("%s/report.html", from);
	r = path ? make(&s, from, path, err) : error_set(err, -ENOMEM, "making the page");
	json_decref(s.report);
	json_decref(s.lacks);
	if (r == 0)
		*ret_to = path;
	else
		free(path);
	return r;
}
