/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the BPF programs read of the kernel's structures: fields only, which libbpf finds in the running kernel's BTF. */
#pragma once

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs {
  unsigned long r10, r9, r8, ax, cx, dx, si, di, orig_ax;
};

struct kernfs_node {
  __u64 id;
};

struct cgroup {
  int level;
  struct kernfs_node* kn;
  struct cgroup* ancestors[];
};

struct css_set {
  struct cgroup* dfl_cgrp;
};

struct thread_info {
  __u32 status;
  __u32 cpu;
};

typedef struct {
  int counter;
} atomic_t;

struct signal_struct {
  atomic_t live;
  int group_exit_code;
};

struct super_block {
  __u32 s_dev;
};

struct inode {
  unsigned short i_mode;
  unsigned long i_ino;
  struct super_block* i_sb;
};

struct file {
  struct inode* f_inode;
  void* private_data;
};

struct fdtable {
  unsigned int max_fds;
  struct file** fd;
};

struct files_struct {
  struct fdtable* fdt;
};

struct pcpu_hot { /* kernels 6.2 to 6.13 */
  int preempt_count;
};

struct rq;

struct cfs_rq {
  struct rq* rq;
};

struct sched_entity {
  struct cfs_rq* cfs_rq;
};

struct task_struct {
  struct thread_info thread_info;
  unsigned int __state;
  int pid;
  int tgid;
  int exit_code;
  unsigned int cpu; /* where thread_info has none */
  struct sched_entity se;
  struct files_struct* files;
  struct signal_struct* signal;
  struct css_set* cgroups;
};

struct ns_common {
  unsigned int inum;
};

struct net {
  struct ns_common ns;
};

typedef struct {
  struct net* net;
} possible_net_t;

struct in6_addr {
  union {
    __u8 u6_addr8[16];
  } in6_u;
};

struct sock_common {
  __be32 skc_daddr;
  __be32 skc_rcv_saddr;
  __be16 skc_dport;
  __u16 skc_num;
  unsigned short skc_family;
  possible_net_t skc_net;
  struct in6_addr skc_v6_daddr;
  struct in6_addr skc_v6_rcv_saddr;
};

struct socket {
  short type;
  struct sock* sk;
};

struct socket_alloc {
  struct socket socket;
  struct inode vfs_inode;
};

struct sock {
  struct sock_common __sk_common;
  struct socket* sk_socket;
  __u16 sk_protocol;
};

struct unix_sock {
  struct sock* peer;
};

struct tcp_sock {
  __u32 write_seq;
  __u32 copied_seq;
};

struct kernel_siginfo {
  int si_code;
};

struct sigaction {
  void* sa_handler;
  unsigned long sa_flags;
};

struct k_sigaction {
  struct sigaction sa;
};

#pragma clang attribute pop
