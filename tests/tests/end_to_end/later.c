/* Loaded before a process's libraries: its wall clock is 25 hours ahead as long as the file that DEWPOINT_TEST_LATER names
 * exists. Nothing else that the process sees of time changes. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time)
{
    const char *sign = getenv("DEWPOINT_TEST_LATER");
    int result = syscall(SYS_clock_gettime, clock, time);

    if (result == 0 && clock == CLOCK_REALTIME && sign != NULL && access(sign, F_OK) == 0)
        time->tv_sec += 25 * 60 * 60;
    return result;
}
