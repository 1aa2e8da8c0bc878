/* SPDX-License-Identifier: Apache-2.0 */
/*
 * canon.h - numbers that differ between CPUs, in numbers of our own
 *
 * errno values and signals have other numbers on some CPUs (MIPS, Alpha, SPARC), so the
 * wire carries ours: those of x86 and ARM, where a conversion costs nothing to check.
 * Pure.
 */
#ifndef CANON_H
#define CANON_H

#include <stdint.h>

/** canon_errno() - the wire's number of errno @local (>= 0); an unknown one becomes EIO's */
uint16_t canon_errno(int local);
/** local_errno() - errno of this machine for the wire's @canon; an unknown one is EIO */
int local_errno(uint16_t canon);
/** canon_signal() - the wire's number of signal @local, at most 64; 0 when it has none */
uint8_t canon_signal(int local);
/** local_signal() - this machine's signal, 0 for an unknown number */
int local_signal(uint8_t canon);
/** canon_socktype(), local_socktype() - SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET; 0 unknown */
uint8_t canon_socktype(int local);
int local_socktype(uint8_t canon);

#endif
