#!/usr/bin/env python3
"""Makes the page of stasis report one C source: page.html with its styles, d3 and its own scripts in
it, cut in two where the data goes. Without d3 both halves are empty.
usage: embed.py PAGE-FILE... --output FILE --d3 [FILE...]"""
import argparse
import base64
import hashlib
import os
import re
import sys

MARKS = ("/*styles*/", "/*d3*/", "/*scripts*/", "/*licence*/", "policy-of-the-page", "/*data*/")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def hash_of(text):
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def page(files, d3_files):
    html = next(read(f) for f in files if f.endswith(".html"))
    styles = next(read(f) for f in files if f.endswith(".css"))
    licence = next(read(f) for f in files if f.endswith(".txt"))
    # One scope for all of them, in the order in which they are given.
    own = '(function () {\n"use strict";\n' + "".join(read(f) for f in files if f.endswith(".js")) + "})();\n"
    d3 = "".join(re.sub(r"\n//# sourceMappingURL=.*", "", read(f)).strip() + "\n" for f in d3_files)
    for text in (styles, own, d3):
        if re.search(r"</(script|style)|<!--", text, re.I):
            sys.exit("embed.py: a script or style would end its own element")
    if "--" in licence or "*/" in licence:
        sys.exit("embed.py: the licence would end its own comment")
    # Only these two scripts and this style run, whatever the data is; nothing is fetched.
    policy = "default-src 'none'; script-src %s %s; style-src %s; base-uri 'none'; form-action 'none'" % (
        hash_of(d3), hash_of(own), hash_of(styles))
    for mark, text in zip(MARKS, (styles, d3, own, licence, policy)):
        if html.count(mark) != 1:
            sys.exit("embed.py: page.html has no one " + mark)
        html = html.replace(mark, text)
    return html.split(MARKS[-1])


def array(name, text):
    data = text.encode()
    lines = [", ".join(str(b) for b in data[i:i + 32]) for i in range(0, len(data), 32)]
    return "const unsigned char %s[] = {%s};\nconst size_t %s_len = %d;\n" % (
        name, ",\n".join(lines) or "0", name, len(data))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("files", nargs="+")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--d3", nargs="*", default=[])
    given = arguments.parse_args()
    before, after = page(given.files, given.d3) if given.d3 else ("", "")
    with open(given.output, "w", encoding="utf-8") as file:
        file.write("/* Made by %s. */\n#include \"report/page.h\"\n\n" % os.path.basename(__file__))
        file.write(array("report_page_before", before) + array("report_page_after", after))


main()
