// Compares a thread's flow with that of the same recording before the end of one of its streams went missing.
#pragma once

#include <string>
#include <vector>

#include "server/query.h"

namespace hindcast::test {

/// The blocks of a thread, in its order. Errors become one test failure and no block.
inline std::vector<server::FlowItem> blocks_of(const std::string& bundle, Tid tid) {
  std::vector<server::FlowItem> blocks;
  const auto query = server::open_query(bundle);
  if (!query.ok()) {
    ADD_FAILURE() << query.error().text();
    return blocks;
  }
  server::FlowQuestion question;
  question.tid = tid;
  question.detail = server::Detail::events;
  const auto flow = (*query)->flow(question);
  if (!flow.ok()) {
    ADD_FAILURE() << flow.error().text();
    return blocks;
  }
  for (server::FlowItem item; (*flow)->next(item);)
    if (item.event.kind == EventKind::block) blocks.push_back(item);
  return blocks;
}

/// `damaged` has every block of `whole` but those that byte `end` of `stream`, or what follows it, decides; empty when so.
/// A thread that goes on elsewhere afterwards has a hole there which nobody can see, so its flow need not be a beginning.
inline std::string differs_before_the_end(const std::vector<server::FlowItem>& whole,
                                          const std::vector<server::FlowItem>& damaged, uint32_t stream, uint64_t end) {
  // A packet that the end cuts, and what is decided ahead of it, may be missing too.
  constexpr uint64_t kLongestPacket = 16;
  const auto lost = [&](const server::FlowItem& b) {
    return b.stream == stream && b.event.offset + kLongestPacket >= end;
  };
  size_t at = 0;
  for (const server::FlowItem& block : damaged) {
    const auto same = [&](const server::FlowItem& w) {
      if (w.stream != block.stream || w.event.ip != block.event.ip) return false;
      if (lost(w)) return block.event.count <= w.event.count;
      return w.event.count == block.event.count && w.event.offset == block.event.offset;
    };
    while (at < whole.size() && !same(whole[at]) && lost(whole[at])) ++at;
    if (at == whole.size()) return "more blocks than there were";
    if (!same(whole[at])) return "block " + std::to_string(at) + " is missing or another one";
    ++at;
  }
  for (; at < whole.size(); ++at)
    if (!lost(whole[at])) return "block " + std::to_string(at) + " is missing";
  return {};
}

}  // namespace hindcast::test
