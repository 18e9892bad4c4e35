/* The other end of pipes and sockets: `pump drain [RATE]` reads standard input and drops it, at most RATE bytes a second;
 * `pump feed FILE TIMES` writes the file to standard output so often, or until nobody reads it any more. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_until(double at)
{
    double left = at - now();
    struct timespec t = {(time_t)left, (long)((left - (double)(time_t)left) * 1e9)};

    if (left > 0)
        nanosleep(&t, NULL);
}

/* A link takes nothing while it is idle, and does not make up for it: each read has to wait for the one before. */
static int drain(double rate)
{
    const size_t room = rate > 0 ? 64u << 10 : 4u << 20;
    char *buffer = malloc(room);
    double free_at = now();
    ssize_t n;

    if (!buffer)
        return 1;
    do {
        n = read(0, buffer, room);
        if (n > 0 && rate > 0) {
            double at = now();
            free_at = (at > free_at + 0.002 ? at : free_at) + (double)n / rate;
            wait_until(free_at);
        }
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n ? 1 : 0;
}

static int feed_once(int fd)
{
    struct stat st;
    off_t at = 0;

    if (fstat(fd, &st))
        return -1;
    while (at < st.st_size) {
        ssize_t n = sendfile(1, fd, &at, (size_t)(st.st_size - at));

        if (n <= 0 && !(n < 0 && errno == EINTR))
            return -1;
    }
    return 0;
}

static int feed(const char *path, long times)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        return 1;
    while (times-- > 0)
        if (feed_once(fd))
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    if ((argc == 2 || argc == 3) && strcmp(argv[1], "drain") == 0)
        return drain(argc == 3 ? atof(argv[2]) : 0);
    if (argc == 4 && strcmp(argv[1], "feed") == 0)
        return feed(argv[2], atol(argv[3]));
    fprintf(stderr, "pump drain [RATE] | pump feed FILE TIMES\n");
    return 2;
}
