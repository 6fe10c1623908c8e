#include "server/text_reader.h"

#include "decode/packet_reader.h"
#include "decode/packet_text.h"
#include "decode/psb_search.h"
#include "hindcast/identity_record.h"
#include "hindcast/perf_record.h"
#include "server/record_text.h"

namespace hindcast::server {
namespace {

/// Goes over the streams that a question names, one after the other, their bytes held while it is their turn.
class Streams : public Reader<TextItem> {
 public:
  Streams(OpenSnapshot& snapshot, const TextQuestion& question, std::vector<StreamInfo> streams)
      : snapshot_(snapshot), question_(question), streams_(std::move(streams)) {}

  bool next(TextItem& out) override {
    while (true) {
      if (open_) {
        out = TextItem{};
        out.stream = info().id;
        out.cpu = info().cpu;
        if (next_item(out)) return true;
        open_ = false;
        bytes_ = {};
        ++at_;
      }
      if (at_ == streams_.size()) return false;
      auto read = snapshot_.source.stream(info().id);
      if (!read.ok()) {  // said in its place; the other streams are still worth showing
        out = TextItem{info().id, info().cpu, 0, info().bytes, "unreadable", "-- " + read.error().what, {}};
        ++at_;
        return true;
      }
      bytes_ = std::move(read).value();
      open_ = true;
      begin_stream();
    }
  }

 protected:
  virtual void begin_stream() = 0;
  virtual bool next_item(TextItem& out) = 0;
  const StreamInfo& info() const { return streams_[at_]; }

  OpenSnapshot& snapshot_;
  const TextQuestion question_;
  SharedBytes bytes_;

 private:
  std::vector<StreamInfo> streams_;
  size_t at_ = 0;
  bool open_ = false;
};

std::string unread_text(uint64_t offset, uint64_t bytes, const char* why) {
  return "-- " + std::to_string(bytes) + " bytes from offset " + std::to_string(offset) + ": " + why;
}

class Packets : public Streams {
 public:
  using Streams::Streams;

 protected:
  void begin_stream() override {
    reader_ = decode::PacketReader(bytes_.bytes, decode::has_skd007(snapshot_.trace->info().cpu));
    last_ip_ = {};
    skipped_ = 0;
    // IPs are relative to the last PSB, so reading begins at the one before what was asked for.
    auto psb = decode::last_psb(bytes_.bytes, question_.from);
    if (!psb) psb = decode::next_psb(bytes_.bytes, 0);
    const uint64_t start = psb.value_or(bytes_.bytes.size());
    reader_.seek(start);
    if (start > question_.from) skipped_ = start - question_.from;
  }

  bool next_item(TextItem& out) override {
    if (skipped_ > 0) {
      set(out, question_.from, skipped_, "unread",
          unread_text(question_.from, skipped_, "no PSB before them, so no packet boundary is known"));
      skipped_ = 0;
      return true;
    }
    decode::Packet p;
    while (reader_.offset() < question_.to) {
      const uint64_t at = reader_.offset();
      const decode::Step step = reader_.next(p);
      if (step == decode::Step::end) return false;
      if (step != decode::Step::ok) {
        std::string text = decode::damage_text(step, bytes_.bytes.subspan(at), at);
        if (!reader_.resync()) reader_.seek(bytes_.bytes.size());
        if (reader_.offset() <= question_.from) continue;
        set(out, at, reader_.offset() - at, step == decode::Step::bad ? "bad" : "truncated", std::move(text));
        return true;
      }
      const uint64_t ip = decode::expand_ip(last_ip_, p);
      if (at < question_.from) continue;
      std::string text = decode::packet_text(p, ip);
      uint64_t bytes = p.size;
      if (p.kind == decode::Kind::pad) {
        const ByteSpan all = bytes_.bytes;
        uint64_t end = reader_.offset();
        while (end < all.size() && end < question_.to && all[end] == 0) ++end;
        reader_.seek(end);
        bytes = end - at;
        if (bytes > 1) {
          text.resize(text.find_last_not_of(' ') + 1);
          text += "       x " + std::to_string(bytes);
        }
      }
      set(out, at, bytes, {}, std::move(text));
      // "offset  NAME  ...": the name is the second word.
      const size_t name = out.text.find_first_not_of(' ', out.text.find(' '));
      if (name != std::string::npos) out.kind = out.text.substr(name, out.text.find(' ', name) - name);
      return true;
    }
    return false;
  }

 private:
  static void set(TextItem& out, uint64_t offset, uint64_t bytes, std::string kind, std::string text) {
    out.offset = offset;
    out.bytes = bytes;
    out.kind = std::move(kind);
    out.text = std::move(text);
  }

  decode::PacketReader reader_{ByteSpan{}};
  decode::LastIp last_ip_;
  uint64_t skipped_ = 0;
};

class Records : public Streams {
 public:
  using Streams::Streams;

 protected:
  void begin_stream() override {
    reader_ = perf::RecordReader(bytes_.bytes);
    ended_ = false;
  }

  bool next_item(TextItem& out) override {
    perf::Record r;
    while (!ended_ && reader_.next(r)) {
      if (r.offset >= question_.to) {
        ended_ = true;
        break;
      }
      if (r.offset < question_.from) continue;
      out.offset = r.offset;
      out.bytes = r.body.size() + 8;
      out.kind = record_name(r.type);
      out.text = record_text(r, info().sample_type);
      if ((r.type < 64 && r.type != perf::kSample) || identity::is_ours(r.type))
        if (const auto id = perf::read_sample_id(r, info().sample_type); id && id->time)
          out.time = snapshot_.ticks(*id->time);
      return true;
    }
    if (ended_ || !reader_.malformed()) return false;
    ended_ = true;
    out.offset = reader_.offset();
    out.bytes = bytes_.bytes.size() - reader_.offset();
    out.kind = "malformed";
    out.text = unread_text(out.offset, out.bytes, "not a perf record; nothing behind it can be found");
    return true;
  }

 private:
  perf::RecordReader reader_{ByteSpan{}};
  bool ended_ = false;
};

Result<std::vector<StreamInfo>> pick(const OpenSnapshot& snapshot, const TextQuestion& q, StreamKind kind) {
  std::vector<StreamInfo> out;
  std::string have;
  const std::string name = kind == StreamKind::pt ? "PT" : "sideband";
  for (const StreamInfo& s : snapshot.overview.info.streams) {
    if (s.kind != kind) continue;
    have += (have.empty() ? "" : ", ") + std::to_string(s.id);
    if (s.cpu != kNoCpu) have += " (CPU " + std::to_string(s.cpu.value()) + ")";
    if ((!q.cpu || *q.cpu == s.cpu) && (!q.stream || *q.stream == s.id)) out.push_back(s);
  }
  if (out.empty())
    return Error{Errc::not_found, "no " + name + " stream matches in this snapshot",
                 have.empty() ? "the snapshot has no " + name + " streams" : name + " streams " + have,
                 "list them:  hindcast ls FILE"};
  return out;
}

}  // namespace

Result<std::unique_ptr<Reader<TextItem>>> read_packets(OpenSnapshot& snapshot, const TextQuestion& question) {
  HC_TRY(auto streams, pick(snapshot, question, StreamKind::pt));
  return std::unique_ptr<Reader<TextItem>>(new Packets(snapshot, question, std::move(streams)));
}

Result<std::unique_ptr<Reader<TextItem>>> read_records(OpenSnapshot& snapshot, const TextQuestion& question) {
  HC_TRY(auto streams, pick(snapshot, question, StreamKind::sideband));
  return std::unique_ptr<Reader<TextItem>>(new Records(snapshot, question, std::move(streams)));
}

}  // namespace hindcast::server
