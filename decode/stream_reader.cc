#include "decode/stream_reader.h"

#include <algorithm>

#include "decode/stretch_events.h"

namespace hindcast::decode {

StreamReader::StreamReader(HostTrace::Impl& host, const PtStream& stream, const FlowOptions& options)
    : host_(host), stream_(stream) {
  const DecodeConfig config = host.decode_config(options.resync);
  if (options.engine == Engine::libipt) {
    auto decoder = make_libipt_decoder(stream.trace, config, images_, host.code);
    if (!decoder.ok())
      error_ = decoder.error();
    else
      decoder_ = std::move(decoder).value();
    return;
  }
  auto decoder = make_fast_decoder(stream.trace, config, images_, host.code, host.graphs, host.engine_counts);
  if (!decoder.ok()) {
    error_ = decoder.error();
    return;
  }
  fast_ = decoder->get();
  decoder_ = std::move(decoder).value();
}

void StreamReader::fetch() {
  at_ = 0;
  have_ = decoder_->next(batch_);
}

void StreamReader::take(FlowEvent& out) {
  const Event& e = batch_[at_];
  const auto& all = stream_.trace.map.stretches;
  // Most events lie in the stretch of the one before.
  if (stretch_ >= all.size() || e.offset <= all[stretch_].begin || e.offset >= all[stretch_].end) find_stretch(e);
  out.event = e;
  out.number = kNoNumber;
  out.tid = tid_;
  out.pid = pid_;
  out.cpu = stream_.info.cpu;
  out.stream = stream_.info.id;
  out.stretch = stretch_number_;
  pop();
}

void StreamReader::pop() {
  const Event& e = batch_[at_++];
  read_to_ = std::max(read_to_, e.offset);
  if (e.kind == EventKind::gap && e.offset + e.count > gap_end()) farthest_gap_ = e;
}

void StreamReader::pop_before(uint64_t offset) {
  for (const Event* e = peek(); e && e->offset < offset; e = peek()) pop();
}

void StreamReader::seek(uint64_t offset) {
  decoder_->seek(offset);
  at_ = have_ = 0;
  read_to_ = 0;
  elsewhere_ = false;
  farthest_gap_ = {};
}

void StreamReader::go_to(size_t s) {
  const Stretch& st = stream_.trace.map.stretches[s];
  if (!elsewhere_ && (st.sync <= read_to_ || s == 0)) return;
  seek(st.begin);
  read_to_ = st.sync;
}

uint64_t StreamReader::skip(uint64_t most, uint64_t before) {
  if (!fast_ || at_ != have_) return 0;
  Skipped skipped;
  skipped.first = stream_.trace.map.stretches.size();  // none is asked for
  fast_->skip(most, before, skipped);
  return skipped.instructions;
}

void StreamReader::find_stretch(const Event& e) {
  const auto& all = stream_.trace.map.stretches;
  stretch_ = stream_.inside(e.offset);
  if (stretch_ > 0 && stretch_ < all.size() && all[stretch_ - 1].end == e.offset && !begins_stretch(e)) --stretch_;
  const Slice* owner = stretch_ < all.size() ? stream_.owner(stretch_) : nullptr;
  stretch_number_ = stretch_ < all.size() ? static_cast<uint32_t>(stretch_) : kNoStretch;
  tid_ = owner ? owner->tid : kNoTid;
  pid_ = owner ? owner->pid : kNoPid;
  if (!owner && stretch_ < stream_.cr3_pids.size()) pid_ = stream_.cr3_pids[stretch_];
}

}  // namespace hindcast::decode
