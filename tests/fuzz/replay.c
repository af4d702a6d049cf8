/* Runs a fuzz target over files and folders of inputs, without a fuzzer: the corpus as a test, and
 * a way to look at one crash. No input at all is a failure. */
#include <dirent.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fuzz.h"

static unsigned inputs;

static int replay_file(const char *path)
{
	char *data;
	size_t len;
	int rc = file_read(path, MIB(64), &data, &len);

	if (rc < 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(-rc));
		return rc;
	}
	/* A copy of the exact size, so that a read past the end is seen. */
	uint8_t *exact = malloc(len ? len : 1);
	if (exact) {
		memcpy(exact, data, len);
		LLVMFuzzerTestOneInput(exact, len);
		inputs++;
	}
	free(exact);
	free(data);
	return 0;
}

static int replay_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		perror(path);
		return -1;
	}
	while (!rc && (entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		rc = replay_file(name);
	}
	closedir(dir);
	return rc;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct stat st;
		int rc = stat(argv[i], &st);

		if (rc < 0)
			perror(argv[i]);
		else
			rc = S_ISDIR(st.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]);
		if (rc < 0)
			return 1;
	}
	printf("replayed %u inputs\n", inputs);
	return inputs ? 0 : 1;
}
