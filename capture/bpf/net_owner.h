// Whose programs of net.bpf.c these are: found by whoever meets them on an interface, in their read-only data.
#pragma once

#include <linux/types.h>

struct NetOwner {
  __u64 mark;  // kNetOwnerMark
  __u32 pid;
  __u32 pid_namespace;  // inode
  __u64 started;        // field 22 of /proc/PID/stat
};
#define kNetOwnerMark 0x7061742d74656e68ull /* "hnet-tap" */
