// The records of a `waits` stream, byte by byte: who slept, who woke whom, what was sent and received, signals, exits; and of a
// `net` stream: the packets that passed an interface.
//
// Plain C, little-endian, without padding: the BPF programs write what readers read (wait_record.h checks it). A stream is
// record after record. A kind's layout never changes: a new layout is a new kind, and readers step over kinds that they do
// not know. Fields called reserved are 0.
//
// Times are nanoseconds of CLOCK_MONOTONIC, as bpf_ktime_get_ns gives them, unconverted: the snapshot's `clocks` stream
// relates them to the TSC (clock_sample.h). Records stand in the order in which the kernel made room for them: for one CPU
// that is the order of their times but for an interrupt between the two; over all CPUs it is nearly so.
//
// Ids of processes and threads are those of the first pid namespace, as in sideband.
#pragma once

#include <linux/types.h>

#ifdef __cplusplus
namespace hindcast::wait {
#endif

enum Kind {
  kSleep = 1,
  kWake = 2,
  kFutex = 3,
  kMessage = 4,
  kSignalSent = 5,
  kSignalTaken = 6,
  kExit = 7,
  kLost = 8,
  kPacket = 9,
};

struct Header {
  __u16 size;  //  0  of the whole record; a multiple of 8
  __u16 kind;  //  2  Kind
  __u32 cpu;   //  4  where it was written; kLost: where it was lost, all ones where that is not known
  __s32
      pid;  //  8  the thread that ran there: for all kinds but kWake and kSignalSent in an interrupt, and kLost, the one
  __s32 tid;   // 12  that did it. 0 is the idle thread
  __u64 time;  // 16  when; of what takes time, its end
};

enum ObjectKind {
  kNoObject = 0,
  kFutexObject = 1,
  kPipeObject = 2,  // or a named FIFO
  kSocketObject = 3,
};

/// What threads meet at. What is not a socket has no addresses: its record ends before them.
struct Object {
  __u64 id;    //  0  futex: the address; pipe and socket: the inode's number. Numbers of what is gone may come again
  __u64 peer;  //  8  connected unix socket: the inode of the other end, 0 when it has none; else 0
  __u32
      space;  // 16  where id is unique. pipe: device of the file system; socket: inode of its network namespace; futex:
              //     the process id if `family` is 1, else 0: the page behind the address counts, which mappings tell
  __u16 family;      // 20  socket: AF_*; futex: 1 when the call says that only its process uses it (FUTEX_PRIVATE_FLAG)
  __u8 kind;         // 22  ObjectKind
  __u8 type;         // 23  socket: SOCK_*; futex: the command (FUTEX_WAIT, ...)
  __u8 local[16];    // 24  AF_INET: the first 4 bytes; AF_INET6: all. As on the wire
  __u8 remote[16];   // 40
  __u16 local_port;  // 56  as a number
  __u16 remote_port;  // 58
  __u32 protocol;     // 60  IPPROTO_*
};

/// A thread left its CPU and will not come back before it is woken. Preemptions are no sleep: sideband has them.
struct Sleep {
  struct Header header;
  __u64 begun;    // 24  when its system call began, where that is known: with `on`; else 0
  __u32 state;    // 32  the kernel's task state: 1 interruptible, 2 uninterruptible, 4 stopped, 8 traced, more as flags
  __s32 syscall;  // 36  that it is in, x86-64's numbers; -1: none (a page fault, an interrupt), or a 32-bit one
  struct Object on;  // 40  that the system call is about
};

enum WakeFlag {
  kSoftInterrupt = 1,   // a softirq woke it; header.tid was interrupted, or did what the softirq is about (loopback)
  kHardInterrupt = 2,   // a timer or a device did; header.tid was interrupted
  kContextUnknown = 4,  // this kernel does not tell which
};

/// A thread was made runnable. Also written for one that was just about to sleep and does not.
struct Wake {
  struct Header header;
  __s32 woken_pid;  // 24
  __s32 woken_tid;  // 28
  __u32 woken_cpu;  // 32  where it last ran
  __u32 flags;      // 36  WakeFlag
};

enum CallFlag {
  kBeginUnseen = 1,  // the call had begun before the recording did: begun is 0, as is what was read at its begin
  kHasRange = 2,     // kMessage: before and after are there
};

/// A futex call that has ended. While one lasts only its thread's kSleep tells of it.
struct Futex {
  struct Header header;
  __u64 begun;     // 24
  __u64 address;   // 32  futex_waitv: of its array
  __u64 address2;  // 40  of what is requeued to; else as the call's argument stands
  __s64 result;    // 48  as the call returns it; -512 to -516: interrupted by a signal, maybe to be begun again
  __s32 syscall;   // 56  futex, futex_waitv, futex_wake, futex_wait, futex_requeue
  __u32 op;        // 60  futex: command and flags; else the call's flags
  __u32 value;     // 64  the word that was expected, or how many to wake
  __u32 flags;     // 68  CallFlag
};

enum Action {
  kSend = 1,
  kReceive = 2,
  kAccept = 3,   // `on` is the new connection, the listening socket when it failed
  kConnect = 4,  // `on` as it is when the call ends
  kClose = 5,
  kShutDown = 6,
};

/// A call on a socket or a pipe that has ended. Not seen: io_uring, splice, tee, vmsplice, and what 32-bit programs do.
struct Message {
  struct Header header;
  __u64 begun;   // 24
  __s64 result;  // 32  as the call returns it: mostly bytes; sendmmsg and recvmmsg: messages; accept: the descriptor
  // TCP: bytes [before, after) of the connection passed between the call's begin and its end, as sequence numbers on the
  // wire (modulo 2^32): sent from here for kSend, received here for kReceive. If after - before == result they are this
  // call's; else other threads' bytes, or the one number of a FIN, are among them.
  __u32 before;      // 40
  __u32 after;       // 44
  __s32 syscall;     // 48
  __s32 fd;          // 52
  __u8 action;       // 56  Action
  __u8 flags;        // 57  CallFlag
  __u8 reserved[6];  // 58
  struct Object on;  // 64
};

enum SignalFlag {
  kToProcess = 8,  // to any of the process's threads; beside WakeFlag
};

/// A signal was generated, by header.tid unless an interrupt did.
struct SignalSent {
  struct Header header;
  __s32 to_pid;  // 24
  __s32 to_tid;  // 28
  __s32 signal;  // 32
  __s32 code;    // 36  si_code
  __s32
      result;  // 40  0 will be delivered, 1 ignored, 2 already pending, 3 queue full: lost, 4 queue full: only its details
  __u32 flags;  // 44  SignalFlag, WakeFlag
};

/// A thread takes a signal.
struct SignalTaken {
  struct Header header;
  __s32 signal;    // 24
  __s32 code;      // 28
  __u64 handler;   // 32  0: the default action; 1: not known
  __u64 sa_flags;  // 40
};

/// A thread ends.
struct Exit {
  struct Header header;
  __s32 status;        // 24  as wait() gives it: signal in bits 0-6, bit 7 core dumped, else exit code in bits 8-15
  __u32 last;          // 28  1: of its process
  __s32 group_status;  // 32  of the process, once exit_group or a fatal signal has set one
  __u32 reserved;      // 36
};

/// Records that would stand here were lost: between `from` and header.time, any of them, of any kind. For want of memory one
/// may be all that a new thread, and those that it starts, would have left.
struct Lost {
  struct Header header;
  __u64 from;   // 24
  __u64 count;  // 32
};

enum Direction {
  kIn = 1,   // as it came from the driver
  kOut = 2,  // as it goes to the driver: what TSO, GSO or the device cuts into many is one packet here
};

enum PacketFlag {
  kFragment = 1,       // of an IP packet: what stands in the first fragment alone (ports, TCP's fields) is 0 in others
  kMoreFragments = 2,  // and it is not the last one
  kUnread = 4,         // its headers are longer or other than the program reads: what stands behind them is 0
};

/// A TCP or UDP packet of IPv4 or IPv6 on an interface that is not loopback. Of header, pid and tid are -1: packets are
/// handled by whoever runs.
struct Packet {
  struct Header header;
  __u32 interface;     // 24  its index
  __u32 length;        // 28  bytes of the IP packet, as its header says; 0: it is too long for that (big TCP)
  __u32 payload;       // 32  bytes behind the TCP or UDP header
  __u32 sequence;      // 36  TCP: of the first payload byte, on the wire; SYN and FIN take a number, too
  __u32 acknowledged;  // 40  TCP, where tcp_flags has ACK
  __u32 id;            // 44  of an IP packet that may be a fragment
  __u8 direction;      // 48  Direction
  __u8 tcp_flags;      // 49  on the wire: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG
  __u8 family;         // 50  AF_INET, AF_INET6
  __u8 protocol;       // 51  IPPROTO_*
  __u8 flags;          // 52  PacketFlag
  __u8 reserved;       // 53
  __u16 segments;      // 54  that it will be on the wire, for kOut; 0: not known
  __u16 local_port;    // 56  of this host: the destination's for kIn
  __u16 remote_port;   // 58
  __u32 reserved2;     // 60
  __u8 local[16];      // 64  AF_INET: the first 4 bytes
  __u8 remote[16];     // 80
};

#ifdef __cplusplus
}  // namespace hindcast::wait
#endif
