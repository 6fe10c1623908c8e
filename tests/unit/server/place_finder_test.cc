// What kernel addresses are called.
#include "server/place_finder.h"

#include <gtest/gtest.h>

#include "server/views/cli/words.h"
#include "tests/support/tiny_host.h"

namespace hindcast::server {
namespace {

constexpr uint64_t kText = 0xffffffff81000000, kModule = 0xffffffffc0a00000, kProgram = 0xffffffffc0050000;

class KernelPlaces : public ::testing::Test {
 protected:
  void SetUp() override {
    place(kText, "[kernel.kallsyms]", 0x1000);
    place(kModule, "[nf_tables]", 0x1000);
    place(kProgram, "bpf_prog_0123456789abcdef_gone", 0x40, RecordTime(10), RecordTime(20));
    place(kProgram, "bpf_prog_fedcba9876543210_there", 0x40, RecordTime(30));
    names_ =
        "ffffffff81000000 T _stext\nffffffff81000040 T schedule\nffffffff81001100 t do_idle\nffffffff81002000 T "
        "_etext\n"
        "ffffffffc0050000 t bpf_prog_fedcba9876543210_there\t[bpf]\n"
        "ffffffffc0a00020 t nft_do_chain\t[nf_tables]\nffffffffc0c00000 t other\t[other]\n";
  }
  void place(uint64_t address, const std::string& path, size_t bytes, RecordTime from = RecordTime(0),
             RecordTime to = RecordTime::max()) {
    PlacementInfo p;
    p.image = host_.image(std::vector<uint8_t>(bytes, 0x90), path);
    p.address = address;
    p.length = bytes;
    p.from = from;
    p.to = to;
    host_.snapshot.info.placements.push_back(p);
  }
  std::shared_ptr<const Place> find(uint64_t ip, uint64_t time = 50) {
    if (!places_) {
      host_.pt(CpuId(0), test::PtBytes());
      if (!names_.empty())
        host_.snapshot.info.images[host_.image({names_.begin(), names_.end()}, "/proc/kallsyms") - 1].kind =
            ImageKind::kallsyms;
      trace_ = host_.build();
      places_.emplace(*trace_, host_.snapshot.source, dirs_);
    }
    return places_->find(Pid(7), {RecordTime(time), RecordTime(time)}, Ip(ip));
  }
  std::string text(uint64_t ip, uint64_t time = 50) { return cli::place_text(*find(ip, time)); }

  test::TinyHost host_;
  std::string names_;
  const std::vector<std::string> dirs_;
  std::unique_ptr<decode::HostTrace> trace_;
  std::optional<PlaceFinder> places_;
};

TEST_F(KernelPlaces, FunctionsOfTheKernelAndOfItsModules) {
  EXPECT_EQ(text(kText + 0x40), "schedule");
  EXPECT_EQ(text(kText + 0x48), "schedule+0x8");
  EXPECT_EQ(find(kText + 0x48)->module, "[kernel.kallsyms]");
  EXPECT_EQ(text(kModule + 0x28), "nft_do_chain+0x8 [nf_tables]");
  const auto place = find(kModule + 0x28);
  EXPECT_EQ(place->function, "nft_do_chain");
  EXPECT_EQ(place->function_offset, 8u);
  EXPECT_EQ(place->module, "[nf_tables]");
  EXPECT_EQ(place->module_offset, 0x28u);
}

TEST_F(KernelPlaces, AProgramHasTheNameOfTheOneThatWasThere) {
  EXPECT_EQ(text(kProgram + 4), "bpf_prog_fedcba9876543210_there+0x4 [bpf]");
  EXPECT_EQ(text(kProgram + 4, 15), "bpf_prog_0123456789abcdef_gone+0x4 [bpf]");
  EXPECT_EQ(find(kProgram, 25)->function, "") << "nobody knows what was there then";
}

TEST_F(KernelPlaces, CodeThatIsNotInTheRecordingHasItsNameWhereThatIsSure) {
  EXPECT_EQ(text(kText + 0x1108), "do_idle+0x8");
  EXPECT_EQ(find(kText + 0x1108)->module, "[kernel.kallsyms]");
  EXPECT_EQ(find(kText + 0x2000)->function, "") << "behind _etext";
  EXPECT_EQ(find(0xffffffffc0c00000)->function, "") << "which module was there then is not known";
  EXPECT_EQ(find(kModule)->function, "") << "before its first symbol";
  EXPECT_EQ(find(0x401000)->module, "?");
}

TEST_F(KernelPlaces, WithoutNamesAModuleAndAnOffsetAreLeft) {
  names_.clear();
  EXPECT_EQ(text(kText + 0x48), "[kernel.kallsyms]+0x48");
  EXPECT_EQ(text(kModule + 0x28), "[nf_tables]+0x28");
}

}  // namespace
}  // namespace hindcast::server
