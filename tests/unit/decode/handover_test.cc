// A stretch that is cut into pieces, each with code of its own, tells what it tells as a whole, wherever it is cut.
#include <gtest/gtest.h>

#include <array>

#include "decode/code_image.h"
#include "decode/fast/fast_engine.h"
#include "decode/fast/walk_stream.h"
#include "tests/support/long_run.h"
#include "tests/support/random_program.h"
#include "tests/support/tiny_host.h"

namespace hindcast::decode {
namespace {

/// Two images of the same bytes: where one follows the other, the walk has to change its graph.
class TwoImages final : public ImageSelector {
 public:
  TwoImages(const PtTrace& trace, const test::RandomProgram& program) : trace_(trace) {
    auto bytes = std::make_shared<const std::vector<uint8_t>>(program.code);
    const ByteSpan span = *bytes;
    auto image = std::make_shared<const ImageBytes>(std::make_shared<WholeStream>(SharedBytes{bytes, span}));
    for (uint64_t i = 0; i < images_.size(); ++i)
      images_[i] = std::make_shared<SectionImage>(
          std::vector<SectionImage::Backed>{{{Ip(program.base), span.size(), i + 1, 0}, image}});
  }
  std::shared_ptr<const CodeImage> of(size_t stretch) const { return images_[stretch % 2]; }
  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip) override { return of(trace_.stretch_at(offset)); }

 private:
  const PtTrace& trace_;
  std::array<std::shared_ptr<const CodeImage>, 2> images_;
};

std::vector<std::string> told(const PtTrace& trace, const DecodeConfig& config, TwoImages& images, uint64_t from = 0) {
  BlockGraphs graphs(0);
  EngineCounts counts;
  auto decoder = make_fast_decoder(trace, config, images, std::make_shared<IptCode>(), graphs, counts);
  HC_CHECK(decoder.ok());
  if (from != 0) (*decoder)->seek(from);
  std::vector<std::string> lines;
  std::array<Event, 7> batch;
  while (const size_t n = (*decoder)->next(std::span<Event>(batch)))
    for (const Event& e : std::span(batch).first(n)) lines.push_back(test::text_of(e));
  EXPECT_EQ(counts.libipt, 0u);
  return lines;
}

struct Sum {
  uint64_t instructions = 0, left_out = 0;
  std::array<BlockId, 64> ids;
  std::span<BlockId> room() { return ids; }
  void wrote(const BlockGraph& graph, size_t n) {
    for (const BlockId id : std::span(ids).first(n)) instructions += graph.block(index_of(id)).through;
  }
  void last(const BlockGraph&, uint32_t count) { instructions += count; }
  void skipped() { ++left_out; }
  void stuck() { ++left_out; }
};
std::pair<uint64_t, uint64_t> counted(const PtTrace& trace, const TwoImages& images, bool ret_compression) {
  BlockGraphs graphs(0);
  Sum sum;
  walk_stream(
      trace, ret_compression, graphs, [&](size_t s) { return images.of(s); }, sum);
  return {sum.instructions, sum.left_out};
}

/// At random places; as stretch_cuts.h says, never at a PSB.
void cut(PtTrace& trace, test::Random& random) {
  std::vector<Stretch> out;
  for (const Stretch& whole : trace.map.stretches) {
    Stretch s = whole;
    for (uint64_t at = s.begin + 1 + test::below(random, 40); at < whole.end; at += 1 + test::below(random, 60)) {
      if (std::binary_search(trace.map.psbs.begin(), trace.map.psbs.end(), at)) continue;
      Stretch left = s;
      left.end = at;
      left.how = StretchEnd::handover;
      left.stopped = false;
      out.push_back(left);
      s.begin = at;
      s.begin_ip = 0;
      s.in_psb = false;
      s.start = StretchStart::handover;
      const auto psb = std::upper_bound(trace.map.psbs.begin(), trace.map.psbs.end(), at);
      if (psb != trace.map.psbs.begin()) s.sync = psb[-1];
    }
    out.push_back(s);
  }
  trace.map.stretches = std::move(out);
}

TEST(Handover, CutAnywhereItIsTheSame) {
  size_t pieces = 0;
  for (uint64_t seed = 1; seed <= (test::long_run() ? 3000 : 40); ++seed) {
    test::Random random(seed);
    const test::RandomProgram program(random, 10 + test::below(random, 40), 0x401000, true);
    const bool ret_compression = seed % 2 == 0;
    test::RandomCpu cpu(program, random,
                        {.ret_compression = ret_compression,
                         .deferred_returns = !ret_compression,
                         .long_tnt = seed % 4 < 2,
                         .kernel = seed % 5 != 0,
                         .announces = true,
                         .overflows = seed % 3 == 0,
                         .psbs_apart = true,
                         .timing = seed % 7 != 0,
                         .events_per_1000 = 100});
    cpu.begin();
    cpu.run(300);
    cpu.end();
    DecodeConfig config;
    config.options.noretcomp = !ret_compression;
    config.options.mtc_period = 3;
    PtTimeConfig time;
    time.tsc_ctc_num = time.tsc_ctc_den = 1;
    time.mtc_period = 3;
    const PtTrace whole = PtTrace::scan(cpu.trace().bytes(), time);
    TwoImages same(whole, program);
    const auto wanted = told(whole, config, same);
    PtTrace pieced = whole;
    cut(pieced, random);
    pieces += pieced.map.stretches.size() - whole.map.stretches.size();
    TwoImages images(pieced, program);
    ASSERT_EQ(told(pieced, config, images), wanted) << seed;
    for (size_t i = 0; i < 3; ++i) {
      const uint64_t psb = whole.map.psbs[test::below(random, whole.map.psbs.size())];
      ASSERT_EQ(told(pieced, config, images, psb), told(whole, config, same, psb)) << seed << " from " << psb;
    }
    ASSERT_EQ(counted(pieced, images, ret_compression).first, counted(whole, same, ret_compression).first) << seed;
  }
  EXPECT_GT(pieces, 500u);
}

}  // namespace
}  // namespace hindcast::decode
