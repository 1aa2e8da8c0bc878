/* SPDX-License-Identifier: Apache-2.0 */
#include "listfile.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util.h"

__attribute__((format(printf, 2, 3))) static void say(char *err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(err, LISTFILE_ERROR_MAX, format, ap);
	va_end(ap);
}

/* ---- the grammar ------------------------------------------------------------------------ */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static const char *skip_blanks(const char *pos, const char *end)
{
	while (pos < end && is_blank(*pos))
		pos++;
	return pos;
}

static const char *skip_word(const char *pos, const char *end)
{
	while (pos < end && !is_blank(*pos))
		pos++;
	return pos;
}

/* Is there a word at @pos, where one could begin? */
static bool at_word(const char *pos, const char *end)
{
	return pos < end && *pos != '#';
}

static size_t count_words(const char *pos, const char *end)
{
	size_t n = 0;

	for (pos = skip_blanks(pos, end); at_word(pos, end); pos = skip_blanks(pos, end)) {
		pos = skip_word(pos, end);
		n++;
	}
	return n;
}

/* The byte that the three octal digits at @pos name; 0 (which cannot be named) if they do not. */
static char decode_octal(const char *pos, const char *end)
{
	unsigned value = 0;

	if (end - pos < 3)
		return 0;
	for (int i = 0; i < 3; i++) {
		if (pos[i] < '0' || pos[i] > '7')
			return 0;
		value = value * 8 + (unsigned)(pos[i] - '0');
	}
	return value <= 0377 ? (char)value : 0;
}

/* Decode the word from @pos to @end to *@out, terminated. Return: NULL, or what is wrong. */
static const char *decode_word(const char *pos, const char *end, char **out)
{
	for (; pos < end; pos++) {
		char c = *pos;

		if (is_control(c))
			return "a control character (a DOS line end?): write it as a backslash "
			       "and three octal digits, or remove it";
		if (c == '\\') {
			c = decode_octal(pos + 1, end);
			if (!c)
				return "a backslash needs three octal digits behind it, \\001 to "
				       "\\377: a blank is \\040, a backslash \\134";
			pos += 3;
		}
		*(*out)++ = c;
	}
	*(*out)++ = '\0';
	return NULL;
}

/* Fill @entry with the words of a line; @out is its room for strings. Return: as decode_word(). */
static const char *fill_entry(struct listfile_entry *entry, char *out, const char *pos,
			      const char *end)
{
	entry->path = out;
	for (pos = skip_blanks(pos, end); at_word(pos, end); pos = skip_blanks(pos, end)) {
		const char *word_end = skip_word(pos, end);
		char *word = out;
		char *value;
		const char *wrong = decode_word(pos, word_end, &out);

		if (wrong)
			return wrong;
		pos = word_end;
		if (word == entry->path)
			continue;
		value = strchr(word, '=');
		if (!value || value == word)
			return "options behind the path are KEY=VALUE; a blank within a word is "
			       "written \\040";
		*value++ = '\0';
		entry->options[entry->n_options++] = (struct listfile_option){ word, value };
	}
	return NULL;
}

/* One block for an entry, its options and its strings: decoding never makes a line longer. */
static struct listfile_entry *new_entry(const char *file, unsigned line, size_t words,
					size_t line_size, char **room)
{
	size_t options = (words - 1) * sizeof(struct listfile_option);
	size_t file_size = strlen(file) + 1;
	struct listfile_entry *entry =
		calloc(1, sizeof(*entry) + options + file_size + line_size + 1);
	char *strings;

	if (!entry)
		return NULL;
	strings = (char *)entry->options + options;
	memcpy(strings, file, file_size);
	entry->file = strings;
	entry->line = line;
	*room = strings + file_size;
	return entry;
}

/* The array doubles whenever its count is a power of two, so it needs no capacity field. */
static int append_entry(struct listfile *list, struct listfile_entry *entry)
{
	if ((list->n & (list->n - 1)) == 0) {
		size_t room = list->n ? list->n * 2 : 1;
		struct listfile_entry **grown = realloc(list->entries, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->entries = grown;
	}
	list->entries[list->n++] = entry;
	return 0;
}

/* Return: 0, or a negative errno with *@wrong, what is wrong. */
static int parse_line(struct listfile *list, const char *file, unsigned line, const char *pos,
		      const char *end, const char **wrong)
{
	size_t words = count_words(pos, end);
	struct listfile_entry *entry;
	char *room;

	if (words == 0)
		return 0;
	entry = new_entry(file, line, words, (size_t)(end - pos), &room);
	if (!entry || append_entry(list, entry) < 0) {
		*wrong = "no memory";
		free(entry);
		return -ENOMEM;
	}
	*wrong = fill_entry(entry, room, pos, end);
	if (*wrong) {
		free(list->entries[--list->n]);
		return -EINVAL;
	}
	return 0;
}

/* The line after the one at *@pos, and in *@line_end its end. */
static const char *next_line(const char *pos, const char *end, const char **line_end)
{
	const char *newline = memchr(pos, '\n', (size_t)(end - pos));

	*line_end = newline ? newline : end;
	return newline ? newline + 1 : end;
}

int listfile_parse(struct listfile *list, const char *file, const char *text, size_t size,
		   char *err)
{
	const char *const end = text + size;
	const char *line_end, *wrong;
	unsigned line = 1;
	int rc = 0;

	for (const char *pos = text, *next; pos < end && rc == 0; pos = next, line++) {
		next = next_line(pos, end, &line_end);
		rc = parse_line(list, file, line, pos, line_end, &wrong);
	}
	if (rc < 0)
		say(err, "%s: line %u: %s", file, line - 1, wrong);
	return rc;
}

int listfile_parse_each(struct listfile *list, const char *file, const char *text, size_t size,
			void (*tell)(void *arg, const char *sentence), void *arg)
{
	const char *const end = text + size;
	char err[LISTFILE_ERROR_MAX];
	const char *line_end, *wrong;
	unsigned line = 1;
	int rc = 0;

	for (const char *pos = text, *next; pos < end; pos = next, line++) {
		int this;

		next = next_line(pos, end, &line_end);
		this = parse_line(list, file, line, pos, line_end, &wrong);
		if (this == 0)
			continue;
		rc = this;
		say(err, "%s:%u: %s", file, line, wrong);
		tell(arg, err);
	}
	return rc;
}

void listfile_free(struct listfile *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->entries[i]);
	free(list->entries);
	*list = (struct listfile){ 0 };
}

const char *listfile_option(const struct listfile_entry *entry, const char *key)
{
	for (size_t i = 0; i < entry->n_options; i++)
		if (strcmp(entry->options[i].key, key) == 0)
			return entry->options[i].value;
	return NULL;
}

char *listfile_escape(const char *word)
{
	char *escaped = malloc(4 * strlen(word) + 1);
	char *out = escaped;

	if (!escaped)
		return NULL;
	for (; *word; word++) {
		if (is_blank(*word) || is_control(*word) || *word == '\\' || *word == '#')
			out += sprintf(out, "\\%03o", (unsigned char)*word);
		else
			*out++ = *word;
	}
	*out = '\0';
	return escaped;
}

/* ---- files ------------------------------------------------------------------------------ */

/* Is what @fd holds owned and protected so that its words can be trusted? */
static int check_trust(const char *file, const struct stat *st, mode_t forbidden, char *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		say(err, "%s: it belongs to uid %u, who could change it: chown root it", file,
		    (unsigned)st->st_uid);
		return -EPERM;
	}
	if (st->st_mode & forbidden & 07777) {
		say(err, "%s: its mode is %04o: chmod %04o it, after looking at what it says", file,
		    st->st_mode & 07777u, ((st->st_mode & ~forbidden) | 0400) & 07777u);
		return -EPERM;
	}
	return 0;
}

/* O_NONBLOCK: opening a FIFO must not wait for somebody to write to it. */
static int open_checked(const char *file, int flags, mode_t type, mode_t forbidden, struct stat *st,
			char *err)
{
	_cleanup_close_ int fd = -1;
	int rc;

	fd = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
	if (fd < 0 || fstat(fd, st) < 0) {
		rc = -errno;
		if (rc == -ELOOP)
			say(err, "%s: it is a symbolic link: put the file itself there", file);
		else
			say(err, "%s: %s", file, strerror(-rc));
		return rc;
	}
	if ((st->st_mode & S_IFMT) != type) {
		say(err, "%s: it is not a regular file", file);
		return -EINVAL;
	}
	rc = check_trust(file, st, forbidden, err);
	return rc < 0 ? rc : take_fd(&fd);
}

/* Read to the end of @fd, or until @size bytes are there. */
static ssize_t read_all(int fd, char *data, size_t size)
{
	size_t have = 0;

	while (have < size) {
		ssize_t n = read(fd, data + have, size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

int listfile_load(const char *file, mode_t forbidden, char **text, size_t *size, char *err)
{
	const size_t room = LISTFILE_SIZE_MAX + 1;
	_cleanup_close_ int fd = -1;
	struct stat st;
	ssize_t n;
	char *data;

	fd = open_checked(file, 0, S_IFREG, forbidden, &st, err);
	if (fd < 0)
		return fd;
	data = malloc(room);
	n = data ? read_all(fd, data, room) : -ENOMEM;
	if (n < 0 || (size_t)n == room) {
		free(data);
		say(err, "%s: %s", file, n < 0 ? strerror((int)-n) : "it is larger than 1 MiB");
		return n < 0 ? (int)n : -EFBIG;
	}
	data[n] = '\0';
	*text = data;
	*size = (size_t)n;
	return 0;
}

static int read_file(struct listfile *list, const char *file, mode_t forbidden, char *err)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int rc = listfile_load(file, forbidden, &text, &size, err);

	return rc < 0 ? rc : listfile_parse(list, file, text, size, err);
}

int listfile_read(struct listfile *list, const char *file, mode_t forbidden, char *err)
{
	int rc = read_file(list, file, forbidden, err);

	list->missing = rc == -ENOENT;
	return list->missing ? 0 : rc;
}

static int is_drop_in(const struct dirent *d)
{
	return d->d_name[0] != '.' && d->d_name[strlen(d->d_name) - 1] != '~';
}

static int read_drop_in(struct listfile *list, const char *dir, const char *name, mode_t forbidden,
			char *err)
{
	_cleanup_free_ char *file = NULL;
	int rc;

	if (asprintf(&file, "%s/%s", dir, name) < 0) {
		file = NULL;
		say(err, "%s: no memory", dir);
		return -ENOMEM;
	}
	rc = read_file(list, file, forbidden, err);
	return rc == -ENOENT ? 0 : rc; /* removed since the directory was read */
}

/* In a directory that others cannot write, a name stays what was checked. */
static int read_drop_ins(struct listfile *list, const char *dir, mode_t forbidden, char *err)
{
	_cleanup_close_ int fd = -1;
	struct dirent **names;
	struct stat st;
	int n;
	int rc = 0;

	fd = open_checked(dir, O_DIRECTORY, S_IFDIR, LISTFILE_MODE_TRUSTED, &st, err);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	n = scandirat(fd, ".", &names, is_drop_in, alphasort);
	if (n < 0) {
		rc = -errno;
		say(err, "%s: %s", dir, strerror(-rc));
		return rc;
	}
	for (int i = 0; i < n; i++) {
		if (rc == 0)
			rc = read_drop_in(list, dir, names[i]->d_name, forbidden, err);
		free(names[i]);
	}
	free(names);
	return rc;
}

int listfile_read_all(struct listfile *list, const char *file, mode_t forbidden, char *err)
{
	_cleanup_free_ char *dir = NULL;
	int rc = listfile_read(list, file, forbidden, err);

	if (rc < 0)
		return rc;
	if (asprintf(&dir, "%s.d", file) < 0) {
		dir = NULL;
		say(err, "%s: no memory", file);
		return -ENOMEM;
	}
	return read_drop_ins(list, dir, forbidden, err);
}
