# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# man.awk: the man pages of the library, out of the comments of its header: one in section 3 for each
# "/** NAME - ... */" and what it stands before, and shmipc(7) with the header's first comment, what is
# said of a section, the constants that have a comment, and an index.
# awk -v dir=DIR -v version=V -f man.awk shmipc.h

# In a page "\" and a leading "." or "'" would be requests; "-" is a minus, so that it can be copied.
# @name and *name* are italic.
function roff(s)
{
	gsub(/\\/, "\\e", s)
	gsub(/-/, "\\-", s)
	while (match(s, /@[a-z_]+|\*[a-z]+\*/))
		s = substr(s, 1, RSTART - 1) "\\fI" substr(s, RSTART + 1, RLENGTH - 1 - (s ~ /\*[a-z]+\*/)) \
			"\\fP" substr(s, RSTART + RLENGTH)
	return s ~ /^[.']/ ? "\\\\&" s : s
}

function title(name, section)
{
	print ".\\\" Made from shmipc.h. SPDX-License-Identifier: LGPL-2.1-or-later OR MIT" >out
	print ".TH " toupper(name) " " section " \"\" \"shmipc " version "\" \"shmipc\"" >out
	print ".SH NAME" >out
}

# A line of a comment, without its frame.
function bare(s)
{
	sub(/ *\*\/$/, "", s)
	sub(/^\/\*\*? ?/, "", s)
	sub(/^ \* ?/, "", s)
	return s
}

# A field or parameter opens an item, "Return:" a section, an empty line a paragraph.
function text(s,    at)
{
	if ((at = index(s, "Return: ")) > 0) {
		if (at > 1)
			text(substr(s, 1, at - 1))
		print ".SH RETURN VALUE\n" roff(substr(s, at + 8)) >out
	} else if (match(s, /^@[a-z_]+: /)) {
		print ".TP\n.I " substr(s, 2, RLENGTH - 3) "\n" roff(substr(s, RLENGTH + 1)) >out
	} else if (s ~ /^[ \t]*$/) {
		print ".PP" >out
	} else {
		sub(/^[ \t]+/, "", s)
		print roff(s) >out
	}
}

function page(    i, name, what, at)
{
	what = comment[1] == "" ? comment[2] : comment[1]
	at = index(what, " - ")
	name = substr(what, 1, at - 1)
	sub(/^struct /, "", name)
	what = substr(what, at + 3)
	if ((i = index(what, ". ")) > 0) {
		comment[lines + 1] = substr(what, i + 2)
		what = substr(what, 1, i - 1)
		lines++
	}
	out = dir "/" name ".3"
	title(name, 3)
	print name " \\- " roff(what) "\n.SH SYNOPSIS\n.nf\n#include <shmipc/shmipc.h>\n.PP" >out
	printf "%s", roff(declaration) >out
	print ".fi" >out
	while (lines && comment[lines] == "")
		lines--
	i = comment[1] == "" ? 3 : 2
	while (i <= lines && comment[i] == "")
		i++
	if (i <= lines && comment[i] !~ /^Return: /)
		print ".SH DESCRIPTION" >out
	for (; i <= lines; i++)
		if (comment[i] != "" || comment[i + 1] !~ /^Return: /)
			text(comment[i])
	print ".SH SEE ALSO\n.BR shmipc (7)" >out
	close(out)
	names[++pages] = name
	about[pages] = what
}

function overview(    i)
{
	out = dir "/shmipc.7"
	title("shmipc", 7)
	print "shmipc \\- streams between processes at the speed of memory\n.SH DESCRIPTION" >out
	for (i = 4; i < nr_intro; i++) {
		if (intro[i] == "Conventions")
			print ".SH CONVENTIONS" >out
		else if (match(intro[i], /^  [A-Z][a-z]+\t+/)) {
			print ".TP\n.B " substr(intro[i], 3, index(intro[i], "\t") - 3) >out
			text(substr(intro[i], RLENGTH + 1))
		} else
			text(intro[i])
	}
	printf "%s", sections >out
	print ".SH CONSTANTS" >out
	for (i = 1; i <= constants; i++)
		print ".TP\n.B " constant[i] "\n" roff(meaning[i]) >out
	print ".SH CALLS AND STRUCTURES" >out
	for (i = 1; i <= pages; i++)
		print ".TP\n.BR " names[i] " (3)\n" roff(about[i]) >out
	print ".SH SEE ALSO\n.BR shmipc-cat (1),\n.BR shmipc-perf (1)" >out
}

# The first comment that is not the licence's.
NR > 1 && !intro_done {
	intro[++nr_intro] = bare($0)
	intro_done = /\*\/$/
	next
}

/^(#define |\t)SHMIPC_[A-Z_]+.*\/\* .* \*\/$/ {
	constant[++constants] = $1 == "#define" ? $2 : $1
	sub(/,$/, "", constant[constants])
	meaning[constants] = bare(substr($0, index($0, "/*")))
}

# A comment of several lines is about the constant that follows, or the section that it stands in.
function section(    i, inside)
{
	sections = sections ".SH " toupper(heading) "\n"
	for (i = 1; i <= block_lines; i++) {
		if (block[i] ~ /^\t/ && !inside)
			sections = sections ".nf\n.ta T 8n\n"
		else if (block[i] !~ /^\t/ && inside)
			sections = sections ".fi\n"
		inside = block[i] ~ /^\t/
		sections = sections (block[i] == "" ? ".PP" : roff(block[i])) "\n"
	}
}

function block_of_constant(    i)
{
	constant[++constants] = $2
	for (i = 1; i <= block_lines; i++)
		meaning[constants] = meaning[constants] (i > 1 ? " " : "") block[i]
}

/^\/\* ---- .* -+ \*\/$/ { heading = $0; gsub(/^\/\* ---- | -+ \*\/$/, "", heading) }
/^\/\*$/ { in_block = 1; block_lines = 0; next }
in_block {
	if (/\*\/$/) {
		in_block = 0
		block_done = 1
	} else
		block[++block_lines] = bare($0)
	next
}
block_done {
	block_done = 0
	if (/^#define /)
		block_of_constant()
	else
		section()
}

/^\/\*\*/ { commented = 1; lines = 0; declaration = "" }
commented {
	comment[++lines] = bare($0)
	if (/\*\/$/) {
		commented = 0
		declaring = 1
	}
	next
}
declaring {
	declaration = declaration $0 "\n"
	if (/^};/ || (/;$/ && declaration !~ /{/)) {
		declaring = 0
		page()
	}
}
END { overview() }
