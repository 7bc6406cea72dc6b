// Counts the primes below a number, by the sieve of Eratosthenes.
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    unsigned long limit = count > 1 ? strtoul(words[1], NULL, 10) : 0;
    unsigned char *composite = calloc(limit + 1, 1);
    unsigned long primes = 0;
    if (composite == NULL) {
        perror("primes");
        return 1;
    }
    for (unsigned long n = 2; n < limit; n++) {
        if (composite[n]) continue;
        primes++;
        for (unsigned long multiple = n * n; multiple < limit; multiple += n) composite[multiple] = 1;
    }
    printf("%lu primes below %lu\n", primes, limit);
    free(composite);
    return 0;
}
