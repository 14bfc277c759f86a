//! A wrong clock for one process: a library that is loaded before libc and adds to the time of day.

use std::ffi::OsString;
use std::path::Path;

use crate::preload;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long skew(void) {
    const char *seconds = getenv("STAFFETTA_TEST_SKEW");
    return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += skew();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// Compiles the library into `folder`.
///
/// # Errors
/// Without a C compiler, which the build needs too.
pub fn build(folder: &Path) -> anyhow::Result<()> {
    preload::build(folder, "skew", SOURCE)
}

/// For `env`, in front of the program.
pub fn environment(folder: &Path, seconds: i64) -> [OsString; 2] {
    [preload::environment(folder, "skew"), format!("STAFFETTA_TEST_SKEW={seconds}").into()]
}
