/* The parts of the page's data, each of one file's content, small enough to be drawn. Pure. */
#ifndef STASIS_REPORT_PARTS_H
#define STASIS_REPORT_PARTS_H

#include <jansson.h>

#include "base/compiler.h"

/* What a page draws at most: a shape or a run beyond it is drawn in coarser cells. */
#define REPORT_COLUMNS 400u
#define REPORT_ROWS    128u
#define REPORT_CPUS    4096u  /* more are no shape of ours */
#define REPORT_NODES   40000u /* of the tree of stacks */
#define REPORT_DEPTH   256u   /* frames of a stack, from the outermost on */
#define REPORT_NAME    256u   /* bytes of a frame's name */
/* The page counts to there one by one; as ns, a hundred days. */
#define REPORT_NUMBER_MAX (UINT64_C(1) << 53)

/* Each gives NULL and says why, in words, where the content is none or memory is lacking. */

/* Of a document for speedscope: {"total_ns", "stacks", "frames": [name, …], "classes": [of each,
 * "": none], "nodes": [frame, parent
 * (-1: none), total_ns, self_ns, frame, …], "least_ns"}; parents come before their children, and
 * what is less than least_ns is in its parent's total only. */
json_t *report_stacks(const json_t *speedscope, const char **ret_why);

/* Of a profile's "windows": {"begin_ns", "column_ns", "columns", "rows", "per_row", "vcpus",
 * "cells": {"user_us", "kernel_us", "scheduling_us", "idle_us": [row by row, column by column]},
 * "user_us", "kernel_us", "idle_us": [column], "classes": {name: [column]}, "counts": {"exits",
 * "switches", "wakeups": [column], as far as they are known}}. Times in microseconds, rounded. */
json_t *report_windows(const json_t *windows, const char **ret_why);

/* Of what --monitor-out wrote, len bytes with a NUL behind them: {"begin_ns", "column_ns",
 * "columns", "rows", "per_row", "cpus", "looks", "bad_lines", "mean_centi": [row by row, of tasks;
 * -1: no look], "max": [likewise], "longest": {"tasks", "cpu", "time_ns"}}. */
json_t *report_queues(const char *csv, size_t len, const char **ret_why);

/* A part of a report without what no page could show: what is nested deeper than 10, elements past
 * the first 2,048 of an array and keys past 512 of an object; strings are cut to 32 KiB. *cut
 * counts that. NULL when out of memory. */
json_t *report_bounded(const json_t *json, uint64_t *cut);

/* A string of at most max bytes, cut between two characters; NULL when out of memory. */
json_t *report_string(const json_t *string, size_t max);

/* The text of a JSON document that can stand inside of a <script>: ASCII, without <, > and &.
 * malloc'ed; NULL when out of memory. */
char *report_json_text(const json_t *json);

/* A value that is no negative integer; 0 for anything else. */
static inline uint64_t report_uint(const json_t *json)
{
	return json_is_integer(json) && json_integer_value(json) > 0
		       ? (uint64_t)json_integer_value(json)
		       : 0;
}

#endif
