// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Who sleeps on what, who wakes whom, what passes through sockets and pipes, signals and exits: written into one ring for
// user space, for the threads of one process tree or of one cgroup.
//
// A call on a socket, a pipe or a futex is one record, written at its end with the time of its begin. One that lasts shows
// in the record of its thread's sleep. What finds no room in the ring is counted per CPU, and so told.
#include "capture/bpf/kernel_types.h"
#include "hindcast/wait_layout.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <linux/bpf.h>

#define MOST_CPUS 4096 /* a power of two; user space refuses a machine with more */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFIFO 0010000
#define TS_COMPAT 2
#define TASK_DEAD 0x80
#define FUTEX_PRIVATE_FLAG 128
#define FUTEX2_PRIVATE 128
#define IN_INTERRUPT (kSoftInterrupt | kHardInterrupt)
#define SYS_CLOSE 3
#define SYS_FUTEX 202
#define SYS_FUTEX_WAITV 449

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// Set before loading.
const volatile __u32 by_cgroup = 0;  // else by what user space and forks put into `threads`
const volatile __u64 cgroup_id = 0;
const volatile __u32 cgroup_level = 0;
const volatile __u32 knows_preempt_count = 0;
const volatile __s64 preempt_count_at = 0;  // from the CPU's struct rq on

// Read by user space while the programs run. Events that left no record: no room, or their thread could not be followed.
__u64 dropped[MOST_CPUS];

/// What a thread's system call is about, from its begin to its end.
struct call {
  __u64 begun;
  __s32 syscall;  // plus 1; 0: in none that matters
  __s32 fd;
  __u64 sock;  // address of the kernel's struct of a TCP socket, else 0
  __u32 before;
  __u32 reserved;
  struct Object on;
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct call);
} threads SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);  // set before loading
} ring SEC(".maps");

enum class_of_call { none = 0, futex = 100 };  // else an Action

static const __u8 classes[512] = {
    [0] = kReceive,   [1] = kSend,     [SYS_CLOSE] = kClose, [19] = kReceive,     [20] = kSend,
    [40] = kSend,     [42] = kConnect, [43] = kAccept,       [44] = kSend,        [45] = kReceive,
    [46] = kSend,     [47] = kReceive, [48] = kShutDown,     [SYS_FUTEX] = futex, [288] = kAccept,
    [299] = kReceive, [307] = kSend,   [327] = kReceive,     [328] = kSend,       [SYS_FUTEX_WAITV] = futex,
    [454] = futex,    [455] = futex,   [456] = futex,
};

static __always_inline void count_drop(void) {
  __sync_fetch_and_add(&dropped[bpf_get_smp_processor_id() & (MOST_CPUS - 1)], 1);
}

static __always_inline void* reserve(__u64 size) {
  void* record = bpf_ringbuf_reserve(&ring, size, 0);
  if (!record) count_drop();
  return record;
}

/// Nobody is woken for a record: user space looks by itself, every few milliseconds.
static __always_inline void submit(void* record) { bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); }

static __always_inline void fill_header(struct Header* h, __u16 kind, __u16 size, __u64 time) {
  const __u64 ids = bpf_get_current_pid_tgid();
  h->size = size;
  h->kind = kind;
  h->cpu = bpf_get_smp_processor_id();
  h->pid = ids >> 32;
  h->tid = (__u32)ids;
  h->time = time;
}

/// WakeFlag of where this runs: by the CPU's preempt_count, which lies where it does beside the CPU's run queue. Kernels
/// without CONFIG_KALLSYMS_ALL tell no address of a variable.
static __always_inline __u32 context(void) {
  __u32 count;
  if (!knows_preempt_count) return kContextUnknown;
  const char* queue = (const char*)bpf_get_current_task_btf()->se.cfs_rq->rq;
  const char* at = queue + preempt_count_at;
  if (bpf_core_type_exists(struct pcpu_hot)) at += bpf_core_field_offset(struct pcpu_hot, preempt_count);
  if (bpf_probe_read_kernel(&count, sizeof count, at)) return kContextUnknown;
  if (count & 0x00ff0000) return kHardInterrupt;  // or an NMI
  return count & 0x100 ? kSoftInterrupt : 0;
}

static __always_inline int in_cgroup(struct task_struct* task) {
  struct cgroup* cgroup = task->cgroups->dfl_cgrp;
  struct cgroup* above;
  if (cgroup->level < (int)cgroup_level) return 0;
  const __u32 at = bpf_core_field_offset(cgroup->ancestors) + cgroup_level * sizeof(void*);
  if (bpf_probe_read_kernel(&above, sizeof above, (const char*)cgroup + at)) return 0;
  return BPF_CORE_READ(above, kn, id) == cgroup_id;
}

static __always_inline int in_scope(struct task_struct* task) {
  if (by_cgroup) return in_cgroup(task);
  return bpf_task_storage_get(&threads, task, 0, 0) != 0;
}

/// What is known of the call that a thread is in; 0 when it is out of scope or unknown.
static __always_inline struct call* call_of(struct task_struct* task) {
  if (by_cgroup && !in_cgroup(task)) return 0;
  return bpf_task_storage_get(&threads, task, 0, 0);
}

static __always_inline struct file* file_of(struct task_struct* task, __s64 fd) {
  struct fdtable* table = task->files->fdt;
  struct file* file = 0;
  if (fd < 0 || fd >= table->max_fds) return 0;
  if (bpf_probe_read_kernel(&file, sizeof file, table->fd + fd)) return 0;
  return file;
}

static __always_inline void describe_socket(struct file* file, struct call* call) {
  struct Object* on = &call->on;
  struct socket* socket = BPF_CORE_READ(file, private_data);
  struct sock* sk = BPF_CORE_READ(socket, sk);
  on->kind = kSocketObject;
  on->type = BPF_CORE_READ(socket, type);
  on->family = BPF_CORE_READ(sk, __sk_common.skc_family);
  on->space = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
  if (on->family == AF_UNIX) {
    struct sock* peer = BPF_CORE_READ((struct unix_sock*)sk, peer);
    struct socket* far = peer ? BPF_CORE_READ(peer, sk_socket) : 0;
    if (far) {
      struct socket_alloc* alloc = (void*)((char*)far - bpf_core_field_offset(((struct socket_alloc*)0)->socket));
      on->peer = BPF_CORE_READ(alloc, vfs_inode.i_ino);
    }
    return;
  }
  if (on->family != AF_INET && on->family != AF_INET6) return;
  on->protocol = BPF_CORE_READ(sk, sk_protocol);
  on->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
  on->remote_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
  if (on->family == AF_INET) {
    BPF_CORE_READ_INTO((__u32*)on->local, sk, __sk_common.skc_rcv_saddr);
    BPF_CORE_READ_INTO((__u32*)on->remote, sk, __sk_common.skc_daddr);
  } else {
    BPF_CORE_READ_INTO(&on->local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
    BPF_CORE_READ_INTO(&on->remote, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
  }
  if (on->protocol == IPPROTO_TCP) call->sock = (__u64)sk;
}

/// Fills call->on and call->sock. 0: neither a socket nor a pipe.
static __always_inline int describe(struct file* file, struct call* call) {
  struct Object* on = &call->on;
  if (!file) return 0;
  struct inode* inode = BPF_CORE_READ(file, f_inode);
  const __u32 type = BPF_CORE_READ(inode, i_mode) & S_IFMT;
  if (type != S_IFSOCK && type != S_IFIFO) return 0;
  __builtin_memset(on, 0, sizeof *on);
  call->sock = 0;
  on->id = BPF_CORE_READ(inode, i_ino);
  if (type == S_IFSOCK) {
    describe_socket(file, call);
  } else {
    on->kind = kPipeObject;
    on->space = BPF_CORE_READ(inode, i_sb, s_dev);
  }
  return 1;
}

static __always_inline __u32 sequence(const struct call* call, __u8 action) {
  struct tcp_sock* sk = (struct tcp_sock*)call->sock;
  if (!sk || (action != kSend && action != kReceive)) return 0;
  return action == kSend ? BPF_CORE_READ(sk, write_seq) : BPF_CORE_READ(sk, copied_seq);
}

static __always_inline __u32 futex_op(struct pt_regs* regs, long id) {
  if (id == SYS_FUTEX) return regs->si;
  if (id == SYS_FUTEX_WAITV) return regs->dx;  // of the call; each waiter has its own
  return id == 455 ? regs->r8 : id == 454 ? regs->r10 : regs->si;
}

static __always_inline void describe_futex(struct pt_regs* regs, long id, struct call* call) {
  struct Object* on = &call->on;
  const __u32 op = futex_op(regs, id);
  __builtin_memset(on, 0, sizeof *on);
  call->sock = 0;
  on->kind = kFutexObject;
  on->id = regs->di;
  on->type = id == SYS_FUTEX ? op & 0x7f : 0;
  on->family = op & FUTEX_PRIVATE_FLAG ? 1 : 0;
  if (on->family) on->space = bpf_get_current_pid_tgid() >> 32;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs* regs, long id) {
  if ((unsigned long)id >= sizeof classes) return 0;
  const __u8 what = classes[id];
  if (what == none) return 0;
  struct task_struct* task = bpf_get_current_task_btf();
  if (task->thread_info.status & TS_COMPAT) return 0;
  struct call* call;
  if (by_cgroup) {
    if (!in_cgroup(task)) return 0;
    call = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!call) count_drop();
  } else {
    call = bpf_task_storage_get(&threads, task, 0, 0);
  }
  if (!call) return 0;
  call->syscall = 0;
  if (what == futex) {
    describe_futex(regs, id, call);
  } else {
    // a leftover of `on` is never told: syscall is 0
    if (!describe(file_of(task, (__s32)regs->di), call)) return 0;
    call->fd = regs->di;
    call->before = sequence(call, what);
  }
  call->begun = bpf_ktime_get_ns();
  call->syscall = id + 1;
  return 0;
}

static __always_inline void write_futex(struct pt_regs* regs, long id, long result, const struct call* call,
                                        __u64 now) {
  struct Futex* r = reserve(sizeof *r);
  if (!r) return;
  fill_header(&r->header, kFutex, sizeof *r, now);
  r->begun = call->begun;
  r->address = regs->di;
  r->address2 = id == SYS_FUTEX ? regs->r8 : 0;
  r->result = result;
  r->syscall = id;
  r->op = futex_op(regs, id);
  r->value = id == SYS_FUTEX || id == 454 ? regs->dx : id == SYS_FUTEX_WAITV || id == 455 ? regs->si : regs->dx;
  r->flags = call->begun ? 0 : kBeginUnseen;
  submit(r);
}

static __always_inline void fill_message(struct Message* r, __u16 size, __u8 action, long id, long result, __u32 after,
                                         const struct call* call, __u64 now) {
  fill_header(&r->header, kMessage, size, now);
  r->begun = call->begun;
  r->result = result;
  r->before = call->before;
  r->after = after;
  r->syscall = id;
  r->fd = call->fd;
  r->action = action;
  r->flags = call->begun ? (call->sock && (action == kSend || action == kReceive) ? kHasRange : 0) : kBeginUnseen;
  __builtin_memset(r->reserved, 0, sizeof r->reserved);
}

#define WITHOUT_ADDRESSES __builtin_offsetof(struct Object, local)
#define SHORT(type) (__builtin_offsetof(type, on) + WITHOUT_ADDRESSES)

static __always_inline void write_message(__u8 action, long id, long result, const struct call* call, __u64 now) {
  const __u32 after = sequence(call, action);
  if (call->on.kind == kSocketObject) {
    struct Message* r = reserve(sizeof *r);
    if (!r) return;
    fill_message(r, sizeof *r, action, id, result, after, call, now);
    r->on = call->on;
    submit(r);
  } else {
    struct Message* r = reserve(SHORT(struct Message));
    if (!r) return;
    fill_message(r, SHORT(struct Message), action, id, result, after, call, now);
    __builtin_memcpy(&r->on, &call->on, WITHOUT_ADDRESSES);
    submit(r);
  }
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs* regs, long result) {
  const long id = regs->orig_ax;
  if ((unsigned long)id >= sizeof classes) return 0;
  const __u8 what = classes[id];
  if (what == none) return 0;
  struct task_struct* task = bpf_get_current_task_btf();
  if (task->thread_info.status & TS_COMPAT) return 0;
  struct call* call = call_of(task);
  if (call) {
    if (call->syscall != id + 1) return 0;  // neither a socket nor a pipe
  } else {
    // In a cgroup there may be threads whose call had begun before we came.
    if (!by_cgroup || !in_cgroup(task)) return 0;
    call = bpf_task_storage_get(&threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (!call) {
      count_drop();
      return 0;
    }
    call->fd = regs->di;
    if (what == futex)
      describe_futex(regs, id, call);
    else if (what == kClose || !describe(file_of(task, call->fd), call))
      return 0;
  }
  const __u64 now = bpf_ktime_get_ns();
  call->syscall = 0;
  if (what == futex) {
    write_futex(regs, id, result, call, now);
    return 0;
  }
  if (what == kAccept && result >= 0) {
    describe(file_of(task, result), call);
  } else if (what == kConnect) {
    describe(file_of(task, call->fd), call);
  }
  write_message(what, id, result, call, now);
  return 0;
}

static __always_inline void fill_sleep(struct Sleep* r, __u16 size, __u32 state, __s32 syscall, __u64 begun) {
  fill_header(&r->header, kSleep, size, bpf_ktime_get_ns());
  r->begun = begun;
  r->state = state;
  r->syscall = syscall;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, _Bool preempted, struct task_struct* prev, struct task_struct* next) {
  if (preempted) return 0;
  const __u32 state = prev->__state;
  if (state == 0 || state & TASK_DEAD) return 0;
  if (!in_scope(prev)) return 0;
  struct call* call = bpf_task_storage_get(&threads, prev, 0, 0);
  struct pt_regs* regs = (struct pt_regs*)bpf_task_pt_regs(prev);
  __s32 syscall = prev->thread_info.status & TS_COMPAT ? -1 : (__s32)regs->orig_ax;
  const int on = call && call->syscall == syscall + 1 && syscall >= 0;
  if (on && call->on.kind == kSocketObject) {
    struct Sleep* r = reserve(sizeof *r);
    if (!r) return 0;
    fill_sleep(r, sizeof *r, state, syscall, call->begun);
    r->on = call->on;
    submit(r);
  } else {
    struct Sleep* r = reserve(SHORT(struct Sleep));
    if (!r) return 0;
    fill_sleep(r, SHORT(struct Sleep), state, syscall, on ? call->begun : 0);
    if (on)
      __builtin_memcpy(&r->on, &call->on, WITHOUT_ADDRESSES);
    else
      __builtin_memset(&r->on, 0, WITHOUT_ADDRESSES);
    submit(r);
  }
  return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_sched_waking, struct task_struct* task) {
  const __u32 flags = context();
  // What an interrupt wakes is not the doing of the thread that it interrupted.
  if (!in_scope(task) && (flags & IN_INTERRUPT || !in_scope(bpf_get_current_task_btf()))) return 0;
  struct Wake* r = reserve(sizeof *r);
  if (!r) return 0;
  fill_header(&r->header, kWake, sizeof *r, bpf_ktime_get_ns());
  r->woken_pid = task->tgid;
  r->woken_tid = task->pid;
  r->woken_cpu = bpf_core_field_exists(task->thread_info.cpu) ? task->thread_info.cpu : task->cpu;
  r->flags = flags;
  submit(r);
  return 0;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(on_signal_generate, int signal, struct kernel_siginfo* info, struct task_struct* task, int to_process,
             int result) {
  const __u32 flags = context();
  if (!in_scope(task) && (flags & IN_INTERRUPT || !in_scope(bpf_get_current_task_btf()))) return 0;
  struct SignalSent* r = reserve(sizeof *r);
  if (!r) return 0;
  fill_header(&r->header, kSignalSent, sizeof *r, bpf_ktime_get_ns());
  r->to_pid = task->tgid;
  r->to_tid = task->pid;
  r->signal = signal;
  // 0 and 1 stand for details that the kernel makes up: SI_USER, SI_KERNEL
  r->code = (unsigned long)info == 0 ? 0 : (unsigned long)info == 1 ? 0x80 : BPF_CORE_READ(info, si_code);
  r->result = result;
  r->flags = flags | (to_process ? kToProcess : 0);
  submit(r);
  return 0;
}

SEC("tp_btf/signal_deliver")
int BPF_PROG(on_signal_deliver, int signal, struct kernel_siginfo* info, struct k_sigaction* action) {
  if (!in_scope(bpf_get_current_task_btf())) return 0;
  struct SignalTaken* r = reserve(sizeof *r);
  if (!r) return 0;
  fill_header(&r->header, kSignalTaken, sizeof *r, bpf_ktime_get_ns());
  r->signal = signal;
  r->code = BPF_CORE_READ(info, si_code);
  r->handler = (__u64)BPF_CORE_READ(action, sa.sa_handler);
  r->sa_flags = BPF_CORE_READ(action, sa.sa_flags);
  submit(r);
  return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct* parent, struct task_struct* child) {
  if (by_cgroup || !bpf_task_storage_get(&threads, parent, 0, 0)) return 0;
  if (!bpf_task_storage_get(&threads, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE)) count_drop();
  return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct* task) {
  if (!in_scope(task)) return 0;
  struct Exit* r = reserve(sizeof *r);
  if (!r) return 0;
  fill_header(&r->header, kExit, sizeof *r, bpf_ktime_get_ns());
  r->status = task->exit_code;
  r->last = task->signal->live.counter == 0;
  r->group_status = task->signal->group_exit_code;
  r->reserved = 0;
  submit(r);
  return 0;
}
