// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Which TCP and UDP packets pass one interface, and when: an XDP program on receive, a tc program on send. Headers are read,
// payload never; every packet goes on as if nobody had looked.
//
// What comes faster than the limit, and what finds no room in the ring, is counted per CPU, and so told.
#include "capture/bpf/net_owner.h"
#include "hindcast/wait_layout.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define MOST_CPUS 4096 /* a power of two; user space refuses a machine with more */
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IP_OFFSET 0x1fff
#define IP_MORE 0x2000
#define MOST_VLANS 2
#define MOST_EXTENSIONS 6 /* of IPv6 */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// Set before loading.
const volatile struct NetOwner owner = {};
const volatile __u32 interface = 0;
const volatile __u32 ip_at = ETH_HLEN;   // of a frame; 0: the interface has no link header
const volatile __u64 ns_per_packet = 0;  // of each CPU, on average; 0: no limit
const volatile __u64 most_ahead_ns = 0;  // how much of that may be used up at once

// Read by user space while the programs run.
__u64 dropped[MOST_CPUS];

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);  // set before loading
} ring SEC(".maps");

/// Until when a CPU's allowance is used up.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} used_until SEC(".maps");

static __always_inline void count_drop(void) {
  __sync_fetch_and_add(&dropped[bpf_get_smp_processor_id() & (MOST_CPUS - 1)], 1);
}

static __always_inline int is_allowed(__u64 now) {
  const __u32 zero = 0;
  if (!ns_per_packet) return 1;
  __u64* used = bpf_map_lookup_elem(&used_until, &zero);
  if (!used) return 0;
  const __u64 from = *used > now ? *used : now;
  if (from - now > most_ahead_ns) return 0;
  *used = from + ns_per_packet;
  return 1;
}

#define NEAR 0x3ff /* headers mostly end before that */

/// direction: a constant, which says what packet is. Helpers read what is not at hand in one piece.
static __always_inline int load(void* packet, __u8 direction, __u32 at, void* to, __u32 size) {
  const struct xdp_md* xdp = packet;
  const struct __sk_buff* skb = packet;
  const void* begin = (const void*)(long)(direction == kIn ? xdp->data : skb->data);
  const void* end = (const void*)(long)(direction == kIn ? xdp->data_end : skb->data_end);
  if (at <= NEAR) {
    const void* from = begin + (at & NEAR);
    if (from + size <= end) {
      __builtin_memcpy(to, from, size);
      return 0;
    }
  }
  return direction == kIn ? bpf_xdp_load_bytes(packet, at, to, size) : bpf_skb_load_bytes(packet, at, to, size);
}

struct extension {
  __u8 next;
  __u8 length;
  __u16 fragment;
  __u32 id;
};

/// From its IP header on. False: it is none that is told of.
static __always_inline int read_packet(void* packet, __u8 direction, __u32 at, __u16 type, struct Packet* p,
                                       __u8 source[16], __u8 destination[16], __u16* source_port,
                                       __u16* destination_port) {
  __u8 protocol;
  __u32 behind = 0;  // bytes behind the IP headers
  int later_fragment = 0;
  if (type == bpf_htons(ETH_P_IP)) {
    struct iphdr ip;
    if (load(packet, direction, at, &ip, sizeof ip) || ip.version != 4 || ip.ihl < 5) return 0;
    protocol = ip.protocol;
    p->family = AF_INET;
    p->length = bpf_ntohs(ip.tot_len);
    if (p->length > ip.ihl * 4u) behind = p->length - ip.ihl * 4u;
    __builtin_memcpy(source, &ip.saddr, 4);
    __builtin_memcpy(destination, &ip.daddr, 4);
    const __u16 fragment = bpf_ntohs(ip.frag_off);
    p->id = bpf_ntohs(ip.id);
    if (fragment & (IP_OFFSET | IP_MORE)) p->flags |= kFragment | (fragment & IP_MORE ? kMoreFragments : 0);
    later_fragment = (fragment & IP_OFFSET) != 0;
    at += ip.ihl * 4u;
  } else if (type == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr ip;
    if (load(packet, direction, at, &ip, sizeof ip) || ip.version != 6) return 0;
    protocol = ip.nexthdr;
    p->family = AF_INET6;
    behind = bpf_ntohs(ip.payload_len);
    if (behind) p->length = behind + sizeof ip;
    __builtin_memcpy(source, &ip.saddr, 16);
    __builtin_memcpy(destination, &ip.daddr, 16);
    at += sizeof ip;
    for (int i = 0; i < MOST_EXTENSIONS; ++i) {
      // hop-by-hop, routing, destination options: their length in units of 8, without the first; fragment: always 8
      if (protocol != 0 && protocol != 43 && protocol != 44 && protocol != 60) break;
      struct extension e;
      if (load(packet, direction, at, &e, sizeof e)) {
        p->flags |= kUnread;
        break;
      }
      __u32 size = 8 + 8 * e.length;
      if (protocol == 44) {
        const __u16 fragment = bpf_ntohs(e.fragment);
        size = 8;
        p->id = bpf_ntohl(e.id);
        p->flags |= kFragment | (fragment & 1 ? kMoreFragments : 0);
        later_fragment = (fragment & 0xfff8) != 0;
      }
      protocol = e.next;
      at += size;
      behind = behind > size ? behind - size : 0;
    }
  } else {
    return 0;
  }
  p->protocol = protocol;
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) return 0;
  p->payload = behind;
  if (later_fragment || p->flags & kUnread) return 1;
  if (protocol == IPPROTO_TCP) {
    struct tcphdr tcp;
    if (load(packet, direction, at, &tcp, sizeof tcp)) {
      p->flags |= kUnread;
      return 1;
    }
    *source_port = bpf_ntohs(tcp.source);
    *destination_port = bpf_ntohs(tcp.dest);
    p->sequence = bpf_ntohl(tcp.seq);
    p->acknowledged = bpf_ntohl(tcp.ack_seq);
    p->tcp_flags = tcp.fin | tcp.syn << 1 | tcp.rst << 2 | tcp.psh << 3 | tcp.ack << 4 | tcp.urg << 5;
    p->payload = behind > tcp.doff * 4u ? behind - tcp.doff * 4u : 0;
  } else {
    struct udphdr udp;
    if (load(packet, direction, at, &udp, sizeof udp)) {
      p->flags |= kUnread;
      return 1;
    }
    *source_port = bpf_ntohs(udp.source);
    *destination_port = bpf_ntohs(udp.dest);
    p->payload = behind > sizeof udp ? behind - sizeof udp : 0;
  }
  return 1;
}

static __always_inline void look_at(void* packet, __u8 direction) {
  struct Packet p = {};
  __u8 source[16] = {}, destination[16] = {};
  __u16 source_port = 0, destination_port = 0, type;
  __u32 at = ip_at;
  if (at) {
    if (load(packet, direction, at - 2, &type, sizeof type)) return;
    for (int i = 0; i < MOST_VLANS; ++i) {
      if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD)) break;
      at += 4;
      if (load(packet, direction, at - 2, &type, sizeof type)) return;
    }
  } else {
    __u8 first;
    if (load(packet, direction, 0, &first, sizeof first)) return;
    type = first >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
  }
  if (!read_packet(packet, direction, at, type, &p, source, destination, &source_port, &destination_port)) return;
  const __u64 now = bpf_ktime_get_ns();
  if (!is_allowed(now)) return count_drop();
  p.header.size = sizeof p;
  p.header.kind = kPacket;
  p.header.cpu = bpf_get_smp_processor_id();
  p.header.pid = p.header.tid = -1;
  p.header.time = now;
  p.interface = interface;
  p.direction = direction;
  const int in = direction == kIn;
  p.local_port = in ? destination_port : source_port;
  p.remote_port = in ? source_port : destination_port;
  __builtin_memcpy(p.local, in ? destination : source, 16);
  __builtin_memcpy(p.remote, in ? source : destination, 16);
  if (!in) {
    const __u32 segments = ((struct __sk_buff*)packet)->gso_segs;
    p.segments = segments ? segments : 1;
  }
  // Nobody is woken for a record: user space looks by itself, every few milliseconds.
  if (bpf_ringbuf_output(&ring, &p, sizeof p, BPF_RB_NO_WAKEUP)) count_drop();
}

SEC("xdp.frags")
int hindcast_net_rx(struct xdp_md* packet) {
  look_at(packet, kIn);
  return XDP_PASS;
}

SEC("tc")
int hindcast_net_tx(struct __sk_buff* packet) {
  look_at(packet, kOut);
  return TC_ACT_UNSPEC;
}
