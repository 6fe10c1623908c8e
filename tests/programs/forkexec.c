// Forks, vforks and execs itself and /bin/true, and waits for all of them.
//   forkexec [ROUNDS]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile unsigned sink;

static __attribute__((noinline)) void spin(unsigned n) {
  for (unsigned i = 0; i < n; ++i) sink = sink * 1664525u + i;
}

static int wait_for(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "child") == 0) {
    spin(20000);
    return strcmp(argv[0], "renamed") == 0 && getenv("FORKEXEC") ? 5 : 6;
  }
  const int rounds = argc > 1 ? atoi(argv[1]) : 3;
  for (int i = 0; i < rounds; ++i) {
    spin(30000);
    pid_t pid = fork();
    if (pid == 0) {
      spin(10000 + (unsigned)i);
      _exit(3);
    }
    if (wait_for(pid) != 3) return 1;

    pid = fork();
    if (pid == 0) {
      char* args[] = {"renamed", "child", NULL};
      char* env[] = {"FORKEXEC=1", "LD_LIBRARY_PATH=/nowhere", NULL};
      execve("/no/such/program", args, env);  // fails, and the program goes on
      spin(100);
      execve("/proc/self/exe", args, env);
      _exit(9);
    }
    if (wait_for(pid) != 5) return 2;

    pid = vfork();
    if (pid == 0) {
      execl("/bin/true", "true", (char*)NULL);
      _exit(9);
    }
    if (wait_for(pid) != 0) return 3;
    if (system("exit 4") == -1) return 4;
  }
  puts("done");
  return 0;
}
