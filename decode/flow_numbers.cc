// HostTrace::number_instructions().
#include <algorithm>
#include <mutex>

#include "decode/host_trace_impl.h"

namespace hindcast::decode {
namespace {

/// For several threads.
class SharedImages final : public StreamImages {
 public:
  using StreamImages::StreamImages;

  std::shared_ptr<const CodeImage> image_at(uint64_t offset, Ip ip) override {
    const std::lock_guard lock(mutex_);
    return StreamImages::image_at(offset, ip);
  }

 private:
  std::mutex mutex_;
};

/// What one thread learns about code.
struct Learned {
  std::shared_ptr<IptCode> code = std::make_shared<IptCode>();
  BlockGraphs graphs;
  EngineCounts counts;  // of a pass that shows nothing
};

}  // namespace

Result<void> HostTrace::number_instructions(size_t threads,
                                            const std::function<void(uint64_t done, uint64_t total)>& done) const {
  const DecodeConfig config = impl_->decode_config(Resync::earliest);
  std::vector<Learned> learned(std::max<size_t>(threads, 1));
  uint64_t total = 0, before = 0;
  for (const auto& s : impl_->streams) total += s->trace.bytes.size();
  for (const auto& s : impl_->streams) {
    if (!s->index) {
      SharedImages images(*impl_, *s);
      std::vector<std::unique_ptr<FastDecoder>> decoders;
      for (Learned& l : learned) {
        HC_TRY(auto decoder, make_fast_decoder(s->trace, config, images, l.code, l.graphs, l.counts));
        decoders.push_back(std::move(decoder));
      }
      s->index = build_index(s->trace, decoders, [&](uint64_t bytes) {
        if (done) done(before + bytes, total);
      });
    }
    before += s->trace.bytes.size();
  }
  return {};
}

}  // namespace hindcast::decode
