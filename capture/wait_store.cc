#include "capture/wait_store.h"

#include "hindcast/wait_record.h"

namespace hindcast::capture {

void WaitStore::add(ByteSpan record) {
  records_.push({ByteReader(record).read<wait::Header>().time, 0}, record);
  if (records_.bytes() <= budget_) return;
  // an eighth at a time, so that the work per record stays constant
  while (records_.bytes() > budget_ - budget_ / 8) {
    records_.pop();
    ++evicted_;
  }
}

Cut WaitStore::stream() const {
  Cut cut;
  cut.info.kind = kind_;
  cut.info.ring_bytes = budget_;
  cut.info.wrapped = evicted_ != 0;
  cut.bytes.reserve(records_.bytes());
  records_.each([&](const OrderKey&, ByteSpan r) { cut.bytes.insert(cut.bytes.end(), r.begin(), r.end()); });
  cut.info.bytes = cut.bytes.size();
  return cut;
}

}  // namespace hindcast::capture
