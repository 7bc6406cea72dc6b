// Says hello from inside, and who and where it is.
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(int count, char **words) {
    struct utsname here;
    if (uname(&here) != 0) return 1;
    printf("Hello, %s, from process %d of user %d on %s.\n", count > 1 ? words[1] : "world", (int)getpid(),
           (int)getuid(), here.machine);
    return 0;
}
