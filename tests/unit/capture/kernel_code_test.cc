// The kernel's code: text, modules and what it makes at run time from a made-up /proc; BPF programs and names from the real
// kernel, too.
#include "capture/kernel_code.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <sys/syscall.h>

#include "hindcast/kallsyms.h"
#include "tests/support/kernel_files.h"
#include "tests/support/perf_bytes.h"
#include "tests/support/start_window.h"
#include "tests/unit/capture/fake_source.h"
#include "tests/unit/capture/scratch.h"

namespace hindcast::capture {
namespace {

using test::KernelFiles;
using test::PerfBytes;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class FakePrograms : public JitedPrograms {
 public:
  Result<std::vector<uint32_t>> ids() override {
    if (refuse) return *refuse;
    std::vector<uint32_t> out;
    for (const auto& [id, program] : there) out.push_back(id);
    return out;
  }
  Result<std::optional<JitedProgram>> read(uint32_t id) override {
    ++reads;
    const auto it = there.find(id);
    return it == there.end() ? std::optional<JitedProgram>() : std::optional(it->second);
  }
  void add(uint32_t id, uint64_t loaded_ns, uint64_t address, const std::string& name, std::vector<uint8_t> code) {
    there[id] = {id, loaded_ns, {{name, address, std::move(code)}}};
  }
  std::map<uint32_t, JitedProgram> there;
  std::optional<Error> refuse;
  size_t reads = 0;
};

const std::string kOne = "bpf_prog_0123456789abcdef", kTwo = "bpf_prog_fedcba9876543210";
constexpr uint64_t kAt = 0xffffffffc0050000;

class KernelCodeTest : public ::testing::Test {
 protected:
  KernelCodeTest() : files_(folder_.path("proc"), folder_.path("sys")) {
    std::filesystem::create_directories(folder_.path("proc"));
    config_.proc = folder_.path("proc");
    config_.sys = folder_.path("sys");
    config_.programs = &programs_;
    config_.boot_time = [] { return uint64_t{1000}; };
  }
  KernelCode& begin() {
    code_.emplace(config_);
    code_->begin();
    return *code_;
  }
  void see(const PerfBytes& records) {
    perf::RecordReader reader(records.bytes());
    perf::Record r;
    while (reader.next(r)) {
      code_->on_fresh_record(r);
      code_->on_record(r, *perf::read_sample_id(r, perf::kOurSampleType)->time);
    }
    ASSERT_FALSE(reader.malformed());
  }
  CodeBytes::Collected take(uint64_t now, const PerfBytes& later = PerfBytes(), bool lost = false) {
    code_->copy(RecordTime(now));
    see(later);
    return code_->collect(lost);
  }
  static std::vector<std::string> paths(const CodeBytes::Collected& c) {
    std::vector<std::string> out;
    for (const CapturedImage& i : c.images) out.push_back(i.info.path);
    return out;
  }
  static const CapturedImage* image(const CodeBytes::Collected& c, const std::string& path) {
    const auto it =
        std::find_if(c.images.begin(), c.images.end(), [&](const CapturedImage& i) { return i.info.path == path; });
    return it == c.images.end() ? nullptr : &*it;
  }
  /// "ADDRESS+LENGTH@OFFSET FROM..TO", "-" for an open side.
  static std::vector<std::string> placed(const CodeBytes::Collected& c, const std::string& path) {
    std::vector<std::string> out;
    for (const PlacementInfo& p : c.placements) {
      EXPECT_EQ(p.pid, kNoPid);
      EXPECT_LE(p.image, c.images.size());
      const CapturedImage& i = c.images.at(p.image - 1);
      EXPECT_EQ(i.info.id, p.image);
      EXPECT_LE(p.image_offset + p.length, i.memory.size());
      if (i.info.path != path) continue;
      char text[160];
      std::snprintf(text, sizeof text, "%llx+%llx@%llx ", static_cast<unsigned long long>(p.address),
                    static_cast<unsigned long long>(p.length), static_cast<unsigned long long>(p.image_offset));
      const auto time = [](RecordTime t) {
        return t == RecordTime(0) || t == RecordTime::max() ? "-" : std::to_string(t.value());
      };
      out.push_back(text + std::string(time(p.from)) + ".." + time(p.to));
    }
    return out;
  }

  Scratch folder_;
  KernelFiles files_;
  FakePrograms programs_;
  KernelCodeConfig config_;
  std::optional<KernelCode> code_;
};

TEST_F(KernelCodeTest, TextModulesAndNamesAreCopiedByteForByte) {
  files_.small_kernel().write();
  begin();
  const auto c = take(50);
  EXPECT_THAT(c.notes, IsEmpty());
  EXPECT_THAT(paths(c), ElementsAre("[kernel.kallsyms]", "[nf_tables]", "ftrace_trampoline", "/proc/kallsyms"));
  const CapturedImage& text = c.images[0];
  EXPECT_EQ(text.memory, files_.bytes_at(KernelFiles::kText, KernelFiles::kTextBytes));
  EXPECT_EQ(text.info.bytes, text.memory.size());
  EXPECT_EQ(text.info.kind, ImageKind::memory);
  EXPECT_EQ(text.info.build_id, "abababababababababababababababababababab");
  EXPECT_THAT(placed(c, "[kernel.kallsyms]"), ElementsAre("ffffffff81000000+2064@0 -..-"));
  EXPECT_EQ(c.images[1].memory, files_.bytes_at(KernelFiles::kModule, KernelFiles::kModuleBytes));
  EXPECT_EQ(c.images[1].info.build_id, "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd");
  EXPECT_THAT(placed(c, "[nf_tables]"), ElementsAre("ffffffffc0a00000+2000@0 -..-"));
  EXPECT_EQ(c.images[2].memory, files_.bytes_at(KernelFiles::kTrampoline, 4096));
  EXPECT_EQ(c.images[3].info.kind, ImageKind::kallsyms);
  const std::string names(c.images[3].memory.begin(), c.images[3].memory.end());
  EXPECT_EQ(names,
            "ffffffff81000000 T _stext\nffffffff81000040 T schedule\nffffffff81001080 t do_idle\n"
            "ffffffff81002064 T _etext\nffffffffc0a00020 t nft_do_chain\t[nf_tables]\n"
            "ffffffffc0a01010 T nft_set\t[nf_tables]\nffffffffc0201000 t ftrace_trampoline\t[__builtin__ftrace]\n");
  EXPECT_THAT(code_->collect(false).images, IsEmpty()) << "it was handed over";
}

TEST_F(KernelCodeTest, PagesThatAreNotThereArePlacedNowhere) {
  files_.symbol(KernelFiles::kText, 'T', "_stext").symbol(KernelFiles::kText + 0x5000, 'T', "_etext");
  std::vector<uint8_t> bytes(0x5000, 0x90);
  std::fill(bytes.begin(), bytes.begin() + 0x1000, uint8_t{0});
  std::fill(bytes.begin() + 0x2000, bytes.begin() + 0x4000, uint8_t{0});
  files_.memory(KernelFiles::kText, bytes).write();
  begin();
  const auto c = take(50);
  EXPECT_THAT(placed(c, "[kernel.kallsyms]"),
              ElementsAre("ffffffff81001000+1000@1000 -..-", "ffffffff81004000+1000@4000 -..-"));
  std::fill(bytes.begin(), bytes.end(), uint8_t{0});
  KernelFiles(config_.proc, config_.sys)
      .symbol(KernelFiles::kText, 'T', "_stext")
      .symbol(KernelFiles::kText + 0x5000, 'T', "_etext")
      .memory(KernelFiles::kText, bytes)
      .write();
  const auto none = take(60);
  EXPECT_THAT(none.placements, IsEmpty());
  EXPECT_THAT(none.notes, Contains(HasSubstr("[kernel.kallsyms]: the kernel's core file shows zeros there")));
}

TEST_F(KernelCodeTest, AMissingAbilityIsANoteWithWhatToDo) {
  files_.small_kernel().write();
  std::filesystem::remove(folder_.path("proc/kcore"));
  begin();
  auto c = take(50);
  EXPECT_THAT(paths(c), ElementsAre("/proc/kallsyms")) << "names are known all the same";
  EXPECT_THAT(c.notes, ElementsAre(AllOf(HasSubstr("image missing: the kernel's text and modules: cannot open"),
                                         HasSubstr("what it ran shows as gaps of cause image_missing"),
                                         HasSubstr("to have it: a kernel with CONFIG_PROC_KCORE"))));
  folder_.write("proc/kcore", "no core file");
  EXPECT_THAT(take(51).notes, ElementsAre(HasSubstr("it is no ELF file")));
  folder_.write("proc/kallsyms", "0000000000000000 T _stext\n0000000000000000 T _etext\n");
  folder_.write("proc/sys/kernel/kptr_restrict", "2\n");
  folder_.write("proc/self/status", "CapEff:\t0000000000000000\n");
  c = take(52);
  EXPECT_THAT(c.images, IsEmpty());
  EXPECT_THAT(c.notes, ElementsAre(AllOf(HasSubstr("kallsyms hides all addresses"),
                                         HasSubstr("kernel.kptr_restrict = 2; CAP_SYSLOG is not held"),
                                         HasSubstr("setcap cap_syslog+ep"))));
  programs_.refuse = Error{Errc::permission, "cannot ask the kernel for its BPF programs", "found", "fix"};
  EXPECT_THAT(take(53).notes, Contains(HasSubstr("image missing: BPF programs: cannot ask the kernel")));
}

TEST_F(KernelCodeTest, AKernelWithoutModulesIsNoReasonForANote) {
  files_.symbol(KernelFiles::kText, 'T', "_stext").symbol(KernelFiles::kText + 0x1000, 'T', "_etext");
  files_.memory(KernelFiles::kText, std::vector<uint8_t>(0x1000, 0x90)).write();
  std::filesystem::remove(folder_.path("proc/modules"));
  begin();
  EXPECT_THAT(take(50).notes, IsEmpty());
  files_.symbol(KernelFiles::kModule, 't', "f", "m").write();
  std::filesystem::remove(folder_.path("proc/modules"));
  EXPECT_THAT(take(50).notes, Contains(HasSubstr("image missing: modules")));
}

TEST_F(KernelCodeTest, KcoreThatMayNotBeReadSaysWhatIsNeeded) {
  if (::geteuid() != 0) GTEST_SKIP() << "wants to be somebody else for a moment";
  files_.small_kernel().write();
  folder_.write("proc/self/status", "CapEff:\t0000000000000000\n");
  folder_.write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
  ::chmod(folder_.path("proc/kcore").c_str(), 0400);
  ASSERT_EQ(::seteuid(65534), 0);
  const auto core = Kcore::open(config_.proc, config_.sys);
  ASSERT_EQ(::seteuid(0), 0);
  ASSERT_FALSE(core.ok());
  EXPECT_EQ(core.error().code, Errc::permission);
}

TEST_F(KernelCodeTest, AModuleThatCameInTheWindowIsPlacedFromWhenItWasFirstSeen) {
  files_.small_kernel().write();
  begin();
  files_.module("late", 0x1000, KernelFiles::kModule + 0x4000, 0xee);
  files_.symbol(KernelFiles::kModule + 0x4000, 't', "late_function", "late").write();
  code_->look(RecordTime(40));
  auto c = take(50);
  EXPECT_THAT(placed(c, "[late]"), ElementsAre("ffffffffc0a04000+1000@0 40..-"));
  EXPECT_THAT(placed(c, "[nf_tables]"), ElementsAre("ffffffffc0a00000+2000@0 -..-"));
  files_.remove_module("late").write();
  c = take(60);
  EXPECT_THAT(placed(c, "[late]"), IsEmpty());
  EXPECT_THAT(c.notes, ElementsAre(HasSubstr("kernel modules were removed or replaced (late)")));
}

TEST_F(KernelCodeTest, AModuleThatIsReplacedWhileItIsReadIsLeftOut) {
  files_.small_kernel().write();
  begin();
  const auto while_read = [&](const std::function<void()>& change) {
    config_.open_core = [&, change]() -> Result<Kcore> {
      const auto bytes = std::make_shared<std::vector<uint8_t>>(read_file(config_.proc + "/kcore"));
      return Kcore::over([bytes, change](uint64_t offset, std::span<uint8_t> out) -> size_t {
        if (offset > 64u + 3 * 56) change();  // memory, not headers
        if (offset + out.size() > bytes->size()) return 0;
        std::copy_n(bytes->begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
        return out.size();
      });
    };
    begin();
    auto c = take(50);
    config_.open_core = {};
    return c;
  };
  auto c = while_read([] {});
  EXPECT_THAT(placed(c, "[nf_tables]"), SizeIs(1)) << "this way of reading works";
  c = while_read([&] { KernelFiles(files_).remove_module("nf_tables").write(); });
  EXPECT_THAT(placed(c, "[nf_tables]"), IsEmpty());
  EXPECT_THAT(c.notes, Contains(HasSubstr("(nf_tables): they came or went while they were copied")));
  files_.write();
  // The same name, size and address, from another file.
  c = while_read([&] {
    KernelFiles again = files_;
    again.remove_module("nf_tables").module("nf_tables", 0x5000, KernelFiles::kModule, 0x99).write();
  });
  EXPECT_THAT(placed(c, "[nf_tables]"), IsEmpty());
  EXPECT_THAT(placed(c, "[kernel.kallsyms]"), SizeIs(1));
}

TEST_F(KernelCodeTest, ProgramsArePlacedFromTheirRegistrationToTheirUnregistration) {
  programs_.add(1, 500, kAt, kOne + "_old", {0x90, 0xc3});
  begin();
  programs_.add(2, 1500, kAt + 0x100, kTwo + "_new", {0x91, 0xc3});
  see(PerfBytes().at(20).ksymbol(kAt + 0x100, 2, kTwo + "_new").at(21).bpf_event(2, true));
  auto c = take(30);
  EXPECT_EQ(image(c, kOne + "_old")->memory, (std::vector<uint8_t>{0x90, 0xc3}));
  EXPECT_THAT(placed(c, kOne + "_old"), ElementsAre("ffffffffc0050000+2@0 -..-"));
  EXPECT_THAT(placed(c, kTwo + "_new"), ElementsAre("ffffffffc0050100+2@0 20..-"));
  programs_.there.clear();
  see(PerfBytes().at(40).ksymbol(kAt, 2, kOne + "_old", true).bpf_event(1, false));
  see(PerfBytes().at(41).ksymbol(kAt + 0x100, 2, kTwo + "_new", true).bpf_event(2, false));
  c = take(50);
  EXPECT_THAT(placed(c, kOne + "_old"), ElementsAre("ffffffffc0050000+2@0 -..40"));
  EXPECT_THAT(placed(c, kTwo + "_new"), ElementsAre("ffffffffc0050100+2@0 20..41"));
  EXPECT_THAT(c.notes, Not(Contains(HasSubstr("BPF programs"))));
}

TEST_F(KernelCodeTest, TwoProgramsOneAfterTheOtherAtOneAddressKeepTheirTimes) {
  begin();
  programs_.add(1, 1500, kAt, kOne, {1});
  see(PerfBytes().at(20).ksymbol(kAt, 1, kOne).at(21).bpf_event(1, true));
  programs_.there.clear();
  programs_.add(2, 1600, kAt, kTwo, {2});
  see(PerfBytes().at(30).ksymbol(kAt, 1, kOne, true).bpf_event(1, false));
  see(PerfBytes().at(40).ksymbol(kAt, 1, kTwo).at(41).bpf_event(2, true));
  const auto c = take(50);
  EXPECT_THAT(placed(c, kOne), ElementsAre("ffffffffc0050000+1@0 20..30"));
  EXPECT_THAT(placed(c, kTwo), ElementsAre("ffffffffc0050000+1@0 40..-"));
}

TEST_F(KernelCodeTest, AProgramThatWentWhileItWasCopiedEndsThenAndOneThatCameBegins) {
  programs_.add(1, 500, kAt, kOne, {1});
  begin();
  const auto c =
      take(50, PerfBytes().at(51).ksymbol(kAt, 1, kOne, true).bpf_event(1, false).at(52).ksymbol(kAt, 1, kTwo));
  EXPECT_THAT(placed(c, kOne), ElementsAre("ffffffffc0050000+1@0 -..51"));
  EXPECT_THAT(placed(c, kTwo), IsEmpty());
}

TEST_F(KernelCodeTest, AProgramThatWentBeforeItCouldBeCopiedIsANote) {
  begin();
  see(PerfBytes().at(20).ksymbol(kAt, 1, kOne + "_quick").at(21).bpf_event(1, true));  // bpf(2) knows no such program
  see(PerfBytes().at(22).ksymbol(kAt, 1, kOne + "_quick", true).bpf_event(1, false));
  const auto c = take(50);
  EXPECT_THAT(c.placements, IsEmpty());
  EXPECT_THAT(c.notes,
              Contains(HasSubstr("1 functions of BPF programs (" + kOne + "_quick) went before they were copied")));
}

TEST_F(KernelCodeTest, ProgramsAreCopiedEarlyAFewASecondAndWithinABudget) {
  config_.most_early = 3;
  config_.most_program_bytes = 2;
  begin();
  PerfBytes records;
  for (uint32_t id = 1; id <= 5; ++id) {
    programs_.add(id, 1500, kAt + id * 0x100, kOne, {static_cast<uint8_t>(id)});
    records.at(20 + id).ksymbol(kAt + id * 0x100, 1, kOne).bpf_event(id, true);
    records.at(20 + id).ksymbol(kAt + id * 0x100, 1, kOne, true).bpf_event(id, false);
  }
  see(records);
  EXPECT_EQ(programs_.reads, 3u);
  programs_.there.clear();
  const auto c = take(50);
  EXPECT_THAT(placed(c, kOne), SizeIs(2)) << "of three copies the budget keeps the newest two";
  EXPECT_EQ(c.images[0].memory, std::vector<uint8_t>{2});
  EXPECT_THAT(c.notes, Contains(HasSubstr("1 BPF programs and 0 names")));
  EXPECT_THAT(c.notes, Contains(HasSubstr("3 functions of BPF programs")));
}

TEST_F(KernelCodeTest, WhereTheRecordOfAProgramWasLostNobodyGuessesSinceWhenItIsThere) {
  begin();
  programs_.add(1, 1500, kAt, kOne + "_lost", {1});
  const auto c = take(50, PerfBytes(), true);
  EXPECT_THAT(c.placements, IsEmpty());
  EXPECT_THAT(c.notes, Contains(HasSubstr("BPF programs (" + kOne + "_lost): the record that says since when")));
}

TEST_F(KernelCodeTest, WhatTheKernelMadeIsCopiedAsRecordsNameItUnlessItMoved) {
  files_.small_kernel().write();
  begin();
  const uint64_t slot = KernelFiles::kTrampoline + 0x3000, tramp = KernelFiles::kTrampoline + 0x5000;
  see(PerfBytes().at(20).ksymbol(slot, 0x80, "kprobe_insn_page", false, 2).ksymbol(tramp, 0x40, "bpf_trampoline_7"));
  see(PerfBytes().at(21).ksymbol(tramp + 0x1000, 0x40, "bpf_dispatcher_xdp"));
  auto c = take(50);
  EXPECT_THAT(placed(c, "kprobe_insn_page"), ElementsAre("ffffffffc0204000+80@0 20..-"));
  EXPECT_EQ(image(c, "bpf_trampoline_7")->memory, files_.bytes_at(tramp, 0x40));
  EXPECT_EQ(image(c, "bpf_dispatcher_xdp"), nullptr);
  EXPECT_THAT(c.notes, ElementsAre(HasSubstr("bpf_dispatcher_xdp: the kernel changes it and no record says when")));
  c = take(60, PerfBytes().at(61).ksymbol(tramp, 0x40, "bpf_trampoline_7", true));
  EXPECT_EQ(image(c, "bpf_trampoline_7"), nullptr);
  EXPECT_THAT(c.notes, Contains(HasSubstr("bpf_trampoline_7 came or went while it was copied")));
  c = take(70, PerfBytes(), true);
  EXPECT_EQ(image(c, "ftrace_trampoline"), nullptr) << "no record tells of it, and some were lost";
  EXPECT_THAT(placed(c, "kprobe_insn_page"), SizeIs(1));
}

TEST(KernelModules, OddLinesAreLeftOut) {
  const auto modules = parse_modules(
      "nf_tables 311296 2 nft_ct,nft_nat, Live 0xffffffffc0a00000 (O)\nbusy 4096 0 - Loading 0xffffffffc0b00000\n"
      "../etc 1 0 - Live 0x1\nno_size x 0 - Live 0x1\nshort 12\nwrap 4096 0 - Live 0xffffffffffffffff\n\n"
      "huge 99999999999999999999999 0 - Live 0x1\nhidden 1 0 - Live 0x0000000000000000");
  ASSERT_THAT(modules, SizeIs(3));
  EXPECT_EQ(modules[0], (KernelModule{"nf_tables", 311296, 0xffffffffc0a00000, true}));
  EXPECT_FALSE(modules[1].live);
  EXPECT_EQ(modules[2].address, 0u);
}

TEST(KernelSymbolsTest, AModulesTextEndsWhereAnothersBegins) {
  const KernelSymbols s = KernelSymbols::parse(
      "c000 t a1\t[a]\nc100 T a2\t[a]\nc180 t b1\t[b]\nd000 d adata\t[a]\nf000 t ainit\t[a]\nc190 t bpf_x\t[bpf]\n");
  EXPECT_EQ(s.text_of({"a", 0x4000, 0xc000, true}), (AddressRange{0xc000, 0xc180}));
  EXPECT_EQ(s.text_of({"b", 0x8, 0xc180, true}), (AddressRange{0xc180, 0xc188}));
  EXPECT_EQ(s.text_of({"none", 0x1000, 0xc000, true}), std::nullopt);
  EXPECT_EQ(s.text_of({"a", 0x1000, 0x1000, true}), std::nullopt) << "its symbols are elsewhere";
  ASSERT_THAT(s.made(), SizeIs(1));
  EXPECT_EQ(s.made()[0].most, 0xd000u - 0xc190);
  EXPECT_TRUE(s.has_modules());
  EXPECT_TRUE(s.hidden()) << "no symbol of the kernel itself";
  EXPECT_FALSE(s.kernel_text());
  EXPECT_FALSE(KernelSymbols::parse("1000 T _stext\n2000 T _etext\n3000 t _etext\n").kernel_text()) << "which one?";
  EXPECT_EQ(KernelSymbols::parse("1000 T _stext\n2000 T _etext\n").kernel_text(), (AddressRange{0x1000, 0x2000}));
}

TEST(KcoreTest, ReadsWhatASegmentHoldsAndNothingElse) {
  const std::vector<uint8_t> a(100, 1), b(3 << 20, 2);
  const auto core = [](std::vector<uint8_t> file) {
    return Kcore::over([file = std::move(file)](uint64_t offset, std::span<uint8_t> out) -> size_t {
      if (offset >= file.size()) return 0;
      const size_t n = std::min<uint64_t>(out.size(), file.size() - offset);
      std::copy_n(file.begin() + static_cast<ptrdiff_t>(offset), n, out.begin());
      return n;
    });
  };
  std::vector<uint8_t> file = KernelFiles::core_file({{0x1000, a}, {0xffffffffffd00000, b}});
  const auto good = core(file);
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good->read(0x1000, 100), a);
  EXPECT_EQ(good->read(0x1063, 1)->size(), 1u);
  EXPECT_EQ(*good->read(0xffffffffffd00000, b.size()), b);
  EXPECT_EQ(good->read(0x1064, 1).error().code, Errc::not_found);
  EXPECT_EQ(good->read(0x1063, 2).error().code, Errc::not_found);
  EXPECT_EQ(good->read(0xfff, 1).error().code, Errc::not_found);
  EXPECT_EQ(good->read(0x1000, UINT64_MAX).error().code, Errc::not_found);
  const auto cut = core({file.begin(), file.end() - 1});
  EXPECT_EQ(cut->read(0xffffffffffd00000, b.size()).error().code, Errc::io);
  EXPECT_EQ(*cut->read(0x1000, 100), a);
  EXPECT_EQ(core({file.begin(), file.begin() + 100}).error().code, Errc::bad_input);
  EXPECT_EQ(core({file.begin(), file.begin() + 10}).error().code, Errc::bad_input);
  file[16] = 2;  // ET_EXEC
  EXPECT_EQ(core(file).error().code, Errc::unsupported);
}

/// A program of a few instructions that returns 7, loaded into the real kernel.
Fd load_program(const char* name) {
  const bpf_insn insns[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 7}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  return Fd(bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, name, "GPL", insns, 2, nullptr));
}

/// What bpf(2) says of it, asked without any library: name and tag, where it stands, its bytes.
struct Asked {
  std::string name;
  uint32_t id = 0;
  uint64_t address = 0;
  std::vector<uint8_t> code;
};
Asked ask(const Fd& program) {
  Asked out;
  out.code.resize(4096);
  bpf_prog_info info{};
  info.jited_prog_insns = reinterpret_cast<uint64_t>(out.code.data());
  info.jited_prog_len = static_cast<uint32_t>(out.code.size());
  info.jited_ksyms = reinterpret_cast<uint64_t>(&out.address);
  info.nr_jited_ksyms = 1;
  bpf_attr attr{};
  attr.info.bpf_fd = static_cast<uint32_t>(program.get());
  attr.info.info_len = sizeof info;
  attr.info.info = reinterpret_cast<uint64_t>(&info);
  EXPECT_EQ(::syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr), 0);
  out.code.resize(info.jited_prog_len);
  out.id = info.id;
  out.name = "bpf_prog_" + to_hex({reinterpret_cast<const char*>(info.tag), sizeof info.tag}) + "_" + info.name;
  return out;
}

void run(const Fd& program) {
  uint8_t packet[64] = {};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof packet);
  ASSERT_EQ(bpf_prog_test_run_opts(program.get(), &options), 0);
  EXPECT_EQ(options.retval, 7u);
}

class RealKernelCode : public ::testing::Test {
 protected:
  class Source : public FakeSource {
   public:
    Source() : FakeSource("perf") {}
    bool traces_kernel() const override { return true; }
  };
  void SetUp() override {
    SidebandProbe probe;
    if (const auto r = probe.usable(); !r) GTEST_SKIP() << r.error().text();
    const auto ids = kernel_programs().ids();
    if (!ids) GTEST_SKIP() << ids.error().text();
    const Fd program = load_program("probe");
    if (!program.valid()) GTEST_SKIP() << "no BPF program can be loaded";
    const auto read = kernel_programs().read(ask(program).id);
    if (!read) GTEST_SKIP() << read.error().text();
    if (!*read) GTEST_SKIP() << "this kernel does not compile BPF programs";
  }
  void TearDown() override {
    if (!window_ || window_->child().poll_end()) return;
    window_->child().send(SIGKILL);
    while (!window_->child().poll_end()) ::usleep(1000);
  }
  void start() {
    WindowConfig config;
    config.command = {"/bin/sleep", "60"};
    config.ring_bytes = 1 << 20;
    config.waits = Want::no;
    window_.emplace(source_, kernel_perf_calls(), config, [](const std::string&) {});
    test::start_window(*window_);
  }
  void step(int times) {
    for (int i = 0; i < times; ++i) ASSERT_TRUE(window_->step({}).ok());
  }
  Frozen snapshot() { return test::snapshot_of(*window_); }
  /// Its only placement; checks its bytes. None: it has none.
  static std::optional<PlacementInfo> placement(const Frozen& f, const Asked& program) {
    std::optional<PlacementInfo> found;
    for (const PlacementInfo& p : f.code.placements) {
      const CapturedImage& i = f.code.images.at(p.image - 1);
      if (i.info.path != program.name || p.address != program.address) continue;
      EXPECT_FALSE(found) << "there twice";
      EXPECT_EQ(i.memory, program.code);
      EXPECT_EQ(p.length, program.code.size());
      EXPECT_EQ(p.pid, kNoPid);
      found = p;
    }
    return found;
  }

  Source source_;
  std::optional<Window> window_;
};

TEST_F(RealKernelCode, ProgramsAreTheBytesThatTheKernelRunsWithTheTimesOfItsRecords) {
  const Fd before = load_program("before");
  const Asked old = ask(before);
  start();
  const Frozen first = snapshot();
  Fd during = load_program("during");
  run(during);
  const Asked young = ask(during);
  step(30);
  const Frozen second = snapshot();
  during = Fd();
  step(30);
  auto last = window_->finish();
  ASSERT_TRUE(last.ok()) << last.error().text();

  const auto in_first = placement(first, old);
  ASSERT_TRUE(in_first);
  EXPECT_EQ(in_first->from, RecordTime(0));
  EXPECT_EQ(in_first->to, RecordTime::max());
  EXPECT_FALSE(placement(first, young));
  const auto in_second = placement(second, young);
  ASSERT_TRUE(in_second);
  EXPECT_GT(in_second->from, RecordTime(0));
  EXPECT_EQ(in_second->to, RecordTime::max());
  ASSERT_TRUE(placement(second, old));
  const auto in_last = placement(*last, young);
  ASSERT_TRUE(in_last) << "it is gone, and was copied before";
  EXPECT_EQ(in_last->from, in_second->from);
  EXPECT_GT(in_last->to, in_last->from);
  EXPECT_LT(in_last->to, RecordTime::max());
  EXPECT_TRUE(placement(*last, old));
}

TEST_F(RealKernelCode, AProgramOfSeveralFunctionsHasAnImageForEach) {
  // f0: call f1; exit    f1: r0 = 7; exit
  const bpf_insn insns[] = {{BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 1},
                            {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
                            {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 7},
                            {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const Fd program(bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "two", "GPL", insns, 4, nullptr));
  ASSERT_TRUE(program.valid());
  const Asked whole = ask(program);
  const auto read = kernel_programs().read(whole.id);
  ASSERT_TRUE(read.ok() && *read);
  ASSERT_EQ((*read)->functions.size(), 2u);
  std::vector<uint8_t> joined;
  for (const JitedFunction& f : (*read)->functions) joined.insert(joined.end(), f.code.begin(), f.code.end());
  EXPECT_EQ(joined, whole.code);
  EXPECT_EQ((*read)->functions[0].address, whole.address);
  start();
  const Frozen f = snapshot();
  for (const JitedFunction& function : (*read)->functions) {
    const auto there = std::count_if(f.code.placements.begin(), f.code.placements.end(), [&](const PlacementInfo& p) {
      return p.address == function.address && f.code.images.at(p.image - 1).memory == function.code;
    });
    EXPECT_EQ(there, 1) << function.name;
  }
}

TEST_F(RealKernelCode, NamesAreThoseOfKallsyms) {
  const Fd program = load_program("named");
  const Asked asked = ask(program);
  const auto symbols = KernelSymbols::read("/proc");
  if (!symbols) GTEST_SKIP() << symbols.error().text();
  EXPECT_TRUE(symbols->kernel_text());
  const auto made = std::find_if(symbols->made().begin(), symbols->made().end(),
                                 [&](const KernelSymbols::Made& m) { return m.address == asked.address; });
  ASSERT_NE(made, symbols->made().end()) << "is net.core.bpf_jit_kallsyms 1?";
  EXPECT_EQ(made->name, asked.name);
  start();
  const Frozen f = snapshot();
  const auto names = std::find_if(f.code.images.begin(), f.code.images.end(),
                                  [](const CapturedImage& i) { return i.info.kind == ImageKind::kallsyms; });
  ASSERT_NE(names, f.code.images.end());
  EXPECT_EQ(names->info.id, static_cast<uint32_t>(names - f.code.images.begin()) + 1);
  const std::string text(names->memory.begin(), names->memory.end());
  EXPECT_NE(text.find(" " + asked.name + "\t[bpf]\n"), std::string::npos);
  EXPECT_EQ(for_each_kallsyms_line(text, [](const KallsymsLine& l, std::string_view) { EXPECT_TRUE(l.is_text()); }),
            0u);
  EXPECT_GT(text.size(), 1000000u);
}

}  // namespace
}  // namespace hindcast::capture
