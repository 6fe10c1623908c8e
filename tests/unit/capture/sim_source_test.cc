// The simulated source's doors to the outside: its options, its channel, and what it does to the kernel's records.
#include "capture/sim/sim_source.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "capture/record_builder.h"
#include "capture/sim/block_table.h"
#include "capture/sim/channel_server.h"
#include "capture/sim/record_filter.h"

namespace hindcast::sim {
namespace {

using capture::RecordFate;

TEST(SimConfig, ReadsItsText) {
  const auto c = parse_sim_config("seed=7,ovf=0.5,tick=1000,mtc_drop=0,drift=0,deferred_tips,long_tnt=1");
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->seed, 7u);
  EXPECT_EQ(c->ovf, 0.5);
  EXPECT_EQ(c->tick, 1000);
  EXPECT_EQ(c->mtc_drop, 0);
  EXPECT_FALSE(c->drift);
  EXPECT_TRUE(c->deferred_tips);
  EXPECT_TRUE(c->long_tnt);
  EXPECT_TRUE(parse_sim_config("").ok());
}

TEST(SimConfig, RefusesWhatItDoesNotMean) {
  for (const char* text : {"sed=1", "seed", "seed=x", "seed=-1", "ovf=1e9", "tick=-1", "drift=2", "mtc_drop=nan", ",",
                           "ovf=", "seed=1 "}) {
    const auto c = parse_sim_config(text);
    if (std::string(text) == "seed") {
      EXPECT_TRUE(c.ok());  // a bare name means 1
      continue;
    }
    ASSERT_FALSE(c.ok()) << text;
    EXPECT_EQ(c.error().code, Errc::usage);
    EXPECT_FALSE(c.error().fix.empty());
  }
}

// ---- the channel

Fd memfd(size_t bytes, unsigned flags = MFD_ALLOW_SEALING) {
  Fd fd(::memfd_create("test", flags));
  HC_CHECK(fd.valid() && ::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return fd;
}

struct Client {
  explicit Client(const std::string& path) : fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    path.copy(a.sun_path, sizeof a.sun_path - 1);
    HC_CHECK(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0);
  }
  void send(const void* data, size_t bytes, const Fd* attached = nullptr) {
    iovec io{const_cast<void*>(data), bytes};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr m{};
    m.msg_iov = &io;
    m.msg_iovlen = 1;
    if (attached) {
      m.msg_control = control;
      m.msg_controllen = sizeof control;
      cmsghdr* c = CMSG_FIRSTHDR(&m);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      const int n = attached->get();
      std::memcpy(CMSG_DATA(c), &n, sizeof n);
    }
    HC_CHECK(::sendmsg(fd.get(), &m, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes));
  }
  Fd fd;
};

Message message_of(MessageKind kind) {
  Message m;
  m.kind = kind;
  m.pid = ::getpid();
  return m;
}

TEST(SimChannel, HandsOnMessagesAndTheEndOfAConnection) {
  auto server = ChannelServer::listen();
  ASSERT_TRUE(server.ok());
  auto client = std::make_unique<Client>(server->path());
  const Fd fd = memfd(8192);
  const Message m = message_of(MessageKind::process);
  client->send(&m, sizeof m, &fd);
  std::vector<Incoming> got;
  const auto keep = [&](Incoming& in) { got.push_back(std::move(in)); };
  server->poll(1000, keep);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].message.kind, MessageKind::process);
  EXPECT_TRUE(got[0].fd.valid());
  EXPECT_NE(::ftruncate(fd.get(), 0), 0) << "the sender can no longer shrink what we map";
  client.reset();
  server->poll(1000, keep);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[1].ended);
  EXPECT_EQ(got[1].connection, got[0].connection);
}

TEST(SimChannel, CutsOffAPeerThatBreaksTheRules) {
  auto server = ChannelServer::listen();
  ASSERT_TRUE(server.ok());
  const Fd good = memfd(8192), unsealable = memfd(8192, 0);
  std::vector<std::function<void(Client&)>> sins;
  sins.push_back([&](Client& c) {
    Message m = message_of(MessageKind::process);
    m.magic = 1;
    c.send(&m, sizeof m, &good);
  });
  sins.push_back([&](Client& c) {
    Message m = message_of(MessageKind::process);
    m.pid = 1;  // somebody else
    c.send(&m, sizeof m, &good);
  });
  sins.push_back([&](Client& c) {
    Message m = message_of(static_cast<MessageKind>(77));
    c.send(&m, sizeof m, &good);
  });
  sins.push_back([&](Client& c) {
    Message m = message_of(MessageKind::thread);
    c.send(&m, sizeof m);
  });
  sins.push_back([&](Client& c) {
    Message m = message_of(MessageKind::exec);
    c.send(&m, sizeof m, &good);
  });
  sins.push_back([&](Client& c) {
    Message m = message_of(MessageKind::thread);
    c.send(&m, sizeof m, &unsealable);
  });
  sins.push_back([&](Client& c) {
    const Message m = message_of(MessageKind::exec);
    c.send(&m, sizeof m - 1);
  });
  for (size_t i = 0; i < sins.size(); ++i) {
    Client client(server->path());
    sins[i](client);
    unsigned messages = 0, ends = 0;
    server->poll(1000, [&](Incoming& in) { ++(in.ended ? ends : messages); });
    EXPECT_EQ(messages, 0u) << i;
    EXPECT_EQ(ends, 1u) << i;
    EXPECT_EQ(server->refused(), i + 1);
  }
}

TEST(SimBlockTable, ReadsDefinitionsAsTheyCome) {
  const Fd fd = memfd(1 << 16);
  auto map = Mapping::map(fd, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED);
  ASSERT_TRUE(map.ok());
  auto* bytes = static_cast<uint8_t*>(map->data());
  auto* header = new (bytes) DefsHeader{};
  header->magic = kChannelMagic;
  header->version = kChannelVersion;
  auto table = BlockTable::open(fd, nullptr);
  ASSERT_TRUE(table.ok());
  const auto add = [&](uint32_t id, uint64_t ip, std::vector<uint8_t> code, std::vector<uint8_t> lengths) {
    uint64_t at = kPageBytes + header->used;
    const BlockDef def{id, static_cast<uint16_t>(lengths.size()), static_cast<uint16_t>(code.size()), ip};
    std::memcpy(bytes + at, &def, sizeof def);
    std::copy(code.begin(), code.end(), bytes + at + sizeof def);
    std::copy(lengths.begin(), lengths.end(), bytes + at + sizeof def + code.size());
    header->used += (sizeof def + code.size() + lengths.size() + 7) / 8 * 8;
  };
  add(0, 0x401000, {0x90, 0x74, 0x10}, {1, 2});
  ASSERT_TRUE(table->refresh().ok());
  ASSERT_EQ(table->size(), 1u);
  EXPECT_EQ(table->data()[0].kind, Terminator::cond);
  EXPECT_EQ(table->data()[0].target, 0x401013u);
  EXPECT_EQ(table->data()[0].ip_of(1), 0x401001u);
  add(1, 0x401003, {0xc3}, {1});
  ASSERT_TRUE(table->refresh().ok());
  EXPECT_EQ(table->data()[1].kind, Terminator::ret);
  add(2, 0x401004, {0xc3}, {2});  // lengths and bytes disagree
  EXPECT_FALSE(table->refresh().ok());
  header->used = uint64_t{1} << 40;
  EXPECT_FALSE(table->refresh().ok());
}

// ---- the kernel's records

struct Filtered {
  std::vector<uint8_t> bytes;
  RecordFate fate;
};
Filtered filtered(RecordFilter& filter, std::vector<uint8_t> bytes) {
  perf::Record record;
  HC_CHECK(perf::RecordReader(bytes).next(record));
  const RecordFate fate = filter.filter(record, bytes);
  return {bytes, fate};
}
perf::Record parsed(const Filtered& f) {
  perf::Record record;
  HC_CHECK(perf::RecordReader(f.bytes).next(record));
  return record;
}

struct FilterTest : testing::Test {
  FilterTest() : filter([](uint64_t tsc) { return RecordTime(tsc); }) {
    filter.add_root(Pid(100), "/usr/bin/myprogram");
    comm("qemu-x86_64", 100, 1000);
    Message m = message_of(MessageKind::process);
    m.pid = 100;
    m.tsc = 2000;
    m.guest_low = 0x10000;
    m.guest_high = 0x550000000000;
    filter.heard(m);
    m.kind = MessageKind::thread;
    m.tid = 100;
    m.tsc = 3000;
    filter.heard(m);
  }
  capture::RecordStamp stamp(uint64_t time, int pid = 100, int tid = 100) {
    return {RecordTime(time), CpuId(0), Pid(pid), Tid(tid)};
  }
  Filtered comm(const std::string& name, int pid, uint64_t time) {
    std::vector<uint8_t> bytes;
    capture::append_comm_record(bytes, {Pid(pid), Tid(pid), name, true}, stamp(time, pid, pid));
    return filtered(filter, bytes);
  }
  Filtered fork(int pid, int parent, int tid, uint64_t time) {
    std::vector<uint8_t> bytes;
    capture::append_task_record(bytes, perf::kFork, {Pid(pid), Pid(parent), Tid(tid), Tid(parent)}, stamp(time));
    return filtered(filter, bytes);
  }
  Filtered map(uint64_t start, uint64_t offset, const std::string& path, int pid = 100) {
    capture::MapRecord m;
    m.pid = Pid(pid);
    m.tid = Tid(pid);
    m.start = start;
    m.length = 4096;
    m.file_offset = offset;
    m.prot = PROT_READ;
    m.flags = MAP_PRIVATE;
    m.path = path;
    std::vector<uint8_t> bytes;
    capture::append_map_record(bytes, m, stamp(4000, pid, pid));
    return filtered(filter, bytes);
  }
  RecordFilter filter;
};

TEST_F(FilterTest, TheProgramGoesByItsOwnName) {
  const auto c = capture::read_comm_record(parsed(comm("qemu-x86_64", 100, 5000)));
  ASSERT_TRUE(c.has_value());
  // The second exec's name comes from the process itself, which does not exist here: the name stays.
  EXPECT_EQ(c->comm, "myprogram");
  EXPECT_TRUE(c->exec);
}

TEST_F(FilterTest, QemusOwnMappingsAreDropped) {
  EXPECT_EQ(map(0x7f0000000000, 0, "/lib/x86_64-linux-gnu/libc.so.6").fate, RecordFate::drop);
  EXPECT_EQ(map(0x560000000000, 0, "/usr/bin/qemu-x86_64").fate, RecordFate::drop);
  EXPECT_EQ(map(0x4000000000, 0, "//anon").fate, RecordFate::keep);
  EXPECT_EQ(map(0x7f0000000000, 0, "/lib/x86_64-linux-gnu/libc.so.6", 999).fate, RecordFate::keep) << "not ours";
}

TEST_F(FilterTest, TheProgramsCodeIsExecutableAgain) {
  // this test program itself: some page of it is code, its first page (ELF header) is not
  const std::string self = "/proc/self/exe";
  EXPECT_EQ(capture::read_map_record(parsed(map(0x4000000000, 0, self)), perf::kOurSampleType)->prot,
            uint32_t{PROT_READ});
  unsigned executable = 0;
  for (uint64_t offset = 0; offset < (256u << 20); offset += 4096) {
    const auto m = capture::read_map_record(parsed(map(0x4000000000 + offset, offset, self)), perf::kOurSampleType);
    if (m->prot == (PROT_READ | PROT_EXEC)) ++executable;
  }
  EXPECT_GT(executable, 10u);
}

TEST_F(FilterTest, HelperThreadsNeverShow) {
  EXPECT_EQ(fork(100, 100, 101, 1500).fate, RecordFate::drop) << "before any guest code ran";
  EXPECT_TRUE(filter.is_helper(Tid(101)));
  EXPECT_EQ(fork(100, 100, 102, 3500).fate, RecordFate::keep) << "a thread of the program";
  EXPECT_FALSE(filter.is_helper(Tid(102)));
  std::vector<uint8_t> exit;
  capture::append_task_record(exit, perf::kExit, {Pid(100), Pid(100), Tid(101), Tid(100)}, stamp(6000, 100, 101));
  EXPECT_EQ(filtered(filter, exit).fate, RecordFate::drop);
  EXPECT_FALSE(filter.is_helper(Tid(101))) << "the number may be used again";
}

TEST_F(FilterTest, AChildIsTheProgramsToo) {
  EXPECT_EQ(fork(200, 100, 200, 7000).fate, RecordFate::keep);
  EXPECT_EQ(map(0x7f0000000000, 0, "/lib/x86_64-linux-gnu/libc.so.6", 200).fate, RecordFate::drop);
  EXPECT_EQ(map(0x4000000000, 0, "//anon", 200).fate, RecordFate::keep);
}

TEST(SimGuestProgramName, IsWhatQemuRuns) {
  EXPECT_EQ(guest_program_name({"qemu-x86_64", "-plugin", "p.so,channel=x", "-0", "ls", "/bin/ls", "-l"}), "ls");
  EXPECT_EQ(guest_program_name({"qemu-x86_64", "-strace", "--", "/usr/bin/env"}), "env");
  EXPECT_EQ(guest_program_name({"qemu-x86_64", "-plugin"}), "");
  EXPECT_EQ(guest_program_name({}), "");
}

// ---- the command

struct CommandTest : testing::Test {
  CommandTest() {
    SimConfig c;
    c.qemu = "/opt/qemu-x86_64";
    c.plugin = "/opt/hindcast-sim.so";
    source = make_sim_source(c);
    capture::PtSourceConfig p;
    p.cpus = {CpuId(0)};
    p.ring_bytes = 1 << 20;
    prepared = source->prepare(p).ok();
  }
  std::unique_ptr<capture::PtSource> source;
  bool prepared = false;
};

TEST_F(CommandTest, ProgramsAreFoundByPathAndKeepTheirName) {
  ASSERT_TRUE(prepared);
  const auto words = source->command({"ls", "-l"});
  ASSERT_TRUE(words.ok());
  ASSERT_EQ(words->size(), 7u);
  EXPECT_EQ((*words)[0], "/opt/qemu-x86_64");
  EXPECT_EQ((*words)[2].rfind("/opt/hindcast-sim.so,channel=/", 0), 0u);
  EXPECT_EQ((*words)[3], "-0");
  EXPECT_EQ((*words)[4], "ls");
  EXPECT_EQ((*words)[5].substr((*words)[5].size() - 3), "/ls");
  EXPECT_EQ((*words)[6], "-l");
  EXPECT_EQ(source->command({"no-such-program-anywhere"}).error().code, Errc::not_found);
}

TEST_F(CommandTest, ScriptsRunByTheirInterpreter) {
  ASSERT_TRUE(prepared);
  char path[] = "/tmp/hindcast-script-XXXXXX";
  const Fd fd(::mkstemp(path));
  std::ofstream(path) << "#! /bin/sh -e\necho hi\n";
  ::chmod(path, 0755);
  const auto words = source->command({path, "x"});
  ASSERT_TRUE(words.ok()) << words.error().text();
  EXPECT_EQ(std::vector<std::string>(words->begin() + 3, words->end()),
            (std::vector<std::string>{"/bin/sh", "-e", path, "x"}));
  std::ofstream(path) << "neither ELF nor script\n";
  EXPECT_EQ(source->command({path}).error().code, Errc::unsupported);
  ::unlink(path);
}

TEST_F(CommandTest, AnEmptyRecordingIsAWholeOne) {
  ASSERT_TRUE(prepared);
  const auto cuts = source->freeze();
  ASSERT_TRUE(cuts.ok());
  ASSERT_EQ(cuts->size(), 1u);
  EXPECT_EQ((*cuts)[0].info.bytes, (*cuts)[0].bytes.size());
  SnapshotInfo info;
  source->describe(info);
  EXPECT_EQ(info.source, "simulated");
  EXPECT_EQ(info.record_clock, "monotonic_raw");
  EXPECT_TRUE(info.clock.known);
  EXPECT_GE(info.notes.size(), 3u);  // that it is simulated, whom it traces, that nothing connected
}

}  // namespace
}  // namespace hindcast::sim
