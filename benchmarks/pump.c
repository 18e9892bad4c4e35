/* The other end of pipes and sockets: `pump drain` reads standard input and drops it; `pump feed FILE TIMES` writes
 * the file to standard output so often, or until nobody reads it any more. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static int drain(void)
{
    const size_t room = 4u << 20;
    char *buffer = malloc(room);
    ssize_t n;

    if (!buffer)
        return 1;
    do
        n = read(0, buffer, room);
    while (n > 0 || (n < 0 && errno == EINTR));
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
    if (argc == 2 && strcmp(argv[1], "drain") == 0)
        return drain();
    if (argc == 4 && strcmp(argv[1], "feed") == 0)
        return feed(argv[2], atol(argv[3]));
    fprintf(stderr, "pump drain | pump feed FILE TIMES\n");
    return 2;
}
