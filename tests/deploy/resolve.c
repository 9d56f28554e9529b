// Prints the address of a host name, as the gateway's libc finds it when it is linked in.
#include <netdb.h>
#include <stdio.h>

int main(int count, char **arguments) {
    struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    char text[NI_MAXHOST];
    int fault = count == 2 ? getaddrinfo(arguments[1], "4222", &hints, &found) : EAI_NONAME;
    if (!fault) {
        fault = getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
    }
    puts(fault ? gai_strerror(fault) : text);
    return fault != 0;
}
