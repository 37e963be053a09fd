/* What the benchmarks need in C: the bare epoll echo that the library is held against. */
#ifndef CBENCHMARKS_H
#define CBENCHMARKS_H

#include <pthread.h>
#include <stddef.h>

/* Answers each byte that arrives on input with one on output, until input ends. */
void bench_echo(int input, int output);

/* Waits for one of two descriptors to be readable; returns that descriptor. */
int bench_wait(int first, int second);

/* How often memory has been asked for. The program's own malloc and its relatives count, and pass the
 * call on. */
unsigned long bench_allocations(void);

/* Nanoseconds of processor that a thread has used. */
long long bench_thread_nanoseconds(pthread_t thread);

/* Bytes of heap in use. */
size_t bench_heap_bytes(void);

/* The offset behind the first occurrence of a pattern, or -1. */
long bench_find_end(const void *text, size_t text_count, const void *pattern, size_t pattern_count);

/* Makes standard output line-buffered. */
void bench_line_buffering(void);

#endif
