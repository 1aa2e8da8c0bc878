/* SPDX-License-Identifier: Apache-2.0 */
/* printable.h - words of the other side, on this side's terminal or in a line for a program */
#ifndef PRINTABLE_H
#define PRINTABLE_H

/** printable() - in @text, make a '?' of each byte that a terminal or the reader of a line may act on: what is no UTF-8, and
 * control characters, those of ISO 6429's C1 among them */
void printable(char *text);

#endif
