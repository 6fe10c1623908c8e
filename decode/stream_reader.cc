#include "decode/stream_reader.h"

#include <algorithm>

#include "decode/stretch_events.h"

namespace hindcast::decode {

StreamReader::StreamReader(HostTrace::Impl& host, const PtStream& stream, const FlowOptions& options)
    : host_(host), stream_(stream) {
  const DecodeConfig config = host.decode_config(options.resync);
  if (options.engine == Engine::libipt) {
    auto decoder = make_libipt_decoder(stream.trace, config, *this, host.code);
    if (!decoder.ok())
      error_ = decoder.error();
    else
      decoder_ = std::move(decoder).value();
    return;
  }
  auto decoder = make_fast_decoder(stream.trace, config, *this, host.code, host.graphs, host.engine_counts);
  if (!decoder.ok()) {
    error_ = decoder.error();
    return;
  }
  fast_ = decoder->get();
  decoder_ = std::move(decoder).value();
}

const FlowEvent* StreamReader::peek() {
  if (at_ == have_) {
    at_ = 0;
    have_ = decoder_->next(batch_);
    if (have_ == 0) return nullptr;
    fresh_ = true;
  }
  if (fresh_) {
    label(batch_[at_]);
    fresh_ = false;
  }
  return &current_;
}

void StreamReader::pop() {
  const Event& e = current_.event;
  read_to_ = std::max(read_to_, e.offset);
  if (e.kind == EventKind::gap && e.offset + e.count > gap_end()) farthest_gap_ = current_;
  ++at_;
  fresh_ = true;
}

void StreamReader::pop_before(uint64_t offset) {
  for (const FlowEvent* e = peek(); e && e->event.offset < offset; e = peek()) pop();
}

void StreamReader::seek(uint64_t offset) {
  decoder_->seek(offset);
  at_ = have_ = 0;
  read_to_ = 0;
  farthest_gap_ = {};
}

void StreamReader::go_to(size_t s) {
  const Stretch& st = stream_.trace.map.stretches[s];
  if (st.sync <= read_to_ || s == 0) return;
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

std::shared_ptr<const CodeImage> StreamReader::image_at(uint64_t offset, Ip) {
  const size_t s = stream_.inside(offset);
  return s < stream_.owners.size() ? host_.image_of(stream_, s) : nullptr;
}

void StreamReader::label(const Event& e) {
  current_ = {};
  current_.event = e;
  current_.cpu = stream_.info.cpu;
  current_.stream = stream_.info.id;
  // Most events lie in the stretch of the one before.
  const auto& all = stream_.trace.map.stretches;
  if (stretch_ >= all.size() || e.offset <= all[stretch_].begin || e.offset >= all[stretch_].end) {
    stretch_ = stream_.inside(e.offset);
    if (stretch_ > 0 && stretch_ < all.size() && all[stretch_ - 1].end == e.offset && !begins_stretch(e)) --stretch_;
    owner_ = stretch_ < all.size() ? stream_.owner(stretch_) : nullptr;
  }
  current_.stretch = stretch_ < all.size() ? static_cast<uint32_t>(stretch_) : kNoStretch;
  if (owner_) {
    current_.tid = owner_->tid;
    current_.pid = owner_->pid;
  }
}

}  // namespace hindcast::decode
